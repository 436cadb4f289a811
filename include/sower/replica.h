/* SPDX-License-Identifier: Apache-2.0 */
/* A replica: the weights one rank computes with, in the packed layout that the kernels read.  Made from theta and
 * noise; theta itself is never changed by it.
 *
 * Needs: la, shape.  Threads: made over threads, read by all.  Ranks: knows none.
 *
 * 2-D tensors are stored as fp16, bf16 or float32; 1-D tensors stay float32 (in bf16 a norm weight near 1 would keep a
 * correlation of 0.37 with the noise that the update credits). */
#ifndef SOWER_REPLICA_H
#define SOWER_REPLICA_H

#include "sower/la.h"
#include "sower/shape.h"

typedef struct sow_replica sow_replica;

/* A tensor's noise: where it comes from and how much of it (0: the tensor is not perturbed).  One per tensor of the
 * layout. */
typedef struct sow_tensor_noise {
    sow_place place;
    sow_noise_loop loop;
    float factor;         /* +sigma, -sigma, 0 */
    const uint32_t *mask; /* of the tensor (kernels.h), borrowed; NULL: every weight moves */
} sow_tensor_noise;

/* Room for the weights of a layout, stored as `type`; la and layout outlive it.  SOW_ECONF for bf16-mixed with backend
 * openblas. */
SOW_NODISCARD sow_code sow_replica_create(sow_la *la, const sow_layout *layout, sow_type type, sow_replica **out);
void sow_replica_destroy(sow_replica **replica);
size_t sow_replica_bytes(const sow_layout *layout, sow_type type);

/* Makes weights theta + factor * noise. noise [n_tensors], NULL: none.  SOW_ENUM naming the tensor if a value does not
 * fit the type (infinite).  Ticks between tensors.  Bits: independent of threads. */
SOW_NODISCARD sow_code sow_replica_make(sow_replica *replica, const float *theta, const sow_tensor_noise *noise);

/* Packed 2-D weights, or the float32 values of a 1-D tensor, by tensor number. */
const void *sow_replica_tensor(const sow_replica *replica, int64_t tensor);
sow_type sow_replica_type(const sow_replica *replica);
const sow_layout *sow_replica_layout(const sow_replica *replica);

/* "auto": fp16 where max|w| of the 2-D tensors < 8192, else bf16; or a name.  SOW_ECONF for others. */
SOW_NODISCARD sow_code sow_replica_choose_type(const char *name, const sow_layout *layout, const float *theta,
                                               sow_type *out);

/* Correlation of applied with credited noise of one tensor: of (stored value - stored value without noise) with the
 * noise, in double, over the weights that move; NAN if the tensor is not perturbed. */
SOW_NODISCARD sow_code sow_replica_correlation(const sow_replica *replica, int64_t tensor, const float *theta,
                                               const sow_tensor_noise *noise, double *out);

#endif
