/* SPDX-License-Identifier: Apache-2.0 */
/* What root and workers do alike in a run: prepare, draw rows, answer units; and what is ES's own of it: members, the
 * shaping of a step, the row in methods.def. */
#include "sgd_impl.h"

#include "sower/alloc.h"

#include <string.h>

sow_code sow_run_add_job(sow_run *run, sow_task *task, int64_t max_new, int *job)
{
    sow_code rc = sow_evaluator_add(run->evaluator, task, max_new, job);
    if (rc != SOW_OK)
        sow_task_close(&task);
    return rc;
}

static sow_code open_task(const sow_run *run, int64_t file, const sow_task_options *options, sow_task **out)
{
    if (run->blocks.files[file] != NULL)
        return sow_task_open_bytes(options, run->blocks.files[file], run->blocks.file_bytes[file], out);
    return sow_task_open(options, out);
}

static sow_code open_jobs(sow_run *run)
{
    const sow_options *o = run->options;
    sow_task *task = NULL, *held_out = NULL;
    bool has = false;
    SOW_TRY(open_task(run, 0, &o->task, &task));
    SOW_TRY(sow_run_add_job(run, task, o->generate.max_new_tokens, &run->train_job));
    run->held_out_job = -1;
    if (o->run.eval_rows > 0)
        SOW_TRY(sow_task_open_held_out(task, o->run.eval_rows, &held_out, &has));
    if (has)
        SOW_TRY(sow_run_add_job(run, held_out, o->generate.max_new_tokens, &run->held_out_job));
    for (int64_t i = 0; i < o->n_probes; i++) {
        sow_task *probe = NULL;
        SOW_TRY(open_task(run, i + 1, &o->probes[i].task, &probe));
        SOW_TRY(sow_run_add_job(run, probe, 0, &run->probe_jobs[i]));
    }
    run->retention_job = -1;
    return SOW_OK;
}

/* What asks the base what it thinks of a member's answers. */
static sow_code prepare_kl(sow_run *run)
{
    const sow_options *o = run->options;
    if (o->es.kl_beta == 0)
        return SOW_OK;
    if (sow_task_has_choices(sow_evaluator_task(run->evaluator, run->train_job)))
        return SOW_FAIL(SOW_ECONF, "es.kl_beta: %g needs answers in words, task.name: %s is answered by choices",
                        o->es.kl_beta, o->task.name);
    return sow_evaluator_hold_base(run->evaluator, sow_theta_base(run->theta));
}

/* Root: no row may end the run later. */
static sow_code check_rows(sow_run *run)
{
    bool has_own = run->method->check_rows != NULL;
    if (run->world == NULL || sow_world_rank(run->world) != 0) /* a replay: they have been asked */
        return SOW_OK;
    if (has_own)
        SOW_TRY(run->method->check_rows(run));
    for (int job = 0; job < sow_evaluator_jobs(run->evaluator); job++)
        if (job != run->train_job || !has_own)
            SOW_TRY(sow_evaluator_check(run->evaluator, job));
    return SOW_OK;
}

sow_code sow_run_prepare(sow_run *run)
{
    const sow_options *o = run->options;
    sow_evaluator_args args = {.la = run->la,
                               .layout = run->layout,
                               .type = run->type,
                               .tokenizer_json = run->blocks.tokenizer,
                               .tokenizer_bytes = run->blocks.tokenizer_bytes,
                               .chat = run->chat,
                               .stop = o->generate.stop[0] == '\0' ? NULL : o->generate.stop,
                               .batch = o->generate.batch};
    SOW_TRY(sow_evaluator_create(&args, &run->evaluator));
    SOW_TRY(open_jobs(run));
    run->rows_generation = -1;
    SOW_TRY(run->method->prepare(run));
    return check_rows(run);
}

static sow_code prepare_es(sow_run *run)
{
    const sow_options *o = run->options;
    SOW_TRY(sow_retention_open(run));
    SOW_TRY(prepare_kl(run));
    SOW_TRY(SOW_ALLOC(&run->noise, run->layout->n_tensors));
    SOW_TRY(SOW_ALLOC(&run->fitness, o->es.population));
    SOW_TRY(SOW_ALLOC(&run->coefficients, o->es.population));
    run->plan = (sow_noise_plan){.noise = sow_noise_find(o->es.noise),
                                 .seed = (uint32_t)o->run.seed,
                                 .sigma = o->es.sigma,
                                 .is_mirrored = o->es.mirrored,
                                 .is_selected = run->is_selected,
                                 .mask = run->mask};
    run->shaping = sow_shaping_find(o->es.shaping);
    SOW_ASSERT(run->plan.noise != NULL && run->shaping != NULL); /* names were checked by root */
    return SOW_OK;
}

void sow_run_fini(sow_run *run)
{
    if (run->method != NULL && run->method->fini != NULL)
        run->method->fini(run);
    sow_evaluator_destroy(&run->evaluator);
    sow_theta_destroy(&run->theta);
    sow_la_destroy(&run->la);
    sow_layout_destroy(&run->layout);
    sow_window_destroy(&run->mask_window);
    SOW_FREE(&run->mask_alone);
    SOW_FREE(&run->is_selected);
    SOW_FREE(&run->noise);
    SOW_FREE(&run->fitness);
    SOW_FREE(&run->coefficients);
    SOW_FREE(&run->rows);
    SOW_FREE(&run->chat_template);
    SOW_FREE(&run->blocks.tokenizer);
    for (int i = 0; i <= SOW_MAX_PROBES; i++)
        SOW_FREE(&run->blocks.files[i]);
    SOW_FREE(&run->options);
}

static bool contains(const int64_t *rows, int64_t n, int64_t row)
{
    for (int64_t i = 0; i < n; i++)
        if (rows[i] == row)
            return true;
    return false;
}

/* Floyd's (Bentley 1987, "A sample of brilliance"). */
void sow_draw_distinct(sow_place place, int64_t all, int64_t n, int64_t *out)
{
    sow_random random;
    sow_random_init(&random, place);
    for (int64_t i = 0; i < n; i++) {
        int64_t last = all - n + i, row = (int64_t)sow_random_below(&random, (uint32_t)last + 1);
        out[i] = contains(out, i, row) ? last : row;
    }
}

int64_t sow_run_batch(const sow_run *run)
{
    int64_t all = sow_task_rows(sow_evaluator_task(run->evaluator, run->train_job)),
            batch = run->method->batch(run->options);
    return batch == 0 || batch > all ? all : batch;
}

/* The batch, the same for all members: distinct rows of the task, and its share of retention. */
sow_code sow_run_draw(sow_run *run, int64_t generation)
{
    int64_t all = sow_task_rows(sow_evaluator_task(run->evaluator, run->train_job)), batch = sow_run_batch(run);
    if (run->rows_generation == generation)
        return SOW_OK;
    SOW_TRY(SOW_GROW(&run->rows, &run->rows_capacity, batch));
    run->n_retention_rows = sow_retention_rows(run);
    run->n_rows = batch - run->n_retention_rows;
    if (run->n_rows == all)
        for (int64_t i = 0; i < all; i++)
            run->rows[i] = i;
    else
        sow_draw_distinct(sow_place_of(SOW_STREAM_DATA, (uint32_t)run->options->run.seed, (uint32_t)generation, 0, 0),
                          all, run->n_rows, run->rows);
    sow_retention_draw(run, generation, run->n_retention_rows, run->rows + run->n_rows);
    run->rows_generation = generation;
    return SOW_OK;
}

_Static_assert((int)SOW_RIGHT_BITS == (int)SOW_UNIT_BITS, "a tally's bits are a result's");

/* Makes the weights that a unit asks for; false in *has if theta has moved on. */
static sow_code take_weights(sow_run *run, const sow_unit *unit, int64_t generation, bool *has)
{
    int64_t members = run->options->es.population;
    int64_t key = generation * (members + 1) + (unit->group < 0 ? members : unit->group);
    *has = true;
    if (sow_evaluator_holds(run->evaluator, key))
        return SOW_OK;
    if (!sow_theta_begin_read(run->theta, generation)) {
        *has = false;
        return SOW_OK;
    }
    sow_theta_member_noise(run->layout, &run->plan, generation + 1, unit->group, run->noise);
    sow_code rc = sow_evaluator_weights(run->evaluator, key, sow_theta_buffer(run->theta, generation), run->noise);
    sow_theta_end_read(run->theta);
    return rc;
}

sow_code sow_run_center(sow_run *run, int64_t step)
{
    int64_t index = run->method->index(run, step), members = run->options->es.population;
    return sow_evaluator_weights(run->evaluator, index * (members + 1) + members, sow_theta_buffer(run->theta, index),
                                 NULL);
}

sow_code sow_run_rows(sow_run *run, const sow_unit *unit, const int64_t **rows)
{
    SOW_TRY(SOW_GROW(&run->rows, &run->rows_capacity, unit->count));
    run->rows_generation = -1; /* the room holds other rows now */
    for (int32_t i = 0; i < unit->count; i++)
        run->rows[i] = unit->first + i;
    *rows = run->rows;
    return SOW_OK;
}

sow_code sow_run_answer(sow_run *run, const sow_unit *unit, const int64_t *rows, double kl_beta, sow_result *out)
{
    sow_tally tally = {0};
    SOW_TRY(sow_evaluator_run_member(run->evaluator, unit->job, rows, unit->count, kl_beta, &tally));
    for (int i = 0; i < SOW_MAX_PARTS; i++)
        tally.parts[i] = tally.parts[i] < INT32_MAX ? tally.parts[i] : INT32_MAX;
    *out = (sow_result){.round = unit->round,
                        .id = unit->id,
                        .reward = tally.reward,
                        .right = unit->count > SOW_UNIT_BITS ? (uint32_t)tally.correct : tally.right,
                        .new_tokens = (int32_t)tally.new_tokens,
                        .squares = (float)tally.squares,
                        .parts = {(int32_t)tally.parts[0], (int32_t)tally.parts[1]},
                        .kl = (float)tally.kl};
    return SOW_OK;
}

static bool is_of_step(const sow_run *run, const sow_unit *unit)
{
    return run->sgd != NULL ? unit->job < 0 : unit->job == run->train_job || unit->job == run->retention_job;
}

sow_code sow_run_unit(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale)
{
    sow_run_measure(run, !is_of_step(run, unit));
    SOW_TRY(sow_kernels_check_rounding());
    return run->method->unit(run, unit, out, is_stale);
}

/* A member's unit, or one of an evaluation. */
static sow_code answer_unit(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale)
{
    int64_t generation = unit->round % 2 == 0 ? unit->round / 2 - 1 : unit->round / 2;
    const int64_t *rows = NULL;
    bool has = false;
    SOW_TRY(take_weights(run, unit, generation, &has));
    *is_stale = !has;
    if (!has)
        return SOW_OK;
    double kl_beta = unit->group < 0 ? 0 : run->options->es.kl_beta;
    if (!is_of_step(run, unit)) {
        SOW_TRY(sow_run_rows(run, unit, &rows));
        return sow_run_answer(run, unit, rows, kl_beta, out);
    }
    SOW_TRY(sow_run_draw(run, generation + 1));
    rows = run->rows + (unit->job == run->train_job ? 0 : run->n_rows) + unit->first;
    return sow_run_answer(run, unit, rows, kl_beta, out);
}

sow_anchor sow_run_anchor(const char *name)
{
    return strcmp(name, "l1") == 0 ? SOW_ANCHOR_L1 : strcmp(name, "l2") == 0 ? SOW_ANCHOR_L2 : SOW_ANCHOR_NONE;
}

sow_code sow_run_step(sow_run *run, int64_t generation, sow_step *out, bool *has_spread)
{
    const sow_options *o = run->options;
    const sow_population population = {
        .fitness = run->fitness, .n = o->es.population, .seed = run->plan.seed, .generation = (uint32_t)generation};
    SOW_TRY(sow_shaping_coefficients(run->shaping, o->es.alpha, &population, run->coefficients, has_spread));
    *out = (sow_step){.generation = generation,
                      .population = o->es.population,
                      .coefficients = *has_spread ? run->coefficients : NULL,
                      .anchor = sow_run_anchor(o->es.anchor),
                      .decay = (float)(o->es.alpha * o->es.anchor_lambda)};
    return SOW_OK;
}

static double count_flops(const sow_run *run)
{
    double flops = sow_engine_counted(sow_evaluator_engine(run->evaluator)).flops;
    return run->sgd != NULL ? flops + sow_gradient_flops(run->sgd->gradient) : flops;
}

void sow_run_measure(sow_run *run, bool is_measuring)
{
    if (run->is_measuring == is_measuring)
        return;
    run->is_measuring = is_measuring;
    sow_phase_charge(is_measuring ? SOW_PHASE_MEASURE : SOW_N_PHASES);
    if (is_measuring)
        run->flops_then = count_flops(run);
    else
        run->flops_apart += count_flops(run) - run->flops_then;
}

void sow_run_report(sow_run *run, int64_t generation, report_message *out)
{
    sow_run_measure(run, false);
    *out = (report_message){.generation = generation, .flops = count_flops(run) - run->flops_apart};
    for (int i = 0; i < SOW_N_PHASES; i++)
        out->phase_s[i] = sow_phase_seconds((sow_phase)i);
    sow_phase_clear_times();
}

/* ---- the row of methods.def ---- */

static sow_code check_es(const sow_conf *conf)
{
    const sow_options *o = sow_conf_options(conf);
    const char *names[SOW_MAX_NAMES];
    int64_t n = sow_noise_count();
    SOW_TRY(sow_retention_check(conf));
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_noise_at(i)->name;
    SOW_TRY(sow_train_check_name(conf, "es.noise", names, n, sow_noise_find(o->es.noise) != NULL));
    n = sow_shaping_count();
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_shaping_at(i)->name;
    return sow_train_check_name(conf, "es.shaping", names, n, sow_shaping_find(o->es.shaping) != NULL);
}

static int64_t batch_es(const sow_options *options)
{
    return options->es.batch;
}

static int64_t index_es(const sow_run *run, int64_t step)
{
    (void)run;
    return step;
}

static int center_es(const sow_run *run, int64_t step)
{
    (void)run, (void)step;
    return -1;
}

static int32_t round_es(sow_root *root, int64_t step)
{
    (void)root;
    return (int32_t)(2 * step + 1);
}

static void plan_es(const sow_plan_args *a, sow_plan *p)
{
    const sow_options *o = a->options;
    double members = (double)o->es.population;
    p->theta_bytes += (int64_t)sow_run_mask_bytes(o, a->layout);
    p->reference_bytes = o->es.kl_beta > 0 ? p->replica_bytes : 0;
    p->rows = o->es.batch > 0 && o->es.batch < a->rows ? o->es.batch : a->rows;
    p->samples = o->es.population * p->rows;
    int64_t slices = p->rows * p->tokens_per_row / o->es.unit_tokens_min;
    slices = slices < 1 ? 1 : slices > p->rows ? p->rows : slices;
    p->units = p->useful_ranks = o->es.population * slices;
    p->updates = 1;
    p->eval_flops = (o->es.kl_beta > 0 ? 2 : 1) * members * sow_plan_forward_flops(a, p->rows, p->rows);
    p->update_elements = members * (double)a->layout->n_parameters;
}

const sow_method sow_method_es = {
    .name = "es",
    .doc = "evolution strategies (arXiv 2509.24372)",
    .word = "generation",
    .check = check_es,
    .create = sow_run_select,
    .prepare = prepare_es,
    .batch = batch_es,
    .batch_key = "es.batch",
    .index = index_es,
    .center = center_es,
    .round = round_es,
    .unit = answer_unit,
    .step = sow_es_step,
    .redo = sow_es_redo,
    .put = sow_es_put,
    .tell = sow_es_tell,
    .plan = plan_es,
};

#define METHOD(name) extern const sow_method sow_method_##name;
#include "methods.def"
#undef METHOD

static const sow_method *const methods[] = {
#define METHOD(name) &sow_method_##name,
#include "methods.def"
#undef METHOD
};

const sow_method *sow_method_at(int64_t i)
{
    return i < (int64_t)(sizeof methods / sizeof *methods) ? methods[i] : NULL;
}

const sow_method *sow_method_find(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i]->name, name) == 0)
            return methods[i];
    return NULL;
}
