/* SPDX-License-Identifier: Apache-2.0 */
/* From rows to sums: every element of a tensor is one chain over a unit's rows, rounded once to 64 bits and added.
 *
 * A tensor is cut into blocks that a cache holds.  A thread takes a block through all units of the pass: chains into
 * its own scratch, rounded, added; so float32 gradients of whole units never reach memory.  A unit that takes several
 * passes has its chains in `chains` until it ends.
 *
 * Norms and biases are chains of sums: the "outer product" with ones. */
#include "gradient_impl.h"

#include "sower/phase.h"

#include <string.h>

#include <omp.h>

/* A block: rows and columns of a tensor. */
typedef struct block {
    int64_t row, column, n_rows, n_columns;
} block;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One row (norms, biases) is cut into columns, a matrix into rows: into as many blocks as threads, or a multiple. */
static int64_t block_step(const sow_gradient *g, const sow_tensor *tensor)
{
    const int64_t side = tensor->rows == 1 ? tensor->cols : tensor->rows, size = tensor->rows * tensor->cols;
    const int64_t threads = g->forward.threads, n = (size + SOW_BLOCK * threads - 1) / (SOW_BLOCK * threads) * threads;
    if (!sow_la_is_exact(g->la))
        return side; /* the library splits */
    const int64_t step = (side + n - 1) / n;
    return tensor->rows > 1 && step * tensor->cols > g->block_floats ? g->block_floats / tensor->cols : step;
}

static block block_at(const sow_tensor *tensor, int64_t step, int64_t i)
{
    if (tensor->rows == 1)
        return (block){0, i * step, 1, least(step, tensor->cols - i * step)};
    return (block){i * step, 0, least(step, tensor->rows - i * step), tensor->cols};
}

static sow_code too_large(const sow_tensor *tensor, int64_t unit)
{
    return SOW_FAIL(SOW_ENUM,
                    "unit %lld: the gradient of tensor %s is not finite, or it or the sum is not below 2^15 in size",
                    (long long)unit, tensor->name);
}

/* The chains of one block over rows first .. first + n - 1. */
static void add_rows(const sow_gradient *g, const sow_product *p, block b, int64_t first, int64_t n, float *chains)
{
    static const float one = 1.0f;
    const sow_outer_args args = {
        .t_size = n * p->per_row,
        .n_size = b.n_rows,
        .k_size = b.n_columns,
        .ldy = p->dy == NULL ? 0 : p->ldy,
        .ldx = p->ldx,
        .ldw = p->tensor->cols,
        .dy = p->dy == NULL ? &one : p->dy + first * p->per_row * p->ldy + b.row,
        .x = p->x + first * p->per_row * p->ldx + b.column,
        .dw = chains,
        .ends = p->ends == NULL ? NULL : p->ends + first,
    };
    if (n == 0)
        return;
    if (sow_la_is_exact(g->la) || p->dy == NULL) /* the library takes no rows at one place */
        g->kernels->outer(&args);
    else
        sow_la_outer(g->la, &args);
}

const unsigned char *sow_sum_ends(const sow_gradient *g, int64_t row)
{
    return g->type == SOW_BF16_MIXED ? g->pass.ends + row : NULL;
}

/* One block of all ranges; returns the first range that does not fit, or n. */
static int64_t add_block(const sow_gradient *g, const sow_product *p, const sow_range *ranges, int64_t n, block b)
{
    const int64_t at = p->tensor->offset + b.row * p->tensor->cols + b.column, count = b.n_rows * b.n_columns;
    for (int64_t i = 0; i < n; i++) {
        const sow_range *range = &ranges[i];
        const bool is_local = range->is_whole && sow_la_is_exact(g->la);
        float *chains = is_local ? g->blocks + omp_get_thread_num() * g->block_floats : g->chains + at;
        if (is_local)
            memset(chains, 0, (size_t)count * sizeof *chains);
        for (int k = 0; k < 2; k++)
            add_rows(g, p, b, range->first[k], range->n[k], chains);
        if (!range->is_whole)
            continue;
        if (g->kernels->add_fixed(count, chains, g->pass.args->sums + at) != 0)
            return i;
        if (!is_local)
            memset(chains, 0, (size_t)count * sizeof *chains);
    }
    return n;
}

sow_code sow_sum_ranges(sow_gradient *g, const sow_product *product, const sow_range *ranges, int64_t n)
{
    const sow_tensor *tensor = product->tensor;
    const int64_t step = block_step(g, tensor), side = tensor->rows == 1 ? tensor->cols : tensor->rows;
    const int64_t n_blocks = (side + step - 1) / step;
    int64_t bad = n, n_rows = 0;
    for (int64_t i = 0; i < n; i++)
        n_rows += ranges[i].n[0] + ranges[i].n[1];
    const int64_t work = n_rows * product->per_row * least(step, side) * (tensor->rows == 1 ? 1 : tensor->cols);
#pragma omp parallel for schedule(dynamic, 1) num_threads(g->forward.threads)                                          \
    reduction(min                                                                                                      \
              : bad) if (sow_forward_is_worth(&g->forward, n_blocks, work / 8))
    for (int64_t i = 0; i < n_blocks; i++) {
        const int64_t wrong = add_block(g, product, ranges, n, block_at(tensor, step, i));
        bad = least(bad, wrong);
        if (omp_get_thread_num() == 0)
            sow_phase_tick();
    }
    g->forward.flops += 2.0 * (double)(n_rows * product->per_row) * (double)tensor->rows * (double)tensor->cols;
    return bad < n ? too_large(tensor, ranges[bad].unit) : SOW_OK;
}

sow_code sow_sum_products(sow_gradient *g, const sow_product *product, bool with_prefix)
{
    enum { SOME = 64 };
    const sow_pass *pass = &g->pass;
    sow_range ranges[SOME];
    int64_t n = 0;
    for (int64_t i = 0; i < pass->n_shares; i++) {
        const sow_share *share = &pass->shares[i];
        ranges[n++] = (sow_range){.unit = share->unit,
                                  .first = {share->first_row, share->prefix_row},
                                  .n = {share->n_rows, with_prefix ? share->n_prefix_rows : 0},
                                  .is_whole = share->is_whole};
        if (n == SOME || i + 1 == pass->n_shares) {
            SOW_TRY(sow_sum_ranges(g, product, ranges, n));
            n = 0;
        }
    }
    return SOW_OK;
}

static int64_t unit_of_row(const sow_pass *pass, int64_t row)
{
    return pass->segments[pass->row_segments[row]].unit;
}

/* Rows of the same token may be many, so threads share out columns. */
sow_code sow_sum_embedding(sow_gradient *g)
{
    const sow_pass *pass = &g->pass;
    const sow_tensor *tensor = sow_layout_find(g->layout, SOW_TENSOR_EMBED, -1);
    const int64_t hidden = tensor->cols, n_parts = g->forward.threads;
    int64_t bad = pass->n_rows;
#pragma omp parallel for schedule(static) num_threads(g->forward.threads)                                              \
    reduction(min                                                                                                      \
              : bad) if (sow_forward_is_worth(&g->forward, n_parts, pass->n_rows * hidden / n_parts))
    for (int64_t part = 0; part < n_parts; part++) {
        const int64_t first = hidden * part / n_parts, n = hidden * (part + 1) / n_parts - first;
        for (int64_t i = 0; i < pass->n_rows; i++) {
            const float *dx = g->work.dx + i * g->forward.hidden_ld + first;
            int64_t *sums = pass->args->sums + tensor->offset + pass->tokens[i] * hidden + first;
            if (g->kernels->add_fixed(n, dx, sums) != 0)
                bad = least(bad, i);
        }
    }
    sow_phase_tick();
    return bad < pass->n_rows ? too_large(tensor, unit_of_row(pass, bad)) : SOW_OK;
}

sow_code sow_sum_end(sow_gradient *g, int64_t *sums, const sow_tensor *tensor, int64_t unit)
{
    const int64_t n = tensor->rows * tensor->cols;
    float *chains = g->chains + tensor->offset;
    if (sow_la_add_fixed(g->la, n, chains, sums + tensor->offset) != 0)
        return too_large(tensor, unit);
    memset(chains, 0, (size_t)n * sizeof *chains);
    sow_phase_tick();
    return SOW_OK;
}

sow_code sow_sum_end_all(sow_gradient *g, int64_t *sums, int64_t unit)
{
    for (int64_t t = 0; t < g->layout->n_tensors; t++)
        SOW_TRY(sow_sum_end(g, sums, &g->layout->tensors[t], unit));
    return SOW_OK;
}
