/* SPDX-License-Identifier: Apache-2.0 */
/* Time: a monotonic clock and short sleeps.
 *
 * Needs: libc.  Threads: safe.  Ranks: each has its own zero. */
#ifndef SOWER_CLOCK_H
#define SOWER_CLOCK_H

/* Seconds since some fixed moment; never goes back. */
double sow_clock_now_s(void);

/* CPU seconds of this process, all threads. */
double sow_clock_cpu_s(void);

/* Sleeps about that long. */
void sow_clock_sleep_s(double seconds);

#endif
