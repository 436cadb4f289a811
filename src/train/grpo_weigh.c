/* SPDX-License-Identifier: Apache-2.0 */
/* What the rewards of a step make of its samples: advantages, which of them have a loss, and what is counted of a
 * mini-batch for the weights of tokens. */
#include "grpo_impl.h"

#include <string.h>

bool sow_grpo_is_flat(const double *rewards, int64_t n)
{
    int64_t i = 1;
    while (i < n && !(rewards[i] < rewards[0]) && !(rewards[i] > rewards[0]))
        i++;
    return i >= n;
}

static sow_advantage_scale scale_of(const char *name)
{
    return strcmp(name, "batch") == 0  ? SOW_ADVANTAGE_BATCH
           : strcmp(name, "none") == 0 ? SOW_ADVANTAGE_NONE
                                       : SOW_ADVANTAGE_GROUP;
}

void sow_grpo_weigh(const sow_options *o, const double *rewards, int64_t prompts, double *advantages,
                    grpo_sample *samples)
{
    int64_t size = o->grpo.group_size;
    sow_advantages(rewards, prompts, size, (int)o->grpo.advantage_ddof, scale_of(o->grpo.advantage_scale),
                   o->grpo.advantage_eps, advantages);
    for (int64_t i = 0; i < prompts * size; i++) {
        grpo_sample *s = &samples[i];
        bool is_dropped = o->grpo.drop_zero_std && sow_grpo_is_flat(rewards + i / size * size, size);
        s->advantage = advantages[i];
        s->has_loss = !is_dropped && !(o->grpo.mask_truncated && s->head.is_truncated != 0);
    }
}

sow_loss_counts sow_grpo_count(const grpo_sample *samples, int64_t n, int64_t max_completion)
{
    sow_loss_counts counts = {.max_completion = max_completion};
    for (int64_t i = 0; i < n; i++) {
        counts.sequences += samples[i].has_loss;
        counts.tokens += samples[i].has_loss ? samples[i].head.n : 0;
    }
    return counts;
}
