/* SPDX-License-Identifier: Apache-2.0 */
/* Rows from a file: JSON lines, or one JSON array of rows (the paper's countdown.json).
 *
 * An array is cut into its elements first, and each element is parsed as a line would be: one way in for both forms,
 * and every message can name the line of the file. */
#include "task_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROW_BYTES = 4 << 20, WHAT_BYTES = SOW_TEXT + 32 };

typedef struct reader {
    const char *name, *at, *end;
    int64_t line; /* of `at`, from 1 */
    int64_t n_rows;
    bool is_test;
    sow_row_add_fn add;
    void *owner;
} reader;

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_space(reader *r)
{
    for (; r->at < r->end && is_space(*r->at); r->at++)
        r->line += *r->at == '\n';
}

/* The parser was told no name and says ":LINE: cause" with lines from 1; the row began at `line`. */
static sow_code bad_json(const reader *r, int64_t line)
{
    const char *text = sow_error_text();
    char *rest = NULL;
    long inside = *text == ':' ? strtol(text + 1, &rest, 10) : 1;
    return SOW_FAIL(SOW_EFORMAT, "%s:%lld%s", r->name, (long long)(line + inside - 1), rest == NULL ? text : rest);
}

static sow_code find_split(const sow_json *row, const char *what, bool *is_test)
{
    const char *split = NULL;
    SOW_TRY(sow_row_string(row, "split", what, false, &split));
    *is_test = split != NULL && strcmp(split, "test") == 0;
    if (split != NULL && !*is_test && strcmp(split, "train") != 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: split: '%s' is unknown, expected train or test", what, split);
    return SOW_OK;
}

/* Hands over one row, which begins at `line`. */
static sow_code take_row(reader *r, const char *text, size_t bytes, int64_t line)
{
    sow_json *row = NULL;
    sow_code rc = SOW_OK;
    bool is_test = false;
    char what[WHAT_BYTES];
    if (snprintf(what, sizeof what, "%s:%lld", r->name, (long long)line) < 0)
        what[0] = '\0';
    if (bytes == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: there is no row, expected a JSON object", what);
    if (bytes > MAX_ROW_BYTES)
        return SOW_FAIL(SOW_EFORMAT, "%s: the row has %zu bytes, expected at most %d", what, bytes, MAX_ROW_BYTES);
    if (sow_json_parse(text, bytes, "", &row) != SOW_OK)
        return bad_json(r, line);
    if (sow_json_kind_of(row) != SOW_JSON_OBJECT)
        rc = SOW_FAIL(SOW_EFORMAT, "%s: the row is no JSON object, expected {\"key\": value, ...}", what);
    if (rc == SOW_OK)
        rc = find_split(row, what, &is_test);
    if (rc == SOW_OK)
        rc = r->add(r->owner, row, what, is_test == r->is_test);
    r->n_rows++;
    sow_json_destroy(&row);
    return rc;
}

static sow_code read_lines(reader *r)
{
    while (r->at < r->end) {
        const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
        const char *next = newline == NULL ? r->end : newline + 1, *stop = newline == NULL ? r->end : newline;
        const char *start = r->at;
        while (start < stop && is_space(*start))
            start++;
        SOW_TRY(take_row(r, start, (size_t)(stop - start), r->line));
        r->at = next;
        r->line++;
    }
    return SOW_OK;
}

/* Moves to the comma or bracket that ends an element of the array. */
static void skip_element(reader *r)
{
    int64_t depth = 0;
    bool is_string = false;
    for (; r->at < r->end; r->at++) {
        char c = *r->at;
        r->line += c == '\n';
        if (is_string) {
            if (c == '\\' && r->at + 1 < r->end)
                r->line += *++r->at == '\n';
            else if (c == '"')
                is_string = false;
            continue;
        }
        if (depth == 0 && (c == ',' || c == ']'))
            return;
        is_string = c == '"';
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    }
}

static sow_code read_array(reader *r)
{
    r->at++; /* [ */
    skip_space(r);
    bool is_done = r->at < r->end && *r->at == ']';
    while (!is_done) {
        skip_space(r);
        const char *start = r->at;
        int64_t line = r->line;
        skip_element(r);
        if (r->at == r->end)
            return SOW_FAIL(SOW_EFORMAT, "%s:%lld: the array that begins with this row does not end, expected ]",
                            r->name, (long long)line);
        SOW_TRY(take_row(r, start, (size_t)(r->at - start), line));
        is_done = *r->at == ']';
        r->at += !is_done;
    }
    r->at++;
    skip_space(r);
    if (r->at < r->end)
        return SOW_FAIL(SOW_EFORMAT, "%s:%lld: there is text behind the array, expected the end of the file", r->name,
                        (long long)r->line);
    return SOW_OK;
}

sow_code sow_rows_read(const char *name, const char *file, size_t bytes, bool is_test, sow_row_add_fn add, void *owner)
{
    reader r = {.name = name, .at = file, .line = 1, .is_test = is_test, .add = add, .owner = owner};
    r.end = file + bytes;
    const char *first = file;
    while (first < r.end && is_space(*first))
        first++;
    if (first < r.end && *first == '[') {
        skip_space(&r);
        SOW_TRY(read_array(&r));
    } else {
        SOW_TRY(read_lines(&r));
    }
    if (r.n_rows == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s:1: the file has no rows, expected JSON lines", name);
    return SOW_OK;
}

static const char *kind_words(const sow_json *node)
{
    static const char *const words[] = {
        [SOW_JSON_NONE] = "missing",   [SOW_JSON_NULL] = "null",        [SOW_JSON_BOOL] = "true or false",
        [SOW_JSON_INT] = "a number",   [SOW_JSON_REAL] = "a number",    [SOW_JSON_STRING] = "a string",
        [SOW_JSON_ARRAY] = "an array", [SOW_JSON_OBJECT] = "an object",
    };
    return words[sow_json_kind_of(node)];
}

sow_code sow_row_text(const sow_json *row, const char *key, const char *what, const char **out, size_t *bytes)
{
    const sow_json *node = sow_json_get(row, key);
    size_t n = 0;
    const char *text = sow_json_to_string(node, &n);
    if (text == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is %s, expected a string", what, key, kind_words(node));
    *out = text;
    *bytes = n;
    return SOW_OK;
}

sow_code sow_row_string(const sow_json *row, const char *key, const char *what, bool is_required, const char **out)
{
    const char *text = NULL;
    size_t bytes = 0;
    sow_json_kind kind = sow_json_kind_of(sow_json_get(row, key));
    if (!is_required && (kind == SOW_JSON_NONE || kind == SOW_JSON_NULL)) {
        *out = NULL;
        return SOW_OK;
    }
    SOW_TRY(sow_row_text(row, key, what, &text, &bytes));
    if (text == NULL || strlen(text) != bytes)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: holds the character NUL, expected text", what, key);
    *out = text;
    return SOW_OK;
}

sow_code sow_row_prompt(const sow_json *row, const char *what, const char **out)
{
    const char *prompt = NULL;
    SOW_TRY(sow_row_string(row, "prompt", what, true, &prompt));
    if (prompt == NULL || prompt[0] == '\0')
        return SOW_FAIL(SOW_EFORMAT, "%s: prompt: is empty, expected text", what);
    *out = prompt;
    return SOW_OK;
}

sow_code sow_span_add(sow_words *pool, const char *text, size_t bytes, sow_span *out)
{
    sow_span span = {.at = pool->bytes, .bytes = bytes};
    SOW_TRY(sow_words_add(pool, text, bytes));
    *out = span;
    return SOW_OK;
}
