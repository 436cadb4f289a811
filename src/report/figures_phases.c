/* SPDX-License-Identifier: Apache-2.0 */
/* Where the time goes: a bar per group, stacked by phase. */
#include "report_impl.h"

#include <stdio.h>
#include <string.h>

/* Seconds per step of the steps that have phases. */
double report_phase_seconds(const report *r, const report_group *group, const report_phase *phase)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = report_next_used(r, group, -1); i >= 0; i = report_next_used(r, group, i)) {
        const report_column *column = report_frame_find(&r->runs[i].frames[REPORT_METRICS], phase->column);
        for (int64_t c = 0; column != NULL && c < column->n; c++, n++)
            sum += column->cells[c].value;
    }
    return n > 0 ? sum / (double)n : 0;
}

/* Adds the phase of a column "phases.NAME.avg" if it is new. */
static int add_phase(const char *column, report_phase *phases, int n)
{
    size_t length = strlen(column), head = strlen("phases."), tail = strlen(".avg");
    if (n == REPORT_MAX_PHASES || strncmp(column, "phases.", head) != 0 || length <= head + tail ||
        strcmp(column + length - tail, ".avg") != 0)
        return n;
    for (int i = 0; i < n; i++)
        if (strcmp(phases[i].column, column) == 0)
            return n;
    phases[n].column = column;
    (void)snprintf(phases[n].name, sizeof phases[n].name, "%.*s", (int)(length - head - tail), column + head);
    return n + 1;
}

/* Whether the phase takes a thousandth of some group's time. */
static bool is_worth_it(const report *r, const report_phase *phases, int n, int phase)
{
    for (int64_t g = 0; g < r->n_groups; g++) {
        double sum = 0;
        for (int i = 0; i < n; i++)
            sum += report_phase_seconds(r, &r->groups[g], &phases[i]);
        if (report_phase_seconds(r, &r->groups[g], &phases[phase]) > 1e-3 * sum)
            return true;
    }
    return false;
}

int report_find_phases(const report *r, report_phase phases[REPORT_MAX_PHASES])
{
    report_phase all[REPORT_MAX_PHASES];
    int n = 0, n_kept = 0;
    for (int64_t i = 0; i < r->n_runs; i++) {
        const report_frame *metrics = &r->runs[i].frames[REPORT_METRICS];
        for (int64_t c = 0; c < metrics->n_columns; c++)
            n = add_phase(metrics->columns[c].name, all, n);
    }
    for (int i = 0; i < n; i++)
        if (is_worth_it(r, all, n, i)) {
            phases[n_kept] = all[i];
            phases[n_kept].colour = REPORT_SERIES + n_kept % REPORT_N_SERIES;
            phases[n_kept].opacity = n_kept < REPORT_N_SERIES ? 1 : 0.4;
            n_kept++;
        }
    return n_kept;
}

/* The boxes of a phase, a row a group: middle, then the sides. */
static sow_code add_boxes(const report *r, const report_phase *phases, int phase, sow_words *s)
{
    SOW_TRY(sow_words_print(s, "$p%d << EOD\n", phase));
    for (int64_t g = 0; g < r->n_groups; g++) {
        double begin = 0, y = (double)(r->n_groups - g) - 0.7;
        for (int before = 0; before < phase; before++)
            begin += report_phase_seconds(r, &r->groups[g], &phases[before]);
        double end = begin + report_phase_seconds(r, &r->groups[g], &phases[phase]);
        SOW_TRY(
            sow_words_print(s, "%.6g %.6g %.6g %.6g %.6g %.6g\n", (begin + end) / 2, y, begin, end, y - 0.2, y + 0.2));
    }
    return sow_words_print(s, "EOD\n");
}

/* Each group's name stands above its bar. */
sow_code report_make_phases(const report *r, report_plots *plots)
{
    report_phase phases[REPORT_MAX_PHASES];
    int n = report_find_phases(r, phases);
    char colour[8];
    sow_words *s = &plots->script;
    if (n == 0)
        return SOW_OK;
    SOW_TRY(report_plots_begin(plots, REPORT_SECTION_PHASES, "phases", "Seconds of a step by phase", 400,
                               60 + 44 * (int)r->n_groups));
    SOW_TRY(sow_words_print(s, "set xlabel 'seconds per step and rank' offset 0,0.3 tc rgb '#010000'\n"
                               "unset ytics\nset border 1\nset lmargin 2\nunset grid\nset xrange [0:*]\n"));
    SOW_TRY(sow_words_print(s, "set yrange [-0.1:%lld]\n", (long long)r->n_groups));
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(s, "set label %lld ", (long long)g + 1));
        SOW_TRY(report_plot_text(s, r->groups[g].name));
        SOW_TRY(sow_words_print(s, " at graph 0.005, first %.6g left noenhanced tc rgb '#010000' font ',13'\n",
                                (double)(r->n_groups - g) - 0.24));
    }
    for (int p = 0; p < n; p++)
        SOW_TRY(add_boxes(r, phases, p, s));
    for (int p = 0; p < n; p++) {
        SOW_TRY(sow_words_print(s, "%s$p%d using 1:2:3:4:5:6 with boxxyerror fs transparent solid %g noborder ",
                                p == 0 ? "plot " : ", \\\n  ", p, phases[p].opacity));
        SOW_TRY(sow_words_print(s, "lc rgb '%s' title ", report_colour_code(phases[p].colour, colour)));
        SOW_TRY(report_plot_text(s, phases[p].name));
    }
    return sow_words_print(s, "\n");
}
