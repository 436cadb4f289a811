/* SPDX-License-Identifier: Apache-2.0 */
/* One run's folder: what it says of itself, its numbers, and what is wrong with it.
 *
 * Only a folder that is none of a run is refused.  Whatever else is missing or broken becomes a reason, and the page
 * shows the run as INVALID with it: a comparison is worth as much as its worst run. */
#include "report_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"
#include "sower/ledger.h"
#include "sower/stats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const report_file_names[REPORT_N_FILES] = {"metrics.jsonl", "drift.jsonl", "kl.jsonl", "spectra.jsonl"};
/* Left out of the frames: hundreds of numbers that no figure shows. */
static const char *const skipped[REPORT_N_FILES] = {NULL, "tensors", NULL, NULL};

/* ---- Reasons and facts ---- */

/* Text of strangers on one line: control characters become ?. */
static void clean(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

sow_code report_run_reason(report_run *run, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    clean(text);
    return sow_words_print(&run->reasons, "%s%s", run->reasons.bytes > 0 ? "; " : "", text);
}

const char *report_run_fact(const report_run *run, const char *key)
{
    const char *text = sow_json_to_string(sow_json_get(run->facts, key), NULL);
    return text == NULL ? "" : text;
}

double report_run_number(const report_run *run, const char *key)
{
    double value = (double)NAN;
    (void)sow_json_to_real(sow_json_get(run->facts, key), &value);
    return value;
}

const char *report_run_setting(const report_run *run, const char *key)
{
    for (int64_t i = 0; i < run->n_settings; i++)
        if (strcmp(run->settings[i].key, key) == 0)
            return run->settings[i].value;
    return NULL;
}

const char *report_run_verdict(const report_run *run)
{
    if (run->reasons.bytes > 0 || strcmp(run->status.verdict, "INVALID") == 0)
        return "INVALID";
    return run->status.state == SOW_STATE_DONE ? "VALID" : "UNFINISHED";
}

int64_t report_run_end(const report_run *run)
{
    return run->last_row < 0 ? -1 : run->frames[REPORT_METRICS].steps[run->last_row];
}

/* ---- Columns made of others ---- */

/* The value of column PREFIX.NAME.SUFFIX; empty parts are left out. */
static double value_at(const report_frame *frame, int64_t row, const char *prefix, const char *name, const char *suffix)
{
    char path[3 * REPORT_NAME];
    (void)snprintf(path, sizeof path, "%s%s%s%s%s", prefix, name[0] != '\0' ? "." : "", name,
                   suffix[0] != '\0' ? "." : "", suffix);
    return report_column_at(report_frame_find(frame, path), row);
}

/* Probes in the order of their list.  Multiple choice by log-likelihood is a kind of its own: it forgets least. */
static void name_probes(report_run *run)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    for (int64_t i = 0; i < metrics->n_items; i++) {
        const struct report_item *item = &metrics->items[i];
        if (strcmp(item->path, "probes") != 0 || item->index < 0 || item->index >= SOW_MAX_PROBES)
            continue;
        (void)snprintf(run->probes[item->index], REPORT_NAME, "%s", item->name);
        run->n_probes = item->index + 1 > run->n_probes ? item->index + 1 : run->n_probes;
    }
    for (int64_t i = 0; i < run->n_probes; i++)
        run->is_choice[i] = strncmp(run->probes[i], "mc", strcspn(run->probes[i], "#")) == 0;
}

/* The mean accuracy over the probes of a kind if all of them were measured, with Wilson's interval over all their
 * rows. */
static sow_code derive_mean(report_run *run, int64_t row, const char *name, bool is_choice)
{
    report_frame *metrics = &run->frames[REPORT_METRICS];
    double sum = 0, rows = 0, low = 0, high = 1;
    char path[REPORT_NAME];
    int64_t n = 0;
    for (int64_t i = 0; i < run->n_probes; i++) {
        if (run->is_choice[i] != is_choice)
            continue;
        sum += value_at(metrics, row, "probes", run->probes[i], "accuracy");
        rows += value_at(metrics, row, "probes", run->probes[i], "rows");
        n++;
    }
    if (n == 0 || !isfinite(sum))
        return SOW_OK;
    SOW_TRY(report_frame_set(metrics, name, row, sum / (double)n));
    if (!(rows > 0 && rows < 1e15))
        return SOW_OK;
    sow_stats_wilson((int64_t)(sum / (double)n * rows + 0.5), (int64_t)rows, &low, &high);
    (void)snprintf(path, sizeof path, "%s.low", name);
    SOW_TRY(report_frame_set(metrics, path, row, low));
    (void)snprintf(path, sizeof path, "%s.high", name);
    return report_frame_set(metrics, path, row, high);
}

/* What a step took: its own numbers, whichever way its method writes them. */
typedef struct spent {
    double tokens, flops, seconds;
} spent;

static double seconds_of_phases(const report_run *run, int64_t row)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    double sum = 0;
    for (int64_t i = 0; i < metrics->n_columns; i++) {
        const char *name = metrics->columns[i].name;
        size_t length = strlen(name);
        if (strncmp(name, "phases.", 7) == 0 && length > 4 && strcmp(name + length - 4, ".avg") == 0) {
            double s = report_column_at(&metrics->columns[i], row);
            sum += isfinite(s) ? s : 0;
        }
    }
    return sum;
}

static void add_spent(const report_run *run, int64_t row, spent *total)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    double tokens = value_at(metrics, row, "tokens", "", ""), all = value_at(metrics, row, "num_tokens", "", "");
    double flops = value_at(metrics, row, "flops", "", ""), rate = value_at(metrics, row, "flops_per_s", "", "");
    double eval_s = value_at(metrics, row, "eval_s", "", ""), update_s = value_at(metrics, row, "update_s", "", "");
    total->tokens = isfinite(all) ? all : total->tokens + (isfinite(tokens) ? tokens : 0);
    total->flops += isfinite(flops) ? flops : isfinite(rate * eval_s) ? rate * eval_s : 0;
    total->seconds += isfinite(eval_s) ? eval_s + (isfinite(update_s) ? update_s : 0) : seconds_of_phases(run, row);
}

/* |theta_0|, by a record of drift; NAN if there is none. */
static double base_norm(const report_run *run)
{
    const report_frame *drift = &run->frames[REPORT_DRIFT];
    const report_column *norm = report_frame_find(drift, "all.norm"), *share = report_frame_find(drift, "all.relative");
    for (int64_t row = drift->n_rows - 1; row >= 0; row--) {
        double base = report_column_at(norm, row) / report_column_at(share, row);
        if (isfinite(base) && base > 0)
            return base;
    }
    return (double)NAN;
}

static sow_code derive_target(report_run *run, int64_t row)
{
    static const char *const from[] = {"accuracy", "low", "high"}, *const to[] = {"target", "target.low",
                                                                                  "target.high"};
    report_frame *metrics = &run->frames[REPORT_METRICS];
    for (int i = 0; i < 3; i++)
        SOW_TRY(report_frame_set(metrics, to[i], row, value_at(metrics, row, "eval", from[i], "")));
    return SOW_OK;
}

static sow_code derive_row(report_run *run, int64_t row, double base, bool has_plain_probes, spent *total)
{
    report_frame *metrics = &run->frames[REPORT_METRICS];
    double norm = value_at(metrics, row, "norm", "", ""), law = value_at(metrics, row, "norm_law", "", "");
    if (metrics->steps[row] == 0)
        SOW_TRY(report_frame_set(metrics, "norm", row, isfinite(norm) ? (double)NAN : 0));
    norm = metrics->steps[row] == 0 ? 0 : norm;
    SOW_TRY(derive_target(run, row));
    SOW_TRY(derive_mean(run, row, "prior", !has_plain_probes));
    SOW_TRY(derive_mean(run, row, "choice", true));
    add_spent(run, row, total);
    SOW_TRY(report_frame_set(metrics, "total.tokens", row, total->tokens));
    SOW_TRY(report_frame_set(metrics, "total.flops", row, total->flops));
    SOW_TRY(report_frame_set(metrics, "total.seconds", row, total->seconds));
    SOW_TRY(report_frame_set(metrics, "relative_norm", row, norm / base));
    SOW_TRY(report_frame_set(metrics, "norm_per_law", row, norm / law));
    bool is_evaluated =
        isfinite(value_at(metrics, row, "target", "", "")) || isfinite(value_at(metrics, row, "prior", "", ""));
    run->last_row = is_evaluated ? row : run->last_row;
    return SOW_OK;
}

static sow_code derive(report_run *run)
{
    spent total = {0};
    double base = base_norm(run);
    bool has_plain_probes = false;
    for (int64_t i = 0; i < run->n_probes; i++)
        has_plain_probes = has_plain_probes || !run->is_choice[i];
    for (int64_t row = 0; row < run->frames[REPORT_METRICS].n_rows; row++)
        SOW_TRY(derive_row(run, row, base, has_plain_probes, &total));
    return SOW_OK;
}

/* ---- Configuration ---- */

static sow_code add_setting(void *context, const sow_setting *setting)
{
    report_run *run = context;
    SOW_TRY(SOW_GROW(&run->settings, &run->settings_capacity, run->n_settings));
    report_setting *s = &run->settings[run->n_settings++];
    s->is_free = setting->is_free;
    SOW_TRY(sow_alloc_string(&s->key, setting->key));
    SOW_TRY(sow_alloc_string(&s->value, setting->value));
    return sow_alloc_string(&s->default_value, setting->default_value);
}

static sow_code read_config(report_run *run)
{
    char path[SOW_TEXT];
    sow_conf *conf = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_file_join(run->folder, "config.yaml", path, sizeof path));
    SOW_TRY(sow_conf_create(&conf));
    SOW_TRY_OR(rc, sow_conf_load(conf, path));
    SOW_TRY_OR(rc, sow_conf_finish(conf, NULL));
    run->options = *sow_conf_options(conf);
    run->has_options = true;
    SOW_TRY_OR(rc, sow_conf_settings(&run->options, add_setting, run));
done:
    sow_conf_destroy(&conf);
    return rc;
}

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

/* Planned evaluations of a run that is done. */
static sow_code judge_metrics(report_run *run)
{
    sow_folder *folder = NULL;
    sow_status status = run->status;
    if (run->status.state != SOW_STATE_DONE || !run->has_options)
        return SOW_OK;
    SOW_TRY(sow_folder_open(run->folder, &folder));
    sow_code rc = sow_folder_judge(folder, &run->options, &status);
    sow_folder_close(&folder);
    if (rc != SOW_OK)
        return rc == SOW_ENOMEM ? rc : report_run_reason(run, "%s", sow_error_text());
    bool is_known = strcmp(run->status.verdict, "INVALID") == 0;
    return strcmp(status.verdict, "INVALID") == 0 && !is_known ? report_run_reason(run, "%s", status.verdict_reasons)
                                                               : SOW_OK;
}

/* ---- All of it ---- */

static sow_code read_frames(report_run *run)
{
    sow_words trouble = {0};
    sow_code rc = SOW_OK;
    for (int i = 0; i < REPORT_N_FILES; i++) {
        SOW_TRY_OR(rc, report_frame_read(run->folder, report_file_names[i], skipped[i], &run->frames[i], &trouble));
        if (run->frames[i].has_torn_end && run->status.state == SOW_STATE_DONE)
            SOW_TRY_OR(rc, report_run_reason(run, "%s: the last line is torn", report_file_names[i]));
    }
    if (trouble.bytes > 0)
        SOW_TRY_OR(rc, report_run_reason(run, "%s", trouble.text));
    if (run->frames[REPORT_METRICS].n_rows == 0 && trouble.bytes == 0)
        SOW_TRY_OR(rc, report_run_reason(run, "metrics.jsonl: has no line"));
done:
    sow_words_fini(&trouble);
    return rc;
}

/* The folder's last part that is none of "", ".". */
static sow_code name_run(report_run *run)
{
    size_t end = strlen(run->folder), begin = 0;
    while (end > 1 && run->folder[end - 1] == '/')
        end--;
    begin = end;
    while (begin > 0 && run->folder[begin - 1] != '/')
        begin--;
    sow_words name = {0};
    sow_code rc = sow_words_add(&name, run->folder + begin, end - begin);
    if (rc == SOW_OK)
        rc = sow_alloc_string(&run->name, name.text);
    sow_words_fini(&name);
    if (rc == SOW_OK)
        clean(run->name);
    return rc;
}

/* A file that must be there; what is wrong with it is a reason. */
static sow_code or_reason(report_run *run, sow_code rc)
{
    return rc == SOW_OK || rc == SOW_ENOMEM ? rc : report_run_reason(run, "%s", sow_error_text());
}

sow_code report_run_read(const char *folder, report_run *run)
{
    char path[SOW_TEXT];
    run->last_row = -1;
    SOW_TRY(sow_file_join(folder, "status.json", path, sizeof path));
    if (!sow_file_exists(path))
        return SOW_FAIL(SOW_EIO, "%s: is not there, expected the folder of a run", path);
    SOW_TRY(sow_folder_read_status(folder, &run->status));
    clean(run->status.reason);
    clean(run->status.verdict_reasons);
    SOW_TRY(sow_alloc_string(&run->folder, folder));
    SOW_TRY(name_run(run));
    SOW_TRY(or_reason(run, read_config(run)));
    SOW_TRY(sow_file_join(folder, "run.json", path, sizeof path));
    SOW_TRY(or_reason(run, sow_json_load(path, &run->facts)));
    SOW_TRY(read_frames(run));
    (void)snprintf(run->task, sizeof run->task, "%.63s", run->has_options ? run->options.task.name : "target");
    clean(run->task);
    name_probes(run);
    SOW_TRY(derive(run));
    SOW_TRY(judge_ledger(run));
    return judge_metrics(run);
}

void report_run_fini(report_run *run)
{
    for (int i = 0; i < REPORT_N_FILES; i++)
        report_frame_fini(&run->frames[i]);
    for (int64_t i = 0; i < run->n_settings; i++) {
        SOW_FREE(&run->settings[i].key);
        SOW_FREE(&run->settings[i].value);
        SOW_FREE(&run->settings[i].default_value);
    }
    SOW_FREE(&run->settings);
    sow_words_fini(&run->reasons);
    sow_json_destroy(&run->facts);
    SOW_FREE(&run->name);
    SOW_FREE(&run->folder);
}
