/* SPDX-License-Identifier: Apache-2.0 */
/* sower eval: scores a model on tasks.  Rows are cut over the ranks, their integer sums are added on root: the figures
 * are the same at any number of ranks. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/evaluate.h"
#include "sower/log.h"
#include "sower/stats.h"
#include "sower/task.h"

#include <math.h>
#include <string.h>

enum { MAX_TASKS = SOW_MAX_PROBES, CHUNK_BATCHES = 4 };

static const char *task_names, *rows_text;

static const sow_flag flags[] = {
    {"task", 't', "NAME", "the task, or several with commas between them (sower info --tasks)", &task_names, NULL},
    {"rows", 'n', "N", "rows of each task (task.rows, 200)", &rows_text, NULL},
    {0},
};

/* What root finds out before the ranks begin, and all receive. */
typedef struct eval_plan {
    int32_t n_tasks;
    sow_task_options tasks[MAX_TASKS];
} eval_plan;

typedef struct evaluation {
    sow_shared shared;
    eval_plan *plan;          /* owned */
    sow_evaluator *evaluator; /* owned */
    sow_tally tallies[MAX_TASKS];
    int64_t *rows; /* owned, [chunk] */
} evaluation;

/* ---- What is asked for ---- */

/* Held-out rows, where the task has them and nothing else was said. */
static sow_code choose_split(const sow_shared *s, sow_task_options *options)
{
    sow_task *task = NULL, *held_out = NULL;
    bool has = false;
    sow_code rc =
        s->file == NULL ? sow_task_open(options, &task) : sow_task_open_bytes(options, s->file, s->file_bytes, &task);
    if (rc == SOW_OK)
        rc = sow_task_open_held_out(task, 1, &held_out, &has);
    sow_task_close(&held_out);
    sow_task_close(&task);
    if (rc != SOW_OK || has) /* a file may have held-out rows only; what else is wrong is told when it is opened */
        (void)snprintf(options->split, sizeof options->split, "test");
    return SOW_OK;
}

static sow_code add_task(const char *name, size_t bytes, const sow_options *o, eval_plan *plan)
{
    const sow_task_kind *kind = NULL;
    char text[SOW_TEXT];
    if (plan->n_tasks == MAX_TASKS)
        return SOW_FAIL(SOW_EARG, "--task: more than %d tasks", MAX_TASKS);
    (void)snprintf(text, sizeof text, "%.*s", (int)(bytes < sizeof text ? bytes : sizeof text - 1), name);
    SOW_TRY(sow_app_task(text, &kind));
    sow_task_options *task = &plan->tasks[plan->n_tasks++];
    *task = o->task;
    (void)snprintf(task->name, sizeof task->name, "%s", kind->name);
    SOW_TRY(sow_args_int("rows", rows_text, 1, 1000000000, &task->rows));
    if (kind->needs_file && task->file[0] == '\0')
        return SOW_FAIL(SOW_ECONF, "task %s needs --set task.file=FILE", kind->name);
    return SOW_OK;
}

/* Root: options and tasks of the command line. */
static sow_code read_command(const sow_app *app, sow_options *o, eval_plan *plan)
{
    SOW_TRY(sow_app_options(app, o));
    const char *names = task_names != NULL ? task_names : o->task.name;
    if (names[0] == '\0')
        return SOW_FAIL(SOW_EARG, "sower eval: expected --task NAME, one of sower info --tasks");
    for (;;) {
        size_t n = strcspn(names, ",");
        SOW_TRY(add_task(names, n, o, plan));
        if (names[n] == '\0')
            return SOW_OK;
        names += n + 1;
    }
}

static bool has_split(const sow_app *app)
{
    for (int i = 0; i < app->n_sets; i++)
        if (strncmp(app->sets[i], "task.split=", strlen("task.split=")) == 0)
            return true;
    return false;
}

/* ---- The work of one rank ---- */

static sow_code open_tasks(evaluation *e)
{
    sow_shared *s = &e->shared;
    const sow_options *o = &s->options;
    sow_evaluator_args args = {.la = s->la,
                               .layout = s->layout,
                               .type = s->type,
                               .tokenizer_json = s->tokenizer,
                               .tokenizer_bytes = s->tokenizer_bytes,
                               .chat = s->chat[0] == '\0' ? NULL : s->chat,
                               .stop = o->generate.stop[0] == '\0' ? NULL : o->generate.stop,
                               .batch = o->generate.batch};
    SOW_TRY(sow_evaluator_create(&args, &e->evaluator));
    for (int i = 0; i < e->plan->n_tasks; i++) {
        const sow_task_options *options = &e->plan->tasks[i];
        sow_task *task = NULL;
        int job = 0;
        SOW_TRY(s->file == NULL ? sow_task_open(options, &task)
                                : sow_task_open_bytes(options, s->file, s->file_bytes, &task));
        sow_code rc = sow_evaluator_add(e->evaluator, task, o->generate.max_new_tokens, &job);
        if (rc != SOW_OK)
            sow_task_close(&task);
        SOW_TRY(rc);
    }
    SOW_TRY(SOW_ALLOC(&e->rows, CHUNK_BATCHES * o->generate.batch));
    return sow_evaluator_weights(e->evaluator, 0, s->theta, NULL);
}

static sow_code answer_task(evaluation *e, int job)
{
    int64_t all = sow_task_rows(sow_evaluator_task(e->evaluator, job));
    int64_t rank = sow_world_rank(e->shared.world), size = sow_world_size(e->shared.world);
    int64_t first = all * rank / size, last = all * (rank + 1) / size;
    int64_t chunk = CHUNK_BATCHES * e->shared.options.generate.batch;
    for (int64_t at = first; at < last; at += chunk) {
        int64_t n = last - at < chunk ? last - at : chunk;
        sow_tally tally;
        for (int64_t i = 0; i < n; i++)
            e->rows[i] = at + i;
        SOW_TRY(sow_kernels_check_rounding());
        SOW_TRY(sow_evaluator_run(e->evaluator, job, e->rows, n, NULL, NULL, &tally));
        sow_tally_add(&e->tallies[job], &tally);
        if (rank == 0 && at + n < last)
            sow_log_progress(30, "%s: %lld/%lld rows of this rank", e->plan->tasks[job].name,
                             (long long)(at + n - first), (long long)(last - first));
    }
    return SOW_OK;
}

/* Collective.  The sums of all ranks, on root. */
static sow_code add_up(evaluation *e)
{
    sow_world *world = e->shared.world;
    sow_tally *all = NULL;
    sow_code rc = SOW_OK;
    if (sow_world_rank(world) == 0)
        rc = SOW_ALLOC(&all, (int64_t)sow_world_size(world) * MAX_TASKS);
    rc = sow_world_agree(world, rc);
    if (rc == SOW_OK)
        rc = sow_world_gather(world, e->tallies, sizeof e->tallies, all);
    for (int rank = 1; rc == SOW_OK && all != NULL && rank < sow_world_size(world); rank++)
        for (int i = 0; i < MAX_TASKS; i++)
            sow_tally_add(&e->tallies[i], &all[(int64_t)rank * MAX_TASKS + i]);
    SOW_FREE(&all);
    return rc;
}

/* ---- Results ---- */

/* To nine digits: the interval's squares are sums of doubles, whose last bits depend on how the rows were cut. */
static void put_rounded(sow_line *line, const char *key, double value)
{
    char text[32];
    double rounded = value;
    (void)snprintf(text, sizeof text, "%.9g", value);
    (void)sow_words_to_real(text, &rounded);
    sow_line_real(line, key, rounded);
}

static sow_code print_json(const sow_task_kind *kind, const sow_tally *t, double low, double high)
{
    sow_line *line = NULL;
    double reward_low = 0, reward_high = 0;
    sow_tally_reward_interval(t, &reward_low, &reward_high);
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "task", kind->name);
    sow_line_int(line, "rows", t->rows);
    sow_line_real(line, "accuracy", (double)t->correct / (double)t->rows);
    sow_line_real(line, "low", low);
    sow_line_real(line, "high", high);
    sow_line_real(line, "reward", sow_tally_mean_reward(t));
    put_rounded(line, "reward_low", reward_low);
    put_rounded(line, "reward_high", reward_high);
    sow_line_int(line, "tokens", t->new_tokens + t->prompt_tokens);
    sow_line_begin_object(line, "parts");
    for (int i = 0; i < SOW_MAX_PARTS && kind->parts[i] != NULL; i++)
        sow_line_real(line, kind->parts[i], (double)t->parts[i] / SOW_PART_SCALE / (double)t->rows);
    sow_line_end_object(line);
    sow_line_end_object(line);
    sow_code rc = sow_app_print(line);
    sow_line_destroy(&line);
    return rc;
}

static sow_code say_row(const sow_task_kind *kind, const sow_tally *t, double low, double high)
{
    double reward_low = 0, reward_high = 0;
    char interval[64];
    sow_tally_reward_interval(t, &reward_low, &reward_high);
    SOW_TRY(sow_app_say("%-14s %7lld %8.2f %%  [%6.2f, %6.2f]", kind->name, (long long)t->rows,
                        100 * (double)t->correct / (double)t->rows, 100 * low, 100 * high));
    (void)snprintf(interval, sizeof interval, "[%.4g, %.4g]", reward_low, reward_high);
    SOW_TRY(sow_app_say(" %10.5g  %21s %10lld", sow_tally_mean_reward(t), interval,
                        (long long)(t->new_tokens + t->prompt_tokens)));
    for (int i = 0; i < SOW_MAX_PARTS && kind->parts[i] != NULL; i++)
        SOW_TRY(sow_app_say("  %s %.4g", kind->parts[i], (double)t->parts[i] / SOW_PART_SCALE / (double)t->rows));
    return sow_app_say("\n");
}

static sow_code print(const sow_app *app, const evaluation *e)
{
    sow_log_progress(0, "%s", "");
    if (!app->is_json)
        SOW_TRY(
            sow_app_say("%-14s %7s %10s  %14s %12s %10s\n", "task", "rows", "accuracy", "95 %", "reward", "tokens"));
    for (int i = 0; i < e->plan->n_tasks; i++) {
        double low = 0, high = 1;
        const sow_task_kind *kind = sow_task_kind_of(sow_evaluator_task(e->evaluator, i));
        const sow_tally *t = &e->tallies[i];
        sow_stats_wilson(t->correct, t->rows, &low, &high);
        SOW_TRY(app->is_json ? print_json(kind, t, low, high) : say_row(kind, t, low, high));
    }
    return SOW_OK;
}

/* Collective. */
static sow_code share_plan(const sow_app *app, evaluation *e)
{
    if (sow_world_rank(app->world) == 0 && !has_split(app))
        for (int i = 0; i < e->plan->n_tasks; i++)
            SOW_TRY(choose_split(&e->shared, &e->plan->tasks[i]));
    return sow_world_bcast(app->world, e->plan, sizeof *e->plan);
}

static sow_code evaluate(sow_app *app, evaluation *e)
{
    sow_options *options = NULL;
    bool is_root = sow_world_rank(app->world) == 0;
    sow_code rc = SOW_ALLOC(&e->plan, 1);
    if (rc == SOW_OK)
        rc = SOW_ALLOC(&options, 1);
    if (rc == SOW_OK && is_root)
        rc = read_command(app, options, e->plan);
    SOW_TRY_OR(rc, sow_world_agree(app->world, rc));
    SOW_TRY_OR(rc, sow_shared_open(app->world, app->words[0], options, &e->shared));
    SOW_TRY_OR(rc, share_plan(app, e));
    SOW_TRY_OR(rc, sow_world_agree(app->world, open_tasks(e)));
    for (int i = 0; rc == SOW_OK && i < e->plan->n_tasks; i++)
        rc = answer_task(e, i);
    SOW_TRY_OR(rc, sow_world_agree(app->world, rc));
    SOW_TRY_OR(rc, add_up(e));
    SOW_TRY_OR(rc, sow_world_agree(app->world, is_root ? print(app, e) : SOW_OK));
done:
    SOW_FREE(&options);
    return rc;
}

static sow_code run(sow_app *app)
{
    evaluation *e = NULL;
    SOW_TRY(SOW_ALLOC(&e, 1));
    sow_code rc = evaluate(app, e);
    sow_evaluator_destroy(&e->evaluator);
    sow_shared_fini(&e->shared);
    SOW_FREE(&e->rows);
    SOW_FREE(&e->plan);
    SOW_FREE(&e);
    return rc;
}

const sow_command sow_command_eval = {
    .name = "eval",
    .doc = "scores a model on tasks, on held-out rows where a task has them",
    .usage = "MODEL --task NAME[,NAME...] [--rows N] [--set key=value]...",
    .examples =
        "  sower eval models/sprout --task countdown --set task.form=short --rows 500\n"
        "  mpirun -n 2 sower eval models/sprout --task calc,eval,rev,sort,count --rows 500\n"
        "  sower eval MODEL --task jsonl --set task.file=rows.jsonl --set task.split=train --set generate.chat=true\n",
    .is_parallel = true,
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
