/* SPDX-License-Identifier: Apache-2.0 */
/* A model on all ranks of a job: one reader, one copy of the weights per node. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/chat.h"
#include "sower/file.h"
#include "sower/window.h"

#include <string.h>

enum { MAX_FILE_BYTES = 1 << 30 };

/* Root: the texts, and the chat format that the model shows. */
static sow_code read_texts(sow_shared *s, const char *path)
{
    const sow_options *o = &s->options;
    sow_tokenizer *tokenizer = NULL;
    size_t bytes = 0;
    const char *json = sow_model_tokenizer_json(s->model, &bytes);
    if (json == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: has no tokenizer.json", path);
    SOW_TRY(SOW_ALLOC(&s->tokenizer, bytes + 1));
    memcpy(s->tokenizer, json, bytes);
    s->tokenizer_bytes = bytes;
    if (o->task.file[0] != '\0')
        SOW_TRY(sow_file_read(o->task.file, MAX_FILE_BYTES, &s->file, &s->file_bytes));
    if (!o->generate.chat)
        return SOW_OK;
    SOW_TRY(sow_tokenizer_parse(json, bytes, "tokenizer.json", &tokenizer));
    const char *chat = sow_chat_detect(tokenizer, sow_model_chat_template(s->model));
    sow_tokenizer_destroy(&tokenizer);
    if (chat == NULL)
        return SOW_FAIL(SOW_ECONF, "generate.chat: true is not possible: %s shows no chat format that is known", path);
    (void)snprintf(s->chat, sizeof s->chat, "%s", chat);
    return SOW_OK;
}

/* Collective.  Options, shape and texts. */
static sow_code share_texts(sow_shared *s)
{
    sow_shape shape = {0};
    if (s->model != NULL)
        shape = sow_model_layout(s->model)->shape;
    SOW_TRY(sow_world_bcast(s->world, &s->options, sizeof s->options));
    SOW_TRY(sow_world_bcast(s->world, &shape, sizeof shape));
    SOW_TRY(sow_world_bcast(s->world, s->chat, sizeof s->chat));
    SOW_TRY(sow_world_bcast_block(s->world, (void **)&s->tokenizer, &s->tokenizer_bytes));
    if (s->options.task.file[0] != '\0')
        SOW_TRY(sow_world_bcast_block(s->world, (void **)&s->file, &s->file_bytes));
    sow_code rc = sow_layout_create(&shape, &s->layout);
    if (rc == SOW_OK)
        rc = sow_la_create(s->options.la.backend, s->options.la.kernel, s->options.run.threads, &s->la);
    if (rc == SOW_OK)
        sow_kernels_set_rounding();
    return sow_world_agree(s->world, rc);
}

/* Collective. */
static sow_code share_weights(sow_shared *s)
{
    const sow_options *o = &s->options;
    size_t bytes = (size_t)s->layout->n_elements * sizeof(float);
    sow_code rc = SOW_OK;
    SOW_TRY(sow_world_cut(s->world, o->run.deadline_s, o->run.ranks_per_node));
    SOW_TRY(sow_window_create(s->world, bytes, "the weights", &s->window));
    s->theta = sow_window_data(s->window);
    if (s->model != NULL) {
        rc = sow_model_load(s->model, s->theta);
        if (rc == SOW_OK)
            rc = sow_replica_choose_type(o->model.dtype, s->layout, s->theta, &s->type);
    }
    SOW_TRY(sow_world_agree(s->world, rc));
    SOW_TRY(sow_world_bcast(s->world, &s->type, sizeof s->type));
    SOW_TRY(sow_world_bcast_leaders(s->world, s->theta, bytes));
    return sow_world_barrier(s->world);
}

sow_code sow_shared_open(sow_world *world, const char *path, const sow_options *options, sow_shared *s)
{
    sow_code rc = SOW_OK;
    s->world = world;
    if (sow_world_rank(world) == 0) {
        s->options = *options;
        rc = sow_model_open(path, &s->model);
        if (rc == SOW_OK)
            rc = read_texts(s, path);
    }
    SOW_TRY(sow_world_agree(world, rc));
    SOW_TRY(share_texts(s));
    return share_weights(s);
}

void sow_shared_fini(sow_shared *s)
{
    sow_window_destroy(&s->window);
    sow_la_destroy(&s->la);
    SOW_FREE(&s->file);
    SOW_FREE(&s->tokenizer);
    sow_layout_destroy(&s->layout);
    sow_model_close(&s->model);
}
