/* SPDX-License-Identifier: Apache-2.0 */
/* The object: memory, transposed weights, a run over units.
 *
 * The transposed weights are packed like a replica's, so that dx = dy W is the ordinary linear layer:
 *
 *     layer 0: QKV O GATE_UP DOWN | layer 1: ... | HEAD           [inputs, padded][outputs, each tensor padded]
 *
 * Memory is taken at creation (weights, chains) and by runs (what depends on rows and positions), never given back
 * before the end; a run no larger than those before it takes none. */
#include "gradient_impl.h"

#include "sower/alloc.h"
#include "sower/phase.h"

#include <stdio.h>
#include <string.h>

enum { RECOMPUTE_AUTO, RECOMPUTE_NONE, RECOMPUTE_LAYER, N_RECOMPUTES };
static const char *const recompute_names[N_RECOMPUTES] = {"auto", "none", "layer"};

static const double auto_bytes = 1024.0 * 1024 * 1024; /* activations up to so many are kept */

enum { HEAD_BYTES = 64 << 20, MIN_HEAD_ROWS = 32 }; /* of a chunk of logits */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- sizes: one place for what is taken and what sow_gradient_bytes says ---- */

typedef struct room {
    int64_t rows, positions, pages, head_rows, n_kept;
} room;

static int64_t even(int64_t floats)
{
    return (floats + 15) / 16 * 16; /* each array begins on a 64-byte boundary */
}

static void kept_floats(const sow_shape *shape, int64_t m, int64_t out[SOW_N_KEPT])
{
    const int64_t hidden = sow_row_ld(shape->hidden_size), inner = shape->intermediate_size;
    const int64_t q = shape->n_heads * shape->head_dim, kv = shape->n_kv_heads * shape->head_dim;
    const int64_t sizes[SOW_N_KEPT] = {hidden,
                                       sow_row_ld(sow_la_padded(q) + 2 * sow_la_padded(kv)),
                                       shape->has_qk_norm ? q + kv : 0,
                                       sow_row_ld(q),
                                       hidden,
                                       hidden,
                                       sow_row_ld(2 * sow_la_padded(inner)),
                                       sow_row_ld(inner)};
    for (int i = 0; i < SOW_N_KEPT; i++)
        out[i] = even(m * sizes[i]);
}

static void work_floats(const sow_shape *shape, int64_t m, int64_t out[SOW_N_WORK])
{
    const int64_t hidden = sow_row_ld(shape->hidden_size), q = shape->n_heads * shape->head_dim;
    const int64_t kv = shape->n_kv_heads * shape->head_dim;
    const int64_t sizes[SOW_N_WORK] = {hidden,
                                       hidden,
                                       hidden,
                                       sow_row_ld(sow_la_padded(q) + 2 * sow_la_padded(kv)),
                                       sow_row_ld(q),
                                       sow_row_ld(shape->intermediate_size),
                                       3 * shape->n_heads};
    for (int i = 0; i < SOW_N_WORK; i++)
        out[i] = even(m * sizes[i]);
}

static int64_t sum_of(const int64_t *values, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += values[i];
    return sum;
}

static int64_t kept_sum(const sow_shape *shape, int64_t m)
{
    int64_t floats[SOW_N_KEPT];
    kept_floats(shape, m, floats);
    return sum_of(floats, SOW_N_KEPT);
}

static int64_t work_sum(const sow_shape *shape, int64_t m)
{
    int64_t floats[SOW_N_WORK];
    work_floats(shape, m, floats);
    return sum_of(floats, SOW_N_WORK);
}

static int64_t page_floats(const sow_shape *shape)
{
    return shape->n_kv_heads * 4 * SOW_PAGE * shape->head_dim;
}

static room make_room(const sow_shape *shape, int recompute, int64_t rows, int64_t positions)
{
    room r = {.rows = rows, .positions = (positions + SOW_PAGE - 1) / SOW_PAGE * SOW_PAGE, .n_kept = 1};
    const double all = 4.0 * (double)shape->n_layers * (double)kept_sum(shape, rows);
    if (recompute == RECOMPUTE_NONE || (recompute == RECOMPUTE_AUTO && all <= auto_bytes))
        r.n_kept = shape->n_layers;
    r.pages = sow_plan_pages(rows, r.positions);
    r.head_rows = HEAD_BYTES / (int64_t)sizeof(float) / sow_la_padded(shape->vocab_size);
    r.head_rows = least(rows, most(r.head_rows, MIN_HEAD_ROWS));
    return r;
}

static int64_t max_cols(const sow_layout *layout)
{
    int64_t cols = 0, largest = 0;
    for (int64_t t = 0; t < layout->n_tensors; t++) {
        const sow_tensor *tensor = &layout->tensors[t];
        cols = most(cols, tensor->cols);
        largest = most(largest, tensor->rows * tensor->cols);
    }
    return most(cols, least(largest, SOW_BLOCK));
}

/* Bytes of the transposed layer weights, or where a multiplication's are within their layer. */
static size_t linear_bytes(const sow_shape *shape, sow_type type, sow_linear linear)
{
    const sow_linear_size size = sow_linear_size_of(shape, linear);
    return sow_la_packed_bytes(type, size.k, size.n_pad);
}

static size_t layer_bytes(const sow_shape *shape, sow_type type, int end)
{
    size_t bytes = 0;
    for (int linear = 0; linear < end; linear++)
        bytes += linear_bytes(shape, type, (sow_linear)linear);
    return bytes;
}

static size_t transposed_bytes(const sow_shape *shape, sow_type type)
{
    return (size_t)shape->n_layers * layer_bytes(shape, type, SOW_LINEAR_HEAD) +
           linear_bytes(shape, type, SOW_LINEAR_HEAD);
}

size_t sow_gradient_bytes(const sow_layout *layout, sow_type type, const sow_gradient_options *options,
                          int64_t positions)
{
    const sow_shape *shape = &layout->shape;
    int recompute = 0;
    while (recompute + 1 < N_RECOMPUTES && strcmp(options->recompute, recompute_names[recompute]) != 0)
        recompute++;
    const room r = make_room(shape, recompute, most(options->row_tokens, positions), positions);
    const double hidden = (double)sow_row_ld(shape->hidden_size), rows = (double)r.rows;
    const double kv = (double)(shape->n_kv_heads * shape->head_dim), n_layers = (double)shape->n_layers;
    double floats = (double)layout->n_elements + (n_layers + 1) * rows * hidden;
    floats += (double)r.n_kept * (double)kept_sum(shape, r.rows) + (double)work_sum(shape, r.rows);
    floats += (double)r.pages * (double)page_floats(shape);
    floats += (double)r.head_rows * (double)sow_row_ld(shape->vocab_size);
    floats += 2.0 * n_layers * (double)r.positions * 2.0 * kv; /* a prefix of several passes */
    const double bytes = 4.0 * floats + (double)transposed_bytes(shape, type);
    return bytes < (double)(SIZE_MAX / 2) ? (size_t)bytes : SIZE_MAX / 2;
}

/* ---- creation ---- */

sow_code sow_gradient_create(sow_la *la, const sow_layout *layout, sow_type type, const sow_gradient_options *options,
                             sow_gradient **out)
{
    sow_gradient *g = NULL;
    sow_code rc = SOW_OK;
    int recompute = 0;
    while (recompute < N_RECOMPUTES && strcmp(options->recompute, recompute_names[recompute]) != 0)
        recompute++;
    if (recompute == N_RECOMPUTES)
        return SOW_FAIL(SOW_ECONF, "train.recompute: '%s' is not known, expected auto, none or layer",
                        options->recompute);
    if (options->row_tokens < 1)
        return SOW_FAIL(SOW_ECONF, "train.row_tokens: %lld is not possible, expected at least 1",
                        (long long)options->row_tokens);
    SOW_TRY(SOW_ALLOC(&g, 1));
    *g = (sow_gradient){.la = la,
                        .kernels = sow_la_kernels(la),
                        .layout = layout,
                        .type = type,
                        .row_tokens = options->row_tokens,
                        .recompute = recompute,
                        .block_floats = max_cols(layout)};
    SOW_TRY_OR(rc, sow_forward_init(&g->forward, la, layout, 0));
    SOW_TRY_OR(rc, SOW_ALLOC(&g->transposed, transposed_bytes(&layout->shape, type)));
    SOW_TRY_OR(rc, SOW_ALLOC(&g->chains, layout->n_elements));
    SOW_TRY_OR(rc, SOW_ALLOC(&g->blocks, g->forward.threads * g->block_floats));
    *out = g;
    return SOW_OK;
done:
    sow_gradient_destroy(&g);
    return rc;
}

static void free_room(sow_gradient *g)
{
    sow_pass *pass = &g->pass;
    SOW_FREE(&pass->segments);
    SOW_FREE(&pass->shares);
    SOW_FREE(&pass->tokens);
    SOW_FREE(&pass->row_segments);
    SOW_FREE(&pass->page_segments);
    SOW_FREE(&pass->ends);
    SOW_FREE(&g->states);
    SOW_FREE(&g->kept_block);
    SOW_FREE(&g->kept);
    SOW_FREE(&g->work_block);
    SOW_FREE(&g->page_block);
    SOW_FREE(&g->scores);
    SOW_FREE(&g->bases);
    SOW_FREE(&g->logits);
    SOW_FREE(&g->head);
    SOW_FREE(&g->targets);
    SOW_FREE(&g->weights);
    g->rows = g->positions = g->pages = g->head_rows = 0;
}

static void free_prefix(sow_gradient *g)
{
    SOW_FREE(&g->prefix_kv);
    SOW_FREE(&g->prefix_dkv);
    g->prefix_room = 0;
}

void sow_gradient_destroy(sow_gradient **gradient)
{
    sow_gradient *g = *gradient;
    if (g == NULL)
        return;
    free_room(g);
    free_prefix(g);
    sow_forward_fini(&g->forward);
    SOW_FREE(&g->transposed);
    SOW_FREE(&g->chains);
    SOW_FREE(&g->blocks);
    SOW_FREE(gradient);
}

double sow_gradient_flops(const sow_gradient *gradient)
{
    return gradient->forward.flops;
}

/* ---- room for a run ---- */

/* Gives n arrays of a block their places. */
static void place(float *next, const int64_t *floats, float **const *arrays, int n)
{
    for (int i = 0; i < n; i++) {
        *arrays[i] = next;
        next += floats[i];
    }
}

static void place_arrays(sow_gradient *g)
{
    const sow_shape *shape = &g->layout->shape;
    int64_t floats[SOW_N_KEPT];
    kept_floats(shape, g->rows, floats);
    for (int64_t i = 0; i < g->n_kept; i++) {
        sow_kept *k = &g->kept[i];
        float **const arrays[SOW_N_KEPT] = {&k->normed, &k->qkv,     &k->raw,     &k->attended,
                                            &k->middle, &k->normed2, &k->gate_up, &k->inner};
        place(g->kept_block + i * kept_sum(shape, g->rows), floats, arrays, SOW_N_KEPT);
    }
    sow_work *w = &g->work;
    float **const arrays[SOW_N_WORK] = {&w->y, &w->dx, &w->dnormed, &w->dqkv, &w->dattended, &w->dinner, &w->stats};
    work_floats(shape, g->rows, floats);
    place(g->work_block, floats, arrays, SOW_N_WORK);
}

static sow_code take_room(sow_gradient *g, const room *r)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t group = shape->n_heads / shape->n_kv_heads, threads = g->forward.threads;
    sow_pass *pass = &g->pass;
    SOW_TRY(sow_rope_reserve(&g->forward.rope, r->positions));
    SOW_TRY(SOW_ALLOC(&pass->segments, r->rows + 1));
    SOW_TRY(SOW_ALLOC(&pass->shares, r->rows + 1));
    SOW_TRY(SOW_ALLOC(&pass->tokens, r->rows));
    SOW_TRY(SOW_ALLOC(&pass->row_segments, r->rows));
    SOW_TRY(SOW_ALLOC(&pass->page_segments, r->pages));
    SOW_TRY(SOW_ALLOC(&pass->ends, r->rows));
    SOW_TRY(SOW_ALLOC(&g->states, (shape->n_layers + 1) * r->rows * g->forward.hidden_ld));
    SOW_TRY(SOW_ALLOC(&g->kept_block, r->n_kept * kept_sum(shape, r->rows)));
    SOW_TRY(SOW_ALLOC(&g->kept, r->n_kept));
    SOW_TRY(SOW_ALLOC(&g->work_block, work_sum(shape, r->rows)));
    SOW_TRY(SOW_ALLOC(&g->page_block, r->pages * page_floats(shape)));
    SOW_TRY(SOW_ALLOC(&g->scores, threads * 2 * group * r->positions));
    SOW_TRY(SOW_ALLOC(&g->bases, threads * (r->positions / SOW_PAGE)));
    SOW_TRY(SOW_ALLOC(&g->logits, r->head_rows * g->forward.logits_ld));
    SOW_TRY(SOW_ALLOC(&g->head, r->head_rows));
    SOW_TRY(SOW_ALLOC(&g->targets, r->head_rows));
    SOW_TRY(SOW_ALLOC(&g->weights, r->head_rows));
    g->rows = r->rows;
    g->positions = r->positions;
    g->pages = r->pages;
    g->head_rows = r->head_rows;
    g->n_kept = r->n_kept;
    place_arrays(g);
    return SOW_OK;
}

/* Rows of the longest pass, and positions of the longest sequence of a run. */
static sow_code reserve(sow_gradient *g, const sow_gradient_args *args)
{
    int64_t all = 0, longest = 1, positions = 1;
    for (int64_t u = 0; u < args->n_units; u++) {
        const sow_train_unit *unit = &args->units[u];
        if (unit->n_sequences == 0)
            continue;
        all += unit->n_prefix;
        longest = most(longest, unit->n_prefix);
        for (int64_t s = 0; s < unit->n_sequences; s++) {
            all += unit->sequences[s].n - 1;
            longest = most(longest, unit->sequences[s].n - 1);
            positions = most(positions, unit->n_prefix + unit->sequences[s].n - 1);
        }
    }
    const int64_t rows = most(longest, least(g->row_tokens, all));
    if (rows <= g->rows && positions <= g->positions)
        return SOW_OK;
    const room r = make_room(&g->layout->shape, g->recompute, most(rows, g->rows), most(positions, g->positions));
    free_room(g);
    const sow_code rc = take_room(g, &r);
    if (rc != SOW_OK)
        free_room(g);
    return rc;
}

static sow_code reserve_prefix(sow_gradient *g, int64_t n_prefix, bool is_back)
{
    const sow_shape *shape = &g->layout->shape;
    const int64_t kv = shape->n_kv_heads * shape->head_dim;
    if (n_prefix > g->prefix_room) {
        free_prefix(g);
        SOW_TRY(SOW_ALLOC(&g->prefix_kv, shape->n_layers * n_prefix * 2 * kv));
        g->prefix_room = n_prefix;
    }
    const int64_t floats = shape->n_layers * g->prefix_room * 2 * kv;
    if (is_back && g->prefix_dkv == NULL)
        return SOW_ALLOC(&g->prefix_dkv, floats);
    if (is_back)
        memset(g->prefix_dkv, 0, (size_t)floats * sizeof(float));
    return SOW_OK;
}

/* ---- transposed weights ---- */

static unsigned char *transposed_at(const sow_gradient *g, sow_linear linear, int64_t layer)
{
    const sow_shape *shape = &g->layout->shape;
    const size_t all = layer_bytes(shape, g->type, SOW_LINEAR_HEAD);
    const size_t n_before = (size_t)(linear == SOW_LINEAR_HEAD ? shape->n_layers : layer);
    return g->transposed + n_before * all + (linear == SOW_LINEAR_HEAD ? 0 : layer_bytes(shape, g->type, (int)linear));
}

/* Up to three tensors that are multiplied at once, one behind the other. */
static void transpose(sow_gradient *g, const float *theta, sow_linear linear, int64_t layer)
{
    static const int64_t counts[SOW_N_LINEARS] = {[SOW_LINEAR_QKV] = 3,
                                                  [SOW_LINEAR_O] = 1,
                                                  [SOW_LINEAR_GATE_UP] = 2,
                                                  [SOW_LINEAR_DOWN] = 1,
                                                  [SOW_LINEAR_HEAD] = 1};
    const sow_linear_size size = sow_linear_size_of(&g->layout->shape, linear);
    int64_t inner = 0;
    for (int64_t i = 0; i < counts[linear]; i++) {
        const sow_tensor *tensor = sow_layout_find(g->layout, (sow_tensor_kind)(size.kind + i), (int)layer);
        sow_la_transpose(g->la, &(sow_transpose_args){
                                    .type = g->type,
                                    .n_size = tensor->rows,
                                    .k_size = tensor->cols,
                                    .inner_size = size.n_pad,
                                    .inner_first = inner,
                                    .theta = theta + tensor->offset,
                                    .w = transposed_at(g, linear, layer),
                                });
        inner += sow_la_padded(tensor->rows);
    }
}

sow_code sow_gradient_weights(sow_gradient *gradient, const float *theta)
{
    for (int64_t layer = 0; layer < gradient->layout->shape.n_layers; layer++)
        for (int linear = 0; linear < SOW_LINEAR_HEAD; linear++)
            transpose(gradient, theta, (sow_linear)linear, layer);
    transpose(gradient, theta, SOW_LINEAR_HEAD, -1);
    return SOW_OK;
}

void sow_gradient_linear(sow_gradient *g, sow_linear linear, int64_t layer, int64_t m, const float *dy, float *dx)
{
    const sow_linear_size size = sow_linear_size_of(&g->layout->shape, linear);
    sow_la_linear(g->la, &(sow_linear_args){.type = g->type,
                                            .m_size = m,
                                            .n_size = sow_la_padded(size.k),
                                            .k_size = size.n_pad,
                                            .ldx = sow_row_ld(size.n_pad),
                                            .ldy = sow_row_ld(size.k),
                                            .x = dy,
                                            .w = transposed_at(g, linear, layer),
                                            .y = dx});
    g->forward.flops += 2.0 * (double)m * (double)size.k * (double)size.n;
    sow_phase_tick();
}

/* ---- a run ---- */

static sow_code check_ids(const sow_gradient *g, int64_t unit, const int32_t *ids, int64_t n, const char *what)
{
    const int64_t vocab = g->layout->shape.vocab_size;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return SOW_FAIL(SOW_EARG, "unit %lld: token %lld of %s is %d, expected 0 to %lld, the model's vocabulary",
                            (long long)unit, (long long)i, what, (int)ids[i], (long long)vocab - 1);
    return SOW_OK;
}

static sow_code check_unit(const sow_gradient *g, int64_t u, const sow_train_unit *unit)
{
    const int64_t context = g->layout->shape.max_positions;
    SOW_TRY(check_ids(g, u, unit->prefix, unit->n_prefix, "the prefix"));
    for (int64_t s = 0; s < unit->n_sequences; s++) {
        const sow_sequence *sequence = &unit->sequences[s];
        char what[40];
        (void)snprintf(what, sizeof what, "sequence %lld", (long long)s);
        if (sequence->n < 2 || unit->n_prefix + sequence->n - 1 > context)
            return SOW_FAIL(SOW_EARG,
                            "unit %lld: %s has %lld tokens after a prefix of %lld, expected 2 or more that fit the "
                            "model's context of %lld",
                            (long long)u, what, (long long)sequence->n, (long long)unit->n_prefix, (long long)context);
        SOW_TRY(check_ids(g, u, sequence->ids, sequence->n, what));
    }
    return SOW_OK;
}

static sow_code check_args(const sow_gradient *g, const sow_gradient_args *args)
{
    if (sow_replica_layout(args->replica)->n_elements != g->layout->n_elements ||
        sow_replica_type(args->replica) != g->type)
        return SOW_FAIL(SOW_EARG, "the replica has another shape or storage than the gradient");
    if (!(args->temperature > 0.0))
        return SOW_FAIL(SOW_EARG, "temperature: %g is not possible, expected more than 0", args->temperature);
    for (int64_t u = 0; u < args->n_units; u++)
        SOW_TRY(check_unit(g, u, &args->units[u]));
    return sow_kernels_check_rounding();
}

/* A unit that does not fit into one pass. */
static sow_code run_passes(sow_gradient *g, const sow_gradient_args *args, int64_t u)
{
    const sow_train_unit *unit = &args->units[u];
    if (unit->n_prefix > 0) {
        SOW_TRY(reserve_prefix(g, unit->n_prefix, args->sums != NULL));
        sow_plan_prefix(g, args, u, true);
        SOW_TRY(sow_pass_run(g));
    }
    for (int64_t s = 0; s < unit->n_sequences;) {
        s += sow_plan_sequences(g, args, u, s);
        SOW_TRY(sow_pass_run(g));
    }
    if (args->sums == NULL)
        return SOW_OK;
    if (unit->n_prefix > 0) {
        sow_plan_prefix(g, args, u, false);
        SOW_TRY(sow_pass_run(g));
    }
    return sow_sum_end_all(g, args->sums, u);
}

static sow_code run_units(sow_gradient *g, const sow_gradient_args *args)
{
    for (int64_t u = 0; u < args->n_units;) {
        if (sow_plan_fits(g, &args->units[u])) {
            u += sow_plan_units(g, args, u);
            SOW_TRY(sow_pass_run(g));
        } else {
            SOW_TRY(run_passes(g, args, u++));
        }
    }
    return SOW_OK;
}

sow_code sow_gradient_run(sow_gradient *gradient, const sow_gradient_args *args)
{
    SOW_TRY(check_args(gradient, args));
    SOW_TRY(reserve(gradient, args));
    if (gradient->is_dirty)
        memset(gradient->chains, 0, (size_t)gradient->layout->n_elements * sizeof(float));
    gradient->is_dirty = true;
    SOW_TRY(run_units(gradient, args));
    gradient->is_dirty = false;
    return SOW_OK;
}
