/* SPDX-License-Identifier: Apache-2.0 */
/* sower plan: what a run will need, before it starts.  Of the model only config.json is needed. */
#include "sower/plan.h"

#include "app_impl.h"

#include "sower/bench_la.h"
#include "sower/chat.h"
#include "sower/file.h"
#include "sower/log.h"
#include "sower/noise.h"
#include "sower/task.h"
#include "sower/train.h"

#include <string.h>

enum {
    LOOK_AT_ROWS = 8,     /* whose prompts are typical */
    BYTES_PER_TOKEN = 4,  /* of English text, where there is no tokenizer */
    UNKNOWN_PROMPT = 256, /* tokens, where there are no rows to look at */
    CORES_UNKNOWN = 1,
};

/* Share of the peak that a forward pass reaches from about 8 sequences on, attention and sampling included. */
static const double forward_share = 0.7;

static const char *ranks_text, *threads_text;

static const sow_flag flags[] = {
    {"ranks", 'r', "R", "ranks of the job (1), all on one node unless --set run.ranks_per_node=N", &ranks_text, NULL},
    {"threads", 't', "T", "threads per rank (run.threads, else this machine's cores over the ranks of a node)",
     &threads_text, NULL},
    {0},
};

typedef struct planning {
    const sow_app *app;
    const sow_options *options; /* borrowed */
    sow_model *model;           /* owned; without weights */
    const sow_layout *layout;
    sow_type type;
    int64_t ranks, ranks_per_node, threads, prompt_tokens, max_new, rows;
    sow_plan plan;
    double peak_gflops, perturb_g, accumulate_g; /* of one core of this machine */
    double eval_s, perturb_s, update_s;
} planning;

/* ---- The task ---- */

static sow_code count_tokens(const planning *p, sow_task *task, int64_t *out)
{
    const char *json = NULL;
    size_t bytes = 0;
    sow_tokenizer *tokenizer = NULL;
    sow_words text = {0}, wrapped = {0};
    sow_ids ids = {0};
    int64_t sum = 0, n = sow_task_rows(task) < LOOK_AT_ROWS ? sow_task_rows(task) : LOOK_AT_ROWS;
    sow_code rc = SOW_OK;
    json = sow_model_tokenizer_json(p->model, &bytes);
    if (json != NULL)
        SOW_TRY_OR(rc, sow_tokenizer_parse(json, bytes, "tokenizer.json", &tokenizer));
    const char *chat = tokenizer == NULL || !p->options->generate.chat
                           ? NULL
                           : sow_chat_detect(tokenizer, sow_model_chat_template(p->model));
    for (int64_t i = 0; i < n; i++) {
        SOW_TRY_OR(rc, sow_task_prompt(task, i, &text));
        sow_words_clear(&wrapped);
        if (chat != NULL)
            SOW_TRY_OR(rc, sow_chat_wrap(chat, NULL, text.text, text.bytes, &wrapped));
        else
            SOW_TRY_OR(rc, sow_words_add(&wrapped, text.text, text.bytes));
        ids.n = 0;
        if (tokenizer != NULL)
            SOW_TRY_OR(rc, sow_tokenizer_encode(tokenizer, wrapped.text, wrapped.bytes, true, &ids));
        sum += tokenizer != NULL ? ids.n : (int64_t)(wrapped.bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    }
    *out = n == 0 ? UNKNOWN_PROMPT : (sum + n - 1) / n;
done:
    sow_ids_fini(&ids);
    sow_words_fini(&wrapped);
    sow_words_fini(&text);
    sow_tokenizer_destroy(&tokenizer);
    return rc;
}

static sow_code look_at_task(planning *p)
{
    const sow_options *o = p->options;
    sow_task *task = NULL;
    p->rows = o->task.rows;
    p->prompt_tokens = UNKNOWN_PROMPT;
    p->max_new = o->generate.max_new_tokens;
    if (o->task.file[0] != '\0' && !sow_file_exists(o->task.file)) {
        sow_log(SOW_LOG_WARN, "%s: is not there: prompts of %d tokens and %lld rows are assumed", o->task.file,
                (int)UNKNOWN_PROMPT, (long long)p->rows);
        p->max_new = p->max_new > 0 ? p->max_new : sow_task_find(o->task.name)->max_new(&o->task);
        return SOW_OK;
    }
    SOW_TRY(sow_task_open(&o->task, &task));
    p->rows = sow_task_rows(task);
    p->max_new = p->max_new > 0 ? p->max_new : sow_task_max_new(task);
    sow_code rc = count_tokens(p, task, &p->prompt_tokens);
    sow_task_close(&task);
    return rc;
}

/* ---- The machine ---- */

static int64_t count_cores(void)
{
    sow_la *la = NULL;
    int64_t n = CORES_UNKNOWN;
    if (sow_la_create("exact", "auto", 0, &la) == SOW_OK)
        n = sow_la_threads(la);
    sow_la_destroy(&la);
    return n;
}

static sow_code read_layout(planning *p)
{
    const sow_options *o = p->options;
    p->ranks = 1;
    SOW_TRY(sow_args_int("ranks", ranks_text, 1, 1 << 20, &p->ranks));
    p->ranks_per_node =
        o->run.ranks_per_node > 0 && o->run.ranks_per_node < p->ranks ? o->run.ranks_per_node : p->ranks;
    p->threads = o->run.threads > 0 ? o->run.threads : count_cores() / p->ranks_per_node;
    p->threads = p->threads < 1 ? 1 : p->threads;
    return sow_args_int("threads", threads_text, 1, 4096, &p->threads);
}

/* Seconds of the phases of one generation, from the speeds of this machine's cores. */
static sow_code estimate(planning *p)
{
    const sow_options *o = p->options;
    const sow_kernels *kernels = NULL;
    sow_bench_limits limits;
    sow_bench_elements elements;
    const sow_noise *noise = sow_noise_find(o->es.noise);
    SOW_TRY(sow_kernels_find(o->la.kernel, &kernels));
    SOW_TRY(sow_bench_measure_limits(kernels, 1, 0.05, &limits));
    SOW_TRY(sow_bench_measure_elements(kernels, p->type, 0.05, &elements));
    p->peak_gflops = limits.peak_gflops;
    p->perturb_g = elements.perturb_g[noise->loop];
    p->accumulate_g = elements.accumulate_g[noise->loop];
    double weights = (double)p->layout->n_parameters, cores = (double)(p->ranks * p->threads);
    double workers = p->plan.units < p->ranks ? (double)(p->plan.units * p->threads) : cores;
    /* A rank keeps to a member while it has slices left, so weights are made about once a member or once a rank. */
    double n_made = (double)(o->es.population > p->ranks ? o->es.population : p->ranks);
    p->eval_s = p->plan.eval_flops / (forward_share * p->peak_gflops * 1e9 * workers);
    p->perturb_s = n_made * weights / (p->perturb_g * 1e9 * workers);
    p->update_s = p->plan.update_elements / (p->accumulate_g * 1e9 * (double)(p->ranks_per_node * p->threads));
    return SOW_OK;
}

/* ---- Results ---- */

static sow_code print_json(const planning *p)
{
    const sow_plan *plan = &p->plan;
    sow_line *line = NULL;
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_int(line, "parameters", p->layout->n_parameters);
    sow_line_string(line, "dtype", sow_type_name(p->type));
    sow_line_int(line, "ranks", p->ranks);
    sow_line_int(line, "ranks_per_node", p->ranks_per_node);
    sow_line_int(line, "threads", p->threads);
    sow_line_int(line, "theta_bytes", plan->theta_bytes);
    sow_line_int(line, "replica_bytes", plan->replica_bytes);
    sow_line_int(line, "engine_bytes", plan->engine_bytes);
    sow_line_int(line, "measure_bytes", plan->measure_bytes);
    sow_line_int(line, "node_bytes", plan->node_bytes);
    sow_line_int(line, "available_bytes", plan->available_bytes);
    sow_line_bool(line, "fits", sow_plan_check(plan) == SOW_OK);
    sow_line_int(line, "rows", plan->rows);
    sow_line_int(line, "prompt_tokens", p->prompt_tokens);
    sow_line_int(line, "max_new_tokens", p->max_new);
    sow_line_int(line, "tokens", plan->tokens * p->options->es.population);
    sow_line_int(line, "units", plan->units);
    sow_line_int(line, "useful_ranks", plan->useful_ranks);
    sow_line_real(line, "eval_flops", plan->eval_flops);
    sow_line_real(line, "update_elements", plan->update_elements);
    sow_line_real(line, "peak_gflops", p->peak_gflops);
    sow_line_real(line, "eval_s", p->eval_s);
    sow_line_real(line, "perturb_s", p->perturb_s);
    sow_line_real(line, "update_s", p->update_s);
    sow_line_real(line, "run_s", (double)p->options->run.steps * (p->eval_s + p->perturb_s + p->update_s));
    sow_line_end_object(line);
    sow_code rc = sow_app_print(line);
    sow_line_destroy(&line);
    return rc;
}

static sow_code say_bytes(const char *what, int64_t bytes, const char *note)
{
    return sow_app_say("  %-34s %10.1f MiB  %s\n", what, (double)bytes / 0x1p20, note);
}

static sow_code say_memory(const planning *p)
{
    const sow_plan *plan = &p->plan;
    char note[64];
    SOW_TRY(sow_app_say("memory\n"));
    SOW_TRY(say_bytes("node: theta twice, base, records", plan->theta_bytes, "shared by its ranks"));
    (void)snprintf(note, sizeof note, "%s%s", sow_type_name(p->type),
                   p->options->es.kl_beta > 0 ? ", of a member and of the base" : "");
    SOW_TRY(say_bytes("rank: weights as computed with", plan->replica_bytes, note));
    SOW_TRY(say_bytes("rank: KV cache and activations", plan->engine_bytes, "at most"));
    if (plan->measure_bytes > 0)
        SOW_TRY(say_bytes("root: KL or spectra", plan->measure_bytes, "while it measures"));
    (void)snprintf(note, sizeof note, "%lld ranks", (long long)p->ranks_per_node);
    SOW_TRY(say_bytes("a node together", plan->node_bytes, note));
    return say_bytes("free on this machine", plan->available_bytes,
                     sow_plan_check(plan) == SOW_OK ? "it fits" : "IT DOES NOT FIT");
}

/* "12.3 s", "4.5 min", "6.7 h" */
static const char *duration(double seconds, char out[32])
{
    if (seconds < 120)
        (void)snprintf(out, 32, "%.3g s", seconds);
    else if (seconds < 7200)
        (void)snprintf(out, 32, "%.3g min", seconds / 60);
    else
        (void)snprintf(out, 32, "%.3g h", seconds / 3600);
    return out;
}

static sow_code print_table(const planning *p)
{
    const sow_options *o = p->options;
    const sow_plan *plan = &p->plan;
    double generation_s = p->eval_s + p->perturb_s + p->update_s;
    SOW_TRY(sow_app_say("%s: %lld weights, %lld ranks, %lld on a node, %lld threads each\n\n", o->model.path,
                        (long long)p->layout->n_parameters, (long long)p->ranks, (long long)p->ranks_per_node,
                        (long long)p->threads));
    SOW_TRY(say_memory(p));
    SOW_TRY(sow_app_say("\na generation\n  %lld members x %lld rows x (%lld prompt + at most %lld new tokens)\n",
                        (long long)o->es.population, (long long)plan->rows, (long long)p->prompt_tokens,
                        (long long)p->max_new));
    SOW_TRY(sow_app_say("  %lld tokens, %.3g floating-point operations, %.3g elements of noise in the update\n",
                        (long long)(plan->tokens * o->es.population), plan->eval_flops, plan->update_elements));
    SOW_TRY(sow_app_say("  %lld units of work at most: more than %lld ranks find nothing to do\n",
                        (long long)plan->units, (long long)plan->useful_ranks));
    SOW_TRY(sow_app_say("\nexpected with cores like this machine's (%s, %.0f GFLOP/s a core), an estimate\n",
                        sow_la_cpu_name(), p->peak_gflops));
    char a[32], b[32], c[32], d[32];
    SOW_TRY(sow_app_say("  evaluate %s, perturb %s, update %s: %s a generation\n", duration(p->eval_s, a),
                        duration(p->perturb_s, b), duration(p->update_s, c), duration(generation_s, d)));
    return sow_app_say("  %lld generations: %s, evaluations and probes not counted; small models take longer\n",
                       (long long)o->run.steps, duration((double)o->run.steps * generation_s, a));
}

static sow_code make_plan(planning *p)
{
    const sow_options *o = p->options;
    SOW_TRY(sow_model_open_shape(o->model.path, &p->model));
    p->layout = sow_model_layout(p->model);
    p->type = SOW_FP16; /* what `auto` takes for all but models of unusual weights */
    if (strcmp(o->model.dtype, "auto") != 0)
        SOW_TRY(sow_app_type("model.dtype", o->model.dtype, &p->type));
    SOW_TRY(read_layout(p));
    SOW_TRY(look_at_task(p));
    sow_plan_make(o, p->layout, p->type, p->ranks, p->ranks_per_node, p->threads, p->prompt_tokens, p->max_new, p->rows,
                  &p->plan);
    sow_kernels_set_rounding();
    SOW_TRY(estimate(p));
    return p->app->is_json ? print_json(p) : print_table(p);
}

static sow_code run(sow_app *app)
{
    planning p = {.app = app};
    sow_conf *conf = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_app_conf(app, app->words[0], &conf));
    p.options = sow_conf_options(conf);
    SOW_TRY_OR(rc, sow_train_check_names(conf));
    if (p.options->model.path[0] == '\0')
        rc = sow_conf_reject(conf, "model.path", "a Hugging Face folder or a .gguf file", NULL, 0);
    SOW_TRY_OR(rc, rc);
    SOW_TRY_OR(rc, make_plan(&p));
done:
    sow_model_close(&p.model);
    sow_conf_destroy(&conf);
    return rc;
}

const sow_command sow_command_plan = {
    .name = "plan",
    .doc = "what a run will need: memory, work, time, useful ranks",
    .usage = "CONF.yaml [--ranks R] [--threads T] [--set key=value]...",
    .examples = "  sower plan conf/quickstart.yaml --ranks 2\n"
                "  sower plan conf/countdown-llama3.2-1b.yaml --ranks 64 --threads 4 --set run.ranks_per_node=16\n",
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
