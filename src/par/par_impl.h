/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this layer share: the world's insides.
 *
 *   world.c    start, stop, who and where          node.c     how the job is cut into nodes
 *   collect.c  start-up collectives with deadline  letter.c   small messages, out and in
 *   alive.c    pulses, silence, losing, killing    process.c  is a process of this host gone
 *   watch.c    a limit on calls that only block    signal.c   what the process was asked to do
 *   control.c  the host's control window           window.c   memory shared by a node
 *   agree.c    did one rank fail                   stop.c     how ranks leave
 *   exact.c    sums over nodes
 *
 * Time.  Deadlines count silence heard while this rank listened: `own_s` is a clock that stands still while this rank
 * was away (stopped, or in a computation without ticks), so that whoever was deaf blames nobody. */
#ifndef SOWER_PAR_IMPL_H
#define SOWER_PAR_IMPL_H

#include "sower/window.h"
#include "sower/world.h"

#include <pthread.h>
#include <stdatomic.h>

#include <mpi.h>

enum { SOW_HOST_BYTES = 64 };

/* One rank's line in the control window of its host: written by that rank alone, read by every rank of the host. */
typedef struct sow_slot {
    _Alignas(64) _Atomic int phase;
    _Atomic unsigned beat;     /* grows with every sign of life */
    _Atomic long long arrived; /* number of the collective entered last; SOW_ENDED in sow_world_stop */
} sow_slot;

#define SOW_ENDED (1LL << 62)

/* What this rank knows of another. */
typedef struct sow_peer {
    char host[SOW_HOST_BYTES];
    int host_first, host_index; /* lowest world rank of its host; its place there */
    bool is_here;               /* on this rank's host */
    int64_t pid, started;       /* 0 where not visible from here; start time in clock ticks, against reuse of a pid */
    const sow_slot *slot;       /* borrowed from the control window, NULL where there is none */

    bool is_alive, is_gone, is_stuck; /* not lost; its process was seen gone; it left a message half sent */
    double looked_s;                  /* when its process was looked at last; of this rank itself: any process */
    double heard_s;                   /* in own_s */
    double work_looked_s;             /* when its CPU time was looked at last */
    int64_t cpu_seen;
    unsigned beat_seen;
    int phase;         /* of the last pulse */
    long long arrived; /* of the last pulse */
    int n_unread;      /* of its letters in the inbox, for order */
    bool is_pulse_out; /* a pulse to it is still on its way */
    bool is_asking;    /* it waits for a sign of life from this rank */
} sow_peer;

/* A message on its way out or in.  Its memory belongs to MPI until the request is complete. */
typedef struct sow_letter {
    MPI_Request request;
    struct sow_letter *next;
    int peer, tag;
    bool is_done;
    double begun_s; /* in own_s */
    size_t bytes;
    _Alignas(16) unsigned char data[SOW_MESSAGE_BYTES];
} sow_letter;

typedef struct sow_letters {
    sow_letter *first, *last;
} sow_letters;

typedef struct sow_shared {
    MPI_Win window;
} sow_shared;

struct sow_world {
    /* Owned.  `ending` carries nothing but the barrier of sow_world_stop. */
    MPI_Comm comm, ending; /* duplicates of the world */
    MPI_Comm host;         /* ranks that share memory; MPI_COMM_NULL in a world of one */
    MPI_Comm node;         /* MPI_COMM_NULL before sow_world_cut */
    MPI_Comm leaders;      /* the first ranks of the nodes; MPI_COMM_NULL on all others */
    MPI_Comm sums;         /* a duplicate for exact.c; MPI_COMM_NULL if it is not used */
    int rank, size;
    sow_peer *peers; /* owned: [size] */
    int n_here;      /* ranks on this host */
    double deadline_s;

    int n_nodes;                                /* 0 before sow_world_cut */
    int *node_of, *node_offsets, *node_members; /* owned: [size], [n_nodes + 1], [size] */

    MPI_Request pending; /* of the collective under way */
    sow_shared *shared;  /* owned: every shared window ever made, freed by sow_world_stop */
    int64_t n_shared, shared_capacity;
    sow_slot *mine;     /* this rank's slot: in the control window, or private_slot */
    sow_slot *own_slot; /* owned: where there is no control window */

    sow_letters spare, outgoing, inbox, abandoned; /* owned letters */
    sow_traffic traffic;

    long long arrived; /* collectives entered */
    bool is_sealed, is_broken;
    int agreed_status; /* exit status of a failure that all ranks know of; 0: none */
    int n_alive;
    bool has_loss; /* somebody was lost: known here, or told by root */
    int n_asking;  /* peers that are asking */

    double own_s, listened_s; /* see above; sow_clock_now_s() of the last listening */
    double look_due_s, pulsed_s, root_gone_s;
};

/* Failures of MPI. */
sow_code sow_par_mpi_failed(int mpi_rc, const char *call, const char *file, int line);
#define SOW_TRY_MPI(call)                                                                                              \
    do {                                                                                                               \
        int mpi_rc_ = (call);                                                                                          \
        if (mpi_rc_ != MPI_SUCCESS)                                                                                    \
            return sow_par_mpi_failed(mpi_rc_, #call, __FILE__, __LINE__);                                             \
    } while (0)

/* watch.c: a call that can only block.  When it has not returned in time, the process says so and leaves with
 * `status`. */
typedef struct sow_watch {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    bool has_thread, is_over;
    const char *call;
    double limit_s;
    int status;
    const sow_world *world;    /* NULL before there is one */
    bool may_leave_after_loss; /* in MPI_Finalize: a rank that was killed in it would hold the others for ever */
} sow_watch;
void sow_par_watch_begin(sow_watch *watch, const sow_world *world, const char *call, double limit_s);
void sow_par_watch_end(sow_watch *watch);
double sow_par_watch_limit_s(const sow_world *world);

/* Runs `call` (an MPI call) under a watch and returns its failure. */
#define SOW_TRY_BLOCKING(world, name, call)                                                                            \
    do {                                                                                                               \
        sow_watch watch_;                                                                                              \
        sow_par_watch_begin(&watch_, (world), (name), sow_par_watch_limit_s(world));                                   \
        int blocking_rc_ = (call);                                                                                     \
        sow_par_watch_end(&watch_);                                                                                    \
        if (blocking_rc_ != MPI_SUCCESS)                                                                               \
            return sow_par_mpi_failed(blocking_rc_, (name), __FILE__, __LINE__);                                       \
    } while (0)

/* process.c */
int64_t sow_par_process_started(int64_t pid); /* 0 where it cannot be told */
int64_t sow_par_process_space(void);          /* a number equal for processes that see each other's pids; 0 unknown */
bool sow_par_process_is_gone(int64_t pid, int64_t started);
/* Whether it computed since the last question, or waits for a disk. */
bool sow_par_process_works(int64_t pid, int64_t *cpu_seen);

/* collect.c */
sow_code sow_par_enter(sow_world *world, const char *what);
/* Until the world's pending request is complete, or nobody who is missing showed life for the deadline.  `bytes` says
 * how long to wait without sleeping. */
sow_code sow_par_wait(sow_world *world, const char *what, size_t bytes);
sow_code sow_par_gather_all(sow_world *world, const void *mine, size_t bytes, void *out);
/* Seconds since a rank that has not arrived at `arrived` showed life, or one arrived, or the first call; starts as
 * {.n_missing = -1}. */
typedef struct sow_quiet {
    double life_s;
    int n_missing;
} sow_quiet;
double sow_par_quiet_s(sow_world *world, sow_quiet *quiet, long long arrived);
long long sow_par_arrived(const sow_world *world, int rank);
void sow_par_name_missing(sow_world *world, long long arrived, char *out, size_t out_bytes);

/* letter.c */
sow_code sow_par_post(sow_world *world, int to, int tag, const void *data, size_t bytes);
sow_code sow_par_flush(sow_world *world);  /* takes back letters that are out */
sow_code sow_par_absorb(sow_world *world); /* takes in what has come, pulses included */
void sow_par_abandon(sow_world *world, int rank);
void sow_par_free_letters(sow_world *world);

/* alive.c */
enum { SOW_PULSE_HAS_LOSS = 1, SOW_PULSE_ASKS = 2 };
typedef struct sow_pulse {
    int32_t phase, flags;
    int64_t arrived;
} sow_pulse;
sow_code sow_par_listen(sow_world *world); /* beat, clock, flush, absorb */
sow_code sow_par_show_life(sow_world *world, bool is_due);
/* A pulse to any rank that asks for one in return, with the next sign of life. */
sow_code sow_par_ask(sow_world *world, int rank);
void sow_par_hear_pulse(sow_world *world, int from, const void *data, size_t bytes);
void sow_par_note_beat(const sow_world *world, int rank);
void sow_par_note_work(const sow_world *world,
                       int rank); /* on this host, computing is life: for start-up and the end */

/* control.c */
sow_code sow_par_control_open(sow_world *world);
sow_code sow_par_shared_make(sow_world *world, MPI_Comm comm, size_t bytes, const char *what, void **out);
sow_code sow_par_shared_prepare(sow_world *world, size_t bytes, const char *what);

/* signal.c */
void sow_par_signals_install(void);

/* stop.c: either all ranks leave together, and this returns, or it does not return. */
void sow_par_leave(sow_world *world, int status);

#endif
