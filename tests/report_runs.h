/* SPDX-License-Identifier: Apache-2.0 */
/* Made-up runs for the tests of reports, below a folder of the test's own, and looks at what a report says of them. */
#ifndef SOWER_TESTS_REPORT_RUNS_H
#define SOWER_TESTS_REPORT_RUNS_H

#include "check.h"

#include "sower/file.h"
#include "sower/json.h"
#include "sower/ledger.h"
#include "sower/options.h"
#include "sower/report.h"

#include <string.h>

static char top[64];

static inline int make_top(void **state)
{
    (void)state;
    (void)snprintf(top, sizeof top, "%s", check_folder());
    return 0;
}

static inline void path_of(const char *run, const char *file, char out[SOW_TEXT])
{
    char folder[SOW_TEXT];
    CHECK_OK(sow_file_join(top, run, folder, sizeof folder));
    CHECK_OK(sow_file_make_folder(folder));
    CHECK_OK(sow_file_join(folder, file, out, SOW_TEXT));
}

static inline void write_file(const char *run, const char *file, const char *text)
{
    char path[SOW_TEXT];
    path_of(run, file, path);
    CHECK_OK(sow_file_write(path, text, strlen(text)));
}

static inline sow_conf *parse(const char *yaml)
{
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_parse(conf, yaml, strlen(yaml), "test"));
    CHECK_OK(sow_conf_finish(conf, NULL));
    return conf;
}

/* A ledger of two generations of 30 members, as a run with these options writes it. */
static inline void write_ledger(const char *run, const sow_options *options)
{
    static const double fitness[30] = {0.25, 0.5};
    const sow_ledger_facts facts = {"fp16", "model", "tokenizer", "generated", "exact", 0, 12, "none", 0};
    sow_ledger_writer *writer = NULL;
    char *header = NULL, path[SOW_TEXT];
    path_of(run, "ledger.jsonl", path);
    CHECK_OK(sow_ledger_header(options, &facts, &header));
    CHECK_OK(sow_ledger_create(path, header, &writer));
    for (int64_t g = 1; g <= 2; g++)
        CHECK_OK(sow_ledger_write(writer, g, fitness, 30, sow_hash_bytes("x", 1)));
    sow_ledger_close(&writer);
    SOW_FREE(&header);
}

/* A line of items.jsonl: 100 items each of the target and the probes, of which these shares are right. */
static inline void add_items(sow_words *out, int step, int n, const double *shares)
{
    static const char *const tasks[] = {"countdown", "calc", "mc"};
    CHECK_OK(sow_words_print(out, "{\"step\": %d, \"items\": [", step));
    for (int i = 0; i < n; i++) {
        CHECK_OK(sow_words_print(out, "%s{\"task\": \"%s\", \"rows\": 100, \"digest\": \"d\", \"right\": \"",
                                 i > 0 ? ", " : "", tasks[3 - n + i]));
        for (int k = 0; k < 100; k++)
            CHECK_OK(sow_words_print(out, "%d", k < (int)(100 * shares[i] + 0.5)));
        CHECK_OK(sow_words_print(out, "\"}"));
    }
    CHECK_OK(sow_words_print(out, "]}\n"));
}

/* The items of steps 0 and 2: of target, calc and mc (n 3), or of the probes alone (n 2). */
static inline void write_items(const char *run, int n, const double *begin, const double *end)
{
    sow_words text = {0};
    add_items(&text, 0, n, begin);
    add_items(&text, 2, n, end);
    write_file(run, "items.jsonl", text.text);
    sow_words_fini(&text);
}

#define DRIFT_LINE "{\"step\": 2, \"all\": {\"n\": 100, \"norm\": 4.0}}\n"

/* A run of two steps that is done: target 0.2 -> `target`, prior 1 -> `prior`; `settings` are lines of YAML. */
static inline void make_run(const char *run, int seed, double target, double prior, const char *settings)
{
    char yaml[1024], metrics[2048];
    (void)snprintf(yaml, sizeof yaml,
                   "model: {path: base}\nrun: {seed: %d, steps: 2}\ntask: {name: countdown}\n"
                   "probes: [{task: calc, rows: 100, every: 2}, {task: mc, rows: 100, every: 2}]\n%s\n",
                   seed, settings);
    (void)snprintf(
        metrics, sizeof metrics,
        "{\"step\": 0, \"eval\": {\"task\": \"countdown\", \"rows\": 100, \"accuracy\": 0.2, \"low\": 0.13, "
        "\"high\": 0.29}, \"probes\": [{\"task\": \"calc\", \"rows\": 100, \"accuracy\": 1.0, \"low\": 0.96, "
        "\"high\": 1.0}, {\"task\": \"mc\", \"rows\": 100, \"accuracy\": 0.9}]}\n"
        "{\"step\": 1, \"norm\": 3.0, \"norm_law\": 3.0, \"tokens\": 1000, \"eval_s\": 2.0, \"update_s\": 0.5, "
        "\"flops_per_s\": 1e9, \"probes\": [null, null]}\n"
        "{\"step\": 2, \"norm\": 4.0, \"norm_law\": 5.0, \"tokens\": 1000, \"eval_s\": 2.0, \"update_s\": 0.5, "
        "\"flops_per_s\": 1e9, \"eval\": {\"task\": \"countdown\", \"rows\": 100, \"accuracy\": %g, \"low\": "
        "0.4, \"high\": 0.6}, \"probes\": [{\"task\": \"calc\", \"rows\": 100, \"accuracy\": %g}, {\"task\": "
        "\"mc\", \"rows\": 100, \"accuracy\": 0.8}]}\n",
        target, prior);
    sow_conf *conf = parse(yaml);
    write_ledger(run, sow_conf_options(conf));
    sow_conf_destroy(&conf);
    write_file(run, "config.yaml", yaml);
    write_file(run, "metrics.jsonl", metrics);
    write_file(run, "run.json", "{\"model_digest\": \"d0\", \"numerics\": 1, \"parameters\": 100}");
    write_file(run, "status.json",
               "{\"state\": \"done\", \"step\": 2, \"steps\": 2, \"reason\": \"\", \"verdict\": \"VALID\", "
               "\"verdict_reasons\": \"\"}");
    write_items(run, 3, (const double[]){0.2, 1.0, 0.9}, (const double[]){target, prior, 0.8});
    write_file(run, "drift.jsonl", DRIFT_LINE);
    write_file(run, "kl.jsonl", "");
    write_file(run, "spectra.jsonl", "");
}

/* Puts `to` in the place of the last `from` of a file. */
static inline void change_file(const char *run, const char *file, const char *from, const char *to)
{
    char path[SOW_TEXT], *text = NULL;
    size_t bytes = 0;
    sow_words changed = {0};
    path_of(run, file, path);
    CHECK_OK(sow_file_read(path, 1 << 20, &text, &bytes));
    const char *at = NULL;
    for (const char *next = strstr(text, from); next != NULL; next = strstr(next + 1, from))
        at = next;
    assert_non_null(at);
    CHECK_OK(sow_words_print(&changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)));
    write_file(run, file, changed.text);
    sow_words_fini(&changed);
    SOW_FREE(&text);
}

/* Opens a report of these runs below `top`. */
static inline sow_report *report_of(int n, const char *const *runs)
{
    static char paths[8][SOW_TEXT];
    char *folders[8];
    sow_report *report = NULL;
    for (int i = 0; i < n; i++) {
        CHECK_OK(sow_file_join(top, runs[i], paths[i], SOW_TEXT));
        folders[i] = paths[i];
    }
    CHECK_OK(sow_report_open(folders, n, &report));
    return report;
}
#define REPORT_OF(...)                                                                                                 \
    report_of((int)(sizeof(const char *[]){__VA_ARGS__} / sizeof(const char *)), (const char *const[]){__VA_ARGS__})

/* Item i as parsed JSON. */
static inline sow_json *item(const sow_report *report, int64_t i)
{
    sow_line *line = NULL;
    const char *text = NULL;
    sow_json *json = NULL;
    CHECK_OK(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    CHECK_OK(sow_report_put(line, report, i));
    sow_line_end_object(line);
    CHECK_OK(sow_line_text(line, &text));
    CHECK_OK(sow_json_parse(text, strlen(text), "item", &json));
    sow_line_destroy(&line);
    return json;
}

static inline void check_text(const sow_json *json, const char *key, const char *want)
{
    const char *text = sow_json_to_string(sow_json_get(json, key), NULL);
    if (text == NULL || strcmp(text, want) != 0)
        fail_msg("%s: '%s', expected '%s'", key, text == NULL ? "(none)" : text, want);
}

static inline void check_has(const sow_json *json, const char *key, const char *words)
{
    const char *text = sow_json_to_string(sow_json_get(json, key), NULL);
    if (text == NULL || strstr(text, words) == NULL)
        fail_msg("%s: '%s' lacks '%s'", key, text == NULL ? "(none)" : text, words);
}

static inline double number(const sow_json *json, const char *key, const char *inner)
{
    double value = (double)NAN;
    const sow_json *node = sow_json_get(json, key);
    (void)sow_json_to_real(inner == NULL ? node : sow_json_get(node, inner), &value);
    return value;
}

/* The whole page; free with SOW_FREE. */
static inline char *page_of(sow_report *report)
{
    char path[SOW_TEXT], *text = NULL;
    size_t bytes = 0;
    path_of("out", "page.html", path);
    CHECK_OK(sow_report_write_page(report, path, NULL));
    CHECK_OK(sow_file_read(path, 64 << 20, &text, &bytes));
    assert_int_equal(strlen(text), bytes);
    return text;
}

#endif
