/* SPDX-License-Identifier: Apache-2.0 */
/* Who is alive: pulses, silence, and the end of a silent rank.
 *
 * A rank shows life in two ways: a beat in its slot of the control window, with every call that listens, for its
 * host; and a pulse, a small message every quarter of the deadline, from workers to root and from root to all
 * workers; between two workers only if one asks.  A process of this host that is gone is seen at once; one that is
 * stopped is silent. */
#include "par_impl.h"

#include "sower/clock.h"
#include "sower/log.h"
#include "sower/phase.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>

static const double listen_s = 1e-3;   /* a tick listens at most this often */
static const double look_s = 0.02;     /* between two looks at a process */
static const double look_gap_s = 5e-4; /* between two looks at any: 20 us each, so a large host costs little more */
static const double work_look_s = 0.1; /* between two looks at a process's CPU time */
static const double kill_s = 5;
static const double deaf_share = 1.0 / 8; /* of the deadline: who did not listen for so long was away */
static const double root_deadlines = 3;
static const double gone_grace_s = 0.2; /* for the last messages of a process that is gone */

bool sow_world_is_gone(const sow_world *w, int rank)
{
    SOW_ASSERT(rank >= 0 && rank < w->size);
    sow_peer *p = &w->peers[rank], *me = &w->peers[w->rank];
    if (p->is_gone || p == me || p->pid == 0)
        return p->is_gone;
    double now = sow_clock_now_s();
    double pause_s = look_s + 2 * look_gap_s * w->n_here; /* so that every rank of a large host has its turn */
    if (now - p->looked_s < pause_s || now - me->looked_s < look_gap_s)
        return false;
    p->looked_s = me->looked_s = now;
    p->is_gone = sow_par_process_is_gone(p->pid, p->started);
    return p->is_gone;
}

void sow_par_note_beat(const sow_world *w, int rank)
{
    sow_peer *p = &w->peers[rank];
    if (p->slot == NULL)
        return;
    unsigned beat = atomic_load_explicit(&p->slot->beat, memory_order_relaxed);
    if (beat != p->beat_seen)
        p->heard_s = w->own_s;
    p->beat_seen = beat;
}

void sow_par_note_work(const sow_world *w, int rank)
{
    sow_peer *p = &w->peers[rank];
    double now = sow_clock_now_s();
    if (p->pid == 0 || now - p->work_looked_s < work_look_s)
        return;
    p->work_looked_s = now;
    if (sow_par_process_works(p->pid, &p->cpu_seen))
        p->heard_s = w->own_s;
}

sow_code sow_par_listen(sow_world *w)
{
    double now = sow_clock_now_s(), gap = now - w->listened_s;
    if (gap < w->deadline_s * deaf_share)
        w->own_s += gap;
    w->listened_s = now;
    atomic_fetch_add_explicit(&w->mine->beat, 1, memory_order_relaxed);
    if (w->outgoing.first != NULL)
        SOW_TRY(sow_par_flush(w));
    return sow_par_absorb(w);
}

void sow_par_hear_pulse(sow_world *w, int from, const void *data, size_t bytes)
{
    sow_pulse pulse;
    if (bytes != sizeof pulse)
        return;
    memcpy(&pulse, data, sizeof pulse);
    w->peers[from].phase = pulse.phase;
    w->peers[from].arrived = pulse.arrived;
    if ((pulse.flags & SOW_PULSE_HAS_LOSS) != 0)
        w->has_loss = true;
    if ((pulse.flags & SOW_PULSE_ASKS) != 0 && !w->peers[from].is_asking) {
        w->peers[from].is_asking = true;
        w->n_asking++;
    }
}

static sow_code pulse_to(sow_world *w, int rank, int32_t flags)
{
    const sow_peer *p = &w->peers[rank];
    if (!p->is_alive || p->is_pulse_out)
        return SOW_OK;
    sow_pulse pulse = {.phase = (int32_t)sow_phase_now(),
                       .flags = flags | (w->has_loss ? SOW_PULSE_HAS_LOSS : 0),
                       .arrived = atomic_load_explicit(&w->mine->arrived, memory_order_relaxed)};
    return sow_par_post(w, rank, SOW_TAG_PULSE, &pulse, sizeof pulse);
}

sow_code sow_par_ask(sow_world *w, int rank)
{
    return pulse_to(w, rank, SOW_PULSE_ASKS);
}

static sow_code answer(sow_world *w)
{
    for (int r = 0; r < w->size && w->n_asking > 0; r++) {
        if (!w->peers[r].is_asking)
            continue;
        w->peers[r].is_asking = false;
        w->n_asking--;
        SOW_TRY(pulse_to(w, r, 0));
    }
    return SOW_OK;
}

sow_code sow_par_show_life(sow_world *w, bool is_due)
{
    SOW_TRY(answer(w));
    if (!is_due && w->listened_s - w->pulsed_s < w->deadline_s / 4)
        return SOW_OK;
    w->pulsed_s = w->listened_s;
    if (w->rank != 0)
        return pulse_to(w, 0, 0);
    for (int r = 1; r < w->size; r++)
        SOW_TRY(pulse_to(w, r, 0));
    return SOW_OK;
}

/* A worker without root has nothing left to do.  What root sent before it went may still lie in shared memory, and
 * one look need not find it: so it is looked for during a moment, and read first. */
static sow_code check_root(sow_world *w)
{
    sow_peer *root = &w->peers[0];
    sow_par_note_beat(w, 0);
    if (sow_world_is_gone(w, 0)) {
        if (w->root_gone_s == 0)
            w->root_gone_s = w->listened_s;
        if (w->listened_s - w->root_gone_s < gone_grace_s || root->n_unread > 0)
            return SOW_OK;
        w->has_loss = true;
        return SOW_FAIL(SOW_ECOMM, "rank %d on %s: root's process %" PRId64 " is gone (phase %s)", w->rank,
                        w->peers[w->rank].host, root->pid, sow_phase_name(sow_world_phase_of(w, 0)));
    }
    double silence_s = w->own_s - root->heard_s;
    if (!w->is_sealed || silence_s <= root_deadlines * w->deadline_s) /* in start-up whoever waits has the deadline */
        return SOW_OK;
    w->has_loss = true;
    return SOW_FAIL(SOW_ECOMM, "rank %d on %s: root on %s has been silent for %.1f s (phase %s)", w->rank,
                    w->peers[w->rank].host, root->host, silence_s, sow_phase_name(sow_world_phase_of(w, 0)));
}

sow_code sow_world_pulse(sow_world *w)
{
    double now = sow_clock_now_s();
    if (w->size == 1 || w->is_broken || now < w->look_due_s)
        return SOW_OK;
    w->look_due_s = now + listen_s;
    SOW_TRY(sow_par_listen(w));
    SOW_TRY(sow_par_show_life(w, false));
    return w->rank == 0 ? SOW_OK : check_root(w);
}

double sow_world_silence_s(const sow_world *w, int rank)
{
    SOW_ASSERT(rank >= 0 && rank < w->size);
    const sow_peer *p = &w->peers[rank];
    if (rank == w->rank)
        return 0;
    if (!p->is_alive || p->is_stuck || sow_world_is_gone(w, rank))
        return (double)INFINITY;
    sow_par_note_beat(w, rank);
    return w->own_s - p->heard_s;
}

int sow_world_phase_of(const sow_world *w, int rank)
{
    SOW_ASSERT(rank >= 0 && rank < w->size);
    const sow_peer *p = &w->peers[rank];
    if (rank == w->rank)
        return (int)sow_phase_now();
    return p->slot != NULL ? atomic_load(&p->slot->phase) : p->phase;
}

bool sow_world_is_alive(const sow_world *w, int rank)
{
    SOW_ASSERT(rank >= 0 && rank < w->size);
    return w->peers[rank].is_alive;
}

int sow_world_n_alive(const sow_world *w)
{
    return w->n_alive;
}

void sow_world_lose(sow_world *w, int rank, const char *why)
{
    SOW_ASSERT(rank >= 0 && rank < w->size && rank != w->rank);
    sow_peer *p = &w->peers[rank];
    if (!p->is_alive)
        return;
    p->is_alive = false;
    w->n_alive--;
    w->has_loss = true;
    sow_par_abandon(w, rank);
    sow_log(SOW_LOG_WARN, "lost rank %d on %s in phase %s: %s", rank, p->host,
            sow_phase_name(sow_world_phase_of(w, rank)), why);
}

sow_code sow_world_kill(sow_world *w, int rank)
{
    SOW_ASSERT(rank >= 0 && rank < w->size && rank != w->rank);
    sow_peer *p = &w->peers[rank];
    if (p->is_gone)
        return SOW_OK;
    if (p->pid == 0)
        return SOW_FAIL(SOW_ECOMM, "rank %d on %s cannot be ended from %s", rank, p->host, w->peers[w->rank].host);
    p->is_gone = sow_par_process_is_gone(p->pid, p->started);
    if (!p->is_gone && kill((pid_t)p->pid, SIGKILL) != 0 && errno != ESRCH)
        return SOW_FAIL(SOW_ECOMM, "rank %d on %s: process %" PRId64 " cannot be ended: %s", rank, p->host, p->pid,
                        strerror(errno));
    for (double begun = sow_clock_now_s(); !p->is_gone; sow_clock_sleep_s(listen_s)) {
        p->is_gone = sow_par_process_is_gone(p->pid, p->started);
        if (!p->is_gone && sow_clock_now_s() - begun > kill_s)
            return SOW_FAIL(SOW_ECOMM, "rank %d on %s: process %" PRId64 " does not end on SIGKILL", rank, p->host,
                            p->pid);
    }
    return SOW_OK;
}
