/* SPDX-License-Identifier: Apache-2.0 */
/* Four to six letters in reverse order: "rev qyrg=" -> "gryq".  Key: the letters. */
#include "task_impl.h"

#include <stdio.h>
#include <string.h>

static bool answer(const char *prompt, char out[SOW_LINE_BYTES])
{
    char letters[SOW_LINE_BYTES] = "";
    const char *at = prompt;
    if (!sow_take_text(&at, "rev ") || !sow_take_letters(&at, 'a', 'z', letters) || !sow_take_text(&at, "=") ||
        *at != '\0')
        return false;
    size_t n = strlen(letters);
    for (size_t i = 0; i < n; i++)
        out[i] = letters[n - 1 - i];
    out[n] = '\0';
    return true;
}

static bool draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    (void)how;
    sow_line_item *line = item;
    uint32_t n = 4 + sow_random_below(random, 3);
    for (uint32_t i = 0; i < n; i++)
        key[i] = (char)('a' + (int)sow_random_below(random, 26));
    key[n] = '\0';
    (void)snprintf(line->prompt, sizeof line->prompt, "rev %.6s=", key);
    return answer(line->prompt, line->answer);
}

static const sow_skill rev = {.name = "rev", .draw = draw, .answer = answer};
SOW_SKILL_TASK(rev, "skill of the laboratory model: letters in reverse order");
