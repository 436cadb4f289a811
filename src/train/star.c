/* SPDX-License-Identifier: Apache-2.0 */
/* Root's messages: what comes in, what goes out, and nobody waited for without a deadline. */
#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/log.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static sow_code on_result(sow_root *root, const sow_message *m)
{
    sow_result result;
    if (m->bytes != sizeof result)
        return SOW_FAIL(SOW_ECOMM, "rank %d sent a result of %zu bytes, expected %zu", m->from, m->bytes,
                        sizeof result);
    memcpy(&result, m->data, sizeof result);
    return sow_queue_accept(root->queue, m->from, &result);
}

static sow_code on_digest(sow_root *root, const sow_message *m)
{
    digest_message digest;
    memcpy(&digest, m->data, sizeof digest);
    node_word *node = &root->nodes[sow_world_node_of(root->run->world, m->from)];
    if (digest.generation <= node->generation)
        return SOW_OK; /* a rank that was away; its node has gone on */
    node->generation = digest.generation;
    node->digest = digest.digest;
    node->moments = digest.moments;
    return SOW_OK;
}

static sow_code on_report(sow_root *root, const sow_message *m)
{
    report_message report;
    memcpy(&report, m->data, sizeof report);
    sow_root_take_report(root, m->from, &report);
    return SOW_OK;
}

static sow_code on_reduced(sow_root *root, const sow_message *m)
{
    reduced_message reduced;
    memcpy(&reduced, m->data, sizeof reduced);
    node_word *node = &root->nodes[sow_world_node_of(root->run->world, m->from)];
    if (reduced.key <= node->reduced)
        return SOW_OK; /* a rank that was away; its node has gone on */
    node->reduced = reduced.key;
    node->code = (sow_code)reduced.code;
    return SOW_OK;
}

static sow_code on_fail(sow_root *root, const sow_message *m)
{
    fail_message message;
    memcpy(&message, m->data, sizeof message);
    message.text[sizeof message.text - 1] = '\0';
    return SOW_FAIL((sow_code)message.code, "rank %d on %s: %s", m->from, sow_world_host(root->run->world, m->from),
                    message.text);
}

static sow_code (*const handlers[N_TAGS])(sow_root *root, const sow_message *m) = {
    [TAG_RESULT] = on_result,   [TAG_DIGEST] = on_digest,       [TAG_REPORT] = on_report,        [TAG_FAIL] = on_fail,
    [TAG_REDUCED] = on_reduced, [TAG_STATS] = sow_sgd_on_stats, [TAG_PARCEL] = sow_sgd_on_parcel};

/* SIGTERM leaves about a second: the ledger is on disk, so a true status is all that is needed. */
static void leave_on_sigterm(sow_root *root, int asked)
{
    int64_t step = root->status.step;
    root->status.state = SOW_STATE_RESUBMIT;
    (void)snprintf(root->status.reason, sizeof root->status.reason, "%s after %s %lld: go on with --resume",
                   asked == SIGTERM ? "SIGTERM" : "SIGINT", root->run->method->word, (long long)step);
    if (sow_folder_write_status(root->folder, &root->status) != SOW_OK)
        sow_log(SOW_LOG_ERROR, "%s", sow_error_text());
    sow_log(SOW_LOG_WARN, "%s", root->status.reason);
    sow_world_leave(root->run->world, sow_code_exit(SOW_ESTOP));
}

sow_code sow_root_turn(sow_root *root)
{
    sow_world *world = root->run->world;
    if (root->failed != SOW_OK)
        return SOW_FAIL(root->failed, "%s", root->failed_text);
    int asked = sow_world_signal(world);
    if (asked == SIGTERM || asked == SIGINT)
        leave_on_sigterm(root, asked);
    for (;;) {
        sow_message m;
        bool has = false;
        SOW_TRY(sow_world_poll(world, &m, &has));
        if (!has)
            break;
        if (m.tag < 0 || m.tag >= N_TAGS || handlers[m.tag] == NULL)
            return SOW_FAIL(SOW_ECOMM, "rank %d sent a message of kind %d", m.from, m.tag);
        SOW_TRY(handlers[m.tag](root, &m));
    }
    SOW_TRY(sow_queue_serve(root->queue));
    return sow_world_pulse(world);
}

static void tick(void *context)
{
    sow_root *root = context;
    double now = sow_clock_now_s();
    if (root->failed != SOW_OK || now - root->ticked_s < 5e-4)
        return;
    root->ticked_s = now;
    sow_code rc = sow_root_turn(root);
    if (rc == SOW_OK)
        return;
    root->failed = rc;
    (void)snprintf(root->failed_text, sizeof root->failed_text, "%s", sow_error_text());
}

void sow_root_install_tick(sow_root *root)
{
    sow_phase_install_tick(tick, root);
}

sow_code sow_root_rest(sow_root *root)
{
    if (sow_phase_now() != SOW_PHASE_IDLE)
        sow_phase_enter(SOW_PHASE_IDLE);
    sow_clock_sleep_s(1e-4);
    return sow_root_turn(root);
}

sow_code sow_root_add_units(sow_root *root, int64_t *n_units, int group, int job, int64_t n_rows, int64_t n_slices)
{
    for (int64_t i = 0; i < n_slices; i++) {
        int64_t first = n_rows * i / n_slices, last = n_rows * (i + 1) / n_slices;
        if (first == last)
            continue;
        SOW_TRY(SOW_GROW(&root->units, &root->units_capacity, *n_units));
        root->units[(*n_units)++] =
            (sow_unit){.group = group, .job = job, .first = (int32_t)first, .count = (int32_t)(last - first)};
    }
    return SOW_OK;
}

static void show_progress(const sow_root *root, const char *label, int64_t n_units)
{
    const sow_status *s = &root->status;
    const char *word = root->run->method->word;
    double elapsed = sow_clock_now_s() - root->first_s;
    int64_t step = root->redone > 0 ? root->redone : s->step, own = root->redone > 0 ? 0 : s->step - root->first_step;
    char speed[80] = "";
    if (own > 0 && elapsed > 0)
        (void)snprintf(speed, sizeof speed, ", %.2f %ss/s, %.0f s left", (double)own / elapsed, word,
                       (double)(s->steps - s->step) * elapsed / (double)own);
    sow_log_progress(30, "%s %lld/%lld%s: %s %lld/%lld units%s", word, (long long)step, (long long)s->steps,
                     root->redone > 0 ? " again" : "", label, (long long)sow_queue_n_done(root->queue),
                     (long long)n_units, speed);
}

sow_code sow_root_round(sow_root *root, int32_t round, int64_t n_units, const char *label)
{
    SOW_TRY(sow_queue_start(root->queue, round, root->units, n_units));
    int64_t reissued = sow_queue_n_reissued(root->queue);
    root->is_spoiled = false;
    while (!sow_queue_is_done(root->queue)) {
        sow_unit unit;
        sow_result result;
        bool is_stale = false;
        SOW_TRY(sow_root_turn(root));
        show_progress(root, label, n_units);
        root->is_spoiled = root->is_exact_round && sow_queue_n_reissued(root->queue) != reissued;
        if (root->is_spoiled)
            return SOW_OK;
        if (!sow_queue_take(root->queue, &unit)) {
            SOW_TRY(sow_root_rest(root));
            continue;
        }
        SOW_TRY(sow_sgd_own(root, &unit, true));
        SOW_TRY(sow_run_unit(root->run, &unit, &result, &is_stale));
        SOW_ASSERT(!is_stale); /* root itself decides when theta moves on */
        SOW_TRY(sow_sgd_own(root, &unit, false));
        SOW_TRY(sow_queue_accept(root->queue, 0, &result));
    }
    return SOW_OK;
}

int sow_root_choose_leader(const sow_root *root, int node)
{
    const sow_world *world = root->run->world;
    for (int i = 0; i < sow_world_node_size(world, node); i++) {
        int rank = sow_world_node_member(world, node, i);
        if (rank == 0 || sow_queue_is_heard(root->queue, rank))
            return rank;
    }
    return -1;
}

static sow_code send_fitness(sow_root *root, int64_t generation)
{
    sow_world *world = root->run->world;
    int32_t total = (int32_t)root->run->options->es.population;
    fitness_message m = {.generation = (int32_t)generation, .total = total};
    sow_phase_enter(SOW_PHASE_SEND);
    for (m.first = 0; m.first < total; m.first += FITNESS_PART) {
        m.count = total - m.first < FITNESS_PART ? total - m.first : FITNESS_PART;
        memcpy(m.fitness, root->run->fitness + m.first, (size_t)m.count * sizeof(double));
        size_t bytes = offsetof(fitness_message, fitness) + (size_t)m.count * sizeof(double);
        for (int rank = 1; rank < sow_world_size(world); rank++) {
            m.is_leader = root->nodes[sow_world_node_of(world, rank)].asked == rank;
            SOW_TRY(sow_world_send(world, rank, TAG_FITNESS, &m, bytes)); /* the silent ones read it when they wake */
        }
    }
    return SOW_OK;
}

/* Waits for a node's digest.  Its leader is replaced when it is lost; a node without a rank that is heard is left
 * behind. */
sow_code sow_root_await_node(sow_root *root, int node, int64_t generation, const digest_message *expected)
{
    node_word *word = &root->nodes[node];
    while (word->generation < generation && word->asked >= 0) {
        SOW_TRY(sow_root_rest(root));
        if (sow_queue_is_heard(root->queue, word->asked))
            continue;
        word->asked = sow_root_choose_leader(root, node);
        if (word->asked < 0) {
            sow_log(SOW_LOG_WARN, "%s %lld: no rank of node %d is heard, going on without it", root->run->method->word,
                    (long long)generation, node);
            break;
        }
        lead_message lead = {.generation = (int32_t)generation};
        SOW_TRY(sow_world_send(root->run->world, word->asked, TAG_LEAD, &lead, sizeof lead));
    }
    if (word->generation != generation ||
        (sow_hash_equal(word->digest, expected->digest) && sow_hash_equal(word->moments, expected->moments)))
        return SOW_OK;
    int rank = word->asked >= 0 ? word->asked : sow_world_node_member(root->run->world, node, 0);
    char a[SOW_HASH_HEX], b[SOW_HASH_HEX];
    sow_hash_write(word->digest, a);
    sow_hash_write(expected->digest, b);
    return SOW_FAIL(SOW_EBITS, "%s %lld: rank %d on %s has weights with digest %s, expected %s as on rank 0",
                    root->run->method->word, (long long)generation, rank, sow_world_host(root->run->world, rank), a, b);
}

sow_code sow_root_step(sow_root *root, int64_t generation, sow_hash *digest, bool *has_spread)
{
    sow_run *run = root->run;
    sow_step step;
    digest_message own;
    report_message report;
    bool is_late = false;
    SOW_TRY(sow_run_step(run, generation, &step, has_spread));
    for (int node = 0; node < sow_world_n_nodes(run->world); node++)
        root->nodes[node].asked = sow_root_choose_leader(root, node);
    SOW_TRY(send_fitness(root, generation));
    sow_run_report(run, generation, &report);
    sow_root_take_report(root, 0, &report);
    SOW_TRY(sow_theta_update(run->theta, &run->plan, &step, true));
    SOW_TRY(sow_run_finish_node(run, &step, &own, &is_late));
    for (int node = 0; node < sow_world_n_nodes(run->world); node++)
        if (node != sow_world_node_of(run->world, 0))
            SOW_TRY(sow_root_await_node(root, node, generation, &own));
    root->now.delta2 = sow_theta_delta2(run->theta, generation);
    *digest = own.digest;
    return SOW_OK;
}

sow_code sow_root_scrub(sow_root *root, int64_t generation)
{
    const sow_run *run = root->run;
    sow_phase_enter(SOW_PHASE_CHECKPOINT);
    for (int node = 0; node < sow_world_n_nodes(run->world); node++) {
        int n = sow_world_node_size(run->world, node);
        for (int i = 0; i < n; i++) {
            int rank = sow_world_node_member(run->world, node, i);
            scrub_message m = {.generation = (int32_t)generation, .part = i, .n_parts = n};
            if (rank == 0)
                SOW_TRY(sow_theta_scrub(run->theta, generation, i, n));
            else
                SOW_TRY(sow_world_send(run->world, rank, TAG_SCRUB, &m, sizeof m));
        }
    }
    return SOW_OK;
}

void sow_root_stop(sow_root *root, sow_code code)
{
    stop_message stop = {.code = (int32_t)code};
    for (int rank = 1; rank < sow_world_size(root->run->world); rank++)
        if (sow_world_send(root->run->world, rank, TAG_STOP, &stop, sizeof stop) != SOW_OK)
            sow_log(SOW_LOG_WARN, "rank %d cannot be told to stop: %s", rank, sow_error_text());
}
