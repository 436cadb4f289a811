/* SPDX-License-Identifier: Apache-2.0 */
/* A file of JSON lines as a table of numbers: a row a step, a column for each number that stands in a line.
 *
 *     {"step": 3, "reward": 0.4, "probes": [{"task": "calc", "accuracy": 0.9}]}   ->   reward, probes.calc.accuracy
 *
 * Columns are named by the path to the number, items of a list by their `task` if they have one, else by their index.
 * So a number that a run begins to write tomorrow is there without a change here. */
#include "report_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 8 };

/* ---- Columns ---- */

static report_column *find(const report_frame *frame, const char *name)
{
    for (int64_t i = 0; i < frame->n_columns; i++) { /* a line has the names of the line before it, in their order */
        int64_t at = (frame->hint + i) % frame->n_columns;
        if (strcmp(frame->columns[at].name, name) == 0)
            return &frame->columns[at];
    }
    return NULL;
}

const report_column *report_frame_find(const report_frame *frame, const char *name)
{
    return find(frame, name);
}

sow_code report_frame_set(report_frame *frame, const char *name, int64_t row, double value)
{
    report_column *column = find(frame, name);
    if (!isfinite(value))
        return SOW_OK;
    if (column == NULL) {
        if (frame->n_columns == REPORT_MAX_COLUMNS)
            return SOW_FAIL(SOW_EFORMAT, "more than %d different numbers", REPORT_MAX_COLUMNS);
        SOW_TRY(SOW_GROW(&frame->columns, &frame->columns_capacity, frame->n_columns));
        column = &frame->columns[frame->n_columns++];
        (void)snprintf(column->name, sizeof column->name, "%s", name);
    }
    SOW_TRY(SOW_GROW(&column->cells, &column->capacity, column->n));
    int64_t to = column->n++;
    for (; to > 0 && column->cells[to - 1].row > row; to--)
        column->cells[to] = column->cells[to - 1];
    column->cells[to] = (report_cell){row, value};
    frame->hint = (column - frame->columns + 1) % frame->n_columns;
    return SOW_OK;
}

double report_column_at(const report_column *column, int64_t row)
{
    int64_t low = 0, high = column == NULL ? 0 : column->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (column->cells[middle].row == row)
            return column->cells[middle].value;
        if (column->cells[middle].row < row)
            low = middle + 1;
        else
            high = middle;
    }
    return (double)NAN;
}

int64_t report_frame_row(const report_frame *frame, int64_t step)
{
    int64_t low = 0, high = frame->n_rows;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (frame->steps[middle] == step)
            return middle;
        if (frame->steps[middle] < step)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* ---- Lines ---- */

/* The name of an item of a list: its task, with #2 if an earlier item has the same; an index if it has none. */
static sow_code name_item(report_frame *frame, const char *path, const sow_json *item, int64_t index,
                          char out[REPORT_NAME])
{
    const char *task = sow_json_to_string(sow_json_get(item, "task"), NULL);
    int64_t n_same = 1;
    char name[REPORT_NAME - 24];
    (void)snprintf(out, REPORT_NAME, "%lld", (long long)index);
    if (task == NULL)
        return SOW_OK;
    (void)snprintf(name, sizeof name, "%s", task);
    for (int64_t i = 0; i < frame->n_items; i++) {
        const struct report_item *known = &frame->items[i];
        size_t length = strlen(name);
        if (strcmp(known->path, path) != 0)
            continue;
        if (known->index == index) {
            (void)snprintf(out, REPORT_NAME, "%s", known->name);
            return SOW_OK;
        }
        n_same +=
            strncmp(known->name, name, length) == 0 && (known->name[length] == '\0' || known->name[length] == '#');
    }
    if (n_same > 1)
        (void)snprintf(out, REPORT_NAME, "%s#%lld", name, (long long)n_same);
    else
        (void)snprintf(out, REPORT_NAME, "%s", name);
    SOW_TRY(SOW_GROW(&frame->items, &frame->items_capacity, frame->n_items));
    struct report_item *new = &frame->items[frame->n_items++];
    new->index = index;
    (void)snprintf(new->path, sizeof new->path, "%s", path);
    (void)snprintf(new->name, sizeof new->name, "%s", out);
    return SOW_OK;
}

static sow_code take(report_frame *frame, const char *path, const sow_json *node, int depth, const char *skip);

static sow_code take_member(report_frame *frame, const char *path, const char *key, const sow_json *value, int depth,
                            const char *skip)
{
    char name[REPORT_NAME];
    int n = snprintf(name, sizeof name, "%s%s%s", path, path[0] != '\0' ? "." : "", key);
    if (n >= (int)sizeof name || (depth == 0 && strcmp(key, "step") == 0) || (skip != NULL && strcmp(key, skip) == 0))
        return SOW_OK;
    return take(frame, name, value, depth + 1, skip);
}

/* Every number below `node` into the last row. */
static sow_code take(report_frame *frame, const char *path, const sow_json *node, int depth, const char *skip)
{
    double number = 0;
    if (depth > MAX_DEPTH)
        return SOW_OK;
    if (sow_json_to_real(node, &number))
        return report_frame_set(frame, path, frame->n_rows - 1, number);
    if (sow_json_kind_of(node) == SOW_JSON_ARRAY) {
        for (int64_t i = 0; i < sow_json_size(node); i++) {
            char item[REPORT_NAME];
            SOW_TRY(name_item(frame, path, sow_json_at(node, i), i, item));
            SOW_TRY(take_member(frame, path, item, sow_json_at(node, i), depth + 1, skip));
        }
        return SOW_OK;
    }
    void *at = NULL;
    const char *key = NULL;
    const sow_json *value = NULL;
    while (sow_json_kind_of(node) == SOW_JSON_OBJECT && sow_json_next(node, &at, &key, &value))
        SOW_TRY(take_member(frame, path, key, value, depth, skip));
    return SOW_OK;
}

static sow_code take_line(report_frame *frame, const sow_json *json, const char *what, const char *skip)
{
    int64_t step = 0, last = frame->n_rows == 0 ? -1 : frame->steps[frame->n_rows - 1];
    if (!sow_json_to_int(sow_json_get(json, "step"), &step))
        return SOW_FAIL(SOW_EFORMAT, "%s: step: is missing, expected a whole number", what);
    if (step <= last)
        return SOW_FAIL(SOW_EFORMAT, "%s: step: %lld comes after %lld, expected a later one", what, (long long)step,
                        (long long)last);
    SOW_TRY(SOW_GROW(&frame->steps, &frame->rows_capacity, frame->n_rows));
    frame->steps[frame->n_rows++] = step;
    sow_code rc = take(frame, "", json, 0, skip);
    return rc == SOW_EFORMAT ? SOW_FAIL(SOW_EFORMAT, "%s: %s", what, sow_error_text()) : rc;
}

static sow_code take_lines(report_frame *frame, const char *text, size_t bytes, const char *name, const char *skip)
{
    for (size_t at = 0, number = 1; at < bytes; number++) {
        const char *newline = memchr(text + at, '\n', bytes - at);
        char what[REPORT_NAME];
        sow_json *json = NULL;
        if (newline == NULL) {
            frame->has_torn_end = true;
            return SOW_OK;
        }
        size_t length = (size_t)(newline - text) - at;
        (void)snprintf(what, sizeof what, "%s:%zu", name, number);
        SOW_TRY(sow_json_parse(text + at, length, what, &json));
        sow_code rc = take_line(frame, json, what, skip);
        sow_json_destroy(&json);
        SOW_TRY(rc);
        at += length + 1;
    }
    return SOW_OK;
}

sow_code report_frame_read(const char *folder, const char *name, const char *skip, report_frame *out,
                           sow_words *trouble)
{
    char path[SOW_TEXT];
    sow_mapping map = {0};
    SOW_TRY(sow_file_join(folder, name, path, sizeof path));
    if (!sow_file_exists(path))
        return SOW_OK;
    sow_code rc = sow_file_map(path, &map);
    if (rc == SOW_OK)
        rc = take_lines(out, (const char *)map.data, map.bytes, name, skip);
    sow_file_unmap(&map);
    if (rc == SOW_OK || rc == SOW_ENOMEM)
        return rc;
    return sow_words_print(trouble, "%s%s", trouble->bytes > 0 ? "; " : "", sow_error_text());
}

void report_frame_fini(report_frame *frame)
{
    for (int64_t i = 0; i < frame->n_columns; i++)
        SOW_FREE(&frame->columns[i].cells);
    SOW_FREE(&frame->columns);
    SOW_FREE(&frame->items);
    SOW_FREE(&frame->steps);
}
