/* SPDX-License-Identifier: Apache-2.0 */
/* sower report: one page that compares runs. */
#include "sower/report.h"

#include "app_impl.h"

#include "sower/log.h"

static const char *page, *csv, *figures;

static const sow_flag flags[] = {
    {"output", 'o', "FILE.html", "the page; without it only the table is printed", &page, NULL},
    {"csv", 0, "FILE", "every number in long form: run, group, seed, step, metric, value", &csv, NULL},
    {"figures", 0, "DIR", "each figure of the page as an SVG of its own, with the script of gnuplot", &figures, NULL},
    {0},
};

static sow_code print(const sow_app *app, const sow_report *report)
{
    sow_words text = {0};
    sow_line *line = NULL;
    sow_code rc = SOW_OK;
    if (!app->is_json) {
        SOW_TRY_OR(rc, sow_report_write_table(report, &text));
        rc = sow_app_put(text.text, text.bytes > 0 ? text.bytes - 1 : 0);
        goto done;
    }
    SOW_TRY_OR(rc, sow_line_create(&line));
    for (int64_t i = 0; i < sow_report_n_items(report); i++) {
        sow_line_clear(line);
        sow_line_begin_object(line, NULL);
        SOW_TRY_OR(rc, sow_report_put(line, report, i));
        sow_line_end_object(line);
        SOW_TRY_OR(rc, sow_app_print(line));
    }
done:
    sow_line_destroy(&line);
    sow_words_fini(&text);
    return rc;
}

static sow_code run(sow_app *app)
{
    sow_report *report = NULL;
    sow_code rc = SOW_OK;
    if (figures != NULL && page == NULL)
        return SOW_FAIL(SOW_EARG, "--figures: needs the page they stand in, expected -o FILE.html");
    SOW_TRY(sow_report_open(app->words, app->n_words, &report));
    if (page != NULL)
        SOW_TRY_OR(rc, sow_report_write_page(report, page, figures));
    if (csv != NULL)
        SOW_TRY_OR(rc, sow_report_write_csv(report, csv));
    for (int64_t i = 0; i < sow_report_n_warnings(report); i++)
        sow_log(SOW_LOG_WARN, "%s", sow_report_warning(report, i));
    rc = print(app, report);
done:
    sow_report_close(&report);
    return rc;
}

const sow_command sow_command_report = {
    .name = "report",
    .doc = "one page that compares runs: curves, table, verdict",
    .usage = "RUN... [-o FILE.html] [--csv FILE] [--figures DIR]",
    .examples = "  sower report runs/first -o report.html\n"
                "  sower report runs/es-* runs/grpo-* -o report.html --csv report.csv --figures figures\n"
                "  sower report runs/* --json | jq 'select(.kind == \"group\") | {group, prior: .prior.mean}'\n",
    .min_words = 1,
    .max_words = 100000,
    .flags = flags,
    .run = run,
};
