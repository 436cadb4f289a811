/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 2048, WHERE_BYTES = 256 };
static _Thread_local char last_text[TEXT_BYTES];
static _Thread_local char last_where[WHERE_BYTES];

static const struct {
    int exit_status;
    const char *words;
} codes[] = {
#define CODE(name, exit_status, words) [name] = {exit_status, words},
    SOW_CODES(CODE)
#undef CODE
};

const char *sow_code_words(sow_code code)
{
    return (unsigned)code < SOW_N_CODES ? codes[code].words : "unknown code";
}

int sow_code_exit(sow_code code)
{
    return (unsigned)code < SOW_N_CODES ? codes[code].exit_status : 1;
}

const char *sow_error_text(void)
{
    return last_text;
}

const char *sow_error_where(void)
{
    return last_where;
}

/* A message stays on one line, whatever stood in a file. */
static void keep_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\n' || *text == '\r')
            *text = ' ';
}

sow_code sow_error_set(sow_code code, const char *file, int line, const char *fmt, ...)
{
    char text[TEXT_BYTES]; /* the arguments may be last_text itself */
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0)
        text[0] = '\0';
    va_end(args);
    keep_one_line(text);
    memcpy(last_text, text, sizeof text);
    if (snprintf(last_where, sizeof last_where, "%s:%d", file, line) < 0)
        last_where[0] = '\0';
    return code;
}

void sow_assert_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: a programmer's error: not so: %s\n", file, line, cond);
    abort();
}
