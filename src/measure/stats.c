/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/stats.h"

#include <math.h>

/* The 97.5 % point of the normal law. */
#define Z 1.959963984540054

sow_summary sow_stats_summary(const double *x, int64_t n)
{
    sow_summary s = {0};
    if (n <= 0)
        return s;
    double sum = 0, squares = 0;
    s.min = s.max = x[0];
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        s.min = x[i] < s.min ? x[i] : s.min;
        s.max = x[i] > s.max ? x[i] : s.max;
    }
    s.mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - s.mean) * (x[i] - s.mean);
    /* Equal numbers have no spread, whatever the rounding of their mean says. */
    s.std = s.min == s.max ? 0 : sqrt(squares / (double)n);
    s.mean = s.min == s.max ? s.min : s.mean;
    return s;
}

void sow_stats_wilson(int64_t k, int64_t n, double *low, double *high)
{
    *low = 0;
    *high = 1;
    if (n <= 0)
        return;
    double share = (double)k / (double)n, z2 = Z * Z / (double)n;
    double middle = (share + z2 / 2) / (1 + z2);
    double half = Z * sqrt(share * (1 - share) / (double)n + z2 / (double)(4 * n)) / (1 + z2);
    if (k > 0) /* at the ends the bound is 0 or 1, which rounding would miss */
        *low = middle - half;
    if (k < n)
        *high = middle + half;
}

void sow_stats_mean_interval(const double *x, int64_t n, double *low, double *high)
{
    *low = -(double)INFINITY;
    *high = (double)INFINITY;
    if (n < 2)
        return;
    sow_summary s = sow_stats_summary(x, n);
    double sample_std = s.std * sqrt((double)n / (double)(n - 1));
    double half = Z * sample_std / sqrt((double)n);
    *low = s.mean - half;
    *high = s.mean + half;
}

/* P(|T| <= t) of Student's t with a whole number of degrees of freedom: the finite sums of Abramowitz and Stegun,
 * Handbook of Mathematical Functions, 26.7.3 and 26.7.4. */
static double student_within(double t, int64_t df)
{
    double theta = atan(t / sqrt((double)df)), s = sin(theta), c = cos(theta);
    double term = df % 2 == 0 ? 1 : c, sum = df == 1 ? 0 : term;
    for (int64_t i = df % 2 == 0 ? 2 : 3; i < df; i += 2) {
        term *= (double)(i - 1) / (double)i * c * c;
        sum += term;
    }
    return df % 2 == 0 ? s * sum : 2 / acos(-1) * (theta + s * sum);
}

double sow_stats_t975(int64_t df)
{
    double low = Z, high = 13; /* of df 1: 12.706 */
    if (df < 1)
        return (double)INFINITY;
    if (df > 10000)
        return Z;
    for (int i = 0; i < 100 && low < high; i++) {
        double middle = low + (high - low) / 2;
        if (student_within(middle, df) < 0.95)
            low = middle;
        else
            high = middle;
    }
    return high;
}

void sow_stats_t_interval(const double *x, int64_t n, double *low, double *high)
{
    *low = -(double)INFINITY;
    *high = (double)INFINITY;
    if (n < 2)
        return;
    sow_summary s = sow_stats_summary(x, n);
    double half = sow_stats_t975(n - 1) * s.std / sqrt((double)(n - 1)); /* std has ddof 0 */
    *low = s.mean - half;
    *high = s.mean + half;
}

/* Square-and-add: the distance of a limit of the difference from it, of two distances of limits and their
 * correlation. */
static double add_limits(double a, double b, double phi)
{
    double square = a * a - 2 * phi * a * b + b * b;
    return square > 0 ? sqrt(square) : 0;
}

void sow_stats_paired_change(int64_t both, int64_t gained, int64_t lost, int64_t neither, double *low, double *high)
{
    double a = (double)both, b = (double)gained, c = (double)lost, d = (double)neither, n = a + b + c + d;
    double now_low = 0, now_high = 1, then_low = 0, then_high = 1;
    *low = -1;
    *high = 1;
    if (n <= 0)
        return;
    double now = (a + b) / n, then = (a + c) / n, margins = (a + b) * (c + d) * (a + c) * (b + d);
    double over = a * d - b * c;
    over = over > n / 2 ? over - n / 2 : over > 0 ? 0 : over; /* his correction for continuity */
    double phi = margins > 0 ? over / sqrt(margins) : 0;
    sow_stats_wilson(both + gained, both + gained + lost + neither, &now_low, &now_high);
    sow_stats_wilson(both + lost, both + gained + lost + neither, &then_low, &then_high);
    *low = now - then - add_limits(now - now_low, then_high - then, phi);
    *high = now - then + add_limits(then - then_low, now_high - now, phi);
}
