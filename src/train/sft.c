/* SPDX-License-Identifier: Apache-2.0 */
/* Supervised training: cross-entropy of completions, mean over the tokens of a step's rows.
 *
 *     batch of step s    rows of `task`, every epoch in another order; or fresh rows of a mix of generated tasks
 *     unit               some rows of the batch; each row is a unit of the gradient (design, Numerics 8)
 *     loss               -1/T sum of log p, T: targets of all rows of the step, known to every rank before it begins
 *
 * Every rank makes the batch itself: which rows is a pure function of (seed, step).  Prompt and completion are encoded
 * apart, so that a row's prompt is what generation would see; the model's first end token is the last target. */
#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/phase.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MIX = 32, MIX_ROWS = 1000000000 };

/* A line of `sft.mix`. */
typedef struct portion {
    char task[96], form[16];
    double weight;
    int job;      /* of the evaluator */
    uint32_t end; /* a draw of 32 bits below it (and not below the portion before) is this one's */
} portion;

/* A row of the batch at work, in `ids`. */
typedef struct row {
    int64_t first, n, n_prompt;
} row;

typedef struct sow_sft {
    portion mix[MAX_MIX];
    int64_t n_mix;
    int64_t step; /* of the batch held; -1: none */
    sow_ids ids;  /* of all rows */
    row *rows;    /* owned [batch] */
    int64_t n_targets;
    int64_t *order; /* owned [rows of the task]: the epoch's */
    int64_t epoch;  /* -1: none */
    sow_words text;
    /* Of the unit at work. */
    sow_train_unit *units;   /* owned [batch] */
    sow_sequence *sequences; /* owned [batch] */
    double *losses;          /* owned [batch] */
} sow_sft;

/* ---- the mix ---- */

static void trim(const char **begin, const char **end)
{
    while (*begin < *end && **begin == ' ')
        (*begin)++;
    while (*end > *begin && (*end)[-1] == ' ')
        (*end)--;
}

/* "countdown/short=1.3" */
static bool parse_portion(const char *begin, const char *end, portion *out)
{
    char text[96];
    char *rest = NULL;
    trim(&begin, &end);
    if (end - begin <= 0 || (size_t)(end - begin) >= sizeof text)
        return false;
    memcpy(text, begin, (size_t)(end - begin));
    text[end - begin] = '\0';
    char *equals = strchr(text, '='), *slash = strchr(text, '/');
    if (equals == NULL || (slash != NULL && slash > equals))
        return false;
    *equals = '\0';
    if (slash != NULL)
        *slash = '\0';
    out->weight = strtod(equals + 1, &rest);
    (void)snprintf(out->task, sizeof out->task, "%s", text);
    (void)snprintf(out->form, sizeof out->form, "%.15s", slash == NULL ? "" : slash + 1);
    return rest != equals + 1 && *rest == '\0' && isfinite(out->weight) && out->weight > 0;
}

/* The portions of a mix; false: it is not one. */
static bool parse_mix(const char *text, portion mix[MAX_MIX], int64_t *n)
{
    *n = 0;
    for (const char *at = text; *at != '\0';) {
        const char *comma = strchr(at, ','), *end = comma == NULL ? at + strlen(at) : comma;
        if (*n == MAX_MIX || !parse_portion(at, end, &mix[*n]))
            return false;
        (*n)++;
        at = comma == NULL ? end : comma + 1;
    }
    return true;
}

static sow_code check(const sow_conf *conf)
{
    portion mix[MAX_MIX];
    int64_t n = 0;
    const sow_options *o = sow_conf_options(conf);
    if (!parse_mix(o->sft.mix, mix, &n))
        return sow_conf_reject(conf, "sft.mix", "TASK=WEIGHT or TASK/FORM=WEIGHT with a weight above 0, by commas",
                               NULL, 0);
    for (int64_t i = 0; i < n; i++) {
        const sow_task_kind *kind = sow_task_find(mix[i].task);
        bool is_form = mix[i].form[0] == '\0' || strcmp(mix[i].form, "short") == 0 || strcmp(mix[i].form, "paper") == 0;
        if (kind == NULL || kind->needs_file || !is_form)
            return sow_conf_reject(conf, "sft.mix", "tasks with generated rows, forms short or paper", NULL, 0);
    }
    return SOW_OK;
}

/* Opens the tasks, and cuts 2^32 into their portions. */
static sow_code open_mix(sow_run *run, sow_sft *s)
{
    double sum = 0, below = 0;
    for (int64_t i = 0; i < s->n_mix; i++)
        sum += s->mix[i].weight;
    for (int64_t i = 0; i < s->n_mix; i++) {
        portion *p = &s->mix[i];
        sow_task_options options = run->options->task;
        sow_task *task = NULL;
        options.file[0] = '\0';
        options.rows = MIX_ROWS;
        options.offset = 0;
        (void)snprintf(options.name, sizeof options.name, "%s", p->task);
        if (p->form[0] != '\0')
            (void)snprintf(options.form, sizeof options.form, "%s", p->form);
        (void)snprintf(options.split, sizeof options.split, "train");
        SOW_TRY(sow_task_open(&options, &task));
        sow_code rc = sow_evaluator_add(run->evaluator, task, 0, &p->job);
        if (rc != SOW_OK)
            sow_task_close(&task);
        SOW_TRY(rc);
        below += p->weight;
        p->end = (uint32_t)llrint(fmin(below / sum * 0x1p32, 0x1p32 - 1));
    }
    return SOW_OK;
}

/* ---- rows ---- */

/* The rows of an epoch in its order (Fisher and Yates). */
static sow_code shuffle(sow_run *run, sow_sft *s, int64_t epoch, int64_t n)
{
    sow_random random;
    if (s->epoch == epoch)
        return SOW_OK;
    if (s->order == NULL)
        SOW_TRY(SOW_ALLOC(&s->order, n));
    for (int64_t i = 0; i < n; i++)
        s->order[i] = i;
    sow_random_init(&random, sow_place_of(SOW_STREAM_DATA, (uint32_t)run->options->run.seed, (uint32_t)epoch, 1, 0));
    sow_random_shuffle(&random, s->order, n, sizeof *s->order);
    s->epoch = epoch;
    return SOW_OK;
}

/* Which row of which job is number i of a step's batch. */
static sow_code choose_row(sow_run *run, sow_sft *s, int64_t step, int64_t i, int *job, int64_t *number)
{
    const sow_options *o = run->options;
    if (s->n_mix == 0) {
        int64_t n = sow_task_rows(sow_evaluator_task(run->evaluator, run->train_job));
        int64_t at = (step - 1) * o->sft.batch + i;
        SOW_TRY(shuffle(run, s, at / n, n));
        *job = run->train_job;
        *number = s->order[at % n];
        return SOW_OK;
    }
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_DATA, (uint32_t)o->run.seed, (uint32_t)step, 2, (uint32_t)i));
    uint32_t draw = sow_random_next(&random);
    int64_t k = 0;
    while (k < s->n_mix - 1 && draw >= s->mix[k].end)
        k++;
    *job = s->mix[k].job;
    *number = sow_random_below(&random, MIX_ROWS);
    return SOW_OK;
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
        SOW_TRY(encode_row(run, s, job, number, r));
        if (r->n > run->layout->shape.max_positions || r->n_prompt < 1 || r->n <= r->n_prompt)
            return SOW_FAIL(SOW_EFORMAT,
                            "task %s, row %lld: has %lld tokens, %lld of them the prompt's, expected at most %lld, at "
                            "least 1 for the prompt and 1 behind it",
                            sow_task_kind_of(sow_evaluator_task(run->evaluator, job))->name, (long long)number,
                            (long long)r->n, (long long)r->n_prompt, (long long)run->layout->shape.max_positions);
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
    int64_t tokens = 0, loss = 0;
    SOW_TRY(make_batch(run, unit->group + 1));
    for (int32_t i = 0; i < unit->count; i++) {
        const row *r = &s->rows[unit->first + i];
        const int32_t *ids = s->ids.ids + r->first;
        s->sequences[i] = (sow_sequence){.ids = ids + r->n_prompt - 1, .n = r->n - r->n_prompt + 1};
        s->units[i] = (sow_train_unit){
            .prefix = ids, .n_prefix = r->n_prompt - 1, .sequences = &s->sequences[i], .n_sequences = 1};
        s->losses[i] = 0;
        tokens += r->n;
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
    run->sgd->stats = (sow_sgd_stats){.tokens = s->n_targets, .sequences = unit->count};
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
    int64_t n_units = 0, batch = run->options->sft.batch;
    int64_t slices = (int64_t)2 * sow_world_size(run->world);
    s->loss = s->norm = s->seconds = 0;
    s->tokens = 0;
    memset(&s->sum, 0, sizeof s->sum);
    SOW_TRY(make_batch(run, step));
    if (slices > batch)
        slices = batch;
    SOW_TRY(sow_root_add_units(root, &n_units, (int)(step - 1), JOB_GRADIENT, batch, slices));
    s->rate = sow_sgd_rate(run->options, step);
    SOW_TRY(sow_sgd_update(root, step - 1, n_units, s->rate));
    s->values[0] = s->loss;
    s->values[1] = s->norm;
    return sow_sgd_record(root, ledger, step);
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
                   sow_clock_now_s() - root->now.began_s);
}

/* ---- the row of methods.def ---- */

static sow_code prepare(sow_run *run)
{
    sow_sft *s = NULL;
    int64_t batch = run->options->sft.batch;
    SOW_TRY(sow_sgd_prepare(run));
    SOW_TRY(SOW_ALLOC(&s, 1));
    run->sgd->sft = s;
    s->step = s->epoch = -1;
    SOW_TRY(SOW_ALLOC(&s->rows, batch));
    SOW_TRY(SOW_ALLOC(&s->units, batch));
    SOW_TRY(SOW_ALLOC(&s->sequences, batch));
    SOW_TRY(SOW_ALLOC(&s->losses, batch));
    if (!parse_mix(run->options->sft.mix, s->mix, &s->n_mix))
        return SOW_FAIL(SOW_ECONF, "sft.mix: '%s' is no mix", run->options->sft.mix);
    return open_mix(run, s);
}

static void fini(sow_run *run)
{
    sow_sft *s = run->sgd == NULL ? NULL : run->sgd->sft;
    if (s != NULL) {
        sow_ids_fini(&s->ids);
        sow_words_fini(&s->text);
        SOW_FREE(&s->rows);
        SOW_FREE(&s->order);
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
    .check = check,
    .create = sow_sgd_create,
    .prepare = prepare,
    .fini = fini,
    .batch = batch_of,
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
