/* SPDX-License-Identifier: Apache-2.0 */
/* The loop that feeds sequences through the model, up to `batch` of them together.
 *
 *     while there is something to feed:
 *         admit    items into free slots, in order; an item lists the pages it has in common with the one before it
 *         gather   one row of every slot that decodes, then rows of known tokens up to max_rows
 *         forward  all these rows
 *         take     the rows of logits: each gives a next token, or ends its item and frees its slot
 *
 * Prefix sharing: the item admitted last leaves its full pages of known tokens in place until the next one has been
 * admitted and has listed those that it begins with too.  So a beginning that all prompts have, a prompt repeated G
 * times and a question with four endings are each computed once, by one rule.  The rows that fill a shared page are
 * fed no later than the rows that read it (items are fed in order), and the forward pass stores before it reads. */
#include "nn_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <string.h>

#include <omp.h>

enum {
    PREFILL_ROWS = 224, /* rows of known tokens beside `batch` rows of decoding: enough to be bound by arithmetic */
    BAD_ROW = -2,       /* a state or a logit that is not finite */
};

sow_code sow_engine_create(sow_la *la, const sow_layout *layout, int64_t batch, sow_engine **out)
{
    sow_engine *engine = NULL;
    sow_code rc = SOW_OK;
    if (batch < 1 || batch > 1 << 16)
        return SOW_FAIL(SOW_EARG, "batch: %lld is outside [1, 65536]", (long long)batch);
    SOW_TRY(SOW_ALLOC(&engine, 1));
    engine->batch = batch;
    SOW_TRY_OR(rc, sow_forward_init(&engine->forward, la, layout, batch + PREFILL_ROWS));
    SOW_TRY_OR(rc, SOW_ALLOC(&engine->slots, batch));
    SOW_TRY_OR(rc, SOW_ALLOC(&engine->prefilling, batch));
    SOW_TRY_OR(rc, SOW_ALLOC(&engine->rows, batch + PREFILL_ROWS));
    SOW_TRY_OR(rc, SOW_ALLOC(&engine->next, batch + PREFILL_ROWS));
    *out = engine;
    return SOW_OK;
done:
    sow_engine_destroy(&engine);
    return rc;
}

void sow_engine_destroy(sow_engine **engine)
{
    sow_engine *e = *engine;
    if (e == NULL)
        return;
    sow_forward_fini(&e->forward);
    SOW_FREE(&e->slots);
    SOW_FREE(&e->prefilling);
    SOW_FREE(&e->page_tables);
    SOW_FREE(&e->rows);
    SOW_FREE(&e->next);
    SOW_FREE(&e->ids);
    SOW_FREE(&e->logprobs);
    SOW_FREE(&e->completions);
    SOW_FREE(&e->stop_states);
    SOW_FREE(&e->stop_table);
    SOW_FREE(&e->draws);
    SOW_FREE(engine);
}

static int64_t pages_of(int64_t n_positions)
{
    return (n_positions + SOW_PAGE - 1) / SOW_PAGE;
}

size_t sow_engine_bytes(const sow_layout *layout, int64_t batch, int64_t positions)
{
    const sow_shape *shape = &layout->shape;
    const int64_t half = shape->head_dim / 2;
    const double page =
        4.0 * (double)shape->n_layers * (double)shape->n_kv_heads * 2.0 * SOW_PAGE * (double)shape->head_dim;
    double bytes = 4.0 * (double)sow_forward_floats(layout, batch + PREFILL_ROWS);
    bytes += page * (double)(batch + 1) * (double)pages_of(positions); /* cache, and what the last item leaves */
    bytes += 2.0 * 4.0 * (double)positions * (double)half;             /* rope */
    bytes += 12.0 * (double)batch * (double)positions;                 /* tables, ids, log-probabilities */
    return bytes < (double)(SIZE_MAX / 2) ? (size_t)bytes : SIZE_MAX / 2;
}

sow_engine_counts sow_engine_counted(const sow_engine *engine)
{
    sow_engine_counts counts = engine->counts;
    counts.flops = engine->forward.flops;
    return counts;
}

sow_code sow_engine_check_ids(const sow_engine *engine, int64_t row, const int32_t *ids, int64_t n)
{
    const sow_shape *shape = &engine->forward.layout->shape;
    if (n < 1 || n > shape->max_positions)
        return SOW_FAIL(SOW_EARG, "row %lld: %lld tokens, expected 1 to %lld, the model's context", (long long)row,
                        (long long)n, (long long)shape->max_positions);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= shape->vocab_size)
            return SOW_FAIL(SOW_EARG, "row %lld: token %lld is %d, expected 0 to %lld, the model's vocabulary",
                            (long long)row, (long long)i, (int)ids[i], (long long)shape->vocab_size - 1);
    return SOW_OK;
}

float sow_engine_logprob(const sow_engine *engine, const sow_logit_row *row, int32_t id)
{
    const sow_kernels *kernels = engine->forward.kernels;
    const float sum = kernels->sum_exp(engine->forward.layout->shape.vocab_size, row->logits, row->max);
    float log_sum = 0.0f;
    kernels->log(1, &sum, &log_sum);
    return (row->logits[id] - row->max) - log_sum;
}

/* Takes the memory of a run: a table of pages per slot, and as many pages as `batch` of the longest items can hold. */
static sow_code reserve(sow_engine *engine, const sow_source *source)
{
    int64_t longest = 1, longest_known = 1;
    for (int64_t i = 0; i < source->n_items; i++) {
        const sow_feed feed = source->feed(source->context, i);
        longest = feed.n > 0 && feed.n_positions > longest ? feed.n_positions : longest;
        longest_known = feed.n > longest_known ? feed.n : longest_known;
    }
    const int64_t together = source->n_items < engine->batch ? source->n_items : engine->batch;
    const int64_t n_pages = together * pages_of(longest) + longest_known / SOW_PAGE;
    SOW_TRY(sow_forward_reserve(&engine->forward, longest, n_pages));
    if (pages_of(longest) <= engine->table_pages)
        return SOW_OK;
    SOW_FREE(&engine->page_tables);
    engine->table_pages = 0;
    SOW_TRY(SOW_ALLOC(&engine->page_tables, (engine->batch + 1) * pages_of(longest)));
    engine->table_pages = pages_of(longest);
    return SOW_OK;
}

static int32_t *last_pages(const sow_engine *engine)
{
    return engine->page_tables + engine->batch * engine->table_pages;
}

/* How many pages of the last item begin `feed` too, leaving the positions whose logits are wanted. */
static int64_t count_shared(const sow_engine *engine, const sow_feed *feed)
{
    const sow_feed *last = &engine->last;
    int64_t n = 0;
    while (n < feed->first_wanted && n < last->n && feed->ids[n] == last->ids[n])
        n++;
    return n / SOW_PAGE < engine->n_last_pages ? n / SOW_PAGE : engine->n_last_pages;
}

/* Puts an item into a slot: shared pages, own pages for its other known tokens; it becomes the last item. */
static void admit_item(sow_engine *engine, int64_t s, int64_t item, sow_feed feed)
{
    sow_cache *cache = &engine->forward.cache;
    sow_slot *slot = &engine->slots[s];
    const int64_t n_shared = count_shared(engine, &feed), n_full = feed.n / SOW_PAGE;
    int32_t *last = last_pages(engine);
    *slot = (sow_slot){.item = item,
                       .feed = feed,
                       .n_fed = n_shared * SOW_PAGE,
                       .pages = engine->page_tables + s * engine->table_pages,
                       .n_pages = pages_of(feed.n)};
    for (int64_t p = 0; p < slot->n_pages; p++) {
        slot->pages[p] = p < n_shared ? last[p] : sow_cache_take(cache);
        if (p < n_shared)
            sow_cache_share(cache, last[p]);
    }
    for (int64_t p = 0; p < n_full; p++)
        sow_cache_share(cache, slot->pages[p]);
    for (int64_t p = 0; p < engine->n_last_pages; p++)
        sow_cache_release(cache, last[p]);
    memcpy(last, slot->pages, (size_t)n_full * sizeof *last);
    engine->n_last_pages = n_full;
    engine->last = feed;
    engine->prefilling[engine->n_prefilling++] = s;
    engine->counts.shared_tokens += slot->n_fed;
}

/* Fills free slots with items *next_item ... */
static void admit(sow_engine *engine, const sow_source *source, int64_t *next_item)
{
    for (int64_t s = 0; s < engine->batch; s++) {
        while (engine->slots[s].item < 0 && *next_item < source->n_items) {
            const sow_feed feed = source->feed(source->context, *next_item);
            if (feed.n > 0)
                admit_item(engine, s, *next_item, feed);
            (*next_item)++;
        }
    }
}

static void release_slot(sow_engine *engine, sow_slot *slot)
{
    for (int64_t p = 0; p < slot->n_pages; p++)
        sow_cache_release(&engine->forward.cache, slot->pages[p]);
    slot->n_pages = 0;
    slot->item = -1;
}

static sow_row row_of(const sow_engine *engine, int64_t s, int32_t token)
{
    const sow_slot *slot = &engine->slots[s];
    return (sow_row){.sequence = s,
                     .position = slot->n_fed,
                     .pages = slot->pages,
                     .token = token,
                     .wants_logits = slot->n_fed >= slot->feed.first_wanted};
}

/* The rows of the next forward pass; *has_known: known tokens are among them. */
static int64_t gather(sow_engine *engine, bool *has_known)
{
    int64_t m = 0, n_left = 0;
    for (int64_t s = 0; s < engine->batch; s++) {
        sow_slot *slot = &engine->slots[s];
        if (slot->item < 0 || slot->n_fed < slot->feed.n)
            continue;
        SOW_ASSERT(slot->n_fed < slot->feed.n_positions);
        if (slot->n_fed == slot->n_pages * SOW_PAGE)
            slot->pages[slot->n_pages++] = sow_cache_take(&engine->forward.cache);
        engine->rows[m++] = row_of(engine, s, slot->next);
        slot->n_fed++;
    }
    engine->counts.decode_tokens += m;
    const int64_t n_decoding = m;
    for (int64_t i = 0; i < engine->n_prefilling; i++) {
        const int64_t s = engine->prefilling[i];
        sow_slot *slot = &engine->slots[s];
        for (; slot->n_fed < slot->feed.n && m < engine->forward.max_rows; slot->n_fed++)
            engine->rows[m++] = row_of(engine, s, slot->feed.ids[slot->n_fed]);
        if (slot->n_fed < slot->feed.n)
            engine->prefilling[n_left++] = s;
    }
    engine->n_prefilling = n_left;
    engine->counts.prefill_tokens += m - n_decoding;
    *has_known = m > n_decoding;
    return m;
}

/* What the owner of row i makes of its logits, which are row `at` of those in memory. */
static void take_row(sow_engine *engine, const sow_source *source, int64_t i, int64_t at)
{
    const sow_forward *forward = &engine->forward;
    const sow_row *row = &engine->rows[i];
    const int64_t vocab = forward->layout->shape.vocab_size;
    sow_logit_row logits = {.item = engine->slots[row->sequence].item,
                            .position = row->position,
                            .logits = forward->logits + at * forward->logits_ld,
                            .thread = omp_get_thread_num()};
    logits.best = (int32_t)forward->kernels->argmax(vocab, logits.logits, &logits.max);
    if (row->is_overflowing || logits.best < 0 || forward->kernels->has_non_finite(vocab, logits.logits))
        engine->next[i] = BAD_ROW;
    else
        engine->next[i] = source->take(source->context, &logits);
}

/* Makes and takes the logits of rows 0 .. m - 1. */
static void take_rows(sow_engine *engine, const sow_replica *replica, const sow_source *source, int64_t m)
{
    const int64_t vocab = engine->forward.layout->shape.vocab_size;
    for (int64_t first = 0; first < m; first += SOW_LOGIT_ROWS) {
        const int64_t n = m - first < SOW_LOGIT_ROWS ? m - first : SOW_LOGIT_ROWS;
        sow_forward_logits(&engine->forward, replica, first, n);
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(engine->forward.threads) if (sow_forward_is_worth(&engine->forward, n, vocab / 2))
        for (int64_t i = 0; i < n; i++)
            take_row(engine, source, first + i, i);
    }
}

/* Goes on with the slots whose rows were taken: a next token, or the end. */
static sow_code advance(sow_engine *engine, const sow_source *source, int64_t m)
{
    int64_t bad = -1;
    for (int64_t i = 0; i < m; i++) {
        const sow_row *row = &engine->rows[i];
        const int64_t item = engine->slots[row->sequence].item;
        if (engine->next[i] == BAD_ROW && (bad < 0 || item < engine->slots[engine->rows[bad].sequence].item))
            bad = i;
    }
    if (bad >= 0)
        return SOW_FAIL(SOW_ENUM, "row %lld: the state or the logits after token %lld are not finite",
                        (long long)(source->first_row + engine->slots[engine->rows[bad].sequence].item),
                        (long long)engine->rows[bad].position);
    for (int64_t i = 0; i < m; i++) {
        sow_slot *slot = &engine->slots[engine->rows[i].sequence];
        if (engine->rows[i].position + 1 < slot->feed.n)
            continue; /* its next token is known */
        slot->next = engine->next[i];
        if (slot->next < 0)
            release_slot(engine, slot);
    }
    return SOW_OK;
}

static void start_run(sow_engine *engine)
{
    sow_cache_clear(&engine->forward.cache);
    for (int64_t s = 0; s < engine->batch; s++)
        engine->slots[s] = (sow_slot){.item = -1};
    engine->n_prefilling = 0;
    engine->n_last_pages = 0;
    engine->last = (sow_feed){.ids = NULL};
}

sow_code sow_engine_run(sow_engine *engine, const sow_replica *replica, const sow_source *source)
{
    int64_t next_item = 0;
    sow_phase phase = SOW_PHASE_START;
    if (sow_replica_layout(replica)->n_elements != engine->forward.layout->n_elements)
        return SOW_FAIL(SOW_EARG, "the weights have another shape than the engine");
    SOW_TRY(sow_kernels_check_rounding());
    SOW_TRY(reserve(engine, source));
    start_run(engine);
    for (;;) {
        bool has_known = false;
        admit(engine, source, &next_item);
        int64_t m = gather(engine, &has_known);
        if (m == 0)
            return SOW_OK;
        const sow_phase now = has_known ? SOW_PHASE_PREFILL : SOW_PHASE_DECODE;
        if (now != phase)
            sow_phase_enter(now);
        phase = now;
        sow_forward_run(&engine->forward, replica, engine->rows, &m);
        take_rows(engine, replica, source, m);
        SOW_TRY(advance(engine, source, m));
    }
}
