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
#include "attention.h"

INLINE void attend(int64_t queries, group g)
{
    float sum[MAX_QUERIES], max;
    score(queries, g);
    for (int64_t i = 0; i < queries; i++)
        sum[i] = soften(g.n_positions, g.n_scores, g.scores + i * g.n_scores, &max);
    weigh(queries, g);
    for (int64_t i = 0; i < queries; i++)
        for (int64_t d = 0; d < g.dim; d++)
            g.out[i * g.dim + d] /= sum[i];
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
    group g = {.n_positions = a->n_positions,
               .dim = dim,
               .values = a->v_offset,
               .pages = a->pages,
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
