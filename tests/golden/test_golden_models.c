// NEEDS: nn text la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Real models against what transformers computed for them in float64: logits and log-probabilities within 2e-4,
 * greedy tokens equal up to the first margin under 5e-3.  And that the comparison can fail: a wrong rms eps, RoPE base
 * or scaling is seen.
 *
 *     random-llama   committed, made by tests/golden/make_random_llama.py
 *     sprout         models/sprout, ../shared/golden
 *     tinystories    ../shared/models
 *     SmolLM2        $SOWER_TEST_SMOLLM2 (a .gguf), ../shared/golden */
#include "check.h"

#include "sower/file.h"
#include "sower/model.h"
#include "sower/reference.h"
#include "sower/words.h"

#define RANDOM_LLAMA SOW_SOURCE_DIR "/tests/fixtures/random-llama"
#define SPROUT       SOW_SOURCE_DIR "/models/sprout"

/* What a comparison found. */
typedef struct outcome {
    int64_t wrong, values[SOW_N_REFERENCE_KINDS];
} outcome;

static const char *const part_names[] = {
#define PART(name, text) text,
    SOW_REFERENCE_PARTS(PART)
#undef PART
};

static void count_part(void *context, const sow_reference_part *part)
{
    outcome *out = context;
    for (int kind = 0; kind < SOW_N_REFERENCE_KINDS; kind++)
        if (strcmp(part_names[kind], part->name) == 0)
            out->values[kind] = part->n_values;
    (void)printf("    %-13s %6lld values, %lld beyond %g, largest deviation %.2g%s%s\n", part->name,
                 (long long)part->n_values, (long long)part->n_wrong, part->tolerance, part->largest,
                 part->n_wrong > 0 ? ", first " : "", part->n_wrong > 0 ? part->where : "");
}

/* Loads a model, with its shape changed by `change` if there is one, and compares it. */
static outcome compare_json(const char *path, const sow_json *reference, void (*change)(sow_shape *))
{
    outcome out = {.wrong = -1};
    sow_model *model = NULL;
    sow_layout *layout = NULL;
    sow_la *la = NULL;
    sow_replica *replica = NULL;
    sow_engine *engine = NULL;
    sow_tokenizer *tokenizer = NULL;
    float *theta = NULL;
    size_t bytes = 0;
    CHECK_OK(sow_model_open(path, &model));
    sow_shape shape = sow_model_layout(model)->shape;
    CHECK_OK(SOW_ALLOC(&theta, sow_model_layout(model)->n_elements));
    CHECK_OK(sow_model_load(model, theta));
    const char *json = sow_model_tokenizer_json(model, &bytes);
    if (json != NULL)
        CHECK_OK(sow_tokenizer_parse(json, bytes, path, &tokenizer));
    if (change != NULL)
        change(&shape);
    CHECK_OK(sow_layout_create(&shape, &layout));
    CHECK_OK(sow_la_create("exact", "auto", 1, &la));
    CHECK_OK(sow_replica_create(la, layout, SOW_F32, &replica));
    CHECK_OK(sow_replica_make(replica, theta, NULL));
    CHECK_OK(sow_engine_create(la, layout, 16, &engine));
    CHECK_OK(sow_reference_check(&(sow_reference_args){.engine = engine,
                                                       .replica = replica,
                                                       .tokenizer = tokenizer,
                                                       .reference = reference,
                                                       .what = path,
                                                       .tolerances = sow_tolerances_default(),
                                                       .report = count_part,
                                                       .context = &out},
                                 &out.wrong));
    sow_engine_destroy(&engine);
    sow_replica_destroy(&replica);
    sow_la_destroy(&la);
    sow_layout_destroy(&layout);
    sow_tokenizer_destroy(&tokenizer);
    SOW_FREE(&theta);
    sow_model_close(&model);
    return out;
}

static outcome compare(const char *model, const char *reference, void (*change)(sow_shape *))
{
    sow_json *json = NULL;
    CHECK_OK(sow_json_load(reference, &json));
    outcome out = compare_json(model, json, change);
    sow_json_destroy(&json);
    return out;
}

static void wrong_eps(sow_shape *shape)
{
    shape->rms_norm_eps *= 10.0;
}

static void wrong_base(sow_shape *shape)
{
    shape->rope_theta *= 2.0;
}

static void wrong_scaling(sow_shape *shape)
{
    shape->rope_factor = 1.0;
}

static void test_random_llama_equals_transformers(void **state)
{
    (void)state;
    const outcome out = compare(RANDOM_LLAMA, RANDOM_LLAMA "/reference.json", NULL);
    assert_int_equal(out.wrong, 0);
    assert_true(out.values[SOW_REFERENCE_LOGITS] == 300 && out.values[SOW_REFERENCE_GREEDY] > 250);
    assert_true(out.values[SOW_REFERENCE_MEAN_NLL] == 6 && out.values[SOW_REFERENCE_CONTINUATIONS] == 77);
}

static void test_random_llama_with_a_wrong_shape_is_seen(void **state)
{
    (void)state;
    assert_true(compare(RANDOM_LLAMA, RANDOM_LLAMA "/reference.json", wrong_eps).wrong > 100);
    assert_true(compare(RANDOM_LLAMA, RANDOM_LLAMA "/reference.json", wrong_base).wrong > 100);
    assert_true(compare(RANDOM_LLAMA, RANDOM_LLAMA "/reference.json", wrong_scaling).wrong > 100);
}

static void test_sprout_equals_transformers(void **state)
{
    (void)state;
    const outcome out = compare(SPROUT, SOW_SOURCE_DIR "/tests/golden/sprout.json", NULL);
    assert_int_equal(out.wrong, 0);
    assert_true(out.values[SOW_REFERENCE_LOGITS] == 128 && out.values[SOW_REFERENCE_GREEDY] > 60);
    assert_true(out.values[SOW_REFERENCE_LOGPROBS] > 60);
}

/* check_shared's text lives until its next call. */
static const char *proto_model(char out[1024])
{
    const char *path = check_shared("models/sprout-proto");
    if (path != NULL)
        (void)snprintf(out, 1024, "%s", path);
    return path == NULL ? NULL : out;
}

static void test_prototype_equals_transformers(void **state)
{
    (void)state;
    char model[1024];
    if (proto_model(model) == NULL)
        skip();
    const outcome out = compare(model, check_shared("golden/sprout_proto.json"), NULL);
    assert_int_equal(out.wrong, 0);
    assert_true(out.values[SOW_REFERENCE_LOGITS] == 128 && out.values[SOW_REFERENCE_GREEDY] > 1500);
    assert_true(out.values[SOW_REFERENCE_ANSWERS] == 400 && out.values[SOW_REFERENCE_LOGPROBS] > 1500);
}

static void test_sprout_with_a_wrong_shape_is_seen(void **state)
{
    (void)state;
    const char *reference = SOW_SOURCE_DIR "/tests/golden/sprout.json";
    assert_true(compare(SPROUT, reference, wrong_eps).wrong > 0);
    assert_true(compare(SPROUT, reference, wrong_base).wrong > 20);
}

/* The reference of tinystories is JSON lines of another form: each becomes a prompt and a continuation. */
static void add_story(sow_line *line, const sow_json *story, bool is_prompt)
{
    const sow_json *ids = sow_json_get(story, "prompt_ids"), *top = sow_json_get(story, "first_step_top5");
    sow_line_begin_object(line, NULL);
    if (is_prompt) {
        sow_line_node(line, "ids", ids);
        sow_line_node(line, "text", sow_json_get(story, "prompt"));
        sow_line_node(line, "greedy_ids", sow_json_get(story, "greedy_ids"));
        for (int part = 0; part < 2; part++) {
            sow_line_begin_array(line, part == 0 ? "top_ids" : "top_logits");
            for (int64_t i = 0; i < sow_json_size(top); i++)
                sow_line_node(line, NULL, sow_json_at(sow_json_at(top, i), part));
            sow_line_end_array(line);
        }
    } else {
        for (int part = 0; part < 2; part++) {
            sow_line_begin_array(line, part == 0 ? "context_ids" : "continuation_ids");
            for (int64_t i = part; i < (part == 0 ? 1 : sow_json_size(ids)); i++)
                sow_line_node(line, NULL, sow_json_at(ids, i));
            sow_line_end_array(line);
        }
        sow_line_node(line, "token_logprobs", sow_json_get(story, "prompt_logprobs"));
    }
    sow_line_end_object(line);
}

static void test_tinystories_equals_its_reference(void **state)
{
    (void)state;
    char path[1024], *text = NULL, *rest = NULL;
    size_t bytes = 0;
    sow_line *line = NULL;
    sow_json *stories[2] = {NULL, NULL}, *reference = NULL;
    const char *folder = check_shared("models/tinystories-656k");
    if (folder == NULL)
        skip();
    CHECK_OK(sow_file_join(folder, "expected_greedy.jsonl", path, sizeof path));
    CHECK_OK(sow_file_read(path, 1 << 20, &text, &bytes));
    CHECK_OK(sow_line_create(&line));
    char *row = text;
    for (int i = 0; i < 2; i++, row = rest + 1) {
        rest = strchr(row, '\n');
        assert_non_null(rest);
        CHECK_OK(sow_json_parse(row, (size_t)(rest - row), path, &stories[i]));
    }
    sow_line_begin_object(line, NULL);
    for (int part = 0; part < 2; part++) {
        sow_line_begin_array(line, part == 0 ? "prompts" : "continuations");
        for (int i = 0; i < 2; i++)
            add_story(line, stories[i], part == 0);
        sow_line_end_array(line);
    }
    sow_line_end_object(line);
    const char *converted = NULL;
    CHECK_OK(sow_line_text(line, &converted));
    CHECK_OK(sow_json_parse(converted, strlen(converted), path, &reference));
    const outcome out = compare_json(check_shared("models/tinystories-656k"), reference, NULL);
    assert_int_equal(out.wrong, 0);
    assert_true(out.values[SOW_REFERENCE_LOGITS] == 10 && out.values[SOW_REFERENCE_GREEDY] == 85);
    assert_true(out.values[SOW_REFERENCE_TOKENS] == 13 && out.values[SOW_REFERENCE_CONTINUATIONS] == 11);
    sow_json_destroy(&reference);
    for (int i = 0; i < 2; i++)
        sow_json_destroy(&stories[i]);
    sow_line_destroy(&line);
    SOW_FREE(&text);
}

static void test_smollm2_equals_transformers(void **state)
{
    (void)state;
    const char *model = getenv("SOWER_TEST_SMOLLM2"), *reference = check_shared("golden/smollm2_shared.json");
    if (model == NULL)
        (void)fprintf(stderr, "SKIP: SOWER_TEST_SMOLLM2 does not name a .gguf\n");
    if (model == NULL || reference == NULL)
        skip();
    const outcome out = compare(model, reference, NULL);
    assert_int_equal(out.wrong, 0);
    assert_true(out.values[SOW_REFERENCE_LOGITS] == 160 && out.values[SOW_REFERENCE_GREEDY] > 370);
    assert_true(out.values[SOW_REFERENCE_MEAN_NLL] == 7 && out.values[SOW_REFERENCE_CONTINUATIONS] == 19);
    assert_true(compare(model, reference, wrong_eps).wrong > 0);
    assert_true(compare(model, reference, wrong_base).wrong > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_llama_equals_transformers),
        cmocka_unit_test(test_random_llama_with_a_wrong_shape_is_seen),
        cmocka_unit_test(test_sprout_equals_transformers),
        cmocka_unit_test(test_prototype_equals_transformers),
        cmocka_unit_test(test_sprout_with_a_wrong_shape_is_seen),
        cmocka_unit_test(test_tinystories_equals_its_reference),
        cmocka_unit_test(test_smollm2_equals_transformers),
    };
    return cmocka_run_group_tests_name("golden_models", tests, NULL, check_live_zero);
}
