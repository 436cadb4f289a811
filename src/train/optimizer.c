/* SPDX-License-Identifier: Apache-2.0 */
#include "optimizer_impl.h"
#include "share_impl.h"

#include "sower/alloc.h"
#include "sower/exact.h"
#include "sower/phase.h"
#include "sower/window.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 2048 }; /* elements summed at a time: they stay in the first cache */
_Static_assert(SOW_GRANULE % CHUNK == 0, "a granule is cut into chunks");

typedef struct moment_record {
    sow_hash m, v; /* of the granule's bytes */
} moment_record;

struct sow_optimizer {
    sow_world *world; /* borrowed; NULL: alone */
    sow_la *la;       /* borrowed */
    const sow_layout *layout;
    int64_t block, n_granules;
    int n_nodes;
    share share;               /* of the reduction's blocks; keys are attempts */
    sow_exact *exact;          /* owned; NULL with one node */
    sow_window *windows[2];    /* owned: sums, and the rest */
    void *alone[2];            /* owned: the same without a world */
    int64_t *sums;             /* [node_size][n_elements] */
    int64_t *total;            /* [n_elements]; NULL with one node */
    float *gradient;           /* [n_elements] */
    float *moments[2][2];      /* [m, v][t % 2][n_elements] */
    _Atomic int64_t *made;     /* attempt whose gradient is whole */
    _Atomic int64_t *newest;   /* attempt that a rank of the node has begun */
    _Atomic int64_t *at;       /* [node_size] attempt that a rank is at, SHARE_NOWHERE */
    double *norm2;             /* [n_granules] */
    moment_record *records[2]; /* [t % 2][n_granules] */
    sow_adamw_args args;       /* of the step at work, without pointers */
    int64_t t;                 /* of the step at work */
};

/* Cuts the memory (a static byte: only measures); returns its bytes. */
static size_t place_parts(sow_optimizer *o, char *memory)
{
    size_t at = 0, n = (size_t)o->layout->n_elements, floats = share_round_up(n * sizeof(float));
    size_t records = share_round_up((size_t)o->n_granules * sizeof(moment_record));
    o->gradient = (float *)(void *)(memory + at), at += floats;
    for (int i = 0; i < 4; i++)
        o->moments[i / 2][i % 2] = (float *)(void *)(memory + at), at += floats;
    o->norm2 = (double *)(void *)(memory + at), at += share_round_up((size_t)o->n_granules * sizeof(double));
    for (int i = 0; i < 2; i++)
        o->records[i] = (moment_record *)(void *)(memory + at), at += records;
    o->made = (_Atomic int64_t *)(void *)(memory + at), o->newest = o->made + 1, at += 64;
    o->at = (_Atomic int64_t *)(void *)(memory + at), at += share_round_up((size_t)o->share.node_size * sizeof *o->at);
    share_place(&o->share, memory + at), at += share_bytes(o->share.n_blocks);
    if (o->n_nodes > 1)
        o->total = (int64_t *)(void *)(memory + at), at += share_round_up(n * sizeof(int64_t));
    return at;
}

static void measure(sow_optimizer *o, sow_world *world, const sow_layout *layout, int64_t block)
{
    *o = (sow_optimizer){.world = world, .layout = layout, .block = block};
    o->n_granules = layout->n_elements / SOW_GRANULE;
    o->n_nodes = world == NULL ? 1 : sow_world_n_nodes(world);
    share_init(&o->share, world, (layout->n_elements + block - 1) / block);
}

size_t sow_optimizer_node_bytes(const sow_layout *layout, int64_t block, int n_nodes)
{
    static char nowhere[1];
    sow_optimizer o;
    measure(&o, NULL, layout, block);
    o.n_nodes = n_nodes;
    return place_parts(&o, nowhere);
}

size_t sow_optimizer_rank_bytes(const sow_layout *layout)
{
    return (size_t)layout->n_elements * sizeof(int64_t);
}

static sow_code take_memory(sow_optimizer *o, int which, size_t bytes, const char *what, char **out)
{
    if (o->world != NULL) {
        SOW_TRY(sow_window_create(o->world, bytes, what, &o->windows[which]));
        *out = sow_window_data(o->windows[which]);
        return SOW_OK;
    }
    SOW_TRY(SOW_ALLOC((char **)&o->alone[which], bytes));
    *out = o->alone[which];
    return SOW_OK;
}

sow_code sow_optimizer_create(sow_world *world, sow_la *la, const sow_layout *layout, int64_t block,
                              sow_optimizer **out)
{
    static char nowhere[1];
    sow_optimizer *o = NULL;
    sow_code rc = SOW_OK;
    char *memory = NULL;
    if (world != NULL && sow_world_size(world) > SOW_MAX_RANKS)
        return SOW_FAIL(SOW_ECONF, "%d ranks, expected at most %d where gradients are summed: use threads",
                        sow_world_size(world), (int)SOW_MAX_RANKS);
    SOW_TRY(SOW_ALLOC(&o, 1));
    measure(o, world, layout, block);
    o->la = la;
    size_t sums = (size_t)o->share.node_size * sow_optimizer_rank_bytes(layout);
    SOW_TRY_OR(rc, take_memory(o, 0, sums, "the sums of gradients", &memory));
    o->sums = (int64_t *)(void *)memory;
    SOW_TRY_OR(rc, take_memory(o, 1, place_parts(o, nowhere), "the optimizer", &memory));
    (void)place_parts(o, memory);
    atomic_store(&o->at[o->share.node_index], SHARE_NOWHERE);
    if (o->n_nodes > 1)
        SOW_TRY_OR(rc, sow_exact_create(world, &o->exact));
done:
    if (rc != SOW_OK)
        sow_optimizer_destroy(&o);
    else
        *out = o;
    return rc;
}

void sow_optimizer_destroy(sow_optimizer **optimizer)
{
    sow_optimizer *o = *optimizer;
    if (o == NULL)
        return;
    sow_exact_destroy(&o->exact);
    for (int i = 0; i < 2; i++) {
        sow_window_destroy(&o->windows[i]);
        SOW_FREE(&o->alone[i]);
    }
    SOW_FREE(optimizer);
}

static int64_t *sums_of(sow_optimizer *o, int node_index)
{
    return o->sums + node_index * o->layout->n_elements;
}

int64_t *sow_optimizer_sums(sow_optimizer *o)
{
    return sums_of(o, o->share.node_index);
}

void sow_optimizer_clear(sow_optimizer *o)
{
    int64_t *sums = sow_optimizer_sums(o);
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(o->la))
    for (int64_t i = 0; i < o->n_granules; i++)
        memset(sums + i * SOW_GRANULE, 0, SOW_GRANULE * sizeof *sums);
    sow_phase_tick();
}

/* ---- reduce ---- */

typedef struct reduction {
    sow_optimizer *o;
    const sow_rank_set *ranks;
} reduction;

/* norm2 += the squares of n elements, in order. */
static void add_squares(const float *x, int64_t n, double *norm2)
{
    for (int64_t i = 0; i < n; i++)
        *norm2 += (double)x[i] * (double)x[i];
}

/* Sums of this node's ranks in [first, first + CHUNK) into `to`; not 0 if one overflows. */
static int add_ranks(const reduction *r, int64_t first, int64_t *to)
{
    sow_optimizer *o = r->o;
    int overflows = 0;
    memset(to, 0, CHUNK * sizeof *to);
    for (int i = 0; i < o->share.node_size; i++)
        if (sow_rank_set_has(r->ranks, share_rank(&o->share, i)))
            overflows |= sow_la_kernels(o->la)->add_int64(CHUNK, sums_of(o, i) + first, to);
    return overflows;
}

static int reduce_granule(const reduction *r, int64_t granule)
{
    sow_optimizer *o = r->o;
    int overflows = 0;
    double norm2 = 0;
    for (int64_t i = granule * SOW_GRANULE; i < (granule + 1) * SOW_GRANULE; i += CHUNK) {
        _Alignas(64) int64_t sums[CHUNK];
        overflows |= add_ranks(r, i, o->total != NULL ? o->total + i : sums);
        if (o->total != NULL)
            continue;
        sow_la_kernels(o->la)->from_fixed(CHUNK, sums, o->gradient + i);
        add_squares(o->gradient + i, CHUNK, &norm2);
    }
    o->norm2[granule] = norm2;
    return overflows;
}

static sow_code fail_overflow(void)
{
    return SOW_FAIL(SOW_ENUM, "the sum of the gradients is beyond 32768: the learning rate is too large, or the loss");
}

static sow_code reduce_block(void *context, int64_t block)
{
    const reduction *r = context;
    int64_t first = block * r->o->block / SOW_GRANULE, last = (block + 1) * r->o->block / SOW_GRANULE;
    int overflows = 0;
    last = last < r->o->n_granules ? last : r->o->n_granules;
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(r->o->la)) reduction(| : overflows)
    for (int64_t i = first; i < last; i++)
        overflows |= reduce_granule(r, i);
    return overflows == 0 ? SOW_OK : fail_overflow();
}

static void leave(sow_optimizer *o)
{
    atomic_store(&o->at[o->share.node_index], SHARE_NOWHERE);
}

/* Says that this rank is at an attempt; false: the node is at a later one.  Whoever begins one makes it the newest, and
 * then looks who is at an earlier: one of the two sees the other. */
static bool enter(sow_optimizer *o, int64_t key)
{
    int64_t seen = atomic_load(o->newest);
    atomic_store(&o->at[o->share.node_index], key);
    while (seen < key && !atomic_compare_exchange_weak(o->newest, &seen, key))
        ;
    if (atomic_load(o->newest) <= key)
        return true;
    leave(o);
    return false;
}

sow_code sow_optimizer_reduce(sow_optimizer *o, int64_t key, const sow_rank_set *ranks, bool is_leader)
{
    sow_phase_enter(SOW_PHASE_REDUCE);
    if (!enter(o, key))
        return SOW_OK;
    sow_code rc = share_await(&o->share, o->at, key, is_leader, "it is still at a gradient that was given up");
    if (rc == SOW_OK)
        rc = share_work(&o->share, key, reduce_block, &(reduction){o, ranks});
    leave(o);
    return rc;
}

/* Adds the nodes' totals together, and makes the gradient of the sum. */
static sow_code add_nodes(sow_optimizer *o, int64_t key, const sow_rank_set *leaders)
{
    int members[SOW_MAX_RANKS], n = 0;
    bool overflows = false;
    for (int rank = 0; rank < sow_world_size(o->world); rank++)
        if (sow_rank_set_has(leaders, rank))
            members[n++] = rank;
    SOW_TRY(sow_exact_sum(o->exact, members, n, key, o->total, o->layout->n_elements, &overflows));
    if (overflows)
        return fail_overflow();
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(o->la))
    for (int64_t i = 0; i < o->n_granules; i++) {
        double norm2 = 0;
        sow_la_kernels(o->la)->from_fixed(SOW_GRANULE, o->total + i * SOW_GRANULE, o->gradient + i * SOW_GRANULE);
        add_squares(o->gradient + i * SOW_GRANULE, SOW_GRANULE, &norm2);
        o->norm2[i] = norm2;
    }
    return SOW_OK;
}

sow_code sow_optimizer_complete(sow_optimizer *o, int64_t key, const sow_rank_set *ranks, const sow_rank_set *leaders)
{
    if (!enter(o, key))
        return SOW_FAIL(SOW_ECOMM, "the gradient of attempt %lld was given up while this rank was away",
                        (long long)key);
    sow_code rc = share_complete(&o->share, key, "the sum of gradients", reduce_block, &(reduction){o, ranks});
    if (rc == SOW_OK && o->n_nodes > 1)
        rc = add_nodes(o, key, leaders);
    if (rc == SOW_OK)
        atomic_store(o->made, key);
    leave(o);
    return rc;
}

bool sow_optimizer_has(const sow_optimizer *o, int64_t key)
{
    return atomic_load(o->made) == key;
}

double sow_optimizer_norm(const sow_optimizer *o)
{
    double sum = 0;
    for (int64_t i = 0; i < o->n_granules; i++)
        sum += o->norm2[i];
    return sqrt(sum);
}

/* ---- step ---- */

/* x^n by squaring: the same bits with every libm. */
static double power(double x, int64_t n)
{
    double result = 1;
    for (; n > 0; n /= 2, x *= x)
        if (n % 2 == 1)
            result *= x;
    return result;
}

/* One chunk of a granule; m_out and v_out are elsewhere in a check. */
static void make_chunk(sow_optimizer *o, int64_t at, const float *theta, const float *base, float *out, float *m_out,
                       float *v_out)
{
    sow_adamw_args args = o->args;
    args.n = CHUNK;
    args.gradient = o->gradient + at;
    args.theta = theta;
    args.base = base;
    args.m = o->moments[0][(o->t - 1) % 2] + at;
    args.v = o->moments[1][(o->t - 1) % 2] + at;
    args.theta_out = out;
    args.m_out = m_out;
    args.v_out = v_out;
    sow_la_kernels(o->la)->adamw(&args);
}

static moment_record record_of(const sow_optimizer *o, int64_t granule, int64_t t)
{
    return (moment_record){
        .m = sow_hash_bytes(o->moments[0][t % 2] + granule * SOW_GRANULE, SOW_GRANULE * sizeof(float)),
        .v = sow_hash_bytes(o->moments[1][t % 2] + granule * SOW_GRANULE, SOW_GRANULE * sizeof(float))};
}

static void make_granule(void *context, int64_t granule, const float *theta, const float *base, float *out,
                         bool is_check)
{
    sow_optimizer *o = context;
    float scratch[2][CHUNK];
    for (int64_t i = 0; i < SOW_GRANULE; i += CHUNK) {
        int64_t at = granule * SOW_GRANULE + i;
        make_chunk(o, at, theta + i, base + i, out + i, is_check ? scratch[0] : o->moments[0][o->t % 2] + at,
                   is_check ? scratch[1] : o->moments[1][o->t % 2] + at);
    }
    if (!is_check)
        o->records[o->t % 2][granule] = record_of(o, granule, o->t);
}

void sow_optimizer_step(sow_optimizer *o, const sow_adamw_step *s, sow_step *out)
{
    /* torch.nn.utils.clip_grad_norm_: the factor is at most 1. */
    double norm = sow_optimizer_norm(o), clip = s->clip_norm > 0 ? s->clip_norm / (norm + 1e-6) : 1;
    o->t = s->t;
    o->args = (sow_adamw_args){.clip = (float)(clip < 1 ? clip : 1),
                               .keep = (float)(1 - s->rate * s->weight_decay),
                               .one_minus_beta1 = (float)(1 - s->beta1),
                               .beta2 = (float)s->beta2,
                               .one_minus_beta2 = (float)(1 - s->beta2),
                               .eps = (float)s->eps,
                               .step_size = (float)(s->rate / (1 - power(s->beta1, s->t))),
                               .root_correction = (float)sqrt(1 - power(s->beta2, s->t)),
                               .anchor = s->anchor,
                               .anchor_decay = (float)(s->rate * s->anchor_lambda)};
    *out = (sow_step){.generation = s->t, .make = make_granule, .context = o};
}

sow_hash sow_optimizer_digest(const sow_optimizer *o, int64_t t)
{
    const moment_record *records = o->records[t % 2];
    sow_hash chain = {0};
    for (int64_t i = 0; i < o->n_granules; i++) {
        sow_hash all[3] = {chain, records[i].m, records[i].v};
        chain = sow_hash_bytes(all, sizeof all);
    }
    return chain;
}

float *sow_optimizer_moment(sow_optimizer *o, int which, int64_t t)
{
    return o->moments[which][t % 2];
}

void sow_optimizer_loaded(sow_optimizer *o, int64_t t)
{
#pragma omp parallel for schedule(static) num_threads(sow_la_threads(o->la))
    for (int64_t i = 0; i < o->n_granules; i++)
        o->records[t % 2][i] = record_of(o, i, t);
}
