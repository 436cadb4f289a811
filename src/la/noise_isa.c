/* SPDX-License-Identifier: Apache-2.0 */
/* noise_isa.c: noise from counters (Philox4x32-10), and what is done with a slice of it.
 * Compiled once per instruction set.
 *
 * Every element is a pure function of its place and its number.  No branch, no table, no rejection.
 *
 * gaussian    Standard normal numbers by Box and Muller (1958).  Element e lies in block e / 64; there, lane e % 16 has
 *             its own counter, whose four words give the elements e % 64 / 16 = 0 .. 3:
 *
 *                 counter = 16 * block + lane      elements  lane   16+lane   32+lane   48+lane
 *                 words   = w0 w1 w2 w3                     r0 sin   r0 cos   r1 sin    r1 cos
 *
 *             Two words make two numbers and no bit is wasted: 31 bits of the first give the radius, its lowest bit the
 *             sign of the cosine, all 32 of the second the angle in [-pi/2, pi/2).  The largest possible |x| is 6.66
 *             (a normal number exceeds that once in 4e10 draws).
 *
 * rademacher  Bit e of the stream, 1 for -1 and 0 for +1: counter = e / 128, word e % 128 / 32, bit e % 32. */
#include "isa.h"

enum {
    LANES = 16,
    WORDS = 4,
    BITS = 128,                   /* of one call of Philox */
    SLICE = 16 * SOW_NOISE_BLOCK, /* elements on the stack */
    LINE = 64,                    /* bytes of a line of the cache */
};

/* The words of counters first .. first + 15: word[j][i] is word j of counter first + i. */
INLINE void draw(const sow_place *place, uint64_t first, uint32_t word[WORDS][LANES])
{
    UNROLL for (int i = 0; i < LANES; i += VL)
    {
        wide w[WORDS][2]; /* even and odd lanes */
        UNROLL for (int odd = 0; odd < 2; odd++)
        {
            w[0][odd] = wide_count(first + (uint64_t)(i + odd));
            w[1][odd] = wide_high(w[0][odd]);
            w[2][odd] = wide_set(place->stream[0]);
            w[3][odd] = wide_set(place->stream[1]);
        }
        uint32_t k0 = place->key[0], k1 = place->key[1];
        UNROLL for (int round = 0; round < 10; round++)
        {
            UNROLL for (int odd = 0; odd < 2; odd++)
            {
                wide p0 = wide_mul(w[0][odd], 0xD2511F53), p1 = wide_mul(w[2][odd], 0xCD9E8D57);
                w[0][odd] = wide_xor(wide_high(p1), w[1][odd], wide_set(k0));
                w[2][odd] = wide_xor(wide_high(p0), w[3][odd], wide_set(k1));
                w[1][odd] = p1;
                w[3][odd] = p0;
            }
            k0 += 0x9E3779B9, k1 += 0xBB67AE85;
        }
        UNROLL for (int j = 0; j < WORDS; j++) words_store(word[j] + i, words_join(w[j][0], w[j][1]));
    }
}

/* sqrt(-2 ln u) for u = (31 bits + 1/2) / 2^31.  ln by u = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), and
 * ln(1 + f) = f + f^2 q(f), q minimax, relative error 2e-7. */
INLINE float radius(uint32_t word)
{
    const uint32_t sqrt_half = 0x3f3504f3;
    float u = fused((float)(int32_t)(word >> 1), 0x1p-31f, 0x1p-32f);
    uint32_t above = to_bits(u) - sqrt_half;
    float e = (float)((int32_t)above >> 23), f = from_bits((above & 0x7fffff) + sqrt_half) - 1.0f;
    float q = -0x1.9cf96ep-4f;
    q = fused(q, f, 0x1.4b6076p-3f);
    q = fused(q, f, -0x1.61242ap-3f);
    q = fused(q, f, 0x1.97b166p-3f);
    q = fused(q, f, -0x1.ff6928p-3f);
    q = fused(q, f, 0x1.5558f4p-2f);
    q = fused(q, f, -0x1.00006cp-1f);
    float ln = fused(e, 0x1.62e430p-1f, fused(q, f * f, f));
    return __builtin_sqrtf(-2.0f * ln);
}

/* sin and cos of (pi/2) t, t in [-1, 1], by minimax polynomials in z = t^2; errors 5e-9 (relative), 5e-8 (absolute). */
INLINE float sin_half_pi(float t, float z)
{
    float s = 0x1.3daff2p-13f;
    s = fused(s, z, -0x1.324ccap-8f);
    s = fused(s, z, 0x1.4668b0p-4f);
    s = fused(s, z, -0x1.4abbc2p-1f);
    return t * fused(s, z, 0x1.921fb6p+0f);
}

INLINE float cos_half_pi(float z)
{
    float c = 0x1.c1f060p-11f;
    c = fused(c, z, -0x1.54f618p-6f);
    c = fused(c, z, 0x1.03bd06p-2f);
    c = fused(c, z, -0x1.3bd3a6p+0f);
    return fused(c, z, 0x1.fffffep-1f);
}

INLINE void normal_pair(uint32_t a, uint32_t b, float *first, float *second)
{
    float r = radius(a), t = (float)(int32_t)b * 0x1p-31f, z = t * t;
    *first = r * sin_half_pi(t, z);
    *second = from_bits(to_bits(r * cos_half_pi(z)) ^ (a << 31));
}

/* The last blocks of a slice reach behind what is needed, where nothing is read. */
INLINE void prefetch_block(const float *soon, int64_t block)
{
    const char *at = (const char *)(soon + block * SOW_NOISE_BLOCK);
    UNROLL for (size_t i = 0; i < SOW_NOISE_BLOCK * sizeof *soon; i += LINE) __builtin_prefetch(at + i, 0, 2);
}

static void gaussian(const sow_place *place, uint64_t first, int64_t n_blocks, const float *soon, float *out)
{
    uint32_t word[WORDS][LANES];
    for (int64_t block = 0; block < n_blocks; block++, out += SOW_NOISE_BLOCK) {
        prefetch_block(soon, block);
        draw(place, LANES * (first + (uint64_t)block), word);
        for (int64_t j = 0; j < WORDS; j += 2)
            for (int64_t i = 0; i < LANES; i++)
                normal_pair(word[j][i], word[j + 1][i], out + j * LANES + i, out + (j + 1) * LANES + i);
    }
}

/* 16 counters at a time, that is 32 blocks; the first of them may be needed from its upper half on. */
static void rademacher(const sow_place *place, uint64_t first, int64_t n_blocks, const float *soon, float *out)
{
    enum { BIT_WORDS = 32, PER_BLOCK = SOW_NOISE_BLOCK / BIT_WORDS, PER_DRAW = LANES * BITS / SOW_NOISE_BLOCK };
    uint32_t word[WORDS][LANES];
    for (uint64_t block = first, end = first + (uint64_t)n_blocks; block < end;) {
        const uint64_t counter = block * SOW_NOISE_BLOCK / BITS, base = counter * BITS / SOW_NOISE_BLOCK;
        draw(place, counter, word);
        for (; block < end && block < base + PER_DRAW; block++) {
            prefetch_block(soon, (int64_t)(block - first));
            for (uint64_t j = (block - base) * PER_BLOCK, last = j + PER_BLOCK; j < last; j++, out += BIT_WORDS) {
                const uint32_t bits = word[j % WORDS][j / WORDS];
                for (int i = 0; i < BIT_WORDS; i++)
                    out[i] = from_bits(0x3f800000 | (bits << (31 - i) & 0x80000000));
            }
        }
    }
}

static void (*const loops[SOW_N_NOISE_LOOPS])(const sow_place *, uint64_t, int64_t, const float *, float *) = {
    [SOW_NOISE_GAUSSIAN] = gaussian, [SOW_NOISE_RADEMACHER] = rademacher};

void ISA_FN(noise_blocks)(sow_noise_loop loop, const sow_place *place, uint64_t first, int64_t n_blocks,
                          const float *soon, float *out)
{
    loops[loop](place, first, n_blocks, soon, out);
}

void ISA_FN(noise)(sow_noise_loop loop, sow_place place, uint64_t first, int64_t n, float *out)
{
    float rest[SOW_NOISE_BLOCK];
    const int64_t n_blocks = n / SOW_NOISE_BLOCK, whole = n_blocks * SOW_NOISE_BLOCK;
    loops[loop](&place, first / SOW_NOISE_BLOCK, n_blocks, out, out);
    if (whole == n)
        return;
    loops[loop](&place, first / SOW_NOISE_BLOCK + (uint64_t)n_blocks, 1, rest, rest);
    memcpy(out + whole, rest, (size_t)(n - whole) * sizeof *out);
}

/* out[i] = factor * noise[i] + from[i], rounded once. */
INLINE void add_noise(sow_noise_loop loop, const sow_place *place, uint64_t first, int64_t n, float factor,
                      const float *from, float *out)
{
    float noise[SLICE];
    for (int64_t i = 0; i < n; i += SLICE) {
        const int64_t count = n - i < SLICE ? n - i : SLICE;
        const int64_t n_blocks = (count + SOW_NOISE_BLOCK - 1) / SOW_NOISE_BLOCK;
        loops[loop](place, (first + (uint64_t)i) / SOW_NOISE_BLOCK, n_blocks, from + i, noise);
        for (int64_t j = 0; j < count; j++)
            out[i + j] = fused(factor, noise[j], from[i + j]);
    }
}

void ISA_FN(accumulate)(const sow_accumulate_args *a)
{
    add_noise(a->loop, &a->place, a->first, a->n, a->c, a->acc, a->acc);
}

void ISA_FN(perturb_f32)(sow_noise_loop loop, sow_place place, int64_t n, float factor, const float *theta, float *out)
{
    if (factor != 0.0f)
        add_noise(loop, &place, 0, n, factor, theta, out);
    else
        memmove(out, theta, (size_t)n * sizeof *out);
}
