/* SPDX-License-Identifier: Apache-2.0 */
/* The start of a run: root reads and checks, everyone receives, and nobody goes on before all can. */
#include "sower/train.h"

#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/build.h"
#include "sower/chat.h"
#include "sower/clock.h"
#include "sower/log.h"
#include "sower/model.h"
#include "sower/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What only root has while a run starts. */
typedef struct start {
    sow_train_check *check; /* NULL: this is a run */
    const sow_train_args *args;
    sow_model *model;          /* owned */
    sow_ledger *ledger;        /* owned; of the run to resume, or NULL */
    sow_ledger_writer *writer; /* owned */
    sow_folder *folder;        /* owned */
    char *header;              /* owned */
    int64_t loaded;            /* generation that the checkpoint holds */
    int64_t measured;          /* last step with a line of metrics */
    int64_t told, num_tokens;  /* step that the run to resume told of last, and its tokens so far */
    bool is_over;              /* the run to resume is done already */
    sow_hash base_digest;
} start;

/* Refuses a name that is in no table. */
sow_code sow_train_check_name(const sow_conf *conf, const char *key, const char *const *names, int64_t n, bool is_known)
{
    sow_words list = {0};
    sow_code rc = SOW_OK;
    if (is_known)
        return SOW_OK;
    SOW_TRY_OR(rc, sow_words_print(&list, "one of"));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY_OR(rc, sow_words_print(&list, "%s %s", i > 0 ? "," : "", names[i]));
    rc = sow_conf_reject(conf, key, list.text, names, n);
done:
    sow_words_fini(&list);
    return rc;
}

sow_code sow_train_check_names(const sow_conf *conf)
{
    const sow_options *o = sow_conf_options(conf);
    const char *names[SOW_MAX_NAMES];
    int64_t n = sow_task_count();
    SOW_ASSERT(sow_method_find(o->method) != NULL); /* the table of options has the same names */
    for (int64_t i = 0; sow_method_at(i) != NULL; i++)
        SOW_TRY(sow_method_at(i)->check(conf));
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_task_at(i)->name;
    SOW_TRY(sow_train_check_name(conf, "task.name", names, n, sow_task_find(o->task.name) != NULL));
    for (int64_t i = 0; i < o->n_probes; i++) {
        char key[48];
        (void)snprintf(key, sizeof key, "probes[%lld].task", (long long)i);
        SOW_TRY(sow_train_check_name(conf, key, names, n, sow_task_find(o->probes[i].task.name) != NULL));
    }
    return SOW_OK;
}

/* Root: what a run left.  No ledger, or one whose header was torn: from generation 0. */
static sow_code read_run(start *s, sow_run *run)
{
    char path[SOW_TEXT];
    sow_status status = {0};
    SOW_TRY(sow_folder_open(s->args->folder, &s->folder));
    if (s->check == NULL)
        SOW_TRY(sow_folder_lock(s->folder));
    SOW_TRY(sow_folder_file(s->folder, "ledger.jsonl", path));
    SOW_TRY(sow_ledger_read(path, &s->ledger));
    if (s->ledger->header == NULL) {
        sow_log(SOW_LOG_WARN, "%s: has no whole header, beginning at generation 0", path);
        sow_ledger_destroy(&s->ledger);
        return SOW_OK;
    }
    SOW_TRY(sow_ledger_compare(path, s->ledger->header, s->header));
    if (s->ledger->has_torn_end)
        sow_log(SOW_LOG_WARN, "%s: the last line is torn and dropped", path);
    if (s->ledger->n > run->options->run.steps)
        return SOW_FAIL(SOW_ECONF, "run.steps: %lld is less than the %lld %ss that %s holds",
                        (long long)run->options->run.steps, (long long)s->ledger->n, run->method->word, path);
    bool has_status = sow_folder_read_status(s->args->folder, &status) == SOW_OK && status.step <= s->ledger->n;
    s->told = has_status ? status.step : s->ledger->n;
    s->num_tokens = has_status ? status.num_tokens : -1;
    s->is_over = s->ledger->n == run->options->run.steps && has_status && status.state == SOW_STATE_DONE &&
                 status.step == s->ledger->n;
    return SOW_OK;
}

/* Root: the weights of a model's folder against the ledger's last digest. */
static sow_code check_final(start *s, sow_run *run)
{
    char path[SOW_TEXT];
    sow_model *model = NULL;
    int64_t n = s->ledger->n, index = run->method->index(run, n);
    sow_code rc = SOW_OK;
    SOW_TRY(sow_folder_file(s->folder, "final", path));
    if (n == 0 || !sow_file_is_folder(path))
        return SOW_OK;
    SOW_TRY_OR(rc, sow_model_open(path, &model));
    if (sow_model_layout(model)->n_elements != run->layout->n_elements) {
        rc = SOW_FAIL(SOW_EBITS, "step %lld: %s has another shape than the base", (long long)n, path);
        goto done;
    }
    SOW_TRY_OR(rc, sow_model_load(model, sow_theta_buffer(run->theta, index)));
    sow_theta_loaded(run->theta, index);
    if (!sow_hash_equal(sow_theta_digest(run->theta, index), s->ledger->digests[n - 1]))
        rc = SOW_FAIL(SOW_EBITS, "step %lld: %s does not have the digest of the ledger", (long long)n, path);
    s->check->n_files++;
done:
    sow_model_close(&model);
    return rc;
}

/* Root: everything that a run has left against its ledger, and where steps are to be run again. */
static sow_code check_files(start *s, sow_run *run)
{
    char path[SOW_TEXT];
    sow_status status;
    int64_t n = s->ledger == NULL ? 0 : s->ledger->n, step = n + 1;
    if (s->ledger == NULL || s->ledger->has_torn_end)
        return SOW_FAIL(SOW_EBITS, "step %lld: the ledger is cut short", (long long)n + 1);
    SOW_TRY(sow_folder_read_status(s->args->folder, &status));
    if (n < status.step || (status.state == SOW_STATE_DONE && n != status.steps))
        return SOW_FAIL(SOW_EBITS, "step %lld: is missing, the ledger ends before it; status.json says %lld",
                        (long long)n + 1, (long long)status.step);
    s->check->steps = n;
    if (s->check->first > n && s->check->last >= s->check->first)
        return SOW_FAIL(SOW_EARG, "--generations: %lld, expected 1 to %lld, the steps of the ledger",
                        (long long)s->check->first, (long long)n);
    SOW_TRY(check_final(s, run));
    for (;;) {
        SOW_TRY(sow_folder_find_checkpoint(s->folder, step - 1, path, &step));
        if (step <= 0)
            break;
        if (sow_run_load_step(run, s->folder, s->ledger, path, step) != SOW_OK)
            return SOW_FAIL(SOW_EBITS, "step %lld: %s: %s", (long long)step, path, sow_error_text());
        s->check->n_files++;
    }
    memcpy(sow_theta_buffer(run->theta, 0), sow_theta_base(run->theta),
           (size_t)run->layout->n_elements * sizeof(float));
    sow_theta_loaded(run->theta, 0);
    for (int which = 0; which < 2; which++)
        memset(sow_optimizer_moment(run->sgd->optimizer, which, 0), 0, (size_t)run->layout->n_elements * sizeof(float));
    sow_optimizer_loaded(run->sgd->optimizer, 0);
    s->is_over = false;
    return SOW_OK;
}

/* Collective.  What root has read of a checkpoint, to the other nodes. */
static sow_code share_loaded(const start *s, sow_run *run)
{
    size_t bytes = (size_t)run->layout->n_elements * sizeof(float);
    int64_t index = run->method->index(run, s->loaded);
    bool is_receiver = sow_run_leads(run) && sow_world_rank(run->world) != 0;
    SOW_TRY(sow_world_bcast_leaders(run->world, sow_theta_buffer(run->theta, index), bytes));
    if (is_receiver)
        sow_theta_loaded(run->theta, index);
    for (int which = 0; run->sgd != NULL && which < 2; which++)
        SOW_TRY(sow_world_bcast_leaders(run->world, sow_optimizer_moment(run->sgd->optimizer, which, index), bytes));
    if (run->sgd != NULL && is_receiver)
        sow_optimizer_loaded(run->sgd->optimizer, index);
    return SOW_OK;
}

/* Collective.  Where to begin: header, and for --resume ledger and checkpoint. */
static sow_code find_beginning(start *s, sow_run *run)
{
    sow_world *world = run->world;
    sow_code rc = SOW_OK;
    if (sow_world_rank(world) == 0) {
        rc = sow_run_header(run, &s->base_digest, &s->header);
        if (rc == SOW_OK && s->args->is_resume)
            rc = read_run(s, run);
        if (rc == SOW_OK && s->check != NULL)
            rc = check_files(s, run);
        int64_t most = s->ledger == NULL ? 0 : s->check != NULL ? s->check->first - 1 : s->ledger->n;
        if (rc == SOW_OK && s->ledger != NULL && !s->is_over)
            rc = sow_run_load_checkpoint(run, s->folder, s->ledger, most, &s->loaded);
    }
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_world_bcast(world, &s->loaded, sizeof s->loaded));
    SOW_TRY(sow_world_bcast(world, &s->is_over, sizeof s->is_over));
    if (s->loaded > 0)
        SOW_TRY(share_loaded(s, run));
    return sow_world_barrier(world);
}

/* Collective.  A digest before the first generation: every node holds the same bits. */
static sow_code compare_nodes(const start *s, sow_run *run)
{
    sow_world *world = run->world;
    sow_hash mine = sow_theta_digest(run->theta, run->method->index(run, s->loaded)), *all = NULL;
    sow_code rc = SOW_ALLOC(&all, sow_world_size(world));
    SOW_TRY(sow_world_agree(world, rc));
    rc = sow_world_gather(world, &mine, sizeof mine, all);
    for (int rank = 1; rc == SOW_OK && sow_world_rank(world) == 0 && rank < sow_world_size(world); rank++)
        if (!sow_hash_equal(all[rank], mine))
            rc = SOW_FAIL(SOW_EBITS, "rank %d on %s received other weights than rank 0 sent", rank,
                          sow_world_host(world, rank));
    SOW_FREE(&all);
    return sow_world_agree(world, rc);
}

static sow_code write_run_json(const start *s, const sow_run *run)
{
    char path[SOW_TEXT], digest[SOW_HASH_HEX], when[32];
    const char *text = NULL, *remedy = NULL;
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    time_t now = time(NULL);
    struct tm utc;
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    sow_hash_write(s->base_digest, digest);
    SOW_TRY(sow_folder_file(s->folder, "run.json", path));
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "sower", sow_build_version());
    sow_line_string(line, "commit", sow_build_commit());
    sow_line_string(line, "compiler", sow_build_compiler());
    sow_line_string(line, "build_type", sow_build_type());
    sow_line_int(line, "numerics", SOW_NUMERICS);
    sow_line_string(line, "started", when);
    sow_line_string(line, "mpi", sow_world_library());
    sow_line_int(line, "ranks", sow_world_size(run->world));
    sow_line_int(line, "nodes", sow_world_n_nodes(run->world));
    sow_line_int(line, "threads", sow_la_threads(run->la));
    sow_line_string(line, "cpu", sow_la_cpu_name());
    sow_line_string(line, "kernel", sow_la_kernels(run->la)->name);
    sow_line_string(line, "blas", sow_la_blas_name(&remedy));
    sow_line_string(line, "model", run->options->model.path);
    sow_line_string(line, "model_digest", digest);
    sow_line_int(line, "parameters", run->layout->n_parameters);
    sow_line_string(line, "dtype", sow_type_name(run->type));
    sow_line_int(line, "resumed_at", s->ledger == NULL ? 0 : s->ledger->n);
    sow_line_begin_array(line, "hosts");
    for (int rank = 0; rank < sow_world_size(run->world); rank++)
        sow_line_string(line, NULL, sow_world_host(run->world, rank));
    sow_line_end_array(line);
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_line_text(line, &text));
    SOW_TRY_OR(rc, sow_file_write(path, text, strlen(text)));
done:
    sow_line_destroy(&line);
    return rc;
}

/* A finished run that goes on keeps its earlier result under another name. */
static sow_code put_final_aside(const start *s)
{
    char final[SOW_TEXT], aside[SOW_TEXT], name[64];
    SOW_TRY(sow_folder_file(s->folder, "final", final));
    if (!sow_file_exists(final))
        return SOW_OK;
    (void)snprintf(name, sizeof name, "final-%08lld", (long long)s->ledger->n);
    SOW_TRY(sow_folder_file(s->folder, name, aside));
    if (rename(final, aside) != 0)
        return SOW_FAIL(SOW_EIO, "%s: cannot be renamed to %s", final, aside);
    return SOW_OK;
}

/* Root: the folder, when nothing can be refused any more. */
static sow_code open_folder(start *s, sow_run *run)
{
    char path[SOW_TEXT];
    char *yaml = NULL;
    sow_code rc = SOW_OK;
    if (s->folder == NULL) {
        SOW_TRY(sow_folder_create(s->args->folder, &s->folder));
        SOW_TRY(sow_folder_lock(s->folder));
    }
    SOW_TRY(sow_folder_file(s->folder, "config.yaml", path));
    SOW_TRY(sow_conf_write(run->options, &yaml));
    rc = sow_file_write(path, yaml, strlen(yaml));
    SOW_FREE(&yaml);
    SOW_TRY(rc);
    SOW_TRY(write_run_json(s, run));
    SOW_TRY(sow_folder_open_lines(s->folder, s->ledger == NULL ? -1 : s->ledger->n, &s->measured));
    if (s->ledger != NULL) {
        SOW_TRY(put_final_aside(s));
        return sow_ledger_continue(s->ledger, &s->writer);
    }
    SOW_TRY(sow_folder_file(s->folder, "ledger.jsonl", path));
    return sow_ledger_create(path, s->header, &s->writer);
}

/* Collective.  Everything up to the moment from which ranks may die. */
static sow_code begin(start *s, sow_run *run)
{
    sow_world *world = run->world;
    bool is_root = sow_world_rank(world) == 0;
    sow_code rc = SOW_ALLOC(&run->options, 1);
    if (rc == SOW_OK && is_root) {
        *run->options = *sow_conf_options(s->args->conf);
        if (s->check != NULL) { /* what only looks at a run touches no bits */
            run->options->n_probes = 0;
            run->options->run.eval_rows = 0;
            run->options->run.fault[0] = '\0';
        }
        if (!s->args->is_resume)
            rc = sow_folder_check_new(s->args->folder);
    }
    if (rc == SOW_OK && is_root)
        rc = sow_run_read(run, s->args->conf, &s->model);
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_run_share(run, s->model));
    SOW_TRY(sow_run_load(run, s->model));
    SOW_TRY(sow_world_agree(world, sow_run_prepare(run)));
    SOW_TRY(find_beginning(s, run));
    if (s->is_over)
        return SOW_OK;
    SOW_TRY(compare_nodes(s, run));
    SOW_TRY(sow_world_agree(world, is_root && s->check == NULL ? open_folder(s, run) : SOW_OK));
    return sow_world_seal(world);
}

/* Of the first n generations: those that did not move theta. */
static int64_t count_flat(const sow_shaping *shaping, const sow_ledger *ledger, int64_t n)
{
    int64_t flat = 0;
    for (int64_t g = 0; g < n; g++)
        flat += !sow_shaping_moves(shaping, ledger->fitness + g * ledger->population, ledger->population);
    return flat;
}

static sow_code make_root(start *s, sow_run *run, sow_root *root)
{
    *root = (sow_root){.run = run, .folder = s->folder, .ledger = s->writer, .started_s = sow_clock_now_s()};
    root->status.steps = run->options->run.steps;
    root->status.step = s->told;
    root->status.num_tokens = s->num_tokens;
    root->limit_s = run->options->run.max_hours * 3600;
    root->n_flat = s->ledger == NULL || run->sgd != NULL ? 0 : count_flat(run->shaping, s->ledger, s->loaded);
    SOW_TRY(sow_tau_parse(run->options->measure.tau, &root->tau));
    SOW_TRY(SOW_ALLOC(&root->nodes, sow_world_n_nodes(run->world)));
    SOW_TRY(SOW_ALLOC(&root->reports, sow_world_size(run->world)));
    SOW_TRY(SOW_ALLOC(&root->spent, sow_world_size(run->world)));
    SOW_TRY(SOW_ALLOC(&root->flops_put, sow_world_size(run->world)));
    SOW_TRY(SOW_ALLOC(&root->tallies, 2 * run->options->es.population));
    SOW_TRY(SOW_ALLOC(&root->rewards, run->options->es.population));
    if (run->sgd != NULL)
        SOW_TRY(sow_sgd_root_create(root));
    return sow_queue_create(run->world, TAG_UNIT, strcmp(run->options->es.schedule, "dynamic") == 0, &root->queue);
}

static void root_fini(sow_root *root)
{
    sow_queue_destroy(&root->queue);
    sow_sgd_root_destroy(root);
    SOW_FREE(&root->nodes);
    SOW_FREE(&root->reports);
    SOW_FREE(&root->spent);
    SOW_FREE(&root->flops_put);
    SOW_FREE(&root->tallies);
    SOW_FREE(&root->rewards);
    SOW_FREE(&root->units);
    sow_root_measures_fini(root);
}

static sow_code lead(start *s, sow_run *run)
{
    sow_root root = {0};
    char why[FAIL_TEXT];
    sow_code rc = make_root(s, run, &root);
    if (rc == SOW_OK) {
        sow_root_tell_start(&root, s->args->folder);
        rc = sow_root_lead(&root, s->ledger, s->loaded, s->measured);
    }
    (void)snprintf(why, sizeof why, "%s", sow_error_text());
    sow_phase_install_tick(NULL, NULL);
    if (rc != SOW_OK && rc != SOW_ESTOP) {
        root.status.state = SOW_STATE_FAILED;
        (void)snprintf(root.status.reason, sizeof root.status.reason, "%.*s", SOW_TEXT - 1, why);
        if (sow_folder_write_status(s->folder, &root.status) != SOW_OK)
            sow_log(SOW_LOG_ERROR, "%s", sow_error_text());
    }
    sow_root_stop(&root, rc);
    root_fini(&root);
    return rc == SOW_OK ? SOW_OK : SOW_FAIL(rc, "%s", why);
}

/* Root: the steps asked for and those before them since the checkpoint, compared with the ledger. */
static sow_code lead_again(start *s, sow_run *run)
{
    sow_root root = {0};
    char why[FAIL_TEXT];
    sow_train_check *check = s->check;
    sow_code rc = make_root(s, run, &root);
    check->from = s->loaded;
    sow_root_install_tick(&root);
    const int64_t last = check->last < s->ledger->n ? check->last : s->ledger->n;
    for (int64_t step = s->loaded + 1; rc == SOW_OK && check->first <= last && step <= last; step++) {
        rc = run->method->redo(&root, s->ledger, step);
        check->n_redone += rc == SOW_OK;
    }
    (void)snprintf(why, sizeof why, "%s", sow_error_text());
    sow_phase_install_tick(NULL, NULL);
    sow_root_stop(&root, rc);
    root_fini(&root);
    return rc == SOW_OK ? SOW_OK : SOW_FAIL(rc, "%s", why);
}

static sow_code run_all(const sow_train_args *args, sow_train_check *check)
{
    start s = {.args = args, .measured = -1, .check = check};
    sow_run run = {.world = args->world};
    bool is_root = sow_world_rank(args->world) == 0;
    sow_code rc = begin(&s, &run);
    if (rc == SOW_OK && s.is_over && is_root)
        sow_log(SOW_LOG_INFO, "%s: is done already", args->folder);
    if (rc == SOW_OK && !s.is_over)
        rc = !is_root ? sow_run_work(&run) : check != NULL ? lead_again(&s, &run) : lead(&s, &run);
    sow_model_close(&s.model);
    sow_ledger_destroy(&s.ledger);
    sow_ledger_close(&s.writer);
    sow_folder_close(&s.folder);
    SOW_FREE(&s.header);
    sow_run_fini(&run);
    return rc;
}

sow_code sow_train_run(const sow_train_args *args)
{
    return run_all(args, NULL);
}

sow_code sow_train_verify(const sow_train_args *args, sow_train_check *check)
{
    sow_train_args again = *args;
    again.is_resume = true; /* its folder is read */
    return run_all(&again, check);
}
