// NEEDS: nn text la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Comparison with a reference: what it counts, what it calls wrong, and which references it refuses. */
#include "random_model.h"

#include "sower/reference.h"

typedef struct setting {
    random_model m;
    sow_engine *engine;
    sow_reference_part parts[SOW_N_REFERENCE_KINDS];
    int64_t n_parts, wrong;
} setting;

static void keep_part(void *context, const sow_reference_part *part)
{
    setting *s = context;
    s->parts[s->n_parts++] = *part;
}

static sow_code check(setting *s, const char *text)
{
    sow_json *json = NULL;
    CHECK_OK(sow_json_parse(text, strlen(text), "test", &json));
    s->n_parts = 0;
    s->wrong = -7;
    sow_code rc = sow_reference_check(&(sow_reference_args){.engine = s->engine,
                                                            .replica = s->m.replica,
                                                            .reference = json,
                                                            .what = "ref.json",
                                                            .tolerances = sow_tolerances_default(),
                                                            .report = keep_part,
                                                            .context = s},
                                      &s->wrong);
    sow_json_destroy(&json);
    return rc;
}

static const sow_reference_part *find(const setting *s, const char *name)
{
    for (int64_t i = 0; i < s->n_parts; i++)
        if (strcmp(s->parts[i].name, name) == 0)
            return &s->parts[i];
    fail_msg("no part %s", name);
    return NULL;
}

static int open_setting(void **state)
{
    static setting s;
    sow_shape shape = random_shapes[0];
    shape.n_eos = 1;
    shape.eos[0] = 60;
    s = (setting){.m = random_model_open(&shape, "auto", 1, SOW_F32)};
    CHECK_OK(sow_engine_create(s.m.la, s.m.layout, 4, &s.engine));
    *state = &s;
    return 0;
}

static int close_setting(void **state)
{
    setting *s = *state;
    sow_engine_destroy(&s->engine);
    random_model_close(&s->m);
    return check_live_zero(state);
}

/* A reference made from the engine itself, with `change` added to one number of each part. */
static void own_reference(setting *s, double change, bool is_greedy_wrong, const char *margin, char *out, size_t cap)
{
    int32_t ids[9] = {1, 2, 3, 4};
    float logits[61], logprobs[8];
    sow_completion got;
    CHECK_OK(sow_engine_logits(s->engine, s->m.replica, (sow_prompt){ids, 4}, 1, logits));
    CHECK_OK(sow_engine_generate(
        s->engine,
        &(sow_generate_args){.replica = s->m.replica, .prompts = &(sow_prompt){ids, 4}, .n_prompts = 1, .max_new = 5},
        &got));
    assert_int_equal(got.n, 5);
    memcpy(ids + 4, got.ids, sizeof *ids * 5);
    CHECK_OK(sow_engine_score(s->engine, s->m.replica, &(sow_score_item){ids, 9, 1, logprobs, NULL}, 1));
    const double nll = -((double)logprobs[0] + (double)logprobs[1] + (double)logprobs[2]) / 3.0;
    (void)snprintf(out, cap,
                   "{\"unknown\":1,\"prompts\":[{\"ids\":[1,2,3,4],\"top_ids\":[7,9],\"top_logits\":[%.9g,%.9g],"
                   "\"mean_nll\":%.9g,\"greedy_ids\":[%d,%d,%d,%d,%d],\"margins\":[1,1,1,1,1],"
                   "\"logprobs\":[%.9g,%.9g,%.9g,%.9g,%.9g]},"
                   "{\"ids\":[1,2,3,4],\"greedy_ids\":[%d,%d,%d,%d,%d],\"margins\":[1,1,%s,1,1]}],"
                   "\"continuations\":[{\"context_ids\":[1,2],"
                   "\"continuation_ids\":[3,4],\"token_logprobs\":[%.9g,%.9g]}]}",
                   (double)logits[7], (double)logits[9] + change, nll - change, ids[4], ids[5], ids[6], ids[7], ids[8],
                   (double)logprobs[3], (double)logprobs[4], (double)logprobs[5], (double)logprobs[6] + change,
                   (double)logprobs[7], ids[4], ids[5], ids[6], is_greedy_wrong ? (ids[7] + 1) % 61 : ids[7], ids[8],
                   margin, (double)logprobs[1] + change, (double)logprobs[2]);
}

static void test_reference_of_the_model_itself_has_nothing_wrong(void **state)
{
    setting *s = *state;
    char text[2048];
    own_reference(s, 1e-4, false, "0.01", text, sizeof text);
    CHECK_OK(check(s, text));
    assert_int_equal(s->wrong, 0);
    assert_int_equal(s->n_parts, 5);
    assert_int_equal(find(s, "logits")->n_values, 2);
    assert_int_equal(find(s, "greedy")->n_values, 10);
    CHECK_NEAR(find(s, "logits")->largest, 1e-4, 1e-6);
    CHECK_NEAR(find(s, "mean_nll")->largest, 1e-4, 1e-6);
    assert_string_equal(find(s, "logits")->where, "prompts[0] value 9");
}

static void test_reference_beyond_the_tolerance_is_counted_and_named(void **state)
{
    setting *s = *state;
    char text[2048];
    own_reference(s, -3e-4, true, "0.01", text, sizeof text);
    CHECK_OK(check(s, text));
    assert_int_equal(s->wrong, 5);
    for (int64_t i = 0; i < s->n_parts; i++)
        assert_int_equal(s->parts[i].n_wrong, 1);
    assert_int_equal(find(s, "greedy")->n_values, 9); /* up to the first that differs */
    assert_string_equal(find(s, "greedy")->where, "prompts[1] value 3");
    assert_string_equal(find(s, "logprobs")->where, "prompts[0] value 3");
    assert_string_equal(find(s, "continuations")->where, "continuations[0] value 0");
}

static void test_reference_after_a_small_margin_is_not_compared(void **state)
{
    setting *s = *state;
    char text[2048];
    own_reference(s, 0.0, true, "0.004", text, sizeof text);
    CHECK_OK(check(s, text));
    assert_int_equal(s->wrong, 0);
    assert_int_equal(find(s, "greedy")->n_values, 7);
}

static void test_reference_of_another_form_is_refused(void **state)
{
    setting *s = *state;
    static const char *const bad[][2] = {
        {"{}", "nothing to compare"},
        {"[1]", "nothing to compare"},
        {"{\"prompts\":[{}]}", "prompts[0].ids: expected token ids"},
        {"{\"prompts\":[{\"ids\":[1,61]}]}", "prompts[0].ids: expected an array of token ids of this model"},
        {"{\"prompts\":[{\"ids\":[1.5]}]}", "prompts[0].ids"},
        {"{\"rows\":[{\"ids\":[1]},{\"prompt\":\"a\"}]}", "rows[1] is text, and the model has no tokenizer"},
        {"{\"logits\":{\"ids\":[1],\"values\":[1,2,3]}}", "logits.values: expected an array of numbers, long enough"},
        {"{\"prompts\":[{\"ids\":[1],\"top_ids\":[1],\"top_logits\":[1,2]}]}", "top_ids: expected an id for each"},
        {"{\"prompts\":[{\"ids\":[1],\"greedy_ids\":[\"a\"]}]}", "greedy_ids: expected token ids"},
        {"{\"prompts\":[{\"ids\":[1],\"greedy_ids\":[1,2],\"margins\":[1]}]}", "margins"},
        {"{\"prompts\":[{\"ids\":[1],\"greedy_ids\":[1,2],\"logprobs\":[1]}]}", "logprobs"},
        {"{\"prompts\":[{\"ids\":[1],\"answer_logprob\":1}]}", "answer: expected a text"},
        {"{\"prompts\":[{\"ids\":[1,2],\"mean_nll\":\"x\"}]}", "mean_nll: expected a number"},
        {"{\"continuations\":[{\"context_ids\":[1],\"token_logprobs\":[1]}]}", "continuations[0].context_ids"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sow_code rc = check(s, bad[i][0]);
        if ((rc != SOW_EFORMAT && rc != SOW_EARG) || strstr(sow_error_text(), bad[i][1]) == NULL)
            fail_msg("%s: %d '%s' lacks '%s'", bad[i][0], (int)rc, sow_error_text(), bad[i][1]);
        assert_int_equal(s->wrong, -7);
    }
}

/* The end token is expected where the completion ended by it. */
static void test_reference_with_an_end_token_compares_it(void **state)
{
    (void)state;
    sow_shape shape = random_shapes[0];
    setting s = {.m = random_model_open(&shape, "auto", 1, SOW_F32)};
    sow_completion got;
    int32_t ids[4] = {1, 2, 3, 4};
    char text[256];
    CHECK_OK(sow_engine_create(s.m.la, s.m.layout, 4, &s.engine));
    CHECK_OK(sow_engine_generate(
        s.engine,
        &(sow_generate_args){.replica = s.m.replica, .prompts = &(sow_prompt){ids, 4}, .n_prompts = 1, .max_new = 3},
        &got));
    const int first = got.ids[0], second = got.ids[1];
    assert_int_not_equal(first, second);
    sow_engine_destroy(&s.engine);
    random_model_close(&s.m);

    shape.n_eos = 2;
    shape.eos[0] = second == 60 ? 59 : 60;
    shape.eos[1] = second;
    s.m = random_model_open(&shape, "auto", 1, SOW_F32);
    CHECK_OK(sow_engine_create(s.m.la, s.m.layout, 4, &s.engine));
    (void)snprintf(text, sizeof text, "{\"rows\":[{\"ids\":[1,2,3,4],\"greedy_ids\":[%d,%d]}]}", first, second);
    CHECK_OK(check(&s, text));
    assert_int_equal(s.wrong, 0);
    assert_int_equal(find(&s, "greedy")->n_values, 2);
    (void)snprintf(text, sizeof text, "{\"rows\":[{\"ids\":[1,2,3,4],\"greedy_ids\":[%d,%d]}]}", first,
                   (second + 1) % 59);
    CHECK_OK(check(&s, text));
    assert_int_equal(s.wrong, 1);
    sow_engine_destroy(&s.engine);
    random_model_close(&s.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_of_the_model_itself_has_nothing_wrong),
        cmocka_unit_test(test_reference_beyond_the_tolerance_is_counted_and_named),
        cmocka_unit_test(test_reference_after_a_small_margin_is_not_compared),
        cmocka_unit_test(test_reference_of_another_form_is_refused),
        cmocka_unit_test(test_reference_with_an_end_token_compares_it),
    };
    return cmocka_run_group_tests_name("reference", tests, open_setting, close_setting);
}
