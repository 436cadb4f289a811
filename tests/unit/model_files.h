/* SPDX-License-Identifier: Apache-2.0 */
/* Small model files made in memory for the tests of the file half of `nn`: a growing block of bytes, a safetensors
 * file, a GGUF. */
#ifndef SOWER_TESTS_MODEL_FILES_H
#define SOWER_TESTS_MODEL_FILES_H

#include "../../src/nn/files_impl.h"
#include "check.h"

#include <sys/stat.h>

/* Bytes of a file that is being made. */
typedef struct blob {
    size_t n;
    unsigned char data[1 << 19];
} blob;

static inline void blob_add(blob *b, const void *data, size_t n)
{
    assert_true(n <= sizeof b->data - b->n);
    if (n > 0)
        memcpy(b->data + b->n, data, n);
    b->n += n;
}

/* A number of `bytes` bytes, little-endian. */
static inline void blob_number(blob *b, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)(value >> 8 * i);
        blob_add(b, &byte, 1);
    }
}

static inline void blob_float(blob *b, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    blob_number(b, bits, 4);
}

static inline void blob_string(blob *b, const char *text) /* as a GGUF writes it */
{
    size_t n = text == NULL ? 0 : strlen(text);
    blob_number(b, n, 8);
    if (n > 0)
        blob_add(b, text, n);
}

static inline void blob_pad(blob *b, size_t step)
{
    while (b->n % step != 0)
        blob_number(b, 0, 1);
}

/* 8 bytes of length, the header, `data_bytes` zeros. */
static inline void blob_safetensors(blob *b, const char *header, size_t data_bytes)
{
    b->n = 0;
    blob_number(b, strlen(header), 8);
    blob_add(b, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        blob_number(b, 0, 1);
}

static inline void write_file(const char *folder, const char *name, const void *data, size_t n)
{
    char path[4096];
    CHECK_OK(sow_file_join(folder, name, path, sizeof path));
    CHECK_OK(sow_file_write(path, data, n));
}

/* A shape of two layers with all sides different; 128 tokens, so that bytes can be its tokenizer. */
static inline sow_shape small_shape(bool is_tied)
{
    sow_shape shape;
    memset(&shape, 0, sizeof shape);
    (void)snprintf(shape.family, sizeof shape.family, "llama");
    shape.vocab_size = 128;
    shape.hidden_size = 32;
    shape.intermediate_size = 64;
    shape.n_layers = 2;
    shape.n_heads = 4;
    shape.n_kv_heads = 2;
    shape.head_dim = 8;
    shape.max_positions = 50;
    shape.rope_theta = 10000;
    shape.rms_norm_eps = 1e-5;
    shape.rope_factor = 1;
    shape.is_tied = is_tied;
    shape.bos = shape.pad = -1;
    shape.n_eos = 1;
    shape.eos[0] = 10;
    return shape;
}

/* Weights that name their place: no two of a tensor are equal, all are exact as half and as bfloat. */
static inline float *fill_theta(const sow_layout *layout)
{
    float *theta = NULL;
    CHECK_OK(SOW_ALLOC(&theta, layout->n_elements));
    for (int64_t t = 0; t < layout->n_tensors; t++)
        for (int64_t i = 0; i < layout->tensors[t].rows * layout->tensors[t].cols; i++)
            theta[layout->tensors[t].offset + i] = (float)((i * 37 + t * 11) % 255 - 127) / 64;
    return theta;
}

/* What shall be different from a good GGUF: one entry of metadata, or one tensor. */
typedef struct gguf_edit {
    const char *key;    /* replaced, or added */
    double number;      /* the new value, or */
    const char *text;   /* if it is a string */
    const char *tensor; /* whose entry in the list, or whose data, is changed */
    int kind;           /* of the new value; -1: the entry is left out */
    enum {
        GGUF_LEFT_OUT = 1,
        GGUF_RENAMED,
        GGUF_TURNED,
        GGUF_TYPE,
        GGUF_OFFSET,
        GGUF_DIMS,
        GGUF_SIDE,
        GGUF_VALUE
    } change;
    double to;
    const float *divisors; /* one more tensor, rope_freqs.weight [n_divisors] */
    int64_t n_divisors;
} gguf_edit;

static inline void gguf_entry(blob *b, const char *key, int kind, double number, const char *text)
{
    blob_string(b, key);
    blob_number(b, (uint64_t)kind, 4);
    if (kind == SOW_GGUF_STRING)
        blob_string(b, text);
    else if (kind == SOW_GGUF_F32)
        blob_float(b, (float)number);
    else if (kind == SOW_GGUF_U64 || kind == SOW_GGUF_I64)
        blob_number(b, (uint64_t)(int64_t)number, 8);
    else
        blob_number(b, (uint64_t)(int64_t)number, kind == SOW_GGUF_U8 || kind == SOW_GGUF_BOOL ? 1 : 4);
}

static inline void gguf_metadata(blob *b, const sow_shape *shape, const gguf_edit *edit, int64_t *n)
{
    const struct {
        const char *key;
        int kind;
        double number;
    } rows[] = {
        {".vocab_size", SOW_GGUF_U32, (double)shape->vocab_size},
        {".embedding_length", SOW_GGUF_U32, (double)shape->hidden_size},
        {".feed_forward_length", SOW_GGUF_U32, (double)shape->intermediate_size},
        {".block_count", SOW_GGUF_U32, (double)shape->n_layers},
        {".attention.head_count", SOW_GGUF_U32, (double)shape->n_heads},
        {".attention.head_count_kv", SOW_GGUF_U64, (double)shape->n_kv_heads},
        {".rope.dimension_count", SOW_GGUF_I32, (double)shape->head_dim},
        {".context_length", SOW_GGUF_U32, (double)shape->max_positions},
        {".attention.layer_norm_rms_epsilon", SOW_GGUF_F32, shape->rms_norm_eps},
        {"tokenizer.ggml.eos_token_id", SOW_GGUF_U32, (double)shape->eos[0]},
    };
    bool is_known = edit->key == NULL;
    *n = 0;
    if (edit->key == NULL || strcmp(edit->key, "general.architecture") != 0) {
        gguf_entry(b, "general.architecture", SOW_GGUF_STRING, 0, shape->family);
        (*n)++;
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char key[80];
        (void)snprintf(key, sizeof key, "%s%s", rows[i].key[0] == '.' ? shape->family : "", rows[i].key);
        bool is_it = edit->key != NULL && strcmp(edit->key, key) == 0;
        if (!is_it) {
            gguf_entry(b, key, rows[i].kind, rows[i].number, NULL);
            (*n)++;
        }
        is_known = is_known || (is_it && edit->kind < 0);
    }
    if (!is_known && edit->kind >= 0) {
        gguf_entry(b, edit->key, edit->kind, edit->number, edit->text);
        (*n)++;
    }
}

/* Rows of q and k as llama.cpp orders them: row r of theta is at this place of the file. */
static inline int64_t gguf_place(const sow_shape *shape, int64_t row)
{
    int64_t half = shape->head_dim / 2, in_head = row % shape->head_dim;
    return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

static inline void gguf_data(blob *b, const sow_layout *layout, const sow_tensor *tensor, const float *theta)
{
    bool is_turned = (tensor->kind == SOW_TENSOR_Q || tensor->kind == SOW_TENSOR_K ||
                      tensor->kind == SOW_TENSOR_Q_BIAS || tensor->kind == SOW_TENSOR_K_BIAS) &&
                     strcmp(layout->shape.family, "llama") == 0;
    int64_t n_rows = tensor->is_matrix ? tensor->rows : tensor->cols, n_cols = tensor->is_matrix ? tensor->cols : 1;
    size_t first = b->n;
    assert_true((size_t)(n_rows * n_cols) * 4 <= sizeof b->data - b->n);
    b->n += (size_t)(n_rows * n_cols) * 4;
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t place = is_turned ? gguf_place(&layout->shape, r) : r;
        memcpy(b->data + first + (size_t)(place * n_cols) * 4, theta + tensor->offset + r * n_cols,
               (size_t)n_cols * 4); /* the tests run on little-endian machines */
    }
}

static inline void gguf_info(blob *b, const sow_tensor *tensor, const gguf_edit *edit, uint64_t offset)
{
    char name[SOW_MAX_NAME];
    assert_true(sow_shape_gguf_name(tensor->kind, tensor->layer, name));
    int change = edit->tensor != NULL && strcmp(edit->tensor, name) == 0 ? (int)edit->change : 0;
    uint64_t sides[2] = {(uint64_t)tensor->cols, (uint64_t)tensor->rows};
    bool is_turned = change == GGUF_TURNED;
    blob_string(b, change == GGUF_RENAMED ? edit->text : name);
    blob_number(b, change == GGUF_DIMS ? (uint64_t)edit->to : tensor->is_matrix ? 2 : 1, 4);
    blob_number(b, change == GGUF_SIDE ? (uint64_t)edit->to : sides[is_turned], 8);
    if (tensor->is_matrix)
        blob_number(b, sides[!is_turned], 8);
    blob_number(b, change == GGUF_TYPE ? (uint64_t)edit->to : 0, 4);
    blob_number(b, change == GGUF_OFFSET ? (uint64_t)edit->to : offset, 8);
}

/* A GGUF of float32 tensors. */
static inline void blob_gguf(blob *b, const sow_layout *layout, const float *theta, const gguf_edit *edit)
{
    static const gguf_edit none = {0};
    char name[SOW_MAX_NAME];
    int64_t n_entries, n_tensors = 0;
    uint64_t offset = 0;
    edit = edit == NULL ? &none : edit;
    b->n = 0;
    blob_add(b, "GGUF", 4);
    blob_number(b, 3, 4);
    blob_number(b, 0, 8); /* the counts are put in at the end */
    blob_number(b, 0, 8);
    gguf_metadata(b, &layout->shape, edit, &n_entries);
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        assert_true(sow_shape_gguf_name(tensor->kind, tensor->layer, name));
        if (edit->tensor != NULL && strcmp(edit->tensor, name) == 0 && edit->change == GGUF_LEFT_OUT)
            continue;
        gguf_info(b, tensor, edit, offset);
        offset += ((uint64_t)(tensor->rows * tensor->cols) * 4 + 31) / 32 * 32;
        n_tensors++;
    }
    if (edit->divisors != NULL) {
        blob_string(b, "rope_freqs.weight");
        blob_number(b, 1, 4);
        blob_number(b, (uint64_t)edit->n_divisors, 8);
        blob_number(b, 0, 4);
        blob_number(b, offset, 8);
        n_tensors++;
    }
    blob_pad(b, 32);
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        assert_true(sow_shape_gguf_name(tensor->kind, tensor->layer, name));
        bool is_it = edit->tensor != NULL && strcmp(edit->tensor, name) == 0;
        if (is_it && edit->change == GGUF_LEFT_OUT)
            continue;
        size_t first = b->n;
        gguf_data(b, layout, tensor, theta);
        blob_pad(b, 32);
        float value = (float)edit->to;
        if (is_it && edit->change == GGUF_VALUE)
            memcpy(b->data + first + 4 * 5, &value, sizeof value); /* element 5 */
    }
    for (int64_t i = 0; edit->divisors != NULL && i < edit->n_divisors; i++)
        blob_float(b, edit->divisors[i]);
    size_t end = b->n;
    b->n = 8;
    blob_number(b, (uint64_t)n_tensors, 8);
    blob_number(b, (uint64_t)n_entries, 8);
    b->n = end;
}

#endif
