/* SPDX-License-Identifier: Apache-2.0 */
#include "drift_impl.h"

#include "sower/alloc.h"
#include "sower/chat.h"
#include "sower/evaluate.h"
#include "sower/task.h"

#include <string.h>

/* ---- Spectra ---- */

sow_code sow_pair_spectra(const sow_pair *pair, sow_spectrum **out)
{
    const sow_layout *layout = pair->layout;
    sow_spectrum *spectra = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(SOW_ALLOC(&spectra, layout->n_tensors));
    for (int64_t i = 0; rc == SOW_OK && i < layout->n_tensors; i++)
        if (sow_spectrum_has(&layout->tensors[i]))
            rc = sow_spectrum_measure(&layout->tensors[i], pair->theta_base, pair->theta_tuned, &spectra[i]);
    if (rc != SOW_OK)
        SOW_FREE(&spectra);
    else
        *out = spectra;
    return rc;
}

sow_code sow_pair_say_spectra(const sow_pair *pair, const sow_spectrum *spectra, bool by_tensor)
{
    SOW_TRY(sow_app_say("\n%-44s %8s %12s %12s %10s %10s %10s\n", "spectra of the update", by_tensor ? "" : "matrices",
                        "norm", "stable rank", "top 1 %", "top 10 %", "rank"));
    for (int64_t i = 0; i < pair->layout->n_tensors; i++) {
        const sow_tensor *tensor = &pair->layout->tensors[i];
        sow_spectrum s = spectra[i];
        if (by_tensor ? !sow_spectrum_has(tensor) : !sow_spectrum_of_kind(pair->layout, spectra, i, &s))
            continue;
        SOW_TRY(sow_app_say("%-44s %8.0lld %12.6g %12.5g %8.2f %% %8.2f %% %8.2f %%\n",
                            by_tensor ? tensor->name : sow_tensor_group(tensor->kind), by_tensor ? 0 : (long long)s.n,
                            s.norm, s.stable_rank, 100 * s.energy_1, 100 * s.energy_10, 100 * s.rank));
    }
    return SOW_OK;
}

/* ---- KL ---- */

typedef struct kl_work {
    const sow_pair *pair;
    sow_la *la;               /* owned */
    sow_evaluator *evaluator; /* owned; holds both models */
} kl_work;

static sow_code find_chat(const sow_pair *pair, const char *json, size_t bytes, const char **out)
{
    sow_tokenizer *tokenizer = NULL;
    *out = NULL;
    if (!pair->options->generate.chat)
        return SOW_OK;
    SOW_TRY(sow_tokenizer_parse(json, bytes, "tokenizer.json", &tokenizer));
    *out = sow_chat_detect(tokenizer, sow_model_chat_template(pair->base));
    sow_tokenizer_destroy(&tokenizer);
    if (*out == NULL)
        return SOW_FAIL(SOW_ECONF, "generate.chat: true is not possible: %s shows no chat format that is known",
                        pair->app->words[0]);
    return SOW_OK;
}

static sow_code open_models(kl_work *w)
{
    const sow_pair *pair = w->pair;
    const sow_options *o = pair->options;
    const char *chat = NULL;
    size_t bytes = 0;
    sow_type type = SOW_F32;
    const char *json = sow_model_tokenizer_json(pair->base, &bytes);
    if (json == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: has no tokenizer.json, expected one for --kl", pair->app->words[0]);
    SOW_TRY(find_chat(pair, json, bytes, &chat));
    SOW_TRY(sow_la_create(o->la.backend, o->la.kernel, o->run.threads, &w->la));
    SOW_TRY(sow_replica_choose_type(o->model.dtype, pair->layout, pair->theta_base, &type));
    SOW_TRY(sow_evaluator_create(&(sow_evaluator_args){.la = w->la,
                                                       .layout = pair->layout,
                                                       .type = type,
                                                       .tokenizer_json = json,
                                                       .tokenizer_bytes = bytes,
                                                       .chat = chat,
                                                       .stop = o->generate.stop[0] == '\0' ? NULL : o->generate.stop,
                                                       .batch = o->generate.batch},
                                 &w->evaluator));
    SOW_TRY(sow_evaluator_weights(w->evaluator, 0, pair->theta_tuned, NULL));
    return sow_evaluator_hold_base(w->evaluator, pair->theta_base);
}

/* Held-out rows where the task has them, else its rows. */
static sow_code open_task(const kl_work *w, const char *name, int64_t rows, sow_task **out)
{
    sow_task_options options = w->pair->options->task;
    sow_task *task = NULL, *held_out = NULL;
    const sow_task_kind *kind = NULL;
    bool has = false;
    SOW_TRY(sow_app_task(name, &kind));
    (void)snprintf(options.name, sizeof options.name, "%s", kind->name);
    options.rows = rows;
    if (kind->needs_file && options.file[0] == '\0')
        return SOW_FAIL(SOW_ECONF, "task %s needs --set task.file=FILE", kind->name);
    SOW_TRY(sow_task_open(&options, &task));
    sow_code rc = sow_task_open_held_out(task, rows, &held_out, &has);
    if (rc != SOW_OK || has)
        sow_task_close(&task);
    SOW_TRY(rc);
    *out = has ? held_out : task;
    return SOW_OK;
}

static sow_code measure_task(kl_work *w, const char *name, int64_t rows, sow_pair_kl *out)
{
    sow_task *task = NULL;
    sow_sequences fixed = {0};
    int job = 0;
    if (out->n == SOW_PAIR_TASKS)
        return SOW_FAIL(SOW_EARG, "--kl: more than %d tasks", SOW_PAIR_TASKS);
    SOW_TRY(open_task(w, name, rows, &task));
    sow_code rc = sow_evaluator_add(w->evaluator, task, w->pair->options->generate.max_new_tokens, &job);
    if (rc != SOW_OK)
        sow_task_close(&task);
    SOW_TRY(rc);
    rc = sow_evaluator_kl(w->evaluator, job, sow_task_rows(task), &fixed, &out->kl[out->n]);
    sow_sequences_fini(&fixed);
    (void)snprintf(out->names[out->n++], sizeof out->names[0], "%s", name);
    return rc;
}

sow_code sow_pair_measure_kl(const sow_pair *pair, const char *tasks, int64_t rows, sow_pair_kl *out)
{
    kl_work w = {.pair = pair};
    sow_code rc = open_models(&w);
    out->n = 0;
    for (const char *at = tasks; rc == SOW_OK && at != NULL;) {
        char name[32];
        size_t n = strcspn(at, ",");
        (void)snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), at);
        rc = measure_task(&w, name, rows, out);
        at = at[n] == ',' ? at + n + 1 : NULL;
    }
    sow_evaluator_destroy(&w.evaluator);
    sow_la_destroy(&w.la);
    return rc;
}

sow_code sow_pair_say_kl(const sow_pair_kl *kl)
{
    SOW_TRY(sow_app_say("\n%-24s %8s %14s %14s %14s %14s %8s\n", "KL to the base, nats", "rows", "sampled/prompt",
                        "base's/token", "exact/token", "reverse/token", "tokens"));
    for (int i = 0; i < kl->n; i++)
        SOW_TRY(sow_app_say("%-24s %8lld %14.6g %14.6g %14.6g %14.6g %8.1f\n", kl->names[i], (long long)kl->kl[i].rows,
                            kl->kl[i].sampled, kl->kl[i].token, kl->kl[i].exact, kl->kl[i].exact_reverse,
                            kl->kl[i].base_length));
    return SOW_OK;
}
