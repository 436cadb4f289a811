/* SPDX-License-Identifier: Apache-2.0 */
/* Drift of weights from their base.
 *
 * A tensor is cut into blocks of 16,384 elements; each block is summed by one thread in element order, then the blocks
 * are added in order: bits independent of threads.
 *
 * The paper's figure (arXiv 2601.20861, evaluation_script.py: torch.sum((base - current)**2) of fp16 tensors) rounds
 * the weights, the difference and the square to fp16.  Its sum is kept in double here; torch adds in float32 and
 * rounds each tensor's sum to fp16 once more, an error of at most 2^-11 of a tensor's share and infinity above 65,504,
 * which is the library's and not the formula's. */
#include "sower/drift.h"

#include "sower/words.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 16384, WAVE = 64 /* blocks at a time, so that their sums fit on the stack */, PIECE = 1024 };

sow_code sow_tau_parse(const char *text, sow_tau *out)
{
    sow_tau tau = {0};
    const char *at = text;
    for (bool is_last = false; !is_last;) {
        char number[64];
        size_t n = strcspn(at, ",");
        is_last = at[n] == '\0';
        if (tau.n == SOW_MAX_TAU)
            return SOW_FAIL(SOW_ECONF, "measure.tau: '%s' has more than %d thresholds", text, SOW_MAX_TAU);
        bool is_short = n < sizeof number;
        if (is_short) {
            memcpy(number, at, n);
            number[n] = '\0';
        }
        if (!is_short || !sow_words_to_real(number, &tau.values[tau.n]) || tau.values[tau.n] < 0)
            return SOW_FAIL(SOW_ECONF,
                            "measure.tau: '%.*s' in '%s' is no threshold, expected numbers >= 0 separated by commas",
                            (int)(is_short ? n : sizeof number), at, text);
        tau.n++;
        at += n + 1;
    }
    *out = tau;
    return SOW_OK;
}

/* The 16-bit views of n <= PIECE elements. */
static void add_views(const sow_kernels *k, const float *base, const float *theta, int64_t n, sow_drift *sum)
{
    uint16_t a[PIECE], b[PIECE];
    float x[PIECE], y[PIECE];
    k->narrow(SOW_BF16, n, base, a);
    k->narrow(SOW_BF16, n, theta, b);
    for (int64_t i = 0; i < n; i++)
        sum->same_bf16 += a[i] == b[i];
    k->narrow(SOW_FP16, n, base, a);
    k->narrow(SOW_FP16, n, theta, b);
    for (int64_t i = 0; i < n; i++)
        sum->same_fp16 += a[i] == b[i];
    k->widen(SOW_FP16, n, a, x);
    k->widen(SOW_FP16, n, b, y);
    for (int64_t i = 0; i < n; i++)
        x[i] -= y[i]; /* float32, then fp16: rounding twice is harmless for a difference (24 >= 2 * 11 + 2 bits) */
    k->narrow(SOW_FP16, n, x, a);
    k->widen(SOW_FP16, n, a, x);
    for (int64_t i = 0; i < n; i++)
        x[i] *= x[i]; /* exact in float32 */
    k->narrow(SOW_FP16, n, x, a);
    k->widen(SOW_FP16, n, a, x);
    for (int64_t i = 0; i < n; i++)
        sum->paper2 += (double)x[i];
}

static sow_drift measure_block(const sow_kernels *k, const float *base, const float *theta, int64_t n,
                               const sow_tau *tau)
{
    sow_drift sum = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        double b = (double)base[i], d = (double)theta[i] - b, size = fabs(d);
        sum.delta2 += d * d;
        sum.base2 += b * b;
        sum.max_abs = size > sum.max_abs ? size : sum.max_abs;
        for (int64_t t = 0; t < tau->n; t++)
            sum.within[t] += size <= tau->values[t];
    }
    for (int64_t i = 0; i < n; i += PIECE)
        add_views(k, base + i, theta + i, n - i < PIECE ? n - i : PIECE, &sum);
    return sum;
}

static sow_drift measure_tensor(const sow_kernels *k, const float *base, const float *theta, int64_t n,
                                const sow_tau *tau)
{
    sow_drift sum = {0}, blocks[WAVE];
    int64_t n_blocks = (n + BLOCK - 1) / BLOCK;
    for (int64_t first = 0; first < n_blocks; first += WAVE) {
        int64_t in_wave = n_blocks - first < WAVE ? n_blocks - first : WAVE;
#pragma omp parallel for schedule(dynamic) if (in_wave > 1)
        for (int64_t j = 0; j < in_wave; j++) {
            int64_t at = (first + j) * BLOCK;
            blocks[j] = measure_block(k, base + at, theta + at, n - at < BLOCK ? n - at : BLOCK, tau);
        }
        for (int64_t j = 0; j < in_wave; j++)
            sow_drift_add(&sum, &blocks[j]);
    }
    return sum;
}

void sow_drift_measure(const sow_layout *layout, const float *base, const float *theta, const sow_tau *tau,
                       sow_drift *out)
{
    const sow_kernels *k = sow_kernels_at(0); /* all tables give the same bits: take the fastest */
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *t = &layout->tensors[i];
        out[i] = measure_tensor(k, base + t->offset, theta + t->offset, t->rows * t->cols, tau);
    }
}

void sow_drift_add(sow_drift *a, const sow_drift *b)
{
    a->n += b->n;
    a->delta2 += b->delta2;
    a->base2 += b->base2;
    a->max_abs = b->max_abs > a->max_abs ? b->max_abs : a->max_abs;
    a->paper2 += b->paper2;
    for (int t = 0; t < SOW_MAX_TAU; t++)
        a->within[t] += b->within[t];
    a->same_bf16 += b->same_bf16;
    a->same_fp16 += b->same_fp16;
}

double sow_drift_law(double alpha, double n_parameters, double steps, double population)
{
    return alpha * sqrt(n_parameters * steps / population);
}
