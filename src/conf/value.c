/* SPDX-License-Identifier: Apache-2.0 */
/* Values: from text to a field of the options and back, and how messages name place, key and value.
 *
 * Reading is strict: a number is the whole text, a whole number may be written 1e3 but not 1.5, a text holds no NUL and
 * is UTF-8.  A number is written with the fewest digits that read back to the same bits. */
#include "conf_impl.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

const char *sow_conf_show(const char *text, size_t bytes, char out[SHOW_BYTES])
{
    size_t n = 0;
    if (bytes == 0)
        (void)snprintf(out, SHOW_BYTES, "''");
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        bool is_start = (c & 0xc0) != 0x80; /* of a character: never cut inside one */
        if (is_start && n > SHOW_BYTES - 12) {
            (void)snprintf(out + n, SHOW_BYTES - n, "...");
            break;
        }
        if (c < 0x20 || c == 0x7f)
            n += (size_t)snprintf(out + n, SHOW_BYTES - n, "\\x%02x", (unsigned)c);
        else if (n + 1 < SHOW_BYTES)
            out[n++] = (char)c;
        out[n] = '\0';
    }
    if (!sow_words_is_utf8(out, strlen(out)))
        for (n = 0; out[n] != '\0'; n++)
            if ((unsigned char)out[n] >= 0x80)
                out[n] = '?';
    return out;
}

const char *sow_conf_place(const sow_conf *conf, conf_mark mark, char out[PLACE_BYTES])
{
    if (mark.is_set || conf->file == NULL)
        (void)snprintf(out, PLACE_BYTES, "--set");
    else
        (void)snprintf(out, PLACE_BYTES, "%s:%d", conf->file, mark.line > 0 ? mark.line : 1);
    return out;
}

sow_code sow_conf_fail(const sow_conf *conf, conf_mark mark, const char *key, const char *file, int line,
                       const char *fmt, ...)
{
    char place[PLACE_BYTES], words[PLACE_BYTES];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(words, sizeof words, fmt, args) < 0)
        words[0] = '\0';
    va_end(args);
    return sow_error_set(SOW_ECONF, file, line, "%s: %s: %s", sow_conf_place(conf, mark, place), key, words);
}

const char *sow_conf_format_real(double x, char out[SOW_TEXT])
{
    double back = 0;
    if (x == floor(x) && fabs(x) < 1e15) {
        (void)snprintf(out, SOW_TEXT, "%.0f", x);
        return out;
    }
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(out, SOW_TEXT, "%.*g", digits, x);
        if (sow_words_to_real(out, &back) && back == x)
            break;
    }
    /* 1e-06 is a text to readers of YAML 1.1, 1.0e-06 is a number to all. */
    char *e = strchr(out, 'e');
    if (e != NULL && strchr(out, '.') == NULL) {
        memmove(e + 2, e, strlen(e) + 1);
        e[0] = '.';
        e[1] = '0';
    }
    return out;
}

/* The choices "a|b|c" cut into names, in `copy`; how many. */
enum { MAX_CHOICES = 16 };
static int cut_choices(const char *choices, char copy[SOW_TEXT], const char *names[MAX_CHOICES])
{
    int n = 0;
    (void)snprintf(copy, SOW_TEXT, "%s", choices);
    for (char *at = copy; at != NULL && n < MAX_CHOICES;) {
        names[n++] = at;
        at = strchr(at, '|');
        if (at != NULL)
            *at++ = '\0';
    }
    return n;
}

static const char *expected_choice(const char *choices, char out[EXPECTED_BYTES])
{
    char copy[SOW_TEXT];
    const char *names[MAX_CHOICES];
    int n = cut_choices(choices, copy, names);
    size_t used = (size_t)snprintf(out, EXPECTED_BYTES, "%s%.64s", n > 1 ? "one of " : "", names[0]);
    for (int i = 1; i < n && used < EXPECTED_BYTES; i++)
        used += (size_t)snprintf(out + used, EXPECTED_BYTES - used, ", %s", names[i]);
    return out;
}

const char *sow_conf_expected(const option_row *row, char out[EXPECTED_BYTES])
{
    char low[SOW_TEXT], high[SOW_TEXT];
    if (row->choices != NULL)
        return expected_choice(row->choices, out);
    switch (row->kind) {
    case KIND_BOOL:
        (void)snprintf(out, EXPECTED_BYTES, "true or false");
        break;
    case KIND_TEXT:
        (void)snprintf(out, EXPECTED_BYTES, "a text of at most %d bytes", SOW_TEXT - 1);
        break;
    case KIND_INT:
        (void)snprintf(out, EXPECTED_BYTES, "a whole number from %.0f to %.0f", row->low, row->high);
        break;
    case KIND_REAL:
        (void)snprintf(out, EXPECTED_BYTES, "a number from %.32s to %.32s", sow_conf_format_real(row->low, low),
                       sow_conf_format_real(row->high, high));
        break;
    }
    return out;
}

/* What one value is read for: where it stands and by which row. */
typedef struct reading {
    const sow_conf *conf;
    conf_mark mark;
    const char *key;
    const option_row *row;
    const char *text; /* NUL-terminated */
    size_t bytes;
} reading;

/* "VALUE is what it is, expected what would be right" */
#define READ_FAIL(r, what) fail_reading((r), __LINE__, (what))
static sow_code fail_reading(const reading *r, int line, const char *what)
{
    char shown[SHOW_BYTES], expected[EXPECTED_BYTES];
    return sow_conf_fail(r->conf, r->mark, r->key, __FILE__, line, "%s %s, expected %s",
                         sow_conf_show(r->text, r->bytes, shown), what, sow_conf_expected(r->row, expected));
}

/* A number in the row's range. */
static sow_code read_number(const reading *r, double *out)
{
    double x = 0;
    if (strpbrk(r->text, "xX") != NULL || !sow_words_to_real(r->text, &x)) /* strtod reads 0x10 too */
        return READ_FAIL(r, "is not a finite number");
    if (r->row->kind == KIND_INT && x != floor(x))
        return READ_FAIL(r, "is a fraction");
    if (x < r->row->low || x > r->row->high)
        return READ_FAIL(r, "is out of range");
    *out = x + 0.0; /* -0 becomes 0 */
    return SOW_OK;
}

static sow_code read_bool(const reading *r, bool *out)
{
    static const char *const words[] = {"false", "true", "no", "yes"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(r->text, words[i]) == 0) {
            *out = i % 2 == 1;
            return SOW_OK;
        }
    }
    return READ_FAIL(r, "is neither true nor false");
}

static sow_code read_choice(const reading *r)
{
    char copy[SOW_TEXT];
    const char *names[MAX_CHOICES];
    int n = cut_choices(r->row->choices, copy, names);
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], r->text) == 0)
            return SOW_OK;
    char shown[SHOW_BYTES], expected[EXPECTED_BYTES];
    const char *near = sow_words_nearest(r->text, names, n);
    return CONF_FAIL(r->conf, r->mark, r->key, "%s is not a choice, expected %s%s%s%s",
                     sow_conf_show(r->text, r->bytes, shown), sow_conf_expected(r->row, expected),
                     near == NULL ? "" : "; did you mean ", near == NULL ? "" : near, near == NULL ? "" : "?");
}

static void put_text(sow_text *field, const char *text)
{
    memset(*field, 0, sizeof *field);
    memcpy(*field, text, strnlen(text, sizeof *field - 1));
}

sow_code sow_conf_read(const sow_conf *conf, conf_mark mark, const char *key, const option_row *row, const char *text,
                       size_t bytes, void *base)
{
    reading r = {.conf = conf, .mark = mark, .key = key, .row = row, .text = text, .bytes = bytes};
    char what[64];
    double number = 0;
    bool flag = false;
    if (memchr(text, '\0', bytes) != NULL)
        return READ_FAIL(&r, "holds a NUL");
    if (!sow_words_is_utf8(text, bytes))
        return READ_FAIL(&r, "is not UTF-8");
    if (row->kind == KIND_BOOL)
        SOW_TRY(read_bool(&r, &flag));
    else if (row->kind != KIND_TEXT)
        SOW_TRY(read_number(&r, &number));
    else if (bytes >= SOW_TEXT) {
        (void)snprintf(what, sizeof what, "is too long (%zu bytes)", bytes);
        return READ_FAIL(&r, what);
    } else if (row->choices != NULL)
        SOW_TRY(read_choice(&r));
    if (base == NULL)
        return SOW_OK;
    void *field = (char *)base + row->offset;
    switch (row->kind) {
    case KIND_INT:
        *(int64_t *)field = (int64_t)number; /* ranges end below 2^53 */
        break;
    case KIND_REAL:
        *(double *)field = number;
        break;
    case KIND_BOOL:
        *(bool *)field = flag;
        break;
    case KIND_TEXT:
        put_text(field, text);
        break;
    }
    return SOW_OK;
}

void sow_conf_read_default(const option_row *row, const char *default_text, void *base)
{
    const sow_conf none = {0};
    sow_code rc = sow_conf_read(&none, (conf_mark){0}, row->path, row, default_text, strlen(default_text), base);
    SOW_ASSERT(rc == SOW_OK); /* a default that its own row refuses is a slip in the table */
}

const char *sow_conf_format(const option_row *row, const void *base, char out[SOW_TEXT])
{
    const void *field = (const char *)base + row->offset;
    switch (row->kind) {
    case KIND_INT:
        (void)snprintf(out, SOW_TEXT, "%lld", (long long)*(const int64_t *)field);
        break;
    case KIND_REAL:
        return sow_conf_format_real(*(const double *)field, out);
    case KIND_BOOL:
        (void)snprintf(out, SOW_TEXT, "%s", *(const bool *)field ? "true" : "false");
        break;
    case KIND_TEXT:
        (void)snprintf(out, SOW_TEXT, "%.*s", SOW_TEXT - 1, (const char *)field);
        break;
    }
    return out;
}
