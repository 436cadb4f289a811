/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: reading documents and lines, writing lines.  A thin face on jansson, so that only `base` knows it.
 *
 * Needs: jansson, error, alloc.  Threads: one document, one thread.  Bad input: SOW_EFORMAT with "WHAT:LINE: cause".
 *
 * A `const sow_json *` is a node borrowed from its document.  The getters accept NULL (a key that is not there) and say
 * "no" to it, so that paths can be chained. */
#ifndef SOWER_JSON_H
#define SOWER_JSON_H

#include "sower/error.h"

#include <stdbool.h>

typedef struct sow_json sow_json;

typedef enum sow_json_kind {
    SOW_JSON_NONE, /* the node is NULL */
    SOW_JSON_NULL,
    SOW_JSON_BOOL,
    SOW_JSON_INT, /* fits int64 */
    SOW_JSON_REAL,
    SOW_JSON_STRING,
    SOW_JSON_ARRAY,
    SOW_JSON_OBJECT
} sow_json_kind;

/* Parses `bytes` bytes; `what` names them in messages (a path, "PATH:LINE").  Duplicate keys, trailing text, invalid
 * UTF-8 and nesting deeper than 2,048 are errors.  `*out` is owned by the caller. */
SOW_NODISCARD sow_code sow_json_parse(const char *text, size_t bytes, const char *what, sow_json **out);
SOW_NODISCARD sow_code sow_json_load(const char *path, sow_json **out);
void sow_json_destroy(sow_json **json);

sow_json_kind sow_json_kind_of(const sow_json *node);
const sow_json *sow_json_get(const sow_json *object, const char *key);
const sow_json *sow_json_at(const sow_json *array, int64_t index);
/* Items of an array, pairs of an object, else 0. */
int64_t sow_json_size(const sow_json *node);

/* The pairs of an object in their order: start with *iterator = NULL; false at the end. */
bool sow_json_next(const sow_json *object, void **iterator, const char **key, const sow_json **value);

/* True and *out set if the node is of the kind (to_real takes integers too); else false and *out untouched. */
bool sow_json_to_int(const sow_json *node, int64_t *out);
bool sow_json_to_real(const sow_json *node, double *out);
bool sow_json_to_bool(const sow_json *node, bool *out);
/* The text and its bytes (it may hold NULs); NULL if it is no string.  Borrowed.  `bytes` may be NULL. */
const char *sow_json_to_string(const sow_json *node, size_t *bytes);

/* Builds one line of JSON.  Errors (memory) are kept and told by sow_line_text. */
typedef struct sow_line sow_line;
SOW_NODISCARD sow_code sow_line_create(sow_line **out);
void sow_line_destroy(sow_line **line);
void sow_line_clear(sow_line *line);
/* Inside an object `key` names the value, inside an array it is NULL. */
void sow_line_begin_object(sow_line *line, const char *key);
void sow_line_end_object(sow_line *line);
void sow_line_begin_array(sow_line *line, const char *key);
void sow_line_end_array(sow_line *line);
void sow_line_int(sow_line *line, const char *key, int64_t value);
void sow_line_bool(sow_line *line, const char *key, bool value);
/* Shortest of %.15g and %.17g that reads back equal; a non-finite value becomes null. */
void sow_line_real(sow_line *line, const char *key, double value);
/* Bytes that are not UTF-8 become U+FFFD. */
void sow_line_string(sow_line *line, const char *key, const char *text);
void sow_line_string_n(sow_line *line, const char *key, const char *text, size_t bytes);
void sow_line_null(sow_line *line, const char *key);
/* A copy of a parsed node. */
void sow_line_node(sow_line *line, const char *key, const sow_json *node);
/* The finished text, without a newline; borrowed, valid until the next call on `line`.  All brackets must be closed. */
SOW_NODISCARD sow_code sow_line_text(sow_line *line, const char **out);

#endif
