/* SPDX-License-Identifier: Apache-2.0 */
/* Four to six digits in ascending order: "sort 579032=" -> "023579".  Key: the digits as shown. */
#include "task_impl.h"

#include <stdio.h>
#include <string.h>

static bool answer(const char *prompt, char out[SOW_LINE_BYTES])
{
    char digits[SOW_LINE_BYTES] = "";
    const char *at = prompt;
    if (!sow_take_text(&at, "sort ") || !sow_take_letters(&at, '0', '9', digits) || !sow_take_text(&at, "=") ||
        *at != '\0')
        return false;
    size_t n = 0;
    for (int d = '0'; d <= '9'; d++)
        for (const char *c = digits; *c != '\0'; c++)
            if (*c == d)
                out[n++] = *c;
    out[n] = '\0';
    return true;
}

static bool draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    (void)how;
    sow_line_item *line = item;
    uint32_t n = 4 + sow_random_below(random, 3);
    for (uint32_t i = 0; i < n; i++)
        key[i] = (char)('0' + (int)sow_random_below(random, 10));
    key[n] = '\0';
    (void)snprintf(line->prompt, sizeof line->prompt, "sort %.6s=", key);
    return answer(line->prompt, line->answer);
}

static const sow_skill sort = {.name = "sort", .draw = draw, .answer = answer};
SOW_SKILL_TASK(sort, "skill of the laboratory model: digits in ascending order");
