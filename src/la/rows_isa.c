/* SPDX-License-Identifier: Apache-2.0 */
/* rows_isa.c: functions of one row: norms, activations, rotation, maximum, sums of exp.  Compiled once per instruction
 * set.
 *
 * Plain loops, vectorised by the compiler, over functions of scalar.h; a sum has 16 lanes (element i adds to lane i %
 * 16) and one fixed tree, whatever the vector's width. */
#include "isa.h"

enum { CHUNK = 256 }; /* elements of a row that are on the stack */

void ISA_FN(rms_norm)(int64_t n, const float *x, const float *w, float eps, float *y)
{
    vec sum[SOW_LANES / VL];
    float lane[SOW_LANES], tail[SOW_LANES] = {0};
    const int64_t whole = n / SOW_LANES * SOW_LANES;
    memcpy(tail, x + whole, (size_t)(n - whole) * sizeof *x);
    UNROLL for (int64_t v = 0; v < SOW_LANES / VL; v++) sum[v] = vec_set(0.0f);
    for (int64_t i = 0; i < whole + SOW_LANES; i += SOW_LANES) {
        const float *from = i < whole ? x + i : tail; /* zeros add nothing */
        UNROLL for (int64_t v = 0; v < SOW_LANES / VL; v++)
        {
            vec some = vec_load(from + v * VL);
            sum[v] = vec_fma(some, some, sum[v]);
        }
    }
    UNROLL for (int64_t v = 0; v < SOW_LANES / VL; v++) vec_store(lane + v * VL, sum[v]);
    const float inverse = 1.0f / __builtin_sqrtf(tree_sum(lane) / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * w[i];
}

void ISA_FN(swiglu)(int64_t n, const float *gate, const float *up, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
}

void ISA_FN(add)(int64_t n, const float *y, float *x)
{
    for (int64_t i = 0; i < n; i++)
        x[i] += y[i];
}

void ISA_FN(rope)(int64_t n, const float *cosine, const float *sine, float *x)
{
    float *low = x, *high = x + n / 2;
    for (int64_t i = 0; i < n / 2; i++) {
        float a = low[i], b = high[i];
        low[i] = fused(a, cosine[i], -(b * sine[i]));
        high[i] = fused(b, cosine[i], a * sine[i]);
    }
}

/* Two passes: the largest value and whether a NaN is there; then the first element that has it. */
int64_t ISA_FN(argmax)(int64_t n, const float *x, float *max)
{
    float most[SOW_LANES];
    uint32_t is_nan[SOW_LANES] = {0};
    int64_t i = 0;
    for (int j = 0; j < SOW_LANES; j++)
        most[j] = -__builtin_inff();
    for (; i + SOW_LANES <= n; i += SOW_LANES) {
        for (int j = 0; j < SOW_LANES; j++) {
            most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
            is_nan[j] |= x[i + j] != x[i + j];
        }
    }
    for (; i < n; i++) {
        most[0] = x[i] > most[0] ? x[i] : most[0];
        is_nan[0] |= x[i] != x[i];
    }
    for (int j = 1; j < SOW_LANES; j++) {
        most[0] = most[j] > most[0] ? most[j] : most[0];
        is_nan[0] |= is_nan[j];
    }
    if (n < 1 || is_nan[0])
        return -1;
    for (i = 0; x[i] != most[0]; i++)
        continue;
    *max = x[i];
    return i;
}

float ISA_FN(sum_exp)(int64_t n, const float *x, float max)
{
    float lane[SOW_LANES] = {0}, e[CHUNK];
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t count = n - i < CHUNK ? n - i : CHUNK;
        for (int64_t j = 0; j < count; j++)
            e[j] = exp_f32(x[i + j] - max);
        for (int64_t j = count; j % SOW_LANES != 0; j++)
            e[j] = 0.0f;
        for (int64_t j = 0; j < count; j += SOW_LANES)
            for (int l = 0; l < SOW_LANES; l++)
                lane[l] += e[j + l];
    }
    return tree_sum(lane);
}

void ISA_FN(exp)(int64_t n, const float *x, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = exp_f32(x[i]);
}

void ISA_FN(log)(int64_t n, const float *x, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = log_f32(x[i]);
}

int ISA_FN(has_non_finite)(int64_t n, const float *x)
{
    uint32_t is_full = 0;
    for (int64_t i = 0; i < n; i++)
        is_full |= (to_bits(x[i]) & 0x7f800000) == 0x7f800000;
    return (int)is_full;
}
