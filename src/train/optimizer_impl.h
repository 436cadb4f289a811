/* SPDX-License-Identifier: Apache-2.0 */
/* The optimizer of a node: exact sums of gradients, and AdamW over the blocks that its ranks share out.
 *
 *      sums[rank]      64-bit integers [n_elements] of every rank of the node: what it has added itself
 *      total           their sum over all nodes (more than one node only)
 *      gradient        float32, rounded once from the total; norm2 of each granule in double
 *      m, v            moments, two buffers each like theta's: the step from k-1 to k reads one and writes the other
 *
 * Each step is two pieces of shared work: `reduce` makes the gradient, `step` is a rule for sow_theta_update.  Both are
 * pure functions of what stays untouched meanwhile, so a rank that dies leaves nothing half-done.  An attempt at a
 * gradient may be given up, and the next one writes to the same memory: it begins when no rank of the node is at an
 * earlier one any more, and a rank that was away takes no part in what its node has left behind.  A node holds all
 * moments, so losing ranks loses none of them (docs/decisions/0010). */
#ifndef SOWER_OPTIMIZER_IMPL_H
#define SOWER_OPTIMIZER_IMPL_H

#include "sower/la.h"
#include "sower/options.h"
#include "sower/theta.h"
#include "sower/world.h"

enum { SOW_MAX_RANKS = 4096 };

/* A set of world ranks, as it travels. */
typedef struct sow_rank_set {
    uint64_t bits[SOW_MAX_RANKS / 64];
} sow_rank_set;
static inline bool sow_rank_set_has(const sow_rank_set *set, int rank)
{
    return (set->bits[rank / 64] >> (rank % 64) & 1) != 0;
}
static inline void sow_rank_set_add(sow_rank_set *set, int rank)
{
    set->bits[rank / 64] |= UINT64_C(1) << (rank % 64);
}

typedef struct sow_optimizer sow_optimizer;

/* Collective (before sow_world_seal); world NULL: this process alone.  la and layout outlive it.  SOW_ECONF for more
 * than SOW_MAX_RANKS ranks. */
SOW_NODISCARD sow_code sow_optimizer_create(sow_world *world, sow_la *la, const sow_layout *layout, int64_t block,
                                            sow_optimizer **out);
/* Not collective, as all that follows. */
void sow_optimizer_destroy(sow_optimizer **optimizer);
/* Bytes per node of moments, gradient and total, and per rank of sums. */
size_t sow_optimizer_node_bytes(const sow_layout *layout, int64_t block, int n_nodes);
size_t sow_optimizer_rank_bytes(const sow_layout *layout);

/* This rank's own sums; whoever begins a new gradient clears them. */
int64_t *sow_optimizer_sums(sow_optimizer *optimizer);
void sow_optimizer_clear(sow_optimizer *optimizer);

/* Takes part in making the gradient from the sums of `ranks`; key: rises with every attempt.  The node's leader ends
 * a rank that is still at an earlier attempt after a deadline; it then calls _complete, which adds the nodes of
 * `leaders` together if there are several.  SOW_ENUM: a sum overflows; SOW_ECOMM: another node did not take part, or
 * this node is at a later attempt: begin a new one. */
SOW_NODISCARD sow_code sow_optimizer_reduce(sow_optimizer *optimizer, int64_t key, const sow_rank_set *ranks,
                                            bool is_leader);
SOW_NODISCARD sow_code sow_optimizer_complete(sow_optimizer *optimizer, int64_t key, const sow_rank_set *ranks,
                                              const sow_rank_set *leaders);
/* Whether this node holds the gradient of that attempt. */
bool sow_optimizer_has(const sow_optimizer *optimizer, int64_t key);
/* After that: the norm of the gradient, summed over granules in order. */
double sow_optimizer_norm(const sow_optimizer *optimizer);

/* Settings of one step. */
typedef struct sow_adamw_step {
    int64_t t;            /* 1, 2, ...: theta[t] is made from theta[t - 1] */
    double rate;          /* learning rate of this step */
    double anchor_lambda; /* the anchor's decay is rate * lambda */
    sow_anchor anchor;
    double beta1, beta2, eps, weight_decay, clip_norm;
} sow_adamw_step;
/* The rule for sow_theta_update of generation t.  *out borrows from the optimizer. */
void sow_optimizer_step(sow_optimizer *optimizer, const sow_adamw_step *step, sow_step *out);
/* After that step is complete: digest of the moments of step t (0: of the zeros they begin with). */
sow_hash sow_optimizer_digest(const sow_optimizer *optimizer, int64_t t);

/* Moments for checkpoints: `which` 0: m, 1: v, after step t.  Written only while loading, then _loaded by one rank of
 * the node. */
float *sow_optimizer_moment(sow_optimizer *optimizer, int which, int64_t t);
void sow_optimizer_loaded(sow_optimizer *optimizer, int64_t t);

#endif
