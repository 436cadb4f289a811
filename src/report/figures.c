/* SPDX-License-Identifier: Apache-2.0 */
/* Curves (figures.def) as scripts for gnuplot, with their numbers inside: a script can be run again anywhere.
 *
 * A group is one line: the mean over its seeds.  Few groups also show each seed as a thin line and, from three seeds
 * on or by the items of a single one, the 95 % interval as a band; many groups would only hide each other. */
#include "report_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { FEW_GROUPS = 4, MOST_POINTS = 200, MOST_WINDOWS = 50, BAND_SEEDS = 3 };
enum { PATH = 1, DENSE = 2, NOISY = 2 | 4 };
enum quantity { SHARE, PLAIN, TOKENS, FLOP, SECONDS };

typedef struct curve_row {
    int section;
    const char *id, *title; /* behind the probe's name, if it is one of each probe */
    report_file file;
    const char *x, *x_label;
    enum quantity x_quantity;
    const char *y, *y2, *y_label;
    enum quantity y_quantity;
    int flags;
} curve_row;

/* clang-format off */
static const curve_row rows[] = {
#define CURVE(section, id, title, file, x, x_label, x_quantity, y, y2, y_label, y_quantity, flags) \
    {REPORT_SECTION_##section, id, title, REPORT_##file, x, x_label, x_quantity, y, y2, y_label, y_quantity, flags},
#include "figures.def"
};
/* clang-format on */

/* One group's part of a figure.  Owned. */
typedef struct line {
    report_point *points, *second;
    int64_t n, n_second;
    int64_t block; /* number of its data in the figure */
} line;

typedef struct figure {
    const report *r;
    const curve_row *row;
    char y[REPORT_NAME], y2[REPORT_NAME];
    double x_scale, y_scale;
    const char *x_unit, *y_unit;
    line *lines; /* owned, [groups] */
    int64_t n_blocks;
    sow_words *script;
    sow_words plot; /* the plot command's parts */
} figure;

/* ---- Units ---- */

static const struct {
    double from, scale;
    const char *unit;
} steps_of_units[][4] = {
    [SHARE] = {{(double)-INFINITY, 100, "%"}},
    [PLAIN] = {{(double)-INFINITY, 1, ""}},
    [TOKENS] = {{2e9, 1e-9, "billion"}, {2e6, 1e-6, "million"}, {2e3, 1e-3, "thousand"}, {(double)-INFINITY, 1, ""}},
    [FLOP] = {{2e18, 1e-18, "EFLOP"},
              {2e15, 1e-15, "PFLOP"},
              {2e12, 1e-12, "TFLOP"},
              {(double)-INFINITY, 1e-9, "GFLOP"}},
    [SECONDS] = {{7200, 1 / 3600.0, "h"}, {600, 1 / 60.0, "min"}, {(double)-INFINITY, 1, "s"}},
};

static void choose_unit(enum quantity quantity, double largest, double *scale, const char **unit)
{
    int i = 0;
    while (largest < steps_of_units[quantity][i].from)
        i++;
    *scale = steps_of_units[quantity][i].scale;
    *unit = steps_of_units[quantity][i].unit;
}

static double largest(const figure *f, bool is_x)
{
    double most = 0;
    for (int64_t g = 0; g < f->r->n_groups; g++)
        for (int64_t i = 0; i < f->lines[g].n; i++) {
            double value = is_x ? f->lines[g].points[i].x : f->lines[g].points[i].y.mean;
            most = value > most ? value : most;
        }
    return most;
}

/* ---- Data ---- */

/* Means over windows of points, so that at most MOST_WINDOWS are left.  Returns how many there are. */
static int64_t smooth(report_point *points, int64_t n)
{
    int64_t window = (n + MOST_WINDOWS - 1) / MOST_WINDOWS, made = 0;
    for (int64_t i = 0; i < n; i += window, made++) {
        int64_t end = i + window < n ? i + window : n;
        double x = 0, y = 0;
        for (int64_t k = i; k < end; k++) {
            x += points[k].x;
            y += points[k].y.mean;
        }
        points[made] = points[i];
        points[made].x = x / (double)(end - i);
        points[made].y.mean = y / (double)(end - i);
    }
    return made;
}

/* A new block "$dN"; at most MOST_POINTS of the points, the last among them. */
static sow_code add_block(figure *f, const report_point *points, int64_t n, int64_t *block)
{
    int64_t stride = (n + MOST_POINTS - 1) / MOST_POINTS;
    *block = f->n_blocks++;
    SOW_TRY(sow_words_print(f->script, "$d%lld << EOD\n", (long long)*block));
    for (int64_t i = 0; i < n; i++) {
        const report_point *p = &points[i];
        if (i % stride != 0 && i != n - 1)
            continue;
        double low = isfinite(p->y.low) ? p->y.low : p->y.mean, high = isfinite(p->y.high) ? p->y.high : p->y.mean;
        if (f->row->y_quantity == SHARE) {
            low = low < 0 ? 0 : low;
            high = high > 1 ? 1 : high;
        }
        SOW_TRY(sow_words_print(f->script, "%.6g %.6g %.6g %.6g %lld\n", p->x * f->x_scale, p->y.mean * f->y_scale,
                                low * f->y_scale, high * f->y_scale, (long long)p->step));
    }
    return sow_words_print(f->script, "EOD\n");
}

static sow_code add_part(figure *f, const char *title, const char *fmt, ...) SOW_PRINTF(3, 4);
static sow_code add_part(figure *f, const char *title, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    SOW_TRY(sow_words_print(&f->plot, "%s%s title ", f->plot.bytes > 0 ? ", \\\n  " : "plot ", text));
    return report_plot_text(&f->plot, title);
}

static bool has_band(const line *l)
{
    return l->n > 0 && (l->points[0].y.interval == REPORT_BY_ITEMS || l->points[0].y.n >= BAND_SEEDS);
}

/* Of a point: over the items of a single seed, or from BAND_SEEDS seeds on. */
static bool has_interval(const report_point *p, bool is_x)
{
    return isfinite(is_x ? p->x_low : p->y.low) && (p->y.n == 1 || p->y.n >= BAND_SEEDS);
}

static bool is_few(const figure *f)
{
    return f->r->n_groups <= FEW_GROUPS;
}

/* ---- Layers of a figure, lowest first ---- */

static sow_code add_bands(figure *f)
{
    char colour[8];
    for (int64_t g = 0; g < f->r->n_groups; g++)
        if (is_few(f) && has_band(&f->lines[g]) && f->row->flags == 0)
            SOW_TRY(add_part(f, f->r->groups[g].name, "$d%lld using 1:3:4 with filledcurves lc rgb '%s'",
                             (long long)f->lines[g].block,
                             report_colour_code(report_style_of(f->r, g).colour, colour)));
    return SOW_OK;
}

static sow_code add_seed(figure *f, int64_t g, int64_t run)
{
    report_point *points = NULL;
    int64_t n = 0, block = 0;
    char colour[8];
    SOW_TRY(report_curve(f->r, &f->r->groups[g], run, f->row->file, f->row->x, f->y, &points, &n));
    sow_code rc = n > 0 ? add_block(f, points, n, &block) : SOW_OK;
    SOW_FREE(&points);
    if (rc != SOW_OK || n == 0)
        return rc;
    return add_part(f, f->r->runs[run].name, "$d%lld using 1:2 with lines lw 0.7 lc rgb '%s'", (long long)block,
                    report_colour_code(report_style_of(f->r, g).colour, colour));
}

static sow_code add_seeds(figure *f)
{
    for (int64_t g = 0; g < f->r->n_groups; g++) {
        const report_group *group = &f->r->groups[g];
        if (!is_few(f) || group->n_used < 2 || (f->row->flags & DENSE) != 0)
            continue;
        for (int64_t i = report_next_used(f->r, group, -1); i >= 0; i = report_next_used(f->r, group, i))
            SOW_TRY(add_seed(f, g, i));
    }
    return SOW_OK;
}

static sow_code add_seconds(figure *f)
{
    char colour[8];
    for (int64_t g = 0; g < f->r->n_groups; g++) {
        const line *l = &f->lines[g];
        int64_t block = 0;
        if (l->n_second == 0)
            continue;
        SOW_TRY(add_block(f, l->second, l->n_second, &block));
        SOW_TRY(add_part(f, f->r->groups[g].name, "$d%lld using 1:2 with lines lw 1.6 dt (1.5,3) lc rgb '%s'",
                         (long long)block, report_colour_code(report_style_of(f->r, g).colour, colour)));
    }
    return SOW_OK;
}

static sow_code add_lines(figure *f)
{
    char colour[8];
    for (int64_t g = 0; g < f->r->n_groups; g++) {
        const line *l = &f->lines[g];
        report_style style = report_style_in(f->r, g, f->row->section);
        int64_t shown = l->n < MOST_POINTS ? l->n : MOST_POINTS;
        if (l->n == 0)
            continue;
        SOW_TRY(add_part(f, f->r->groups[g].name,
                         "$d%lld using 1:2 with linespoints lw 2 dt %s lc rgb '%s' pt %d ps 0.5 pi %lld",
                         (long long)l->block, style.dash, report_colour_code(style.colour, colour), style.marker,
                         (long long)((shown + 9) / 10)));
    }
    return SOW_OK;
}

/* Of a path: the end large and with the intervals of both axes, and the base as a cross. */
static sow_code add_ends(figure *f)
{
    char colour[8];
    const line *first = NULL;
    for (int64_t g = 0; g < f->r->n_groups; g++) {
        const line *l = &f->lines[g];
        report_style style = report_style_of(f->r, g);
        if (l->n == 0)
            continue;
        const report_point *end = &l->points[l->n - 1];
        (void)report_colour_code(style.colour, colour);
        first = first == NULL && l->points[0].step == 0 ? l : first;
        SOW_TRY(sow_words_print(f->script, "$e%lld << EOD\n%.6g %.6g %.6g %.6g %.6g %.6g\nEOD\n", (long long)g,
                                end->x * f->x_scale, end->y.mean * f->y_scale, end->y.low * f->y_scale,
                                end->y.high * f->y_scale, end->x_low * f->x_scale, end->x_high * f->x_scale));
        if (has_interval(end, true))
            SOW_TRY(add_part(f, f->r->groups[g].name, "$e%lld using 1:2:5:6 with xerrorbars lw 1.5 pt 0 lc rgb '%s'",
                             (long long)g, colour));
        if (has_interval(end, false))
            SOW_TRY(add_part(f, f->r->groups[g].name, "$e%lld using 1:2:3:4 with yerrorbars lw 1.5 pt 0 lc rgb '%s'",
                             (long long)g, colour));
        SOW_TRY(add_part(f, f->r->groups[g].name, "$e%lld using 1:2 with points lw 2 pt %d ps 0.8 lc rgb '%s'",
                         (long long)g, style.marker, colour));
    }
    if (first == NULL)
        return SOW_OK;
    SOW_TRY(sow_words_print(f->script, "$base << EOD\n%.6g %.6g\nEOD\n", first->points[0].x * f->x_scale,
                            first->points[0].y.mean * f->y_scale));
    return add_part(f, "base", "$base using 1:2 with points lw 2.5 pt 2 ps 0.9 lc rgb '%s'",
                    report_colour_code(REPORT_INK, colour));
}

/* ---- One figure ---- */

static sow_code add_label(sow_words *out, const char *axis, const char *label, const char *unit)
{
    char text[2 * REPORT_NAME];
    (void)snprintf(text, sizeof text, "%s%s%s", label, unit[0] != '\0' ? ", " : "", unit);
    SOW_TRY(sow_words_print(out, "set %slabel ", axis));
    SOW_TRY(report_plot_text(out, text));
    return sow_words_print(out, " noenhanced offset %s tc rgb '#010000'\n", axis[0] == 'x' ? "0,0.3" : "1,0");
}

static void widen(double value, double *low, double *high)
{
    *low = value < *low ? value : *low;
    *high = value > *high ? value : *high;
}

/* The seeds' part of a range: of what add_seeds draws. */
static sow_code widen_by_seeds(const figure *f, bool is_x, double *low, double *high)
{
    for (int64_t i = 0; i < f->r->n_runs; i++) {
        const report_run *run = &f->r->runs[i];
        report_point *points = NULL;
        int64_t n = 0;
        if (!run->is_counted || !is_few(f))
            continue;
        SOW_TRY(report_curve(f->r, &f->r->groups[run->group], i, f->row->file, f->row->x, f->y, &points, &n));
        for (int64_t k = 0; k < n; k++)
            widen(is_x ? points[k].x : points[k].y.mean, low, high);
        SOW_FREE(&points);
    }
    return SOW_OK;
}

/* Shares: from the lowest to the highest that is drawn, with some air, never beyond 0 and 100. */
static sow_code set_range(const figure *f, const char *axis)
{
    double low = (double)INFINITY, high = -(double)INFINITY;
    bool is_x = axis[0] == 'x';
    for (int64_t g = 0; g < f->r->n_groups; g++) {
        const line *l = &f->lines[g];
        for (int64_t i = 0; i < l->n; i++) {
            const report_point *p = &l->points[i];
            bool is_drawn = f->row->flags == PATH ? i == l->n - 1 : !is_x && has_band(l) && is_few(f);
            widen(is_x ? p->x : p->y.mean, &low, &high);
            if (is_drawn && has_interval(p, is_x)) {
                widen(is_x ? p->x_low : p->y.low, &low, &high);
                widen(is_x ? p->x_high : p->y.high, &low, &high);
            }
        }
        for (int64_t i = 0; i < l->n_second && !is_x; i++)
            widen(l->second[i].y.mean, &low, &high);
    }
    SOW_TRY(widen_by_seeds(f, is_x, &low, &high));
    double air = high - low > 0.02 ? 0.06 * (high - low) : 0.01;
    low = low - air > 0 ? low - air : 0;
    high = high + air < 1 ? high + air : 1;
    return sow_words_print(f->script, "set %srange [%.6g:%.6g]\n", axis, 100 * low, 100 * high + 0.001);
}

/* What does not change is drawn in the middle, not as noise of its last digit. */
static sow_code set_plain_range(const figure *f)
{
    double low = (double)INFINITY, high = -(double)INFINITY;
    for (int64_t g = 0; g < f->r->n_groups; g++)
        for (int64_t i = 0; i < f->lines[g].n; i++)
            widen(f->lines[g].points[i].y.mean * f->y_scale, &low, &high);
    SOW_TRY(sow_words_print(f->script, "set format y '%%.4g'\n"));
    if (high - low > 1e-6 * fmax(fabs(low), fabs(high)))
        return SOW_OK;
    double most = high == 0 ? 1 : 2 * high;
    return sow_words_print(f->script, "set yrange [%.6g:%.6g]\n", most < 0 ? most : 0, most < 0 ? 0 : most);
}

/* Few and round: 0, 20, 40, ... */
static sow_code set_ticks(const figure *f)
{
    double most = largest(f, true) * f->x_scale, step = 1e-12;
    for (int i = 0; most > 6 * step && i < 1200; i++)
        step *= i % 3 == 1 ? 2.5 : 2; /* 1, 2, 5, 10 */
    return most > 0 ? sow_words_print(f->script, "set xtics %.6g\n", step) : SOW_OK;
}

static sow_code write_figure(figure *f, report_plots *plots, const char *id, const char *title)
{
    bool is_path = (f->row->flags & PATH) != 0;
    int width = is_path ? 440 : f->row->section == REPORT_SECTION_LEARNING ? 340 : 400;
    SOW_TRY(report_plots_begin(plots, f->row->section, id, title, width, is_path ? 370 : 270));
    f->script = &plots->script;
    choose_unit(f->row->x_quantity, largest(f, true), &f->x_scale, &f->x_unit);
    choose_unit(f->row->y_quantity, largest(f, false), &f->y_scale, &f->y_unit);
    SOW_TRY(add_label(f->script, "x", f->row->x_label, f->x_unit));
    SOW_TRY(add_label(f->script, "y", f->row->y_label, f->y_unit));
    SOW_TRY(f->row->y_quantity == SHARE ? set_range(f, "y") : set_plain_range(f));
    SOW_TRY(f->row->x_quantity == SHARE ? set_range(f, "x") : set_ticks(f));
    for (int64_t g = 0; g < f->r->n_groups; g++)
        if (f->lines[g].n > 0)
            SOW_TRY(add_block(f, f->lines[g].points, f->lines[g].n, &f->lines[g].block));
    SOW_TRY(add_bands(f));
    SOW_TRY(add_seeds(f));
    SOW_TRY(add_seconds(f));
    SOW_TRY(add_lines(f));
    if (is_path)
        SOW_TRY(add_ends(f));
    return sow_words_print(f->script, "%s\n", f->plot.text);
}

/* Reads the curves; a figure without a point is none.  probe: what * stands for, or NULL. */
static sow_code make_figure(const report *r, const curve_row *row, const char *probe, report_plots *plots)
{
    figure f = {.r = r, .row = row};
    char id[96], title[2 * REPORT_NAME];
    int64_t n = 0;
    sow_code rc = SOW_OK;
    const char *star = probe == NULL ? NULL : strchr(row->y, '*');
    const char *star2 = probe == NULL || row->y2 == NULL ? NULL : strchr(row->y2, '*');
    (void)snprintf(f.y, sizeof f.y, "%.*s%s%s", star == NULL ? (int)strlen(row->y) : (int)(star - row->y), row->y,
                   star == NULL ? "" : probe, star == NULL ? "" : star + 1);
    if (row->y2 != NULL)
        (void)snprintf(f.y2, sizeof f.y2, "%.*s%s%s", star2 == NULL ? (int)strlen(row->y2) : (int)(star2 - row->y2),
                       row->y2, star2 == NULL ? "" : probe, star2 == NULL ? "" : star2 + 1);
    SOW_TRY(SOW_ALLOC(&f.lines, r->n_groups));
    for (int64_t g = 0; g < r->n_groups; g++) {
        line *l = &f.lines[g];
        SOW_TRY_OR(rc, report_curve(r, &r->groups[g], -1, row->file, row->x, f.y, &l->points, &l->n));
        if (row->y2 != NULL)
            SOW_TRY_OR(rc, report_curve(r, &r->groups[g], -1, row->file, row->x, f.y2, &l->second, &l->n_second));
        l->n = row->flags == NOISY ? smooth(l->points, l->n) : l->n;
        n += l->n;
    }
    (void)snprintf(id, sizeof id, "%s%s%.40s", row->id, probe == NULL ? "" : "-", probe == NULL ? "" : probe);
    (void)snprintf(title, sizeof title, "%.40s%s%s", probe == NULL ? "" : probe, probe == NULL ? "" : ": ", row->title);
    if (n > 0)
        SOW_TRY_OR(rc, write_figure(&f, plots, id, title));
done:
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_FREE(&f.lines[g].points);
        SOW_FREE(&f.lines[g].second);
    }
    SOW_FREE(&f.lines);
    sow_words_fini(&f.plot);
    return rc;
}

/* Whether an earlier run, or an earlier probe of this one, has the name. */
static bool is_seen(const report *r, int64_t run, int64_t probe)
{
    for (int64_t i = 0; i <= run; i++)
        for (int64_t j = 0; j < (i == run ? probe : r->runs[i].n_probes); j++)
            if (strcmp(r->runs[i].probes[j], r->runs[run].probes[probe]) == 0)
                return true;
    return false;
}

static bool has_prior(const report *r)
{
    for (int64_t i = 0; i < r->n_runs; i++)
        if (report_frame_find(&r->runs[i].frames[REPORT_METRICS], "prior") != NULL)
            return true;
    return false;
}

static sow_code make_row(const report *r, const curve_row *row, report_plots *plots)
{
    if (strcmp(row->y, "choice") == 0 && has_prior(r))
        return SOW_OK;
    if (strchr(row->y, '*') == NULL)
        return make_figure(r, row, NULL, plots);
    for (int64_t i = 0; i < r->n_runs; i++)
        for (int64_t j = 0; j < r->runs[i].n_probes; j++)
            if (r->runs[i].probes[j][0] != '\0' && !is_seen(r, i, j))
                SOW_TRY(make_figure(r, row, r->runs[i].probes[j], plots));
    return SOW_OK;
}

sow_code report_make_figures(const report *r, report_plots *plots)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        SOW_TRY(make_row(r, &rows[i], plots));
    SOW_TRY(report_make_kinds(r, plots));
    SOW_TRY(report_make_phases(r, plots));
    return report_make_published(r, plots);
}
