/* SPDX-License-Identifier: Apache-2.0 */
/* Generation: what is fed is a prompt, what is taken from a row of logits is the next token, until one of
 *
 *     EOS       a token of the model's list             LENGTH    max_new tokens
 *     STOP      the stop string, over tokens            CONTEXT   prompt and completion fill the model's context
 *
 * The stop string is looked for in the bytes of the completion with Knuth, Morris and Pratt's automaton: a completion
 * keeps one number (how much of the stop string its bytes end with), so the string may begin and end inside tokens. */
#include "nn_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <string.h>

typedef struct generation {
    sow_engine *engine;
    const sow_generate_args *args;
    size_t stop_bytes; /* 0: none */
} generation;

/* Most tokens that prompt i may get. */
static int64_t room_of(const generation *g, int64_t i)
{
    const int64_t left = g->engine->forward.layout->shape.max_positions - g->args->prompts[i].n;
    return left < g->args->max_new ? left : g->args->max_new;
}

static sow_feed feed_prompt(void *context, int64_t item)
{
    const generation *g = context;
    const sow_prompt *prompt = &g->args->prompts[item];
    const int64_t room = room_of(g, item);
    return (sow_feed){.ids = prompt->ids,
                      .n = room > 0 ? prompt->n : 0,
                      .first_wanted = prompt->n - 1,
                      .n_positions = prompt->n + room - 1}; /* the last token is not fed */
}

static bool is_end(const sow_shape *shape, int32_t id)
{
    for (int64_t i = 0; i < shape->n_eos; i++)
        if (shape->eos[i] == id)
            return true;
    return false;
}

/* table[i]: length of the longest proper prefix of the stop string that ends its first i + 1 bytes. */
static void make_stop_table(const char *stop, int64_t n, int64_t *table)
{
    table[0] = 0;
    for (int64_t i = 1, k = 0; i < n; i++) {
        while (k > 0 && stop[i] != stop[k])
            k = table[k - 1];
        k += stop[i] == stop[k];
        table[i] = k;
    }
}

/* Whether the stop string is complete within the bytes of `id`. */
static bool finds_stop(const generation *g, int64_t item, int32_t id)
{
    const char *stop = g->args->stop;
    const int64_t *table = g->engine->stop_table;
    size_t bytes = 0;
    const char *text = sow_tokenizer_bytes(g->args->tokenizer, id, &bytes);
    int64_t k = g->engine->stop_states[item];
    for (size_t i = 0; text != NULL && i < bytes; i++) {
        while (k > 0 && text[i] != stop[k])
            k = table[k - 1];
        k += text[i] == stop[k];
        if (k == (int64_t)g->stop_bytes)
            return true;
    }
    g->engine->stop_states[item] = k;
    return false;
}

static int32_t choose(const generation *g, const sow_logit_row *row, int64_t token)
{
    const sow_generate_args *args = g->args;
    const sow_forward *forward = &g->engine->forward;
    if (args->temperature == 0.0)
        return row->best;
    const uint64_t random =
        sow_sample_bits(args->seed, args->step, (uint32_t)(args->first_prompt + row->item), (uint64_t)token);
    return sow_sample(forward->kernels, forward->layout->shape.vocab_size, row->logits, row->max, args->temperature,
                      random, g->engine->draws + row->thread * forward->logits_ld);
}

static int32_t take_token(void *context, const sow_logit_row *row)
{
    generation *g = context;
    const sow_shape *shape = &g->engine->forward.layout->shape;
    sow_completion *completion = &g->engine->completions[row->item];
    const int32_t id = choose(g, row, completion->n);
    completion->n_sampled++;
    completion->finish = SOW_FINISH_EOS;
    completion->end = id;
    if (completion->logprobs != NULL)
        completion->logprobs[completion->n] = sow_engine_logprob(g->engine, row, id);
    if (is_end(shape, id))
        return -1;
    completion->ids[completion->n++] = id;
    completion->finish = SOW_FINISH_STOP;
    if (g->stop_bytes > 0 && finds_stop(g, row->item, id))
        return -1;
    completion->finish = completion->n == g->args->max_new ? SOW_FINISH_LENGTH : SOW_FINISH_CONTEXT;
    return completion->n == room_of(g, row->item) ? -1 : id;
}

static sow_code check_args(const generation *g)
{
    const sow_generate_args *args = g->args;
    if (args->n_prompts < 0 || args->max_new < 0)
        return SOW_FAIL(SOW_EARG, "%lld prompts and %lld new tokens: neither may be negative",
                        (long long)args->n_prompts, (long long)args->max_new);
    if (args->temperature != 0.0 && !(args->temperature >= 1e-6 && args->temperature <= 1e6))
        return SOW_FAIL(SOW_EARG, "temperature: %g is outside [1e-6, 1e6] and not 0", args->temperature);
    if (args->first_prompt < 0 || args->first_prompt > (int64_t)UINT32_MAX - args->n_prompts)
        return SOW_FAIL(SOW_EARG, "prompts %lld and on are outside the 32 bits of a sampling place",
                        (long long)args->first_prompt);
    if (g->stop_bytes > 0 && args->tokenizer == NULL)
        return SOW_FAIL(SOW_EARG, "a stop string needs a tokenizer");
    for (int64_t i = 0; i < args->n_prompts; i++)
        SOW_TRY(sow_engine_check_ids(g->engine, args->first_prompt + i, args->prompts[i].ids, args->prompts[i].n));
    return SOW_OK;
}

/* Makes *block hold at least n items; what it held is lost. */
#define RESERVE(block, room, n)                                                                                        \
    do {                                                                                                               \
        if ((n) > (room)) {                                                                                            \
            SOW_FREE(&(block));                                                                                        \
            (room) = 0;                                                                                                \
            SOW_TRY(SOW_ALLOC(&(block), (n)));                                                                         \
            (room) = (n);                                                                                              \
        }                                                                                                              \
    } while (0)

static sow_code reserve(const generation *g)
{
    sow_engine *engine = g->engine;
    int64_t n_ids = 0, n_prompts = g->args->n_prompts;
    for (int64_t i = 0; i < n_prompts; i++)
        n_ids += room_of(g, i);
    if (n_prompts > engine->items_room) {
        SOW_FREE(&engine->completions);
        SOW_FREE(&engine->stop_states);
        engine->items_room = 0;
        SOW_TRY(SOW_ALLOC(&engine->completions, n_prompts));
        SOW_TRY(SOW_ALLOC(&engine->stop_states, n_prompts));
        engine->items_room = n_prompts;
    }
    RESERVE(engine->ids, engine->ids_room, n_ids);
    if (g->args->want_logprobs)
        RESERVE(engine->logprobs, engine->logprobs_room, n_ids);
    RESERVE(engine->stop_table, engine->stop_room, (int64_t)g->stop_bytes);
    if (g->args->temperature != 0.0 && engine->draws == NULL)
        SOW_TRY(SOW_ALLOC(&engine->draws, engine->forward.threads * engine->forward.logits_ld));
    return SOW_OK;
}

sow_code sow_engine_generate(sow_engine *engine, const sow_generate_args *args, sow_completion *out)
{
    generation g = {.engine = engine, .args = args, .stop_bytes = args->stop == NULL ? 0 : strlen(args->stop)};
    SOW_TRY(check_args(&g));
    SOW_TRY(reserve(&g));
    if (g.stop_bytes > 0)
        make_stop_table(args->stop, (int64_t)g.stop_bytes, engine->stop_table);
    for (int64_t i = 0, at = 0; i < args->n_prompts; at += room_of(&g, i), i++) {
        engine->stop_states[i] = 0;
        engine->completions[i] =
            (sow_completion){.ids = engine->ids + at,
                             .logprobs = args->want_logprobs ? engine->logprobs + at : NULL,
                             .finish = args->max_new == 0 ? SOW_FINISH_LENGTH : SOW_FINISH_CONTEXT};
    }
    SOW_TRY(sow_engine_run(engine, args->replica,
                           &(sow_source){.n_items = args->n_prompts,
                                         .first_row = args->first_prompt,
                                         .feed = feed_prompt,
                                         .take = take_token,
                                         .context = &g}));
    for (int64_t i = 0; i < args->n_prompts; i++)
        out[i] = engine->completions[i];
    return SOW_OK;
}
