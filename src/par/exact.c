/* SPDX-License-Identifier: Apache-2.0 */
/* Exact sums over nodes by direct exchange of parts.
 *
 * The array is cut into pieces, some of them under way at a time; a piece is cut into one part per member, and a member
 * adds up its own part of everybody:
 *
 *     PART   each member sends part j of its piece to member j        (a reduce-scatter)
 *     SUM    member j sends the sum of the parts j to all members      (an allgather)
 *
 * so that a member sends 2 (p-1)/p of its data, which is the least an allreduce can (Patarasuk and Yuan 2009).
 * Integers are added, so order cannot matter; a sum is carried in 128 bits, so it overflows if and only if the result
 * does not fit.
 *
 * Losing a member.  Every message begins with a header that tells epoch, piece and how it was cut; its tag is the epoch
 * (modulo what MPI allows), kind and slot.  Who is missing is whoever has left a request open.  A rank that gives up
 * sends a header with its verdict under all tags of the epoch to all others, who then give up too; buffers with open
 * requests stay MPI's for ever.  What is left of an epoch that was given up has other tags than the next ones; where
 * tags come round again, its header tells, and it is dropped. */
#include "sower/exact.h"

#include "par_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/phase.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Numbers of a part, of a piece, of all pieces that are under way.  A part stays below the 64 KiB from which on Open
 * MPI 4.1 writes into the receiver's memory over TCP: when the receiver is killed then, the sender waits for a lock of
 * its own in mca_btl_tcp_endpoint_send, for ever.  Much is under way, because on a busy machine each wait may cost a
 * turn of the scheduler. */
enum { PART_LEAST = 1 << 9, PART_MOST = 1 << 12, PIECE_MOST = 1 << 17, UNDER_WAY = 1 << 19 };
enum { BLOCK = 512 /* numbers added at a time */, N_SLOTS = 16 /* at most */ };
enum { PART, SUM, N_KINDS };
enum { FITS, OVERFLOWS, GIVEN_UP }; /* verdicts */
enum { TAGS = N_KINDS * N_SLOTS };  /* of an epoch */

static const double spin_s = 5e-3, rest_s = 2e-4; /* after progress: how long to poll without sleeping */
static const double gone_grace_s = 0.2;           /* for the last messages of a process that is gone */

/* What a message begins with; numbers follow. */
typedef struct header {
    int64_t epoch, piece, n, n_members; /* piece: its index; n: of the whole array */
    int64_t verdict, rank;              /* of whom the sender gave up waiting for, or itself */
    int64_t phase;                      /* the sender's */
} header;
enum { HEADER = sizeof(header) / sizeof(int64_t) };

/* A piece under way.  Messages lie in cells of header and room for the largest part, one per member. */
typedef struct slot {
    int64_t piece;                       /* -1: none */
    bool is_added;                       /* the sum of this rank's parts is on its way */
    int64_t *cells;                      /* owned; MPI's where a request is open */
    int64_t *out[N_KINDS], *in[N_KINDS]; /* into cells: one cell per member; out[SUM]: one */
    MPI_Request *requests;               /* owned: [2][N_KINDS][n_members]: in, out */
    int n_open[2][N_KINDS];
} slot;
enum { IN, OUT };

struct sow_exact {
    sow_world *world;     /* borrowed */
    int64_t n_tag_epochs; /* epochs that differ in their tags */
    int n_members;        /* that the slots are made for; 0: none are */
    int n_slots;          /* that are used */
    slot slots[N_SLOTS];
    int *done; /* owned: [n_members], for MPI_Testsome, as are statuses: MPI_STATUSES_IGNORE warns with MPICH */
    MPI_Status *statuses;
    header *verdict; /* owned, until it is sent: then MPI's */
};

/* One sum. */
typedef struct call {
    sow_exact *e;
    const int *members;
    int n_members, mine; /* this rank's place in members */
    int64_t epoch, n, n_pieces, n_begun, n_ended;
    int64_t *data;
    bool overflows;
    double begun_s, asked_s; /* in own_s of the world */
    double gone_s;           /* since when somebody who is missing is gone; 0: nobody is */
    int culprit;             /* rank that is the reason of a failure */
} call;

static int64_t part_first(int64_t n, int n_members, int index)
{
    const int64_t rest = n % n_members;
    return n / n_members * index + (index < rest ? index : rest);
}

static int64_t part_size(int64_t n, int n_members, int index)
{
    return n / n_members + (index < n % n_members);
}

static int64_t part_most(int n_members)
{
    const int64_t n = PIECE_MOST / n_members;
    return n > PART_MOST ? PART_MOST : n > PART_LEAST ? n : PART_LEAST;
}

static int64_t piece_numbers(int n_members)
{
    return part_most(n_members) * n_members;
}

/* Pieces under way at a time. */
static int slots_for(int n_members)
{
    const int64_t n = UNDER_WAY / piece_numbers(n_members);
    return n > N_SLOTS ? N_SLOTS : n > 2 ? (int)n : 2;
}

/* The last piece is shorter. */
static int64_t piece_size(const call *c, int64_t piece)
{
    const int64_t most = piece_numbers(c->n_members), left = c->n - piece * most;
    return left < most ? left : most;
}

static int64_t cell_size(int n_members)
{
    return HEADER + part_most(n_members);
}

/* Where a member's part of a piece is in the caller's data. */
static int64_t *part_of(const call *c, int64_t piece, int index)
{
    return c->data + piece * piece_numbers(c->n_members) + part_first(piece_size(c, piece), c->n_members, index);
}

static int tag_of(const call *c, int kind, int slot_index)
{
    return (int)(c->epoch % c->e->n_tag_epochs) * TAGS + kind * N_SLOTS + slot_index;
}

static MPI_Request *requests_of(const call *c, const slot *s, int way, int kind)
{
    return s->requests + (way * N_KINDS + kind) * c->n_members;
}

/* ---- room ---- */

static void free_slots(sow_exact *e)
{
    for (int i = 0; i < N_SLOTS; i++) {
        SOW_FREE(&e->slots[i].cells);
        SOW_FREE(&e->slots[i].requests);
    }
    SOW_FREE(&e->statuses);
    SOW_FREE(&e->done);
    e->n_members = 0;
}

static sow_code make_slots(sow_exact *e, int n_members)
{
    const int64_t cell = cell_size(n_members);
    if (e->verdict == NULL)
        SOW_TRY(SOW_ALLOC(&e->verdict, 1));
    if (e->n_members == n_members)
        return SOW_OK;
    free_slots(e);
    SOW_TRY(SOW_ALLOC(&e->done, n_members));
    SOW_TRY(SOW_ALLOC(&e->statuses, n_members));
    e->n_slots = slots_for(n_members);
    for (int i = 0; i < e->n_slots; i++) {
        slot *s = &e->slots[i];
        SOW_TRY(SOW_ALLOC(&s->cells, cell * (3 * (int64_t)n_members + 1)));
        SOW_TRY(SOW_ALLOC(&s->requests, 2 * N_KINDS * (int64_t)n_members));
        for (int r = 0; r < 2 * N_KINDS * n_members; r++)
            s->requests[r] = MPI_REQUEST_NULL;
        s->out[PART] = s->cells;
        s->in[PART] = s->out[PART] + cell * n_members;
        s->in[SUM] = s->in[PART] + cell * n_members;
        s->out[SUM] = s->in[SUM] + cell * n_members;
        s->piece = -1;
    }
    e->n_members = n_members;
    return SOW_OK;
}

/* ---- a piece ---- */

static sow_code post(call *c, slot *s, int way, int kind, int index, int64_t *cell, int64_t n)
{
    sow_world *w = c->e->world;
    MPI_Request *request = requests_of(c, s, way, kind) + index;
    const int to = c->members[index], tag = tag_of(c, kind, (int)(s - c->e->slots));
    if (way == IN) {
        SOW_TRY_MPI(MPI_Irecv(cell, (int)n, MPI_INT64_T, to, tag, w->sums, request));
    } else {
        SOW_TRY_MPI(MPI_Isend(cell, (int)n, MPI_INT64_T, to, tag, w->sums, request));
        w->traffic.messages_sent++;
        w->traffic.bytes_sent += n * (int64_t)sizeof *cell;
    }
    s->n_open[way][kind]++;
    return SOW_OK;
}

static void write_header(const call *c, const slot *s, int64_t verdict, int64_t *cell)
{
    const header h = {.epoch = c->epoch,
                      .piece = s->piece,
                      .n = c->n,
                      .n_members = c->n_members,
                      .verdict = verdict,
                      .rank = c->e->world->rank,
                      .phase = (int64_t)sow_phase_now()};
    memcpy(cell, &h, sizeof h);
}

/* Receives everything of a piece, and sends its parts. */
static sow_code begin_piece(call *c, slot *s)
{
    const int64_t size = piece_size(c, c->n_begun), cell = cell_size(c->n_members);
    s->piece = c->n_begun++;
    s->is_added = false;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int i = 0; i < c->n_members; i++)
            if (i != c->mine)
                SOW_TRY(post(c, s, IN, kind, i, s->in[kind] + cell * i, cell));
    for (int i = 0; i < c->n_members; i++) {
        int64_t *out = s->out[PART] + cell * i;
        const int64_t n = part_size(size, c->n_members, i);
        if (i == c->mine)
            continue;
        write_header(c, s, FITS, out);
        if (n > 0)
            memcpy(out + HEADER, part_of(c, s->piece, i), (size_t)n * sizeof *out);
        SOW_TRY(post(c, s, OUT, PART, i, out, HEADER + n));
    }
    return SOW_OK;
}

/* Numbers first .. first + n - 1 of this rank's part: own[] and those of the others; whether a sum does not fit. */
static bool add_block(const call *c, const slot *s, int64_t first, int64_t n, const int64_t *own, int64_t *out)
{
    const int64_t cell = cell_size(c->n_members);
    uint64_t low[BLOCK];
    int64_t high[BLOCK];
    bool overflows = false;
    for (int64_t k = 0; k < n; k++) {
        low[k] = (uint64_t)own[k];
        high[k] = -(own[k] < 0);
    }
    for (int i = 0; i < c->n_members; i++) {
        const int64_t *part = s->in[PART] + cell * i + HEADER + first;
        for (int64_t k = 0; i != c->mine && k < n; k++) {
            const uint64_t sum = low[k] + (uint64_t)part[k];
            high[k] += (sum < low[k]) - (part[k] < 0);
            low[k] = sum;
        }
    }
    for (int64_t k = 0; k < n; k++) {
        out[k] = (int64_t)low[k];
        overflows |= high[k] != -(out[k] < 0);
    }
    return overflows;
}

/* All parts are here: adds them, and sends the sum. */
static sow_code add_parts(call *c, slot *s)
{
    const int64_t size = piece_size(c, s->piece), n = part_size(size, c->n_members, c->mine);
    int64_t *own = part_of(c, s->piece, c->mine), *sum = s->out[SUM] + HEADER;
    bool overflows = false;
    s->is_added = true;
    for (int64_t first = 0; first < n; first += BLOCK)
        overflows |= add_block(c, s, first, n - first < BLOCK ? n - first : BLOCK, own + first, sum + first);
    if (n > 0)
        memcpy(own, sum, (size_t)n * sizeof *own);
    c->overflows |= overflows;
    write_header(c, s, overflows ? OVERFLOWS : FITS, s->out[SUM]);
    for (int i = 0; i < c->n_members; i++)
        if (i != c->mine)
            SOW_TRY(post(c, s, OUT, SUM, i, s->out[SUM], HEADER + n));
    return SOW_OK;
}

static const char *describe(const sow_world *w, int rank, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "rank %d on %s (phase %s%s)", rank, w->peers[rank].host,
                   sow_phase_name(sow_world_phase_of(w, rank)),
                   sow_world_is_gone(w, rank)     ? ", its process is gone"
                   : !sow_world_is_alive(w, rank) ? ", lost"
                                                  : "");
    return out;
}

/* A message of this epoch from member `index`. */
static sow_code check_header(call *c, const slot *s, int index, const header *h)
{
    sow_world *w = c->e->world;
    char whom[192];
    w->peers[c->members[index]].phase = (int)h->phase;
    if (h->verdict == GIVEN_UP) {
        SOW_ASSERT(h->rank >= 0 && h->rank < w->size);
        c->culprit = (int)h->rank;
        return SOW_FAIL(SOW_ECOMM, "rank %d on %s gave up the sum over nodes for %s", c->members[index],
                        w->peers[c->members[index]].host, describe(w, c->culprit, whom, sizeof whom));
    }
    if (h->piece == s->piece && h->n == c->n && h->n_members == c->n_members)
        return SOW_OK;
    return SOW_FAIL(
        SOW_EARG, "rank %d on %s sums %lld numbers over %lld members (piece %lld), expected %lld over %d (piece %lld)",
        c->members[index], w->peers[c->members[index]].host, (long long)h->n, (long long)h->n_members,
        (long long)h->piece, (long long)c->n, c->n_members, (long long)s->piece);
}

static sow_code take(call *c, slot *s, int kind, int index)
{
    sow_world *w = c->e->world;
    const int64_t size = piece_size(c, s->piece), n = part_size(size, c->n_members, kind == SUM ? index : c->mine);
    const int64_t room = cell_size(c->n_members);
    int64_t *cell = s->in[kind] + room * index;
    header h;
    memcpy(&h, cell, sizeof h);
    if (h.epoch < c->epoch) /* of an epoch that was given up, long ago: tags are used again */
        return post(c, s, IN, kind, index, cell, room);
    if (h.epoch > c->epoch)
        return SOW_FAIL(SOW_ECOMM, "rank %d on %s is at the sum of epoch %lld, expected %lld", c->members[index],
                        w->peers[c->members[index]].host, (long long)h.epoch, (long long)c->epoch);
    SOW_TRY(check_header(c, s, index, &h));
    w->traffic.messages_received++;
    w->traffic.bytes_received += (HEADER + n) * (int64_t)sizeof *cell;
    if (kind != SUM)
        return SOW_OK;
    c->overflows |= h.verdict == OVERFLOWS;
    if (n > 0)
        memcpy(part_of(c, s->piece, index), cell + HEADER, (size_t)n * sizeof *cell);
    return SOW_OK;
}

/* Completes what is complete; *moved if anything was. */
static sow_code advance(call *c, slot *s, bool *moved)
{
    int *done = c->e->done;
    for (int way = 0; way < 2; way++)
        for (int kind = 0; kind < N_KINDS; kind++) {
            int n_done = 0;
            if (s->n_open[way][kind] == 0)
                continue;
            SOW_TRY_MPI(MPI_Testsome(c->n_members, requests_of(c, s, way, kind), &n_done, done, c->e->statuses));
            s->n_open[way][kind] -= n_done;
            *moved = *moved || n_done > 0;
            for (int k = 0; way == IN && k < n_done; k++)
                SOW_TRY(take(c, s, kind, done[k]));
        }
    if (!s->is_added && s->n_open[IN][PART] == 0)
        SOW_TRY(add_parts(c, s));
    if (s->is_added && s->n_open[IN][SUM] == 0 && s->n_open[OUT][PART] == 0 && s->n_open[OUT][SUM] == 0) {
        s->piece = -1;
        c->n_ended++;
        *moved = true;
    }
    return SOW_OK;
}

/* ---- waiting ---- */

static bool is_missing(const call *c, int index)
{
    for (int i = 0; i < c->e->n_slots; i++)
        for (int k = 0; k < 2 * N_KINDS; k++)
            if (c->e->slots[i].requests[k * c->n_members + index] != MPI_REQUEST_NULL)
                return true;
    return false;
}

/* Whether a member that is missing has had its time; *is_gone: its process is not there any more, for which a moment is
 * left. */
static bool is_overdue(call *c, int rank, bool *is_gone)
{
    const sow_world *w = c->e->world;
    const double silent_s = sow_world_silence_s(w, rank), waited_s = w->own_s - c->begun_s;
    if (!sow_world_is_alive(w, rank))
        return true;
    if (!isinf(silent_s))
        return silent_s > w->deadline_s && waited_s > w->deadline_s;
    *is_gone = true;
    if (c->gone_s == 0)
        c->gone_s = sow_clock_now_s();
    return sow_clock_now_s() - c->gone_s > gone_grace_s;
}

/* Looks at those who are missing, in the order of members.  Whoever is not of this host is asked for a sign of life: it
 * pulses to root only. */
static sow_code judge(call *c)
{
    sow_world *w = c->e->world;
    const bool asks = w->own_s - c->asked_s > w->deadline_s / 4;
    bool is_gone = false;
    char whom[192];
    if (asks)
        c->asked_s = w->own_s;
    for (int i = 0; i < c->n_members; i++) {
        const int rank = c->members[i];
        if (i == c->mine || !is_missing(c, i))
            continue;
        if (is_overdue(c, rank, &is_gone)) {
            c->culprit = rank;
            return SOW_FAIL(SOW_ECOMM, "rank %d on %s waited %.1f s at the sum over nodes for %s", w->rank,
                            w->peers[w->rank].host, w->own_s - c->begun_s, describe(w, rank, whom, sizeof whom));
        }
        if (asks && w->peers[rank].slot == NULL)
            SOW_TRY(sow_par_ask(w, rank));
    }
    if (!is_gone)
        c->gone_s = 0;
    return SOW_OK;
}

static sow_code exchange(call *c)
{
    double moved_s = sow_clock_now_s();
    while (c->n_ended < c->n_pieces) {
        bool moved = false;
        for (int i = 0; i < c->e->n_slots; i++) {
            slot *s = &c->e->slots[i];
            if (s->piece < 0 && c->n_begun % c->e->n_slots == i && c->n_begun < c->n_pieces) {
                SOW_TRY(begin_piece(c, s));
                moved = true;
            }
            if (s->piece >= 0)
                SOW_TRY(advance(c, s, &moved));
        }
        SOW_TRY(sow_world_pulse(c->e->world));
        const double now = sow_clock_now_s();
        if (moved) {
            moved_s = now;
        } else if (now - moved_s < spin_s) {
            (void)sched_yield();
        } else {
            SOW_TRY(judge(c));
            sow_clock_sleep_s(rest_s);
        }
    }
    return SOW_OK;
}

/* ---- giving up ---- */

/* Tells the others, under every tag that they may wait at: whoever it is given up for too.  If it is only stopped, it
 * wakes in the middle of the sum, and would wait for ever for members that have gone on and show life. */
static void tell_verdict(const call *c)
{
    const sow_exact *e = c->e;
    const sow_world *w = e->world;
    *e->verdict =
        (header){.epoch = c->epoch, .verdict = GIVEN_UP, .rank = c->culprit, .phase = (int64_t)sow_phase_now()};
    for (int i = 0; i < c->n_members; i++) {
        if (i == c->mine || !sow_world_is_alive(w, c->members[i]) || sow_world_is_gone(w, c->members[i]))
            continue;
        for (int tag = 0; tag < TAGS; tag++) {
            MPI_Request request = MPI_REQUEST_NULL;
            if (MPI_Isend(e->verdict, HEADER, MPI_INT64_T, c->members[i], tag_of(c, 0, 0) + tag, w->sums, &request) ==
                MPI_SUCCESS)
                (void)MPI_Request_free(&request);
        }
    }
}

/* What is open is MPI's for ever.  But receives are taken back: from a member that gave up an epoch before, nothing
 * comes for them, until tags come round again and they would swallow its messages. */
static void abandon(const call *c, slot *s)
{
    if (s->n_open[IN][PART] + s->n_open[IN][SUM] + s->n_open[OUT][PART] + s->n_open[OUT][SUM] == 0)
        return;
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int i = 0; i < c->n_members; i++) {
            MPI_Request *request = requests_of(c, s, IN, kind) + i;
            if (*request != MPI_REQUEST_NULL && MPI_Cancel(request) == MPI_SUCCESS)
                (void)MPI_Request_free(request);
        }
    s->cells = NULL;
    s->requests = NULL;
    memset(s->n_open, 0, sizeof s->n_open);
}

static void give_up(call *c)
{
    sow_exact *e = c->e;
    e->world->has_loss = true; /* MPI_Finalize may hang on what is open */
    if (e->verdict != NULL)
        tell_verdict(c);
    e->verdict = NULL; /* it is MPI's now */
    for (int i = 0; i < N_SLOTS; i++)
        abandon(c, &e->slots[i]);
    free_slots(e);
}

/* ---- public ---- */

sow_code sow_exact_create(sow_world *w, sow_exact **out)
{
    sow_exact *e = NULL;
    int has = 0, *largest = NULL;
    SOW_ASSERT(!w->is_sealed);
    sow_code rc = SOW_ALLOC(&e, 1);
    SOW_TRY_OR(rc, sow_world_agree(w, rc));
    SOW_ASSERT(e != NULL);
    e->world = w;
    e->n_tag_epochs = 1;
    if (w->size > 1 && w->sums == MPI_COMM_NULL) {
        sow_watch watch;
        sow_par_watch_begin(&watch, w, "MPI_Comm_dup", sow_par_watch_limit_s(w));
        const int mpi_rc = MPI_Comm_dup(w->comm, &w->sums);
        sow_par_watch_end(&watch);
        rc = mpi_rc == MPI_SUCCESS ? SOW_OK : sow_par_mpi_failed(mpi_rc, "MPI_Comm_dup", __FILE__, __LINE__);
    }
    if (rc == SOW_OK && w->size > 1 && MPI_Comm_get_attr(w->sums, MPI_TAG_UB, (void *)&largest, &has) == MPI_SUCCESS &&
        has)
        e->n_tag_epochs = ((int64_t)*largest + 1) / TAGS;
    SOW_TRY_OR(rc, sow_world_agree(w, rc));
    *out = e;
    e = NULL;
done:
    SOW_FREE(&e);
    return rc;
}

void sow_exact_destroy(sow_exact **exact)
{
    sow_exact *e = *exact;
    if (e == NULL)
        return;
    free_slots(e);
    SOW_FREE(&e->verdict);
    SOW_FREE(exact);
}

static void check_members(const sow_world *w, const int *members, int n_members, int *mine)
{
    *mine = -1;
    for (int i = 0; i < n_members; i++) {
        SOW_ASSERT(members[i] >= 0 && members[i] < w->size && (i == 0 || members[i] > members[i - 1]));
        if (members[i] == w->rank)
            *mine = i;
    }
    SOW_ASSERT(*mine >= 0);
}

sow_code sow_exact_sum(sow_exact *e, const int *members, int n_members, int64_t epoch, int64_t *data, int64_t n,
                       bool *overflows)
{
    sow_world *w = e->world;
    call c = {.e = e, .members = members, .n_members = n_members, .epoch = epoch, .n = n, .data = data};
    SOW_ASSERT(n >= 0 && epoch >= 0);
    check_members(w, members, n_members, &c.mine);
    *overflows = false;
    if (n_members == 1)
        return SOW_OK;
    SOW_ASSERT(w->is_sealed);
    c.culprit = w->rank;
    c.n_pieces = n > 0 ? (n - 1) / piece_numbers(n_members) + 1 : 1;
    sow_code rc = sow_par_listen(w);
    c.begun_s = c.asked_s = w->own_s;
    if (rc == SOW_OK)
        rc = make_slots(e, n_members);
    if (rc == SOW_OK)
        rc = exchange(&c);
    if (rc != SOW_OK)
        give_up(&c);
    else
        *overflows = c.overflows;
    return rc;
}
