/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: it does what root's messages say, in their order, until one says stop.  Order is all it needs: a unit of
 * generation g + 1 comes after root has seen that theta[g] is whole on every node, and a rank that was away catches up
 * by going through its post. */
#include "sgd_impl.h"

#include "sower/clock.h"
#include "sower/log.h"

#include <string.h>

typedef struct work {
    sow_run *run;
    int64_t n_fitness; /* parts of the fitnesses that have come */
    sow_step step;     /* of the last generation, for `lead` */
    bool has_step, is_stopped;
    sow_code stop_code;
} work;

static const double longest_nap_s = 1e-3;

static sow_code on_unit(work *w, const sow_message *m)
{
    sow_unit unit;
    sow_result result;
    bool is_stale = false;
    memcpy(&unit, m->data, sizeof unit);
    SOW_TRY(sow_run_unit(w->run, &unit, &result, &is_stale));
    if (is_stale)
        return SOW_OK;
    sow_phase_enter(SOW_PHASE_SEND);
    if (unit.job < 0) {
        w->run->sgd->stats.round = unit.round;
        w->run->sgd->stats.id = unit.id;
        SOW_TRY(sow_world_send(w->run->world, 0, TAG_STATS, &w->run->sgd->stats, sizeof w->run->sgd->stats));
    }
    return sow_world_send(w->run->world, 0, TAG_RESULT, &result, sizeof result);
}

/* Any two granules of the run are computed again somewhere: the leader's share of mistrust, one a generation. */
static sow_code check_one_granule(sow_run *run, const sow_step *step)
{
    sow_random random;
    uint32_t node = (uint32_t)sow_world_node_of(run->world, sow_world_rank(run->world));
    sow_random_init(
        &random, sow_place_of(SOW_STREAM_TEST, (uint32_t)run->options->run.seed, (uint32_t)step->generation, node, 0));
    int64_t granule = sow_random_below(&random, (uint32_t)sow_theta_n_granules(run->theta));
    sow_code rc = sow_theta_check_granule(run->theta, &run->plan, step, granule);
    /* A rank that is late compares with memory that has moved on. */
    return sow_theta_is_newest(run->theta, step->generation) ? rc : SOW_OK;
}

sow_code sow_run_finish_node(sow_run *run, const sow_step *step, digest_message *out, bool *is_late)
{
    SOW_TRY(sow_theta_complete(run->theta, &run->plan, step));
    SOW_TRY(check_one_granule(run, step));
    *out = (digest_message){.generation = step->generation, .digest = sow_theta_digest(run->theta, step->generation)};
    if (run->sgd != NULL)
        out->moments = sow_optimizer_digest(run->sgd->optimizer, step->generation);
    *is_late = !sow_theta_is_newest(run->theta, step->generation);
    return SOW_OK;
}

static sow_code lead(work *w)
{
    digest_message digest;
    bool is_late = false;
    SOW_TRY(sow_run_finish_node(w->run, &w->step, &digest, &is_late));
    return is_late ? SOW_OK : sow_world_send(w->run->world, 0, TAG_DIGEST, &digest, sizeof digest);
}

static sow_code on_fitness(work *w, const sow_message *m)
{
    fitness_message part;
    report_message report;
    bool has_spread = false;
    memcpy(&part, m->data, m->bytes < sizeof part ? m->bytes : sizeof part);
    if (part.first + part.count > w->run->options->es.population || part.count < 0 || part.first < 0)
        return SOW_FAIL(SOW_ECOMM, "root sent fitnesses %d to %d", part.first, part.first + part.count);
    memcpy(w->run->fitness + part.first, part.fitness, (size_t)part.count * sizeof(double));
    w->n_fitness = part.first == 0 ? part.count : w->n_fitness + part.count;
    if (w->n_fitness < part.total)
        return SOW_OK;
    SOW_TRY(sow_run_step(w->run, part.generation, &w->step, &has_spread));
    w->has_step = true;
    sow_run_report(w->run, part.generation, &report);
    SOW_TRY(sow_world_send(w->run->world, 0, TAG_REPORT, &report, sizeof report));
    SOW_TRY(sow_theta_update(w->run->theta, &w->run->plan, &w->step, part.is_leader != 0));
    return part.is_leader != 0 ? lead(w) : SOW_OK;
}

static sow_code tell_reduced(sow_run *run)
{
    reduced_message message = {.key = run->sgd->reduce.key};
    sow_code rc = sow_sgd_reduce_complete(run);
    if (rc != SOW_OK && rc != SOW_ECOMM)
        return rc;
    message.code = (int32_t)rc; /* another node was lost: root begins anew */
    return sow_world_send(run->world, 0, TAG_REDUCED, &message, sizeof message);
}

static sow_code on_reduce(work *w, const sow_message *m)
{
    reduce_message message;
    memcpy(&message, m->data, sizeof message);
    SOW_TRY(sow_sgd_reduce(w->run, &message));
    return message.is_leader != 0 ? tell_reduced(w->run) : SOW_OK;
}

static sow_code on_apply(work *w, const sow_message *m)
{
    apply_message message;
    report_message report;
    int64_t updates = w->run->method->index(w->run, 1);
    memcpy(&message, m->data, sizeof message);
    if (message.t % updates == 0) { /* the last of a step */
        sow_run_report(w->run, message.t / updates, &report);
        SOW_TRY(sow_world_send(w->run->world, 0, TAG_REPORT, &report, sizeof report));
    }
    SOW_TRY(sow_sgd_apply(w->run, &message, &w->step));
    w->has_step = true;
    return message.is_leader != 0 ? lead(w) : SOW_OK;
}

static sow_code on_parcel(work *w, const sow_message *m)
{
    return sow_grpo_take_parcel(w->run, m);
}

static sow_code on_lead(work *w, const sow_message *m)
{
    lead_message message;
    memcpy(&message, m->data, sizeof message);
    return w->has_step && w->step.generation == message.generation ? lead(w) : SOW_OK;
}

static sow_code on_scrub(work *w, const sow_message *m)
{
    scrub_message message;
    memcpy(&message, m->data, sizeof message);
    if (!sow_theta_begin_read(w->run->theta, message.generation))
        return SOW_OK;
    sow_phase_enter(SOW_PHASE_CHECKPOINT);
    sow_code rc = sow_theta_scrub(w->run->theta, message.generation, message.part, message.n_parts);
    sow_theta_end_read(w->run->theta);
    return rc;
}

static sow_code on_stop(work *w, const sow_message *m)
{
    stop_message message;
    memcpy(&message, m->data, sizeof message);
    w->is_stopped = true;
    w->stop_code = (sow_code)message.code;
    return SOW_OK;
}

static sow_code (*const handlers[N_TAGS])(work *w, const sow_message *m) = {
    [TAG_UNIT] = on_unit, [TAG_FITNESS] = on_fitness, [TAG_LEAD] = on_lead,   [TAG_SCRUB] = on_scrub,
    [TAG_STOP] = on_stop, [TAG_REDUCE] = on_reduce,   [TAG_APPLY] = on_apply, [TAG_PARCEL] = on_parcel};

/* Tells root, and waits for its stop: a worker does not leave on its own while root lives. */
static void tell_failure(work *w, sow_code code)
{
    fail_message message = {.code = (int32_t)code};
    (void)snprintf(message.text, sizeof message.text, "%s", sow_error_text());
    if (sow_world_send(w->run->world, 0, TAG_FAIL, &message, sizeof message) != SOW_OK)
        w->is_stopped = true;
    w->stop_code = code;
}

static void keep_talking(void *context)
{
    const sow_run *run = context;
    if (sow_world_pulse(run->world) != SOW_OK) /* nobody is left to work for */
        sow_world_leave(run->world, sow_code_exit(SOW_ECOMM));
}

static sow_code handle(work *w, const sow_message *m)
{
    bool is_known = m->tag >= 0 && m->tag < N_TAGS && handlers[m->tag] != NULL;
    return is_known ? handlers[m->tag](w, m) : SOW_FAIL(SOW_ECOMM, "root sent a message of kind %d", m->tag);
}

static sow_code rest(work *w, double *nap_s)
{
    if (sow_phase_now() != SOW_PHASE_IDLE)
        sow_phase_enter(SOW_PHASE_IDLE);
    SOW_TRY(sow_world_pulse(w->run->world));
    sow_clock_sleep_s(*nap_s);
    *nap_s = *nap_s * 2 < longest_nap_s ? *nap_s * 2 : longest_nap_s;
    return SOW_OK;
}

sow_code sow_run_work(sow_run *run)
{
    work w = {.run = run};
    double nap_s = 1e-5;
    bool has_failed = false;
    sow_phase_install_tick(keep_talking, run);
    while (!w.is_stopped) {
        sow_message message;
        bool has = false;
        sow_code rc = sow_world_poll(run->world, &message, &has);
        if (rc == SOW_OK && !has)
            rc = rest(&w, &nap_s);
        if (rc == SOW_ECOMM) { /* root is gone: nobody to tell */
            sow_log(SOW_LOG_ERROR, "%s", sow_error_text());
            sow_world_leave(run->world, sow_code_exit(rc));
        }
        if (has && (!has_failed || message.tag == TAG_STOP)) {
            nap_s = 1e-5;
            rc = handle(&w, &message);
        }
        if (rc != SOW_OK && !has_failed) {
            has_failed = true;
            tell_failure(&w, rc);
        }
    }
    sow_phase_install_tick(NULL, NULL);
    return w.stop_code;
}
