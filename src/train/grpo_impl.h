/* SPDX-License-Identifier: Apache-2.0 */
/* GRPO over the star (arXiv 2402.03300, section 4.1; design, section 6).
 *
 *     rollout unit    some prompts of the step: G completions each, graded       -> parcel to root
 *     root            advantages within groups, weights of tokens                -> parcel with each gradient unit
 *     gradient unit   some groups of a mini-batch: forward, loss, backward       -> exact sums
 *
 * What a prompt is answered depends on (seed, step, prompt, sample, position), so who sampled what never matters. */
#ifndef SOWER_GRPO_IMPL_H
#define SOWER_GRPO_IMPL_H

#include "parcel_impl.h"
#include "sgd_impl.h"

/* What stands before a sample's tokens in a parcel of rollouts: ids [n], old [n], and reference [n] if there is KL. */
typedef struct rollout_head {
    int32_t n, is_truncated, is_correct, pad; /* tokens, with the end token */
    double reward, parts[SOW_MAX_PARTS];
} rollout_head;

/* Root: a sample of the step, in the parcel it came in. */
typedef struct grpo_sample {
    rollout_head head;
    const char *data; /* ids, old, reference */
    double advantage;
    bool has_loss;
} grpo_sample;

/* The same in a parcel of groups; a group begins with group_head. */
typedef struct sample_head {
    int32_t n, pad;
    double weight, advantage;
} sample_head;

typedef struct group_head {
    int64_t row; /* of the task */
    int64_t n_samples;
} group_head;

/* Every rank's room. */
typedef struct sow_grpo {
    sow_replica *base; /* owned; the reference model, NULL without KL */
    sow_loss const *loss;
    sow_policy policy;
    sow_parcels parcels; /* groups for gradient units */
    sow_bytes out;       /* the parcel being made */
    sow_ids ids;         /* prompts, or sequences */
    sow_prompt *prompts; /* owned, as all arrays below */
    sow_completion *completions;
    int64_t prompts_capacity, completions_capacity;
    /* Tokens of the samples of a unit, one behind the other. */
    float *old, *reference, *logprob, *entropy, *d_logprob, *d_entropy;
    int64_t token_capacity;
    int32_t *flat; /* ids of sequences: [last prompt token, tokens] */
    int64_t flat_capacity;
    struct grpo_sequence *sequences;
    sow_sequence *views;
    sow_train_unit *units;
    sow_score_item *items;
    float **places;          /* of each sample's log-probabilities */
    int64_t *first_sequence; /* of each group of a unit, and behind the last */
    int64_t *group_of;       /* of each unit of a gradient */
    int64_t sequences_capacity, views_capacity, units_capacity, items_capacity;
    int64_t places_capacity, first_sequence_capacity, group_of_capacity;
} sow_grpo;

/* Room for n tokens in the arrays above; what they hold stays. */
SOW_NODISCARD sow_code sow_grpo_reach(sow_grpo *grpo, int64_t n);

/* grpo_rollout.c: answers a unit of rollouts; the parcel is in grpo->out. */
SOW_NODISCARD sow_code sow_grpo_rollout(sow_run *run, const sow_unit *unit, sow_result *out);
/* grpo_gradient.c: answers a unit of a gradient from its parcel. */
SOW_NODISCARD sow_code sow_grpo_gradient(sow_run *run, const sow_unit *unit, const sow_parcel *parcel, sow_result *out);
/* Optimizer steps of one step of the run; prompts it draws. */
int64_t sow_grpo_updates(const sow_run *run);
int64_t sow_grpo_prompts(const sow_run *run);
/* grpo_weigh.c.  Whether all rewards are equal. */
bool sow_grpo_is_flat(const double *rewards, int64_t n);
/* Advantages of [prompts][group_size] rewards, and into samples beside them; which samples have a loss. */
void sow_grpo_weigh(const sow_options *options, const double *rewards, int64_t prompts, double *advantages,
                    grpo_sample *samples);
/* Of a mini-batch of n samples. */
sow_loss_counts sow_grpo_count(const grpo_sample *samples, int64_t n, int64_t max_completion);
/* grpo_root.c. */
SOW_NODISCARD sow_code sow_grpo_step(sow_root *root, int64_t step);
SOW_NODISCARD sow_code sow_grpo_redo(sow_root *root, const sow_ledger *ledger, int64_t step);
SOW_NODISCARD sow_code sow_grpo_put(sow_root *root, sow_line *line, int64_t step);
void sow_grpo_tell(const sow_root *root, char *out, size_t cap);

#endif
