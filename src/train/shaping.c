/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/shaping.h"

#include "sower/alloc.h"
#include "sower/stats.h"

#include <math.h>
#include <string.h>

/* z = (R - mean) / (std + 1e-8), population standard deviation (arXiv 2601.20861, code; arXiv 2509.24372, section 3).
 * */
static void shape_zscore(const double *fitness, int64_t n, double *z)
{
    sow_summary s = sow_stats_summary(fitness, n);
    for (int64_t i = 0; i < n; i++)
        z[i] = (fitness[i] - s.mean) / (s.std + 1e-8);
}

/* Ranks from -1/2 to 1/2, equal fitnesses sharing the mean of their ranks (Salimans et al. 2017, arXiv 1703.03864,
 * section 2.1). */
static void shape_centered_rank(const double *fitness, int64_t n, double *z)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t below = 0, equal = 0;
        for (int64_t j = 0; j < n; j++) {
            below += fitness[j] < fitness[i];
            equal += fitness[j] == fitness[i];
        }
        z[i] = ((double)below + (double)(equal - 1) / 2) / (double)(n - 1) - 0.5;
    }
}

static void shape_none(const double *fitness, int64_t n, double *z)
{
    memcpy(z, fitness, (size_t)n * sizeof *z);
}

static const sow_shaping shapings[] = {
    {"zscore", "(R - mean) / (std + 1e-8)", shape_zscore},
    {"centered_rank", "ranks from -1/2 to 1/2, ties shared", shape_centered_rank},
    {"none", "the fitness itself", shape_none},
};

int64_t sow_shaping_count(void)
{
    return sizeof shapings / sizeof *shapings;
}

const sow_shaping *sow_shaping_at(int64_t index)
{
    return &shapings[index];
}

const sow_shaping *sow_shaping_find(const char *name)
{
    for (int64_t i = 0; i < sow_shaping_count(); i++)
        if (strcmp(shapings[i].name, name) == 0)
            return &shapings[i];
    return NULL;
}

sow_code sow_shaping_coefficients(const sow_shaping *shaping, double alpha, const double *fitness, int64_t n,
                                  float *coefficients, bool *has_spread)
{
    double *z = NULL;
    bool differs = false;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(fitness[i]))
            return SOW_FAIL(SOW_ENUM, "fitness of member %lld is %g, expected a finite number", (long long)i,
                            fitness[i]);
        differs = differs || fitness[i] != fitness[0];
    }
    *has_spread = differs;
    if (!differs)
        return SOW_OK;
    SOW_TRY(SOW_ALLOC(&z, n));
    shaping->shape(fitness, n, z);
    for (int64_t i = 0; i < n; i++)
        coefficients[i] = (float)(alpha * z[i] / (double)n);
    SOW_FREE(&z);
    return SOW_OK;
}
