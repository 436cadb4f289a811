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
