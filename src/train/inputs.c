/* SPDX-License-Identifier: Apache-2.0 */
/* What a run begins with: root reads and checks, everyone receives, and nobody goes on before all can.  For a run
 * (es.c) and for its replay, which may have no world: then this process is root and all there is. */
#include "sgd_impl.h"

#include "sower/alloc.h"
#include "sower/chat.h"
#include "sower/log.h"
#include "sower/model.h"
#include "sower/plan.h"
#include "sower/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUESSED_PROMPT = 64 }; /* tokens, before a row was looked at */

static int rank_of(const sow_run *run)
{
    return run->world == NULL ? 0 : sow_world_rank(run->world);
}

static sow_code agree(const sow_run *run, sow_code mine)
{
    return run->world == NULL ? mine : sow_world_agree(run->world, mine);
}

bool sow_run_leads(const sow_run *run)
{
    const sow_world *world = run->world;
    int rank = rank_of(run);
    return world == NULL || sow_world_node_member(world, sow_world_node_of(world, rank), 0) == rank;
}

static sow_code read_task_file(const sow_task_options *options, char **out, size_t *bytes)
{
    return options->file[0] == '\0' ? SOW_OK : sow_file_read(options->file, (size_t)1 << 31, out, bytes);
}

sow_code sow_run_read(sow_run *run, const sow_conf *conf, sow_model **model)
{
    const sow_options *o = run->options;
    size_t bytes = 0;
    SOW_TRY(sow_train_check_names(conf));
    SOW_TRY(sow_phase_set_fault(o->run.fault, -1));
    if (o->model.path[0] == '\0')
        return sow_conf_reject(conf, "model.path", "a Hugging Face folder or a .gguf file", NULL, 0);
    SOW_TRY(sow_model_open(o->model.path, model));
    const char *json = sow_model_tokenizer_json(*model, &bytes);
    if (json == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: has no tokenizer.json", o->model.path);
    SOW_TRY(SOW_ALLOC(&run->blocks.tokenizer, bytes + 1));
    memcpy(run->blocks.tokenizer, json, bytes);
    run->blocks.tokenizer_bytes = bytes;
    if (sow_model_chat_template(*model) != NULL)
        SOW_TRY(sow_alloc_string(&run->chat_template, sow_model_chat_template(*model)));
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

sow_code sow_train_threads(sow_world *world, int64_t asked, int64_t *out)
{
    int cores = 1;
    SOW_TRY(sow_world_cores(world, &cores));
    *out = asked > 0 || getenv("OMP_NUM_THREADS") != NULL ? asked : cores;
    return SOW_OK;
}

/* Collective.  Shape and texts from root to all. */
static sow_code send_inputs(sow_run *run, sow_shape *shape)
{
    sow_world *world = run->world;
    SOW_TRY(sow_world_bcast(world, run->options, sizeof *run->options));
    SOW_TRY(sow_world_bcast(world, shape, sizeof *shape));
    SOW_TRY(sow_world_bcast_block(world, (void **)&run->blocks.tokenizer, &run->blocks.tokenizer_bytes));
    for (int64_t i = 0; i <= run->options->n_probes; i++) {
        const sow_task_options *t = i == 0 ? &run->options->task : &run->options->probes[i - 1].task;
        if (t->file[0] != '\0')
            SOW_TRY(sow_world_bcast_block(world, (void **)&run->blocks.files[i], &run->blocks.file_bytes[i]));
    }
    size_t bytes = run->chat_template == NULL ? 0 : strlen(run->chat_template) + 1;
    return sow_world_bcast_block(world, (void **)&run->chat_template, &bytes);
}

sow_code sow_run_share(sow_run *run, const sow_model *model)
{
    sow_shape shape = {0};
    if (rank_of(run) == 0)
        shape = sow_model_layout(model)->shape;
    if (run->world != NULL)
        SOW_TRY(send_inputs(run, &shape));
    run->method = sow_method_find(run->options->method);
    int64_t threads = run->options->run.threads;
    if (run->world != NULL)
        SOW_TRY(sow_train_threads(run->world, threads, &threads));
    sow_code rc = sow_layout_create(&shape, &run->layout);
    if (rc == SOW_OK)
        rc = find_chat(run);
    if (rc == SOW_OK)
        rc = sow_phase_set_fault(run->options->run.fault, rank_of(run));
    if (rc == SOW_OK)
        rc = sow_la_create(run->options->la.backend, run->options->la.kernel, threads, &run->la);
    if (rc == SOW_OK)
        sow_kernels_set_rounding();
    return agree(run, rc);
}

/* Root: a first guess of memory, before any is taken. */
static sow_code check_memory(const sow_run *run)
{
    sow_plan plan;
    const sow_options *o = run->options;
    int64_t max_new = o->generate.max_new_tokens;
    max_new = max_new > 0 ? max_new : sow_task_find(o->task.name)->max_new(&o->task);
    sow_plan_make(&(sow_plan_args){.options = o,
                                   .layout = run->layout,
                                   .type = SOW_FP16,
                                   .ranks = sow_world_size(run->world),
                                   .ranks_per_node = sow_world_node_size(run->world, 0),
                                   .threads = sow_la_threads(run->la),
                                   .rows = o->task.rows,
                                   .prompt_tokens = GUESSED_PROMPT,
                                   .max_new = max_new,
                                   .longest = GUESSED_PROMPT + max_new,
                                   .longest_answered = GUESSED_PROMPT + max_new},
                  &plan);
    plan.node_bytes *= sow_world_n_nodes(run->world); /* pretended nodes share this machine; real ones are alike */
    if (o->run.ranks_per_node == 0 && strcmp(o->es.update, "replicated") != 0)
        plan.node_bytes /= sow_world_n_nodes(run->world);
    return sow_plan_check(&plan);
}

/* Collective.  Cuts the job into nodes and looks whether the run fits. */
static sow_code cut_nodes(sow_run *run)
{
    const sow_options *o = run->options;
    bool is_replicated = strcmp(o->es.update, "replicated") == 0;
    if (run->world == NULL)
        return SOW_OK;
    SOW_TRY(sow_world_cut(run->world, o->run.deadline_s, is_replicated ? 1 : o->run.ranks_per_node));
    return agree(run, rank_of(run) == 0 ? check_memory(run) : SOW_OK);
}

sow_code sow_run_load(sow_run *run, sow_model *model)
{
    sow_world *world = run->world;
    sow_code rc = SOW_OK;
    SOW_TRY(cut_nodes(run));
    SOW_TRY(sow_theta_create(world, run->la, run->layout, run->options->es.update_block, &run->theta));
    float *base = sow_theta_base(run->theta);
    size_t bytes = (size_t)run->layout->n_elements * sizeof *base;
    if (rank_of(run) == 0) {
        rc = sow_model_load(model, base);
        if (rc == SOW_OK)
            rc = sow_replica_choose_type(run->options->model.dtype, run->layout, base, &run->type);
    }
    SOW_TRY(agree(run, rc));
    if (world != NULL) {
        SOW_TRY(sow_world_bcast(world, &run->type, sizeof run->type));
        SOW_TRY(sow_world_bcast_leaders(world, base, bytes));
    }
    if (sow_run_leads(run)) {
        memcpy(sow_theta_buffer(run->theta, 0), base, bytes);
        sow_theta_loaded(run->theta, 0);
    }
    if (world != NULL)
        SOW_TRY(sow_world_barrier(world));
    return run->method->create == NULL ? SOW_OK : run->method->create(run);
}

static void hash_text(const char *text, size_t bytes, char out[SOW_HASH_HEX])
{
    sow_hash_write(sow_hash_bytes(text, bytes), out);
}

sow_code sow_run_header(const sow_run *run, sow_hash *base_digest, char **out)
{
    char model[SOW_HASH_HEX], tokenizer[SOW_HASH_HEX], rows[SOW_HASH_HEX] = "generated";
    const char *remedy = NULL;
    *base_digest = sow_theta_digest(run->theta, 0);
    sow_hash_write(*base_digest, model);
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
                              .row_tokens = is_exact || run->sgd == NULL ? 0 : run->options->train.row_tokens,
                              .max_new_tokens = sow_evaluator_max_new(run->evaluator, run->train_job),
                              .chat = run->chat == NULL ? "none" : run->chat};
    return sow_ledger_header(run->options, &facts, out);
}

sow_code sow_run_load_step(sow_run *run, const sow_folder *folder, const sow_ledger *ledger, const char *path,
                           int64_t step)
{
    int64_t index = run->method->index(run, step);
    SOW_TRY(sow_model_load_theta(path, run->layout, sow_theta_buffer(run->theta, index)));
    sow_theta_loaded(run->theta, index);
    if (!sow_hash_equal(sow_theta_digest(run->theta, index), ledger->digests[step - 1]))
        return SOW_FAIL(SOW_EBITS, "does not have the digest of the ledger");
    return run->sgd == NULL ? SOW_OK : sow_sgd_load(run, folder, ledger, step);
}

sow_code sow_run_load_checkpoint(sow_run *run, const sow_folder *folder, const sow_ledger *ledger, int64_t max_step,
                                 int64_t *loaded)
{
    char path[SOW_TEXT];
    int64_t step = max_step + 1;
    for (;;) {
        SOW_TRY(sow_folder_find_checkpoint(folder, step - 1, path, &step));
        if (step <= 0)
            return SOW_OK;
        sow_code rc = sow_run_load_step(run, folder, ledger, path, step);
        if (rc == SOW_OK) {
            *loaded = step;
            return SOW_OK;
        }
        sow_log(SOW_LOG_WARN, "%s: %s, taking an earlier one", path, sow_error_text());
        memcpy(sow_theta_buffer(run->theta, 0), sow_theta_base(run->theta),
               (size_t)run->layout->n_elements * sizeof(float));
        sow_theta_loaded(run->theta, 0);
    }
}
