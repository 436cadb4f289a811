/* SPDX-License-Identifier: Apache-2.0 */
/* bench_backward.c: the backward pass of linear layers and the passes of the optimizer, beside their limits. */
#include "bench_impl.h"

/* Layers [n][k]: two of SmolLM2-135M, one of a small model. */
static const struct layer {
    int64_t n_size, k_size;
} layers[] = {{1536, 576}, {576, 576}, {96, 256}};
static const int64_t rows[] = {16, 64, 256, 1024};
enum { N_LAYERS = sizeof layers / sizeof *layers, N_ROWS = sizeof rows / sizeof *rows };

static void add(sow_bench *b, double gflops, const char *what, int64_t t_size, const struct layer *l)
{
    sow_figure *figure = sow_bench_add(b, "GFLOP/s", gflops, "%s, %lld rows, %lld x %lld, one core", what,
                                       (long long)t_size, (long long)l->n_size, (long long)l->k_size);
    sow_bench_limit(figure, b->limits.peak_gflops[SOW_F32], "FMA peak");
}

static sow_code bench_outer(sow_bench *b, const sow_kernels *kernels, const char *what)
{
    for (int i = 0; i < N_LAYERS; i++) {
        for (int j = 0; j < N_ROWS; j++) {
            double gflops = 0;
            SOW_TRY(sow_bench_measure_outer(kernels, rows[j], layers[i].n_size, layers[i].k_size, b->seconds, &gflops));
            add(b, gflops, what, rows[j], &layers[i]);
        }
    }
    return SOW_OK;
}

/* dx = dy W is a linear layer of k outputs and n inputs. */
static sow_code bench_inputs(sow_bench *b, const sow_kernels *kernels)
{
    for (int i = 0; i < N_LAYERS; i++) {
        for (int j = 0; j < N_ROWS; j++) {
            sow_bench_linear speed;
            SOW_TRY(sow_bench_measure_linear(kernels, SOW_FP16, rows[j], layers[i].k_size, layers[i].n_size, b->seconds,
                                             &speed));
            add(b, speed.gflops, "dx fp16", rows[j], &layers[i]);
        }
    }
    return SOW_OK;
}

sow_code sow_bench_backward(sow_bench *b)
{
    const sow_kernels *kernels = sow_la_kernels(b->la);
    sow_la *one = NULL; /* tells OpenBLAS to use one thread */
    SOW_TRY(bench_outer(b, kernels, "dw"));
    SOW_TRY(bench_inputs(b, kernels));
    SOW_TRY(sow_la_create("openblas", "auto", 1, &one));
    const sow_code rc = bench_outer(b, NULL, "OpenBLAS dw");
    sow_la_destroy(&one);
    return rc;
}

sow_code sow_bench_optimizer(sow_bench *b)
{
    sow_bench_passes speed;
    SOW_TRY(sow_bench_measure_passes(sow_la_kernels(b->la), b->seconds, &speed));
    const struct pass {
        const char *name;
        double gbytes_s;
    } passes[] = {{"AdamW, 28 B an element, one core", speed.adamw},
                  {"gradients into fixed point, 20 B, one core", speed.add_fixed},
                  {"fixed point to float32, 12 B, one core", speed.from_fixed},
                  {"transpose and pack fp16, 6 B, one core", speed.transpose}};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
        sow_bench_limit(sow_bench_add(b, "GB/s", passes[i].gbytes_s, "%s", passes[i].name), b->limits.read_gbytes_s,
                        "read bandwidth");
    return SOW_OK;
}
