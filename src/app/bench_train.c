/* SPDX-License-Identifier: Apache-2.0 */
/* Speeds of training's parts on one rank: rows of supervised training, and a group of completions behind one prompt, as
 * log-probabilities alone and with gradients, activations kept and computed again.  tools/torch_step.py measures the
 * first of them with PyTorch. */
#include "bench_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/gradient.h"
#include "sower/philox.h"

#include <string.h>

/* Units of a step. */
typedef struct batch {
    const char *what;
    int64_t n_units, n_prefix, n_sequences, n_inputs; /* inputs of a sequence */
} batch;

static const batch rows = {"4 rows of 256 tokens", 4, 0, 1, 256};
static const batch group = {"8 of 96 tokens behind 256", 1, 256, 8, 96};

typedef struct training {
    sow_bench *bench;
    sow_layout *layout; /* owned */
    float *theta;       /* owned */
    sow_type type;
    sow_replica *replica;   /* owned */
    int64_t *sums;          /* owned */
    sow_gradient *gradient; /* owned, of one figure */
    int32_t *ids;           /* owned, of one batch, as the two below */
    sow_sequence *sequences;
    sow_train_unit *units;
} training;

static sow_code open_model(training *t)
{
    const sow_bench *b = t->bench;
    sow_model *model = NULL;
    sow_shape shape = *sow_bench_shape();
    sow_code rc = SOW_OK;
    if (b->model_path != NULL)
        SOW_TRY(sow_model_open(b->model_path, &model));
    if (model != NULL)
        shape = sow_model_layout(model)->shape;
    SOW_TRY_OR(rc, sow_layout_create(&shape, &t->layout));
    SOW_TRY_OR(rc, SOW_ALLOC(&t->theta, t->layout->n_elements));
    if (model != NULL)
        SOW_TRY_OR(rc, sow_model_load(model, t->theta));
    else
        sow_model_init(t->layout, 1, 0.02, sow_la_kernels(b->la), t->theta);
    SOW_TRY_OR(rc, sow_replica_choose_type(b->options.model.dtype, t->layout, t->theta, &t->type));
    SOW_TRY_OR(rc, sow_replica_create(b->la, t->layout, t->type, &t->replica));
    SOW_TRY_OR(rc, sow_replica_make(t->replica, t->theta, NULL));
    rc = SOW_ALLOC(&t->sums, t->layout->n_elements);
done:
    sow_model_close(&model);
    return rc;
}

static void free_batch(training *t)
{
    sow_gradient_destroy(&t->gradient);
    SOW_FREE(&t->ids);
    SOW_FREE(&t->sequences);
    SOW_FREE(&t->units);
}

static void close_model(training *t)
{
    free_batch(t);
    SOW_FREE(&t->sums);
    sow_replica_destroy(&t->replica);
    SOW_FREE(&t->theta);
    sow_layout_destroy(&t->layout);
}

/* Sequences of random tokens; their last one is a target only. */
static sow_code make_batch(training *t, const batch *b)
{
    const int64_t n = b->n_units * b->n_sequences, n_ids = b->n_units * b->n_prefix + n * (b->n_inputs + 1);
    sow_random random;
    SOW_TRY(SOW_ALLOC(&t->ids, n_ids));
    SOW_TRY(SOW_ALLOC(&t->sequences, n));
    SOW_TRY(SOW_ALLOC(&t->units, b->n_units));
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 2, 0, 0, 0));
    for (int64_t i = 0; i < n_ids; i++)
        t->ids[i] = (int32_t)sow_random_below(&random, (uint32_t)t->layout->shape.vocab_size);
    for (int64_t i = 0; i < n; i++)
        t->sequences[i] = (sow_sequence){t->ids + b->n_units * b->n_prefix + i * (b->n_inputs + 1), b->n_inputs + 1};
    for (int64_t u = 0; u < b->n_units; u++)
        t->units[u] =
            (sow_train_unit){t->ids + u * b->n_prefix, b->n_prefix, t->sequences + u * b->n_sequences, b->n_sequences};
    return SOW_OK;
}

static sow_code weigh(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    const double *weight = context;
    (void)tokens;
    for (int64_t i = 0; i < n; i++)
        out[i] = (sow_token_weight){.logprob = (float)-*weight};
    return SOW_OK;
}

/* This process's own CPU time where one thread computes, so that another job on the machine does not count. */
static double now_s(const training *t)
{
    return sow_la_threads(t->bench->la) == 1 ? sow_clock_cpu_s() : sow_clock_now_s();
}

/* Two figures of one batch: tokens and operations a second, the best of several steps. */
static sow_code measure(training *t, const batch *b, const char *recompute, bool is_forward)
{
    sow_bench *bench = t->bench;
    const sow_gradient_options options = {.row_tokens = bench->options.train.row_tokens, .recompute = recompute};
    const int64_t tokens = b->n_units * (b->n_prefix + b->n_sequences * b->n_inputs);
    const double peak = bench->limits.peak_gflops[t->type] * bench->limits.threads;
    double weight = 1.0 / (double)tokens, best_s = 1e30, flops = 0;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, make_batch(t, b));
    SOW_TRY_OR(rc, sow_gradient_create(bench->la, t->layout, t->type, &options, &t->gradient));
    SOW_TRY_OR(rc, sow_gradient_weights(t->gradient, t->theta));
    const double begin = now_s(t);
    for (int round = 0; round < 3 || now_s(t) - begin < bench->seconds; round++) {
        const double start = now_s(t), done = sow_gradient_flops(t->gradient);
        SOW_TRY_OR(rc, sow_gradient_run(t->gradient, &(sow_gradient_args){.replica = t->replica,
                                                                          .units = t->units,
                                                                          .n_units = b->n_units,
                                                                          .temperature = 1,
                                                                          .weigh = weigh,
                                                                          .context = &weight,
                                                                          .sums = is_forward ? NULL : t->sums}));
        const double step_s = now_s(t) - start;
        best_s = round > 0 && step_s < best_s ? step_s : best_s; /* the first takes memory */
        flops = sow_gradient_flops(t->gradient) - done;
    }
    const char *what = is_forward ? "log-probabilities" : "gradients";
    const char *how = is_forward ? "" : strcmp(recompute, "none") == 0 ? ", kept" : ", recomputed";
    (void)sow_bench_add(bench, "tokens/s", (double)tokens / best_s, "%s of %s%s", what, b->what, how);
    sow_bench_limit(sow_bench_add(bench, "GFLOP/s", flops / best_s / 1e9, "  %s, %d threads", sow_type_name(t->type),
                                  bench->limits.threads),
                    peak, sow_bench_peak_name(t->type));
done:
    free_batch(t);
    return rc;
}

static sow_code check_context(const training *t)
{
    const int64_t needed = group.n_prefix + group.n_inputs, room = t->layout->shape.max_positions;
    return needed <= room ? SOW_OK
                          : SOW_FAIL(SOW_EARG, "train: needs a context of %lld tokens, the model has %lld",
                                     (long long)needed, (long long)room);
}

sow_code sow_bench_train(sow_bench *b)
{
    training t = {.bench = b};
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, open_model(&t));
    SOW_TRY_OR(rc, check_context(&t));
    SOW_TRY_OR(rc, measure(&t, &rows, "none", true));
    SOW_TRY_OR(rc, measure(&t, &rows, "none", false));
    SOW_TRY_OR(rc, measure(&t, &rows, "layer", false));
    SOW_TRY_OR(rc, measure(&t, &group, "none", false));
done:
    close_model(&t);
    return rc;
}
