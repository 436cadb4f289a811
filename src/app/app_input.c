/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of input for the commands that take JSON lines, and what all their rows of output have in common. */
#include "app_impl.h"

#include "sower/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 16 };

/* Files, pipes and terminals alike. */
static sow_code read_all(FILE *file, const char *name, sow_words *out)
{
    char *chunk = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&chunk, CHUNK_BYTES));
    for (size_t n = CHUNK_BYTES; n == CHUNK_BYTES;) {
        n = fread(chunk, 1, CHUNK_BYTES, file);
        SOW_TRY_OR(rc, sow_words_add(out, chunk, n));
    }
    if (ferror(file) != 0)
        rc = SOW_FAIL(SOW_EIO, "%s: cannot read: %s", name, strerror(errno));
done:
    SOW_FREE(&chunk);
    return rc;
}

static sow_code add_row(sow_input *in, const char *text, size_t bytes)
{
    char where[SOW_TEXT];
    sow_json *json = NULL;
    sow_input_where(in, in->n, where);
    SOW_TRY(SOW_GROW(&in->rows, &in->capacity, in->n));
    if (sow_json_parse(text, bytes, where, &json) != SOW_OK)
        return SOW_FAIL(SOW_EFORMAT, "%s: is not JSON, expected one object a line", where);
    in->rows[in->n++].json = json;
    if (sow_json_kind_of(json) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: is no object, expected one a line", where);
    return SOW_OK;
}

static sow_code add_rows(sow_input *in, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        const char *newline = memchr(text + at, '\n', bytes - at);
        size_t end = newline == NULL ? bytes : (size_t)(newline - text);
        SOW_TRY(add_row(in, text + at, end - at));
        at = end + 1;
    }
    return SOW_OK;
}

sow_code sow_input_load(const char *path, sow_input *out)
{
    bool is_stdin = path == NULL || strcmp(path, "-") == 0;
    sow_input in = {.name = is_stdin ? "stdin" : path};
    sow_words text = {0};
    sow_code rc = SOW_OK;
    if (path == NULL && isatty(STDIN_FILENO) == 1)
        return SOW_FAIL(SOW_EARG, "expected --input F.jsonl, or rows on stdin");
    FILE *file = is_stdin ? stdin : fopen(path, "r");
    if (file == NULL)
        return SOW_FAIL(SOW_EIO, "%s: cannot open: %s", path, strerror(errno));
    SOW_TRY_OR(rc, read_all(file, in.name, &text));
    SOW_TRY_OR(rc, add_rows(&in, text.text, text.bytes));
    *out = in;
    in = (sow_input){0};
done:
    sow_input_fini(&in);
    sow_words_fini(&text);
    if (!is_stdin)
        (void)fclose(file);
    return rc;
}

void sow_input_fini(sow_input *in)
{
    for (int64_t i = 0; i < in->n; i++)
        sow_json_destroy(&in->rows[i].json);
    SOW_FREE(&in->rows);
    *in = (sow_input){0};
}

void sow_input_where(const sow_input *in, int64_t row, char out[SOW_TEXT])
{
    (void)snprintf(out, SOW_TEXT, "%.*s:%lld", SOW_TEXT - 32, in->name, (long long)row + 1);
}

void sow_input_begin(sow_line *line, const sow_json *row)
{
    const sow_json *id = sow_json_get(row, "id");
    sow_line_clear(line);
    sow_line_begin_object(line, NULL);
    if (id != NULL)
        sow_line_node(line, "id", id);
}

sow_code sow_input_text(const sow_json *row, const char *key, const char *where, const char **out, size_t *bytes)
{
    const sow_json *node = sow_json_get(row, key);
    *out = sow_json_to_string(node, bytes);
    if (*out == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %s, expected a text", where, key,
                        node == NULL ? "is missing" : "is no text");
    return SOW_OK;
}

sow_code sow_input_ids(const sow_json *row, const char *key, const char *where, int64_t vocab_size, sow_ids *out)
{
    const sow_json *list = sow_json_get(row, key);
    if (sow_json_kind_of(list) != SOW_JSON_ARRAY)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %s, expected a list of token ids", where, key,
                        list == NULL ? "is missing" : "is no list");
    for (int64_t i = 0; i < sow_json_size(list); i++) {
        int64_t id = -1;
        if (!sow_json_to_int(sow_json_at(list, i), &id))
            return SOW_FAIL(SOW_EFORMAT, "%s: %s[%lld]: is no whole number, expected 0 to %lld", where, key,
                            (long long)i, (long long)vocab_size - 1);
        if (id < 0 || id >= vocab_size)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s[%lld]: %lld is no token, expected 0 to %lld", where, key, (long long)i,
                            (long long)id, (long long)vocab_size - 1);
        SOW_TRY(sow_ids_add(out, (int32_t)id));
    }
    return SOW_OK;
}

void sow_input_put_ids(sow_line *line, const char *key, const int32_t *ids, int64_t n)
{
    sow_line_begin_array(line, key);
    for (int64_t i = 0; i < n; i++)
        sow_line_int(line, NULL, ids[i]);
    sow_line_end_array(line);
}
