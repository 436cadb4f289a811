// NEEDS: conf
/* SPDX-License-Identifier: Apache-2.0 */
/* Options written: YAML that reads back to the same bytes, the settings of the ledger's header, and the documents. */
#include "check.h"

#include "sower/file.h"
#include "sower/options.h"
#include "sower/words.h"

static sow_code read_back(const char *yaml, sow_conf **out)
{
    SOW_TRY(sow_conf_create(out));
    return sow_conf_parse(*out, yaml, strlen(yaml), "back.yaml");
}

/* Writes the options, reads that back, and compares all bytes. */
static void check_round_trip(const sow_options *options)
{
    char *text = NULL;
    sow_conf *back = NULL;
    CHECK_OK(sow_conf_write(options, &text));
    if (read_back(text, &back) != SOW_OK)
        fail_msg("%s\n%s", sow_error_text(), text);
    const void *before = options, *after = sow_conf_options(back); /* all bytes count, unused ones too */
    if (memcmp(before, after, sizeof *options) != 0)
        fail_msg("other options came back from\n%s", text);
    sow_conf_destroy(&back);
    SOW_FREE(&text);
}

static void test_write_when_defaults_then_reads_back(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    check_round_trip(sow_conf_options(conf));
    sow_conf_destroy(&conf);
}

static void test_write_when_texts_are_odd_then_reads_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "null",
                                        "~",
                                        "true",
                                        "no",
                                        "1e-3",
                                        "a: b",
                                        "a #b",
                                        "'",
                                        "\"",
                                        "\\",
                                        "\\n",
                                        "a\nb\n",
                                        "\t",
                                        "\r\n",
                                        "- x",
                                        "[x]",
                                        "{prompt}",
                                        "*",
                                        "!x",
                                        "&x",
                                        "%YAML",
                                        "---",
                                        "...",
                                        "\x01\x1f\x7f",
                                        "\xc2\x85",
                                        "\xe2\x80\xa8",
                                        "\xef\xbb\xbf",
                                        "\xef\xbf\xbe",
                                        "\xf0\x9f\x8c\xb1",
                                        "\xc3\xa4\xe4\xb8\xad",
                                        " leading",
                                        "trailing ",
                                        "a\n\n  b",
                                        "x,y",
                                        "@",
                                        "`",
                                        "models/sprout",
                                        "=",
                                        "<<"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char set[SOW_TEXT];
        sow_conf *conf = NULL;
        CHECK_OK(sow_conf_create(&conf));
        (void)snprintf(set, sizeof set, "generate.stop=%s", texts[i]);
        CHECK_OK(sow_conf_set(conf, set));
        assert_string_equal(sow_conf_options(conf)->generate.stop, texts[i]);
        check_round_trip(sow_conf_options(conf));
        sow_conf_destroy(&conf);
    }
}

static void test_write_when_numbers_are_random_then_same_bits(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252U; /* Marsaglia's xorshift */
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    sow_options *o = sow_conf_edit(conf);
    for (int i = 0; i < 300; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        o->es.sigma = ldexp(1 + (double)(x >> 12) * 0x1p-52, (int)(x % 49) - 39);
        o->es.alpha = i % 2 == 0 ? (double)(x % 1000) : 5e-324 * (double)(x % 3);
        o->run.max_hours = (double)(float)o->es.sigma;
        o->task.offset = (int64_t)(x % 1000000000000);
        o->run.seed = (int64_t)(x >> 32);
        check_round_trip(o);
    }
    sow_conf_destroy(&conf);
}

static void test_write_when_probes_then_reads_back(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_set(conf, "probes=[{task: calc, every: 3}, {task: rev, split: train, template: 'a: {prompt}'}]"));
    CHECK_OK(sow_conf_finish(conf, NULL));
    check_round_trip(sow_conf_options(conf));
    sow_conf_destroy(&conf);
}

static sow_code collect(void *context, const char *key, const char *value)
{
    return sow_words_print(context, "%s=%s\n", key, value);
}

static void test_result_settings_when_listed_then_these_and_no_others(void **state)
{
    (void)state;
    static const char expected[] =
        "method=es\nmodel.dtype=auto\nrun.seed=1\nla.backend=exact\nes.population=30\nes.sigma=0.001\nes.alpha=0.0005\n"
        "es.noise=gaussian\nes.mirrored=false\nes.tensors=*\nes.batch=0\nes.shaping=zscore\nes.kl_beta=0\n"
        "es.retention=0\nes.retention_tasks=calc,eval,rev,sort,count\nes.mask=none\nes.mask_density=0.1\nes.anchor="
        "none\n"
        "es.anchor_lambda=0\ngenerate.max_new_tokens=0\ngenerate.chat=false\ngenerate.stop=\ntask.name=\ntask.form="
        "paper\n"
        "task.split=train\ntask.seed=1\ntask.rows=200\ntask.offset=0\ntask.template=\ntask.match=exact\ntask.numbers_"
        "min=3\n"
        "task.numbers_max=4\ntask.operand_max=0\n";
    sow_conf *conf = NULL;
    sow_words got = {0};
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_result_settings(sow_conf_options(conf), collect, &got));
    assert_string_equal(got.text, expected);
    sow_words_fini(&got);
    sow_conf_destroy(&conf);
}

static sow_code refuse(void *context, const char *key, const char *value)
{
    (void)value;
    (*(int *)context)++;
    return strcmp(key, "run.seed") == 0 ? SOW_ESTOP : SOW_OK;
}

static void test_result_settings_when_caller_stops_then_code_is_passed_on(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    int calls = 0;
    CHECK_OK(sow_conf_create(&conf));
    assert_int_equal(sow_conf_result_settings(sow_conf_options(conf), refuse, &calls), SOW_ESTOP);
    assert_int_equal(calls, 3);
    sow_conf_destroy(&conf);
}

/* "key=value" of what is no default, with a ! where the result depends on it. */
static sow_code collect_changed(void *context, const sow_setting *s)
{
    if (strcmp(s->value, s->default_value) == 0)
        return SOW_OK;
    return sow_words_print(context, "%s=%s%s\n", s->key, s->value, s->is_free ? "" : "!");
}

static void test_settings_when_some_are_no_defaults_then_these_with_probes_and_without_other_methods(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    sow_words got = {0};
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_set(conf, "es.sigma=0.5"));
    CHECK_OK(sow_conf_set(conf, "grpo.kl=0.5"));
    CHECK_OK(sow_conf_set(conf, "adamw.beta1=0.5"));
    CHECK_OK(sow_conf_set(conf, "run.steps=7"));
    CHECK_OK(sow_conf_set(conf, "probes=[{task: calc}, {task: rev, every: 3}]"));
    CHECK_OK(sow_conf_settings(sow_conf_options(conf), collect_changed, &got));
    assert_string_equal(got.text, "run.steps=7\nes.sigma=0.5!\nprobes[0].task=calc!\nprobes[1].task=rev!\n"
                                  "probes[1].every=3\n");
    sow_words_clear(&got);
    CHECK_OK(sow_conf_set(conf, "method=grpo"));
    CHECK_OK(sow_conf_settings(sow_conf_options(conf), collect_changed, &got));
    assert_non_null(strstr(got.text, "method=grpo!\nrun.steps=7\ngrpo.kl=0.5!\nadamw.beta1=0.5!\n"));
    sow_words_fini(&got);
    sow_conf_destroy(&conf);
}

/* What a function writes, as text.  Static buffer. */
typedef void (*writes)(FILE *to);
static const char *captured(writes write)
{
    static char text[1 << 17];
    FILE *to = tmpfile();
    assert_non_null(to);
    write(to);
    rewind(to);
    size_t n = fread(text, 1, sizeof text - 1, to);
    assert_true(n > 0 && n < sizeof text - 1);
    text[n] = '\0';
    assert_int_equal(fclose(to), 0);
    return text;
}

/* Every row of a table has as many unescaped bars as its head. */
static void test_doc_when_written_then_tables_are_whole(void **state)
{
    (void)state;
    const char *text = captured(sow_conf_write_doc);
    int n_rows = 0;
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL) {
        int bars = 0;
        if (*line != '|')
            continue;
        for (const char *p = line; *p != '\n'; p++)
            bars += *p == '|' && p[-1] != '\\';
        assert_int_equal(bars, 7);
        n_rows++;
    }
    assert_true(n_rows > 80);
    assert_non_null(strstr(text, "| `sigma` | `1e-3` | 1.0e-12 to 1000 |  | yes |"));
    assert_non_null(strstr(text, "| `threads` | `0` | 0 to 4096, whole |  | no |"));
    assert_non_null(strstr(text, "## `probes`"));
    assert_non_null(strstr(text, "| `split` | `test` | train, test |  | no |"));
}

static void test_doc_when_example_is_read_then_options(void **state)
{
    (void)state;
    static const char fence[] = "```yaml\n";
    const char *text = strstr(captured(sow_conf_write_doc), fence);
    assert_non_null(text);
    text += strlen(fence);
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_parse(conf, text, (size_t)(strstr(text, "```") - text), "example"));
    CHECK_OK(sow_conf_finish(conf, NULL));
    assert_int_equal(sow_conf_options(conf)->n_probes, 2);
    sow_conf_destroy(&conf);
}

static void test_doc_when_compared_then_committed_file_is_the_same(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    CHECK_OK(sow_file_read(SOW_SOURCE_DIR "/docs/CONFIG.md", 1 << 20, &text, &bytes));
    if (strcmp(text, captured(sow_conf_write_doc)) != 0)
        fail_msg("docs/CONFIG.md is old: tools/check_doc SOWER --write");
    SOW_FREE(&text);
}

static void test_keys_when_written_then_each_can_be_described(void **state)
{
    (void)state;
    char key[64];
    const char *text = captured(sow_conf_write_keys), *near = NULL;
    FILE *to = fopen("/dev/null", "w");
    assert_non_null(to);
    int n = 0;
    for (const char *line = text; *line != '\0'; line = strchr(line, '\n') + 1, n++) {
        (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(line, " "), line);
        if (!sow_conf_describe(to, key, &near))
            fail_msg("'%s' is listed and not known", key);
    }
    assert_true(n > 70);
    assert_true(sow_conf_describe(to, "es", &near) && sow_conf_describe(to, "probes", &near) &&
                sow_conf_describe(to, "probes.every", &near));
    assert_false(sow_conf_describe(to, "es.sigmaa", &near));
    assert_string_equal(near, "es.sigma");
    assert_false(sow_conf_describe(to, "", &near) || sow_conf_describe(to, "qqqqqqqqq", &near));
    assert_null(near);
    assert_int_equal(fclose(to), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_when_defaults_then_reads_back),
        cmocka_unit_test(test_write_when_texts_are_odd_then_reads_back),
        cmocka_unit_test(test_write_when_numbers_are_random_then_same_bits),
        cmocka_unit_test(test_write_when_probes_then_reads_back),
        cmocka_unit_test(test_result_settings_when_listed_then_these_and_no_others),
        cmocka_unit_test(test_result_settings_when_caller_stops_then_code_is_passed_on),
        cmocka_unit_test(test_settings_when_some_are_no_defaults_then_these_with_probes_and_without_other_methods),
        cmocka_unit_test(test_doc_when_written_then_tables_are_whole),
        cmocka_unit_test(test_doc_when_example_is_read_then_options),
        cmocka_unit_test(test_doc_when_compared_then_committed_file_is_the_same),
        cmocka_unit_test(test_keys_when_written_then_each_can_be_described),
    };
    return cmocka_run_group_tests_name("conf_write", tests, NULL, check_live_zero);
}
