/* SPDX-License-Identifier: Apache-2.0 */
/* Figures by kind of tensor and by layer, at the last record: sparsity (drift.jsonl), spectra (spectra.jsonl). */
#include "report_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_KINDS = 32, MAX_LAYERS = 512, N_TOP = 8 };

/* ---- What is shown ---- */

static const report_frame *first_frame(const report *r, report_file file)
{
    for (int64_t i = 0; i < r->n_runs; i++)
        if (r->runs[i].is_counted && r->runs[i].frames[file].n_rows > 0)
            return &r->runs[i].frames[file];
    return NULL;
}

int report_find_views(const report *r, report_view views[REPORT_MAX_VIEWS])
{
    const report_frame *drift = first_frame(r, REPORT_DRIFT);
    int n = 0;
    for (; drift != NULL && n < REPORT_MAX_VIEWS - 2; n++) {
        char name[32];
        (void)snprintf(name, sizeof name, "tau.%d", n);
        double tau = report_column_at(report_frame_find(drift, name), drift->n_rows - 1);
        if (!isfinite(tau))
            break;
        views[n] = (report_view){.file = REPORT_DRIFT, .scale = 100, .label = "weights, %", .least = 1};
        (void)snprintf(views[n].column, sizeof views[n].column, "within.%d", n);
        (void)snprintf(views[n].title, sizeof views[n].title, "Moved by at most %g (float32)", tau);
    }
    if (drift == NULL)
        return 0;
    views[n++] = (report_view){REPORT_DRIFT, "same_bf16", "The bf16 copy is unchanged", "weights, %", 100, 1};
    views[n++] = (report_view){REPORT_DRIFT, "same_fp16", "The fp16 copy is unchanged", "weights, %", 100, 1};
    return n;
}

static const report_view spectra[] = {
    {REPORT_SPECTRA, "stable_rank", "Stable rank: 1 is one direction", "stable rank", 1, 1},
    {REPORT_SPECTRA, "energy_1", "In the largest 1 % of singular values", "norm squared, %", 100, 1},
    {REPORT_SPECTRA, "energy_10", "In the largest 10 % of singular values", "norm squared, %", 100, 1},
    {REPORT_SPECTRA, "rank", "Singular values above 1e-5 of the largest", "values, %", 100, 1},
};

double report_last_mean(const report *r, const report_group *group, report_file file, const char *column)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = report_next_used(r, group, -1); i >= 0; i = report_next_used(r, group, i), n++) {
        const report_frame *frame = &r->runs[i].frames[file];
        sum += report_column_at(report_frame_find(frame, column), frame->n_rows - 1);
    }
    return n > 0 ? sum / (double)n : (double)NAN;
}

/* The value of a kind or layer, in the view's scale. */
static double value_of(const report *r, int64_t group, const char *of, const char *name, const report_view *v)
{
    char column[3 * REPORT_NAME];
    (void)snprintf(column, sizeof column, "%s.%s.%s", of, name, v->column);
    return v->scale * report_last_mean(r, &r->groups[group], v->file, column);
}

/* Kinds of tensor in the order of the file: of its columns "kinds.NAME.norm". */
static int find_kinds(const report_frame *frame, char kinds[MAX_KINDS][REPORT_NAME])
{
    static const char tail[] = ".norm";
    int n = 0;
    for (int64_t i = 0; i < frame->n_columns && n < MAX_KINDS; i++) {
        const char *name = frame->columns[i].name;
        size_t length = strlen(name);
        if (strncmp(name, "kinds.", 6) != 0 || length < 6 + sizeof tail || strcmp(name + length - 5, tail) != 0)
            continue;
        (void)snprintf(kinds[n++], REPORT_NAME, "%.*s", (int)(length - 11), name + 6);
    }
    return n;
}

/* ---- Parts of scripts ---- */

/* An axis from 0 to what there is, at least to the view's `least`. */
static sow_code add_axis(sow_words *s, const char *axis, double most, const report_view *v)
{
    most = most * 1.06 > v->least ? most * 1.06 : v->least;
    SOW_TRY(sow_words_print(s, "set %slabel ", axis));
    SOW_TRY(report_plot_text(s, v->label));
    SOW_TRY(sow_words_print(s, " noenhanced offset %s tc rgb '#010000'\n", axis[0] == 'x' ? "0,0.3" : "1,0"));
    return sow_words_print(s, "set %srange [%.6g:%.6g]\n", axis, -0.02 * most, most);
}

/* "plot $x0 using 1:2 with WITH, $x1 ...": a part for each group. */
static sow_code add_groups(const report *r, sow_words *s, bool has_lines)
{
    char colour[8];
    for (int64_t g = 0; g < r->n_groups; g++) {
        report_style style = report_style_of(r, g);
        SOW_TRY(sow_words_print(s, "%s$x%lld using 1:2 with %s", g == 0 ? "plot " : ", \\\n  ", (long long)g,
                                has_lines ? "linespoints" : "points"));
        if (has_lines)
            SOW_TRY(sow_words_print(s, " dt %s", style.dash));
        SOW_TRY(sow_words_print(s, " lw %s pt %d ps %s lc rgb '%s' title ", has_lines ? "2" : "1.5", style.marker,
                                has_lines ? "0.5" : "0.6", report_colour_code(style.colour, colour)));
        SOW_TRY(report_plot_text(s, r->groups[g].name));
    }
    return sow_words_print(s, "\n");
}

/* Kinds from top to bottom, groups a little apart. */
static sow_code make_kinds(const report *r, const report_view *v, int section, char (*kinds)[REPORT_NAME], int n,
                           report_plots *plots)
{
    double most = 0;
    for (int64_t g = 0; g < r->n_groups; g++)
        for (int k = 0; k < n; k++)
            most = fmax(most, value_of(r, g, "kinds", kinds[k], v));
    SOW_TRY(report_plots_begin(plots, section, v->column, v->title, 400,
                               70 + n * (20 + 2 * (int)(r->n_groups < 10 ? r->n_groups : 10))));
    sow_words *s = &plots->script;
    SOW_TRY(add_axis(s, "x", most, v));
    SOW_TRY(sow_words_print(s, "set yrange [0.4:%d.6]\nset ytics (", n));
    for (int k = 0; k < n; k++) {
        SOW_TRY(sow_words_print(s, "%s", k > 0 ? ", " : ""));
        SOW_TRY(report_plot_text(s, kinds[k]));
        SOW_TRY(sow_words_print(s, " %d", n - k));
    }
    SOW_TRY(sow_words_print(s, ") noenhanced tc rgb '#010000'\n"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        double shift = 0.6 * ((double)g + 0.5) / (double)r->n_groups - 0.3;
        SOW_TRY(sow_words_print(s, "$x%lld << EOD\n", (long long)g));
        for (int k = 0; k < n; k++)
            SOW_TRY(sow_words_print(s, "%.6g %.6g\n", value_of(r, g, "kinds", kinds[k], v), n - k - shift));
        SOW_TRY(sow_words_print(s, "EOD\n"));
    }
    return add_groups(r, s, false);
}

static sow_code make_layers(const report *r, const report_view *v, int n, report_plots *plots)
{
    char id[64], layer[16];
    double most = 0;
    (void)snprintf(id, sizeof id, "layers-%.31s", v->column);
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_LAYERS, id, v->title, 400, 240));
    sow_words *s = &plots->script;
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(s, "$x%lld << EOD\n", (long long)g));
        for (int i = 0; i < n; i++) {
            (void)snprintf(layer, sizeof layer, "%d", i);
            double value = value_of(r, g, "layers", layer, v);
            most = fmax(most, value);
            SOW_TRY(sow_words_print(s, "%d %.6g\n", i, value));
        }
        SOW_TRY(sow_words_print(s, "EOD\n"));
    }
    SOW_TRY(add_axis(s, "y", most, v));
    SOW_TRY(sow_words_print(s, "set xlabel 'layer' offset 0,0.3 tc rgb '#010000'\nset xrange [-0.3:%d.3]\n", n - 1));
    SOW_TRY(sow_words_print(s, "set xtics %d\n", (n + 7) / 8));
    return add_groups(r, s, true);
}

/* The largest singular values of a kind, as shares of the norm. */
static sow_code make_top(const report *r, const char *kind, report_plots *plots)
{
    char id[64], title[96], column[2 * REPORT_NAME];
    const report_view v = {.label = "of the norm, %", .least = 1};
    double most = 0;
    (void)snprintf(id, sizeof id, "top-%.40s", kind);
    (void)snprintf(title, sizeof title, "%.40s: the largest singular values", kind);
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_SPECTRA, id, title, 400, 240));
    sow_words *s = &plots->script;
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(s, "$x%lld << EOD\n", (long long)g));
        for (int i = 0; i < N_TOP; i++) {
            (void)snprintf(column, sizeof column, "kinds.%.100s.top_share.%d", kind, i);
            double value = 100 * report_last_mean(r, &r->groups[g], REPORT_SPECTRA, column);
            most = fmax(most, value);
            SOW_TRY(sow_words_print(s, "%d %.6g\n", i + 1, value));
        }
        SOW_TRY(sow_words_print(s, "EOD\n"));
    }
    SOW_TRY(add_axis(s, "y", most, &v));
    SOW_TRY(sow_words_print(
        s, "set xlabel 'number' offset 0,0.3 tc rgb '#010000'\nset xrange [0.7:%d.3]\nset xtics 1\n", N_TOP));
    return add_groups(r, s, true);
}

/* ---- All of them ---- */

static sow_code make_sparsity(const report *r, report_plots *plots)
{
    const report_frame *drift = first_frame(r, REPORT_DRIFT);
    report_view views[REPORT_MAX_VIEWS];
    char kinds[MAX_KINDS][REPORT_NAME], name[32];
    int n_views = report_find_views(r, views), n_kinds = drift == NULL ? 0 : find_kinds(drift, kinds), n_layers = 0;
    for (; drift != NULL && n_layers < MAX_LAYERS; n_layers++) {
        (void)snprintf(name, sizeof name, "layers.%d.n", n_layers);
        if (report_frame_find(drift, name) == NULL)
            break;
    }
    for (int i = 0; i < n_views && n_kinds > 0; i++)
        SOW_TRY(make_kinds(r, &views[i], REPORT_SECTION_SPARSITY, kinds, n_kinds, plots));
    for (int i = 0; i < n_views && n_layers > 1; i++)
        SOW_TRY(make_layers(r, &views[i], n_layers, plots));
    return SOW_OK;
}

static sow_code make_spectra(const report *r, report_plots *plots)
{
    const report_frame *frame = first_frame(r, REPORT_SPECTRA);
    char kinds[MAX_KINDS][REPORT_NAME];
    int n = frame == NULL ? 0 : find_kinds(frame, kinds);
    for (size_t i = 0; i < sizeof spectra / sizeof *spectra && n > 0; i++)
        SOW_TRY(make_kinds(r, &spectra[i], REPORT_SECTION_SPECTRA, kinds, n, plots));
    for (int k = 0; k < n; k++) {
        char column[2 * REPORT_NAME];
        (void)snprintf(column, sizeof column, "kinds.%.100s.top_share.0", kinds[k]);
        if (report_frame_find(frame, column) != NULL)
            SOW_TRY(make_top(r, kinds[k], plots));
    }
    return SOW_OK;
}

sow_code report_make_kinds(const report *r, report_plots *plots)
{
    SOW_TRY(make_sparsity(r, plots));
    return make_spectra(r, plots);
}
