/* SPDX-License-Identifier: Apache-2.0 */
/* attention_isa.c: queries of one KV head over the pages of a cache.  Compiled once per instruction set.
 *
 * A page holds 16 positions: K transposed, V as it is, so that both products load whole vectors.
 *
 *     K page [head_dim][16]     score of position t: one chain over d, lanes are positions
 *     V page [16][head_dim]     out[d]: one chain over ascending positions, lanes are elements of the head
 *
 * Between them: the maximum, exp, the sum in 16 lanes (position mod 16, from position 0 on) and one fixed tree; in the
 * end one division.  Positions of the last page that are not there get the score -inf, so what lies in K does not
 * matter, and V's are not read.  Queries of one KV head share every load; the bits of each are its own. */
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
    const sow_attention_args *args;
    const float *q; /* scaled [queries][head_dim] */
    float *scores;  /* [queries][n_scores] */
    float *out;     /* [queries][head_dim] */
    int64_t n_scores;
} group;

INLINE void score_pages(int64_t queries, int64_t pages, group g, int64_t first)
{
    vec sum[MAX_QUERIES][4][PAGE_VECS];
    const float *k[4];
    const int64_t dim = g.args->head_dim;
    UNROLL for (int64_t p = 0; p < pages; p++)
    {
        k[p] = g.args->pages[first + p];
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
    const int64_t dim = g.args->head_dim, n = g.args->n_positions;
    UNROLL for (int64_t i = 0; i < queries; i++)
    {
        UNROLL for (int64_t v = 0; v < width; v++) sum[i][v] = vec_set(0.0f);
    }
    for (int64_t page = 0; page * SOW_PAGE < n; page++) {
        const float *value = g.args->pages[page] + g.args->v_offset + first;
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

/* Scores become exp(score - max); returns their sum. */
static float soften(int64_t n, int64_t n_scores, float *scores)
{
    float most[SOW_PAGE], lane[SOW_LANES] = {0};
    for (int64_t t = n; t < n_scores; t++)
        scores[t] = -__builtin_inff();
    memcpy(most, scores, sizeof most);
    for (int64_t t = SOW_PAGE; t < n_scores; t += SOW_PAGE)
        for (int64_t i = 0; i < SOW_PAGE; i++)
            most[i] = scores[t + i] > most[i] ? scores[t + i] : most[i];
    for (int i = 1; i < SOW_PAGE; i++)
        most[0] = most[i] > most[0] ? most[i] : most[0];
    const float max = most[0];
    for (int64_t t = 0; t < n_scores; t++)
        scores[t] = exp_f32(scores[t] - max);
    for (int64_t t = 0; t < n_scores; t += SOW_LANES)
        for (int64_t i = 0; i < SOW_LANES; i++)
            lane[i] += scores[t + i];
    return tree_sum(lane);
}

INLINE void attend(int64_t queries, group g)
{
    const int64_t dim = g.args->head_dim, n_pages = g.n_scores / SOW_PAGE;
    float sum[MAX_QUERIES];
    int64_t page = 0, d = 0;
    for (; page + PAGES(queries) <= n_pages; page += PAGES(queries))
        score_pages(queries, PAGES(queries), g, page);
    for (; page < n_pages; page++)
        score_pages(queries, 1, g, page);
    for (int64_t i = 0; i < queries; i++)
        sum[i] = soften(g.args->n_positions, g.n_scores, g.scores + i * g.n_scores);
    for (; d + (int64_t)WIDTH(queries) * VL <= dim; d += (int64_t)WIDTH(queries) * VL)
        weigh_values(queries, WIDTH(queries), g, d, 0);
    for (; d + VL <= dim; d += VL)
        weigh_values(queries, 1, g, d, 0);
    if (d < dim)
        weigh_values(queries, 1, g, d, (int)(dim - d));
    for (int64_t i = 0; i < queries; i++)
        for (d = 0; d < dim; d++)
            g.out[i * dim + d] /= sum[i];
}

#define DEFINE_ATTEND(queries)                                                                                         \
    static void attend_##queries(group g)                                                                              \
    {                                                                                                                  \
        attend(queries, g);                                                                                            \
    }
DEFINE_ATTEND(1)
DEFINE_ATTEND(2)
DEFINE_ATTEND(3)
DEFINE_ATTEND(4)
static void (*const attends[MAX_QUERIES + 1])(group) = {NULL, attend_1, attend_2, attend_3, attend_4};

void ISA_FN(attention)(const sow_attention_args *a)
{
    const int64_t n_queries = a->n_queries > 1 ? a->n_queries : 1, dim = a->head_dim;
    group g = {.args = a,
               .q = a->out,
               .scores = a->scores,
               .out = a->out,
               .n_scores = (a->n_positions + SOW_PAGE - 1) / SOW_PAGE * SOW_PAGE};
    for (int64_t i = 0; i < n_queries * dim; i++)
        a->out[i] = a->q[i] * a->scale; /* out holds the scaled queries until it holds the sums */
    for (int64_t i = 0, count; i < n_queries; i += count) {
        count = n_queries - i < MAX_QUERIES ? n_queries - i : MAX_QUERIES;
        attends[count](g);
        g.q += count * dim, g.out += count * dim, g.scores += count * g.n_scores;
    }
}
