/* SPDX-License-Identifier: Apache-2.0 */
/* sower check: the forward pass, gradients and losses against values that another program recorded. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/reference.h"
#include "sower/reference_train.h"

static const char *logit_text, *logprob_text, *margin_text, *gradient_text;

static const sow_flag flags[] = {
    {"logit", 0, "X", "largest deviation of a logit (2e-4)", &logit_text, NULL},
    {"logprob", 0, "X", "largest deviation of a log-probability (2e-4)", &logprob_text, NULL},
    {"gradient", 0, "X", "largest deviation of a loss or a gradient, as a share of it (1e-4)", &gradient_text, NULL},
    {"margin", 0, "X", "greedy tokens count up to the first lead below this (5e-3)", &margin_text, NULL},
    {0},
};

typedef struct checking {
    const sow_app *app;
    sow_line *line;
    sow_options options;
    sow_tolerances tolerances;
    double gradient;
    sow_code failed; /* of the first line that could not be printed */
} checking;

static sow_code print_part(const checking *c, const sow_reference_part *part)
{
    bool is_good = part->n_wrong == 0;
    if (!c->app->is_json) {
        SOW_TRY(sow_app_say("%-14s %8lld values, largest deviation %.3g (tolerance %.3g): %s\n", part->name,
                            (long long)part->n_values, part->largest, part->tolerance, is_good ? "good" : "WRONG"));
        return is_good ? SOW_OK
                       : sow_app_say("%-14s %8lld wrong, first %s: %.9g, expected %.9g\n", "", (long long)part->n_wrong,
                                     part->where, part->got, part->expected);
    }
    sow_line_clear(c->line);
    sow_line_begin_object(c->line, NULL);
    sow_line_string(c->line, "part", part->name);
    sow_line_bool(c->line, "ok", is_good);
    sow_line_int(c->line, "values", part->n_values);
    sow_line_int(c->line, "wrong", part->n_wrong);
    sow_line_real(c->line, "largest", part->largest);
    sow_line_real(c->line, "tolerance", part->tolerance);
    sow_line_string(c->line, "where", part->where);
    sow_line_real(c->line, "got", part->got);
    sow_line_real(c->line, "expected", part->expected);
    sow_line_end_object(c->line);
    return sow_app_print(c->line);
}

static void report(void *context, const sow_reference_part *part)
{
    checking *c = context;
    if (c->failed == SOW_OK)
        c->failed = print_part(c, part);
}

static sow_code report_train(void *context, const sow_reference_part *part, sow_line *line)
{
    const checking *c = context;
    return c->app->is_json ? sow_app_print(line) : print_part(c, part);
}

static bool has_forward(const sow_json *reference)
{
    static const char *const keys[] = {"logits", "rows", "prompts", "continuations"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (sow_json_get(reference, keys[i]) != NULL)
            return true;
    return false;
}

static sow_code compare_forward(checking *c, sow_loaded *model, const sow_json *reference, int64_t *n_wrong)
{
    SOW_TRY(sow_reference_check(&(sow_reference_args){.engine = model->engine,
                                                      .replica = model->replica,
                                                      .tokenizer = model->tokenizer,
                                                      .reference = reference,
                                                      .what = c->app->words[1],
                                                      .tolerances = c->tolerances,
                                                      .report = report,
                                                      .context = c},
                                n_wrong));
    return c->failed;
}

static sow_code compare_training(checking *c, sow_loaded *model, const sow_json *reference, int64_t *n_wrong)
{
    float *theta = NULL;
    SOW_TRY(sow_app_weights(model->model, &theta));
    const sow_gradient_options options = {.row_tokens = c->options.train.row_tokens,
                                          .recompute = c->options.train.recompute};
    const sow_code rc = sow_train_reference_check(&(sow_train_reference_args){.la = model->la,
                                                                              .layout = model->layout,
                                                                              .type = model->type,
                                                                              .theta = theta,
                                                                              .options = &options,
                                                                              .reference = reference,
                                                                              .what = c->app->words[1],
                                                                              .tolerance = c->gradient,
                                                                              .line = c->line,
                                                                              .report = report_train,
                                                                              .context = c},
                                                  n_wrong);
    SOW_FREE(&theta);
    return rc;
}

static sow_code compare(checking *c, sow_loaded *model, const sow_json *reference)
{
    const char *path = c->app->words[1];
    int64_t n_forward = 0, n_training = 0;
    if (!has_forward(reference) && !sow_train_reference_has(reference))
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: has nothing to compare, expected logits, rows, prompts, continuations, ce or policy",
                        path);
    if (has_forward(reference))
        SOW_TRY(compare_forward(c, model, reference, &n_forward));
    if (sow_train_reference_has(reference))
        SOW_TRY(compare_training(c, model, reference, &n_training));
    if (n_forward + n_training > 0)
        return SOW_FAIL(SOW_EBITS, "%s: %lld values are not those of %s", c->app->words[0],
                        (long long)(n_forward + n_training), path);
    return SOW_OK;
}

/* Weights are stored as float32 unless --set model.dtype says otherwise: the program is checked, not the storage. */
static sow_code read_options(const sow_app *app, sow_options *out)
{
    sow_conf *conf = NULL;
    SOW_TRY(sow_app_conf(app, NULL, &conf));
    *out = *sow_conf_options(conf);
    if (!sow_conf_is_given(conf, "model.dtype"))
        (void)snprintf(out->model.dtype, sizeof out->model.dtype, "f32");
    sow_conf_destroy(&conf);
    return SOW_OK;
}

static sow_code run(sow_app *app)
{
    checking c = {.app = app, .tolerances = sow_tolerances_default(), .gradient = 1e-4};
    sow_loaded model = {0};
    sow_json *reference = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY(sow_args_real("logit", logit_text, 0, 1e9, &c.tolerances.logit));
    SOW_TRY(sow_args_real("logprob", logprob_text, 0, 1e9, &c.tolerances.logprob));
    SOW_TRY(sow_args_real("margin", margin_text, 0, 1e9, &c.tolerances.margin));
    SOW_TRY(sow_args_real("gradient", gradient_text, 0, 1e9, &c.gradient));
    SOW_TRY(read_options(app, &c.options));
    SOW_TRY(sow_json_load(app->words[1], &reference));
    SOW_TRY_OR(rc, sow_line_create(&c.line));
    SOW_TRY_OR(rc, sow_loaded_open(app->words[0], &c.options, &model));
    SOW_TRY_OR(rc, compare(&c, &model, reference));
done:
    sow_loaded_fini(&model);
    sow_line_destroy(&c.line);
    sow_json_destroy(&reference);
    return rc;
}

const sow_command sow_command_check = {
    .name = "check",
    .doc = "a model's logits, log-probabilities and gradients against a recorded reference",
    .usage = "MODEL REFERENCE.json [--set model.dtype=f32]",
    .examples = "  sower check models/sprout reference.json\n"
                "  python3 tools/make_reference.py MODEL > reference.json && sower check MODEL reference.json\n",
    .has_sets = true,
    .min_words = 2,
    .max_words = 2,
    .flags = flags,
    .run = run,
};
