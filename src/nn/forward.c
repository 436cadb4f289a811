/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass of a Llama-shaped model over rows of tokens, whatever sequences they belong to.
 *
 *     x = embedding[token]
 *     each layer:   q k v = W_qkv norm(x)       all rows at once
 *                   rotate q and k, store k and v in the row's page
 *                   a = attention(q, pages of the row's sequence up to its position)
 *                   x += W_o a
 *                   x += W_down (silu(W_gate norm(x)) * W_up norm(x))
 *     logits = W_head norm(x)                   only rows that want them
 *
 * All keys and values of a layer are stored before the first of its queries is answered, so that rows of a prompt and
 * rows that read a shared beginning may go through together.  In the last layer, rows that want no logits end once K
 * and V are stored.
 *
 * A state whose squares overflow would leave its norm as zeros, and the logits finite and wrong; so the states are
 * checked too, once before the last attention and once at the end.
 *
 * Bits: a row's result depends on the weights and the tokens of its sequence up to it; every kernel works on a row
 * (or a head of a row) by itself, and threads only share out rows, heads and outputs. */
#include "nn_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <math.h>
#include <string.h>

#include <omp.h>

/* Waking the threads costs a few microseconds, which is about this many simple operations. */
static const int64_t worth_waking = 20000;

bool sow_forward_is_worth(const sow_forward *forward, int64_t n, int64_t cost)
{
    return forward->threads > 1 && n > 1 && n * cost >= worth_waking;
}

int64_t sow_row_ld(int64_t n)
{
    n = sow_la_padded(n);
    return n % 1024 == 0 ? n + SOW_PANEL / 2 : n;
}

/* The sizes of a pass's arrays in floats, in the order of the fields from x to logits. */
enum { N_ARRAYS = 8 };

static void array_floats(const sow_shape *shape, int64_t m, int64_t floats[N_ARRAYS])
{
    const int64_t hidden = sow_row_ld(shape->hidden_size), inner = shape->intermediate_size;
    const int64_t q = shape->n_heads * shape->head_dim, kv = shape->n_kv_heads * shape->head_dim;
    const int64_t sizes[N_ARRAYS] = {
        m * hidden,
        m * hidden,
        m * sow_row_ld(sow_la_padded(q) + 2 * sow_la_padded(kv)),
        m * sow_row_ld(q),
        m * hidden,
        m * sow_row_ld(2 * sow_la_padded(inner)),
        m * sow_row_ld(inner),
        (m > 0 ? SOW_LOGIT_ROWS : 0) * sow_row_ld(shape->vocab_size),
    };
    for (int i = 0; i < N_ARRAYS; i++)
        floats[i] = (sizes[i] + 15) / 16 * 16; /* each begins on a 64-byte boundary */
}

int64_t sow_forward_floats(const sow_layout *layout, int64_t max_rows)
{
    int64_t floats[N_ARRAYS], sum = 0;
    array_floats(&layout->shape, max_rows, floats);
    for (int i = 0; i < N_ARRAYS; i++)
        sum += floats[i];
    return sum;
}

sow_code sow_forward_init(sow_forward *forward, sow_la *la, const sow_layout *layout, int64_t max_rows)
{
    const sow_shape *shape = &layout->shape;
    *forward = (sow_forward){
        .la = la,
        .kernels = sow_la_kernels(la),
        .layout = layout,
        .threads = sow_la_threads(la),
        .max_rows = max_rows,
        .q_pad = sow_la_padded(shape->n_heads * shape->head_dim),
        .kv_pad = sow_la_padded(shape->n_kv_heads * shape->head_dim),
        .ff_pad = sow_la_padded(shape->intermediate_size),
        .hidden_ld = sow_row_ld(shape->hidden_size),
        .attended_ld = sow_row_ld(shape->n_heads * shape->head_dim),
        .gate_up_ld = sow_row_ld(2 * sow_la_padded(shape->intermediate_size)),
        .inner_ld = sow_row_ld(shape->intermediate_size),
        .logits_ld = sow_row_ld(shape->vocab_size),
    };
    forward->qkv_ld = sow_row_ld(forward->q_pad + 2 * forward->kv_pad);
    sow_cache_init(&forward->cache, shape);
    SOW_TRY(sow_rope_init(&forward->rope, shape));
    SOW_TRY(SOW_ALLOC(&forward->block, sow_forward_floats(layout, max_rows)));
    float **arrays[N_ARRAYS] = {&forward->x, &forward->normed,  &forward->qkv,   &forward->attended,
                                &forward->y, &forward->gate_up, &forward->inner, &forward->logits};
    int64_t floats[N_ARRAYS];
    array_floats(shape, max_rows, floats);
    float *next = forward->block;
    for (int i = 0; i < N_ARRAYS; i++) {
        *arrays[i] = next;
        next += floats[i];
    }
    return SOW_OK;
}

void sow_forward_fini(sow_forward *forward)
{
    sow_rope_fini(&forward->rope);
    sow_cache_fini(&forward->cache);
    SOW_FREE(&forward->block);
    SOW_FREE(&forward->scores);
    SOW_FREE(&forward->page_bases);
}

sow_code sow_forward_reserve(sow_forward *forward, int64_t n_positions, int64_t n_pages)
{
    n_positions = (n_positions + SOW_PAGE - 1) / SOW_PAGE * SOW_PAGE;
    SOW_TRY(sow_rope_reserve(&forward->rope, n_positions));
    SOW_TRY(sow_cache_reserve(&forward->cache, n_pages));
    if (n_positions <= forward->n_positions)
        return SOW_OK;
    SOW_FREE(&forward->scores);
    SOW_FREE(&forward->page_bases);
    forward->n_positions = 0;
    const sow_shape *shape = &forward->layout->shape;
    const int64_t group = shape->n_heads / shape->n_kv_heads;
    SOW_TRY(SOW_ALLOC(&forward->scores, forward->threads * group * n_positions));
    SOW_TRY(SOW_ALLOC(&forward->page_bases, forward->threads * (n_positions / SOW_PAGE)));
    forward->n_positions = n_positions;
    return SOW_OK;
}

sow_linear_size sow_linear_size_of(const sow_shape *shape, sow_linear linear)
{
    const sow_tensor_kind none = SOW_N_TENSOR_KINDS;
    const int64_t hidden = shape->hidden_size, inner = shape->intermediate_size, vocab = shape->vocab_size;
    const int64_t q = shape->n_heads * shape->head_dim, kv = shape->n_kv_heads * shape->head_dim;
    const sow_tensor_kind head = shape->is_tied ? SOW_TENSOR_EMBED : SOW_TENSOR_LM_HEAD;
    const sow_linear_size sizes[SOW_N_LINEARS] = {
        [SOW_LINEAR_QKV] = {SOW_TENSOR_Q, shape->has_qkv_bias ? SOW_TENSOR_Q_BIAS : none, hidden,
                            sow_la_padded(q) + 2 * sow_la_padded(kv), q + 2 * kv},
        [SOW_LINEAR_O] = {SOW_TENSOR_O, shape->has_o_bias ? SOW_TENSOR_O_BIAS : none, q, sow_la_padded(hidden), hidden},
        [SOW_LINEAR_GATE_UP] = {SOW_TENSOR_GATE, shape->has_mlp_bias ? SOW_TENSOR_GATE_BIAS : none, hidden,
                                2 * sow_la_padded(inner), 2 * inner},
        [SOW_LINEAR_DOWN] = {SOW_TENSOR_DOWN, shape->has_mlp_bias ? SOW_TENSOR_DOWN_BIAS : none, inner,
                             sow_la_padded(hidden), hidden},
        [SOW_LINEAR_HEAD] = {head, none, hidden, sow_la_padded(vocab), vocab},
    };
    return sizes[linear];
}

void sow_forward_linear(sow_forward *forward, const sow_replica *replica, sow_linear linear, int64_t layer, int64_t m,
                        const float *x, float *y)
{
    const sow_linear_size size = sow_linear_size_of(&forward->layout->shape, linear);
    sow_la_linear(forward->la,
                  &(sow_linear_args){
                      .type = sow_replica_type(replica),
                      .m_size = m,
                      .n_size = size.n_pad,
                      .k_size = size.k,
                      .ldx = sow_row_ld(size.k),
                      .ldy = sow_row_ld(size.n_pad),
                      .x = x,
                      .w = sow_replica_find(replica, size.kind, layer),
                      .bias = size.bias == SOW_N_TENSOR_KINDS ? NULL : sow_replica_find(replica, size.bias, layer),
                      .y = y,
                  });
    forward->flops += 2.0 * (double)m * (double)size.k * (double)size.n;
    sow_phase_tick();
}

static void embed_rows(sow_forward *forward, const sow_replica *replica, const sow_row *rows, int64_t m)
{
    const int64_t hidden = forward->layout->shape.hidden_size;
    const void *embedding = sow_replica_find(replica, SOW_TENSOR_EMBED, -1);
    for (int64_t i = 0; i < m; i++)
        sow_la_packed_row(sow_replica_type(replica), hidden, embedding, rows[i].token,
                          forward->x + i * forward->hidden_ld);
}

/* x += y (unless `is_first`), normed = norm(x) by the weights of `kind`. */
static void add_and_norm(sow_forward *forward, const sow_replica *replica, int64_t m, bool is_first,
                         sow_tensor_kind kind, int64_t layer)
{
    const int64_t hidden = forward->layout->shape.hidden_size, pad = forward->hidden_ld;
    const float *w = sow_replica_find(replica, kind, layer);
    const float eps = (float)forward->layout->shape.rms_norm_eps;
    const sow_kernels *kernels = forward->kernels;
#pragma omp parallel for schedule(static) num_threads(forward->threads) if (sow_forward_is_worth(forward, m, hidden))
    for (int64_t i = 0; i < m; i++) {
        if (!is_first)
            kernels->add(hidden, forward->y + i * pad, forward->x + i * pad);
        kernels->rms_norm(hidden, forward->x + i * pad, w, eps, forward->normed + i * pad);
    }
}

/* Norms (if the shape has them) and rotates n_heads heads of a row. */
void sow_forward_turn(const sow_forward *forward, const float *norm, int64_t n_heads, int64_t position, float *heads)
{
    const sow_shape *shape = &forward->layout->shape;
    const int64_t dim = shape->head_dim, half = forward->rope.half;
    for (int64_t h = 0; h < n_heads; h++, heads += dim) {
        if (norm != NULL)
            forward->kernels->rms_norm(dim, heads, norm, (float)shape->rms_norm_eps, heads);
        forward->kernels->rope(dim, forward->rope.cosine + position * half, forward->rope.sine + position * half,
                               heads);
    }
}

/* Beyond this the sum of the squares of a row (at most 2^17 long) may be infinite. */
static const float largest_state = 1e16f;

bool sow_forward_overflows(int64_t n, const float *x)
{
    int is_beyond = 0;
    for (int64_t c = 0; c < n; c++)
        is_beyond |= !(fabsf(x[c]) <= largest_state);
    return is_beyond != 0;
}

/* Turns q and k of every row and stores its k and v. */
static void store_rows(sow_forward *forward, const sow_replica *replica, sow_row *rows, int64_t m, int64_t layer)
{
    const sow_shape *shape = &forward->layout->shape;
    const int64_t stride = forward->qkv_ld, dim = shape->head_dim;
    const float *q_norm = shape->has_qk_norm ? sow_replica_find(replica, SOW_TENSOR_Q_NORM, layer) : NULL;
    const float *k_norm = shape->has_qk_norm ? sow_replica_find(replica, SOW_TENSOR_K_NORM, layer) : NULL;
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(forward->threads) if (sow_forward_is_worth(forward, m, 4 * stride))
    for (int64_t i = 0; i < m; i++) {
        const int64_t position = rows[i].position;
        float *q = forward->qkv + i * stride, *k = q + forward->q_pad, *v = k + forward->kv_pad;
        sow_forward_turn(forward, q_norm, shape->n_heads, position, q);
        sow_forward_turn(forward, k_norm, shape->n_kv_heads, position, k);
        for (int64_t h = 0; h < shape->n_kv_heads; h++) {
            float *base = sow_cache_base(&forward->cache, rows[i].pages[position / SOW_PAGE], layer, h);
            sow_cache_write(&forward->cache, base, position % SOW_PAGE, k + h * dim, v + h * dim);
        }
        if (layer + 1 == shape->n_layers)
            rows[i].is_overflowing = sow_forward_overflows(shape->hidden_size, forward->x + i * forward->hidden_ld);
    }
}

/* `count` heads from `head` on, all of one KV head, of row i. */
static void attend_heads(const sow_forward *forward, const sow_row *row, int64_t i, int64_t layer, int64_t head,
                         int64_t count)
{
    const sow_shape *shape = &forward->layout->shape;
    const int64_t dim = shape->head_dim, stride = forward->qkv_ld;
    const int64_t group = shape->n_heads / shape->n_kv_heads, n = row->position + 1;
    const int64_t thread = omp_get_thread_num();
    const float **bases = forward->page_bases + thread * (forward->n_positions / SOW_PAGE);
    for (int64_t p = 0; p * SOW_PAGE < n; p++)
        bases[p] = sow_cache_base(&forward->cache, row->pages[p], layer, head / group);
    forward->kernels->attention(&(sow_attention_args){
        .n_positions = n,
        .n_queries = count,
        .head_dim = dim,
        .v_offset = SOW_PAGE * dim,
        .scale = (float)(1.0 / sqrt((double)dim)),
        .q = forward->qkv + i * stride + head * dim,
        .pages = bases,
        .scores = forward->scores + thread * group * forward->n_positions,
        .out = forward->attended + i * forward->attended_ld + head * dim,
    });
}

/* Heads of one KV head go together, unless there are too few of such groups to keep the threads busy. */
static void attend_rows(sow_forward *forward, const sow_row *rows, int64_t m, int64_t layer)
{
    const sow_shape *shape = &forward->layout->shape;
    const int64_t n_heads = shape->n_heads, dim = shape->head_dim;
    const bool is_grouped = forward->threads == 1 || m * shape->n_kv_heads >= INT64_C(4) * forward->threads;
    const int64_t count = is_grouped ? n_heads / shape->n_kv_heads : 1, tasks = n_heads / count;
    int64_t n_positions = 0;
    for (int64_t i = 0; i < m; i++)
        n_positions += rows[i].position + 1;
    const int64_t cost = n_positions / m * dim * count / 4; /* in vectors of 4 */
/* Rows of one prompt grow longer: dealt out one by one, each thread gets short and long ones. */
#pragma omp parallel for schedule(static, 1)                                                                           \
    num_threads(forward->threads) if (sow_forward_is_worth(forward, m * tasks, cost))
    for (int64_t j = 0; j < m * tasks; j++)
        attend_heads(forward, &rows[j / tasks], j / tasks, layer, j % tasks * count, count);
    forward->flops += 4.0 * (double)n_positions * (double)dim * (double)n_heads;
    sow_phase_tick();
}

/* Keeps the rows that want logits or must be reported: their entries, x and q move to the front. */
static int64_t keep_wanted(sow_forward *forward, sow_row *rows, int64_t m)
{
    const int64_t stride = forward->qkv_ld, pad = forward->hidden_ld;
    int64_t kept = 0;
    for (int64_t i = 0; i < m; i++) {
        if (!rows[i].wants_logits && !rows[i].is_overflowing)
            continue;
        if (kept < i) {
            rows[kept] = rows[i];
            memcpy(forward->x + kept * pad, forward->x + i * pad, (size_t)pad * sizeof(float));
            memcpy(forward->qkv + kept * stride, forward->qkv + i * stride, (size_t)forward->q_pad * sizeof(float));
        }
        kept++;
    }
    return kept;
}

static void run_gate(sow_forward *forward, int64_t m)
{
    const int64_t n = forward->layout->shape.intermediate_size, pad = forward->ff_pad;
#pragma omp parallel for schedule(static) num_threads(forward->threads) if (sow_forward_is_worth(forward, m, 4 * n))
    for (int64_t i = 0; i < m; i++) {
        const float *gate = forward->gate_up + i * forward->gate_up_ld;
        forward->kernels->swiglu(n, gate, gate + pad, forward->inner + i * forward->inner_ld);
    }
}

/* One layer; `normed` holds the normed input and gets that of the next layer (or of the head).  Returns how many rows
 * go on. */
static int64_t run_layer(sow_forward *forward, const sow_replica *replica, sow_row *rows, int64_t m, int64_t layer)
{
    const bool is_last = layer + 1 == forward->layout->shape.n_layers;
    sow_forward_linear(forward, replica, SOW_LINEAR_QKV, layer, m, forward->normed, forward->qkv);
    store_rows(forward, replica, rows, m, layer);
    if (is_last)
        m = keep_wanted(forward, rows, m);
    if (m == 0)
        return 0;
    attend_rows(forward, rows, m, layer);
    sow_forward_linear(forward, replica, SOW_LINEAR_O, layer, m, forward->attended, forward->y);
    add_and_norm(forward, replica, m, false, SOW_TENSOR_POST_NORM, layer);
    sow_forward_linear(forward, replica, SOW_LINEAR_GATE_UP, layer, m, forward->normed, forward->gate_up);
    run_gate(forward, m);
    sow_forward_linear(forward, replica, SOW_LINEAR_DOWN, layer, m, forward->inner, forward->y);
    add_and_norm(forward, replica, m, false, is_last ? SOW_TENSOR_FINAL_NORM : SOW_TENSOR_INPUT_NORM,
                 is_last ? -1 : layer + 1);
    return m;
}

void sow_forward_run(sow_forward *forward, const sow_replica *replica, sow_row *rows, int64_t *n_rows)
{
    int64_t m = *n_rows;
    const int64_t hidden = forward->layout->shape.hidden_size;
    SOW_ASSERT(m >= 1 && m <= forward->max_rows);
    embed_rows(forward, replica, rows, m);
    add_and_norm(forward, replica, m, true, SOW_TENSOR_INPUT_NORM, 0);
    for (int64_t layer = 0; layer < forward->layout->shape.n_layers; layer++)
        m = run_layer(forward, replica, rows, m, layer);
    for (int64_t i = 0; i < m; i++)
        rows[i].is_overflowing =
            rows[i].is_overflowing || sow_forward_overflows(hidden, forward->x + i * forward->hidden_ld);
    *n_rows = m;
}

void sow_forward_logits(sow_forward *forward, const sow_replica *replica, int64_t first, int64_t n)
{
    SOW_ASSERT(n >= 1 && n <= SOW_LOGIT_ROWS);
    sow_forward_linear(forward, replica, SOW_LINEAR_HEAD, -1, n, forward->normed + first * forward->hidden_ld,
                       forward->logits);
}
