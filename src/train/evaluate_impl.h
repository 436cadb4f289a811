/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the evaluator share: evaluate.c (weights, prompts, answers), evaluate_score.c (rows that are judged
 * by log-probabilities) and evaluate_kl.c (answers held against the base). */
#ifndef SOWER_EVALUATE_IMPL_H
#define SOWER_EVALUATE_IMPL_H

#include "sower/evaluate.h"

typedef struct sow_job {
    sow_task *task;         /* owned; NULL: a mix of jobs */
    int mix_first, n_mixed; /* of a mix */
    int64_t max_new;
    bool is_text; /* rows can be asked; else they are judged by their tokens */
} sow_job;

/* A text that is scored behind a row's prompt. */
typedef struct sow_candidate {
    int64_t row;                  /* number in the unit */
    int64_t first, n_context, n;  /* of evaluator->ids and ->logprobs */
    size_t text_first, text_last; /* of evaluator->completion */
} sow_candidate;

struct sow_evaluator {
    sow_evaluator_args args;  /* texts borrowed */
    sow_tokenizer *tokenizer; /* owned */
    sow_engine *engine;       /* owned */
    sow_replica *replica;     /* owned */
    int64_t key;              /* of the weights in the replica; -1: none */
    int n_jobs;
    sow_job jobs[SOW_MAX_JOBS];
    /* Room that is reused from unit to unit. */
    sow_words text, wrapped, completion;
    sow_ids ids;             /* prompts one after the other */
    int64_t *starts;         /* [n + 1] */
    sow_prompt *prompts;     /* [n] */
    sow_completion *answers; /* [n] */
    int64_t starts_capacity, prompts_capacity, answers_capacity;
    /* evaluate_score.c */
    sow_choices choices;
    sow_words solution;
    sow_candidate *candidates; /* [n_candidates] */
    sow_score_item *items;     /* [n_candidates] */
    float *logprobs;           /* by id */
    bool *is_greedy;           /* by id */
    int64_t n_candidates, candidates_capacity, items_capacity, logprobs_capacity, greedy_capacity;
    /* evaluate_kl.c */
    sow_replica *base; /* owned; NULL unless asked */
    double *k3;        /* [n] of the answers */
    int64_t k3_capacity;
};

/* Appends the ids of a row's prompt to evaluator->ids. */
SOW_NODISCARD sow_code sow_evaluator_encode(sow_evaluator *e, const sow_job *job, int64_t row);
/* The prompts of a job's rows 0 .. n-1, in evaluator->prompts. */
SOW_NODISCARD sow_code sow_evaluator_encode_first(sow_evaluator *e, int job, int64_t n);
/* Counts a graded row, number i of its unit. */
SOW_NODISCARD sow_code sow_evaluator_count(const sow_job *job, int64_t row, int64_t i, const sow_grade *grade,
                                           sow_tally *out);
/* Tells of an answer, if someone listens: its prompt is made again. */
SOW_NODISCARD sow_code sow_evaluator_tell(sow_evaluator *e, const sow_job *job, sow_answer_each each, void *context,
                                          sow_answer *answer);

/* evaluate_score.c: rows answered by choosing; and rows whose right answer is looked up. */
SOW_NODISCARD sow_code sow_evaluator_choose(sow_evaluator *e, const sow_job *job, const int64_t *rows, int64_t n,
                                            sow_answer_each each, void *context, sow_tally *out);
/* Whether a row's prompt and choices fit. */
SOW_NODISCARD sow_code sow_evaluator_check_choices(sow_evaluator *e, const sow_job *job, int64_t row);
/* is_answer: a row's reward is 1 if every token of its right answer is the likeliest, else 0. */
SOW_NODISCARD sow_code sow_evaluator_likelihood(sow_evaluator *e, const sow_job *job, const int64_t *rows, int64_t n,
                                                bool is_answer, sow_tally *out);
void sow_evaluator_score_fini(sow_evaluator *e);

/* evaluate_kl.c: k3 of the n answers just generated with their log-probabilities. */
SOW_NODISCARD sow_code sow_evaluator_measure_k3(sow_evaluator *e, int64_t n);

#endif
