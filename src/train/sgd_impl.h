/* SPDX-License-Identifier: Apache-2.0 */
/* Methods with gradients (sft, grpo): what they share.
 *
 *     units --star--> gradients, added exactly by rank --reduce--> gradient of a node --apply--> theta, m, v
 *
 * A gradient's units are one round, and its sums are those of the ranks that answered in it: nobody's part may be
 * counted twice.  So if a unit had to be given to a second rank, or a node was lost, the round is begun anew, and every
 * rank that takes part in it clears its sums first: a lost worker costs time alone.
 *
 * Losses travel as integers (scale 2^32), rounded once per sequence, so that cutting into units changes nothing. */
#ifndef SOWER_SGD_IMPL_H
#define SOWER_SGD_IMPL_H

#include "root_impl.h"

#include "sower/gradient.h"
#include "sower/loss.h"

/* Jobs of units beside those of the evaluator. */
enum { JOB_GRADIENT = -1, JOB_ROLLOUT = -2 };

/* What a unit of a gradient or of rollouts tells beside its result; integers of scale 2^32 where they are sums of real
 * numbers. */
typedef struct sow_sgd_stats {
    int32_t round, id;
    int64_t kl, entropy, ratio;
    int64_t tokens, sequences;
    int64_t clipped_low, clipped_high, clipped_dual;
    double ratio_min, ratio_max;
} sow_sgd_stats;

/* What a rank holds for gradients. */
typedef struct sow_sgd {
    sow_optimizer *optimizer; /* owned */
    sow_gradient *gradient;   /* owned */
    int64_t gradient_index;   /* theta that its transposed weights are of; -1: none */
    int32_t sums_round;       /* round that this rank's sums belong to; -1: none */
    reduce_message reduce;    /* the last one */
    sow_sgd_stats stats;      /* of the unit just answered */
    struct sow_sft *sft;      /* owned; NULL for grpo */
    struct sow_grpo *grpo;
} sow_sgd;

/* What root holds. */
typedef struct sow_sgd_root {
    sow_sgd_stats *stats; /* owned, by unit of the round */
    int64_t stats_capacity;
    struct sow_grpo_root *grpo; /* owned; NULL for sft */
    /* Of the step at work, for its line of metrics. */
    double values[3], rate, norm, loss, seconds;
    int64_t tokens, step_tokens, n_restarts; /* step_tokens: what num_tokens grows by */
    sow_sgd_stats sum;
} sow_sgd_root;

/* sgd_run.c: the parts of sow_method that are alike. */
SOW_NODISCARD sow_code sow_sgd_create(sow_run *run);
SOW_NODISCARD sow_code sow_sgd_prepare(sow_run *run);
void sow_sgd_fini(sow_run *run);
/* Memory of optimizer and gradients, and the work of one gradient of `rows` prompts with `samples` completions;
 * out->updates and nodes are there. */
void sow_sgd_plan(const sow_plan_args *args, int64_t rows, int64_t samples, sow_plan *out);
int sow_sgd_center(const sow_run *run, int64_t step);
int32_t sow_sgd_round(sow_root *root, int64_t step);
/* Answers a unit of an evaluation; *is_stale as in sow_method. */
SOW_NODISCARD sow_code sow_sgd_evaluate(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale);
/* theta[index] into replica (and transposed weights); *has false: theta has moved on. */
SOW_NODISCARD sow_code sow_sgd_weights(sow_run *run, int64_t index, bool wants_gradient, bool *has);
/* This rank's sums for a round, cleared if it is a new one. */
int64_t *sow_sgd_sums(sow_run *run, int32_t round);
/* Of the options' method: factor of the learning rate times it, at a step of the run. */
double sow_sgd_rate(const sow_options *options, int64_t step);
/* A real number as an integer of scale 2^32. */
int64_t sow_sgd_fixed(double x);

/* work.c's and root's part in messages. */
SOW_NODISCARD sow_code sow_sgd_reduce(sow_run *run, const reduce_message *message);
SOW_NODISCARD sow_code sow_sgd_reduce_complete(sow_run *run);
SOW_NODISCARD sow_code sow_sgd_apply(sow_run *run, const apply_message *message, sow_step *out);

/* sgd_root.c. */
/* Root answers a unit itself: what a worker's unit needs before, and what its messages bring after. */
SOW_NODISCARD sow_code sow_sgd_own(sow_root *root, const sow_unit *unit, bool is_before);
SOW_NODISCARD sow_code sow_sgd_on_stats(sow_root *root, const sow_message *m);
SOW_NODISCARD sow_code sow_sgd_on_parcel(sow_root *root, const sow_message *m);
/* How many units `rows` become for so many ranks, and the rows of the largest. */
int64_t sow_sgd_count_units(int64_t rows, int64_t ranks, int64_t *most);
/* Makes rows first .. last - 1 of a job the units of a round. */
SOW_NODISCARD sow_code sow_sgd_add_units(sow_root *root, int group, int job, int64_t first, int64_t last,
                                         int64_t *n_units);
/* One optimizer step: the gradient of root->units[0..n_units) (group: index), applied at `rate`: theta[index] becomes
 * theta[index + 1].  Adds loss, norm, stats to root->sgd. */
SOW_NODISCARD sow_code sow_sgd_update(sow_root *root, int64_t index, int64_t n_units, double rate);
/* The line of the ledger of a step whose values are in root->sgd->values: written, or compared with `ledger`.  tokens:
 * of the step, prompts and completions. */
SOW_NODISCARD sow_code sow_sgd_record(sow_root *root, const sow_ledger *ledger, int64_t step, int64_t tokens);
SOW_NODISCARD sow_code sow_sgd_root_create(sow_root *root);
void sow_sgd_root_destroy(sow_root *root);
/* loss, grad_norm, learning_rate, tokens, times. */
void sow_sgd_put(sow_root *root, sow_line *line, int64_t step);

/* grpo.c, grpo_root.c: parcels that have come, and root's own, before and after a unit that it answers itself. */
SOW_NODISCARD sow_code sow_grpo_own_parcel(sow_root *root, const sow_unit *unit, bool is_before);
void sow_grpo_root_destroy(sow_root *root);
SOW_NODISCARD sow_code sow_grpo_on_parcel(sow_root *root, const sow_message *m);
SOW_NODISCARD sow_code sow_grpo_take_parcel(sow_run *run, const sow_message *m);

#endif
