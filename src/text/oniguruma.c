/* SPDX-License-Identifier: Apache-2.0 */
/* The expressions in tokenizer.json are Oniguruma's.  Most of the language means the same to pcre2; here an expression
 * is copied token by token, what pcre2 reads differently is rewritten, and what cannot be is an error that names it:
 *
 *   \s \S     White_Space; pcre2's \s has U+180E too
 *   \w \W     letters, marks, digits, connectors, and outside of brackets six Latin-1 numbers; pcre2's \w has no marks
 *   \v        U+000B; pcre2: any vertical space            \uHHHH    \x{HHHH}
 *   {,n}      {0,n}; literal text in pcre2 10.42           ^ $       always match at lines
 *
 * Reference: Oniguruma 6.9.10, doc/RE and doc/SYNTAX.md (its default syntax). */
#include "text_impl.h"

#include <string.h>

#define WORD    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define NUMBERS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

typedef struct reader {
    const char *text;
    size_t bytes, at;
    const char *where;
    sow_words *out;
} reader;

static int peek(const reader *r, size_t ahead)
{
    return r->at + ahead < r->bytes ? (unsigned char)r->text[r->at + ahead] : -1;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static sow_code fail(const reader *r, const char *cause)
{
    return SOW_FAIL(SOW_EFORMAT, "%s: the regular expression '%.200s' at offset %zu: %s", r->where, r->text, r->at,
                    cause);
}

/* Copies n bytes as they are. */
static sow_code copy(reader *r, size_t n)
{
    SOW_TRY(sow_words_add(r->out, r->text + r->at, n));
    r->at += n;
    return SOW_OK;
}

/* Writes `text` for the next n bytes. */
static sow_code put(reader *r, size_t n, const char *text)
{
    r->at += n;
    return sow_words_add(r->out, text, strlen(text));
}

/* \p{NAME}, \P{NAME}, \p{^NAME}: general categories only, since scripts and the like would differ with Unicode's
 * version. */
static sow_code read_property(reader *r)
{
    static const char *const names[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",  "Nd",
                                        "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm",
                                        "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "C",  "Cc", "Cf", "Cn", "Co"};
    size_t start = 3;
    if (peek(r, 2) != '{')
        return fail(r, "\\p without {name}");
    if (peek(r, start) == '^')
        start++;
    size_t end = start;
    while (is_letter(peek(r, end)))
        end++;
    if (peek(r, end) != '}')
        return fail(r, "a \\p{name} that is not supported (general categories are)");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == end - start && memcmp(names[i], r->text + r->at + start, end - start) == 0)
            return copy(r, end + 1);
    return fail(r, "a \\p{name} that is not supported (general categories are)");
}

/* \xHH (ASCII), \x{H...}, \uHHHH. */
static sow_code read_hex(reader *r, bool is_u)
{
    size_t n = is_u ? 4 : 2;
    if (!is_u && peek(r, 2) == '{') {
        size_t end = 3;
        while (is_hex(peek(r, end)))
            end++;
        return end > 3 && peek(r, end) == '}' ? copy(r, end + 1) : fail(r, "a wrong \\x{...}");
    }
    for (size_t i = 0; i < n; i++)
        if (!is_hex(peek(r, 2 + i)))
            return fail(r, "too few digits");
    if (!is_u && peek(r, 2) >= '8')
        return fail(r, "a byte that is no character");
    SOW_TRY(sow_words_print(r->out, "\\x{%.*s}", (int)n, r->text + r->at + 2));
    r->at += 2 + n;
    return SOW_OK;
}

/* A backslash and what it escapes. */
static sow_code read_escape(reader *r, bool is_in_class)
{
    int c = peek(r, 1);
    switch (c) {
    case 'p':
    case 'P':
        return read_property(r);
    case 's':
        return put(r, 2, "\\p{White_Space}");
    case 'S':
        return put(r, 2, "\\P{White_Space}");
    case 'w':
        return put(r, 2, is_in_class ? WORD : "[" WORD NUMBERS "]");
    case 'W':
        return is_in_class ? fail(r, "\\W inside brackets is not supported") : put(r, 2, "[^" WORD NUMBERS "]");
    case 'v':
        return put(r, 2, "\\x{0b}");
    case 'x':
        return read_hex(r, false);
    case 'u':
        return read_hex(r, true);
    case 'd':
    case 'D':
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e':
        return copy(r, 2);
    case 'A':
    case 'z':
    case 'Z':
        return is_in_class ? fail(r, "an anchor inside brackets") : copy(r, 2);
    case -1:
        return fail(r, "a backslash at the end");
    default:
        if (is_letter(c) || is_digit(c))
            return fail(r, "an escape that is not supported");
        return c < 0x80 ? copy(r, 2) : put(r, 1, ""); /* an escaped character beyond ASCII is itself */
    }
}

/* [...]; nesting, intersection and POSIX names are not supported. */
static sow_code read_class(reader *r)
{
    SOW_TRY(copy(r, peek(r, 1) == '^' ? 2 : 1));
    if (peek(r, 0) == ']')
        return fail(r, "an empty [] is not supported");
    while (peek(r, 0) != ']') {
        int c = peek(r, 0);
        if (c < 0)
            return fail(r, "a [ without its ]");
        if (c == '[' || (c == '&' && peek(r, 1) == '&'))
            return fail(r, "sets inside brackets are not supported");
        SOW_TRY(c == '\\' ? read_escape(r, true) : copy(r, 1));
    }
    return copy(r, 1);
}

/* "(" and what may follow it. */
static sow_code read_group(reader *r)
{
    static const char *const opens[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"};
    if (peek(r, 1) == '*')
        return fail(r, "(* is not supported");
    if (peek(r, 1) != '?')
        return copy(r, 1);
    for (size_t i = 0; i < sizeof opens / sizeof *opens; i++) {
        size_t n = strlen(opens[i]);
        if (r->bytes - r->at >= n && memcmp(r->text + r->at, opens[i], n) == 0)
            return copy(r, n);
    }
    /* (?i) holds to the end of its group: only at the very start do both libraries agree on what that is. */
    if (r->at == 0 && r->bytes >= 4 && memcmp(r->text, "(?i)", 4) == 0)
        return copy(r, 4);
    return fail(r, "a group that is not supported");
}

/* "{": an interval {n}, {n,}, {,m} or {n,m}, else the character itself. */
static sow_code read_interval(reader *r)
{
    size_t low = 1;
    while (is_digit(peek(r, low)))
        low++;
    size_t end = low;
    if (peek(r, end) == ',')
        end++;
    size_t high = end;
    while (is_digit(peek(r, end)))
        end++;
    bool has_low = low > 1, has_comma = high > low, has_high = end > high;
    if (peek(r, end) != '}' || !(has_low || (has_comma && has_high)))
        return put(r, 1, "\\{");
    if (peek(r, end + 1) == '+' || peek(r, end + 1) == '?')
        return fail(r, "a + or ? behind an interval is not supported");
    if (has_low)
        return copy(r, end + 1);
    SOW_TRY(put(r, 1, "{0"));
    return copy(r, end);
}

sow_code sow_text_translate(const char *expression, size_t bytes, const char *where, sow_words *out)
{
    if (memchr(expression, '\0', bytes) != NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: a regular expression with a NUL character", where);
    reader r = {expression, bytes, 0, where, out};
    SOW_TRY(put(&r, 0, "(?m)"));
    while (r.at < r.bytes) {
        switch (peek(&r, 0)) {
        case '\\':
            SOW_TRY(read_escape(&r, false));
            break;
        case '[':
            SOW_TRY(read_class(&r));
            break;
        case '(':
            SOW_TRY(read_group(&r));
            break;
        case '{':
            SOW_TRY(read_interval(&r));
            break;
        default:
            SOW_TRY(copy(&r, 1));
        }
    }
    return SOW_OK;
}
