/* SPDX-License-Identifier: Apache-2.0 */
/* One pass: all layers forward, the head, all layers backward.
 *
 *     forward of a layer     x -> normed -> q k v -> attended -> middle = x + W_o attended
 *                            middle -> normed2 -> gate, up -> inner -> next x = middle + W_down inner
 *     backward of a layer    the same in reverse; `dx` is the gradient of the state and gets a summand of each branch
 *
 * The states between layers are kept of all layers; the rest of a layer's activations either too or only of one layer:
 * then the backward pass computes them again, by the same operations.  In the last layer, rows of prefixes end once
 * their keys and values are there. */
#include "gradient_impl.h"

#include "sower/phase.h"

#include <string.h>

sow_code sow_pass_bad_row(const sow_pass *pass, int64_t row)
{
    const sow_segment *segment = &pass->segments[pass->row_segments[row]];
    if (segment->sequence < 0)
        return SOW_FAIL(SOW_ENUM, "unit %lld: the state after token %lld of the prefix is not finite",
                        (long long)segment->unit, (long long)(row - segment->first_row));
    return SOW_FAIL(SOW_ENUM, "unit %lld, sequence %lld: the state or the logits after token %lld are not finite",
                    (long long)segment->unit, (long long)segment->sequence, (long long)(row - segment->first_row));
}

static float *state_of(const sow_gradient *g, int64_t layer)
{
    return g->states + layer * g->rows * g->forward.hidden_ld;
}

static sow_kept *kept_of(const sow_gradient *g, int64_t layer)
{
    return &g->kept[g->n_kept == 1 ? 0 : layer];
}

static const void *weights_of(const sow_gradient *g, sow_tensor_kind kind, int64_t layer)
{
    return sow_replica_find(g->pass.args->replica, kind, layer);
}

/* Rows that attend and go on from a layer. */
static int64_t rows_of(const sow_gradient *g, int64_t layer)
{
    return layer + 1 == g->layout->shape.n_layers ? g->pass.n_wanted : g->pass.n_rows;
}

/* ---- forward ---- */

static void embed_rows(sow_gradient *g)
{
    const int64_t hidden = g->layout->shape.hidden_size;
    const void *embedding = weights_of(g, SOW_TENSOR_EMBED, -1);
    for (int64_t i = 0; i < g->pass.n_rows; i++)
        sow_la_packed_row(g->type, hidden, embedding, g->pass.tokens[i], g->states + i * g->forward.hidden_ld);
}

/* to = from + y (to may be from; y NULL: nothing is added, to is from), normed = norm(to); normed NULL: none. */
static void add_and_norm(sow_gradient *g, int64_t m, const float *from, const float *y, float *to, const float *w,
                         float *normed)
{
    const int64_t hidden = g->layout->shape.hidden_size, pad = g->forward.hidden_ld;
    const float eps = (float)g->layout->shape.rms_norm_eps;
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m, hidden))
    for (int64_t i = 0; i < m; i++) {
        if (y != NULL) {
            memcpy(to + i * pad, from + i * pad, (size_t)hidden * sizeof *to);
            g->kernels->add(hidden, y + i * pad, to + i * pad);
        }
        if (normed != NULL)
            g->kernels->rms_norm(hidden, to + i * pad, w, eps, normed + i * pad);
    }
}

/* Keeps q and k as they are before their norms, then norms and turns them. */
static void turn_rows(sow_gradient *g, int64_t layer, const sow_kept *kept)
{
    const sow_shape *shape = &g->layout->shape;
    const sow_pass *pass = &g->pass;
    const int64_t q = shape->n_heads * shape->head_dim, kv = shape->n_kv_heads * shape->head_dim;
    const int64_t stride = g->forward.qkv_ld;
    const float *q_norm = shape->has_qk_norm ? weights_of(g, SOW_TENSOR_Q_NORM, layer) : NULL;
    const float *k_norm = shape->has_qk_norm ? weights_of(g, SOW_TENSOR_K_NORM, layer) : NULL;
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, pass->n_rows, 4 * stride))
    for (int64_t i = 0; i < pass->n_rows; i++) {
        const sow_segment *segment = &pass->segments[pass->row_segments[i]];
        const int64_t position = segment->first + i - segment->first_row;
        float *row = kept->qkv + i * stride;
        if (shape->has_qk_norm) {
            memcpy(kept->raw + i * (q + kv), row, (size_t)q * sizeof *row);
            memcpy(kept->raw + i * (q + kv) + q, row + g->forward.q_pad, (size_t)kv * sizeof *row);
        }
        sow_forward_turn(&g->forward, q_norm, shape->n_heads, position, row);
        sow_forward_turn(&g->forward, k_norm, shape->n_kv_heads, position, row + g->forward.q_pad);
    }
}

static void run_gate(sow_gradient *g, int64_t m, const sow_kept *kept)
{
    const int64_t n = g->layout->shape.intermediate_size, pad = g->forward.ff_pad;
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m, 4 * n))
    for (int64_t i = 0; i < m; i++) {
        const float *gate = kept->gate_up + i * g->forward.gate_up_ld;
        g->kernels->swiglu(n, gate, gate + pad, kept->inner + i * g->forward.inner_ld);
    }
}

/* Attention of a layer and the first half of its MLP; with is_back the pages hold what the way back needs too. */
static void run_half(sow_gradient *g, int64_t layer, bool is_back)
{
    const sow_replica *replica = g->pass.args->replica;
    const sow_kept *kept = kept_of(g, layer);
    const int64_t m = rows_of(g, layer);
    float *x = state_of(g, layer);
    add_and_norm(g, g->pass.n_rows, x, NULL, x, weights_of(g, SOW_TENSOR_INPUT_NORM, layer), kept->normed);
    sow_forward_linear(&g->forward, replica, SOW_LINEAR_QKV, layer, g->pass.n_rows, kept->normed, kept->qkv);
    turn_rows(g, layer, kept);
    sow_attend_fill(g, layer, kept, is_back);
    if (m == 0)
        return;
    sow_attend(g, m, kept);
    sow_forward_linear(&g->forward, replica, SOW_LINEAR_O, layer, m, kept->attended, g->work.y);
    add_and_norm(g, m, x, g->work.y, kept->middle, weights_of(g, SOW_TENSOR_POST_NORM, layer), kept->normed2);
    sow_forward_linear(&g->forward, replica, SOW_LINEAR_GATE_UP, layer, m, kept->normed2, kept->gate_up);
    run_gate(g, m, kept);
}

static sow_code check_states(const sow_gradient *g, int64_t layer)
{
    for (int64_t i = 0; i < g->pass.n_rows; i++)
        if (sow_forward_overflows(g->layout->shape.hidden_size, state_of(g, layer) + i * g->forward.hidden_ld))
            return sow_pass_bad_row(&g->pass, i);
    return SOW_OK;
}

static sow_code run_forward(sow_gradient *g)
{
    const int64_t n_layers = g->layout->shape.n_layers;
    embed_rows(g);
    for (int64_t layer = 0; layer < n_layers; layer++) {
        const int64_t m = rows_of(g, layer);
        const sow_kept *kept = kept_of(g, layer);
        if (layer + 1 == n_layers)
            SOW_TRY(check_states(g, layer));
        run_half(g, layer, layer + 1 == n_layers);
        if (m == 0)
            return SOW_OK;
        sow_forward_linear(&g->forward, g->pass.args->replica, SOW_LINEAR_DOWN, layer, m, kept->inner, g->work.y);
        add_and_norm(g, m, kept->middle, g->work.y, state_of(g, layer + 1), NULL, NULL);
    }
    return SOW_OK;
}

/* ---- backward ---- */

void sow_pass_norm_back(sow_gradient *g, int64_t m, const float *w, const float *x, float *dnormed)
{
    const int64_t hidden = g->layout->shape.hidden_size, pad = g->forward.hidden_ld;
    const float eps = (float)g->layout->shape.rms_norm_eps;
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m, hidden))
    for (int64_t i = 0; i < m; i++)
        g->kernels->rms_norm_back(hidden, x + i * pad, w, eps, dnormed + i * pad, g->work.dx + i * pad);
    sow_phase_tick();
}

/* What a layer's matrix and its bias, if there is one, get of dy and x.  In the last layer rows of prefixes have keys
 * and values only. */
static sow_code add_matrix(sow_gradient *g, int64_t layer, sow_tensor_kind kind, sow_tensor_kind bias, const float *dy,
                           int64_t ldy, const float *x)
{
    const sow_tensor *matrix = sow_layout_find(g->layout, kind, (int)layer);
    const sow_tensor *vector = sow_layout_find(g->layout, bias, (int)layer);
    const bool with_prefix = rows_of(g, layer) == g->pass.n_rows;
    const bool is_kv = kind == SOW_TENSOR_K || kind == SOW_TENSOR_V;
    SOW_TRY(sow_sum_products(g,
                             &(sow_product){.tensor = matrix,
                                            .per_row = 1,
                                            .ldy = ldy,
                                            .ldx = sow_row_ld(matrix->cols),
                                            .dy = dy,
                                            .x = x,
                                            .ends = sow_sum_ends(g, 0)},
                             with_prefix || is_kv));
    if (vector == NULL)
        return SOW_OK;
    return sow_sum_products(g, &(sow_product){.tensor = vector, .per_row = 1, .ldx = ldy, .x = dy},
                            with_prefix || is_kv);
}

/* A norm of the state: its gradient into dx, its weights' chains. */
static sow_code norm_back(sow_gradient *g, int64_t layer, int64_t m, sow_tensor_kind kind, const float *x)
{
    sow_pass_norm_back(g, m, weights_of(g, kind, layer), x, g->work.dnormed);
    return sow_sum_products(g,
                            &(sow_product){.tensor = sow_layout_find(g->layout, kind, (int)layer),
                                           .per_row = 1,
                                           .ldx = g->forward.hidden_ld,
                                           .x = g->work.dnormed},
                            m == g->pass.n_rows);
}

static sow_code mlp_back(sow_gradient *g, int64_t layer, int64_t m, const sow_kept *kept)
{
    const int64_t n = g->layout->shape.intermediate_size, pad = g->forward.ff_pad, ld = g->forward.gate_up_ld;
    float *gate = kept->gate_up;
    SOW_TRY(add_matrix(g, layer, SOW_TENSOR_DOWN, SOW_TENSOR_DOWN_BIAS, g->work.dx, g->forward.hidden_ld, kept->inner));
    sow_gradient_linear(g, SOW_LINEAR_DOWN, layer, m, g->work.dx, g->work.dinner);
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, m, 4 * n))
    for (int64_t i = 0; i < m; i++)
        g->kernels->swiglu_back(n, g->work.dinner + i * g->forward.inner_ld, gate + i * ld, gate + i * ld + pad);
    SOW_TRY(add_matrix(g, layer, SOW_TENSOR_GATE, SOW_TENSOR_GATE_BIAS, gate, ld, kept->normed2));
    SOW_TRY(add_matrix(g, layer, SOW_TENSOR_UP, SOW_TENSOR_UP_BIAS, gate + pad, ld, kept->normed2));
    sow_gradient_linear(g, SOW_LINEAR_GATE_UP, layer, m, gate, g->work.dnormed);
    return norm_back(g, layer, m, SOW_TENSOR_POST_NORM, kept->middle);
}

/* Heads of a row: from the gradient of what was normed and turned to that of what went in.  products [n_heads
 * head_dim]: what they add to the norm's weights. */
static void turn_back(const sow_gradient *g, const float *norm, int64_t n_heads, int64_t position, const float *raw,
                      float *d, float *products)
{
    const int64_t dim = g->layout->shape.head_dim, half = g->forward.rope.half;
    for (int64_t h = 0; h < n_heads; h++, d += dim) {
        g->kernels->rope_back(dim, g->forward.rope.cosine + position * half, g->forward.rope.sine + position * half, d);
        if (norm == NULL)
            continue;
        memcpy(products + h * dim, d, (size_t)dim * sizeof *d);
        memset(d, 0, (size_t)dim * sizeof *d);
        g->kernels->rms_norm_back(dim, raw + h * dim, norm, (float)g->layout->shape.rms_norm_eps, products + h * dim,
                                  d);
    }
}

/* Of q or k, all rows; and the chains of their norm. */
static sow_code turn_rows_back(sow_gradient *g, int64_t layer, bool is_k, const sow_kept *kept)
{
    const sow_shape *shape = &g->layout->shape;
    const sow_pass *pass = &g->pass;
    const sow_tensor_kind kind = is_k ? SOW_TENSOR_K_NORM : SOW_TENSOR_Q_NORM;
    const int64_t q = shape->n_heads * shape->head_dim, kv = shape->n_kv_heads * shape->head_dim;
    const int64_t stride = g->forward.qkv_ld, heads = is_k ? shape->n_kv_heads : shape->n_heads;
    const float *norm = shape->has_qk_norm ? weights_of(g, kind, layer) : NULL;
    float *products = g->work.dattended; /* which has been used up */
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, pass->n_rows, stride))
    for (int64_t i = 0; i < pass->n_rows; i++) {
        const sow_segment *segment = &pass->segments[pass->row_segments[i]];
        turn_back(g, norm, heads, segment->first + i - segment->first_row,
                  norm == NULL ? NULL : kept->raw + i * (q + kv) + (is_k ? q : 0),
                  g->work.dqkv + i * stride + (is_k ? g->forward.q_pad : 0), products + i * heads * shape->head_dim);
    }
    if (norm == NULL)
        return SOW_OK;
    return sow_sum_products(g,
                            &(sow_product){.tensor = sow_layout_find(g->layout, kind, (int)layer),
                                           .per_row = heads,
                                           .ldx = shape->head_dim,
                                           .x = products},
                            is_k || rows_of(g, layer) == pass->n_rows);
}

static sow_code attention_back(sow_gradient *g, int64_t layer, int64_t m, const sow_kept *kept)
{
    const sow_forward *f = &g->forward;
    const int64_t stride = f->qkv_ld;
    const float *dq = g->work.dqkv, *dk = dq + f->q_pad, *dv = dk + f->kv_pad;
    if (m > 0) {
        SOW_TRY(add_matrix(g, layer, SOW_TENSOR_O, SOW_TENSOR_O_BIAS, g->work.dx, f->hidden_ld, kept->attended));
        sow_gradient_linear(g, SOW_LINEAR_O, layer, m, g->work.dx, g->work.dattended);
    }
    sow_attend_back(g, layer, m, kept);
    SOW_TRY(turn_rows_back(g, layer, false, kept));
    SOW_TRY(turn_rows_back(g, layer, true, kept));
    SOW_TRY(add_matrix(g, layer, SOW_TENSOR_Q, SOW_TENSOR_Q_BIAS, dq, stride, kept->normed));
    SOW_TRY(add_matrix(g, layer, SOW_TENSOR_K, SOW_TENSOR_K_BIAS, dk, stride, kept->normed));
    SOW_TRY(add_matrix(g, layer, SOW_TENSOR_V, SOW_TENSOR_V_BIAS, dv, stride, kept->normed));
    sow_gradient_linear(g, SOW_LINEAR_QKV, layer, g->pass.n_rows, dq, g->work.dnormed);
    return norm_back(g, layer, g->pass.n_rows, SOW_TENSOR_INPUT_NORM, state_of(g, layer));
}

static sow_code run_backward(sow_gradient *g)
{
    const int64_t n_layers = g->layout->shape.n_layers;
    for (int64_t layer = n_layers - 1; layer >= 0; layer--) {
        const sow_kept *kept = kept_of(g, layer);
        const int64_t m = rows_of(g, layer);
        if (layer + 1 < n_layers && g->n_kept == 1)
            run_half(g, layer, true);
        else if (layer + 1 < n_layers)
            sow_attend_fill(g, layer, kept, true);
        if (m > 0)
            SOW_TRY(mlp_back(g, layer, m, kept));
        SOW_TRY(attention_back(g, layer, m, kept));
    }
    return sow_sum_embedding(g);
}

sow_code sow_pass_run(sow_gradient *g)
{
    const int64_t pad = g->forward.hidden_ld;
    if (g->pass.n_rows == 0)
        return SOW_OK;
    SOW_TRY(run_forward(g));
    if (g->pass.is_forward_only)
        return SOW_OK;
    memset(g->work.dx, 0, (size_t)(g->pass.n_rows * pad) * sizeof(float));
    if (g->pass.n_wanted > 0)
        SOW_TRY(sow_head_run(g));
    return g->pass.args->sums == NULL ? SOW_OK : run_backward(g);
}
