/* SPDX-License-Identifier: Apache-2.0 */
/* Root's side of methods with gradients: one optimizer step over all nodes, and a step's line in the ledger. */
#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/log.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { MOST_RESTARTS = 1000 };

sow_code sow_sgd_root_create(sow_root *root)
{
    return SOW_ALLOC(&root->sgd, 1);
}

void sow_sgd_root_destroy(sow_root *root)
{
    sow_grpo_root_destroy(root);
    if (root->sgd != NULL)
        SOW_FREE(&root->sgd->stats);
    SOW_FREE(&root->sgd);
}

sow_code sow_sgd_on_stats(sow_root *root, const sow_message *m)
{
    sow_sgd_stats stats;
    if (root->sgd == NULL || m->bytes != sizeof stats)
        return SOW_FAIL(SOW_ECOMM, "rank %d sent statistics of %zu bytes, expected %zu", m->from, m->bytes,
                        sizeof stats);
    memcpy(&stats, m->data, sizeof stats);
    if (stats.round == root->n_round && stats.id >= 0 && stats.id < root->sgd->stats_capacity)
        root->sgd->stats[stats.id] = stats;
    return SOW_OK;
}

sow_code sow_sgd_on_parcel(sow_root *root, const sow_message *m)
{
    return sow_grpo_on_parcel(root, m);
}

static void add_stats(sow_sgd_stats *to, const sow_sgd_stats *from)
{
    bool is_first = to->tokens == 0;
    if (from->tokens == 0) /* its samples are all left out of the loss: it has no ratios */
        return;
    to->kl += from->kl;
    to->entropy += from->entropy;
    to->ratio += from->ratio;
    to->tokens += from->tokens;
    to->sequences += from->sequences;
    to->clipped_low += from->clipped_low;
    to->clipped_high += from->clipped_high;
    to->clipped_dual += from->clipped_dual;
    to->ratio_min = is_first || from->ratio_min < to->ratio_min ? from->ratio_min : to->ratio_min;
    to->ratio_max = is_first || from->ratio_max > to->ratio_max ? from->ratio_max : to->ratio_max;
}

sow_code sow_sgd_own(sow_root *root, const sow_unit *unit, bool is_before)
{
    if (root->sgd == NULL || unit->job >= 0)
        return SOW_OK;
    if (!is_before && unit->id < root->sgd->stats_capacity)
        root->sgd->stats[unit->id] = root->run->sgd->stats;
    return root->sgd->grpo == NULL ? SOW_OK : sow_grpo_own_parcel(root, unit, is_before);
}

/* The ranks that answered in this round, and a leader of each node; false: the node of one of them has no rank left
 * that is heard, its sums are lost. */
static bool choose_ranks(sow_root *root, int64_t n_units, reduce_message *out)
{
    const sow_world *world = root->run->world;
    const int *senders = sow_queue_senders(root->queue);
    for (int64_t i = 0; i < n_units; i++)
        sow_rank_set_add(&out->ranks, senders[i]);
    for (int node = 0; node < sow_world_n_nodes(world); node++) {
        int leader = sow_root_choose_leader(root, node);
        root->nodes[node].asked = leader;
        if (leader >= 0)
            sow_rank_set_add(&out->leaders, leader);
        for (int i = 0; leader < 0 && i < sow_world_node_size(world, node); i++)
            if (sow_rank_set_has(&out->ranks, sow_world_node_member(world, node, i)))
                return false;
    }
    return true;
}

/* Waits for the word of another node than root's on the gradient; *is_lost: it will not come, or a third node was
 * missed. */
static sow_code await_reduced(sow_root *root, int node, int32_t key, bool *is_lost)
{
    node_word *word = &root->nodes[node];
    while (word->reduced != key && word->asked >= 0) {
        SOW_TRY(sow_root_rest(root));
        if (!sow_queue_is_heard(root->queue, word->asked)) { /* others wait for it to add the nodes together */
            *is_lost = true;
            return SOW_OK;
        }
    }
    *is_lost = *is_lost || (word->asked >= 0 && word->code != SOW_OK);
    return SOW_OK;
}

/* The gradient on every node from the sums of the round's ranks. */
static sow_code reduce(sow_root *root, int64_t n_units, bool *is_lost)
{
    sow_run *run = root->run;
    sow_world *world = run->world;
    reduce_message m = {.key = root->n_round};
    *is_lost = !choose_ranks(root, n_units, &m);
    if (*is_lost)
        return SOW_OK;
    for (int rank = 1; rank < sow_world_size(world); rank++) {
        m.is_leader = root->nodes[sow_world_node_of(world, rank)].asked == rank;
        SOW_TRY(sow_world_send(world, rank, TAG_REDUCE, &m, sizeof m));
    }
    m.is_leader = 1;
    SOW_TRY(sow_sgd_reduce(run, &m));
    sow_code rc = sow_sgd_reduce_complete(run);
    if (rc != SOW_OK && rc != SOW_ECOMM)
        return rc;
    *is_lost = rc == SOW_ECOMM;
    for (int node = 0; node < sow_world_n_nodes(world) && !*is_lost; node++)
        if (node != sow_world_node_of(world, 0))
            SOW_TRY(await_reduced(root, node, m.key, is_lost));
    return SOW_OK;
}

/* theta, m and v on every node. */
static sow_code apply(sow_root *root, int64_t t, double rate)
{
    sow_run *run = root->run;
    sow_world *world = run->world;
    sow_step step;
    digest_message own;
    report_message report;
    bool is_late = false;
    int64_t updates = run->method->index(run, 1);
    apply_message m = {.t = (int32_t)t, .key = root->n_round, .rate = rate};
    for (int node = 0; node < sow_world_n_nodes(world); node++)
        root->nodes[node].asked = sow_root_choose_leader(root, node);
    sow_phase_enter(SOW_PHASE_SEND);
    for (int rank = 1; rank < sow_world_size(world); rank++) {
        m.is_leader = root->nodes[sow_world_node_of(world, rank)].asked == rank;
        SOW_TRY(sow_world_send(world, rank, TAG_APPLY, &m, sizeof m));
    }
    if (t % updates == 0) {
        sow_run_report(run, t / updates, &report);
        sow_root_take_report(root, 0, &report);
    }
    m.is_leader = 1;
    SOW_TRY(sow_sgd_apply(run, &m, &step));
    SOW_TRY(sow_run_finish_node(run, &step, &own, &is_late));
    for (int node = 0; node < sow_world_n_nodes(world); node++)
        if (node != sow_world_node_of(world, 0))
            SOW_TRY(sow_root_await_node(root, node, t, &own));
    root->now.delta2 = sow_theta_delta2(run->theta, t);
    return SOW_OK;
}

/* Ranks take units one by one: each has a third of a fair share of what is left, so that the last, for which all wait,
 * are single rows (guided self-scheduling: Polychronopoulos and Kuck 1987, doi 10.1109/TC.1987.5009495). */
static int64_t next_unit(int64_t left, int64_t ranks)
{
    return (left + 3 * ranks - 1) / (3 * ranks);
}

int64_t sow_sgd_count_units(int64_t rows, int64_t ranks, int64_t *most)
{
    int64_t n = 0;
    *most = next_unit(rows, ranks);
    for (int64_t left = rows; left > 0; left -= next_unit(left, ranks))
        n++;
    return n;
}

sow_code sow_sgd_add_units(sow_root *root, int group, int job, int64_t first, int64_t last, int64_t *n_units)
{
    int64_t ranks = sow_world_size(root->run->world);
    *n_units = 0;
    for (int64_t count; first < last; first += count) {
        count = next_unit(last - first, ranks);
        SOW_TRY(SOW_GROW(&root->units, &root->units_capacity, *n_units));
        root->units[(*n_units)++] =
            (sow_unit){.group = group, .job = job, .first = (int32_t)first, .count = (int32_t)count};
    }
    return SOW_OK;
}

/* Sums of the round's units. */
static void collect(sow_root *root, int64_t n_units)
{
    sow_sgd_root *s = root->sgd;
    const sow_result *results = sow_queue_results(root->queue);
    int64_t loss = 0;
    for (int64_t i = 0; i < n_units; i++) {
        loss += results[i].reward;
        add_stats(&s->sum, &s->stats[i]);
        s->tokens += results[i].new_tokens;
    }
    s->loss += (double)loss / 0x1p32;
    s->norm += sow_optimizer_norm(root->run->sgd->optimizer);
}

sow_code sow_sgd_update(sow_root *root, int64_t index, int64_t n_units, double rate)
{
    sow_sgd_root *s = root->sgd;
    double start = sow_clock_now_s();
    bool is_lost = true;
    SOW_TRY(SOW_GROW(&s->stats, &s->stats_capacity, n_units));
    for (int tries = 0; is_lost; tries++) {
        if (tries == MOST_RESTARTS)
            return SOW_FAIL(SOW_ECOMM, "%d attempts at one gradient have failed", tries);
        if (tries > 0)
            sow_log(SOW_LOG_WARN, "the gradient of update %lld is begun anew with the ranks that are left",
                    (long long)index + 1);
        s->n_restarts += tries > 0;
        root->is_exact_round = true;
        sow_code rc = sow_root_round(root, ++root->n_round, n_units, "gradients");
        root->is_exact_round = false;
        SOW_TRY(rc);
        is_lost = root->is_spoiled;
        if (!is_lost)
            SOW_TRY(reduce(root, n_units, &is_lost));
    }
    collect(root, n_units);
    SOW_TRY(apply(root, index + 1, rate));
    s->seconds += sow_clock_now_s() - start;
    return SOW_OK;
}

static sow_code compare_line(const sow_root *root, const sow_ledger *ledger, int64_t step, sow_hash digest,
                             sow_hash moments)
{
    int64_t n = ledger->population;
    const double *was = ledger->fitness + (step - 1) * n;
    if (!sow_hash_equal(digest, ledger->digests[step - 1]))
        return SOW_FAIL(SOW_EBITS, "%s: step %lld: run again the weights have another digest", ledger->path,
                        (long long)step);
    if (!sow_hash_equal(moments, ledger->moments[step - 1]))
        return SOW_FAIL(SOW_EBITS, "%s: step %lld: run again the moments have another digest", ledger->path,
                        (long long)step);
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&was[i], &root->sgd->values[i], sizeof *was) != 0)
            return SOW_FAIL(SOW_EBITS, "%s: step %lld: run again value %lld is %a, the ledger says %a", ledger->path,
                            (long long)step, (long long)i, root->sgd->values[i], was[i]);
    return SOW_OK;
}

sow_code sow_sgd_record(sow_root *root, const sow_ledger *ledger, int64_t step, int64_t tokens)
{
    const sow_run *run = root->run;
    int64_t index = run->method->index(run, step);
    sow_hash digest = sow_theta_digest(run->theta, index);
    sow_hash moments = sow_optimizer_digest(run->sgd->optimizer, index);
    SOW_TRY(ledger != NULL ? compare_line(root, ledger, step, digest, moments)
                           : sow_ledger_write_step(root->ledger, step, root->sgd->values,
                                                   sow_ledger_n_values(run->options), digest, moments));
    root->sgd->step_tokens = tokens;
    sow_root_count(root, step, tokens);
    return SOW_OK;
}

void sow_sgd_put(sow_root *root, sow_line *line, int64_t step)
{
    const sow_sgd_root *s = root->sgd;
    const double flops = sow_root_take_flops(root), elapsed = root->now.step_s;
    sow_line_real(line, "loss", s->loss);
    sow_line_real(line, "grad_norm", s->norm);
    sow_line_real(line, "learning_rate", s->rate);
    sow_root_put_phases(root, line, step);
    sow_line_int(line, "tokens", s->tokens);
    sow_line_real(line, "tokens_per_s", (double)s->step_tokens / elapsed);
    sow_line_real(line, "flops", flops);
    sow_line_real(line, "flops_per_s", flops / elapsed);
    sow_line_real(line, "step_time", elapsed);
    sow_line_real(line, "update_s", s->seconds);
    sow_line_int(line, "restarts", s->n_restarts);
    sow_root_put_traffic(root, line);
    sow_line_real(line, "norm", sqrt(root->now.delta2));
}
