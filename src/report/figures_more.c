/* SPDX-License-Identifier: Apache-2.0 */
/* Figures that are no curves: sparsity by kind of tensor and by layer, phases, and what others have published. */
#include "report_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_KINDS = 32, MAX_LAYERS = 512, MAX_VIEWS = 10 };

/* ---- Sparsity ---- */

/* A way to call a weight unmoved: a threshold on float32 masters, or the copy in 16 bits. */
typedef struct view {
    char column[32]; /* "within.0", "same_bf16" */
    char title[48];
} view;

static const report_frame *first_drift(const report *r)
{
    for (int64_t i = 0; i < r->n_runs; i++)
        if (r->runs[i].is_counted && r->runs[i].frames[REPORT_DRIFT].n_rows > 0)
            return &r->runs[i].frames[REPORT_DRIFT];
    return NULL;
}

static int find_views(const report_frame *drift, view views[MAX_VIEWS])
{
    int n = 0;
    for (; n < MAX_VIEWS - 2; n++) {
        char name[32];
        (void)snprintf(name, sizeof name, "tau.%d", n);
        double tau = report_column_at(report_frame_find(drift, name), drift->n_rows - 1);
        if (!isfinite(tau))
            break;
        (void)snprintf(views[n].column, sizeof views[n].column, "within.%d", n);
        (void)snprintf(views[n].title, sizeof views[n].title, "Moved by at most %g (float32)", tau);
    }
    views[n++] = (view){"same_bf16", "The bf16 copy is unchanged"};
    views[n++] = (view){"same_fp16", "The fp16 copy is unchanged"};
    return n;
}

/* The mean over the group's runs at their last record; NAN if one lacks it. */
static double share_of(const report *r, const report_group *group, const char *of, const char *name, const view *v)
{
    char column[3 * REPORT_NAME];
    double sum = 0;
    int64_t n = 0;
    (void)snprintf(column, sizeof column, "%s%s%s.%s", of, name[0] != '\0' ? "." : "", name, v->column);
    for (int64_t i = report_next_used(r, group, -1); i >= 0; i = report_next_used(r, group, i), n++) {
        const report_frame *drift = &r->runs[i].frames[REPORT_DRIFT];
        sum += report_column_at(report_frame_find(drift, column), drift->n_rows - 1);
    }
    return n > 0 ? sum / (double)n : (double)NAN;
}

/* Names of kinds, borrowed from the columns "kinds.NAME.n". */
static int find_kinds(const report_frame *drift, char kinds[MAX_KINDS][REPORT_NAME])
{
    int n = 0;
    for (int64_t i = 0; i < drift->n_columns && n < MAX_KINDS; i++) {
        const char *name = drift->columns[i].name;
        size_t length = strlen(name);
        if (strncmp(name, "kinds.", 6) != 0 || length < 9 || strcmp(name + length - 2, ".n") != 0)
            continue;
        (void)snprintf(kinds[n++], REPORT_NAME, "%.*s", (int)(length - 8), name + 6);
    }
    return n;
}

/* Axis of shares: from 0 to what there is, at least to 1 %. */
static sow_code add_share_axis(sow_words *s, const char *axis, double most)
{
    most = most > 0.01 ? 106 * most : 1;
    SOW_TRY(sow_words_print(s, "set %slabel 'weights, %%' noenhanced offset %s tc rgb '#010000'\n", axis,
                            axis[0] == 'x' ? "0,0.3" : "1,0"));
    return sow_words_print(s, "set %srange [%.6g:%.6g]\n", axis, -0.02 * most, most);
}

static sow_code begin_plot(sow_words *s, bool *is_first)
{
    SOW_TRY(sow_words_print(s, "%s", *is_first ? "plot " : ", \\\n  "));
    *is_first = false;
    return SOW_OK;
}

/* Kinds from top to bottom, groups a little apart. */
static sow_code make_kinds(const report *r, const view *v, char (*kinds)[REPORT_NAME], int n_kinds, report_plots *plots)
{
    char title[128], colour[8];
    double most = 0;
    bool is_first = true;
    (void)snprintf(title, sizeof title, "%s", v->title);
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_SPARSITY, v->column, title, 400, 70 + 24 * n_kinds));
    sow_words *s = &plots->script;
    for (int64_t g = 0; g < r->n_groups; g++)
        for (int k = 0; k < n_kinds; k++)
            most = fmax(most, share_of(r, &r->groups[g], "kinds", kinds[k], v));
    SOW_TRY(add_share_axis(s, "x", most));
    SOW_TRY(sow_words_print(s, "set yrange [0.4:%d.6]\nset ytics (", n_kinds));
    for (int k = 0; k < n_kinds; k++) {
        SOW_TRY(sow_words_print(s, "%s", k > 0 ? ", " : ""));
        SOW_TRY(report_plot_text(s, kinds[k]));
        SOW_TRY(sow_words_print(s, " %d", n_kinds - k));
    }
    SOW_TRY(sow_words_print(s, ") noenhanced tc rgb '#010000'\n"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        double shift = 0.6 * ((double)g + 0.5) / (double)r->n_groups - 0.3;
        SOW_TRY(sow_words_print(s, "$k%lld << EOD\n", (long long)g));
        for (int k = 0; k < n_kinds; k++)
            SOW_TRY(sow_words_print(s, "%.6g %.6g\n", 100 * share_of(r, &r->groups[g], "kinds", kinds[k], v),
                                    n_kinds - k - shift));
        SOW_TRY(sow_words_print(s, "EOD\n"));
    }
    for (int64_t g = 0; g < r->n_groups; g++) {
        report_style style = report_style_of(r, g);
        SOW_TRY(begin_plot(s, &is_first));
        SOW_TRY(sow_words_print(s, "$k%lld using 1:2 with points lw 1.5 pt %d ps 0.6 lc rgb '%s' title ", (long long)g,
                                style.marker, report_colour_code(style.colour, colour)));
        SOW_TRY(report_plot_text(s, r->groups[g].name));
    }
    return sow_words_print(s, "\n");
}

static sow_code make_layers(const report *r, const view *v, int n_layers, report_plots *plots)
{
    char id[64], title[128], colour[8], layer[16];
    double most = 0;
    bool is_first = true;
    (void)snprintf(id, sizeof id, "layers-%.31s", v->column);
    (void)snprintf(title, sizeof title, "%s", v->title);
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_LAYERS, id, title, 400, 240));
    sow_words *s = &plots->script;
    for (int64_t g = 0; g < r->n_groups; g++)
        for (int i = 0; i < n_layers; i++) {
            (void)snprintf(layer, sizeof layer, "%d", i);
            most = fmax(most, share_of(r, &r->groups[g], "layers", layer, v));
        }
    SOW_TRY(add_share_axis(s, "y", most));
    SOW_TRY(
        sow_words_print(s, "set xlabel 'layer' offset 0,0.3 tc rgb '#010000'\nset xrange [-0.3:%d.3]\n", n_layers - 1));
    SOW_TRY(sow_words_print(s, "set xtics %d\n", (n_layers + 7) / 8));
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(s, "$l%lld << EOD\n", (long long)g));
        for (int i = 0; i < n_layers; i++) {
            (void)snprintf(layer, sizeof layer, "%d", i);
            SOW_TRY(sow_words_print(s, "%d %.6g\n", i, 100 * share_of(r, &r->groups[g], "layers", layer, v)));
        }
        SOW_TRY(sow_words_print(s, "EOD\n"));
    }
    for (int64_t g = 0; g < r->n_groups; g++) {
        report_style style = report_style_of(r, g);
        SOW_TRY(begin_plot(s, &is_first));
        SOW_TRY(sow_words_print(s, "$l%lld using 1:2 with linespoints lw 2 dt %s pt %d ps 0.5 lc rgb '%s' title ",
                                (long long)g, style.dash, style.marker, report_colour_code(style.colour, colour)));
        SOW_TRY(report_plot_text(s, r->groups[g].name));
    }
    return sow_words_print(s, "\n");
}

sow_code report_make_sparsity(const report *r, report_plots *plots)
{
    const report_frame *drift = first_drift(r);
    view views[MAX_VIEWS];
    char kinds[MAX_KINDS][REPORT_NAME], name[32];
    int n_layers = 0;
    if (drift == NULL)
        return SOW_OK;
    int n_views = find_views(drift, views), n_kinds = find_kinds(drift, kinds);
    for (; n_layers < MAX_LAYERS; n_layers++) {
        (void)snprintf(name, sizeof name, "layers.%d.n", n_layers);
        if (report_frame_find(drift, name) == NULL)
            break;
    }
    for (int i = 0; i < n_views && n_kinds > 0; i++)
        SOW_TRY(make_kinds(r, &views[i], kinds, n_kinds, plots));
    for (int i = 0; i < n_views && n_layers > 1; i++)
        SOW_TRY(make_layers(r, &views[i], n_layers, plots));
    return SOW_OK;
}

/* ---- Phases ---- */

int report_find_phases(const report *r, const char *names[REPORT_MAX_PHASES])
{
    int n = 0;
    for (int64_t i = 0; i < r->n_runs; i++) {
        const report_frame *metrics = &r->runs[i].frames[REPORT_METRICS];
        for (int64_t c = 0; c < metrics->n_columns; c++) {
            const char *name = metrics->columns[c].name;
            size_t length = strlen(name);
            int at = 0;
            if (strncmp(name, "phases.", 7) != 0 || length < 12 || strcmp(name + length - 4, ".avg") != 0)
                continue;
            while (at < n && strcmp(names[at], name) != 0)
                at++;
            if (at == n && n < REPORT_MAX_PHASES)
                names[n++] = name;
        }
    }
    return n;
}

double report_phase_seconds(const report *r, const report_group *group, const char *phase)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = report_next_used(r, group, -1); i >= 0; i = report_next_used(r, group, i)) {
        const report_frame *metrics = &r->runs[i].frames[REPORT_METRICS];
        const report_column *column = report_frame_find(metrics, phase);
        for (int64_t c = 0; column != NULL && c < column->n; c++, n++)
            sum += column->cells[c].value;
    }
    return n > 0 ? sum / (double)n : 0;
}

/* A bar per group, its name above it. */
sow_code report_make_phases(const report *r, report_plots *plots)
{
    const char *names[REPORT_MAX_PHASES];
    int n = report_find_phases(r, names);
    char colour[8];
    bool is_first = true;
    if (n == 0)
        return SOW_OK;
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_PHASES, "phases", "Seconds of a step by phase, a bar per group",
                               400, 60 + 44 * (int)r->n_groups));
    sow_words *s = &plots->script;
    SOW_TRY(sow_words_print(
        s,
        "set xlabel 'seconds per step and rank' offset 0,0.3 tc rgb '#010000'\nunset ytics\nset border 1\n"
        "set lmargin 2\nset style fill solid 1 noborder\nset xrange [0:*]\nset yrange [-0.1:%lld]\nunset grid\n",
        (long long)r->n_groups));
    for (int64_t g = 0; g < r->n_groups; g++) {
        double top = (double)(r->n_groups - g);
        SOW_TRY(sow_words_print(s, "set label %lld ", (long long)g + 1));
        SOW_TRY(report_plot_text(s, r->groups[g].name));
        SOW_TRY(sow_words_print(s, " at graph 0.005, first %.6g left noenhanced tc rgb '#010000' font ',13'\n",
                                top - 0.24));
    }
    for (int p = 0; p < n; p++) {
        SOW_TRY(sow_words_print(s, "$p%d << EOD\n", p));
        for (int64_t g = 0; g < r->n_groups; g++) {
            double begin = 0, y = (double)(r->n_groups - g) - 0.7;
            for (int before = 0; before < p; before++)
                begin += report_phase_seconds(r, &r->groups[g], names[before]);
            double end = begin + report_phase_seconds(r, &r->groups[g], names[p]);
            SOW_TRY(sow_words_print(s, "%.6g %.6g %.6g %.6g %.6g %.6g\n", (begin + end) / 2, y, begin, end, y - 0.2,
                                    y + 0.2));
        }
        SOW_TRY(sow_words_print(s, "EOD\n"));
    }
    for (int p = 0; p < n; p++) {
        SOW_TRY(begin_plot(s, &is_first));
        SOW_TRY(sow_words_print(s, "$p%d using 1:2:3:4:5:6 with boxxyerror lc rgb '%s' title ", p,
                                report_colour_code(REPORT_SERIES + p % REPORT_N_SERIES, colour)));
        char phase[REPORT_NAME];
        (void)snprintf(phase, sizeof phase, "%.*s", (int)strlen(names[p]) - 11, names[p] + 7);
        SOW_TRY(report_plot_text(s, phase));
    }
    return sow_words_print(s, "\n");
}

/* ---- Published ---- */

/* arXiv 2601.20861, figures 1, 2, A1 and the notebook of github.com/akshat57/es-catastrophic at 565029a, digitised by
 * pixel: Qwen2.5-1.5B-Instruct, one seed.  Countdown k/500 and HellaSwag k/1005 items, +-0.1 points (GRPO's Countdown
 * at steps 180 and 240 +-0.4); Frobenius norm as their code computes it, embedding counted twice: d = 1.777e9. */
typedef struct published {
    int step;
    double target, prior, norm; /* per cent; norm NAN: computed in fp16, of no use */
} published;
static const published published_es[] = {
    {0, 5.4, 58.5, 0},       {50, 19.4, 59.1, 27.7},  {100, 40.6, 57.9, 39.4}, {150, 46.6, 60.0, 48.2},
    {200, 47.2, 56.8, 55.8}, {250, 49.0, 52.1, 62.3}, {300, 51.8, 52.5, 68.3}, {350, 52.2, 52.6, 73.9},
    {400, 53.2, 52.2, 78.8}, {450, 53.6, 50.8, 83.6}, {500, 52.6, 50.3, 88.4},
};
static const published published_grpo[] = {
    {0, 5.4, 58.5, NAN},    {30, 40.0, 61.1, NAN},  {60, 53.6, 61.1, NAN},  {90, 54.9, 60.9, NAN},
    {120, 55.9, 60.5, NAN}, {150, 55.9, 60.6, NAN}, {180, 55.4, 61.3, NAN}, {210, 57.2, 60.5, NAN},
    {240, 55.4, 60.4, NAN}, {270, 53.3, 60.0, NAN}, {300, 52.3, 59.5, NAN}, {330, 53.9, 59.6, NAN},
    {360, 53.6, 60.0, NAN}, {390, 50.6, 60.1, NAN}, {420, 53.9, 59.8, NAN}, {450, 52.4, 60.4, NAN},
    {480, 54.0, 61.2, NAN}, {500, 54.6, 60.9, NAN},
};
enum { N_PUBLISHED_ES = sizeof published_es / sizeof *published_es };
enum { N_PUBLISHED_GRPO = sizeof published_grpo / sizeof *published_grpo };

static sow_code add_published(sow_words *s, const char *name, const published *points, int n)
{
    SOW_TRY(sow_words_print(s, "$%s << EOD\n", name));
    for (int i = 0; i < n; i++)
        SOW_TRY(sow_words_print(s, "%d %.6g %.6g %.6g\n", points[i].step, points[i].target, points[i].prior,
                                points[i].norm));
    return sow_words_print(s, "EOD\n");
}

/* Their two methods in the first two colours would be taken for ours: they are drawn in ink and muted. */
static sow_code make_published(report_plots *plots, const char *id, const char *title, const char *labels,
                               const char *columns, const char *law)
{
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_PUBLISHED, id, title, 400, 280));
    sow_words *s = &plots->script;
    SOW_TRY(sow_words_print(s, "%s\n", labels));
    SOW_TRY(add_published(s, "es", published_es, N_PUBLISHED_ES));
    SOW_TRY(add_published(s, "grpo", published_grpo, N_PUBLISHED_GRPO));
    return sow_words_print(
        s,
        "plot $es using %s with linespoints lw 2 pt 6 ps 0.5 lc rgb '#010000' title 'theirs: ES', "
        "$grpo using %s with linespoints lw 2 dt (3,3) pt 4 ps 0.5 lc rgb '#010001' title 'theirs: GRPO'%s\n",
        columns, columns, law);
}

static bool has_countdown(const report *r)
{
    for (int64_t i = 0; i < r->n_runs; i++)
        if (strcmp(r->runs[i].task, "countdown") == 0)
            return true;
    return false;
}

sow_code report_make_published(const report *r, report_plots *plots)
{
    if (!has_countdown(r))
        return SOW_OK;
    SOW_TRY(make_published(
        plots, "published-plane", "Theirs: HellaSwag against Countdown",
        "set xlabel 'Countdown, %' offset 0,0.3\nset ylabel 'HellaSwag, %' offset 1,0\nset xrange [0:60]\n"
        "set yrange [48:64]",
        "2:3", ""));
    SOW_TRY(make_published(plots, "published-target", "Theirs: Countdown against step",
                           "set xlabel 'step' offset 0,0.3\nset ylabel 'Countdown, %' offset 1,0\nset yrange [0:60]",
                           "1:2", ""));
    SOW_TRY(make_published(plots, "published-prior", "Theirs: HellaSwag against step",
                           "set xlabel 'step' offset 0,0.3\nset ylabel 'HellaSwag, %' offset 1,0\nset yrange [48:64]",
                           "1:3", ""));
    return make_published(
        plots, "published-norm", "Theirs: norm of ES against step, and the law of a random walk",
        "set xlabel 'step' offset 0,0.3\nset ylabel 'Frobenius norm (ES)' offset 1,0\nset yrange [0:100]", "1:4",
        ", 5e-4 * sqrt(1.777e9 * x / 30) with lines lw 1.6 dt (1.5,3) lc rgb '#010000' title "
        "'alpha sqrt(d T / N)'");
}
