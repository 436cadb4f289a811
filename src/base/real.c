/* SPDX-License-Identifier: Apache-2.0 */
/* exp, log, sine and cosine: the argument is brought near 0 by an exact split (as in fdlibm), and there a series is
 * summed by Horner's rule. */
#include "sower/real.h"

#include <math.h>

/* ln 2 and pi / 2 in parts (as in fdlibm): the first has trailing zeros, so that its product with a small integer is
 * exact. */
static const double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
static const double half_pi_1 = 1.57079632673412561417e+00, half_pi_2 = 6.07710050630396597660e-11,
                    half_pi_3 = 2.02226624879595063154e-21;
static const double two_over_pi = 0.63661977236758134308, one_over_ln2 = 1.44269504088896340736,
                    sqrt_half = 0.70710678118654752440;

/* Beyond these e^x is infinite, or 0. */
static const double exp_highest = 709.782712893384, exp_lowest = -745.1332191019411;

/* x = m 2^e with m near 1; log m = 2 atanh(s) for s = (m - 1) / (m + 1), |s| < 0.172. */
double sow_real_log(double x)
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
double sow_real_exp(double x)
{
    if (isnan(x))
        return x;
    if (x > exp_highest)
        return (double)INFINITY;
    if (x < exp_lowest)
        return 0.0;
    const double k = floor(x * one_over_ln2 + 0.5);
    const double r = (x - k * ln2_high) - k * ln2_low;
    double sum = 1.0;
    for (int i = 14; i >= 1; i--)
        sum = sum * r / i + 1.0;
    return ldexp(sum, (int)k); /* exact, unless subnormal */
}

/* angle = k pi/2 + r, |r| < 0.79; Taylor's series to r^19 and r^18, whose rest is below 1e-21. */
void sow_real_sincos(double angle, double *sine, double *cosine)
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
