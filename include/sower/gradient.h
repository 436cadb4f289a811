/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients: units of token sequences in, exact integer sums of their gradients out.
 *
 * Needs: replica, la, phase.  Threads: call from the first thread.  Ranks: knows none.
 *
 * A unit is what is summed in one chain: one prompt's group of completions (GRPO), one row (sft).  Its sequences share
 * a prefix, which is computed once; each row of a sequence has one target, the rows of the prefix have none.
 *
 *     prefix     p0 p1 .. p(P-2)        inputs without targets (may be empty)
 *     sequence   a0 a1 .. a(n-1)        inputs a0 .. a(n-2), targets a1 .. a(n-1); a0 is the last token of the prompt
 *
 * The rows of a unit have a fixed order: sequence 0, sequence 1, ..., then the prefix.  Every element of a unit's
 * float32 gradient is one chain over its rows in that order (design, Numerics 8); it is rounded once to a 64-bit
 * integer (SOW_FIXED_SCALE) and added to `sums`.  Rows of the input embedding are rounded and added one by one; a tied
 * embedding gets the output layer's chain and those.  Bits: independent of threads, micro-batch, recomputation,
 * instruction set, and of which units share a call.  The logarithm of a token's probability has the bits of
 * sow_engine_score.
 *
 * Memory is taken at creation and by runs; a run no larger than those before it takes none. */
#ifndef SOWER_GRADIENT_H
#define SOWER_GRADIENT_H

#include "sower/replica.h"

typedef struct sow_gradient sow_gradient;

typedef struct sow_gradient_options {
    int64_t row_tokens;    /* rows that go through together; a longer sequence goes alone */
    const char *recompute; /* activations are kept ("none"), computed again ("layer"), kept up to 1 GiB ("auto") */
} sow_gradient_options;

/* Room for the transposed weights, the float32 gradient and activations; la and layout outlive it. */
SOW_NODISCARD sow_code sow_gradient_create(sow_la *la, const sow_layout *layout, sow_type type,
                                           const sow_gradient_options *options, sow_gradient **out);
void sow_gradient_destroy(sow_gradient **gradient);
/* Bytes, for sequences of at most `positions` tokens with their prefix, without the threads' scratch.  Runs of fewer
 * than row_tokens rows, or whose prefixes alone are longer than that, take less. */
size_t sow_gradient_bytes(const sow_layout *layout, sow_type type, const sow_gradient_options *options,
                          int64_t positions);

/* Makes the transposed weights of theta, stored as `type` like the replica's. */
SOW_NODISCARD sow_code sow_gradient_weights(sow_gradient *gradient, const float *theta);

typedef struct sow_sequence {
    const int32_t *ids;
    int64_t n; /* at least 2 */
} sow_sequence;

typedef struct sow_train_unit {
    const int32_t *prefix;
    int64_t n_prefix;
    const sow_sequence *sequences;
    int64_t n_sequences;
} sow_train_unit;

/* A target: ids[index + 1] of a sequence of a unit of the call.  entropy: of the distribution that it was drawn from,
 * log(s) - (sum of exp(l - max) (l - max)) / s with s = sum of exp(l - max); 0 unless wanted. */
typedef struct sow_token {
    int64_t unit, sequence, index;
    float logprob, entropy;
} sow_token;

/* What the loss says of it: dLoss/dlogprob and dLoss/dentropy (which counts only if entropies are wanted). */
typedef struct sow_token_weight {
    float logprob, entropy;
} sow_token_weight;

typedef struct sow_gradient_args {
    const sow_replica *replica; /* of the same theta as the transposed weights, without noise */
    const sow_train_unit *units;
    int64_t n_units;
    double temperature; /* logits are divided by it before anything else; 1: not at all */
    bool wants_entropy;
    /* From the first thread, for some tokens at a time, in the order of rows; each token once.  A code that is not
     * SOW_OK ends the run. */
    sow_code (*weigh)(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out);
    void *context;
    int64_t *sums; /* [n_elements]; NULL: only log-probabilities are wanted, there is no backward pass */
} sow_gradient_args;

/* SOW_ENUM for a value that is not finite or a gradient that does not fit: names the unit, and the tensor or the token.
 * sums are then of no use.  An id outside the vocabulary or a sequence beyond the context is SOW_EARG naming the unit.
 * A unit without sequences adds nothing. */
SOW_NODISCARD sow_code sow_gradient_run(sow_gradient *gradient, const sow_gradient_args *args);

/* Floating-point operations since creation. */
double sow_gradient_flops(const sow_gradient *gradient);

#endif
