/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `sower bench` share: a list of figures, and what is measured with. */
#ifndef SOWER_BENCH_IMPL_H
#define SOWER_BENCH_IMPL_H

#include "app_impl.h"

#include "sower/bench_la.h"
#include "sower/theta.h"

enum { SOW_MAX_FIGURES = 128 };

/* One figure.  Where a limit is known the ratio to it is what counts. */
typedef struct sow_figure {
    char name[72];
    char unit[24];
    double value;
    double limit;        /* in the same unit; 0: none is known */
    char limit_name[40]; /* "read bandwidth", "FMA peak", "bf16 peak" */
    bool is_of_job;      /* of all ranks together; else each rank has its own, at the same time */
} sow_figure;

typedef struct sow_bench {
    const sow_app *app;
    sow_options options;
    const char *model_path;  /* NULL: random weights of SmolLM2-135M's shape */
    double seconds;          /* about so long a figure */
    int64_t rows, max_new;   /* of the generation that is measured */
    sow_la *la;              /* owned */
    sow_bench_limits limits; /* measured first, whatever is asked for */
    int64_t n_figures;
    sow_figure figures[SOW_MAX_FIGURES];
} sow_bench;

/* Adds a figure; name as by printf. */
sow_figure *sow_bench_add(sow_bench *bench, const char *unit, double value, const char *fmt, ...) SOW_PRINTF(4, 5);
void sow_bench_limit(sow_figure *figure, double limit, const char *name);
const char *sow_bench_peak_name(sow_type type); /* "FMA peak" */

/* bench_backward.c: gradients of weights and of inputs, OpenBLAS beside them; passes of the optimizer. */
SOW_NODISCARD sow_code sow_bench_backward(sow_bench *bench);
SOW_NODISCARD sow_code sow_bench_optimizer(sow_bench *bench);

/* bench_train.c: log-probabilities and gradients, on each rank by itself. */
SOW_NODISCARD sow_code sow_bench_train(sow_bench *bench);

/* bench_model.c.  The shape of SmolLM2-135M.  Collective:
 * decoding with 1, 8 and 32 sequences; one ES generation beside pure inference. */
const sow_shape *sow_bench_shape(void);
SOW_NODISCARD sow_code sow_bench_decode(sow_bench *bench);
SOW_NODISCARD sow_code sow_bench_generation(sow_bench *bench);

#endif
