/* SPDX-License-Identifier: Apache-2.0 */
/* Rollouts: completions of some prompts, sampled, graded, with the log-probabilities of their tokens under the policy
 * that sampled them and under the base.
 *
 * At temperature 1 the sampler's own log-probabilities are the old ones.  At another one the policy of the loss is
 * softmax(logits / T); the training pass computes it, without a backward pass. */
#include "grpo_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <math.h>
#include <string.h>

/* The prompts of a unit, each G times. */
static sow_code encode_prompts(sow_run *run, const sow_unit *unit)
{
    sow_grpo *g = run->sgd->grpo;
    int64_t group = run->options->grpo.group_size, n = unit->count * group;
    SOW_TRY(SOW_GROW(&g->prompts, &g->prompts_capacity, n));
    SOW_TRY(SOW_GROW(&g->completions, &g->completions_capacity, n));
    g->ids.n = 0;
    for (int32_t i = 0; i < unit->count; i++) {
        int64_t before = g->ids.n;
        SOW_TRY(sow_evaluator_prompt(run->evaluator, run->train_job, run->rows[unit->first + i], &g->ids));
        for (int64_t j = 0; j < group; j++)
            g->prompts[i * group + j].n = g->ids.n - before;
    }
    const int32_t *at = g->ids.ids; /* which may have moved while it grew */
    for (int32_t i = 0; i < unit->count; at += g->prompts[i * group].n, i++)
        for (int64_t j = 0; j < group; j++)
            g->prompts[i * group + j].ids = at;
    return SOW_OK;
}

/* Sequences [prompt, tokens, end] of all completions, one behind the other, and where each one's tokens begin among the
 * tokens of all. */
static sow_code flatten(sow_run *run, int64_t n, int64_t *n_tokens)
{
    sow_grpo *g = run->sgd->grpo;
    int64_t flat = 0, tokens = 0;
    for (int64_t i = 0; i < n; i++) {
        flat += g->prompts[i].n + g->completions[i].n_sampled;
        tokens += g->completions[i].n_sampled;
    }
    SOW_TRY(SOW_GROW(&g->flat, &g->flat_capacity, flat));
    SOW_TRY(SOW_GROW(&g->items, &g->items_capacity, n));
    SOW_TRY(sow_grpo_reach(g, tokens));
    int32_t *at = g->flat;
    for (int64_t i = 0, first = 0; i < n; first += g->completions[i].n_sampled, i++) {
        sow_completion *c = &g->completions[i];
        const sow_prompt *p = &g->prompts[i];
        memcpy(at, p->ids, (size_t)p->n * sizeof *at);
        memcpy(at + p->n, c->ids, (size_t)c->n * sizeof *at);
        if (c->n_sampled > c->n)
            at[p->n + c->n] = c->end;
        c->ids = at + p->n; /* the engine's own are gone at its next call */
        g->items[i] =
            (sow_score_item){.ids = at, .n = p->n + c->n_sampled, .n_context = p->n, .logprobs = g->reference + first};
        at += p->n + c->n_sampled;
    }
    *n_tokens = tokens;
    return SOW_OK;
}

static sow_code stash(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    float *const *to = context; /* [sequence]: its log-probabilities */
    for (int64_t i = 0; i < n; i++)
        to[tokens[i].unit][tokens[i].index] = tokens[i].logprob;
    memset(out, 0, (size_t)n * sizeof *out);
    return SOW_OK;
}

/* Log-probabilities at the policy's temperature under `replica` into `to`. */
static sow_code score_at_temperature(sow_run *run, const sow_replica *replica, int64_t n, float *to)
{
    sow_grpo *g = run->sgd->grpo;
    SOW_TRY(SOW_GROW(&g->views, &g->views_capacity, n));
    SOW_TRY(SOW_GROW(&g->units, &g->units_capacity, n));
    SOW_TRY(SOW_GROW(&g->places, &g->places_capacity, n));
    for (int64_t i = 0; i < n; i++) {
        const sow_score_item *item = &g->items[i];
        g->views[i] = (sow_sequence){.ids = item->ids + item->n_context - 1, .n = item->n - item->n_context + 1};
        g->units[i] = (sow_train_unit){
            .prefix = item->ids, .n_prefix = item->n_context - 1, .sequences = &g->views[i], .n_sequences = 1};
        g->places[i] = to;
        to += item->n - item->n_context;
    }
    return sow_gradient_run(run->sgd->gradient, &(sow_gradient_args){.replica = replica,
                                                                     .units = g->units,
                                                                     .n_units = n,
                                                                     .temperature = run->options->grpo.temperature,
                                                                     .weigh = stash,
                                                                     .context = g->places});
}

/* Old and reference log-probabilities of all tokens. */
static sow_code score(sow_run *run, int64_t n)
{
    sow_grpo *g = run->sgd->grpo;
    bool is_plain = !(run->options->grpo.temperature < 1 || run->options->grpo.temperature > 1);
    if (is_plain) {
        for (int64_t i = 0, at = 0; i < n; at += g->completions[i].n_sampled, i++)
            memcpy(g->old + at, g->completions[i].logprobs, (size_t)g->completions[i].n_sampled * sizeof *g->old);
        return g->base == NULL ? SOW_OK : sow_engine_score(sow_evaluator_engine(run->evaluator), g->base, g->items, n);
    }
    SOW_TRY(score_at_temperature(run, sow_evaluator_replica(run->evaluator), n, g->old));
    return g->base == NULL ? SOW_OK : score_at_temperature(run, g->base, n, g->reference);
}

/* The parcel: head, ids, old, reference of each completion. */
static sow_code pack(sow_run *run, const sow_unit *unit, int64_t n, sow_result *out)
{
    sow_grpo *g = run->sgd->grpo;
    int64_t group = run->options->grpo.group_size, at = 0;
    sow_words_clear(&g->out);
    for (int64_t i = 0; i < n; i++) {
        const sow_score_item *item = &g->items[i];
        const sow_completion *c = &g->completions[i];
        size_t bytes = (size_t)c->n_sampled * sizeof(float);
        sow_grade grade;
        SOW_TRY(sow_evaluator_grade(run->evaluator, run->train_job, run->rows[unit->first + i / group], c, &grade));
        if (!isfinite(grade.reward))
            return SOW_FAIL(SOW_ENUM, "task %s: the reward of prompt %lld is not finite", run->options->task.name,
                            (long long)(unit->first + i / group));
        rollout_head head = {.n = (int32_t)c->n_sampled,
                             .is_truncated = c->finish == SOW_FINISH_LENGTH || c->finish == SOW_FINISH_CONTEXT,
                             .is_correct = grade.is_correct,
                             .reward = grade.reward};
        memcpy(head.parts, grade.parts, sizeof head.parts);
        SOW_TRY(sow_bytes_put(&g->out, &head, sizeof head));
        SOW_TRY(sow_bytes_put(&g->out, item->ids + item->n_context, bytes));
        SOW_TRY(sow_bytes_put(&g->out, g->old + at, bytes));
        if (g->base != NULL)
            SOW_TRY(sow_bytes_put(&g->out, g->reference + at, bytes));
        at += c->n_sampled;
        out->reward += sow_sgd_fixed(grade.reward);
        out->right += grade.is_correct ? 1u : 0u;
        out->new_tokens += (int32_t)c->n_sampled;
    }
    return SOW_OK;
}

sow_code sow_grpo_rollout(sow_run *run, const sow_unit *unit, sow_result *out)
{
    const sow_options *o = run->options;
    sow_grpo *g = run->sgd->grpo;
    int64_t step = unit->group / sow_grpo_updates(run) + 1, n = unit->count * o->grpo.group_size, n_tokens = 0;
    SOW_TRY(sow_run_draw(run, step));
    SOW_TRY(encode_prompts(run, unit));
    SOW_TRY(sow_engine_generate(sow_evaluator_engine(run->evaluator),
                                &(sow_generate_args){.replica = sow_evaluator_replica(run->evaluator),
                                                     .prompts = g->prompts,
                                                     .n_prompts = n,
                                                     .max_new = sow_evaluator_max_new(run->evaluator, run->train_job),
                                                     .want_logprobs = true,
                                                     .stop = o->generate.stop[0] == '\0' ? NULL : o->generate.stop,
                                                     .tokenizer = sow_evaluator_tokenizer(run->evaluator),
                                                     .temperature = o->grpo.temperature,
                                                     .seed = (uint32_t)o->run.seed,
                                                     .step = (uint32_t)step,
                                                     .first_prompt = unit->first * o->grpo.group_size},
                                g->completions));
    SOW_TRY(flatten(run, n, &n_tokens));
    SOW_TRY(score(run, n));
    sow_phase_enter(SOW_PHASE_GRADE);
    *out = (sow_result){.round = unit->round, .id = unit->id};
    SOW_TRY(pack(run, unit, n, out));
    return SOW_OK;
}
