// NEEDS: task
/* SPDX-License-Identifier: Apache-2.0 */
/* The graders against recorded cases of ../shared: Countdown's (from the paper's own Python), and the laboratory
 * model's 400 held-out items with its answers to them and their grades. */
#include "check.h"
#include "task_options.h"

#include "sower/file.h"
#include "sower/hash.h"
#include "sower/json.h"

/* ---- Countdown ---- */

static void check_countdown_case(const sow_task_options *options, const sow_json *row, int64_t line)
{
    sow_grade grade = {0};
    double format = -1, answer = -1;
    assert_true(sow_json_to_real(sow_json_get(row, "format"), &format));
    assert_true(sow_json_to_real(sow_json_get(row, "answer"), &answer));
    CHECK_OK(sow_task_find("countdown")->grade_json(options, row, "countdown.jsonl", &grade));
    bool is_equal = fabs(grade.parts[0] - format) <= 1e-9 && grade.parts[1] == answer &&
                    grade.is_correct == (answer == 1) && fabs(grade.reward - (0.1 * format + answer)) <= 1e-12;
    if (!is_equal)
        fail_msg("case %lld: format %g, answer %g, reward %g; expected %g, %g", (long long)line, grade.parts[0],
                 grade.parts[1], grade.reward, format, answer);
}

static void test_countdown_when_all_recorded_cases_are_graded_then_equal(void **state)
{
    (void)state;
    const char *path = check_shared("grader_cases/countdown.jsonl");
    if (path == NULL)
        skip();
    char *text = NULL;
    size_t bytes = 0;
    int64_t n = 0;
    sow_task_options options = task_options("countdown");
    CHECK_OK(sow_file_read(path, 1 << 24, &text, &bytes));
    for (char *line = text, *next; line < text + bytes; line = next + 1) {
        next = strchr(line, '\n');
        assert_non_null(next);
        sow_json *row = NULL;
        CHECK_OK(sow_json_parse(line, (size_t)(next - line), "countdown.jsonl", &row));
        check_countdown_case(&options, row, ++n);
        sow_json_destroy(&row);
    }
    assert_int_equal(n, 524);
    SOW_FREE(&text);
}

/* ---- The laboratory model's items ---- */

static int compare_numbers(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

/* The key of the held-out rule, from the prompt, written down here a second time and independently. */
static void key_of(const char *task, const char *prompt, char key[64])
{
    const char *rest = strchr(prompt, ' ') + 1;
    int n = (int)strcspn(rest, "=");
    if (strcmp(task, "cd") == 0) {
        long v[4];
        char *at = NULL;
        for (int i = 0; i < 4; i++, rest = at)
            v[i] = strtol(rest, &at, 10);
        assert_string_equal(at, "=");
        qsort(v, 3, sizeof v[0], compare_numbers);
        (void)snprintf(key, 64, "cd %ld %ld %ld %ld", v[0], v[1], v[2], v[3]);
    } else if (strcmp(task, "count") == 0) {
        (void)snprintf(key, 64, "%c%.*s", rest[0], n - 2, rest + 2);
    } else if (strcmp(task, "calc") == 0 || strcmp(task, "eval") == 0) {
        (void)snprintf(key, 64, "%s", prompt);
    } else {
        (void)snprintf(key, 64, "%.*s", n, rest);
    }
}

static bool is_held_out(const char *key)
{
    return sow_hash_crc32(key, strlen(key)) % 10 == 0;
}

static sow_task_options options_of(const char *task)
{
    bool is_countdown = strcmp(task, "cd") == 0;
    sow_task_options options = task_options(is_countdown ? "countdown" : task);
    task_set(options.form, is_countdown ? "short" : "paper");
    return options;
}

/* The grade of a response to a prompt. */
static sow_grade grade_of(const sow_task_options *options, const char *prompt, const char *response)
{
    char text[512];
    sow_json *row = NULL;
    sow_grade grade = {0};
    int n = snprintf(text, sizeof text, "{\"prompt\": \"%s\", \"response\": \"%s\"}", prompt, response);
    CHECK_OK(sow_json_parse(text, (size_t)n, "row", &row));
    CHECK_OK(sow_task_find(options->name)->grade_json(options, row, "row", &grade));
    sow_json_destroy(&row);
    return grade;
}

static void check_item(const sow_json *item)
{
    const char *task = sow_json_to_string(sow_json_get(item, "task"), NULL);
    const char *prompt = sow_json_to_string(sow_json_get(item, "prompt"), NULL);
    const char *answer = sow_json_to_string(sow_json_get(item, "answer"), NULL);
    const char *greedy = sow_json_to_string(sow_json_get(item, "greedy"), NULL);
    int64_t correct = -1, format = -1;
    char key[64];
    assert_true(sow_json_to_int(sow_json_get(item, "correct"), &correct));
    sow_task_options options = options_of(task);
    key_of(task, prompt, key);
    if (!is_held_out(key))
        fail_msg("%s: key '%s' is not held out", prompt, key);
    if (!grade_of(&options, prompt, answer).is_correct)
        fail_msg("%s: the right answer %s is graded wrong", prompt, answer);
    sow_grade grade = grade_of(&options, prompt, greedy);
    if (grade.is_correct != (correct == 1))
        fail_msg("%s: %s is graded %d, expected %d", prompt, greedy, (int)grade.is_correct, (int)correct);
    if (sow_json_to_int(sow_json_get(item, "format"), &format) && grade.parts[0] != (double)format)
        fail_msg("%s: %s has format %g, expected %d", prompt, greedy, grade.parts[0], (int)format);
}

static void test_sprout_items_when_graded_then_as_recorded_and_held_out(void **state)
{
    (void)state;
    const char *path = check_shared("golden/sprout_proto.json");
    if (path == NULL)
        skip();
    sow_json *root = NULL;
    CHECK_OK(sow_json_load(path, &root));
    const sow_json *rows = sow_json_get(root, "rows");
    assert_int_equal(sow_json_size(rows), 400);
    for (int64_t i = 0; i < 400; i++)
        check_item(sow_json_at(rows, i));
    sow_json_destroy(&root);
}

/* Our own rows follow the same rule: their key is what key_of makes of their prompt. */
static void test_rows_of_the_short_forms_when_keyed_then_as_the_recorded_items(void **state)
{
    (void)state;
    static const char *const tasks[] = {"cd", "calc", "eval", "rev", "sort", "count"};
    sow_words prompt = {0}, key = {0};
    for (size_t t = 0; t < sizeof tasks / sizeof tasks[0]; t++) {
        for (int is_test = 0; is_test < 2; is_test++) {
            sow_task *task = NULL;
            sow_task_options options = options_of(tasks[t]);
            task_set(options.split, is_test == 1 ? "test" : "train");
            CHECK_OK(sow_task_open(&options, &task));
            for (int64_t row = 0; row < sow_task_rows(task); row++) {
                char wanted[64];
                CHECK_OK(sow_task_prompt(task, row, &prompt));
                CHECK_OK(sow_task_key(task, row, &key));
                key_of(tasks[t], prompt.text, wanted);
                assert_string_equal(key.text, wanted);
                assert_int_equal(is_held_out(wanted), is_test);
            }
            sow_task_close(&task);
        }
    }
    sow_words_fini(&prompt);
    sow_words_fini(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_countdown_when_all_recorded_cases_are_graded_then_equal),
        cmocka_unit_test(test_sprout_items_when_graded_then_as_recorded_and_held_out),
        cmocka_unit_test(test_rows_of_the_short_forms_when_keyed_then_as_the_recorded_items),
    };
    return cmocka_run_group_tests_name("grader cases", tests, NULL, check_live_zero);
}
