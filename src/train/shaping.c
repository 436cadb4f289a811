/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/shaping.h"

#include "sower/alloc.h"
#include "sower/kernels.h"
#include "sower/stats.h"

#include <math.h>
#include <string.h>

/* z = (R - mean) / (std + 1e-8), population standard deviation (arXiv 2601.20861, code; arXiv 2509.24372, section 3).
 * */
static void shape_zscore(const sow_population *p, double *z)
{
    sow_summary s = sow_stats_summary(p->fitness, p->n);
    for (int64_t i = 0; i < p->n; i++)
        z[i] = (p->fitness[i] - s.mean) / (s.std + 1e-8);
}

/* Ranks from -1/2 to 1/2, equal fitnesses sharing the mean of their ranks (Salimans et al. 2017, arXiv 1703.03864,
 * section 2.1). */
static void shape_centered_rank(const sow_population *p, double *z)
{
    const double *fitness = p->fitness;
    const int64_t n = p->n;
    for (int64_t i = 0; i < n; i++) {
        int64_t below = 0, equal = 0;
        for (int64_t j = 0; j < n; j++) {
            below += fitness[j] < fitness[i];
            equal += fitness[j] == fitness[i];
        }
        z[i] = ((double)below + (double)(equal - 1) / 2) / (double)(n - 1) - 0.5;
    }
}

static void shape_none(const sow_population *p, double *z)
{
    memcpy(z, p->fitness, (size_t)p->n * sizeof *z);
}

/* The control that tells drift from learning: standard normal numbers of the generation instead of fitness, brought to
 * mean 0 and deviation 1 as `zscore` does, so that the walk has the same norm. */
static void shape_random(const sow_population *p, double *z)
{
    const sow_kernels *plain =
        sow_kernels_at(sow_kernels_count() - 1); /* the same bits as any other, and always there */
    const sow_place place = sow_place_of(SOW_STREAM_SHAPING, p->seed, p->generation, 0, 0);
    float drawn[SOW_NOISE_BLOCK];
    for (int64_t i = 0; i < p->n; i++) {
        if (i % SOW_NOISE_BLOCK == 0)
            plain->noise(SOW_NOISE_GAUSSIAN, place, (uint64_t)i, SOW_NOISE_BLOCK, drawn);
        z[i] = (double)drawn[i % SOW_NOISE_BLOCK];
    }
    sow_summary s = sow_stats_summary(z, p->n);
    for (int64_t i = 0; i < p->n; i++)
        z[i] = s.std > 0 ? (z[i] - s.mean) / s.std : 0;
}

static const sow_shaping shapings[] = {
    {"zscore", "(R - mean) / (std + 1e-8)", false, shape_zscore},
    {"centered_rank", "ranks from -1/2 to 1/2, ties shared", false, shape_centered_rank},
    {"none", "the fitness itself", false, shape_none},
    {"random", "standard normal numbers of the seed, rewards ignored", true, shape_random},
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

bool sow_shaping_moves(const sow_shaping *shaping, const double *fitness, int64_t n)
{
    int64_t i = 1;
    while (i < n && fitness[i] == fitness[0])
        i++;
    return shaping->is_blind || i < n;
}

sow_code sow_shaping_coefficients(const sow_shaping *shaping, double alpha, const sow_population *p,
                                  float *coefficients, bool *has_spread)
{
    double *z = NULL;
    for (int64_t i = 0; i < p->n; i++)
        if (!isfinite(p->fitness[i]))
            return SOW_FAIL(SOW_ENUM, "fitness of member %lld is %g, expected a finite number", (long long)i,
                            p->fitness[i]);
    *has_spread = sow_shaping_moves(shaping, p->fitness, p->n);
    if (!*has_spread)
        return SOW_OK;
    SOW_TRY(SOW_ALLOC(&z, p->n));
    shaping->shape(p, z);
    for (int64_t i = 0; i < p->n; i++)
        coefficients[i] = (float)(alpha * z[i] / (double)p->n);
    SOW_FREE(&z);
    return SOW_OK;
}
