/* SPDX-License-Identifier: Apache-2.0 */
/* What a run writes down: evaluations on the same ranks, a line of metrics per step, drift, samples.  Nothing here
 * touches the bits of the run. */
#include "root_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Tokens of all prompts of a job; counted once. */
static sow_code count_prompts(sow_root *root, int job, int64_t *out)
{
    int64_t rows = sow_task_rows(sow_evaluator_task(root->run->evaluator, job)), sum = 0;
    for (int64_t i = 0; root->job_prompt_tokens[job] == 0 && i < rows; i++) {
        int64_t n = 0;
        SOW_TRY(sow_evaluator_prompt_tokens(root->run->evaluator, job, i, &n));
        sum += n;
    }
    root->job_prompt_tokens[job] += sum;
    *out = root->job_prompt_tokens[job];
    return SOW_OK;
}

/* Slices of about unit_tokens_min tokens, and of no more rows than a result has bits for. */
static int64_t count_slices(const sow_root *root, int64_t rows, int64_t tokens)
{
    int64_t slices = tokens / root->run->options->es.unit_tokens_min;
    int64_t least = (rows + SOW_UNIT_BITS - 1) / SOW_UNIT_BITS;
    slices = slices < least ? least : slices;
    return slices > rows ? rows : slices;
}

/* A job goes out twice: to be answered, and for the likelihood of its right answers. */
static sow_code add_evaluation(sow_root *root, int job, int64_t *n_units)
{
    sow_run *run = root->run;
    int64_t rows = sow_task_rows(sow_evaluator_task(run->evaluator, job)), tokens = 0;
    SOW_TRY(count_prompts(root, job, &tokens));
    int64_t with_answers = tokens + sow_evaluator_max_new(run->evaluator, job) * rows;
    int center = run->method->center(run, root->measured_step);
    SOW_TRY(sow_root_add_units(root, n_units, center, job, rows, count_slices(root, rows, with_answers)));
    return sow_root_add_units(root, n_units, center, job | SOW_JOB_LIKELIHOOD, rows,
                              count_slices(root, rows, 2 * tokens));
}

/* The jobs that are measured, at the first evaluation; with what step 0 left, if this is a run that goes on. */
static sow_code open_items(sow_root *root)
{
    sow_run *run = root->run;
    int jobs[SOW_MAX_PROBES + 1], n = 0;
    sow_json *first = NULL;
    if (root->items != NULL)
        return SOW_OK;
    if (run->held_out_job >= 0)
        jobs[n++] = run->held_out_job;
    for (int64_t i = 0; i < run->options->n_probes; i++)
        jobs[n++] = run->probe_jobs[i];
    SOW_TRY(sow_items_create(run->evaluator, jobs, n, &root->items));
    SOW_TRY(sow_folder_first(root->folder, SOW_LINES_ITEMS, &first));
    sow_items_load(root->items, first);
    sow_json_destroy(&first);
    return SOW_OK;
}

static sow_code write_items(sow_root *root, int64_t step)
{
    sow_line *line = NULL;
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", step);
    sow_items_put(root->items, step, line);
    sow_line_end_object(line);
    sow_code rc = sow_folder_append(root->folder, SOW_LINES_ITEMS, line);
    sow_line_destroy(&line);
    return rc;
}

sow_tally sow_root_tally(const sow_unit *unit, const sow_result *result)
{
    return (sow_tally){.rows = unit->count,
                       .reward = result->reward,
                       .correct = sow_result_correct(unit, result),
                       .new_tokens = result->new_tokens,
                       .parts = {result->parts[0], result->parts[1]},
                       .squares = (double)result->squares,
                       .kl = (double)result->kl};
}

static sow_code evaluate_jobs(sow_root *root, int64_t step, bool has_held_out)
{
    sow_run *run = root->run;
    const sow_options *o = run->options;
    int64_t n = 0;
    SOW_TRY(open_items(root));
    sow_items_clear(root->items);
    root->measured_step = step;
    memset(root->job_tallies, 0, sizeof root->job_tallies);
    if (has_held_out)
        SOW_TRY(add_evaluation(root, run->held_out_job, &n));
    for (int64_t i = 0; i < o->n_probes; i++)
        if (sow_eval_is_due(o->probes[i].every, step, o->run.steps))
            SOW_TRY(add_evaluation(root, run->probe_jobs[i], &n));
    if (n == 0)
        return SOW_OK;
    SOW_TRY(sow_root_round(root, run->method->round(root, step), n, "evaluation"));
    const sow_result *results = sow_queue_results(root->queue);
    for (int64_t i = 0; i < n; i++) {
        const sow_unit *unit = &root->units[i];
        sow_tally t = sow_root_tally(unit, &results[i]);
        sow_items_take(root->items, unit, &results[i], &t);
        if ((unit->job & SOW_JOB_LIKELIHOOD) != 0)
            continue;
        t.prompt_tokens = unit->first == 0 ? root->job_prompt_tokens[unit->job] : 0;
        sow_tally_add(&root->job_tallies[unit->job], &t);
    }
    return write_items(root, step);
}

static sow_code put_sample(void *context, const sow_answer *answer)
{
    sow_root *root = context;
    sow_line *line = NULL;
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", root->status.step);
    sow_line_int(line, "row", answer->row);
    sow_line_string_n(line, "prompt", answer->prompt, answer->prompt_bytes);
    sow_line_string_n(line, "completion", answer->completion, answer->completion_bytes);
    sow_line_real(line, "reward", answer->grade.reward);
    sow_line_bool(line, "correct", answer->grade.is_correct);
    sow_line_end_object(line);
    sow_code rc = sow_folder_append(root->folder, SOW_LINES_SAMPLES, line);
    sow_line_destroy(&line);
    return rc;
}

/* Root answers the first held-out (or training) rows itself: samples need not travel. */
static sow_code write_samples(sow_root *root, int64_t step)
{
    sow_run *run = root->run;
    int job = run->held_out_job >= 0 ? run->held_out_job : run->train_job;
    int64_t rows[1000], n = run->options->run.samples, has = sow_task_rows(sow_evaluator_task(run->evaluator, job));
    sow_tally tally;
    n = n < has ? n : has;
    if (n == 0)
        return SOW_OK;
    for (int64_t i = 0; i < n; i++)
        rows[i] = i;
    SOW_TRY(sow_run_center(run, step));
    root->status.step = step;
    return sow_evaluator_run(run->evaluator, job, rows, n, put_sample, root, &tally);
}

/* Against step 0, item by item, and how likely the right answers are; null where there is none. */
static void put_items(const sow_items *items, sow_line *line, int job)
{
    sow_change change = {.n = 1, .lost = -1};
    double per_row = (double)NAN, per_token = (double)NAN;
    bool has = sow_items_change(items, job, &change);
    (void)sow_items_logprob(items, job, &per_row, &per_token);
    sow_line_real(line, "lost", has ? (double)change.lost / (double)change.n : (double)NAN);
    sow_line_real(line, "gained", has ? (double)change.gained / (double)change.n : (double)NAN);
    sow_line_real(line, "mcnemar_p", has ? change.p : (double)NAN);
    sow_line_real(line, "answer_logprob", per_row);
    sow_line_real(line, "answer_token_logprob", per_token);
}

static void put_tally(const sow_root *root, sow_line *line, const char *key, int job)
{
    double low = 0, high = 1;
    const sow_tally *t = &root->job_tallies[job];
    const sow_task_kind *kind = sow_task_kind_of(sow_evaluator_task(root->run->evaluator, job));
    sow_stats_wilson(t->correct, t->rows, &low, &high);
    sow_line_begin_object(line, key);
    sow_line_string(line, "task", kind->name);
    sow_line_int(line, "rows", t->rows);
    sow_line_real(line, "accuracy", (double)t->correct / (double)t->rows);
    sow_line_real(line, "low", low);
    sow_line_real(line, "high", high);
    sow_line_real(line, "reward", sow_tally_mean_reward(t));
    sow_tally_reward_interval(t, &low, &high);
    sow_line_real(line, "reward_low", low);
    sow_line_real(line, "reward_high", high);
    for (int i = 0; i < SOW_MAX_PARTS && kind->parts[i] != NULL; i++)
        sow_line_real(line, kind->parts[i], (double)t->parts[i] / SOW_PART_SCALE / (double)t->rows);
    sow_line_real(line, "completion_length", (double)t->new_tokens / (double)t->rows);
    sow_line_int(line, "tokens", t->new_tokens + t->prompt_tokens);
    put_items(root->items, line, job);
    sow_line_end_object(line);
}

static void put_evaluations(sow_root *root, sow_line *line)
{
    sow_run *run = root->run;
    const sow_tally *held_out = run->held_out_job < 0 ? NULL : &root->job_tallies[run->held_out_job];
    if (held_out != NULL && held_out->rows > 0)
        put_tally(root, line, "eval", run->held_out_job);
    sow_line_begin_array(line, "probes");
    for (int64_t i = 0; i < run->options->n_probes; i++) {
        int job = run->probe_jobs[i];
        if (root->job_tallies[job].rows > 0)
            put_tally(root, line, NULL, job);
        else
            sow_line_null(line, NULL);
    }
    sow_line_end_array(line);
}

/* {"decode": {"min": s, "avg": s, "max": s}, ...} over the ranks whose report of this generation has come. */
void sow_root_put_phases(sow_root *root, sow_line *line, int64_t step)
{
    int n_ranks = sow_world_size(root->run->world);
    sow_line_begin_object(line, "phases");
    for (int phase = SOW_PHASE_PERTURB; phase < SOW_N_PHASES; phase++) {
        const phase_spread s = sow_phase_spread(root->reports, n_ranks, step, phase);
        if (s.n == 0)
            continue;
        sow_line_begin_object(line, sow_phase_name(phase));
        sow_line_real(line, "min", s.min);
        sow_line_real(line, "avg", s.sum / s.n);
        sow_line_real(line, "max", s.max);
        sow_line_end_object(line);
    }
    sow_line_end_object(line);
}

double sow_root_take_flops(sow_root *root)
{
    double flops = 0;
    for (int rank = 0; rank < sow_world_size(root->run->world); rank++) {
        flops += root->reports[rank].flops - root->flops_put[rank];
        root->flops_put[rank] = root->reports[rank].flops;
    }
    return flops;
}

/* Fitness where it is not the reward, and what it is made of. */
static void put_fitness(const sow_root *root, sow_line *line)
{
    const sow_options *o = root->run->options;
    const sow_tally *retention = &root->now.retention;
    if (o->es.kl_beta == 0 && retention->rows == 0)
        return;
    sow_summary s = sow_stats_summary(root->run->fitness, o->es.population);
    sow_line_real(line, "fitness", s.mean);
    sow_line_real(line, "fitness_std", s.std);
    if (o->es.kl_beta > 0)
        sow_line_real(line, "kl",
                      (root->now.tally.kl + retention->kl) / (double)(root->now.tally.rows + retention->rows));
    if (retention->rows == 0)
        return;
    sow_line_real(line, "retention_reward", sow_root_raw_reward(root, retention));
    sow_line_real(line, "retention_accuracy", (double)retention->correct / (double)retention->rows);
}

void sow_root_put_traffic(const sow_root *root, sow_line *line)
{
    sow_line_int(line, "ranks", sow_world_n_alive(root->run->world));
    sow_line_int(line, "messages", root->now.messages);
    sow_line_int(line, "bytes", root->now.bytes);
}

sow_code sow_es_put(sow_root *root, sow_line *line, int64_t step)
{
    sow_run *run = root->run;
    const sow_options *o = run->options;
    const sow_task_kind *kind = sow_task_kind_of(sow_evaluator_task(run->evaluator, run->train_job));
    const sow_tally *t = &root->now.tally;
    sow_summary s = sow_stats_summary(root->rewards, o->es.population);
    const double flops = sow_root_take_flops(root);
    int64_t tokens = sow_es_tokens(root);
    sow_line_real(line, "reward", s.mean);
    sow_line_real(line, "reward_std", s.std);
    sow_line_real(line, "reward_min", s.min);
    sow_line_real(line, "reward_max", s.max);
    put_fitness(root, line);
    if (root->now.center.rows > 0)
        sow_line_real(line, "reward_center", sow_tally_mean_reward(&root->now.center));
    sow_line_real(line, "accuracy", (double)t->correct / (double)t->rows);
    for (int i = 0; i < SOW_MAX_PARTS && kind->parts[i] != NULL; i++)
        sow_line_real(line, kind->parts[i], (double)t->parts[i] / SOW_PART_SCALE / (double)t->rows);
    sow_line_real(line, "completion_length", (double)t->new_tokens / (double)t->rows);
    sow_line_int(line, "tokens", tokens);
    sow_root_put_phases(root, line, step);
    sow_line_real(line, "eval_s", root->now.eval_s);
    sow_line_real(line, "update_s", root->now.update_s);
    sow_line_real(line, "tokens_per_s", (double)tokens / root->now.eval_s);
    sow_line_real(line, "flops", flops);
    sow_line_real(line, "flops_per_s", flops / root->now.eval_s);
    sow_line_int(line, "units", root->now.n_units);
    sow_root_put_traffic(root, line);
    sow_line_real(line, "norm", sqrt(root->now.delta2));
    sow_line_real(
        line, "norm_law",
        sow_drift_law(o->es.alpha, (double)run->n_moving, (double)(step - root->n_flat), (double)o->es.population));
    return SOW_OK;
}

static bool is_of_kind(const sow_tensor *tensor, const char *group)
{
    return strcmp(sow_tensor_group(tensor->kind), group) == 0;
}

/* The first tensor of each group stands for it. */
static bool is_first_of_kind(const sow_layout *layout, int64_t index)
{
    for (int64_t i = 0; i < index; i++)
        if (is_of_kind(&layout->tensors[i], sow_tensor_group(layout->tensors[index].kind)))
            return false;
    return true;
}

/* Correlation of the noise that a member's weights hold with the noise that the update credits, by kind of tensor: the
 * mean over
 * tensors.  Of member 0 of the generation after `step`. */
static sow_code put_correlation(sow_root *root, sow_line *line, int64_t step)
{
    sow_run *run = root->run;
    const sow_layout *layout = run->layout;
    const float *theta = sow_theta_buffer(run->theta, step);
    sow_theta_member_noise(layout, &run->plan, step + 1, 0, run->noise);
    SOW_TRY(sow_evaluator_weights(run->evaluator, step * (run->options->es.population + 1), theta, run->noise));
    sow_line_begin_object(line, "noise_correlation");
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const char *group = sow_tensor_group(layout->tensors[i].kind);
        double sum = 0, r = 0;
        int64_t n = 0;
        for (int64_t j = i; is_first_of_kind(layout, i) && j < layout->n_tensors; j++) {
            if (!is_of_kind(&layout->tensors[j], group))
                continue;
            SOW_TRY(sow_replica_correlation(sow_evaluator_replica(run->evaluator), j, theta, run->noise, &r));
            sum += isnan(r) ? 0 : r;
            n += !isnan(r);
        }
        if (n > 0)
            sow_line_real(line, group, sum / (double)n);
    }
    sow_line_end_object(line);
    return SOW_OK;
}

static sow_code write_drift(sow_root *root, int64_t step)
{
    sow_run *run = root->run;
    sow_drift *drifts = NULL;
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&drifts, run->layout->n_tensors));
    SOW_TRY_OR(rc, sow_line_create(&line));
    sow_phase_enter(SOW_PHASE_MEASURE);
    sow_drift_measure(run->layout, sow_theta_base(run->theta), sow_root_theta(root, step), &root->tau, drifts);
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", step);
    sow_drift_put(line, run->layout, drifts, &root->tau);
    if (run->sgd == NULL)
        SOW_TRY_OR(rc, put_correlation(root, line, step));
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_folder_append(root->folder, SOW_LINES_DRIFT, line));
done:
    sow_line_destroy(&line);
    SOW_FREE(&drifts);
    return rc;
}

void sow_es_tell(const sow_root *root, char *out, size_t cap)
{
    sow_summary s = sow_stats_summary(root->rewards, root->run->options->es.population);
    (void)snprintf(out, cap, "  reward %.4f +- %.4f  norm %.4g  %.2f s", s.mean, s.std, sqrt(root->now.delta2),
                   root->now.step_s);
}

static void log_step(const sow_root *root, int64_t step, bool has_generation)
{
    const sow_run *run = root->run;
    char text[320] = "";
    if (has_generation)
        run->method->tell(root, text, sizeof text);
    const sow_tally *held_out = run->held_out_job < 0 ? NULL : &root->job_tallies[run->held_out_job];
    size_t used = strlen(text);
    if (held_out != NULL && held_out->rows > 0)
        (void)snprintf(text + used, sizeof text - used, "  held-out accuracy %.1f %%, reward %.4f",
                       100.0 * (double)held_out->correct / (double)held_out->rows, sow_tally_mean_reward(held_out));
    sow_log(SOW_LOG_STEP, "%s %lld/%lld%s", run->method->word, (long long)step, (long long)run->options->run.steps,
            text);
}

static void put_num_tokens(const sow_root *root, sow_line *line)
{
    if (root->status.num_tokens >= 0)
        sow_line_int(line, "num_tokens", root->status.num_tokens);
    else
        sow_line_null(line, "num_tokens");
}

sow_code sow_root_measure(sow_root *root, int64_t step, bool has_generation)
{
    sow_run *run = root->run;
    const sow_options *o = run->options;
    bool is_due = sow_eval_is_due(o->run.eval_every, step, o->run.steps);
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(evaluate_jobs(root, step, is_due && run->held_out_job >= 0));
    if (is_due)
        SOW_TRY(write_samples(root, step));
    if (sow_drift_is_due(o, step))
        SOW_TRY(write_drift(root, step));
    SOW_TRY(sow_root_measure_more(root, step));
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "step", step);
    put_num_tokens(root, line);
    if (has_generation)
        SOW_TRY_OR(rc, run->method->put(root, line, step));
    else if (step > 0)
        sow_line_real(line, "norm", sqrt(sow_theta_delta2(run->theta, run->method->index(run, step))));
    put_evaluations(root, line);
    sow_line_end_object(line);
    rc = sow_folder_append(root->folder, SOW_LINES_METRICS, line);
done:
    sow_line_destroy(&line);
    log_step(root, step, has_generation);
    return rc;
}
