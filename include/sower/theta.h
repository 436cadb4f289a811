/* SPDX-License-Identifier: Apache-2.0 */
/* Theta: the float32 master weights of a node, in two buffers that its ranks share, and the ES update from one to the
 * other.
 *
 * Needs: window, world, kernels, shape, noise, hash, OpenMP.  Threads: called by the first thread; the update splits
 * over threads.
 *
 *      buffer g % 2          theta[g]    read by members of generation g+1, never written while anyone may read it
 *      buffer (g+1) % 2      theta[g+1]  written in blocks; a block is claimed by one rank, computed, hashed, stamped
 *      base                  theta[0]    for the anchor and for drift
 *      control               claims, stamps, who reads what, one record per granule of 16,384 weights
 *
 * The update is a pure function of theta[g], so a rank killed in the middle leaves nothing half-added: its block is
 * unstamped and another rank computes it again.  Bits: independent of ranks, threads, block size and of who computed
 * which block. */
#ifndef SOWER_THETA_H
#define SOWER_THETA_H

#include "sower/hash.h"
#include "sower/la.h"
#include "sower/noise.h"
#include "sower/replica.h"
#include "sower/shape.h"
#include "sower/world.h"

enum { SOW_GRANULE = 16384 }; /* weights per record; blocks are multiples of it */

typedef struct sow_theta sow_theta;

/* Which noise: what a step needs beside fitness. */
typedef struct sow_noise_plan {
    const sow_noise *noise;
    uint32_t seed;
    double sigma;
    bool is_mirrored;
    const bool *is_selected; /* [n_tensors]; borrowed */
    const uint32_t *mask;    /* of theta (kernels.h): which weights of these tensors move; NULL: all; borrowed */
} sow_noise_plan;

/* One step: theta' = theta + sum_i c_i eps_i, then the anchor (design, Numerics 7; arXiv 2601.20861, section 2); or
 * whatever `make` makes of a granule, which then must be a pure function of the generation before. */
typedef struct sow_step {
    int64_t generation; /* of the result: theta[generation] is made from theta[generation - 1] */
    int64_t population;
    const float *coefficients; /* [population]; NULL: all rewards were equal, theta stays as it is */
    sow_anchor anchor;
    float decay; /* alpha * lambda */
    /* NULL: the step of ES.  theta, base and out [SOW_GRANULE] of the granule; called from several threads.
     * is_check: computed a second time, perhaps late: nothing but out may be written. */
    void (*make)(void *context, int64_t granule, const float *theta, const float *base, float *out, bool is_check);
    void *context;
} sow_step;

/* Not collective.  Noise of one member for a replica: out [n_tensors] (member -1: the center, all factors 0). */
void sow_theta_member_noise(const sow_layout *layout, const sow_noise_plan *plan, int64_t generation, int64_t member,
                            sow_tensor_noise *out);

/* Collective (before sow_world_seal).  Room for the weights of a layout on this rank's node; everything is zero.  world
 * NULL: this process alone, for replay.  update_block: weights per block. */
SOW_NODISCARD sow_code sow_theta_create(sow_world *world, sow_la *la, const sow_layout *layout, int64_t update_block,
                                        sow_theta **out);
/* Not collective. */
void sow_theta_destroy(sow_theta **theta);
/* Bytes per node, and of that in /dev/shm if a node has more than one rank. */
size_t sow_theta_bytes(const sow_layout *layout, int64_t update_block);

/* Not collective.  The base, and theta[g] for the generation that is whole now.  Read by all; written only while
 * loading. */
float *sow_theta_base(sow_theta *theta);
float *sow_theta_buffer(sow_theta *theta, int64_t generation);

/* Not collective; one rank of the node, while loading: theta[generation] is in its buffer now; records it. */
void sow_theta_loaded(sow_theta *theta, int64_t generation);

/* Not collective.  From here to sow_theta_end_read theta[generation] cannot be overwritten.  False: it already is, or
 * is about to be (the reader is late, and its work is no longer wanted). */
bool sow_theta_begin_read(sow_theta *theta, int64_t generation);
void sow_theta_end_read(sow_theta *theta);

/* Not collective.  Takes part in a step: computes blocks that nobody has claimed until none is left.  Waits for late
 * readers of the buffer first; a leader ends those that are silent (deadline, pid).  SOW_ENUM naming the tensor for a
 * non-finite result. */
SOW_NODISCARD sow_code sow_theta_update(sow_theta *theta, const sow_noise_plan *plan, const sow_step *step,
                                        bool is_leader);

/* Not collective; for the node's leader, after its sow_theta_update: sees that every block is done.  Blocks of ranks
 * that are gone or silent for the deadline are computed here, after the silent rank was ended. */
SOW_NODISCARD sow_code sow_theta_complete(sow_theta *theta, const sow_noise_plan *plan, const sow_step *step);

/* Not collective, after completion: the digest of theta[generation], and the sum of (theta - base)^2 in double. */
sow_hash sow_theta_digest(const sow_theta *theta, int64_t generation);
double sow_theta_delta2(const sow_theta *theta, int64_t generation);

/* Not collective.  Whether nobody has begun a later generation (what was read of this one before is then right). */
bool sow_theta_is_newest(const sow_theta *theta, int64_t generation);

/* Not collective.  Computes one granule of the last step again and compares: SOW_EBITS if memory holds other bits. */
SOW_NODISCARD sow_code sow_theta_check_granule(sow_theta *theta, const sow_noise_plan *plan, const sow_step *step,
                                               int64_t granule);
int64_t sow_theta_n_granules(const sow_theta *theta);

/* Not collective.  Hashes granules part/n_parts of theta[generation] again and compares with their records: SOW_EBITS.
 * */
SOW_NODISCARD sow_code sow_theta_scrub(sow_theta *theta, int64_t generation, int part, int n_parts);

#endif
