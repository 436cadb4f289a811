/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors that files hold, matched with those that a model needs, and read into theta.
 *
 * llama.cpp writes the rows of q and k (families with is_gguf_permuted) pair by pair, as Meta's code rotates them:
 * rows 2i and 2i+1 of a head turn together.  Here, as in transformers, rows i and i + head_dim/2 do.  Reading puts
 * each row where it belongs:
 *
 *     GGUF row of a head   0  1  2  3  4  5  ...        2i    2i+1
 *     row of theta         0  h  1 h+1 2 h+2 ...         i    h + i          h = head_dim / 2                        */
#include "files_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <stdlib.h>
#include <string.h>

void sow_weights_fini(sow_weights *weights)
{
    SOW_FREE(&weights->sources);
    SOW_FREE(&weights->tensors);
    *weights = (sow_weights){0};
}

sow_code sow_weights_add(sow_weights *weights, sow_stored **out)
{
    SOW_TRY(SOW_GROW(&weights->tensors, &weights->capacity, weights->n));
    *out = &weights->tensors[weights->n++];
    return SOW_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const sow_stored *)a)->name, ((const sow_stored *)b)->name);
}

sow_code sow_weights_sort(sow_weights *weights)
{
    if (weights->n > 1)
        qsort(weights->tensors, (size_t)weights->n, sizeof *weights->tensors, compare_names);
    for (int64_t i = 1; i < weights->n; i++) {
        const sow_stored *a = &weights->tensors[i - 1], *b = &weights->tensors[i];
        if (strcmp(a->name, b->name) == 0)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: is stored twice (also in %s), expected once", b->what, b->name,
                            a->what);
    }
    return SOW_OK;
}

sow_stored *sow_weights_find(const sow_weights *weights, const char *name)
{
    sow_stored wanted = {0};
    (void)snprintf(wanted.name, sizeof wanted.name, "%s", name);
    return weights->n == 0
               ? NULL
               : bsearch(&wanted, weights->tensors, (size_t)weights->n, sizeof *weights->tensors, compare_names);
}

/* Buffers that older versions of transformers saved; they follow from the shape. */
static bool is_harmless(const char *name)
{
    static const char ending[] = "rotary_emb.inv_freq";
    size_t n = strlen(name), m = sizeof ending - 1;
    return n >= m && strcmp(name + n - m, ending) == 0;
}

static sow_code check_source(const sow_tensor *tensor, const sow_stored *stored)
{
    int n_dims = tensor->is_matrix ? 2 : 1;
    if (stored->n_dims != n_dims || stored->rows != tensor->rows || stored->cols != tensor->cols) {
        char expected[48];
        if (n_dims == 2)
            (void)snprintf(expected, sizeof expected, "[%lld, %lld]", (long long)tensor->rows, (long long)tensor->cols);
        else
            (void)snprintf(expected, sizeof expected, "[%lld]", (long long)tensor->cols);
        if (stored->n_dims > 2 || stored->n_dims == 0)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: has %d dimensions, expected %s", stored->what, stored->name,
                            stored->n_dims, expected);
        if (stored->n_dims == 2)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: shape [%lld, %lld] is wrong, expected %s", stored->what, stored->name,
                            (long long)stored->rows, (long long)stored->cols, expected);
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: shape [%lld] is wrong, expected %s", stored->what, stored->name,
                        (long long)stored->cols, expected);
    }
    if (stored->storage == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: type %s is not supported, expected F32, F16 or BF16", stored->what,
                        stored->name, stored->type);
    return SOW_OK;
}

static bool is_permuted(const sow_weights *weights, sow_tensor_kind kind)
{
    return weights->is_permuted &&
           (kind == SOW_TENSOR_Q || kind == SOW_TENSOR_K || kind == SOW_TENSOR_Q_BIAS || kind == SOW_TENSOR_K_BIAS);
}

static sow_code match_tensor(sow_weights *weights, const sow_layout *layout, int64_t index, const char *what)
{
    const sow_tensor *tensor = &layout->tensors[index];
    char name[SOW_MAX_NAME];
    memcpy(name, tensor->name, sizeof name);
    if (weights->is_gguf && !sow_shape_gguf_name(tensor->kind, tensor->layer, name))
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: has no name in a GGUF", what, tensor->name);
    sow_stored *stored = sow_weights_find(weights, name);
    if (tensor->kind == SOW_TENSOR_EMBED && layout->shape.is_tied && !weights->is_gguf) {
        /* Either of the two may be the stored one. */
        sow_stored *head = sow_weights_find(weights, "lm_head.weight");
        if (stored != NULL && head != NULL) {
            SOW_TRY(check_source(tensor, head));
            head->is_used = true;
            weights->twin = head;
        }
        stored = stored == NULL ? head : stored;
    }
    if (stored == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is missing, expected [%lld, %lld]%s", what, name, (long long)tensor->rows,
                        (long long)tensor->cols,
                        tensor->kind == SOW_TENSOR_LM_HEAD ? " since tie_word_embeddings is not true" : "");
    SOW_TRY(check_source(tensor, stored));
    if (is_permuted(weights, tensor->kind) && !tensor->is_matrix && stored->storage->block != 1)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: type %s is not supported for a bias, expected F32, F16 or BF16",
                        stored->what, name, stored->type);
    stored->is_used = true;
    weights->sources[index] = stored - weights->tensors;
    return SOW_OK;
}

sow_code sow_weights_match(sow_weights *weights, const sow_layout *layout, const char *what)
{
    SOW_TRY(SOW_ALLOC(&weights->sources, layout->n_tensors));
    for (int64_t i = 0; i < layout->n_tensors; i++)
        SOW_TRY(match_tensor(weights, layout, i, what));
    for (int64_t i = 0; i < weights->n; i++) {
        const sow_stored *stored = &weights->tensors[i];
        if (!stored->is_used && !is_harmless(stored->name))
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: is no tensor of this model (%s, %lld layers), expected no others",
                            stored->what, stored->name, layout->shape.family, (long long)layout->shape.n_layers);
    }
    return SOW_OK;
}

/* The index of the first value that is not finite, -1 if all are. */
static int64_t find_non_finite(int64_t n, const float *x)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if ((bits & 0x7f800000) == 0x7f800000)
            return i;
    }
    return -1;
}

static void widen(const sow_weights *weights, const sow_tensor *tensor, const sow_stored *stored, int64_t head_dim,
                  float *out)
{
    const sow_storage *storage = stored->storage;
    if (!is_permuted(weights, tensor->kind)) {
        storage->widen(stored->data, tensor->rows * tensor->cols, out);
        return;
    }
    int64_t n_rows = tensor->is_matrix ? tensor->rows : tensor->cols;
    int64_t n_cols = tensor->is_matrix ? tensor->cols : 1;
    int64_t row_bytes = n_cols / storage->block * storage->block_bytes;
    for (int64_t row = 0; row < n_rows; row++) {
        int64_t in_head = row % head_dim;
        int64_t place = row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
        storage->widen(stored->data + row * row_bytes, n_cols, out + place * n_cols);
    }
}

/* A tied model that stores both copies must store one thing. */
static sow_code check_twin(const sow_weights *weights, const sow_tensor *tensor, const float *embed)
{
    sow_code rc = SOW_OK;
    const sow_storage *storage = weights->twin->storage;
    float *row = NULL;
    SOW_TRY(SOW_ALLOC(&row, tensor->cols));
    for (int64_t r = 0; r < tensor->rows; r++) {
        storage->widen(weights->twin->data + r * tensor->cols * storage->block_bytes, tensor->cols, row);
        if (memcmp(row, embed + r * tensor->cols, (size_t)tensor->cols * sizeof *row) == 0)
            continue;
        rc = SOW_FAIL(SOW_EFORMAT,
                      "%s: %s: row %lld differs from model.embed_tokens.weight, expected the same "
                      "(tie_word_embeddings is true)",
                      weights->twin->what, weights->twin->name, (long long)r);
        break;
    }
    SOW_FREE(&row);
    return rc;
}

sow_code sow_weights_load(const sow_weights *weights, const sow_layout *layout, float *theta)
{
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        const sow_stored *stored = &weights->tensors[weights->sources[i]];
        int64_t n = tensor->rows * tensor->cols;
        int64_t end = i + 1 < layout->n_tensors ? layout->tensors[i + 1].offset : layout->n_elements;
        float *out = theta + tensor->offset;
        sow_phase_tick();
        widen(weights, tensor, stored, layout->shape.head_dim, out);
        memset(out + n, 0, (size_t)(end - tensor->offset - n) * sizeof *out);
        int64_t bad = find_non_finite(n, out);
        if (bad >= 0)
            return SOW_FAIL(SOW_ENUM, "%s: %s: element %lld is %g, expected finite values", stored->what, stored->name,
                            (long long)bad, (double)out[bad]);
        if (i == 0 && weights->twin != NULL)
            SOW_TRY(check_twin(weights, tensor, out));
    }
    return SOW_OK;
}
