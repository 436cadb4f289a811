/* SPDX-License-Identifier: Apache-2.0 */
/* From the fitness of a population to the coefficients of its update.
 *
 * Needs: error, kernels.  Threads: pure functions.  Ranks: every rank computes them from the same population.  Bits:
 * double, in member order.  Not collective. */
#ifndef SOWER_SHAPING_H
#define SOWER_SHAPING_H

#include "sower/error.h"

#include <stdbool.h>

/* What a generation is shaped from. */
typedef struct sow_population {
    const double *fitness; /* [n] */
    int64_t n;
    uint32_t seed, generation; /* where the generation's own random numbers lie */
} sow_population;

/* One way of shaping: z [n]. */
typedef struct sow_shaping {
    const char *name, *doc;
    bool is_blind; /* does not look at fitness; else `shape` is called only if not all fitnesses are equal */
    void (*shape)(const sow_population *population, double *z);
} sow_shaping;

int64_t sow_shaping_count(void);
const sow_shaping *sow_shaping_at(int64_t index);
const sow_shaping *sow_shaping_find(const char *name); /* NULL if none */

/* Whether a population of these n fitnesses moves theta: not if all are equal, unless the shaping is blind. */
bool sow_shaping_moves(const sow_shaping *shaping, const double *fitness, int64_t n);

/* c_i = (float)(alpha * z_i / n) (arXiv 2509.24372, algorithm 2, with 1/sigma digested into alpha).  *has_spread false,
 * and coefficients untouched, if the population does not move theta.  SOW_ENUM for a fitness that is not finite. */
SOW_NODISCARD sow_code sow_shaping_coefficients(const sow_shaping *shaping, double alpha,
                                                const sow_population *population, float *coefficients,
                                                bool *has_spread);

#endif
