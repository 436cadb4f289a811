/* SPDX-License-Identifier: Apache-2.0 */
/* A replica is one block of memory.  Tensors lie in it by layer and kind, so that Q, K, V (and GATE, UP, and their
 * biases) follow each other and the forward pass multiplies by all of them at once:
 *
 *     EMBED FINAL_NORM LM_HEAD | layer 0: INPUT_NORM Q K V O Q_BIAS K_BIAS V_BIAS ... GATE UP DOWN ... | layer 1: ...
 *
 * Every tensor is padded to whole panels (matrices by rows, vectors by elements), and a panel is a multiple of 64
 * bytes, so neighbours touch.  The padding is zero. */
#include "nn_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <math.h>
#include <string.h>

#include <omp.h>

enum {
    CHECK_CHUNK = 1 << 15,
    SUM_ROWS = 256, /* rows of a tensor between two ticks of the correlation */
};

static const int64_t n_kinds = SOW_N_TENSOR_KINDS;

struct sow_replica {
    sow_la *la;               /* borrowed */
    const sow_layout *layout; /* borrowed */
    sow_type type;
    unsigned char *block; /* owned */
    size_t *offsets;      /* owned [n_tensors] */
    int64_t *numbers;     /* owned [n_layers + 1][SOW_N_TENSOR_KINDS]: tensor, -1 for none */
    float *scratch;       /* owned [threads][3][scratch_n], for sow_replica_correlation */
    int64_t scratch_n;
};

static size_t tensor_bytes(const sow_tensor *tensor, sow_type type)
{
    if (!tensor->is_matrix)
        return (size_t)sow_la_padded(tensor->cols) * sizeof(float);
    return sow_la_packed_bytes(type, tensor->rows, tensor->cols);
}

size_t sow_replica_bytes(const sow_layout *layout, sow_type type)
{
    size_t bytes = 0;
    for (int64_t t = 0; t < layout->n_tensors; t++)
        bytes += tensor_bytes(&layout->tensors[t], type);
    return bytes;
}

/* Gives every tensor its place, in the order of layer and kind. */
static size_t place_tensors(sow_replica *replica)
{
    const sow_layout *layout = replica->layout;
    size_t offset = 0;
    for (int64_t layer = -1; layer < layout->shape.n_layers; layer++) {
        for (int64_t kind = 0; kind < n_kinds; kind++) {
            const sow_tensor *tensor = sow_layout_find(layout, (sow_tensor_kind)kind, (int)layer);
            int64_t *number = &replica->numbers[(layer + 1) * n_kinds + kind];
            *number = tensor == NULL ? -1 : tensor - layout->tensors;
            if (tensor == NULL)
                continue;
            replica->offsets[*number] = offset;
            offset += tensor_bytes(tensor, replica->type);
            SOW_ASSERT(offset % 64 == 0); /* what lets neighbours be one packed tensor */
        }
    }
    return offset;
}

sow_code sow_replica_create(sow_la *la, const sow_layout *layout, sow_type type, sow_replica **out)
{
    sow_replica *replica = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_la_check_type(type, sow_la_is_exact(la)));
    SOW_TRY(SOW_ALLOC(&replica, 1));
    *replica = (sow_replica){.la = la, .layout = layout, .type = type};
    for (int64_t t = 0; t < layout->n_tensors; t++)
        if (layout->tensors[t].cols > replica->scratch_n)
            replica->scratch_n = layout->tensors[t].cols;
    replica->scratch_n += INT64_C(2) * SOW_NOISE_BLOCK; /* a row's noise is drawn in whole blocks */
    SOW_TRY_OR(rc, SOW_ALLOC(&replica->offsets, layout->n_tensors));
    SOW_TRY_OR(rc, SOW_ALLOC(&replica->numbers, (layout->shape.n_layers + 1) * n_kinds));
    SOW_TRY_OR(rc, SOW_ALLOC(&replica->scratch, INT64_C(3) * sow_la_threads(la) * replica->scratch_n));
    SOW_ASSERT(place_tensors(replica) == sow_replica_bytes(layout, type));
    SOW_TRY_OR(rc, SOW_ALLOC(&replica->block, sow_replica_bytes(layout, type)));
    *out = replica;
    return SOW_OK;
done:
    sow_replica_destroy(&replica);
    return rc;
}

void sow_replica_destroy(sow_replica **replica)
{
    if (*replica == NULL)
        return;
    SOW_FREE(&(*replica)->block);
    SOW_FREE(&(*replica)->scratch);
    SOW_FREE(&(*replica)->numbers);
    SOW_FREE(&(*replica)->offsets);
    SOW_FREE(replica);
}

/* Whether one of n 16-bit values has all exponent bits set: infinity or NaN. */
static int has_full_exponent(int64_t n, const uint16_t *values, uint16_t mask)
{
    int is_full = 0;
    for (int64_t i = 0; i < n; i++)
        is_full |= (values[i] & mask) == mask;
    return is_full;
}

static bool has_non_finite(const sow_replica *replica, sow_type type, int64_t n, const void *values)
{
    const sow_kernels *kernels = sow_la_kernels(replica->la);
    const int64_t n_chunks = (n + CHECK_CHUNK - 1) / CHECK_CHUNK;
    const uint16_t mask = type == SOW_FP16 ? 0x7c00 : 0x7f80;
    int is_bad = 0;
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(replica->la))                                     \
    reduction(|                                                                                                        \
              : is_bad) if (n_chunks > 1)
    for (int64_t c = 0; c < n_chunks; c++) {
        const int64_t first = c * CHECK_CHUNK, count = n - first < CHECK_CHUNK ? n - first : CHECK_CHUNK;
        is_bad |= type == SOW_F32 ? kernels->has_non_finite(count, (const float *)values + first)
                                  : has_full_exponent(count, (const uint16_t *)values + first, mask);
    }
    return is_bad != 0;
}

static sow_code make_tensor(sow_replica *replica, int64_t t, const float *theta, const sow_tensor_noise *noise)
{
    const sow_tensor *tensor = &replica->layout->tensors[t];
    const float *from = theta + tensor->offset;
    void *to = replica->block + replica->offsets[t];
    sow_type type = tensor->is_matrix ? replica->type : SOW_F32;
    int64_t n = sow_la_padded(tensor->cols);
    if (tensor->is_matrix) {
        sow_la_perturb(replica->la, &(sow_perturb_args){.type = type,
                                                        .loop = noise->loop,
                                                        .place = noise->place,
                                                        .factor = noise->factor,
                                                        .n_size = tensor->rows,
                                                        .k_size = tensor->cols,
                                                        .theta = from,
                                                        .mask = noise->mask,
                                                        .w = to});
        n = (int64_t)(sow_la_packed_bytes(type, tensor->rows, tensor->cols) / sow_type_bytes(type));
    } else if (noise->factor != 0.0f) {
        const sow_kernels *kernels = sow_la_kernels(replica->la);
        kernels->perturb_f32(noise->loop, noise->place, tensor->cols, noise->factor, from, to);
        if (noise->mask != NULL)
            kernels->hold(noise->mask, 0, tensor->cols, from, to);
    } else {
        memcpy(to, from, (size_t)tensor->cols * sizeof(float));
    }
    if (has_non_finite(replica, type, n, to))
        return SOW_FAIL(SOW_ENUM, "tensor %s: a weight with noise factor %g is not finite as %s; expected |w| %s",
                        tensor->name, (double)noise->factor, sow_type_name(type),
                        type == SOW_FP16 ? "<= 65504 (or dtype bf16)" : "< 3.4e38");
    return SOW_OK;
}

sow_code sow_replica_make(sow_replica *replica, const float *theta, const sow_tensor_noise *noise)
{
    static const sow_tensor_noise none = {.factor = 0.0f};
    for (int64_t t = 0; t < replica->layout->n_tensors; t++) {
        SOW_TRY(make_tensor(replica, t, theta, noise == NULL ? &none : &noise[t]));
        sow_phase_tick();
    }
    return SOW_OK;
}

const void *sow_replica_tensor(const sow_replica *replica, int64_t tensor)
{
    return replica->block + replica->offsets[tensor];
}

const void *sow_replica_find(const sow_replica *replica, sow_tensor_kind kind, int64_t layer)
{
    int64_t number = replica->numbers[(layer + 1) * n_kinds + (int64_t)kind];
    return number < 0 ? NULL : sow_replica_tensor(replica, number);
}

sow_type sow_replica_type(const sow_replica *replica)
{
    return replica->type;
}

const sow_layout *sow_replica_layout(const sow_replica *replica)
{
    return replica->layout;
}

/* Below this fp16 has room to spare: noise and 500 generations do not bring a weight near 65,504. */
static const float fp16_max_weight = 8192.0f;

static bool fits_fp16(const sow_layout *layout, const float *theta)
{
    for (int64_t t = 0; t < layout->n_tensors; t++) {
        const sow_tensor *tensor = &layout->tensors[t];
        const float *w = theta + tensor->offset;
        int is_large = 0;
        for (int64_t i = 0; tensor->is_matrix && i < tensor->rows * tensor->cols; i++)
            is_large |= !(fabsf(w[i]) < fp16_max_weight);
        if (is_large)
            return false;
    }
    return true;
}

sow_code sow_replica_choose_type(const char *name, const sow_layout *layout, const float *theta, sow_type *out)
{
    if (strcmp(name, "auto") == 0) {
        *out = fits_fp16(layout, theta) ? SOW_FP16 : SOW_BF16;
        return SOW_OK;
    }
    for (int type = 0; type < SOW_N_TYPES; type++) {
        if (strcmp(name, sow_type_name((sow_type)type)) == 0) {
            *out = (sow_type)type;
            return SOW_OK;
        }
    }
    return SOW_FAIL(SOW_ECONF, "model.dtype: '%s' is unknown, expected auto, f32, fp16, bf16 or bf16-mixed", name);
}

/* Sums of the products of applied and credited noise over one row of a tensor: d*e, d*d, e*e. */
static void add_row(const sow_replica *replica, int64_t t, int64_t row, const float *theta,
                    const sow_tensor_noise *noise, double sums[3])
{
    const sow_kernels *kernels = sow_la_kernels(replica->la);
    const sow_tensor *tensor = &replica->layout->tensors[t];
    const int64_t n = tensor->cols, first = row * n, start = first / SOW_NOISE_BLOCK * SOW_NOISE_BLOCK;
    const float *base = theta + tensor->offset + first;
    float *with = replica->scratch + INT64_C(3) * omp_get_thread_num() * replica->scratch_n,
          *without = with + replica->scratch_n, *drawn = without + replica->scratch_n;
    if (!tensor->is_matrix) {
        memcpy(with, sow_replica_tensor(replica, t), (size_t)n * sizeof(float));
        memcpy(without, base, (size_t)n * sizeof(float));
    } else {
        sow_la_packed_row(replica->type, n, sow_replica_tensor(replica, t), row, with);
        memcpy(without, base, (size_t)n * sizeof(float));
        if (replica->type != SOW_F32) { /* drawn holds the 16-bit values for a moment */
            kernels->narrow(replica->type, n, base, drawn);
            kernels->widen(replica->type, n, drawn, without);
        }
    }
    kernels->noise(noise->loop, noise->place, (uint64_t)start, first + n - start, drawn);
    for (int64_t i = 0; i < n; i++) {
        const bool moves = noise->mask == NULL || (noise->mask[(first + i) / 32] >> (first + i) % 32 & 1) != 0;
        const double d = (double)with[i] - (double)without[i];
        const double e = moves ? (double)noise->factor * (double)drawn[first - start + i] : 0.0;
        sums[0] += d * e;
        sums[1] += d * d;
        sums[2] += e * e;
    }
}

/* Rows over threads, their sums in order: the same bits on any number of threads. */
static void add_rows(const sow_replica *replica, int64_t t, int64_t first, int64_t n, const float *theta,
                     const sow_tensor_noise *noise, double sums[3])
{
    double parts[SUM_ROWS][3] = {{0.0}};
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(replica->la)) if (n > 1)
    for (int64_t i = 0; i < n; i++)
        add_row(replica, t, first + i, theta, noise, parts[i]);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            sums[k] += parts[i][k];
}

sow_code sow_replica_correlation(const sow_replica *replica, int64_t tensor, const float *theta,
                                 const sow_tensor_noise *noise, double *out)
{
    if (tensor < 0 || tensor >= replica->layout->n_tensors)
        return SOW_FAIL(SOW_EARG, "tensor %lld is none of the %lld of the layout", (long long)tensor,
                        (long long)replica->layout->n_tensors);
    if (noise == NULL || noise[tensor].factor == 0.0f) {
        *out = (double)NAN;
        return SOW_OK;
    }
    double sums[3] = {0.0, 0.0, 0.0};
    const int64_t rows = replica->layout->tensors[tensor].rows;
    for (int64_t first = 0; first < rows; first += SUM_ROWS) {
        add_rows(replica, tensor, first, rows - first < SUM_ROWS ? rows - first : SUM_ROWS, theta, &noise[tensor],
                 sums);
        sow_phase_tick();
    }
    *out = sums[1] > 0.0 && sums[2] > 0.0 ? sums[0] / (sqrt(sums[1]) * sqrt(sums[2])) : 0.0;
    return SOW_OK;
}
