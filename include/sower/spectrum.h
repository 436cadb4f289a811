/* SPDX-License-Identifier: Apache-2.0 */
/* Spectra of an update: the singular values of theta - base of each matrix, and what they say in few numbers.
 *
 * Needs: la (LAPACK), shape, libm.  Threads: LAPACK's own.  Ranks: knows none.  Bits: none promised. */
#ifndef SOWER_SPECTRUM_H
#define SOWER_SPECTRUM_H

#include "sower/shape.h"

enum { SOW_SPECTRUM_TOP = 8 };

typedef struct sow_spectrum {
    int64_t rows, cols, n;        /* n: min(rows, cols), values there are */
    double norm;                  /* Frobenius' */
    double top[SOW_SPECTRUM_TOP]; /* the largest values, descending; 0 beyond n */
    double stable_rank;           /* norm^2 / top[0]^2: 1 for one direction, n if all are alike; 0 for no update */
    double energy_1, energy_10;   /* share of norm^2 in the largest ceil(n / 100), ceil(n / 10) values */
    double rank; /* share of the n values above 1e-5 of the largest, as arXiv 2601.20861 counts (torch's matrix_rank) */
} sow_spectrum;

/* values [min(rows, cols)], descending. */
sow_spectrum sow_spectrum_of(int64_t rows, int64_t cols, const double *values);

/* Of one tensor of a layout; those with one row or column have no spectrum (SOW_EARG).  Memory: 12 bytes an element. */
SOW_NODISCARD sow_code sow_spectrum_measure(const sow_tensor *tensor, const float *base, const float *theta,
                                            sow_spectrum *out);
bool sow_spectrum_has(const sow_tensor *tensor);

/* Of all matrices of a kind: their number n, their norm together, means of the rest, `top` as shares of each one's
 * norm; false unless tensor `first` is the first of its kind. */
bool sow_spectrum_of_kind(const sow_layout *layout, const sow_spectrum *spectra, int64_t first, sow_spectrum *out);

/* The members of one JSON object: kinds, tensors.  spectra [n_tensors]; those of
 * tensors without a spectrum are not looked at. */
struct sow_line;
void sow_spectrum_put(struct sow_line *line, const sow_layout *layout, const sow_spectrum *spectra);

#endif
