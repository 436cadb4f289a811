/* SPDX-License-Identifier: Apache-2.0 */
/* What this process was asked to do from outside.
 *
 * SIGUSR1, SIGTERM and SIGINT are recorded and nothing more; whoever computes asks sow_world_signal() between units.
 * The last two outrank the first.  A second SIGINT a second later ends the process: a person at a terminal means it
 * (mpirun and the terminal may both pass on one key, hence the second).  SIGPIPE is ignored: a reader of stdout that
 * went away is an error of write(), reported like any other, and not a rank that vanishes without a word.
 *
 * Installed before MPI_Init, so that no signal is fatal meanwhile, and again after it, because MPICH takes SIGUSR1. */
#include "par_impl.h"

#include <signal.h>
#include <time.h>

static volatile sig_atomic_t asked;
static volatile sig_atomic_t interrupted_s; /* when SIGINT came first, 0: not yet */

static void record(int number)
{
    if (number == SIGINT) {
        struct timespec now = {0, 0};
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        int now_s = (int)(now.tv_sec % 1000000) + 1;
        if (interrupted_s == 0)
            interrupted_s = now_s;
        else if (now_s - interrupted_s > 1 || now_s < interrupted_s)
            (void)signal(SIGINT, SIG_DFL), (void)raise(SIGINT);
    }
    if (number != SIGUSR1 || asked == 0)
        asked = number;
}

void sow_par_signals_install(void)
{
    struct sigaction on = {.sa_handler = record, .sa_flags = SA_RESTART};
    (void)sigemptyset(&on.sa_mask);
    (void)sigaction(SIGUSR1, &on, NULL);
    (void)sigaction(SIGTERM, &on, NULL);
    (void)sigaction(SIGINT, &on, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

int sow_world_signal(const sow_world *world)
{
    (void)world;
    return asked;
}
