/* SPDX-License-Identifier: Apache-2.0 */
/* attention.h: what the forward and the backward pass of attention share, so that both have the same bits: scores of
 * queries over pages, weighted sums over positions, softmax.  Included by sources compiled per instruction set. */
#ifndef SOWER_LA_ATTENTION_H
#define SOWER_LA_ATTENTION_H

#include "isa.h"

enum {
    PAGE_VECS = SOW_PAGE / VL,
    MAX_QUERIES = 4, /* that go through the pages together */
    CHAINS = REGISTERS / 2 + REGISTERS / 8,
};
/* Pages and vectors of a head that `queries` chains each may use at once. */
#define PAGES(queries) ((queries)*4 * PAGE_VECS <= CHAINS ? 4 : (queries)*2 * PAGE_VECS <= CHAINS ? 2 : 1)
#define WIDTH(queries) ((queries)*8 <= CHAINS ? 8 : (queries)*4 <= CHAINS ? 4 : 2)

typedef struct group {
    int64_t n_positions, dim;
    int64_t n_scores;     /* n_positions rounded up to 16 */
    int64_t keys, values; /* where they lie in a page: [dim][16], [16][dim] */
    const float *const *pages;
    const float *q; /* scaled [queries][dim] */
    float *scores;  /* [queries][n_scores] */
    float *out;     /* [queries][dim] */
} group;

INLINE void score_pages(int64_t queries, int64_t pages, group g, int64_t first)
{
    vec sum[MAX_QUERIES][4][PAGE_VECS];
    const float *k[4];
    const int64_t dim = g.dim;
    UNROLL for (int64_t p = 0; p < pages; p++)
    {
        k[p] = g.pages[first + p] + g.keys;
        UNROLL for (int64_t i = 0; i < queries; i++)
        {
            UNROLL for (int64_t v = 0; v < PAGE_VECS; v++) sum[i][p][v] = vec_set(0.0f);
        }
    }
    for (int64_t d = 0; d < dim; d++) {
        vec q[MAX_QUERIES];
        UNROLL for (int64_t i = 0; i < queries; i++) q[i] = vec_set(g.q[i * dim + d]);
        UNROLL for (int64_t p = 0; p < pages; p++)
        {
            UNROLL for (int64_t v = 0; v < PAGE_VECS; v++)
            {
                vec key = vec_load(k[p] + d * SOW_PAGE + v * VL);
                UNROLL for (int64_t i = 0; i < queries; i++) sum[i][p][v] = vec_fma(q[i], key, sum[i][p][v]);
            }
        }
    }
    UNROLL for (int64_t i = 0; i < queries; i++)
    {
        float *to = g.scores + i * g.n_scores + first * SOW_PAGE;
        UNROLL for (int64_t p = 0; p < pages; p++)
        {
            UNROLL for (int64_t v = 0; v < PAGE_VECS; v++) vec_store(to + p * SOW_PAGE + v * VL, sum[i][p][v]);
        }
    }
}

/* Elements first .. first + width * VL - 1 of the head; if `tail` is not 0, only so many of one vector. */
INLINE void weigh_values(int64_t queries, int64_t width, group g, int64_t first, int tail)
{
    vec sum[MAX_QUERIES][8];
    const int64_t dim = g.dim, n = g.n_positions;
    UNROLL for (int64_t i = 0; i < queries; i++)
    {
        UNROLL for (int64_t v = 0; v < width; v++) sum[i][v] = vec_set(0.0f);
    }
    for (int64_t page = 0; page * SOW_PAGE < n; page++) {
        const float *value = g.pages[page] + g.values + first;
        const float *weight = g.scores + page * SOW_PAGE;
        const int64_t count = n - page * SOW_PAGE < SOW_PAGE ? n - page * SOW_PAGE : SOW_PAGE;
        for (int64_t t = 0; t < count; t++, value += dim) {
            vec row[8];
            UNROLL for (int64_t v = 0; v < width; v++) row[v] =
                tail != 0 ? vec_load_n(value, tail) : vec_load(value + v * VL);
            UNROLL for (int64_t i = 0; i < queries; i++)
            {
                vec w = vec_set(weight[i * g.n_scores + t]);
                UNROLL for (int64_t v = 0; v < width; v++) sum[i][v] = vec_fma(w, row[v], sum[i][v]);
            }
        }
    }
    UNROLL for (int64_t i = 0; i < queries; i++)
    {
        UNROLL for (int64_t v = 0; v < width; v++)
        {
            if (tail != 0)
                vec_store_n(g.out + i * dim + first, tail, sum[i][v]);
            else
                vec_store(g.out + i * dim + first + v * VL, sum[i][v]);
        }
    }
}

/* Scores of all positions. */
INLINE void score(int64_t queries, group g)
{
    const int64_t n_pages = g.n_scores / SOW_PAGE;
    int64_t page = 0;
    for (; page + PAGES(queries) <= n_pages; page += PAGES(queries))
        score_pages(queries, PAGES(queries), g, page);
    if (PAGES(queries) > 2 && page + 2 <= n_pages) {
        score_pages(queries, 2, g, page);
        page += 2;
    }
    for (; page < n_pages; page++)
        score_pages(queries, 1, g, page);
}

/* Sums of all elements of the head. */
INLINE void weigh(int64_t queries, group g)
{
    int64_t d = 0;
    for (; d + (int64_t)WIDTH(queries) * VL <= g.dim; d += (int64_t)WIDTH(queries) * VL)
        weigh_values(queries, WIDTH(queries), g, d, 0);
    for (; d + VL <= g.dim; d += VL)
        weigh_values(queries, 1, g, d, 0);
    if (d < g.dim)
        weigh_values(queries, 1, g, d, (int)(g.dim - d));
}

/* Scores become exp(score - max); returns their sum. */
INLINE float soften(int64_t n, int64_t n_scores, float *scores, float *out_max)
{
    float most[SOW_PAGE], lane[SOW_LANES] = {0};
    for (int64_t t = n; t < n_scores; t++)
        scores[t] = -__builtin_inff();
    memcpy(most, scores, sizeof most);
    for (int64_t t = SOW_PAGE; t < n_scores; t += SOW_PAGE)
        for (int64_t i = 0; i < SOW_PAGE; i++)
            most[i] = scores[t + i] > most[i] ? scores[t + i] : most[i];
    for (int width = SOW_PAGE / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            most[i] = most[i + width] > most[i] ? most[i + width] : most[i];
    const float max = most[0];
    *out_max = max;
    for (int64_t t = 0; t < n_scores; t++)
        scores[t] = exp_f32(scores[t] - max);
    for (int64_t t = 0; t < n_scores; t += SOW_LANES)
        for (int64_t i = 0; i < SOW_LANES; i++)
            lane[i] += scores[t + i];
    return tree_sum(lane);
}

#endif
