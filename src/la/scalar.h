/* SPDX-License-Identifier: Apache-2.0 */
/* scalar.h: the scalar functions that promise bits: fused multiply-add, 16-bit formats, exp and log.
 *
 * Written so that a loop which calls them vectorises under -O3 (no branch, no call, no table).  Rounding is IEEE
 * nearest-even; subnormals count: do not flush them.  NaN in gives NaN out, but its payload and sign are not promised.
 */
#ifndef SOWER_LA_SCALAR_H
#define SOWER_LA_SCALAR_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

INLINE float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* a*b + c rounded once.  Without the instruction, fmaf() is a library call and does not vectorise; this does.
 * The product of two floats is exact in double.  The sum is rounded to odd (Boldo and Melquiond 2008): its error e
 * (two-sum, exact) says whether it was inexact, and if so the last bit is made 1 towards the true value; then the
 * rounding to float is the only one that counts, for subnormal results too. */
INLINE float fused(float a, float b, float c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    double p = (double)a * (double)b, d = (double)c, s = p + d;
    double t = s - p, e = (p - (s - t)) + (d - t);
    int64_t bits;
    memcpy(&bits, &s, sizeof bits);
    int64_t inexact = (e < 0.0) | (e > 0.0); /* no if infinite or NaN */
    int64_t step = (e > 0.0) == (s > 0.0) ? 1 : -1;
    bits += step * (inexact & ~bits);
    memcpy(&s, &bits, sizeof s);
    return (float)s;
#endif
}

INLINE float from_bf16(uint16_t h)
{
    return from_bits((uint32_t)h << 16);
}

/* A zero of its sign for what is subnormal. */
INLINE float flushed(float x)
{
    return from_bits((to_bits(x) & 0x7f800000) == 0 ? to_bits(x) & 0x80000000 : to_bits(x));
}

/* fused() in a mode that takes subnormal arguments for zero and makes such results zero.  A result counts as subnormal
 * if it is one after it was rounded to 24 bits whatever its exponent, as x86 does it: if the sum is smaller than
 * 2^-126 - 2^-151.  The sum in double and its error e (two-sum, exact) say so. */
INLINE float fused_flushed(float a, float b, float c)
{
    const double limit = 0x1p-126 - 0x1p-151;
    a = flushed(a), b = flushed(b), c = flushed(c);
    const float r = fused(a, b, c);
    double p = (double)a * (double)b, d = (double)c, s = p + d;
    double t = s - p, e = (p - (s - t)) + (d - t), size = __builtin_fabs(s);
    double size_error = s < 0.0 ? -e : e;
    uint32_t is_tiny = (size < limit) | ((size == limit) & (size_error < 0.0));
    return from_bits(is_tiny ? to_bits(r) & 0x80000000 : to_bits(r));
}

/* One lane of vec_dot (vec.h). */
INLINE float dot_bf16(float c, uint32_t a, uint32_t b)
{
    c = fused_flushed(from_bits(a & 0xffff0000), from_bits(b & 0xffff0000), c);
    return fused_flushed(from_bits(a << 16), from_bits(b << 16), c);
}

/* Exact for every fp16, subnormals included: 2^112 is the difference of the exponent biases. */
INLINE float from_fp16(uint16_t h)
{
    float magnitude = from_bits((uint32_t)(h & 0x7fff) << 13) * 0x1p112f;
    uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0; /* infinity, NaN */
    return from_bits(to_bits(magnitude) | special | (uint32_t)(h & 0x8000) << 16);
}

/* Nearest even: half of the last kept bit is added, one less if that bit is 0; a carry into the exponent is right, up
 * to infinity. */
INLINE uint16_t to_bf16(float f)
{
    uint32_t u = to_bits(f), rounded = u + 0x7fff + (u >> 16 & 1);
    uint32_t is_nan = (u & 0x7fffffff) > 0x7f800000;
    return (uint16_t)(is_nan ? u >> 16 | 0x40 : rounded >> 16);
}

/* Normal results as for bf16, with the exponent moved by 112.  For the subnormal ones the adder rounds: the last bit of
 * 0.5 + |f| is worth 2^-24, the smallest fp16. */
INLINE uint16_t to_fp16(float f)
{
    uint32_t u = to_bits(f) & 0x7fffffff, sign = to_bits(f) >> 16 & 0x8000;
    uint32_t normal = (u + 0xfff + (u >> 13 & 1) - (112u << 23)) >> 13;
    uint32_t subnormal = to_bits(from_bits(u) + 0.5f) - 0x3f000000;
    uint32_t h = u < 0x38800000 ? subnormal : normal; /* below 2^-14 */
    h = u >= 0x477ff000 ? 0x7c00 : h;                 /* from 65520 on */
    h = u > 0x7f800000 ? 0x7e00 : h;
    return (uint16_t)(h | sign);
}

/* e^x, at most 1.02 ulp off (tests/unit/test_kernels_rows.c measures it).  x = n ln2 + r with |r| <= ln2/2; e^r is a
 * minimax polynomial of degree 6; 2^n is applied in two halves, so that subnormal results round once and large ones
 * become infinity.  Adding 1.5*2^23 rounds to an integer and leaves it in the low bits: no rint, no conversion. */
INLINE float exp_f32(float x)
{
    const float magic = 0x1.8p23f;
    x = x < -105.0f ? -105.0f : x;
    x = x > 90.0f ? 90.0f : x;
    float shifted = fused(x, 0x1.715476p+0f, magic);
    float n = shifted - magic;
    float r = fused(n, -0x1.62e400p-1f, x); /* ln2 in two parts; n times the first is exact */
    r = fused(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6b6e1ap-10f;
    p = fused(p, r, 0x1.122fc2p-7f);
    p = fused(p, r, 0x1.555688p-5f);
    p = fused(p, r, 0x1.5554a4p-3f);
    p = fused(p, r, 0.5f);
    float e = 1.0f + fused(p, r * r, r);
    uint32_t i = to_bits(shifted) - to_bits(magic);
    uint32_t half = (uint32_t)((int32_t)i >> 1);
    return e * from_bits((half + 127) << 23) * from_bits((i - half + 127) << 23);
}

/* ln x, at most 1 ulp off.  x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); ln(1 + f) = f - f^2/2 + f^3 p(f), p of
 * degree 8 (Moshier, Cephes logf); e ln2 in two parts, e times the first is exact.  Subnormal x is scaled by 2^23
 * first. */
INLINE float log_f32(float x)
{
    const uint32_t sqrt_half = 0x3f3504f3;
    const float is_tiny = x < 0x1p-126f ? 1.0f : 0.0f;
    uint32_t above = to_bits(x < 0x1p-126f ? x * 0x1p23f : x) - sqrt_half;
    float e = (float)((int32_t)above >> 23) - 23.0f * is_tiny;
    float f = from_bits((above & 0x7fffff) + sqrt_half) - 1.0f, z = f * f;
    float p = 7.0376836292e-2f;
    p = fused(p, f, -1.1514610310e-1f);
    p = fused(p, f, 1.1676998740e-1f);
    p = fused(p, f, -1.2420140846e-1f);
    p = fused(p, f, 1.4249322787e-1f);
    p = fused(p, f, -1.6668057665e-1f);
    p = fused(p, f, 2.0000714765e-1f);
    p = fused(p, f, -2.4999993993e-1f);
    p = fused(p, f, 3.3333331174e-1f);
    float low = fused(e, -2.12194440e-4f, fused(p, f * z, -0.5f * z));
    float ln = fused(e, 0.693359375f, f + low);
    ln = x > 0x1.fffffep127f ? x : ln;             /* infinity */
    ln = x == 0.0f ? -__builtin_inff() : ln;       /* either zero */
    return x >= 0.0f ? ln : from_bits(0x7fc00000); /* negative, NaN */
}

/* The fixed tree of a row sum: lane i takes lane i + 8, then i + 4, i + 2, i + 1.  `lane` is used up. */
INLINE float tree_sum(float lane[16])
{
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

#endif
