/* SPDX-License-Identifier: Apache-2.0 */
/* A view of weights and some rows in, rewards out: the one way in for ES, probes, `eval` and `verify`.
 *
 * Needs: engine, replica, task, tokenizer, chat, theta's noise.  Threads: the first thread.  Ranks: knows none.
 * Bits: a tally depends on the weights and the rows only.  After the first unit a unit of no larger rows takes no
 * memory.  Not collective. */
#ifndef SOWER_EVALUATE_H
#define SOWER_EVALUATE_H

#include "sower/engine.h"
#include "sower/kl.h"
#include "sower/options.h"
#include "sower/replica.h"
#include "sower/task.h"
#include "sower/tokenizer.h"

typedef struct sow_evaluator sow_evaluator;

/* Task, held-out rows, probes, and tasks whose retention is rewarded with their mix. */
enum {
    SOW_MAX_RETENTION = 16,
    SOW_MAX_MIX = 32,
    SOW_MAX_JOBS = SOW_MAX_PROBES + 2 + SOW_MAX_RETENTION + 1 + SOW_MAX_MIX
};

typedef struct sow_evaluator_args {
    sow_la *la;               /* borrowed */
    const sow_layout *layout; /* borrowed */
    sow_type type;
    const char *tokenizer_json;
    size_t tokenizer_bytes;
    const char *chat; /* format of sow_chat_detect, NULL: prompts as they are; static storage */
    const char *stop; /* NULL: none; borrowed */
    int64_t batch;
} sow_evaluator_args;

/* Tokenizer, engine and replica for weights of a layout; the replica holds none yet. */
SOW_NODISCARD sow_code sow_evaluator_create(const sow_evaluator_args *args, sow_evaluator **out);
void sow_evaluator_destroy(sow_evaluator **evaluator);

/* Adds a task (it becomes the evaluator's and is closed with it); max_new 0: the task's own.  `*job` is its number. */
SOW_NODISCARD sow_code sow_evaluator_add(sow_evaluator *evaluator, sow_task *task, int64_t max_new, int *job);
/* Adds a job that mixes the n jobs from `first` on: its row r is row r / n of job first + r % n, answered with the
 * longest max_new of them.  They are answered by tokens, not by choices. */
SOW_NODISCARD sow_code sow_evaluator_mix(sow_evaluator *evaluator, int first, int64_t n, int *job);
/* Added to a job's number: not its answers but how likely its right ones are.  A row's reward is the sum of the
 * log-probabilities of the task's own solution and the end token (a choice: its tail; a row of tokens: what stands
 * there) behind the prompt, at least -2^20; it is correct if every one of these tokens is the likeliest; parts[0]
 * counts the rows that have a solution (the others give nothing). */
enum { SOW_JOB_LIKELIHOOD = 1 << 16 };
sow_task *sow_evaluator_task(sow_evaluator *evaluator, int job);
int64_t sow_evaluator_max_new(const sow_evaluator *evaluator, int job);
sow_tokenizer *sow_evaluator_tokenizer(sow_evaluator *evaluator);
sow_engine *sow_evaluator_engine(sow_evaluator *evaluator);
const sow_replica *sow_evaluator_replica(const sow_evaluator *evaluator);

/* Makes the replica from theta and noise (NULL: none), unless it already holds `key`, which names weights: equal keys,
 * equal weights. Key -1 is never held. */
SOW_NODISCARD sow_code sow_evaluator_weights(sow_evaluator *evaluator, int64_t key, const float *theta,
                                             const sow_tensor_noise *noise);
bool sow_evaluator_holds(const sow_evaluator *evaluator, int64_t key);

/* Makes a second replica, of the base, for sow_evaluator_run_member. */
SOW_NODISCARD sow_code sow_evaluator_hold_base(sow_evaluator *evaluator, const float *base);

/* Whether it is there; and its end. */
bool sow_evaluator_has_base(const sow_evaluator *evaluator);
void sow_evaluator_drop_base(sow_evaluator *evaluator);

/* Tokens of a row's prompt. */
SOW_NODISCARD sow_code sow_evaluator_prompt_tokens(sow_evaluator *evaluator, int job, int64_t row, int64_t *out);

/* Appends the ids of a row's prompt, as sow_evaluator_run feeds them. */
SOW_NODISCARD sow_code sow_evaluator_prompt(sow_evaluator *evaluator, int job, int64_t row, sow_ids *out);
/* If a row is tokens, appends them (the first *n_prompt are its prompt); SOW_EFORMAT for one outside the vocabulary. */
SOW_NODISCARD sow_code sow_evaluator_row_ids(const sow_evaluator *evaluator, int job, int64_t row, sow_ids *out,
                                             int64_t *n_prompt, bool *has);
/* Whether what is asked fits the model: each row of a job's file (of generated rows the first): length and vocabulary
 * of the prompt, and of the choices.  SOW_EFORMAT naming file and line. */
SOW_NODISCARD sow_code sow_evaluator_check(sow_evaluator *evaluator, int job);
int sow_evaluator_jobs(const sow_evaluator *evaluator);
/* Grades one completion of a row. */
SOW_NODISCARD sow_code sow_evaluator_grade(sow_evaluator *evaluator, int job, int64_t row,
                                           const sow_completion *completion, sow_grade *out);

#define SOW_PART_SCALE 0x1p12

/* Sums over rows.  Rewards are rounded once to integers (scale 2^32), parts too (2^12), and added: slices add up
 * exactly. */
enum { SOW_RIGHT_BITS = 32 };
typedef struct sow_tally {
    int64_t rows, reward, correct, new_tokens, prompt_tokens, parts[SOW_MAX_PARTS];
    double squares; /* of rewards */
    double kl;      /* see sow_evaluator_run_member */
    uint32_t right; /* of one run: bit i: rows[i] is correct; never added */
} sow_tally;
void sow_tally_add(sow_tally *to, const sow_tally *from);
double sow_tally_mean_reward(const sow_tally *tally); /* reward / 2^32 / rows */
/* 95 % interval of the mean reward by the normal law, over rows. */
void sow_tally_reward_interval(const sow_tally *tally, double *low, double *high);

/* Called for each row, in order of the rows. */
typedef struct sow_answer {
    int64_t row;
    const char *prompt, *completion;
    size_t prompt_bytes, completion_bytes;
    const sow_completion *tokens;
    sow_grade grade;
} sow_answer;
typedef sow_code (*sow_answer_each)(void *context, const sow_answer *answer);

/* Answers and grades rows[0..n-1] of a job with the weights that are held: greedily, or by the choice whose tokens are
 * likeliest if the task has choices (new_tokens then counts those of all choices); rows of a task that is not all text
 * are right if each of their tokens behind the prompt is the likeliest.  each may be NULL; it is not called for those
 * and for likelihoods. */
SOW_NODISCARD sow_code sow_evaluator_run(sow_evaluator *evaluator, int job, const int64_t *rows, int64_t n,
                                         sow_answer_each each, void *context, sow_tally *out);

/* The same for the fitness of a member whose divergence from the base costs: a row counts reward - kl_beta * k3,
 * rounded once; out->kl is the sum of k3 (kl_beta 0: not computed).  Needs sow_evaluator_hold_base and a task without
 * choices.
 *
 * k3 is an estimate of KL(member || base) per token on the member's own answer (Schulman 2020, "Approximating KL
 * divergence", its third; as a penalty of fitness ours): the mean of exp(r) - r - 1 over the sampled tokens, the end
 * token among them, with r = log p_base(token) - log p_member(token) at temperature 1.  An answer without a token has
 * k3 = 0.  Bits: r in float32, exp by the kernels, the rest in double in the order of the tokens. */
SOW_NODISCARD sow_code sow_evaluator_run_member(sow_evaluator *evaluator, int job, const int64_t *rows, int64_t n,
                                                double kl_beta, sow_tally *out);

/* KL between the weights that are held and the base, on the first n rows of a job, continued greedily with the job's
 * max_new and stop string (choices are not looked at).  fixed: of this job and n, empty at first; see kl.h.  Needs
 * sow_evaluator_hold_base. */
SOW_NODISCARD sow_code sow_evaluator_kl(sow_evaluator *evaluator, int job, int64_t n, sow_sequences *fixed,
                                        sow_kl *out);

#endif
