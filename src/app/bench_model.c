/* SPDX-License-Identifier: Apache-2.0 */
/* Speeds of a whole model: decoding, and an ES generation beside pure inference of the same tokens.  The model has no
 * end token here, so that every sequence has the length that was asked for. */
#include "bench_impl.h"

#include "sower/alloc.h"
#include "sower/clock.h"
#include "sower/philox.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    DECODE_NEW = 128,   /* tokens of a sequence */
    PROMPT_TOKENS = 32, /* of a row of the generation */
    N_MEMBERS = 2,
    UNIT_TOKENS = 4096, /* of a usual unit of work */
};

/* A model on all ranks. */
typedef struct loaded {
    sow_bench *bench;
    sow_layout *layout; /* owned; without end tokens */
    sow_theta *theta;   /* owned */
    sow_type type;
    sow_replica *replica;    /* owned */
    int32_t *ids;            /* owned: prompts */
    sow_prompt *prompts;     /* owned */
    sow_completion *answers; /* owned */
} loaded;

/* SmolLM2-135M (Allal et al. 2025, arXiv 2502.02737). */
static const sow_shape usual_shape = {
    .family = "llama",
    .vocab_size = 49152,
    .hidden_size = 576,
    .intermediate_size = 1536,
    .n_layers = 30,
    .n_heads = 9,
    .n_kv_heads = 3,
    .head_dim = 64,
    .max_positions = 8192,
    .rope_theta = 100000,
    .rms_norm_eps = 1e-5,
    .rope_factor = 1,
    .is_tied = true,
    .bos = -1,
    .pad = -1,
};

const sow_shape *sow_bench_shape(void)
{
    return &usual_shape;
}

static bool is_root(const loaded *m)
{
    return sow_world_rank(m->bench->app->world) == 0;
}

static bool is_leader(const loaded *m)
{
    const sow_world *world = m->bench->app->world;
    int rank = sow_world_rank(world);
    return sow_world_node_member(world, sow_world_node_of(world, rank), 0) == rank;
}

/* Collective.  Weights from the file, or random ones, which every node makes alike. */
static sow_code load_weights(loaded *m, sow_model *model)
{
    sow_world *world = m->bench->app->world;
    float *base = sow_theta_base(m->theta);
    size_t bytes = (size_t)m->layout->n_elements * sizeof *base;
    const char *dtype = m->bench->options.model.dtype;
    sow_code rc = SOW_OK;
    if (m->bench->model_path == NULL && is_leader(m))
        sow_model_init(m->layout, 1, 0.02, sow_la_kernels(m->bench->la), base);
    if (model != NULL)
        rc = sow_model_load(model, base);
    SOW_TRY(sow_world_agree(world, rc));
    if (m->bench->model_path != NULL)
        SOW_TRY(sow_world_bcast_leaders(world, base, bytes));
    if (is_root(m))
        rc = sow_replica_choose_type(dtype, m->layout, base, &m->type);
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_world_bcast(world, &m->type, sizeof m->type));
    if (is_leader(m)) {
        memcpy(sow_theta_buffer(m->theta, 0), base, bytes);
        sow_theta_loaded(m->theta, 0);
    }
    return sow_world_barrier(world);
}

/* Collective. */
static sow_code open_model(loaded *m)
{
    sow_bench *b = m->bench;
    sow_world *world = b->app->world;
    sow_model *model = NULL;
    sow_shape shape = usual_shape;
    sow_code rc = SOW_OK;
    if (is_root(m) && b->model_path != NULL)
        rc = sow_model_open(b->model_path, &model);
    SOW_TRY_OR(rc, sow_world_agree(world, rc));
    if (model != NULL)
        shape = sow_model_layout(model)->shape;
    shape.n_eos = 0;
    SOW_TRY_OR(rc, sow_world_bcast(world, &shape, sizeof shape));
    SOW_TRY_OR(rc, sow_world_agree(world, sow_layout_create(&shape, &m->layout)));
    SOW_TRY_OR(rc, sow_theta_create(world, b->la, m->layout, b->options.es.update_block, &m->theta));
    SOW_TRY_OR(rc, load_weights(m, model));
    rc = sow_replica_create(b->la, m->layout, m->type, &m->replica);
    if (rc == SOW_OK)
        rc = sow_replica_make(m->replica, sow_theta_buffer(m->theta, 0), NULL);
    rc = sow_world_agree(world, rc);
done:
    sow_model_close(&model);
    return rc;
}

static void close_model(loaded *m)
{
    SOW_FREE(&m->answers);
    SOW_FREE(&m->prompts);
    SOW_FREE(&m->ids);
    sow_replica_destroy(&m->replica);
    sow_theta_destroy(&m->theta);
    sow_layout_destroy(&m->layout);
}

/* Seconds: of this process's own CPU time where it is alone with one thread, so that another job on the machine does
 * not count; else elapsed. */
static double now_s(const loaded *m)
{
    bool is_alone = sow_world_size(m->bench->app->world) == 1 && sow_la_threads(m->bench->la) == 1;
    return is_alone ? sow_clock_cpu_s() : sow_clock_now_s();
}

/* n random prompts of n_tokens each. */
static sow_code make_prompts(loaded *m, int64_t n, int64_t n_tokens)
{
    sow_random random;
    SOW_FREE(&m->answers);
    SOW_FREE(&m->prompts);
    SOW_FREE(&m->ids);
    SOW_TRY(SOW_ALLOC(&m->ids, n * n_tokens));
    SOW_TRY(SOW_ALLOC(&m->prompts, n));
    SOW_TRY(SOW_ALLOC(&m->answers, n));
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 1, 0, 0, 0));
    for (int64_t i = 0; i < n * n_tokens; i++)
        m->ids[i] = (int32_t)sow_random_below(&random, (uint32_t)m->layout->shape.vocab_size);
    for (int64_t i = 0; i < n; i++)
        m->prompts[i] = (sow_prompt){.ids = m->ids + i * n_tokens, .n = n_tokens};
    return SOW_OK;
}

static sow_code check_length(const loaded *m, int64_t n_tokens)
{
    int64_t room = m->layout->shape.max_positions;
    return n_tokens <= room
               ? SOW_OK
               : SOW_FAIL(SOW_EARG, "--max-new: prompt and completion have %lld tokens, the model's context has %lld",
                          (long long)n_tokens, (long long)room);
}

static sow_code generate(loaded *m, sow_engine *engine, int64_t n, int64_t max_new)
{
    return sow_engine_generate(
        engine, &(sow_generate_args){.replica = m->replica, .prompts = m->prompts, .n_prompts = n, .max_new = max_new},
        m->answers);
}

/* ---- Decoding ---- */

static double replica_bytes(const loaded *m)
{
    return (double)sow_replica_bytes(m->layout, m->type);
}

/* Tokens a second that memory and arithmetic allow: weights are read once for all sequences of a step. */
static double decode_limit(const loaded *m, int64_t batch, const char **name)
{
    const sow_bench_limits *limits = &m->bench->limits;
    double read_gbytes_s = limits->threads == 1 ? limits->read_gbytes_s : limits->read_all_gbytes_s;
    bool is_cached = replica_bytes(m) < (double)limits->cache_bytes;
    double read_s = is_cached ? 0 : replica_bytes(m) / (read_gbytes_s * 1e9);
    double flops = sow_layout_flops(m->layout, DECODE_NEW / 2) * (double)batch;
    double compute_s = flops / (limits->peak_gflops[m->type] * 1e9 * limits->threads);
    *name = read_s > compute_s ? "read bandwidth" : sow_bench_peak_name(m->type);
    return (double)batch / (read_s > compute_s ? read_s : compute_s);
}

static sow_code decode(loaded *m, int64_t batch, int64_t max_new)
{
    sow_engine *engine = NULL;
    const char *limit_name = NULL;
    double best = 0, begin = now_s(m);
    sow_code rc = SOW_OK;
    SOW_TRY(make_prompts(m, batch, 1));
    SOW_TRY_OR(rc, sow_engine_create(m->bench->la, m->layout, batch, &engine));
    for (int round = 0; round < 2 || now_s(m) - begin < m->bench->seconds; round++) {
        double start = now_s(m);
        SOW_TRY_OR(rc, generate(m, engine, batch, max_new));
        double rate = (double)(batch * max_new) / (now_s(m) - start);
        best = round > 0 && rate > best ? rate : best; /* the first takes memory */
    }
    sow_figure *figure = sow_bench_add(m->bench, "tokens/s", best, "decode %lld sequences, %s, %d threads",
                                       (long long)batch, sow_type_name(m->type), m->bench->limits.threads);
    double limit = decode_limit(m, batch, &limit_name);
    sow_bench_limit(figure, limit, limit_name);
done:
    sow_engine_destroy(&engine);
    return rc;
}

sow_code sow_bench_decode(sow_bench *b)
{
    static const int64_t batches[] = {1, 8, 32};
    loaded m = {.bench = b};
    sow_code rc = open_model(&m);
    for (size_t i = 0; rc == SOW_OK && i < sizeof batches / sizeof *batches; i++) {
        int64_t room = m.layout->shape.max_positions - 1;
        rc = decode(&m, batches[i], DECODE_NEW < room ? DECODE_NEW : room);
    }
    close_model(&m);
    return rc;
}

/* ---- A generation ---- */

typedef struct timing {
    double perturb_s, infer_s, update_s, all_s;
} timing;

/* Collective.  Members of this rank: perturb (unless it is pure inference) and answer. */
static sow_code answer_members(loaded *m, sow_engine *engine, const sow_noise_plan *plan, sow_tensor_noise *noise,
                               int64_t generation, timing *t)
{
    const sow_world *world = m->bench->app->world;
    for (int member = sow_world_rank(world); member < N_MEMBERS; member += sow_world_size(world)) {
        double start = now_s(m);
        if (plan != NULL) {
            sow_theta_member_noise(m->layout, plan, generation, member, noise);
            SOW_TRY(sow_replica_make(m->replica, sow_theta_buffer(m->theta, generation - 1), noise));
        }
        double made = now_s(m);
        SOW_TRY(generate(m, engine, m->bench->rows, m->bench->max_new));
        t->perturb_s += made - start;
        t->infer_s += now_s(m) - made;
    }
    return SOW_OK;
}

static sow_code update(loaded *m, const sow_noise_plan *plan, int64_t generation)
{
    static const float coefficients[N_MEMBERS] = {1e-6F, -1e-6F};
    sow_step step = {.generation = generation, .population = N_MEMBERS, .coefficients = coefficients};
    SOW_TRY(sow_theta_update(m->theta, plan, &step, is_leader(m)));
    return is_leader(m) ? sow_theta_complete(m->theta, plan, &step) : SOW_OK;
}

/* Collective.  plan NULL: pure inference of the same tokens. */
static sow_code measure(loaded *m, sow_engine *engine, const sow_noise_plan *plan, sow_tensor_noise *noise,
                        int64_t generation, timing *out)
{
    sow_world *world = m->bench->app->world;
    timing t = {0};
    SOW_TRY(sow_world_barrier(world));
    double start = now_s(m);
    SOW_TRY(sow_world_agree(world, answer_members(m, engine, plan, noise, generation, &t)));
    double answered = now_s(m);
    if (plan != NULL)
        SOW_TRY(sow_world_agree(world, update(m, plan, generation)));
    t.update_s = now_s(m) - answered;
    t.all_s = now_s(m) - start;
    *out = t;
    return SOW_OK;
}

static void add_figures(const loaded *m, const timing *pure, const timing *es)
{
    sow_bench *b = m->bench;
    double tokens = (double)(N_MEMBERS * b->rows * b->max_new),
           all = (double)(N_MEMBERS * b->rows * (b->max_new + PROMPT_TOKENS));
    double unit_s = es->infer_s > 0 ? UNIT_TOKENS * es->infer_s / all : 0;
    long long rows = b->rows, max_new = b->max_new;
    sow_bench_add(b, "tokens/s", tokens / pure->all_s, "pure inference, %d x %lld x %lld new tokens", N_MEMBERS, rows,
                  max_new)
        ->is_of_job = true;
    sow_figure *figure = sow_bench_add(b, "tokens/s", tokens / es->all_s, "ES generation of the same tokens");
    sow_bench_limit(figure, tokens / pure->all_s, "pure inference");
    figure->is_of_job = true;
    sow_bench_add(b, "s", es->perturb_s, "of it perturb and pack, members of rank 0")->is_of_job = true;
    sow_bench_add(b, "s", es->update_s, "of it update")->is_of_job = true;
    if (unit_s > 0)
        sow_bench_add(b, "%", 100 * es->perturb_s / N_MEMBERS / unit_s, "perturb and pack beside a unit of %d tokens",
                      UNIT_TOKENS)
            ->is_of_job = true;
}

/* Collective. */
static sow_code run_generation(loaded *m, sow_engine *engine, const sow_noise_plan *plan, sow_tensor_noise *noise)
{
    timing pure = {0}, es = {0};
    sow_world *world = m->bench->app->world;
    sow_code rc = make_prompts(m, m->bench->rows, PROMPT_TOKENS);
    if (rc == SOW_OK)
        rc = check_length(m, PROMPT_TOKENS + m->bench->max_new);
    if (rc == SOW_OK) /* takes memory, warms up */
        rc = generate(m, engine, m->bench->rows, 1);
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(measure(m, engine, NULL, noise, 0, &pure));
    SOW_TRY(measure(m, engine, plan, noise, 1, &es));
    add_figures(m, &pure, &es);
    return SOW_OK;
}

sow_code sow_bench_generation(sow_bench *b)
{
    loaded m = {.bench = b};
    sow_engine *engine = NULL;
    sow_tensor_noise *noise = NULL;
    bool *is_selected = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, open_model(&m));
    rc = sow_engine_create(b->la, m.layout, b->options.generate.batch, &engine);
    if (rc == SOW_OK)
        rc = SOW_ALLOC(&noise, m.layout->n_tensors);
    if (rc == SOW_OK)
        rc = SOW_ALLOC(&is_selected, m.layout->n_tensors);
    SOW_TRY_OR(rc, sow_world_agree(b->app->world, rc));
    for (int64_t i = 0; is_selected != NULL && i < m.layout->n_tensors; i++)
        is_selected[i] = true;
    sow_noise_plan plan = {
        .noise = sow_noise_find("gaussian"), .seed = 1, .sigma = b->options.es.sigma, .is_selected = is_selected};
    rc = run_generation(&m, engine, &plan, noise);
done:
    SOW_FREE(&is_selected);
    SOW_FREE(&noise);
    sow_engine_destroy(&engine);
    close_model(&m);
    return rc;
}
