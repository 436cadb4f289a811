/* SPDX-License-Identifier: Apache-2.0 */
/* From stored numbers to float32, in the formulas of ggml's reference (ggml-quants.c), operation for operation in
 * float32: a product and a sum are rounded each, as there.
 *
 *     Q4_0   d, 16 x 2 nibbles              w = d (q - 8)          low nibbles are elements 0..15, high ones 16..31
 *     Q4_1   d, m, 16 x 2 nibbles           w = d q + m
 *     Q5_0   d, 32 fifth bits, nibbles      w = d (q - 16)
 *     Q5_1   d, m, 32 fifth bits, nibbles   w = d q + m
 *     Q8_0   d, 32 signed bytes             w = q d
 *     Q4_K   d, dmin, 8 x (scale, min) of 6 bits in 12 bytes, 128 bytes of nibbles     w = (d s) q - (dmin m), per 32
 *     Q5_K   the same with 32 bytes of fifth bits in front of the nibbles
 *     Q6_K   128 low nibbles, 64 bytes of upper pairs, 16 signed scales, d             w = (d s) (q - 32), per 16
 *
 * d, m and dmin are halves.  Bytes are put together one by one: no alignment and no byte order is assumed. */
#include "files_impl.h"

#include <string.h>

static uint16_t read_u16(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t read_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float sow_bfloat_to_float(uint16_t bfloat)
{
    return float_of((uint32_t)bfloat << 16);
}

/* A half is s eeeee mmmmmmmmmm.  Shifted into place its exponent is too small by 112; a subnormal half (no exponent)
 * is its mantissa times 2^-24, exactly. */
float sow_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 0) {
        float tiny = (float)mantissa * 0x1p-24f;
        return sign != 0 ? -tiny : tiny;
    }
    uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return float_of(sign | wide << 23 | mantissa << 13);
}

static float read_half(const unsigned char *p)
{
    return sow_half_to_float(read_u16(p));
}

static void widen_f32(const unsigned char *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = float_of(read_u32(in + 4 * i));
}

static void widen_f16(const unsigned char *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = read_half(in + 2 * i);
}

static void widen_bf16(const unsigned char *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = sow_bfloat_to_float(read_u16(in + 2 * i));
}

static void widen_q4_0(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 32, in += 18, out += 32) {
        float d = read_half(in);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((in[2 + i] & 15) - 8);
            out[16 + i] = d * (float)((in[2 + i] >> 4) - 8);
        }
    }
}

static void widen_q4_1(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 32, in += 20, out += 32) {
        float d = read_half(in), m = read_half(in + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(in[4 + i] & 15) + m;
            out[16 + i] = d * (float)(in[4 + i] >> 4) + m;
        }
    }
}

/* Element i of 32: its nibble and its fifth bit. */
static int five_bits(const unsigned char *nibbles, uint32_t fifth, int i)
{
    int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    return low | (int)(fifth >> i & 1) << 4;
}

static void widen_q5_0(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 32, in += 22, out += 32) {
        float d = read_half(in);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(five_bits(in + 6, read_u32(in + 2), i) - 16);
    }
}

static void widen_q5_1(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 32, in += 24, out += 32) {
        float d = read_half(in), m = read_half(in + 2);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)five_bits(in + 8, read_u32(in + 4), i) + m;
    }
}

static void widen_q8_0(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 32, in += 34, out += 32) {
        float d = read_half(in);
        for (int i = 0; i < 32; i++)
            out[i] = (float)(int8_t)in[2 + i] * d;
    }
}

/* Scale and minimum of group j (0..7): 6 bits each, the upper two of groups 4..7 in the upper two of bytes 0..7. */
static void group_scales(const unsigned char *packed, int j, int *scale, int *minimum)
{
    if (j < 4) {
        *scale = packed[j] & 63;
        *minimum = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
        *minimum = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
    }
}

/* Q4_K and Q5_K: groups 2j and 2j+1 are the low and high nibbles of 32 bytes; fifth (NULL: none) has bit j of byte i
 * for element i of group j. */
static void widen_groups(const unsigned char *in, const unsigned char *fifth, const unsigned char *nibbles, float *out)
{
    float d = read_half(in), dmin = read_half(in + 2);
    for (int j = 0; j < 8; j++) {
        int scale, minimum;
        group_scales(in + 4, j, &scale, &minimum);
        float d_group = d * (float)scale, m_group = dmin * (float)minimum;
        for (int i = 0; i < 32; i++) {
            int q = nibbles[32 * (j / 2) + i] >> 4 * (j % 2) & 15;
            if (fifth != NULL)
                q |= (fifth[i] >> j & 1) << 4;
            out[32 * j + i] = d_group * (float)q - m_group;
        }
    }
}

static void widen_q4_k(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 256, in += 144, out += 256)
        widen_groups(in, NULL, in + 16, out);
}

static void widen_q5_k(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 256, in += 176, out += 256)
        widen_groups(in, in + 16, in + 48, out);
}

/* Two halves of 128 elements; in each, quarter r (32 elements) takes nibble r / 2 of low bytes 32 (r % 2) + i and pair
 * r of upper byte i. */
static void widen_q6_k(const unsigned char *in, int64_t n, float *out)
{
    for (; n > 0; n -= 256, in += 210, out += 256) {
        const unsigned char *scales = in + 192;
        float d = read_half(in + 208);
        for (int e = 0; e < 256; e++) {
            int half = e / 128, r = e / 32 % 4, i = e % 32;
            int low = in[64 * half + 32 * (r % 2) + i] >> 4 * (r / 2) & 15;
            int upper = in[128 + 32 * half + i] >> 2 * r & 3;
            out[e] = d * (float)(int8_t)scales[e / 16] * (float)((low | upper << 4) - 32);
        }
    }
}

static const sow_storage storages[] = {
#define STORAGE(id, name, block, bytes, widen) {#name, id, block, bytes, widen},
#include "gguf_types.def"
#undef STORAGE
};

static const size_t n_storages = sizeof storages / sizeof storages[0];

const sow_storage *sow_storage_find(const char *name)
{
    for (size_t i = 0; i < n_storages; i++)
        if (strcmp(storages[i].name, name) == 0)
            return &storages[i];
    return NULL;
}

const sow_storage *sow_storage_of_id(uint32_t id)
{
    for (size_t i = 0; i < n_storages; i++)
        if (storages[i].id == id)
            return &storages[i];
    return NULL;
}
