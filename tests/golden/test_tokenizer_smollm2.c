// NEEDS: nn text la base
/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer inside SmolLM2's GGUF against what Hugging Face's library (transformers, reading the same file) makes
 * of 50 tricky texts.
 *
 *     SOWER_TEST_SMOLLM2=.../smollm2.gguf    the file; the cases: ../shared/tokenizer_cases/smollm2.core.jsonl */
#include "check.h"

#include "sower/chat.h"
#include "sower/file.h"
#include "sower/json.h"
#include "sower/model.h"
#include "sower/words.h"

static sow_model *open_model(sow_tokenizer **tokenizer)
{
    const char *path = getenv("SOWER_TEST_SMOLLM2");
    if (path == NULL) {
        (void)fprintf(stderr, "SKIP: SOWER_TEST_SMOLLM2 names no .gguf\n");
        skip();
    }
    sow_model *model = NULL;
    size_t bytes = 0;
    CHECK_OK(sow_model_open(path, &model));
    const char *json = sow_model_tokenizer_json(model, &bytes);
    assert_non_null(json);
    CHECK_OK(sow_tokenizer_parse(json, bytes, path, tokenizer));
    return model;
}

static void check_row(const sow_json *line, sow_tokenizer *tokenizer)
{
    size_t bytes = 0;
    const char *id = sow_json_to_string(sow_json_get(line, "id"), NULL);
    const char *text = sow_json_to_string(sow_json_get(line, "text"), &bytes);
    const sow_json *want = sow_json_get(line, "ids");
    sow_ids ids = {0};
    sow_words decoded = {0};
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, bytes, true, &ids));
    if (ids.n != sow_json_size(want))
        fail_msg("case %s: %lld ids, expected %lld", id, (long long)ids.n, (long long)sow_json_size(want));
    for (int64_t i = 0; i < ids.n; i++) {
        int64_t value = -1;
        assert_true(sow_json_to_int(sow_json_at(want, i), &value));
        if (ids.ids[i] != value)
            fail_msg("case %s: id %lld is %d, expected %lld", id, (long long)i, ids.ids[i], (long long)value);
    }
    CHECK_OK(sow_tokenizer_decode(tokenizer, ids.ids, ids.n, false, &decoded));
    if (decoded.bytes != bytes || (bytes > 0 && memcmp(decoded.text, text, bytes) != 0))
        fail_msg("case %s: decoded '%s'", id, decoded.text);
    sow_words_fini(&decoded);
    sow_ids_fini(&ids);
}

static void test_smollm2_core_gives_the_same_ids(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = NULL;
    sow_model *model = open_model(&tokenizer);
    const char *path = check_shared("tokenizer_cases/smollm2.core.jsonl");
    sow_mapping map = {0};
    int n = 0;
    if (path != NULL)
        CHECK_OK(sow_file_map(path, &map));
    for (size_t at = 0; at < map.bytes; n++) {
        const char *text = (const char *)map.data + at;
        size_t bytes = strcspn(text, "\n"); /* the file ends with a newline */
        sow_json *line = NULL;
        CHECK_OK(sow_json_parse(text, bytes, path, &line));
        check_row(line, tokenizer);
        sow_json_destroy(&line);
        at += bytes + 1;
    }
    sow_file_unmap(&map);
    sow_tokenizer_destroy(&tokenizer);
    sow_model_close(&model);
    if (path == NULL)
        skip();
    assert_int_equal(n, 50);
}

static void test_smollm2_shows_chatml(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = NULL;
    sow_model *model = open_model(&tokenizer);
    assert_string_equal(sow_chat_detect(tokenizer, sow_model_chat_template(model)), "chatml");
    assert_string_equal(sow_chat_detect(tokenizer, NULL), "chatml");
    sow_tokenizer_destroy(&tokenizer);
    sow_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2_core_gives_the_same_ids),
        cmocka_unit_test(test_smollm2_shows_chatml),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
