/* SPDX-License-Identifier: Apache-2.0 */
/* sower export: any iterate of a run as a model, rebuilt from its ledger. */
#include "app_impl.h"

#include "sower/file.h"
#include "sower/log.h"
#include "sower/replay.h"

static const char *out_folder, *step_text;
static const char *dtype = "f32";

static const sow_flag flags[] = {
    {"out", 'o', "DIR", "the model's new folder", &out_folder, NULL},
    {"step", 0, "G", "the generation; the last of the ledger by default", &step_text, NULL},
    {"dtype", 0, "TYPE", "storage of the weights: f32 (default), bf16, fp16", &dtype, NULL},
    {0},
};

/* From the newest checkpoint that fits, else from the base; every digest on the way is compared. */
static sow_code rebuild(sow_replay *replay, int64_t step)
{
    SOW_TRY(sow_replay_jump(replay, step));
    if (!sow_replay_rebuilds(replay) && sow_replay_generation(replay) < step)
        return SOW_FAIL(
            SOW_EARG,
            "--step: %lld has no checkpoint (the ledger of grpo and sft cannot rebuild weights), expected a "
            "step of checkpoints/; the one before it is %lld",
            (long long)step, (long long)sow_replay_generation(replay));
    while (sow_replay_generation(replay) < step) {
        SOW_TRY(sow_replay_step(replay));
        sow_log_progress(30, "generation %lld/%lld", (long long)sow_replay_generation(replay), (long long)step);
    }
    sow_log_progress(0, "%s", "");
    return SOW_OK;
}

static sow_code export_step(sow_replay *replay, const char *folder, sow_type type)
{
    int64_t step = sow_replay_n(replay);
    SOW_TRY(sow_args_int("step", step_text, 0, sow_replay_n(replay), &step));
    SOW_TRY(rebuild(replay, step));
    SOW_TRY(sow_replay_save(replay, out_folder, type));
    sow_log(SOW_LOG_INFO, "%s: generation %lld of %s, stored as %s", out_folder, (long long)step, folder,
            sow_type_name(type));
    return SOW_OK;
}

static sow_code run(sow_app *app)
{
    const char *folder = app->words[0];
    char file[SOW_TEXT];
    sow_conf *conf = NULL;
    sow_replay *replay = NULL;
    sow_type type = SOW_F32;
    sow_code rc = SOW_OK;
    if (out_folder == NULL)
        return SOW_FAIL(SOW_EARG, "sower export: expected -o DIR, the model's new folder");
    SOW_TRY(sow_app_type("dtype", dtype, &type));
    SOW_TRY(sow_app_run_conf(app, folder, file, &conf));
    SOW_TRY_OR(rc, sow_replay_open(&(sow_replay_args){.conf = conf, .folder = folder}, &replay));
    SOW_TRY_OR(rc, export_step(replay, folder, type));
done:
    sow_replay_close(&replay);
    sow_conf_destroy(&conf);
    return rc;
}

const sow_command sow_command_export = {
    .name = "export",
    .doc = "any iterate of a run as a model, rebuilt from its ledger",
    .usage = "RUN [--step G] [--dtype TYPE] -o DIR",
    .examples = "  sower export runs/first --step 50 -o models/first-50\n"
                "  sower export runs/first --dtype bf16 -o models/first-bf16\n"
                "  sower export runs/first -o models/first --set model.path=/where/the/base/is/now\n",
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
