/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank is doing: a word that others may read, a tick that keeps it talking, and faults for tests.
 *
 * Needs: error.  Threads: called by a rank's first thread only.  Ranks: knows none; `par` installs word and tick.
 *
 * A long loop calls sow_phase_tick() every few milliseconds or so.  Through it root answers messages while it computes,
 * and a worker in a long prefill still shows life, although the layer that computes knows nothing of messages. */
#ifndef SOWER_PHASE_H
#define SOWER_PHASE_H

#include "sower/error.h"

#include <stdatomic.h>

/* Every phase of a rank.  `run.fault` can stop a rank in each but the first. */
/* clang-format off */
#define SOW_PHASES(PHASE)                                                                                    \
    PHASE(START, "start")                                                                                    \
    PHASE(PERTURB, "perturb") PHASE(PREFILL, "prefill") PHASE(DECODE, "decode") PHASE(GRADE, "grade")        \
    PHASE(BACKWARD, "backward") PHASE(REDUCE, "reduce")                                                      \
    PHASE(SEND, "send") PHASE(UPDATE, "update") PHASE(CHECKPOINT, "checkpoint") PHASE(MEASURE, "measure")    \
    PHASE(IDLE, "idle")
/* clang-format on */

typedef enum sow_phase {
#define PHASE(name, text) SOW_PHASE_##name,
    SOW_PHASES(PHASE)
#undef PHASE
        SOW_N_PHASES
} sow_phase;

/* "perturb", "prefill", ...; "unknown" outside the table. */
const char *sow_phase_name(int phase);

/* Enters a phase: writes the word, adds to the phase's clock, and raises the fault that is due (see below). */
void sow_phase_enter(sow_phase phase);

/* The phase entered last, and the seconds spent in `phase` since sow_phase_clear_times(). */
sow_phase sow_phase_now(void);
double sow_phase_seconds(sow_phase phase);
void sow_phase_clear_times(void);

/* From now on all seconds are `phase`'s, whatever is entered; SOW_N_PHASES: each phase's own again. */
void sow_phase_charge(sow_phase phase);

/* Where the word is kept from now on (shared memory, so that others see it); NULL: in this process. */
void sow_phase_install_word(_Atomic int *word);

/* Called by every tick; NULL: nothing.  It must not start a computation that ticks (it is not called from within
 * itself). */
void sow_phase_install_tick(void (*tick)(void *context), void *context);
void sow_phase_tick(void);

/* `run.fault`, for tests: RANK:PHASE:COUNT:SIGNAL, e.g. "1:decode:3:KILL": rank 1 raises SIGKILL when it enters decode
 * for the third time.  "" is none.  SOW_ECONF with the expected form otherwise.  Signals: KILL, STOP, TERM, ABRT, SEGV.
 * */
SOW_NODISCARD sow_code sow_phase_set_fault(const char *fault, int my_rank);

#endif
