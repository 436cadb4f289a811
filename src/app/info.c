/* SPDX-License-Identifier: Apache-2.0 */
/* sower info: this build, this machine, a model; tables of names. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/build.h"
#include "sower/chat.h"
#include "sower/ledger.h"
#include "sower/noise.h"
#include "sower/task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool wants_tasks, wants_noises;

static const sow_flag flags[] = {
    {"tasks", 0, NULL, "the tasks", NULL, &wants_tasks},
    {"noises", 0, NULL, "the perturbations", NULL, &wants_noises},
    {0},
};

/* ---- Tables of names ---- */

static sow_code tell_name(const sow_app *app, sow_line *line, const char *name, const char *doc)
{
    if (!app->is_json)
        return sow_app_say("%-14s %s\n", name, doc);
    sow_line_clear(line);
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "name", name);
    sow_line_string(line, "doc", doc);
    sow_line_end_object(line);
    return sow_app_print(line);
}

static sow_code tell_names(const sow_app *app, sow_line *line)
{
    for (int64_t i = 0; wants_tasks && i < sow_task_count(); i++)
        SOW_TRY(tell_name(app, line, sow_task_at(i)->name, sow_task_at(i)->doc));
    for (int64_t i = 0; wants_noises && i < sow_noise_count(); i++)
        SOW_TRY(tell_name(app, line, sow_noise_at(i)->name, sow_noise_at(i)->doc));
    return SOW_OK;
}

/* ---- Facts: a key and a text or a number, shown as a row of a table or put into one object ---- */

typedef struct facts {
    const sow_app *app;
    sow_line *line;
} facts;

static sow_code tell_text(facts *f, const char *key, const char *text)
{
    if (!f->app->is_json)
        return sow_app_say("%-16s %s\n", key, text);
    sow_line_string(f->line, key, text);
    return SOW_OK;
}

static sow_code tell_count(facts *f, const char *key, int64_t value)
{
    if (!f->app->is_json)
        return sow_app_say("%-16s %lld\n", key, (long long)value);
    sow_line_int(f->line, key, value);
    return SOW_OK;
}

static sow_code tell_bytes(facts *f, const char *key, int64_t bytes)
{
    if (!f->app->is_json)
        return sow_app_say("%-16s %.2f GiB\n", key, (double)bytes / 0x1p30);
    sow_line_int(f->line, key, bytes);
    return SOW_OK;
}

/* A value of /proc/meminfo in bytes, 0: unknown. */
static int64_t memory_bytes(const char *name)
{
    char line[128];
    int64_t kib = 0;
    size_t bytes = strlen(name);
    FILE *file = fopen("/proc/meminfo", "r");
    if (file == NULL)
        return 0;
    while (kib == 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, bytes) == 0 && line[bytes] == ':')
            kib = strtoll(line + bytes + 1, NULL, 10);
    (void)fclose(file);
    return kib * 1024;
}

static sow_code tell_build(facts *f)
{
    const char *remedy = NULL;
    const char *blas = sow_la_blas_name(&remedy);
    char kernels[128] = "";
    sow_la *la = NULL;
    for (int64_t i = 0, used = 0; i < sow_kernels_count() && used < (int64_t)sizeof kernels - 1; i++)
        used +=
            snprintf(kernels + used, sizeof kernels - (size_t)used, "%s%s", i > 0 ? " " : "", sow_kernels_at(i)->name);
    SOW_TRY(sow_la_create("exact", "auto", 0, &la));
    int threads = sow_la_threads(la);
    sow_la_destroy(&la);
    SOW_TRY(tell_text(f, "sower", sow_build_version()));
    SOW_TRY(tell_text(f, "commit", sow_build_commit()));
    SOW_TRY(tell_text(f, "compiler", sow_build_compiler()));
    SOW_TRY(tell_text(f, "build_type", sow_build_type()));
    SOW_TRY(tell_count(f, "numerics", SOW_NUMERICS));
    SOW_TRY(tell_text(f, "mpi", sow_world_library()));
    SOW_TRY(tell_text(f, "cpu", sow_la_cpu_name()));
    SOW_TRY(tell_text(f, "kernels", kernels));
    SOW_TRY(tell_count(f, "threads", threads));
    SOW_TRY(tell_text(f, "blas", blas));
    if (remedy != NULL)
        SOW_TRY(tell_text(f, "blas_remedy", remedy));
    SOW_TRY(tell_bytes(f, "memory", memory_bytes("MemTotal")));
    return tell_bytes(f, "memory_free", memory_bytes("MemAvailable"));
}

static sow_code tell_shape(facts *f, const sow_layout *layout)
{
    const sow_shape *s = &layout->shape;
    SOW_TRY(tell_text(f, "family", s->family));
    SOW_TRY(tell_count(f, "parameters", layout->n_parameters));
    SOW_TRY(tell_count(f, "tensors", layout->n_tensors));
    SOW_TRY(tell_count(f, "vocab_size", s->vocab_size));
    SOW_TRY(tell_count(f, "hidden_size", s->hidden_size));
    SOW_TRY(tell_count(f, "layers", s->n_layers));
    SOW_TRY(tell_count(f, "heads", s->n_heads));
    SOW_TRY(tell_count(f, "kv_heads", s->n_kv_heads));
    SOW_TRY(tell_count(f, "head_dim", s->head_dim));
    SOW_TRY(tell_count(f, "intermediate", s->intermediate_size));
    SOW_TRY(tell_count(f, "context", s->max_positions));
    SOW_TRY(tell_text(f, "embedding", s->is_tied ? "tied" : "untied"));
    return SOW_OK;
}

/* Tokenizer and chat format of an opened model. */
static sow_code tell_tokenizer(facts *f, const sow_model *model)
{
    size_t bytes = 0;
    sow_tokenizer *tokenizer = NULL;
    const char *json = sow_model_tokenizer_json(model, &bytes);
    if (json == NULL)
        return tell_text(f, "tokenizer", "none");
    SOW_TRY(sow_tokenizer_parse(json, bytes, "tokenizer.json", &tokenizer));
    int64_t size = sow_tokenizer_size(tokenizer);
    const char *chat = sow_chat_detect(tokenizer, sow_model_chat_template(model));
    sow_tokenizer_destroy(&tokenizer);
    SOW_TRY(tell_count(f, "tokenizer", size));
    return tell_text(f, "chat", chat == NULL ? "none" : chat);
}

/* All of a model's weights are read: what is not finite is told, and the storage that `auto` would choose. */
static sow_code tell_weights(facts *f, sow_model *model)
{
    float *theta = NULL;
    sow_type type = SOW_F32;
    double sum = 0;
    float largest = 0;
    SOW_TRY(sow_app_weights(model, &theta));
    const sow_layout *layout = sow_model_layout(model);
    sow_code rc = sow_replica_choose_type("auto", layout, theta, &type);
    for (int64_t i = 0; i < layout->n_elements; i++) {
        float size = theta[i] < 0 ? -theta[i] : theta[i];
        largest = size > largest ? size : largest;
        sum += (double)theta[i] * (double)theta[i];
    }
    SOW_FREE(&theta);
    SOW_TRY(rc);
    SOW_TRY(tell_text(f, "dtype_auto", sow_type_name(type)));
    if (!f->app->is_json)
        return sow_app_say("%-16s %.6g\n%-16s %.6g\n", "max_abs", (double)largest, "norm", sqrt(sum));
    sow_line_real(f->line, "max_abs", (double)largest);
    sow_line_real(f->line, "norm", sqrt(sum));
    return SOW_OK;
}

static sow_code tell_model(facts *f, const char *path)
{
    sow_model *model = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_model_open(path, &model));
    SOW_TRY_OR(rc, tell_text(f, "model", path));
    SOW_TRY_OR(rc, tell_shape(f, sow_model_layout(model)));
    SOW_TRY_OR(rc, tell_tokenizer(f, model));
    SOW_TRY_OR(rc, tell_weights(f, model));
done:
    sow_model_close(&model);
    return rc;
}

static sow_code run(sow_app *app)
{
    facts f = {.app = app};
    sow_code rc = SOW_OK;
    SOW_TRY(sow_line_create(&f.line));
    if (wants_tasks || wants_noises) {
        rc = tell_names(app, f.line);
        goto done;
    }
    sow_line_begin_object(f.line, NULL);
    SOW_TRY_OR(rc, app->n_words == 0 ? tell_build(&f) : tell_model(&f, app->words[0]));
    sow_line_end_object(f.line);
    if (app->is_json)
        rc = sow_app_print(f.line);
done:
    sow_line_destroy(&f.line);
    return rc;
}

const sow_command sow_command_info = {
    .name = "info",
    .doc = "this build and machine, or a model",
    .usage = "[MODEL] [--tasks] [--noises]",
    .examples = "  sower info\n"
                "  sower info models/sprout\n"
                "  sower info --tasks\n",
    .max_words = 1,
    .flags = flags,
    .run = run,
};
