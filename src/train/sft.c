/* SPDX-License-Identifier: Apache-2.0 */
/* Supervised training: cross-entropy of completions, mean over the tokens of a step's rows.
 *
 *     batch of step s    rows of `task`, every epoch in another order; or fresh rows of a mix of generated tasks
 *     unit               some rows of the batch; each row is a unit of the gradient (design, Numerics 8)
 *     loss               -1/T sum of log p, T: targets of all rows of the step, known to every rank before it begins
 *
 * Every rank makes the batch itself: which rows is a pure function of (seed, step).  Prompt and completion are encoded
 * apart, so that a row's prompt is what generation would see; the model's first end token is the last target. */
#include "sft_impl.h"
#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/phase.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A row of the batch at work, in `ids`. */
typedef struct row {
    int64_t first, n, n_prompt;
} row;

typedef struct sow_sft {
    sow_mix mix;
    sow_epochs epochs;
    int64_t step; /* of the batch held; -1: none */
    sow_ids ids;  /* of all rows */
    row *rows;    /* owned [batch] */
    int64_t n_targets;
    sow_words text;
    /* Of the unit at work. */
    sow_train_unit *units;   /* owned [batch] */
    sow_sequence *sequences; /* owned [batch] */
    double *losses;          /* owned [batch] */
} sow_sft;

static sow_code open_mix(sow_run *run, sow_mix *mix)
{
    sow_mix_cut(mix);
    for (int64_t i = 0; i < mix->n; i++) {
        sow_task_options options;
        sow_task *task = NULL;
        sow_mix_task(&mix->portions[i], &run->options->task, &options);
        SOW_TRY(sow_task_open(&options, &task));
        SOW_TRY(sow_run_add_job(run, task, 0, &mix->portions[i].job));
    }
    return SOW_OK;
}

/* ---- rows ---- */

/* Which row of which job is number i of a step's batch. */
static sow_code choose_row(sow_run *run, sow_sft *s, int64_t step, int64_t i, int *job, int64_t *number)
{
    const sow_options *o = run->options;
    uint32_t seed = (uint32_t)o->run.seed;
    if (s->mix.n > 0) {
        *job = s->mix.portions[sow_mix_draw(&s->mix, seed, step, i, number)].job;
        return SOW_OK;
    }
    *job = run->train_job;
    int64_t n = sow_task_rows(sow_evaluator_task(run->evaluator, run->train_job));
    return sow_epochs_row(&s->epochs, seed, n, (step - 1) * o->sft.batch + i, number);
}

/* Appends a text row: prompt, completion, end token. */
static sow_code encode_text(sow_run *run, sow_sft *s, int job, int64_t number, row *out)
{
    const sow_shape *shape = &run->layout->shape;
    out->first = s->ids.n;
    SOW_TRY(sow_evaluator_prompt(run->evaluator, job, number, &s->ids));
    out->n_prompt = s->ids.n - out->first;
    SOW_TRY(sow_task_solve(sow_evaluator_task(run->evaluator, job), number, &s->text));
    SOW_TRY(sow_tokenizer_encode(sow_evaluator_tokenizer(run->evaluator), s->text.text, s->text.bytes, false, &s->ids));
    if (shape->n_eos > 0)
        SOW_TRY(sow_ids_add(&s->ids, shape->eos[0]));
    out->n = s->ids.n - out->first;
    return SOW_OK;
}

static sow_code encode_row(sow_run *run, sow_sft *s, int job, int64_t number, row *out)
{
    bool has = false;
    out->first = s->ids.n;
    SOW_TRY(sow_evaluator_row_ids(run->evaluator, job, number, &s->ids, &out->n_prompt, &has));
    out->n = s->ids.n - out->first;
    return has ? SOW_OK : encode_text(run, s, job, number, out);
}

/* Appends a row; SOW_EFORMAT if it does not fit. */
static sow_code take_row(sow_run *run, sow_sft *s, int job, int64_t number, row *r)
{
    const sow_task *task = sow_evaluator_task(run->evaluator, job);
    int64_t most = run->layout->shape.max_positions;
    char place[SOW_TASK_PLACE_BYTES];
    SOW_TRY(encode_row(run, s, job, number, r));
    if (r->n > most || r->n_prompt < 1 || r->n <= r->n_prompt)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: has %lld tokens, %lld of them the prompt's, expected at most %lld, at least 1 for the "
                        "prompt and 1 behind it",
                        sow_task_place(task, number, place), (long long)r->n, (long long)r->n_prompt, (long long)most);
    return SOW_OK;
}

/* Every row of a file that may be drawn, and of generated rows the first. */
static sow_code check_rows(sow_run *run)
{
    sow_sft *s = run->sgd->sft;
    bool is_file = s->mix.n == 0 && run->options->task.file[0] != '\0';
    int64_t n = is_file ? sow_task_rows(sow_evaluator_task(run->evaluator, run->train_job)) : s->mix.n;
    n = n == 0 ? 1 : n;
    for (int64_t i = 0; i < n; i++) {
        s->ids.n = 0;
        if (s->mix.n > 0)
            SOW_TRY(take_row(run, s, s->mix.portions[i].job, 0, &s->rows[0]));
        else
            SOW_TRY(take_row(run, s, run->train_job, i, &s->rows[0]));
        sow_phase_tick();
    }
    return SOW_OK;
}

/* Makes the batch of a step. */
static sow_code make_batch(sow_run *run, int64_t step)
{
    sow_sft *s = run->sgd->sft;
    if (s->step == step)
        return SOW_OK;
    s->step = -1;
    s->ids.n = 0;
    s->n_targets = 0;
    for (int64_t i = 0; i < run->options->sft.batch; i++) {
        int job = 0;
        int64_t number = 0;
        row *r = &s->rows[i];
        SOW_TRY(choose_row(run, s, step, i, &job, &number));
        SOW_TRY(take_row(run, s, job, number, r));
        s->n_targets += r->n - r->n_prompt;
        sow_phase_tick();
    }
    s->step = step;
    return SOW_OK;
}

/* ---- units ---- */

typedef struct weighing {
    float weight; /* -1 / targets of the step */
    double *losses;
} weighing;

static sow_code weigh(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    const weighing *w = context;
    for (int64_t i = 0; i < n; i++) {
        out[i] = (sow_token_weight){.logprob = w->weight};
        w->losses[tokens[i].unit] -= (double)tokens[i].logprob; /* tokens of a row come in order */
    }
    return SOW_OK;
}

static sow_code run_gradient(sow_run *run, const sow_unit *unit, sow_result *out)
{
    sow_sft *s = run->sgd->sft;
    int64_t tokens = 0, targets = 0, loss = 0;
    SOW_TRY(make_batch(run, unit->group + 1));
    for (int32_t i = 0; i < unit->count; i++) {
        const row *r = &s->rows[unit->first + i];
        const int32_t *ids = s->ids.ids + r->first;
        s->sequences[i] = (sow_sequence){.ids = ids + r->n_prompt - 1, .n = r->n - r->n_prompt + 1};
        s->units[i] = (sow_train_unit){
            .prefix = ids, .n_prefix = r->n_prompt - 1, .sequences = &s->sequences[i], .n_sequences = 1};
        s->losses[i] = 0;
        tokens += r->n;
        targets += r->n - r->n_prompt;
    }
    sow_phase_enter(SOW_PHASE_BACKWARD);
    SOW_TRY(sow_gradient_run(run->sgd->gradient,
                             &(sow_gradient_args){.replica = sow_evaluator_replica(run->evaluator),
                                                  .units = s->units,
                                                  .n_units = unit->count,
                                                  .temperature = 1,
                                                  .weigh = weigh,
                                                  .context = &(weighing){.weight = (float)(-1.0 / (double)s->n_targets),
                                                                         .losses = s->losses},
                                                  .sums = sow_sgd_sums(run, unit->round)}));
    for (int32_t i = 0; i < unit->count; i++)
        loss += sow_sgd_fixed(s->losses[i] / (double)s->n_targets);
    run->sgd->stats = (sow_sgd_stats){.tokens = targets, .sequences = unit->count};
    *out = (sow_result){.round = unit->round,
                        .id = unit->id,
                        .reward = loss,
                        .right = (uint32_t)unit->count,
                        .new_tokens = (int32_t)tokens};
    return SOW_OK;
}

static sow_code answer(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale)
{
    bool has = false;
    if (unit->job >= 0)
        return sow_sgd_evaluate(run, unit, out, is_stale);
    SOW_TRY(sow_sgd_weights(run, unit->group, true, &has));
    *is_stale = !has;
    return has ? run_gradient(run, unit, out) : SOW_OK;
}

/* ---- root ---- */

static sow_code do_step(sow_root *root, const sow_ledger *ledger, int64_t step)
{
    sow_run *run = root->run;
    sow_sgd_root *s = root->sgd;
    int64_t n_units = 0;
    root->redone = ledger == NULL ? 0 : step;
    s->loss = s->norm = s->seconds = 0;
    s->tokens = 0;
    memset(&s->sum, 0, sizeof s->sum);
    SOW_TRY(make_batch(run, step));
    SOW_TRY(sow_sgd_add_units(root, (int)(step - 1), JOB_GRADIENT, 0, run->options->sft.batch, &n_units));
    s->rate = sow_sgd_rate(run->options, step);
    SOW_TRY(sow_sgd_update(root, step - 1, n_units, s->rate));
    s->values[0] = s->loss;
    s->values[1] = s->norm;
    return sow_sgd_record(root, ledger, step, s->tokens);
}

static sow_code step(sow_root *root, int64_t number)
{
    return do_step(root, NULL, number);
}

static sow_code redo(sow_root *root, const sow_ledger *ledger, int64_t number)
{
    return do_step(root, ledger, number);
}

static sow_code put(sow_root *root, sow_line *line, int64_t number)
{
    sow_sgd_put(root, line, number);
    sow_line_int(line, "targets", root->run->sgd->sft->n_targets);
    return SOW_OK;
}

static void tell(const sow_root *root, char *out, size_t cap)
{
    const sow_sgd_root *s = root->sgd;
    (void)snprintf(out, cap, "  loss %.4f  grad_norm %.4g  norm %.4g  %.2f s", s->loss, s->norm, sqrt(root->now.delta2),
                   root->now.step_s);
}

/* ---- the row of methods.def ---- */

static sow_code prepare(sow_run *run)
{
    sow_sft *s = NULL;
    int64_t batch = run->options->sft.batch;
    SOW_TRY(sow_sgd_prepare(run));
    SOW_TRY(SOW_ALLOC(&s, 1));
    run->sgd->sft = s;
    s->step = -1;
    SOW_TRY(SOW_ALLOC(&s->rows, batch));
    SOW_TRY(SOW_ALLOC(&s->units, batch));
    SOW_TRY(SOW_ALLOC(&s->sequences, batch));
    SOW_TRY(SOW_ALLOC(&s->losses, batch));
    bool is_mix = sow_mix_parse(run->options->sft.mix, &s->mix);
    SOW_ASSERT(is_mix); /* checked by root */
    return open_mix(run, &s->mix);
}

static void fini(sow_run *run)
{
    sow_sft *s = run->sgd == NULL ? NULL : run->sgd->sft;
    if (s != NULL) {
        sow_ids_fini(&s->ids);
        sow_words_fini(&s->text);
        SOW_FREE(&s->rows);
        sow_epochs_fini(&s->epochs);
        SOW_FREE(&s->units);
        SOW_FREE(&s->sequences);
        SOW_FREE(&s->losses);
        SOW_FREE(&run->sgd->sft);
    }
    sow_sgd_fini(run);
}

static int64_t batch_of(const sow_options *options)
{
    (void)options;
    return 0;
}

static int64_t index_of(const sow_run *run, int64_t number)
{
    (void)run;
    return number;
}

static void plan(const sow_plan_args *a, sow_plan *p)
{
    int64_t batch = a->options->sft.batch;
    p->rows = p->samples = p->useful_ranks = batch;
    p->updates = 1;
    sow_sgd_plan(a, batch, batch, p);
}

const sow_method sow_method_sft = {
    .name = "sft",
    .doc = "supervised: cross-entropy of completions",
    .word = "step",
    .check = sow_mix_check,
    .create = sow_sgd_create,
    .prepare = prepare,
    .fini = fini,
    .batch = batch_of,
    .batch_key = "sft.batch",
    .check_rows = check_rows,
    .index = index_of,
    .center = sow_sgd_center,
    .round = sow_sgd_round,
    .unit = answer,
    .step = step,
    .redo = redo,
    .put = put,
    .tell = tell,
    .plan = plan,
};
