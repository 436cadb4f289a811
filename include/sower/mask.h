/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse masks: which weights of a tensor move at all (arXiv 2601.20861, section 5, asks for "sparsity-aware" ES).
 * A mask is made once from the seed or from the base, and stays for the whole run.
 *
 * Needs: philox, error.  Threads: pure functions.  Ranks: knows none.  Bits: integers only. */
#ifndef SOWER_MASK_H
#define SOWER_MASK_H

#include "sower/error.h"

/* A tensor of n elements, of which a share `density` (0 to 1) is to move. */
typedef struct sow_mask_args {
    double density;
    uint32_t seed, tensor; /* tensor: its number in the layout */
    int64_t n;
    const float *base; /* [n] */
} sow_mask_args;

/* One way of choosing: sets bit e % 32 of words[e / 32] of each element e that moves (they are 0 before) and returns
 * how many that are. */
typedef struct sow_mask {
    const char *name, *doc;
    int64_t (*fill)(const sow_mask_args *args, uint32_t *words);
} sow_mask;

/* `none` is not among them. */
int64_t sow_mask_count(void);
const sow_mask *sow_mask_at(int64_t index);
const sow_mask *sow_mask_find(const char *name); /* NULL if there is none of that name */

#endif
