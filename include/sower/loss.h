/* SPDX-License-Identifier: Apache-2.0 */
/* Losses of GRPO: what a token weighs (a table row each), the clipped surrogate, KL, entropy; advantages; the learning
 * rate over a run.
 *
 * Needs: kernels (exp).  Threads: pure functions.  Ranks: knows none.  Bits: float32 and double in a fixed order, exp
 * by the kernels.  Sources: DeepSeekMath (arXiv 2402.03300, eq. 3 and 4), DAPO (arXiv 2503.14476, eq. 8), Dr. GRPO
 * (arXiv 2503.20783), dual clip (arXiv 1912.09729); clamps and defaults as verl has them (docs/decisions). */
#ifndef SOWER_LOSS_H
#define SOWER_LOSS_H

#include "sower/kernels.h"

#include <stdbool.h>

/* Of an optimizer step's mini-batch, masked sequences and dropped groups not counted. */
typedef struct sow_loss_counts {
    int64_t sequences, tokens; /* with a loss */
    int64_t max_completion;    /* tokens of the longest completion that is allowed */
} sow_loss_counts;

/* A row of losses.def and a function in loss.c (docs/HOWTO-add-a-loss.md).  The weight of each token of a sequence of
 * `length` tokens; the loss is the sum of weight * term, so that nothing is divided afterwards. */
typedef struct sow_loss {
    const char *name, *doc;
    double (*weight)(const sow_loss_counts *counts, int64_t length);
} sow_loss;
int64_t sow_loss_count(void);
const sow_loss *sow_loss_at(int64_t index);
const sow_loss *sow_loss_find(const char *name); /* NULL if none */

typedef struct sow_policy {
    double clip_low, clip_high, dual_clip, kl, entropy;
} sow_policy;

/* Tokens of one sequence, n of them. reference may be NULL (kl 0). */
typedef struct sow_policy_args {
    const sow_policy *policy;
    const sow_kernels *kernels;
    int64_t n;
    double weight, advantage;
    const float *logprob, *old, *reference, *entropy;
    float *scratch; /* [3 n] */
} sow_policy_args;

/* Sums over the tokens of a sequence, in order, unweighted but for `loss`. */
typedef struct sow_policy_sums {
    double loss; /* weighted */
    double kl, entropy, ratio;
    double ratio_min, ratio_max;
    int64_t clipped_low, clipped_high, clipped_dual; /* tokens whose gradient the clip took away */
} sow_policy_sums;

/* out_logprob, out_entropy [n]: dLoss/dlogprob, dLoss/dentropy. */
void sow_policy_weigh(const sow_policy_args *args, float *out_logprob, float *out_entropy, sow_policy_sums *out);

typedef enum sow_advantage_scale { SOW_ADVANTAGE_GROUP, SOW_ADVANTAGE_BATCH, SOW_ADVANTAGE_NONE } sow_advantage_scale;
/* Advantages of n_groups groups of group_size rewards each, in double.  A group of equal rewards gets zeros. */
void sow_advantages(const double *rewards, int64_t n_groups, int64_t group_size, int ddof, sow_advantage_scale scale,
                    double eps, double *out);

/* Factor of the learning rate of step t = 1, 2, ... of `steps`: min(1, t / warmup) times constant, linear, or
 * min_factor + (1 - min_factor) (1 + cos(pi t / steps)) / 2, all by our own cosine. */
typedef enum sow_schedule { SOW_SCHEDULE_CONSTANT, SOW_SCHEDULE_LINEAR, SOW_SCHEDULE_COSINE } sow_schedule;
double sow_schedule_factor(sow_schedule schedule, int64_t step, int64_t steps, int64_t warmup, double min_factor);

#endif
