/* SPDX-License-Identifier: Apache-2.0 */
/* attention_back_isa.c: the backward pass of attention.  Compiled once per instruction set.
 *
 * Two walks, so that every output has one writer and one fixed chain, and threads may share out either freely:
 *
 *     dq      of a query row   over the pages that it sees: scores as in the forward pass, dp, dot, ds, sum of ds k
 *     dk, dv  of a page        over the query rows that see it, in order; p and ds of 16 positions are computed again
 *                              from each row's max, sum and dot, which the first walk left (Dao et al. 2022, arXiv
 *                              2205.14135, algorithm 4)
 *
 * No matrix of probabilities is ever stored. */
#include "attention.h"

/* ---- dq ---- */

/* scores hold exp(s - max), dp their gradients: dp becomes ds. */
static float differentiate(int64_t n, int64_t n_scores, float sum, const float *scores, float *dp)
{
    float lane[SOW_LANES] = {0};
    for (int64_t t = n; t < n_scores; t++)
        dp[t] = 0.0f; /* whatever lies behind the last position */
    for (int64_t t = 0; t < n_scores; t += SOW_LANES)
        for (int64_t i = 0; i < SOW_LANES; i++)
            lane[i] = fused(scores[t + i] / sum, dp[t + i], lane[i]);
    const float dot = tree_sum(lane);
    for (int64_t t = 0; t < n_scores; t++)
        dp[t] = scores[t] / sum * (dp[t] - dot);
    return dot;
}

/* g.q are scaled, g.out gets dq, g.scores has room for twice as many. */
INLINE void find_dq(int64_t queries, group g, const float *dy, float scale, sow_attention_stats *stats)
{
    const int64_t page = SOW_PAGE * g.dim;
    group back = g;
    back.keys = 2 * page, back.values = 3 * page;
    back.q = dy;
    back.scores = g.scores + queries * g.n_scores;
    score(queries, g);
    score(queries, back);
    for (int64_t i = 0; i < queries; i++) {
        float *scores = g.scores + i * g.n_scores;
        stats[i].sum = soften(g.n_positions, g.n_scores, scores, &stats[i].max);
        stats[i].dot = differentiate(g.n_positions, g.n_scores, stats[i].sum, scores, back.scores + i * g.n_scores);
    }
    weigh(queries, back);
    for (int64_t i = 0; i < queries * g.dim; i++)
        g.out[i] *= scale;
}

#define DEFINE_DQ(queries)                                                                                             \
    static void dq_##queries(group g, const float *dy, float scale, sow_attention_stats *stats)                        \
    {                                                                                                                  \
        find_dq(queries, g, dy, scale, stats);                                                                         \
    }
DEFINE_DQ(1)
DEFINE_DQ(2)
DEFINE_DQ(3)
DEFINE_DQ(4)
static void (*const dqs[MAX_QUERIES + 1])(group, const float *, float, sow_attention_stats *) = {NULL, dq_1, dq_2, dq_3,
                                                                                                 dq_4};

void ISA_FN(attention_dq)(const sow_attention_dq_args *a)
{
    for (int64_t i = 0; i < a->n_queries * a->head_dim; i++)
        a->q[i] *= a->scale;
    for (int64_t i = 0, count; i < a->n_queries; i += count) {
        count = a->n_queries - i < MAX_QUERIES ? a->n_queries - i : MAX_QUERIES;
        dqs[count]((group){.n_positions = a->n_positions,
                           .dim = a->head_dim,
                           .n_scores = (a->n_positions + SOW_PAGE - 1) / SOW_PAGE * SOW_PAGE,
                           .values = SOW_PAGE * a->head_dim,
                           .pages = a->pages,
                           .q = a->q + i * a->head_dim,
                           .scores = a->scores,
                           .out = a->dq + i * a->head_dim},
                   a->dy + i * a->head_dim, a->scale, a->stats + i);
    }
}

/* ---- dk, dv ---- */

enum {
    BATCH = 32, /* queries whose p and ds are in memory together */
    TILE = REGISTERS / (4 * PAGE_VECS) > 0 ? REGISTERS / (4 * PAGE_VECS) : 1, /* queries: a chain of s and of dp each */
    POSITIONS = REGISTERS >= 32 ? 4 : 2,                                      /* of a tile of sums */
    WIDE = REGISTERS >= 16 ? 4 : 1,                                           /* vectors of it */
};

typedef struct batch {
    int64_t n; /* queries */
    const float *q[BATCH], *dy[BATCH];
    const sow_attention_stats *stats[BATCH];
    int64_t n_visible[BATCH];
    float p[BATCH][SOW_PAGE], ds[BATCH][SOW_PAGE]; /* first s and dp */
} batch;

/* s and dp of queries first .. first + queries - 1. */
INLINE void score_page(int64_t queries, int64_t dim, const float *page, int64_t first, batch *b)
{
    vec s[TILE][PAGE_VECS], dp[TILE][PAGE_VECS];
    const float *keys = page, *values = page + 2 * SOW_PAGE * dim;
    const float *const *q = b->q + first, *const *dy = b->dy + first;
    UNROLL for (int64_t i = 0; i < queries; i++)
    {
        UNROLL for (int64_t v = 0; v < PAGE_VECS; v++) s[i][v] = dp[i][v] = vec_set(0.0f);
    }
    for (int64_t d = 0; d < dim; d++) {
        vec k[PAGE_VECS], value[PAGE_VECS];
        UNROLL for (int64_t v = 0; v < PAGE_VECS; v++)
        {
            k[v] = vec_load(keys + d * SOW_PAGE + v * VL);
            value[v] = vec_load(values + d * SOW_PAGE + v * VL);
        }
        UNROLL for (int64_t i = 0; i < queries; i++)
        {
            vec x = vec_set(q[i][d]), y = vec_set(dy[i][d]);
            UNROLL for (int64_t v = 0; v < PAGE_VECS; v++)
            {
                s[i][v] = vec_fma(x, k[v], s[i][v]);
                dp[i][v] = vec_fma(y, value[v], dp[i][v]);
            }
        }
    }
    UNROLL for (int64_t i = 0; i < queries; i++)
    {
        UNROLL for (int64_t v = 0; v < PAGE_VECS; v++)
        {
            vec_store(b->p[first + i] + v * VL, s[i][v]);
            vec_store(b->ds[first + i] + v * VL, dp[i][v]);
        }
    }
}

/* s and dp become p and ds: the operations of the first walk; positions that a query does not see get zeros. */
static void soften_batch(batch *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        const sow_attention_stats *stats = b->stats[i];
        for (int64_t t = 0; t < SOW_PAGE; t++) {
            const float p = exp_f32(b->p[i][t] - stats->max) / stats->sum;
            const float ds = p * (b->ds[i][t] - stats->dot);
            b->p[i][t] = t < b->n_visible[i] ? p : 0.0f;
            b->ds[i][t] = t < b->n_visible[i] ? ds : 0.0f;
        }
    }
}

/* sums [positions][ld] of `width` vectors (of `tail` lanes if it is not 0): chains over the queries of
 * weights[query][first + t] x[query][d]. */
INLINE void add_tile(int64_t positions, int64_t width, int tail, int64_t n, float (*weights)[SOW_PAGE], int64_t first,
                     const float *const *x, int64_t d, int64_t ld, float *sums)
{
    vec sum[POSITIONS][WIDE], row[WIDE];
    UNROLL for (int64_t t = 0; t < positions; t++)
    {
        UNROLL for (int64_t v = 0; v < width; v++) sum[t][v] =
            tail != 0 ? vec_load_n(sums + t * ld, tail) : vec_load(sums + t * ld + v * VL);
    }
    for (int64_t i = 0; i < n; i++) {
        UNROLL for (int64_t v = 0; v < width; v++) row[v] =
            tail != 0 ? vec_load_n(x[i] + d, tail) : vec_load(x[i] + d + v * VL);
        UNROLL for (int64_t t = 0; t < positions; t++)
        {
            vec w = vec_set(weights[i][first + t]);
            UNROLL for (int64_t v = 0; v < width; v++) sum[t][v] = vec_fma(w, row[v], sum[t][v]);
        }
    }
    UNROLL for (int64_t t = 0; t < positions; t++)
    {
        UNROLL for (int64_t v = 0; v < width; v++)
        {
            if (tail != 0)
                vec_store_n(sums + t * ld, tail, sum[t][v]);
            else
                vec_store(sums + t * ld + v * VL, sum[t][v]);
        }
    }
}

/* `positions` of them from lane `first` on, all elements of the head. */
INLINE void add_positions(int64_t positions, int64_t n, float (*weights)[SOW_PAGE], int64_t first,
                          const float *const *x, int64_t dim, int64_t ld, float *sums)
{
    int64_t d = 0;
    for (; d + WIDE * VL <= dim; d += WIDE * VL)
        add_tile(positions, WIDE, 0, n, weights, first, x, d, ld, sums + d);
    for (; d + VL <= dim; d += VL)
        add_tile(positions, 1, 0, n, weights, first, x, d, ld, sums + d);
    if (d < dim)
        add_tile(positions, 1, (int)(dim - d), n, weights, first, x, d, ld, sums + d);
}

/* sums [end - first][ld] += of a batch's queries, in order. */
static void add_sums(const sow_attention_dkv_args *a, int64_t n, float (*weights)[SOW_PAGE], const float *const *x,
                     float *sums)
{
    int64_t t = a->first;
    for (; t + POSITIONS <= a->end; t += POSITIONS, sums += POSITIONS * a->ld)
        add_positions(POSITIONS, n, weights, t, x, a->head_dim, a->ld, sums);
    for (; t < a->end; t++, sums += a->ld)
        add_positions(1, n, weights, t, x, a->head_dim, a->ld, sums);
}

static void run_batch(const sow_attention_dkv_args *a, batch *b)
{
    int64_t i = 0;
    for (; i + TILE <= b->n; i += TILE)
        score_page(TILE, a->head_dim, a->page, i, b);
    for (; i < b->n; i++)
        score_page(1, a->head_dim, a->page, i, b);
    soften_batch(b);
    add_sums(a, b->n, b->ds, b->q, a->dk);
    add_sums(a, b->n, b->p, b->dy, a->dv);
    b->n = 0;
}

void ISA_FN(attention_dkv)(const sow_attention_dkv_args *a)
{
    batch b;
    b.n = 0;
    for (int64_t r = 0; r < a->n_rows; r++) {
        for (int64_t h = 0; h < a->n_queries; h++) {
            b.q[b.n] = a->q + r * a->ldq + h * a->head_dim;
            b.dy[b.n] = a->dy + r * a->ldo + h * a->head_dim;
            b.stats[b.n] = a->stats + r * a->ld_stats + h;
            b.n_visible[b.n] = a->n_visible + r;
            if (++b.n == BATCH)
                run_batch(a, &b);
        }
    }
    if (b.n > 0)
        run_batch(a, &b);
}
