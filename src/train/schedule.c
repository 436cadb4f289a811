/* SPDX-License-Identifier: Apache-2.0 */
/* The learning rate over a run.  The fall counts from the first step of the run, not from the end of the warm-up. */
#include "sower/loss.h"
#include "sower/real.h"

static const double pi = 3.14159265358979323846;

double sow_schedule_factor(sow_schedule schedule, int64_t step, int64_t steps, int64_t warmup, double min_factor)
{
    const double rise = step < warmup ? (double)step / (double)warmup : 1;
    const double done = step < steps ? (double)step / (double)steps : 1;
    double sine = 0, cosine = 0;
    if (schedule == SOW_SCHEDULE_CONSTANT)
        return rise;
    if (schedule == SOW_SCHEDULE_LINEAR)
        return rise * (min_factor + (1 - min_factor) * (1 - done));
    sow_real_sincos(pi * done, &sine, &cosine);
    return rise * (min_factor + (1 - min_factor) * ((1 + cosine) / 2));
}
