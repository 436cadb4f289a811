/* SPDX-License-Identifier: Apache-2.0 */
/* Speeds of the kernels beside the limits of this machine; `sower bench` prints them.
 *
 * Needs: kernels, la, clock.  Threads: call from the first thread; all but sow_bench_limits measure one core.  Ranks:
 * knows none.
 *
 * A figure is the best of several runs in this thread's own CPU time (all threads together: elapsed time), so that
 * another job on the machine does not count.  Each call takes about as long as `seconds` says, and returns SOW_ENOMEM
 * if there is no room for its data. */
#ifndef SOWER_BENCH_LA_H
#define SOWER_BENCH_LA_H

#include "sower/kernels.h"

/* G = 1e9.  A multiply-add is two operations. */
typedef struct sow_bench_limits {
    double peak_gflops[SOW_N_TYPES]; /* multiply-adds as products of a type have them, one core */
    double read_gbytes_s;            /* from memory, one core */
    double read_all_gbytes_s;        /* all threads together */
    int64_t cache_bytes;             /* the last-level cache */
    int threads;
} sow_bench_limits;

/* What nothing on this machine can be faster than. */
SOW_NODISCARD sow_code sow_bench_measure_limits(const sow_kernels *kernels, int threads, double seconds,
                                                sow_bench_limits *out);

/* A linear layer of m_size rows, n_size outputs (a multiple of 32) and k_size inputs.  Up to 4 rows the weights cycle
 * through copies that are together at least 8 times as large as the last-level cache, as in a model; beyond, through as
 * much as two caches hold. */
typedef struct sow_bench_linear {
    double gflops;
    double gbytes_s; /* of weights */
} sow_bench_linear;

/* One linear layer on one core. */
SOW_NODISCARD sow_code sow_bench_measure_linear(const sow_kernels *kernels, sow_type type, int64_t m_size,
                                                int64_t n_size, int64_t k_size, double seconds, sow_bench_linear *out);

/* The same layer by OpenBLAS in float32, on as many threads as it was told last. */
SOW_NODISCARD sow_code sow_bench_measure_blas(int64_t m_size, int64_t n_size, int64_t k_size, double seconds,
                                              sow_bench_linear *out);

/* The gradient of a layer's weights, dw [n_size][k_size] += dy^T x over t_size rows, on one core; dw cycles through as
 * much as two last-level caches hold, as in a model.  kernels NULL: OpenBLAS, on the threads that it was told last. */
SOW_NODISCARD sow_code sow_bench_measure_outer(const sow_kernels *kernels, int64_t t_size, int64_t n_size,
                                               int64_t k_size, double seconds, double *gflops);

/* Passes over a model's size of numbers, one core, from and to memory: bytes read and written once, 1e9 a second. */
typedef struct sow_bench_passes {
    double adamw;      /* 28 bytes an element: reads gradient, theta, m, v; writes theta, m, v */
    double add_fixed;  /* 20: reads x and the sum, writes the sum */
    double from_fixed; /* 12 */
    double transpose;  /* 6: float32 to fp16 */
} sow_bench_passes;
SOW_NODISCARD sow_code sow_bench_measure_passes(const sow_kernels *kernels, double seconds, sow_bench_passes *out);

/* 1e9 elements a second. */
typedef struct sow_bench_elements {
    double exp_g;
    double noise_g[SOW_N_NOISE_LOOPS];
    double accumulate_g[SOW_N_NOISE_LOOPS];
    double perturb_g[SOW_N_NOISE_LOOPS]; /* perturb and pack, from and to memory */
} sow_bench_elements;

/* The loops over elements on one core. */
SOW_NODISCARD sow_code sow_bench_measure_elements(const sow_kernels *kernels, sow_type type, double seconds,
                                                  sow_bench_elements *out);

#endif
