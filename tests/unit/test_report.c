// NEEDS: base conf measure train report
/* SPDX-License-Identifier: Apache-2.0 */
/* Reports over made-up runs: which are one group and what it is called, means and intervals, figures, and that no text
 * of strangers gets out of its place. */
#include "report_runs.h"

#include "sower/stats.h"

/* ---- Groups ---- */

static void test_groups_when_seeds_differ_then_one_with_students_interval(void **state)
{
    (void)state;
    make_run("a", 1, 0.40, 0.90, "");
    make_run("b", 2, 0.50, 0.80, "");
    make_run("c", 3, 0.60, 0.70, "");
    sow_report *report = REPORT_OF("a", "b", "c");
    assert_int_equal(sow_report_n_items(report), 4);
    sow_json *group = item(report, 0);
    check_text(group, "group", "es");
    CHECK_NEAR(number(group, "seeds", NULL), 3, 0);
    CHECK_NEAR(number(group, "target", "mean"), 0.5, 1e-12);
    CHECK_NEAR(number(group, "target", "low"), 0.5 - 4.302652729911275 * 0.1 / sqrt(3), 1e-9);
    CHECK_NEAR(number(group, "target", "high"), 0.5 + 4.302652729911275 * 0.1 / sqrt(3), 1e-9);
    check_text(sow_json_get(group, "target"), "interval", "student-t");
    CHECK_NEAR(number(group, "prior", "mean"), 0.8, 1e-12); /* calc alone: mc is apart */
    CHECK_NEAR(number(group, "choice", "mean"), 0.8, 1e-12);
    CHECK_NEAR(number(group, "prior_change", "mean"), -0.2, 1e-12);
    CHECK_NEAR(number(group, "norm_per_law", "mean"), 0.8, 1e-12);
    CHECK_NEAR(number(group, "tokens", "mean"), 2000, 0);
    CHECK_NEAR(number(group, "seconds", "mean"), 5, 1e-12);
    CHECK_NEAR(number(group, "tflop", "mean"), 0.004, 1e-9);
    sow_json_destroy(&group);
    sow_report_close(&report);
    assert_null(report);
}

static void test_groups_when_one_seed_then_wilson_and_newcombe(void **state)
{
    (void)state;
    make_run("one", 1, 0.50, 0.90, "");
    sow_report *report = REPORT_OF("one");
    sow_json *group = item(report, 0);
    check_text(sow_json_get(group, "target"), "interval", "wilson");
    CHECK_NEAR(number(group, "target", "low"), 0.4, 0);
    check_text(sow_json_get(group, "target_change"), "interval", "newcombe");
    CHECK_NEAR(number(group, "target_change", "low"), 0.3 - sqrt(0.1 * 0.1 + 0.09 * 0.09), 1e-12);
    CHECK_NEAR(number(group, "target_change", "high"), 0.3 + sqrt(0.1 * 0.1 + 0.07 * 0.07), 1e-12);
    check_text(sow_json_get(group, "norm"), "interval", "none");
    sow_json_destroy(&group);
    sow_report_close(&report);
}

/* Two seeds at work, of which one has answered the probes: no interval of items in the place of Student's. */
static void test_groups_when_a_number_is_of_fewer_seeds_then_n_says_so(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b"}, *const probes[] = {"null", "{\"task\": \"calc\", \"rows\": 100, "
                                                                              "\"accuracy\": 0.9, \"low\": 0.8, "
                                                                              "\"high\": 1.0}"};
    for (int i = 0; i < 2; i++) {
        char metrics[512];
        make_run(names[i], i + 1, 0.4, 0.9, "");
        write_file(names[i], "status.json", "{\"state\": \"running\", \"step\": 0, \"steps\": 2}");
        write_file(names[i], "items.jsonl", "");
        (void)snprintf(metrics, sizeof metrics,
                       "{\"step\": 0, \"eval\": {\"task\": \"countdown\", \"rows\": 100, \"accuracy\": 0.%d}, "
                       "\"probes\": [%s, null]}\n",
                       2 + i, probes[i]);
        write_file(names[i], "metrics.jsonl", metrics);
    }
    sow_report *report = REPORT_OF("a", "b");
    sow_json *group = item(report, 0);
    sow_words table = {0};
    CHECK_NEAR(number(group, "seeds", NULL), 2, 0);
    check_text(sow_json_get(group, "target"), "interval", "student-t");
    CHECK_NEAR(number(group, "prior", "n"), 1, 0);
    check_text(sow_json_get(group, "prior"), "interval", "none");
    CHECK_OK(sow_report_write_table(report, &table));
    assert_non_null(strstr(table.text, " 90.0 (n 1) "));
    assert_null(strstr(table.text, "(n 2)"));
    char *page = page_of(report);
    assert_non_null(strstr(page, "90.0<small>n = 1</small>"));
    SOW_FREE(&page);
    sow_words_fini(&table);
    sow_json_destroy(&group);
    sow_report_close(&report);
}

/* 100 items of which 5 were gained and 15 lost: the paired interval is the narrower one. */
static void test_groups_when_items_are_known_then_the_change_is_a_paired_one(void **state)
{
    (void)state;
    double low = 0, high = 0;
    make_run("one", 1, 0.50, 0.90, "");
    write_file("one", "metrics.jsonl",
               "{\"step\": 0, \"probes\": [{\"task\": \"calc\", \"rows\": 100, \"accuracy\": 0.6}, {\"task\": \"mc\", "
               "\"accuracy\": 1.0}]}\n{\"step\": 1, \"norm\": 1.0}\n"
               "{\"step\": 2, \"norm\": 1.0, \"probes\": [{\"task\": \"calc\", \"rows\": 100, \"accuracy\": 0.5, "
               "\"lost\": 0.15, \"gained\": 0.05}, {\"task\": \"mc\", \"accuracy\": 1.0}]}\n");
    write_items("one", 2, (const double[]){0.6, 1.0}, (const double[]){0.5, 1.0});
    sow_report *report = REPORT_OF("one");
    sow_json *group = item(report, 0);
    check_text(group, "note", "");
    sow_stats_paired_change(45, 5, 15, 35, &low, &high);
    CHECK_NEAR(number(group, "prior_change", "mean"), -0.1, 1e-12);
    CHECK_NEAR(number(group, "prior_change", "low"), low, 1e-12);
    CHECK_NEAR(number(group, "prior_change", "high"), high, 1e-12);
    assert_true(low < -0.1 && high > -0.1 && high - low < 0.2);
    sow_json_destroy(&group);
    sow_report_close(&report);
}

/* Sigma would tell the sparse group from the others, in every name: the mask does it in one.  The plain group is
 * first. */
static void test_groups_when_settings_differ_then_named_by_the_fewest_that_tell_them_apart(void **state)
{
    (void)state;
    make_run("l2", 1, 0.4, 0.9, "es: {sigma: 0.01, anchor: l2, anchor_lambda: 2}");
    make_run("base", 1, 0.4, 0.9, "es: {sigma: 0.01}");
    make_run("walk", 1, 0.4, 0.9, "es: {sigma: 0.01, shaping: random}");
    make_run("sparse", 1, 0.4, 0.9, "es: {sigma: 0.03, mask: random}");
    make_run("mirror", 1, 0.4, 0.9, "es: {sigma: 0.01, mirrored: true}");
    make_run("threads", 2, 0.4, 0.9, "es: {sigma: 0.01}\ngenerate: {batch: 7}");
    sow_report *report = REPORT_OF("l2", "base", "walk", "sparse", "mirror", "threads");
    static const char *const want[] = {"es", "es, anchor l2", "es, shaping random", "es, mask random", "es, mirrored"};
    assert_int_equal(sow_report_n_items(report), 5 + 6); /* where and how fast is no group */
    for (int64_t i = 0; i < 5; i++) {
        sow_json *group = item(report, i);
        bool is_control = false;
        check_text(group, "group", want[i]);
        assert_true(sow_json_to_bool(sow_json_get(group, "is_control"), &is_control) && is_control == (i == 2));
        CHECK_NEAR(number(group, "seeds", NULL), i == 0 ? 2 : 1, 0);
        sow_json_destroy(&group);
    }
    sow_json *run = item(report, 5 + 5);
    check_text(run, "run", "threads");
    check_text(run, "group", "es");
    sow_json_destroy(&run);
    sow_report_close(&report);
}

/* Probes that only one of two has differ in values that are defaults too: those say nothing.  A name says whose name or
 * rows it means, and the table shows it whole. */
static void test_groups_when_probes_or_tasks_differ_then_named_by_them(void **state)
{
    (void)state;
    static const char *const yamls[] = {
        "method: grpo\ntask: {name: countdown}\nprobes: [{task: calc, rows: 100, every: 2}]\n",
        "method: grpo\ntask: {name: countdown}\nprobes: [{task: calc, rows: 100, every: 2}, {task: rev, rows: 50}]\n",
        "method: grpo\ntask: {name: calc}\nprobes: [{task: calc, rows: 100, every: 2}, {task: rev, rows: 60}]\n"};
    static const char *const names[] = {"a", "b", "c"}, *const want[] = {"grpo, task countdown",
                                                                         "grpo, task countdown, probe 2 rev",
                                                                         "grpo, task calc, probe 2 rev"};
    sow_words table = {0};
    for (int i = 0; i < 3; i++) {
        make_run(names[i], 1, 0.4, 0.9, "");
        write_file(names[i], "config.yaml", yamls[i]);
    }
    sow_report *report = REPORT_OF("a", "b", "c");
    CHECK_OK(sow_report_write_table(report, &table));
    for (int i = 0; i < 3; i++) {
        sow_json *group = item(report, i);
        check_text(group, "group", want[i]);
        sow_json_destroy(&group);
        assert_non_null(strstr(table.text, want[i]));
    }
    sow_words_fini(&table);
    sow_report_close(&report);
    make_run("a", 1, 0.4, 0.9, "es: {tensors: model.layers.0.self_attn.q}");
    make_run("b", 1, 0.4, 0.9, "es: {tensors: model.layers.0.self_attn.k}");
    report = REPORT_OF("a", "b");
    CHECK_OK(sow_report_write_table(report, &table));
    assert_non_null(strstr(table.text, "es, tensors model.layers.0.self_attn.q "));
    assert_non_null(strstr(table.text, "es, tensors model.layers.0.self_attn.k "));
    sow_words_fini(&table);
    sow_report_close(&report);
}

static void test_groups_when_the_same_seed_comes_twice_then_counted_once(void **state)
{
    (void)state;
    make_run("a", 1, 0.4, 0.9, "");
    make_run("b", 1, 0.4, 0.9, "");
    sow_report *report = REPORT_OF("a", "b");
    sow_json *group = item(report, 0);
    CHECK_NEAR(number(group, "seeds", NULL), 1, 0);
    CHECK_NEAR(number(group, "runs", NULL), 2, 0);
    assert_int_equal(sow_report_n_warnings(report), 1);
    assert_non_null(strstr(sow_report_warning(report, 0), "only a is counted"));
    sow_json_destroy(&group);
    sow_report_close(&report);
}

/* The one that came further, wherever it stands; and why it has not ended is told. */
static void test_groups_when_copies_are_unfinished_then_the_longer_one_counts(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b"};
    make_run("a", 1, 0.4, 0.9, "");
    make_run("b", 1, 0.4, 0.9, "");
    for (int i = 0; i < 2; i++)
        write_file(names[i], "status.json",
                   "{\"state\": \"failed\", \"step\": 1, \"steps\": 2, \"reason\": \"rank 3 was lost\"}");
    write_file("a", "metrics.jsonl",
               "{\"step\": 0, \"eval\": {\"task\": \"countdown\", \"rows\": 100, \"accuracy\": 0.2}}\n");
    sow_report *report = REPORT_OF("a", "b");
    sow_json *group = item(report, 0), *run = item(report, 2);
    sow_words table = {0};
    CHECK_NEAR(number(group, "step", NULL), 2, 0);
    assert_non_null(strstr(sow_report_warning(report, 0), "only b is counted"));
    check_text(run, "run", "b");
    check_text(run, "reason", "rank 3 was lost");
    CHECK_OK(sow_report_write_table(report, &table));
    assert_non_null(strstr(table.text, "b: UNFINISHED, failed at step 1 of 2: rank 3 was lost\n"));
    sow_words_fini(&table);
    sow_json_destroy(&run);
    sow_json_destroy(&group);
    sow_report_close(&report);
}

static void test_groups_when_bases_differ_then_warned_and_apart(void **state)
{
    (void)state;
    make_run("a", 1, 0.4, 0.9, "");
    make_run("b", 2, 0.4, 0.9, "");
    write_file("b", "run.json", "{\"model_digest\": \"d1\", \"numerics\": 1}");
    sow_report *report = REPORT_OF("a", "b");
    assert_int_equal(sow_report_n_items(report), 2 + 2);
    assert_int_equal(sow_report_n_warnings(report), 1);
    assert_non_null(strstr(sow_report_warning(report, 0), "different base models"));
    sow_report_close(&report);
}

static void test_groups_when_probes_differ_then_warned(void **state)
{
    (void)state;
    make_run("a", 1, 0.4, 0.9, "");
    make_run("b", 2, 0.4, 0.9, "");
    write_file("b", "metrics.jsonl",
               "{\"step\": 0, \"eval\": {\"accuracy\": 0.2}, \"probes\": [{\"task\": \"rev\"}]}\n");
    sow_report *report = REPORT_OF("a", "b");
    assert_int_equal(sow_report_n_warnings(report), 1);
    assert_non_null(strstr(sow_report_warning(report, 0), "a and b followed different prior tasks"));
    sow_report_close(&report);
}

/* ---- Figures ---- */

static void check_figures(const char *page, const char *const *ids, int n)
{
    for (int i = 0; i < n; i++) {
        char want[96];
        (void)snprintf(want, sizeof want, "<figure id=\"%s\">", ids[i]);
        if (strstr(page, want) == NULL)
            fail_msg("the page has no figure %s", ids[i]);
    }
}

/* Multiple choice alone is no prior: it is shown under its own name. */
static void test_page_when_all_probes_are_choices_then_they_are_drawn_as_such(void **state)
{
    (void)state;
    static const char *const drawn[] = {"plane-choice", "choice-norm", "choice-step", "choice-seconds", "probe-mc"};
    make_run("choice", 1, 0.4, 0.9, "");
    write_file(
        "choice", "metrics.jsonl",
        "{\"step\": 0, \"eval\": {\"accuracy\": 0.2}, \"probes\": [{\"task\": \"mc\", \"accuracy\": 0.9}]}\n"
        "{\"step\": 2, \"norm\": 1.0, \"tokens\": 9, \"eval_s\": 1.0, \"eval\": {\"accuracy\": 0.4}, \"probes\": "
        "[{\"task\": \"mc\", \"accuracy\": 0.8}]}\n");
    sow_report *report = REPORT_OF("choice");
    sow_json *group = item(report, 0);
    assert_int_equal(sow_json_kind_of(sow_json_get(group, "prior")), SOW_JSON_NULL);
    CHECK_NEAR(number(group, "choice", "mean"), 0.8, 0);
    CHECK_NEAR(number(group, "choice_change", "mean"), -0.1, 1e-12);
    char *page = page_of(report);
    if (strstr(page, "gnuplot is not installed") == NULL)
        check_figures(page, drawn, 5);
    assert_null(strstr(page, "<figure id=\"plane\">"));
    assert_null(strstr(page, "<figure id=\"prior-step\">"));
    SOW_FREE(&page);
    sow_json_destroy(&group);
    sow_report_close(&report);
}

/* A file of the folder of figures; free with SOW_FREE. */
static char *figure_file(const char *name)
{
    char path[SOW_TEXT], *text = NULL;
    size_t bytes = 0;
    path_of("figures", name, path);
    CHECK_OK(sow_file_read(path, 16 << 20, &text, &bytes));
    return text;
}

/* The part of the script that makes a figure; free with SOW_FREE. */
static char *script_of(const char *script, const char *id)
{
    char from[96], *out = NULL;
    (void)snprintf(from, sizeof from, "set output '%s.svg'", id);
    const char *begin = strstr(script, from);
    assert_non_null(begin);
    CHECK_OK(sow_alloc_string(&out, begin));
    char *end = strstr(out, "\nreset\n");
    if (end != NULL)
        *end = '\0';
    return out;
}

static void check_words(const char *what, const char *text, const char *has, const char *lacks)
{
    if (strstr(text, has) == NULL || strstr(text, lacks) != NULL)
        fail_msg("%s lacks '%s' or has '%s'", what, has, lacks);
}

/* Intervals on both axes, full lines where dotted ones are another quantity, titles that say of what, legends of what
 * is there. */
static void test_figures_when_alone_then_they_say_what_they_show(void **state)
{
    (void)state;
    char page[SOW_TEXT], figures[SOW_TEXT];
    make_run("walk", 1, 0.4, 0.9, "es: {shaping: random}");
    change_file("walk", "metrics.jsonl", "\"accuracy\": 0.9",
                "\"accuracy\": 0.9, \"lost\": 0.1, \"gained\": 0.0, \"answer_logprob\": -1.0");
    path_of("out", "page.html", page);
    path_of("figures", "x", figures);
    *strrchr(figures, '/') = '\0';
    sow_report *report = REPORT_OF("walk");
    CHECK_OK(sow_report_write_page(report, page, figures));
    if (sow_report_n_warnings(report) > 0) {
        (void)fprintf(stderr, "SKIP: figures, no gnuplot\n");
        sow_report_close(&report);
        return;
    }
    static const struct {
        const char *file, *has, *lacks;
    } files[] = {{"probe-calc.svg", ">calc: accuracy<", ">calc<"},
                 {"items-calc.svg", ">calc: items lost (dotted: gained)<", "stroke-dasharray=\"2 3\""},
                 {"logprob-calc.svg", ">calc: log-probability of the right answers<", ">calc<"},
                 {"norm.svg", ">Distance from the base (dotted: random walk)<", "stroke-dasharray=\"2 3\""},
                 {"target-step.svg", "stroke-dasharray=\"2 3\"", "stroke-dasharray=\"none\""},
                 {"published-norm.svg", ">alpha sqrt(d T / N)<", "GRPO"},
                 {"published-plane.svg", ">theirs: GRPO<", "alpha"}};
    static const struct {
        const char *id, *has, *lacks;
    } scripts[] = {{"plane", "$e0 using 1:2:5:6 with xerrorbars", "xyerrorbars"},
                   {"plane", "$e0 using 1:2:3:4 with yerrorbars", "lw 2 dt solid"},
                   {"prior-norm", "yerrorbars", "xerrorbars"},
                   {"items-calc", "with linespoints lw 2 dt solid", "dt (2,3)"},
                   {"norm", "with linespoints lw 2 dt solid", "dt (2,3)"},
                   {"norm-per-law", "with linespoints lw 2 dt solid", "dt (2,3)"},
                   {"published-norm", "sqrt(1.777e9", "title 'theirs: GRPO'"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *text = figure_file(files[i].file);
        check_words(files[i].file, text, files[i].has, files[i].lacks);
        SOW_FREE(&text);
    }
    char *all = figure_file("figures.gp");
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        char *text = script_of(all, scripts[i].id);
        check_words(scripts[i].id, text, scripts[i].has, scripts[i].lacks);
        SOW_FREE(&text);
    }
    SOW_FREE(&all);
    sow_report_close(&report);
}

/* Sections stand in the page if their data is there. */
static void test_page_when_files_are_there_then_their_figures_are_too(void **state)
{
    (void)state;
    static const char *const always[] = {"plane", "prior-norm", "target-step", "prior-tokens", "probe-calc", "norm"};
    static const char *const more[] = {"kl-target",       "kl-prior",    "prior-kl", "within-0", "same-bf16",
                                       "layers-within-0", "stable-rank", "top-q",    "phases"};
    char path[SOW_TEXT], *csv = NULL;
    size_t bytes = 0;
    make_run("full", 1, 0.4, 0.9, "");
    sow_report *report = REPORT_OF("full");
    char *page = page_of(report);
    bool has_gnuplot = strstr(page, "gnuplot is not installed") == NULL;
    if (!has_gnuplot)
        (void)fprintf(stderr, "SKIP: figures, no gnuplot\n");
    if (has_gnuplot)
        check_figures(page, always, 6);
    assert_null(strstr(page, "<figure id=\"plane-choice\">"));
    assert_null(strstr(page, "kl.jsonl"));
    assert_null(strstr(page, "spectra.jsonl"));
    SOW_FREE(&page);
    sow_report_close(&report);
    write_file(
        "full", "kl.jsonl",
        "{\"step\": 2, \"eval\": {\"task\": \"countdown\", \"kl_exact\": 0.5}, \"probes\": [{\"task\": \"calc\", "
        "\"kl_exact\": 0.25}, {\"task\": \"mc\", \"kl_exact\": 9.0}]}\n");
    write_file(
        "full", "drift.jsonl",
        "{\"step\": 2, \"tau\": [1e-6], \"all\": {\"n\": 9, \"norm\": 4.0, \"relative\": 0.5, \"within\": [0.5], "
        "\"same_bf16\": 0.5, \"same_fp16\": 0.5}, \"kinds\": {\"q\": {\"n\": 9, \"norm\": 1.0, \"within\": "
        "[0.5], \"same_bf16\": 0.5, \"same_fp16\": 0.5}}, \"layers\": [{\"n\": 4, \"within\": [0.5]}, {\"n\": 5, "
        "\"within\": [0.25]}], \"tensors\": {\"secret\": {\"n\": 9}}}\n");
    write_file("full", "spectra.jsonl",
               "{\"step\": 2, \"kinds\": {\"q\": {\"norm\": 2.0, \"stable_rank\": 3.0, \"energy_1\": 0.25, "
               "\"top_share\": [1.0, "
               "0.5]}}}\n");
    char metrics[SOW_TEXT], *text = NULL;
    path_of("full", "metrics.jsonl", metrics);
    CHECK_OK(sow_file_read(metrics, 1 << 20, &text, &bytes));
    sow_words longer = {0};
    const char *at = strstr(text, "\"norm\": 4.0");
    CHECK_OK(sow_words_print(&longer, "%.*s\"phases\": {\"decode\": {\"avg\": 0.5}}, %s", (int)(at - text), text, at));
    write_file("full", "metrics.jsonl", longer.text);
    sow_words_fini(&longer);
    SOW_FREE(&text);
    report = REPORT_OF("full");
    page = page_of(report);
    if (has_gnuplot)
        check_figures(page, more, 9);
    sow_json *group = item(report, 0);
    CHECK_NEAR(number(group, "relative_norm", "mean"), 0.5, 1e-12);
    path_of("out", "all.csv", path);
    CHECK_OK(sow_report_write_csv(report, path));
    CHECK_OK(sow_file_read(path, 1 << 20, &csv, &bytes));
    assert_non_null(strstr(csv, ",2,kl_exact.target,0.5\n"));
    assert_non_null(strstr(csv, ",2,kl_exact.prior,0.25\n")); /* without mc */
    assert_non_null(strstr(csv, ",2,drift.kinds.q.within.0,0.5\n"));
    assert_null(strstr(csv, "secret"));
    SOW_FREE(&csv);
    sow_json_destroy(&group);
    SOW_FREE(&page);
    sow_report_close(&report);
}
/* ---- Text of strangers ---- */

static void test_page_when_names_are_hostile_then_nothing_gets_out_of_its_place(void **state)
{
    (void)state;
    static const char evil[] = "<script>alert(1)<\\/script>' \\\" `id` $(id) @x ; system 'id'\\u0007&amp;";
    static const char folder[] = "x' \"><script>alert(2)`id`\nset output";
    char metrics[2048];
    make_run(folder, 1, 0.4, 0.9, "es: {tensors: \"<script>alert(3)\"}");
    (void)snprintf(
        metrics, sizeof metrics,
        "{\"step\": 0, \"eval\": {\"accuracy\": 0.2}, \"probes\": [{\"task\": \"%s\", \"rows\": 10, \"accuracy\": "
        "1.0}], \"phases\": {\"%s\": {\"avg\": 1.0}}}\n"
        "{\"step\": 2, \"norm\": 1, \"eval\": {\"accuracy\": 0.4}, \"probes\": [{\"task\": \"%s\", \"rows\": 10, "
        "\"accuracy\": 0.5}], \"phases\": {\"%s\": {\"avg\": 1.0}}}\n",
        evil, evil, evil, evil);
    write_file(folder, "metrics.jsonl", metrics);
    write_file(folder, "drift.jsonl",
               "{\"step\": 2, \"tau\": [1e-6], \"all\": {\"n\": 1}, \"kinds\": {\"<script>'`id`\": {\"n\": 1, "
               "\"within\": [0.5], "
               "\"same_bf16\": 0.5, \"same_fp16\": 0.5}}, \"layers\": []}\n");
    write_file(folder, "run.json",
               "{\"model_digest\": \"<script>\", \"cpu\": \"<script>\", \"hosts\": [\"<script>\"]}");
    write_file(folder, "status.json",
               "{\"state\": \"failed\", \"step\": 0, \"steps\": 2, \"reason\": \"<script>\", \"verdict\": \"INVALID\", "
               "\"verdict_reasons\": \"<script>\\u001b[31m\"}");
    sow_report *report = REPORT_OF(folder);
    char *page = page_of(report);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "uid="));
    assert_non_null(strstr(page, "&lt;script&gt;alert(2)"));
    for (const char *c = page; *c != '\0'; c++)
        assert_true((unsigned char)*c >= ' ' || *c == '\n' || *c == '\t');
    sow_words table = {0};
    CHECK_OK(sow_report_write_table(report, &table));
    assert_null(strchr(table.text, '\x1b'));
    sow_words_fini(&table);
    SOW_FREE(&page);
    sow_report_close(&report);
}

static void test_csv_when_texts_are_odd_then_fields_are_quoted(void **state)
{
    (void)state;
    char path[SOW_TEXT], *text = NULL;
    size_t bytes = 0;
    make_run("=1,\"x\"", 4, 0.4, 0.9, "");
    sow_report *report = REPORT_OF("=1,\"x\"");
    path_of("out", "all.csv", path);
    CHECK_OK(sow_report_write_csv(report, path));
    CHECK_OK(sow_file_read(path, 1 << 20, &text, &bytes));
    assert_non_null(strstr(text, "run,group,seed,step,metric,value\n"));
    assert_non_null(strstr(text, "\" =1,\"\"x\"\"\",es,4,2,probes.calc.accuracy,0.90000000000000002\n"));
    assert_non_null(strstr(text, ",4,2,total.tokens,2000\n"));
    assert_non_null(strstr(text, ",4,2,speed,400\n"));
    assert_non_null(strstr(text, ",4,0,prior,1\n"));
    SOW_FREE(&text);
    sow_report_close(&report);
}

static void test_report_without_memory_fails_cleanly(void **state)
{
    (void)state;
    char path[SOW_TEXT], *folders[] = {path};
    sow_code rc = SOW_ENOMEM;
    int64_t before = sow_alloc_live(), n = 0;
    make_run("small", 1, 0.4, 0.9, "");
    CHECK_OK(sow_file_join(top, "small", path, sizeof path));
    while (rc != SOW_OK && ++n < 20000) {
        sow_report *report = NULL;
        sow_words table = {0};
        sow_alloc_fail_at(n);
        rc = sow_report_open(folders, 1, &report);
        if (rc == SOW_OK)
            rc = sow_report_write_table(report, &table);
        sow_alloc_fail_at(0);
        sow_words_fini(&table);
        sow_report_close(&report);
        assert_int_equal(sow_alloc_live(), before);
        assert_true(rc == SOW_OK || rc == SOW_ENOMEM);
    }
    assert_int_equal(rc, SOW_OK);
    assert_true(n > 20);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_when_seeds_differ_then_one_with_students_interval),
        cmocka_unit_test(test_groups_when_one_seed_then_wilson_and_newcombe),
        cmocka_unit_test(test_groups_when_a_number_is_of_fewer_seeds_then_n_says_so),
        cmocka_unit_test(test_groups_when_items_are_known_then_the_change_is_a_paired_one),
        cmocka_unit_test(test_groups_when_settings_differ_then_named_by_the_fewest_that_tell_them_apart),
        cmocka_unit_test(test_groups_when_probes_or_tasks_differ_then_named_by_them),
        cmocka_unit_test(test_groups_when_the_same_seed_comes_twice_then_counted_once),
        cmocka_unit_test(test_groups_when_copies_are_unfinished_then_the_longer_one_counts),
        cmocka_unit_test(test_groups_when_bases_differ_then_warned_and_apart),
        cmocka_unit_test(test_groups_when_probes_differ_then_warned),
        cmocka_unit_test(test_page_when_all_probes_are_choices_then_they_are_drawn_as_such),
        cmocka_unit_test(test_figures_when_alone_then_they_say_what_they_show),
        cmocka_unit_test(test_page_when_files_are_there_then_their_figures_are_too),
        cmocka_unit_test(test_page_when_names_are_hostile_then_nothing_gets_out_of_its_place),
        cmocka_unit_test(test_csv_when_texts_are_odd_then_fields_are_quoted),
        cmocka_unit_test(test_report_without_memory_fails_cleanly),
    };
    return cmocka_run_group_tests_name("report", tests, make_top, check_live_zero);
}
