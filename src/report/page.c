/* SPDX-License-Identifier: Apache-2.0 */
/* The page: one file, nothing loaded from elsewhere, no program in it. */
#include "report_impl.h"

#include "sower/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *title, *caption;
} sections[REPORT_N_SECTIONS] = {
#define SECTION(id, title, caption) {title, caption},
#include "sections.def"
};

/* gnuplot's markers, for all plots and legends. */
static const char markers[] =
    "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>\n"
    "<circle id=\"gpDot\" r=\"0.5\" stroke-width=\"0.5\" stroke=\"currentColor\"/>\n"
    "<path id=\"gpPt0\" stroke-width=\"0.3\" stroke=\"currentColor\" d=\"M-1,0h2M0,-1v2\"/>\n"
    "<path id=\"gpPt1\" stroke-width=\"0.3\" stroke=\"currentColor\" d=\"M-1,-1L1,1M1,-1L-1,1\"/>\n"
    "<path id=\"gpPt2\" stroke-width=\"0.3\" stroke=\"currentColor\" d=\"M-1,0L1,0M0,-1L0,1M-1,-1L1,1M-1,1L1,-1\"/>\n"
    "<rect id=\"gpPt3\" stroke-width=\"0.3\" stroke=\"currentColor\" fill=\"none\" x=\"-1\" y=\"-1\" width=\"2\" "
    "height=\"2\"/>\n"
    "<rect id=\"gpPt4\" fill=\"currentColor\" x=\"-1\" y=\"-1\" width=\"2\" height=\"2\"/>\n"
    "<circle id=\"gpPt5\" stroke-width=\"0.3\" stroke=\"currentColor\" fill=\"none\" r=\"1\"/>\n"
    "<circle id=\"gpPt6\" fill=\"currentColor\" r=\"1\"/>\n"
    "<path id=\"gpPt7\" stroke-width=\"0.3\" stroke=\"currentColor\" fill=\"none\" "
    "d=\"M0,-1.33L-1.33,0.67L1.33,0.67z\"/>\n"
    "<path id=\"gpPt8\" fill=\"currentColor\" d=\"M0,-1.33L-1.33,0.67L1.33,0.67z\"/>\n"
    "<path id=\"gpPt9\" stroke-width=\"0.3\" stroke=\"currentColor\" fill=\"none\" "
    "d=\"M0,1.33L-1.33,-0.67L1.33,-0.67z\"/>\n"
    "<path id=\"gpPt10\" fill=\"currentColor\" d=\"M0,1.33L-1.33,-0.67L1.33,-0.67z\"/>\n"
    "<path id=\"gpPt11\" stroke-width=\"0.3\" stroke=\"currentColor\" fill=\"none\" "
    "d=\"M0,-1.4L1.4,0L0,1.4L-1.4,0z\"/>\n"
    "<path id=\"gpPt12\" fill=\"currentColor\" d=\"M0,-1.4L1.4,0L0,1.4L-1.4,0z\"/>\n"
    "<path id=\"gpPt13\" stroke-width=\"0.3\" stroke=\"currentColor\" fill=\"none\" "
    "d=\"M0,-1.33L1.265,-0.411L0.782,1.067L-0.782,1.076L-1.265,-0.411z\"/>\n"
    "<path id=\"gpPt14\" fill=\"currentColor\" d=\"M0,-1.33L1.265,-0.411L0.782,1.067L-0.782,1.076L-1.265,-0.411z\"/>\n"
    "</defs></svg>\n";

sow_code report_page_swatch(const report *r, int64_t group, int section, sow_words *out)
{
    report_style s = report_style_in(r, group, section);
    const char *colour = report_colour_css(s.colour);
    return sow_words_print(
        out,
        "<svg class=\"swatch\" viewBox=\"0 0 40 14\" aria-hidden=\"true\"><path d=\"M0 7H40\" fill=\"none\" "
        "stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\"/><use href=\"#gpPt%d\" "
        "transform=\"translate(20,7) scale(4)\" color=\"%s\"/></svg>",
        colour, s.svg_dash, s.marker - 1, colour);
}

static sow_code add_legend(const report *r, int section, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<ul class=\"legend\">"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(out, "<li>"));
        SOW_TRY(report_page_swatch(r, g, section, out));
        SOW_TRY(sow_words_print(out, "<span>"));
        SOW_TRY(report_html(out, r->groups[g].name));
        SOW_TRY(sow_words_print(out, "%s</span></li>", r->groups[g].is_control ? " (control)" : ""));
    }
    return sow_words_print(out, "</ul>\n");
}

/* Squares with the phases' names. */
static sow_code add_phase_legend(const report *r, sow_words *out)
{
    report_phase phases[REPORT_MAX_PHASES];
    int n = report_find_phases(r, phases);
    SOW_TRY(sow_words_print(out, "<ul class=\"legend\">"));
    for (int i = 0; i < n; i++) {
        SOW_TRY(sow_words_print(out, "<li><i style=\"background:%s;opacity:%g\"></i>",
                                report_colour_css(phases[i].colour), phases[i].opacity));
        SOW_TRY(report_html(out, phases[i].name));
        SOW_TRY(sow_words_print(out, "</li>"));
    }
    return sow_words_print(out, "</ul>\n");
}

static const char published_legend[] =
    "<ul class=\"legend\"><li><svg class=\"swatch\" viewBox=\"0 0 40 14\"><path d=\"M0 7H40\" stroke=\"var(--p0)\" "
    "stroke-width=\"2\"/><use href=\"#gpPt5\" transform=\"translate(20,7) scale(4)\" "
    "color=\"var(--p0)\"/></svg>theirs: ES</li>"
    "<li><svg class=\"swatch\" viewBox=\"0 0 40 14\"><path d=\"M0 7H40\" stroke=\"var(--p1)\" stroke-width=\"2\" "
    "stroke-dasharray=\"3 3\"/><use href=\"#gpPt3\" transform=\"translate(20,7) scale(4)\" "
    "color=\"var(--p1)\"/></svg>theirs: "
    "GRPO</li>"
    "<li><svg class=\"swatch\" viewBox=\"0 0 40 14\"><path d=\"M0 7H40\" stroke=\"var(--p0)\" stroke-width=\"1.6\" "
    "stroke-dasharray=\"1.5 3\"/></svg>alpha sqrt(d T / N)</li></ul>\n";

static sow_code add_figure(const report_plot *plot, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<figure id=\"%s\"><figcaption>", plot->id));
    SOW_TRY(report_html(out, plot->title));
    SOW_TRY(sow_words_print(out, "</figcaption>\n"));
    SOW_TRY(sow_words_add(out, plot->svg.text, plot->svg.bytes));
    return sow_words_print(out, "</figure>\n");
}

/* Large figures, or four in a row where there is room: target above prior. */
static const char *const grids[REPORT_N_SECTIONS] = {
    [REPORT_SECTION_PLANE] = " large", [REPORT_SECTION_LEARNING] = " four"};

static sow_code add_section(const report *r, const report_plots *plots, int section, sow_words *out)
{
    bool is_begun = false;
    for (int64_t i = 0; i < plots->n; i++) {
        const report_plot *plot = &plots->plots[i];
        if (plot->section != section || plot->svg.bytes == 0)
            continue;
        if (!is_begun) {
            SOW_TRY(sow_words_print(out, "<section><div class=\"head\"><h2>%s</h2>\n<p class=\"note\">%s</p>\n",
                                    sections[section].title, sections[section].caption));
            if (section == REPORT_SECTION_PHASES)
                SOW_TRY(add_phase_legend(r, out));
            else if (section == REPORT_SECTION_PUBLISHED)
                SOW_TRY(sow_words_print(out, "%s", published_legend));
            else
                SOW_TRY(add_legend(r, section, out));
            SOW_TRY(sow_words_print(out, "</div><div class=\"figures%s\">\n",
                                    grids[section] == NULL ? "" : grids[section]));
            is_begun = true;
        }
        SOW_TRY(add_figure(plot, out));
    }
    if (!is_begun)
        return SOW_OK;
    SOW_TRY(sow_words_print(out, "</div>\n"));
    if (section == REPORT_SECTION_SPARSITY)
        SOW_TRY(report_page_sparsity(r, out));
    if (section == REPORT_SECTION_PHASES)
        SOW_TRY(report_page_phases(r, out));
    return sow_words_print(out, "</section>\n");
}

/* ---- Head and foot ---- */

static sow_code add_head(const report *r, sow_words *out)
{
    const report_run *first = &r->runs[0];
    double parameters = report_run_number(first, "parameters");
    SOW_TRY(sow_words_print(out, "<header><h1>Sower: %lld run%s in %lld group%s</h1>\n<p>Target task: <b>",
                            (long long)r->n_runs, r->n_runs == 1 ? "" : "s", (long long)r->n_groups,
                            r->n_groups == 1 ? "" : "s"));
    SOW_TRY(report_html(out, first->task));
    SOW_TRY(sow_words_print(out, "</b>. Prior tasks:"));
    for (int64_t i = 0; i < first->n_probes; i++) {
        SOW_TRY(sow_words_print(out, "%s ", i == 0 ? "" : ","));
        SOW_TRY(report_html(out, first->probes[i]));
        SOW_TRY(sow_words_print(out, "%s", first->is_choice[i] ? " (multiple choice, apart)" : ""));
    }
    SOW_TRY(sow_words_print(out, "%s. Base model: ", first->n_probes == 0 ? " none" : ""));
    SOW_TRY(report_html(out, first->has_options ? first->options.model.path : "unknown"));
    if (isfinite(parameters))
        SOW_TRY(sow_words_print(out, ", %.0f weights", parameters));
    SOW_TRY(sow_words_print(out, ", digest <code>"));
    SOW_TRY(report_html(out, report_run_fact(first, "model_digest")));
    return sow_words_print(out, "</code>.</p>\n</header>\n");
}

static sow_code add_foot(sow_words *out)
{
    return sow_words_print(
        out,
        "<footer><p>Accuracies are shares of held-out items, greedy decoding unless the configuration says otherwise. "
        "Intervals are of 95 %%: over two or more seeds mean &plusmn; t&middot;s/&radic;n (Student's t, n&minus;1 "
        "degrees of "
        "freedom); for one seed Wilson's score interval over the items, which knows nothing of other seeds, "
        "and for a "
        "change Newcombe's (1998, method 10). Prior: mean over the probes, multiple choice apart. Thin lines are "
        "seeds, thick "
        "lines their mean at the same step, bands the interval (from three seeds on, or over the items of a single "
        "seed); "
        "with more than four groups only means are drawn.</p><p>Made by sower %s (%s).</p></footer>\n",
        sow_build_version(), sow_build_commit());
}

sow_code report_page(const report *r, const report_plots *plots, const char *problem, sow_words *out)
{
    SOW_TRY(sow_words_print(out,
                            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                            "<title>Sower: %lld runs</title>\n",
                            (long long)r->n_runs));
    SOW_TRY(report_page_style(out));
    SOW_TRY(sow_words_print(out, "</head><body>\n"));
    SOW_TRY(sow_words_add(out, markers, sizeof markers - 1));
    SOW_TRY(add_head(r, out));
    SOW_TRY(sow_words_print(out, "<main>\n"));
    SOW_TRY(report_page_verdict(r, out));
    SOW_TRY(report_page_table(r, out));
    if (problem[0] != '\0') {
        SOW_TRY(sow_words_print(out, "<p class=\"verdict open\"><strong>No figures, or not all:</strong> "));
        SOW_TRY(report_html(out, problem));
        SOW_TRY(sow_words_print(out, "</p>\n"));
    }
    for (int i = 0; i < REPORT_N_SECTIONS; i++)
        SOW_TRY(add_section(r, plots, i, out));
    SOW_TRY(report_page_runs(r, out));
    SOW_TRY(report_page_settings(r, out));
    SOW_TRY(sow_words_print(out, "</main>\n"));
    SOW_TRY(add_foot(out));
    return sow_words_print(out, "</body></html>\n");
}
