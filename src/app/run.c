/* SPDX-License-Identifier: Apache-2.0 */
/* sower run: one experiment. */
#include "app_impl.h"

#include "sower/log.h"
#include "sower/train.h"

#include <string.h>

static const char *out_folder;
static bool is_resume;

static const sow_flag flags[] = {
    {"out", 'o', "DIR", "folder of the run (run.out; default runs/NAME of the configuration)", &out_folder, NULL},
    {"resume", 0, NULL, "go on with the run in that folder", NULL, &is_resume},
    {0},
};

/* "conf/a.b.yaml" -> "runs/a.b" */
static void name_folder(const char *file, char *out, size_t cap)
{
    const char *slash = strrchr(file, '/'), *base = slash == NULL ? file : slash + 1, *dot = strrchr(base, '.');
    int n = (int)(dot == NULL || dot == base ? strlen(base) : (size_t)(dot - base));
    (void)snprintf(out, cap, "runs/%.*s", n, base);
}

static sow_code run(sow_app *app)
{
    sow_conf *conf = NULL;
    char folder[SOW_TEXT] = "";
    sow_code rc = SOW_OK;
    if (sow_world_rank(app->world) == 0) {
        rc = sow_app_conf(app, app->words[0], &conf);
        if (rc == SOW_OK) {
            sow_app_warn_stray(conf);
            const char *given = sow_conf_options(conf)->run.out;
            name_folder(app->words[0], folder, sizeof folder);
            if (out_folder != NULL || given[0] != '\0')
                (void)snprintf(folder, sizeof folder, "%s", out_folder != NULL ? out_folder : given);
        }
    }
    rc = sow_world_agree(app->world, rc);
    if (rc == SOW_OK)
        rc = sow_train_run(
            &(sow_train_args){.world = app->world, .conf = conf, .folder = folder, .is_resume = is_resume});
    /* The run is done, whoever reads its table or not. */
    if (rc == SOW_OK && sow_world_rank(app->world) == 0 && sow_app_table(app, folder) != SOW_OK)
        sow_log(SOW_LOG_WARN, "%s", sow_error_text());
    sow_conf_destroy(&conf);
    return rc;
}

const sow_command sow_command_run = {
    .name = "run",
    .doc = "one experiment: fine-tunes a model by ES, GRPO or supervised (method)",
    .usage = "CONF.yaml [--set key=value]... [--out DIR] [--resume]",
    .examples = "  mpirun -n 4 sower run conf/quickstart.yaml --out runs/first\n"
                "  mpirun -n 8 sower run conf/quickstart.yaml --out runs/first --set run.steps=200 --resume\n",
    .is_parallel = true,
    .has_sets = true,
    .min_words = 1,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
