/* SPDX-License-Identifier: Apache-2.0 */
/* Root's side of the star.
 *
 *     pending --serve--> given (to a rank) --accept--> done         A unit is small; a member's units stay together: a
 *     rank that
 *        ^                    |                                     holds a member's weights is given its further
 *        slices, since
 *        +---- silence -------+                                     making the weights costs as much as 140 tokens of
 *        decoding.
 */
#include "sower/queue.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/log.h"
#include "sower/phase.h"

#include <string.h>

enum {
    AHEAD = 2,           /* units a worker may hold: one at work, one waiting */
    HISTORY = 16,        /* earlier rounds whose results late duplicates are compared with */
    MAX_ROOT_WORKS = 64, /* with more ranks root only serves */
    NOBODY = -1
};

enum state { PENDING, GIVEN, DONE };

typedef struct entry {
    sow_unit unit;
    enum state state;
    int owner;       /* rank it was last given to */
    int64_t head;    /* first entry of its group; groups lie together */
    int64_t n_begun; /* of the head: units of the group that are not pending */
} entry;

typedef struct round_results {
    int32_t round;
    int64_t n, capacity;
    sow_result *results; /* owned; of unit id */
    int *from;           /* owned; rank that sent it, NOBODY: none yet */
    int64_t from_capacity;
} round_results;

typedef struct worker {
    int n_held;    /* units given and not answered */
    int32_t group; /* whose weights it holds, as far as root knows */
    int index;     /* among the ranks at work, -1: not at work */
    bool has_group, is_silent;
} worker;

struct sow_queue {
    sow_world *world; /* borrowed, outlives this */
    int tag_unit, size;
    bool is_dynamic;
    int n_working;  /* ranks at work, root included if it works */
    double swept_s; /* when the ranks were last looked after */
    entry *entries; /* owned */
    int64_t capacity, n, n_pending, n_done;
    int64_t n_reissued, n_duplicates;
    sow_queue_prelude prelude; /* NULL: none */
    void *prelude_context;
    worker *workers;               /* owned; by rank, root is 0 */
    round_results rounds[HISTORY]; /* rounds[0]: this one */
};

sow_code sow_queue_create(sow_world *world, int tag_unit, bool is_dynamic, sow_queue **out)
{
    sow_queue *q = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&q, 1));
    *q = (sow_queue){.world = world, .tag_unit = tag_unit, .size = sow_world_size(world), .is_dynamic = is_dynamic};
    for (int i = 0; i < HISTORY; i++)
        q->rounds[i].round = -1;
    SOW_TRY_OR(rc, SOW_ALLOC(&q->workers, q->size));
done:
    if (rc != SOW_OK)
        sow_queue_destroy(&q);
    else
        *out = q;
    return rc;
}

void sow_queue_destroy(sow_queue **queue)
{
    sow_queue *q = *queue;
    if (q == NULL)
        return;
    for (int i = 0; i < HISTORY; i++) {
        SOW_FREE(&q->rounds[i].results);
        SOW_FREE(&q->rounds[i].from);
    }
    SOW_FREE(&q->entries);
    SOW_FREE(&q->workers);
    SOW_FREE(queue);
}

/* The oldest round's memory serves the new one. */
static sow_code turn_rounds(sow_queue *q, int32_t round, int64_t n)
{
    round_results last = q->rounds[HISTORY - 1];
    memmove(q->rounds + 1, q->rounds, (HISTORY - 1) * sizeof *q->rounds);
    last.round = round;
    last.n = n;
    q->rounds[0] = last;
    SOW_TRY(SOW_GROW(&q->rounds[0].results, &q->rounds[0].capacity, n));
    SOW_TRY(SOW_GROW(&q->rounds[0].from, &q->rounds[0].from_capacity, n));
    for (int64_t i = 0; i < n; i++)
        q->rounds[0].from[i] = NOBODY;
    return SOW_OK;
}

bool sow_queue_is_heard(const sow_queue *q, int rank)
{
    return sow_world_is_alive(q->world, rank) && !q->workers[rank].is_silent;
}

static bool root_works(const sow_queue *q)
{
    return q->size <= MAX_ROOT_WORKS;
}

/* Counts the ranks at work and numbers them. */
static void number_ranks(sow_queue *q)
{
    q->n_working = 0;
    for (int r = 0; r < q->size; r++) {
        bool works = r == 0 ? root_works(q) : sow_queue_is_heard(q, r);
        q->workers[r].index = works ? q->n_working++ : -1;
    }
}

sow_code sow_queue_start(sow_queue *q, int32_t round, const sow_unit *units, int64_t n)
{
    SOW_TRY(SOW_GROW(&q->entries, &q->capacity, n));
    SOW_TRY(turn_rounds(q, round, n));
    for (int64_t i = 0; i < n; i++) {
        q->entries[i] = (entry){.unit = units[i], .state = PENDING, .owner = NOBODY};
        q->entries[i].unit.round = round;
        q->entries[i].unit.id = (int32_t)i;
        bool is_head = i == 0 || units[i].group != units[i - 1].group || units[i].job != units[i - 1].job;
        q->entries[i].head = is_head ? i : q->entries[i - 1].head;
    }
    q->n = q->n_pending = n;
    q->n_done = 0;
    for (int r = 0; r < q->size; r++) {
        q->workers[r].n_held = 0;
        q->workers[r].has_group = false;
    }
    number_ranks(q);
    return SOW_OK;
}

/* Under the static schedule unit i belongs to a fixed one of the ranks at work; a rank that leaves passes its units on.
 * */
static bool is_static_owner(const sow_queue *q, int rank, int64_t i)
{
    return i * q->n_working / q->n == q->workers[rank].index;
}

static void set_state(sow_queue *q, entry *e, enum state state)
{
    bool was_pending = e->state == PENDING, is_pending = state == PENDING;
    q->n_pending += is_pending - was_pending;
    q->entries[e->head].n_begun += was_pending - is_pending;
    e->state = state;
}

/* The pending unit that suits a rank best: more of the group it holds, then a group nobody has begun, then any. */
static entry *choose(sow_queue *q, int rank)
{
    entry *fresh = NULL, *any = NULL;
    const worker *w = &q->workers[rank];
    for (int64_t i = 0; i < q->n; i++) {
        entry *e = &q->entries[i];
        if (e->state != PENDING || (!q->is_dynamic && !is_static_owner(q, rank, i)))
            continue;
        if (w->has_group && e->unit.group == w->group)
            return e;
        if (any == NULL)
            any = e;
        if (fresh == NULL && q->entries[e->head].n_begun == 0)
            fresh = e;
    }
    return fresh != NULL ? fresh : any;
}

static void give(sow_queue *q, entry *e, int rank)
{
    worker *w = &q->workers[rank];
    set_state(q, e, GIVEN);
    e->owner = rank;
    w->n_held++;
    w->group = e->unit.group;
    w->has_group = true;
}

static sow_code serve_rank(sow_queue *q, int rank)
{
    worker *w = &q->workers[rank];
    /* One ahead only while there is plenty: at the end a waiting unit would keep another rank idle. */
    int allowed = q->n_pending > 2 * (int64_t)q->n_working ? AHEAD : 1;
    while (q->n_pending > 0 && w->n_held < allowed) {
        entry *e = choose(q, rank);
        if (e == NULL)
            return SOW_OK;
        give(q, e, rank);
        if (q->prelude != NULL)
            SOW_TRY(q->prelude(q->prelude_context, rank, &e->unit));
        SOW_TRY(sow_world_send(q->world, rank, q->tag_unit, &e->unit, sizeof e->unit));
    }
    return SOW_OK;
}

/* Units of a rank that cannot be counted on are pending again. */
static void take_back(sow_queue *q, int rank)
{
    for (int64_t i = 0; i < q->n; i++) {
        if (q->entries[i].state != GIVEN || q->entries[i].owner != rank)
            continue;
        set_state(q, &q->entries[i], PENDING);
        q->n_reissued++;
    }
    q->workers[rank].n_held = 0;
}

static void look_after(sow_queue *q, int rank)
{
    worker *w = &q->workers[rank];
    double silence = sow_world_silence_s(q->world, rank), deadline = sow_world_deadline_s(q->world);
    if (silence > 1e30) { /* infinite: its process is gone */
        sow_world_lose(q->world, rank, "its process is gone");
        take_back(q, rank);
    } else if (silence > deadline && !w->is_silent) {
        sow_log(SOW_LOG_WARN, "rank %d on %s has been silent for %.1f s in phase %s: its work is given to other ranks",
                rank, sow_world_host(q->world, rank), silence, sow_phase_name(sow_world_phase_of(q->world, rank)));
        w->is_silent = true;
        take_back(q, rank);
    } else if (silence <= deadline && w->is_silent) {
        sow_log(SOW_LOG_WARN, "rank %d on %s is heard again", rank, sow_world_host(q->world, rank));
        w->is_silent = false;
    }
}

/* Looking after thousands of ranks is not free, and silence is counted in seconds. */
static sow_code sweep(sow_queue *q)
{
    double now = sow_clock_now_s();
    if (now - q->swept_s < 0.02)
        return SOW_OK;
    q->swept_s = now;
    for (int rank = 1; rank < q->size; rank++)
        if (sow_world_is_alive(q->world, rank))
            look_after(q, rank);
    number_ranks(q);
    if (q->n_working == 0)
        return SOW_FAIL(SOW_ECOMM, "all %d workers are lost or silent", q->size - 1);
    return SOW_OK;
}

sow_code sow_queue_serve(sow_queue *q)
{
    SOW_TRY(sweep(q));
    for (int rank = 1; rank < q->size && q->n_pending > 0; rank++)
        if (q->workers[rank].index >= 0)
            SOW_TRY(serve_rank(q, rank));
    return SOW_OK;
}

bool sow_queue_take(sow_queue *q, sow_unit *out)
{
    entry *e = q->n_pending > 0 && root_works(q) ? choose(q, 0) : NULL;
    if (e == NULL)
        return false;
    give(q, e, 0);
    *out = e->unit;
    return true;
}

int64_t sow_result_correct(const sow_unit *unit, const sow_result *result)
{
    return unit->count > SOW_UNIT_BITS ? (int64_t)result->right : __builtin_popcount(result->right);
}

static bool is_same(const sow_result *a, const sow_result *b)
{
    return a->reward == b->reward && a->right == b->right && a->new_tokens == b->new_tokens &&
           memcmp(a->parts, b->parts, sizeof a->parts) == 0 &&
           memcmp(&a->squares, &b->squares, sizeof a->squares) == 0 && memcmp(&a->kl, &b->kl, sizeof a->kl) == 0;
}

static void finish(sow_queue *q, int from, const sow_result *result)
{
    entry *e = &q->entries[result->id];
    if (e->owner == from && e->state == GIVEN && q->workers[from].n_held > 0)
        q->workers[from].n_held--;
    if (e->state == GIVEN && e->owner != from && q->workers[e->owner].n_held > 0)
        q->workers[e->owner].n_held--; /* it will find its unit done */
    set_state(q, e, DONE);
    q->n_done++;
}

sow_code sow_queue_accept(sow_queue *q, int from, const sow_result *result)
{
    round_results *rounds = NULL;
    for (int i = 0; i < HISTORY; i++)
        if (q->rounds[i].round == result->round)
            rounds = &q->rounds[i];
    if (rounds == NULL)
        return SOW_OK; /* older than we remember */
    if (result->id < 0 || result->id >= rounds->n)
        return SOW_FAIL(SOW_ECOMM, "rank %d answered unit %d, expected 0 to %lld", from, result->id,
                        (long long)rounds->n - 1);
    if (rounds->from[result->id] == NOBODY) {
        rounds->results[result->id] = *result;
        rounds->from[result->id] = from;
        if (rounds == q->rounds)
            finish(q, from, result);
        return SOW_OK;
    }
    if (!is_same(&rounds->results[result->id], result))
        return SOW_FAIL(SOW_EBITS, "round %d, unit %d: rank %d on %s and rank %d on %s computed different rewards",
                        result->round, result->id, rounds->from[result->id],
                        sow_world_host(q->world, rounds->from[result->id]), from, sow_world_host(q->world, from));
    q->n_duplicates++;
    sow_log(SOW_LOG_INFO, "unit %d of round %d came again from rank %d and is equal", result->id, result->round, from);
    return SOW_OK;
}

bool sow_queue_is_done(const sow_queue *q)
{
    return q->n_done == q->n;
}

int64_t sow_queue_n_done(const sow_queue *q)
{
    return q->n_done;
}

const sow_result *sow_queue_results(const sow_queue *q)
{
    return q->rounds[0].results;
}

const int *sow_queue_senders(const sow_queue *q)
{
    return q->rounds[0].from;
}

void sow_queue_set_prelude(sow_queue *q, sow_queue_prelude prelude, void *context)
{
    q->prelude = prelude;
    q->prelude_context = context;
}

int64_t sow_queue_n_reissued(const sow_queue *q)
{
    return q->n_reissued;
}

int64_t sow_queue_n_duplicates(const sow_queue *q)
{
    return q->n_duplicates;
}
