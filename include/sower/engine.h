/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: prompts in, completions or log-probabilities out, on one replica.  Batched decoding with a paged KV
 * cache, continuous batching, prefixes shared by prompts computed once.
 *
 * Needs: replica, la, phase.  Threads: call from the first thread.  Ranks: knows none.
 *
 * Bits: a token's logits depend on the weights and its prefix only: not on the batch, on prefill against decode, on
 * prefix sharing, threads or instruction set.  A non-finite logit is SOW_ENUM naming the row.  Memory is taken at
 * creation and at the first unit; a unit of no larger prompts takes none after that. */
#ifndef SOWER_ENGINE_H
#define SOWER_ENGINE_H

#include "sower/replica.h"
#include "sower/tokenizer.h"

typedef struct sow_engine sow_engine;

/* batch: sequences decoded together.  Each call makes sure of room in the KV cache for so many of its longest prompt
 * with max_new tokens (at most the model's context). */
SOW_NODISCARD sow_code sow_engine_create(sow_la *la, const sow_layout *layout, int64_t batch, sow_engine **out);
void sow_engine_destroy(sow_engine **engine);
/* Upper bound of the engine's memory for sequences of `positions` tokens, without the threads' own scratch (about 4
 * bytes a position and query head of a KV head, and a row of logits where tokens are sampled). */
size_t sow_engine_bytes(const sow_layout *layout, int64_t batch, int64_t positions);

typedef struct sow_prompt {
    const int32_t *ids; /* at least 1 */
    int64_t n;
} sow_prompt;

/* Why a completion ended. */
typedef enum sow_finish { SOW_FINISH_EOS, SOW_FINISH_STOP, SOW_FINISH_LENGTH, SOW_FINISH_CONTEXT } sow_finish;

/* A completion: new ids, the end token not among them (a stop string's tokens are; its text is cut by the caller). */
typedef struct sow_completion {
    int32_t *ids;    /* borrowed from the engine, valid until it generates again */
    float *logprobs; /* [n_sampled], natural logarithm, at temperature 1; NULL unless asked */
    int64_t n;
    int64_t n_sampled; /* with the end token: tokens computed */
    int32_t end;       /* the end token, if finish is SOW_FINISH_EOS */
    sow_finish finish;
} sow_completion;

typedef struct sow_generate_args {
    const sow_replica *replica;
    const sow_prompt *prompts;
    int64_t n_prompts, max_new;
    bool want_logprobs;
    const char *stop;               /* stop string; NULL or "": none */
    const sow_tokenizer *tokenizer; /* for `stop`; else may be NULL */
    double temperature;             /* 0: greedy, ties to the lowest id; else 1e-6 to 1e6 */
    uint32_t seed, step; /* sampling: threshold from seed, step, first_prompt + prompt, token of completion */
    int64_t first_prompt;
} sow_generate_args;

/* out [n_prompts].  A prompt longer than the context is SOW_EARG naming the row. */
SOW_NODISCARD sow_code sow_engine_generate(sow_engine *engine, const sow_generate_args *args, sow_completion *out);

/* Log-probabilities of given tokens: ids[n], the first n_context are context; logprobs [n - n_context] of the rest,
 * each given all before; is_greedy (may be NULL) [n - n_context] whether it is the argmax.  After SOW_ENUM the arrays
 * may be half filled. */
typedef struct sow_score_item {
    const int32_t *ids;
    int64_t n, n_context; /* n_context >= 1 */
    float *logprobs;
    bool *is_greedy;
} sow_score_item;
SOW_NODISCARD sow_code sow_engine_score(sow_engine *engine, const sow_replica *replica, const sow_score_item *items,
                                        int64_t n_items);

/* The logits after each of the last n_last tokens of a sequence: out [n_last][vocab_size].  Of many, and of one. */
typedef struct sow_logit_item {
    const int32_t *ids;
    int64_t n, n_last;
    float *out;
} sow_logit_item;
SOW_NODISCARD sow_code sow_engine_logits_of(sow_engine *engine, const sow_replica *replica, const sow_logit_item *items,
                                            int64_t n_items);
SOW_NODISCARD sow_code sow_engine_logits(sow_engine *engine, const sow_replica *replica, sow_prompt sequence,
                                         int64_t n_last, float *out);

/* Tokens since creation: computed in prefill, not computed because a prefix was shared, decoded; and floating-point
 * operations. */
typedef struct sow_engine_counts {
    int64_t prefill_tokens, shared_tokens, decode_tokens;
    double flops;
} sow_engine_counts;
sow_engine_counts sow_engine_counted(const sow_engine *engine);

#endif
