/* SPDX-License-Identifier: Apache-2.0 */
/* The same items looked at twice: which were lost, which gained, and whether that could be chance.
 *
 * Needs: libm.  Threads: pure functions. */
#ifndef SOWER_PAIRED_H
#define SOWER_PAIRED_H

#include <stdint.h>

typedef struct sow_change {
    int64_t n, lost, gained; /* items; right before and wrong now; the other way */
    double p;                /* sow_paired_mcnemar */
} sow_change;

/* before, now [n]: '1' for an item that is right, else '0'. */
sow_change sow_paired_change(const char *before, const char *now, int64_t n);

/* McNemar's exact test (1947): the two-sided binomial probability that of lost + gained changed items so few, or fewer,
 * go one way if both ways are equally likely.  Without a changed item 1. */
double sow_paired_mcnemar(int64_t lost, int64_t gained);

#endif
