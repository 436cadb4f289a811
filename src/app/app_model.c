/* SPDX-License-Identifier: Apache-2.0 */
/* A model ready to compute: opened, read, packed as the kernels read it, with its engine. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/chat.h"
#include "sower/file.h"

#include <string.h>

enum { MAX_TOKENIZER_BYTES = 1 << 28 };

static sow_code open_tokenizer(sow_loaded *l, const char *path)
{
    size_t bytes = 0;
    const char *json = sow_model_tokenizer_json(l->model, &bytes);
    if (json == NULL)
        return SOW_OK;
    SOW_TRY(sow_tokenizer_parse(json, bytes, "tokenizer.json", &l->tokenizer));
    l->chat = sow_chat_detect(l->tokenizer, sow_model_chat_template(l->model));
    int64_t size = sow_tokenizer_size(l->tokenizer), room = l->layout->shape.vocab_size;
    if (size > room)
        return SOW_FAIL(SOW_EFORMAT, "%s: tokenizer.json has %lld ids, expected at most the model's vocab_size %lld",
                        path, (long long)size, (long long)room);
    return SOW_OK;
}

sow_code sow_app_weights(sow_model *model, float **out)
{
    float *theta = NULL;
    SOW_TRY(SOW_ALLOC(&theta, sow_model_layout(model)->n_elements));
    sow_code rc = sow_model_load(model, theta);
    if (rc != SOW_OK)
        SOW_FREE(&theta);
    else
        *out = theta;
    return rc;
}

sow_code sow_loaded_open(const char *path, const sow_options *o, sow_loaded *l)
{
    float *theta = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_model_open(path, &l->model));
    l->layout = sow_model_layout(l->model);
    SOW_TRY(open_tokenizer(l, path));
    SOW_TRY(sow_la_create(o->la.backend, o->la.kernel, o->run.threads, &l->la));
    sow_kernels_set_rounding();
    SOW_TRY(sow_engine_create(l->la, l->layout, o->generate.batch, &l->engine));
    SOW_TRY(sow_app_weights(l->model, &theta));
    SOW_TRY_OR(rc, sow_replica_choose_type(o->model.dtype, l->layout, theta, &l->type));
    SOW_TRY_OR(rc, sow_replica_create(l->la, l->layout, l->type, &l->replica));
    SOW_TRY_OR(rc, sow_replica_make(l->replica, theta, NULL));
done:
    SOW_FREE(&theta);
    return rc;
}

void sow_loaded_fini(sow_loaded *l)
{
    sow_engine_destroy(&l->engine);
    sow_replica_destroy(&l->replica);
    sow_la_destroy(&l->la);
    sow_tokenizer_destroy(&l->tokenizer);
    sow_model_close(&l->model);
}

sow_code sow_loaded_need_tokenizer(const sow_loaded *l, const char *path)
{
    return l->tokenizer != NULL
               ? SOW_OK
               : SOW_FAIL(SOW_EFORMAT, "%s: has no tokenizer.json, expected one, or rows of ids", path);
}

sow_code sow_loaded_start_token(const sow_loaded *l, const char *where, int32_t *out)
{
    const sow_shape *shape = &l->layout->shape;
    if (shape->bos < 0 && shape->n_eos == 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: is empty, and the model has neither a first nor an end token to begin with",
                        where);
    *out = shape->bos >= 0 ? shape->bos : shape->eos[0];
    return SOW_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static sow_code parse_file(const char *path, sow_tokenizer **out)
{
    char *json = NULL;
    size_t bytes = 0;
    SOW_TRY(sow_file_read(path, MAX_TOKENIZER_BYTES, &json, &bytes));
    sow_code rc = sow_tokenizer_parse(json, bytes, path, out);
    SOW_FREE(&json);
    return rc;
}

/* A folder needs no weights for this, so its file is read; only a GGUF holds its tokenizer inside. */
sow_code sow_app_tokenizer(const char *path, sow_tokenizer **out)
{
    char file[SOW_TEXT];
    sow_model *model = NULL;
    size_t bytes = 0;
    if (sow_file_is_folder(path)) {
        SOW_TRY(sow_file_join(path, "tokenizer.json", file, sizeof file));
        return parse_file(file, out);
    }
    if (ends_with(path, ".json"))
        return parse_file(path, out);
    SOW_TRY(sow_model_open(path, &model));
    const char *json = sow_model_tokenizer_json(model, &bytes);
    sow_code rc = json == NULL ? SOW_FAIL(SOW_EFORMAT, "%s: holds no tokenizer", path)
                               : sow_tokenizer_parse(json, bytes, path, out);
    sow_model_close(&model);
    return rc;
}
