/* SPDX-License-Identifier: Apache-2.0 */
/* Drift: how far weights have moved from the base, in float64 from float32 masters, and beside it what 16-bit storage
 * and the paper's own formula would have shown.
 *
 * Needs: shape, kernels, OpenMP.  Threads: splits by fixed blocks.  Ranks: knows none.  Bits: sums over fixed blocks
 * of 16,384 elements in element order, then blocks in order: independent of threads. */
#ifndef SOWER_DRIFT_H
#define SOWER_DRIFT_H

#include "sower/kernels.h"
#include "sower/shape.h"

enum { SOW_MAX_TAU = 8 };

/* Of one tensor, or of a group (sums of squares and counts add). */
typedef struct sow_drift {
    int64_t n;            /* elements */
    double delta2, base2; /* sums of squares of theta - base, of base */
    double max_abs;       /* max |theta - base| */
    double paper2; /* the code of arXiv 2601.20861: both in fp16, difference and square rounded to fp16, summed */
    int64_t within[SOW_MAX_TAU];  /* elements with |delta| <= tau, float32 view */
    int64_t same_bf16, same_fp16; /* elements whose bf16, fp16 storage is unchanged */
} sow_drift;

typedef struct sow_tau {
    int64_t n;
    double values[SOW_MAX_TAU];
} sow_tau;
/* "1e-6,1e-5": SOW_ECONF naming what is wrong. */
SOW_NODISCARD sow_code sow_tau_parse(const char *text, sow_tau *out);

/* One sow_drift per tensor of the layout: out [n_tensors]. */
void sow_drift_measure(const sow_layout *layout, const float *base, const float *theta, const sow_tau *tau,
                       sow_drift *out);
/* Adds b to a. */
void sow_drift_add(sow_drift *a, const sow_drift *b);
/* The members of one JSON object: tau, all, kinds, layers, tensors, each with norm, relative, paper_norm, sparsity. */
struct sow_line;
void sow_drift_put(struct sow_line *line, const sow_layout *layout, const sow_drift *drifts, const sow_tau *tau);
/* alpha * sqrt(d T / N): the norm of a random walk of T z-scored ES steps (reference: arXiv 2601.20861 re-derived;
 * 2604.01499). */
double sow_drift_law(double alpha, double n_parameters, double steps, double population);

#endif
