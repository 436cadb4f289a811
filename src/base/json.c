/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/json.h"

#include "sower/alloc.h"
#include "sower/file.h"
#include "sower/words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

/* A sow_json is a json_t by another name: nothing is wrapped, nothing to free but the root. */
static json_t *as_jansson(const sow_json *node)
{
    return (json_t *)(uintptr_t)node;
}

static const sow_json *as_ours(const json_t *node)
{
    return (const sow_json *)node;
}

sow_code sow_json_parse(const char *text, size_t bytes, const char *what, sow_json **out)
{
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (root == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s:%d: is not JSON: %s", what, error.line > 0 ? error.line : 1, error.text);
    *out = (sow_json *)root;
    return SOW_OK;
}

sow_code sow_json_load(const char *path, sow_json **out)
{
    sow_mapping map = {0};
    SOW_TRY(sow_file_map(path, &map));
    sow_code rc = sow_json_parse(map.data == NULL ? "" : (const char *)map.data, map.bytes, path, out);
    sow_file_unmap(&map);
    return rc;
}

void sow_json_destroy(sow_json **json)
{
    json_decref(as_jansson(*json));
    *json = NULL;
}

sow_json_kind sow_json_kind_of(const sow_json *node)
{
    if (node == NULL)
        return SOW_JSON_NONE;
    switch (json_typeof(as_jansson(node))) {
    case JSON_OBJECT:
        return SOW_JSON_OBJECT;
    case JSON_ARRAY:
        return SOW_JSON_ARRAY;
    case JSON_STRING:
        return SOW_JSON_STRING;
    case JSON_INTEGER:
        return SOW_JSON_INT;
    case JSON_REAL:
        return SOW_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return SOW_JSON_BOOL;
    default:
        return SOW_JSON_NULL;
    }
}

const sow_json *sow_json_get(const sow_json *object, const char *key)
{
    return as_ours(json_object_get(as_jansson(object), key));
}

const sow_json *sow_json_at(const sow_json *array, int64_t index)
{
    return index < 0 ? NULL : as_ours(json_array_get(as_jansson(array), (size_t)index));
}

int64_t sow_json_size(const sow_json *node)
{
    const json_t *j = as_jansson(node);
    return (int64_t)(json_is_array(j) ? json_array_size(j) : json_object_size(j));
}

bool sow_json_next(const sow_json *object, void **iterator, const char **key, const sow_json **value)
{
    json_t *o = as_jansson(object);
    *iterator = *iterator == NULL ? json_object_iter(o) : json_object_iter_next(o, *iterator);
    if (*iterator == NULL)
        return false;
    *key = json_object_iter_key(*iterator);
    *value = as_ours(json_object_iter_value(*iterator));
    return true;
}

bool sow_json_to_int(const sow_json *node, int64_t *out)
{
    if (!json_is_integer(as_jansson(node)))
        return false;
    *out = json_integer_value(as_jansson(node));
    return true;
}

bool sow_json_to_real(const sow_json *node, double *out)
{
    if (!json_is_number(as_jansson(node)))
        return false;
    *out = json_number_value(as_jansson(node));
    return true;
}

bool sow_json_to_bool(const sow_json *node, bool *out)
{
    if (!json_is_boolean(as_jansson(node)))
        return false;
    *out = json_is_true(as_jansson(node));
    return true;
}

const char *sow_json_to_string(const sow_json *node, size_t *bytes)
{
    if (bytes != NULL)
        *bytes = json_string_length(as_jansson(node));
    return json_string_value(as_jansson(node));
}

/* The line is text that grows; only escaping strings and copying nodes needs jansson.  Building a tree first would be
 * as long and give no control over how a number is printed. */
struct sow_line {
    sow_words text;
    sow_code failed; /* the first failure, told by sow_line_text */
    bool needs_comma;
    int depth;
};

sow_code sow_line_create(sow_line **out)
{
    return SOW_ALLOC(out, 1);
}

void sow_line_destroy(sow_line **line)
{
    if (*line != NULL)
        sow_words_fini(&(*line)->text);
    SOW_FREE(line);
}

void sow_line_clear(sow_line *line)
{
    sow_words_clear(&line->text);
    line->failed = SOW_OK;
    line->needs_comma = false;
    line->depth = 0;
}

static void put(sow_line *line, const char *text, size_t bytes)
{
    if (line->failed == SOW_OK)
        line->failed = sow_words_add(&line->text, text, bytes);
}

static void put_escaped(sow_line *line, const char *text, size_t bytes)
{
    json_t *string = json_stringn_nocheck(text, bytes);
    char *dumped = string == NULL ? NULL : json_dumps(string, JSON_ENCODE_ANY);
    if (dumped == NULL && line->failed == SOW_OK)
        line->failed = SOW_FAIL(SOW_ENOMEM, "no memory for a string of %zu bytes", bytes);
    if (dumped != NULL)
        put(line, dumped, strlen(dumped));
    free(dumped);
    json_decref(string);
}

/* What stands before every value: a comma, a key. */
static void begin_value(sow_line *line, const char *key)
{
    if (line->needs_comma)
        put(line, ", ", 2);
    if (key != NULL) {
        put_escaped(line, key, strlen(key));
        put(line, ": ", 2);
    }
    line->needs_comma = true;
}

static void begin_group(sow_line *line, const char *key, const char *bracket)
{
    begin_value(line, key);
    put(line, bracket, 1);
    line->needs_comma = false;
    line->depth++;
}

static void end_group(sow_line *line, const char *bracket)
{
    put(line, bracket, 1);
    line->needs_comma = true;
    line->depth--;
}

void sow_line_begin_object(sow_line *line, const char *key)
{
    begin_group(line, key, "{");
}

void sow_line_end_object(sow_line *line)
{
    end_group(line, "}");
}

void sow_line_begin_array(sow_line *line, const char *key)
{
    begin_group(line, key, "[");
}

void sow_line_end_array(sow_line *line)
{
    end_group(line, "]");
}

void sow_line_int(sow_line *line, const char *key, int64_t value)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)value);
    begin_value(line, key);
    put(line, text, (size_t)n);
}

void sow_line_bool(sow_line *line, const char *key, bool value)
{
    begin_value(line, key);
    put(line, value ? "true" : "false", value ? 4 : 5);
}

void sow_line_real(sow_line *line, const char *key, double value)
{
    char text[40];
    if (!isfinite(value)) {
        sow_line_null(line, key);
        return;
    }
    int n = snprintf(text, sizeof text, "%.15g", value);
    if (strtod(text, NULL) != value)
        n = snprintf(text, sizeof text, "%.17g", value);
    if (strpbrk(text, ".e") == NULL)
        n = snprintf(text, sizeof text, "%.1f", value); /* a real stays a real when it is read back */
    begin_value(line, key);
    put(line, text, (size_t)n);
}

void sow_line_string(sow_line *line, const char *key, const char *text)
{
    sow_line_string_n(line, key, text, strlen(text));
}

/* A copy in which each byte that starts no character is U+FFFD. */
static void put_repaired(sow_line *line, const char *text, size_t bytes)
{
    sow_words fixed = {0};
    sow_code rc = SOW_OK;
    for (size_t i = 0, n; i < bytes && rc == SOW_OK; i += n) {
        for (n = 4; n > 0 && (n > bytes - i || !sow_words_is_utf8(text + i, n)); n--)
            ;
        rc = n > 0 ? sow_words_add(&fixed, text + i, n) : sow_words_add(&fixed, "\xef\xbf\xbd", 3);
        n = n > 0 ? n : 1;
    }
    if (rc == SOW_OK)
        put_escaped(line, fixed.text, fixed.bytes);
    else if (line->failed == SOW_OK)
        line->failed = rc;
    sow_words_fini(&fixed);
}

void sow_line_string_n(sow_line *line, const char *key, const char *text, size_t bytes)
{
    begin_value(line, key);
    if (sow_words_is_utf8(text, bytes))
        put_escaped(line, text, bytes);
    else
        put_repaired(line, text, bytes);
}

void sow_line_null(sow_line *line, const char *key)
{
    begin_value(line, key);
    put(line, "null", 4);
}

void sow_line_node(sow_line *line, const char *key, const sow_json *node)
{
    char *dumped = json_dumps(as_jansson(node), JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    begin_value(line, key);
    if (dumped != NULL)
        put(line, dumped, strlen(dumped));
    else if (line->failed == SOW_OK)
        line->failed = SOW_FAIL(SOW_ENOMEM, "no memory for a JSON value");
    free(dumped);
}

sow_code sow_line_text(sow_line *line, const char **out)
{
    SOW_ASSERT(line->depth == 0);
    SOW_TRY(line->failed);
    *out = line->text.text == NULL ? "" : line->text.text;
    return SOW_OK;
}
