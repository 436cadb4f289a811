/* SPDX-License-Identifier: Apache-2.0 */
/* One run's folder: what it says of itself, its numbers, and what is wrong with it.
 *
 * Only a folder that is none of a run is refused.  Whatever else is missing or broken becomes a reason, and the page
 * shows the run as INVALID with it: a comparison is worth as much as its worst run. */
#include "report_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const report_file_names[REPORT_N_FILES] = {"metrics.jsonl", "drift.jsonl", "kl.jsonl", "spectra.jsonl"};
/* Left out of the frames: hundreds of numbers that no figure shows. */
static const char *const skipped[REPORT_N_FILES] = {NULL, "tensors", NULL, "tensors"};

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
    SOW_TRY(report_run_derive(run));
    return report_run_judge(run);
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
