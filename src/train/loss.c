/* SPDX-License-Identifier: Apache-2.0 */
/* The loss of a sequence and its derivatives: the weight of a token by the table's rows, times a term that is the same
 * for all of them.
 *
 *     d/dlogprob of -r A      = -r A                  where nothing is clamped or clipped, else 0
 *     d/dlogprob of k3        = 1 - exp(k)            likewise
 *
 * The surrogate's minimum and its clip are one comparison of the ratio with a bound: for A > 0 the clip can only act
 * above 1 + clip_high, for A < 0 only below 1 - clip_low and, dual, above dual_clip. */
#include "sower/loss.h"

#include "sower/real.h"

#include <math.h>
#include <string.h>

/* Bounds of differences of log-probabilities before exp, and of k3. */
static const double log_bound = 20, kl_bound = 10;

#define LOSS(name, doc) static double weight_##name(const sow_loss_counts *counts, int64_t length);
#include "losses.def"
#undef LOSS

static double weight_grpo(const sow_loss_counts *counts, int64_t length)
{
    return 1 / ((double)counts->sequences * (double)length);
}

static double weight_dapo(const sow_loss_counts *counts, int64_t length)
{
    (void)length;
    return 1 / (double)counts->tokens;
}

static double weight_dr_grpo(const sow_loss_counts *counts, int64_t length)
{
    (void)length;
    return 1 / ((double)counts->sequences * (double)counts->max_completion);
}

static double weight_bnpo(const sow_loss_counts *counts, int64_t length)
{
    return weight_dapo(counts, length);
}

static const sow_loss losses[] = {
#define LOSS(name, doc) {#name, doc, weight_##name},
#include "losses.def"
#undef LOSS
};

int64_t sow_loss_count(void)
{
    return (int64_t)(sizeof losses / sizeof losses[0]);
}

const sow_loss *sow_loss_at(int64_t index)
{
    return &losses[index];
}

const sow_loss *sow_loss_find(const char *name)
{
    for (int64_t i = 0; i < sow_loss_count(); i++)
        if (strcmp(losses[i].name, name) == 0)
            return &losses[i];
    return NULL;
}

/* A value and its derivative with respect to the token's log-probability. */
typedef struct slope {
    double value, slope;
} slope;

/* NaN stays NaN. */
static double clamp(double x, double bound)
{
    return x < -bound ? -bound : x > bound ? bound : x;
}

static slope surrogate(const sow_policy *policy, double advantage, double difference, sow_policy_sums *sums)
{
    const double clamped = clamp(difference, log_bound), ratio = sow_real_exp(clamped);
    const double low = 1 - policy->clip_low, high = 1 + policy->clip_high;
    sums->ratio += ratio;
    sums->ratio_min = ratio < sums->ratio_min ? ratio : sums->ratio_min;
    sums->ratio_max = ratio > sums->ratio_max ? ratio : sums->ratio_max;
    if (advantage > 0 && ratio > high) {
        sums->clipped_high++;
        return (slope){-advantage * high, 0};
    }
    if (advantage < 0 && ratio < low) {
        sums->clipped_low++;
        return (slope){-advantage * low, 0};
    }
    if (advantage < 0 && policy->dual_clip > 0 && ratio > policy->dual_clip) {
        sums->clipped_dual++;
        return (slope){-advantage * policy->dual_clip, 0};
    }
    const double value = -advantage * ratio;
    return (slope){value, difference < -log_bound || difference > log_bound ? 0 : value};
}

static slope k3(double difference)
{
    const double k = clamp(difference, log_bound), ratio = sow_real_exp(k), value = ratio - k - 1;
    return value > kl_bound ? (slope){kl_bound, 0} : (slope){value, 1 - ratio};
}

void sow_policy_weigh(const sow_policy_args *args, float *out_logprob, float *out_entropy, sow_policy_sums *out)
{
    const sow_policy *policy = args->policy;
    sow_policy_sums sums = {.ratio_min = (double)INFINITY};
    double loss = 0;
    for (int64_t i = 0; i < args->n; i++) {
        const double logprob = (double)args->logprob[i];
        slope term = surrogate(policy, args->advantage, logprob - (double)args->old[i], &sums);
        if (args->reference != NULL) {
            const slope kl = k3((double)args->reference[i] - logprob);
            sums.kl += kl.value;
            term = (slope){term.value + policy->kl * kl.value, term.slope + policy->kl * kl.slope};
        }
        if (args->entropy != NULL) {
            sums.entropy += (double)args->entropy[i];
            term.value -= policy->entropy * (double)args->entropy[i];
        }
        loss += term.value;
        out_logprob[i] = (float)(args->weight * term.slope);
        if (out_entropy != NULL)
            out_entropy[i] = (float)(-args->weight * policy->entropy);
    }
    sums.loss = args->weight * loss;
    *out = sums;
}
