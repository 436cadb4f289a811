/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of the page: verdict, a row a group, a row a run, sparsity, phases. */
#include "report_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Verdict ---- */

static int64_t count_of(const report *r, const char *verdict)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n_runs; i++)
        n += strcmp(report_run_verdict(&r->runs[i]), verdict) == 0;
    return n;
}

static sow_code add_reason(const report_run *run, sow_words *out)
{
    const sow_status *s = &run->status;
    const char *verdict = report_run_verdict(run);
    if (strcmp(verdict, "VALID") == 0)
        return SOW_OK;
    SOW_TRY(sow_words_print(out, "<li><span class=\"tag %s\">%s</span> ", verdict, verdict));
    SOW_TRY(report_html(out, run->name));
    SOW_TRY(sow_words_print(out, " (%s, step %lld of %lld)", sow_state_name(s->state), (long long)s->step,
                            (long long)s->steps));
    const char *const texts[] = {s->verdict_reasons, run->reasons.text, s->reason};
    const char *comma = ": ";
    for (int i = 0; i < 3; i++) {
        if (texts[i] == NULL || texts[i][0] == '\0')
            continue;
        SOW_TRY(sow_words_print(out, "%s", comma));
        SOW_TRY(report_html(out, texts[i]));
        comma = "; ";
    }
    return sow_words_print(out, "</li>\n");
}

sow_code report_page_verdict(const report *r, sow_words *out)
{
    int64_t valid = count_of(r, "VALID"), invalid = count_of(r, "INVALID"), open = count_of(r, "UNFINISHED");
    SOW_TRY(sow_words_print(out,
                            "<section class=\"verdict%s\" id=\"verdict\"><strong>%s</strong> %lld of %lld runs VALID",
                            invalid > 0 ? " bad"
                            : open > 0  ? " open"
                                        : "",
                            invalid > 0 ? "INVALID runs."
                            : open > 0  ? "Unfinished runs."
                                        : "All runs are VALID.",
                            (long long)valid, (long long)r->n_runs));
    if (invalid > 0)
        SOW_TRY(sow_words_print(out, ", %lld INVALID", (long long)invalid));
    if (open > 0)
        SOW_TRY(sow_words_print(out, ", %lld unfinished", (long long)open));
    SOW_TRY(sow_words_print(
        out, ": chain of the ledger, planned evaluations, settings against the ledger, finite numbers.\n"));
    if (valid < r->n_runs || r->n_warnings > 0)
        SOW_TRY(sow_words_print(out, "<ul>\n"));
    for (int64_t i = 0; i < r->n_runs; i++)
        SOW_TRY(add_reason(&r->runs[i], out));
    for (int64_t i = 0; i < r->n_warnings; i++) {
        SOW_TRY(sow_words_print(out, "<li>"));
        SOW_TRY(report_html(out, r->warnings[i]));
        SOW_TRY(sow_words_print(out, "</li>\n"));
    }
    if (valid < r->n_runs || r->n_warnings > 0)
        SOW_TRY(sow_words_print(out, "</ul>\n"));
    return sow_words_print(out, "</section>\n");
}

/* ---- Groups and runs ---- */

sow_code report_mean_html(sow_words *out, const report_mean *mean, int measure)
{
    const report_measure *m = report_measure_at(measure);
    char number[32], low[32], high[32];
    SOW_TRY(sow_words_print(out, "<td data-label=\"%s%s%s\"%s>", m->head, m->unit[0] != '\0' ? ", " : "", m->unit,
                            mean->n == 0 ? " class=\"none\"" : ""));
    if (mean->n == 0)
        return sow_words_print(out, "&ndash;</td>");
    bool is_signed = strcmp(m->unit, "points") == 0 && mean->mean > 0;
    SOW_TRY(sow_words_print(out, "<span>%s%s", is_signed ? "+" : "",
                            report_number(number, mean->mean, m->scale, m->digits)));
    if (isfinite(mean->low) && isfinite(mean->high))
        SOW_TRY(sow_words_print(out, "<small>[%s, %s]</small>", report_number(low, mean->low, m->scale, m->digits),
                                report_number(high, mean->high, m->scale, m->digits)));
    if (mean->is_partial)
        SOW_TRY(sow_words_print(out, "<small>n = %lld</small>", (long long)mean->n));
    return sow_words_print(out, "</span></td>");
}

/* Measures that some group has. */
static sow_code find_shown(const report *r, bool shown[])
{
    for (int m = 0; m < report_measure_count(); m++)
        for (int64_t g = 0; g < r->n_groups; g++) {
            report_mean mean = {0};
            SOW_TRY(report_group_value(r, &r->groups[g], m, &mean));
            shown[m] = shown[m] || mean.n > 0;
        }
    /* Where there is a prior, what multiple choice lost stands in data only: the table is wide enough. */
    shown[REPORT_MEASURE_choice_change] = shown[REPORT_MEASURE_choice_change] && !shown[REPORT_MEASURE_prior];
    return SOW_OK;
}

static sow_code add_heads(const bool *shown, sow_words *out)
{
    for (int m = 0; m < report_measure_count(); m++)
        if (shown[m])
            SOW_TRY(sow_words_print(out, "<th scope=\"col\" title=\"%s\">%s<small>%s</small></th>",
                                    report_measure_at(m)->doc, report_measure_at(m)->head,
                                    report_measure_at(m)->unit[0] != '\0' ? report_measure_at(m)->unit : "&nbsp;"));
    return SOW_OK;
}

static sow_code add_group(const report *r, int64_t g, const bool *shown, sow_words *out)
{
    const report_group *group = &r->groups[g];
    SOW_TRY(sow_words_print(out, "<tr><th scope=\"row\">"));
    SOW_TRY(report_page_swatch(r, g, -1, out));
    SOW_TRY(sow_words_print(out, " "));
    SOW_TRY(report_html(out, group->name));
    SOW_TRY(sow_words_print(out, "%s%s%s%s", group->is_control ? " (control)" : "",
                            group->note[0] != '\0' ? " <span class=\"tag " : "",
                            group->note[0] == 'I'   ? "INVALID\">INVALID</span>"
                            : group->note[0] == 'u' ? "UNFINISHED\">unfinished</span>"
                                                    : "",
                            "</th>"));
    SOW_TRY(sow_words_print(out, "<td data-label=\"seeds\">%lld%s</td><td data-label=\"step\">",
                            (long long)group->n_used, group->n_used < group->n ? "*" : ""));
    SOW_TRY(group->end_step < 0 ? sow_words_print(out, "&ndash;</td>")
                                : sow_words_print(out, "%lld</td>", (long long)group->end_step));
    for (int m = 0; m < report_measure_count(); m++) {
        report_mean mean = {0};
        if (!shown[m])
            continue;
        SOW_TRY(report_group_value(r, group, m, &mean));
        SOW_TRY(report_mean_html(out, &mean, m));
    }
    return sow_words_print(out, "</tr>\n");
}

sow_code report_page_table(const report *r, sow_words *out)
{
    bool shown[64] = {false}, has_left_out = false;
    SOW_ASSERT(report_measure_count() <= 64);
    SOW_TRY(find_shown(r, shown));
    SOW_TRY(sow_words_print(
        out, "<section><h2>Groups</h2>\n<div class=\"scroll\"><table class=\"cards wrap\"><caption>Mean over the "
             "seeds of a group at the last evaluation, with the interval of 95 %% below it (two or more "
             "seeds: Student's t; one seed: by its items). Where fewer seeds than the group's have a "
             "number, n says how many."));
    for (int64_t g = 0; g < r->n_groups; g++)
        has_left_out = has_left_out || r->groups[g].n_used < r->groups[g].n;
    SOW_TRY(sow_words_print(
        out,
        "%s</caption>\n<thead><tr><th scope=\"col\">group</th><th scope=\"col\">seeds<small>n</small></th>"
        "<th scope=\"col\">step<small>&nbsp;</small></th>",
        has_left_out ? " * some runs are left out: unfinished, INVALID, or the same seed twice." : ""));
    SOW_TRY(add_heads(shown, out));
    SOW_TRY(sow_words_print(out, "</tr></thead><tbody>\n"));
    for (int64_t g = 0; g < r->n_groups; g++)
        SOW_TRY(add_group(r, g, shown, out));
    return sow_words_print(out, "</tbody></table></div></section>\n");
}

static sow_code add_run(const report *r, int64_t i, const bool *shown, sow_words *out)
{
    const report_run *run = &r->runs[i];
    const char *verdict = report_run_verdict(run);
    SOW_TRY(sow_words_print(out, "<tr><th scope=\"row\">"));
    SOW_TRY(report_html(out, run->name));
    SOW_TRY(sow_words_print(out, "</th><td class=\"left\" data-label=\"group\">"));
    SOW_TRY(report_html(out, r->groups[run->group].name));
    if (run->has_options)
        SOW_TRY(sow_words_print(out, "</td><td data-label=\"seed\">%lld", (long long)run->options.run.seed));
    else
        SOW_TRY(sow_words_print(out, "</td><td data-label=\"seed\">&ndash;"));
    SOW_TRY(sow_words_print(out, "</td><td data-label=\"verdict\"><span><span class=\"tag %s\">%s</span>%s</span></td>",
                            verdict, verdict, run->is_counted ? "" : "*"));
    SOW_TRY(sow_words_print(out, "<td data-label=\"step\">%lld</td>", (long long)report_run_end(run)));
    for (int m = 0; m < report_measure_count(); m++) {
        if (!shown[m])
            continue;
        report_mean mean = report_run_value(run, m, report_run_end(run));
        SOW_TRY(report_mean_html(out, &mean, m));
    }
    return sow_words_print(out, "</tr>\n");
}

sow_code report_page_runs(const report *r, sow_words *out)
{
    bool shown[64] = {false};
    SOW_TRY(find_shown(r, shown));
    SOW_TRY(sow_words_print(
        out, "<section><h2>Runs</h2>\n<details><summary>Each run at its last evaluation</summary>\n<div "
             "class=\"scroll\"><table class=\"cards\"><caption>Intervals by items (Wilson; of a change: "
             "Newcombe). * not counted in its group.</caption>\n<thead><tr><th scope=\"col\">run</th><th "
             "scope=\"col\" class=\"left\">group</th><th scope=\"col\">seed</th><th "
             "scope=\"col\">verdict</th><th scope=\"col\">step</th>"));
    SOW_TRY(add_heads(shown, out));
    SOW_TRY(sow_words_print(out, "</tr></thead><tbody>\n"));
    for (int64_t i = 0; i < r->n_runs; i++)
        SOW_TRY(add_run(r, i, shown, out));
    return sow_words_print(out, "</tbody></table></div></details></section>\n");
}

/* ---- Sparsity ---- */

/* Shares of all weights, for papers. */
sow_code report_page_sparsity(const report *r, sow_words *out)
{
    report_view views[REPORT_MAX_VIEWS];
    int n = report_find_views(r, views);
    char column[64], number[32];
    SOW_TRY(sow_words_print(
        out, "<div class=\"scroll\"><table class=\"cards wrap\"><caption>Of all weights, in per cent; mean over "
             "seeds.</caption><thead><tr><th scope=\"col\">group</th>"));
    for (int v = 0; v < n; v++)
        SOW_TRY(sow_words_print(out, "<th scope=\"col\">%s</th>", views[v].title));
    SOW_TRY(sow_words_print(out, "</tr></thead><tbody>\n"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(out, "<tr><th scope=\"row\">"));
        SOW_TRY(report_html(out, r->groups[g].name));
        SOW_TRY(sow_words_print(out, "</th>"));
        for (int v = 0; v < n; v++) {
            (void)snprintf(column, sizeof column, "all.%s", views[v].column);
            double share = report_last_mean(r, &r->groups[g], REPORT_DRIFT, column);
            SOW_TRY(sow_words_print(out, "<td data-label=\"%s\">%s</td>", views[v].title,
                                    report_number(number, share, 100, -1)));
        }
        SOW_TRY(sow_words_print(out, "</tr>\n"));
    }
    return sow_words_print(out, "</tbody></table></div>\n");
}

/* ---- Phases ---- */

sow_code report_page_phases(const report *r, sow_words *out)
{
    report_phase phases[REPORT_MAX_PHASES];
    int n = report_find_phases(r, phases);
    char number[32];
    SOW_TRY(sow_words_print(out, "<div class=\"scroll\"><table class=\"cards\"><caption>Seconds per step and "
                                 "rank.</caption><thead><tr><th scope=\"col\">group</th>"));
    for (int p = 0; p < n; p++) {
        SOW_TRY(sow_words_print(out, "<th scope=\"col\">"));
        SOW_TRY(report_html(out, phases[p].name));
        SOW_TRY(sow_words_print(out, "</th>"));
    }
    SOW_TRY(sow_words_print(out, "</tr></thead><tbody>\n"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(out, "<tr><th scope=\"row\">"));
        SOW_TRY(report_html(out, r->groups[g].name));
        SOW_TRY(sow_words_print(out, "</th>"));
        for (int p = 0; p < n; p++) {
            double seconds = report_phase_seconds(r, &r->groups[g], &phases[p]);
            SOW_TRY(sow_words_print(out, "<td data-label=\""));
            SOW_TRY(report_html(out, phases[p].name));
            SOW_TRY(sow_words_print(out, "\">%s</td>", seconds > 0 ? report_number(number, seconds, 1, 4) : "&ndash;"));
        }
        SOW_TRY(sow_words_print(out, "</tr>\n"));
    }
    return sow_words_print(out, "</tbody></table></div>\n");
}
