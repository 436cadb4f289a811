// NEEDS: task
/* SPDX-License-Identifier: Apache-2.0 */
/* What every task keeps, over the table of tasks: being listed is being tested.
 *
 * Countdown is there twice, once in each form. */
#include "check.h"
#include "task_options.h"

enum { ROWS = 1000, FILE_ROWS = 40 };

/* Rows for tasks that need a file: each has every field that any of them reads; every fourth is held out. */
static const char *file_of_rows(size_t *bytes)
{
    static char text[FILE_ROWS * 160];
    size_t at = 0;
    for (int i = 0; i < FILE_ROWS; i++)
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "{\"prompt\": \"Say %d:\", \"answer\": \"%d\", \"split\": \"%s\"}\n", i, i,
                               i % 4 == 3 ? "test" : "train");
    *bytes = at;
    return text;
}

static sow_task *open_split(const char *name, const char *form, const char *split)
{
    sow_task *task = NULL;
    size_t bytes = 0;
    const char *file = file_of_rows(&bytes);
    sow_task_options options = task_options(name);
    options.rows = ROWS;
    task_set(options.form, form);
    task_set(options.split, split);
    if (sow_task_find(name)->needs_file) {
        task_set(options.file, "rows.jsonl");
        CHECK_OK(sow_task_open_bytes(&options, file, bytes, &task));
    } else {
        CHECK_OK(sow_task_open(&options, &task));
    }
    return task;
}

typedef void (*task_check)(const char *name, const char *form);

static void for_each_task(task_check check)
{
    assert_true(sow_task_count() >= 8);
    for (int64_t i = 0; i < sow_task_count(); i++) {
        check(sow_task_at(i)->name, "paper");
        if (strcmp(sow_task_at(i)->name, "countdown") == 0)
            check(sow_task_at(i)->name, "short");
    }
}

/* ---- The table ---- */

static void check_table(const char *name, const char *form)
{
    const sow_task_kind *kind = sow_task_find(name);
    (void)form;
    assert_non_null(kind);
    assert_true(kind->doc[0] != '\0');
    sow_task *task = open_split(name, form, "train");
    assert_ptr_equal(sow_task_kind_of(task), kind);
    assert_string_equal(sow_task_options_of(task)->name, name);
    assert_true(sow_task_max_new(task) > 0);
    assert_int_equal(sow_task_rows(task), kind->needs_file ? FILE_ROWS * 3 / 4 : ROWS);
    sow_task_close(&task);
    assert_null(task);
}

static void test_table_when_listed_then_found_with_rows(void **state)
{
    (void)state;
    for_each_task(check_table);
    assert_null(sow_task_find("no such task"));
    assert_null(sow_task_at(-1));
    assert_null(sow_task_at(sow_task_count()));
}

/* ---- Grading ---- */

static void check_grades(const char *name, const char *form)
{
    static const char *const garbage[] = {"",
                                          "\n",
                                          "no idea",
                                          "<<<>>>",
                                          "</think>\n<answer>1</answer>",
                                          "\xff\xfe\x80 \xf0\x9f",
                                          "((((((((((((((((((((((((((",
                                          "9999999999999999999999999999999"};
    sow_task *task = open_split(name, form, "train");
    sow_words answer = {0};
    for (int64_t row = 0; row < sow_task_rows(task); row++) {
        sow_grade full = {0}, grade = {0};
        CHECK_OK(sow_task_solve(task, row, &answer));
        CHECK_OK(sow_task_grade(task, row, answer.text, answer.bytes, &full));
        if (!full.is_correct)
            fail_msg("%s: row %lld: its own solution '%s' is graded wrong", name, (long long)row, answer.text);
        for (size_t g = 0; g < sizeof garbage / sizeof garbage[0]; g++) {
            CHECK_OK(sow_task_grade(task, row, garbage[g], strlen(garbage[g]), &grade));
            if (grade.reward >= full.reward && !(strcmp(name, "conciseness") == 0 && grade.is_correct))
                fail_msg("%s: row %lld: '%s' scores %g, the solution %g", name, (long long)row, garbage[g],
                         grade.reward, full.reward);
            assert_true(strcmp(name, "conciseness") == 0 || !grade.is_correct);
            assert_true(isfinite(grade.reward));
        }
    }
    sow_words_fini(&answer);
    sow_task_close(&task);
}

static void test_grade_when_own_solution_then_full_and_when_garbage_then_less(void **state)
{
    (void)state;
    for_each_task(check_grades);
}

/* ---- Purity ---- */

static void check_order(const char *name, const char *form)
{
    sow_task *a = open_split(name, form, "train"), *b = open_split(name, form, "train");
    sow_words first = {0}, second = {0};
    int64_t n = sow_task_rows(a), n_equal = 0;
    for (int64_t i = 0; i < n; i++) { /* a forwards; b backwards, and row 0 in between */
        int64_t row = n - 1 - i;
        CHECK_OK(sow_task_prompt(b, 0, &second));
        CHECK_OK(sow_task_prompt(b, row, &second));
        CHECK_OK(sow_task_prompt(a, i, &first));
        CHECK_OK(sow_task_prompt(a, row, &first));
        assert_string_equal(first.text, second.text);
        CHECK_OK(sow_task_solve(a, row, &first));
        CHECK_OK(sow_task_solve(b, row, &second));
        assert_string_equal(first.text, second.text);
        CHECK_OK(sow_task_prompt(a, row == 0 ? 1 : 0, &second));
        CHECK_OK(sow_task_prompt(a, row, &first));
        n_equal += strcmp(first.text, second.text) == 0;
    }
    assert_true(n_equal <= n / 10); /* rows differ */
    sow_words_fini(&first);
    sow_words_fini(&second);
    sow_task_close(&a);
    sow_task_close(&b);
}

static void test_rows_when_asked_in_any_order_then_the_same(void **state)
{
    (void)state;
    for_each_task(check_order);
}

static void check_offset(const char *name, const char *form)
{
    sow_task *task = open_split(name, form, "train"), *later = NULL;
    sow_task_options options = *sow_task_options_of(task);
    sow_words a = {0}, b = {0};
    size_t bytes = 0;
    const char *file = file_of_rows(&bytes);
    bool needs_file = sow_task_kind_of(task)->needs_file;
    options.offset = 7;
    CHECK_OK(sow_task_open_bytes(&options, needs_file ? file : NULL, needs_file ? bytes : 0, &later));
    for (int64_t row = 7; row < sow_task_rows(task); row++) {
        CHECK_OK(sow_task_prompt(task, row, &a));
        CHECK_OK(sow_task_prompt(later, row - 7, &b));
        assert_string_equal(a.text, b.text);
    }
    sow_words_fini(&a);
    sow_words_fini(&b);
    sow_task_close(&task);
    sow_task_close(&later);
}

static void test_rows_when_offset_then_they_begin_there(void **state)
{
    (void)state;
    for_each_task(check_offset);
}

static void check_seed(const char *name, const char *form)
{
    sow_task *task = open_split(name, form, "train"), *other = NULL;
    sow_task_options options = *sow_task_options_of(task);
    sow_words a = {0}, b = {0};
    int64_t n_equal = 0;
    options.seed++;
    if (!sow_task_kind_of(task)->needs_file) {
        CHECK_OK(sow_task_open(&options, &other));
        for (int64_t row = 0; row < ROWS; row++) {
            CHECK_OK(sow_task_prompt(task, row, &a));
            CHECK_OK(sow_task_prompt(other, row, &b));
            n_equal += strcmp(a.text, b.text) == 0;
        }
        assert_true(n_equal <= ROWS / 50);
    }
    sow_words_fini(&a);
    sow_words_fini(&b);
    sow_task_close(&task);
    sow_task_close(&other);
}

static void test_rows_when_the_seed_differs_then_they_differ(void **state)
{
    (void)state;
    for_each_task(check_seed);
}

/* ---- Held-out rows ---- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_keys(sow_task *task, char *keys[ROWS])
{
    sow_words key = {0};
    for (int64_t row = 0; row < sow_task_rows(task); row++) {
        CHECK_OK(sow_task_key(task, row, &key));
        CHECK_OK(sow_alloc_string(&keys[row], key.text));
    }
    sow_words_fini(&key);
}

static void check_held_out(const char *name, const char *form)
{
    static char *train[ROWS], *test[ROWS];
    sow_task *task = open_split(name, form, "train"), *held_out = NULL, *split = open_split(name, form, "test");
    bool has = false;
    CHECK_OK(sow_task_open_held_out(task, ROWS, &held_out, &has));
    assert_true(has);
    assert_int_equal(sow_task_rows(held_out), sow_task_rows(split));
    int64_t n_train = sow_task_rows(task), n_test = sow_task_rows(held_out);
    read_keys(task, train);
    read_keys(held_out, test);
    qsort(train, (size_t)n_train, sizeof train[0], compare_texts);
    for (int64_t i = 0; i < n_test; i++)
        if (bsearch(&test[i], train, (size_t)n_train, sizeof train[0], compare_texts) != NULL)
            fail_msg("%s: key '%s' is both trained on and held out", name, test[i]);
    for (int64_t i = 0; i < ROWS; i++) {
        SOW_FREE(&train[i]);
        SOW_FREE(&test[i]);
    }
    sow_task_close(&task);
    sow_task_close(&held_out);
    sow_task_close(&split);
}

static void test_held_out_rows_when_compared_by_key_then_never_trained_on(void **state)
{
    (void)state;
    for_each_task(check_held_out);
}

/* ---- Memory and bad calls ---- */

static void check_allocations(const char *name, const char *form)
{
    sow_task *task = open_split(name, form, "train");
    sow_words prompt = {0};
    sow_grade grade;
    for (int round = 0; round < 2; round++) {
        int64_t before = sow_alloc_taken();
        for (int64_t row = 0; row < sow_task_rows(task); row++) {
            CHECK_OK(sow_task_prompt(task, row, &prompt));
            CHECK_OK(sow_task_grade(task, row, prompt.text, prompt.bytes, &grade));
        }
        if (round == 1) /* the first filled the buffer of the prompt */
            assert_int_equal(sow_alloc_taken(), before);
    }
    sow_words_fini(&prompt);
    sow_task_close(&task);
}

static void test_grade_when_repeated_then_allocates_nothing(void **state)
{
    (void)state;
    for_each_task(check_allocations);
}

static void check_row_range(const char *name, const char *form)
{
    sow_task *task = open_split(name, form, "train");
    sow_words out = {0};
    sow_grade grade;
    int64_t n = sow_task_rows(task);
    CHECK_FAILS(sow_task_prompt(task, -1, &out), SOW_EARG, "row -1 is outside");
    CHECK_FAILS(sow_task_prompt(task, n, &out), SOW_EARG, "is outside 0 to");
    CHECK_FAILS(sow_task_solve(task, n, &out), SOW_EARG, "is outside 0 to");
    CHECK_FAILS(sow_task_key(task, n, &out), SOW_EARG, "is outside 0 to");
    CHECK_FAILS(sow_task_grade(task, n, "", 0, &grade), SOW_EARG, "is outside 0 to");
    sow_words_fini(&out);
    sow_task_close(&task);
}

static void test_calls_when_the_row_is_out_of_range_then_refused(void **state)
{
    (void)state;
    for_each_task(check_row_range);
}

/* Every allocation of open, prompt and solve fails once: a clean error, and nothing is left. */
static void check_failing_memory(const char *name, const char *form)
{
    sow_task_options options = task_options(name);
    size_t bytes = 0;
    const char *file = file_of_rows(&bytes);
    bool needs_file = sow_task_find(name)->needs_file, is_done = false;
    task_set(options.form, form);
    task_set(options.file, needs_file ? "rows.jsonl" : "");
    for (int64_t n = 1; !is_done; n++) {
        sow_task *task = NULL;
        sow_words out = {0};
        int64_t live = sow_alloc_live();
        sow_alloc_fail_at(n);
        sow_code rc = sow_task_open_bytes(&options, needs_file ? file : NULL, needs_file ? bytes : 0, &task);
        if (rc == SOW_OK)
            rc = sow_task_prompt(task, 0, &out);
        if (rc == SOW_OK)
            rc = sow_task_solve(task, 0, &out);
        sow_alloc_fail_at(0);
        is_done = rc == SOW_OK;
        assert_true(is_done || rc == SOW_ENOMEM);
        sow_words_fini(&out);
        sow_task_close(&task);
        assert_int_equal(sow_alloc_live(), live);
        assert_true(n < 1000);
    }
}

static void test_open_when_any_allocation_fails_then_a_clean_error(void **state)
{
    (void)state;
    for_each_task(check_failing_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_when_listed_then_found_with_rows),
        cmocka_unit_test(test_grade_when_own_solution_then_full_and_when_garbage_then_less),
        cmocka_unit_test(test_rows_when_asked_in_any_order_then_the_same),
        cmocka_unit_test(test_rows_when_offset_then_they_begin_there),
        cmocka_unit_test(test_rows_when_the_seed_differs_then_they_differ),
        cmocka_unit_test(test_held_out_rows_when_compared_by_key_then_never_trained_on),
        cmocka_unit_test(test_grade_when_repeated_then_allocates_nothing),
        cmocka_unit_test(test_calls_when_the_row_is_out_of_range_then_refused),
        cmocka_unit_test(test_open_when_any_allocation_fails_then_a_clean_error),
    };
    return cmocka_run_group_tests_name("task contract", tests, NULL, check_live_zero);
}
