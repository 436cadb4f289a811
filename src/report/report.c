/* SPDX-License-Identifier: Apache-2.0 */
/* A report opened, written as page and table, and closed. */
#include "sower/report.h"

#include "report_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

sow_code sow_report_open(char *const *folders, int64_t n, sow_report **out)
{
    sow_report *r = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&r, 1));
    SOW_TRY_OR(rc, SOW_ALLOC(&r->runs, n));
    for (int64_t i = 0; i < n; i++) {
        r->n_runs = i + 1;
        SOW_TRY_OR(rc, report_run_read(folders[i], &r->runs[i]));
    }
    SOW_TRY_OR(rc, report_make_groups(r));
done:
    if (rc != SOW_OK)
        sow_report_close(&r);
    else
        *out = r;
    return rc;
}

void sow_report_close(sow_report **out)
{
    sow_report *r = *out;
    if (r == NULL)
        return;
    for (int64_t i = 0; r->runs != NULL && i < r->n_runs; i++)
        report_run_fini(&r->runs[i]);
    for (int64_t i = 0; i < r->n_warnings; i++)
        SOW_FREE(&r->warnings[i]);
    SOW_FREE(&r->warnings);
    SOW_FREE(&r->groups);
    SOW_FREE(&r->runs);
    SOW_FREE(out);
}

int64_t sow_report_n_warnings(const sow_report *r)
{
    return r->n_warnings;
}

const char *sow_report_warning(const sow_report *r, int64_t i)
{
    return r->warnings[i];
}

sow_code sow_report_write_page(sow_report *r, const char *path, const char *figures)
{
    report_plots plots = {0};
    sow_words page = {0}, problem = {0};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, report_make_figures(r, &plots));
    SOW_TRY_OR(rc, report_plots_run(r, &plots, figures, &problem));
    SOW_TRY_OR(rc, report_page(r, &plots, problem.bytes > 0 ? problem.text : "", &page));
    SOW_TRY_OR(rc, sow_file_write(path, page.text, page.bytes));
    if (problem.bytes > 0)
        SOW_TRY_OR(rc, report_warn(r, "%s", problem.text));
done:
    sow_words_fini(&problem);
    sow_words_fini(&page);
    report_plots_fini(&plots);
    return rc;
}

/* ---- For people ---- */

/* Columns that a terminal has room for. */
static const int shown[] = {REPORT_MEASURE_target, REPORT_MEASURE_prior,  REPORT_MEASURE_prior_change,
                            REPORT_MEASURE_choice, REPORT_MEASURE_norm,   REPORT_MEASURE_norm_per_law,
                            REPORT_MEASURE_tokens, REPORT_MEASURE_seconds};
enum { N_SHOWN = sizeof shown / sizeof *shown };

/* "45.8 [41.5, 50.2]" */
static sow_code add_mean(sow_words *out, const report_mean *mean, const report_measure *m, int width)
{
    char text[160] = "-", number[32], low[32], high[32];
    if (mean->n > 0) {
        int n = snprintf(text, sizeof text, "%s", report_number(number, mean->mean, m->scale, m->digits));
        if (isfinite(mean->low) && isfinite(mean->high))
            (void)snprintf(text + n, sizeof text - (size_t)n, " [%s, %s]",
                           report_number(low, mean->low, m->scale, m->digits),
                           report_number(high, mean->high, m->scale, m->digits));
        if (mean->is_partial)
            (void)snprintf(text + strlen(text), sizeof text - strlen(text), " (n %lld)", (long long)mean->n);
    }
    return sow_words_print(out, "  %-*s", width, text);
}

static int width_of(const report_measure *m)
{
    return m->scale == 100 ? 20 : 8;
}

/* In characters, not bytes. */
static int length_of(const char *name)
{
    int n = 0;
    for (; *name != '\0'; name++)
        n += ((unsigned char)*name & 0xc0) != 0x80;
    return n;
}

/* Names are whole: what tells groups apart may be their last word. */
static int width_of_names(const sow_report *r)
{
    int width = 34;
    for (int64_t g = 0; g < r->n_groups; g++)
        width = length_of(r->groups[g].name) > width ? length_of(r->groups[g].name) : width;
    return width;
}

static sow_code add_name(sow_words *out, const char *name, int width)
{
    return sow_words_print(out, "%s%*s", name, width - length_of(name), "");
}

static sow_code add_runs(const sow_report *r, sow_words *out)
{
    for (int64_t i = 0; i < r->n_runs; i++) {
        const report_run *run = &r->runs[i];
        if (strcmp(report_run_verdict(run), "VALID") == 0)
            continue;
        SOW_TRY(sow_words_print(out, "%s: %s, %s at step %lld of %lld", run->name, report_run_verdict(run),
                                sow_state_name(run->status.state), (long long)run->status.step,
                                (long long)run->status.steps));
        if (run->status.reason[0] != '\0')
            SOW_TRY(sow_words_print(out, ": %s", run->status.reason));
        if (run->status.verdict_reasons[0] != '\0')
            SOW_TRY(sow_words_print(out, ": %s", run->status.verdict_reasons));
        if (run->reasons.bytes > 0)
            SOW_TRY(sow_words_print(out, ": %s", run->reasons.text));
        SOW_TRY(sow_words_print(out, "\n"));
    }
    return SOW_OK;
}

sow_code sow_report_write_table(const sow_report *r, sow_words *out)
{
    int width = width_of_names(r);
    SOW_TRY(add_name(out, "group", width));
    SOW_TRY(sow_words_print(out, " %5s %6s", "seeds", "step"));
    for (int i = 0; i < N_SHOWN; i++) {
        const report_measure *m = report_measure_at(shown[i]);
        char head[64];
        (void)snprintf(head, sizeof head, "%s%s%s", m->head, m->unit[0] != '\0' ? ", " : "", m->unit);
        SOW_TRY(sow_words_print(out, "  %-*s", width_of(m), head));
    }
    SOW_TRY(sow_words_print(out, "\n"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        const report_group *group = &r->groups[g];
        SOW_TRY(add_name(out, group->name, width));
        SOW_TRY(sow_words_print(out, " %5lld %6lld", (long long)group->n_used, (long long)group->end_step));
        for (int i = 0; i < N_SHOWN; i++) {
            report_mean mean = {0};
            int m = shown[i];
            SOW_TRY(report_group_value(r, group, m, &mean));
            if (report_measure_at(m)->scale != 100)
                mean.low = mean.high = (double)NAN;
            SOW_TRY(add_mean(out, &mean, report_measure_at(m), width_of(report_measure_at(m))));
        }
        SOW_TRY(sow_words_print(out, "%s%s\n", group->note[0] != '\0' ? "  " : "", group->note));
    }
    SOW_TRY(
        sow_words_print(out, "means over seeds with 95 %% intervals (Student's t; one seed: Wilson's, by items)\n"));
    return add_runs(r, out);
}
