// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers from a GGUF's lists: byte-level with merges, byte fallback with scores, and lists that are wrong.
 * SmolLM2's file is in tests/golden/test_tokenizer_smollm2.c. */
#include "check.h"

#include "sower/tokenizer.h"
#include "sower/words.h"

enum { MAX_TOKENS = 16 };

/* Token texts with their lengths and types. */
typedef struct lists {
    const char *tokens[MAX_TOKENS];
    size_t bytes[MAX_TOKENS];
    int32_t types[MAX_TOKENS];
    float scores[MAX_TOKENS];
} lists;

static sow_gguf_vocabulary make(lists *l, const char *const *tokens, const int32_t *types, int64_t n, const char *model,
                                const char *pre)
{
    for (int64_t i = 0; i < n; i++) {
        l->tokens[i] = tokens[i];
        l->bytes[i] = strlen(tokens[i]);
        l->types[i] = types[i];
    }
    return (sow_gguf_vocabulary){.model = model,
                                 .pre = pre,
                                 .n_tokens = n,
                                 .tokens = l->tokens,
                                 .token_bytes = l->bytes,
                                 .types = l->types,
                                 .bos = -1,
                                 .eos = -1};
}

static void check_encode(sow_tokenizer *tokenizer, const char *text, const char *want)
{
    sow_ids ids = {0};
    sow_words got = {0};
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, strlen(text), true, &ids));
    for (int64_t i = 0; i < ids.n; i++)
        CHECK_OK(sow_words_print(&got, "%s%d", i > 0 ? " " : "", ids.ids[i]));
    assert_string_equal(got.text == NULL ? "" : got.text, want);
    sow_words_fini(&got);
    sow_ids_fini(&ids);
}

/* The tokenizer, and the same made again from the file that it would write. */
static void check_encode_twice(const sow_gguf_vocabulary *vocabulary, const char *text, const char *want)
{
    sow_tokenizer *tokenizer = NULL, *again = NULL;
    size_t bytes = 0;
    CHECK_OK(sow_tokenizer_from_gguf(vocabulary, "test", &tokenizer));
    check_encode(tokenizer, text, want);
    const char *json = sow_tokenizer_json(tokenizer, &bytes);
    assert_int_equal(strlen(json), bytes);
    CHECK_OK(sow_tokenizer_parse(json, bytes, "again", &again));
    check_encode(again, text, want);
    sow_tokenizer_destroy(&again);
    sow_tokenizer_destroy(&tokenizer);
}

static const char *const byte_level[] = {"<|im_start|>", "a",   "b", "\xC4\xA0", "ab",
                                         "\xC4\xA0\x61", "<x>", "1", "\"",       "\\"};
static const int32_t byte_level_types[] = {3, 1, 1, 1, 1, 1, 4, 1, 1, 1};
static const char *const byte_level_merges[] = {"a b", "\xC4\xA0 a"};

static void test_byte_level_with_merges_is_read(void **state)
{
    (void)state;
    static const char *const names[] = {"default", "gpt-2", "smollm", "starcoder", "llama-bpe", "qwen2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lists l;
        sow_gguf_vocabulary v = make(&l, byte_level, byte_level_types, 10, "gpt2", names[i]);
        v.merges = byte_level_merges;
        v.n_merges = 2;
        check_encode_twice(&v, "ab a11<x>b<|im_start|>\"\\", "4 5 7 7 6 2 0 8 9");
    }
}

static void test_special_tokens_follow_the_types(void **state)
{
    (void)state;
    lists l;
    sow_tokenizer *tokenizer = NULL;
    sow_words out = {0};
    sow_gguf_vocabulary v = make(&l, byte_level, byte_level_types, 10, "gpt2", "smollm");
    CHECK_OK(sow_tokenizer_from_gguf(&v, "test", &tokenizer));
    CHECK_OK(sow_tokenizer_decode(tokenizer, (const int32_t[]){0, 1, 6}, 3, true, &out));
    assert_string_equal(out.text, "a<x>");
    sow_words_fini(&out);
    sow_tokenizer_destroy(&tokenizer);
}

static void test_add_bos_begins_with_it_once(void **state)
{
    (void)state;
    lists l;
    sow_gguf_vocabulary v = make(&l, byte_level, byte_level_types, 10, "gpt2", "gpt-2");
    v.bos = 0;
    v.add_bos = true;
    check_encode_twice(&v, "a", "0 1");
    check_encode_twice(&v, "<|im_start|>a", "0 1");
    v.add_bos = false;
    check_encode_twice(&v, "a", "1");
}

static const char *const scored[] = {"<unk>", "<s>", "<0x0A>", "\xE2\x96\x81", "a", "b", "ab", "\xE2\x96\x81\x61\x62",
                                     "ba"};
static const int32_t scored_types[] = {2, 3, 6, 1, 1, 1, 1, 1, 1};

/* Scores stand for merges: the pair that makes the token with the highest score is merged first. */
static void test_llama_with_scores_merges_the_highest_first(void **state)
{
    (void)state;
    lists l;
    sow_gguf_vocabulary v = make(&l, scored, scored_types, 9, "llama", "default");
    static const float ab_first[] = {0, 0, 0, -9, -9, -9, -1, -3, -2}, ba_first[] = {0, 0, 0, -9, -9, -9, -2, -3, -1};
    v.bos = 1;
    v.add_bos = v.add_space_prefix = true;
    v.scores = ab_first;
    check_encode_twice(&v, "aba\n", "1 7 4 2"); /* ab first, then mark + ab; a; byte 10 */
    v.scores = ba_first;
    check_encode_twice(&v, "aba", "1 3 4 8");
    check_encode_twice(&v, "?", "1 3 0");
    v.add_space_prefix = v.add_bos = false;
    check_encode_twice(&v, "ba b", "8 3 5");
}

static void check_refused(const sow_gguf_vocabulary *v, const char *words)
{
    sow_tokenizer *tokenizer = NULL;
    CHECK_FAILS(sow_tokenizer_from_gguf(v, "T", &tokenizer), SOW_EFORMAT, words);
    assert_null(tokenizer);
}

static void test_wrong_lists_are_refused(void **state)
{
    (void)state;
    lists l;
    const sow_gguf_vocabulary good = make(&l, byte_level, byte_level_types, 10, "gpt2", "gpt-2");
    sow_gguf_vocabulary v = good;
    v.pre = "viking";
    check_refused(&v, "tokenizer.ggml.pre 'viking' is not supported; these are");
    v.pre = NULL;
    check_refused(&v, "tokenizer.ggml.pre ''");
    v = good;
    v.model = "bert";
    check_refused(&v, "tokenizer.ggml.model 'bert' is not supported");
    v = good;
    v.n_tokens = 0;
    check_refused(&v, "0 tokens");
    v = good;
    v.bos = 10;
    check_refused(&v, "begin token 10 is no token");
    v = good;
    v.add_bos = true;
    check_refused(&v, "begin token -1 is no token");
    v = good;
    v.merges = (const char *const[]){"ab"};
    v.n_merges = 1;
    check_refused(&v, "merge 0 'ab' is no pair");
    v.merges = (const char *const[]){"a \xFF"};
    check_refused(&v, "merge 0 is not UTF-8");
    v.merges = (const char *const[]){"a c"};
    check_refused(&v, "merges[0]: 'c' is not in the vocabulary");
    v = good;
    v.model = "llama";
    check_refused(&v, "neither merges nor scores");
    l.tokens[3] = "\xC4";
    l.bytes[3] = 1;
    check_refused(&good, "token 3 is not UTF-8");
    l.tokens[3] = "a";
    check_refused(&good, "duplicate");
    l.tokens[3] = "x\0y";
    l.bytes[3] = 3;
    check_refused(&good, "token 3 is not UTF-8 or holds a NUL");
}

static void test_every_failed_allocation_is_a_clean_error(void **state)
{
    (void)state;
    lists l;
    sow_gguf_vocabulary v = make(&l, scored, scored_types, 9, "llama", "default");
    v.scores = l.scores;
    memset(l.scores, 0, sizeof l.scores);
    sow_code rc = SOW_ENOMEM;
    int64_t n = 0;
    for (; rc != SOW_OK; n++) {
        sow_tokenizer *tokenizer = NULL;
        sow_alloc_fail_at(n + 1);
        rc = sow_tokenizer_from_gguf(&v, "test", &tokenizer);
        sow_alloc_fail_at(0);
        assert_true(rc == SOW_OK || rc == SOW_ENOMEM);
        sow_tokenizer_destroy(&tokenizer);
        assert_int_equal(sow_alloc_live(), 0);
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level_with_merges_is_read),
        cmocka_unit_test(test_special_tokens_follow_the_types),
        cmocka_unit_test(test_add_bos_begins_with_it_once),
        cmocka_unit_test(test_llama_with_scores_merges_the_highest_first),
        cmocka_unit_test(test_wrong_lists_are_refused),
        cmocka_unit_test(test_every_failed_allocation_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
