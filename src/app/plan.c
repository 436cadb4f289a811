/* SPDX-License-Identifier: Apache-2.0 */
/* sower plan: what a run will need, before it starts.  Of the model only config.json is needed.  Lengths are those of
 * the task's first rows; a mix of sft is taken for as long as they are. */
#include "sower/plan.h"

#include "app_impl.h"

#include "sower/bench_la.h"
#include "sower/chat.h"
#include "sower/file.h"
#include "sower/log.h"
#include "sower/noise.h"
#include "sower/task.h"
#include "sower/train.h"

#include <stddef.h>
#include <string.h>

enum {
    LOOK_AT_ROWS = 8,     /* whose prompts are typical */
    BYTES_PER_TOKEN = 4,  /* of English text, where there is no tokenizer */
    UNKNOWN_PROMPT = 256, /* tokens, where there are no rows to look at */
    CORES_UNKNOWN = 1,
};

/* Share of its type's peak that a forward pass reaches from about 8 sequences on, attention and sampling included. */
static double forward_share(sow_type type)
{
    return type == SOW_BF16_MIXED ? 0.6 : 0.7;
}

static const char *ranks_text, *threads_text;

static const sow_flag flags[] = {
    {"ranks", 'r', "R", "ranks of the job (1), all on one node unless --set run.ranks_per_node=N", &ranks_text, NULL},
    {"threads", 't', "T", "threads per rank (run.threads, else this machine's cores over the ranks of a node)",
     &threads_text, NULL},
    {0},
};

/* Parts of a node's memory, in the order they are told. */
static const struct part {
    const char *key, *label, *note;
    size_t at; /* of sow_plan */
} parts[] = {
    {"theta", "node: theta twice, base, records", "shared by its ranks", offsetof(sow_plan, theta_bytes)},
    {"moments", "node: moments of AdamW, twice", "16 a weight", offsetof(sow_plan, moments_bytes)},
    {"gradient", "node: gradient, records", "4 a weight", offsetof(sow_plan, gradient_bytes)},
    {"totals", "node: sum over nodes", "8 a weight", offsetof(sow_plan, totals_bytes)},
    {"code", "node: program and libraries", "about", offsetof(sow_plan, code_bytes)},
    {"root", "root: rollouts of a step", "at most", offsetof(sow_plan, root_bytes)},
    {"measure", "root: KL or spectra", "while it measures", offsetof(sow_plan, measure_bytes)},
    {"sums", "rank: sums of gradients", "8 a weight, in memory of the node", offsetof(sow_plan, sums_bytes)},
    {"replica", "rank: weights as computed with", "", offsetof(sow_plan, replica_bytes)},
    {"reference", "rank: those of the base", "for KL", offsetof(sow_plan, reference_bytes)},
    {"backward", "rank: transposed, gradient, kept", "at most", offsetof(sow_plan, backward_bytes)},
    {"engine", "rank: KV cache and activations", "at most", offsetof(sow_plan, engine_bytes)},
    {"samples", "rank: samples of a unit", "at most", offsetof(sow_plan, samples_bytes)},
    {"program", "rank: MPI, tokenizer", "about", offsetof(sow_plan, program_bytes)},
};
enum { N_PARTS = sizeof parts / sizeof *parts };

static int64_t part_bytes(const sow_plan *plan, int i)
{
    int64_t bytes = 0;
    memcpy(&bytes, (const char *)plan + parts[i].at, sizeof bytes);
    return bytes;
}

typedef struct planning {
    const sow_app *app;
    const sow_options *options; /* borrowed */
    sow_model *model;           /* owned; without weights */
    const sow_layout *layout;
    sow_type type;
    int64_t ranks, ranks_per_node, threads, prompt_tokens, max_new, longest, longest_answered, rows;
    sow_plan plan;
    double peak_gflops;                             /* of one core of this machine */
    double eval_s, perturb_s, backward_s, update_s; /* of one step */
} planning;

static bool is_es(const planning *p)
{
    return strcmp(p->options->method, "es") == 0;
}

/* ---- The task ---- */

/* Room for looking at rows. */
typedef struct look {
    sow_task *task;           /* borrowed */
    sow_tokenizer *tokenizer; /* owned; NULL: none, bytes are counted */
    const char *chat;
    sow_words text, wrapped;
    sow_ids ids;
} look;

static sow_code count_text(look *l, const sow_words *text, bool with_special, int64_t *out)
{
    l->ids.n = 0;
    if (l->tokenizer != NULL)
        SOW_TRY(sow_tokenizer_encode(l->tokenizer, text->text, text->bytes, with_special, &l->ids));
    *out = l->tokenizer != NULL ? l->ids.n : (int64_t)(text->bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
    return SOW_OK;
}

/* Tokens of a row's prompt, and of its own solution with the end token (max_new if it has none or it is not wanted). */
static sow_code count_row(const planning *p, look *l, int64_t row, int64_t *prompt, int64_t *completion)
{
    const int32_t *ids = NULL;
    bool has_ids = false;
    int64_t n = 0;
    *completion = p->max_new;
    SOW_TRY(sow_task_ids(l->task, row, &ids, &n, prompt, &has_ids));
    if (has_ids) {
        *completion = n - *prompt;
        return SOW_OK;
    }
    SOW_TRY(sow_task_prompt(l->task, row, &l->text));
    sow_words_clear(&l->wrapped);
    if (l->chat != NULL)
        SOW_TRY(sow_chat_wrap(l->chat, NULL, l->text.text, l->text.bytes, &l->wrapped));
    else
        SOW_TRY(sow_words_add(&l->wrapped, l->text.text, l->text.bytes));
    SOW_TRY(count_text(l, &l->wrapped, true, prompt));
    if (strcmp(p->options->method, "sft") != 0 || sow_task_solve(l->task, row, &l->text) != SOW_OK)
        return SOW_OK;
    SOW_TRY(count_text(l, &l->text, false, completion));
    ++*completion;
    return SOW_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static sow_code count_rows(planning *p, look *l)
{
    int64_t n = sow_task_rows(l->task) < LOOK_AT_ROWS ? sow_task_rows(l->task) : LOOK_AT_ROWS;
    int64_t prompts = 0, completions = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t prompt = 0, completion = 0;
        SOW_TRY(count_row(p, l, i, &prompt, &completion));
        prompts += prompt;
        completions += completion;
        p->longest = larger(p->longest, prompt + completion);
        p->longest_answered = larger(p->longest_answered, prompt + p->max_new);
    }
    if (n > 0) {
        p->prompt_tokens = (prompts + n - 1) / n;
        p->max_new = (completions + n - 1) / n;
    } else {
        p->longest = p->longest_answered = p->prompt_tokens + p->max_new;
    }
    return SOW_OK;
}

static sow_code count_tokens(planning *p, sow_task *task)
{
    size_t bytes = 0;
    look l = {.task = task};
    sow_code rc = SOW_OK;
    const char *json = sow_model_tokenizer_json(p->model, &bytes);
    if (json != NULL)
        SOW_TRY_OR(rc, sow_tokenizer_parse(json, bytes, "tokenizer.json", &l.tokenizer));
    if (l.tokenizer != NULL && p->options->generate.chat)
        l.chat = sow_chat_detect(l.tokenizer, sow_model_chat_template(p->model));
    rc = count_rows(p, &l);
done:
    sow_ids_fini(&l.ids);
    sow_words_fini(&l.wrapped);
    sow_words_fini(&l.text);
    sow_tokenizer_destroy(&l.tokenizer);
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
        p->longest = p->longest_answered = p->prompt_tokens + p->max_new;
        return SOW_OK;
    }
    SOW_TRY(sow_task_open(&o->task, &task));
    p->rows = sow_task_rows(task);
    p->max_new = p->max_new > 0 ? p->max_new : sow_task_max_new(task);
    sow_code rc = count_tokens(p, task);
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

/* Cores that have a part of so many units. */
static double cores_of(const planning *p, int64_t units)
{
    return (double)((units < p->ranks ? units : p->ranks) * p->threads);
}

static sow_code estimate_es(planning *p, const sow_kernels *kernels)
{
    const sow_options *o = p->options;
    sow_bench_elements elements;
    const sow_noise *noise = sow_noise_find(o->es.noise);
    SOW_TRY(sow_bench_measure_elements(kernels, p->type, 0.05, &elements));
    /* A rank keeps to a member while it has slices left, so weights are made about once a member or once a rank. */
    double n_made = (double)(o->es.population > p->ranks ? o->es.population : p->ranks);
    p->perturb_s =
        n_made * (double)p->layout->n_parameters / (elements.perturb_g[noise->loop] * 1e9 * cores_of(p, p->plan.units));
    p->update_s =
        p->plan.update_elements / (elements.accumulate_g[noise->loop] * 1e9 * (double)(p->ranks_per_node * p->threads));
    return SOW_OK;
}

/* What passes through memory, at the speed of one core times the cores of a node: too fast where they share it. */
static sow_code estimate_sgd(planning *p, const sow_kernels *kernels)
{
    const sow_plan *plan = &p->plan;
    sow_bench_passes passes;
    SOW_TRY(sow_bench_measure_passes(kernels, 0.05, &passes));
    double workers = cores_of(p, plan->gradient_units);
    p->backward_s = plan->gradient_flops / (forward_share(p->type) * p->peak_gflops * 1e9 * workers) +
                    plan->sum_elements * 20 / (passes.add_fixed * 1e9 * workers);
    double bytes = 28 / passes.adamw + (double)(8 * p->ranks_per_node + 4) / passes.from_fixed;
    p->update_s = plan->update_elements * bytes / (1e9 * (double)(p->ranks_per_node * p->threads));
    return SOW_OK;
}

/* Seconds of the phases of one step, from the speeds of this machine's cores. */
static sow_code estimate(planning *p)
{
    const sow_kernels *kernels = NULL;
    sow_bench_limits limits;
    SOW_TRY(sow_kernels_find(p->options->la.kernel, &kernels));
    SOW_TRY(sow_bench_measure_limits(kernels, 1, 0.05, &limits));
    p->peak_gflops = limits.peak_gflops[p->type];
    if (p->plan.eval_flops > 0)
        p->eval_s = p->plan.eval_flops / (forward_share(p->type) * p->peak_gflops * 1e9 * cores_of(p, p->plan.units));
    return is_es(p) ? estimate_es(p, kernels) : estimate_sgd(p, kernels);
}

static double step_s(const planning *p)
{
    return p->eval_s + p->perturb_s + p->backward_s + p->update_s;
}

/* ---- Results ---- */

static void put_bytes(sow_line *line, const sow_plan *plan)
{
    for (int i = 0; i < N_PARTS; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "%s_bytes", parts[i].key);
        sow_line_int(line, key, part_bytes(plan, i));
    }
    sow_line_int(line, "node_bytes", plan->node_bytes);
    sow_line_int(line, "available_bytes", plan->available_bytes);
    sow_line_bool(line, "fits", sow_plan_check(plan) == SOW_OK);
}

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
    put_bytes(line, plan);
    sow_line_int(line, "rows", plan->rows);
    sow_line_int(line, "samples", plan->samples);
    sow_line_int(line, "prompt_tokens", p->prompt_tokens);
    sow_line_int(line, "max_new_tokens", p->max_new);
    sow_line_int(line, "tokens", plan->tokens);
    sow_line_int(line, "units", plan->units);
    sow_line_int(line, "gradient_units", plan->gradient_units);
    sow_line_int(line, "useful_ranks", plan->useful_ranks);
    sow_line_int(line, "updates", plan->updates);
    sow_line_real(line, "eval_flops", plan->eval_flops);
    sow_line_real(line, "gradient_flops", plan->gradient_flops);
    sow_line_real(line, "update_elements", plan->update_elements);
    sow_line_real(line, "allreduce_bytes", plan->allreduce_bytes);
    sow_line_real(line, "peak_gflops", p->peak_gflops);
    sow_line_real(line, "eval_s", p->eval_s);
    sow_line_real(line, "perturb_s", p->perturb_s);
    sow_line_real(line, "backward_s", p->backward_s);
    sow_line_real(line, "update_s", p->update_s);
    sow_line_real(line, "run_s", (double)p->options->run.steps * step_s(p));
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
    for (int i = 0; i < N_PARTS; i++)
        if (part_bytes(plan, i) > 0)
            SOW_TRY(say_bytes(parts[i].label, part_bytes(plan, i), parts[i].note));
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

static sow_code say_es(const planning *p)
{
    const sow_plan *plan = &p->plan;
    SOW_TRY(sow_app_say("\na generation\n  %lld members x %lld rows x (%lld prompt + at most %lld new tokens)\n",
                        (long long)p->options->es.population, (long long)plan->rows, (long long)p->prompt_tokens,
                        (long long)p->max_new));
    return sow_app_say("  %lld tokens, %.3g floating-point operations, %.3g elements of noise in the update\n",
                       (long long)plan->tokens, plan->eval_flops, plan->update_elements);
}

static sow_code say_sgd(const planning *p)
{
    const sow_plan *plan = &p->plan;
    SOW_TRY(sow_app_say("\na step\n  %lld %s, %lld samples x (%lld prompt + %s%lld new tokens): %lld tokens\n",
                        (long long)plan->rows, plan->units > 0 ? "prompts" : "rows", (long long)plan->samples,
                        (long long)p->prompt_tokens, plan->units > 0 ? "at most " : "", (long long)p->max_new,
                        (long long)plan->tokens));
    if (plan->units > 0)
        SOW_TRY(sow_app_say("  sampling, log-probabilities: %.3g floating-point operations in %lld units\n",
                            plan->eval_flops, (long long)plan->units));
    SOW_TRY(sow_app_say("  gradients: %.3g floating-point operations, %lld optimizer step%s of %lld units each\n",
                        plan->gradient_flops, (long long)plan->updates, plan->updates == 1 ? "" : "s",
                        (long long)plan->gradient_units));
    if (plan->allreduce_bytes > 0)
        SOW_TRY(sow_app_say("  %.3g GB sent by each of %lld nodes to the others\n", plan->allreduce_bytes / 1e9,
                            (long long)plan->nodes));
    return SOW_OK;
}

static sow_code say_times(const planning *p)
{
    const char *what = is_es(p) ? "generation" : "step";
    char a[32], b[32], c[32], d[32];
    SOW_TRY(sow_app_say("\nexpected with cores like this machine's (%s, %.0f GFLOP/s a core), an estimate\n",
                        sow_la_cpu_name(), p->peak_gflops));
    SOW_TRY(sow_app_say("  %s %s, %s %s, update %s: %s a %s\n", is_es(p) ? "evaluate" : "sample",
                        duration(p->eval_s, a), is_es(p) ? "perturb" : "gradients",
                        duration(is_es(p) ? p->perturb_s : p->backward_s, b), duration(p->update_s, c),
                        duration(step_s(p), d), what));
    return sow_app_say("  %lld %ss: %s, evaluations and probes not counted; small models take longer\n",
                       (long long)p->options->run.steps, what, duration((double)p->options->run.steps * step_s(p), a));
}

static sow_code print_table(const planning *p)
{
    const sow_options *o = p->options;
    const sow_plan *plan = &p->plan;
    SOW_TRY(sow_app_say("%s: %lld weights, %lld ranks, %lld on a node, %lld threads each\n\n", o->model.path,
                        (long long)p->layout->n_parameters, (long long)p->ranks, (long long)p->ranks_per_node,
                        (long long)p->threads));
    SOW_TRY(say_memory(p));
    SOW_TRY(is_es(p) ? say_es(p) : say_sgd(p));
    SOW_TRY(sow_app_say("  more than %lld ranks find nothing to do\n", (long long)plan->useful_ranks));
    return say_times(p);
}

static sow_code make_plan(planning *p)
{
    const sow_options *o = p->options;
    SOW_TRY(sow_model_open_shape(o->model.path, &p->model));
    p->layout = sow_model_layout(p->model);
    p->type = SOW_FP16; /* what `auto` takes for all but models of unusual weights */
    SOW_TRY(read_layout(p));
    if (strcmp(o->model.dtype, "auto") != 0)
        SOW_TRY(sow_replica_choose_type(o->model.dtype, p->layout, NULL, &p->type));
    SOW_TRY(sow_la_check_type(p->type, strcmp(o->la.backend, "exact") == 0));
    SOW_TRY(look_at_task(p));
    sow_plan_make(&(sow_plan_args){.options = o,
                                   .layout = p->layout,
                                   .type = p->type,
                                   .ranks = p->ranks,
                                   .ranks_per_node = p->ranks_per_node,
                                   .threads = p->threads,
                                   .rows = p->rows,
                                   .prompt_tokens = p->prompt_tokens,
                                   .max_new = p->max_new,
                                   .longest = p->longest,
                                   .longest_answered = p->longest_answered},
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
    sow_app_warn_stray(conf);
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
