/* SPDX-License-Identifier: Apache-2.0 */
/* Rows judged by log-probabilities: the choice whose tokens are likeliest, and how likely the right answer is.
 *
 * Candidates of one row follow each other, so that the engine computes their prompt once.  A sum of log-probabilities
 * is taken in double in the order of the tokens: the same bits at any batch, thread or rank count. */
#include "evaluate_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <math.h>
#include <string.h>

static const double lowest_logprob = -0x1p20; /* what a tally can hold of a row */

static sow_code keep_candidate(sow_evaluator *e, const sow_candidate *c)
{
    SOW_TRY(SOW_GROW(&e->candidates, &e->candidates_capacity, e->n_candidates));
    e->candidates[e->n_candidates++] = *c;
    return SOW_OK;
}

/* Makes `text` a candidate behind the prompt that is ids[prompt .. prompt + n - 1]; end -1: no end token. */
static sow_code add_candidate(sow_evaluator *e, int64_t row, int64_t prompt, int64_t n, const char *text, size_t bytes,
                              size_t tail_bytes, int32_t end)
{
    sow_candidate c = {.row = row, .first = e->ids.n, .n_context = n, .text_first = e->completion.bytes};
    SOW_TRY(sow_words_add(&e->completion, text, bytes));
    c.text_last = e->completion.bytes - tail_bytes;
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(sow_ids_add(&e->ids, e->ids.ids[prompt + i]));
    SOW_TRY(sow_tokenizer_encode(e->tokenizer, e->completion.text + c.text_first, bytes, false, &e->ids));
    if (end >= 0)
        SOW_TRY(sow_ids_add(&e->ids, end));
    c.n = e->ids.n - c.first;
    return keep_candidate(e, &c);
}

/* Whether the engine can score the newest candidate: it has tokens of its own, and the last one is not fed. */
static bool fits(const sow_evaluator *e)
{
    const sow_candidate *c = &e->candidates[e->n_candidates - 1];
    return c->n > c->n_context && c->n <= e->args.layout->shape.max_positions + 1;
}

static sow_code add_choices(sow_evaluator *e, const sow_job *job, int64_t i, int64_t row)
{
    int64_t prompt = e->ids.n;
    char place[SOW_TASK_PLACE_BYTES];
    SOW_TRY(sow_evaluator_encode(e, job, row));
    int64_t n = e->ids.n - prompt;
    SOW_TRY(sow_task_choices(job->task, row, &e->choices));
    size_t tail_bytes = strlen(e->choices.tail);
    for (int64_t k = 0; k < e->choices.n; k++) {
        size_t bytes = 0;
        const char *text = sow_choices_text(&e->choices, k, &bytes);
        sow_words_clear(&e->solution);
        SOW_TRY(sow_words_add(&e->solution, text, bytes));
        SOW_TRY(sow_words_add(&e->solution, e->choices.tail, tail_bytes));
        SOW_TRY(add_candidate(e, i, prompt, n, e->solution.text, e->solution.bytes, tail_bytes, -1));
        if (!fits(e))
            return SOW_FAIL(SOW_EFORMAT,
                            "%s: prompt and choice %lld have %lld and %lld tokens, expected 1 or more, together at "
                            "most %lld",
                            sow_task_place(job->task, row, place), (long long)k, (long long)n,
                            (long long)(e->candidates[e->n_candidates - 1].n - n),
                            (long long)e->args.layout->shape.max_positions + 1);
    }
    return SOW_OK;
}

static void begin(sow_evaluator *e)
{
    e->ids.n = 0;
    e->n_candidates = 0;
    sow_words_clear(&e->completion);
}

sow_code sow_evaluator_check_choices(sow_evaluator *e, const sow_job *job, int64_t row)
{
    begin(e);
    return add_choices(e, job, 0, row);
}

static sow_code score(sow_evaluator *e)
{
    SOW_TRY(SOW_GROW(&e->items, &e->items_capacity, e->n_candidates));
    SOW_TRY(SOW_GROW(&e->logprobs, &e->logprobs_capacity, e->ids.n));
    SOW_TRY(SOW_GROW(&e->is_greedy, &e->greedy_capacity, e->ids.n));
    for (int64_t i = 0; i < e->n_candidates; i++) {
        const sow_candidate *c = &e->candidates[i];
        e->items[i] = (sow_score_item){.ids = e->ids.ids + c->first,
                                       .n = c->n,
                                       .n_context = c->n_context,
                                       .logprobs = e->logprobs + c->first,
                                       .is_greedy = e->is_greedy + c->first};
    }
    return sow_engine_score(e->engine, e->replica, e->items, e->n_candidates);
}

static double sum_of(const sow_evaluator *e, int64_t i, bool *is_greedy)
{
    const sow_score_item *item = &e->items[i];
    double sum = 0;
    *is_greedy = true;
    for (int64_t k = 0; k < item->n - item->n_context; k++) {
        sum += (double)item->logprobs[k];
        *is_greedy = *is_greedy && item->is_greedy[k];
    }
    return sum;
}

static sow_code grade_choice(sow_evaluator *e, const sow_job *job, int64_t row, const sow_candidate *c,
                             sow_answer_each each, void *context, sow_tally *out)
{
    sow_completion tokens = {.ids = e->ids.ids + c->first + c->n_context,
                             .logprobs = e->logprobs + c->first,
                             .n = c->n - c->n_context,
                             .n_sampled = c->n - c->n_context,
                             .finish = SOW_FINISH_EOS};
    sow_answer told = {.row = row,
                       .completion = e->completion.text + c->text_first,
                       .completion_bytes = c->text_last - c->text_first,
                       .tokens = &tokens};
    SOW_TRY(sow_task_grade(job->task, row, told.completion, told.completion_bytes, &told.grade));
    SOW_TRY(sow_evaluator_count(job, row, c->row, &told.grade, out));
    return each == NULL ? SOW_OK : sow_evaluator_tell(e, job, each, context, &told);
}

sow_code sow_evaluator_choose(sow_evaluator *e, const sow_job *job, const int64_t *rows, int64_t n,
                              sow_answer_each each, void *context, sow_tally *out)
{
    begin(e);
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(add_choices(e, job, i, rows[i]));
    SOW_TRY(score(e));
    sow_phase_enter(SOW_PHASE_GRADE);
    for (int64_t at = 0; at < e->n_candidates;) {
        int64_t best = at, row = e->candidates[at].row;
        double best_sum = -(double)INFINITY;
        out->prompt_tokens += e->candidates[at].n_context;
        for (; at < e->n_candidates && e->candidates[at].row == row; at++) {
            bool is_greedy = false;
            double sum = sum_of(e, at, &is_greedy);
            out->new_tokens += e->candidates[at].n - e->candidates[at].n_context;
            best = sum > best_sum ? at : best;
            best_sum = sum > best_sum ? sum : best_sum;
        }
        SOW_TRY(grade_choice(e, job, rows[row], &e->candidates[best], each, context, out));
    }
    return SOW_OK;
}

/* The row's own solution, and the end token (a choice: its tail).  A file's row without a solution, or one that does
 * not fit the context, is left out. */
static sow_code add_solution(sow_evaluator *e, const sow_job *job, int64_t i, int64_t row)
{
    const sow_shape *shape = &e->args.layout->shape;
    int32_t end = shape->n_eos > 0 ? shape->eos[0] : -1;
    int64_t prompt = e->ids.n;
    sow_code rc = sow_task_solve(job->task, row, &e->solution);
    if (rc == SOW_EARG)
        return SOW_OK;
    SOW_TRY(rc);
    if (sow_task_has_choices(job->task)) {
        SOW_TRY(sow_task_choices(job->task, row, &e->choices));
        SOW_TRY(sow_words_add(&e->solution, e->choices.tail, strlen(e->choices.tail)));
        end = -1;
    }
    SOW_TRY(sow_evaluator_encode(e, job, row));
    return add_candidate(e, i, prompt, e->ids.n - prompt, e->solution.text, e->solution.bytes, 0, end);
}

/* The candidate of row number i: of texts, or of tokens. */
static sow_code add_right(sow_evaluator *e, const sow_job *job, int64_t i, int64_t row)
{
    int64_t before = e->n_candidates;
    sow_candidate c = {.row = i, .first = e->ids.n};
    bool has = false;
    SOW_TRY(sow_evaluator_row_ids(e, (int)(job - e->jobs), row, &e->ids, &c.n_context, &has));
    c.n = e->ids.n - c.first;
    SOW_TRY(has ? keep_candidate(e, &c) : add_solution(e, job, i, row));
    if (e->n_candidates > before && !fits(e))
        e->n_candidates--;
    return SOW_OK;
}

sow_code sow_evaluator_likelihood(sow_evaluator *e, const sow_job *job, const int64_t *rows, int64_t n, bool is_answer,
                                  sow_tally *out)
{
    begin(e);
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(add_right(e, job, i, rows[i]));
    SOW_TRY(score(e));
    for (int64_t i = 0; i < e->n_candidates; i++) {
        const sow_candidate *c = &e->candidates[i];
        sow_grade grade = {.parts = {1}};
        double sum = sum_of(e, i, &grade.is_correct);
        grade.reward = sum > lowest_logprob ? sum : lowest_logprob;
        if (is_answer)
            grade.reward = grade.is_correct ? 1 : 0;
        SOW_TRY(sow_evaluator_count(job, rows[c->row], c->row, &grade, out));
        out->prompt_tokens += c->n_context;
        out->new_tokens += c->n - c->n_context;
    }
    out->rows = n;
    return SOW_OK;
}

void sow_evaluator_score_fini(sow_evaluator *e)
{
    sow_choices_fini(&e->choices);
    sow_words_fini(&e->solution);
    SOW_FREE(&e->candidates);
    SOW_FREE(&e->items);
    SOW_FREE(&e->logprobs);
    SOW_FREE(&e->is_greedy);
}
