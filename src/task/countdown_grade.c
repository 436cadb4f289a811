/* SPDX-License-Identifier: Apache-2.0 */
/* Countdown's graders.
 *
 * Form paper: the rule of Qiu et al. (arXiv 2509.24372), which arXiv 2601.20861 and 2605.30148 use too, to the letter
 * of its Python: regular expressions with DOTALL, whose lazy `.*?` finds the first end; `$` also matches before a last
 * newline; the last answer counts; eval computes it.
 *
 *     format   1    <think> ANY </think> newline <answer> ANY </answer> and nothing else
 *              else 0.1 if there is a </think>, plus 0.5 if there is an <answer> ... </answer>
 *     answer   1    digits, + - * / ( ) and blanks only; each number once; |value - target| < 1e-5
 *     reward   0.1 format + answer
 *
 * The completion is the text after the prompt's <think>.  Form short: the whole completion is <,
 * digits and + - *, >. */
#include "task_impl.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 1e-5

/* A piece of the completion. */
typedef struct piece {
    const char *text;
    size_t bytes;
} piece;

/* Where `words` first stands in the text at or behind `from`; the number of bytes if nowhere. */
static size_t find(piece in, size_t from, const char *words)
{
    size_t n = strlen(words);
    while (from + n <= in.bytes) {
        const char *first = memchr(in.text + from, words[0], in.bytes - from - n + 1);
        if (first == NULL)
            break;
        from = (size_t)(first - in.text);
        if (memcmp(first, words, n) == 0)
            return from;
        from++;
    }
    return in.bytes;
}

/* Python's `words$`: they stand at the end, or before a newline that is the end, and begin at or behind `from`. */
static bool ends_with(piece in, size_t from, const char *words)
{
    size_t n = strlen(words);
    if (in.bytes >= from + n && memcmp(in.text + in.bytes - n, words, n) == 0)
        return true;
    return in.bytes >= from + n + 1 && in.text[in.bytes - 1] == '\n' &&
           memcmp(in.text + in.bytes - n - 1, words, n) == 0;
}

/* The first <answer> ... </answer> at or behind `from`: its inside, and where the search goes on. */
static bool find_answer(piece in, size_t *from, piece *inside)
{
    size_t start = find(in, *from, "<answer>");
    if (start == in.bytes)
        return false;
    start += strlen("<answer>");
    size_t end = find(in, start, "</answer>");
    if (end == in.bytes)
        return false;
    *inside = (piece){in.text + start, end - start};
    *from = end + strlen("</answer>");
    return true;
}

static double format_of(piece completion)
{
    static const char turn[] = "</think>\n<answer>";
    size_t at = find(completion, 0, turn), from = 0;
    piece inside;
    if (at < completion.bytes && ends_with(completion, at + sizeof turn - 1, "</answer>"))
        return 1;
    double format = find(completion, 0, "</think>") < completion.bytes ? 0.1 : 0;
    return find_answer(completion, &from, &inside) ? format + 0.5 : format;
}

/* Python's `^[CHARACTERS]+$`. */
static bool has_only(piece in, const char *characters)
{
    size_t bytes = in.bytes > 0 && in.text[in.bytes - 1] == '\n' ? in.bytes - 1 : in.bytes;
    for (size_t i = 0; i < bytes; i++)
        if (in.text[i] == '\0' || strchr(characters, in.text[i]) == NULL)
            return false;
    return bytes > 0;
}

static bool is_right(sow_expression *workspace, const sow_countdown_row *row, piece answer)
{
    double value = 0;
    return sow_expression_uses(answer.text, answer.bytes, row->numbers, row->n) &&
           sow_expression_value(workspace, answer.text, answer.bytes, &value) && fabs(value - row->target) < TOLERANCE;
}

static sow_grade grade_of(double format, bool is_correct)
{
    double answer = is_correct ? 1 : 0;
    return (sow_grade){.reward = 0.1 * format + answer, .is_correct = is_correct, .parts = {format, answer}};
}

void sow_countdown_grade_paper(sow_expression *workspace, const sow_countdown_row *row, const char *completion,
                               size_t bytes, sow_grade *out)
{
    piece all = {completion, bytes}, answer = {NULL, 0};
    size_t from = 0;
    bool has_answer = false;
    while (find_answer(all, &from, &answer))
        has_answer = true;
    *out = grade_of(format_of(all),
                    has_answer && has_only(answer, "0123456789+-*/() ") && is_right(workspace, row, answer));
}

void sow_countdown_grade_short(sow_expression *workspace, const sow_countdown_row *row, const char *completion,
                               size_t bytes, sow_grade *out)
{
    bool is_framed = bytes > 2 && completion[0] == '<' && completion[bytes - 1] == '>';
    piece answer = {is_framed ? completion + 1 : completion, is_framed ? bytes - 2 : 0};
    bool has_format = is_framed && answer.text[answer.bytes - 1] != '\n' && has_only(answer, "0123456789+-*");
    *out = grade_of(has_format ? 1 : 0, has_format && is_right(workspace, row, answer));
}
