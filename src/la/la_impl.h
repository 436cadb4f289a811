/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share: the tables of all instruction sets of this build, and the order of packed
 * weights.
 *
 * Packed weights lie in panels of 32 outputs, K-major: panel p, then k, then one line of 32 outputs.
 *
 *     f32   the line is outputs 0 .. 31
 *     fp16  the line is outputs 0 .. 31; one instruction widens a vector of them
 *     bf16  outputs i and i + 16 are the low and the high half of word i: a shift and a mask widen them, which is
 *     cheaper than to
 *           widen halves that lie side by side (8 rows, Zen 4: 0.95 of the peak instead of 0.88) */
#ifndef SOWER_LA_IMPL_H
#define SOWER_LA_IMPL_H

#include "sower/kernels.h"

/* SOW_HAS_NAME comes from cmake/isa.cmake. */
extern const sow_kernels sow_kernels_plain;
extern const sow_kernels sow_kernels_avx2;
extern const sow_kernels sow_kernels_avx512;
extern const sow_kernels sow_kernels_neon;

/* Where output n % 32 lies in a line, in elements. */
static inline int64_t sow_pack_slot(sow_type type, int64_t n)
{
    int64_t i = n % SOW_PANEL, half = SOW_PANEL / 2;
    return type == SOW_BF16 ? i % half * 2 + i / half : i;
}

/* blas.c: the backend `openblas`. */
typedef struct sow_blas sow_blas;
SOW_NODISCARD sow_code sow_blas_create(int threads, sow_blas **out);
void sow_blas_destroy(sow_blas **blas);
void sow_blas_linear(sow_blas *blas, const sow_kernels *kernels, const sow_linear_args *args);
void sow_blas_outer(const sow_outer_args *args);

#endif
