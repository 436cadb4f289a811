/* SPDX-License-Identifier: Apache-2.0 */
/* Countdown rows from a seed, solvable by construction: first a solution is made, then the question to it.
 *
 * Both forms have one key, "cd", the numbers in ascending order and the target: the order of the numbers makes no other
 * question, and a row that is held out in one form is held out in the other. */
#include "task_impl.h"

#include <stdio.h>
#include <string.h>

enum { MAX_GENERATED = 6, TARGET_MIN = 10, TARGET_MAX = 100, SHORT_NUMBERS = 3, SHORT_OPERAND = 12, SHORT_TARGET = 99 };

void sow_countdown_sort(sow_countdown_row *row)
{
    for (int64_t i = 1; i < row->n; i++) {
        int64_t number = row->numbers[i], j = i;
        for (; j > 0 && row->numbers[j - 1] > number; j--)
            row->numbers[j] = row->numbers[j - 1];
        row->numbers[j] = number;
    }
}

static void write_key(const sow_countdown_row *row, char key[SOW_KEY_BYTES])
{
    sow_countdown_row sorted = *row;
    sow_countdown_sort(&sorted);
    int at = snprintf(key, SOW_KEY_BYTES, "cd");
    for (int64_t i = 0; i < row->n; i++)
        at += snprintf(key + at, SOW_KEY_BYTES - (size_t)at, " %lld", (long long)sorted.numbers[i]);
    (void)snprintf(key + at, SOW_KEY_BYTES - (size_t)at, " %.0f", row->target);
}

/* A number or a bracketed part of a solution. */
typedef struct part {
    int64_t value;
    char text[SOW_SOLUTION_BYTES];
} part;

/* a = (a op b) for an operator that keeps the value whole. */
static void combine(sow_random *random, part *a, const part *b)
{
    char text[sizeof a->text], op = '/';
    bool divides = b->value != 0 && a->value % b->value == 0;
    while (op == '/' && !divides)
        op = "+-*/"[sow_random_below(random, 4)];
    int n = snprintf(text, sizeof text, "(%s %c %s)", a->text, op, b->text);
    SOW_ASSERT(n > 0 && (size_t)n < sizeof text);
    memcpy(a->text, text, sizeof text);
    switch (op) {
    case '+':
        a->value += b->value;
        break;
    case '-':
        a->value -= b->value;
        break;
    case '*':
        a->value *= b->value; /* at most 1000^6 < 2^63 */
        break;
    default:
        a->value /= b->value;
    }
}

bool sow_countdown_draw_paper(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    const sow_countdown_range *range = how;
    sow_countdown_item *out = item;
    part parts[MAX_GENERATED];
    uint32_t choices = (uint32_t)(range->numbers_max - range->numbers_min + 1);
    if (out->row.n == 0) /* once a row: if each draw chose anew, rows with few numbers would pass more often */
        out->row.n = range->numbers_min + (int64_t)sow_random_below(random, choices);
    uint32_t n = (uint32_t)out->row.n;
    SOW_ASSERT(n >= 2 && n <= MAX_GENERATED);
    for (uint32_t i = 0; i < n; i++) {
        parts[i].value = out->row.numbers[i] = 1 + (int64_t)sow_random_below(random, (uint32_t)range->operand_max);
        (void)snprintf(parts[i].text, sizeof parts[i].text, "%lld", (long long)parts[i].value);
    }
    for (; n > 1; n--) {
        uint32_t a = sow_random_below(random, n), b = sow_random_below(random, n - 1);
        b += b >= a;
        combine(random, &parts[a], &parts[b]);
        if (b != n - 1)
            parts[b] = parts[n - 1];
    }
    out->row.target = (double)parts[0].value;
    (void)snprintf(out->solution, sizeof out->solution, "%s", parts[0].text);
    if (parts[0].value < TARGET_MIN || parts[0].value > TARGET_MAX)
        return false;
    write_key(&out->row, key);
    return true;
}

bool sow_countdown_draw_short(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    (void)how;
    sow_countdown_item *out = item;
    int64_t *n = out->row.numbers;
    char ops[SHORT_NUMBERS - 1];
    for (int i = 0; i < SHORT_NUMBERS; i++)
        n[i] = 1 + (int64_t)sow_random_below(random, SHORT_OPERAND);
    for (int i = 0; i < SHORT_NUMBERS - 1; i++)
        ops[i] = "+-*"[sow_random_below(random, 3)];
    int64_t target = sow_three_numbers(n, ops);
    if (target < 1 || target > SHORT_TARGET)
        return false;
    out->row.n = SHORT_NUMBERS;
    out->row.target = (double)target;
    (void)snprintf(out->solution, sizeof out->solution, "<%d%c%d%c%d>", (int)n[0], ops[0], (int)n[1], ops[1],
                   (int)n[2]);
    sow_random_shuffle(random, n, SHORT_NUMBERS, sizeof *n);
    write_key(&out->row, key);
    return true;
}

void sow_countdown_write_short(const sow_countdown_row *row, char out[SOW_LINE_BYTES])
{
    int at = snprintf(out, SOW_LINE_BYTES, "cd");
    SOW_ASSERT(row->n <= SHORT_NUMBERS);
    for (int64_t i = 0; i < row->n; i++)
        at += snprintf(out + at, SOW_LINE_BYTES - (size_t)at, " %lld", (long long)row->numbers[i]);
    (void)snprintf(out + at, SOW_LINE_BYTES - (size_t)at, " %.0f=", row->target);
}

bool sow_countdown_parse_short(const char *prompt, sow_countdown_row *out)
{
    const char *at = prompt;
    int64_t n = 0, numbers[SOW_MAX_NUMBERS + 1];
    if (!sow_take_text(&at, "cd"))
        return false;
    while (n <= SOW_MAX_NUMBERS && sow_take_text(&at, " "))
        if (!sow_take_number(&at, &numbers[n++]))
            return false;
    if (n < 2 || !sow_take_text(&at, "=") || *at != '\0')
        return false;
    out->n = n - 1;
    out->target = (double)numbers[n - 1];
    memcpy(out->numbers, numbers, (size_t)out->n * sizeof numbers[0]);
    return true;
}
