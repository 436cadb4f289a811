// NEEDS: base conf measure train report
/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a run: files that are broken, numbers that are missing, and such as do not agree. */
#include "report_runs.h"

static void check_run(const char *verdict, const char *reason)
{
    make_run("good", 2, 0.4, 0.9, "");
    sow_report *report = REPORT_OF("bad", "good");
    sow_json *run = item(report, sow_report_n_items(report) - 2);
    check_text(run, "run", "bad");
    check_text(run, "verdict", verdict);
    check_has(run, "found", reason);
    char *page = page_of(report), tag[128];
    (void)snprintf(tag, sizeof tag, "<li><span class=\"tag %s\">%s</span> bad ", verdict, verdict);
    if ((strstr(page, tag) != NULL) != (strcmp(verdict, "VALID") != 0))
        fail_msg("the page tells of %s in its list, or does not: %s", verdict, tag);
    SOW_FREE(&page);
    sow_json_destroy(&run);
    sow_report_close(&report);
}

/* A run of which one thing is changed: it is INVALID, and was not before. */
static void check_change(const char *settings, const char *file, const char *from, const char *to, const char *reason)
{
    static const char kl[] = "{\"step\": 2, \"eval\": {\"task\": \"countdown\", \"kl_exact\": 0.5}, \"probes\": "
                             "[{\"task\": \"calc\", \"kl_exact\": 0.2}, {\"task\": \"mc\", \"kl_exact\": 0.1}]}\n";
    make_run("bad", 1, 0.4, 0.9, settings);
    write_file("bad", "kl.jsonl", kl);
    write_file("bad", "spectra.jsonl", "{\"step\": 2, \"kinds\": {\"q\": {\"norm\": 2.0}}}\n");
    check_run("VALID", "");
    if (from == NULL)
        write_file("bad", file, to);
    else
        change_file("bad", file, from, to);
    check_run("INVALID", reason);
}

/* Values are taken away, whole lines, whole files, and changed. */
static void test_run_when_what_was_planned_is_missing_or_changed_then_invalid(void **state)
{
    (void)state;
    static const char more[] = "measure: {kl_rows: 5, spectra: true}";
    check_change("", "metrics.jsonl", "\"accuracy\": 0.4", "\"accuracy\": null", "step 2: eval is missing");
    check_change("", "metrics.jsonl", "\"eval\"", "\"evil\"", "metrics.jsonl: step 2: eval is missing");
    check_change("", "metrics.jsonl", "\"accuracy\": 0.2", "\"accuracy\": null", "step 0: eval is missing");
    check_change("", "metrics.jsonl", "\"accuracy\": 0.4", "\"accuracy\": 0.5",
                 "step 2: accuracy of eval is 0.5, but items.jsonl has 0.4");
    check_change("", "metrics.jsonl", "\"accuracy\": 0.9", "\"accuracy\": 0.95",
                 "step 2: accuracy of calc is 0.95, but items.jsonl has 0.9");
    check_change("", "items.jsonl", NULL, "", "items.jsonl: step 0: eval is missing");
    check_change("", "items.jsonl", "{\"step\": 2", "{\"step\": 3", "items.jsonl: step 2: eval is missing");
    check_change("", "items.jsonl", "\"right\"", "\"wrong\"", "items.jsonl: step 2: mc is missing");
    check_change("", "items.jsonl", "\"items\"", "\"atoms\"", "items.jsonl: step 2: the line is not whole");
    check_change("", "drift.jsonl", NULL, "", "drift.jsonl: step 2: the line is missing");
    check_change("", "drift.jsonl", "\"norm\": 4.0", "\"norm\": null", "drift.jsonl: step 2: the line is not whole");
    check_change(more, "kl.jsonl", NULL, "", "kl.jsonl: step 2: the line is missing");
    check_change(more, "kl.jsonl", "\"kl_exact\": 0.2", "\"kl_exact\": null",
                 "kl.jsonl: step 2: the line is not whole");
    check_change(more, "kl.jsonl", "\"eval\"", "\"evil\"", "kl.jsonl: step 2: the line is not whole");
    check_change(more, "spectra.jsonl", NULL, "", "spectra.jsonl: step 2: the line is missing");
    check_change(more, "spectra.jsonl", "\"kinds\"", "\"kings\"", "spectra.jsonl: step 2: the line is not whole");
    check_change("", "status.json", "\"verdict\": \"VALID\", ", "", "status.json: verdict");
}

static void test_run_when_a_file_is_broken_then_invalid_with_one_reason(void **state)
{
    (void)state;
    char path[SOW_TEXT], *text = NULL;
    size_t bytes = 0;
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "metrics.jsonl", "{\"step\": 0}\n{\"step\": 1, \"norm\"\n{\"step\": 2}\n");
    check_run("INVALID", "metrics.jsonl:2:");
    write_file("bad", "metrics.jsonl", "{\"step\": 1}\n{\"step\": 0}\n");
    check_run("INVALID", "metrics.jsonl:2: step: 0 comes after 1");
    write_file("bad", "metrics.jsonl", "");
    check_run("INVALID", "metrics.jsonl: has no line");
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "config.yaml", "es: {sigmo: 1}\n");
    check_run("INVALID", "es.sigmo");
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "run.json", "{");
    check_run("INVALID", "run.json");
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "drift.jsonl", "{\"step\": 2, \"all\": {\"n\": 1, \"norm\": 2}}\n{\"st");
    check_run("INVALID", "drift.jsonl: the last line is torn");
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "drift.jsonl", "");
    path_of("bad", "ledger.jsonl", path);
    CHECK_OK(sow_file_read(path, 1 << 20, &text, &bytes));
    *strstr(text, "0x1p-1") = '1';
    CHECK_OK(sow_file_write(path, text, bytes));
    SOW_FREE(&text);
    check_run("INVALID", "ledger.jsonl");
}

static void test_run_when_config_is_not_what_was_run_then_invalid(void **state)
{
    (void)state;
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "config.yaml",
               "model: {path: base}\nrun: {seed: 1, steps: 2}\ntask: {name: countdown}\nes: {sigma: 0.5}\n"
               "probes: [{task: calc, rows: 100, every: 2}, {task: mc, rows: 100, every: 2}]\n");
    check_run("INVALID", "es.sigma is 0.5, but the ledger was made with 0.001");
}

static void test_run_when_a_planned_probe_is_missing_then_invalid_and_not_counted(void **state)
{
    (void)state;
    make_run("good", 2, 0.4, 0.9, "");
    make_run("bad", 1, 0.4, 0.9, "");
    write_file(
        "bad", "metrics.jsonl",
        "{\"step\": 0, \"eval\": {\"accuracy\": 0.2}, \"probes\": [{\"task\": \"calc\", \"accuracy\": 1.0}, {\"task\": "
        "\"mc\", \"accuracy\": 1.0}]}\n{\"step\": 1, \"norm\": 1.0}\n"
        "{\"step\": 2, \"norm\": 1.0, \"eval\": {\"accuracy\": 0.9}, \"probes\": [null, {\"task\": \"mc\", "
        "\"accuracy\": 1.0}]}\n");
    sow_report *report = REPORT_OF("bad", "good");
    sow_json *group = item(report, 0), *run = item(report, 1);
    check_has(run, "found", "calc is missing");
    CHECK_NEAR(number(group, "seeds", NULL), 1, 0);
    CHECK_NEAR(number(group, "target", "mean"), 0.4, 0);
    sow_json_destroy(&run);
    sow_json_destroy(&group);
    sow_report_close(&report);
}

static void test_run_when_still_at_work_then_unfinished_and_shown_as_far_as_it_is(void **state)
{
    (void)state;
    make_run("bad", 1, 0.4, 0.9, "");
    write_file("bad", "status.json", "{\"state\": \"running\", \"step\": 0, \"steps\": 2}");
    write_file("bad", "metrics.jsonl",
               "{\"step\": 0, \"eval\": {\"accuracy\": 0.2}, \"probes\": [{\"task\": \"calc\", \"accuracy\": 1.0}, "
               "null]}\n{\"ste");
    write_file("bad", "items.jsonl", "");
    sow_report *report = REPORT_OF("bad");
    sow_json *group = item(report, 0), *run = item(report, 1);
    check_text(run, "verdict", "UNFINISHED");
    check_text(run, "found", "");
    check_text(group, "note", "unfinished");
    CHECK_NEAR(number(group, "target", "mean"), 0.2, 0);
    CHECK_NEAR(number(group, "step", NULL), 0, 0);
    sow_json_destroy(&run);
    sow_json_destroy(&group);
    sow_report_close(&report);
}

static void test_open_when_a_folder_is_no_run_then_refused(void **state)
{
    (void)state;
    char *folders[] = {top};
    sow_report *report = NULL;
    CHECK_FAILS(sow_report_open(folders, 1, &report), SOW_EIO, "expected the folder of a run");
    write_file("odd", "status.json", "{\"state\": \"asleep\"}");
    char path[SOW_TEXT];
    CHECK_OK(sow_file_join(top, "odd", path, sizeof path));
    folders[0] = path;
    CHECK_FAILS(sow_report_open(folders, 1, &report), SOW_EFORMAT, "asleep");
    assert_null(report);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_when_a_file_is_broken_then_invalid_with_one_reason),
        cmocka_unit_test(test_run_when_config_is_not_what_was_run_then_invalid),
        cmocka_unit_test(test_run_when_a_planned_probe_is_missing_then_invalid_and_not_counted),
        cmocka_unit_test(test_run_when_what_was_planned_is_missing_or_changed_then_invalid),
        cmocka_unit_test(test_run_when_still_at_work_then_unfinished_and_shown_as_far_as_it_is),
        cmocka_unit_test(test_open_when_a_folder_is_no_run_then_refused),
    };
    return cmocka_run_group_tests_name("report_runs", tests, make_top, check_live_zero);
}
