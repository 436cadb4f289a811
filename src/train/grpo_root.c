/* SPDX-License-Identifier: Apache-2.0 */
/* Root's steps of GRPO: rollouts of the step's prompts, advantages, and optimizer steps over mini-batches of whole
 * groups, in the order in which the prompts were drawn. */
#include "grpo_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct sow_grpo_root {
    sow_parcels rollouts;
    grpo_sample *samples;         /* owned [prompts][group_size] */
    double *rewards, *advantages; /* owned, the same */
    sow_bytes parcel;             /* for a gradient unit */
    double weight_sum;
    sow_loss_counts counts; /* of the mini-batch at work */
    /* Of the step, for metrics. */
    double reward, reward_std, accuracy, zero_std, length, truncated, rollout_s;
    double parts[SOW_MAX_PARTS];
    int64_t length_min, length_max, tokens, prompt_tokens;
} sow_grpo_root;

sow_code sow_grpo_on_parcel(sow_root *root, const sow_message *m)
{
    if (root->sgd == NULL || root->sgd->grpo == NULL)
        return SOW_FAIL(SOW_ECOMM, "rank %d sent a parcel that nobody asked for", m->from);
    return sow_parcels_take(&root->sgd->grpo->rollouts, m);
}

/* Data of a gradient unit, before the unit itself goes to a rank. */
static sow_code make_parcel(const sow_root *root, const sow_unit *unit)
{
    const sow_run *run = root->run;
    sow_grpo_root *g = root->sgd->grpo;
    int64_t size = run->options->grpo.group_size;
    const sow_loss *loss = run->sgd->grpo->loss;
    size_t arrays = run->sgd->grpo->base == NULL ? 2 : 3;
    sow_words_clear(&g->parcel);
    for (int32_t i = 0; i < unit->count; i++) {
        const grpo_sample *group = g->samples + (unit->first + i) * size;
        group_head head = {.row = run->rows[unit->first + i]};
        for (int64_t j = 0; j < size; j++)
            head.n_samples += group[j].has_loss;
        SOW_TRY(sow_bytes_put(&g->parcel, &head, sizeof head));
        for (int64_t j = 0; j < size; j++) {
            if (!group[j].has_loss)
                continue;
            sample_head one = {.n = group[j].head.n,
                               .weight = loss->weight(&g->counts, group[j].head.n),
                               .advantage = group[j].advantage};
            SOW_TRY(sow_bytes_put(&g->parcel, &one, sizeof one));
            SOW_TRY(sow_bytes_put(&g->parcel, group[j].data, arrays * (size_t)group[j].head.n * sizeof(float)));
        }
    }
    return SOW_OK;
}

static sow_code send_parcel(void *context, int rank, const sow_unit *unit)
{
    sow_root *root = context;
    if (unit->job != JOB_GRADIENT)
        return SOW_OK;
    SOW_TRY(make_parcel(root, unit));
    return sow_parcel_send(root->run->world, rank, TAG_PARCEL, unit->round, unit->id, root->sgd->grpo->parcel.text,
                           root->sgd->grpo->parcel.bytes);
}

/* Root's own unit of rollouts is done, or of a gradient begins: its parcel is at hand. */
sow_code sow_grpo_own_parcel(sow_root *root, const sow_unit *unit, bool is_before)
{
    sow_grpo *mine = root->run->sgd->grpo;
    sow_grpo_root *g = root->sgd->grpo;
    if (unit->job == JOB_ROLLOUT && !is_before)
        return sow_parcels_put(&g->rollouts, unit->round, unit->id, mine->out.text, mine->out.bytes);
    if (unit->job != JOB_GRADIENT || !is_before)
        return SOW_OK;
    SOW_TRY(make_parcel(root, unit));
    return sow_parcels_put(&mine->parcels, unit->round, unit->id, g->parcel.text, g->parcel.bytes);
}

static sow_code create_root(sow_root *root)
{
    sow_grpo_root *g = NULL;
    const sow_run *run = root->run;
    int64_t n = sow_grpo_prompts(run) * run->options->grpo.group_size;
    SOW_TRY(SOW_ALLOC(&g, 1));
    root->sgd->grpo = g;
    SOW_TRY(SOW_ALLOC(&g->samples, n));
    SOW_TRY(SOW_ALLOC(&g->rewards, n));
    SOW_TRY(SOW_ALLOC(&g->advantages, n));
    sow_queue_set_prelude(root->queue, send_parcel, root);
    return SOW_OK;
}

void sow_grpo_root_destroy(sow_root *root)
{
    sow_grpo_root *g = root->sgd == NULL ? NULL : root->sgd->grpo;
    if (g == NULL)
        return;
    sow_parcels_fini(&g->rollouts);
    sow_words_fini(&g->parcel);
    SOW_FREE(&g->samples);
    SOW_FREE(&g->rewards);
    SOW_FREE(&g->advantages);
    SOW_FREE(&root->sgd->grpo);
}

/* ---- rollouts ---- */

/* The samples of a unit's parcel into their places. */
static sow_code read_parcel(sow_root *root, const sow_unit *unit)
{
    const sow_run *run = root->run;
    sow_grpo_root *g = root->sgd->grpo;
    int64_t size = run->options->grpo.group_size, first = unit->first * size;
    size_t arrays = run->sgd->grpo->base == NULL ? 2 : 3;
    const sow_parcel *parcel = sow_parcels_get(&g->rollouts, root->n_round, unit->id);
    if (parcel == NULL)
        return SOW_FAIL(SOW_ECOMM, "the rollouts of unit %d have not come with its result", unit->id);
    sow_reader reader = {.at = parcel->data.text, .end = parcel->data.text + parcel->data.bytes};
    for (int64_t i = 0; i < unit->count * size; i++) {
        grpo_sample *s = &g->samples[first + i];
        if (!sow_reader_get(&reader, &s->head, sizeof s->head) || s->head.n < 1)
            return SOW_FAIL(SOW_ECOMM, "the rollouts of unit %d are cut short", unit->id);
        s->data = reader.at;
        if (!sow_reader_get(&reader, NULL, arrays * (size_t)s->head.n * sizeof(float)))
            return SOW_FAIL(SOW_ECOMM, "the rollouts of unit %d are cut short", unit->id);
        g->rewards[first + i] = s->head.reward;
    }
    return SOW_OK;
}

static sow_code roll_out(sow_root *root, int64_t step, int64_t index)
{
    sow_run *run = root->run;
    sow_grpo_root *g = root->sgd->grpo;
    double start = sow_clock_now_s();
    int64_t prompts = sow_grpo_prompts(run), n = 0;
    SOW_TRY(sow_run_draw(run, step));
    SOW_TRY(sow_sgd_add_units(root, (int)index, JOB_ROLLOUT, 0, prompts, &n));
    sow_parcels_start(&g->rollouts, ++root->n_round);
    SOW_TRY(SOW_GROW(&root->sgd->stats, &root->sgd->stats_capacity, n));
    SOW_TRY(sow_root_round(root, root->n_round, n, "rollouts"));
    for (int64_t i = 0; i < n; i++) {
        root->units[i].id = (int32_t)i;
        SOW_TRY(read_parcel(root, &root->units[i]));
    }
    /* An evaluation may have put other rows there; the step's are needed for prompts. */
    SOW_TRY(sow_run_draw(run, step));
    g->prompt_tokens = 0;
    for (int64_t i = 0; i < prompts; i++) {
        int64_t tokens = 0;
        SOW_TRY(sow_evaluator_prompt_tokens(run->evaluator, run->train_job, run->rows[i], &tokens));
        g->prompt_tokens += tokens * run->options->grpo.group_size;
    }
    g->rollout_s = sow_clock_now_s() - start;
    return SOW_OK;
}

/* What metrics say of the step's rollouts. */
static void summarise(sow_root *root)
{
    const sow_options *o = root->run->options;
    sow_grpo_root *g = root->sgd->grpo;
    int64_t prompts = sow_grpo_prompts(root->run), size = o->grpo.group_size, n = prompts * size;
    int64_t correct = 0, truncated = 0, zero = 0;
    memset(g->parts, 0, sizeof g->parts);
    g->reward_std = 0;
    g->tokens = 0;
    g->length_min = INT64_MAX;
    g->length_max = 0;
    for (int64_t i = 0; i < prompts; i++) {
        sow_summary s = sow_stats_summary(g->rewards + i * size, size);
        g->reward_std += s.std * sqrt((double)size / (double)(size - 1)) / (double)prompts; /* ddof 1, as TRL's */
        zero += sow_grpo_is_flat(g->rewards + i * size, size);
    }
    for (int64_t i = 0; i < n; i++) {
        const rollout_head *h = &g->samples[i].head;
        correct += h->is_correct;
        truncated += h->is_truncated;
        g->tokens += h->n;
        g->length_min = h->n < g->length_min ? h->n : g->length_min;
        g->length_max = h->n > g->length_max ? h->n : g->length_max;
        for (int k = 0; k < SOW_MAX_PARTS; k++)
            g->parts[k] += h->parts[k] / (double)n;
    }
    g->reward = sow_stats_summary(g->rewards, n).mean;
    g->accuracy = (double)correct / (double)n;
    g->zero_std = (double)zero / (double)prompts;
    g->length = (double)g->tokens / (double)n;
    g->truncated = (double)truncated / (double)n;
}

/* ---- steps ---- */

/* One mini-batch of prompts first .. last - 1. */
static sow_code update(sow_root *root, int64_t index, int64_t first, int64_t last)
{
    sow_run *run = root->run;
    sow_grpo_root *g = root->sgd->grpo;
    int64_t size = run->options->grpo.group_size, n = 0;
    g->counts = sow_grpo_count(g->samples + first * size, (last - first) * size,
                               sow_evaluator_max_new(run->evaluator, run->train_job));
    SOW_TRY(sow_sgd_add_units(root, (int)index, JOB_GRADIENT, first, last, &n));
    return sow_sgd_update(root, index, n, root->sgd->rate);
}

static sow_code do_step(sow_root *root, const sow_ledger *ledger, int64_t step)
{
    sow_run *run = root->run;
    sow_sgd_root *s = root->sgd;
    const sow_options *o = run->options;
    int64_t prompts = sow_grpo_prompts(run), updates = sow_grpo_updates(run), index = (step - 1) * updates;
    root->redone = ledger == NULL ? 0 : step;
    if (s->grpo == NULL)
        SOW_TRY(create_root(root));
    s->loss = s->norm = s->seconds = 0;
    s->tokens = 0;
    memset(&s->sum, 0, sizeof s->sum);
    s->rate = sow_sgd_rate(o, step);
    SOW_TRY(roll_out(root, step, index));
    sow_grpo_weigh(o, s->grpo->rewards, prompts, s->grpo->advantages, s->grpo->samples);
    summarise(root);
    for (int64_t epoch = 0; epoch < o->grpo.epochs; epoch++)
        for (int64_t first = 0; first < prompts; first += o->grpo.minibatch)
            SOW_TRY(update(root, index++, first,
                           first + o->grpo.minibatch < prompts ? first + o->grpo.minibatch : prompts));
    s->loss /= (double)updates;
    s->norm /= (double)updates;
    s->values[0] = s->grpo->reward;
    s->values[1] = s->loss;
    s->values[2] = s->norm;
    return sow_sgd_record(root, ledger, step, s->grpo->tokens + s->grpo->prompt_tokens);
}

sow_code sow_grpo_step(sow_root *root, int64_t step)
{
    return do_step(root, NULL, step);
}

sow_code sow_grpo_redo(sow_root *root, const sow_ledger *ledger, int64_t step)
{
    return do_step(root, ledger, step);
}

sow_code sow_grpo_put(sow_root *root, sow_line *line, int64_t step)
{
    sow_run *run = root->run;
    const sow_sgd_root *s = root->sgd;
    const sow_grpo_root *g = s->grpo;
    const sow_task_kind *kind = sow_task_kind_of(sow_evaluator_task(run->evaluator, run->train_job));
    /* Of no tokens there is no mean, and no least: null. */
    bool has_tokens = s->sum.tokens > 0;
    double tokens = has_tokens ? (double)s->sum.tokens : (double)NAN;
    sow_line_real(line, "reward", g->reward);
    sow_line_real(line, "reward_std", g->reward_std);
    sow_line_real(line, "frac_reward_zero_std", g->zero_std);
    sow_line_real(line, "accuracy", g->accuracy);
    for (int i = 0; i < SOW_MAX_PARTS && kind->parts[i] != NULL; i++)
        sow_line_real(line, kind->parts[i], g->parts[i]);
    sow_line_real(line, "completions/mean_length", g->length);
    sow_line_int(line, "completions/min_length", g->length_min);
    sow_line_int(line, "completions/max_length", g->length_max);
    sow_line_real(line, "completions/clipped_ratio", g->truncated);
    if (run->sgd->grpo->base != NULL)
        sow_line_real(line, "kl", (double)s->sum.kl / 0x1p32 / tokens);
    sow_line_real(line, "entropy", (double)s->sum.entropy / 0x1p32 / tokens);
    sow_line_real(line, "clip_ratio/low_mean", (double)s->sum.clipped_low / tokens);
    sow_line_real(line, "clip_ratio/high_mean", (double)s->sum.clipped_high / tokens);
    sow_line_real(line, "clip_ratio/dual_mean", (double)s->sum.clipped_dual / tokens);
    sow_line_real(line, "clip_ratio/region_mean", (double)(s->sum.clipped_low + s->sum.clipped_high) / tokens);
    sow_line_real(line, "importance_ratio/mean", (double)s->sum.ratio / 0x1p32 / tokens);
    sow_line_real(line, "importance_ratio/min", has_tokens ? s->sum.ratio_min : (double)NAN);
    sow_line_real(line, "importance_ratio/max", has_tokens ? s->sum.ratio_max : (double)NAN);
    sow_line_real(line, "completion_length", g->length);
    sow_line_int(line, "rollout_tokens", g->tokens);
    sow_line_int(line, "prompt_tokens", g->prompt_tokens);
    sow_line_real(line, "rollout_s", g->rollout_s);
    sow_sgd_put(root, line, step);
    return SOW_OK;
}

void sow_grpo_tell(const sow_root *root, char *out, size_t cap)
{
    const sow_sgd_root *s = root->sgd;
    (void)snprintf(out, cap, "  reward %.4f +- %.4f  loss %.4g  grad_norm %.4g  norm %.4g  %.2f s", s->grpo->reward,
                   s->grpo->reward_std, s->loss, s->norm, sqrt(root->now.delta2), root->now.step_s);
}
