/* SPDX-License-Identifier: Apache-2.0 */
/* Text and numbers of the page, and its style sheet. */
#include "report_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

sow_code report_html(sow_words *out, const char *text)
{
    if (!sow_words_is_utf8(text, strlen(text))) { /* bytes of no character: the page is UTF-8 */
        for (; *text != '\0'; text++)
            SOW_TRY((unsigned char)*text < 0x80 ? report_html(out, (char[]){*text, '\0'})
                                                : sow_words_print(out, "&#xfffd;"));
        return SOW_OK;
    }
    for (; *text != '\0'; text++) {
        const char *entity = *text == '<'    ? "&lt;"
                             : *text == '>'  ? "&gt;"
                             : *text == '&'  ? "&amp;"
                             : *text == '"'  ? "&quot;"
                             : *text == '\'' ? "&#39;"
                                             : NULL;
        bool is_control = ((unsigned char)*text < ' ' && *text != '\n') || *text == 0x7f;
        if (entity != NULL || is_control)
            SOW_TRY(sow_words_print(out, "%s", is_control ? "&#xfffd;" : entity));
        else
            SOW_TRY(sow_words_add(out, text, 1));
    }
    return SOW_OK;
}

const char *report_number(char out[32], double value, double scale, int digits)
{
    double x = value * scale;
    if (!isfinite(x))
        (void)snprintf(out, 32, "-");
    else if (digits >= 0)
        (void)snprintf(out, 32, "%.*f", digits, x);
    else if (fabs(x) >= 100 && fabs(x) < 1e6)
        (void)snprintf(out, 32, "%.0f", x);
    else
        (void)snprintf(out, 32, "%#.3g", x);
    size_t n = strlen(out);
    if (n > 0 && out[n - 1] == '.')
        out[n - 1] = '\0';
    return out;
}
