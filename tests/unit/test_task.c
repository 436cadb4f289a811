// NEEDS: task
/* SPDX-License-Identifier: Apache-2.0 */
/* Opening tasks: names, options, templates, prompts to the letter. */
#include "check.h"
#include "task_options.h"

#include "sower/file.h"
#include "sower/hash.h"

static sow_code open_and_close(const sow_task_options *options)
{
    sow_task *task = NULL;
    sow_code rc = sow_task_open(options, &task);
    sow_task_close(&task);
    return rc;
}

static void test_open_when_the_name_is_unknown_then_the_nearest_is_named(void **state)
{
    (void)state;
    sow_task *task = NULL;
    sow_task_options options = task_options("cuontdown");
    CHECK_FAILS(sow_task_open(&options, &task), SOW_ECONF,
                "task.name: 'cuontdown' is no task, expected one of countdown, calc, eval, rev, sort, count, mc, lazy, "
                "conciseness, jsonl; did you mean countdown?");
    assert_null(task);
    task_set(options.name, "xyzzy-plugh-frotz");
    CHECK_FAILS(sow_task_open(&options, &task), SOW_ECONF, "is no task, expected one of countdown");
    assert_null(strstr(sow_error_text(), "did you mean"));
    task_set(options.name, "");
    CHECK_FAILS(sow_task_open(&options, &task), SOW_ECONF, "task.name: '' is no task");
}

static void test_open_when_an_option_is_bad_then_its_key_is_named(void **state)
{
    (void)state;
    sow_task_options good = task_options("countdown"), bad = good;
    CHECK_OK(open_and_close(&good));
    task_set(bad.form, "long");
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.form: 'long' is unknown, expected paper or short");
    bad = good;
    task_set(bad.split, "dev");
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.split: 'dev' is unknown, expected train or test");
    bad = good;
    task_set(bad.match, "fuzzy");
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.match: 'fuzzy' is unknown, expected exact, numeric or regex");
    bad = good;
    bad.seed = INT64_C(1) << 32;
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.seed: 4294967296 is outside [0, 4294967295]");
    bad = good;
    bad.rows = 0;
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.rows: 0 is outside [1, ");
    bad = good;
    bad.offset = -1;
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.offset: -1 is outside [0, ");
    bad = good;
    bad.numbers_min = 5;
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.numbers_min: 5 and task.numbers_max: 4");
    bad = good;
    bad.operand_max = 1001;
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "task.operand_max: 1001 is outside");
    bad = good;
    task_set(bad.template, "Q: prompt\nA:");
    CHECK_FAILS(open_and_close(&bad), SOW_ECONF, "lacks {prompt}");
}

static void test_open_when_no_row_is_possible_then_told_at_once(void **state)
{
    (void)state;
    sow_task_options options = task_options("countdown");
    options.numbers_min = options.numbers_max = 2;
    options.operand_max = 2; /* two numbers of 1, 2 never reach 10 */
    CHECK_FAILS(open_and_close(&options), SOW_ECONF, "task.operand_max: task countdown finds no legal training row");
    options = task_options("conciseness");
    options.operand_max = 1; /* one row, and it is on one side of the rule */
    task_set(options.split, "test");
    CHECK_FAILS(open_and_close(&options), SOW_ECONF, "finds no legal held-out row");
}

static void test_open_when_a_file_makes_no_sense_then_refused(void **state)
{
    (void)state;
    static const char *const without[] = {"calc", "eval", "rev", "sort", "count", "mc", "lazy"};
    sow_task *task = NULL;
    sow_task_options options;
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        options = task_options_of_file(without[i]);
        CHECK_FAILS(sow_task_open_bytes(&options, "{}", 2, &task), SOW_ECONF,
                    "task.file: 'rows.jsonl' is given, but task");
    }
    options = task_options_of_file("countdown");
    task_set(options.form, "short");
    CHECK_FAILS(sow_task_open_bytes(&options, "{}", 2, &task), SOW_ECONF, "form short makes its rows from task.seed");
    options = task_options("jsonl");
    CHECK_FAILS(sow_task_open(&options, &task), SOW_ECONF, "task.file: is missing");
    task_set(options.file, "/nonexistent/rows.jsonl");
    CHECK_FAILS(sow_task_open(&options, &task), SOW_EIO, "/nonexistent/rows.jsonl");
    assert_null(task);
}

static void test_open_when_the_file_is_on_disk_then_its_rows_are_asked(void **state)
{
    (void)state;
    static const char rows[] = "{\"prompt\": \"2+2=\", \"answer\": \"4\"}\n{\"prompt\": \"1+2=\", \"answer\": \"3\"}\n";
    char path[128];
    sow_task *task = NULL;
    sow_words prompt = {0};
    sow_task_options options = task_options("jsonl");
    CHECK_OK(sow_file_join(check_folder(), "rows.jsonl", path, sizeof path));
    CHECK_OK(sow_file_write(path, rows, sizeof rows - 1));
    task_set(options.file, path);
    CHECK_OK(sow_task_open(&options, &task));
    assert_int_equal(sow_task_rows(task), 2);
    CHECK_OK(sow_task_prompt(task, 1, &prompt));
    assert_string_equal(prompt.text, "1+2=");
    sow_words_fini(&prompt);
    sow_task_close(&task);
    (void)unlink(path);
}

static void check_prompt(const sow_task_options *options, const char *wanted)
{
    sow_task *task = NULL;
    sow_words prompt = {0};
    CHECK_OK(sow_words_print(&prompt, "what was here before"));
    CHECK_OK(sow_task_open(options, &task));
    CHECK_OK(sow_task_prompt(task, 0, &prompt));
    assert_string_equal(prompt.text, wanted);
    sow_words_fini(&prompt);
    sow_task_close(&task);
}

static void test_prompt_when_a_template_is_given_then_put_around_it(void **state)
{
    (void)state;
    sow_task *task = NULL;
    sow_words plain = {0}, wanted = {0};
    sow_task_options options = task_options("calc");
    CHECK_OK(sow_task_open(&options, &task));
    CHECK_OK(sow_task_prompt(task, 0, &plain));
    CHECK_OK(sow_words_print(&wanted, "Q: %s\nA {prompt of %s}", plain.text, plain.text));
    task_set(options.template, "Q: {prompt}\nA {prompt of {prompt}}");
    check_prompt(&options, wanted.text);
    sow_words_fini(&plain);
    sow_words_fini(&wanted);
    sow_task_close(&task);
}

static void test_max_new_when_asked_then_the_task_s_own(void **state)
{
    (void)state;
    static const struct {
        const char *name, *form;
        int64_t tokens;
    } cases[] = {{"countdown", "paper", 1024}, {"countdown", "short", 12},    {"calc", "paper", 12},
                 {"eval", "paper", 12},        {"rev", "paper", 12},          {"sort", "paper", 12},
                 {"count", "paper", 12},       {"conciseness", "paper", 100}, {"mc", "paper", 12},
                 {"lazy", "paper", 12}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sow_task *task = NULL;
        sow_task_options options = task_options(cases[i].name);
        task_set(options.form, cases[i].form);
        CHECK_OK(sow_task_open(&options, &task));
        assert_int_equal(sow_task_max_new(task), cases[i].tokens);
        sow_task_close(&task);
    }
}

/* The row that the paper's data begins with, from numbers and target alone. */
static void test_prompt_when_countdown_paper_then_verbatim(void **state)
{
    (void)state;
    static const char rows[] =
        "{\"numbers\": [44, 19, 35], \"target\": \"98\"}\n{\"numbers\": [4, 70, 46, 17], \"target\": 12}\n";
    static const char first[] =
        "You are a helpful assistant. You first think about the reasoning process in your mind and then provide the "
        "user with "
        "the answer.Using the numbers [44 19 35], create an equation that equals 98. You can use basic arithmetic "
        "operations "
        "(+, -, *, /) and each number can only be used once. Show your work in <think> </think> tags. And return the "
        "final "
        "answer in <answer> </answer> tags, for example <answer> (1 + 2) / 3 </answer>.Let me solve this step by "
        "step.\n<think>";
    sow_task *task = NULL;
    sow_words prompt = {0};
    sow_task_options options = task_options_of_file("countdown");
    CHECK_OK(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task));
    CHECK_OK(sow_task_prompt(task, 0, &prompt));
    assert_string_equal(prompt.text, first);
    CHECK_OK(sow_task_prompt(task, 1, &prompt)); /* as numpy pads: every row of the published data */
    assert_non_null(strstr(prompt.text, "Using the numbers [ 4 70 46 17], create an equation that equals 12."));
    sow_words_fini(&prompt);
    sow_task_close(&task);
}

/* Generated rows and their keys are part of what a run's ledger stands for: a change of the drawing must be seen.  The
 * hash is that of 200 prompts, one a line, of seed 1. */
static void test_rows_when_drawn_then_as_they_always_were(void **state)
{
    (void)state;
    static const struct {
        const char *name, *form, *split;
        const char *hash;
    } cases[] = {
        {"countdown", "paper", "train", "be195135009e1255e35a459effd15c04"},
        {"countdown", "paper", "test", "e8a306088a307b3d7af2a4f8a3a697a0"},
        {"countdown", "short", "train", "8a12041c12f2f71b29cf8d8c54e707e8"},
        {"countdown", "short", "test", "c721eedd37960f2e05d28ea64d910d05"},
        {"calc", "paper", "train", "04ac386b3371effc0e516573bf2a1841"},
        {"eval", "paper", "train", "7c5ce5349f5d3b83d1fede11dfe198e9"},
        {"rev", "paper", "train", "27b0229e77862a8a61cb1be318f3b88f"},
        {"sort", "paper", "train", "1522a65ef1e8d9c4e849fec40b61314e"},
        {"count", "paper", "test", "7abbc03b234abff70c76ea8ee5c0fe2e"},
        {"mc", "paper", "train", "04ac386b3371effc0e516573bf2a1841"}, /* calc's */
        {"lazy", "paper", "train", "b8a7bc00339b5613c3350ae35159ad5c"},
        {"conciseness", "paper", "train", "612dc8646f2496a1ea2be6123b34234d"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sow_task *task = NULL;
        sow_words all = {0}, prompt = {0};
        char hash[SOW_HASH_HEX];
        sow_task_options options = task_options(cases[i].name);
        task_set(options.form, cases[i].form);
        task_set(options.split, cases[i].split);
        CHECK_OK(sow_task_open(&options, &task));
        for (int64_t row = 0; row < 200; row++) {
            CHECK_OK(sow_task_prompt(task, row, &prompt));
            CHECK_OK(sow_words_print(&all, "%s\n", prompt.text));
        }
        sow_hash_write(sow_hash_bytes(all.text, all.bytes), hash);
        if (strcmp(hash, cases[i].hash) != 0)
            fail_msg("%s %s %s: %s, expected %s; the first row is now '%.40s'", cases[i].name, cases[i].form,
                     cases[i].split, hash, cases[i].hash, all.text);
        sow_words_fini(&all);
        sow_words_fini(&prompt);
        sow_task_close(&task);
    }
}

/* The number that begins at *at, which moves behind it. */
static long next_number(char **at)
{
    long number = strtol(*at, at, 10);
    return number;
}

static void check_ranges(const char *name, const char *prompt, const char *answer)
{
    char *at = strchr(prompt, ' ');
    assert_non_null(at);
    size_t n = strcspn(at + 1, "=");
    if (strcmp(name, "countdown") == 0 || strcmp(name, "lazy") == 0) {
        for (int i = 0; i < 3; i++)
            assert_in_range(next_number(&at), 1, 12);
        assert_in_range(next_number(&at), 1, 99);
        assert_string_equal(at, "=");
    } else if (strcmp(name, "calc") == 0) {
        assert_in_range(next_number(&at), 0, 99);
        assert_in_range(strtol(at + 1, NULL, 10), 0, 99);
        assert_in_range(strtol(answer, NULL, 10), 0, 198);
        assert_true(answer[0] != '-');
    } else if (strcmp(name, "eval") == 0) {
        assert_int_equal(n, 5);
        assert_null(memchr(at + 1, '0', n));
        assert_true(answer[0] != '-' && strlen(answer) <= 2);
    } else if (strcmp(name, "count") == 0) {
        assert_in_range(n - 2, 6, 9);
        assert_int_equal(strspn(at + 3, "abc"), n - 2);
        assert_non_null(memchr("abc", at[1], 3));
    } else {
        assert_in_range(n, 4, 6);
        assert_int_equal(strspn(at + 1, strcmp(name, "rev") == 0 ? "abcdefghijklmnopqrstuvwxyz" : "0123456789"), n);
        assert_int_equal(strlen(answer), n);
    }
}

/* The ranges of sprout.md, section 1. */
static void test_rows_when_of_the_laboratory_model_then_inside_its_ranges(void **state)
{
    (void)state;
    static const char *const names[] = {"countdown", "calc", "eval", "rev", "sort", "count", "lazy"};
    sow_words prompt = {0}, answer = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        sow_task *task = NULL;
        sow_task_options options = task_options(names[i]);
        task_set(options.form, "short");
        options.rows = 5000;
        CHECK_OK(sow_task_open(&options, &task));
        for (int64_t row = 0; row < options.rows; row++) {
            CHECK_OK(sow_task_prompt(task, row, &prompt));
            CHECK_OK(sow_task_solve(task, row, &answer));
            check_ranges(names[i], prompt.text, answer.text);
        }
        sow_task_close(&task);
    }
    sow_words_fini(&prompt);
    sow_words_fini(&answer);
}

/* Four answers, among them the right one, the others v +- 1, 2, 9, 10, 20; the right one in every place equally
 * often. */
static void test_choices_when_mc_then_one_is_right_and_the_others_near(void **state)
{
    (void)state;
    enum { N = 4000 };
    int64_t places[4] = {0};
    sow_task *task = NULL;
    sow_words right = {0};
    sow_choices choices = {0};
    sow_task_options options = task_options("mc");
    options.rows = N;
    CHECK_OK(sow_task_open(&options, &task));
    assert_true(sow_task_has_choices(task));
    for (int64_t row = 0; row < N; row++) {
        long seen[4], value = 0;
        int n_right = 0;
        CHECK_OK(sow_task_solve(task, row, &right));
        CHECK_OK(sow_task_choices(task, row, &choices));
        assert_int_equal(choices.n, 4);
        assert_string_equal(choices.tail, "\n");
        value = strtol(right.text, NULL, 10);
        for (int i = 0; i < 4; i++) {
            size_t bytes = 0;
            const char *text = sow_choices_text(&choices, i, &bytes);
            char number[8];
            assert_in_range(bytes, 1, 3);
            (void)snprintf(number, sizeof number, "%.*s", (int)bytes, text);
            seen[i] = strtol(number, NULL, 10);
            long away = labs(seen[i] - value);
            assert_true(away == 0 || away == 1 || away == 2 || away == 9 || away == 10 || away == 20);
            assert_true(seen[i] >= 0 && number[0] != '-');
            for (int j = 0; j < i; j++)
                assert_true(seen[j] != seen[i]);
            n_right += away == 0;
            places[i] += away == 0;
        }
        assert_int_equal(n_right, 1);
    }
    for (int i = 0; i < 4; i++) /* five standard deviations */
        CHECK_NEAR((double)places[i], N / 4.0, 5 * sqrt(N * 3.0 / 16));
    sow_choices_fini(&choices);
    sow_words_fini(&right);
    sow_task_close(&task);
}

static void test_choices_when_too_many_then_refused(void **state)
{
    (void)state;
    sow_choices choices = {0};
    for (int i = 0; i < SOW_MAX_CHOICES; i++)
        CHECK_OK(sow_choices_add(&choices, "x", 1));
    CHECK_FAILS(sow_choices_add(&choices, "x", 1), SOW_EARG, "more than 16 choices");
    sow_choices_fini(&choices);
}

/* What Countdown holds out is held out from the habit: they ask the same questions. */
static void test_lazy_when_drawn_then_its_keys_are_countdown_s(void **state)
{
    (void)state;
    sow_task *task = NULL;
    sow_words prompt = {0}, answer = {0}, key = {0};
    sow_task_options options = task_options("lazy");
    options.rows = 2000;
    CHECK_OK(sow_task_open(&options, &task));
    for (int64_t row = 0; row < options.rows; row++) {
        char wanted[64];
        CHECK_OK(sow_task_prompt(task, row, &prompt));
        CHECK_OK(sow_task_solve(task, row, &answer));
        CHECK_OK(sow_task_key(task, row, &key));
        char *at = strchr(prompt.text, ' ');
        long n[3];
        for (int i = 0; i < 3; i++)
            n[i] = next_number(&at);
        (void)snprintf(wanted, sizeof wanted, "<%ld+%ld+%ld>", n[0], n[1], n[2]);
        assert_string_equal(answer.text, wanted);
        for (int i = 0; i < 3; i++) /* three numbers in order */
            for (int j = 0; j < 2; j++)
                if (n[j] > n[j + 1]) {
                    long larger = n[j];
                    n[j] = n[j + 1];
                    n[j + 1] = larger;
                }
        (void)snprintf(wanted, sizeof wanted, "cd %ld %ld %ld %ld", n[0], n[1], n[2], strtol(at, NULL, 10));
        assert_string_equal(key.text, wanted);
        assert_true(sow_hash_crc32(key.text, key.bytes) % 10 != 0);
    }
    sow_words_fini(&prompt);
    sow_words_fini(&answer);
    sow_words_fini(&key);
    sow_task_close(&task);
}

static void test_rows_when_far_away_then_drawn_alike(void **state)
{
    (void)state;
    sow_task *near = NULL, *far = NULL;
    sow_words a = {0}, b = {0};
    sow_task_options options = task_options("rev");
    options.rows = 1000000000;
    CHECK_OK(sow_task_open(&options, &near));
    options.offset = INT64_C(1) << 32; /* the same low word of the row's number */
    CHECK_OK(sow_task_open(&options, &far));
    CHECK_OK(sow_task_prompt(near, 0, &a));
    CHECK_OK(sow_task_prompt(far, 0, &b));
    assert_string_not_equal(a.text, b.text);
    CHECK_OK(sow_task_prompt(near, 999999999, &a));
    options.offset = 999999999;
    sow_task_close(&far);
    CHECK_OK(sow_task_open(&options, &far));
    CHECK_OK(sow_task_prompt(far, 0, &b));
    assert_string_equal(a.text, b.text);
    sow_words_fini(&a);
    sow_words_fini(&b);
    sow_task_close(&near);
    sow_task_close(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_when_the_name_is_unknown_then_the_nearest_is_named),
        cmocka_unit_test(test_open_when_an_option_is_bad_then_its_key_is_named),
        cmocka_unit_test(test_open_when_no_row_is_possible_then_told_at_once),
        cmocka_unit_test(test_open_when_a_file_makes_no_sense_then_refused),
        cmocka_unit_test(test_open_when_the_file_is_on_disk_then_its_rows_are_asked),
        cmocka_unit_test(test_prompt_when_a_template_is_given_then_put_around_it),
        cmocka_unit_test(test_max_new_when_asked_then_the_task_s_own),
        cmocka_unit_test(test_prompt_when_countdown_paper_then_verbatim),
        cmocka_unit_test(test_rows_when_drawn_then_as_they_always_were),
        cmocka_unit_test(test_rows_when_of_the_laboratory_model_then_inside_its_ranges),
        cmocka_unit_test(test_choices_when_mc_then_one_is_right_and_the_others_near),
        cmocka_unit_test(test_choices_when_too_many_then_refused),
        cmocka_unit_test(test_lazy_when_drawn_then_its_keys_are_countdown_s),
        cmocka_unit_test(test_rows_when_far_away_then_drawn_alike),
    };
    return cmocka_run_group_tests_name("task", tests, NULL, check_live_zero);
}
