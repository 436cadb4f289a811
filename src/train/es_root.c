/* SPDX-License-Identifier: Apache-2.0 */
/* Root: the generations of ES (arXiv 2509.24372, algorithm 2; arXiv 2601.20861, section 2).
 *
 *     units --star--> rewards --> fitness --> ledger line --> step on every node --> digest
 *
 * The line is written after the digest, since it holds it; a generation without its line is evaluated again after a
 * stop. */
#include "root_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Slices of a member's n rows of a job: enough that ranks do not wait for each other at the end, none under
 * unit_tokens_min.  *prompt_tokens: of one pass over them. */
static sow_code count_slices(sow_root *root, int job, const int64_t *rows, int64_t n_rows, int64_t *prompt_tokens,
                             int64_t *out)
{
    sow_run *run = root->run;
    const sow_options *o = run->options;
    *prompt_tokens = 0;
    for (int64_t i = 0; i < n_rows; i++) {
        int64_t n = 0;
        SOW_TRY(sow_evaluator_prompt_tokens(run->evaluator, job, rows[i], &n));
        *prompt_tokens += n;
    }
    int64_t tokens = n_rows * sow_evaluator_max_new(run->evaluator, job) + *prompt_tokens;
    int64_t possible = tokens / o->es.unit_tokens_min;
    int64_t useful = ((int64_t)MAX_UNITS_A_RANK * sow_world_size(run->world) + o->es.population - 1) / o->es.population;
    int64_t slices = possible < useful ? possible : useful;
    slices = slices < n_rows ? slices : n_rows;
    *out = slices < 1 ? 1 : slices;
    return SOW_OK;
}

/* Fitness is the mean over all rows of a member; what is shown as its reward, over the task's alone and without the
 * penalty. */
static void collect(sow_root *root)
{
    sow_run *run = root->run;
    const sow_result *results = sow_queue_results(root->queue);
    const int64_t members = run->options->es.population;
    const int64_t prompt_tokens = root->now.tally.prompt_tokens, retention_tokens = root->now.retention.prompt_tokens;
    memset(root->tallies, 0, 2 * (size_t)members * sizeof *root->tallies);
    root->now.tally = (sow_tally){.prompt_tokens = members * prompt_tokens};
    root->now.retention = (sow_tally){.prompt_tokens = members * retention_tokens};
    root->now.center = (sow_tally){0};
    for (int64_t i = 0; i < root->now.n_units; i++) {
        const sow_unit *unit = &root->units[i];
        sow_tally t = sow_root_tally(unit, &results[i]);
        if (unit->group < 0) {
            sow_tally_add(&root->now.center, &t);
            continue;
        }
        bool is_retention = unit->job == run->retention_job;
        sow_tally_add(&root->tallies[(is_retention ? members : 0) + unit->group], &t);
        sow_tally_add(is_retention ? &root->now.retention : &root->now.tally, &t);
    }
    for (int64_t i = 0; i < members; i++) {
        sow_tally all = root->tallies[i];
        root->rewards[i] = sow_root_raw_reward(root, &all);
        sow_tally_add(&all, &root->tallies[members + i]);
        run->fitness[i] = sow_tally_mean_reward(&all);
    }
}

double sow_root_raw_reward(const sow_root *root, const sow_tally *t)
{
    double penalty = t->rows == 0 ? 0 : root->run->options->es.kl_beta * t->kl / (double)t->rows;
    return sow_tally_mean_reward(t) + penalty;
}

/* Evaluates the population of a generation into run->fitness. */
static sow_code evaluate_population(sow_root *root, int64_t generation)
{
    sow_run *run = root->run;
    const sow_options *o = run->options;
    int64_t n = 0, slices = 1, retention_slices = 1;
    double start = sow_clock_now_s();
    SOW_TRY(sow_run_draw(run, generation));
    SOW_TRY(count_slices(root, run->train_job, run->rows, run->n_rows, &root->now.tally.prompt_tokens, &slices));
    if (run->n_retention_rows > 0)
        SOW_TRY(count_slices(root, run->retention_job, run->rows + run->n_rows, run->n_retention_rows,
                             &root->now.retention.prompt_tokens, &retention_slices));
    for (int64_t i = 0; i < o->es.population; i++) {
        SOW_TRY(sow_root_add_units(root, &n, (int)i, run->train_job, run->n_rows, slices));
        SOW_TRY(sow_root_add_units(root, &n, (int)i, run->retention_job, run->n_retention_rows, retention_slices));
    }
    if (o->es.evaluate_center)
        SOW_TRY(sow_root_add_units(root, &n, -1, run->train_job, run->n_rows, slices));
    root->now.n_units = n;
    SOW_TRY(sow_root_round(root, (int32_t)(2 * generation), n, "members"));
    collect(root);
    root->now.eval_s = sow_clock_now_s() - start;
    return SOW_OK;
}

int64_t sow_es_tokens(const sow_root *root)
{
    const sow_tally *task = &root->now.tally, *retention = &root->now.retention;
    return task->new_tokens + task->prompt_tokens + retention->new_tokens + retention->prompt_tokens;
}

/* Redoes what the ledger says of generation g, and compares. */
sow_code sow_es_redo(sow_root *root, const sow_ledger *ledger, int64_t generation)
{
    sow_run *run = root->run;
    sow_hash digest;
    bool has_spread = false;
    char is[SOW_HASH_HEX], was[SOW_HASH_HEX];
    memcpy(run->fitness, ledger->fitness + (generation - 1) * ledger->population,
           (size_t)ledger->population * sizeof(double));
    SOW_TRY(sow_root_step(root, generation, &digest, &has_spread));
    sow_root_count(root, generation, -1); /* nobody answers anything */
    root->n_flat += !has_spread;
    if (sow_hash_equal(digest, ledger->digests[generation - 1]))
        return SOW_OK;
    sow_hash_write(digest, is);
    sow_hash_write(ledger->digests[generation - 1], was);
    return SOW_FAIL(SOW_EBITS, "%s: generation %lld: rebuilt weights have digest %s, expected %s", ledger->path,
                    (long long)generation, is, was);
}

sow_code sow_es_step(sow_root *root, int64_t generation)
{
    sow_run *run = root->run;
    sow_hash digest;
    bool has_spread = false;
    SOW_TRY(evaluate_population(root, generation));
    double start = sow_clock_now_s();
    SOW_TRY(sow_root_step(root, generation, &digest, &has_spread));
    root->now.update_s = sow_clock_now_s() - start;
    SOW_TRY(sow_ledger_write(root->ledger, generation, run->fitness, run->options->es.population, digest));
    sow_root_count(root, generation, sow_es_tokens(root));
    if (!has_spread) {
        root->n_flat++;
        sow_log(SOW_LOG_WARN,
                "generation %lld: all %lld members have the same fitness %.6g: the weights stay as they are",
                (long long)generation, (long long)run->options->es.population, run->fitness[0]);
    }
    return SOW_OK;
}
