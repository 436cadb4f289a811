/* SPDX-License-Identifier: Apache-2.0 */
/* Comparison with a reference: logits, greedy tokens and log-probabilities that another program recorded for a model.
 *
 * Needs: engine, tokenizer, json.  Threads: call from the first thread.  Ranks: knows none.  One code for `sower check`
 * and for the golden tests.
 *
 * The reference is a JSON object with any of the keys below; others are ignored.
 *
 *     "logits": ENTRY   "rows": [ENTRY...]   "prompts": [ENTRY...]   "continuations": [{...}...]
 *
 * An ENTRY names a prompt by "ids", or by "prompt" or "text" if there are none (with both, the tokenizer must give
 * the ids), and has any of
 *
 *     "values"                     logits of the whole vocabulary after the prompt
 *     "top_ids", "top_logits"      some of these logits
 *     "mean_nll"                   minus the mean log-probability of the prompt's tokens but the first
 *     "greedy_ids", "margins"      greedy tokens with the end token; the lead of each over the second
 *     "logprobs"                   log-probabilities of greedy_ids
 *     "answer", "answer_logprob"   a text, and the log-probability of it and the model's (first) end token
 *
 * A continuation has "context_ids", "continuation_ids" and "token_logprobs". */
#ifndef SOWER_REFERENCE_H
#define SOWER_REFERENCE_H

#include "sower/engine.h"
#include "sower/json.h"

/* What is compared; each is one line of the result. */
/* clang-format off */
#define SOW_REFERENCE_PARTS(PART)                                              \
    PART(TOKENS, "tokens") PART(LOGITS, "logits") PART(MEAN_NLL, "mean_nll")   \
    PART(GREEDY, "greedy") PART(LOGPROBS, "logprobs") PART(ANSWERS, "answers") \
    PART(CONTINUATIONS, "continuations")
/* clang-format on */
typedef enum sow_reference_kind {
#define PART(name, text) SOW_REFERENCE_##name,
    SOW_REFERENCE_PARTS(PART)
#undef PART
        SOW_N_REFERENCE_KINDS
} sow_reference_kind;

/* How far a value may be away; greedy tokens are compared up to the first margin below `margin`. */
typedef struct sow_tolerances {
    double logit, logprob, margin;
} sow_tolerances;
sow_tolerances sow_tolerances_default(void); /* 2e-4, 2e-4, 5e-3 */

typedef struct sow_reference_part {
    const char *name;          /* "logits", ... */
    int64_t n_values;          /* compared */
    int64_t n_wrong;           /* of them unequal, or beyond the tolerance */
    double tolerance, largest; /* largest deviation; of tokens: 0 */
    double got, expected;      /* of the first wrong value, else of the largest deviation */
    char where[96];            /* "prompts[3] value 17" */
} sow_reference_part;

typedef struct sow_reference_args {
    sow_engine *engine;
    const sow_replica *replica;
    sow_tokenizer *tokenizer; /* NULL: prompts must have ids */
    const sow_json *reference;
    const char *what; /* names the reference in messages */
    sow_tolerances tolerances;
    /* Called for each part that has values, in the order of the table. */
    void (*report)(void *context, const sow_reference_part *part);
    void *context;
} sow_reference_args;

/* Compares everything.  *out_wrong: the wrong values of all parts.  SOW_EFORMAT if the reference has nothing to compare
 * or is not of this form. */
SOW_NODISCARD sow_code sow_reference_check(const sow_reference_args *args, int64_t *out_wrong);

#endif
