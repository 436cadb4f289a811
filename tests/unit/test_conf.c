// NEEDS: conf
/* SPDX-License-Identifier: Apache-2.0 */
/* Options from files and --set: what is read, and the one line that says what is wrong. */
#include "check.h"

#include "sower/options.h"
#include "sower/words.h"

/* Parses `yaml` as t.yaml, applies `set` (may be NULL), finishes with what `run` requires if is_strict. */
static sow_code gather(const char *yaml, const char *set, bool is_strict, sow_conf **out)
{
    static const char *const required[] = {"model.path", "task.name", NULL};
    sow_conf *conf = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_conf_create(&conf));
    SOW_TRY_OR(rc, sow_conf_parse(conf, yaml, strlen(yaml), "t.yaml"));
    if (set != NULL)
        SOW_TRY_OR(rc, sow_conf_set(conf, set));
    SOW_TRY_OR(rc, sow_conf_finish(conf, is_strict ? required : NULL));
    *out = conf;
    return SOW_OK;
done:
    sow_conf_destroy(&conf);
    return rc;
}

/* Text and set as above, and the whole message. */
typedef struct wrong_case {
    const char *yaml, *set, *message;
} wrong_case;

static void check_wrong(const wrong_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sow_conf *conf = NULL;
        sow_code rc = gather(cases[i].yaml, cases[i].set, false, &conf);
        if (rc != SOW_ECONF || conf != NULL || strcmp(sow_error_text(), cases[i].message) != 0)
            fail_msg("case %zu: code %d\n  got      %s\n  expected %s", i, (int)rc, sow_error_text(), cases[i].message);
    }
}
#define CHECK_WRONG(cases) check_wrong((cases), sizeof(cases) / sizeof(cases)[0])

static void test_parse_when_empty_then_defaults(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "\n", "# nothing\n", "---\n", "--- ~\n", "{}\n", "\xef\xbb\xbf# a mark in front\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        sow_conf *conf = NULL;
        CHECK_OK(gather(texts[i], NULL, false, &conf));
        const sow_options *o = sow_conf_options(conf);
        assert_string_equal(o->method, "es");
        assert_int_equal(o->es.population, 30);
        assert_true(o->es.sigma == 1e-3 && o->es.alpha == 5e-4);
        assert_false(o->es.mirrored);
        assert_string_equal(o->task.form, "paper");
        assert_int_equal(o->n_probes, 0);
        assert_false(sow_conf_is_given(conf, "es.sigma"));
        sow_conf_destroy(&conf);
    }
}

static void test_parse_when_all_kinds_then_values(void **state)
{
    (void)state;
    static const char yaml[] = "method: es\n"
                               "model: {path: 'a b', dtype: bf16}\n"
                               "run:\n  seed: 4294967295\n  steps: 1e3\n  deadline_s: 0.5\n  out: \"x\\ny\"\n"
                               "es: {mirrored: yes, population: 8, sigma: .5}\n"
                               "task: {name: countdown, template: 'Q: {prompt} A:'}\n"
                               "probes:\n- task: calc\n- {task: rev, rows: 7, every: 0, split: train}\n";
    sow_conf *conf = NULL;
    CHECK_OK(gather(yaml, NULL, true, &conf));
    const sow_options *o = sow_conf_options(conf);
    assert_string_equal(o->model.path, "a b");
    assert_string_equal(o->model.dtype, "bf16");
    assert_int_equal(o->run.seed, 4294967295);
    assert_int_equal(o->run.steps, 1000);
    assert_true(o->run.deadline_s == 0.5 && o->es.sigma == 0.5);
    assert_string_equal(o->run.out, "x\ny");
    assert_true(o->es.mirrored);
    assert_string_equal(o->task.template, "Q: {prompt} A:");
    assert_int_equal(o->n_probes, 2);
    assert_string_equal(o->probes[0].task.name, "calc");
    assert_string_equal(o->probes[0].task.split, "test");
    assert_int_equal(o->probes[0].task.rows, 200);
    assert_int_equal(o->probes[0].every, 10);
    assert_string_equal(o->probes[1].task.split, "train");
    assert_int_equal(o->probes[1].task.rows, 7);
    assert_int_equal(o->probes[1].every, 0);
    assert_true(sow_conf_is_given(conf, "run.seed") && sow_conf_is_given(conf, "probes"));
    assert_true(sow_conf_is_given(conf, "probes[1].rows") && !sow_conf_is_given(conf, "probes[0].rows"));
    assert_false(sow_conf_is_given(conf, "probes[2].rows") || sow_conf_is_given(conf, "probes[x]"));
    assert_false(sow_conf_is_given(conf, "run.threads") || sow_conf_is_given(conf, "no.such"));
    sow_conf_destroy(&conf);
}

static void test_parse_when_key_is_unknown_then_nearest_is_named(void **state)
{
    (void)state;
    static const wrong_case cases[] = {
        {"es:\n  sigmaa: 1\n", NULL,
         "t.yaml:2: es.sigmaa: the key is unknown, expected a key of es (see sower config); did you mean es.sigma?"},
        {"sigma: 1\n", NULL,
         "t.yaml:1: sigma: the key is unknown, expected a section (see sower config); did you mean es.sigma?"},
        {"es: {seed: 1}\n", NULL,
         "t.yaml:1: es.seed: the key is unknown, expected a key of es (see sower config); did you mean run.seed?"},
        {"\nmodle: {path: x}\n", NULL,
         "t.yaml:2: modle: the key is unknown, expected a section (see sower config); did you mean model?"},
        {"zzzzzzzz: 1\n", NULL, "t.yaml:1: zzzzzzzz: the key is unknown, expected a section (see sower config)"},
        {"es.sigma: 1\n", NULL, "t.yaml:1: es.sigma: the key is written with a dot, expected 'sigma: ...' under 'es:'"},
        {"grpoo: {kl: 1}\n", NULL,
         "t.yaml:1: grpoo: the key is unknown, expected a section (see sower config); did you mean grpo?"},
        {"probes:\n- {task: calc, row: 5}\n", NULL,
         "t.yaml:2: probes[0].row: the key is unknown, expected a key of probes[0] (see sower config); did you mean "
         "rows?"},
        {"probes:\n- {task: calc}\n- {name: calc}\n", NULL,
         "t.yaml:3: probes[1].name: the key is unknown, expected a key of probes[1] (see sower config); did you mean "
         "task?"},
        {"<<: {a: b}\n", NULL, "t.yaml:1: <<: the key is unknown, expected a section (see sower config)"},
        {"\"a\\nb\\0c\": 1\n", NULL,
         "t.yaml:1: a\\x0ab\\x00c: the key is unknown, expected a section (see sower config)"},
        {"", "es.sigmaa=1",
         "--set: es.sigmaa: the key is unknown, expected one that sower config lists; did you mean es.sigma?"},
        {"", "esigma=1",
         "--set: esigma: the key is unknown, expected one that sower config lists; did you mean es.sigma?"},
        {"", "es=1", "--set: es: the key is a section, expected one of its keys: es.KEY=VALUE"},
        {"", "probes[0].rows=1",
         "--set: probes[0].rows: the key is part of a list, expected the whole list: probes=[{task: calc, rows: 200}]"},
        {"", "es.sigma", "--set: es.sigma: no value is given, expected KEY=VALUE"},
        {"", "=1", "--set: '': the key is unknown, expected one that sower config lists"},
    };
    CHECK_WRONG(cases);
}

static void test_parse_when_value_is_wrong_then_expected_is_named(void **state)
{
    (void)state;
    static const wrong_case cases[] = {
        {"es:\n  population: 1\n", NULL,
         "t.yaml:2: es.population: 1 is out of range, expected a whole number from 2 to 1048576"},
        {"es: {population: 1e30}\n", NULL,
         "t.yaml:1: es.population: 1e30 is out of range, expected a whole number from 2 to 1048576"},
        {"es: {population: 99999999999999999999}\n", NULL,
         "t.yaml:1: es.population: 99999999999999999999 is out of range, expected a whole number from 2 to 1048576"},
        {"es: {population: 30.5}\n", NULL,
         "t.yaml:1: es.population: 30.5 is a fraction, expected a whole number from 2 to 1048576"},
        {"es: {population: many}\n", NULL,
         "t.yaml:1: es.population: many is not a finite number, expected a whole number from 2 to 1048576"},
        {"es: {population: 0x10}\n", NULL,
         "t.yaml:1: es.population: 0x10 is not a finite number, expected a whole number from 2 to 1048576"},
        {"es: {sigma: nan}\n", NULL,
         "t.yaml:1: es.sigma: nan is not a finite number, expected a number from 1.0e-12 to 1000"},
        {"es: {sigma: 1e999}\n", NULL,
         "t.yaml:1: es.sigma: 1e999 is not a finite number, expected a number from 1.0e-12 to 1000"},
        {"es: {sigma: 0}\n", NULL, "t.yaml:1: es.sigma: 0 is out of range, expected a number from 1.0e-12 to 1000"},
        {"es: {sigma: }\n", NULL, "t.yaml:1: es.sigma: nothing is given, expected a number from 1.0e-12 to 1000"},
        {"run: {out: ~}\n", NULL, "t.yaml:1: run.out: nothing is given, expected a text of at most 511 bytes"},
        {"es: {mirrored: maybe}\n", NULL,
         "t.yaml:1: es.mirrored: maybe is neither true nor false, expected true or false"},
        {"es: {mirrored: 1}\n", NULL, "t.yaml:1: es.mirrored: 1 is neither true nor false, expected true or false"},
        {"es: {shaping: zscor}\n", NULL,
         "t.yaml:1: es.shaping: zscor is not a choice, expected one of zscore, centered_rank, none, random; did "
         "you mean zscore?"},
        {"es: {sigma: {a: 1}}\n", NULL,
         "t.yaml:1: es.sigma: a mapping is given, expected a number from 1.0e-12 to 1000"},
        {"es: {sigma: [1]}\n", NULL, "t.yaml:1: es.sigma: a list is given, expected a number from 1.0e-12 to 1000"},
        {"es: 5\n", NULL, "t.yaml:1: es: 5 is a single value, expected a mapping 'key: value'"},
        {"es:\nrun: {seed: 1}\n", NULL, "t.yaml:1: es: nothing is given, expected a mapping 'key: value'"},
        {"es: [1]\n", NULL, "t.yaml:1: es: a list is given, expected a mapping 'key: value'"},
        {"probes: {task: calc}\n", NULL, "t.yaml:1: probes: a mapping is given, expected a list of mappings"},
        {"probes: [calc]\n", NULL,
         "t.yaml:1: probes[0]: a value is given, expected a mapping like {task: calc, rows: 200}"},
        {"probes:\n- {task: calc}\n- {task: calc, rows: 0}\n", NULL,
         "t.yaml:3: probes[1].rows: 0 is out of range, expected a whole number from 1 to 1000000000"},
        {"- 1\n", NULL, "t.yaml:1: document: a list is given, expected a mapping of sections"},
        {"just text\n", NULL, "t.yaml:1: document: a value is given, expected a mapping of sections"},
        {"method: ess\n", NULL,
         "t.yaml:1: method: ess is not a choice, expected one of es, grpo, sft; did you mean es?"},
        {"run: {out: \"a\\0b\"}\n", NULL,
         "t.yaml:1: run.out: a\\x00b holds a NUL, expected a text of at most 511 bytes"},
        {"", "es.population=1", "--set: es.population: 1 is out of range, expected a whole number from 2 to 1048576"},
        {"", "es.sigma=", "--set: es.sigma: '' is not a finite number, expected a number from 1.0e-12 to 1000"},
        {"", "es.sigma= 1", "--set: es.sigma:  1 is not a finite number, expected a number from 1.0e-12 to 1000"},
        {"", "run.out=\xff", "--set: run.out: ? is not UTF-8, expected a text of at most 511 bytes"},
        {"", "probes=calc", "--set: probes: calc is a single value, expected a list like [{task: calc, rows: 200}]"},
        {"", "probes=", "--set: probes: nothing is given, expected a list"},
        {"", "probes=[{task: calc, rows: x}]",
         "--set: probes[0].rows: x is not a finite number, expected a whole number from 1 to 1000000000"},
    };
    CHECK_WRONG(cases);
}

static void test_parse_when_key_is_given_twice_then_fails(void **state)
{
    (void)state;
    static const wrong_case cases[] = {
        {"es:\n  sigma: 1\n  sigma: 1\n", NULL,
         "t.yaml:3: es.sigma: the key is given twice (first in line 2), expected once"},
        {"es: {sigma: 1}\nes: {alpha: 1}\n", NULL,
         "t.yaml:2: es: the key is given twice (first in line 1), expected once"},
        {"method: es\nmethod: es\n", NULL, "t.yaml:2: method: the key is given twice (first in line 1), expected once"},
        {"probes: []\nprobes: []\n", NULL, "t.yaml:2: probes: the key is given twice (first in line 1), expected once"},
        {"probes: [{task: a,\n  task: b}]\n", NULL,
         "t.yaml:2: probes[0].task: the key is given twice (first in line 1), expected once"},
    };
    CHECK_WRONG(cases);
}

static void test_parse_when_yaml_is_odd_then_refused(void **state)
{
    (void)state;
    static const wrong_case cases[] = {
        {"es: &a {sigma: 1}\n", NULL,
         "t.yaml:1: es: an anchor (&name) is not allowed here, expected a mapping 'key: value'"},
        {"es: {sigma: *a}\n", NULL,
         "t.yaml:1: es.sigma: an alias (*name) is not allowed here, expected a number from 1.0e-12 to 1000"},
        {"es: {sigma: !!float 1}\n", NULL,
         "t.yaml:1: es.sigma: a tag (!name) is not allowed here, expected a number from 1.0e-12 to 1000"},
        {"!!map {}\n", NULL, "t.yaml:1: document: a tag (!name) is given, expected a mapping of sections"},
        {"{}\n---\n{}\n", NULL, "t.yaml:2: document: a second one is given, expected one"},
        {"? {a: b}\n: c\n", NULL, "t.yaml:1: document: a mapping is not allowed as a key, expected 'key: value'"},
        {"es: {&x sigma: 1}\n", NULL, "t.yaml:1: es: an anchor (&name) is not allowed as a key, expected 'key: value'"},
        {"es:\n  sigma: [1\n", NULL, "t.yaml:2: es.sigma: a list is given, expected a number from 1.0e-12 to 1000"},
        {"es:\n\t sigma: 1\n", NULL,
         "t.yaml:2: invalid YAML: found character that cannot start any token while scanning for the next token"},
        {"es: {sigma: 1\n", NULL,
         "t.yaml:2: invalid YAML: did not find expected ',' or '}' while parsing a flow mapping"},
        {"run:\n  out: \"\xff\"\n", NULL, "t.yaml:2: invalid YAML: the line is not UTF-8, expected UTF-8"},
        {"run:\n  out: \x01\n", NULL, "t.yaml:2: invalid YAML: control characters are not allowed"},
    };
    CHECK_WRONG(cases);
}

static void test_parse_when_nested_deeply_then_ends_at_once(void **state)
{
    (void)state;
    enum { DEEP = 1 << 20 };
    char *text = malloc(DEEP + 1);
    assert_non_null(text);
    memset(text, '[', DEEP);
    text[DEEP] = '\0';
    sow_conf *conf = NULL;
    CHECK_FAILS(gather(text, NULL, false, &conf), SOW_ECONF, "t.yaml:1: document: a list is given");
    memcpy(text, "es: {a", 6);
    CHECK_FAILS(gather(text, NULL, false, &conf), SOW_ECONF, "t.yaml:1: ");
    memset(text, 'a', DEEP);
    memcpy(text, "es: {noise: ", 12);
    text[DEEP - 1] = '}';
    CHECK_FAILS(gather(text, NULL, false, &conf), SOW_ECONF,
                "is too long (1048563 bytes), expected a text of at most 511");
    assert_true(strlen(sow_error_text()) < 300);
    free(text);
}

static void test_parse_when_text_is_longest_then_fits(void **state)
{
    (void)state;
    char assignment[600] = "run.out=";
    sow_conf *conf = NULL;
    memset(assignment + 8, 'x', SOW_TEXT - 1);
    CHECK_OK(gather("", assignment, false, &conf));
    assert_int_equal(strlen(sow_conf_options(conf)->run.out), SOW_TEXT - 1);
    sow_conf_destroy(&conf);
    assignment[8 + SOW_TEXT - 1] = 'x';
    CHECK_FAILS(gather("", assignment, false, &conf), SOW_ECONF, "is too long (512 bytes)");
}

static void test_parse_when_too_many_probes_then_fails(void **state)
{
    (void)state;
    static const char item[] = "- {task: calc}\n";
    sow_conf *conf = NULL;
    sow_words text = {0};
    CHECK_OK(sow_words_print(&text, "probes:\n"));
    for (int i = 0; i < SOW_MAX_PROBES; i++)
        CHECK_OK(sow_words_add(&text, item, strlen(item)));
    CHECK_OK(gather(text.text, NULL, false, &conf));
    assert_int_equal(sow_conf_options(conf)->n_probes, SOW_MAX_PROBES);
    sow_conf_destroy(&conf);
    CHECK_OK(sow_words_add(&text, item, strlen(item)));
    CHECK_FAILS(gather(text.text, NULL, false, &conf), SOW_ECONF,
                "t.yaml:18: probes: 17 items is too many, expected at most 16");
    sow_words_fini(&text);
}

static void test_set_when_file_has_key_then_set_wins_in_any_order(void **state)
{
    (void)state;
    static const char yaml[] =
        "es: {sigma: 0.25, alpha: 0.5}\nprobes: [{task: rev}, {task: calc}]\nrun: {out: a-longer-name}\n";
    for (int is_before = 0; is_before < 2; is_before++) {
        sow_conf *conf = NULL;
        CHECK_OK(sow_conf_create(&conf));
        if (!is_before)
            CHECK_OK(sow_conf_parse(conf, yaml, strlen(yaml), "t.yaml"));
        CHECK_OK(sow_conf_set(conf, "es.sigma=7"));
        CHECK_OK(sow_conf_set(conf, "es.sigma=0.125"));
        CHECK_OK(sow_conf_set(conf, "run.out=b=c"));
        CHECK_OK(sow_conf_set(conf, "probes=[{task: count, rows: 9}]"));
        if (is_before)
            CHECK_OK(sow_conf_parse(conf, yaml, strlen(yaml), "t.yaml"));
        CHECK_OK(sow_conf_finish(conf, NULL));
        const sow_options *o = sow_conf_options(conf);
        assert_true(o->es.sigma == 0.125 && o->es.alpha == 0.5);
        assert_string_equal(o->run.out, "b=c");
        assert_int_equal(o->n_probes, 1);
        assert_string_equal(o->probes[0].task.name, "count");
        for (size_t i = 4; i < SOW_TEXT; i++)
            assert_int_equal(o->run.out[i], 0);
        CHECK_FAILS(sow_conf_reject(conf, "probes[0].task", "a task", NULL, 0), SOW_ECONF,
                    "--set: probes[0].task: count is");
        sow_conf_destroy(&conf);
    }
}

static void test_finish_when_keys_do_not_fit_then_fails(void **state)
{
    (void)state;
    static const wrong_case cases[] = {
        {"es:\n  mirrored: true\n  population: 31\n", NULL,
         "t.yaml:3: es.population: 31 is odd, expected an even number since es.mirrored is true"},
        {"es:\n  population: 31\n", "es.mirrored=true",
         "t.yaml:2: es.population: 31 is odd, expected an even number since es.mirrored is true"},
        {"es:\n  anchor: l2\n", NULL,
         "t.yaml:2: es.anchor_lambda: 0 is no decay, expected a number above 0 since es.anchor is l2"},
        {"es: {anchor: l2, alpha: 0.5,\n  anchor_lambda: 2}\n", NULL,
         "t.yaml:2: es.anchor_lambda: 2 is too large, expected es.alpha * es.anchor_lambda below 1 since es.anchor is "
         "l2"},
        {"adamw:\n  anchor: l1\n", NULL,
         "t.yaml:2: adamw.anchor_lambda: 0 is no decay, expected a number above 0 since adamw.anchor is l1"},
        {"method: grpo\ngrpo: {learning_rate: 5e-4}\nadamw:\n  anchor: l2\n  anchor_lambda: 5000\n", NULL,
         "t.yaml:5: adamw.anchor_lambda: 5000 is too large, expected grpo.learning_rate * adamw.anchor_lambda below 1 "
         "since adamw.anchor is l2"},
        {"method: sft\nadamw: {anchor: l2, anchor_lambda: 1000}\n", "sft.learning_rate=1e-3",
         "t.yaml:2: adamw.anchor_lambda: 1000 is too large, expected sft.learning_rate * adamw.anchor_lambda below 1 "
         "since adamw.anchor is l2"},
        {"method: sft\nadamw: {weight_decay: 2}\n", "sft.learning_rate=0.5",
         "t.yaml:2: adamw.weight_decay: 2 is too large, expected sft.learning_rate * adamw.weight_decay below 1"},
        {"method: grpo\ngrpo: {learning_rate: 100}\n", NULL,
         "t.yaml:2: adamw.weight_decay: 0.01 is too large, expected grpo.learning_rate * adamw.weight_decay below 1"},
        {"es: {update_block: 16385}\n", NULL,
         "t.yaml:1: es.update_block: 16385 is not a multiple, expected a multiple of 16384"},
        {"task:\n  numbers_min: 5\n", NULL,
         "t.yaml:2: task.numbers_min: 5 is too large, expected at most 4, the value of numbers_max"},
        {"task:\n  numbers_max: 2\n", NULL,
         "t.yaml:2: task.numbers_min: 3 is too large, expected at most 2, the value of numbers_max"},
        {"probes:\n- {task: a}\n- task: b\n  numbers_max: 2\n", NULL,
         "t.yaml:4: probes[1].numbers_min: 3 is too large, expected at most 2, the value of numbers_max"},
        {"task: {template: 'Q: {promt}'}\n", NULL,
         "t.yaml:1: task.template: Q: {promt} is without a place for the prompt, expected {prompt} in it"},
        {"measure: {tau: '1e-6, x'}\n", NULL,
         "t.yaml:1: measure.tau: x is not a threshold, expected numbers from 0 on, separated by commas"},
        {"measure: {tau: '1e-6,,1'}\n", NULL,
         "t.yaml:1: measure.tau: '' is not a threshold, expected numbers from 0 on, separated by commas"},
        {"\nprobes:\n- {rows: 5}\n", NULL,
         "t.yaml:3: probes[0].task: nothing is given, expected a value (The task: a name of `sower info --tasks`)"},
    };
    sow_conf *conf = NULL;
    CHECK_WRONG(cases);
    CHECK_OK(gather("es: {anchor: l2, alpha: 0.5, anchor_lambda: 1.5, population: 31}\n", NULL, false, &conf));
    sow_conf_destroy(&conf);
    /* Each with its own method's rate, and under es with none. */
    CHECK_OK(
        gather("adamw: {anchor: l2, anchor_lambda: 1999}\ngrpo: {learning_rate: 5e-4}\n", "method=grpo", false, &conf));
    sow_conf_destroy(&conf);
    CHECK_OK(gather("adamw: {anchor: l2, anchor_lambda: 5000}\ngrpo: {learning_rate: 5e-4}\n", NULL, false, &conf));
    sow_conf_destroy(&conf);
    CHECK_OK(gather("es: {anchor: l1, anchor_lambda: 3e5, mirrored: no}\nmeasure: {tau: ''}\n", NULL, false, &conf));
    sow_conf_destroy(&conf);
}

static void test_finish_when_key_is_missing_then_place_is_named(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    CHECK_FAILS(gather("\nmodel: {dtype: f32}\n", NULL, true, &conf), SOW_ECONF,
                "t.yaml:2: model.path: nothing is given, expected a value (The model: a Hugging Face folder");
    CHECK_FAILS(gather("model: {path: ''}\n", NULL, true, &conf), SOW_ECONF, "t.yaml:1: model.path: nothing is given");
    CHECK_FAILS(gather("model: {path: x}\n", NULL, true, &conf), SOW_ECONF, "t.yaml:1: task.name: nothing is given");
    CHECK_FAILS(gather("model: {path: x}\n", "task.name=", true, &conf), SOW_ECONF,
                "--set: task.name: nothing is given");
    static const char *const required[] = {"task.name", NULL};
    CHECK_OK(sow_conf_create(&conf));
    CHECK_FAILS(sow_conf_finish(conf, required), SOW_ECONF, "--set: task.name: nothing is given");
    sow_conf_destroy(&conf);
}

static void test_stray_when_keys_are_of_another_method_then_the_first_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *set, *first;
        int64_t n;
    } cases[] = {
        {"grpo: {epochs: 2, kl: 0}\nadamw: {beta1: 0.8}\n", NULL, "grpo.epochs", 3},
        {"grpo: {epochs: 2}\n", "method=grpo", NULL, 0},
        {"grpo: {epochs: 1, learning_rate: 1e-6, loss: dapo}\n", NULL, NULL, 0}, /* their defaults */
        {"method: sft\nadamw: {beta1: 0.8}\nsft: {batch: 4}\n", "grpo.loss=grpo", "grpo.loss", 1},
        /* es.schedule is for all; how fast is not the point. */
        {"method: grpo\nes: {schedule: static, update_block: 16384, sigma: 0.5}\n", "sft.mix=calc=1", "es.sigma", 2},
        {"run: {steps: 3}\ntask: {rows: 5}\n", "generate.batch=3", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sow_conf *conf = NULL;
        int64_t n = -1;
        CHECK_OK(gather(cases[i].yaml, cases[i].set, false, &conf));
        const char *first = sow_conf_stray(conf, &n);
        if (n != cases[i].n || (first == NULL) != (cases[i].first == NULL) ||
            (first != NULL && strcmp(first, cases[i].first) != 0))
            fail_msg("case %zu: %s and %lld in all", i, first == NULL ? "none" : first, (long long)n);
        sow_conf_destroy(&conf);
    }
}

static void test_reject_when_name_is_wrong_then_nearest_is_named(void **state)
{
    (void)state;
    static const char *const names[] = {"calc", "rev", "countdown"};
    sow_conf *conf = NULL;
    CHECK_OK(gather("task:\n  name: countdwn\nprobes:\n- task: calk\n", NULL, false, &conf));
    assert_int_equal(sow_conf_reject(conf, "task.name", "a task", names, 3), SOW_ECONF);
    assert_string_equal(sow_error_text(),
                        "t.yaml:2: task.name: countdwn is not what is expected here, expected a task; did you "
                        "mean countdown?");
    assert_int_equal(sow_conf_reject(conf, "probes[0].task", "a task", names, 3), SOW_ECONF);
    assert_string_equal(sow_error_text(),
                        "t.yaml:4: probes[0].task: calk is not what is expected here, expected a task; did you "
                        "mean calc?");
    assert_int_equal(sow_conf_reject(conf, "es.noise", "a perturbation", NULL, 0), SOW_ECONF);
    assert_string_equal(sow_error_text(),
                        "t.yaml:1: es.noise: gaussian is not what is expected here, expected a perturbation");
    sow_conf_destroy(&conf);
}

static void test_load_when_file_is_bad_then_one_line(void **state)
{
    (void)state;
    char path[128];
    const char *folder = check_folder();
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    (void)snprintf(path, sizeof path, "%s/a.yaml", folder);
    CHECK_FAILS(sow_conf_load(conf, path), SOW_ECONF, path);
    CHECK_FAILS(sow_conf_load(conf, folder), SOW_ECONF, folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i <= 1 << 17; i++)
        (void)fputs("#23456\n\n", f);
    assert_int_equal(fclose(f), 0);
    CHECK_FAILS(sow_conf_load(conf, path), SOW_ECONF, "1048576");
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("run:\n  seed: 77\n  sed: 1\n", f);
    assert_int_equal(fclose(f), 0);
    CHECK_FAILS(sow_conf_load(conf, path), SOW_ECONF, "/a.yaml:3: run.sed: the key is unknown");
    sow_conf_destroy(&conf);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_parse_when_any_allocation_fails_then_clean(void **state)
{
    (void)state;
    static const char yaml[] = "run: {seed: 3}\nprobes: [{task: calc}]\n";
    sow_code rc = SOW_ENOMEM;
    for (int64_t n = 1; rc != SOW_OK; n++) {
        sow_conf *conf = NULL;
        sow_alloc_fail_at(n);
        rc = gather(yaml, "probes=[{task: rev}]", false, &conf);
        sow_alloc_fail_at(0);
        assert_true(rc == SOW_OK || rc == SOW_ENOMEM);
        assert_true((rc == SOW_OK) == (conf != NULL));
        assert_true(n < 20);
        sow_conf_destroy(&conf);
        assert_int_equal(sow_alloc_live(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_when_empty_then_defaults),
        cmocka_unit_test(test_parse_when_all_kinds_then_values),
        cmocka_unit_test(test_parse_when_key_is_unknown_then_nearest_is_named),
        cmocka_unit_test(test_parse_when_value_is_wrong_then_expected_is_named),
        cmocka_unit_test(test_parse_when_key_is_given_twice_then_fails),
        cmocka_unit_test(test_parse_when_yaml_is_odd_then_refused),
        cmocka_unit_test(test_parse_when_nested_deeply_then_ends_at_once),
        cmocka_unit_test(test_parse_when_text_is_longest_then_fits),
        cmocka_unit_test(test_parse_when_too_many_probes_then_fails),
        cmocka_unit_test(test_set_when_file_has_key_then_set_wins_in_any_order),
        cmocka_unit_test(test_finish_when_keys_do_not_fit_then_fails),
        cmocka_unit_test(test_finish_when_key_is_missing_then_place_is_named),
        cmocka_unit_test(test_stray_when_keys_are_of_another_method_then_the_first_is_named),
        cmocka_unit_test(test_reject_when_name_is_wrong_then_nearest_is_named),
        cmocka_unit_test(test_load_when_file_is_bad_then_one_line),
        cmocka_unit_test(test_parse_when_any_allocation_fails_then_clean),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, check_live_zero);
}
