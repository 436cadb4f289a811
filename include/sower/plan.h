/* SPDX-License-Identifier: Apache-2.0 */
/* What a run will need, before it starts: bytes per node and rank, units, tokens, floating-point operations.
 *
 * Needs: shape, options, task.  Threads: pure.  Ranks: knows none.  Not collective. */
#ifndef SOWER_PLAN_H
#define SOWER_PLAN_H

#include "sower/kernels.h"
#include "sower/options.h"
#include "sower/shape.h"

typedef struct sow_plan {
    int64_t ranks, ranks_per_node, threads;
    /* bytes */
    int64_t theta_bytes;     /* per node: two buffers, base, records, mask */
    int64_t replica_bytes;   /* per rank: packed weights, with es.kl_beta twice */
    int64_t engine_bytes;    /* per rank: KV cache and activations, at most */
    int64_t measure_bytes;   /* of root, while it measures KL or spectra */
    int64_t node_bytes;      /* theta + ranks_per_node * (replica + engine) + measure */
    int64_t available_bytes; /* of this machine now, 0: unknown */
    /* per generation */
    int64_t rows, tokens_per_row, tokens; /* at most: prompts of this length, completions of max_new */
    int64_t units, useful_ranks;          /* with slices of unit_tokens_min */
    double eval_flops, update_elements;   /* population * tokens; population * selected weights */
} sow_plan;

/* prompt_tokens: of a typical prompt; max_new of the task; all: rows of the task. */
void sow_plan_make(const sow_options *options, const sow_layout *layout, sow_type type, int64_t ranks,
                   int64_t ranks_per_node, int64_t threads, int64_t prompt_tokens, int64_t max_new, int64_t all,
                   sow_plan *out);

/* SOW_ENOMEM naming both numbers if a node of this machine's size cannot hold it. */
SOW_NODISCARD sow_code sow_plan_check(const sow_plan *plan);

#endif
