/* SPDX-License-Identifier: Apache-2.0 */
/* Models opened: a Hugging Face folder or a GGUF file becomes a layout and a list of stored tensors that match it.
 *
 *     folder   config.json (+ generation_config.json)       -> shape
 *              model.safetensors, or the shards that         -> weights
 *                model.safetensors.index.json names
 *              tokenizer.json, chat_template.jinja or tokenizer_config.json
 *     X.gguf   all of it in one file */
#include "sower/model.h"

#include "files_impl.h"

#include "sower/alloc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 256 << 20, MAX_CONFIG = 16 << 20, MAX_SHARDS = 1024 };

/* A mapped file and its path, to which messages point. */
typedef struct mapped_file {
    char *path; /* owned */
    sow_mapping map;
} mapped_file;

struct sow_model {
    sow_layout *layout; /* owned */
    sow_weights weights;
    int64_t n_files, files_capacity;
    mapped_file *files;                   /* owned */
    char *path;                           /* owned */
    char *tokenizer_json, *chat_template; /* owned, may be NULL */
    size_t tokenizer_bytes;
};

void sow_model_close(sow_model **model)
{
    sow_model *m = *model;
    if (m == NULL)
        return;
    sow_weights_fini(&m->weights);
    for (int64_t i = 0; i < m->n_files; i++) {
        sow_file_unmap(&m->files[i].map);
        SOW_FREE(&m->files[i].path);
    }
    SOW_FREE(&m->files);
    sow_layout_destroy(&m->layout);
    SOW_FREE(&m->path);
    SOW_FREE(&m->tokenizer_json);
    SOW_FREE(&m->chat_template);
    SOW_FREE(model);
}

const sow_layout *sow_model_layout(const sow_model *model)
{
    return model->layout;
}

const char *sow_model_tokenizer_json(const sow_model *model, size_t *bytes)
{
    if (bytes != NULL)
        *bytes = model->tokenizer_bytes;
    return model->tokenizer_json;
}

const char *sow_model_chat_template(const sow_model *model)
{
    return model->chat_template;
}

sow_code sow_model_load(sow_model *model, float *theta)
{
    if (model->weights.sources == NULL)
        return SOW_FAIL(SOW_EARG, "%s: was opened for its shape only, expected a model with weights", model->path);
    return sow_weights_load(&model->weights, model->layout, theta);
}

/* Maps a file for the model's lifetime. */
static sow_code add_file(sow_model *model, const char *path, mapped_file **out)
{
    SOW_TRY(SOW_GROW(&model->files, &model->files_capacity, model->n_files));
    mapped_file *file = &model->files[model->n_files];
    SOW_TRY(sow_file_map(path, &file->map));
    model->n_files++; /* from here on closing lets go of it */
    SOW_TRY(sow_alloc_string(&file->path, path));
    *out = file;
    return SOW_OK;
}

static sow_code add_safetensors(sow_model *model, const char *path)
{
    mapped_file *file = NULL;
    SOW_TRY(add_file(model, path, &file));
    return sow_safetensors_read(file->map.data, file->map.bytes, file->path, &model->weights);
}

/* A shard's name comes from a file and becomes part of a path: a plain name in this folder, nothing else. */
static bool is_plain_name(const char *name, size_t bytes)
{
    static const char ending[] = ".safetensors";
    size_t n = sizeof ending - 1;
    if (bytes <= n || bytes > 255 || strlen(name) != bytes || name[0] == '.' || strcmp(name + bytes - n, ending) != 0)
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (name[i] == '/' || name[i] == '\\' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

/* The files that the map names, each once, in the order in which they appear.  out [MAX_SHARDS] is borrowed from the
 * map. */
static sow_code list_shards(const sow_json *map, const char *what, const char **out, int64_t *n)
{
    void *iterator = NULL;
    const char *tensor;
    const sow_json *node;
    sow_quoted quoted;
    int64_t i;
    if (sow_json_kind_of(map) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: weight_map: is missing or no object, expected tensors and their files", what);
    while (sow_json_next(map, &iterator, &tensor, &node)) {
        size_t bytes = 0;
        const char *name = sow_json_to_string(node, &bytes);
        if (name == NULL || !is_plain_name(name, bytes))
            return SOW_FAIL(SOW_EFORMAT, "%s: weight_map: %s is not the name of a .safetensors file in this folder",
                            what, name == NULL ? "a value" : sow_quote(name, bytes, &quoted));
        for (i = 0; i < *n && strcmp(out[i], name) != 0; i++)
            ;
        if (i == MAX_SHARDS)
            return SOW_FAIL(SOW_EFORMAT, "%s: weight_map: names too many files, expected at most %d", what, MAX_SHARDS);
        if (i == *n)
            out[(*n)++] = name;
    }
    return SOW_OK;
}

/* Every tensor that the index names is in the file it names; a file's tensors that the index does not name are no part
 * of the model and are judged as such when the weights are matched. */
static sow_code check_index(const sow_model *model, const sow_json *map, const char *what)
{
    void *iterator = NULL;
    const char *tensor;
    const sow_json *node;
    sow_quoted quoted;
    while (sow_json_next(map, &iterator, &tensor, &node)) {
        const char *file = sow_json_to_string(node, NULL);
        const sow_stored *stored = strlen(tensor) < SOW_MAX_NAME ? sow_weights_find(&model->weights, tensor) : NULL;
        const char *base = stored == NULL ? NULL : strrchr(stored->what, '/');
        if (base == NULL || strcmp(base + 1, file) != 0)
            return SOW_FAIL(SOW_EFORMAT, "%s: weight_map: %s is not in %s", what,
                            sow_quote(tensor, strlen(tensor), &quoted), file);
    }
    return SOW_OK;
}

static sow_code add_shards(sow_model *model, const char *folder, const char *index)
{
    sow_code rc = SOW_OK;
    sow_json *root = NULL;
    const char **shards = NULL;
    int64_t n = 0;
    char path[PATH_MAX];
    SOW_TRY(sow_json_load(index, &root));
    const sow_json *map = sow_json_get(root, "weight_map");
    SOW_TRY_OR(rc, SOW_ALLOC(&shards, MAX_SHARDS));
    SOW_TRY_OR(rc, list_shards(map, index, shards, &n));
    for (int64_t i = 0; i < n; i++) {
        SOW_TRY_OR(rc, sow_file_join(folder, shards[i], path, sizeof path));
        SOW_TRY_OR(rc, add_safetensors(model, path));
    }
    SOW_TRY_OR(rc, sow_weights_sort(&model->weights));
    SOW_TRY_OR(rc, check_index(model, map, index));
done:
    SOW_FREE(&shards);
    sow_json_destroy(&root);
    return rc;
}

static sow_code open_weights(sow_model *model, const char *folder)
{
    char path[PATH_MAX];
    SOW_TRY(sow_file_join(folder, "model.safetensors", path, sizeof path));
    if (sow_file_exists(path)) {
        SOW_TRY(add_safetensors(model, path));
        SOW_TRY(sow_weights_sort(&model->weights));
    } else {
        SOW_TRY(sow_file_join(folder, "model.safetensors.index.json", path, sizeof path));
        if (!sow_file_exists(path))
            return SOW_FAIL(SOW_EIO, "%s: has no model.safetensors and no model.safetensors.index.json", folder);
        SOW_TRY(add_shards(model, folder, path));
    }
    return sow_weights_match(&model->weights, model->layout, folder);
}

/* A file of the folder as text; *out stays NULL if it is not there and not required. */
static sow_code read_text(const char *folder, const char *name, size_t max_bytes, bool is_required, char path[PATH_MAX],
                          char **out, size_t *bytes)
{
    SOW_TRY(sow_file_join(folder, name, path, PATH_MAX));
    if (!is_required && !sow_file_exists(path))
        return SOW_OK;
    return sow_file_read(path, max_bytes, out, bytes);
}

static sow_code open_shape(sow_model *model, const char *folder)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes = 0;
    sow_shape shape;
    SOW_TRY(read_text(folder, "config.json", MAX_CONFIG, true, path, &text, &bytes));
    sow_code rc = sow_shape_parse(text, bytes, path, &shape);
    SOW_FREE(&text);
    SOW_TRY(rc);
    SOW_TRY(read_text(folder, "generation_config.json", MAX_CONFIG, false, path, &text, &bytes));
    if (text != NULL)
        rc = sow_hf_add_generation(text, bytes, path, &shape);
    SOW_FREE(&text);
    SOW_TRY(rc);
    return sow_layout_create(&shape, &model->layout);
}

static sow_code open_text(sow_model *model, const char *folder)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes = 0;
    SOW_TRY(
        read_text(folder, "tokenizer.json", MAX_TEXT, false, path, &model->tokenizer_json, &model->tokenizer_bytes));
    SOW_TRY(read_text(folder, "chat_template.jinja", MAX_CONFIG, false, path, &model->chat_template, &bytes));
    if (model->chat_template != NULL)
        return SOW_OK;
    SOW_TRY(read_text(folder, "tokenizer_config.json", MAX_CONFIG, false, path, &text, &bytes));
    sow_code rc = text == NULL ? SOW_OK : sow_hf_chat_template(text, bytes, path, &model->chat_template);
    SOW_FREE(&text);
    return rc;
}

static sow_code open_folder(sow_model *model, const char *folder, bool needs_weights)
{
    SOW_TRY(open_shape(model, folder));
    SOW_TRY(open_text(model, folder));
    return needs_weights ? open_weights(model, folder) : SOW_OK;
}

static sow_code open_gguf_bytes(sow_model *model, const unsigned char *data, size_t bytes, const char *what,
                                bool needs_weights)
{
    sow_gguf gguf = {0};
    sow_shape shape;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_gguf_read(data, bytes, what, &gguf, &model->weights));
    SOW_TRY_OR(rc, sow_gguf_shape(&gguf, &model->weights, &shape));
    SOW_TRY_OR(rc, sow_layout_create(&shape, &model->layout));
    if (needs_weights)
        SOW_TRY_OR(rc, sow_weights_match(&model->weights, model->layout, what));
    SOW_TRY_OR(rc, sow_gguf_tokenizer(&gguf, &model->tokenizer_json, &model->tokenizer_bytes));
    SOW_TRY_OR(rc, sow_gguf_chat_template(&gguf, &model->chat_template));
done:
    sow_gguf_fini(&gguf);
    return rc;
}

static sow_code open_gguf(sow_model *model, const char *path, bool needs_weights)
{
    mapped_file *file = NULL;
    SOW_TRY(add_file(model, path, &file));
    return open_gguf_bytes(model, file->map.data, file->map.bytes, file->path, needs_weights);
}

static sow_code open_any(const char *path, bool needs_weights, sow_model **out)
{
    sow_code rc = SOW_OK;
    sow_model *model = NULL;
    if (!sow_file_exists(path))
        return SOW_FAIL(SOW_EIO, "%s: is not there, expected a model: a Hugging Face folder or a .gguf file", path);
    SOW_TRY(SOW_ALLOC(&model, 1));
    SOW_TRY_OR(rc, sow_alloc_string(&model->path, path));
    if (sow_file_is_folder(path))
        SOW_TRY_OR(rc, open_folder(model, path, needs_weights));
    else
        SOW_TRY_OR(rc, open_gguf(model, path, needs_weights));
done:
    if (rc != SOW_OK)
        sow_model_close(&model);
    else
        *out = model;
    return rc;
}

sow_code sow_model_open(const char *path, sow_model **out)
{
    return open_any(path, true, out);
}

sow_code sow_model_open_shape(const char *path, sow_model **out)
{
    return open_any(path, false, out);
}

sow_code sow_model_from_gguf(const unsigned char *data, size_t bytes, const char *what, sow_model **out)
{
    sow_code rc = SOW_OK;
    sow_model *model = NULL;
    SOW_TRY(SOW_ALLOC(&model, 1));
    SOW_TRY_OR(rc, sow_alloc_string(&model->path, what));
    SOW_TRY_OR(rc, open_gguf_bytes(model, data, bytes, what, true));
done:
    if (rc != SOW_OK)
        sow_model_close(&model);
    else
        *out = model;
    return rc;
}

sow_code sow_model_load_theta(const char *path, const sow_layout *layout, float *theta)
{
    sow_code rc = SOW_OK;
    sow_mapping map = {0};
    sow_weights weights = {0};
    SOW_TRY(sow_file_map(path, &map));
    SOW_TRY_OR(rc, sow_safetensors_read(map.data, map.bytes, path, &weights));
    SOW_TRY_OR(rc, sow_weights_sort(&weights));
    SOW_TRY_OR(rc, sow_weights_match(&weights, layout, path));
    SOW_TRY_OR(rc, sow_weights_load(&weights, layout, theta));
done:
    sow_weights_fini(&weights);
    sow_file_unmap(&map);
    return rc;
}
