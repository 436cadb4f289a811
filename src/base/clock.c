/* SPDX-License-Identifier: Apache-2.0 */
#include "sower/clock.h"

#include <time.h>

static double seconds_of(clockid_t clock)
{
    struct timespec t = {0};
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double sow_clock_now_s(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

double sow_clock_cpu_s(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

void sow_clock_sleep_s(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds};
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    (void)nanosleep(&t, NULL);
}
