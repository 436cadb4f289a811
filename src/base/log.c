/* SPDX-License-Identifier: Apache-2.0 */
/* A line is put together first and written with one call, so that the lines of several ranks do not mix. */
#include "sower/log.h"

#include "sower/clock.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 4096 };

static sow_log_level level_shown = SOW_LOG_STEP;
static char name[64];
static bool has_progress; /* a progress line stands on the terminal */
static double last_progress_s;

static const char *const prefixes[] = {[SOW_LOG_ERROR] = "error: ",
                                       [SOW_LOG_WARN] = "warning: ",
                                       [SOW_LOG_INFO] = "",
                                       [SOW_LOG_STEP] = "",
                                       [SOW_LOG_DEBUG] = "debug: "};

void sow_log_set_level(sow_log_level level)
{
    level_shown = level;
}

void sow_log_name(const char *who)
{
    (void)snprintf(name, sizeof name, "%s", who);
}

static void put(const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(STDERR_FILENO, text, bytes);
        if (n <= 0)
            return;
        text += n;
        bytes -= (size_t)n;
    }
}

/* Formats behind `used` bytes of `line`, leaving two bytes; returns the new length. */
static size_t append(char *line, size_t used, const char *fmt, va_list args) __attribute__((format(printf, 3, 0)));
static size_t append(char *line, size_t used, const char *fmt, va_list args)
{
    int n = vsnprintf(line + used, LINE_BYTES - 2 - used, fmt, args);
    if (n < 0)
        return used;
    size_t room = LINE_BYTES - 3 - used;
    return used + ((size_t)n < room ? (size_t)n : room);
}

void sow_log(sow_log_level level, const char *fmt, ...)
{
    if (level > level_shown)
        return;
    char line[LINE_BYTES];
    int n = snprintf(line, sizeof line, "%s%s%s%s", has_progress ? "\r\x1b[K" : "", prefixes[level],
                     name[0] != '\0' && level <= SOW_LOG_WARN ? name : "",
                     name[0] != '\0' && level <= SOW_LOG_WARN ? ": " : "");
    va_list args;
    va_start(args, fmt);
    size_t used = append(line, n < 0 ? 0 : (size_t)n, fmt, args);
    va_end(args);
    has_progress = false;
    line[used++] = '\n';
    put(line, used);
}

void sow_log_progress(double every_s, const char *fmt, ...)
{
    if (level_shown < SOW_LOG_INFO)
        return;
    bool is_terminal = isatty(STDERR_FILENO) == 1;
    double now = sow_clock_now_s();
    char line[LINE_BYTES];
    size_t begin = 0;
    if (is_terminal) {
        memcpy(line, "\r\x1b[K", 4);
        begin = 4;
    }
    va_list args;
    va_start(args, fmt);
    size_t used = append(line, begin, fmt, args);
    va_end(args);
    if (used == begin) {
        if (has_progress)
            put("\r\x1b[K", 4);
        has_progress = false;
        return;
    }
    if (last_progress_s > 0 && now - last_progress_s < (is_terminal ? 0.1 : every_s))
        return;
    if (!is_terminal)
        line[used++] = '\n';
    has_progress = is_terminal;
    last_progress_s = now;
    put(line, used);
}
