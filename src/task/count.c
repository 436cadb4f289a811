/* SPDX-License-Identifier: Apache-2.0 */
/* How often a letter stands in six to nine letters a..c: "count a abccacba=" -> "3".  Key: the letter and the
 * letters. */
#include "task_impl.h"

#include <stdio.h>
#include <string.h>

static bool answer(const char *prompt, char out[SOW_LINE_BYTES])
{
    char letter[SOW_LINE_BYTES] = "", letters[SOW_LINE_BYTES] = "";
    const char *at = prompt;
    if (!sow_take_text(&at, "count ") || !sow_take_letters(&at, 'a', 'z', letter) || letter[1] != '\0' ||
        !sow_take_text(&at, " ") || !sow_take_letters(&at, 'a', 'z', letters) || !sow_take_text(&at, "=") ||
        *at != '\0')
        return false;
    int n = 0;
    for (const char *c = letters; *c != '\0'; c++)
        n += *c == letter[0];
    (void)snprintf(out, SOW_LINE_BYTES, "%d", n);
    return true;
}

static bool draw(const void *how, sow_random *random, void *item, char key[SOW_KEY_BYTES])
{
    (void)how;
    sow_line_item *line = item;
    uint32_t n = 7 + sow_random_below(random, 4); /* with the letter itself in front, as in the key */
    for (uint32_t i = 0; i < n; i++)
        key[i] = (char)('a' + (int)sow_random_below(random, 3));
    key[n] = '\0';
    (void)snprintf(line->prompt, sizeof line->prompt, "count %c %.9s=", key[0], key + 1);
    return answer(line->prompt, line->answer);
}

static const sow_skill count = {.name = "count", .draw = draw, .answer = answer};
SOW_SKILL_TASK(count, "skill of the laboratory model: how often a letter stands in a word");
