/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows of each measured job are right, now and at step 0, and how likely their right answers are.  Root only.
 *
 * Needs: evaluate, folder, paired.  Not collective. */
#ifndef SOWER_ITEMS_IMPL_H
#define SOWER_ITEMS_IMPL_H

#include "sower/evaluate.h"
#include "sower/folder.h"
#include "sower/paired.h"
#include "sower/queue.h"

typedef struct sow_items sow_items;

/* jobs [n]: those of the evaluator that are measured. */
SOW_NODISCARD sow_code sow_items_create(sow_evaluator *evaluator, const int *jobs, int n, sow_items **out);
void sow_items_destroy(sow_items **items);

/* Begins an evaluation: nothing is known of any job. */
void sow_items_clear(sow_items *items);
/* Takes a unit of a job, or of its likelihoods (SOW_JOB_LIKELIHOOD). */
void sow_items_take(sow_items *items, const sow_unit *unit, const sow_result *result, const sow_tally *tally);

/* Writes of the step "items": for each job in the order of `jobs` {task, rows, digest, right}, or null if it was not
 * measured.  What is written of step 0 is what later steps are compared with. */
void sow_items_put(sow_items *items, int64_t step, sow_line *line);
/* Takes step 0 from the first line of items.jsonl (NULL: there is none).  A job whose rows are others now (another
 * digest of their prompts) has no step 0. */
void sow_items_load(sow_items *items, const sow_json *line);

/* Whether a job that was measured has a step 0, and how it has changed since. */
bool sow_items_change(const sow_items *items, int job, sow_change *out);
/* Mean over rows of the log-probability of the right answer, and over its tokens; false if no row has one. */
bool sow_items_logprob(const sow_items *items, int job, double *per_row, double *per_token);

#endif
