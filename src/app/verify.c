/* SPDX-License-Identifier: Apache-2.0 */
/* sower verify: checks all of a run.
 *
 *     ledger     chain, header, whole lines; as many as status.json says
 *     weights    every iterate rebuilt from the base, its digest compared; checkpoints and final/ beside them
 *     members    K (generation, member) pairs evaluated again from scratch, fitnesses compared bit for bit
 *
 * The ledger of a run with gradients (grpo, sft) cannot rebuild weights: there every checkpoint's weights and moments
 * are compared with it, and K steps are run again, with those since the checkpoint before them.
 *
 * The chain is a checksum: who changes a fitness can make chain and digests anew.  Only evaluating finds that out. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/file.h"
#include "sower/folder.h"
#include "sower/log.h"
#include "sower/philox.h"
#include "sower/replay.h"
#include "sower/train.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_MEMBERS = 8, DEFAULT_STEPS = 2 };

static const char *members_text, *generations_text, *steps_text;

static const sow_flag flags[] = {
    {"members", 'm', "K", "members to evaluate again, drawn by run.seed, or all (8)", &members_text, NULL},
    {"generations", 'g', "A-B", "generations whose members are drawn; all by default", &generations_text, NULL},
    {"steps", 's', "K", "grpo, sft: steps to run again (2) from A on, else A to B, after those since a checkpoint",
     &steps_text, NULL},
    {0},
};

typedef struct verification {
    const sow_app *app;
    const char *path;             /* of the run */
    sow_folder *folder;           /* owned; root only */
    sow_replay *replay;           /* owned */
    int64_t members, first, last; /* what is asked for */
    int64_t n_checked;            /* members */
    sow_random random;
    bool has_gradients;
    sow_train_check check; /* of a run with gradients */
    int64_t seen, chosen;  /* of the pairs in first .. last */
    int32_t *picked;       /* owned, [population] */
} verification;

static bool is_root(const verification *v)
{
    return sow_world_rank(v->app->world) == 0;
}

/* "12", "3-40" */
static sow_code read_range(verification *v)
{
    char low[32] = "";
    const char *dash = generations_text == NULL ? NULL : strchr(generations_text, '-');
    v->first = 1;
    v->last = INT64_MAX;
    if (generations_text == NULL)
        return SOW_OK;
    if (dash == NULL) {
        SOW_TRY(sow_args_int("generations", generations_text, 1, INT32_MAX, &v->first));
        v->last = v->first;
        return SOW_OK;
    }
    (void)snprintf(low, sizeof low, "%.*s", (int)(dash - generations_text), generations_text);
    SOW_TRY(sow_args_int("generations", low, 1, INT32_MAX, &v->first));
    return sow_args_int("generations", dash + 1, v->first, INT32_MAX, &v->last);
}

static sow_code read_flags(verification *v)
{
    v->members = DEFAULT_MEMBERS;
    SOW_TRY(read_range(v));
    int64_t steps = DEFAULT_STEPS;
    SOW_TRY(sow_args_int("steps", steps_text, 0, INT32_MAX, &steps));
    v->check.first = v->first;
    v->check.last = steps_text != NULL || generations_text == NULL ? v->first + steps - 1 : v->last;
    if (members_text == NULL || strcmp(members_text, "all") != 0)
        return sow_args_int("members", members_text, 0, INT32_MAX, &v->members);
    v->members = INT64_MAX;
    return SOW_OK;
}

/* The members of a generation that are evaluated again: each set of K pairs is equally likely (Knuth, The Art of
 * Computer Programming 2, algorithm 3.4.2 S), and all ranks draw the same. */
static int64_t pick(verification *v, int64_t generation)
{
    int64_t population = sow_replay_population(v->replay), n = 0;
    int64_t total = (v->last - v->first + 1) * population;
    if (generation < v->first || generation > v->last)
        return 0;
    for (int32_t i = 0; i < population; i++, v->seen++) {
        uint32_t left = (uint32_t)(total - v->seen);
        if (v->members < total && (int64_t)sow_random_below(&v->random, left) >= v->members - v->chosen)
            continue;
        v->picked[n++] = i;
        v->chosen++;
    }
    return n;
}

/* Root: the checkpoint of this generation, if it is there. */
static sow_code compare_checkpoint(const verification *v)
{
    char path[SOW_TEXT];
    SOW_TRY(sow_folder_checkpoint(v->folder, sow_replay_generation(v->replay), path));
    return sow_file_exists(path) ? sow_replay_compare_file(v->replay, path) : SOW_OK;
}

/* Collective. */
static sow_code walk(verification *v)
{
    sow_world *world = v->app->world;
    int64_t n = sow_replay_n(v->replay);
    for (int64_t g = 1; g <= n; g++) {
        int64_t n_picked = pick(v, g);
        SOW_TRY(sow_replay_members(v->replay, v->picked, n_picked));
        v->n_checked += n_picked;
        SOW_TRY(sow_replay_step(v->replay));
        SOW_TRY(sow_world_agree(world, is_root(v) ? compare_checkpoint(v) : SOW_OK));
        if (is_root(v) && g < n)
            sow_log_progress(30, "generation %lld/%lld, %lld members", (long long)g, (long long)n,
                             (long long)v->n_checked);
    }
    if (is_root(v))
        sow_log_progress(0, "%s", "");
    return SOW_OK;
}

/* Root: status.json against the ledger; the result of a run that is done. */
static sow_code compare_end(const verification *v)
{
    char final[SOW_TEXT];
    sow_status status;
    int64_t n = sow_replay_n(v->replay);
    SOW_TRY(sow_folder_read_status(v->path, &status));
    bool is_done = status.state == SOW_STATE_DONE;
    if (n < status.step || (is_done && n != status.steps))
        return SOW_FAIL(SOW_EBITS, "generation %lld: is missing, the ledger ends before it; status.json says %lld",
                        (long long)n + 1, (long long)status.step);
    if (!is_done)
        return SOW_OK;
    SOW_TRY(sow_folder_file(v->folder, "final", final));
    if (!sow_file_is_folder(final))
        return SOW_FAIL(SOW_EBITS, "generation %lld: %s is missing from a run that is done", (long long)n, final);
    return sow_replay_compare_model(v->replay, final);
}

/* Collective. */
static sow_code verify(verification *v, const sow_conf *conf)
{
    sow_world *world = v->app->world;
    sow_code rc = is_root(v) ? sow_folder_open(v->path, &v->folder) : SOW_OK;
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_replay_open(&(sow_replay_args){.world = world, .conf = conf, .folder = v->path}, &v->replay));
    int64_t n = sow_replay_n(v->replay), population = sow_replay_population(v->replay);
    if (v->first > n && n > 0)
        rc = SOW_FAIL(SOW_EARG, "--generations: %lld, expected 1 to %lld, those of the ledger", (long long)v->first,
                      (long long)n);
    SOW_TRY(sow_world_agree(world, rc));
    v->last = v->last < n ? v->last : n;
    sow_random_init(&v->random, sow_place_of(SOW_STREAM_TEST, sow_replay_seed(v->replay), 0, 0, 0));
    rc = SOW_ALLOC(&v->picked, population);
    if (rc == SOW_OK && v->members != INT64_MAX && n * population > UINT32_MAX)
        rc = SOW_FAIL(SOW_EARG, "--members: a run of %lld fitnesses is too long to draw from, expected 0 or all",
                      (long long)(n * population));
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(walk(v));
    return sow_world_agree(world, is_root(v) ? compare_end(v) : SOW_OK);
}

/* The generation that a message names: all that tell of a wrong one say "generation G: "; -1: none is named. */
static int64_t named_generation(const char *text)
{
    static const char *const words[] = {"generation ", "step "};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *at = strstr(text, words[i]);
        char *end = NULL;
        if (at == NULL)
            continue;
        long long generation = strtoll(at + strlen(words[i]), &end, 10);
        if (*end == ':')
            return generation;
    }
    return -1;
}

/* Root. */
static sow_code report(const verification *v, sow_code verdict, const char *reason)
{
    int64_t n = v->has_gradients ? v->check.steps : v->replay == NULL ? 0 : sow_replay_n(v->replay);
    int64_t wrong = verdict == SOW_OK ? -1 : named_generation(reason);
    sow_line *line = NULL;
    if (!v->app->is_json && v->has_gradients)
        return verdict != SOW_OK
                   ? SOW_OK
                   : sow_app_say("%s: good: %lld steps, %lld files have the ledger's digests, %lld steps from %lld on "
                                 "run again\n",
                                 v->path, (long long)n, (long long)v->check.n_files, (long long)v->check.n_redone,
                                 (long long)v->check.from + 1);
    if (!v->app->is_json)
        return verdict != SOW_OK ? SOW_OK
                                 : sow_app_say("%s: good: %lld generations rebuilt, %lld members evaluated again\n",
                                               v->path, (long long)n, (long long)v->n_checked);
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_bool(line, "ok", verdict == SOW_OK);
    if (v->has_gradients) {
        sow_line_int(line, "steps", n);
        sow_line_int(line, "files", v->check.n_files);
        sow_line_int(line, "redone_from", v->check.from + 1);
        sow_line_int(line, "redone", v->check.n_redone);
    } else {
        sow_line_int(line, "generations", v->replay == NULL ? 0 : sow_replay_generation(v->replay));
        sow_line_int(line, "members", v->n_checked);
    }
    if (wrong >= 0)
        sow_line_int(line, "first_wrong", wrong);
    else
        sow_line_null(line, "first_wrong");
    sow_line_string(line, "reason", verdict == SOW_OK ? "" : reason);
    sow_line_end_object(line);
    sow_code rc = sow_app_print(line);
    sow_line_destroy(&line);
    return rc;
}

/* What is asked for must be of the run's kind. */
static sow_code check_flags(const verification *v)
{
    if (v->has_gradients && members_text != NULL)
        return SOW_FAIL(SOW_EARG, "--members: this run has gradients and no members, expected --steps");
    if (!v->has_gradients && steps_text != NULL)
        return SOW_FAIL(SOW_EARG, "--steps: this run is of ES and is rebuilt whole, expected --members");
    return SOW_OK;
}

static sow_code run(sow_app *app)
{
    verification v = {.app = app, .path = app->words[0]};
    char file[SOW_TEXT], reason[1024] = "";
    sow_conf *conf = NULL;
    bool is_read = false;
    sow_code rc = read_flags(&v);
    if (rc == SOW_OK && is_root(&v))
        rc = sow_app_run_conf(app, v.path, file, &conf);
    SOW_TRY_OR(rc, sow_world_agree(app->world, rc));
    is_read = true;
    v.has_gradients = is_root(&v) && strcmp(sow_conf_options(conf)->method, "es") != 0;
    SOW_TRY_OR(rc, sow_world_bcast(app->world, &v.has_gradients, sizeof v.has_gradients));
    rc = check_flags(&v);
    if (rc == SOW_OK)
        rc = v.has_gradients
                 ? sow_train_verify(&(sow_train_args){.world = app->world, .conf = conf, .folder = v.path}, &v.check)
                 : verify(&v, conf);
    (void)snprintf(reason, sizeof reason, "%s", sow_error_text());
done:
    if (is_read && is_root(&v)) {
        sow_code printed = report(&v, rc, reason);
        rc = rc != SOW_OK ? SOW_FAIL(rc, "%s", reason) : printed;
    }
    sow_replay_close(&v.replay);
    sow_folder_close(&v.folder);
    sow_conf_destroy(&conf);
    SOW_FREE(&v.picked);
    return rc;
}

const sow_command sow_command_verify = {
    .name = "verify",
    .doc = "checks all of a run: chain, rebuilt weights, members evaluated again",
    .usage = "RUN [--members K|all] [--generations A-B] [--steps K]",
    .examples = "  sower verify runs/first\n"
                "  mpirun -n 4 sower verify runs/first --members all\n"
                "  mpirun -n 4 sower verify runs/grpo --steps 5 --generations 51\n"
                "  sower verify runs/first --members 30 --generations 90-100 --set model.path=/where/the/base/is/now\n",
    .is_parallel = true,
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
