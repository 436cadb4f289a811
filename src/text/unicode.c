/* SPDX-License-Identifier: Apache-2.0 */
/* Characters: UTF-8, categories, normalization forms.
 *
 * Unicode grows, and the libraries here know less of it (pcre2 10.42: Unicode 14) than the one whose ids must be met
 * (Unicode 16). unicode_newer.def holds the difference: a character that is too new is shown to pcre2 as an older one
 * of the same category. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <string.h>

#include <utf8proc.h>

uint32_t sow_text_char(const char *text, size_t *at)
{
    const unsigned char *s = (const unsigned char *)text + *at;
    if (s[0] < 0x80) {
        *at += 1;
        return s[0];
    }
    if (s[0] < 0xE0) {
        *at += 2;
        return (uint32_t)(s[0] & 0x1F) << 6 | (s[1] & 0x3F);
    }
    if (s[0] < 0xF0) {
        *at += 3;
        return (uint32_t)(s[0] & 0x0F) << 12 | (uint32_t)(s[1] & 0x3F) << 6 | (s[2] & 0x3F);
    }
    *at += 4;
    return (uint32_t)(s[0] & 0x07) << 18 | (uint32_t)(s[1] & 0x3F) << 12 | (uint32_t)(s[2] & 0x3F) << 6 | (s[3] & 0x3F);
}

size_t sow_text_char_write(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* What may follow a first byte: how many bytes, and the range of the second (Unicode, table 3-7). */
static size_t follows(unsigned char first, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF)
        return 1;
    if (first >= 0xE0 && first <= 0xEF) {
        *low = first == 0xE0 ? 0xA0 : 0x80;
        *high = first == 0xED ? 0x9F : 0xBF;
        return 2;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        *low = first == 0xF0 ? 0x90 : 0x80;
        *high = first == 0xF4 ? 0x8F : 0xBF;
        return 3;
    }
    return 0;
}

size_t sow_text_scan(const char *text, size_t bytes, bool *is_valid)
{
    const unsigned char *s = (const unsigned char *)text;
    *is_valid = s[0] < 0x80;
    if (*is_valid)
        return 1;
    unsigned char low, high;
    size_t n = follows(s[0], &low, &high);
    for (size_t i = 1; i <= n; i++) {
        if (i == bytes)
            return 0;
        if (s[i] < low || s[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    *is_valid = n > 0;
    return n + 1;
}

typedef struct newer {
    uint32_t first, last, stand_in;
} newer;
static const newer newer_ranges[] = {
#define NEWER(first, last, stand_in) {first, last, stand_in},
#include "unicode_newer.def"
#undef NEWER
};
enum { N_NEWER = sizeof newer_ranges / sizeof newer_ranges[0] };

uint32_t sow_text_known_char(uint32_t c)
{
    if (c < newer_ranges[0].first)
        return c;
    int low = 0, high = N_NEWER;
    while (low < high) {
        int middle = (low + high) / 2;
        if (c > newer_ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < N_NEWER && c >= newer_ranges[low].first ? newer_ranges[low].stand_in : c;
}

sow_code sow_text_known(const char *text, size_t bytes, sow_words *scratch, const char **out)
{
    bool is_copied = false;
    for (size_t at = 0; at < bytes;) {
        size_t start = at;
        uint32_t c = sow_text_char(text, &at);
        uint32_t as = sow_text_known_char(c);
        if (as == c)
            continue;
        if (!is_copied) {
            sow_words_clear(scratch);
            SOW_TRY(sow_words_add(scratch, text, bytes));
            is_copied = true;
        }
        (void)sow_text_char_write(as, scratch->text + start);
    }
    *out = is_copied ? scratch->text : text;
    return SOW_OK;
}

bool sow_text_is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool sow_text_is_numeric(uint32_t c)
{
    /* Two ranges are Unicode 17's: Hugging Face's Digits asks Rust, which is ahead of Oniguruma. */
    if ((c >= 0x11DE0 && c <= 0x11DE9) || (c >= 0x16FF4 && c <= 0x16FF6))
        return true;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)sow_text_known_char(c));
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

/* Sorts a run of combining marks by their class; equal classes keep their order.  utf8proc's own sort is quadratic. */
static void order_marks(int32_t *run, int64_t n, int32_t *scratch)
{
    int64_t start[257] = {0};
    for (int64_t i = 0; i < n; i++)
        start[utf8proc_get_property(run[i])->combining_class + 1]++;
    for (int i = 1; i < 257; i++)
        start[i] += start[i - 1];
    for (int64_t i = 0; i < n; i++)
        scratch[start[utf8proc_get_property(run[i])->combining_class]++] = run[i];
    memcpy(run, scratch, (size_t)n * sizeof *run);
}

static void order_all_marks(int32_t *chars, int64_t n, int32_t *scratch)
{
    for (int64_t i = 0; i < n;) {
        int64_t end = i;
        while (end < n && utf8proc_get_property(chars[end])->combining_class != 0)
            end++;
        if (end - i > 1)
            order_marks(chars + i, end - i, scratch);
        i = end > i ? end : i + 1;
    }
}

/* Below these characters a text is in the form already. */
static bool is_plain(text_form form, const char *text, size_t bytes)
{
    uint32_t limit = form == TEXT_NFC ? 0x300 : form == TEXT_NFD ? 0xC0 : 0xA0;
    for (size_t at = 0; at < bytes;)
        if (sow_text_char(text, &at) >= limit)
            return false;
    return true;
}

static const uint32_t inert_ranges[][2] = {
#define INERT(first, last) {first, last},
#include "unicode_inert.def"
#undef INERT
};
enum { N_INERT = sizeof inert_ranges / sizeof inert_ranges[0] };

static bool is_inert(uint32_t c)
{
    int i = 0;
    while (i < N_INERT && c > inert_ranges[i][1])
        i++;
    return c >= inert_ranges[0][0] && i < N_INERT && c >= inert_ranges[i][0];
}

/* Text on its way into a form: decomposed characters since the last that is inert. */
typedef struct forming {
    text_form form;
    int32_t *chars, *scratch; /* owned */
    int64_t n, capacity, scratch_capacity;
} forming;

/* Orders, composes and writes what has come together. */
static sow_code flush(forming *f, sow_words *out)
{
    SOW_TRY(SOW_GROW(&f->scratch, &f->scratch_capacity, f->n));
    order_all_marks(f->chars, f->n, f->scratch);
    if ((f->form == TEXT_NFC || f->form == TEXT_NFKC) && f->n > 0)
        f->n = utf8proc_normalize_utf32(f->chars, f->n, (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    for (int64_t i = 0; i < f->n; i++) {
        char c[4];
        SOW_TRY(sow_words_add(out, c, sow_text_char_write((uint32_t)f->chars[i], c)));
    }
    f->n = 0;
    return SOW_OK;
}

static sow_code form_char(forming *f, const char *text, size_t *at, sow_words *out)
{
    enum { LONGEST = 32 }; /* characters one can decompose into (18 by Unicode's data) */
    size_t start = *at;
    uint32_t c = sow_text_char(text, at);
    if (is_inert(c)) {
        SOW_TRY(flush(f, out));
        return sow_words_add(out, text + start, *at - start);
    }
    int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (f->form == TEXT_NFKC || f->form == TEXT_NFKD)
        options |= UTF8PROC_COMPAT;
    int last = 0;
    SOW_TRY(SOW_GROW(&f->chars, &f->capacity, f->n + LONGEST));
    f->n += utf8proc_decompose_char((int32_t)c, f->chars + f->n, LONGEST, (utf8proc_option_t)options, &last);
    return SOW_OK;
}

sow_code sow_text_normalize(text_form form, const char *text, size_t bytes, sow_words *out)
{
    if (is_plain(form, text, bytes))
        return sow_words_add(out, text, bytes);
    forming f = {.form = form};
    sow_code rc = SOW_OK;
    for (size_t at = 0; at < bytes;)
        SOW_TRY_OR(rc, form_char(&f, text, &at, out));
    rc = flush(&f, out);
done:
    SOW_FREE(&f.scratch);
    SOW_FREE(&f.chars);
    return rc;
}
