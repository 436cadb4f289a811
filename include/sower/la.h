/* SPDX-License-Identifier: Apache-2.0 */
/* Linear algebra over threads: the kernels of one table, split over OpenMP threads, or OpenBLAS in their place.
 *
 * Needs: kernels, OpenMP; cblas and lapacke in src/la only.  Threads: call from the first thread; it splits.  Ranks:
 * knows none.  Bits: with backend exact independent of the number of threads. */
#ifndef SOWER_LA_H
#define SOWER_LA_H

#include "sower/kernels.h"

typedef struct sow_la sow_la;

/* backend "exact" or "openblas"; kernel "auto" or a name; threads 0: OMP_NUM_THREADS, else the cores this process is
 * bound to. SOW_ECONF for names not possible here. */
SOW_NODISCARD sow_code sow_la_create(const char *backend, const char *kernel, int64_t threads, sow_la **out);
void sow_la_destroy(sow_la **la);

/* What was chosen at creation. */
const sow_kernels *sow_la_kernels(const sow_la *la);
int sow_la_threads(const sow_la *la);
bool sow_la_is_exact(const sow_la *la);

/* SOW_ECONF where a backend does not multiply a type: openblas bf16-mixed. */
SOW_NODISCARD sow_code sow_la_check_type(sow_type type, bool is_exact);

/* Bytes of a packed tensor, and of its padded outputs. */
size_t sow_la_packed_bytes(sow_type type, int64_t n_size, int64_t k_size);
int64_t sow_la_padded(int64_t n_size); /* up to a multiple of SOW_PANEL */

/* The linear layer over threads (panels are split; rows too where there are few panels).  n_size is padded. */
void sow_la_linear(sow_la *la, const sow_linear_args *args);

/* Perturb and pack a whole tensor (first_panel, n_panels are set inside), over threads. */
void sow_la_perturb(sow_la *la, const sow_perturb_args *args);

/* The same over threads for what the backward pass needs.  With backend openblas `outer` is cblas_sgemm. */
void sow_la_outer(sow_la *la, const sow_outer_args *args);
void sow_la_transpose(sow_la *la, const sow_transpose_args *args); /* first_panel, n_panels are set inside */
int sow_la_add_fixed(sow_la *la, int64_t n, const float *x, int64_t *sums);

/* Element (n, k) of a packed tensor as float32; a row n of k_size elements into out (the embedding of a token). */
void sow_la_packed_row(sow_type type, int64_t k_size, const void *w, int64_t n, float *out);

/* Name, version and core type of the OpenBLAS that is linked ("OpenBLAS 0.3.21 SkylakeX"), and whether its core type
 * looks wrong for this CPU; then `*remedy` says what to set, else it is NULL.  Static storage. */
const char *sow_la_blas_name(const char **remedy);
/* "AMD EPYC ..., avx512" for logs. */
const char *sow_la_cpu_name(void);

/* sgemm of OpenBLAS, as anchor of the bench and oracle of tests: y[m][n] = sum_k x[m][k] w[n][k], all row-major
 * float32. */
void sow_la_blas_linear(int64_t m, int64_t n, int64_t k, const float *x, const float *w, float *y);

/* Singular values of a [rows][cols], descending, into out [min(rows, cols)], by LAPACK in float64: good to a few 1e-16
 * of the largest; no bits are promised.  Takes 8 bytes an element.  SOW_ENOMEM; SOW_ENUM if an element is not finite or
 * LAPACK does not converge (out is then of no use). */
SOW_NODISCARD sow_code sow_la_singular_values(int64_t rows, int64_t cols, const float *a, double *out);

#endif
