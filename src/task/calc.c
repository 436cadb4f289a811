/* SPDX-License-Identifier: Apache-2.0 */
/* Sums and differences of two numbers below 100: "calc 93+3=" -> "96", "calc 90-39=" -> "51".
 *
 * Half are sums; a difference has the larger number first.  Key: the prompt. */
#include "task_impl.h"

#include <stdio.h>

bool sow_calc_value(const char *prompt, int64_t *out)
{
    int64_t a = 0, b = 0;
    const char *at = prompt;
    if (!sow_take_text(&at, "calc ") || !sow_take_number(&at, &a))
        return false;
    bool is_sum = *at == '+';
    if ((!is_sum && *at != '-') || (at++, !sow_take_number(&at, &b)) || !sow_take_text(&at, "=") || *at != '\0')
        return false;
    *out = is_sum ? a + b : a - b;
    return true;
}

static bool answer(const char *prompt, char out[SOW_LINE_BYTES])
{
    int64_t value = 0;
    if (!sow_calc_value(prompt, &value))
        return false;
    (void)snprintf(out, SOW_LINE_BYTES, "%lld", (long long)value);
    return true;
}

bool sow_calc_draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    (void)how;
    sow_line_item *line = item;
    int a = (int)sow_random_below(random, 100), b = (int)sow_random_below(random, 100);
    bool is_sum = sow_random_below(random, 2) == 0;
    bool is_turned = !is_sum && a < b;
    (void)snprintf(line->prompt, sizeof line->prompt, "calc %d%c%d=", is_turned ? b : a, is_sum ? '+' : '-',
                   is_turned ? a : b);
    (void)snprintf(key, SOW_KEY_BYTES, "%s", line->prompt);
    return answer(line->prompt, line->answer);
}

static const sow_skill calc = {.name = "calc", .draw = sow_calc_draw, .answer = answer};
SOW_SKILL_TASK(calc, "skill of the laboratory model: sums and differences below 100");
