/* SPDX-License-Identifier: Apache-2.0 */
/* Countdown: reach a target from some numbers, each used once, by + - * /.
 *
 * Form paper: the prompt of Qiu et al. (arXiv 2509.24372) and arXiv 2601.20861, with rows from the seed (targets
 * 10..100) or from a file in the paper's form, [{"numbers": [44, 19, 35], "target": "98", "context": PROMPT,
 * "solution": "..."}, ...] or one such object a line; context and solution may be missing.  Form short: the line of
 * the laboratory model, "cd 7 11 2 20=" -> "<7+11+2>". */
#include "task_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST_PAPER = 1024, LONGEST_SHORT = 12 }; /* tokens */

/* The numbers stand as numpy prints them, right-aligned to the widest: [ 4 70 46 17]. */
static const char before_numbers[] = "You are a helpful assistant. You first think about the reasoning process in your "
                                     "mind and then provide the user with the "
                                     "answer.Using the numbers [";
static const char before_target[] = "], create an equation that equals ";
static const char behind_target[] = ". You can use basic arithmetic operations (+, -, *, /) and each number can only "
                                    "be used once. Show your work in <think> "
                                    "</think> tags. And return the final answer in <answer> </answer> tags, for "
                                    "example <answer> (1 + 2) / 3 </answer>.Let me "
                                    "solve this step by step.\n<think>";

/* A row of a file. */
typedef struct file_row {
    int64_t first_number, n_numbers; /* in state->numbers */
    double target;
    sow_span target_text, context, solution; /* in state->pool; no bytes: not given */
    sow_span place;                          /* "FILE:LINE" */
} file_row;

struct sow_task_state {
    bool is_short;
    sow_countdown_range range;
    sow_row_source source;
    sow_expression *workspace; /* owned */
    bool is_from_file;
    file_row *rows; /* owned */
    int64_t n_rows, rows_capacity;
    int64_t *numbers; /* owned */
    int64_t n_numbers, numbers_capacity;
    sow_words pool;
};

static bool is_short(const sow_task_options *options)
{
    return strcmp(options->form, "short") == 0;
}

static int64_t max_new(const sow_task_options *options)
{
    return is_short(options) ? LONGEST_SHORT : LONGEST_PAPER;
}

static sow_code read_target(const sow_json *row, const char *what, double *target, char text[SOW_LINE_BYTES])
{
    const sow_json *node = sow_json_get(row, "target");
    const char *words = NULL;
    double value = 0;
    if (sow_json_kind_of(node) == SOW_JSON_STRING) {
        SOW_TRY(sow_row_string(row, "target", what, true, &words));
        if (strlen(words) >= SOW_LINE_BYTES || !sow_number_whole(words, strlen(words), &value))
            return SOW_FAIL(SOW_EFORMAT, "%s: target: '%.80s' is no number", what, words);
        (void)snprintf(text, SOW_LINE_BYTES, "%s", words);
    } else if (sow_json_to_real(node, &value)) {
        (void)snprintf(text, SOW_LINE_BYTES, "%.15g", value);
    } else {
        return SOW_FAIL(SOW_EFORMAT, "%s: target: is missing or no number, expected a number or its text", what);
    }
    *target = value;
    return SOW_OK;
}

/* The numbers and the target of a row. */
static sow_code read_question(const sow_json *row, const char *what, sow_countdown_row *out, char text[SOW_LINE_BYTES])
{
    const sow_json *numbers = sow_json_get(row, "numbers");
    int64_t n = sow_json_size(numbers);
    if (sow_json_kind_of(numbers) != SOW_JSON_ARRAY || n < 1 || n > SOW_MAX_NUMBERS)
        return SOW_FAIL(SOW_EFORMAT, "%s: numbers: is no array of 1 to %d numbers", what, SOW_MAX_NUMBERS);
    out->n = n;
    for (int64_t i = 0; i < n; i++)
        if (!sow_json_to_int(sow_json_at(numbers, i), &out->numbers[i]))
            return SOW_FAIL(SOW_EFORMAT, "%s: numbers: item %lld is no whole number", what, (long long)i);
    return read_target(row, what, &out->target, text);
}

static sow_code add_text(sow_words *pool, const char *text, sow_span *out)
{
    return text == NULL ? SOW_OK : sow_span_add(pool, text, strlen(text), out);
}

static sow_code add_row(void *owner, const sow_json *row, const char *what, bool is_kept)
{
    sow_task_state *s = owner;
    sow_countdown_row question;
    char target[SOW_LINE_BYTES];
    const char *context = NULL, *solution = NULL;
    SOW_TRY(read_question(row, what, &question, target));
    SOW_TRY(sow_row_string(row, "context", what, false, &context));
    SOW_TRY(sow_row_string(row, "solution", what, false, &solution));
    if (!is_kept)
        return SOW_OK;
    file_row kept = {.first_number = s->n_numbers, .n_numbers = question.n, .target = question.target};
    SOW_TRY(add_text(&s->pool, target, &kept.target_text));
    SOW_TRY(add_text(&s->pool, context, &kept.context));
    SOW_TRY(add_text(&s->pool, solution, &kept.solution));
    SOW_TRY(add_text(&s->pool, what, &kept.place));
    SOW_TRY(SOW_GROW(&s->rows, &s->rows_capacity, s->n_rows));
    SOW_TRY(SOW_GROW(&s->numbers, &s->numbers_capacity, s->n_numbers + question.n));
    memcpy(s->numbers + s->n_numbers, question.numbers, (size_t)question.n * sizeof question.numbers[0]);
    s->n_numbers += question.n;
    s->rows[s->n_rows++] = kept;
    return SOW_OK;
}

static void close_rows(sow_task_state **state)
{
    if (*state != NULL) {
        sow_expression_destroy(&(*state)->workspace);
        SOW_FREE(&(*state)->rows);
        SOW_FREE(&(*state)->numbers);
        sow_words_fini(&(*state)->pool);
    }
    SOW_FREE(state);
}

static sow_code check(const sow_task_options *o, const char *file)
{
    bool is_drawn = file == NULL && !is_short(o);
    if (is_drawn && (o->numbers_min < 2 || o->numbers_max > 6 || o->numbers_min > o->numbers_max))
        return SOW_FAIL(SOW_ECONF, "task.numbers_min: %lld and task.numbers_max: %lld are no range inside 2 to 6",
                        (long long)o->numbers_min, (long long)o->numbers_max);
    if (is_drawn && (o->operand_max < 0 || o->operand_max > 1000))
        return SOW_FAIL(SOW_ECONF, "task.operand_max: %lld is outside [0, 1000]", (long long)o->operand_max);
    if (is_short(o) && (file != NULL || o->file[0] != '\0'))
        return SOW_FAIL(SOW_ECONF, "task.file: '%s' is given, but countdown's form short makes its rows from task.seed",
                        o->file);
    return SOW_OK;
}

static sow_code open_rows(const sow_task_options *options, const char *file, size_t file_bytes, sow_task_state **out)
{
    sow_code rc = SOW_OK;
    sow_task_state *s = NULL;
    SOW_TRY(check(options, file));
    SOW_TRY(SOW_ALLOC(&s, 1));
    s->is_short = is_short(options);
    s->range = (sow_countdown_range){options->numbers_min, options->numbers_max,
                                     options->operand_max == 0 ? 99 : options->operand_max};
    s->source = sow_row_source_of(s->is_short ? "countdown short" : "countdown", options);
    SOW_TRY_OR(rc, sow_expression_create(&s->workspace));
    s->is_from_file = file != NULL;
    if (s->is_from_file)
        SOW_TRY_OR(rc, sow_rows_read(options->file, file, file_bytes, s->source.is_test, add_row, s));
    *out = s;
    s = NULL;
done:
    close_rows(&s);
    return rc;
}

static int64_t n_rows(const sow_task_state *s)
{
    if (!s->is_from_file)
        return INT64_MAX;
    return s->n_rows > s->source.offset ? s->n_rows - s->source.offset : 0;
}

/* What a row asks, from the seed or the file; *from is NULL for a generated one. */
static sow_code find_row(const sow_task_state *s, int64_t row, sow_countdown_item *out, char key[SOW_KEY_BYTES],
                         const file_row **from)
{
    *from = NULL;
    out->row.n = 0;
    if (!s->is_from_file)
        return sow_row_draw(&s->source, row, s->is_short ? sow_countdown_draw_short : sow_countdown_draw_paper,
                            &s->range, out, key);
    const file_row *kept = &s->rows[s->source.offset + row];
    out->row.n = kept->n_numbers;
    out->row.target = kept->target;
    memcpy(out->row.numbers, s->numbers + kept->first_number, (size_t)kept->n_numbers * sizeof out->row.numbers[0]);
    *from = kept;
    return SOW_OK;
}

static sow_code write_paper(const sow_countdown_row *row, const char *target, size_t target_bytes, sow_words *out)
{
    int width = 1;
    for (int64_t i = 0; i < row->n; i++) {
        int digits = snprintf(NULL, 0, "%lld", (long long)row->numbers[i]);
        width = digits > width ? digits : width;
    }
    SOW_TRY(sow_words_add(out, before_numbers, sizeof before_numbers - 1));
    for (int64_t i = 0; i < row->n; i++)
        SOW_TRY(sow_words_print(out, "%s%*lld", i == 0 ? "" : " ", width, (long long)row->numbers[i]));
    SOW_TRY(sow_words_add(out, before_target, sizeof before_target - 1));
    SOW_TRY(sow_words_add(out, target, target_bytes));
    return sow_words_add(out, behind_target, sizeof behind_target - 1);
}

static sow_code ask(sow_task_state *s, int64_t row, sow_words *out)
{
    sow_countdown_item item;
    char key[SOW_KEY_BYTES], text[SOW_LINE_BYTES];
    const file_row *from = NULL;
    SOW_TRY(find_row(s, row, &item, key, &from));
    if (s->is_short) {
        sow_countdown_write_short(&item.row, text);
        return sow_words_add(out, text, strlen(text));
    }
    if (from != NULL && from->context.bytes > 0)
        return sow_words_add(out, s->pool.text + from->context.at, from->context.bytes);
    if (from != NULL)
        return write_paper(&item.row, s->pool.text + from->target_text.at, from->target_text.bytes, out);
    int n = snprintf(text, sizeof text, "%.0f", item.row.target);
    return write_paper(&item.row, text, (size_t)n, out);
}

/* The file's own solution, if it is one: in the published data 15 of 2,200 use a number twice, and 19 are missing. */
static sow_code solve_from_file(const sow_task_state *s, const sow_countdown_row *row, const file_row *from,
                                sow_words *out)
{
    size_t start = out->bytes;
    sow_grade grade = {0};
    const char *pool = s->pool.text;
    SOW_TRY(
        sow_words_print(out, "</think>\n<answer>%.*s</answer>", (int)from->solution.bytes, pool + from->solution.at));
    sow_countdown_grade_paper(s->workspace, row, out->text + start, out->bytes - start, &grade);
    if (grade.is_correct)
        return SOW_OK;
    return SOW_FAIL(SOW_EARG, "%.*s: solution: is %s, expected an expression of the numbers that equals the target",
                    (int)from->place.bytes, pool + from->place.at, from->solution.bytes == 0 ? "missing" : "wrong");
}

static sow_code solve(sow_task_state *s, int64_t row, sow_words *out)
{
    sow_countdown_item item;
    char key[SOW_KEY_BYTES];
    const file_row *from = NULL;
    SOW_TRY(find_row(s, row, &item, key, &from));
    if (s->is_short)
        return sow_words_print(out, "%s", item.solution);
    if (from == NULL)
        return sow_words_print(out, "</think>\n<answer>%s</answer>", item.solution);
    return solve_from_file(s, &item.row, from, out);
}

static bool place_of(const sow_task_state *s, int64_t row, const char **text, size_t *bytes)
{
    if (!s->is_from_file)
        return false;
    const sow_span *place = &s->rows[s->source.offset + row].place;
    *text = s->pool.text + place->at;
    *bytes = place->bytes;
    return true;
}

static sow_code key(sow_task_state *s, int64_t row, sow_words *out)
{
    sow_countdown_item item;
    char text[SOW_KEY_BYTES];
    const file_row *from = NULL;
    SOW_TRY(find_row(s, row, &item, text, &from));
    if (from == NULL)
        return sow_words_print(out, "%s", text);
    sow_countdown_sort(&item.row);
    SOW_TRY(sow_words_print(out, "cd"));
    for (int64_t i = 0; i < item.row.n; i++)
        SOW_TRY(sow_words_print(out, " %lld", (long long)item.row.numbers[i]));
    return sow_words_print(out, " %.15g", item.row.target);
}

static sow_code grade(sow_task_state *s, int64_t row, const char *completion, size_t bytes, sow_grade *out)
{
    sow_countdown_item item;
    char text[SOW_KEY_BYTES];
    const file_row *from = NULL;
    SOW_TRY(find_row(s, row, &item, text, &from));
    if (s->is_short)
        sow_countdown_grade_short(s->workspace, &item.row, completion, bytes, out);
    else
        sow_countdown_grade_paper(s->workspace, &item.row, completion, bytes, out);
    return SOW_OK;
}

static sow_code read_short(const sow_json *row, const char *what, sow_countdown_row *out)
{
    const char *prompt = NULL;
    char target[SOW_LINE_BYTES];
    SOW_TRY(sow_row_string(row, "prompt", what, false, &prompt));
    if (prompt == NULL)
        return read_question(row, what, out, target);
    if (!sow_countdown_parse_short(prompt, out))
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: prompt: '%.80s' is no question of countdown's form short, expected \"cd 7 11 2 20=\"",
                        what, prompt);
    return SOW_OK;
}

static sow_code grade_json(const sow_task_options *options, const sow_json *row, const char *what, sow_grade *out)
{
    sow_countdown_row question;
    sow_expression *workspace = NULL;
    const char *response = NULL;
    size_t bytes = 0;
    char target[SOW_LINE_BYTES];
    SOW_TRY(is_short(options) ? read_short(row, what, &question) : read_question(row, what, &question, target));
    SOW_TRY(sow_row_text(row, "response", what, &response, &bytes));
    SOW_TRY(sow_expression_create(&workspace));
    if (is_short(options))
        sow_countdown_grade_short(workspace, &question, response, bytes, out);
    else
        sow_countdown_grade_paper(workspace, &question, response, bytes, out);
    sow_expression_destroy(&workspace);
    return SOW_OK;
}

const sow_task_kind sow_task_kind_countdown = {
    .name = "countdown",
    .doc = "reach a target from some numbers; form paper as in arXiv 2601.20861, form short for the laboratory model",
    .parts = {"format", "answer"},
    .has_forms = true,
    .max_new = max_new,
    .open = open_rows,
    .close = close_rows,
    .n_rows = n_rows,
    .ask = ask,
    .solve = solve,
    .key = key,
    .grade = grade,
    .place = place_of,
    .grade_json = grade_json,
};
