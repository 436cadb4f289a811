/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks of a job: who and where they are, start-up collectives, small messages in a star, and who is alive.
 *
 * Needs: mpi.h (in src/par only), error, alloc, log, clock, phase.  Threads: the first thread only (MPI_THREAD_FUNNELED).
 *
 * No wait without a deadline: every call that waits ends in a line naming rank, host and phase, and SOW_ECOMM.  Start-up uses
 * nonblocking collectives polled with the deadline, on the world of all ranks.  After sow_world_seal() there are only
 * point-to-point messages of at most SOW_MESSAGE_BYTES between root (rank 0) and a worker, so that a dead rank blocks
 * nobody. */
#ifndef SOWER_WORLD_H
#define SOWER_WORLD_H

#include <stdbool.h>

#include "sower/error.h"

typedef struct sow_world sow_world;

/* Collective.  Initialises MPI.  A process started without mpirun is a world of one. */
SOW_NODISCARD sow_code sow_world_start(int *argc, char ***argv, sow_world **out);

/* Collective unless a rank was lost: then, or with is_ok false, it flushes and leaves by _exit(status) without MPI_Finalize
 * (which can hang); a rank that fails while others go on makes the job end.  Returns only for a clean end. */
void sow_world_stop(sow_world **world, int status);

/* Not collective. */
int sow_world_rank(const sow_world *world);
int sow_world_size(const sow_world *world);
const char *sow_world_host(const sow_world *world, int rank);
const char *sow_world_library(void); /* "Open MPI v4.1.4, ..." */

/* Collective.  Sets the deadline and cuts the job into nodes: by shared memory, or every `ranks_per_node` neighbours if that is
 * not 0 (1: every rank its own node). */
SOW_NODISCARD sow_code sow_world_cut(sow_world *world, double deadline_s, int64_t ranks_per_node);

/* Not collective.  After sow_world_cut. */
int sow_world_n_nodes(const sow_world *world);
int sow_world_node_of(const sow_world *world, int rank); /* 0 .. n_nodes-1 */
int sow_world_node_size(const sow_world *world, int node);
int sow_world_node_member(const sow_world *world, int node, int index); /* world rank, ascending */

/* Collective, before sow_world_seal.  Every rank passes its own outcome; every rank gets SOW_OK if all did, its own code where it
 * failed, SOW_EPEER elsewhere with the words of the lowest rank that failed.  Call it between local work that can fail and
 * the next collective. */
SOW_NODISCARD sow_code sow_world_agree(sow_world *world, sow_code mine);

/* Collective, before sow_world_seal.  Root's bytes to all ranks; any size.  Bytes must be equal on all ranks. */
SOW_NODISCARD sow_code sow_world_bcast(sow_world *world, void *data, size_t bytes);
/* Collective, before sow_world_seal.  Root's block to all, whose size only root knows; others get a new block, to be freed. */
SOW_NODISCARD sow_code sow_world_bcast_block(sow_world *world, void **data, size_t *bytes);
/* Collective, before sow_world_seal.  The same from root to the first rank of each node (others return at once). */
SOW_NODISCARD sow_code sow_world_bcast_leaders(sow_world *world, void *data, size_t bytes);
/* Collective, before sow_world_seal. */
SOW_NODISCARD sow_code sow_world_barrier(sow_world *world);
/* Collective, before sow_world_seal.  Every rank's equal-sized block, in rank order, on root (out may be NULL elsewhere). */
SOW_NODISCARD sow_code sow_world_gather(sow_world *world, const void *mine, size_t bytes, void *out);

/* Collective.  Ends start-up: from here on ranks may die, and only the calls below are used. */
SOW_NODISCARD sow_code sow_world_seal(sow_world *world);

enum { SOW_MESSAGE_BYTES = 4000 };

/* Not collective.  A small message to a rank (root to worker or worker to root; to oneself is a programmer's error).  Never waits
 * for the receiver: it is kept in a buffer of requests polled at later calls.  To a rank known lost: dropped. */
SOW_NODISCARD sow_code sow_world_send(sow_world *world, int to, int tag, const void *data, size_t bytes);

typedef struct sow_message {
    int from, tag;
    size_t bytes;
    _Alignas(16) unsigned char data[SOW_MESSAGE_BYTES];
} sow_message;

/* Not collective.  The next message, if one has come (*has false: none).  Messages of one rank come in order.  Pulses are dealt
 * with inside.  Never waits. */
SOW_NODISCARD sow_code sow_world_poll(sow_world *world, sow_message *out, bool *has);

/* Not collective.  Shows life to root (worker) or to all live workers (root) if a quarter of the deadline has passed since the
 * last time; cheap to call often.  A worker that has heard nothing from root for three deadlines, or whose root's process is
 * gone, gets SOW_ECOMM: it should leave by itself. */
SOW_NODISCARD sow_code sow_world_pulse(sow_world *world);

/* Not collective.  Seconds since root last heard of `rank` (message or pulse); on root's host a process that is gone counts as
 * infinite at once.  For root only. */
double sow_world_silence_s(const sow_world *world, int rank);
/* The phase `rank` was last seen in: from shared memory on this host, else from its last pulse. */
int sow_world_phase_of(const sow_world *world, int rank);
double sow_world_deadline_s(const sow_world *world);

/* Not collective.  Root's list of the living.  `lose` logs one warning that names rank, host, phase and why.  `kill` ends a
 * silent process of this host and waits until it is seen gone; SOW_ECOMM where it cannot. */
bool sow_world_is_alive(const sow_world *world, int rank);
void sow_world_lose(sow_world *world, int rank, const char *why);
SOW_NODISCARD sow_code sow_world_kill(sow_world *world, int rank);
int sow_world_n_alive(const sow_world *world);

/* Whether this process is asked to stop: 0, or the number of the signal (SIGUSR1: checkpoint and leave with 75; SIGTERM).
 * Handlers are installed by sow_world_start. */
int sow_world_signal(const sow_world *world);

/* What this rank has sent and received since the start. */
typedef struct sow_traffic {
    int64_t messages_sent, bytes_sent, messages_received, bytes_received;
} sow_traffic;
sow_traffic sow_world_traffic(const sow_world *world);

#endif
