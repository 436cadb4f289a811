/* SPDX-License-Identifier: Apache-2.0 */
/* vec.h: one vector of VL lanes of 32 bits.  The only file that knows an instruction set.
 *
 * A few operations are all the kernels need.  They are intrinsics and not compiler vectors because some of them have no
 * portable spelling that gcc 12 and clang 14 both turn into one instruction: a guaranteed fused multiply-add of a
 * vector, fp16 <-> float32, the product of 32-bit numbers in 64 bits.  Every variant gives the same bits; the plain one
 * (SOW_PLAIN, or an instruction set that is not here) is what the others are tested against.
 *
 *     vec    VL floats                    words  VL unsigned numbers of 32 bits, or pairs of bf16: low and high half
 *     wide   VL/2 numbers of 64 bits, of which the low halves count: a counter or word of Philox (sower/philox.h) */
#ifndef SOWER_LA_VEC_H
#define SOWER_LA_VEC_H

#include "scalar.h"

/* UNROLL: every turn of the loop in line.  INDEPENDENT: no turn reads what another wrote, pointers do not overlap. */
#if defined(__clang__)
#define UNROLL      _Pragma("clang loop unroll(full)")
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define UNROLL      _Pragma("GCC unroll 32")
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#if defined(SOW_PLAIN)
#define VEC_PLAIN 1
#elif defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define VEC_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define VEC_AVX2 1
#elif defined(__aarch64__)
#define VEC_NEON 1
#else
#define VEC_PLAIN 1
#endif

/* vec_dot(c, a, b): pairs of bf16 multiplied and added to c, the high halves first: c' = fma(a_high, b_high, c), then
 * fma(a_low, b_low, c'), each rounded to nearest even, with subnormal arguments and results taken for zeros of their
 * sign.  That is what vdpbf16ps does (Intel SDM, VDPBF16PS; docs/decisions/0014).  Without it the modes of MXCSR do the
 * same to ordinary multiply-adds, between flush_begin and flush_end, which no operation may be moved across: call what
 * is between as a function that is not inlined.  DOT_ROWS: rows of a tile by two vectors that fit the registers. */
#if defined(VEC_AVX512) && defined(__AVX512BF16__)
enum { DOT_ROWS = 14 };
#elif defined(VEC_AVX512)
enum { DOT_ROWS = 12 };
#elif defined(VEC_AVX2) || defined(VEC_NEON)
enum { DOT_ROWS = 4 };
#else
enum { DOT_ROWS = 1 };
#endif

/* Vector registers that a tile may fill.  NEON has 32, but no memory operands: gcc 12 keeps several x at once, and with
 * 22 or more sums it spills some. */
#if defined(VEC_AVX512)
enum { VL = 16, REGISTERS = 32 };
#elif defined(VEC_AVX2)
enum { VL = 8, REGISTERS = 16 };
#elif defined(VEC_NEON)
enum { VL = 4, REGISTERS = 24 };
#else
enum { VL = 4, REGISTERS = 6 }; /* one row a tile: an emulated fma is long, compilers take minutes to unroll more */
#endif

#if defined(VEC_AVX512)
#include <immintrin.h>
typedef __m512 vec;
typedef __m512i words;
typedef __m512i wide;

INLINE vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void vec_store(float *p, vec a)
{
    _mm512_storeu_ps(p, a);
}
/* The first n < VL lanes; the others are 0, and nothing of them is read or written. */
INLINE vec vec_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void vec_store_n(float *p, int n, vec a)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
INLINE vec vec_load_fp16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
/* The low and the high halves of VL words, as bf16. */
INLINE vec vec_bf16_low(words a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
}
INLINE vec vec_bf16_high(words a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000)));
}
INLINE void vec_store_fp16(uint16_t *p, vec a)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Words of two fp16: low halves from `low`, high halves from `high`. */
INLINE words words_of_fp16(vec low, vec high)
{
    __m512i l = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    __m512i h = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}
/* Words of two bf16: low halves from `low`, high halves from `high`; and of 2 VL neighbours.  Subnormal numbers are
 * taken for zero before they are rounded: the largest would become normal ones.  A NaN stays one. */
#if defined(__AVX512BF16__)
INLINE words words_of_bf16_row(vec first, vec second)
{
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}
INLINE words words_of_bf16(vec low, vec high)
{
    const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(turns, words_of_bf16_row(low, high));
}
INLINE vec vec_dot(vec c, words a, words b)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
#else
INLINE __m512i bf16_bits(vec a)
{
    __m512i u = _mm512_castps_si512(a), last = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
    __mmask16 is_tiny = _mm512_testn_epi32_mask(u, _mm512_set1_epi32(0x7f800000));
    rounded = _mm512_mask_and_epi32(rounded, is_tiny, u, _mm512_set1_epi32((int)0x80000000));
    return _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
}
INLINE words words_of_bf16_row(vec first, vec second)
{
    __m256i a = _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits(first), 16));
    __m256i b = _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits(second), 16));
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}
INLINE words words_of_bf16(vec low, vec high)
{
    __m512i h = _mm512_and_si512(bf16_bits(high), _mm512_set1_epi32((int)0xffff0000));
    return _mm512_or_si512(_mm512_srli_epi32(bf16_bits(low), 16), h);
}
INLINE vec vec_dot(vec c, words a, words b)
{
    return vec_fma(vec_bf16_low(a), vec_bf16_low(b), vec_fma(vec_bf16_high(a), vec_bf16_high(b), c));
}
#endif
INLINE words words_set(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}
INLINE words words_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
INLINE void words_store(void *p, words a)
{
    _mm512_storeu_si512(p, a);
}
/* Rows become columns: within groups of 4 lanes (two steps of unpacking), then the groups themselves. */
INLINE void words_transpose(words r[VL])
{
    __m512i t[VL];
    UNROLL for (int i = 0; i < VL; i += 4)
    {
        __m512i a = _mm512_unpacklo_epi32(r[i], r[i + 1]), b = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        __m512i c = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm512_unpacklo_epi64(a, c);
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        __m512i a = _mm512_shuffle_i32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_i32x4(t[i], t[i + 4], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0x88),
                d = _mm512_shuffle_i32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}
INLINE wide wide_set(uint64_t x)
{
    return _mm512_set1_epi64((long long)x);
}
/* first, first + 2, first + 4, ... */
INLINE wide wide_count(uint64_t first)
{
    return _mm512_add_epi64(wide_set(first), _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14));
}
INLINE wide wide_mul(wide a, uint32_t b)
{
    return _mm512_mul_epu32(a, wide_set(b));
}
INLINE wide wide_high(wide a)
{
    return _mm512_srli_epi64(a, 32);
}
INLINE wide wide_xor(wide a, wide b, wide c)
{
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}
/* The low halves of `even` and `odd`, by turns. */
INLINE words words_join(wide even, wide odd)
{
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

#elif defined(VEC_AVX2)
#include <immintrin.h>
typedef __m256 vec;
typedef __m256i words;
typedef __m256i wide;

INLINE vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}
INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE void vec_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}
INLINE __m256i first_lanes(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vec vec_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
}
INLINE void vec_store_n(float *p, int n, vec a)
{
    _mm256_maskstore_ps(p, first_lanes(n), a);
}
INLINE vec vec_load_fp16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}
INLINE vec vec_bf16_low(words a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16));
}
INLINE vec vec_bf16_high(words a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32((int)0xffff0000)));
}
INLINE void vec_store_fp16(uint16_t *p, vec a)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
INLINE words words_of_fp16(vec low, vec high)
{
    __m256i l = _mm256_cvtepu16_epi32(_mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
    __m256i h = _mm256_cvtepu16_epi32(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
    return _mm256_or_si256(l, _mm256_slli_epi32(h, 16));
}
INLINE __m256i bf16_bits(vec a)
{
    __m256i u = _mm256_castps_si256(a), last = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
    __m256i exponent = _mm256_and_si256(u, _mm256_set1_epi32(0x7f800000));
    __m256i is_tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_and_si256(u, _mm256_set1_epi32((int)0x80000000)), is_tiny);
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), is_nan);
}
INLINE words words_of_bf16(vec low, vec high)
{
    __m256i h = _mm256_and_si256(bf16_bits(high), _mm256_set1_epi32((int)0xffff0000));
    return _mm256_or_si256(_mm256_srli_epi32(bf16_bits(low), 16), h);
}
INLINE words words_set(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}
INLINE vec vec_dot(vec c, words a, words b)
{
    return vec_fma(vec_bf16_low(a), vec_bf16_low(b), vec_fma(vec_bf16_high(a), vec_bf16_high(b), c));
}
INLINE words words_of_bf16_row(vec first, vec second)
{
    __m256i a = _mm256_srli_epi32(bf16_bits(first), 16), b = _mm256_srli_epi32(bf16_bits(second), 16);
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8); /* packs by halves of 128 bits */
}
INLINE words words_load(const void *p)
{
    return _mm256_loadu_si256(p);
}
INLINE void words_store(void *p, words a)
{
    _mm256_storeu_si256(p, a);
}
INLINE void words_transpose(words r[VL])
{
    __m256i t[VL];
    UNROLL for (int i = 0; i < VL; i += 4)
    {
        __m256i a = _mm256_unpacklo_epi32(r[i], r[i + 1]), b = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        __m256i c = _mm256_unpacklo_epi32(r[i + 2], r[i + 3]), d = _mm256_unpackhi_epi32(r[i + 2], r[i + 3]);
        t[i] = _mm256_unpacklo_epi64(a, c);
        t[i + 1] = _mm256_unpackhi_epi64(a, c);
        t[i + 2] = _mm256_unpacklo_epi64(b, d);
        t[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        r[i] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(t[i], t[i + 4], 0x31);
    }
}
INLINE wide wide_set(uint64_t x)
{
    return _mm256_set1_epi64x((long long)x);
}
INLINE wide wide_count(uint64_t first)
{
    return _mm256_add_epi64(wide_set(first), _mm256_setr_epi64x(0, 2, 4, 6));
}
INLINE wide wide_mul(wide a, uint32_t b)
{
    return _mm256_mul_epu32(a, wide_set(b));
}
INLINE wide wide_high(wide a)
{
    return _mm256_srli_epi64(a, 32);
}
INLINE wide wide_xor(wide a, wide b, wide c)
{
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
INLINE words words_join(wide even, wide odd)
{
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

#elif defined(VEC_NEON)
#include <arm_neon.h>
typedef float32x4_t vec;
typedef uint32x4_t words;
typedef uint64x2_t wide;

INLINE vec vec_set(float x)
{
    return vdupq_n_f32(x);
}
INLINE vec vec_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}
INLINE vec vec_add(vec a, vec b)
{
    return vaddq_f32(a, b);
}
INLINE vec vec_load(const float *p)
{
    return vld1q_f32(p);
}
INLINE void vec_store(float *p, vec a)
{
    vst1q_f32(p, a);
}
INLINE vec vec_load_n(const float *p, int n)
{
    float lane[4] = {0};
    memcpy(lane, p, (size_t)n * sizeof *p);
    return vld1q_f32(lane);
}
INLINE void vec_store_n(float *p, int n, vec a)
{
    float lane[4];
    vst1q_f32(lane, a);
    memcpy(p, lane, (size_t)n * sizeof *p);
}
INLINE vec vec_load_fp16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
INLINE vec vec_bf16_low(words a)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(a, 16));
}
INLINE vec vec_bf16_high(words a)
{
    return vreinterpretq_f32_u32(vandq_u32(a, vdupq_n_u32(0xffff0000)));
}
INLINE void vec_store_fp16(uint16_t *p, vec a)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a)));
}
INLINE words words_of_fp16(vec low, vec high)
{
    uint32x4_t l = vmovl_u16(vreinterpret_u16_f16(vcvt_f16_f32(low)));
    uint32x4_t h = vshll_n_u16(vreinterpret_u16_f16(vcvt_f16_f32(high)), 16);
    return vorrq_u32(l, h);
}
INLINE uint32x4_t bf16_bits(vec a)
{
    uint32x4_t u = vreinterpretq_u32_f32(a), last = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    uint32x4_t rounded = vaddq_u32(u, vaddq_u32(last, vdupq_n_u32(0x7fff)));
    rounded = vbslq_u32(vtstq_u32(u, vdupq_n_u32(0x7f800000)), rounded, vandq_u32(u, vdupq_n_u32(0x80000000)));
    return vbslq_u32(vceqq_f32(a, a), rounded, vdupq_n_u32(0x7fc00000));
}
INLINE words words_of_bf16(vec low, vec high)
{
    return vorrq_u32(vshrq_n_u32(bf16_bits(low), 16), vandq_u32(bf16_bits(high), vdupq_n_u32(0xffff0000)));
}
INLINE words words_set(uint32_t x)
{
    return vdupq_n_u32(x);
}
/* FPCR's flushing mode looks at results before they are rounded, so it is of no use here. */
INLINE vec vec_dot(vec c, words a, words b)
{
    float sum[4];
    uint32_t x[4], y[4];
    vst1q_f32(sum, c);
    vst1q_u32(x, a);
    vst1q_u32(y, b);
    for (int i = 0; i < 4; i++)
        sum[i] = dot_bf16(sum[i], x[i], y[i]);
    return vld1q_f32(sum);
}
INLINE words words_of_bf16_row(vec first, vec second)
{
    uint16x4_t a = vshrn_n_u32(bf16_bits(first), 16), b = vshrn_n_u32(bf16_bits(second), 16);
    return vreinterpretq_u32_u16(vcombine_u16(a, b));
}
INLINE words words_load(const void *p)
{
    return vld1q_u32(p);
}
INLINE void words_store(void *p, words a)
{
    vst1q_u32(p, a);
}
INLINE void words_transpose(words r[VL])
{
    uint32x4x2_t a = vtrnq_u32(r[0], r[1]), b = vtrnq_u32(r[2], r[3]);
    r[0] = vcombine_u32(vget_low_u32(a.val[0]), vget_low_u32(b.val[0]));
    r[1] = vcombine_u32(vget_low_u32(a.val[1]), vget_low_u32(b.val[1]));
    r[2] = vcombine_u32(vget_high_u32(a.val[0]), vget_high_u32(b.val[0]));
    r[3] = vcombine_u32(vget_high_u32(a.val[1]), vget_high_u32(b.val[1]));
}
INLINE wide wide_set(uint64_t x)
{
    return vdupq_n_u64(x);
}
INLINE wide wide_count(uint64_t first)
{
    return vcombine_u64(vcreate_u64(first), vcreate_u64(first + 2));
}
INLINE wide wide_mul(wide a, uint32_t b)
{
    return vmull_u32(vmovn_u64(a), vdup_n_u32(b));
}
INLINE wide wide_high(wide a)
{
    return vshrq_n_u64(a, 32);
}
INLINE wide wide_xor(wide a, wide b, wide c)
{
    return veorq_u64(veorq_u64(a, b), c);
}
INLINE words words_join(wide even, wide odd)
{
    return vtrn1q_u32(vreinterpretq_u32_u64(even), vreinterpretq_u32_u64(odd));
}

#else /* the plain twin: any CPU, any compiler */
typedef struct vec {
    float lane[VL];
} vec;
typedef struct words {
    uint32_t lane[VL];
} words;
typedef struct wide {
    uint64_t lane[VL / 2];
} wide;

/* clang-format off */
#define EACH_LANE(type, n, value) type r; for (int i = 0; i < (n); i++) r.lane[i] = (value); return r
INLINE vec vec_set(float x) { EACH_LANE(vec, VL, x); }
INLINE vec vec_fma(vec a, vec b, vec c) { EACH_LANE(vec, VL, fused(a.lane[i], b.lane[i], c.lane[i])); }
INLINE vec vec_add(vec a, vec b) { EACH_LANE(vec, VL, a.lane[i] + b.lane[i]); }
INLINE vec vec_load(const float *p) { EACH_LANE(vec, VL, p[i]); }
INLINE void vec_store(float *p, vec a) { memcpy(p, &a, sizeof a); }
INLINE vec vec_load_n(const float *p, int n) { EACH_LANE(vec, VL, i < n ? p[i] : 0.0f); }
INLINE void vec_store_n(float *p, int n, vec a) { memcpy(p, &a, (size_t)n * sizeof *p); }
INLINE vec vec_load_fp16(const uint16_t *p) { EACH_LANE(vec, VL, from_fp16(p[i])); }
INLINE vec vec_bf16_low(words a) { EACH_LANE(vec, VL, from_bits(a.lane[i] << 16)); }
INLINE vec vec_bf16_high(words a) { EACH_LANE(vec, VL, from_bits(a.lane[i] & 0xffff0000)); }
INLINE void vec_store_fp16(uint16_t *p, vec a) { for (int i = 0; i < VL; i++) p[i] = to_fp16(a.lane[i]); }
INLINE uint32_t pair_fp16(float low, float high) { return to_fp16(low) | (uint32_t)to_fp16(high) << 16; }
INLINE words words_of_fp16(vec low, vec high) { EACH_LANE(words, VL, pair_fp16(low.lane[i], high.lane[i])); }
INLINE uint32_t half_bf16(float x) { return to_bf16(flushed(x)); }
INLINE uint32_t pair_bf16(float low, float high) { return half_bf16(low) | half_bf16(high) << 16; }
INLINE words words_of_bf16(vec low, vec high) { EACH_LANE(words, VL, pair_bf16(low.lane[i], high.lane[i])); }
INLINE words words_set(uint32_t x) { EACH_LANE(words, VL, x); }
INLINE vec vec_dot(vec c, words a, words b) { EACH_LANE(vec, VL, dot_bf16(c.lane[i], a.lane[i], b.lane[i])); }
INLINE float either(vec a, vec b, int i) { return i < VL ? a.lane[i] : b.lane[i - VL]; }
INLINE uint32_t pair_at(vec a, vec b, int i) { return pair_bf16(either(a, b, i), either(a, b, i + 1)); }
INLINE words words_of_bf16_row(vec a, vec b) { EACH_LANE(words, VL, pair_at(a, b, 2 * i)); }
INLINE words words_load(const void *p) { words r; memcpy(&r, p, sizeof r); return r; }
INLINE void words_store(void *p, words a) { memcpy(p, &a, sizeof a); }
INLINE wide wide_set(uint64_t x) { EACH_LANE(wide, VL / 2, x); }
INLINE wide wide_count(uint64_t first) { EACH_LANE(wide, VL / 2, first + 2 * (uint64_t)i); }
INLINE wide wide_mul(wide a, uint32_t b) { EACH_LANE(wide, VL / 2, (a.lane[i] & 0xffffffff) * b); }
INLINE wide wide_high(wide a) { EACH_LANE(wide, VL / 2, a.lane[i] >> 32); }
INLINE wide wide_xor(wide a, wide b, wide c) { EACH_LANE(wide, VL / 2, a.lane[i] ^ b.lane[i] ^ c.lane[i]); }
INLINE words words_join(wide even, wide odd) { EACH_LANE(words, VL, (uint32_t)(i % 2 ? odd : even).lane[i / 2]); }
#undef EACH_LANE
INLINE void words_transpose(words r[VL])
{
    words t[VL];
    memcpy(t, r, sizeof t);
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < VL; j++)
            r[i].lane[j] = t[j].lane[i];
}
/* clang-format on */
#endif

#if (defined(VEC_AVX512) && !defined(__AVX512BF16__)) || defined(VEC_AVX2)
INLINE unsigned flush_begin(void)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
    return mode;
}
INLINE void flush_end(unsigned mode)
{
    _mm_setcsr(mode);
}
#else
INLINE unsigned flush_begin(void)
{
    return 0;
}
INLINE void flush_end(unsigned mode)
{
    (void)mode;
}
#endif

#endif
