/* SPDX-License-Identifier: Apache-2.0 */
/* backward_isa.c: functions of one row in the backward pass.  Compiled once per instruction set.
 *
 * Plain loops over functions of scalar.h as in rows_isa.c; what the forward pass computed is computed again in the same
 * operations, and a sum has 16 lanes and one fixed tree. */
#include "isa.h"

enum { CHUNK = 256 }; /* elements of a row that are on the stack */

/* Sum of a[i] * b[i] * c[i] (product of a and b rounded first; c NULL: 1) in 16 lanes. */
INLINE float sum_products(int64_t n, const float *a, const float *b, const float *c)
{
    float lane[SOW_LANES] = {0};
    const int64_t whole = n / SOW_LANES * SOW_LANES;
    for (int64_t i = 0; i < whole; i += SOW_LANES)
        for (int64_t j = 0; j < SOW_LANES; j++)
            lane[j] = fused(c == NULL ? a[i + j] : a[i + j] * c[i + j], b[i + j], lane[j]);
    for (int64_t i = whole; i < n; i++)
        lane[i - whole] = fused(c == NULL ? a[i] : a[i] * c[i], b[i], lane[i - whole]);
    return tree_sum(lane);
}

/* inverse = (mean(x^2) + eps)^(-1/2), so d inverse / dx_i = -inverse^3 x_i / n. */
void ISA_FN(rms_norm_back)(int64_t n, const float *x, const float *w, float eps, float *dy, float *dx)
{
    const float inverse = 1.0f / __builtin_sqrtf(sum_products(n, x, x, NULL) / (float)n + eps);
    const float c = sum_products(n, dy, x, w) / (float)n * inverse * inverse;
    for (int64_t i = 0; i < n; i++) {
        const float g = dy[i] * w[i];
        dx[i] += inverse * fused(-x[i], c, g);
        dy[i] *= x[i] * inverse;
    }
}

/* With q = 1 / (1 + exp(-g)): d silu / dg = q (1 + g (1 - q)).  Where exp(-g) is infinite, q is 0 and so is it. */
void ISA_FN(swiglu_back)(int64_t n, const float *dy, float *gate, float *up)
{
    for (int64_t i = 0; i < n; i++) {
        const float g = gate[i], below = 1.0f + exp_f32(-g), q = 1.0f / below;
        gate[i] = dy[i] * up[i] * (q * fused(g, 1.0f - q, 1.0f));
        up[i] = dy[i] * (g / below);
    }
}

void ISA_FN(rope_back)(int64_t n, const float *cosine, const float *sine, float *x)
{
    float *low = x, *high = x + n / 2;
    for (int64_t i = 0; i < n / 2; i++) {
        float a = low[i], b = high[i];
        low[i] = fused(a, cosine[i], b * sine[i]);
        high[i] = fused(b, cosine[i], -(a * sine[i]));
    }
}

float ISA_FN(entropy)(int64_t n, const float *x, float max, float sum)
{
    float lane[SOW_LANES] = {0}, e[CHUNK], below[CHUNK];
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t count = n - i < CHUNK ? n - i : CHUNK;
        for (int64_t j = 0; j < count; j++) {
            below[j] = x[i + j] - max;
            e[j] = exp_f32(below[j]);
        }
        for (int64_t j = count; j % SOW_LANES != 0; j++)
            e[j] = below[j] = 0.0f;
        for (int64_t j = 0; j < count; j += SOW_LANES)
            for (int64_t l = 0; l < SOW_LANES; l++)
                lane[l] = fused(e[j + l], below[j + l], lane[l]);
    }
    return log_f32(sum) - tree_sum(lane) / sum;
}

/* Without the entropy's term, which is then 0, a third of the operations are left.  The numbers are copied because a
 * compiler that cannot know that l[i] is none of them makes no vectors. */
void ISA_FN(softmax_back)(const sow_softmax_back_args *a)
{
    const float max = a->max, sum = a->sum, log_sum = a->log_sum, entropy = a->entropy;
    const float weight = a->weight, entropy_weight = a->entropy_weight, scale = a->scale;
    const float target = a->logits[a->target] - max, p_target = exp_f32(target) / sum;
    const float at_target =
        (weight * (1.0f - p_target) - entropy_weight * p_target * ((target - log_sum) + entropy)) * scale;
    const int64_t n = a->n;
    float *l = a->logits;
    if (entropy_weight == 0.0f) {
        for (int64_t i = 0; i < n; i++)
            l[i] = weight * (0.0f - exp_f32(l[i] - max) / sum) * scale;
    } else {
        for (int64_t i = 0; i < n; i++) {
            const float below = l[i] - max, p = exp_f32(below) / sum;
            l[i] = (weight * (0.0f - p) - entropy_weight * p * ((below - log_sum) + entropy)) * scale;
        }
    }
    l[a->target] = at_target;
}
