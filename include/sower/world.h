/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks of a job: who and where they are, start-up collectives, small messages in a star, and who is alive.
 *
 * Needs: mpi.h (in src/par only), error, alloc, log, clock, phase.  Threads: the first thread only
 * (MPI_THREAD_FUNNELED).
 *
 * No wait without a deadline: every call that waits ends in a line naming rank, host and phase, and SOW_ECOMM.
 * Start-up uses nonblocking collectives polled with the deadline, on the world of all ranks.  After sow_world_seal()
 * there are only point-to-point messages of at most SOW_MESSAGE_BYTES between root (rank 0) and a worker, and the sums
 * of exact.h, so that a dead rank blocks nobody.
 *
 * A deadline counts silence, not work: a rank that ticks (sow_phase_tick), polls or pulses is alive, in start-up too;
 * and it counts only time in which this rank listened itself.  Long local work (loading a model, writing a
 * checkpoint) must tick.  From sow_world_start to sow_world_stop every tick shows life; whoever installs another tick
 * calls sow_world_pulse in it. */
#ifndef SOWER_WORLD_H
#define SOWER_WORLD_H

#include "sower/error.h"

#include <stdbool.h>

typedef struct sow_world sow_world;

/* Collective.  Initialises MPI.  A process started without mpirun is a world of one. */
SOW_NODISCARD sow_code sow_world_start(int *argc, char ***argv, sow_world **out);

/* Collective unless a rank was lost.  If all ranks arrive here it returns after MPI_Finalize, whatever the status,
 * and the caller ends with it.  If a rank was lost, or is seen gone, it flushes and leaves by _exit(status)
 * (MPI_Finalize can hang).  A rank whose failure was not agreed on (sow_world_agree; 0 and 75 count as agreed) waits
 * two seconds for the others to arrive and then ends the job by MPI_Abort(status).  Windows are destroyed before.
 * *world may be NULL. */
void sow_world_stop(sow_world **world, int status);

/* Not collective. */
int sow_world_rank(const sow_world *world);
int sow_world_size(const sow_world *world);
const char *sow_world_host(const sow_world *world, int rank);
const char *sow_world_library(void); /* "Open MPI v4.1.4, ..." */

/* Collective.  Sets the deadline and cuts the job into nodes: by shared memory, or every `ranks_per_node` neighbours
 * if that is not 0 (1: every rank its own node). */
SOW_NODISCARD sow_code sow_world_cut(sow_world *world, double deadline_s, int64_t ranks_per_node);

/* Collective, before sow_world_seal.  Cores this rank may count as its own, at least 1: those it is bound to, divided
 * by the ranks of its host that are bound to exactly the same ones. */
SOW_NODISCARD sow_code sow_world_cores(sow_world *world, int *out);

/* Not collective.  After sow_world_cut. */
int sow_world_n_nodes(const sow_world *world);
int sow_world_node_of(const sow_world *world, int rank); /* 0 .. n_nodes-1 */
int sow_world_node_size(const sow_world *world, int node);
int sow_world_node_member(const sow_world *world, int node, int index); /* world rank, ascending */

/* Collective, before sow_world_seal.  Every rank passes its own outcome; every rank gets SOW_OK if all did, its own
 * code where it failed, SOW_EPEER elsewhere with the words of the lowest rank that failed.  Call it between local
 * work that can fail and the next collective. */
SOW_NODISCARD sow_code sow_world_agree(sow_world *world, sow_code mine);

/* Not collective.  The exit status for `mine`: after a failure that was agreed on, that of the lowest rank that
 * failed, on all ranks, so that mpirun ends with it too. */
int sow_world_exit_status(const sow_world *world, sow_code mine);

/* Collective, before sow_world_seal.  Root's bytes to all ranks; any size.  Bytes must be equal on all ranks. */
SOW_NODISCARD sow_code sow_world_bcast(sow_world *world, void *data, size_t bytes);
/* Collective, before sow_world_seal.  Root's block to all, whose size only root knows; others get a new block, to be
 * freed. */
SOW_NODISCARD sow_code sow_world_bcast_block(sow_world *world, void **data, size_t *bytes);
/* Collective, before sow_world_seal.  The same from root to the first rank of each node (others return at once). */
SOW_NODISCARD sow_code sow_world_bcast_leaders(sow_world *world, void *data, size_t bytes);
/* Collective, before sow_world_seal. */
SOW_NODISCARD sow_code sow_world_barrier(sow_world *world);
/* Collective, before sow_world_seal.  Every rank's equal-sized block, in rank order, on root (out may be NULL
 * elsewhere). */
SOW_NODISCARD sow_code sow_world_gather(sow_world *world, const void *mine, size_t bytes, void *out);

/* Collective.  Ends start-up: from here on ranks may die, and only the calls below are used. */
SOW_NODISCARD sow_code sow_world_seal(sow_world *world);

/* The largest message: with Open MPI's header it still fits into the 4,096 bytes that are delivered although the
 * sender dies.  Tags are 0 .. SOW_TAG_PULSE - 1. */
enum { SOW_MESSAGE_BYTES = 4000, SOW_TAG_PULSE = 32000 };

/* Not collective.  A small message to a rank (root to worker or worker to root; to oneself is a programmer's error).
 * Never waits for the receiver: it is kept in a buffer of requests polled at later calls.  To a rank known lost:
 * dropped. */
SOW_NODISCARD sow_code sow_world_send(sow_world *world, int to, int tag, const void *data, size_t bytes);

typedef struct sow_message {
    int from, tag;
    size_t bytes;
    _Alignas(16) unsigned char data[SOW_MESSAGE_BYTES];
} sow_message;

/* Not collective.  The next message, if one has come (*has false: none).  Messages of one rank come in order; those
 * of a rank that was lost are dropped.  Pulses are dealt with inside.  Never waits; whoever idles sleeps between two
 * polls (up to 1 ms). */
SOW_NODISCARD sow_code sow_world_poll(sow_world *world, sow_message *out, bool *has);

/* Not collective.  Shows life to root (worker) or to all live workers (root) if a quarter of the deadline has passed
 * since the last time, and takes in what has come for sow_world_poll; cheap to call often (it does its work once a
 * millisecond).  A worker that has heard nothing from root for three deadlines, or whose root's process is gone and
 * has left no message unread, gets SOW_ECOMM: it should leave by itself. */
SOW_NODISCARD sow_code sow_world_pulse(sow_world *world);

/* Not collective.  Seconds since this rank last heard of `rank` (message or pulse; on its own host: any call of
 * `rank` that listens).  Infinite if it was lost, if its process on this host is gone (seen within 20 ms), or if it
 * left a message unfinished for a deadline.  A stopped process is silent, not gone.  For root; a worker hears of root
 * and of its host only. */
double sow_world_silence_s(const sow_world *world, int rank);
/* The phase `rank` was last seen in: from shared memory on this host, else from its last pulse. */
int sow_world_phase_of(const sow_world *world, int rank);
double sow_world_deadline_s(const sow_world *world);

/* Not collective.  Root's list of the living.  `lose` logs one warning that names rank, host, phase and why, and
 * drops all that is under way to or from it.  `kill` ends a silent process of this host and waits until it is seen
 * gone, with all its threads, so that it can write no more into shared memory (at most 5 s); SOW_ECOMM where it
 * cannot. */
bool sow_world_is_alive(const sow_world *world, int rank);
void sow_world_lose(sow_world *world, int rank, const char *why);
SOW_NODISCARD sow_code sow_world_kill(sow_world *world, int rank);
int sow_world_n_alive(const sow_world *world);

/* Not collective; on any rank.  Whether the process of a rank on this host is gone (false for ranks of other hosts). */
bool sow_world_is_gone(const sow_world *world, int rank);

/* Not collective.  Leaves at once with `status`, without MPI_Finalize, after flushing: for SIGTERM's last second and
 * for a worker without root. */
void sow_world_leave(sow_world *world, int status) __attribute__((noreturn));

/* Not collective.  Whether this process is asked to stop: 0, or the number of the signal (SIGUSR1: checkpoint and
 * leave with 75; SIGTERM, SIGINT).  Handlers are installed by sow_world_start, before anything can take long.
 * SIGPIPE is ignored (a write then fails); a second SIGINT after a second ends the process. */
int sow_world_signal(const sow_world *world);

/* Not collective.  What this rank has sent and received since the start: messages, pulses, and its part of start-up
 * data (a broadcast counts once, however MPI passes it on; agreements and barriers do not count). */
typedef struct sow_traffic {
    int64_t messages_sent, bytes_sent, messages_received, bytes_received;
} sow_traffic;
sow_traffic sow_world_traffic(const sow_world *world);

#endif
