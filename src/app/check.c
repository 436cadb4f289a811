/* SPDX-License-Identifier: Apache-2.0 */
/* sower check: the forward pass against values that another program recorded. */
#include "app_impl.h"

#include "sower/reference.h"

static const char *logit_text, *logprob_text, *margin_text;

static const sow_flag flags[] = {
    {"logit", 0, "X", "largest deviation of a logit (2e-4)", &logit_text, NULL},
    {"logprob", 0, "X", "largest deviation of a log-probability (2e-4)", &logprob_text, NULL},
    {"margin", 0, "X", "greedy tokens count up to the first lead below this (5e-3)", &margin_text, NULL},
    {0},
};

/* Parts of a reference that need the backward pass. */
static const char *const later_parts[] = {"ce", "adamw", "policy"};

typedef struct checking {
    const sow_app *app;
    sow_line *line;
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

/* Says which parts this version cannot compare; *n counts them. */
static sow_code report_later(const checking *c, const sow_json *reference, int *n)
{
    static const char why[] = "gradients are not in this version";
    for (size_t i = 0; i < sizeof later_parts / sizeof *later_parts; i++) {
        if (sow_json_get(reference, later_parts[i]) == NULL)
            continue;
        (*n)++;
        if (!c->app->is_json) {
            SOW_TRY(sow_app_say("%-14s skipped: %s\n", later_parts[i], why));
            continue;
        }
        sow_line_clear(c->line);
        sow_line_begin_object(c->line, NULL);
        sow_line_string(c->line, "part", later_parts[i]);
        sow_line_string(c->line, "skipped", why);
        sow_line_end_object(c->line);
        SOW_TRY(sow_app_print(c->line));
    }
    return SOW_OK;
}

static sow_code has_forward(const sow_json *reference, const char *path)
{
    static const char *const keys[] = {"logits", "rows", "prompts", "continuations"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (sow_json_get(reference, keys[i]) != NULL)
            return SOW_OK;
    return SOW_FAIL(SOW_EFORMAT,
                    "%s: has nothing that this version compares, expected logits, rows, prompts or continuations",
                    path);
}

static sow_code compare(checking *c, sow_loaded *model, const sow_json *reference, const sow_tolerances *tolerances)
{
    const char *path = c->app->words[1];
    int64_t n_wrong = 0;
    int n_later = 0;
    SOW_TRY(report_later(c, reference, &n_later));
    SOW_TRY(has_forward(reference, path));
    SOW_TRY(sow_reference_check(&(sow_reference_args){.engine = model->engine,
                                                      .replica = model->replica,
                                                      .tokenizer = model->tokenizer,
                                                      .reference = reference,
                                                      .what = path,
                                                      .tolerances = *tolerances,
                                                      .report = report,
                                                      .context = c},
                                &n_wrong));
    SOW_TRY(c->failed);
    if (n_wrong > 0)
        return SOW_FAIL(SOW_EBITS, "%s: %lld values are not those of %s", c->app->words[0], (long long)n_wrong, path);
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
    sow_options options;
    sow_tolerances tolerances = sow_tolerances_default();
    sow_loaded model = {0};
    sow_json *reference = NULL;
    checking c = {.app = app};
    sow_code rc = SOW_OK;
    SOW_TRY(sow_args_real("logit", logit_text, 0, 1e9, &tolerances.logit));
    SOW_TRY(sow_args_real("logprob", logprob_text, 0, 1e9, &tolerances.logprob));
    SOW_TRY(sow_args_real("margin", margin_text, 0, 1e9, &tolerances.margin));
    SOW_TRY(read_options(app, &options));
    SOW_TRY(sow_json_load(app->words[1], &reference));
    SOW_TRY_OR(rc, sow_line_create(&c.line));
    SOW_TRY_OR(rc, sow_loaded_open(app->words[0], &options, &model));
    SOW_TRY_OR(rc, compare(&c, &model, reference, &tolerances));
done:
    sow_loaded_fini(&model);
    sow_line_destroy(&c.line);
    sow_json_destroy(&reference);
    return rc;
}

const sow_command sow_command_check = {
    .name = "check",
    .doc = "a model's logits and log-probabilities against a recorded reference",
    .usage = "MODEL REFERENCE.json [--set model.dtype=f32]",
    .examples = "  sower check models/sprout reference.json\n"
                "  python3 tools/make_reference.py MODEL > reference.json && sower check MODEL reference.json\n",
    .has_sets = true,
    .min_words = 2,
    .max_words = 2,
    .flags = flags,
    .run = run,
};
