/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864): one table of cosines and sines for all layers and
 * heads.
 *
 *     angle(p, i) = p * frequency_i,   frequency_i = theta^(-2i / head_dim),   i < head_dim / 2
 *
 * computed in double and rounded once to float32.  Everything here is made of + - * / in a fixed order: a libc's own
 * exp or sin may differ from another's in the last bit, and then the table, the logits and the ledger would. */
#include "nn_impl.h"

#include "sower/alloc.h"

#include <math.h>

/* ln 2 and pi / 2 in parts (as in fdlibm): the first has trailing zeros, so that its product with a small integer is
 * exact. */
static const double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
static const double half_pi_1 = 1.57079632673412561417e+00, half_pi_2 = 6.07710050630396597660e-11,
                    half_pi_3 = 2.02226624879595063154e-21;
static const double pi = 3.14159265358979323846, two_over_pi = 0.63661977236758134308,
                    one_over_ln2 = 1.44269504088896340736, sqrt_half = 0.70710678118654752440;

/* x = m 2^e with m near 1; log m = 2 atanh(s) for s = (m - 1) / (m + 1), |s| < 0.172.  x is positive and normal. */
double sow_rope_log(double x)
{
    int e = 0;
    double m = frexp(x, &e); /* exact */
    if (m < sqrt_half) {
        m *= 2.0;
        e--;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double sum = 0.0;
    for (int k = 23; k >= 1; k -= 2)
        sum = sum * z + 1.0 / k;
    return e * ln2_high + (2.0 * s * sum + e * ln2_low);
}

/* x = k ln 2 + r, |r| < 0.35; Taylor's series to r^14 / 14!, whose rest is below 1e-19. */
double sow_rope_exp(double x)
{
    const double k = floor(x * one_over_ln2 + 0.5);
    const double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1.0;
    for (int i = 14; i >= 1; i--)
        sum = sum * r / i + 1.0;
    return ldexp(sum, (int)k); /* exact, unless subnormal */
}

/* angle = k pi/2 + r, |r| < 0.79; Taylor's series to r^19 and r^18, whose rest is below 1e-21.  angle >= 0. */
void sow_rope_sincos(double angle, double *sine, double *cosine)
{
    const double k = floor(angle * two_over_pi + 0.5);
    const double r = ((angle - k * half_pi_1) - k * half_pi_2) - k * half_pi_3, z = r * r;
    double s = 1.0, c = 1.0;
    for (int i = 18; i >= 2; i -= 2) {
        s = 1.0 - s * z / (i * (i + 1));
        c = 1.0 - c * z / (i * (i - 1));
    }
    s *= r;
    const int quarter = (int)fmod(k, 4.0); /* exact */
    *sine = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
    *cosine = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
}

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
    const double log_theta = sow_rope_log(shape->rope_theta);
    for (int64_t i = 0; i < rope->half; i++) {
        const double exponent = -2.0 * (double)i / (double)shape->head_dim;
        rope->frequency[i] = scale_frequency(shape, sow_rope_exp(exponent * log_theta));
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
            sow_rope_sincos((double)p * rope->frequency[i], &sine, &cosine);
            rope->sine[p * half + i] = (float)sine;
            rope->cosine[p * half + i] = (float)cosine;
        }
    }
    rope->n_positions = n_positions;
    return SOW_OK;
}
