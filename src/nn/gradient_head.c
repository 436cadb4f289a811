/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a pass: the last states of rows with a target become logits, chunk by chunk, and these log-probabilities;
 * the loss says what each token weighs; the logits become their own gradient, and from that come the gradient of the
 * last states and the chains of the output layer.
 *
 *     l = logits (/ temperature)      log p(target) = (l - max) - log(sum exp(l - max))     as sow_engine_logprob
 *     H = log(sum) - (sum of exp(l - max) (l - max)) / sum */
#include "gradient_impl.h"

#include "sower/phase.h"

#include <string.h>

/* The normed last states of all rows with targets, in work.y; SOW_ENUM if a state left the range in which norms work.
 */
static sow_code norm_states(sow_gradient *g)
{
    const sow_pass *pass = &g->pass;
    const sow_shape *shape = &g->layout->shape;
    const int64_t hidden = shape->hidden_size, pad = g->forward.hidden_ld, n = pass->n_wanted;
    const float *states = g->states + shape->n_layers * g->rows * pad;
    const float *w = sow_replica_find(pass->args->replica, SOW_TENSOR_FINAL_NORM, -1);
    int64_t bad = n;
#pragma omp parallel for schedule(static) num_threads(g->forward.threads)                                              \
    reduction(min                                                                                                      \
              : bad) if (sow_forward_is_worth(&g->forward, n, hidden))
    for (int64_t i = 0; i < n; i++) {
        if (sow_forward_overflows(hidden, states + i * pad))
            bad = i < bad ? i : bad;
        g->kernels->rms_norm(hidden, states + i * pad, w, (float)shape->rms_norm_eps, g->work.y + i * pad);
    }
    return bad == n ? SOW_OK : sow_pass_bad_row(pass, bad);
}

/* The target of row first + i: its numbers, its token. */
static bool read_row(sow_gradient *g, int64_t first, int64_t i)
{
    const sow_pass *pass = &g->pass;
    const sow_segment *segment = &pass->segments[pass->row_segments[first + i]];
    const int64_t n = g->layout->shape.vocab_size, index = first + i - segment->first_row;
    float *l = g->logits + i * g->forward.logits_ld;
    sow_head_row *row = &g->head[i];
    if (pass->args->temperature != 1.0)
        for (int64_t j = 0; j < n; j++)
            l[j] /= (float)pass->args->temperature;
    row->target = segment->ids[index + 1];
    if (g->kernels->argmax(n, l, &row->max) < 0 || g->kernels->has_non_finite(n, l) != 0)
        return false;
    row->sum = g->kernels->sum_exp(n, l, row->max);
    g->kernels->log(1, &row->sum, &row->log_sum);
    g->targets[i] =
        (sow_token){.unit = segment->unit,
                    .sequence = segment->sequence,
                    .index = index,
                    .logprob = (l[row->target] - row->max) - row->log_sum,
                    .entropy = pass->args->wants_entropy ? g->kernels->entropy(n, l, row->max, row->sum) : 0.0f};
    return true;
}

static sow_code read_rows(sow_gradient *g, int64_t first, int64_t n)
{
    const int64_t vocab = g->layout->shape.vocab_size;
    int64_t bad = n;
#pragma omp parallel for schedule(static) num_threads(g->forward.threads)                                              \
    reduction(min                                                                                                      \
              : bad) if (sow_forward_is_worth(&g->forward, n, vocab))
    for (int64_t i = 0; i < n; i++)
        if (!read_row(g, first, i))
            bad = i < bad ? i : bad;
    sow_phase_tick();
    return bad == n ? SOW_OK : sow_pass_bad_row(&g->pass, first + bad);
}

/* Logits become their gradients. */
static void differentiate(sow_gradient *g, int64_t n)
{
    const int64_t vocab = g->layout->shape.vocab_size, pad = g->forward.logits_ld;
    const double temperature = g->pass.args->temperature;
    const bool has_entropy = g->pass.args->wants_entropy;
#pragma omp parallel for schedule(static)                                                                              \
    num_threads(g->forward.threads) if (sow_forward_is_worth(&g->forward, n, vocab))
    for (int64_t i = 0; i < n; i++) {
        float *l = g->logits + i * pad;
        g->kernels->softmax_back(&(sow_softmax_back_args){.n = vocab,
                                                          .target = g->head[i].target,
                                                          .max = g->head[i].max,
                                                          .sum = g->head[i].sum,
                                                          .log_sum = g->head[i].log_sum,
                                                          .entropy = g->targets[i].entropy,
                                                          .weight = g->weights[i].logprob,
                                                          .entropy_weight = has_entropy ? g->weights[i].entropy : 0.0f,
                                                          .scale = (float)(1.0 / temperature),
                                                          .logits = l});
        memset(l + vocab, 0, (size_t)(pad - vocab) * sizeof *l);
    }
    sow_phase_tick();
}

/* The output layer's chains over rows first .. first + n - 1, which are rows 0 .. n - 1 of `logits`.  A unit that is
 * whole in the pass but not in the chunk has its chains in memory until its last chunk. */
static sow_code add_chunk(sow_gradient *g, int64_t first, int64_t n)
{
    const sow_pass *pass = &g->pass;
    const sow_shape *shape = &g->layout->shape;
    const sow_tensor *tensor = sow_layout_find(g->layout, shape->is_tied ? SOW_TENSOR_EMBED : SOW_TENSOR_LM_HEAD, -1);
    const sow_product product = {.tensor = tensor,
                                 .per_row = 1,
                                 .ldy = g->forward.logits_ld,
                                 .ldx = g->forward.hidden_ld,
                                 .dy = g->logits,
                                 .x = g->work.y + first * g->forward.hidden_ld,
                                 .ends = sow_sum_ends(g, first)};
    for (int64_t i = 0; i < pass->n_shares; i++) {
        const sow_share *share = &pass->shares[i];
        const int64_t begin = share->first_row > first ? share->first_row : first;
        const int64_t share_end = share->first_row + share->n_rows, end = share_end < first + n ? share_end : first + n;
        if (begin >= end)
            continue;
        const sow_range range = {.unit = share->unit,
                                 .first = {begin - first, 0},
                                 .n = {end - begin, 0},
                                 .is_whole = share->is_whole && end - begin == share->n_rows};
        SOW_TRY(sow_sum_ranges(g, &product, &range, 1));
        if (share->is_whole && !range.is_whole && end == share_end)
            SOW_TRY(sow_sum_end(g, pass->args->sums, tensor, share->unit));
    }
    return SOW_OK;
}

/* From dnormed to dx, and the last norm's chains. */
static sow_code leave(sow_gradient *g)
{
    const sow_pass *pass = &g->pass;
    const sow_shape *shape = &g->layout->shape;
    const int64_t pad = g->forward.hidden_ld, n = pass->n_wanted;
    const float *states = g->states + shape->n_layers * g->rows * pad;
    const float *w = sow_replica_find(pass->args->replica, SOW_TENSOR_FINAL_NORM, -1);
    sow_pass_norm_back(g, n, w, states, g->work.dnormed);
    return sow_sum_products(g,
                            &(sow_product){.tensor = sow_layout_find(g->layout, SOW_TENSOR_FINAL_NORM, -1),
                                           .per_row = 1,
                                           .ldx = pad,
                                           .x = g->work.dnormed},
                            false);
}

/* Rows of the chunk that begins at row `first`: as many as there is room for, but a pair of rows whose product is one
 * (sow_outer_args) is not cut. */
static int64_t chunk_rows(const sow_gradient *g, int64_t first)
{
    const sow_pass *pass = &g->pass;
    const int64_t n = g->head_rows, next = first + n;
    if (pass->n_wanted - first <= n)
        return pass->n_wanted - first;
    return (next - pass->segments[pass->row_segments[next]].first_row) % 2 == 0 ? n : n - 1;
}

sow_code sow_head_run(sow_gradient *g)
{
    const sow_pass *pass = &g->pass;
    const sow_gradient_args *args = pass->args;
    const int64_t pad = g->forward.hidden_ld;
    SOW_TRY(norm_states(g));
    for (int64_t first = 0, n; first < pass->n_wanted; first += n) {
        n = chunk_rows(g, first);
        sow_forward_linear(&g->forward, args->replica, SOW_LINEAR_HEAD, -1, n, g->work.y + first * pad, g->logits);
        SOW_TRY(read_rows(g, first, n));
        SOW_TRY(args->weigh(args->context, g->targets, n, g->weights));
        if (args->sums == NULL)
            continue;
        differentiate(g, n);
        sow_gradient_linear(g, SOW_LINEAR_HEAD, -1, n, g->logits, g->work.dnormed + first * pad);
        SOW_TRY(add_chunk(g, first, n));
    }
    return args->sums == NULL ? SOW_OK : leave(g);
}
