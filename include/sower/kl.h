/* SPDX-License-Identifier: Apache-2.0 */
/* How far a tuned model's distribution has moved from its base's, in nats, three ways:
 *
 *     sampled   as the code of arXiv 2601.20861 samples it: the tuned model's greedy continuation y of each prompt,
 *               mean over prompts of sum_t log p_tuned(y_t) - log p_base(y_t).  There the base's log-probability is a
 *               top-20 one, with the 20th less 2 for tokens outside; here it is exact
 *     token     arXiv 2605.30148: greedy continuations that the base made once, mean over prompts of the mean over
 *               tokens of log p_base(y_t) - log p_tuned(y_t)
 *     exact     at those positions sum_v p_base (log p_base - log p_tuned) over the whole vocabulary, mean over prompts
 *               of the mean over positions; reverse: with the models exchanged
 *
 * All at temperature 1; continuations have their end token.  Only `exact` is a divergence: the other two follow one
 * greedy path, and may be negative.
 *
 * Needs: engine, libm, OpenMP.  Threads: call from the first thread.  Ranks: knows none.  Bits: none promised. */
#ifndef SOWER_KL_H
#define SOWER_KL_H

#include "sower/engine.h"

/* Of one row of logits [n] of both models at temperature 1. */
typedef struct sow_kl_row {
    double exact, reverse; /* >= 0 */
    double token;          /* log p_base(id) - log p_tuned(id) */
} sow_kl_row;
sow_kl_row sow_kl_of_logits(const float *base, const float *tuned, int64_t n, int32_t id);

/* Prompts with continuations: sequence i is ids[starts[i]] .. ids[starts[i + 1] - 1], its first n_prompt[i] the prompt.
 * Start with {0}. */
typedef struct sow_sequences {
    int64_t n, n_ids;
    int32_t *ids;               /* owned */
    int64_t *starts, *n_prompt; /* owned, [n + 1], [n] */
    int64_t ids_capacity, starts_capacity, prompt_capacity;
} sow_sequences;
void sow_sequences_fini(sow_sequences *sequences);

enum { SOW_KL_ROOM_BYTES = 1 << 26 };
typedef struct sow_kl_args {
    sow_engine *engine;
    const sow_layout *layout;
    const sow_replica *tuned, *base;
    const sow_prompt *prompts;
    int64_t n_prompts, max_new;
    const char *stop; /* continuations end there, as in sow_generate_args; NULL: none */
    const sow_tokenizer *tokenizer;
    int64_t room; /* rows of logits of each model at a time; 0: SOW_KL_ROOM_BYTES of them, or one row */
} sow_kl_args;

typedef struct sow_kl {
    int64_t rows;                       /* prompts */
    double sampled, sampled_length;     /* nats a prompt; mean tokens of the tuned model's continuations */
    double token, exact, exact_reverse; /* nats a token */
    double base_length;                 /* mean tokens of the base's continuations */
} sow_kl;

/* As an object, with the name of the task that the prompts are of. */
struct sow_line;
void sow_kl_put(struct sow_line *line, const char *key, const char *task, const sow_kl *kl);

/* Measures all three.  fixed: the base's continuations; if it is empty it is filled, else it is taken as it is
 * (prompts: the same as then). */
SOW_NODISCARD sow_code sow_kl_measure(const sow_kl_args *args, sow_sequences *fixed, sow_kl *out);

#endif
