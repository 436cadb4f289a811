/* SPDX-License-Identifier: Apache-2.0 */
/* What a program sends through MPI, counted from outside: a library for LD_PRELOAD over the profiling interface.
 *
 *   LD_PRELOAD=libpmpi_count.so SOWER_PMPI_OUT=/tmp/count mpirun -n 3 ./program     -> /tmp/count.0, .1, .2
 *
 * Each file is one line of JSON:
 *   {"rank": 0, "size": 3,
 *    "calls": [{"call": "Isend", "tag": 7, "messages": 12, "bytes": 288, "largest": 24}, ...],
 *    "trace": [["Isend", peer, tag, bytes], ...]}                                  in order of time
 *
 * Counted is what the calling rank gives away: the payload of a send or put, its own part of a collective (root's for
 * a broadcast or scatter, 0 for those who only receive).  Get and its like count what they bring.  Collectives have
 * tag -1, and peer is their root or -1; the ranks are those of the call's communicator.  Shared windows count their
 * bytes as "Win_...", to show that they are made, not that bytes travel.  Files and neighbourhood collectives are not
 * counted.  Written when MPI ends or the process does, _exit included.  It knows nothing of the program it counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mpi.h>

typedef struct event {
    const char *call;
    int peer, tag;
    long long bytes;
} event;

typedef struct line {
    const char *call;
    int tag;
    long long messages, bytes, largest;
} line;

typedef struct persistent {
    MPI_Request request;
    event what;
} persistent;

enum { MAX_LINES = 4096, MAX_PERSISTENT = 4096 };
static event *trace;
static size_t n_events, capacity;
static line lines[MAX_LINES];
static size_t n_lines, n_lost; /* lost: there was no memory or room to note it; the file says so */
static persistent kept[MAX_PERSISTENT];
static size_t n_kept;
static int my_rank, n_ranks, is_started, is_written;

static void note(const char *call, int peer, int tag, long long bytes)
{
    if (n_events == capacity) {
        size_t more = capacity == 0 ? 4096 : 2 * capacity;
        event *grown = realloc(trace, more * sizeof *grown);
        if (grown == NULL) {
            n_lost++;
            return;
        }
        trace = grown;
        capacity = more;
    }
    trace[n_events++] = (event){call, peer, tag, bytes};
    size_t i = 0;
    while (i < n_lines && (lines[i].tag != tag || strcmp(lines[i].call, call) != 0))
        i++;
    if (i == MAX_LINES) {
        n_lost++;
        return;
    }
    if (i == n_lines)
        lines[n_lines++] = (line){call, tag, 0, 0, 0};
    lines[i].messages++;
    lines[i].bytes += bytes;
    lines[i].largest = bytes > lines[i].largest ? bytes : lines[i].largest;
}

static void write_out(void)
{
    const char *base = getenv("SOWER_PMPI_OUT");
    char path[4096];
    if (base == NULL || !is_started || is_written)
        return;
    is_written = 1;
    (void)snprintf(path, sizeof path, "%s.%d", base, my_rank);
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return;
    (void)fprintf(f, "{\"rank\": %d, \"size\": %d, \"lost\": %zu, \"calls\": [", my_rank, n_ranks, n_lost);
    for (size_t i = 0; i < n_lines; i++)
        (void)fprintf(f, "%s{\"call\": \"%s\", \"tag\": %d, \"messages\": %lld, \"bytes\": %lld, \"largest\": %lld}",
                      i > 0 ? ", " : "", lines[i].call, lines[i].tag, lines[i].messages, lines[i].bytes,
                      lines[i].largest);
    (void)fprintf(f, "], \"trace\": [");
    for (size_t i = 0; i < n_events; i++)
        (void)fprintf(f, "%s[\"%s\",%d,%d,%lld]", i > 0 ? "," : "", trace[i].call, trace[i].peer, trace[i].tag,
                      trace[i].bytes);
    (void)fprintf(f, "]}\n");
    (void)fclose(f);
}

__attribute__((destructor)) static void at_end(void)
{
    write_out();
}

/* A program that leaves by _exit runs no destructors. */
__attribute__((noreturn)) void _exit(int status)
{
    write_out();
    (void)syscall(SYS_exit_group, status);
    for (;;)
        (void)pause();
}

static long long size_of(long long count, MPI_Datatype type)
{
    int bytes = 0;
    return PMPI_Type_size(type, &bytes) == MPI_SUCCESS ? count * bytes : 0;
}

static int rank_in(MPI_Comm comm)
{
    int rank = -1;
    (void)PMPI_Comm_rank(comm, &rank);
    return rank;
}

static int size_in(MPI_Comm comm)
{
    int size = 0;
    (void)PMPI_Comm_size(comm, &size);
    return size;
}

/* The sum of one count per rank. */
static long long sum_of(const int *counts, MPI_Comm comm)
{
    long long sum = 0;
    for (int i = 0, n = size_in(comm); i < n; i++)
        sum += counts[i];
    return sum;
}

static void start(void)
{
    is_started = 1;
    my_rank = rank_in(MPI_COMM_WORLD);
    n_ranks = size_in(MPI_COMM_WORLD);
}

int MPI_Init(int *argc, char ***argv)
{
    int rc = PMPI_Init(argc, argv);
    start();
    return rc;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    int rc = PMPI_Init_thread(argc, argv, required, provided);
    start();
    return rc;
}

int MPI_Finalize(void)
{
    write_out();
    return PMPI_Finalize();
}

int MPI_Abort(MPI_Comm comm, int code)
{
    write_out();
    return PMPI_Abort(comm, code);
}

/* Each macro defines wrappers of one form; R is `, MPI_Request *request` and A `, request` for the nonblocking twin. */
/* NOLINTBEGIN(readability-function-size): the standard's functions have as many parameters as they have */
/* clang-format off */
#define SEND(name)                                                                                                     \
    int MPI_##name(const void *b, int n, MPI_Datatype t, int to, int tag, MPI_Comm c)                                  \
    { note(#name, to, tag, size_of(n, t)); return PMPI_##name(b, n, t, to, tag, c); }
#define ISEND(name)                                                                                                    \
    int MPI_##name(const void *b, int n, MPI_Datatype t, int to, int tag, MPI_Comm c, MPI_Request *r)                  \
    { note(#name, to, tag, size_of(n, t)); return PMPI_##name(b, n, t, to, tag, c, r); }
#define SEND_INIT(name)                                                                                                \
    int MPI_##name(const void *b, int n, MPI_Datatype t, int to, int tag, MPI_Comm c, MPI_Request *r)                  \
    { int rc = PMPI_##name(b, n, t, to, tag, c, r); keep(*r, (event){#name, to, tag, size_of(n, t)}); return rc; }

static void keep(MPI_Request request, event what)
{
    if (n_kept < MAX_PERSISTENT)
        kept[n_kept++] = (persistent){request, what};
    else
        n_lost++;
}

static void note_started(MPI_Request request)
{
    for (size_t i = n_kept; i-- > 0;)
        if (kept[i].request == request) {
            note(kept[i].what.call, kept[i].what.peer, kept[i].what.tag, kept[i].what.bytes);
            return;
        }
}

SEND(Send) SEND(Bsend) SEND(Ssend) SEND(Rsend)
ISEND(Isend) ISEND(Ibsend) ISEND(Issend) ISEND(Irsend)
SEND_INIT(Send_init) SEND_INIT(Bsend_init) SEND_INIT(Ssend_init) SEND_INIT(Rsend_init)

int MPI_Start(MPI_Request *r)
{ note_started(*r); return PMPI_Start(r); }
int MPI_Startall(int n, MPI_Request r[])
{ for (int i = 0; i < n; i++) note_started(r[i]); return PMPI_Startall(n, r); }

int MPI_Sendrecv(const void *b, int n, MPI_Datatype t, int to, int tag, void *rb, int rn, MPI_Datatype rt, int from,
                 int rtag, MPI_Comm c, MPI_Status *s)
{ note("Sendrecv", to, tag, size_of(n, t)); return PMPI_Sendrecv(b, n, t, to, tag, rb, rn, rt, from, rtag, c, s); }
int MPI_Sendrecv_replace(void *b, int n, MPI_Datatype t, int to, int tag, int from, int rtag, MPI_Comm c, MPI_Status *s)
{ note("Sendrecv_replace", to, tag, size_of(n, t)); return PMPI_Sendrecv_replace(b, n, t, to, tag, from, rtag, c, s); }

#define NONE
#define REQ_P , MPI_Request *r
#define REQ_A , r

int MPI_Barrier(MPI_Comm c)
{ note("Barrier", -1, -1, 0); return PMPI_Barrier(c); }
int MPI_Ibarrier(MPI_Comm c, MPI_Request *r)
{ note("Ibarrier", -1, -1, 0); return PMPI_Ibarrier(c, r); }

#define BCAST(name, P, A)                                                                                              \
    int MPI_##name(void *b, int n, MPI_Datatype t, int root, MPI_Comm c P)                                             \
    { note(#name, root, -1, rank_in(c) == root ? size_of(n, t) : 0); return PMPI_##name(b, n, t, root, c A); }
BCAST(Bcast, NONE, NONE) BCAST(Ibcast, REQ_P, REQ_A)

#define REDUCE(name, P, A)                                                                                             \
    int MPI_##name(const void *b, void *o, int n, MPI_Datatype t, MPI_Op op, int root, MPI_Comm c P)                   \
    { note(#name, root, -1, size_of(n, t)); return PMPI_##name(b, o, n, t, op, root, c A); }
REDUCE(Reduce, NONE, NONE) REDUCE(Ireduce, REQ_P, REQ_A)

#define ALLREDUCE(name, P, A)                                                                                          \
    int MPI_##name(const void *b, void *o, int n, MPI_Datatype t, MPI_Op op, MPI_Comm c P)                             \
    { note(#name, -1, -1, size_of(n, t)); return PMPI_##name(b, o, n, t, op, c A); }
ALLREDUCE(Allreduce, NONE, NONE) ALLREDUCE(Iallreduce, REQ_P, REQ_A)
ALLREDUCE(Scan, NONE, NONE) ALLREDUCE(Iscan, REQ_P, REQ_A)
ALLREDUCE(Exscan, NONE, NONE) ALLREDUCE(Iexscan, REQ_P, REQ_A)

#define REDUCE_SCATTER(name, P, A)                                                                                     \
    int MPI_##name(const void *b, void *o, const int n[], MPI_Datatype t, MPI_Op op, MPI_Comm c P)                     \
    { note(#name, -1, -1, size_of(sum_of(n, c), t)); return PMPI_##name(b, o, n, t, op, c A); }
REDUCE_SCATTER(Reduce_scatter, NONE, NONE) REDUCE_SCATTER(Ireduce_scatter, REQ_P, REQ_A)

#define REDUCE_SCATTER_BLOCK(name, P, A)                                                                               \
    int MPI_##name(const void *b, void *o, int n, MPI_Datatype t, MPI_Op op, MPI_Comm c P)                             \
    { note(#name, -1, -1, size_of((long long)n * size_in(c), t)); return PMPI_##name(b, o, n, t, op, c A); }
REDUCE_SCATTER_BLOCK(Reduce_scatter_block, NONE, NONE) REDUCE_SCATTER_BLOCK(Ireduce_scatter_block, REQ_P, REQ_A)

/* In place, a rank's own part has the size of what each gives to the others. */
#define GATHER(name, P, A)                                                                                             \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, int m, MPI_Datatype u, int root, MPI_Comm c P)       \
    { note(#name, root, -1, rank_in(c) == root ? 0 : size_of(n, t)); return PMPI_##name(b, n, t, o, m, u, root, c A); }
GATHER(Gather, NONE, NONE) GATHER(Igather, REQ_P, REQ_A)

#define GATHERV(name, P, A)                                                                                            \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, const int m[], const int d[], MPI_Datatype u,        \
                   int root, MPI_Comm c P)                                                                             \
    { note(#name, root, -1, rank_in(c) == root ? 0 : size_of(n, t));                                                   \
      return PMPI_##name(b, n, t, o, m, d, u, root, c A); }
GATHERV(Gatherv, NONE, NONE) GATHERV(Igatherv, REQ_P, REQ_A)

#define SCATTER(name, P, A)                                                                                            \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, int m, MPI_Datatype u, int root, MPI_Comm c P)       \
    { note(#name, root, -1, rank_in(c) == root ? size_of((long long)n * size_in(c), t) : 0);                           \
      return PMPI_##name(b, n, t, o, m, u, root, c A); }
SCATTER(Scatter, NONE, NONE) SCATTER(Iscatter, REQ_P, REQ_A)

#define SCATTERV(name, P, A)                                                                                           \
    int MPI_##name(const void *b, const int n[], const int d[], MPI_Datatype t, void *o, int m, MPI_Datatype u,        \
                   int root, MPI_Comm c P)                                                                             \
    { note(#name, root, -1, rank_in(c) == root ? size_of(sum_of(n, c), t) : 0);                                        \
      return PMPI_##name(b, n, d, t, o, m, u, root, c A); }
SCATTERV(Scatterv, NONE, NONE) SCATTERV(Iscatterv, REQ_P, REQ_A)

#define ALLGATHER(name, P, A)                                                                                          \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, int m, MPI_Datatype u, MPI_Comm c P)                 \
    { note(#name, -1, -1, b == MPI_IN_PLACE ? size_of(m, u) : size_of(n, t));                                          \
      return PMPI_##name(b, n, t, o, m, u, c A); }
ALLGATHER(Allgather, NONE, NONE) ALLGATHER(Iallgather, REQ_P, REQ_A)
#define ALLTOALL(name, P, A)                                                                                           \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, int m, MPI_Datatype u, MPI_Comm c P)                 \
    { note(#name, -1, -1, (b == MPI_IN_PLACE ? size_of(m, u) : size_of(n, t)) * size_in(c));                           \
      return PMPI_##name(b, n, t, o, m, u, c A); }
ALLTOALL(Alltoall, NONE, NONE) ALLTOALL(Ialltoall, REQ_P, REQ_A)

#define ALLGATHERV(name, P, A)                                                                                         \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, const int m[], const int d[], MPI_Datatype u,        \
                   MPI_Comm c P)                                                                                       \
    { note(#name, -1, -1, b == MPI_IN_PLACE ? size_of(m[rank_in(c)], u) : size_of(n, t));                              \
      return PMPI_##name(b, n, t, o, m, d, u, c A); }
ALLGATHERV(Allgatherv, NONE, NONE) ALLGATHERV(Iallgatherv, REQ_P, REQ_A)

#define ALLTOALLV(name, P, A)                                                                                          \
    int MPI_##name(const void *b, const int n[], const int d[], MPI_Datatype t, void *o, const int m[], const int e[], \
                   MPI_Datatype u, MPI_Comm c P)                                                                       \
    { note(#name, -1, -1, b == MPI_IN_PLACE ? size_of(sum_of(m, c), u) : size_of(sum_of(n, c), t));                    \
      return PMPI_##name(b, n, d, t, o, m, e, u, c A); }
ALLTOALLV(Alltoallv, NONE, NONE) ALLTOALLV(Ialltoallv, REQ_P, REQ_A)

static long long sum_of_types(const int *n, const MPI_Datatype *t, MPI_Comm c)
{
    long long sum = 0;
    for (int i = 0, size = size_in(c); i < size; i++)
        sum += size_of(n[i], t[i]);
    return sum;
}
#define ALLTOALLW(name, P, A)                                                                                          \
    int MPI_##name(const void *b, const int n[], const int d[], const MPI_Datatype t[], void *o, const int m[],        \
                   const int e[], const MPI_Datatype u[], MPI_Comm c P)                                                \
    { note(#name, -1, -1, b == MPI_IN_PLACE ? sum_of_types(m, u, c) : sum_of_types(n, t, c));                          \
      return PMPI_##name(b, n, d, t, o, m, e, u, c A); }
ALLTOALLW(Alltoallw, NONE, NONE) ALLTOALLW(Ialltoallw, REQ_P, REQ_A)

#define RMA(name, buffer, P, A)                                                                                        \
    int MPI_##name(buffer *b, int n, MPI_Datatype t, int to, MPI_Aint at, int m, MPI_Datatype u, MPI_Win w P)          \
    { note(#name, to, -1, size_of(n, t)); return PMPI_##name(b, n, t, to, at, m, u, w A); }
RMA(Put, const void, NONE, NONE) RMA(Rput, const void, REQ_P, REQ_A)
RMA(Get, void, NONE, NONE) RMA(Rget, void, REQ_P, REQ_A)
#define ACCUMULATE(name, P, A)                                                                                         \
    int MPI_##name(const void *b, int n, MPI_Datatype t, int to, MPI_Aint at, int m, MPI_Datatype u, MPI_Op op,        \
                   MPI_Win w P)                                                                                        \
    { note(#name, to, -1, size_of(n, t)); return PMPI_##name(b, n, t, to, at, m, u, op, w A); }
ACCUMULATE(Accumulate, NONE, NONE) ACCUMULATE(Raccumulate, REQ_P, REQ_A)
#define GET_ACCUMULATE(name, P, A)                                                                                     \
    int MPI_##name(const void *b, int n, MPI_Datatype t, void *o, int k, MPI_Datatype v, int to, MPI_Aint at, int m,   \
                   MPI_Datatype u, MPI_Op op, MPI_Win w P)                                                             \
    { note(#name, to, -1, size_of(n, t) + size_of(k, v)); return PMPI_##name(b, n, t, o, k, v, to, at, m, u, op, w A); }
GET_ACCUMULATE(Get_accumulate, NONE, NONE) GET_ACCUMULATE(Rget_accumulate, REQ_P, REQ_A)

int MPI_Fetch_and_op(const void *b, void *o, MPI_Datatype t, int to, MPI_Aint at, MPI_Op op, MPI_Win w)
{ note("Fetch_and_op", to, -1, 2 * size_of(1, t)); return PMPI_Fetch_and_op(b, o, t, to, at, op, w); }
int MPI_Compare_and_swap(const void *b, const void *x, void *o, MPI_Datatype t, int to, MPI_Aint at, MPI_Win w)
{ note("Compare_and_swap", to, -1, 3 * size_of(1, t)); return PMPI_Compare_and_swap(b, x, o, t, to, at, w); }

int MPI_Win_allocate_shared(MPI_Aint n, int unit, MPI_Info info, MPI_Comm c, void *b, MPI_Win *w)
{ note("Win_allocate_shared", -1, -1, (long long)n); return PMPI_Win_allocate_shared(n, unit, info, c, b, w); }
int MPI_Win_allocate(MPI_Aint n, int unit, MPI_Info info, MPI_Comm c, void *b, MPI_Win *w)
{ note("Win_allocate", -1, -1, (long long)n); return PMPI_Win_allocate(n, unit, info, c, b, w); }
int MPI_Win_create(void *b, MPI_Aint n, int unit, MPI_Info info, MPI_Comm c, MPI_Win *w)
{ note("Win_create", -1, -1, (long long)n); return PMPI_Win_create(b, n, unit, info, c, w); }
/* NOLINTEND(readability-function-size) */
