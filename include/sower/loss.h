/* SPDX-License-Identifier: Apache-2.0 */
/* Losses of GRPO: what a token weighs (a table row each), the clipped surrogate, KL, entropy; advantages; the learning
 * rate over a run.
 *
 * Needs: real (exp, cosine).  Threads: pure functions.  Ranks: knows none.  Not collective.  Bits: double in a fixed
 * order, no libc's exp.  Sources: DeepSeekMath (arXiv 2402.03300, eq. 3 and 4), DAPO (arXiv 2503.14476, eq. 8), Dr.
 * GRPO (arXiv 2503.20783), dual clip (arXiv 1912.09729); clamps and defaults as verl has them (docs/decisions/0008).
 */
#ifndef SOWER_LOSS_H
#define SOWER_LOSS_H

#include <stdint.h>

/* Of an optimizer step's mini-batch; masked sequences and dropped groups are not counted. */
typedef struct sow_loss_counts {
    int64_t sequences, tokens; /* that have a loss: all at least 1 */
    int64_t max_completion;    /* tokens of the longest completion that is allowed */
} sow_loss_counts;

/* A row of losses.def and a function in loss.c (docs/HOWTO-add-a-loss.md).  The weight of each token of a sequence of
 * `length` tokens (at least 1); the loss is the sum of weight * term, so that nothing is divided afterwards. */
typedef struct sow_loss {
    const char *name, *doc;
    double (*weight)(const sow_loss_counts *counts, int64_t length);
} sow_loss;
int64_t sow_loss_count(void);
const sow_loss *sow_loss_at(int64_t index);
const sow_loss *sow_loss_find(const char *name); /* NULL if none */

/* The term of a token, with ratio r = exp(clamp(logprob - old, +-20)), advantage A, k = clamp(reference - logprob,
 * +-20) and the entropy H of the distribution that it was drawn from:
 *
 *     -min(r A, clamp(r, 1 - clip_low, 1 + clip_high) A)      for A < 0 at most -dual_clip A
 *     + kl min(exp(k) - k - 1, 10)                            k3: Schulman 2020
 *     - entropy H
 *
 * At a border the gradient is that of the inside: at r = 1 it is never clipped. */
typedef struct sow_policy {
    double clip_low, clip_high;
    double dual_clip; /* above 1; 0: none */
    double kl, entropy;
} sow_policy;

/* Tokens of one sequence, n of them (at least 1). */
typedef struct sow_policy_args {
    const sow_policy *policy;
    int64_t n;
    double weight, advantage;
    const float *logprob, *old; /* [n] */
    const float *reference;     /* [n], or NULL: no KL, in the loss or in the sums */
    const float *entropy;       /* [n], or NULL: as if it were 0 */
} sow_policy_args;

/* Sums over the tokens of a sequence, in order, unweighted but for `loss`. */
typedef struct sow_policy_sums {
    double loss;                                     /* of weight * term */
    double kl, entropy, ratio;                       /* k3, H, r */
    double ratio_min, ratio_max;                     /* extremes, not sums */
    int64_t clipped_low, clipped_high, clipped_dual; /* tokens whose gradient a clip took away; a token counts once */
} sow_policy_sums;

/* out_logprob, out_entropy [n]: dLoss/dlogprob and dLoss/dentropy, in double and rounded once; out_entropy may be NULL.
 * An input that is not finite gives an output and sums that are not, or the value at the clamp. */
void sow_policy_weigh(const sow_policy_args *args, float *out_logprob, float *out_entropy, sow_policy_sums *out);

/* What a reward's distance from the mean of its group is divided by (with eps added): the standard deviation of its
 * group or of the whole batch, or 1 (without eps). */
typedef enum sow_advantage_scale { SOW_ADVANTAGE_GROUP, SOW_ADVANTAGE_BATCH, SOW_ADVANTAGE_NONE } sow_advantage_scale;
/* Advantages of n_groups groups of group_size (at least 1) rewards each, all [n_groups][group_size]; ddof 0 or 1.  A
 * group of equal rewards gets zeros exactly. */
void sow_advantages(const double *rewards, int64_t n_groups, int64_t group_size, int ddof, sow_advantage_scale scale,
                    double eps, double *out);

/* Factor of the learning rate of step t = 1, 2, ... of `steps`: min(1, t / warmup), times 1, or times
 * min_factor + (1 - min_factor) f with f = 1 - t / steps (linear) or f = (1 + cos(pi t / steps)) / 2 (cosine).  Steps
 * after the last have its factor. */
typedef enum sow_schedule { SOW_SCHEDULE_CONSTANT, SOW_SCHEDULE_LINEAR, SOW_SCHEDULE_COSINE } sow_schedule;
double sow_schedule_factor(sow_schedule schedule, int64_t step, int64_t steps, int64_t warmup, double min_factor);

#endif
