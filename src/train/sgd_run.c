/* SPDX-License-Identifier: Apache-2.0 */
/* What every rank does alike under a method with gradients. */
#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"

#include <math.h>
#include <string.h>

sow_code sow_sgd_create(sow_run *run)
{
    const sow_options *o = run->options;
    SOW_TRY(SOW_ALLOC(&run->sgd, 1));
    *run->sgd = (sow_sgd){.gradient_index = -1, .sums_round = -1, .reduce.key = -1};
    SOW_TRY(sow_optimizer_create(run->world, run->la, run->layout, o->es.update_block, &run->sgd->optimizer));
    if (sow_run_leads(run))
        sow_optimizer_loaded(run->sgd->optimizer, 0);
    return run->world == NULL ? SOW_OK : sow_world_barrier(run->world);
}

static sow_gradient_options gradient_options(const sow_options *o)
{
    return (sow_gradient_options){.row_tokens = o->train.row_tokens, .recompute = o->train.recompute};
}

sow_code sow_sgd_prepare(sow_run *run)
{
    const sow_options *o = run->options;
    sow_gradient_options options = gradient_options(o);
    return sow_gradient_create(run->la, run->layout, run->type, &options, &run->sgd->gradient);
}

void sow_sgd_fini(sow_run *run)
{
    if (run->sgd == NULL)
        return;
    sow_gradient_destroy(&run->sgd->gradient);
    sow_optimizer_destroy(&run->sgd->optimizer);
    SOW_FREE(&run->sgd);
}

void sow_sgd_plan(const sow_plan_args *a, int64_t rows, int64_t samples, sow_plan *p)
{
    const sow_options *o = a->options;
    double n = (double)a->layout->n_elements, all = (double)p->nodes;
    int64_t bytes = (int64_t)sow_optimizer_node_bytes(a->layout, o->es.update_block, 1);
    int64_t most = a->layout->shape.max_positions, longest = a->longest < most ? a->longest : most;
    sow_gradient_options options = gradient_options(o), kept = {.recompute = "none"};
    p->moments_bytes = a->layout->n_elements * (int64_t)(4 * sizeof(float));
    p->gradient_bytes = bytes - p->moments_bytes;
    if (p->nodes > 1)
        p->totals_bytes = (int64_t)sow_optimizer_node_bytes(a->layout, o->es.update_block, 2) - bytes;
    p->sums_bytes = (int64_t)sow_optimizer_rank_bytes(a->layout);
    /* A unit's prompts and completions go through together, up to row_tokens. */
    int64_t of_unit = 0;
    p->gradient_units = sow_sgd_count_units(rows, a->ranks, &of_unit);
    double unit_tokens = (double)of_unit * (double)(longest + (samples / rows - 1) * a->max_new);
    options.row_tokens = unit_tokens < (double)options.row_tokens ? (int64_t)unit_tokens : options.row_tokens;
    p->backward_bytes = (int64_t)sow_gradient_bytes(a->layout, a->type, &options, longest);
    kept.row_tokens = options.row_tokens;
    bool is_kept = (int64_t)sow_gradient_bytes(a->layout, a->type, &kept, longest) == p->backward_bytes;
    /* The backward pass is two forward passes; what was not kept is computed again. */
    p->gradient_flops = (is_kept ? 3 : 4) * sow_plan_forward_flops(a, rows, samples);
    p->sum_elements = (double)rows * n;
    p->update_elements = (double)p->updates * n;
    p->allreduce_bytes = (double)p->updates * 2 * (all - 1) / all * n * (double)sizeof(int64_t);
}

int sow_sgd_center(const sow_run *run, int64_t step)
{
    return (int)run->method->index(run, step);
}

int32_t sow_sgd_round(sow_root *root, int64_t step)
{
    (void)step;
    return ++root->n_round;
}

sow_code sow_sgd_weights(sow_run *run, int64_t index, bool wants_gradient, bool *has)
{
    sow_sgd *s = run->sgd;
    int64_t members = run->options->es.population, key = index * (members + 1) + members;
    bool is_held = sow_evaluator_holds(run->evaluator, key) && (!wants_gradient || s->gradient_index == index);
    *has = is_held || sow_theta_begin_read(run->theta, index);
    if (is_held || !*has)
        return SOW_OK;
    const float *theta = sow_theta_buffer(run->theta, index);
    sow_code rc = sow_evaluator_weights(run->evaluator, key, theta, NULL);
    if (rc == SOW_OK && wants_gradient && s->gradient_index != index) {
        rc = sow_gradient_weights(s->gradient, theta);
        s->gradient_index = rc == SOW_OK ? index : -1;
    }
    sow_theta_end_read(run->theta);
    return rc;
}

sow_code sow_sgd_evaluate(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale)
{
    const int64_t *rows = NULL;
    bool has = false;
    SOW_TRY(sow_sgd_weights(run, unit->group, false, &has));
    *is_stale = !has;
    if (!has)
        return SOW_OK;
    SOW_TRY(sow_run_rows(run, unit, &rows));
    return sow_run_answer(run, unit, rows, 0, out);
}

int64_t *sow_sgd_sums(sow_run *run, int32_t round)
{
    if (run->sgd->sums_round != round)
        sow_optimizer_clear(run->sgd->optimizer);
    run->sgd->sums_round = round;
    return sow_optimizer_sums(run->sgd->optimizer);
}

static sow_schedule schedule_of(const char *name)
{
    return strcmp(name, "cosine") == 0   ? SOW_SCHEDULE_COSINE
           : strcmp(name, "linear") == 0 ? SOW_SCHEDULE_LINEAR
                                         : SOW_SCHEDULE_CONSTANT;
}

double sow_sgd_rate(const sow_options *o, int64_t step)
{
    bool is_grpo = strcmp(o->method, "grpo") == 0;
    return is_grpo ? o->grpo.learning_rate * sow_schedule_factor(schedule_of(o->grpo.schedule), step, o->run.steps,
                                                                 o->grpo.warmup_steps, o->grpo.min_factor)
                   : o->sft.learning_rate * sow_schedule_factor(schedule_of(o->sft.schedule), step, o->run.steps,
                                                                o->sft.warmup_steps, o->sft.min_factor);
}

int64_t sow_sgd_fixed(double x)
{
    double limit = 0x1p30; /* a sum of 2^2 such still fits; real losses are far below */
    return llrint((x < -limit ? -limit : x > limit ? limit : x) * 0x1p32);
}

sow_code sow_sgd_reduce(sow_run *run, const reduce_message *message)
{
    run->sgd->reduce = *message;
    return sow_optimizer_reduce(run->sgd->optimizer, message->key, &message->ranks, message->is_leader != 0);
}

sow_code sow_sgd_reduce_complete(sow_run *run)
{
    const reduce_message *message = &run->sgd->reduce;
    return sow_optimizer_complete(run->sgd->optimizer, message->key, &message->ranks, &message->leaders);
}

/* A node that was away while its gradient was made cannot make the step; it is of no use any more. */
static void leave(const sow_run *run, int64_t t)
{
    sow_log(SOW_LOG_WARN, "rank %d on %s leaves: its node has no gradient of update %lld", sow_world_rank(run->world),
            sow_world_host(run->world, sow_world_rank(run->world)), (long long)t);
    sow_world_leave(run->world, sow_code_exit(SOW_ESTOP));
}

sow_code sow_sgd_apply(sow_run *run, const apply_message *message, sow_step *out)
{
    const sow_options *o = run->options;
    bool is_over = !sow_theta_is_newest(run->theta, message->t - 1) && !sow_theta_is_newest(run->theta, message->t);
    if (!is_over && !sow_optimizer_has(run->sgd->optimizer, message->key))
        leave(run, message->t);
    sow_optimizer_step(run->sgd->optimizer,
                       &(sow_adamw_step){.t = message->t,
                                         .rate = message->rate,
                                         .anchor = sow_run_anchor(o->adamw.anchor),
                                         .anchor_lambda = o->adamw.anchor_lambda,
                                         .beta1 = o->adamw.beta1,
                                         .beta2 = o->adamw.beta2,
                                         .eps = o->adamw.eps,
                                         .weight_decay = o->adamw.weight_decay,
                                         .clip_norm = o->adamw.clip_norm},
                       out);
    return sow_theta_update(run->theta, &run->plan, out, message->is_leader != 0);
}

sow_code sow_sgd_save(sow_run *run, const sow_folder *folder, int64_t step)
{
    char path[SOW_TEXT];
    int64_t index = run->method->index(run, step);
    for (int which = 0; which < 2; which++) {
        SOW_TRY(sow_folder_moment(folder, which, step, path));
        SOW_TRY(
            sow_model_save_theta(path, run->layout, sow_optimizer_moment(run->sgd->optimizer, which, index), SOW_F32));
    }
    return SOW_OK;
}

sow_code sow_sgd_load(sow_run *run, const sow_folder *folder, const sow_ledger *ledger, int64_t step)
{
    char path[SOW_TEXT];
    int64_t index = run->method->index(run, step);
    for (int which = 0; which < 2; which++) {
        SOW_TRY(sow_folder_moment(folder, which, step, path));
        SOW_TRY(sow_model_load_theta(path, run->layout, sow_optimizer_moment(run->sgd->optimizer, which, index)));
    }
    sow_optimizer_loaded(run->sgd->optimizer, index);
    if (!sow_hash_equal(sow_optimizer_digest(run->sgd->optimizer, index), ledger->moments[step - 1]))
        return SOW_FAIL(SOW_EBITS, "the moments beside it do not have the digest of the ledger");
    return SOW_OK;
}
