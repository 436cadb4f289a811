/* SPDX-License-Identifier: Apache-2.0 */
/* limits_isa.c: what the kernels are measured against: fused multiply-adds and reads of memory at full speed.
 * Compiled once per instruction set. */
#include "isa.h"

/* The mode in which vec_dot is what it promises does not matter here. */
static double peak_mixed(int64_t n, float *out)
{
    enum { CHAINS = REGISTERS - 4 };
    vec sum[CHAINS];
    words a = words_set(0x3f7f3f7f), b = words_set(0x3a833a83);
    UNROLL for (int64_t i = 0; i < CHAINS; i++) sum[i] = vec_set((float)i);
    for (int64_t k = 0; k < n; k++) {
        UNROLL for (int64_t i = 0; i < CHAINS; i++) sum[i] = vec_dot(sum[i], a, b);
    }
    for (int64_t i = 0; i < CHAINS; i++)
        vec_store(out + i * VL, sum[i]);
    return 4.0 * CHAINS * VL * (double)n;
}

double ISA_FN(peak)(sow_type type, int64_t n, float *out)
{
    if (type == SOW_BF16_MIXED)
        return peak_mixed(n, out);
    enum { CHAINS = REGISTERS - 4 }; /* two constants and some room */
    vec sum[CHAINS], a = vec_set(0.999f), b = vec_set(0.001f);
    UNROLL for (int64_t i = 0; i < CHAINS; i++) sum[i] = vec_set((float)i);
    for (int64_t k = 0; k < n; k++) {
        UNROLL for (int64_t i = 0; i < CHAINS; i++) sum[i] = vec_fma(sum[i], a, b);
    }
    for (int64_t i = 0; i < CHAINS; i++)
        vec_store(out + i * VL, sum[i]);
    return 2.0 * CHAINS * VL * (double)n;
}

float ISA_FN(read)(int64_t n, const float *x)
{
    enum { VECS = 8, STEP = VECS * VL, LINE = 16, AHEAD = 1024 }; /* floats */
    vec sum[VECS];
    float lane[VL], total = 0.0f;
    int64_t i = 0;
    UNROLL for (int64_t v = 0; v < VECS; v++) sum[v] = vec_set(0.0f);
    for (; i + STEP <= n; i += STEP) {
        UNROLL for (int64_t l = 0; l < STEP; l += LINE) __builtin_prefetch(x + i + l + AHEAD);
        UNROLL for (int64_t v = 0; v < VECS; v++) sum[v] = vec_add(sum[v], vec_load(x + i + v * VL));
    }
    for (int v = 1; v < VECS; v++)
        sum[0] = vec_add(sum[0], sum[v]);
    vec_store(lane, sum[0]);
    for (int l = 0; l < VL; l++)
        total += lane[l];
    for (; i < n; i++)
        total += x[i];
    return total;
}
