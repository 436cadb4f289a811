// NEEDS: train conf base
/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of a run's folder: what is kept when a run goes on, and what a verdict asks of them. */
#include "check.h"

#include "sower/file.h"
#include "sower/folder.h"
#include "sower/options.h"

#include <string.h>

static char folder_path[80];

static void write_text(const char *name, const char *text)
{
    char path[256];
    CHECK_OK(sow_file_join(folder_path, name, path, sizeof path));
    CHECK_OK(sow_file_write(path, text, strlen(text)));
}

static void check_text(const char *name, const char *wanted)
{
    char path[256], *text = NULL;
    size_t bytes = 0;
    CHECK_OK(sow_file_join(folder_path, name, path, sizeof path));
    CHECK_OK(sow_file_read(path, 1 << 20, &text, &bytes));
    assert_string_equal(text, wanted);
    SOW_FREE(&text);
}

static sow_folder *open_folder(void)
{
    sow_folder *folder = NULL;
    (void)snprintf(folder_path, sizeof folder_path, "%s", check_folder());
    CHECK_OK(sow_folder_open(folder_path, &folder));
    return folder;
}

static void append_step(sow_folder *folder, sow_lines which, int64_t step)
{
    sow_line *line = NULL;
    CHECK_OK(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", step);
    sow_line_end_object(line);
    CHECK_OK(sow_folder_append(folder, which, line));
    sow_line_destroy(&line);
}

static void test_lines_when_a_run_goes_on_then_no_step_stands_twice(void **state)
{
    (void)state;
    int64_t last = 0, step = -1;
    sow_json *first = NULL;
    sow_folder *folder = open_folder();
    write_text("metrics.jsonl", "{\"step\": 0}\n{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n");
    write_text("items.jsonl", "{\"step\": 0, \"items\": [7]}\n{\"step\": 2}\n{\"step\": 4}\n");
    write_text("drift.jsonl", "{\"step\": 1}\n{\"step\": 2"); /* torn */
    CHECK_OK(sow_folder_open_lines(folder, 2, &last));
    assert_int_equal(last, 2);
    CHECK_OK(sow_folder_first(folder, SOW_LINES_ITEMS, &first));
    assert_true(sow_json_to_int(sow_json_get(first, "step"), &step) && step == 0);
    assert_int_equal(sow_json_size(sow_json_get(first, "items")), 1);
    sow_json_destroy(&first);
    CHECK_OK(sow_folder_first(folder, SOW_LINES_KL, &first));
    assert_null(first);
    append_step(folder, SOW_LINES_ITEMS, 3);
    append_step(folder, SOW_LINES_KL, 3);
    sow_folder_close(&folder);
    check_text("metrics.jsonl", "{\"step\": 0}\n{\"step\": 1}\n{\"step\": 2}\n");
    check_text("items.jsonl", "{\"step\": 0, \"items\": [7]}\n{\"step\": 2}\n{\"step\": 3}\n");
    check_text("drift.jsonl", "{\"step\": 1}\n");
    check_text("kl.jsonl", "{\"step\": 3}\n");
}

/* The ledger is ahead of the metrics: what was written of the step without its line is written again. */
static void test_lines_when_metrics_are_behind_then_the_others_are_cut_to_them(void **state)
{
    (void)state;
    int64_t last = 0;
    sow_folder *folder = open_folder();
    write_text("metrics.jsonl", "{\"step\": 0}\n{\"step\": 1}\n");
    write_text("items.jsonl", "{\"step\": 0}\n{\"step\": 2}\n");
    CHECK_OK(sow_folder_open_lines(folder, 2, &last));
    assert_int_equal(last, 1);
    sow_folder_close(&folder);
    check_text("items.jsonl", "{\"step\": 0}\n");
}

static void test_lock_when_a_run_has_the_folder_then_no_second_one_gets_it(void **state)
{
    (void)state;
    sow_status status = {.state = SOW_STATE_RUNNING, .step = 1, .steps = 2};
    sow_folder *first = open_folder(), *second = NULL;
    CHECK_OK(sow_folder_write_status(first, &status));
    CHECK_OK(sow_folder_read_status(folder_path, &status));
    assert_int_equal(status.state, SOW_STATE_RUNNING); /* there is no lock to ask */
    CHECK_OK(sow_folder_lock(first));
    CHECK_OK(sow_folder_open(folder_path, &second));
    assert_int_equal(sow_folder_lock(second), SOW_ECONF);
    assert_non_null(strstr(sow_error_text(), "is held by a run at work"));
    CHECK_OK(sow_folder_read_status(folder_path, &status)); /* closes the file again, which must not end the lock */
    assert_int_equal(status.state, SOW_STATE_RUNNING);
    assert_int_equal(sow_folder_lock(second), SOW_ECONF);
    sow_folder_close(&first);
    CHECK_OK(sow_folder_read_status(folder_path, &status));
    assert_int_equal(status.state, SOW_STATE_DIED);
    CHECK_OK(sow_folder_lock(second));
    CHECK_OK(sow_folder_read_status(folder_path, &status));
    assert_int_equal(status.state, SOW_STATE_RUNNING);
    sow_folder_close(&second);
    write_text("lock", "another-machine 7\n");
    CHECK_OK(sow_folder_read_status(folder_path, &status));
    assert_int_equal(status.state, SOW_STATE_RUNNING); /* perhaps it is at work over there */
}

static const char *kl_lines; /* NULL: no such file */

static void judge(const sow_options *options, const char *metrics, const char *verdict, const char *reason)
{
    sow_status status = {0};
    sow_folder *folder = open_folder();
    write_text("metrics.jsonl", metrics);
    if (kl_lines != NULL)
        write_text("kl.jsonl", kl_lines);
    CHECK_OK(sow_folder_judge(folder, options, &status));
    assert_string_equal(status.verdict, verdict);
    if (strstr(status.verdict_reasons, reason) == NULL)
        fail_msg("'%s' lacks '%s'", status.verdict_reasons, reason);
    sow_folder_close(&folder);
}

#define PROBE_0 "{\"step\": 0, \"probes\": [{\"accuracy\": 1.0, \"lost\": 0.0}]}\n"
#define STEP_1  "{\"step\": 1, \"norm\": 1.0, \"probes\": [null]}\n"
#define PROBE_2 "{\"step\": 2, \"norm\": 1.0, \"probes\": [{\"accuracy\": 1.0, \"lost\": 0.5}]}\n"

static void test_judge_when_a_planned_measure_is_missing_then_invalid_with_its_step(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_finish(conf, NULL));
    sow_options o = *sow_conf_options(conf);
    sow_conf_destroy(&conf);
    o.run.steps = 2;
    o.n_probes = 1;
    o.probes[0].every = 2;
    (void)snprintf(o.probes[0].task.name, sizeof o.probes[0].task.name, "calc");
    judge(&o, PROBE_0 STEP_1 PROBE_2, "VALID", "");
    judge(&o, PROBE_0 STEP_1, "INVALID", "step 2: the line of metrics is missing");
    judge(&o, PROBE_0 PROBE_2, "INVALID", "step 1: the line of metrics is missing");
    judge(&o, PROBE_0 STEP_1 "{\"step\": 2, \"norm\": 1.0, \"probes\": [null]}\n", "INVALID",
          "step 2: calc is missing");
    judge(&o, PROBE_0 STEP_1 "{\"step\": 2, \"norm\": 1.0, \"probes\": [{\"accuracy\": 1.0, \"lost\": null}]}\n",
          "INVALID", "step 2: calc is missing");
    judge(&o, PROBE_0 "{\"step\": 1, \"norm\": null, \"probes\": [null]}\n" PROBE_2, "INVALID",
          "step 1: norm is missing");
    o.measure.kl_rows = 5;
    o.measure.kl_every = 1;
    judge(&o, PROBE_0 STEP_1 PROBE_2, "INVALID", "step 1: kl.jsonl is missing; step 2: kl.jsonl is missing");
    kl_lines = "{\"step\": 1, \"probes\": []}\n";
    judge(&o, PROBE_0 STEP_1 PROBE_2, "INVALID", "step 2: kl.jsonl is missing");
    o.measure.kl_every = 0; /* the run went on: its first end is no planned step any more */
    kl_lines = "{\"step\": 1, \"probes\": []}\n{\"step\": 2, \"probes\": []}\n";
    judge(&o, PROBE_0 STEP_1 PROBE_2, "VALID", "");
    kl_lines = "{\"step\": 1, \"probes\": []}\n{\"step\": 2}\n";
    judge(&o, PROBE_0 STEP_1 PROBE_2, "INVALID", "step 2: kl.jsonl is missing");
    o.measure.spectra = true;
    judge(&o, PROBE_0 STEP_1 PROBE_2, "INVALID", "step 2: spectra.jsonl is missing");
    kl_lines = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_when_a_run_goes_on_then_no_step_stands_twice),
        cmocka_unit_test(test_lines_when_metrics_are_behind_then_the_others_are_cut_to_them),
        cmocka_unit_test(test_lock_when_a_run_has_the_folder_then_no_second_one_gets_it),
        cmocka_unit_test(test_judge_when_a_planned_measure_is_missing_then_invalid_with_its_step),
    };
    return cmocka_run_group_tests_name("folder", tests, NULL, check_live_zero);
}
