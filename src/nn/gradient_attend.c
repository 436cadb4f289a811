/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of a pass, both ways.  Pages hold one layer's keys and values and are filled anew for each: from the rows
 * of the pass, or from what an earlier pass stored of a prefix.
 *
 *     page   KV head 0: K [head_dim][16]  V [16][head_dim]  V [head_dim][16]  K [16][head_dim]
 *            KV head 1: ...                                 (the last two for the way back)
 *
 * The way back walks twice: over query rows (dq), then over pages (dk, dv), see attention_back_isa.c.  The chain of a
 * prefix's dk and dv goes over the rows of all sequences of its unit, in order, and then over its own. */
#include "gradient_impl.h"

#include "sower/phase.h"

#include <math.h>
#include <string.h>

#include <omp.h>

static int64_t page_floats(const sow_gradient *g)
{
    const sow_shape *shape = &g->layout->shape;
    return shape->n_kv_heads * 4 * SOW_PAGE * shape->head_dim;
}

static float *page_base(const sow_gradient *g, int64_t page, int64_t head)
{
    return g->page_block + page * page_floats(g) + head * 4 * SOW_PAGE * g->layout->shape.head_dim;
}

/* Keys and values of consecutive positions: [ld] each, [n_kv_heads][head_dim] used. */
typedef struct source {
    const float *k, *v;
    int64_t ld;
} source;

static source source_of(const sow_gradient *g, int64_t layer, const sow_kept *kept, const sow_segment *segment)
{
    const sow_forward *f = &g->forward;
    const int64_t kv = g->layout->shape.n_kv_heads * g->layout->shape.head_dim, stride = f->qkv_ld;
    if (segment->n_rows > 0) {
        const float *k = kept->qkv + segment->first_row * stride + f->q_pad;
        return (source){k, k + f->kv_pad, stride};
    }
    const float *k = g->prefix_kv + layer * g->prefix_room * 2 * kv;
    return (source){k, k + kv, 2 * kv};
}

/* One position of a head: K and V, and for the way back V and K. */
static void put(float *base, int64_t dim, int64_t slot, const float *k, const float *v, bool is_back)
{
    for (int64_t d = 0; d < dim; d++)
        base[d * SOW_PAGE + slot] = k[d];
    memcpy(base + (SOW_PAGE + slot) * dim, v, (size_t)dim * sizeof *v);
    if (is_back)
        put(base + 2 * SOW_PAGE * dim, dim, slot, v, k, false);
}

/* Positions `first` .. `end` - 1 of a source that starts at position `start`, all in one page. */
static void put_positions(const sow_gradient *g, int64_t page, int64_t first, int64_t end, int64_t start, source from,
                          bool is_back)
{
    const int64_t dim = g->layout->shape.head_dim;
    for (int64_t h = 0; h < g->layout->shape.n_kv_heads; h++)
        for (int64_t t = first; t < end; t++) {
            const int64_t at = (t - start) * from.ld + h * dim;
            put(page_base(g, page, h), dim, t % SOW_PAGE, from.k + at, from.v + at, is_back);
        }
}

static void fill_page(const sow_gradient *g, int64_t layer, const sow_kept *kept, int64_t page, bool is_back)
{
    const sow_pass *pass = &g->pass;
    const sow_segment *segment = &pass->segments[pass->page_segments[page]];
    const int64_t begin = (segment->first / SOW_PAGE + page - segment->first_page) * SOW_PAGE;
    const int64_t end = begin + SOW_PAGE < segment->end ? begin + SOW_PAGE : segment->end;
    const int64_t own = begin > segment->first ? begin : segment->first;
    if (begin < own) /* the end of the prefix */
        put_positions(g, page, begin, own, 0, source_of(g, layer, kept, &pass->segments[segment->prefix]), is_back);
    put_positions(g, page, own, end, segment->first, source_of(g, layer, kept, segment), is_back);
}

/* Keeps keys and values of a prefix for later passes. */
static void store_prefix(sow_gradient *g, int64_t layer, const sow_kept *kept)
{
    const int64_t kv = g->layout->shape.n_kv_heads * g->layout->shape.head_dim;
    const sow_segment *prefix = &g->pass.segments[0];
    const source from = source_of(g, layer, kept, prefix);
    float *to = g->prefix_kv + layer * g->prefix_room * 2 * kv;
    for (int64_t t = 0; t < prefix->n_rows; t++, to += 2 * kv) {
        memcpy(to, from.k + t * from.ld, (size_t)kv * sizeof *to);
        memcpy(to + kv, from.v + t * from.ld, (size_t)kv * sizeof *to);
    }
}

void sow_attend_fill(sow_gradient *g, int64_t layer, const sow_kept *kept, bool is_back)
{
    const sow_pass *pass = &g->pass;
    if (pass->stores_prefix)
        store_prefix(g, layer, kept);
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, pass->n_pages, page_floats(g)))
    for (int64_t p = 0; p < pass->n_pages; p++)
        fill_page(g, layer, kept, p, is_back);
    sow_phase_tick();
}

/* The pages that position `position` of a segment sees, for one KV head; the thread's own array. */
static const float *const *list_pages(const sow_gradient *g, const sow_segment *segment, int64_t position, int64_t head)
{
    const float **bases = g->bases + omp_get_thread_num() * (g->positions / SOW_PAGE);
    const int64_t n_shared = segment->first / SOW_PAGE, n = position / SOW_PAGE + 1;
    for (int64_t p = 0; p < n; p++)
        bases[p] = page_base(
            g, p < n_shared ? g->pass.segments[segment->prefix].first_page + p : segment->first_page + p - n_shared,
            head);
    return bases;
}

static float *scores_of_thread(const sow_gradient *g)
{
    const int64_t group = g->layout->shape.n_heads / g->layout->shape.n_kv_heads;
    return g->scores + omp_get_thread_num() * 2 * group * g->positions;
}

static int64_t position_of(const sow_gradient *g, int64_t row)
{
    const sow_segment *segment = &g->pass.segments[g->pass.row_segments[row]];
    return segment->first + row - segment->first_row;
}

/* Positions that the first m rows see, all together: what attention costs. */
static int64_t count_positions(const sow_gradient *g, int64_t m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m; i++)
        n += position_of(g, i) + 1;
    return n;
}

/* Shows life, by the first thread, in a loop that threads share: rows of a long sequence may take seconds. */
static void tick_often(void)
{
    if (omp_get_thread_num() == 0)
        sow_phase_tick();
}

/* The heads of one KV head of one row. */
static void attend_row(const sow_gradient *g, int64_t row, int64_t head, const sow_kept *kept)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t dim = shape->head_dim, group = shape->n_heads / shape->n_kv_heads;
    const int64_t stride = g->forward.qkv_ld, position = position_of(g, row);
    g->kernels->attention(&(sow_attention_args){
        .n_positions = position + 1,
        .head_dim = dim,
        .v_offset = SOW_PAGE * dim,
        .n_queries = group,
        .scale = (float)(1.0 / sqrt((double)dim)),
        .q = kept->qkv + row * stride + head * group * dim,
        .pages = list_pages(g, &g->pass.segments[g->pass.row_segments[row]], position, head),
        .scores = scores_of_thread(g),
        .out = kept->attended + row * g->forward.attended_ld + head * group * dim,
    });
}

void sow_attend(sow_gradient *g, int64_t m, const sow_kept *kept)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t heads = shape->n_kv_heads, n_positions = count_positions(g, m);
    const int64_t cost = n_positions / m * shape->head_dim * shape->n_heads / heads / 4; /* in vectors of 4 */
#pragma omp parallel for schedule(static, 1)                                                                           \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m * heads, cost))
    for (int64_t i = 0; i < m * heads; i++) {
        attend_row(g, i / heads, i % heads, kept);
        tick_often();
    }
    g->forward.flops += 4.0 * (double)n_positions * (double)(shape->head_dim * shape->n_heads);
}

/* ---- the way back ---- */

static sow_attention_stats *stats_of(const sow_gradient *g, int64_t row, int64_t head)
{
    return (sow_attention_stats *)(void *)g->work.stats + row * g->layout->shape.n_heads + head;
}

static void find_dq(const sow_gradient *g, int64_t row, int64_t head, const sow_kept *kept)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t dim = shape->head_dim, group = shape->n_heads / shape->n_kv_heads, first = head * group;
    const int64_t stride = g->forward.qkv_ld, position = position_of(g, row);
    g->kernels->attention_dq(&(sow_attention_dq_args){
        .n_positions = position + 1,
        .head_dim = dim,
        .n_queries = group,
        .scale = (float)(1.0 / sqrt((double)dim)),
        .q = kept->qkv + row * stride + first * dim,
        .dy = g->work.dattended + row * g->forward.attended_ld + first * dim,
        .pages = list_pages(g, &g->pass.segments[g->pass.row_segments[row]], position, head),
        .scores = scores_of_thread(g),
        .dq = g->work.dqkv + row * stride + first * dim,
        .stats = stats_of(g, row, first),
    });
}

/* A page and a KV head of it whose dk and dv are made, and where they go. */
typedef struct target {
    int64_t page, head, begin; /* begin: the page's first position */
    int64_t first, end;        /* positions that count */
    int64_t ld;
    float *dk, *dv;
} target;

/* Adds what rows of a segment do to a target. */
static void add_queries(const sow_gradient *g, const sow_segment *segment, const sow_kept *kept, const target *t)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t dim = shape->head_dim, group = shape->n_heads / shape->n_kv_heads, head = t->head * group;
    const int64_t stride = g->forward.qkv_ld;
    const int64_t position = t->first > segment->first ? t->first : segment->first; /* of the first row that sees it */
    const int64_t row = segment->first_row + position - segment->first;
    g->kernels->attention_dkv(&(sow_attention_dkv_args){
        .head_dim = dim,
        .n_queries = group,
        .n_rows = segment->end - position,
        .first = t->first - t->begin,
        .end = t->end - t->begin,
        .n_visible = position - t->begin + 1,
        .ldq = stride,
        .ldo = g->forward.attended_ld,
        .ld_stats = shape->n_heads,
        .page = page_base(g, t->page, t->head),
        .q = kept->qkv + row * stride + head * dim,
        .dy = g->work.dattended + row * g->forward.attended_ld + head * dim,
        .stats = stats_of(g, row, head),
        .ld = t->ld,
        .dk = t->dk,
        .dv = t->dv,
    });
}

/* Where the gradients of a segment's keys and values are, from its first position on. */
static float *find_dk(const sow_gradient *g, int64_t layer, const sow_segment *segment, int64_t *ld, int64_t *v_offset)
{
    const int64_t kv = g->layout->shape.n_kv_heads * g->layout->shape.head_dim;
    const int64_t stride = g->forward.qkv_ld;
    *ld = segment->n_rows > 0 ? stride : 2 * kv;
    *v_offset = segment->n_rows > 0 ? g->forward.kv_pad : kv;
    return segment->n_rows > 0 ? g->work.dqkv + segment->first_row * stride + g->forward.q_pad
                               : g->prefix_dkv + layer * g->prefix_room * 2 * kv;
}

/* m: rows that have queries. */
static void find_dkv(const sow_gradient *g, int64_t layer, int64_t m, int64_t page, int64_t head, const sow_kept *kept)
{
    const sow_pass *pass = &g->pass;
    const sow_segment *segment = &pass->segments[pass->page_segments[page]];
    const int64_t begin = (segment->first / SOW_PAGE + page - segment->first_page) * SOW_PAGE;
    target t = {.page = page, .head = head, .begin = begin};
    int64_t v_offset = 0;
    t.first = begin > segment->first ? begin : segment->first;
    t.end = begin + SOW_PAGE < segment->end ? begin + SOW_PAGE : segment->end;
    t.dk = find_dk(g, layer, segment, &t.ld, &v_offset);
    t.dk += (t.first - segment->first) * t.ld + head * g->layout->shape.head_dim;
    t.dv = t.dk + v_offset;
    if (segment->sequence < 0) /* sequences of a unit follow its prefix */
        for (const sow_segment *s = segment + 1;
             s < pass->segments + pass->n_segments && s->prefix >= 0 && pass->segments + s->prefix == segment; s++)
            add_queries(g, s, kept, &t);
    if (segment->n_rows > 0 && segment->first_row < m)
        add_queries(g, segment, kept, &t);
}

/* dk and dv of rows start from zero, those of a prefix whose sequences went before from what they left. */
static void start_dkv(sow_gradient *g, int64_t layer)
{
    const int64_t stride = g->forward.qkv_ld;
    const int64_t kv = g->layout->shape.n_kv_heads * g->layout->shape.head_dim;
    memset(g->work.dqkv, 0, (size_t)(g->pass.n_rows * stride) * sizeof(float));
    if (!g->pass.resumes_prefix)
        return;
    const float *from = g->prefix_dkv + layer * g->prefix_room * 2 * kv;
    for (int64_t t = 0; t < g->pass.n_rows; t++, from += 2 * kv) {
        float *to = g->work.dqkv + t * stride + g->forward.q_pad;
        memcpy(to, from, (size_t)kv * sizeof *to);
        memcpy(to + g->forward.kv_pad, from + kv, (size_t)kv * sizeof *to);
    }
}

void sow_attend_back(sow_gradient *g, int64_t layer, int64_t m, const sow_kept *kept)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t heads = shape->n_kv_heads, n_pages = g->pass.n_pages, n_positions = count_positions(g, m);
    const int64_t cost = m == 0 ? 0 : n_positions / m * shape->head_dim * shape->n_heads / heads / 2;
    start_dkv(g, layer);
    if (m == 0)
        return;
#pragma omp parallel for schedule(static, 1)                                                                           \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m * heads, cost))
    for (int64_t i = 0; i < m * heads; i++) {
        find_dq(g, i / heads, i % heads, kept);
        tick_often();
    }
#pragma omp parallel for schedule(dynamic, 1)                                                                          \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m * heads, cost))
    for (int64_t i = 0; i < n_pages * heads; i++) {
        find_dkv(g, layer, m, i / heads, i % heads, kept);
        tick_often();
    }
    g->forward.flops += 14.0 * (double)n_positions * (double)(shape->head_dim * shape->n_heads);
}
