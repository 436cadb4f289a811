/* SPDX-License-Identifier: Apache-2.0 */
/* The start of an ES run: root reads and checks, everyone receives, and nobody goes on before all can. */
#include "sower/es.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sower/alloc.h"
#include "sower/build.h"
#include "sower/chat.h"
#include "sower/clock.h"
#include "sower/log.h"
#include "sower/model.h"
#include "sower/plan.h"

#include "root_impl.h"

enum { CHAT_NAME = 32, MAX_NAMES = 64 };

/* What only root has while a run starts. */
typedef struct start {
    const sow_es_args *args;
    sow_model *model;           /* owned */
    sow_ledger *ledger;         /* owned; of the run to resume, or NULL */
    sow_ledger_writer *writer;  /* owned */
    sow_folder *folder;         /* owned */
    char *header;               /* owned */
    int64_t loaded;             /* generation that the checkpoint holds */
    int64_t measured;           /* last step with a line of metrics */
    bool is_over;               /* the run to resume is done already */
    sow_hash base_digest;
} start;

/* Refuses a name that is in no table. */
static sow_code check_name(const sow_conf *conf, const char *key, const char *const *names, int64_t n, bool is_known)
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

sow_code sow_es_check_names(const sow_conf *conf)
{
    const sow_options *o = sow_conf_options(conf);
    const char *names[MAX_NAMES];
    int64_t n = sow_noise_count();
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_noise_at(i)->name;
    SOW_TRY(check_name(conf, "es.noise", names, n, sow_noise_find(o->es.noise) != NULL));
    n = sow_shaping_count();
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_shaping_at(i)->name;
    SOW_TRY(check_name(conf, "es.shaping", names, n, sow_shaping_find(o->es.shaping) != NULL));
    n = sow_task_count();
    for (int64_t i = 0; i < n; i++)
        names[i] = sow_task_at(i)->name;
    SOW_TRY(check_name(conf, "task.name", names, n, sow_task_find(o->task.name) != NULL));
    for (int64_t i = 0; i < o->n_probes; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "probes[%lld].task", (long long)i);
        SOW_TRY(check_name(conf, key, names, n, sow_task_find(o->probes[i].task.name) != NULL));
    }
    return SOW_OK;
}

static sow_code read_task_file(const sow_task_options *options, char **out, size_t *bytes)
{
    return options->file[0] == '\0' ? SOW_OK : sow_file_read(options->file, (size_t)1 << 31, out, bytes);
}

/* Root: names, model, tokenizer, files. */
static sow_code read_inputs(start *s, sow_run *run)
{
    const sow_options *o = run->options;
    size_t bytes = 0;
    SOW_TRY(sow_es_check_names(s->args->conf));
    SOW_TRY(sow_phase_set_fault(o->run.fault, -1));
    if (o->model.path[0] == '\0')
        return sow_conf_reject(s->args->conf, "model.path", "a Hugging Face folder or a .gguf file", NULL, 0);
    SOW_TRY(sow_model_open(o->model.path, &s->model));
    const char *json = sow_model_tokenizer_json(s->model, &bytes);
    if (json == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: has no tokenizer.json", o->model.path);
    SOW_TRY(SOW_ALLOC(&run->blocks.tokenizer, bytes + 1));
    memcpy(run->blocks.tokenizer, json, bytes);
    run->blocks.tokenizer_bytes = bytes;
    if (sow_model_chat_template(s->model) != NULL)
        SOW_TRY(sow_alloc_string(&run->chat_template, sow_model_chat_template(s->model)));
    SOW_TRY(read_task_file(&o->task, &run->blocks.files[0], &run->blocks.file_bytes[0]));
    for (int64_t i = 0; i < o->n_probes; i++)
        SOW_TRY(read_task_file(&o->probes[i].task, &run->blocks.files[i + 1], &run->blocks.file_bytes[i + 1]));
    return SOW_OK;
}

/* Everyone: the format's name, from what root found; the static text behind it. */
static sow_code find_chat(sow_run *run)
{
    sow_tokenizer *tokenizer = NULL;
    if (!run->options->generate.chat)
        return SOW_OK;
    SOW_TRY(sow_tokenizer_parse(run->blocks.tokenizer, run->blocks.tokenizer_bytes, "tokenizer.json", &tokenizer));
    run->chat = sow_chat_detect(tokenizer, run->chat_template);
    sow_tokenizer_destroy(&tokenizer);
    if (run->chat == NULL)
        return SOW_FAIL(SOW_ECONF, "generate.chat: true is not possible: the model shows no chat format that is known");
    return SOW_OK;
}

/* Collective.  Options, shape and texts from root to all. */
static sow_code share_inputs(start *s, sow_run *run)
{
    sow_world *world = run->world;
    sow_shape shape = {0};
    if (sow_world_rank(world) == 0)
        shape = sow_model_layout(s->model)->shape;
    SOW_TRY(sow_world_bcast(world, run->options, sizeof *run->options));
    SOW_TRY(sow_world_bcast(world, &shape, sizeof shape));
    SOW_TRY(sow_world_bcast_block(world, (void **)&run->blocks.tokenizer, &run->blocks.tokenizer_bytes));
    for (int64_t i = 0; i <= run->options->n_probes; i++) {
        const sow_task_options *t = i == 0 ? &run->options->task : &run->options->probes[i - 1].task;
        if (t->file[0] != '\0')
            SOW_TRY(sow_world_bcast_block(world, (void **)&run->blocks.files[i], &run->blocks.file_bytes[i]));
    }
    size_t bytes = run->chat_template == NULL ? 0 : strlen(run->chat_template) + 1;
    SOW_TRY(sow_world_bcast_block(world, (void **)&run->chat_template, &bytes));
    sow_code rc = sow_layout_create(&shape, &run->layout);
    if (rc == SOW_OK)
        rc = find_chat(run);
    if (rc == SOW_OK)
        rc = sow_phase_set_fault(run->options->run.fault, sow_world_rank(world));
    if (rc == SOW_OK)
        rc = sow_la_create(run->options->la.backend, run->options->la.kernel, run->options->run.threads, &run->la);
    if (rc == SOW_OK)
        sow_kernels_set_rounding();
    return sow_world_agree(world, rc);
}

static bool is_leader(const sow_world *world)
{
    int rank = sow_world_rank(world);
    return sow_world_node_member(world, sow_world_node_of(world, rank), 0) == rank;
}

/* Root: a first guess of memory, before any is taken. */
static sow_code check_memory(const sow_run *run)
{
    sow_plan plan;
    const sow_options *o = run->options;
    int64_t max_new = o->generate.max_new_tokens > 0 ? o->generate.max_new_tokens : 64;
    sow_plan_make(o, run->layout, SOW_FP16, sow_world_size(run->world), sow_world_node_size(run->world, 0),
                  sow_la_threads(run->la), 64, max_new, o->task.rows, &plan);
    plan.node_bytes *= sow_world_n_nodes(run->world); /* pretended nodes share this machine; real ones are alike */
    if (o->run.ranks_per_node == 0 && strcmp(o->es.update, "replicated") != 0)
        plan.node_bytes /= sow_world_n_nodes(run->world);
    return sow_plan_check(&plan);
}

/* Collective.  Theta on every node: the base, and the storage type. */
static sow_code load_base(start *s, sow_run *run)
{
    sow_world *world = run->world;
    bool is_replicated = strcmp(run->options->es.update, "replicated") == 0;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_world_cut(world, run->options->run.deadline_s, is_replicated ? 1 : run->options->run.ranks_per_node));
    if (sow_world_rank(world) == 0)
        rc = check_memory(run);
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_theta_create(world, run->la, run->layout, run->options->es.update_block, &run->theta));
    float *base = sow_theta_base(run->theta);
    if (sow_world_rank(world) == 0) {
        rc = sow_model_load(s->model, base);
        if (rc == SOW_OK)
            rc = sow_replica_choose_type(run->options->model.dtype, run->layout, base, &run->type);
    }
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_world_bcast(world, &run->type, sizeof run->type));
    SOW_TRY(sow_world_bcast_leaders(world, base, (size_t)run->layout->n_elements * sizeof *base));
    if (is_leader(world)) {
        memcpy(sow_theta_buffer(run->theta, 0), base, (size_t)run->layout->n_elements * sizeof *base);
        sow_theta_loaded(run->theta, 0);
    }
    return sow_world_barrier(world);
}

static void hash_text(const char *text, size_t bytes, char out[SOW_HASH_HEX])
{
    sow_hash_write(sow_hash_bytes(text, bytes), out);
}

static sow_code make_header(start *s, const sow_run *run)
{
    char model[SOW_HASH_HEX], tokenizer[SOW_HASH_HEX], rows[SOW_HASH_HEX] = "generated";
    const char *remedy = NULL;
    s->base_digest = sow_theta_digest(run->theta, 0);
    sow_hash_write(s->base_digest, model);
    hash_text(run->blocks.tokenizer, run->blocks.tokenizer_bytes, tokenizer);
    if (run->blocks.files[0] != NULL)
        hash_text(run->blocks.files[0], run->blocks.file_bytes[0], rows);
    bool is_exact = sow_la_is_exact(run->la);
    sow_ledger_facts facts = {.dtype = sow_type_name(run->type),
                              .model = model,
                              .tokenizer = tokenizer,
                              .rows = rows,
                              .backend = is_exact ? "exact" : sow_la_blas_name(&remedy),
                              .batch = is_exact ? 0 : run->options->generate.batch,
                              .max_new_tokens = sow_evaluator_max_new(run->evaluator, run->train_job),
                              .chat = run->chat == NULL ? "none" : run->chat};
    return sow_ledger_header(run->options, &facts, &s->header);
}

/* Root: what a run left.  No ledger, or one whose header was torn: from generation 0. */
static sow_code read_run(start *s, sow_run *run)
{
    char path[SOW_TEXT];
    sow_status status = {0};
    SOW_TRY(sow_folder_open(s->args->folder, &s->folder));
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
        return SOW_FAIL(SOW_ECONF, "run.steps: %lld is less than the %lld generations that %s holds",
                        (long long)run->options->run.steps, (long long)s->ledger->n, path);
    s->is_over = s->ledger->n == run->options->run.steps && sow_folder_read_status(s->args->folder, &status) == SOW_OK &&
                 status.state == SOW_STATE_DONE && status.step == s->ledger->n;
    return SOW_OK;
}

/* Root: the newest checkpoint that agrees with the ledger, into theta. */
static sow_code load_checkpoint(start *s, sow_run *run)
{
    char path[SOW_TEXT];
    int64_t step = s->ledger->n + 1;
    for (;;) {
        SOW_TRY(sow_folder_find_checkpoint(s->folder, step - 1, path, &step));
        if (step <= 0)
            return SOW_OK;
        float *theta = sow_theta_buffer(run->theta, step);
        sow_code rc = sow_model_load_theta(path, run->layout, theta);
        if (rc == SOW_OK) {
            sow_theta_loaded(run->theta, step);
            if (sow_hash_equal(sow_theta_digest(run->theta, step), s->ledger->digests[step - 1])) {
                s->loaded = step;
                return SOW_OK;
            }
        }
        sow_log(SOW_LOG_WARN, "%s: %s, taking an earlier one", path,
                rc == SOW_OK ? "does not have the digest of the ledger" : sow_error_text());
        memcpy(sow_theta_buffer(run->theta, 0), sow_theta_base(run->theta), (size_t)run->layout->n_elements * sizeof *theta);
        sow_theta_loaded(run->theta, 0);
    }
}

/* Collective.  Where to begin: header, and for --resume ledger and checkpoint. */
static sow_code find_beginning(start *s, sow_run *run)
{
    sow_world *world = run->world;
    sow_code rc = SOW_OK;
    if (sow_world_rank(world) == 0) {
        rc = make_header(s, run);
        if (rc == SOW_OK && s->args->is_resume)
            rc = read_run(s, run);
        if (rc == SOW_OK && s->ledger != NULL && !s->is_over)
            rc = load_checkpoint(s, run);
    }
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(sow_world_bcast(world, &s->loaded, sizeof s->loaded));
    SOW_TRY(sow_world_bcast(world, &s->is_over, sizeof s->is_over));
    if (s->loaded > 0)
        SOW_TRY(sow_world_bcast_leaders(world, sow_theta_buffer(run->theta, s->loaded),
                                        (size_t)run->layout->n_elements * sizeof(float)));
    if (s->loaded > 0 && is_leader(world) && sow_world_rank(world) != 0)
        sow_theta_loaded(run->theta, s->loaded);
    return sow_world_barrier(world);
}

/* Collective.  A digest before the first generation: every node holds the same bits. */
static sow_code compare_nodes(const start *s, sow_run *run)
{
    sow_world *world = run->world;
    sow_hash mine = sow_theta_digest(run->theta, s->loaded), *all = NULL;
    sow_code rc = SOW_ALLOC(&all, sow_world_size(world));
    SOW_TRY(sow_world_agree(world, rc));
    rc = sow_world_gather(world, &mine, sizeof mine, all);
    for (int rank = 1; rc == SOW_OK && sow_world_rank(world) == 0 && rank < sow_world_size(world); rank++)
        if (!sow_hash_equal(all[rank], mine))
            rc = SOW_FAIL(SOW_EBITS, "rank %d on %s received other weights than rank 0 sent", rank, sow_world_host(world, rank));
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
    if (s->folder == NULL)
        SOW_TRY(sow_folder_create(s->args->folder, &s->folder));
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
        if (!s->args->is_resume && sow_file_exists(s->args->folder))
            rc = SOW_FAIL(SOW_ECONF, "%s: exists already, expected a new folder (--out NAME), or --resume to go on with it",
                          s->args->folder);
    }
    if (rc == SOW_OK && is_root)
        rc = read_inputs(s, run);
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(share_inputs(s, run));
    SOW_TRY(load_base(s, run));
    SOW_TRY(sow_world_agree(world, sow_run_prepare(run)));
    SOW_TRY(find_beginning(s, run));
    if (s->is_over)
        return SOW_OK;
    SOW_TRY(compare_nodes(s, run));
    SOW_TRY(sow_world_agree(world, is_root ? open_folder(s, run) : SOW_OK));
    return sow_world_seal(world);
}

static int64_t count_flat(const sow_ledger *ledger, int64_t n)
{
    int64_t flat = 0;
    for (int64_t g = 0; g < n; g++) {
        const double *f = ledger->fitness + g * ledger->population;
        int64_t i = 1;
        while (i < ledger->population && f[i] == f[0])
            i++;
        flat += i == ledger->population;
    }
    return flat;
}

static sow_code make_root(start *s, sow_run *run, sow_root *root)
{
    *root = (sow_root){.run = run, .folder = s->folder, .ledger = s->writer, .started_s = sow_clock_now_s()};
    root->status.steps = run->options->run.steps;
    root->limit_s = run->options->run.max_hours * 3600;
    root->n_flat = s->ledger == NULL ? 0 : count_flat(s->ledger, s->loaded);
    SOW_TRY(sow_tau_parse(run->options->measure.tau, &root->tau));
    SOW_TRY(SOW_ALLOC(&root->nodes, sow_world_n_nodes(run->world)));
    SOW_TRY(SOW_ALLOC(&root->reports, sow_world_size(run->world)));
    SOW_TRY(SOW_ALLOC(&root->tallies, run->options->es.population));
    return sow_queue_create(run->world, TAG_UNIT, strcmp(run->options->es.schedule, "dynamic") == 0, &root->queue);
}

static void root_fini(sow_root *root)
{
    sow_queue_destroy(&root->queue);
    SOW_FREE(&root->nodes);
    SOW_FREE(&root->reports);
    SOW_FREE(&root->tallies);
    SOW_FREE(&root->units);
}

static sow_code lead(start *s, sow_run *run)
{
    sow_root root = {0};
    char why[FAIL_TEXT];
    sow_code rc = make_root(s, run, &root);
    if (rc == SOW_OK) {
        sow_log(SOW_LOG_INFO, "%s: %lld weights as %s, %d ranks on %d nodes, %d threads a rank, %s", s->args->folder,
                (long long)run->layout->n_parameters, sow_type_name(run->type), sow_world_size(run->world),
                sow_world_n_nodes(run->world), sow_la_threads(run->la), sow_la_cpu_name());
        rc = sow_es_lead(&root, s->ledger, s->loaded, s->measured);
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

sow_code sow_es_run(const sow_es_args *args)
{
    start s = {.args = args, .measured = -1};
    sow_run run = {.world = args->world};
    bool is_root = sow_world_rank(args->world) == 0;
    sow_code rc = begin(&s, &run);
    if (rc == SOW_OK && s.is_over && is_root)
        sow_log(SOW_LOG_INFO, "%s: is done already", args->folder);
    if (rc == SOW_OK && !s.is_over)
        rc = is_root ? lead(&s, &run) : sow_es_work(&run);
    sow_model_close(&s.model);
    sow_ledger_destroy(&s.ledger);
    sow_ledger_close(&s.writer);
    sow_folder_close(&s.folder);
    SOW_FREE(&s.header);
    sow_run_fini(&run);
    return rc;
}
