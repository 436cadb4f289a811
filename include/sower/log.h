/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on stderr: lower case, the exact cause, no guess.  Results are not log.
 *
 * Needs: error.  Threads: a line is written with one call.  Ranks: knows none; `sow_log_name` gives the prefix.
 *
 * Levels by volume: error ends the run, warn a person should look, info a few lines per phase, step one line per step,
 * debug anything. */
#ifndef SOWER_LOG_H
#define SOWER_LOG_H

#include "sower/error.h"

typedef enum sow_log_level { SOW_LOG_ERROR, SOW_LOG_WARN, SOW_LOG_INFO, SOW_LOG_STEP, SOW_LOG_DEBUG } sow_log_level;

/* Lines above `level` in volume are dropped.  Default: SOW_LOG_STEP. */
void sow_log_set_level(sow_log_level level);

/* Who speaks: empty for a single process, "rank 3" under mpirun; shown in front of errors and warnings. */
void sow_log_name(const char *who);

/* One line, without its newline. */
void sow_log(sow_log_level level, const char *fmt, ...) SOW_PRINTF(2, 3);

/* The last line of progress: on a terminal it is rewritten in place, in a batch log it is a plain line at most once in
 * `every_s` seconds.  An empty text ends the line. */
void sow_log_progress(double every_s, const char *fmt, ...) SOW_PRINTF(2, 3);

#endif
