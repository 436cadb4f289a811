// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer on small vocabularies written here: special tokens, decoding in a stream, long words, lack of memory.
 * What Hugging Face's library makes of the same things is in tests/golden/test_tokenizer_cases.c. */
#include "check.h"

#include "sower/file.h"
#include "sower/tokenizer.h"
#include "sower/words.h"

#define FIXTURES SOW_SOURCE_DIR "/tests/fixtures/tokenizers/"

/* Byte fallback with a begin token: a, b, ab, é as bytes, two added tokens. */
static const char small[] =
    "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":9,\"content\":\"<x "
    "y>\",\"normalized\":false}],"
    "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"_\"},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"S\"}},{\"Sequence\":{"
    "\"id\":\"A\"}}],"
    "\"special_tokens\":{\"S\":{\"ids\":[1]}}},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"_\"},\"content\":"
    "\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,"
    "\"vocab\":{\"<unk>\":0,\"<s>\":1,\"a\":2,\"b\":3,\"ab\":4,\"_\":5,\"<0xC3>\":6,\"<0xA9>\":7,\"aba\":8},"
    "\"merges\":[\"a b\",[\"ab\",\"a\"]]}}";

static sow_tokenizer *parse(const char *json)
{
    sow_tokenizer *tokenizer = NULL;
    CHECK_OK(sow_tokenizer_parse(json, strlen(json), "test", &tokenizer));
    return tokenizer;
}

static sow_tokenizer *load(const char *path)
{
    sow_tokenizer *tokenizer = NULL;
    sow_mapping map = {0};
    CHECK_OK(sow_file_map(path, &map));
    CHECK_OK(sow_tokenizer_parse((const char *)map.data, map.bytes, path, &tokenizer));
    sow_file_unmap(&map);
    return tokenizer;
}

/* The ids of a text, written "1 2 3". */
static void check_encode(sow_tokenizer *tokenizer, const char *text, bool with_special, const char *want)
{
    sow_ids ids = {0};
    sow_words got = {0};
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, strlen(text), with_special, &ids));
    for (int64_t i = 0; i < ids.n; i++)
        CHECK_OK(sow_words_print(&got, "%s%d", i > 0 ? " " : "", ids.ids[i]));
    assert_string_equal(got.text == NULL ? "" : got.text, want);
    sow_words_fini(&got);
    sow_ids_fini(&ids);
}

static void check_decode(sow_tokenizer *tokenizer, const int32_t *ids, int64_t n, bool skip_special, const char *want)
{
    sow_words got = {0};
    CHECK_OK(sow_tokenizer_decode(tokenizer, ids, n, skip_special, &got));
    assert_string_equal(got.text == NULL ? "" : got.text, want);
    sow_words_fini(&got);
}

/* ---- encoding ---- */

static void test_encode_merges_by_rank_and_falls_back_to_bytes(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    check_encode(tokenizer, "", false, "");
    check_encode(tokenizer, "abab", false, "4 4"); /* "ab" ranks before "aba": both are merged first */
    check_encode(tokenizer, "abaa", false, "8 2");
    check_encode(tokenizer, "a \xC3\xA9z", false, "2 5 6 7 0");
    check_encode(tokenizer, "b<x y>b", false, "3 9 3");
    sow_tokenizer_destroy(&tokenizer);
}

static void test_encode_with_special_begins_once(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    check_encode(tokenizer, "", true, "1");
    check_encode(tokenizer, "ab", true, "1 4");
    check_encode(tokenizer, "<s>ab", true, "1 4");
    check_encode(tokenizer, "<s><s>ab", true, "1 1 4");
    check_encode(tokenizer, "ab<s>", true, "1 4 1");
    check_encode(tokenizer, "<s>ab", false, "1 4");
    sow_tokenizer_destroy(&tokenizer);
}

static void test_encode_appends_and_leaves_ids_alone_on_failure(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    sow_ids ids = {0};
    CHECK_OK(sow_tokenizer_encode(tokenizer, "a", 1, true, &ids));
    CHECK_OK(sow_tokenizer_encode(tokenizer, "b", 1, true, &ids));
    assert_int_equal(ids.n, 4);
    assert_int_equal(ids.ids[2], 1);
    CHECK_FAILS(sow_tokenizer_encode(tokenizer, "ab\xC3", 3, true, &ids), SOW_EFORMAT, "not UTF-8");
    CHECK_FAILS(sow_tokenizer_encode(tokenizer, "\xED\xA0\x80", 3, true, &ids), SOW_EFORMAT, "not UTF-8");
    assert_int_equal(ids.n, 4);
    sow_ids_fini(&ids);
    sow_tokenizer_destroy(&tokenizer);
}

/* A word of 300,000 letters: a merge that is quadratic would take hours. */
static void test_encode_of_a_long_word_is_not_quadratic(void **state)
{
    enum { N = 300000 };
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    sow_ids ids = {0};
    sow_words back = {0};
    char *text = NULL;
    CHECK_OK(SOW_ALLOC(&text, N + 1));
    for (int i = 0; i < N; i++)
        text[i] = "ab"[i % 2];
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, N, false, &ids));
    assert_int_equal(ids.n, N / 2);
    CHECK_OK(sow_tokenizer_decode(tokenizer, ids.ids, ids.n, false, &back));
    assert_int_equal(back.bytes, N);
    assert_memory_equal(back.text, text, N);
    SOW_FREE(&text);
    sow_words_fini(&back);
    sow_ids_fini(&ids);
    sow_tokenizer_destroy(&tokenizer);
}

/* The same piece over and over, and other pieces between: what is remembered must not change an id. */
static void test_encode_again_gives_the_same_ids(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = load(FIXTURES "digits.json"), *fresh = load(FIXTURES "digits.json");
    for (int i = 0; i < 3000; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "the other word%d and%d", i % 50, i % 7);
        sow_ids a = {0}, b = {0};
        CHECK_OK(sow_tokenizer_encode(tokenizer, text, strlen(text), false, &a));
        if (i % 100 == 0) {
            sow_tokenizer_destroy(&fresh);
            fresh = load(FIXTURES "digits.json");
        }
        CHECK_OK(sow_tokenizer_encode(fresh, text, strlen(text), false, &b));
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, (size_t)a.n * sizeof *a.ids);
        sow_ids_fini(&a);
        sow_ids_fini(&b);
    }
    sow_tokenizer_destroy(&fresh);
    sow_tokenizer_destroy(&tokenizer);
}

/* ---- decoding ---- */

static void test_decode_replaces_a_broken_run_of_bytes(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    check_decode(tokenizer, (const int32_t[]){2, 6, 7, 3}, 4, false,
                 "a\xC3\xA9"
                 "b");
    check_decode(tokenizer, (const int32_t[]){6, 7, 6}, 3, false, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    check_decode(tokenizer, (const int32_t[]){1, 4, 9, 1, 5}, 5, false, "<s>ab<x y><s> ");
    check_decode(tokenizer, (const int32_t[]){1, 4, 9, 1, 5}, 5, true, "ab<x y> ");
    check_decode(tokenizer, (const int32_t[]){2, 1000000, 3}, 3, false, "ab"); /* no such token */
    sow_words out = {0};
    CHECK_FAILS(sow_tokenizer_decode(tokenizer, (const int32_t[]){2, -5}, 2, false, &out), SOW_EARG, "-5 at 1");
    assert_int_equal(out.bytes, 0);
    sow_words_fini(&out);
    sow_tokenizer_destroy(&tokenizer);
}

/* Feeds the tokens of `want`'s bytes one by one and looks at what has come out after each. */
static void test_stream_gives_whole_characters_only(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = load(FIXTURES "removed.json"); /* byte-level: every byte has a token */
    static const char text[] = "a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x91\x8D.\xE6\x97x";
    static const char want[] = "a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x91\x8D.\xEF\xBF\xBDx";
    static const size_t bytes_after[] = {1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11, 11, 15};
    sow_stream_decoder *decoder = NULL;
    sow_words out = {0};
    CHECK_OK(sow_stream_decoder_create(tokenizer, &decoder));
    for (size_t i = 0; i < sizeof text - 1; i++) {
        int32_t id = 0;
        size_t bytes = 0;
        const char *token = NULL;
        while ((token = sow_tokenizer_bytes(tokenizer, id, &bytes)) == NULL || bytes != 1 || token[0] != text[i])
            id++;
        CHECK_OK(sow_stream_decoder_put(decoder, id, &out));
        assert_int_equal(out.bytes, bytes_after[i]);
    }
    CHECK_OK(sow_stream_decoder_end(decoder, &out));
    assert_string_equal(out.text, want);
    sow_stream_decoder_destroy(&decoder);
    sow_words_fini(&out);
    sow_tokenizer_destroy(&tokenizer);
}

static void test_stream_ends_with_what_is_left_replaced(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    sow_stream_decoder *decoder = NULL;
    sow_words out = {0};
    CHECK_OK(sow_stream_decoder_create(tokenizer, &decoder));
    CHECK_OK(sow_stream_decoder_put(decoder, 6, &out));
    assert_int_equal(out.bytes, 0);
    CHECK_OK(sow_stream_decoder_put(decoder, 2, &out));
    assert_string_equal(out.text, "\xEF\xBF\xBD"
                                  "a");
    CHECK_OK(sow_stream_decoder_put(decoder, 6, &out));
    CHECK_OK(sow_stream_decoder_end(decoder, &out));
    assert_string_equal(out.text, "\xEF\xBF\xBD"
                                  "a\xEF\xBF\xBD");
    CHECK_FAILS(sow_stream_decoder_put(decoder, -1, &out), SOW_EARG, "-1");
    sow_stream_decoder_destroy(&decoder);
    sow_words_fini(&out);
    sow_tokenizer_destroy(&tokenizer);
}

/* ---- looking up ---- */

static void test_bytes_find_and_size_agree(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse(small);
    static const struct {
        const char *content, *bytes;
        int32_t id;
    } rows[] = {{"<s>", "<s>", 1}, {"<x y>", "<x y>", 9}, {"_", " ", 5}, {"<0xC3>", "\xC3", 6}, {"ab", "ab", 4}};
    assert_int_equal(sow_tokenizer_size(tokenizer), 10);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t bytes = 0;
        assert_int_equal(sow_tokenizer_find(tokenizer, rows[i].content), rows[i].id);
        const char *got = sow_tokenizer_bytes(tokenizer, rows[i].id, &bytes);
        assert_int_equal(bytes, strlen(rows[i].bytes));
        assert_memory_equal(got, rows[i].bytes, bytes);
    }
    size_t bytes = 0;
    assert_int_equal(sow_tokenizer_find(tokenizer, "nothing"), -1);
    assert_null(sow_tokenizer_bytes(tokenizer, 10, &bytes));
    assert_null(sow_tokenizer_bytes(tokenizer, -1, &bytes));
    assert_string_equal(sow_tokenizer_json(tokenizer, &bytes), small);
    assert_int_equal(bytes, sizeof small - 1);
    sow_tokenizer_destroy(&tokenizer);
    sow_tokenizer_destroy(&tokenizer);
}

static void test_holes_are_no_tokens(void **state)
{
    (void)state;
    sow_tokenizer *tokenizer = parse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":5},\"merges\":[]}}");
    size_t bytes = 0;
    assert_int_equal(sow_tokenizer_size(tokenizer), 6);
    assert_null(sow_tokenizer_bytes(tokenizer, 3, &bytes));
    check_encode(tokenizer, "abc", false, "0 5");
    check_decode(tokenizer, (const int32_t[]){0, 3, 5}, 3, false, "a b"); /* without a decoder, by spaces */
    sow_tokenizer_destroy(&tokenizer);
}

/* ---- lack of memory ---- */

static sow_code use_all(const char *json, sow_words *out)
{
    sow_tokenizer *tokenizer = NULL;
    sow_stream_decoder *decoder = NULL;
    sow_ids ids = {0};
    sow_code rc = SOW_OK;
    static const char text[] = "ab <x y>\xC3\xA9 e\xCC\x81 the 123 foo \xE0\xA2\x97";
    SOW_TRY_OR(rc, sow_tokenizer_parse(json, strlen(json), "test", &tokenizer));
    SOW_TRY_OR(rc, sow_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids));
    SOW_TRY_OR(rc, sow_tokenizer_decode(tokenizer, ids.ids, ids.n, true, out));
    SOW_TRY_OR(rc, sow_stream_decoder_create(tokenizer, &decoder));
    for (int64_t i = 0; i < ids.n; i++)
        SOW_TRY_OR(rc, sow_stream_decoder_put(decoder, ids.ids[i], out));
    rc = sow_stream_decoder_end(decoder, out);
done:
    sow_stream_decoder_destroy(&decoder);
    sow_ids_fini(&ids);
    sow_tokenizer_destroy(&tokenizer);
    return rc;
}

static void check_every_allocation(const char *json)
{
    sow_code rc = SOW_ENOMEM;
    int64_t n = 0;
    while (rc != SOW_OK) {
        sow_words out = {0};
        int64_t live = sow_alloc_live();
        sow_alloc_fail_at(++n);
        rc = use_all(json, &out);
        sow_alloc_fail_at(0);
        if (rc != SOW_OK && rc != SOW_ENOMEM)
            fail_msg("allocation %lld: %s", (long long)n, sow_error_text());
        sow_words_fini(&out);
        assert_int_equal(sow_alloc_live(), live);
        assert_true(n < 20000);
    }
    assert_true(n > 20);
}

static void test_every_failed_allocation_is_a_clean_error(void **state)
{
    (void)state;
    static const char *const names[] = {"digit_runs", "contiguous", "bytes", "metaspace_always"};
    check_every_allocation(small);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        char *json = NULL;
        size_t bytes = 0;
        (void)snprintf(path, sizeof path, FIXTURES "%s.json", names[i]);
        CHECK_OK(sow_file_read(path, 1 << 20, &json, &bytes));
        check_every_allocation(json);
        SOW_FREE(&json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_merges_by_rank_and_falls_back_to_bytes),
        cmocka_unit_test(test_encode_with_special_begins_once),
        cmocka_unit_test(test_encode_appends_and_leaves_ids_alone_on_failure),
        cmocka_unit_test(test_encode_of_a_long_word_is_not_quadratic),
        cmocka_unit_test(test_encode_again_gives_the_same_ids),
        cmocka_unit_test(test_decode_replaces_a_broken_run_of_bytes),
        cmocka_unit_test(test_stream_gives_whole_characters_only),
        cmocka_unit_test(test_stream_ends_with_what_is_left_replaced),
        cmocka_unit_test(test_bytes_find_and_size_agree),
        cmocka_unit_test(test_holes_are_no_tokens),
        cmocka_unit_test(test_every_failed_allocation_is_a_clean_error),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
