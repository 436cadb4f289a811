/* SPDX-License-Identifier: Apache-2.0 */
/* In which order vdpbf16ps rounds: compares it with candidates made of float32 operations, on random operands of which
 * a third cancel; and which results it takes for subnormal, on sums around the least normal number.
 * docs/decisions/0013 and 0014 have what it found; the program itself asks again at every start (src/la/kernels.c).
 *
 *     gcc -O2 -mavx512bf16 -mavx512f -mfma -ffp-contract=off tools/dpbf16_order.c -o dpbf16_order -lm && ./dpbf16_order */
#include "../src/la/scalar.h"

#include <immintrin.h>
#include <math.h>
#include <stdio.h>

enum { N = 20000000, N_CANDIDATES = 4 };

static const char *const names[N_CANDIDATES] = {"fma of the odd pair, then of the even one", "even, then odd",
                                                "exact sum, rounded once", "rounded dot product, then added"};

static uint64_t state = 88172645463325252U;

/* xorshift64, Marsaglia 2003. */
static uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* A bfloat16 in the upper half of a float32, its exponent around `exponent`. */
static uint32_t draw_bf16(uint32_t exponent)
{
    return ((draw() & 0x807FU) | ((exponent + draw() % 9 - 4) << 7)) << 16;
}

static float flush(float x)
{
    return fabsf(x) < 0x1p-126F ? copysignf(0, x) : x;
}

static __m512bh pair(uint32_t low, uint32_t high)
{
    return (__m512bh)_mm512_set1_epi32((int)(low >> 16 | high));
}

/* One product added to numbers at and next to 2^-126, so that some sums are subnormal before they are rounded to 24
 * bits and some after. */
static void look_at_edge(void)
{
    long wrong = 0, wrong_by_ieee = 0;
    for (int i = 0; i < N; i++) {
        const uint32_t exponent = 20 + draw() % 60;
        const uint32_t a = (draw() & 0x807FU) << 16 | exponent << 23;
        const uint32_t b = (draw() & 0x807FU) << 16 | (103 + draw() % 5 - 2 - exponent) << 23;
        const float c = from_bits((draw() & 0x80000000U) | (0x00800000U + draw() % 3));
        const float is = _mm512_cvtss_f32(_mm512_dpbf16_ps(_mm512_set1_ps(c), pair(a, 0), pair(b, 0)));
        wrong += to_bits(fused_flushed(from_bits(a), from_bits(b), c)) != to_bits(is);
        wrong_by_ieee += to_bits(flush(fmaf(from_bits(a), from_bits(b), c))) != to_bits(is);
    }
    printf("subnormal after rounding to 24 bits        differs in %ld of %d\n", wrong, N);
    printf("subnormal after IEEE rounding              differs in %ld of %d\n", wrong_by_ieee, N);
}

int main(void)
{
    long wrong[N_CANDIDATES] = {0};
    for (int i = 0; i < N; i++) {
        const uint32_t exponent = 120 + draw() % 14;
        const uint32_t a0 = draw_bf16(exponent), a1 = draw_bf16(exponent), b0 = draw_bf16(127), b1 = draw_bf16(127);
        const float x0 = from_bits(a0), x1 = from_bits(a1), y0 = from_bits(b0), y1 = from_bits(b1);
        float c = from_bits((draw() & 0x807FFFFFU) | (exponent + draw() % 17 - 8) << 23);
        if (i % 3 == 0)
            c = from_bits(to_bits(-(x0 * y0)) ^ (draw() & 0xFFU));
        const float is = _mm512_cvtss_f32(_mm512_dpbf16_ps(_mm512_set1_ps(c), pair(a0, a1), pair(b0, b1)));
        const double exact = (double)x0 * (double)y0 + (double)x1 * (double)y1;
        const float candidates[N_CANDIDATES] = {fmaf(x0, y0, fmaf(x1, y1, c)), fmaf(x1, y1, fmaf(x0, y0, c)),
                                                (float)(exact + (double)c), c + (float)exact};
        for (int k = 0; k < N_CANDIDATES; k++)
            wrong[k] += to_bits(flush(candidates[k])) != to_bits(is);
    }
    for (int k = 0; k < N_CANDIDATES; k++)
        printf("%-42s differs in %ld of %d\n", names[k], wrong[k], N);
    look_at_edge();
    return 0;
}
