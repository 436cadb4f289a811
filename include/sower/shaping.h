/* SPDX-License-Identifier: Apache-2.0 */
/* From the fitness of a population to the coefficients of its update.
 *
 * Needs: error.  Threads: pure functions.  Ranks: every rank computes them from the same fitnesses.  Bits: double, in
 * member order.  Not collective. */
#ifndef SOWER_SHAPING_H
#define SOWER_SHAPING_H

#include "sower/error.h"

#include <stdbool.h>

/* One way of shaping: z from fitness, both [n].  Called only if not all fitnesses are equal. */
typedef struct sow_shaping {
    const char *name, *doc;
    void (*shape)(const double *fitness, int64_t n, double *z);
} sow_shaping;

int64_t sow_shaping_count(void);
const sow_shaping *sow_shaping_at(int64_t index);
const sow_shaping *sow_shaping_find(const char *name); /* NULL if none */

/* c_i = (float)(alpha * z_i / n) (arXiv 2509.24372, algorithm 2, with 1/sigma digested into alpha).  False, and
 * coefficients untouched, if all fitnesses are equal: theta then stays as it is. */
SOW_NODISCARD sow_code sow_shaping_coefficients(const sow_shaping *shaping, double alpha, const double *fitness,
                                                int64_t n, float *coefficients, bool *has_spread);

#endif
