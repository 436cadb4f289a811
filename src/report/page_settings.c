/* SPDX-License-Identifier: Apache-2.0 */
/* Settings in which groups differ, and the versions and machines that runs were made with. */
#include "report_impl.h"

#include <math.h>
#include <string.h>

/* Whether the first runs of two groups differ in the setting. */
static bool is_different(const report *r, const char *key)
{
    for (int64_t g = 1; g < r->n_groups; g++) {
        const char *a = report_run_setting(&r->runs[r->groups[0].first], key);
        const char *b = report_run_setting(&r->runs[r->groups[g].first], key);
        if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0))
            return true;
    }
    return false;
}

/* Whether a group before `g` has the setting. */
static bool is_listed(const report *r, int64_t g, const char *key)
{
    for (int64_t i = 0; i < g; i++)
        if (report_run_setting(&r->runs[r->groups[i].first], key) != NULL)
            return true;
    return false;
}

static sow_code add_setting(const report *r, const char *key, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<tr><th scope=\"row\"><code>"));
    SOW_TRY(report_html(out, key));
    SOW_TRY(sow_words_print(out, "</code></th>"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        const char *value = report_run_setting(&r->runs[r->groups[g].first], key);
        SOW_TRY(sow_words_print(out, "<td class=\"left%s\" data-label=\"", value == NULL ? " none" : ""));
        SOW_TRY(report_html(out, r->groups[g].name));
        SOW_TRY(sow_words_print(out, "\">"));
        SOW_TRY(value == NULL ? sow_words_print(out, "&ndash;")
                              : report_html(out, value[0] == '\0' ? "(empty)" : value));
        SOW_TRY(sow_words_print(out, "</td>"));
    }
    return sow_words_print(out, "</tr>\n");
}

static sow_code add_different_settings(const report *r, sow_words *out)
{
    SOW_TRY(sow_words_print(
        out, "<div class=\"scroll\"><table class=\"cards\"><caption>Settings in which groups differ, from "
             "config.yaml.</caption><thead><tr><th scope=\"col\">setting</th>"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        SOW_TRY(sow_words_print(out, "<th scope=\"col\" class=\"left\">"));
        SOW_TRY(report_html(out, r->groups[g].name));
        SOW_TRY(sow_words_print(out, "</th>"));
    }
    SOW_TRY(sow_words_print(out, "</tr></thead><tbody>\n"));
    for (int64_t g = 0; g < r->n_groups; g++) {
        const report_run *run = &r->runs[r->groups[g].first];
        for (int64_t i = 0; i < run->n_settings; i++) {
            const char *key = run->settings[i].key;
            if (!is_listed(r, g, key) && !report_setting_is_idle(key) && is_different(r, key))
                SOW_TRY(add_setting(r, key, out));
        }
    }
    return sow_words_print(out, "</tbody></table></div>\n");
}

static sow_code add_hosts(const report_run *run, sow_words *out)
{
    const sow_json *hosts = sow_json_get(run->facts, "hosts");
    const char *last = "";
    for (int64_t i = 0; i < sow_json_size(hosts); i++) {
        const char *host = sow_json_to_string(sow_json_at(hosts, i), NULL);
        if (host == NULL || strcmp(host, last) == 0)
            continue;
        SOW_TRY(sow_words_print(out, "%s", last[0] != '\0' ? ", " : ""));
        SOW_TRY(report_html(out, host));
        last = host;
    }
    return SOW_OK;
}

static const char *const machine_facts[] = {"sower", "commit", "compiler", "cpu",  "kernel",
                                            "blas",  "mpi",    "model",    "dtype"};
static const char *const machine_numbers[] = {"ranks", "nodes", "threads", "numerics"};
enum { N_FACTS = sizeof machine_facts / sizeof *machine_facts };
enum { N_NUMBERS = sizeof machine_numbers / sizeof *machine_numbers };

static bool is_same_machine(const report_run *a, const report_run *b)
{
    for (int i = 0; i < N_FACTS; i++)
        if (strcmp(report_run_fact(a, machine_facts[i]), report_run_fact(b, machine_facts[i])) != 0)
            return false;
    for (int i = 0; i < N_NUMBERS; i++) {
        double x = report_run_number(a, machine_numbers[i]), y = report_run_number(b, machine_numbers[i]);
        if (x != y && (isfinite(x) || isfinite(y)))
            return false;
    }
    const sow_json *hosts = sow_json_get(a->facts, "hosts"), *others = sow_json_get(b->facts, "hosts");
    for (int64_t i = 0; i < sow_json_size(hosts) || i < sow_json_size(others); i++) {
        const char *x = sow_json_to_string(sow_json_at(hosts, i), NULL);
        const char *y = sow_json_to_string(sow_json_at(others, i), NULL);
        if (x == NULL || y == NULL || strcmp(x, y) != 0)
            return false;
    }
    return true;
}

/* The names of the runs like run `first`; none if an earlier run is like it. */
static sow_code add_alike(const report *r, int64_t first, sow_words *out)
{
    for (int64_t i = 0; i < first; i++)
        if (is_same_machine(&r->runs[i], &r->runs[first]))
            return SOW_OK;
    for (int64_t i = first; i < r->n_runs; i++) {
        if (!is_same_machine(&r->runs[i], &r->runs[first]))
            continue;
        SOW_TRY(sow_words_print(out, "%s", i == first ? "" : ", "));
        SOW_TRY(report_html(out, r->runs[i].name));
    }
    return SOW_OK;
}

static sow_code add_machine(const report_run *run, const sow_words *names, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<tr><th scope=\"row\">%s</th>", names->text));
    for (int k = 0; k < N_NUMBERS; k++) {
        char number[32];
        SOW_TRY(sow_words_print(out, "<td data-label=\"%s\">%s</td>", machine_numbers[k],
                                report_number(number, report_run_number(run, machine_numbers[k]), 1, 0)));
    }
    for (int k = 0; k < N_FACTS; k++) {
        SOW_TRY(sow_words_print(out, "<td class=\"left\" data-label=\"%s\">", machine_facts[k]));
        SOW_TRY(report_html(out, report_run_fact(run, machine_facts[k])));
        SOW_TRY(sow_words_print(out, "</td>"));
    }
    SOW_TRY(sow_words_print(out, "<td class=\"left\" data-label=\"hosts\">"));
    SOW_TRY(add_hosts(run, out));
    return sow_words_print(out, "</td></tr>\n");
}

/* Versions and machines, a row for all runs of which they are the same. */
static sow_code add_machines(const report *r, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<div class=\"scroll\"><table class=\"cards\"><caption>Versions and machines, from "
                                 "run.json.</caption><thead><tr><th scope=\"col\">runs</th>"));
    for (int i = 0; i < N_NUMBERS; i++)
        SOW_TRY(sow_words_print(out, "<th scope=\"col\">%s</th>", machine_numbers[i]));
    for (int i = 0; i < N_FACTS; i++)
        SOW_TRY(sow_words_print(out, "<th scope=\"col\" class=\"left\">%s</th>", machine_facts[i]));
    SOW_TRY(sow_words_print(out, "<th scope=\"col\" class=\"left\">hosts</th></tr></thead><tbody>\n"));
    for (int64_t i = 0; i < r->n_runs; i++) {
        sow_words names = {0};
        sow_code rc = add_alike(r, i, &names);
        if (rc == SOW_OK && names.bytes > 0)
            rc = add_machine(&r->runs[i], &names, out);
        sow_words_fini(&names);
        SOW_TRY(rc);
    }
    return sow_words_print(out, "</tbody></table></div>\n");
}

sow_code report_page_settings(const report *r, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "<section><h2>Settings, versions, machines</h2>\n"));
    if (r->n_groups > 1) {
        SOW_TRY(sow_words_print(out, "<details><summary>Settings in which the groups differ</summary>\n"));
        SOW_TRY(add_different_settings(r, out));
        SOW_TRY(sow_words_print(out, "</details>\n"));
    }
    SOW_TRY(sow_words_print(out, "<details><summary>Versions, hosts, CPU, ranks</summary>\n"));
    SOW_TRY(add_machines(r, out));
    return sow_words_print(out, "</details></section>\n");
}
