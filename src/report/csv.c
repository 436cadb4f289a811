/* SPDX-License-Identifier: Apache-2.0 */
/* Every number for other programs: long form, and a JSON object a group and a run. */
#include "report_impl.h"

#include "sower/file.h"
#include "sower/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A field as RFC 4180 has it; a text that a spreadsheet would take for a formula gets a blank in front. */
static sow_code put_field(sow_writer *w, const char *text)
{
    bool is_formula = text[0] != '\0' && strchr("=+-@", text[0]) != NULL;
    if (!is_formula && strpbrk(text, ",\"\r\n") == NULL)
        return sow_writer_write(w, text, strlen(text));
    SOW_TRY(sow_writer_write(w, is_formula ? "\" " : "\"", is_formula ? 2 : 1));
    for (; *text != '\0'; text++) {
        if (*text == '"')
            SOW_TRY(sow_writer_write(w, "\"", 1));
        SOW_TRY(sow_writer_write(w, text, 1));
    }
    return sow_writer_write(w, "\"", 1);
}

/* "run,group,seed," of a run. */
static sow_code put_head(sow_writer *w, const report *r, const report_run *run)
{
    SOW_TRY(put_field(w, run->name));
    SOW_TRY(sow_writer_write(w, ",", 1));
    SOW_TRY(put_field(w, r->groups[run->group].name));
    return run->has_options ? sow_writer_print(w, ",%lld,", (long long)run->options.run.seed)
                            : sow_writer_write(w, ",,", 2);
}

static sow_code put_frame(sow_writer *w, const report *r, const report_run *run, const char *prefix,
                          const report_frame *frame)
{
    for (int64_t c = 0; c < frame->n_columns; c++) {
        const report_column *column = &frame->columns[c];
        char name[REPORT_NAME + 16];
        (void)snprintf(name, sizeof name, "%s%s", prefix, column->name);
        for (int64_t i = 0; i < column->n; i++) {
            SOW_TRY(put_head(w, r, run));
            SOW_TRY(sow_writer_print(w, "%lld,", (long long)frame->steps[column->cells[i].row]));
            SOW_TRY(put_field(w, name));
            SOW_TRY(sow_writer_print(w, ",%.17g\n", column->cells[i].value));
        }
    }
    return SOW_OK;
}

sow_code sow_report_write_csv(const sow_report *r, const char *path)
{
    static const char *const prefixes[REPORT_N_FILES] = {"", "drift.", "kl.", "spectra."};
    static const char head[] = "run,group,seed,step,metric,value\n";
    sow_writer *w = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_writer_create(path, &w));
    SOW_TRY_OR(rc, sow_writer_write(w, head, sizeof head - 1));
    for (int64_t i = 0; i < r->n_runs; i++)
        for (int f = 0; f < REPORT_N_FILES; f++)
            SOW_TRY_OR(rc, put_frame(w, r, &r->runs[i], prefixes[f], &r->runs[i].frames[f]));
    SOW_TRY_OR(rc, sow_writer_commit(&w));
done:
    sow_writer_destroy(&w);
    return rc;
}

/* ---- JSON ---- */

/* A key that names a unit has its numbers in it (tokens, seconds, tflop); accuracies are shares. */
static double scale_of(int measure)
{
    return measure == REPORT_MEASURE_tflop ? report_measure_at(measure)->scale : 1;
}

static void put_mean(sow_line *line, int measure, const report_mean *mean)
{
    static const char *const words[] = {"none", "student-t", "wilson"};
    const char *id = report_measure_at(measure)->id;
    const double scale = scale_of(measure);
    bool is_change = strstr(id, "_change") != NULL && mean->interval == REPORT_BY_ITEMS;
    if (mean->n == 0) {
        sow_line_null(line, id);
        return;
    }
    sow_line_begin_object(line, id);
    sow_line_real(line, "mean", scale * mean->mean);
    sow_line_real(line, "low", scale * mean->low);
    sow_line_real(line, "high", scale * mean->high);
    sow_line_int(line, "n", mean->n);
    sow_line_string(line, "interval", is_change ? "newcombe" : words[mean->interval]);
    sow_line_end_object(line);
}

static sow_code put_group(sow_line *line, const report *r, int64_t g)
{
    const report_group *group = &r->groups[g];
    sow_line_string(line, "kind", "group");
    sow_line_string(line, "group", group->name);
    sow_line_bool(line, "is_control", group->is_control);
    sow_line_int(line, "runs", group->n);
    sow_line_int(line, "seeds", group->n_used);
    sow_line_string(line, "note", group->note);
    sow_line_int(line, "step", group->end_step);
    for (int m = 0; m < report_measure_count(); m++) {
        report_mean mean = {0};
        SOW_TRY(report_group_value(r, group, m, &mean));
        put_mean(line, m, &mean);
    }
    return SOW_OK;
}

static sow_code put_run(sow_line *line, const report *r, int64_t i)
{
    const report_run *run = &r->runs[i];
    sow_line_string(line, "kind", "run");
    sow_line_string(line, "run", run->name);
    sow_line_string(line, "folder", run->folder);
    sow_line_string(line, "group", r->groups[run->group].name);
    if (run->has_options)
        sow_line_int(line, "seed", run->options.run.seed);
    sow_line_string(line, "state", sow_state_name(run->status.state));
    sow_line_string(line, "reason", run->status.reason);
    sow_line_string(line, "verdict", report_run_verdict(run));
    sow_line_string(line, "verdict_reasons", run->status.verdict_reasons);
    sow_line_string(line, "found", run->reasons.bytes > 0 ? run->reasons.text : "");
    sow_line_bool(line, "is_counted", run->is_counted);
    sow_line_int(line, "step", report_run_end(run));
    for (int m = 0; m < report_measure_count(); m++) {
        report_mean mean = report_run_value(run, m, report_run_end(run));
        put_mean(line, m, &mean);
    }
    return SOW_OK;
}

int64_t sow_report_n_items(const sow_report *r)
{
    return r->n_groups + r->n_runs;
}

sow_code sow_report_put(sow_line *line, const sow_report *r, int64_t i)
{
    return i < r->n_groups ? put_group(line, r, i) : put_run(line, r, i - r->n_groups);
}
