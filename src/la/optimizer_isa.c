/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer_isa.c: one step of AdamW, and sums of gradients in fixed point.  Compiled once per instruction set. */
#include "isa.h"

/* ---- AdamW ---- */

/* Each line as in the header, every operation rounded. */
INLINE void step(const sow_adamw_args *a, sow_anchor anchor)
{
    const float *gradient = a->gradient, *theta = a->theta, *base = a->base, *m_in = a->m, *v_in = a->v;
    float *theta_out = a->theta_out, *m_out = a->m_out, *v_out = a->v_out;
    const float clip = a->clip, keep = a->keep, one_minus_beta1 = a->one_minus_beta1, beta2 = a->beta2;
    const float one_minus_beta2 = a->one_minus_beta2, eps = a->eps, step_size = a->step_size;
    const float root_correction = a->root_correction, decay = a->anchor_decay, anchor_keep = 1.0f - decay;
    const int64_t n = a->n;
    INDEPENDENT for (int64_t i = 0; i < n; i++)
    {
        const float g = gradient[i] * clip, w = theta[i] * keep;
        const float m = m_in[i] + (g - m_in[i]) * one_minus_beta1;
        const float v = v_in[i] * beta2 + (g * g) * one_minus_beta2;
        float next = w - step_size * (m / (__builtin_sqrtf(v) / root_correction + eps));
        if (anchor == SOW_ANCHOR_L2) {
            next = base[i] + anchor_keep * (next - base[i]);
        } else if (anchor == SOW_ANCHOR_L1) {
            const float delta = next - base[i], size = __builtin_fabsf(delta) - decay;
            next = base[i] + __builtin_copysignf(size > 0.0f ? size : 0.0f, delta);
        }
        m_out[i] = m;
        v_out[i] = v;
        theta_out[i] = next;
    }
}

void ISA_FN(adamw)(const sow_adamw_args *a)
{
    if (a->anchor == SOW_ANCHOR_L2)
        step(a, SOW_ANCHOR_L2);
    else if (a->anchor == SOW_ANCHOR_L1)
        step(a, SOW_ANCHOR_L1);
    else
        step(a, SOW_ANCHOR_NONE);
}

/* ---- fixed point ---- */

INLINE int64_t bits_of_double(double d)
{
    int64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits;
}

/* The nearest integer, ties to even, of |d| < 2^63 with at most 24 significant bits, without a conversion to 64-bit
 * integers, which AVX2 has not.  Adding 1.5 * 2^84 rounds to a multiple of 2^32 and leaves that multiple in the low
 * bits; what is left is at most 2^31, exact, and rounded by adding 1.5 * 2^52 in the same way. */
INLINE uint64_t nearest_integer(double d)
{
    const double magic_high = 0x1.8p84, magic_low = 0x1.8p52;
    const double shifted = d + magic_high, rest = d - (shifted - magic_high);
    const uint64_t high = (uint64_t)bits_of_double(shifted) - (uint64_t)bits_of_double(magic_high);
    const uint64_t low = (uint64_t)bits_of_double(rest + magic_low) - (uint64_t)bits_of_double(magic_low);
    return (high << 32) + low;
}

/* Sums wrap around; the sign bit of `wrong` collects what went wrong. */
int ISA_FN(add_fixed)(int64_t n, const float *x, int64_t *sums)
{
    uint64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)x[i] * SOW_FIXED_SCALE;
        const uint64_t a = (uint64_t)sums[i], b = nearest_integer(d), sum = a + b;
        const uint64_t fits = __builtin_fabs(d) < 0x1p63 ? 0 : (uint64_t)1 << 63;
        wrong |= ((a ^ sum) & (b ^ sum)) | fits;
        sums[i] = (int64_t)sum;
    }
    return (int)(wrong >> 63);
}

int ISA_FN(add_int64)(int64_t n, const int64_t *from, int64_t *to)
{
    uint64_t wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t a = (uint64_t)to[i], b = (uint64_t)from[i], sum = a + b;
        wrong |= (a ^ sum) & (b ^ sum);
        to[i] = (int64_t)sum;
    }
    return (int)(wrong >> 63);
}

void ISA_FN(from_fixed)(int64_t n, const int64_t *sums, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)((double)sums[i] * (1.0 / SOW_FIXED_SCALE));
}
