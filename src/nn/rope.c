/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864): one table of cosines and sines for all layers and
 * heads.
 *
 *     angle(p, i) = p * frequency_i,   frequency_i = theta^(-2i / head_dim),   i < head_dim / 2
 *
 * computed in double and rounded once to float32, by our own exp, sine and cosine (real.h): a libc's own may differ
 * from another's in the last bit, and then the table, the logits and the ledger would. */
#include "nn_impl.h"

#include "sower/alloc.h"
#include "sower/real.h"

static const double pi = 3.14159265358979323846;

/* Llama 3's stretching of slow frequencies (transformers, modeling_rope_utils._compute_llama3_parameters). */
static double scale_frequency(const sow_shape *shape, double frequency)
{
    if (shape->rope_factor == 1.0)
        return frequency;
    const double low = shape->rope_low_freq_factor, high = shape->rope_high_freq_factor;
    const double old_context = (double)shape->rope_original_positions, wavelength = 2.0 * pi / frequency;
    if (wavelength < old_context / high)
        return frequency;
    if (wavelength > old_context / low)
        return frequency / shape->rope_factor;
    const double smooth = (old_context / wavelength - low) / (high - low);
    return (1.0 - smooth) * frequency / shape->rope_factor + smooth * frequency;
}

sow_code sow_rope_init(sow_rope *rope, const sow_shape *shape)
{
    *rope = (sow_rope){.half = shape->head_dim / 2, .max_positions = shape->max_positions};
    SOW_TRY(SOW_ALLOC(&rope->frequency, rope->half));
    const double log_theta = sow_real_log(shape->rope_theta);
    for (int64_t i = 0; i < rope->half; i++) {
        const double exponent = -2.0 * (double)i / (double)shape->head_dim;
        rope->frequency[i] = scale_frequency(shape, sow_real_exp(exponent * log_theta));
    }
    return SOW_OK;
}

void sow_rope_fini(sow_rope *rope)
{
    SOW_FREE(&rope->frequency);
    SOW_FREE(&rope->cosine);
    SOW_FREE(&rope->sine);
}

sow_code sow_rope_reserve(sow_rope *rope, int64_t n_positions)
{
    const int64_t old = rope->n_positions, half = rope->half;
    if (n_positions <= old)
        return SOW_OK;
    if (n_positions < 2 * old) /* grow by doubling, within the context */
        n_positions = 2 * old < rope->max_positions ? 2 * old : rope->max_positions;
    SOW_TRY(SOW_RESIZE(&rope->cosine, old * half, n_positions * half));
    SOW_TRY(SOW_RESIZE(&rope->sine, old * half, n_positions * half));
    for (int64_t p = old; p < n_positions; p++) {
        for (int64_t i = 0; i < half; i++) {
            double sine = 0.0, cosine = 0.0;
            sow_real_sincos((double)p * rope->frequency[i], &sine, &cosine);
            rope->sine[p * half + i] = (float)sine;
            rope->cosine[p * half + i] = (float)cosine;
        }
    }
    rope->n_positions = n_positions;
    return SOW_OK;
}
