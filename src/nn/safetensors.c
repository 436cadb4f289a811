/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors (Hugging Face), read:
 *
 *     8 bytes   length N of the header, little-endian
 *     N bytes   JSON: {"NAME": {"dtype": "F16", "shape": [rows, cols], "data_offsets": [begin, end]}, ...}, where
 *               "__metadata__" is no tensor
 *     the rest  data; offsets count from here
 *
 * As the reference implementation does, this one insists that the tensors cover the data exactly: no hole, no overlap,
 * nothing behind the last. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100000000, MAX_DIMS = 8 }; /* the reference's limit */

/* Bytes of an element of every type that may stand beside ours (counters, masks); 0: unknown. */
static int64_t type_bytes(const char *type)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } rows[] = {
        {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
        {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].name, type) == 0)
            return rows[i].bytes;
    return 0;
}

static sow_code read_type(const sow_json *item, sow_stored *out, int64_t *element_bytes)
{
    sow_quoted quoted;
    size_t bytes = 0;
    const char *type = sow_json_to_string(sow_json_get(item, "dtype"), &bytes);
    if (type == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: dtype: is missing or no text, expected F32, F16 or BF16", out->what,
                        out->name);
    *element_bytes = type_bytes(type);
    if (*element_bytes == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: dtype: %s is not supported, expected F32, F16 or BF16", out->what,
                        out->name, sow_quote(type, bytes, &quoted));
    (void)snprintf(out->type, sizeof out->type, "%s", type);
    out->storage = sow_storage_find(type);
    return SOW_OK;
}

/* Sets dimensions and gives the number of elements, which fits when multiplied by 8 bytes. */
static sow_code read_shape(const sow_json *item, sow_stored *out, int64_t *n_elements)
{
    const sow_json *shape = sow_json_get(item, "shape");
    int64_t n_dims = sow_json_size(shape), dims[MAX_DIMS] = {0}, n = 1;
    if (sow_json_kind_of(shape) != SOW_JSON_ARRAY || n_dims > MAX_DIMS)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: shape: is no list of at most %d integers", out->what, out->name,
                        MAX_DIMS);
    for (int64_t i = 0; i < n_dims; i++) {
        if (!sow_json_to_int(sow_json_at(shape, i), &dims[i]) || dims[i] < 0)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: shape: item %lld is no integer of at least 0", out->what, out->name,
                            (long long)i);
        if (__builtin_mul_overflow(n, dims[i], &n) || n > INT64_MAX / 8)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: shape: the product overflows, expected less than 2^60", out->what,
                            out->name);
    }
    out->n_dims = (int)n_dims;
    out->rows = n_dims == 2 ? dims[0] : n_dims == 1 ? 1 : 0;
    out->cols = n_dims == 2 ? dims[1] : n_dims == 1 ? dims[0] : 0;
    *n_elements = n;
    return SOW_OK;
}

static sow_code read_offsets(const sow_json *item, int64_t data_bytes, sow_stored *out, int64_t expected_bytes)
{
    const sow_json *offsets = sow_json_get(item, "data_offsets");
    int64_t begin, end;
    if (sow_json_size(offsets) != 2 || !sow_json_to_int(sow_json_at(offsets, 0), &begin) ||
        !sow_json_to_int(sow_json_at(offsets, 1), &end))
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: data_offsets: is no pair of integers", out->what, out->name);
    if (begin < 0 || end < begin || end > data_bytes)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: data_offsets: [%lld, %lld] is out of range, expected within 0 to %lld",
                        out->what, out->name, (long long)begin, (long long)end, (long long)data_bytes);
    if (end - begin != expected_bytes)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: data_offsets: %lld bytes is wrong, expected %lld for its shape and dtype",
                        out->what, out->name, (long long)(end - begin), (long long)expected_bytes);
    out->offset = begin;
    out->bytes = expected_bytes;
    return SOW_OK;
}

static sow_code read_tensor(const char *name, const sow_json *item, const char *what, const unsigned char *data,
                            int64_t data_bytes, sow_weights *weights)
{
    sow_quoted quoted;
    sow_stored stored = {.what = what}, *out;
    int64_t element_bytes = 0, n_elements = 0;
    int n = snprintf(stored.name, sizeof stored.name, "%s", name);
    if (n < 0 || (size_t)n >= sizeof stored.name)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: a tensor's name is too long, expected at most %zu bytes", what,
                        sow_quote(name, strlen(name), &quoted), sizeof stored.name - 1);
    for (char *p = stored.name; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: a tensor's name holds control characters", what,
                            sow_quote(name, strlen(name), &quoted));
    if (sow_json_kind_of(item) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is no object, expected dtype, shape and data_offsets", what, stored.name);
    SOW_TRY(read_type(item, &stored, &element_bytes));
    SOW_TRY(read_shape(item, &stored, &n_elements));
    SOW_TRY(read_offsets(item, data_bytes, &stored, n_elements * element_bytes));
    stored.data = data + stored.offset;
    SOW_TRY(sow_weights_add(weights, &out));
    *out = stored;
    return SOW_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const sow_stored *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

/* The tensors from `first` on are those of this file. */
static sow_code check_cover(const sow_weights *weights, int64_t first, int64_t data_bytes, const char *what)
{
    int64_t at = 0, n = weights->n - first;
    sow_stored *tensors = n > 0 ? weights->tensors + first : NULL;
    if (n > 1)
        qsort(tensors, (size_t)n, sizeof *tensors, compare_offsets);
    for (int64_t i = 0; i < n; i++) {
        if (tensors[i].offset != at)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: data_offsets: begins at %lld and leaves %s, expected %lld", what,
                            tensors[i].name, (long long)tensors[i].offset,
                            tensors[i].offset < at ? "an overlap" : "a hole", (long long)at);
        at += tensors[i].bytes;
    }
    if (at != data_bytes)
        return SOW_FAIL(SOW_EFORMAT, "%s: has %lld bytes of data, expected %lld by its header", what,
                        (long long)data_bytes, (long long)at);
    return SOW_OK;
}

static sow_code read_items(const sow_json *root, const char *what, const unsigned char *data, int64_t data_bytes,
                           sow_weights *weights)
{
    int64_t first = weights->n;
    void *iterator = NULL;
    const char *name;
    const sow_json *item;
    if (sow_json_kind_of(root) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: the header is no JSON object", what);
    while (sow_json_next(root, &iterator, &name, &item))
        if (strcmp(name, "__metadata__") != 0)
            SOW_TRY(read_tensor(name, item, what, data, data_bytes, weights));
    return check_cover(weights, first, data_bytes, what);
}

sow_code sow_safetensors_read(const unsigned char *data, size_t bytes, const char *what, sow_weights *weights)
{
    uint64_t header = 0;
    if (bytes < 8)
        return SOW_FAIL(SOW_EFORMAT, "%s: has %zu bytes, expected a safetensors file of at least 8", what, bytes);
    for (int i = 0; i < 8; i++)
        header |= (uint64_t)data[i] << 8 * i;
    if (header > MAX_HEADER || header > bytes - 8)
        return SOW_FAIL(SOW_EFORMAT, "%s: header length %llu is too large, expected at most %llu", what,
                        (unsigned long long)header,
                        (unsigned long long)(bytes - 8 < MAX_HEADER ? bytes - 8 : MAX_HEADER));
    sow_json *root = NULL;
    SOW_TRY(sow_json_parse((const char *)data + 8, (size_t)header, what, &root));
    sow_code rc = read_items(root, what, data + 8 + header, (int64_t)(bytes - 8 - (size_t)header), weights);
    sow_json_destroy(&root);
    return rc;
}
