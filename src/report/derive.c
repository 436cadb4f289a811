/* SPDX-License-Identifier: Apache-2.0 */
/* Columns of metrics that are made of others, so that the rest of the report knows one name for a thing whatever the
 * method:
 *
 *     target, prior, choice       accuracies, with X.low and X.high (Wilson), X.change.low and X.change.high (below)
 *     total.tokens, total.flops, total.seconds       sums over the steps of training
 *     speed                       tokens of a step over its seconds, both as in the sums
 *     norm, relative_norm, norm_per_law
 *     kl_exact.target, kl_exact.prior, ...           from kl.jsonl, so that accuracy can be drawn against them
 *
 * A change against step 0 is one of the same items: from the shares of items lost and gained comes Newcombe's
 * interval of a paired difference. */
#include "report_impl.h"

#include "sower/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The value of column PREFIX.NAME.SUFFIX; empty parts are left out. */
static double value_at(const report_frame *frame, int64_t row, const char *prefix, const char *name, const char *suffix)
{
    char path[3 * REPORT_NAME];
    (void)snprintf(path, sizeof path, "%s%s%s%s%s", prefix, name[0] != '\0' ? "." : "", name,
                   suffix[0] != '\0' ? "." : "", suffix);
    return report_column_at(report_frame_find(frame, path), row);
}

/* Probes in the order of their list.  Multiple choice by log-likelihood is a kind of its own: it forgets least. */
static void name_probes(report_run *run)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    for (int64_t i = 0; i < metrics->n_items; i++) {
        const struct report_item *item = &metrics->items[i];
        if (strcmp(item->path, "probes") != 0 || item->index < 0 || item->index >= SOW_MAX_PROBES)
            continue;
        (void)snprintf(run->probes[item->index], REPORT_NAME, "%s", item->name);
        run->n_probes = item->index + 1 > run->n_probes ? item->index + 1 : run->n_probes;
    }
    for (int64_t i = 0; i < run->n_probes; i++)
        run->is_choice[i] = strcspn(run->probes[i], "#") == 2 && strncmp(run->probes[i], "mc", 2) == 0;
}

/* Sets NAME.low and NAME.high. */
static sow_code set_bounds(report_frame *frame, int64_t row, const char *name, double low, double high)
{
    char path[REPORT_NAME];
    (void)snprintf(path, sizeof path, "%s.low", name);
    SOW_TRY(report_frame_set(frame, path, row, low));
    (void)snprintf(path, sizeof path, "%s.high", name);
    return report_frame_set(frame, path, row, high);
}

/* Items by what became of them since step 0. */
typedef struct fate {
    double both, gained, lost, neither;
} fate;

/* Adds the items of an evaluation ("eval", or "probes" with a name); they are not a number if it does not say. */
static void add_fate(const report_frame *metrics, int64_t row, const char *prefix, const char *name, fate *sum)
{
    double rows = value_at(metrics, row, prefix, name, "rows"),
           right = value_at(metrics, row, prefix, name, "accuracy");
    double lost = value_at(metrics, row, prefix, name, "lost"), gained = value_at(metrics, row, prefix, name, "gained");
    sum->gained += rows * gained;
    sum->lost += rows * lost;
    sum->both += rows * (right - gained);
    sum->neither += rows * (1 - right - lost);
}

static sow_code set_fate(report_frame *metrics, int64_t row, const char *name, const fate *f)
{
    const double counts[] = {f->both, f->gained, f->lost, f->neither};
    int64_t whole[4];
    double low = 0, high = 0;
    for (int i = 0; i < 4; i++) {
        if (!(counts[i] > -0.5 && counts[i] < 1e15))
            return SOW_OK;
        whole[i] = (int64_t)(counts[i] + 0.5);
    }
    sow_stats_paired_change(whole[0], whole[1], whole[2], whole[3], &low, &high);
    return set_bounds(metrics, row, name, low, high);
}

/* The mean accuracy over the probes of a kind if all of them were measured, with Wilson's interval over all their
 * rows. */
static sow_code derive_mean(report_run *run, int64_t row, const char *name, bool is_choice)
{
    report_frame *metrics = &run->frames[REPORT_METRICS];
    double sum = 0, rows = 0, low = 0, high = 1;
    char path[REPORT_NAME];
    fate all = {0};
    int64_t n = 0;
    for (int64_t i = 0; i < run->n_probes; i++) {
        if (run->is_choice[i] != is_choice)
            continue;
        sum += value_at(metrics, row, "probes", run->probes[i], "accuracy");
        rows += value_at(metrics, row, "probes", run->probes[i], "rows");
        add_fate(metrics, row, "probes", run->probes[i], &all);
        n++;
    }
    if (n == 0 || !isfinite(sum))
        return SOW_OK;
    SOW_TRY(report_frame_set(metrics, name, row, sum / (double)n));
    if (!(rows > 0 && rows < 1e15))
        return SOW_OK;
    sow_stats_wilson((int64_t)(sum / (double)n * rows + 0.5), (int64_t)rows, &low, &high);
    SOW_TRY(set_bounds(metrics, row, name, low, high));
    (void)snprintf(path, sizeof path, "%s.change", name);
    return set_fate(metrics, row, path, &all);
}

/* What a step took: its own numbers, whichever way its method writes them. */
typedef struct spent {
    double tokens, flops, seconds;
} spent;

/* Evaluations, drift, KL and spectra are the phase `measure`, and no part of training. */
static double seconds_of_phases(const report_run *run, int64_t row)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    double sum = 0;
    for (int64_t i = 0; i < metrics->n_columns; i++) {
        const char *name = metrics->columns[i].name;
        size_t length = strlen(name);
        if (strncmp(name, "phases.", 7) == 0 && strcmp(name, "phases.measure.avg") != 0 && length > 4 &&
            strcmp(name + length - 4, ".avg") == 0) {
            double s = report_column_at(&metrics->columns[i], row);
            sum += isfinite(s) ? s : 0;
        }
    }
    return sum;
}

static void add_spent(const report_run *run, int64_t row, spent *total)
{
    const report_frame *metrics = &run->frames[REPORT_METRICS];
    double tokens = value_at(metrics, row, "tokens", "", ""), all = value_at(metrics, row, "num_tokens", "", "");
    double flops = value_at(metrics, row, "flops", "", ""), rate = value_at(metrics, row, "flops_per_s", "", "");
    double eval_s = value_at(metrics, row, "eval_s", "", ""), update_s = value_at(metrics, row, "update_s", "", "");
    double rollouts =
        value_at(metrics, row, "rollout_tokens", "", "") + value_at(metrics, row, "prompt_tokens", "", "");
    tokens = isfinite(rollouts) ? rollouts : tokens; /* GRPO's `tokens` are those of its updates */
    total->tokens = isfinite(all) ? all : total->tokens + (isfinite(tokens) ? tokens : 0);
    total->flops += isfinite(flops) ? flops : isfinite(rate * eval_s) ? rate * eval_s : 0;
    double step_time = value_at(metrics, row, "step_time", "", "");
    if (isfinite(step_time))
        total->seconds += step_time;
    else
        total->seconds += isfinite(eval_s) ? eval_s + (isfinite(update_s) ? update_s : 0) : seconds_of_phases(run, row);
}

/* |theta_0|, by a record of drift; NAN if there is none. */
static double base_norm(const report_run *run)
{
    const report_frame *drift = &run->frames[REPORT_DRIFT];
    const report_column *norm = report_frame_find(drift, "all.norm"), *share = report_frame_find(drift, "all.relative");
    for (int64_t row = drift->n_rows - 1; row >= 0; row--) {
        double base = report_column_at(norm, row) / report_column_at(share, row);
        if (isfinite(base) && base > 0)
            return base;
    }
    return (double)NAN;
}

static sow_code derive_target(report_run *run, int64_t row)
{
    static const char *const from[] = {"accuracy", "low", "high"}, *const to[] = {"target", "target.low",
                                                                                  "target.high"};
    report_frame *metrics = &run->frames[REPORT_METRICS];
    for (int i = 0; i < 3; i++)
        SOW_TRY(report_frame_set(metrics, to[i], row, value_at(metrics, row, "eval", from[i], "")));
    fate all = {0};
    add_fate(metrics, row, "eval", "", &all);
    return set_fate(metrics, row, "target.change", &all);
}

/* KL to the base (kl.jsonl) at the steps of metrics: of the target's prompts, and the mean over the probes'. */
static sow_code derive_kl(report_run *run, int64_t row)
{
    static const char *const keys[] = {"kl_sampled", "kl_base", "kl_exact", "kl_exact_reverse"};
    report_frame *metrics = &run->frames[REPORT_METRICS];
    const report_frame *kl = &run->frames[REPORT_KL];
    int64_t from = report_frame_row(kl, metrics->steps[row]);
    char name[REPORT_NAME];
    for (size_t k = 0; from >= 0 && k < sizeof keys / sizeof *keys; k++) {
        double sum = 0;
        int64_t n = 0;
        for (int64_t i = 0; i < run->n_probes; i++) {
            sum += run->is_choice[i] ? 0 : value_at(kl, from, "probes", run->probes[i], keys[k]);
            n += !run->is_choice[i];
        }
        (void)snprintf(name, sizeof name, "%s.target", keys[k]);
        SOW_TRY(report_frame_set(metrics, name, row, value_at(kl, from, "eval", keys[k], "")));
        (void)snprintf(name, sizeof name, "%s.prior", keys[k]);
        SOW_TRY(report_frame_set(metrics, name, row, n > 0 ? sum / (double)n : (double)NAN));
    }
    return SOW_OK;
}

bool report_run_is_evaluated(const report_run *run, int64_t row)
{
    static const char *const names[] = {"target", "prior", "choice"};
    bool is = false;
    for (int i = 0; i < 3; i++)
        is = is || isfinite(value_at(&run->frames[REPORT_METRICS], row, names[i], "", ""));
    return is;
}

static sow_code derive_row(report_run *run, int64_t row, double base, spent *total)
{
    report_frame *metrics = &run->frames[REPORT_METRICS];
    double norm = value_at(metrics, row, "norm", "", ""), law = value_at(metrics, row, "norm_law", "", "");
    if (metrics->steps[row] == 0)
        SOW_TRY(report_frame_set(metrics, "norm", row, isfinite(norm) ? (double)NAN : 0));
    norm = metrics->steps[row] == 0 ? 0 : norm;
    SOW_TRY(derive_target(run, row));
    SOW_TRY(derive_mean(run, row, "prior", false));
    SOW_TRY(derive_mean(run, row, "choice", true));
    SOW_TRY(derive_kl(run, row));
    const spent before = *total;
    add_spent(run, row, total);
    if (row > 0 && metrics->steps[row] == metrics->steps[row - 1] + 1 && total->tokens > before.tokens)
        SOW_TRY(report_frame_set(metrics, "speed", row,
                                 (total->tokens - before.tokens) / (total->seconds - before.seconds)));
    SOW_TRY(report_frame_set(metrics, "total.tokens", row, total->tokens));
    SOW_TRY(report_frame_set(metrics, "total.flops", row, total->flops));
    SOW_TRY(report_frame_set(metrics, "total.seconds", row, total->seconds));
    SOW_TRY(report_frame_set(metrics, "relative_norm", row, norm / base));
    SOW_TRY(report_frame_set(metrics, "norm_per_law", row, norm / law));
    run->last_row = report_run_is_evaluated(run, row) ? row : run->last_row;
    return SOW_OK;
}

sow_code report_run_derive(report_run *run)
{
    spent total = {0};
    double base = base_norm(run);
    name_probes(run);
    for (int64_t row = 0; row < run->frames[REPORT_METRICS].n_rows; row++)
        SOW_TRY(derive_row(run, row, base, &total));
    return SOW_OK;
}
