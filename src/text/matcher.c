/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting a text where a string, an expression or a kind of character matches, as Hugging Face's Pattern and
 * SplitDelimiterBehavior do: first all matches and what lies between, then the spans are joined or dropped. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <string.h>

sow_code sow_text_matcher_literal(const char *text, size_t bytes, text_matcher *out)
{
    char *copy = NULL;
    SOW_TRY(sow_text_copy(text, bytes, &copy));
    *out = (text_matcher){.literal = copy, .bytes = bytes};
    return SOW_OK;
}

sow_code sow_text_matcher_regex(const char *expression, size_t bytes, const char *where, text_matcher *out)
{
    sow_words words = {0};
    sow_pattern *pattern = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_text_translate(expression, bytes, where, &words));
    rc = sow_pattern_compile(words.text, false, &pattern);
    if (rc == SOW_EFORMAT)
        rc = SOW_FAIL(SOW_EFORMAT, "%s: %s", where, sow_error_text());
    if (rc == SOW_OK)
        *out = (text_matcher){.pattern = pattern};
done:
    sow_words_fini(&words);
    return rc;
}

sow_code sow_text_matcher_read(const sow_json *object, const char *where, text_matcher *out)
{
    const sow_json *node = sow_json_get(object, "pattern");
    size_t bytes = 0;
    const char *text = sow_json_to_string(sow_json_get(node, "String"), &bytes);
    if (text != NULL && sow_json_size(node) == 1) {
        if (bytes == 0)
            return SOW_FAIL(SOW_EFORMAT, "%s.pattern: is an empty string", where);
        return sow_text_matcher_literal(text, bytes, out);
    }
    text = sow_json_to_string(sow_json_get(node, "Regex"), &bytes);
    if (text != NULL && sow_json_size(node) == 1)
        return sow_text_matcher_regex(text, bytes, where, out);
    return SOW_FAIL(SOW_EFORMAT, "%s.pattern: is neither {\"String\": ...} nor {\"Regex\": ...}", where);
}

void sow_text_matcher_fini(text_matcher *matcher)
{
    SOW_FREE(&matcher->literal);
    sow_pattern_destroy(&matcher->pattern);
}

void sow_text_spans_fini(text_spans *spans)
{
    SOW_FREE(&spans->spans);
    sow_words_fini(&spans->known);
    *spans = (text_spans){0};
}

static sow_code add_span(text_spans *out, size_t start, size_t end, bool is_match)
{
    SOW_TRY(SOW_GROW(&out->spans, &out->capacity, out->n));
    out->spans[out->n++] = (text_span){start, end, is_match};
    return SOW_OK;
}

/* A match, and what lies between it and the one before (which ended at the end of the last span). */
static sow_code add_match(text_spans *out, size_t start, size_t end)
{
    size_t before = out->n > 0 ? out->spans[out->n - 1].end : 0;
    if (before != start)
        SOW_TRY(add_span(out, before, start, false));
    return add_span(out, start, end, true);
}

static sow_code find_chars(bool (*is_char)(uint32_t), const char *text, size_t bytes, text_spans *out)
{
    for (size_t at = 0; at < bytes;) {
        size_t start = at;
        if (is_char(sow_text_char(text, &at)))
            SOW_TRY(add_match(out, start, at));
    }
    return SOW_OK;
}

static sow_code find_literal(const text_matcher *m, const char *text, size_t bytes, text_spans *out)
{
    for (size_t at = 0; at + m->bytes <= bytes;) {
        const char *first = memchr(text + at, m->literal[0], bytes - m->bytes - at + 1);
        if (first == NULL)
            break;
        at = (size_t)(first - text);
        if (memcmp(first, m->literal, m->bytes) == 0) {
            SOW_TRY(add_match(out, at, at + m->bytes));
            at += m->bytes;
        } else {
            at++;
        }
    }
    return SOW_OK;
}

/* An empty match right behind a match does not count; the search then goes on one character later. */
static sow_code find_regex(const text_matcher *m, const char *text, size_t bytes, text_spans *out)
{
    const char *known = NULL;
    SOW_TRY(sow_text_known(text, bytes, &out->known, &known));
    for (size_t at = 0; at <= bytes;) {
        bool is_found = false;
        size_t match[2];
        SOW_TRY(sow_pattern_search(m->pattern, known, bytes, at, &is_found, match));
        if (!is_found)
            break;
        bool is_after_match = out->n > 0 && out->spans[out->n - 1].end == match[1];
        if (match[0] == match[1] && is_after_match) {
            if (at == bytes)
                break;
            (void)sow_text_char(text, &at);
            continue;
        }
        SOW_TRY(add_match(out, match[0], match[1]));
        at = match[1];
    }
    return SOW_OK;
}

sow_code sow_text_matcher_find(const text_matcher *matcher, const char *text, size_t bytes, text_spans *out)
{
    out->n = 0;
    if (bytes == 0)
        return add_span(out, 0, 0, false);
    if (matcher->is_char != NULL)
        SOW_TRY(find_chars(matcher->is_char, text, bytes, out));
    else if (matcher->literal != NULL)
        SOW_TRY(find_literal(matcher, text, bytes, out));
    else
        SOW_TRY(find_regex(matcher, text, bytes, out));
    size_t end = out->n > 0 ? out->spans[out->n - 1].end : 0;
    return end < bytes ? add_span(out, end, bytes, false) : SOW_OK;
}

/* Each span is a piece of its own, or joined to the piece before it. */
static void join(text_spans *spans, bool (*is_joined)(bool is_match, bool was_match))
{
    int64_t n = 0;
    bool was_match = false;
    for (int64_t i = 0; i < spans->n; i++) {
        text_span span = spans->spans[i];
        if (n > 0 && is_joined(span.is_match, was_match))
            spans->spans[n - 1].end = span.end;
        else
            spans->spans[n++] = span;
        was_match = span.is_match;
    }
    spans->n = n;
}

static bool is_same(bool is_match, bool was_match)
{
    return is_match == was_match;
}

static bool is_first_match(bool is_match, bool was_match)
{
    return is_match && !was_match;
}

/* The same from the end: a match is joined to what follows it, unless that is a match. */
static void join_next(text_spans *spans)
{
    int64_t n = spans->n;
    bool was_match = false;
    for (int64_t i = spans->n - 1; i >= 0; i--) {
        text_span span = spans->spans[i];
        if (n < spans->n && is_first_match(span.is_match, was_match))
            spans->spans[n].start = span.start;
        else
            spans->spans[--n] = span;
        was_match = span.is_match;
    }
    memmove(spans->spans, spans->spans + n, (size_t)(spans->n - n) * sizeof *spans->spans);
    spans->n -= n;
}

static void drop_matches(text_spans *spans)
{
    int64_t n = 0;
    for (int64_t i = 0; i < spans->n; i++)
        if (!spans->spans[i].is_match)
            spans->spans[n++] = spans->spans[i];
    spans->n = n;
}

void sow_text_spans_fold(text_spans *spans, text_behavior behavior, bool is_inverted)
{
    for (int64_t i = 0; is_inverted && i < spans->n; i++)
        spans->spans[i].is_match = !spans->spans[i].is_match;
    if (behavior == TEXT_REMOVED)
        drop_matches(spans);
    else if (behavior == TEXT_CONTIGUOUS)
        join(spans, is_same);
    else if (behavior == TEXT_MERGED_WITH_PREVIOUS)
        join(spans, is_first_match);
    else if (behavior == TEXT_MERGED_WITH_NEXT)
        join_next(spans);
}

sow_code sow_text_matcher_replace(const text_matcher *matcher, const char *content, size_t content_bytes,
                                  text_spans *spans, const char *text, size_t bytes, sow_words *out)
{
    SOW_TRY(sow_text_matcher_find(matcher, text, bytes, spans));
    for (int64_t i = 0; i < spans->n; i++) {
        text_span span = spans->spans[i];
        if (span.is_match)
            SOW_TRY(sow_words_add(out, content, content_bytes));
        else
            SOW_TRY(sow_words_add(out, text + span.start, span.end - span.start));
    }
    return SOW_OK;
}
