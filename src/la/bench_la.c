/* SPDX-License-Identifier: Apache-2.0 */
/* bench_la.c: times the kernels. */
#include "sower/bench_la.h"

#include "la_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/la.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <omp.h>

enum {
    LEAST_SAMPLES = 3,
    DEFAULT_CACHE = 32 << 20,
    READ_N = 1 << 22, /* 16 MiB */
    MEMORY_ROWS = 4,  /* up to so many rows a layer lives from memory */
    CACHES = 8,
    N_ELEMENTS = 1 << 15, /* in the first cache or near it */
    PERTURB_N = 4096,
    PERTURB_K = 1536,
};

static double thread_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs body(context, run) for `seconds` and returns the shortest time of one, as the mean of a sample of a millisecond
 * or more: this clock is a few microseconds coarse. */
static double best_of(double seconds, void (*body)(void *context, int64_t run), void *context)
{
    const double sample_s = seconds < 0.01 ? seconds / 10 : 0.001;
    double best = 1e9, spent = 0.0;
    int64_t run = 0, batch = 1;
    for (int n_samples = 0; n_samples < LEAST_SAMPLES || spent < seconds;) {
        const double start = thread_seconds();
        for (int64_t i = 0; i < batch; i++)
            body(context, run++);
        const double took = thread_seconds() - start;
        if (took < sample_s) {
            batch *= 2;
            continue;
        }
        best = took / (double)batch < best ? took / (double)batch : best;
        spent += took;
        n_samples++;
    }
    return best;
}

/* The last-level cache that a core shares.  (sysconf adds up those of a whole package, which on some CPUs is ten times
 * as much.) */
static int64_t cache_bytes(void)
{
    char text[32] = "";
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "r");
    if (file == NULL)
        return DEFAULT_CACHE;
    char *line = fgets(text, sizeof text, file), *end = text;
    (void)fclose(file);
    const long kib = line == NULL ? 0 : strtol(text, &end, 10);
    return kib > 0 && *end == 'K' ? (int64_t)kib << 10 : DEFAULT_CACHE;
}

static volatile float sink; /* what is computed and not used */

/* ---- limits ---- */

typedef struct limits_job {
    const sow_kernels *kernels;
    sow_type type;
    float *x;
    int64_t n;
    double flops;
} limits_job;

static void run_peak(void *context, int64_t run)
{
    float out[1024];
    limits_job *job = context;
    job->flops = job->kernels->peak(job->type, 100000, out);
    sink = out[run % 16];
}

/* Parts of the size of a layer's weights, by turns, as the layers of a model are read. */
static void run_read(void *context, int64_t run)
{
    const limits_job *job = context;
    sink = job->kernels->read(READ_N, job->x + run % (job->n / READ_N) * READ_N);
}

/* Each thread reads its part of x, which it touched first. */
static double read_all(const limits_job *job, int threads)
{
    float total = 0.0f;
    const double start = sow_clock_now_s();
#pragma omp parallel for schedule(static, 1) num_threads(threads) reduction(+ : total)
    for (int i = 0; i < threads; i++)
        total += job->kernels->read(job->n / threads, job->x + job->n / threads * i);
    sink = total;
    return sow_clock_now_s() - start;
}

sow_code sow_bench_measure_limits(const sow_kernels *kernels, int threads, double seconds, sow_bench_limits *out)
{
    limits_job job = {.kernels = kernels, .n = CACHES * cache_bytes() / (int64_t)sizeof(float)};
    SOW_TRY(SOW_ALLOC(&job.x, job.n));
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int i = 0; i < threads; i++)
        memset(job.x + job.n / threads * i, 1, (size_t)(job.n / threads) * sizeof *job.x);

    sow_bench_limits limits = {.cache_bytes = cache_bytes(), .threads = threads};
    const double bytes = (double)job.n * sizeof *job.x;
    for (int type = 0; type < SOW_N_TYPES; type++) {
        job.type = (sow_type)type;
        const double peak_s = best_of(seconds / 3 / SOW_N_TYPES, run_peak, &job);
        limits.peak_gflops[type] = job.flops / peak_s * 1e-9;
    }
    limits.read_gbytes_s = (double)READ_N * sizeof *job.x / best_of(seconds / 3, run_read, &job) * 1e-9;
    double best = 1e9;
    const double end = sow_clock_now_s() + seconds / 3;
    do {
        const double took = read_all(&job, threads);
        best = took < best ? took : best;
    } while (sow_clock_now_s() < end);
    limits.read_all_gbytes_s = bytes / best * 1e-9;
    SOW_FREE(&job.x);
    *out = limits;
    return SOW_OK;
}

/* ---- linear layers ---- */

typedef struct linear_job {
    const sow_kernels *kernels; /* NULL: OpenBLAS */
    sow_linear_args args;
    int64_t weight_bytes, n_copies;
    float *x, *y;
    char *w;
} linear_job;

static void run_linear(void *context, int64_t run)
{
    linear_job *job = context;
    job->args.w = job->w + run % job->n_copies * job->weight_bytes;
    if (job->kernels != NULL)
        job->kernels->linear(&job->args);
    else
        sow_la_blas_linear(job->args.m_size, job->args.n_size, job->args.k_size, job->args.x,
                           (const float *)(const void *)job->args.w, job->args.y);
}

static sow_code measure_linear(linear_job *job, double seconds, sow_bench_linear *out)
{
    sow_linear_args *a = &job->args;
    const int64_t room = (a->m_size <= MEMORY_ROWS ? CACHES : 2) * cache_bytes();
    sow_code rc = SOW_OK;
    job->weight_bytes = (int64_t)sow_la_packed_bytes(a->type, a->n_size, a->k_size);
    job->n_copies = room / job->weight_bytes + 1;
    SOW_TRY_OR(rc, SOW_ALLOC(&job->x, a->m_size * a->k_size));
    SOW_TRY_OR(rc, SOW_ALLOC(&job->y, a->m_size * a->n_size));
    SOW_TRY_OR(rc, SOW_ALLOC(&job->w, job->weight_bytes * job->n_copies));
    for (int64_t i = 0; i < a->m_size * a->k_size; i++)
        job->x[i] = (float)(i % 13) * 0.1f;
    memset(job->w, 0x3c, (size_t)(job->weight_bytes * job->n_copies)); /* ordinary numbers in all types */
    a->ldx = a->k_size;
    a->ldy = a->n_size;
    a->x = job->x;
    a->y = job->y;
    const double s = best_of(seconds, run_linear, job);
    out->gflops = 2e-9 * (double)a->m_size * (double)a->n_size * (double)a->k_size / s;
    out->gbytes_s = 1e-9 * (double)job->weight_bytes / s;
done:
    SOW_FREE(&job->x);
    SOW_FREE(&job->y);
    SOW_FREE(&job->w);
    return rc;
}

sow_code sow_bench_measure_linear(const sow_kernels *kernels, sow_type type, int64_t m_size, int64_t n_size,
                                  int64_t k_size, double seconds, sow_bench_linear *out)
{
    linear_job job = {.kernels = kernels, .args = {.type = type, .m_size = m_size, .n_size = n_size, .k_size = k_size}};
    return measure_linear(&job, seconds, out);
}

sow_code sow_bench_measure_blas(int64_t m_size, int64_t n_size, int64_t k_size, double seconds, sow_bench_linear *out)
{
    linear_job job = {.args = {.type = SOW_F32, .m_size = m_size, .n_size = n_size, .k_size = k_size}};
    return measure_linear(&job, seconds, out);
}

/* ---- the backward pass and the optimizer ---- */

typedef struct outer_job {
    const sow_kernels *kernels; /* NULL: OpenBLAS */
    sow_outer_args args;
    int64_t n_copies;
    float *dy, *x, *dw;
} outer_job;

static void run_outer(void *context, int64_t run)
{
    outer_job *job = context;
    job->args.dw = job->dw + run % job->n_copies * job->args.n_size * job->args.k_size;
    if (job->kernels != NULL)
        job->kernels->outer(&job->args);
    else
        sow_blas_outer(&job->args);
}

sow_code sow_bench_measure_outer(const sow_kernels *kernels, int64_t t_size, int64_t n_size, int64_t k_size,
                                 double seconds, double *gflops)
{
    outer_job job = {
        .kernels = kernels,
        .args = {.t_size = t_size, .n_size = n_size, .k_size = k_size, .ldy = n_size, .ldx = k_size, .ldw = k_size}};
    sow_code rc = SOW_OK;
    job.n_copies = 2 * cache_bytes() / (n_size * k_size * (int64_t)sizeof *job.dw) + 1;
    SOW_TRY_OR(rc, SOW_ALLOC(&job.dy, t_size * n_size));
    SOW_TRY_OR(rc, SOW_ALLOC(&job.x, t_size * k_size));
    SOW_TRY_OR(rc, SOW_ALLOC(&job.dw, n_size * k_size * job.n_copies));
    for (int64_t i = 0; i < t_size * n_size; i++)
        job.dy[i] = (float)(i % 13 - 6) * 0.1f;
    for (int64_t i = 0; i < t_size * k_size; i++)
        job.x[i] = (float)(i % 11 - 5) * 0.1f;
    memset(job.dw, 0, (size_t)(n_size * k_size * job.n_copies) * sizeof *job.dw); /* its pages are touched */
    job.args.dy = job.dy;
    job.args.x = job.x;
    *gflops = 2e-9 * (double)t_size * (double)n_size * (double)k_size / best_of(seconds, run_outer, &job);
done:
    SOW_FREE(&job.dy);
    SOW_FREE(&job.x);
    SOW_FREE(&job.dw);
    return rc;
}

/* A pass takes a block of elements; blocks take turns. */
enum { PASS = 1 << 20, PASS_K = 1024, N_MOMENTS = 7 };

typedef struct passes_job {
    const sow_kernels *kernels;
    int64_t n_blocks;
    float *block[N_MOMENTS]; /* each [n_blocks][PASS]: gradient; theta, m, v; the next theta, m, v */
    int64_t *sums;           /* [n_blocks][PASS] */
} passes_job;

static void run_adamw(void *context, int64_t run)
{
    const passes_job *job = context;
    const int64_t at = run % job->n_blocks * PASS;
    job->kernels->adamw(&(sow_adamw_args){.n = PASS,
                                          .clip = 1.0f,
                                          .keep = 0.99999f,
                                          .one_minus_beta1 = 0.1f,
                                          .beta2 = 0.999f,
                                          .one_minus_beta2 = 0.001f,
                                          .eps = 1e-8f,
                                          .step_size = 1e-3f,
                                          .root_correction = 1.0f,
                                          .gradient = job->block[0] + at,
                                          .theta = job->block[1] + at,
                                          .m = job->block[2] + at,
                                          .v = job->block[3] + at,
                                          .theta_out = job->block[4] + at,
                                          .m_out = job->block[5] + at,
                                          .v_out = job->block[6] + at});
}

static void run_add_fixed(void *context, int64_t run)
{
    const passes_job *job = context;
    const int64_t at = run % job->n_blocks * PASS;
    sink = (float)job->kernels->add_fixed(PASS, job->block[0] + at, job->sums + at);
}

static void run_from_fixed(void *context, int64_t run)
{
    const passes_job *job = context;
    const int64_t at = run % job->n_blocks * PASS;
    job->kernels->from_fixed(PASS, job->sums + at, job->block[4] + at);
}

static void run_transpose(void *context, int64_t run)
{
    const passes_job *job = context;
    const int64_t at = run % job->n_blocks * PASS;
    job->kernels->transpose(&(sow_transpose_args){.type = SOW_FP16,
                                                  .n_size = PASS / PASS_K,
                                                  .k_size = PASS_K,
                                                  .inner_size = PASS / PASS_K,
                                                  .n_panels = PASS_K / SOW_PANEL,
                                                  .theta = job->block[1] + at,
                                                  .w = job->block[4] + at});
}

sow_code sow_bench_measure_passes(const sow_kernels *kernels, double seconds, sow_bench_passes *out)
{
    passes_job job = {.kernels = kernels, .n_blocks = 2 * cache_bytes() / (PASS * (int64_t)sizeof(float)) + 1};
    const int64_t n = job.n_blocks * PASS;
    const double each_s = seconds / 4, g = PASS * 1e-9;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&job.sums, n));
    for (int i = 0; i < N_MOMENTS; i++)
        SOW_TRY_OR(rc, SOW_ALLOC(&job.block[i], n));
    for (int64_t i = 0; i < n; i++) {
        job.block[0][i] = (float)(i % 13 - 6) * 1e-4f;
        for (int j = 1; j < N_MOMENTS; j++)
            job.block[j][i] = 0.01f;
        job.sums[i] = i << 20;
    }
    out->adamw = 28 * g / best_of(each_s, run_adamw, &job);
    out->from_fixed = 12 * g / best_of(each_s, run_from_fixed, &job);
    out->add_fixed = 20 * g / best_of(each_s, run_add_fixed, &job);
    out->transpose = 6 * g / best_of(each_s, run_transpose, &job);
done:
    for (int i = 0; i < N_MOMENTS; i++)
        SOW_FREE(&job.block[i]);
    SOW_FREE(&job.sums);
    return rc;
}

/* ---- elements ---- */

typedef struct elements_job {
    const sow_kernels *kernels;
    sow_noise_loop loop;
    sow_perturb_args perturb;
    float *x, *y; /* [N_ELEMENTS] */
} elements_job;

static void run_exp(void *context, int64_t run)
{
    (void)run;
    const elements_job *job = context;
    job->kernels->exp(N_ELEMENTS, job->x, job->y);
}

static void run_noise(void *context, int64_t run)
{
    const elements_job *job = context;
    job->kernels->noise(job->loop, job->perturb.place, (uint64_t)run * N_ELEMENTS, N_ELEMENTS, job->y);
}

static void run_accumulate(void *context, int64_t run)
{
    const elements_job *job = context;
    job->kernels->accumulate(&(sow_accumulate_args){.loop = job->loop,
                                                    .place = job->perturb.place,
                                                    .first = (uint64_t)run * N_ELEMENTS,
                                                    .n = N_ELEMENTS,
                                                    .c = 1e-6f,
                                                    .acc = job->y});
}

static void run_perturb(void *context, int64_t run)
{
    (void)run;
    const elements_job *job = context;
    job->kernels->perturb(&job->perturb);
}

sow_code sow_bench_measure_elements(const sow_kernels *kernels, sow_type type, double seconds, sow_bench_elements *out)
{
    enum { N_MEASURES = 1 + 3 * SOW_N_NOISE_LOOPS };
    const double each_s = seconds / N_MEASURES, count = N_ELEMENTS * 1e-9,
                 weights = (double)PERTURB_N * PERTURB_K * 1e-9;
    float *theta = NULL, *w = NULL;
    elements_job job = {.kernels = kernels,
                        .perturb = {.type = type,
                                    .place = {.key = {1, 2}, .stream = {3, 4}},
                                    .factor = 1e-3f,
                                    .n_size = PERTURB_N,
                                    .k_size = PERTURB_K,
                                    .n_panels = PERTURB_N / SOW_PANEL}};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, SOW_ALLOC(&job.x, N_ELEMENTS));
    SOW_TRY_OR(rc, SOW_ALLOC(&job.y, N_ELEMENTS));
    SOW_TRY_OR(rc, SOW_ALLOC(&theta, (int64_t)PERTURB_N * PERTURB_K));
    SOW_TRY_OR(rc, SOW_ALLOC(&w, (int64_t)PERTURB_N * PERTURB_K));
    for (int64_t i = 0; i < N_ELEMENTS; i++)
        job.x[i] = (float)(i % 1000) * -0.02f;
    memset(theta, 0x3c, (size_t)PERTURB_N * PERTURB_K * sizeof *theta);
    job.perturb.theta = theta;
    job.perturb.w = w;
    out->exp_g = count / best_of(each_s, run_exp, &job);
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++) {
        job.loop = job.perturb.loop = loop;
        out->noise_g[loop] = count / best_of(each_s, run_noise, &job);
        out->accumulate_g[loop] = count / best_of(each_s, run_accumulate, &job);
        out->perturb_g[loop] = weights / best_of(each_s, run_perturb, &job);
    }
done:
    SOW_FREE(&job.x);
    SOW_FREE(&job.y);
    SOW_FREE(&theta);
    SOW_FREE(&w);
    return rc;
}
