// NEEDS: task
/* SPDX-License-Identifier: Apache-2.0 */
/* Graders, case by case, through rows with a response as `sower grade` reads them. */
#include "check.h"
#include "task_options.h"

#include "sower/json.h"

static sow_code grade_text(const sow_task_options *options, const char *text, sow_grade *out)
{
    sow_json *row = NULL;
    CHECK_OK(sow_json_parse(text, strlen(text), "row", &row));
    sow_code rc = sow_task_find(options->name)->grade_json(options, row, "in:7", out);
    sow_json_destroy(&row);
    return rc;
}

static void check_reward(const sow_task_options *options, const char *text, double reward)
{
    sow_grade grade = {.reward = (double)NAN};
    CHECK_OK(grade_text(options, text, &grade));
    if (fabs(grade.reward - reward) > 1e-12)
        fail_msg("%s: reward %g, expected %g", text, grade.reward, reward);
    assert_true(grade.is_correct == (strcmp(options->name, "conciseness") == 0 ? reward == 0 : reward >= 1));
}

static void check_refused(const sow_task_options *options, const char *text, const char *words)
{
    sow_grade grade = {.reward = 77};
    CHECK_FAILS(grade_text(options, text, &grade), SOW_EFORMAT, words);
    assert_true(grade.reward == 77);
}

/* The table of sprout.md, section 1. */
static void test_skills_when_answered_then_equality_counts(void **state)
{
    (void)state;
    static const struct {
        const char *task, *prompt, *answer;
    } cases[] = {
        {"calc", "calc 93+3=", "96"},      {"calc", "calc 90-39=", "51"},      {"calc", "calc 0-0=", "0"},
        {"eval", "eval 4+9-9=", "4"},      {"eval", "eval 2+3*4=", "14"},      {"eval", "eval 2*3+4=", "10"},
        {"eval", "eval 9-2*3=", "3"},      {"eval", "eval 2*3*4=", "24"},      {"eval", "eval 9-3-2=", "4"},
        {"rev", "rev qyrg=", "gryq"},      {"sort", "sort 579032=", "023579"}, {"count", "count a abccacba=", "3"},
        {"count", "count c aabbab=", "0"}, {"mc", "calc 46+21=", "67"},        {"lazy", "cd 7 11 2 3=", "<7+11+2>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        sow_task_options options = task_options(cases[i].task);
        (void)snprintf(text, sizeof text, "{\"prompt\": \"%s\", \"response\": \"%s\"}", cases[i].prompt,
                       cases[i].answer);
        check_reward(&options, text, 1);
        (void)snprintf(text, sizeof text, "{\"prompt\": \"%s\", \"response\": \"%s\\n\"}", cases[i].prompt,
                       cases[i].answer);
        check_reward(&options, text, 0);
        (void)snprintf(text, sizeof text, "{\"prompt\": \"%s\", \"response\": \" %s\"}", cases[i].prompt,
                       cases[i].answer);
        check_reward(&options, text, 0);
        (void)snprintf(text, sizeof text, "{\"prompt\": \"%s\", \"response\": \"\"}", cases[i].prompt);
        check_reward(&options, text, 0);
    }
}

static void test_skills_when_the_prompt_is_none_of_theirs_then_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"calc", "calc 93+3"},
        {"calc", "calc 93*3="},
        {"calc", "calc +3="},
        {"calc", "calc 9+3= "},
        {"calc", "eval 1+2+3="},
        {"calc", "calc 1234567890+1="},
        {"eval", "eval 1+2="},
        {"eval", "eval 1/2+3="},
        {"eval", "eval 1000000*1*1="},
        {"rev", "rev QYRG="},
        {"rev", "rev ="},
        {"rev", "rev abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz="},
        {"sort", "sort 12a4="},
        {"count", "count ab abc="},
        {"count", "count a="},
        {"mc", "eval 1+2+3="},
        {"lazy", "cd 3="},
        {"lazy", "cd 7 11 2 3"},
        {"lazy", "cd 999999999 999999999 999999999 999999999 999999999 999999999 999999999 1="},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        sow_task_options options = task_options(cases[i][0]);
        (void)snprintf(text, sizeof text, "{\"prompt\": \"%s\", \"response\": \"1\"}", cases[i][1]);
        check_refused(&options, text, "in:7: prompt: '");
    }
    sow_task_options options = task_options("calc");
    check_refused(&options, "{\"response\": \"1\"}", "in:7: prompt: is missing");
    check_refused(&options, "{\"prompt\": \"calc 93+3=\"}", "in:7: response: is missing");
    check_refused(&options, "{\"prompt\": \"calc 93+3=\", \"response\": 96}", "in:7: response: is a number");
}

static void test_countdown_short_when_graded_then_format_and_answer(void **state)
{
    (void)state;
    static const struct {
        const char *completion;
        double reward;
    } cases[] = {
        {"<7+11+2>", 1.1},
        {"<2+7+11>", 1.1},
        {"<11+7+2>", 1.1},
        {"<7+11-2>", 0.1},
        {"<7+11>", 0.1},
        {"<7+11+2+0>", 0.1},
        {"7+11+2", 0},
        {"<7+11+2", 0},
        {"7+11+2>", 0},
        {"<7+11+2>\\n", 0},
        {" <7+11+2>", 0},
        {"<7 + 11 + 2>", 0},
        {"<(7+11)+2>", 0},
        {"<7+11+4/2>", 0},
        {"<>", 0},
        {"<", 0},
        {"", 0},
        {"<<7+11+2>>", 0},
        {"<7+11+2\\n>", 0},
        {"<7++11+2>", 1.1},
        {"<07+11+2>", 0.1},
        {"<7+11+2>x", 0},
        {"<7**11*2>", 0.1},
        {"<\\u0000>", 0},
        {"<20>", 0.1},
        {"<+7+11+2>", 1.1},
        {"<7+11+2+>", 0.1},
        {"<7\\u00d711+2>", 0},
    };
    sow_task_options options = task_options("countdown");
    task_set(options.form, "short");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{\"prompt\": \"cd 7 11 2 20=\", \"response\": \"%s\"}", cases[i].completion);
        check_reward(&options, text, cases[i].reward);
        (void)snprintf(text, sizeof text, "{\"numbers\": [7, 11, 2], \"target\": 20, \"response\": \"%s\"}",
                       cases[i].completion);
        check_reward(&options, text, cases[i].reward);
    }
    check_refused(&options, "{\"prompt\": \"cd 7=\", \"response\": \"\"}", "in:7: prompt: 'cd 7=' is no question");
    check_refused(&options, "{\"prompt\": \"cd 7 x 2=\", \"response\": \"\"}", "is no question");
    check_refused(&options, "{\"prompt\": \"cd 7 1 2= \", \"response\": \"\"}", "is no question");
    check_refused(&options, "{\"response\": \"\"}", "in:7: numbers: is no array");
}

/* Beyond the recorded cases: what the letter of the Python implies. */
static void test_countdown_paper_when_graded_then_as_python(void **state)
{
    (void)state;
    static const struct {
        const char *completion;
        double reward;
    } cases[] = {
        {"</think>\\n<answer>2*3+4</answer>", 1.1},
        {"</think>\\n<answer>2*3+4\\n</answer>", 1.1},    /* $ before the last newline */
        {"</think>\\n<answer>2*3+4\\n\\n</answer>", 0.1}, /* but not before two */
        {"</think>\\n<answer>\\n2*3+4</answer>", 0.1},
        {"</think>\\n<answer>2*3+4</answer>\\n\\n", 1.06}, /* the same $ in the format */
        {"</think>\\n<answer>2*3+4</answer> ", 1.06},
        {"</think>\\n<answer>no</answer> <answer>2*3+4</answer>", 1.1},
        {"</think>\\n<answer><answer>2*3+4</answer>", 0.1}, /* the first <answer> takes the second in */
        {"</think> </think>\\n<answer>2*3+4</answer>", 1.1},
        {"</think>\\n<answer>2*3+4", 0.01},
        {"<answer>2*3+4</answer>", 1.05},
        {"<answer>2*3+4</answer></think>\\n<answer>", 1.06}, /* an open one at the end counts for nothing */
        {"<answer>2*3+4</answer></think>\\n<answer></answer>", 0.1},
        {"</think>\\n</answer><answer>2*3+4</answer>", 1.06},
        {"</think>\\n<answer>4 + 2 * 3</answer>", 1.1},
        {"</think>\\n<answer>2\\u0663+4</answer>", 0.1}, /* \\d may be Arabic, the charset is not */
        {"</think>\\n<answer>(2*3+4)*1</answer>", 0.1},
        {"</think>\\n<answer>2*3/(4-4)</answer>", 0.1},
        {"</think>\\n<answer>3**2+4//4</answer>", 0.1}, /* 4 is used twice */
        {"</think>\\n<answer>4*3-2</answer>", 1.1},
        {"</think>\\n<answer>23+4</answer>", 0.1},
        {"</think>\\n<answer>-2+3*4</answer>", 1.1},
        {"</think>\\n<answer>-(2-3*4)</answer>", 1.1},
        {"</think>\\u0000\\n<answer>2*3+4</answer>", 1.06},
        {"", 0},
    };
    sow_task_options options = task_options("countdown");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{\"numbers\": [4, 2, 3], \"target\": \"10\", \"response\": \"%s\"}",
                       cases[i].completion);
        check_reward(&options, text, cases[i].reward);
    }
    check_reward(&options, "{\"numbers\": [137, 5], \"target\": \"27.4\", \"response\": \"<answer>137/5</answer>\"}",
                 1.05);
    check_reward(&options, "{\"numbers\": [1, 3], \"target\": 0.33334, \"response\": \"<answer>1/3</answer>\"}", 1.05);
    check_reward(&options, "{\"numbers\": [1, 3], \"target\": 0.33335, \"response\": \"<answer>1/3</answer>\"}", 0.05);
    check_reward(&options, "{\"numbers\": [-5], \"target\": -5, \"response\": \"<answer>-5</answer>\"}", 0.05);
    check_reward(&options, "{\"numbers\": [99, 98, 97], \"target\": 1, \"response\": \"<answer>99**98**97</answer>\"}",
                 0.05);
    check_refused(&options, "{\"numbers\": [4], \"target\": 4}", "in:7: response: is missing");
}

static void test_conciseness_when_graded_then_characters_count(void **state)
{
    (void)state;
    sow_task_options options = task_options("conciseness");
    check_reward(&options, "{\"reference\": \"30\", \"response\": \"30\"}", 0);
    check_reward(&options, "{\"reference\": \"30\", \"response\": \"no\"}", 0);
    check_reward(&options, "{\"reference\": \"30\", \"response\": \"\"}", -2);
    check_reward(&options, "{\"reference\": \"30\", \"response\": \" 30\\n\"}", -2);
    check_reward(&options, "{\"reference\": \"\\u6f22\\u5b57\\ud83d\\ude00\", \"response\": \"abc\"}", 0);
    check_reward(&options, "{\"reference\": \"e\", \"response\": \"e\\u0301\"}", -1);
    check_refused(&options, "{\"response\": \"30\"}", "in:7: reference: is missing");
}

/* A completion may be cut in the middle of a character: the numbers are those of len(bytes.decode("utf-8",
 * "replace")). */
static void test_conciseness_when_bytes_are_ill_formed_then_as_decoded_with_replacement(void **state)
{
    (void)state;
    static const char rows[] = "{\"prompt\": \"p\", \"reference\": \"\"}";
    static const struct {
        const char *bytes;
        double characters;
    } cases[] = {
        {"abc", 3},
        {"\xc3\xa9", 1},
        {"\xc3", 1},
        {"\xe6\xbc", 1},
        {"\xf0\x9f\x98", 1},
        {"\xf0\x9f\x98\x80", 1},
        {"\x80\x80", 2},
        {"\xc0\xaf", 2},
        {"\xe0\x80\x80", 3},
        {"\xed\xa0\x80", 3},
        {"\xf4\x90\x80\x80", 4},
        {"\xf5\x80", 2},
        {"\xe6\xbc"
         "a",
         2},
        {"\xf0\x9f"
         "\xc3\xa9",
         2},
        {"\xff", 1},
    };
    sow_task *task = NULL;
    sow_task_options options = task_options_of_file("conciseness");
    CHECK_OK(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sow_grade grade = {0};
        CHECK_OK(sow_task_grade(task, 0, cases[i].bytes, strlen(cases[i].bytes), &grade));
        if (grade.parts[0] != cases[i].characters || grade.reward != -cases[i].characters)
            fail_msg("case %zu: %g characters, expected %g", i, grade.parts[0], cases[i].characters);
    }
    sow_task_close(&task);
}

static void test_jsonl_when_exact_then_blanks_around_do_not_count(void **state)
{
    (void)state;
    sow_task_options options = task_options("jsonl");
    check_reward(&options, "{\"answer\": \"Paris\", \"response\": \" Paris\\n\"}", 1);
    check_reward(&options, "{\"answer\": \" Paris \", \"response\": \"Paris\"}", 1);
    check_reward(&options, "{\"answer\": \"Paris\", \"response\": \"paris\"}", 0);
    check_reward(&options, "{\"answer\": \"Paris\", \"response\": \"Paris.\"}", 0);
    check_reward(&options, "{\"answer\": 42, \"response\": \"42\"}", 1);
    check_reward(&options, "{\"answer\": 42, \"response\": \"42.0\"}", 0);
    check_reward(&options, "{\"answer\": \"\", \"response\": \" \"}", 1);
    check_reward(&options, "{\"answer\": \"a\", \"response\": \"\\u0000a\"}", 0);
    check_refused(&options, "{\"answer\": 4.5, \"response\": \"4.5\"}", "in:7: answer: is a number, expected a string");
    check_refused(&options, "{\"response\": \"4.5\"}", "in:7: answer: is missing");
}

static void test_jsonl_when_numeric_then_the_last_number_counts(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *response;
        double reward;
    } cases[] = {
        {"\"42\"", "42", 1},
        {"42", "The answer is 42.", 1},
        {"42", "42 is not 43", 0},
        {"42.5", "42.50", 1},
        {"\"1,234\"", "1234", 1},
        {"1234", "It is 1,234.", 1},
        {"3", "1, 2, 3", 1},
        {"3", "1,2,3", 1},
        {"-3", "x = -3", 1},
        {"3", "5-3", 1},
        {"-3", "5 -3", 1},
        {"3", "(5)-3", 1},
        {"0.5", ".5", 1},
        {"5", "0.5.", 0},
        {"6e23", "6E+23", 1},
        {"6", "6e", 1},
        {"6", "6e+", 1},
        {"1", "no number", 0},
        {"1", "", 0},
        {"0.1", "0.1000", 1},
        {"\"-.5\"", "-.5", 1},
        {"2", "1.2.", 0},
        {"3", "v1.2.3", 0},
        {"1234567", "1,234,567", 1},
        {"2345", "1,2345", 1},
        {"7", "\\uff17", 0},
        {"8", "8\\u20ac", 1},
        {"12", "1\\u00a012", 1},
        {"1", "1e999", 0},
        {"0.3", "v1.2.3", 1},
    };
    sow_task_options options = task_options("jsonl");
    task_set(options.match, "numeric");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{\"answer\": %s, \"response\": \"%s\"}", cases[i].answer, cases[i].response);
        check_reward(&options, text, cases[i].reward);
    }
    check_refused(&options, "{\"answer\": \"many\", \"response\": \"1\"}", "in:7: answer: 'many' is no number");
    check_refused(&options, "{\"answer\": \"4 apples\", \"response\": \"4\"}", "answer: '4 apples' is no number");
    check_refused(&options, "{\"answer\": \"\", \"response\": \"4\"}", "answer: '' is no number");
    check_refused(&options, "{\"answer\": \"nan\", \"response\": \"4\"}", "answer: 'nan' is no number");
}

static void test_jsonl_when_the_number_is_endless_then_none(void **state)
{
    (void)state;
    char text[1200] = "{\"answer\": 1, \"response\": \"";
    sow_task_options options = task_options("jsonl");
    task_set(options.match, "numeric");
    size_t at = strlen(text);
    memset(text + at, '0', 1000);
    memcpy(text + at + 1000, "1\"}", 4);
    check_reward(&options, text, 0);
}

static void test_jsonl_when_regex_then_it_must_match(void **state)
{
    (void)state;
    sow_task_options options = task_options("jsonl");
    task_set(options.match, "regex");
    check_reward(&options, "{\"answer\": \"(?i)paris\", \"response\": \"It is PARIS, of course\"}", 1);
    check_reward(&options, "{\"answer\": \"^Paris$\", \"response\": \"It is Paris\"}", 0);
    check_reward(&options, "{\"answer\": \"a.b\", \"response\": \"a\\nb\"}", 0);
    check_reward(&options, "{\"answer\": \"\\\\d+\", \"response\": \"\"}", 0);
    check_refused(&options, "{\"answer\": \"(\", \"response\": \"\"}", "in:7: answer: ");
    check_refused(&options, "{\"answer\": 5, \"response\": \"\"}", "in:7: answer: is a number, expected a string");
}

static void test_jsonl_when_regex_rows_are_solved_then_by_their_solution(void **state)
{
    (void)state;
    static const char rows[] = "{\"prompt\": \"p\", \"answer\": \"^P\\\\w+$\", \"solution\": \"Paris\"}\n"
                               "{\"prompt\": \"q\", \"answer\": \"Rome\"}\n"
                               "{\"prompt\": \"r\", \"answer\": \"^\\\\d$\"}\n"
                               "{\"prompt\": \"s\", \"answer\": \"^\\\\d$\", \"solution\": \"x\"}\n";
    sow_task *task = NULL;
    sow_words words = {0};
    sow_task_options options = task_options_of_file("jsonl");
    task_set(options.match, "regex");
    CHECK_OK(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task));
    CHECK_OK(sow_task_solve(task, 0, &words));
    assert_string_equal(words.text, "Paris");
    CHECK_OK(sow_task_solve(task, 1, &words));
    assert_string_equal(words.text, "Rome");
    CHECK_FAILS(sow_task_solve(task, 2, &words), SOW_EARG, "rows.jsonl:3: solution: is missing");
    CHECK_FAILS(sow_task_solve(task, 3, &words), SOW_EARG, "rows.jsonl:4: solution: is not right");
    sow_words_fini(&words);
    sow_task_close(&task);
}

static void test_jsonl_when_a_completion_is_not_right_then_it_is_named(void **state)
{
    (void)state;
    static const char rows[] = "{\"prompt\": \"p\", \"answer\": \"5\", \"completion\": \"Let me think: 5\"}\n"
                               "{\"prompt\": \"q\", \"answer\": \"5\", \"solution\": \"Let me think: 5\"}\n"
                               "{\"prompt\": \"r\", \"answer\": \"5\", \"completion\": \" 5\"}\n"
                               "{\"prompt\": \"s\", \"answer\": \"5\", \"completion\": \"\"}\n";
    sow_task *task = NULL;
    sow_words words = {0};
    char place[SOW_TASK_PLACE_BYTES];
    sow_task_options options = task_options_of_file("jsonl");
    CHECK_OK(sow_task_open_bytes(&options, rows, sizeof rows - 1, &task));
    CHECK_FAILS(sow_task_solve(task, 0, &words), SOW_EARG, "rows.jsonl:1: completion: is not right, expected");
    CHECK_FAILS(sow_task_solve(task, 1, &words), SOW_EARG, "rows.jsonl:2: solution: is not right, expected");
    CHECK_OK(sow_task_solve(task, 2, &words));
    assert_string_equal(words.text, " 5");
    assert_string_equal(sow_task_place(task, 2, place), "rows.jsonl:3");
    CHECK_FAILS(sow_task_solve(task, 3, &words), SOW_EARG, "rows.jsonl:4: completion: is not right, expected");
    sow_words_fini(&words);
    sow_task_close(&task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skills_when_answered_then_equality_counts),
        cmocka_unit_test(test_skills_when_the_prompt_is_none_of_theirs_then_refused),
        cmocka_unit_test(test_countdown_short_when_graded_then_format_and_answer),
        cmocka_unit_test(test_countdown_paper_when_graded_then_as_python),
        cmocka_unit_test(test_conciseness_when_graded_then_characters_count),
        cmocka_unit_test(test_conciseness_when_bytes_are_ill_formed_then_as_decoded_with_replacement),
        cmocka_unit_test(test_jsonl_when_exact_then_blanks_around_do_not_count),
        cmocka_unit_test(test_jsonl_when_numeric_then_the_last_number_counts),
        cmocka_unit_test(test_jsonl_when_the_number_is_endless_then_none),
        cmocka_unit_test(test_jsonl_when_regex_then_it_must_match),
        cmocka_unit_test(test_jsonl_when_regex_rows_are_solved_then_by_their_solution),
        cmocka_unit_test(test_jsonl_when_a_completion_is_not_right_then_it_is_named),
    };
    return cmocka_run_group_tests_name("task grade", tests, NULL, check_live_zero);
}
