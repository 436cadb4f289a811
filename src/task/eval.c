/* SPDX-License-Identifier: Apache-2.0 */
/* Three numbers 1..9 and two operators of + - *, usual precedence, value 0..99: "eval 4+9-9=" -> "4".  Key: the
 * prompt. */
#include "task_impl.h"

#include <stdio.h>

static bool take_operator(const char **at, char *out)
{
    if (**at != '+' && **at != '-' && **at != '*')
        return false;
    *out = *(*at)++;
    return true;
}

static bool answer(const char *prompt, char out[SOW_LINE_BYTES])
{
    int64_t n[3] = {0};
    char ops[2] = {0};
    const char *at = prompt;
    if (!sow_take_text(&at, "eval ") || !sow_take_number(&at, &n[0]) || !take_operator(&at, &ops[0]) ||
        !sow_take_number(&at, &n[1]) || !take_operator(&at, &ops[1]) || !sow_take_number(&at, &n[2]) ||
        !sow_take_text(&at, "=") || *at != '\0')
        return false;
    if (n[0] > 999999 || n[1] > 999999 || n[2] > 999999) /* so that the product of three stays below 2^63 */
        return false;
    (void)snprintf(out, SOW_LINE_BYTES, "%lld", (long long)sow_three_numbers(n, ops));
    return true;
}

static bool draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    (void)how;
    sow_line_item *line = item;
    int64_t n[3];
    char ops[2];
    for (int i = 0; i < 3; i++)
        n[i] = 1 + (int64_t)sow_random_below(random, 9);
    for (int i = 0; i < 2; i++)
        ops[i] = "+-*"[sow_random_below(random, 3)];
    int64_t value = sow_three_numbers(n, ops);
    (void)snprintf(line->prompt, sizeof line->prompt, "eval %d%c%d%c%d=", (int)n[0], ops[0], (int)n[1], ops[1],
                   (int)n[2]);
    (void)snprintf(key, SOW_KEY_BYTES, "%s", line->prompt);
    return value >= 0 && value <= 99 && answer(line->prompt, line->answer);
}

static const sow_skill eval = {.name = "eval", .draw = draw, .answer = answer};
SOW_SKILL_TASK(eval, "skill of the laboratory model: the value of three numbers and two operators");
