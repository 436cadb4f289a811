/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of kernels share: random data, packing, comparison of bits, and a loop over the tables of this CPU. */
#ifndef SOWER_TESTS_KERNEL_CHECK_H
#define SOWER_TESTS_KERNEL_CHECK_H

#include "check.h"

#include "sower/la.h"

#include <inttypes.h>

#define EACH_KERNELS(k)                                                                                                \
    for (int64_t i_##k = 0; i_##k < sow_kernels_count(); i_##k++)                                                      \
        for (const sow_kernels *k = sow_kernels_at(i_##k); k != NULL; k = NULL)

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t random_word(uint32_t stream, uint64_t i)
{
    uint64_t w[4] = {i & 0xffffffff, i >> 32, SOW_STREAM_TEST, stream};
    sow_philox4x32((const uint32_t[2]){7, 8}, w);
    return (uint32_t)w[0];
}

/* To nearest even; subnormal numbers to zero. */
static inline float rounded_bf16(float x)
{
    const uint32_t u = bits_of(fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x);
    return isnan(x) ? x : float_of((u + 0x7fff + (u >> 16 & 1)) & 0xffff0000);
}

static inline double flushed(double x)
{
    return fabs(x) < 0x1p-126 ? copysign(0.0, x) : x;
}

/* A multiply-add of products of bf16 as a CPU does it that takes subnormal numbers for zero; what the program computes
 * by other means.  With two bf16 and a float the sum is exact in long double wherever it is near 2^-126; elsewhere
 * fmaf rounds right.  Results count as subnormal after they were rounded to 24 bits. */
static inline float fma_flushed(float a, float b, float c)
{
    a = (float)flushed((double)a), b = (float)flushed((double)b), c = (float)flushed((double)c);
    const float r = fmaf(a, b, c);
    const long double exact = (long double)a * (long double)b + (long double)c;
    if (!(fabsf(r) <= 0x1p-126f) || fabsl(exact) >= 0x1p-126L - 0x1p-151L)
        return r;
    return copysignf(0.0f, r);
}

/* Uniform in [-scale, scale). */
static inline void fill_floats(uint32_t stream, float scale, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(int32_t)random_word(stream, (uint64_t)i) * 0x1p-31f * scale;
}

/* Any finite number whose exponent is at most that of 2. */
static inline void fill_wild(uint32_t stream, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = float_of(random_word(stream, (uint64_t)i) & 0xbfffffff);
}

/* Rounds w [n_size][k_size] and packs it, by the program's own path without noise.  To be freed by the caller. */
static inline void *pack_weights(sow_type type, int64_t n_size, int64_t k_size, const float *w)
{
    unsigned char *packed = NULL;
    CHECK_OK(SOW_ALLOC(&packed, sow_la_packed_bytes(type, n_size, k_size)));
    sow_kernels_at(sow_kernels_count() - 1)
        ->perturb(&(sow_perturb_args){.type = type,
                                      .n_size = n_size,
                                      .k_size = k_size,
                                      .n_panels = sow_la_padded(n_size) / SOW_PANEL,
                                      .theta = w,
                                      .w = packed});
    return packed;
}

/* Fails unless the n floats have equal bits; any NaN equals any NaN. */
static inline void check_bits(const char *what, const char *who, int64_t n, const float *got, const float *want)
{
    for (int64_t i = 0; i < n; i++) {
        const bool both_nan = isnan(got[i]) && isnan(want[i]);
        if (bits_of(got[i]) != bits_of(want[i]) && !both_nan)
            fail_msg("%s, %s: element %" PRId64 " is %a, expected %a", what, who, i, (double)got[i], (double)want[i]);
    }
}

#endif
