/* SPDX-License-Identifier: Apache-2.0 */
/* sower config: the options. */
#include "app_impl.h"

#include "sower/options.h"

static bool is_doc;

static const sow_flag flags[] = {
    {"doc", 0, NULL, "all of docs/CONFIG.md", NULL, &is_doc},
    {0},
};

static sow_code run(sow_app *app)
{
    const char *nearest = NULL;
    if (is_doc)
        sow_conf_write_doc(stdout);
    else if (app->n_words == 0)
        sow_conf_write_keys(stdout);
    else if (!sow_conf_describe(stdout, app->words[0], &nearest))
        return SOW_FAIL(SOW_EARG, "%s: is no key, expected one that sower config lists%s%s%s", app->words[0],
                        nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                        nearest != NULL ? "?" : "");
    return SOW_OK;
}

const sow_command sow_command_config = {
    .name = "config",
    .doc = "every option with its unit, range and default",
    .usage = "[KEY | SECTION] [--doc]",
    .examples = "  sower config\n"
                "  sower config es.sigma\n"
                "  sower config --doc > docs/CONFIG.md\n",
    .max_words = 1,
    .flags = flags,
    .run = run,
};
