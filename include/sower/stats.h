/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of few numbers: in double, in order.
 *
 * Needs: libm.  Threads: pure functions. */
#ifndef SOWER_STATS_H
#define SOWER_STATS_H

#include <stdint.h>

typedef struct sow_summary {
    double mean, std /* ddof 0 */, min, max;
} sow_summary;
sow_summary sow_stats_summary(const double *x, int64_t n);

/* Wilson's 95 % score interval of k successes in n trials (Wilson 1927); n 0 gives [0, 1]. */
void sow_stats_wilson(int64_t k, int64_t n, double *low, double *high);

/* 95 % interval of a mean by the normal law: mean +- 1.96 * sample std / sqrt(n). */
void sow_stats_mean_interval(const double *x, int64_t n, double *low, double *high);

/* The 97.5 % point of Student's t with df degrees of freedom: exact to double up to 10,000, the normal law's above
 * (wrong by 2.4e-4 there); infinite below 1. */
double sow_stats_t975(int64_t df);
/* 95 % interval of a mean over few numbers: mean +- t * sample std / sqrt(n). */
void sow_stats_t_interval(const double *x, int64_t n, double *low, double *high);

/* 95 % interval of the change of a share between two looks at the same items, of which `both` were right twice,
 * `gained` the second time only, `lost` the first time only (Newcombe, Statistics in Medicine 17, 2635, 1998: method
 * 10). */
void sow_stats_paired_change(int64_t both, int64_t gained, int64_t lost, int64_t neither, double *low, double *high);

#endif
