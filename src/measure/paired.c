/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/paired.h"

#include <math.h>

double sow_paired_mcnemar(int64_t lost, int64_t gained)
{
    double n = (double)(lost + gained), k = (double)(lost < gained ? lost : gained), sum = 0;
    if (lost == gained)
        return 1;
    /* C(n, k) / 2^n by logarithms, then its neighbours downwards: C(n, k - 1) = C(n, k) k / (n - k + 1). */
    double term = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2));
    for (; k >= 0 && term > sum * 1e-17; k--) {
        sum += term;
        term *= k / (n - k + 1);
    }
    return fmin(2 * sum, 1);
}

sow_change sow_paired_change(const char *before, const char *now, int64_t n)
{
    sow_change c = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        c.lost += before[i] == '1' && now[i] != '1';
        c.gained += before[i] != '1' && now[i] == '1';
    }
    c.p = sow_paired_mcnemar(c.lost, c.gained);
    return c;
}
