/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up collectives: nonblocking, polled, with a deadline.
 *
 * Each call has a number.  A rank shows in its slot, and in its pulses, which number it has reached; so whoever waits
 * knows for whom.  The deadline is silence: it runs while none of the ranks that are missing shows life, and a root
 * that loads a large file and ticks is waited for as long as it takes.  Not all that happens in start-up ticks, so on
 * one host computing or waiting for a disk is life too.  What timed out is never touched again: its request and buffers
 * are left to MPI and the world counts as broken. */
#include "par_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/phase.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static const size_t chunk_bytes = (size_t)64 << 20;
static const double spin_least_s = 1e-3, spin_s_per_byte = 4e-9; /* how long to poll without sleeping */
static const double rest_s = 1e-3, look_s = 0.01;

sow_code sow_par_enter(sow_world *w, const char *what)
{
    SOW_ASSERT(!w->is_sealed);
    if (w->is_broken)
        return SOW_FAIL(SOW_ECOMM, "%s: the ranks lost touch with each other before", what);
    atomic_store(&w->mine->arrived, ++w->arrived);
    w->agreed_status = 0;
    return SOW_OK;
}

/* The number `rank` has reached, as far as can be known from here. */
long long sow_par_arrived(const sow_world *w, int rank)
{
    const sow_peer *p = &w->peers[rank];
    long long seen = p->slot != NULL ? atomic_load(&p->slot->arrived) : 0;
    return seen > p->arrived ? seen : p->arrived;
}

double sow_par_quiet_s(sow_world *w, sow_quiet *quiet, long long arrived)
{
    int n_missing = 0;
    for (int r = 0; r < w->size; r++) {
        const sow_peer *p = &w->peers[r];
        if (r == w->rank)
            continue;
        sow_par_note_beat(w, r);
        bool is_missing = sow_par_arrived(w, r) < arrived;
        n_missing += is_missing;
        if (is_missing)
            sow_par_note_work(w, r);
        /* root watches over all: while it waits too, a worker leaves the judgement to it */
        if ((is_missing || (r == 0 && p->slot == NULL)) && p->heard_s > quiet->life_s)
            quiet->life_s = p->heard_s;
    }
    if (n_missing != quiet->n_missing)
        quiet->life_s = w->own_s;
    quiet->n_missing = n_missing;
    return w->own_s - quiet->life_s;
}

void sow_par_name_missing(sow_world *w, long long arrived, char *out, size_t out_bytes)
{
    enum { NAMED = 4 };
    size_t used = 0;
    int n = 0;
    out[0] = '\0';
    for (int r = 0; r < w->size; r++) {
        bool is_known = w->peers[r].slot != NULL || w->rank == 0;
        if (r == w->rank || !is_known || sow_par_arrived(w, r) >= arrived || ++n > NAMED || used >= out_bytes)
            continue;
        int k = snprintf(out + used, out_bytes - used, "%srank %d on %s (phase %s%s)", n > 1 ? ", " : "", r,
                         w->peers[r].host, sow_phase_name(sow_world_phase_of(w, r)),
                         sow_world_is_gone(w, r) ? ", its process is gone" : "");
        used += k > 0 ? (size_t)k : 0;
    }
    if (n > NAMED && used < out_bytes)
        (void)snprintf(out + used, out_bytes - used, " and %d more", n - NAMED);
    if (n == 0)
        (void)snprintf(out, out_bytes, "a rank that has not arrived");
}

static sow_code give_up(sow_world *w, const char *what, double quiet_s)
{
    char missing[512];
    w->is_broken = true;
    sow_par_name_missing(w, w->arrived, missing, sizeof missing);
    const sow_peer *me = &w->peers[w->rank];
    return SOW_FAIL(SOW_ECOMM, "rank %d on %s waited %.1f s at %s for %s", w->rank, me->host, quiet_s, what, missing);
}

sow_code sow_par_wait(sow_world *w, const char *what, size_t bytes)
{
    double begun = sow_clock_now_s(), spin_s = spin_least_s + (double)bytes * spin_s_per_byte;
    double looked = begun;
    sow_quiet quiet = {.n_missing = -1};
    for (;;) {
        int is_done = 0;
        SOW_TRY_MPI(MPI_Test(&w->pending, &is_done, MPI_STATUS_IGNORE));
        if (is_done)
            return SOW_OK;
        double now = sow_clock_now_s(), waited = now - begun;
        if (waited < spin_s) {
            (void)sched_yield();
            continue;
        }
        if (now - looked >= look_s) {
            looked = now;
            SOW_TRY(sow_par_listen(w));
            SOW_TRY(sow_par_show_life(w, false));
            double quiet_s = sow_par_quiet_s(w, &quiet, w->arrived);
            if (quiet_s > w->deadline_s)
                return give_up(w, what, quiet_s);
        }
        sow_clock_sleep_s(waited / 16 < rest_s ? waited / 16 : rest_s);
    }
}

/* One broadcast of any size on `comm`; ranks have entered. */
static sow_code bcast(sow_world *w, MPI_Comm comm, int from, void *data, size_t bytes, const char *what)
{
    int me = 0;
    SOW_TRY_MPI(MPI_Comm_rank(comm, &me));
    for (size_t at = 0; at < bytes; at += chunk_bytes) {
        size_t n = bytes - at < chunk_bytes ? bytes - at : chunk_bytes;
        SOW_TRY_MPI(MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, from, comm, &w->pending));
        SOW_TRY(sow_par_wait(w, what, n));
        if (me == from)
            w->traffic.messages_sent++, w->traffic.bytes_sent += (int64_t)n;
        else
            w->traffic.messages_received++, w->traffic.bytes_received += (int64_t)n;
    }
    return SOW_OK;
}

/* First the size alone: waiting for a busy root is done asleep, and then the data come without a pause. */
static sow_code bcast_sized(sow_world *w, MPI_Comm comm, void *data, size_t bytes, const char *what)
{
    int64_t announced = (int64_t)bytes;
    SOW_TRY(bcast(w, comm, 0, &announced, sizeof announced, what));
    SOW_ASSERT(announced == (int64_t)bytes);
    return bcast(w, comm, 0, data, bytes, what);
}

sow_code sow_world_bcast(sow_world *w, void *data, size_t bytes)
{
    if (w->size == 1)
        return SOW_OK;
    SOW_TRY(sow_par_enter(w, "a broadcast"));
    return bcast_sized(w, w->comm, data, bytes, "a broadcast");
}

sow_code sow_world_bcast_leaders(sow_world *w, void *data, size_t bytes)
{
    SOW_ASSERT(w->n_nodes > 0);
    if (w->size == 1)
        return SOW_OK;
    SOW_TRY(sow_par_enter(w, "a broadcast to the nodes"));
    bool is_leader = sow_world_node_member(w, w->node_of[w->rank], 0) == w->rank;
    return is_leader ? bcast_sized(w, w->leaders, data, bytes, "a broadcast to the nodes") : SOW_OK;
}

sow_code sow_world_bcast_block(sow_world *w, void **data, size_t *bytes)
{
    int64_t n = w->rank == 0 ? (int64_t)*bytes : 0;
    unsigned char *block = NULL;
    if (w->size == 1)
        return SOW_OK;
    SOW_TRY(sow_world_bcast(w, &n, sizeof n));
    sow_code rc = w->rank == 0 ? SOW_OK : SOW_ALLOC(&block, n > 0 ? n : 1);
    SOW_TRY_OR(rc, sow_world_agree(w, rc));
    SOW_TRY_OR(rc, sow_world_bcast(w, w->rank == 0 ? *data : block, (size_t)n));
    if (w->rank == 0)
        return SOW_OK;
    *data = block;
    *bytes = (size_t)n;
    return SOW_OK;
done:
    if (!w->is_broken) /* else MPI may still write to it */
        SOW_FREE(&block);
    return rc;
}

sow_code sow_world_barrier(sow_world *w)
{
    if (w->size == 1)
        return SOW_OK;
    SOW_TRY(sow_par_enter(w, "a barrier"));
    SOW_TRY_MPI(MPI_Ibarrier(w->comm, &w->pending));
    return sow_par_wait(w, "a barrier", 0);
}

sow_code sow_world_gather(sow_world *w, const void *mine, size_t bytes, void *out)
{
    if (w->size == 1) {
        memcpy(out, mine, bytes);
        return SOW_OK;
    }
    SOW_TRY(sow_par_enter(w, "a gather"));
    if (bytes > INT_MAX)
        return SOW_FAIL(SOW_EARG, "a gather of %zu bytes per rank, expected at most %d", bytes, INT_MAX);
    SOW_TRY_MPI(MPI_Igather(mine, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, 0, w->comm, &w->pending));
    SOW_TRY(sow_par_wait(w, "a gather", bytes * (size_t)w->size));
    if (w->rank == 0)
        w->traffic.messages_received += w->size - 1, w->traffic.bytes_received += (int64_t)bytes * (w->size - 1);
    else
        w->traffic.messages_sent++, w->traffic.bytes_sent += (int64_t)bytes;
    return SOW_OK;
}

/* Every rank's block on every rank, before anything else is known of the peers. */
sow_code sow_par_gather_all(sow_world *w, const void *mine, size_t bytes, void *out)
{
    SOW_TRY_MPI(MPI_Iallgather(mine, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE, w->comm, &w->pending));
    return sow_par_wait(w, "the start", bytes);
}

sow_code sow_world_seal(sow_world *w)
{
    SOW_TRY(sow_world_barrier(w));
    SOW_TRY(sow_par_listen(w));
    for (int r = 0; r < w->size; r++)
        w->peers[r].heard_s = w->own_s;
    w->is_sealed = true;
    return SOW_OK;
}
