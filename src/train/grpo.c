/* SPDX-License-Identifier: Apache-2.0 */
/* The row of GRPO in methods.def: names, room, and where its units go. */
#include "grpo_impl.h"

#include "sower/alloc.h"

#include <string.h>

enum {
    BYTES_OF_TOLD = 12,    /* a token in a parcel: id, old and reference */
    BYTES_OF_SAMPLED = 64, /* a token of the unit at work: id, six floats, parcels in and out, the engine's own */
};

static sow_code check(const sow_conf *conf)
{
    const char *names[SOW_MAX_NAMES];
    const sow_options *o = sow_conf_options(conf);
    int64_t n = sow_loss_count();
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_loss_at(i)->name;
    SOW_TRY(sow_train_check_name(conf, "grpo.loss", names, n, sow_loss_find(o->grpo.loss) != NULL));
    if (o->grpo.dual_clip != 0 && !(o->grpo.dual_clip > 1))
        return sow_conf_reject(conf, "grpo.dual_clip", "a number above 1, or 0 for none", NULL, 0);
    return SOW_OK;
}

int64_t sow_grpo_prompts(const sow_run *run)
{
    int64_t rows = sow_task_rows(sow_evaluator_task(run->evaluator, run->train_job));
    int64_t wanted = run->options->grpo.prompts_per_step;
    return wanted < rows ? wanted : rows;
}

/* Mini-batches of a step, over all epochs. */
static int64_t count_updates(const sow_options *o, int64_t prompts)
{
    return o->grpo.epochs * ((prompts + o->grpo.minibatch - 1) / o->grpo.minibatch);
}

int64_t sow_grpo_updates(const sow_run *run)
{
    return count_updates(run->options, sow_grpo_prompts(run));
}

static int64_t batch_of(const sow_options *options)
{
    return options->grpo.prompts_per_step;
}

static int64_t index_of(const sow_run *run, int64_t step)
{
    return step * sow_grpo_updates(run);
}

static sow_code make_base(sow_run *run, sow_grpo *g)
{
    if (!(run->options->grpo.kl > 0))
        return SOW_OK;
    SOW_TRY(sow_replica_create(run->la, run->layout, run->type, &g->base));
    return sow_replica_make(g->base, sow_theta_base(run->theta), NULL);
}

static sow_code prepare(sow_run *run)
{
    const sow_options *o = run->options;
    if (!sow_task_is_text(sow_evaluator_task(run->evaluator, run->train_job)))
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: has rows of ids, which are for supervised training alone; expected prompt and answer",
                        o->task.file);
    SOW_TRY(sow_sgd_prepare(run));
    SOW_TRY(SOW_ALLOC(&run->sgd->grpo, 1));
    sow_grpo *g = run->sgd->grpo;
    g->parcels.round = -1;
    g->loss = sow_loss_find(o->grpo.loss);
    SOW_ASSERT(g->loss != NULL); /* the name was checked by root */
    g->policy = (sow_policy){.clip_low = o->grpo.clip_low,
                             .clip_high = o->grpo.clip_high,
                             .dual_clip = o->grpo.dual_clip,
                             .kl = o->grpo.kl,
                             .entropy = o->grpo.entropy};
    return make_base(run, g);
}

static void fini(sow_run *run)
{
    sow_grpo *g = run->sgd == NULL ? NULL : run->sgd->grpo;
    if (g != NULL) {
        sow_replica_destroy(&g->base);
        sow_parcels_fini(&g->parcels);
        sow_words_fini(&g->out);
        sow_ids_fini(&g->ids);
        SOW_FREE(&g->prompts);
        SOW_FREE(&g->completions);
        SOW_FREE(&g->old);
        SOW_FREE(&g->reference);
        SOW_FREE(&g->logprob);
        SOW_FREE(&g->entropy);
        SOW_FREE(&g->d_logprob);
        SOW_FREE(&g->d_entropy);
        SOW_FREE(&g->flat);
        SOW_FREE(&g->sequences);
        SOW_FREE(&g->views);
        SOW_FREE(&g->units);
        SOW_FREE(&g->items);
        SOW_FREE(&g->places);
        SOW_FREE(&g->first_sequence);
        SOW_FREE(&g->group_of);
        SOW_FREE(&run->sgd->grpo);
    }
    sow_sgd_fini(run);
}

sow_code sow_grpo_reach(sow_grpo *g, int64_t n)
{
    float **blocks[] = {&g->old, &g->reference, &g->logprob, &g->entropy, &g->d_logprob, &g->d_entropy};
    if (n <= g->token_capacity)
        return SOW_OK;
    int64_t bigger = n * 3 / 2;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        SOW_TRY(SOW_RESIZE(blocks[i], g->token_capacity, bigger));
    g->token_capacity = bigger;
    return SOW_OK;
}

sow_code sow_grpo_take_parcel(sow_run *run, const sow_message *m)
{
    if (run->sgd == NULL || run->sgd->grpo == NULL)
        return SOW_FAIL(SOW_ECOMM, "root sent a parcel that nobody asked for");
    return sow_parcels_take(&run->sgd->grpo->parcels, m);
}

static sow_code answer(sow_run *run, const sow_unit *unit, sow_result *out, bool *is_stale)
{
    bool has = false, wants_gradient = unit->job == JOB_GRADIENT;
    sow_grpo *g = run->sgd->grpo;
    if (unit->job >= 0)
        return sow_sgd_evaluate(run, unit, out, is_stale);
    SOW_TRY(sow_sgd_weights(run, unit->group, wants_gradient, &has));
    *is_stale = !has;
    if (!has)
        return SOW_OK;
    if (wants_gradient)
        return sow_grpo_gradient(run, unit, sow_parcels_get(&g->parcels, unit->round, unit->id), out);
    SOW_TRY(sow_grpo_rollout(run, unit, out));
    return run->world == NULL || sow_world_rank(run->world) == 0
               ? SOW_OK
               : sow_parcel_send(run->world, 0, TAG_PARCEL, unit->round, unit->id, g->out.text, g->out.bytes);
}

static void plan(const sow_plan_args *a, sow_plan *p)
{
    const sow_options *o = a->options;
    int64_t group = o->grpo.group_size, wanted = o->grpo.prompts_per_step;
    p->rows = p->useful_ranks = wanted < a->rows ? wanted : a->rows;
    p->samples = p->rows * group;
    int64_t of_unit = 0;
    p->units = sow_sgd_count_units(p->rows, a->ranks, &of_unit);
    p->updates = count_updates(o, p->rows);
    int64_t batch = o->grpo.minibatch < p->rows ? o->grpo.minibatch : p->rows;
    sow_sgd_plan(a, batch, batch * group, p);
    double passes = (double)(o->grpo.epochs * p->rows) / (double)batch; /* the last mini-batch may be smaller */
    p->gradient_flops *= passes;
    p->sum_elements *= passes;
    /* Sampling; the old policy at its temperature, where that is not the sampler's; the base. */
    bool is_plain = !(o->grpo.temperature < 1 || o->grpo.temperature > 1);
    int passes_forward = 1 + (is_plain ? 0 : 1) + (o->grpo.kl > 0 ? 1 : 0);
    p->eval_flops = passes_forward * sow_plan_forward_flops(a, p->rows, p->samples);
    p->reference_bytes = o->grpo.kl > 0 ? p->replica_bytes : 0;
    p->samples_bytes = of_unit * group * a->max_new * BYTES_OF_SAMPLED;
    p->root_bytes = p->samples * a->max_new * BYTES_OF_TOLD;
}

const sow_method sow_method_grpo = {
    .name = "grpo",
    .doc = "group-relative policy optimisation (arXiv 2402.03300)",
    .word = "step",
    .check = check,
    .create = sow_sgd_create,
    .prepare = prepare,
    .fini = fini,
    .batch = batch_of,
    .batch_key = "grpo.prompts_per_step",
    .index = index_of,
    .center = sow_sgd_center,
    .round = sow_sgd_round,
    .unit = answer,
    .step = sow_grpo_step,
    .redo = sow_grpo_redo,
    .put = sow_grpo_put,
    .tell = sow_grpo_tell,
    .plan = plan,
};
