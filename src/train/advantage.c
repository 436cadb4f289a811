/* SPDX-License-Identifier: Apache-2.0 */
/* Advantages relative to a group (DeepSeekMath, arXiv 2402.03300, section 4.1.2; without division Dr. GRPO, arXiv
 * 2503.20783): sums in the order of the rewards. */
#include "sower/error.h"
#include "sower/loss.h"

#include <math.h>
#include <stdbool.h>

static bool are_equal(const double *x, int64_t n)
{
    for (int64_t i = 1; i < n; i++)
        if (x[i] != x[0])
            return false;
    return true;
}

static double mean_of(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

static double deviation_of(const double *x, int64_t n, int ddof)
{
    const double mean = mean_of(x, n);
    double squares = 0;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return n > ddof ? sqrt(squares / (double)(n - ddof)) : 0;
}

void sow_advantages(const double *rewards, int64_t n_groups, int64_t group_size, int ddof, sow_advantage_scale scale,
                    double eps, double *out)
{
    SOW_ASSERT(group_size >= 1 && (ddof == 0 || ddof == 1));
    double divisor = scale == SOW_ADVANTAGE_BATCH ? deviation_of(rewards, n_groups * group_size, ddof) + eps : 1;
    for (int64_t g = 0; g < n_groups; g++) {
        const double *group = rewards + g * group_size;
        /* Not by the standard deviation: the rounded mean of equal numbers may differ from them. */
        const bool has_spread = !are_equal(group, group_size);
        const double mean = mean_of(group, group_size);
        if (scale == SOW_ADVANTAGE_GROUP)
            divisor = deviation_of(group, group_size, ddof) + eps;
        for (int64_t i = 0; i < group_size; i++)
            out[g * group_size + i] = has_spread ? (group[i] - mean) / divisor : 0;
    }
}
