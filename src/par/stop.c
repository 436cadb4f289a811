/* SPDX-License-Identifier: Apache-2.0 */
/* How ranks leave.
 *
 *   all arrive at the end          -> MPI_Finalize on all, and the caller returns with its status
 *   somebody was lost, or is gone  -> flush and _exit(status): MPI_Finalize can hang
 *   this rank failed and others go on, or the ranks lost touch -> MPI_Abort(status): the job ends
 *
 * "Arrive" is a nonblocking barrier of its own communicator, so that it can meet no other collective; it is waited
 * for as long as those who are missing show life.  A rank that failed alone waits for it only shortly. */
#include "par_impl.h"

#include "sower/clock.h"
#include "sower/log.h"

#include <stdio.h>
#include <unistd.h>

typedef enum outcome { TOGETHER, WITHOUT_SOME, TIMED_OUT } outcome;

static const double alone_s = 2, abort_s = 10, rest_s = 1e-3, last_words_s = 1, n_deadlines = 3;
static const double root_writes_s =
    600; /* a worker lets a root of another host write its last files, though it says nothing */
enum { EXIT_RESUBMIT = 75 };

static void leave_now(int status) __attribute__((noreturn));
static void leave_now(int status)
{
    (void)fflush(NULL);
    _exit(status);
}

void sow_world_leave(sow_world *w, int status)
{
    (void)w;
    leave_now(status);
}

static void abort_job(sow_world *w, int status) __attribute__((noreturn));
static void abort_job(sow_world *w, int status)
{
    sow_watch watch; /* under mpirun --enable-recovery MPI_Abort may not return */
    (void)fflush(NULL);
    sow_par_watch_begin(&watch, w, "MPI_Abort", abort_s);
    watch.status = status;
    (void)MPI_Abort(w->comm, status);
    leave_now(status);
}

static bool somebody_is_gone(const sow_world *w)
{
    bool is_gone = false;
    for (int r = 0; r < w->size; r++)
        is_gone = is_gone || sow_world_is_gone(w, r);
    return is_gone;
}

/* Whether leaving now could take a message away: root goes last, a worker when root has taken what it sent. */
static bool is_awaited(const sow_world *w)
{
    if (w->rank != 0)
        return w->outgoing.first != NULL && w->peers[0].is_alive && !sow_world_is_gone(w, 0);
    bool is_awaited = false;
    for (int r = 1; r < w->size; r++)
        is_awaited =
            is_awaited || (w->peers[r].is_alive && sow_par_arrived(w, r) < SOW_ENDED && !sow_world_is_gone(w, r));
    return is_awaited;
}

/* Root tells the survivors that the end is one without MPI_Finalize, they tell root that they have come to it. */
static void say_last_words(sow_world *w)
{
    double begun = sow_clock_now_s();
    sow_code rc = sow_par_show_life(w, true);
    while (rc == SOW_OK && is_awaited(w) && sow_clock_now_s() - begun < last_words_s) {
        sow_clock_sleep_s(rest_s);
        rc = sow_par_listen(w);
    }
}

/* Until all ranks have called sow_world_stop. */
static outcome wait_for_all(sow_world *w, bool is_agreed)
{
    double begun = sow_clock_now_s(), patience_s = n_deadlines * w->deadline_s;
    sow_quiet quiet = {.n_missing = -1};
    if (w->rank != 0 && patience_s < root_writes_s)
        patience_s = root_writes_s;
    if (MPI_Ibarrier(w->ending, &w->pending) != MPI_SUCCESS)
        return TIMED_OUT;
    for (int is_done = 0, n_gone = 0;; sow_clock_sleep_s(rest_s)) {
        if (MPI_Test(&w->pending, &is_done, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return TIMED_OUT;
        if (is_done)
            return TOGETHER;
        if (sow_par_listen(w) != SOW_OK || sow_par_show_life(w, false) != SOW_OK)
            return TIMED_OUT;
        n_gone += somebody_is_gone(w);
        if (w->has_loss || n_gone > 50) /* the barrier may have come through just before */
            return WITHOUT_SOME;
        double waited_s = sow_clock_now_s() - begun, quiet_s = sow_par_quiet_s(w, &quiet, SOW_ENDED);
        if (is_agreed ? quiet_s > patience_s : waited_s > alone_s)
            return TIMED_OUT;
    }
}

/* Sends that the other side has not taken yet; false after the deadline. */
static bool drain(sow_world *w)
{
    for (double begun = sow_clock_now_s(); w->outgoing.first != NULL; sow_clock_sleep_s(rest_s))
        if (sow_par_listen(w) != SOW_OK || sow_clock_now_s() - begun > w->deadline_s)
            return false;
    return true;
}

/* All is done but for ranks that do not come to the end: root ends them.  False where it cannot. */
static bool end_missing(sow_world *w)
{
    char missing[512];
    sow_par_name_missing(w, SOW_ENDED, missing, sizeof missing);
    sow_log(SOW_LOG_ERROR, "on %s: waited at the end for %s", w->peers[w->rank].host, missing);
    for (int r = 1; r < w->size && w->rank == 0; r++)
        if (w->peers[r].is_alive && sow_par_arrived(w, r) < SOW_ENDED && sow_world_kill(w, r) != SOW_OK)
            return false;
    return w->rank == 0;
}

void sow_par_leave(sow_world *w, int status)
{
    bool is_agreed = status == 0 || status == EXIT_RESUBMIT || w->agreed_status != 0;
    atomic_store(&w->mine->arrived, SOW_ENDED);
    if (w->has_loss) {
        say_last_words(w);
        leave_now(status);
    }
    if (w->is_broken)
        abort_job(w, status);
    outcome how = wait_for_all(w, is_agreed);
    if (how == TOGETHER && drain(w))
        return;
    if (how != TIMED_OUT || (is_agreed && end_missing(w))) {
        w->has_loss = true;
        say_last_words(w);
        leave_now(status);
    }
    abort_job(w, status != 0 && status != EXIT_RESUBMIT ? status : 1);
}
