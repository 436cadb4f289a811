/* SPDX-License-Identifier: Apache-2.0 */
/* A gradient unit of GRPO: groups of completions with their advantages, from a parcel; the loss's derivative of each
 * token goes into the backward pass, and its sums to root.
 *
 * Sums are made again from all tokens of a sequence once its log-probabilities are known, in order, so that they do not
 * depend on how the pass cut the rows. */
#include "grpo_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <string.h>

/* A sample of the unit at work. */
typedef struct grpo_sequence {
    int64_t first, n; /* its tokens among those of the unit */
    double weight, advantage;
} grpo_sequence;

/* What one gradient unit looks at. */
typedef struct gradient_job {
    sow_run *run;
    sow_grpo *g;
    const sow_unit *unit;
    int64_t n_sequences, n_tokens;
    bool is_first_update; /* the policy has not moved since it sampled */
} gradient_job;

static sow_code fail_parcel(const gradient_job *job)
{
    return SOW_FAIL(SOW_ECOMM, "the parcel of unit %d in round %d is cut short", job->unit->id, job->unit->round);
}

/* One sample: its tokens behind those before, its ids [last prompt token, tokens] in `flat`. */
static sow_code read_sample(gradient_job *job, sow_reader *reader, int32_t last_id, int64_t *flat)
{
    sow_grpo *g = job->g;
    sample_head head;
    if (!sow_reader_get(reader, &head, sizeof head) || head.n < 1)
        return fail_parcel(job);
    SOW_TRY(sow_grpo_reach(g, job->n_tokens + head.n));
    SOW_TRY(SOW_GROW(&g->flat, &g->flat_capacity, *flat + head.n + 1));
    SOW_TRY(SOW_GROW(&g->sequences, &g->sequences_capacity, job->n_sequences));
    size_t bytes = (size_t)head.n * sizeof(float);
    g->flat[*flat] = last_id;
    if (!sow_reader_get(reader, g->flat + *flat + 1, bytes) || !sow_reader_get(reader, g->old + job->n_tokens, bytes))
        return fail_parcel(job);
    if (g->base != NULL && !sow_reader_get(reader, g->reference + job->n_tokens, bytes))
        return fail_parcel(job);
    g->sequences[job->n_sequences++] =
        (grpo_sequence){.first = job->n_tokens, .n = head.n, .weight = head.weight, .advantage = head.advantage};
    job->n_tokens += head.n;
    *flat += head.n + 1;
    return SOW_OK;
}

/* All groups of the parcel; prompts' ids in g->ids. */
static sow_code read_groups(gradient_job *job, const sow_parcel *parcel)
{
    sow_grpo *g = job->g;
    sow_reader reader = {.at = parcel->data.text, .end = parcel->data.text + parcel->data.bytes};
    int64_t flat = 0;
    SOW_TRY(SOW_GROW(&g->prompts, &g->prompts_capacity, job->unit->count));
    SOW_TRY(SOW_GROW(&g->first_sequence, &g->first_sequence_capacity, job->unit->count));
    g->ids.n = 0;
    for (int32_t i = 0; i < job->unit->count; i++) {
        group_head head;
        int64_t before = g->ids.n;
        if (!sow_reader_get(&reader, &head, sizeof head))
            return fail_parcel(job);
        SOW_TRY(sow_evaluator_prompt(job->run->evaluator, job->run->train_job, head.row, &g->ids));
        g->prompts[i].n = g->ids.n - before;
        g->first_sequence[i] = job->n_sequences;
        for (int64_t j = 0; j < head.n_samples; j++)
            SOW_TRY(read_sample(job, &reader, g->ids.ids[g->ids.n - 1], &flat));
    }
    g->first_sequence[job->unit->count] = job->n_sequences;
    return SOW_OK;
}

/* Units of the gradient: one per group that has samples.  Tells how many; g->group_of which group each is. */
static sow_code make_units(gradient_job *job, int64_t *n_units)
{
    sow_grpo *g = job->g;
    const int32_t *prompt = g->ids.ids, *flat = g->flat;
    SOW_TRY(SOW_GROW(&g->views, &g->views_capacity, job->n_sequences));
    SOW_TRY(SOW_GROW(&g->units, &g->units_capacity, job->unit->count));
    SOW_TRY(SOW_GROW(&g->group_of, &g->group_of_capacity, job->unit->count));
    *n_units = 0;
    for (int64_t i = 0; i < job->n_sequences; flat += g->views[i].n, i++)
        g->views[i] = (sow_sequence){.ids = flat, .n = g->sequences[i].n + 1};
    for (int32_t i = 0; i < job->unit->count; prompt += g->prompts[i].n, i++) {
        int64_t first = g->first_sequence[i], n = g->first_sequence[i + 1] - first;
        if (n == 0)
            continue;
        g->group_of[*n_units] = i;
        g->units[(*n_units)++] = (sow_train_unit){
            .prefix = prompt, .n_prefix = g->prompts[i].n - 1, .sequences = &g->views[first], .n_sequences = n};
    }
    return SOW_OK;
}

/* The importance ratio of the policy that sampled is 1, bit for bit (design, Numerics 10). */
static sow_code check_ratio(const gradient_job *job, const sow_token *token, int64_t group, float old)
{
    if (!job->is_first_update || memcmp(&token->logprob, &old, sizeof old) == 0)
        return SOW_OK;
    return SOW_FAIL(SOW_EBITS,
                    "prompt %lld, sample %lld, token %lld: the policy that sampled gives log-probability %a when "
                    "trained and gave %a: the importance ratio is not 1",
                    (long long)(job->unit->first + group), (long long)token->sequence, (long long)token->index,
                    (double)token->logprob, (double)old);
}

static sow_code weigh(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    const gradient_job *job = context;
    sow_grpo *g = job->g;
    for (int64_t i = 0; i < n; i++) {
        int64_t group = g->group_of[tokens[i].unit];
        const grpo_sequence *s = &g->sequences[g->first_sequence[group] + tokens[i].sequence];
        int64_t at = s->first + tokens[i].index;
        sow_policy_sums sums;
        g->logprob[at] = tokens[i].logprob;
        g->entropy[at] = tokens[i].entropy;
        SOW_TRY(check_ratio(job, &tokens[i], group, g->old[at]));
        sow_policy_weigh(&(sow_policy_args){.policy = &g->policy,
                                            .n = 1,
                                            .weight = s->weight,
                                            .advantage = s->advantage,
                                            .logprob = &g->logprob[at],
                                            .old = &g->old[at],
                                            .reference = g->base == NULL ? NULL : &g->reference[at],
                                            .entropy = &g->entropy[at]},
                         &out[i].logprob, &out[i].entropy, &sums);
    }
    return SOW_OK;
}

/* Sums of every sequence, in order, as integers. */
static void add_up(const gradient_job *job, sow_sgd_stats *stats, int64_t *loss)
{
    sow_grpo *g = job->g;
    *stats = (sow_sgd_stats){0};
    for (int64_t i = 0; i < job->n_sequences; i++) {
        const grpo_sequence *s = &g->sequences[i];
        sow_policy_sums sums;
        sow_policy_weigh(&(sow_policy_args){.policy = &g->policy,
                                            .n = s->n,
                                            .weight = s->weight,
                                            .advantage = s->advantage,
                                            .logprob = g->logprob + s->first,
                                            .old = g->old + s->first,
                                            .reference = g->base == NULL ? NULL : g->reference + s->first,
                                            .entropy = g->entropy + s->first},
                         g->d_logprob + s->first, g->d_entropy + s->first, &sums);
        *loss += sow_sgd_fixed(sums.loss);
        stats->kl += sow_sgd_fixed(sums.kl);
        stats->entropy += sow_sgd_fixed(sums.entropy);
        stats->ratio += sow_sgd_fixed(sums.ratio);
        stats->ratio_min = i == 0 || sums.ratio_min < stats->ratio_min ? sums.ratio_min : stats->ratio_min;
        stats->ratio_max = i == 0 || sums.ratio_max > stats->ratio_max ? sums.ratio_max : stats->ratio_max;
        stats->clipped_low += sums.clipped_low;
        stats->clipped_high += sums.clipped_high;
        stats->clipped_dual += sums.clipped_dual;
    }
    stats->tokens = job->n_tokens;
    stats->sequences = job->n_sequences;
}

static sow_code run_job(gradient_job *job, const sow_parcel *parcel, int64_t *loss)
{
    sow_run *run = job->run;
    int64_t n_units = 0, *sums = sow_sgd_sums(run, job->unit->round);
    SOW_TRY(read_groups(job, parcel));
    SOW_TRY(make_units(job, &n_units));
    sow_phase_enter(SOW_PHASE_BACKWARD);
    if (n_units > 0)
        SOW_TRY(
            sow_gradient_run(run->sgd->gradient, &(sow_gradient_args){.replica = sow_evaluator_replica(run->evaluator),
                                                                      .units = job->g->units,
                                                                      .n_units = n_units,
                                                                      .temperature = run->options->grpo.temperature,
                                                                      .wants_entropy = true,
                                                                      .weigh = weigh,
                                                                      .context = job,
                                                                      .sums = sums}));
    add_up(job, &run->sgd->stats, loss);
    return SOW_OK;
}

sow_code sow_grpo_gradient(sow_run *run, const sow_unit *unit, const sow_parcel *parcel, sow_result *out)
{
    gradient_job job = {.run = run, .g = run->sgd->grpo, .unit = unit};
    int64_t loss = 0;
    if (parcel == NULL)
        return SOW_FAIL(SOW_ECOMM, "the parcel of unit %d in round %d has not come", unit->id, unit->round);
    job.is_first_update = unit->group % sow_grpo_updates(run) == 0;
    SOW_TRY(run_job(&job, parcel, &loss));
    *out = (sow_result){.round = unit->round,
                        .id = unit->id,
                        .reward = loss,
                        .right = (uint32_t)job.n_sequences,
                        .new_tokens = (int32_t)job.n_tokens};
    return SOW_OK;
}
