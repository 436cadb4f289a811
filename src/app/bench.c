/* SPDX-License-Identifier: Apache-2.0 */
/* sower bench: speeds of this machine beside their limits, measured in the same run. */
#include "bench_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"
#include "sower/train.h"

#include <stdarg.h>
#include <string.h>

enum { N_SIZE = 8960, K_SIZE = 1536, SMALL_K = 576 };

static const char *model_path, *seconds_text, *rows_text, *max_new_text;

static const sow_flag flags[] = {
    {"model", 'm', "MODEL", "for decode and generation; random weights of SmolLM2-135M's shape by default", &model_path,
     NULL},
    {"seconds", 0, "S", "time for a figure (0.3)", &seconds_text, NULL},
    {"rows", 0, "N", "prompts of the generation that is measured (32)", &rows_text, NULL},
    {"max-new", 'n', "N", "its new tokens per prompt (64)", &max_new_text, NULL},
    {0},
};

sow_figure *sow_bench_add(sow_bench *b, const char *unit, double value, const char *fmt, ...)
{
    va_list args;
    SOW_ASSERT(b->n_figures < SOW_MAX_FIGURES);
    sow_figure *figure = &b->figures[b->n_figures++];
    *figure = (sow_figure){.value = value};
    (void)snprintf(figure->unit, sizeof figure->unit, "%s", unit);
    va_start(args, fmt);
    (void)vsnprintf(figure->name, sizeof figure->name, fmt, args);
    va_end(args);
    return figure;
}

void sow_bench_limit(sow_figure *figure, double limit, const char *name)
{
    figure->limit = limit;
    (void)snprintf(figure->limit_name, sizeof figure->limit_name, "%s", name);
}

const char *sow_bench_peak_name(sow_type type)
{
    return type == SOW_BF16_MIXED ? "bf16 peak" : "FMA peak";
}

/* ---- Kernels ---- */

static sow_code bench_peak(sow_bench *b)
{
    (void)sow_bench_add(b, "GFLOP/s", b->limits.peak_gflops[SOW_F32], "fused multiply-adds, one core");
    (void)sow_bench_add(b, "GFLOP/s", b->limits.peak_gflops[SOW_BF16_MIXED], "the same of pairs of bf16, one core");
    return SOW_OK;
}

static sow_code bench_bandwidth(sow_bench *b)
{
    (void)sow_bench_add(b, "GB/s", b->limits.read_gbytes_s, "read from memory, one core");
    (void)sow_bench_add(b, "GB/s", b->limits.read_all_gbytes_s, "read from memory, %d threads", b->limits.threads);
    return SOW_OK;
}

static sow_code bench_layer(sow_bench *b, sow_type type, int64_t m_size, int64_t n_size, int64_t k_size)
{
    const sow_kernels *kernels = sow_la_kernels(b->la);
    sow_bench_linear speed;
    SOW_TRY(sow_bench_measure_linear(kernels, type, m_size, n_size, k_size, b->seconds, &speed));
    bool is_read = m_size == 1; /* then each weight is used once: bytes are what counts */
    /* Up to 4 rows weights come from memory, and each is used for so many multiply-adds. */
    double read_gflops = b->limits.read_gbytes_s * 2 * (double)m_size / (double)sow_type_bytes(type);
    sow_figure *figure = sow_bench_add(b, is_read ? "GB/s" : "GFLOP/s", is_read ? speed.gbytes_s : speed.gflops,
                                       "linear %lld rows, %lld x %lld %s, one core", (long long)m_size,
                                       (long long)n_size, (long long)k_size, sow_type_name(type));
    if (is_read)
        sow_bench_limit(figure, b->limits.read_gbytes_s, "read bandwidth");
    else if (m_size <= 4 && read_gflops < b->limits.peak_gflops[type])
        sow_bench_limit(figure, read_gflops, "read bandwidth");
    else
        sow_bench_limit(figure, b->limits.peak_gflops[type], sow_bench_peak_name(type));
    return SOW_OK;
}

static sow_code bench_blas(sow_bench *b, int64_t m_size)
{
    sow_bench_linear speed;
    sow_la *one = NULL; /* tells OpenBLAS to use one thread */
    SOW_TRY(sow_la_create("openblas", "auto", 1, &one));
    sow_code rc = sow_bench_measure_blas(m_size, N_SIZE, K_SIZE, b->seconds, &speed);
    sow_la_destroy(&one);
    SOW_TRY(rc);
    sow_figure *figure = sow_bench_add(b, "GFLOP/s", speed.gflops, "OpenBLAS %lld rows, %d x %d f32, one core",
                                       (long long)m_size, (int)N_SIZE, (int)K_SIZE);
    sow_bench_limit(figure, b->limits.peak_gflops[SOW_F32], "FMA peak");
    return SOW_OK;
}

static sow_code bench_gemm(sow_bench *b)
{
    static const int64_t sizes[] = {1, 4, 8, 16, 32, 64, 256};
    const int64_t n = sizeof sizes / sizeof *sizes;
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(bench_layer(b, SOW_FP16, sizes[i], N_SIZE, K_SIZE));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(bench_layer(b, SOW_FP16, sizes[i], SMALL_K, K_SIZE));
    for (int64_t i = 0; i < n; i += 2)
        SOW_TRY(bench_layer(b, SOW_BF16, sizes[i], N_SIZE, K_SIZE));
    for (int64_t i = 0; i < n; i += 2)
        SOW_TRY(bench_layer(b, SOW_F32, sizes[i], N_SIZE, K_SIZE));
    for (int64_t i = 0; i < n; i += 2)
        SOW_TRY(bench_layer(b, SOW_BF16_MIXED, sizes[i], N_SIZE, K_SIZE));
    for (int64_t i = 0; i < n; i += 2)
        SOW_TRY(bench_blas(b, sizes[i]));
    return SOW_OK;
}

static sow_code measure_elements(sow_bench *b, sow_bench_elements *out)
{
    return sow_bench_measure_elements(sow_la_kernels(b->la), SOW_FP16, b->seconds, out);
}

static const char *const loop_names[SOW_N_NOISE_LOOPS] = {
    [SOW_NOISE_GAUSSIAN] = "gaussian", [SOW_NOISE_RADEMACHER] = "rademacher"};

static sow_code bench_noise(sow_bench *b)
{
    sow_bench_elements speed;
    SOW_TRY(measure_elements(b, &speed));
    (void)sow_bench_add(b, "G/s", speed.exp_g, "exp, one core");
    for (int i = 0; i < SOW_N_NOISE_LOOPS; i++)
        (void)sow_bench_add(b, "G/s", speed.noise_g[i], "noise %s, one core", loop_names[i]);
    for (int i = 0; i < SOW_N_NOISE_LOOPS; i++)
        (void)sow_bench_add(b, "G/s", speed.accumulate_g[i], "update of one member, %s, one core", loop_names[i]);
    return SOW_OK;
}

static sow_code bench_perturb(sow_bench *b)
{
    sow_bench_elements speed;
    SOW_TRY(measure_elements(b, &speed));
    for (int i = 0; i < SOW_N_NOISE_LOOPS; i++) {
        sow_figure *figure =
            sow_bench_add(b, "G/s", speed.perturb_g[i], "perturb and pack fp16, %s, one core", loop_names[i]);
        if (i == SOW_NOISE_RADEMACHER) /* reads 4 bytes and writes 2 */
            sow_bench_limit(figure, b->limits.read_gbytes_s / 6, "read bandwidth / 6 B");
    }
    return SOW_OK;
}

/* ---- Which ---- */

typedef struct group {
    const char *name, *doc;
    sow_code (*run)(sow_bench *bench);
} group;

static const group groups[] = {
    {"peak", "fused multiply-adds", bench_peak},
    {"bandwidth", "reading from memory", bench_bandwidth},
    {"gemm", "linear layers, OpenBLAS beside them", bench_gemm},
    {"noise", "exp, noise, the sum of an update", bench_noise},
    {"perturb", "theta + noise into packed weights", bench_perturb},
    {"backward", "gradients of linear layers, OpenBLAS beside them", sow_bench_backward},
    {"optimizer", "AdamW, sums of gradients in fixed point", sow_bench_optimizer},
    {"train", "log-probabilities and gradients of a model", sow_bench_train},
    {"decode", "greedy decoding with 1, 8, 32 sequences", sow_bench_decode},
    {"generation", "an ES generation of two members beside pure inference", sow_bench_generation},
};
enum { N_GROUPS = sizeof groups / sizeof *groups };

static sow_code find_group(const char *name, int *out)
{
    const char *names[N_GROUPS];
    for (int i = 0; i < N_GROUPS; i++) {
        names[i] = groups[i].name;
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return SOW_OK;
        }
    }
    const char *near = sow_words_nearest(name, names, N_GROUPS);
    return SOW_FAIL(
        SOW_EARG,
        "%s: cannot be measured, expected peak, bandwidth, gemm, noise, perturb, backward, optimizer, train, decode "
        "or generation%s%s%s",
        name, near != NULL ? "; did you mean " : "", near != NULL ? near : "", near != NULL ? "?" : "");
}

/* Collective. */
static sow_code run_groups(sow_bench *b, int only)
{
    sow_world *world = b->app->world;
    for (int i = 0; i < N_GROUPS; i++) {
        if (only >= 0 && i != only)
            continue;
        if (sow_world_rank(world) == 0)
            sow_log_progress(30, "measuring %s", groups[i].name);
        SOW_TRY(sow_world_barrier(world)); /* ranks measure at the same time */
        SOW_TRY(sow_world_agree(world, groups[i].run(b)));
    }
    if (sow_world_rank(world) == 0)
        sow_log_progress(0, "%s", "");
    return SOW_OK;
}

/* ---- Results ---- */

static sow_code print_figure(const sow_app *app, const sow_figure *f, sow_line *line, double sum, double least,
                             int n_ranks)
{
    double mean = f->is_of_job ? f->value : sum / n_ranks;
    if (!app->is_json) {
        SOW_TRY(sow_app_say("%-52s %10.4g %-9s", f->name, mean, f->unit));
        if (f->limit > 0)
            SOW_TRY(sow_app_say(" %5.2f of the %s (%.4g)", mean / f->limit, f->limit_name, f->limit));
        if (n_ranks > 1 && !f->is_of_job)
            SOW_TRY(sow_app_say("  a rank; least %.4g, all %.4g", least, sum));
        return sow_app_say("\n");
    }
    sow_line_clear(line);
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "name", f->name);
    sow_line_real(line, "value", mean);
    sow_line_string(line, "unit", f->unit);
    if (f->limit > 0) {
        sow_line_real(line, "limit", f->limit);
        sow_line_string(line, "of", f->limit_name);
        sow_line_real(line, "ratio", mean / f->limit);
    }
    if (n_ranks > 1) {
        sow_line_int(line, "ranks", n_ranks);
        if (!f->is_of_job) {
            sow_line_real(line, "least", least);
            sow_line_real(line, "sum", sum);
        }
    }
    sow_line_end_object(line);
    return sow_app_print(line);
}

static sow_code say_machine(const sow_bench *b, int n_ranks)
{
    const char *remedy = NULL;
    const char *blas = sow_la_blas_name(&remedy);
    SOW_TRY(sow_app_say("%s, kernel %s, %d threads a rank, %d ranks, %s\n", sow_la_cpu_name(),
                        sow_la_kernels(b->la)->name, sow_la_threads(b->la), n_ranks, blas));
    if (remedy != NULL)
        SOW_TRY(sow_app_say("note: %s\n", remedy));
    return sow_app_say("\n");
}

static sow_code put_machine(const sow_bench *b, sow_line *line, int n_ranks)
{
    const char *remedy = NULL;
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "cpu", sow_la_cpu_name());
    sow_line_string(line, "kernel", sow_la_kernels(b->la)->name);
    sow_line_int(line, "threads", sow_la_threads(b->la));
    sow_line_int(line, "ranks", n_ranks);
    sow_line_string(line, "blas", sow_la_blas_name(&remedy));
    sow_line_end_object(line);
    return sow_app_print(line);
}

/* Root: values [n_ranks][SOW_MAX_FIGURES] of all ranks. */
static sow_code print_all(const sow_bench *b, const double *values, int n_ranks)
{
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_line_create(&line));
    SOW_TRY_OR(rc, b->app->is_json ? put_machine(b, line, n_ranks) : say_machine(b, n_ranks));
    for (int64_t i = 0; i < b->n_figures; i++) {
        double sum = 0, least = values[i];
        for (int rank = 0; rank < n_ranks; rank++) {
            double value = values[(int64_t)rank * SOW_MAX_FIGURES + i];
            sum += value;
            least = value < least ? value : least;
        }
        SOW_TRY_OR(rc, print_figure(b->app, &b->figures[i], line, sum, least, n_ranks));
    }
done:
    sow_line_destroy(&line);
    return rc;
}

/* Collective. */
static sow_code gather_and_print(const sow_bench *b)
{
    sow_world *world = b->app->world;
    int n_ranks = sow_world_size(world);
    double mine[SOW_MAX_FIGURES] = {0}, *all = NULL;
    sow_code rc = SOW_OK;
    for (int64_t i = 0; i < b->n_figures; i++)
        mine[i] = b->figures[i].value;
    if (sow_world_rank(world) == 0)
        rc = SOW_ALLOC(&all, (int64_t)n_ranks * SOW_MAX_FIGURES);
    SOW_TRY(sow_world_agree(world, rc));
    rc = sow_world_gather(world, mine, sizeof mine, all);
    if (rc == SOW_OK && all != NULL)
        rc = print_all(b, all, n_ranks);
    SOW_FREE(&all);
    return sow_world_agree(world, rc);
}

static sow_code read_command(sow_bench *b, int *only)
{
    const sow_app *app = b->app;
    *only = -1;
    b->seconds = 0.3;
    b->rows = 32;
    b->max_new = 64;
    b->model_path = model_path;
    SOW_TRY(sow_args_real("seconds", seconds_text, 0.001, 3600, &b->seconds));
    SOW_TRY(sow_args_int("rows", rows_text, 1, 1000000, &b->rows));
    SOW_TRY(sow_args_int("max-new", max_new_text, 1, 1000000, &b->max_new));
    if (app->n_words == 1)
        SOW_TRY(find_group(app->words[0], only));
    return sow_app_options(app, &b->options);
}

/* Collective. */
static sow_code bench(sow_bench *b)
{
    sow_world *world = b->app->world;
    int only = -1;
    int64_t threads = 0;
    SOW_TRY(sow_world_agree(world, read_command(b, &only)));
    SOW_TRY(sow_train_threads(world, b->options.run.threads, &threads));
    sow_code rc = sow_la_create("exact", b->options.la.kernel, threads, &b->la);
    SOW_TRY(sow_world_agree(world, rc));
    sow_kernels_set_rounding();
    SOW_TRY(sow_world_cut(world, b->options.run.deadline_s, b->options.run.ranks_per_node));
    rc = sow_bench_measure_limits(sow_la_kernels(b->la), sow_la_threads(b->la), b->seconds, &b->limits);
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(run_groups(b, only));
    return gather_and_print(b);
}

static sow_code run(sow_app *app)
{
    sow_bench *b = NULL;
    SOW_TRY(SOW_ALLOC(&b, 1));
    b->app = app;
    sow_code rc = bench(b);
    sow_la_destroy(&b->la);
    SOW_FREE(&b);
    return rc;
}

const sow_command sow_command_bench = {
    .name = "bench",
    .doc = "speeds of this machine beside their limits",
    .usage = "[peak|bandwidth|gemm|noise|perturb|backward|optimizer|train|decode|generation] [options]",
    .examples = "  sower bench\n"
                "  sower bench gemm --seconds 1\n"
                "  sower bench decode --model MODEL --set run.threads=1\n"
                "  mpirun -n 2 sower bench generation --model MODEL --rows 200 --max-new 256 --set run.threads=1\n",
    .is_parallel = true,
    .has_sets = true,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
