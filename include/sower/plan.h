/* SPDX-License-Identifier: Apache-2.0 */
/* What a run will need, before it starts: bytes per node and rank, units, tokens, floating-point operations.
 *
 * Needs: shape, options, task.  Threads: pure, but for the memory that is free.  Ranks: knows none.  Not collective. */
#ifndef SOWER_PLAN_H
#define SOWER_PLAN_H

#include "sower/kernels.h"
#include "sower/options.h"
#include "sower/shape.h"

#include <stdbool.h>

typedef struct sow_plan_args {
    const sow_options *options;
    const sow_layout *layout;
    sow_type type; /* of the replica's 2-D weights */
    int64_t ranks, ranks_per_node, threads;
    int64_t rows;                   /* of the task */
    int64_t prompt_tokens, max_new; /* of a typical row; sft: max_new are its targets */
    int64_t longest;                /* prompt and completion of the longest row that is trained on */
    int64_t longest_answered;       /* longest prompt and what may be generated behind it */
} sow_plan_args;

/* Bytes are at most: every completion as long as it may be. */
typedef struct sow_plan {
    int64_t ranks, ranks_per_node, nodes, threads;
    /* bytes per node */
    int64_t theta_bytes;    /* two buffers, base, records, mask */
    int64_t moments_bytes;  /* AdamW's, two buffers each */
    int64_t gradient_bytes; /* float32, and records */
    int64_t totals_bytes;   /* integers of all nodes; 0 with one node */
    int64_t code_bytes;     /* about: the program and its libraries */
    int64_t shared_bytes;   /* the sum of these */
    /* bytes per rank */
    int64_t replica_bytes;   /* packed weights */
    int64_t reference_bytes; /* those of the base, with es.kl_beta or grpo.kl */
    int64_t engine_bytes;    /* KV cache and activations */
    int64_t sums_bytes;      /* 64-bit sums of gradients; in memory of the node */
    int64_t backward_bytes;  /* transposed weights, a unit's gradient, activations */
    int64_t samples_bytes;   /* grpo: tokens of a unit and what is known of them */
    int64_t program_bytes;   /* about: buffers of libraries, tokenizer */
    int64_t rank_bytes;      /* the sum of these */
    int64_t root_bytes;      /* root besides: grpo's rollouts of a step */
    int64_t measure_bytes;   /* root besides, while it measures KL or spectra */
    int64_t node_bytes;      /* shared + ranks_per_node * rank + root + measure */
    int64_t available_bytes; /* of this machine now, 0: unknown */
    /* per step (generation of ES) */
    int64_t rows, samples, tokens_per_row; /* prompts; completions of all members; of a completion with its prompt */
    int64_t tokens;                        /* at most: each sample's prompt and completion */
    int64_t units, gradient_units;         /* at most; of generation, of one gradient */
    int64_t useful_ranks;                  /* more find nothing to do */
    int64_t updates;                       /* optimizer steps; ES: 1 */
    double eval_flops;                     /* generating, and scoring under the base */
    double gradient_flops;                 /* forward and backward */
    double sum_elements;                   /* of units' gradients, added as integers */
    double update_elements;                /* weights times members (ES) or updates */
    double allreduce_bytes;                /* that a node sends to others */
} sow_plan;

/* options: their names are known (sow_train_check_names). */
void sow_plan_make(const sow_plan_args *args, sow_plan *out);

/* SOW_ENOMEM naming both numbers if a node of this machine's size cannot hold it. */
SOW_NODISCARD sow_code sow_plan_check(const sow_plan *plan);

#endif
