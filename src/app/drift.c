/* SPDX-License-Identifier: Apache-2.0 */
/* sower drift: how far one model's weights lie from another's. */
#include "sower/drift.h"

#include "drift_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <string.h>

static bool by_layer, by_tensor, has_spectra;
static const char *kl_tasks, *rows_text;

static const sow_flag flags[] = {
    {"layers", 0, NULL, "the table by layer instead of by kind of tensor", NULL, &by_layer},
    {"tensors", 0, NULL, "the table by tensor", NULL, &by_tensor},
    {"spectra", 0, NULL, "singular values of the update of each matrix too (LAPACK; seconds to minutes)", NULL,
     &has_spectra},
    {"kl", 0, "TASK", "KL between the models on a task, or several with commas between them, on held-out rows",
     &kl_tasks, NULL},
    {"rows", 'n', "N", "rows of each task for --kl (100)", &rows_text, NULL},
    {0},
};

/* What was measured; NULL: not asked for. */
typedef struct findings {
    sow_drift *drifts;     /* owned */
    sow_spectrum *spectra; /* owned */
    sow_pair_kl *kl;       /* owned */
} findings;

/* Two layouts of one shape have the same tensors in the same places; end tokens may differ. */
static sow_code compare_shapes(const sow_app *app, const sow_layout *a, const sow_layout *b)
{
    for (int64_t i = 0; i < a->n_tensors || i < b->n_tensors; i++) {
        const sow_tensor *x = i < a->n_tensors ? &a->tensors[i] : NULL, *y = i < b->n_tensors ? &b->tensors[i] : NULL;
        if (x == NULL || y == NULL || strcmp(x->name, y->name) != 0)
            return SOW_FAIL(SOW_EFORMAT, "%s: has tensor %s where %s has %s", app->words[1],
                            y == NULL ? "none" : y->name, app->words[0], x == NULL ? "none" : x->name);
        if (x->rows != y->rows || x->cols != y->cols)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: is %lld x %lld, expected %lld x %lld as in %s", app->words[1],
                            y->name, (long long)y->rows, (long long)y->cols, (long long)x->rows, (long long)x->cols,
                            app->words[0]);
    }
    return SOW_OK;
}

static sow_code say_row(const char *name, const sow_drift *d, const sow_tau *tau)
{
    SOW_TRY(sow_app_say("%-44s %12lld %12.6g %11.4g %11.4g %11.4g", name, (long long)d->n, sqrt(d->delta2),
                        d->base2 > 0 ? sqrt(d->delta2 / d->base2) : 0, d->max_abs, sqrt(d->paper2)));
    for (int64_t i = 0; i < tau->n; i++)
        SOW_TRY(sow_app_say(" %9.3f%%", 100 * (double)d->within[i] / (double)d->n));
    return sow_app_say(" %9.3f%% %9.3f%%\n", 100 * (double)d->same_bf16 / (double)d->n,
                       100 * (double)d->same_fp16 / (double)d->n);
}

static void name_row(const sow_layout *layout, int64_t i, char out[SOW_MAX_NAME])
{
    const sow_tensor *t = &layout->tensors[i];
    if (by_tensor)
        (void)snprintf(out, SOW_MAX_NAME, "%s", t->name);
    else if (!by_layer)
        (void)snprintf(out, SOW_MAX_NAME, "%s", sow_tensor_group(t->kind));
    else if (t->layer >= 0)
        (void)snprintf(out, SOW_MAX_NAME, "layer %d", t->layer);
    else
        (void)snprintf(out, SOW_MAX_NAME, "outside the layers");
}

static bool is_first_of_its_name(const sow_layout *layout, int64_t index, const char *name)
{
    char other[SOW_MAX_NAME];
    for (int64_t i = 0; i < index; i++) {
        name_row(layout, i, other);
        if (strcmp(other, name) == 0)
            return false;
    }
    return true;
}

static sow_code say_table(const sow_layout *layout, const sow_drift *drifts, const sow_tau *tau)
{
    sow_drift all = {0};
    SOW_TRY(
        sow_app_say("%-44s %12s %12s %11s %11s %11s", "tensors", "weights", "norm", "relative", "max", "paper norm"));
    for (int64_t i = 0; i < tau->n; i++)
        SOW_TRY(sow_app_say("  |d|<=%-4.0e", tau->values[i]));
    SOW_TRY(sow_app_say(" %10s %10s\n", "same bf16", "same fp16"));
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        char name[SOW_MAX_NAME], other[SOW_MAX_NAME];
        sow_drift sum = {0};
        sow_drift_add(&all, &drifts[i]);
        name_row(layout, i, name);
        if (!is_first_of_its_name(layout, i, name))
            continue;
        for (int64_t j = i; j < layout->n_tensors; j++) {
            name_row(layout, j, other);
            if (strcmp(name, other) == 0)
                sow_drift_add(&sum, &drifts[j]);
        }
        SOW_TRY(say_row(name, &sum, tau));
    }
    return say_row("all", &all, tau);
}

static sow_code say(const sow_pair *pair, const findings *f, const sow_tau *tau)
{
    SOW_TRY(say_table(pair->layout, f->drifts, tau));
    if (f->spectra != NULL)
        SOW_TRY(sow_pair_say_spectra(pair, f->spectra, by_tensor));
    return f->kl == NULL ? SOW_OK : sow_pair_say_kl(f->kl);
}

static sow_code print(const sow_pair *pair, const findings *f, const sow_tau *tau)
{
    sow_line *line = NULL;
    if (!pair->app->is_json)
        return say(pair, f, tau);
    SOW_TRY(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_drift_put(line, pair->layout, f->drifts, tau);
    if (f->spectra != NULL) {
        sow_line_begin_object(line, "spectra");
        sow_spectrum_put(line, pair->layout, f->spectra);
        sow_line_end_object(line);
    }
    if (f->kl != NULL) {
        sow_line_begin_array(line, "kl");
        for (int i = 0; i < f->kl->n; i++)
            sow_kl_put(line, NULL, f->kl->names[i], &f->kl->kl[i]);
        sow_line_end_array(line);
    }
    sow_line_end_object(line);
    sow_code rc = sow_app_print(line);
    sow_line_destroy(&line);
    return rc;
}

static sow_code measure(const sow_pair *pair, const sow_tau *tau, findings *f)
{
    int64_t rows = 100;
    SOW_TRY(sow_args_int("rows", rows_text, 1, 1000000, &rows));
    SOW_TRY(SOW_ALLOC(&f->drifts, pair->layout->n_tensors));
    sow_drift_measure(pair->layout, pair->theta_base, pair->theta_tuned, tau, f->drifts);
    if (has_spectra)
        SOW_TRY(sow_pair_spectra(pair, &f->spectra));
    if (kl_tasks == NULL)
        return SOW_OK;
    SOW_TRY(SOW_ALLOC(&f->kl, 1));
    return sow_pair_measure_kl(pair, kl_tasks, rows, f->kl);
}

static sow_code run(sow_app *app)
{
    sow_options options;
    sow_tau tau;
    sow_model *tuned = NULL;
    float *a = NULL, *b = NULL;
    sow_pair pair = {.app = app, .options = &options};
    findings f = {0};
    sow_code rc = SOW_OK;
    SOW_TRY(sow_app_options(app, &options));
    SOW_TRY(sow_tau_parse(options.measure.tau, &tau));
    sow_kernels_set_rounding();
    SOW_TRY_OR(rc, sow_model_open(app->words[0], &pair.base));
    SOW_TRY_OR(rc, sow_model_open(app->words[1], &tuned));
    pair.layout = sow_model_layout(pair.base);
    SOW_TRY_OR(rc, compare_shapes(app, pair.layout, sow_model_layout(tuned)));
    SOW_TRY_OR(rc, sow_app_weights(pair.base, &a));
    SOW_TRY_OR(rc, sow_app_weights(tuned, &b));
    pair.theta_base = a;
    pair.theta_tuned = b;
    SOW_TRY_OR(rc, measure(&pair, &tau, &f));
    SOW_TRY_OR(rc, print(&pair, &f, &tau));
done:
    SOW_FREE(&f.drifts);
    SOW_FREE(&f.spectra);
    SOW_FREE(&f.kl);
    SOW_FREE(&b);
    SOW_FREE(&a);
    sow_model_close(&tuned);
    sow_model_close(&pair.base);
    return rc;
}

const sow_command sow_command_drift = {
    .name = "drift",
    .doc = "how far one model's weights lie from another's: norms, sparsity, what 16 bits show, spectra, KL",
    .usage = "BASE TUNED [--spectra] [--kl TASK[,TASK...] [--rows N]] [--set measure.tau=1e-6,1e-5]",
    .examples =
        "  sower drift models/sprout runs/first/final\n"
        "  sower drift models/sprout runs/first/final --layers\n"
        "  sower drift models/sprout runs/first/final --spectra --kl countdown,calc,rev --set task.form=short\n",
    .has_sets = true,
    .min_words = 2,
    .max_words = 2,
    .flags = flags,
    .run = run,
};
