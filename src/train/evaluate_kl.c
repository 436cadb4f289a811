/* SPDX-License-Identifier: Apache-2.0 */
/* Answers held against the base: the k3 estimate of KL(member || base) that a fitness may pay for, see evaluate.h, and
 * at the end the measures of kl.h.
 *
 * The base scores prompt and answer in one pass.  Greedy answers are not a sample of the member's distribution, so this
 * is no estimate of the divergence over all texts; it says how much less likely the base finds what the member says. */
#include "evaluate_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

enum { CHUNK = 64 };

sow_code sow_evaluator_hold_base(sow_evaluator *e, const float *base)
{
    SOW_ASSERT(e->base == NULL);
    SOW_TRY(sow_replica_create(e->args.la, e->args.layout, e->args.type, &e->base));
    return sow_replica_make(e->base, base, NULL);
}

bool sow_evaluator_has_base(const sow_evaluator *e)
{
    return e->base != NULL;
}

void sow_evaluator_drop_base(sow_evaluator *e)
{
    sow_replica_destroy(&e->base);
}

/* Prompt and answer of every row one behind the other in e->ids, behind the prompts. */
static sow_code add_sequences(sow_evaluator *e, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const sow_completion *answer = &e->answers[i];
        for (int64_t k = e->starts[i]; k < e->starts[i + 1]; k++)
            SOW_TRY(sow_ids_add(&e->ids, e->ids.ids[k]));
        for (int64_t k = 0; k < answer->n_sampled; k++)
            SOW_TRY(sow_ids_add(&e->ids, k < answer->n ? answer->ids[k] : answer->end));
    }
    return SOW_OK;
}

/* Log-probabilities of the answers' tokens by the base: e->items. */
static sow_code score_by_base(sow_evaluator *e, int64_t n)
{
    int64_t at = e->ids.n;
    SOW_TRY(add_sequences(e, n));
    SOW_TRY(SOW_GROW(&e->items, &e->items_capacity, n));
    SOW_TRY(SOW_GROW(&e->logprobs, &e->logprobs_capacity, e->ids.n));
    for (int64_t i = 0; i < n; i++) {
        int64_t n_context = e->starts[i + 1] - e->starts[i], all = n_context + e->answers[i].n_sampled;
        e->items[i] =
            (sow_score_item){.ids = e->ids.ids + at, .n = all, .n_context = n_context, .logprobs = e->logprobs + at};
        at += all;
    }
    return sow_engine_score(e->engine, e->base, e->items, n);
}

static double mean_k3(const sow_kernels *kernels, int64_t n, const float *member, const float *base)
{
    double sum = 0;
    for (int64_t at = 0; at < n; at += CHUNK) {
        float r[CHUNK], ratio[CHUNK];
        const int64_t count = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t i = 0; i < count; i++)
            r[i] = base[at + i] - member[at + i];
        kernels->exp(count, r, ratio);
        for (int64_t i = 0; i < count; i++)
            sum += (double)ratio[i] - (double)r[i] - 1.0;
    }
    return n == 0 ? 0 : sum / (double)n;
}

sow_code sow_evaluator_measure_k3(sow_evaluator *e, int64_t n)
{
    SOW_TRY(SOW_GROW(&e->k3, &e->k3_capacity, n));
    SOW_TRY(score_by_base(e, n));
    for (int64_t i = 0; i < n; i++)
        e->k3[i] =
            mean_k3(sow_la_kernels(e->args.la), e->answers[i].n_sampled, e->answers[i].logprobs, e->items[i].logprobs);
    return SOW_OK;
}

sow_code sow_evaluator_kl(sow_evaluator *e, int number, int64_t n, sow_sequences *fixed, sow_kl *out)
{
    SOW_ASSERT(e->base != NULL);
    SOW_TRY(sow_evaluator_encode_first(e, number, n));
    return sow_kl_measure(&(sow_kl_args){.engine = e->engine,
                                         .layout = e->args.layout,
                                         .tuned = e->replica,
                                         .base = e->base,
                                         .prompts = e->prompts,
                                         .n_prompts = n,
                                         .max_new = sow_evaluator_max_new(e, number),
                                         .stop = e->args.stop,
                                         .tokenizer = e->tokenizer},
                          fixed, out);
}
