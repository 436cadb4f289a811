/* SPDX-License-Identifier: Apache-2.0 */
/* Means over a group's seeds with their 95 % intervals.
 *
 * Two or more seeds: mean +- t * s / sqrt(n), Student's t with n - 1 degrees of freedom: what another seed would give.
 *
 * One seed: Wilson's interval over the items of its test set, which knows nothing of other seeds; of a change that of
 * Newcombe for the same items seen twice (derive.c), or, where a run did not write which were lost, his for different
 * items (1998, Statistics in Medicine 17, 873, method 10): on the wide side. */
#include "report_impl.h"

#include "sower/alloc.h"
#include "sower/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum kind { AT, CHANGE, COST };
enum { COST_SEEDS = 3 };

static const struct {
    report_measure shown;
    const char *column;
    enum kind kind;
} measures[] = {
#define COLUMN(id, column, kind, head, unit, scale, digits, doc) {{#id, head, unit, scale, digits, doc}, column, kind},
#include "columns.def"
};

int report_measure_count(void)
{
    return (int)(sizeof measures / sizeof *measures);
}

const report_measure *report_measure_at(int i)
{
    return &measures[i].shown;
}

report_mean report_mean_of(const double *values, int64_t n, double low, double high)
{
    report_mean m = {.n = n, .mean = (double)NAN, .low = (double)NAN, .high = (double)NAN};
    if (n == 0)
        return m;
    m.mean = sow_stats_summary(values, n).mean;
    if (n >= 2) {
        m.interval = REPORT_BY_SEEDS;
        sow_stats_t_interval(values, n, &m.low, &m.high);
    } else if (isfinite(low) && isfinite(high)) {
        m.interval = REPORT_BY_ITEMS;
        m.low = low;
        m.high = high;
    }
    return m;
}

/* Where the interval of a column's items stands: "a.b.accuracy" has "a.b.low", any other X has "X.low". */
static double bound_at(const report_frame *frame, const char *column, const char *which, int64_t row)
{
    char name[REPORT_NAME], path[REPORT_NAME + 8];
    size_t length = strlen(column), tail = strlen(".accuracy");
    (void)snprintf(name, sizeof name, "%s", column);
    if (length > tail && strcmp(column + length - tail, ".accuracy") == 0)
        name[length - tail] = '\0';
    (void)snprintf(path, sizeof path, "%s.%s", name, which);
    return report_column_at(report_frame_find(frame, path), row);
}

/* ---- Numbers of the table ---- */

static report_mean change_of(const report_frame *metrics, const char *column, int64_t row)
{
    int64_t begin = report_frame_row(metrics, 0);
    double a = report_column_at(report_frame_find(metrics, column), begin);
    double b = report_column_at(report_frame_find(metrics, column), row), change = b - a;
    if (begin < 0 || !isfinite(change))
        return (report_mean){0};
    char paired[REPORT_NAME];
    (void)snprintf(paired, sizeof paired, "%s.change", column);
    double low = bound_at(metrics, paired, "low", row), high = bound_at(metrics, paired, "high", row);
    if (!isfinite(low)) {
        double a_low = bound_at(metrics, column, "low", begin), a_high = bound_at(metrics, column, "high", begin);
        double b_low = bound_at(metrics, column, "low", row), b_high = bound_at(metrics, column, "high", row);
        low = change - sqrt((b - b_low) * (b - b_low) + (a_high - a) * (a_high - a));
        high = change + sqrt((b_high - b) * (b_high - b) + (a - a_low) * (a - a_low));
    }
    return report_mean_of(&change, 1, low, high);
}

report_mean report_run_value(const report_run *run, int measure, int64_t step)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    const char *column = measures[measure].column;
    int64_t row = report_frame_row(metrics, step);
    if (row < 0)
        return (report_mean){0};
    if (measures[measure].kind == CHANGE)
        return change_of(metrics, column, row);
    double value = report_column_at(report_frame_find(metrics, column), row);
    return isfinite(value) ? report_mean_of(&value, 1, bound_at(metrics, column, "low", row),
                                            bound_at(metrics, column, "high", row))
                           : (report_mean){0};
}

sow_code report_group_value(const report *r, const report_group *group, int measure, report_mean *out)
{
    double *values = NULL;
    int64_t n = 0;
    report_mean one = {0};
    SOW_TRY(SOW_ALLOC(&values, group->n_used + 1));
    for (int64_t i = report_next_used(r, group, -1); i >= 0; i = report_next_used(r, group, i)) {
        report_mean m = report_run_value(&r->runs[i], measure, group->end_step);
        if (m.n == 0)
            continue;
        one = m;
        values[n++] = m.mean;
    }
    /* One of several seeds has no interval: its items' would stand where the others have Student's. */
    *out = group->n_used == 1 && n == 1 ? one : report_mean_of(values, n, (double)NAN, (double)NAN);
    if (measures[measure].kind == COST && n < COST_SEEDS)
        *out = (report_mean){.n = n, .mean = out->mean, .low = (double)NAN, .high = (double)NAN};
    out->is_partial = n < group->n_used;
    SOW_FREE(&values);
    return SOW_OK;
}

/* ---- Curves ---- */

typedef struct curve {
    const char *x, *y;
    report_file file;
    double *xs, *ys; /* owned, [runs] */
} curve;

/* Adds a run's value at a step; false if it has none. */
static bool take(const curve *c, const report_run *run, int64_t step, int64_t n)
{
    const report_frame *frame = &run->frames[c->file];
    int64_t row = report_frame_row(frame, step);
    c->ys[n] = row < 0 ? (double)NAN : report_column_at(report_frame_find(frame, c->y), row);
    c->xs[n] = c->x == NULL ? (double)step
               : row < 0    ? (double)NAN
                            : report_column_at(report_frame_find(frame, c->x), row);
    return isfinite(c->ys[n]) && isfinite(c->xs[n]);
}

/* The point of a step; false unless every run has it: a mean over fewer seeds would make a step in the curve. */
static bool make_point(const report *r, const report_group *group, int64_t run, const curve *c, int64_t step,
                       report_point *out)
{
    int64_t n = 0, only = run >= 0 ? run : report_next_used(r, group, -1);
    for (int64_t i = only; i >= 0; i = run >= 0 ? -1 : report_next_used(r, group, i))
        if (!take(c, &r->runs[i], step, n++))
            return false;
    if (n == 0)
        return false;
    const report_frame *frame = &r->runs[only].frames[c->file];
    int64_t row = report_frame_row(frame, step);
    out->step = step;
    report_mean x =
        c->x == NULL ? report_mean_of(c->xs, n, (double)NAN, (double)NAN)
                     : report_mean_of(c->xs, n, bound_at(frame, c->x, "low", row), bound_at(frame, c->x, "high", row));
    out->x = x.mean;
    out->x_low = x.low;
    out->x_high = x.high;
    out->y = report_mean_of(c->ys, n, bound_at(frame, c->y, "low", row), bound_at(frame, c->y, "high", row));
    return true;
}

sow_code report_curve(const report *r, const report_group *group, int64_t run, report_file file, const char *x,
                      const char *y, report_point **points, int64_t *n)
{
    int64_t only = run >= 0 ? run : report_next_used(r, group, -1), count = 0;
    const report_frame *frame = only < 0 ? NULL : &r->runs[only].frames[file];
    curve c = {.x = x, .y = y, .file = file};
    report_point *made = NULL;
    sow_code rc = SOW_OK;
    *n = 0;
    if (frame == NULL || frame->n_rows == 0)
        return SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&c.xs, r->n_runs));
    SOW_TRY_OR(rc, SOW_ALLOC(&c.ys, r->n_runs));
    SOW_TRY_OR(rc, SOW_ALLOC(&made, frame->n_rows));
    for (int64_t row = 0; row < frame->n_rows; row++)
        count += make_point(r, group, run, &c, frame->steps[row], &made[count]);
    *points = made;
    *n = count;
    made = NULL;
done:
    SOW_FREE(&made);
    SOW_FREE(&c.ys);
    SOW_FREE(&c.xs);
    return rc;
}
