// NEEDS: base conf train report
/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "sower/alloc.h"
#include "sower/file.h"
#include "sower/table.h"

#include <string.h>

static char folder[64];

static void write_file(const char *name, const char *text)
{
    char path[SOW_TEXT];
    assert_int_equal(sow_file_join(folder, name, path, sizeof path), SOW_OK);
    assert_int_equal(sow_file_write(path, text, strlen(text)), SOW_OK);
}

/* A run of two generations at work: the last line of each file is torn. */
static int make_run(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s", check_folder());
    write_file("status.json",
               "{\"state\": \"running\", \"step\": 2, \"steps\": 9, \"reason\": \"\", \"verdict\": \"\", "
               "\"verdict_reasons\": \"\"}\n");
    write_file(
        "metrics.jsonl",
        "{\"step\": 0, \"eval\": {\"task\": \"countdown\", \"rows\": 10, \"accuracy\": 0.2, \"low\": 0.1, \"high\": "
        "0.4, "
        "\"reward\": 0.3}, \"probes\": [{\"task\": \"calc\", \"accuracy\": 1.0}, {\"task\": \"rev\", \"accuracy\": "
        "0.5}]}\n"
        "{\"step\": 1, \"norm\": 2.0, \"norm_law\": 2.1, \"tokens_per_s\": 100.0, \"probes\": [null, null]}\n"
        "{\"step\": 2, \"norm\": 3.0, \"norm_law\": 3.1, \"tokens_per_s\": 120.0, \"probes\": [{\"task\": \"calc\", "
        "\"accuracy\": 0.9}, null]}\n"
        "{\"step\": 3, \"eval\": {\"task\"");
    write_file("samples.jsonl",
               "{\"step\": 0, \"row\": 0, \"prompt\": \"a\", \"completion\": \"old\", \"reward\": 0.1}\n"
               "{\"step\": 0, \"row\": 1, \"prompt\": \"b\\nc\", \"completion\": \"only\", \"reward\": 0.2}\n"
               "{\"step\": 1, \"row\": 0, \"prompt\": \"a\", \"completion\": \"middle\", \"reward\": 0.3}\n"
               "{\"step\": 2, \"row\": 0, \"prompt\": \"a\", \"completion\": \"new\", \"reward\": 1.1}\n");
    return 0;
}

static void test_read_of_a_run_at_work_takes_whole_lines_only(void **state)
{
    (void)state;
    sow_table *t = NULL;
    assert_int_equal(sow_table_read(folder, &t), SOW_OK);
    assert_int_equal(t->status.state, SOW_STATE_RUNNING);
    assert_string_equal(t->task, "countdown");
    assert_int_equal(t->n_probes, 2);
    assert_string_equal(t->probes[1], "rev");
    assert_int_equal(t->n_rows, 2); /* step 1 measured no task */
    assert_int_equal(t->rows[1].step, 2);
    CHECK_NEAR(t->rows[0].prior, 0.75, 1e-15);
    assert_true(isnan(t->rows[1].prior)); /* one probe is missing */
    assert_true(isnan(t->rows[1].accuracy));
    CHECK_NEAR(t->rows[1].norm, 3, 0);
    CHECK_NEAR(t->tokens_per_s, 120, 0);
    sow_table_destroy(&t);
    assert_null(t);
}

/* Multiple choice is no part of the prior; where there is nothing else, there is no prior. */
static void test_read_of_multiple_choice_keeps_it_out_of_the_prior(void **state)
{
    sow_table *t = NULL;
    write_file("metrics.jsonl",
               "{\"step\": 0, \"probes\": [{\"task\": \"calc\", \"accuracy\": 0.5}, {\"task\": \"mc\", \"accuracy\": "
               "1.0}]}\n{\"step\": 1, \"probes\": [{\"task\": \"calc\", \"accuracy\": 0.25}, null]}\n");
    assert_int_equal(sow_table_read(folder, &t), SOW_OK);
    CHECK_NEAR(t->rows[0].prior, 0.5, 0);
    CHECK_NEAR(t->rows[1].prior, 0.25, 0);
    sow_table_destroy(&t);
    write_file("metrics.jsonl", "{\"step\": 0, \"probes\": [{\"task\": \"mc\", \"accuracy\": 1.0}]}\n");
    assert_int_equal(sow_table_read(folder, &t), SOW_OK);
    assert_true(isnan(t->rows[0].prior));
    CHECK_NEAR(t->rows[0].probes[0], 1, 0);
    sow_table_destroy(&t);
    assert_int_equal(make_run(state), 0);
}

static void test_samples_of_a_row_keep_the_first_and_the_last(void **state)
{
    (void)state;
    sow_table *t = NULL;
    assert_int_equal(sow_table_read(folder, &t), SOW_OK);
    assert_int_equal(t->n_samples, 2);
    assert_string_equal(t->samples[0].completions[0], "old");
    assert_string_equal(t->samples[0].completions[1], "new");
    assert_int_equal(t->samples[0].steps[1], 2);
    assert_null(t->samples[1].completions[1]);
    sow_table_destroy(&t);
}

static void test_write_escapes_lines_and_marks_what_is_missing(void **state)
{
    (void)state;
    sow_table *t = NULL;
    sow_words text = {0};
    assert_int_equal(sow_table_read(folder, &t), SOW_OK);
    assert_int_equal(sow_table_write(t, &text), SOW_OK);
    assert_non_null(strstr(text.text, "running: 2 of 9 steps"));
    assert_non_null(strstr(text.text, "b\\nc"));
    const char *row = strstr(text.text, "\n     2 ");
    assert_non_null(row);
    assert_non_null(strstr(row, "  90.0      -      -"));
    sow_words_fini(&text);
    sow_table_destroy(&t);
}

static void test_put_gives_one_object_with_null_for_what_is_missing(void **state)
{
    (void)state;
    sow_table *t = NULL;
    sow_line *line = NULL;
    const char *text = NULL;
    sow_json *json = NULL;
    double value = 0;
    assert_int_equal(sow_table_read(folder, &t), SOW_OK);
    assert_int_equal(sow_line_create(&line), SOW_OK);
    sow_line_begin_object(line, NULL);
    sow_table_put(line, t);
    sow_line_end_object(line);
    assert_int_equal(sow_line_text(line, &text), SOW_OK);
    assert_int_equal(sow_json_parse(text, strlen(text), "table", &json), SOW_OK);
    const sow_json *last = sow_json_at(sow_json_get(json, "rows"), 1);
    assert_int_equal(sow_json_kind_of(sow_json_get(last, "accuracy")), SOW_JSON_NULL);
    assert_true(sow_json_to_real(sow_json_at(sow_json_get(last, "probes"), 0), &value));
    CHECK_NEAR(value, 0.9, 0);
    assert_int_equal(sow_json_size(sow_json_get(json, "samples")), 2);
    sow_json_destroy(&json);
    sow_line_destroy(&line);
    sow_table_destroy(&t);
}

static void test_read_of_bad_lines_names_file_and_line(void **state)
{
    (void)state;
    sow_table *t = NULL;
    write_file("metrics.jsonl", "{\"step\": 0}\n{\"stop\": 1}\n");
    assert_int_equal(sow_table_read(folder, &t), SOW_EFORMAT);
    assert_non_null(strstr(sow_error_text(), "metrics.jsonl:2: step"));
    write_file("metrics.jsonl", "[\n");
    assert_int_equal(sow_table_read(folder, &t), SOW_EFORMAT);
    assert_non_null(strstr(sow_error_text(), "metrics.jsonl:1:"));
    assert_int_equal(sow_table_read("/no/such/run", &t), SOW_EIO);
    assert_null(t);
    assert_int_equal(make_run(NULL), 0);
}

static void test_read_without_memory_fails_cleanly(void **state)
{
    (void)state;
    sow_table *t = NULL;
    sow_code rc = SOW_ENOMEM;
    int64_t before = sow_alloc_live(), n = 0;
    while (rc != SOW_OK && ++n < 1000) {
        sow_alloc_fail_at(n);
        rc = sow_table_read(folder, &t);
        sow_alloc_fail_at(0);
        if (rc != SOW_OK)
            assert_int_equal(sow_alloc_live(), before);
    }
    assert_int_equal(rc, SOW_OK);
    assert_true(n > 5);
    sow_table_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_of_a_run_at_work_takes_whole_lines_only),
        cmocka_unit_test(test_read_of_multiple_choice_keeps_it_out_of_the_prior),
        cmocka_unit_test(test_samples_of_a_row_keep_the_first_and_the_last),
        cmocka_unit_test(test_write_escapes_lines_and_marks_what_is_missing),
        cmocka_unit_test(test_put_gives_one_object_with_null_for_what_is_missing),
        cmocka_unit_test(test_read_of_bad_lines_names_file_and_line),
        cmocka_unit_test(test_read_without_memory_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, make_run, check_live_zero);
}
