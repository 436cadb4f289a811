/* SPDX-License-Identifier: Apache-2.0 */
/* Scoring: the log-probabilities of given tokens, and the logits of one sequence.  A token is judged by the logits of
 * the position before it, so the last token of an item is not fed, and positions before the last of the context may
 * come from the pages of the item before: the endings of one question compute the question once. */
#include "nn_impl.h"

#include <string.h>

typedef struct scoring {
    sow_engine *engine;
    const sow_score_item *items;
} scoring;

static sow_feed feed_item(void *context, int64_t i)
{
    const sow_score_item *item = &((const scoring *)context)->items[i];
    const int64_t n = item->n > item->n_context ? item->n - 1 : 0;
    return (sow_feed){.ids = item->ids, .n = n, .first_wanted = item->n_context - 1, .n_positions = n};
}

static int32_t take_score(void *context, const sow_logit_row *row)
{
    const scoring *s = context;
    const sow_score_item *item = &s->items[row->item];
    const int64_t next = row->position + 1, at = next - item->n_context;
    item->logprobs[at] = sow_engine_logprob(s->engine, row, item->ids[next]);
    if (item->is_greedy != NULL)
        item->is_greedy[at] = row->best == item->ids[next];
    return -1;
}

sow_code sow_engine_score(sow_engine *engine, const sow_replica *replica, const sow_score_item *items, int64_t n_items)
{
    scoring s = {.engine = engine, .items = items};
    for (int64_t i = 0; i < n_items; i++) {
        SOW_TRY(sow_engine_check_ids(engine, i, items[i].ids, items[i].n));
        if (items[i].n_context < 1 || items[i].n_context > items[i].n)
            return SOW_FAIL(SOW_EARG, "row %lld: a context of %lld tokens, expected 1 to %lld", (long long)i,
                            (long long)items[i].n_context, (long long)items[i].n);
    }
    return sow_engine_run(engine, replica,
                          &(sow_source){.n_items = n_items, .feed = feed_item, .take = take_score, .context = &s});
}

typedef struct reading {
    const sow_logit_item *items;
    int64_t vocab;
} reading;

static sow_feed feed_sequence(void *context, int64_t i)
{
    const sow_logit_item *item = &((const reading *)context)->items[i];
    return (sow_feed){.ids = item->ids, .n = item->n, .first_wanted = item->n - item->n_last, .n_positions = item->n};
}

static int32_t take_logits(void *context, const sow_logit_row *row)
{
    const reading *r = context;
    const sow_logit_item *item = &r->items[row->item];
    memcpy(item->out + (row->position - item->n + item->n_last) * r->vocab, row->logits,
           (size_t)r->vocab * sizeof(float));
    return -1;
}

sow_code sow_engine_logits_of(sow_engine *engine, const sow_replica *replica, const sow_logit_item *items,
                              int64_t n_items)
{
    reading r = {.items = items, .vocab = engine->forward.layout->shape.vocab_size};
    for (int64_t i = 0; i < n_items; i++) {
        SOW_TRY(sow_engine_check_ids(engine, i, items[i].ids, items[i].n));
        if (items[i].n_last < 1 || items[i].n_last > items[i].n)
            return SOW_FAIL(SOW_EARG, "row %lld: the last %lld of %lld tokens, expected 1 to %lld", (long long)i,
                            (long long)items[i].n_last, (long long)items[i].n, (long long)items[i].n);
    }
    return sow_engine_run(engine, replica,
                          &(sow_source){.n_items = n_items, .feed = feed_sequence, .take = take_logits, .context = &r});
}

sow_code sow_engine_logits(sow_engine *engine, const sow_replica *replica, sow_prompt sequence, int64_t n_last,
                           float *out)
{
    const sow_logit_item item = {.ids = sequence.ids, .n = sequence.n, .n_last = n_last, .out = out};
    return sow_engine_logits_of(engine, replica, &item, 1);
}
