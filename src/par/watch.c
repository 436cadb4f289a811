/* SPDX-License-Identifier: Apache-2.0 */
/* A limit on calls of MPI that can only block.
 *
 * MPI_Init, MPI_Comm_split, MPI_Win_allocate_shared, MPI_Finalize and their like cannot be polled.  A thread of its
 * own waits on a condition variable; when the call has not returned in time, it names the call and leaves with _exit,
 * because no other way out is left.  The thread takes no signals and makes no call of MPI. */
#include "par_impl.h"

#include "sower/clock.h"
#include "sower/log.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LOOKS_PER_S = 10 };
static const double loss_grace_s = 2; /* ranks that have finished go too, and we are about to: not at once */

double sow_par_watch_limit_s(const sow_world *world)
{
    double three = world == NULL ? 0 : 3 * world->deadline_s;
    return three > 180 ? three : 180;
}

static bool somebody_is_gone(const sow_world *world)
{
    for (int r = 0; r < world->size; r++) {
        const sow_peer *p = &world->peers[r];
        if (r != world->rank && p->is_here && sow_par_process_is_gone(p->pid, p->started))
            return true;
    }
    return false;
}

static void leave(const sow_watch *w, const char *why)
{
    char host[SOW_HOST_BYTES] = "unknown";
    (void)gethostname(host, sizeof host - 1);
    if (w->world == NULL) /* ranks are not known yet */
        sow_log(SOW_LOG_ERROR, "process %ld on %s: %s %s", (long)getpid(), host, w->call, why);
    else
        sow_log(SOW_LOG_ERROR, "rank %d on %s: %s %s", w->world->rank, host, w->call, why);
    (void)fflush(NULL);
    _exit(w->status);
}

static void *watch_main(void *argument)
{
    sow_watch *w = argument;
    double begun = sow_clock_now_s(), gone_since = 0;
    (void)pthread_mutex_lock(&w->mutex);
    while (!w->is_over) {
        struct timespec due;
        (void)clock_gettime(CLOCK_MONOTONIC, &due);
        due.tv_nsec += 1000000000L / LOOKS_PER_S;
        due.tv_sec += due.tv_nsec / 1000000000L;
        due.tv_nsec %= 1000000000L;
        (void)pthread_cond_timedwait(&w->condition, &w->mutex, &due);
        double now = sow_clock_now_s();
        if (w->is_over)
            break;
        if (w->may_leave_after_loss && gone_since == 0 && somebody_is_gone(w->world))
            gone_since = now;
        if (gone_since > 0 && now - gone_since > loss_grace_s)
            leave(w, "cannot end, for a rank is gone: left without it");
        if (now - begun > w->limit_s) {
            char why[80];
            (void)snprintf(why, sizeof why, "has not returned for %.0f s: left", w->limit_s);
            leave(w, why);
        }
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return NULL;
}

void sow_par_watch_begin(sow_watch *watch, const sow_world *world, const char *call, double limit_s)
{
    *watch = (sow_watch){.call = call, .limit_s = limit_s, .status = 1, .world = world};
    (void)pthread_mutex_init(&watch->mutex, NULL);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watch->condition, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);

    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    watch->has_thread = pthread_create(&watch->thread, NULL, watch_main, watch) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sow_par_watch_end(sow_watch *watch)
{
    (void)pthread_mutex_lock(&watch->mutex);
    watch->is_over = true;
    (void)pthread_cond_signal(&watch->condition);
    (void)pthread_mutex_unlock(&watch->mutex);
    if (watch->has_thread)
        (void)pthread_join(watch->thread, NULL);
    (void)pthread_cond_destroy(&watch->condition);
    (void)pthread_mutex_destroy(&watch->mutex);
}
