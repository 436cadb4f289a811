/* SPDX-License-Identifier: Apache-2.0 */
/* The last number of a text, as people write it: "1,234.50", "-3", ".5", "6e23", "The answer is 42." */
#include "task_impl.h"

#include "sower/words.h"

#include <string.h>

enum { LONGEST = 400 }; /* characters of one number; longer ones are none */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool digit_at(const char *text, size_t bytes, size_t i)
{
    return i < bytes && is_digit(text[i]);
}

/* A comma between thousands: three digits behind it and no fourth. */
static bool is_thousands(const char *text, size_t bytes, size_t i)
{
    return i < bytes && text[i] == ',' && digit_at(text, bytes, i + 1) && digit_at(text, bytes, i + 2) &&
           digit_at(text, bytes, i + 3) && !digit_at(text, bytes, i + 4);
}

/* Where the exponent that begins at i ends; i if there is none. */
static size_t skip_exponent(const char *text, size_t bytes, size_t i)
{
    if (i >= bytes || (text[i] != 'e' && text[i] != 'E'))
        return i;
    size_t j = i + 1;
    if (j < bytes && (text[j] == '+' || text[j] == '-'))
        j++;
    if (!digit_at(text, bytes, j))
        return i;
    while (digit_at(text, bytes, j))
        j++;
    return j;
}

/* Where the number that begins at i ends: digits with commas, a point and digits, an exponent. */
static size_t skip_number(const char *text, size_t bytes, size_t i)
{
    while (digit_at(text, bytes, i) || is_thousands(text, bytes, i))
        i++;
    if (i < bytes && text[i] == '.' && digit_at(text, bytes, i + 1))
        for (i++; digit_at(text, bytes, i);)
            i++;
    return skip_exponent(text, bytes, i);
}

/* A minus sign belongs to the number unless something that can be subtracted from stands before it ("5-3"). */
static bool is_negative(const char *text, size_t start)
{
    if (start == 0 || text[start - 1] != '-')
        return false;
    if (start == 1)
        return true;
    char before = text[start - 2];
    return !is_digit(before) && before != ')' && before != '.';
}

static bool read_number(const char *text, size_t start, size_t end, double *out)
{
    char clean[LONGEST + 2];
    size_t n = 0;
    if (end - start > LONGEST)
        return false;
    if (is_negative(text, start))
        clean[n++] = '-';
    for (size_t i = start; i < end; i++)
        if (text[i] != ',')
            clean[n++] = text[i];
    clean[n] = '\0';
    return sow_words_to_real(clean, out);
}

bool sow_number_last(const char *text, size_t bytes, double *out)
{
    bool has_any = false;
    for (size_t i = 0; i < bytes;) {
        bool starts = is_digit(text[i]) || (text[i] == '.' && digit_at(text, bytes, i + 1));
        size_t end = starts ? skip_number(text, bytes, i) : i + 1;
        if (starts)
            has_any = read_number(text, i, end, out);
        i = end;
    }
    return has_any;
}

bool sow_number_whole(const char *text, size_t bytes, double *out)
{
    size_t start = bytes > 0 && text[0] == '-' ? 1 : 0;
    bool starts =
        digit_at(text, bytes, start) || (start < bytes && text[start] == '.' && digit_at(text, bytes, start + 1));
    return starts && skip_number(text, bytes, start) == bytes && read_number(text, start, bytes, out);
}
