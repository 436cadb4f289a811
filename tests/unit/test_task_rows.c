// NEEDS: task
/* SPDX-License-Identifier: Apache-2.0 */
/* Rows from a file: the two forms, the split, and every bad line named. */
#include "check.h"
#include "task_options.h"

static sow_code open_text(const char *name, const char *text, size_t bytes, sow_task **out)
{
    sow_task_options options = task_options_of_file(name);
    return sow_task_open_bytes(&options, text, bytes, out);
}

static void check_bad(const char *name, const char *text, const char *words)
{
    sow_task *task = NULL;
    CHECK_FAILS(open_text(name, text, strlen(text), &task), SOW_EFORMAT, words);
    assert_null(task);
    assert_null(strchr(sow_error_text(), '\n'));
}

#define GOOD "{\"prompt\": \"p\", \"answer\": \"a\"}\n"

static void test_lines_when_one_is_bad_then_file_and_line_are_named(void **state)
{
    (void)state;
    check_bad("jsonl", "", "rows.jsonl:1: the file has no rows");
    check_bad("jsonl", "\n", "rows.jsonl:1: there is no row, expected a JSON object");
    check_bad("jsonl", GOOD "\n" GOOD, "rows.jsonl:2: there is no row");
    check_bad("jsonl", GOOD "  \t\r\n" GOOD, "rows.jsonl:2: there is no row");
    check_bad("jsonl", GOOD GOOD "{\"prompt\": ", "rows.jsonl:3: is not JSON");
    check_bad("jsonl", GOOD "{\"prompt\": \"\xff\", \"answer\": \"a\"}\n",
              "rows.jsonl:2: is not JSON: unable to decode byte 0xff");
    check_bad("jsonl", GOOD GOOD "{\"prompt\": \"a\", \"prompt\": \"b\"}", "rows.jsonl:3: is not JSON: duplicate");
    check_bad("jsonl", GOOD "[1]", "rows.jsonl:2: the row is no JSON object");
    check_bad("jsonl", "17", "rows.jsonl:1: the row is no JSON object");
    check_bad("jsonl", GOOD "{\"answer\": \"a\"}", "rows.jsonl:2: prompt: is missing, expected a string");
    check_bad("jsonl", GOOD "{\"prompt\": 5, \"answer\": \"a\"}",
              "rows.jsonl:2: prompt: is a number, expected a string");
    check_bad("jsonl", GOOD "{\"prompt\": \"\", \"answer\": \"a\"}", "rows.jsonl:2: prompt: is empty");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\\u0000q\", \"answer\": \"a\"}",
              "rows.jsonl:2: prompt: holds the character NUL");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\", \"answer\": [1]}",
              "rows.jsonl:2: answer: is an array, expected a string");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\", \"answer\": 1.5}",
              "rows.jsonl:2: answer: is a number, expected a string");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\", \"answer\": \"a\", \"split\": \"dev\"}",
              "rows.jsonl:2: split: 'dev' is unknown");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\", \"answer\": \"a\", \"solution\": 1}",
              "rows.jsonl:2: solution: is a number");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\", \"split\": \"test\"}", "rows.jsonl:2: answer: is missing");
    check_bad("jsonl", GOOD "{\"prompt\": \"p\"}",
              "rows.jsonl:2: answer: is missing, expected one to compare with, or completion for supervised training");
    check_bad("conciseness", "{\"prompt\": \"p\"}", "rows.jsonl:1: reference: is missing");
}

static void test_sft_rows_when_bad_then_file_and_line_are_named(void **state)
{
    (void)state;
    check_bad("jsonl", GOOD "{\"prompt\": \"p\", \"completion\": 5}", "rows.jsonl:2: completion: is a number");
    check_bad("jsonl", "{\"completion\": \"c\"}", "rows.jsonl:1: prompt: is missing");
    check_bad("jsonl", "{\"prompt\": \"p\", \"completion\": \"c\", \"solution\": \"c\"}",
              "rows.jsonl:1: solution: is given beside completion");
    check_bad("jsonl", "{\"prompt\": \"p\", \"ids\": [1, 2], \"prompt_tokens\": 1}",
              "rows.jsonl:1: ids: is given beside prompt");
    check_bad("jsonl", "{\"ids\": \"1 2\", \"prompt_tokens\": 1}", "rows.jsonl:1: ids: is no array of at least two");
    check_bad("jsonl", "{\"ids\": [1], \"prompt_tokens\": 1}", "rows.jsonl:1: ids: is no array of at least two");
    check_bad("jsonl", "{\"ids\": [1, -2], \"prompt_tokens\": 1}", "rows.jsonl:1: ids: item 1 is no token");
    check_bad("jsonl", "{\"ids\": [1.5, 2], \"prompt_tokens\": 1}", "rows.jsonl:1: ids: item 0 is no token");
    check_bad("jsonl", "{\"ids\": [1, 2147483648], \"prompt_tokens\": 1}", "rows.jsonl:1: ids: item 1 is no token");
    check_bad("jsonl", "{\"ids\": [1, 2, 3]}", "rows.jsonl:1: prompt_tokens: is missing or no number from 1 to 2");
    check_bad("jsonl", "{\"ids\": [1, 2, 3], \"prompt_tokens\": 0}", "prompt_tokens: is missing or no number");
    check_bad("jsonl", "{\"ids\": [1, 2, 3], \"prompt_tokens\": 3}", "prompt_tokens: is missing or no number");
}

static void check_tokens(sow_task *task, int64_t row, int64_t first, int64_t wanted, int64_t wanted_prompt)
{
    const int32_t *ids = NULL;
    int64_t n = 0, n_prompt = 0;
    bool has = false;
    CHECK_OK(sow_task_ids(task, row, &ids, &n, &n_prompt, &has));
    assert_true(has);
    assert_int_equal(n, wanted);
    assert_int_equal(n_prompt, wanted_prompt);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(ids[i], first + i);
}

static void test_sft_rows_when_texts_and_ids_are_mixed_then_each_is_what_it_is(void **state)
{
    (void)state;
    static const char text[] = "{\"ids\": [5, 6, 7], \"prompt_tokens\": 2}\n"
                               "{\"prompt\": \"p\", \"completion\": \" so it is\\n\"}\n"
                               "{\"prompt\": \"q\", \"completion\": \"\"}\n"
                               "{\"prompt\": \"r\", \"completion\": \"wrong\", \"answer\": \"right\"}\n"
                               "{\"ids\": [2147483646, 2147483647], \"prompt_tokens\": 1}\n";
    sow_task *task = NULL;
    sow_words words = {0};
    sow_grade grade = {0};
    const int32_t *ids = NULL;
    int64_t n = 0, n_prompt = 0;
    bool has = true;
    CHECK_OK(open_text("jsonl", text, sizeof text - 1, &task));
    assert_int_equal(sow_task_rows(task), 5);
    check_tokens(task, 0, 5, 3, 2);
    check_tokens(task, 4, 2147483646, 2, 1);
    CHECK_FAILS(sow_task_prompt(task, 0, &words), SOW_EARG, "rows.jsonl:1: is a row of ids");
    CHECK_FAILS(sow_task_solve(task, 0, &words), SOW_EARG, "rows.jsonl:1: is a row of ids");
    CHECK_FAILS(sow_task_grade(task, 0, "", 0, &grade), SOW_EARG, "rows.jsonl:1: is a row of ids");
    CHECK_OK(sow_task_key(task, 0, &words));
    assert_string_equal(words.text, "5 6");
    CHECK_OK(sow_task_ids(task, 1, &ids, &n, &n_prompt, &has));
    assert_false(has);
    CHECK_OK(sow_task_prompt(task, 1, &words));
    assert_string_equal(words.text, "p");
    CHECK_OK(sow_task_solve(task, 1, &words));
    assert_string_equal(words.text, " so it is\n");
    CHECK_OK(sow_task_grade(task, 1, "so it is", 8, &grade));
    assert_true(grade.is_correct);
    CHECK_OK(sow_task_solve(task, 2, &words));
    assert_int_equal(words.bytes, 0);
    CHECK_FAILS(sow_task_solve(task, 3, &words), SOW_EARG, "rows.jsonl:4: completion: is not right");
    CHECK_FAILS(sow_task_ids(task, 5, &ids, &n, &n_prompt, &has), SOW_EARG, "row 5 is outside");
    sow_words_fini(&words);
    sow_task_close(&task);
}

static void test_lines_when_a_raw_nul_stands_in_one_then_named(void **state)
{
    (void)state;
    static const char text[] = GOOD "{\"prompt\": \"p\0q\", \"answer\": \"a\"}\n";
    sow_task *task = NULL;
    CHECK_FAILS(open_text("jsonl", text, sizeof text - 1, &task), SOW_EFORMAT, "rows.jsonl:2: is not JSON");
    CHECK_FAILS(open_text("jsonl", "\0", 1, &task), SOW_EFORMAT, "rows.jsonl:1: is not JSON");
}

static void test_lines_when_one_is_huge_then_named(void **state)
{
    (void)state;
    enum { HUGE_BYTES = 5 << 20 };
    char *text = NULL;
    sow_task *task = NULL;
    CHECK_OK(SOW_ALLOC(&text, HUGE_BYTES));
    memset(text, 'x', HUGE_BYTES);
    memcpy(text, GOOD, sizeof GOOD - 1);
    CHECK_FAILS(open_text("jsonl", text, HUGE_BYTES, &task), SOW_EFORMAT, "rows.jsonl:2: the row has");
    memset(text, '[', HUGE_BYTES);
    CHECK_FAILS(open_text("jsonl", text, HUGE_BYTES, &task), SOW_EFORMAT,
                "rows.jsonl:1: the array that begins with this row");
    memset(text, '\n', HUGE_BYTES);
    CHECK_FAILS(open_text("jsonl", text, HUGE_BYTES, &task), SOW_EFORMAT, "rows.jsonl:1: there is no row");
    memcpy(text, GOOD, sizeof GOOD - 1);
    memset(text + sizeof GOOD - 1, '[', 100000);
    CHECK_FAILS(open_text("jsonl", text, 100000, &task), SOW_EFORMAT, "rows.jsonl:2: is not JSON"); /* too deep */
    SOW_FREE(&text);
}

static void test_array_when_a_row_is_bad_then_its_line_is_named(void **state)
{
    (void)state;
    check_bad("countdown", "[]", "rows.jsonl:1: the file has no rows");
    check_bad("countdown", " \n [ \n ] \n x", "rows.jsonl:4: there is text behind the array");
    check_bad("countdown", "[\n{\"numbers\": [1, 2],\n\"target\": \"3\"},\n\n{\"numbers\": [1]}]",
              "rows.jsonl:5: target: is missing");
    check_bad("countdown", "[\n{\"numbers\": [1, 2],\n\"target\": \"3\"},\n\n{\"numbers\": [1],\n\n\"target\" 5}]",
              "rows.jsonl:7: is not JSON");
    check_bad("countdown", "[{\"numbers\": [1, 2], \"target\": \"3\"},]", "rows.jsonl:1: there is no row");
    check_bad("countdown", "[\n,{}]", "rows.jsonl:2: there is no row");
    check_bad("countdown", "[\n{\"numbers\": [1, 2], \"target\": \"3\"}",
              "rows.jsonl:2: the array that begins with this row");
    check_bad("countdown", "[\n\"a, b ] \\\" c\"]", "rows.jsonl:2: the row is no JSON object");
    check_bad("countdown", "[{\"numbers\": [1, 2], \"target\": \"3\"}}]", "rows.jsonl:1: ");
}

static void test_countdown_rows_when_a_field_is_bad_then_named(void **state)
{
    (void)state;
    check_bad("countdown", "{\"target\": 5}", "rows.jsonl:1: numbers: is no array of 1 to 32 numbers");
    check_bad("countdown", "{\"numbers\": [], \"target\": 5}", "numbers: is no array of 1 to 32 numbers");
    check_bad("countdown", "{\"numbers\": [1, 2.5], \"target\": 5}",
              "rows.jsonl:1: numbers: item 1 is no whole number");
    check_bad("countdown", "{\"numbers\": [99999999999999999999], \"target\": 5}",
              "rows.jsonl:1: is not JSON: too big integer");
    check_bad("countdown", "{\"numbers\": [1, 2], \"target\": \"many\"}", "target: 'many' is no number");
    check_bad("countdown", "{\"numbers\": [1, 2], \"target\": \"0x10\"}", "target: '0x10' is no number");
    check_bad("countdown", "{\"numbers\": [1, 2], \"target\": \"1e999\"}", "target: '1e999' is no number");
    check_bad("countdown", "{\"numbers\": [1, 2], \"target\": null}", "target: is missing or no number");
    check_bad("countdown", "{\"numbers\": [1, 2], \"target\": 5, \"context\": 7}", "context: is a number");
    check_bad("countdown",
              "{\"numbers\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], \"target\": 5}",
              "numbers: is no array of 1 to 32 numbers");
}

/* The published form: an array over many lines, target as text, a solution that may be null. */
static void test_countdown_when_the_paper_s_file_is_read_then_context_and_solution_are_used(void **state)
{
    (void)state;
    static const char text[] =
        "[\n  {\n    \"id\": 0,\n    \"context\": \"Use [44 19 35] for 98.\\n<think>\",\n    \"numbers\": [\n"
        "      44,\n      19,\n      35\n    ],\n    \"target\": \"98\",\n"
        "    \"solution\": \"((44 + 19) + 35)\"\n  },\n  {\n    \"numbers\": [3, 8], \"target\": \"27.4\",\n"
        "    \"solution\": null\n  },\n"
        "  {\"numbers\": [12, 18, 1], \"target\": \"16\", \"solution\": \"(18 - (1 + 1))\"}]\n";
    sow_task *task = NULL;
    sow_words words = {0};
    sow_grade grade = {0};
    CHECK_OK(open_text("countdown", text, sizeof text - 1, &task));
    assert_int_equal(sow_task_rows(task), 3);
    CHECK_OK(sow_task_prompt(task, 0, &words));
    assert_string_equal(words.text, "Use [44 19 35] for 98.\n<think>");
    CHECK_OK(sow_task_solve(task, 0, &words));
    assert_string_equal(words.text, "</think>\n<answer>((44 + 19) + 35)</answer>");
    CHECK_OK(sow_task_grade(task, 0, words.text, words.bytes, &grade));
    assert_true(grade.reward == 1.1 && grade.is_correct && grade.parts[0] == 1 && grade.parts[1] == 1);
    CHECK_OK(sow_task_prompt(task, 1, &words));
    assert_non_null(strstr(words.text, "Using the numbers [3 8], create an equation that equals 27.4. You can"));
    CHECK_FAILS(sow_task_solve(task, 1, &words), SOW_EARG, "rows.jsonl:13: solution: is missing");
    CHECK_FAILS(sow_task_solve(task, 2, &words), SOW_EARG, "rows.jsonl:17: solution: is wrong"); /* the 1 twice */
    CHECK_OK(sow_task_key(task, 0, &words));
    assert_string_equal(words.text, "cd 19 35 44 98");
    sow_words_fini(&words);
    sow_task_close(&task);
}

static void test_split_when_rows_are_marked_then_each_side_has_its_own(void **state)
{
    (void)state;
    static const char text[] =
        "{\"prompt\": \"a\", \"answer\": \"1\"}\r\n{\"prompt\": \"b\", \"answer\": \"2\", \"split\": \"test\"}\r\n"
        "{\"prompt\": \"c\", \"answer\": \"3\", \"split\": \"train\"}\r\n"
        "{\"prompt\": \"d\", \"answer\": \"4\", \"split\": \"test\"}";
    sow_task *task = NULL, *held_out = NULL;
    sow_words words = {0};
    bool has = false;
    sow_task_options options = task_options_of_file("jsonl");
    CHECK_OK(sow_task_open_bytes(&options, text, sizeof text - 1, &task));
    assert_int_equal(sow_task_rows(task), 2);
    CHECK_OK(sow_task_prompt(task, 1, &words));
    assert_string_equal(words.text, "c");
    CHECK_OK(sow_task_open_held_out(task, 1, &held_out, &has));
    assert_true(has);
    assert_int_equal(sow_task_rows(held_out), 1);
    sow_task_close(&held_out);
    CHECK_OK(sow_task_open_held_out(task, 100, &held_out, &has));
    assert_int_equal(sow_task_rows(held_out), 2);
    CHECK_OK(sow_task_prompt(held_out, 1, &words));
    assert_string_equal(words.text, "d");
    sow_task_close(&task);
    sow_task_close(&held_out);
    options.offset = 1; /* of the training rows; the held-out ones are all there */
    CHECK_OK(sow_task_open_bytes(&options, text, sizeof text - 1, &task));
    CHECK_OK(sow_task_open_held_out(task, 100, &held_out, &has));
    assert_int_equal(sow_task_rows(held_out), 2);
    sow_words_fini(&words);
    sow_task_close(&task);
    sow_task_close(&held_out);
}

static void test_split_when_no_row_is_held_out_then_said_so(void **state)
{
    (void)state;
    static const char rows[] = GOOD GOOD;
    sow_task *task = NULL, *held_out = NULL;
    bool has = true;
    sow_task_options options = task_options_of_file("jsonl");
    CHECK_OK(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task));
    CHECK_OK(sow_task_open_held_out(task, 5, &held_out, &has));
    assert_false(has);
    assert_null(held_out);
    sow_task_close(&task);
    task_set(options.split, "test");
    CHECK_FAILS(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task), SOW_ECONF,
                "task.split: test: rows.jsonl has no held-out row");
    task_set(options.split, "train");
    options.offset = 2;
    CHECK_FAILS(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task), SOW_ECONF,
                "task.offset: 2: rows.jsonl has no training row from there on");
    options.offset = 1;
    CHECK_OK(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task));
    assert_int_equal(sow_task_rows(task), 1);
    sow_task_close(&task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_when_one_is_bad_then_file_and_line_are_named),
        cmocka_unit_test(test_sft_rows_when_bad_then_file_and_line_are_named),
        cmocka_unit_test(test_sft_rows_when_texts_and_ids_are_mixed_then_each_is_what_it_is),
        cmocka_unit_test(test_lines_when_a_raw_nul_stands_in_one_then_named),
        cmocka_unit_test(test_lines_when_one_is_huge_then_named),
        cmocka_unit_test(test_array_when_a_row_is_bad_then_its_line_is_named),
        cmocka_unit_test(test_countdown_rows_when_a_field_is_bad_then_named),
        cmocka_unit_test(test_countdown_when_the_paper_s_file_is_read_then_context_and_solution_are_used),
        cmocka_unit_test(test_split_when_rows_are_marked_then_each_side_has_its_own),
        cmocka_unit_test(test_split_when_no_row_is_held_out_then_said_so),
    };
    return cmocka_run_group_tests_name("task rows", tests, NULL, check_live_zero);
}
