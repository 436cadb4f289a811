/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/words.h"

#include "sower/alloc.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sow_words_fini(sow_words *words)
{
    SOW_FREE(&words->text);
    *words = (sow_words){0};
}

void sow_words_clear(sow_words *words)
{
    words->bytes = 0;
    if (words->text != NULL)
        words->text[0] = '\0';
}

sow_code sow_words_add(sow_words *words, const void *text, size_t bytes)
{
    if (bytes > INT64_MAX / 4 - words->bytes)
        return SOW_FAIL(SOW_ENOMEM, "a text of %zu bytes is too long", bytes);
    SOW_TRY(SOW_GROW(&words->text, &words->capacity, (int64_t)(words->bytes + bytes)));
    if (bytes > 0)
        memcpy(words->text + words->bytes, text, bytes);
    words->bytes += bytes;
    words->text[words->bytes] = '\0';
    return SOW_OK;
}

sow_code sow_words_print(sow_words *words, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        return SOW_FAIL(SOW_EARG, "a format cannot be printed: %s", fmt);
    SOW_TRY(SOW_GROW(&words->text, &words->capacity, (int64_t)words->bytes + n));
    va_start(args, fmt);
    n = vsnprintf(words->text + words->bytes, (size_t)n + 1, fmt, args);
    va_end(args);
    words->bytes += (size_t)n;
    return SOW_OK;
}

static bool is_plain_start(const char *text)
{
    return text[0] != '\0' && isspace((unsigned char)text[0]) == 0;
}

bool sow_words_to_int(const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!is_plain_start(text) || *end != '\0' || errno != 0)
        return false;
    *out = value;
    return true;
}

bool sow_words_to_real(const char *text, double *out)
{
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    bool is_tiny = errno == ERANGE && fabs(value) < 1; /* underflow is a fine number */
    if (!is_plain_start(text) || *end != '\0' || (errno != 0 && !is_tiny) || !isfinite(value))
        return false;
    *out = value;
    return true;
}

enum { NAME_BYTES = 128 };

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

int sow_words_distance(const char *a, const char *b)
{
    int row[NAME_BYTES + 1];
    int n_a = min_int((int)strnlen(a, NAME_BYTES), NAME_BYTES), n_b = min_int((int)strnlen(b, NAME_BYTES), NAME_BYTES);
    for (int j = 0; j <= n_b; j++)
        row[j] = j;
    for (int i = 1; i <= n_a; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n_b; j++) {
            int above = row[j];
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = min_int(replaced, min_int(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[n_b];
}

const char *sow_words_nearest(const char *name, const char *const *names, int64_t n)
{
    const char *best = NULL;
    int best_distance = (int)(strnlen(name, NAME_BYTES) + 2) / 3; /* further away it is a guess */
    for (int64_t i = 0; i < n; i++) {
        int distance = sow_words_distance(name, names[i]);
        if (distance < best_distance + (best == NULL)) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best;
}

bool sow_words_match(const char *pattern, const char *text)
{
    return fnmatch(pattern, text, 0) == 0;
}

/* Bytes of the character at p (RFC 3629, table 3-7 of Unicode), 0 if it is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    size_t n = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (n == 0 || left < n)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool is_bad = (c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) ||
                  (c == 0xf4 && p[1] > 0x8f);
    return is_bad ? 0 : n;
}

bool sow_words_is_utf8(const void *text, size_t bytes)
{
    const unsigned char *p = text;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = utf8_length(p + i, bytes - i);
        if (n == 0)
            return false;
    }
    return true;
}
