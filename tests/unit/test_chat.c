// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Chat formats: which one is shown, and how a turn is wrapped. */
#include "check.h"

#include "sower/chat.h"
#include "sower/words.h"

/* A tokenizer that has these added tokens and nothing else. */
static sow_tokenizer *make_tokenizer(const char *const *contents, int n)
{
    sow_words json = {0};
    sow_tokenizer *tokenizer = NULL;
    CHECK_OK(sow_words_print(&json, "{\"added_tokens\":["));
    for (int i = 0; i < n; i++)
        CHECK_OK(sow_words_print(&json, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true}", i > 0 ? "," : "", i,
                                 contents[i]));
    CHECK_OK(sow_words_print(&json, "],\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}"));
    CHECK_OK(sow_tokenizer_parse(json.text, json.bytes, "test", &tokenizer));
    sow_words_fini(&json);
    return tokenizer;
}

static void test_detect_without_template_goes_by_tokens(void **state)
{
    (void)state;
    static const char *const all[] = {"<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>",
                                      "<|eot_id|>"};
    static const struct {
        int first, n;
        const char *want;
    } rows[] = {{0, 2, "chatml"}, {2, 3, "llama3"}, {0, 5, "chatml"}, {0, 1, NULL}, {2, 2, NULL}, {0, 0, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sow_tokenizer *tokenizer = make_tokenizer(all + rows[i].first, rows[i].n);
        const char *got = sow_chat_detect(tokenizer, NULL);
        if (rows[i].want == NULL)
            assert_null(got);
        else
            assert_string_equal(got, rows[i].want);
        sow_tokenizer_destroy(&tokenizer);
    }
}

static void test_detect_with_template_goes_by_the_template(void **state)
{
    (void)state;
    static const char *const chatml[] = {"<|im_start|>", "<|im_end|>"};
    sow_tokenizer *tokenizer = make_tokenizer(chatml, 2);
    assert_string_equal(sow_chat_detect(tokenizer, "{{'<|im_start|>' + m.role}} {{'<|im_end|>'}}"), "chatml");
    assert_string_equal(sow_chat_detect(tokenizer, "<|start_header_id|><|end_header_id|><|eot_id|>"), "llama3");
    assert_null(sow_chat_detect(tokenizer, "[INST] {{ m.content }} [/INST]"));
    sow_tokenizer_destroy(&tokenizer);
}

static void check_wrap(const char *format, const char *system, const char *user, const char *want)
{
    sow_words out = {0};
    CHECK_OK(sow_chat_wrap(format, system, user, strlen(user), &out));
    assert_string_equal(out.text, want);
    sow_words_fini(&out);
}

static void test_wrap_without_system_adds_no_system_turn(void **state)
{
    (void)state;
    check_wrap("chatml", NULL, " What is 2+2?\n",
               "<|im_start|>user\n What is 2+2?\n<|im_end|>\n<|im_start|>assistant\n");
    check_wrap("llama3", NULL, " What is 2+2?\n",
               "<|start_header_id|>user<|end_header_id|>\n\nWhat is 2+2?<|eot_id|>"
               "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void test_wrap_with_system_begins_with_it(void **state)
{
    (void)state;
    check_wrap("chatml", "Be brief.", "Hi",
               "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    check_wrap(
        "llama3", "", "",
        "<|start_header_id|>system<|end_header_id|>\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

static void test_wrap_appends_and_keeps_nuls(void **state)
{
    (void)state;
    sow_words out = {0};
    CHECK_OK(sow_words_add(&out, "before ", 7));
    CHECK_OK(sow_chat_wrap("chatml", NULL, "a\0b", 3, &out));
    static const char want[] = "before <|im_start|>user\na\0b<|im_end|>\n<|im_start|>assistant\n";
    assert_int_equal(out.bytes, sizeof want - 1);
    assert_memory_equal(out.text, want, sizeof want);
    sow_words_fini(&out);
}

static void test_wrap_with_unknown_format_fails(void **state)
{
    (void)state;
    sow_words out = {0};
    CHECK_FAILS(sow_chat_wrap("alpaca", NULL, "x", 1, &out), SOW_EARG, "'alpaca'");
    assert_int_equal(out.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detect_without_template_goes_by_tokens),
        cmocka_unit_test(test_detect_with_template_goes_by_the_template),
        cmocka_unit_test(test_wrap_without_system_adds_no_system_turn),
        cmocka_unit_test(test_wrap_with_system_begins_with_it),
        cmocka_unit_test(test_wrap_appends_and_keeps_nuls),
        cmocka_unit_test(test_wrap_with_unknown_format_fails),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
