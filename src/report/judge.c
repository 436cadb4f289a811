/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a run: its files against each other and against what its configuration planned.
 *
 * A number that was planned and is not there is no gap to draw a line across: it makes the run INVALID, as does an
 * accuracy that is not the share of right items.  Of each file the first fault is told. */
#include "report_impl.h"

#include "sower/file.h"
#include "sower/ledger.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- The ledger against configuration and status ---- */

typedef struct comparison {
    report_run *run;
    const sow_json *settings; /* of the ledger's header */
} comparison;

/* A setting of config.yaml against the header's, which stands for what was run. */
static sow_code compare_setting(void *context, const char *key, const char *value)
{
    const comparison *c = context;
    const char *recorded = sow_json_to_string(sow_json_get(c->settings, key), NULL);
    bool is_resolved = strcmp(value, "auto") == 0 || strcmp(key, "generate.max_new_tokens") == 0;
    if (recorded == NULL || is_resolved || strcmp(recorded, value) == 0)
        return SOW_OK;
    return report_run_reason(c->run, "config.yaml: %s is %s, but the ledger was made with %s", key, value, recorded);
}

static sow_code compare_header(report_run *run, const sow_ledger *ledger)
{
    sow_json *header = NULL;
    if (!run->has_options || ledger->header == NULL)
        return SOW_OK;
    SOW_TRY(sow_json_parse(ledger->header, strlen(ledger->header), "ledger.jsonl", &header));
    comparison c = {run, sow_json_get(header, "settings")};
    sow_code rc = sow_conf_result_settings(&run->options, compare_setting, &c);
    sow_json_destroy(&header);
    return rc;
}

static sow_code judge_ledger(report_run *run)
{
    char path[SOW_TEXT];
    sow_ledger *ledger = NULL;
    bool is_done = run->status.state == SOW_STATE_DONE;
    SOW_TRY(sow_file_join(run->folder, "ledger.jsonl", path, sizeof path));
    if (!sow_file_exists(path))
        return is_done ? report_run_reason(run, "ledger.jsonl: is missing") : SOW_OK;
    sow_code rc = sow_ledger_read(path, &ledger);
    if (rc != SOW_OK)
        return rc == SOW_ENOMEM ? rc : report_run_reason(run, "%s", sow_error_text());
    if (ledger->header == NULL)
        rc = is_done ? report_run_reason(run, "ledger.jsonl: has no header") : SOW_OK;
    else if (is_done && (ledger->has_torn_end || ledger->n != run->status.steps))
        rc = report_run_reason(run, "ledger.jsonl: ends at step %lld of %lld", (long long)ledger->n,
                               (long long)run->status.steps);
    if (rc == SOW_OK)
        rc = compare_header(run, ledger);
    sow_ledger_destroy(&ledger);
    return rc;
}

/* ---- Metrics: a line for each step, and in it everything that was planned ---- */

static bool has_number(const report_frame *frame, int64_t row, const char *name)
{
    return isfinite(report_column_at(report_frame_find(frame, name), row));
}

/* Whether there are held-out rows: not every task has some. */
static bool has_target(const report_run *run)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    return run->options.run.eval_rows > 0 && has_number(metrics, report_frame_row(metrics, 0), "eval.accuracy");
}

/* The first thing that is missing from a row of metrics; NULL: nothing. */
static const char *find_missing(const report_run *run, int64_t row)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    const sow_options *o = &run->options;
    char name[REPORT_NAME];
    int64_t step = metrics->steps[row];
    if (has_target(run) && sow_eval_is_due(o->run.eval_every, step, o->run.steps) &&
        !has_number(metrics, row, "eval.accuracy"))
        return "eval";
    for (int64_t i = 0; i < o->n_probes; i++) {
        (void)snprintf(name, sizeof name, "probes.%.100s.accuracy", run->probes[i]);
        if (sow_eval_is_due(o->probes[i].every, step, o->run.steps) && !has_number(metrics, row, name))
            return o->probes[i].task.name;
    }
    return has_number(metrics, row, "norm") ? NULL : "norm";
}

static sow_code judge_metrics(report_run *run)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    for (int64_t row = 0; row < metrics->n_rows; row++) {
        const char *missing = find_missing(run, row);
        if (metrics->steps[row] != row)
            return report_run_reason(run, "metrics.jsonl: step %lld: the line is missing", (long long)row);
        if (missing != NULL)
            return report_run_reason(run, "metrics.jsonl: step %lld: %s is missing", (long long)row, missing);
    }
    if (metrics->n_rows != run->options.run.steps + 1)
        return report_run_reason(run, "metrics.jsonl: ends at step %lld of %lld", (long long)metrics->n_rows - 1,
                                 (long long)run->options.run.steps);
    return SOW_OK;
}

/* ---- Drift, KL, spectra ---- */

static bool has_drift(const report_run *run, int64_t row)
{
    return has_number(&run->frames[REPORT_DRIFT], row, "all.norm");
}

static bool has_kl(const report_run *run, int64_t row)
{
    const report_frame *kl = &run->frames[REPORT_KL];
    char name[REPORT_NAME];
    for (int64_t i = 0; i < run->options.n_probes; i++) {
        (void)snprintf(name, sizeof name, "probes.%.100s.kl_exact", run->probes[i]);
        if (!has_number(kl, row, name))
            return false;
    }
    return !has_target(run) || has_number(kl, row, "eval.kl_exact");
}

static bool has_spectra(const report_run *run, int64_t row)
{
    const report_frame *spectra = &run->frames[REPORT_SPECTRA];
    for (int64_t i = 0; i < spectra->n_columns; i++)
        if (strncmp(spectra->columns[i].name, "kinds.", 6) == 0 &&
            isfinite(report_column_at(&spectra->columns[i], row)))
            return true;
    return false;
}

static const struct {
    report_file file;
    bool (*is_due)(const sow_options *options, int64_t step);
    bool (*is_whole)(const report_run *run, int64_t row);
} planned[] = {{REPORT_DRIFT, sow_drift_is_due, has_drift},
               {REPORT_KL, sow_kl_is_due, has_kl},
               {REPORT_SPECTRA, sow_spectra_are_due, has_spectra}};

/* The first step whose line is missing, or lacks what every line has; a run that went on may have more lines. */
static sow_code judge_lines(report_run *run, size_t which)
{
    const report_frame *frame = &run->frames[planned[which].file];
    const char *name = report_file_names[planned[which].file];
    for (int64_t step = 0; step <= run->options.run.steps; step++) {
        int64_t row = report_frame_row(frame, step);
        if (!planned[which].is_due(&run->options, step))
            continue;
        if (row < 0)
            return report_run_reason(run, "%s: step %lld: the line is missing", name, (long long)step);
        if (!planned[which].is_whole(run, row))
            return report_run_reason(run, "%s: step %lld: the line is not whole", name, (long long)step);
    }
    return SOW_OK;
}

/* ---- Items: accuracy is the share of right ones ---- */

/* The share of right items of a record, NAN if it is none. */
static double share_of(const sow_json *record)
{
    size_t bytes = 0;
    const char *right = sow_json_to_string(sow_json_get(record, "right"), &bytes);
    int64_t n = 0;
    for (size_t i = 0; right != NULL && i < bytes; i++)
        n += right[i] == '1';
    return right == NULL || bytes == 0 ? (double)NAN : (double)n / (double)bytes;
}

/* One evaluation: what metrics say in `column` against the record; both or none. */
static sow_code judge_record(report_run *run, int64_t row, const char *what, const char *column, const sow_json *record)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    double said = report_column_at(report_frame_find(metrics, column), row), is = share_of(record);
    long long step = (long long)metrics->steps[row];
    if (isfinite(said) && isfinite(is) && fabs(said - is) > 1e-12)
        return report_run_reason(run, "metrics.jsonl: step %lld: accuracy of %s is %.6g, but items.jsonl has %.6g",
                                 step, what, said, is);
    if (isfinite(said) && !isfinite(is))
        return report_run_reason(run, "items.jsonl: step %lld: %s is missing", step, what);
    if (isfinite(is) && !isfinite(said))
        return report_run_reason(run, "metrics.jsonl: step %lld: %s is missing", step, what);
    return SOW_OK;
}

/* A line of items against its row of metrics; `line` NULL: there is none, and nothing may have been evaluated. */
static sow_code judge_items_of(report_run *run, int64_t row, const sow_json *line)
{
    const sow_json *list = sow_json_get(line, "items");
    size_t before = run->reasons.bytes;
    char name[REPORT_NAME];
    int64_t first = line == NULL ? 1 : sow_json_size(list) - run->options.n_probes; /* the target's stand in front */
    if (first != 0 && first != 1)
        return report_run_reason(run, "items.jsonl: step %lld: the line is not whole",
                                 (long long)run->frames[REPORT_METRICS].steps[row]);
    SOW_TRY(judge_record(run, row, "eval", "eval.accuracy", first == 1 ? sow_json_at(list, 0) : NULL));
    for (int64_t i = 0; i < run->options.n_probes && run->reasons.bytes == before; i++) {
        (void)snprintf(name, sizeof name, "probes.%.100s.accuracy", run->probes[i]);
        SOW_TRY(judge_record(run, row, run->probes[i], name, sow_json_at(list, first + i)));
    }
    return SOW_OK;
}

/* The rows of metrics up to `end` that have no line of items.  Only of a run that is done: a run at work may be between
 * two files. */
static sow_code judge_gap(report_run *run, int64_t *row, int64_t end)
{
    size_t before = run->reasons.bytes;
    for (; *row < end && run->reasons.bytes == before; ++*row)
        if (run->status.state == SOW_STATE_DONE)
            SOW_TRY(judge_items_of(run, *row, NULL));
    return SOW_OK;
}

static sow_code judge_item_lines(report_run *run, const char *text, size_t bytes)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    size_t before = run->reasons.bytes;
    int64_t next = 0;
    for (size_t at = 0, number = 1; at < bytes && run->reasons.bytes == before; number++) {
        const char *newline = memchr(text + at, '\n', bytes - at);
        char what[64];
        sow_json *line = NULL;
        int64_t step = -1;
        if (newline == NULL)
            break;
        (void)snprintf(what, sizeof what, "items.jsonl:%zu", number);
        SOW_TRY(sow_json_parse(text + at, (size_t)(newline - text) - at, what, &line));
        (void)sow_json_to_int(sow_json_get(line, "step"), &step);
        int64_t row = report_frame_row(metrics, step);
        sow_code rc = row < next ? SOW_OK : judge_gap(run, &next, row);
        if (rc == SOW_OK && row >= next && run->reasons.bytes == before) {
            rc = judge_items_of(run, row, line);
            next = row + 1;
        }
        sow_json_destroy(&line);
        SOW_TRY(rc);
        at = (size_t)(newline - text) + 1;
    }
    return run->reasons.bytes == before ? judge_gap(run, &next, metrics->n_rows) : SOW_OK;
}

static sow_code judge_items(report_run *run)
{
    char path[SOW_TEXT];
    sow_mapping map = {0};
    SOW_TRY(sow_file_join(run->folder, "items.jsonl", path, sizeof path));
    if (!sow_file_exists(path))
        return judge_item_lines(run, "", 0);
    sow_code rc = sow_file_map(path, &map);
    if (rc == SOW_OK)
        rc = judge_item_lines(run, (const char *)map.data, map.bytes);
    sow_file_unmap(&map);
    return rc == SOW_OK || rc == SOW_ENOMEM ? rc : report_run_reason(run, "%s", sow_error_text());
}

/* ---- All of it ---- */

sow_code report_run_judge(report_run *run)
{
    const sow_status *s = &run->status;
    bool is_done = s->state == SOW_STATE_DONE;
    if (is_done && strcmp(s->verdict, "VALID") != 0 && strcmp(s->verdict, "INVALID") != 0)
        SOW_TRY(report_run_reason(run, "status.json: verdict is '%s', expected one of a run that is done", s->verdict));
    SOW_TRY(judge_ledger(run));
    if (!run->has_options || run->frames[REPORT_METRICS].n_rows == 0)
        return SOW_OK;
    size_t before = run->reasons.bytes;
    if (is_done)
        SOW_TRY(judge_metrics(run));
    for (size_t i = 0; i < sizeof planned / sizeof *planned && is_done && run->reasons.bytes == before; i++)
        SOW_TRY(judge_lines(run, i));
    return run->reasons.bytes == before ? judge_items(run) : SOW_OK;
}
