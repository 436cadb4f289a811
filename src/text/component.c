/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the parts of tokenizer.json: each is null, a component {"type": ...}, or a Sequence of components.
 * Components are visited in order, so that every part is a flat list of steps. */
#include "text_impl.h"

#include "sower/alloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_NESTING = 16 };

static sow_code walk(const sow_json *node, const char *list_key, const char *where, int depth, text_visit *visit,
                     void *context)
{
    if (node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL)
        return SOW_OK;
    if (sow_json_kind_of(node) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: is no object with a type", where);
    const char *type = "";
    SOW_TRY(sow_text_get_string(node, where, "type", &type, NULL));
    if (strcmp(type, "Sequence") != 0)
        return visit(node, type, where, context);
    if (depth == MAX_NESTING)
        return SOW_FAIL(SOW_EFORMAT, "%s: sequences are nested deeper than %d", where, MAX_NESTING);
    char keys[64];
    (void)snprintf(keys, sizeof keys, "type %s", list_key);
    SOW_TRY(sow_text_check_keys(node, where, keys));
    const sow_json *list = sow_json_get(node, list_key);
    if (sow_json_kind_of(list) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s.%s: is no list", where, list_key);
    for (int64_t i = 0; i < sow_json_size(list); i++) {
        char place[512];
        (void)snprintf(place, sizeof place, "%s.%s[%" PRId64 "]", where, list_key, i);
        SOW_TRY(walk(sow_json_at(list, i), list_key, place, depth + 1, visit, context));
    }
    return SOW_OK;
}

sow_code sow_text_walk(const sow_json *node, const char *list_key, const char *where, text_visit *visit, void *context)
{
    return walk(node, list_key, where, 0, visit, context);
}

/* Whether `key` is one of the words of `keys`. */
static bool is_word_of(const char *keys, const char *key)
{
    size_t n = strlen(key);
    for (const char *word = keys; *word != '\0';) {
        size_t bytes = strcspn(word, " ");
        if (bytes == n && memcmp(word, key, n) == 0)
            return true;
        word += bytes;
        word += strspn(word, " ");
    }
    return false;
}

sow_code sow_text_check_keys(const sow_json *object, const char *where, const char *keys)
{
    void *iterator = NULL;
    const char *key = NULL;
    const sow_json *value = NULL;
    while (sow_json_next(object, &iterator, &key, &value))
        if (!is_word_of(keys, key))
            return SOW_FAIL(SOW_EFORMAT, "%s: key '%.100s' is unknown; known are: %s", where, key, keys);
    return SOW_OK;
}

sow_code sow_text_get_bool(const sow_json *object, const char *where, const char *key, bool *out)
{
    const sow_json *node = sow_json_get(object, key);
    if (node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL || sow_json_to_bool(node, out))
        return SOW_OK;
    return SOW_FAIL(SOW_EFORMAT, "%s.%s: is neither true nor false", where, key);
}

sow_code sow_text_get_int(const sow_json *object, const char *where, const char *key, int64_t low, int64_t high,
                          int64_t *out)
{
    const sow_json *node = sow_json_get(object, key);
    if (node == NULL || sow_json_kind_of(node) == SOW_JSON_NULL)
        return SOW_OK;
    int64_t value = 0;
    if (!sow_json_to_int(node, &value))
        return SOW_FAIL(SOW_EFORMAT, "%s.%s: is no whole number", where, key);
    if (value < low || value > high)
        return SOW_FAIL(SOW_EFORMAT, "%s.%s: %" PRId64 " is outside [%" PRId64 ", %" PRId64 "]", where, key, value, low,
                        high);
    *out = value;
    return SOW_OK;
}

sow_code sow_text_get_string(const sow_json *object, const char *where, const char *key, const char **out,
                             size_t *bytes)
{
    const char *text = sow_json_to_string(sow_json_get(object, key), bytes);
    if (text == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s.%s: is missing or no string", where, key);
    *out = text;
    return SOW_OK;
}

sow_code sow_text_copy(const char *text, size_t bytes, char **out)
{
    char *copy = NULL;
    SOW_TRY(SOW_ALLOC(&copy, bytes + 1));
    memcpy(copy, text, bytes);
    *out = copy;
    return SOW_OK;
}

sow_code sow_text_fail_type(const char *where, const char *type, const char *const *known, int64_t n)
{
    char list[256] = "";
    size_t used = 0;
    for (int64_t i = 0; i < n && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", known[i]);
    return SOW_FAIL(SOW_EFORMAT, "%s: type '%.100s' is not supported; these are: Sequence, %s", where, type, list);
}
