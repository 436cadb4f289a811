/* SPDX-License-Identifier: Apache-2.0 */
/* The skills of the laboratory model: short generated lines with one right answer.
 *
 * A line is PROMPT ANSWER \n; the newline ends generation and is no part of the completion.  Right means equal.  The
 * prior skills of the study: what a run on Countdown may make the model forget. */
#include "task_impl.h"

#include "sower/alloc.h"

#include <string.h>

enum { LONGEST_ANSWER = 12 }; /* tokens */

struct sow_task_state {
    const sow_skill *skill;
    sow_row_source source;
};

bool sow_take_text(const char **at, const char *text)
{
    size_t n = strlen(text);
    if (strncmp(*at, text, n) != 0)
        return false;
    *at += n;
    return true;
}

bool sow_take_number(const char **at, int64_t *out)
{
    int64_t value = 0;
    int n = 0;
    for (; (*at)[n] >= '0' && (*at)[n] <= '9' && n < 10; n++)
        value = 10 * value + ((*at)[n] - '0');
    if (n == 0 || n > 9)
        return false;
    *at += n;
    *out = value;
    return true;
}

bool sow_take_letters(const char **at, char low, char high, char out[SOW_LINE_BYTES])
{
    enum { MOST = 32 };
    int n = 0;
    for (; (*at)[n] >= low && (*at)[n] <= high && n <= MOST; n++)
        out[n] = (*at)[n];
    if (n == 0 || n > MOST)
        return false;
    out[n] = '\0';
    *at += n;
    return true;
}

int64_t sow_three_numbers(const int64_t numbers[3], const char ops[2])
{
    int64_t a = numbers[0], b = numbers[1], c = numbers[2];
    if (ops[1] == '*' && ops[0] != '*')
        return ops[0] == '+' ? a + b * c : a - b * c;
    int64_t left = ops[0] == '*' ? a * b : ops[0] == '+' ? a + b : a - b;
    return ops[1] == '*' ? left * c : ops[1] == '+' ? left + c : left - c;
}

sow_code sow_skill_open(const sow_skill *skill, const sow_task_options *options, const char *file, sow_task_state **out)
{
    if (file != NULL || options->file[0] != '\0')
        return SOW_FAIL(SOW_ECONF, "task.file: '%s' is given, but task %s makes its rows from task.seed; expected none",
                        options->file, skill->name);
    sow_task_state *state = NULL;
    SOW_TRY(SOW_ALLOC(&state, 1));
    state->skill = skill;
    state->source = sow_row_source_of(skill->rows_of == NULL ? skill->name : skill->rows_of, options);
    *out = state;
    return SOW_OK;
}

void sow_skill_close(sow_task_state **state)
{
    SOW_FREE(state);
}

int64_t sow_skill_max_new(const sow_task_options *options)
{
    (void)options;
    return LONGEST_ANSWER;
}

int64_t sow_skill_n_rows(const sow_task_state *state)
{
    (void)state;
    return INT64_MAX;
}

static sow_code draw(const sow_task_state *state, int64_t row, sow_line_item *item, char key[SOW_KEY_BYTES])
{
    return sow_row_draw(&state->source, row, state->skill->draw, NULL, item, key);
}

sow_code sow_skill_ask(sow_task_state *state, int64_t row, sow_words *out)
{
    sow_line_item item;
    char key[SOW_KEY_BYTES];
    SOW_TRY(draw(state, row, &item, key));
    return sow_words_add(out, item.prompt, strlen(item.prompt));
}

sow_code sow_skill_solve(sow_task_state *state, int64_t row, sow_words *out)
{
    sow_line_item item;
    char key[SOW_KEY_BYTES];
    SOW_TRY(draw(state, row, &item, key));
    return sow_words_add(out, item.answer, strlen(item.answer));
}

sow_code sow_skill_key(sow_task_state *state, int64_t row, sow_words *out)
{
    sow_line_item item;
    char key[SOW_KEY_BYTES];
    SOW_TRY(draw(state, row, &item, key));
    return sow_words_add(out, key, strlen(key));
}

sow_code sow_skill_choices(sow_task_state *state, int64_t row, sow_choices *out)
{
    sow_line_item item;
    char key[SOW_KEY_BYTES];
    sow_random random;
    sow_row_source own = state->source;
    own.name = state->skill->name;
    SOW_TRY(draw(state, row, &item, key));
    sow_row_random(&own, row, &random);
    out->tail = "\n";
    return state->skill->choose(item.answer, &random, out);
}

static sow_grade grade_of(const char *answer, const char *completion, size_t bytes)
{
    bool is_right = bytes == strlen(answer) && memcmp(completion, answer, bytes) == 0;
    return (sow_grade){.reward = is_right ? 1 : 0, .is_correct = is_right};
}

sow_code sow_skill_grade(sow_task_state *state, int64_t row, const char *completion, size_t bytes, sow_grade *out)
{
    sow_line_item item;
    char key[SOW_KEY_BYTES];
    SOW_TRY(draw(state, row, &item, key));
    *out = grade_of(item.answer, completion, bytes);
    return SOW_OK;
}

sow_code sow_skill_grade_json(const sow_skill *skill, const sow_json *row, const char *what, sow_grade *out)
{
    const char *prompt = NULL, *response = NULL;
    size_t bytes = 0;
    char answer[SOW_LINE_BYTES];
    SOW_TRY(sow_row_string(row, "prompt", what, true, &prompt));
    SOW_TRY(sow_row_text(row, "response", what, &response, &bytes));
    if (!skill->answer(prompt, answer))
        return SOW_FAIL(SOW_EFORMAT, "%s: prompt: '%s' is no question of task %s", what, prompt, skill->name);
    *out = grade_of(answer, response, bytes);
    return SOW_OK;
}
