/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF (ggml), versions 2 and 3, little-endian, read:
 *
 *     "GGUF"  u32 version  u64 n_tensors  u64 n_entries
 *     entries   string key, u32 kind, value      a string: u64 bytes, text; an array: u32 kind, u64 n, n values
 *     tensors   string name, u32 n_dims, u64 dims (fastest first), u32 storage type, u64 offset
 *     padding to general.alignment (32), then the data; each tensor at the next multiple of the alignment
 *
 * A cursor walks the bytes and knows how many are left; a length is compared with what is left before it is added to
 * anything, so that no count in the file can make it step outside or take memory that the file's size does not
 * justify. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 4, MIN_ENTRY_BYTES = 13, MIN_TENSOR_BYTES = 32, MAX_ALIGNMENT = 1 << 20 };

typedef struct cursor {
    const unsigned char *data;
    size_t at, bytes;
    const char *what;
} cursor;

static const struct {
    const char *name;
    size_t bytes; /* of a number */
} kinds[SOW_N_GGUF_KINDS] = {
    [SOW_GGUF_U8] = {"uint8", 1},    [SOW_GGUF_I8] = {"int8", 1},    [SOW_GGUF_U16] = {"uint16", 2},
    [SOW_GGUF_I16] = {"int16", 2},   [SOW_GGUF_U32] = {"uint32", 4}, [SOW_GGUF_I32] = {"int32", 4},
    [SOW_GGUF_F32] = {"float32", 4}, [SOW_GGUF_BOOL] = {"bool", 1},  [SOW_GGUF_STRING] = {"string", 0},
    [SOW_GGUF_ARRAY] = {"array", 0}, [SOW_GGUF_U64] = {"uint64", 8}, [SOW_GGUF_I64] = {"int64", 8},
    [SOW_GGUF_F64] = {"float64", 8},
};

void sow_gguf_fini(sow_gguf *gguf)
{
    SOW_FREE(&gguf->entries);
    *gguf = (sow_gguf){0};
}

static uint64_t little_endian(const unsigned char *p, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

static sow_code fail_short(const cursor *c, const char *part)
{
    return SOW_FAIL(SOW_EFORMAT, "%s: ends within %s at byte %zu of %zu, expected more", c->what, part, c->at,
                    c->bytes);
}

static sow_code skip(cursor *c, uint64_t bytes, const char *part)
{
    if (bytes > c->bytes - c->at)
        return fail_short(c, part);
    c->at += (size_t)bytes;
    return SOW_OK;
}

static sow_code take(cursor *c, size_t bytes, const char *part, uint64_t *out)
{
    const unsigned char *p = c->data + c->at;
    SOW_TRY(skip(c, bytes, part));
    *out = little_endian(p, bytes);
    return SOW_OK;
}

static sow_code take_string(cursor *c, const char *part, const char **text, size_t *bytes)
{
    uint64_t n;
    SOW_TRY(take(c, 8, part, &n));
    const char *start = (const char *)c->data + c->at;
    SOW_TRY(skip(c, n, part));
    *text = start;
    *bytes = (size_t)n;
    return SOW_OK;
}

static sow_code take_kind(cursor *c, sow_gguf_kind *out)
{
    uint64_t kind;
    SOW_TRY(take(c, 4, "the metadata", &kind));
    if (kind >= SOW_N_GGUF_KINDS)
        return SOW_FAIL(SOW_EFORMAT, "%s: byte %zu: %llu is no kind of metadata, expected 0 to %d", c->what, c->at - 4,
                        (unsigned long long)kind, SOW_N_GGUF_KINDS - 1);
    *out = (sow_gguf_kind)kind;
    return SOW_OK;
}

static sow_code check_bools(const cursor *c, const unsigned char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return SOW_FAIL(SOW_EFORMAT, "%s: byte %llu: %u is no truth value, expected 0 or 1", c->what,
                            (unsigned long long)(p - c->data) + i, p[i]);
    return SOW_OK;
}

/* Walks over n values of a kind; arrays of arrays up to MAX_DEPTH. */
static sow_code skip_values(cursor *c, sow_gguf_kind kind, uint64_t n, int depth)
{
    const char *part = "the metadata";
    const char *text;
    size_t bytes;
    if (kind == SOW_GGUF_STRING) {
        for (uint64_t i = 0; i < n; i++)
            SOW_TRY(take_string(c, part, &text, &bytes));
        return SOW_OK;
    }
    if (kind == SOW_GGUF_ARRAY) {
        if (depth == MAX_DEPTH)
            return SOW_FAIL(SOW_EFORMAT, "%s: byte %zu: arrays are nested deeper than %d", c->what, c->at, MAX_DEPTH);
        for (uint64_t i = 0; i < n; i++) {
            sow_gguf_kind item = SOW_GGUF_U8;
            uint64_t items = 0;
            SOW_TRY(take_kind(c, &item));
            SOW_TRY(take(c, 8, part, &items));
            SOW_TRY(skip_values(c, item, items, depth + 1));
        }
        return SOW_OK;
    }
    const unsigned char *first = c->data + c->at;
    if (n > (c->bytes - c->at) / kinds[kind].bytes)
        return fail_short(c, part);
    SOW_TRY(skip(c, n * kinds[kind].bytes, part));
    return kind == SOW_GGUF_BOOL ? check_bools(c, first, n) : SOW_OK;
}

static sow_code read_entry(cursor *c, sow_gguf *gguf)
{
    sow_gguf_entry entry = {0};
    sow_quoted quoted;
    SOW_TRY(take_string(c, "the metadata", &entry.key, &entry.key_bytes));
    if (entry.key_bytes == 0 || entry.key_bytes > 65535 || memchr(entry.key, '\0', entry.key_bytes) != NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is no key, expected 1 to 65535 bytes of text", c->what,
                        sow_quote(entry.key, entry.key_bytes, &quoted));
    SOW_TRY(take_kind(c, &entry.kind));
    if (entry.kind == SOW_GGUF_STRING) {
        const char *text;
        size_t bytes;
        SOW_TRY(take_string(c, "the metadata", &text, &bytes));
        entry.value = (const unsigned char *)text;
        entry.n = (int64_t)bytes;
    } else if (entry.kind == SOW_GGUF_ARRAY) {
        uint64_t n;
        SOW_TRY(take_kind(c, &entry.item_kind));
        SOW_TRY(take(c, 8, "the metadata", &n));
        entry.value = c->data + c->at;
        SOW_TRY(skip_values(c, entry.item_kind, n, 1));
        entry.n = (int64_t)n; /* items take bytes, so that n is at most the file's size */
    } else {
        entry.value = c->data + c->at;
        entry.n = 1;
        SOW_TRY(skip_values(c, entry.kind, 1, 1));
    }
    SOW_TRY(SOW_GROW(&gguf->entries, &gguf->capacity, gguf->n));
    gguf->entries[gguf->n++] = entry;
    return SOW_OK;
}

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_keys(const void *a, const void *b)
{
    const sow_gguf_entry *x = a, *y = b;
    return compare_bytes(x->key, x->key_bytes, y->key, y->key_bytes);
}

const sow_gguf_entry *sow_gguf_find(const sow_gguf *gguf, const char *key)
{
    sow_gguf_entry wanted = {.key = key, .key_bytes = strlen(key)};
    return gguf->n == 0 ? NULL : bsearch(&wanted, gguf->entries, (size_t)gguf->n, sizeof *gguf->entries, compare_keys);
}

bool sow_gguf_to_int(sow_gguf_kind kind, const unsigned char *value, int64_t *out)
{
    if (kinds[kind].bytes == 0 || kind == SOW_GGUF_F32 || kind == SOW_GGUF_F64 || kind == SOW_GGUF_BOOL)
        return false;
    uint64_t bits = little_endian(value, kinds[kind].bytes);
    if (kind == SOW_GGUF_U64 && bits > INT64_MAX)
        return false;
    *out = kind == SOW_GGUF_I8    ? (int8_t)bits
           : kind == SOW_GGUF_I16 ? (int16_t)bits
           : kind == SOW_GGUF_I32 ? (int32_t)bits
                                  : (int64_t)bits;
    return true;
}

/* A float32 stands for the shortest decimal that gives it: 1e-05f is 1e-05 and not 9.99999974737875e-06, so that a
 * GGUF and the folder it was made from have the same shape. */
static double shortest(float value)
{
    char text[32];
    double real = (double)value;
    for (int digits = 6; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (sow_words_to_real(text, &real) && (float)real == value)
            return real;
    }
    return (double)value;
}

bool sow_gguf_to_real(sow_gguf_kind kind, const unsigned char *value, double *out)
{
    int64_t whole;
    if (kind == SOW_GGUF_F32) {
        uint32_t bits = (uint32_t)little_endian(value, 4);
        float real;
        memcpy(&real, &bits, sizeof real);
        *out = isfinite(real) ? shortest(real) : (double)real;
    } else if (kind == SOW_GGUF_F64) {
        uint64_t bits = little_endian(value, 8);
        memcpy(out, &bits, sizeof *out);
    } else if (sow_gguf_to_int(kind, value, &whole)) {
        *out = (double)whole;
    } else {
        return false;
    }
    return true;
}

sow_code sow_gguf_fail_kind(const sow_gguf *gguf, const char *key, const sow_gguf_entry *entry, const char *expected)
{
    if (entry == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is missing, expected %s", gguf->what, key, expected);
    return SOW_FAIL(SOW_EFORMAT, "%s: %s: is of kind %s, expected %s", gguf->what, key, kinds[entry->kind].name,
                    expected);
}

sow_code sow_gguf_get_token(const sow_gguf *gguf, const char *key, int64_t *out)
{
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    int64_t id = -1;
    if (entry != NULL && !sow_gguf_to_int(entry->kind, entry->value, &id))
        return sow_gguf_fail_kind(gguf, key, entry, "the id of a token");
    bool is_none = id < 0 || id == UINT32_MAX;
    if (!is_none && id > INT32_MAX)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld is out of range, expected the id of a token", gguf->what, key,
                        (long long)id);
    *out = is_none ? -1 : id;
    return SOW_OK;
}

const char *sow_gguf_next_string(const unsigned char **at, size_t *bytes)
{
    const char *text = (const char *)*at + 8;
    *bytes = (size_t)little_endian(*at, 8);
    *at += 8 + *bytes;
    return text;
}

static sow_code read_entries(cursor *c, uint64_t n, sow_gguf *gguf)
{
    sow_quoted quoted;
    for (uint64_t i = 0; i < n; i++)
        SOW_TRY(read_entry(c, gguf));
    if (gguf->n > 1)
        qsort(gguf->entries, (size_t)gguf->n, sizeof *gguf->entries, compare_keys);
    for (int64_t i = 1; i < gguf->n; i++)
        if (compare_keys(&gguf->entries[i - 1], &gguf->entries[i]) == 0)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: is there twice, expected once", c->what,
                            sow_quote(gguf->entries[i].key, gguf->entries[i].key_bytes, &quoted));
    return SOW_OK;
}

static sow_code read_name(cursor *c, sow_stored *out)
{
    sow_quoted quoted;
    const char *name;
    size_t bytes;
    SOW_TRY(take_string(c, "the list of tensors", &name, &bytes));
    bool is_plain = bytes > 0 && bytes < sizeof out->name;
    for (size_t i = 0; is_plain && i < bytes; i++)
        is_plain = name[i] > 0x20 && name[i] < 0x7f;
    if (!is_plain)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is no tensor's name, expected 1 to %zu visible ASCII characters", c->what,
                        sow_quote(name, bytes, &quoted), sizeof out->name - 1);
    memcpy(out->name, name, bytes);
    return SOW_OK;
}

/* Name, sides, type and offset of a tensor; its place in the data is checked when all are known. */
static sow_code read_tensor(cursor *c, sow_stored *out)
{
    const char *part = "the list of tensors";
    uint64_t n_dims, dims[4] = {1, 1, 1, 1}, type, offset;
    int64_t n = 1;
    SOW_TRY(read_name(c, out));
    SOW_TRY(take(c, 4, part, &n_dims));
    if (n_dims < 1 || n_dims > 4)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %llu dimensions is out of range, expected 1 to 4", c->what, out->name,
                        (unsigned long long)n_dims);
    for (uint64_t i = 0; i < n_dims; i++) {
        SOW_TRY(take(c, 8, part, &dims[i]));
        if (dims[i] < 1 || dims[i] > INT64_MAX / 256 || __builtin_mul_overflow(n, (int64_t)dims[i], &n) ||
            n > INT64_MAX / 256)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: side %llu is out of range, expected 1 to fewer than 2^55 elements",
                            c->what, out->name, (unsigned long long)dims[i]);
    }
    SOW_TRY(take(c, 4, part, &type));
    SOW_TRY(take(c, 8, part, &offset));
    out->storage = sow_storage_of_id((uint32_t)type);
    if (out->storage == NULL)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: %s: storage type %llu is not supported, expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, "
                        "Q5_1, Q4_K, Q5_K or Q6_K",
                        c->what, out->name, (unsigned long long)type);
    if ((int64_t)dims[0] % out->storage->block != 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: side %llu is no multiple of %lld, the block of %s", c->what, out->name,
                        (unsigned long long)dims[0], (long long)out->storage->block, out->storage->name);
    if (offset > INT64_MAX)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: offset %llu is out of range", c->what, out->name,
                        (unsigned long long)offset);
    (void)snprintf(out->type, sizeof out->type, "%s", out->storage->name);
    out->n_dims = (int)n_dims;
    out->rows = n_dims == 2 ? (int64_t)dims[1] : n_dims == 1 ? 1 : 0;
    out->cols = n_dims <= 2 ? (int64_t)dims[0] : 0;
    out->offset = (int64_t)offset;
    out->bytes = n / out->storage->block * out->storage->block_bytes;
    return SOW_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    int64_t x = ((const sow_stored *)a)->offset, y = ((const sow_stored *)b)->offset;
    return (x > y) - (x < y);
}

/* Tensors follow one another, each padded to the alignment, as every writer of the format does and ggml demands. */
static sow_code place_tensors(const cursor *c, int64_t alignment, sow_weights *weights)
{
    int64_t data_at = ((int64_t)c->at + alignment - 1) / alignment * alignment;
    int64_t data_bytes = (int64_t)c->bytes - data_at, at = 0;
    if (weights->n > 1)
        qsort(weights->tensors, (size_t)weights->n, sizeof *weights->tensors, compare_offsets);
    for (int64_t i = 0; i < weights->n; i++) {
        sow_stored *tensor = &weights->tensors[i];
        if (tensor->offset != at)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: offset %lld is wrong, expected %lld behind the tensor before it",
                            c->what, tensor->name, (long long)tensor->offset, (long long)at);
        if (tensor->bytes > data_bytes - at) /* at may be up to an alignment beyond the end */
            return SOW_FAIL(SOW_EFORMAT,
                            "%s: %s: %lld bytes at %lld are outside the data of %lld bytes (is the file whole?)",
                            c->what, tensor->name, (long long)tensor->bytes, (long long)at, (long long)data_bytes);
        tensor->data = c->data + data_at + at;
        at += (tensor->bytes + alignment - 1) / alignment * alignment;
    }
    return SOW_OK;
}

static sow_code read_alignment(const sow_gguf *gguf, int64_t *out)
{
    const sow_gguf_entry *entry = sow_gguf_find(gguf, "general.alignment");
    int64_t alignment = 32;
    if (entry != NULL && (!sow_gguf_to_int(entry->kind, entry->value, &alignment) || alignment < 1 ||
                          alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0))
        return SOW_FAIL(SOW_EFORMAT, "%s: general.alignment: is no power of two from 1 to %d", gguf->what,
                        MAX_ALIGNMENT);
    *out = alignment;
    return SOW_OK;
}

static sow_code read_head(cursor *c, uint64_t *n_tensors, uint64_t *n_entries)
{
    uint64_t version;
    if (c->bytes < 4 || memcmp(c->data, "GGUF", 4) != 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: does not begin with \"GGUF\", expected a GGUF file", c->what);
    c->at = 4;
    SOW_TRY(take(c, 4, "the head", &version));
    if (version != 2 && version != 3)
        return SOW_FAIL(SOW_EFORMAT, "%s: version %llu is not supported, expected 2 or 3%s", c->what,
                        (unsigned long long)version,
                        version != 0 && (version & 0xffff) == 0 ? " (is the file big-endian?)" : "");
    SOW_TRY(take(c, 8, "the head", n_tensors));
    SOW_TRY(take(c, 8, "the head", n_entries));
    size_t left = c->bytes - c->at;
    if (*n_entries > left / MIN_ENTRY_BYTES || *n_tensors > left / MIN_TENSOR_BYTES)
        return SOW_FAIL(SOW_EFORMAT, "%s: %llu metadata entries and %llu tensors are too many for a file of %zu bytes",
                        c->what, (unsigned long long)*n_entries, (unsigned long long)*n_tensors, c->bytes);
    return SOW_OK;
}

sow_code sow_gguf_read(const unsigned char *data, size_t bytes, const char *what, sow_gguf *gguf, sow_weights *weights)
{
    cursor c = {.data = data, .bytes = bytes, .what = what};
    uint64_t n_tensors = 0, n_entries = 0;
    int64_t alignment = 0;
    gguf->what = what;
    weights->is_gguf = true;
    SOW_TRY(read_head(&c, &n_tensors, &n_entries));
    SOW_TRY(read_entries(&c, n_entries, gguf));
    SOW_TRY(read_alignment(gguf, &alignment));
    for (uint64_t i = 0; i < n_tensors; i++) {
        sow_stored *stored;
        SOW_TRY(sow_weights_add(weights, &stored));
        *stored = (sow_stored){.what = what};
        SOW_TRY(read_tensor(&c, stored));
    }
    SOW_TRY(place_tensors(&c, alignment, weights));
    return sow_weights_sort(weights);
}
