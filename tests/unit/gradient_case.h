/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of gradients share: units of random tokens, a loss with weights of its own for every token, a run. */
#ifndef SOWER_TESTS_GRADIENT_CASE_H
#define SOWER_TESTS_GRADIENT_CASE_H

#include "random_model.h"

#include "sower/gradient.h"

enum { CASE_UNITS = 6, CASE_SEQUENCES = 5, CASE_LENGTH = 48, CASE_TARGETS = 2500 };

/* Units with a prefix and several sequences, without a prefix, with one target, ... */
typedef struct gradient_case {
    sow_train_unit units[CASE_UNITS];
    sow_sequence sequences[CASE_UNITS][CASE_SEQUENCES];
    int32_t ids[CASE_UNITS][CASE_SEQUENCES + 1][CASE_LENGTH];
    int64_t n_units, vocab;
    int64_t first_unit; /* of the call */
    double temperature;
    bool wants_entropy;
    /* filled by a run: in the order of the calls */
    sow_token tokens[CASE_TARGETS];
    int64_t n_tokens;
    double loss;
} gradient_case;

/* Prefix and the lengths of the sequences, 0: none; positions 16 and 17 begin a page or end one. */
static const int64_t case_sizes[CASE_UNITS][CASE_SEQUENCES + 1] = {{19, 9, 2, 15, 30, 3}, {0, 12, 0, 0, 0, 0},
                                                                   {16, 5, 17, 2, 0, 0},  {1, 20, 20, 0, 0, 0},
                                                                   {0, 2, 33, 4, 0, 0},   {40, 6, 7, 0, 0, 0}};

static inline void make_case(gradient_case *c, int64_t vocab, uint32_t seed)
{
    memset(c, 0, sizeof *c);
    c->n_units = CASE_UNITS;
    c->vocab = vocab;
    c->temperature = 1.0;
    for (int u = 0; u < CASE_UNITS; u++) {
        sow_train_unit *unit = &c->units[u];
        random_ids(seed + (uint32_t)u * 10, vocab, CASE_LENGTH, c->ids[u][CASE_SEQUENCES]);
        *unit = (sow_train_unit){c->ids[u][CASE_SEQUENCES], case_sizes[u][0], c->sequences[u], 0};
        for (int s = 0; s < CASE_SEQUENCES && case_sizes[u][s + 1] > 0; s++) {
            random_ids(seed + (uint32_t)(u * 10 + s + 1), vocab, CASE_LENGTH, c->ids[u][s]);
            c->sequences[u][s] = (sow_sequence){c->ids[u][s], case_sizes[u][s + 1]};
            unit->n_sequences++;
        }
    }
}

/* Weights that differ from token to token, of both signs, and some that are zero. */
static inline float case_weight(const gradient_case *c, const sow_token *token)
{
    const int64_t i = (c->first_unit + token->unit) * 7 + token->sequence * 3 + token->index;
    return (float)(i % 5 - 2) * 0.11f + 0.07f;
}

static inline float case_entropy_weight(const gradient_case *c, const sow_token *token)
{
    return (float)((c->first_unit + token->unit + token->index) % 3 - 1) * 0.05f;
}

/* loss = sum of weight * logprob + entropy weight * entropy */
static inline sow_code weigh_case(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    gradient_case *c = context;
    for (int64_t i = 0; i < n; i++) {
        assert_true(c->n_tokens < CASE_TARGETS);
        c->tokens[c->n_tokens++] = tokens[i];
        out[i].logprob = case_weight(c, &tokens[i]);
        out[i].entropy = c->wants_entropy ? case_entropy_weight(c, &tokens[i]) : 0.0f;
        c->loss += (double)out[i].logprob * (double)tokens[i].logprob;
        c->loss += (double)out[i].entropy * (double)tokens[i].entropy;
    }
    return SOW_OK;
}

static inline sow_gradient_args case_args(gradient_case *c, const random_model *m, int64_t *sums)
{
    c->n_tokens = 0;
    c->loss = 0.0;
    return (sow_gradient_args){.replica = m->replica,
                               .units = c->units,
                               .n_units = c->n_units,
                               .temperature = c->temperature,
                               .wants_entropy = c->wants_entropy,
                               .weigh = weigh_case,
                               .context = c,
                               .sums = sums};
}

static inline sow_gradient *open_gradient(const random_model *m, int64_t row_tokens, const char *recompute)
{
    sow_gradient *g = NULL;
    const sow_gradient_options options = {.row_tokens = row_tokens, .recompute = recompute};
    CHECK_OK(sow_gradient_create(m->la, m->layout, sow_replica_type(m->replica), &options, &g));
    CHECK_OK(sow_gradient_weights(g, m->theta));
    return g;
}

static inline int64_t *new_sums(const sow_layout *layout)
{
    int64_t *sums = NULL;
    CHECK_OK(SOW_ALLOC(&sums, layout->n_elements));
    return sums;
}

#endif
