/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share: the tables of all instruction sets of this build, and the order of packed
 * weights.
 *
 * Packed weights lie in panels of 32 outputs, K-major: panel p, then k, then one line of 32 outputs.
 *
 *     f32   the line is outputs 0 .. 31
 *     fp16  the line is outputs 0 .. 31; one instruction widens a vector of them
 *     bf16  outputs i and i + 16 are the low and the high half of word i: a shift and a mask widen them, which is
 *           cheaper than to widen halves that lie side by side (8 rows, Zen 4: 0.95 of the peak instead of 0.88)
 *
 *     bf16-mixed has lines of 32 words for two inputs: inputs k (even) and k + 1 are the low and the high half of word
 *     n; behind an odd last input is zero. */
#ifndef SOWER_LA_IMPL_H
#define SOWER_LA_IMPL_H

#include "sower/kernels.h"

/* SOW_HAS_NAME comes from cmake/isa.cmake. */
extern const sow_kernels sow_kernels_plain;
extern const sow_kernels sow_kernels_avx2;
extern const sow_kernels sow_kernels_avx512;
extern const sow_kernels sow_kernels_avx512bf16;
extern const sow_kernels sow_kernels_neon;

/* Rows of x that mixed_isa.c rounds together: 18 tiles of 14. */
enum { SOW_MIXED_ROWS = 252 };

/* Inputs that a packed panel has room for. */
static inline int64_t sow_pack_inputs(sow_type type, int64_t k_size)
{
    return type == SOW_BF16_MIXED ? (k_size + 1) / 2 * 2 : k_size;
}

/* Where output n % 32 lies in a line of one input, in elements. */
static inline int64_t sow_pack_slot(sow_type type, int64_t n)
{
    int64_t i = n % SOW_PANEL, half = SOW_PANEL / 2;
    return type == SOW_BF16 ? i % half * 2 + i / half : i;
}

/* Where weight (n, k) lies, in elements. */
static inline int64_t sow_pack_index(sow_type type, int64_t k_size, int64_t n, int64_t k)
{
    const int64_t panel = n / SOW_PANEL;
    if (type == SOW_BF16_MIXED)
        return (panel * ((k_size + 1) / 2) + k / 2) * SOW_PANEL * 2 + n % SOW_PANEL * 2 + k % 2;
    return (panel * k_size + k) * SOW_PANEL + sow_pack_slot(type, n);
}

/* blas.c: the backend `openblas`. */
typedef struct sow_blas sow_blas;
SOW_NODISCARD sow_code sow_blas_create(int threads, sow_blas **out);
void sow_blas_destroy(sow_blas **blas);
void sow_blas_linear(sow_blas *blas, const sow_kernels *kernels, const sow_linear_args *args);
void sow_blas_outer(const sow_outer_args *args);

#endif
