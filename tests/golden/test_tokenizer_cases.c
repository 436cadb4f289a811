// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers against Hugging Face's own library: ids, ids with special tokens, and decoded text of tricky cases, and
 * the count and FNV-1a 64 hash of the ids of 4,988 real texts.
 *
 * The cases of real tokenizers lie in ../shared/tokenizer_cases, those of small ones, which have the parts that the
 * real ones lack, in tests/fixtures/tokenizers (tests/golden/make_tokenizer_fixtures.py, tokenizers 0.23.3). */
#include "check.h"

#include "sower/file.h"
#include "sower/json.h"
#include "sower/tokenizer.h"
#include "sower/words.h"

#include <inttypes.h>

static sow_tokenizer *load(const char *path)
{
    sow_tokenizer *tokenizer = NULL;
    sow_mapping map = {0};
    CHECK_OK(sow_file_map(path, &map));
    CHECK_OK(sow_tokenizer_parse((const char *)map.data, map.bytes, path, &tokenizer));
    sow_file_unmap(&map);
    return tokenizer;
}

/* Calls `row` for each line of a file of JSON lines; returns their number. */
static int64_t for_lines(const char *path, void (*row)(const sow_json *line, void *context), void *context)
{
    sow_mapping map = {0};
    int64_t n = 0;
    CHECK_OK(sow_file_map(path, &map));
    for (size_t at = 0; at < map.bytes; n++) {
        const char *text = (const char *)map.data + at;
        const char *end = memchr(text, '\n', map.bytes - at);
        size_t bytes = end == NULL ? map.bytes - at : (size_t)(end - text);
        sow_json *line = NULL;
        CHECK_OK(sow_json_parse(text, bytes, path, &line));
        row(line, context);
        sow_json_destroy(&line);
        at += bytes + 1;
    }
    sow_file_unmap(&map);
    return n;
}

static void check_ids(const char *id, const sow_json *want, const sow_ids *got)
{
    if (sow_json_size(want) != got->n)
        fail_msg("case %s: %" PRId64 " ids, expected %" PRId64, id, got->n, sow_json_size(want));
    for (int64_t i = 0; i < got->n; i++) {
        int64_t expected = -1;
        assert_true(sow_json_to_int(sow_json_at(want, i), &expected));
        if (got->ids[i] != expected)
            fail_msg("case %s: id %" PRId64 " is %d, expected %" PRId64, id, i, got->ids[i], expected);
    }
}

/* Decoding at once and in a stream must both give `want`; the stream gives whole characters only. */
static void check_decoded(const char *id, sow_tokenizer *tokenizer, const sow_ids *ids, const char *want, size_t bytes)
{
    sow_words whole = {0}, stream = {0};
    sow_stream_decoder *decoder = NULL;
    CHECK_OK(sow_tokenizer_decode(tokenizer, ids->ids, ids->n, false, &whole));
    if (whole.bytes != bytes || (bytes > 0 && memcmp(whole.text, want, bytes) != 0))
        fail_msg("case %s: decoded '%s', expected '%s'", id, whole.text, want);
    CHECK_OK(sow_stream_decoder_create(tokenizer, &decoder));
    for (int64_t i = 0; i < ids->n; i++) {
        CHECK_OK(sow_stream_decoder_put(decoder, ids->ids[i], &stream));
        assert_true(sow_words_is_utf8(stream.text == NULL ? "" : stream.text, stream.bytes));
    }
    CHECK_OK(sow_stream_decoder_end(decoder, &stream));
    if (stream.bytes != bytes || (bytes > 0 && memcmp(stream.text, want, bytes) != 0))
        fail_msg("case %s: streamed '%s', expected '%s'", id, stream.text, want);
    sow_stream_decoder_destroy(&decoder);
    sow_words_fini(&whole);
    sow_words_fini(&stream);
}

/* Decoding at once, with or without special tokens. */
static void check_whole(const char *id, sow_tokenizer *tokenizer, const sow_json *ids, bool skip_special,
                        const sow_json *want)
{
    size_t bytes = 0;
    const char *text = sow_json_to_string(want, &bytes);
    sow_ids list = {0};
    sow_words got = {0};
    assert_non_null(text);
    for (int64_t i = 0; i < sow_json_size(ids); i++) {
        int64_t value = -1;
        assert_true(sow_json_to_int(sow_json_at(ids, i), &value));
        CHECK_OK(sow_ids_add(&list, (int32_t)value));
    }
    CHECK_OK(sow_tokenizer_decode(tokenizer, list.ids, list.n, skip_special, &got));
    if (got.bytes != bytes || (bytes > 0 && memcmp(got.text, text, bytes) != 0))
        fail_msg("case %s: decoded '%s', expected '%s'", id, got.text, text);
    sow_words_fini(&got);
    sow_ids_fini(&list);
}

static void core_row(const sow_json *line, void *context)
{
    sow_tokenizer *tokenizer = context;
    size_t bytes = 0, want_bytes = 0;
    const char *id = sow_json_to_string(sow_json_get(line, "id"), NULL);
    const char *text = sow_json_to_string(sow_json_get(line, "text"), &bytes);
    if (sow_json_get(line, "skipped") != NULL) {
        check_whole(id, tokenizer, sow_json_get(line, "ids"), false, sow_json_get(line, "decoded"));
        check_whole(id, tokenizer, sow_json_get(line, "ids"), true, sow_json_get(line, "skipped"));
    }
    if (text == NULL)
        return;
    sow_ids ids = {0}, special = {0};
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, bytes, false, &ids));
    check_ids(id, sow_json_get(line, "ids"), &ids);
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, bytes, true, &special));
    const sow_json *with_special = sow_json_get(line, "ids_with_special");
    const char *begin = "<|start_story|>"; /* Hugging Face would begin such a text twice */
    if (with_special == NULL || strncmp(text, begin, strlen(begin)) == 0)
        with_special = sow_json_get(line, "ids");
    check_ids(id, with_special, &special);
    const char *want = sow_json_to_string(sow_json_get(line, "decoded"), &want_bytes);
    check_decoded(id, tokenizer, &ids, want == NULL ? text : want, want == NULL ? bytes : want_bytes);
    sow_ids_fini(&special);
    sow_ids_fini(&ids);
}

typedef struct kept {
    sow_json *json; /* owned */
} kept;

typedef struct source {
    char name[64]; /* "gsm8k/test.jsonl" */
    kept *rows;    /* owned */
    int64_t n, capacity;
} source;

static void keep_row(const sow_json *line, void *context)
{
    source *s = context;
    sow_line *copy = NULL;
    const char *text = NULL;
    CHECK_OK(SOW_GROW(&s->rows, &s->capacity, s->n));
    CHECK_OK(sow_line_create(&copy));
    sow_line_node(copy, NULL, line);
    CHECK_OK(sow_line_text(copy, &text));
    CHECK_OK(sow_json_parse(text, strlen(text), s->name, &s->rows[s->n++].json));
    sow_line_destroy(&copy);
}

static void open_source(source *s, const char *name)
{
    for (int64_t i = 0; i < s->n; i++)
        sow_json_destroy(&s->rows[i].json);
    SOW_FREE(&s->rows);
    *s = (source){0};
    if (name[0] == '\0')
        return;
    char path[128];
    (void)snprintf(s->name, sizeof s->name, "%s", name);
    (void)snprintf(path, sizeof path, "data/%s", name);
    (void)for_lines(check_shared(path), keep_row, s);
}

static const sow_json *row_of(const source *s, int64_t i)
{
    return s->rows != NULL && i >= 0 && i < s->n ? s->rows[i].json : NULL;
}

typedef struct bulk {
    sow_tokenizer *tokenizer;
    source source;
} bulk;

/* {"src": "FILE:FIELD" or "FILE:FIELD[0]", "i": row, "n": ids, "fnv1a64_le32": hash} */
static void bulk_row(const sow_json *line, void *context)
{
    bulk *b = context;
    char name[64] = "";
    const char *src = sow_json_to_string(sow_json_get(line, "src"), NULL);
    const char *colon = strchr(src, ':');
    (void)snprintf(name, sizeof name, "%.*s", (int)(colon - src), src);
    if (strcmp(name, b->source.name) != 0)
        open_source(&b->source, name);
    int64_t i = -1, n = -1;
    assert_true(sow_json_to_int(sow_json_get(line, "i"), &i));
    assert_true(sow_json_to_int(sow_json_get(line, "n"), &n));
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(colon + 1, "["), colon + 1);
    const sow_json *node = sow_json_get(row_of(&b->source, i), name);
    if (strchr(colon, '[') != NULL)
        node = sow_json_at(node, 0);
    size_t bytes = 0;
    const char *text = sow_json_to_string(node, &bytes);
    assert_non_null(text);
    sow_ids ids = {0};
    CHECK_OK(sow_tokenizer_encode(b->tokenizer, text, bytes, false, &ids));
    uint64_t hash = 0xCBF29CE484222325u;
    for (int64_t k = 0; k < 4 * ids.n; k++)
        hash = (hash ^ ((uint32_t)ids.ids[k / 4] >> 8 * (k % 4) & 0xFF)) * 0x100000001B3u;
    char got[32];
    (void)snprintf(got, sizeof got, "%016" PRIx64, hash);
    const char *want = sow_json_to_string(sow_json_get(line, "fnv1a64_le32"), NULL);
    if (ids.n != n || strcmp(got, want) != 0)
        fail_msg("%s row %" PRId64 ": %" PRId64 " ids with hash %s, expected %" PRId64 " with %s", src, i, ids.n, got,
                 n, want);
    check_decoded(src, b->tokenizer, &ids, text, bytes);
    sow_ids_fini(&ids);
}

static void check_core(const char *tokenizer_path, const char *cases, int64_t n)
{
    const char *path = check_shared(tokenizer_path);
    if (path == NULL)
        skip();
    sow_tokenizer *tokenizer = load(path);
    assert_int_equal(for_lines(check_shared(cases), core_row, tokenizer), n);
    sow_tokenizer_destroy(&tokenizer);
}

static void check_bulk(const char *tokenizer_path, const char *cases)
{
    const char *path = check_shared(tokenizer_path);
    if (path == NULL)
        skip();
    bulk b = {.tokenizer = load(path)};
    assert_int_equal(for_lines(check_shared(cases), bulk_row, &b), 4988);
    open_source(&b.source, "");
    sow_tokenizer_destroy(&b.tokenizer);
}

static void test_fixtures_give_the_same_ids(void **state)
{
    static const char *const names[] = {"bytes",           "contiguous", "digit_runs", "digits",
                                        "dropped",         "empties",    "inverted",   "metaspace_always",
                                        "metaspace_first", "next",       "previous",   "removed",
                                        "thousands",       "unknown",    "vertical",   "words"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        (void)snprintf(path, sizeof path, SOW_SOURCE_DIR "/tests/fixtures/tokenizers/%s.json", names[i]);
        sow_tokenizer *tokenizer = load(path);
        (void)snprintf(path, sizeof path, SOW_SOURCE_DIR "/tests/fixtures/tokenizers/%s.cases.jsonl", names[i]);
        assert_int_equal(for_lines(path, core_row, tokenizer), 40);
        sow_tokenizer_destroy(&tokenizer);
    }
}

static void test_gpt2_core_gives_the_same_ids(void **state)
{
    (void)state;
    check_core("tokenizers/gpt2/tokenizer.json", "tokenizer_cases/gpt2.core.jsonl", 100);
}

static void test_tinystories_core_gives_the_same_ids(void **state)
{
    (void)state;
    check_core("models/tinystories-656k/tokenizer.json", "tokenizer_cases/tinystories-656k.core.jsonl", 100);
}

static void test_llama3_core_gives_the_same_ids(void **state)
{
    (void)state;
    check_core("tokenizers/llama3/tokenizer.json", "tokenizer_cases/llama3.core.jsonl", 100);
}

static void test_qwen2_5_core_gives_the_same_ids(void **state)
{
    (void)state;
    check_core("tokenizers/qwen2_5/tokenizer.json", "tokenizer_cases/qwen2_5.core.jsonl", 100);
}

static void test_llama3_bulk_gives_the_same_hashes(void **state)
{
    (void)state;
    check_bulk("tokenizers/llama3/tokenizer.json", "tokenizer_cases/llama3.bulk.jsonl");
}

static void test_qwen2_5_bulk_gives_the_same_hashes(void **state)
{
    (void)state;
    check_bulk("tokenizers/qwen2_5/tokenizer.json", "tokenizer_cases/qwen2_5.bulk.jsonl");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures_give_the_same_ids),
        cmocka_unit_test(test_gpt2_core_gives_the_same_ids),
        cmocka_unit_test(test_tinystories_core_gives_the_same_ids),
        cmocka_unit_test(test_llama3_core_gives_the_same_ids),
        cmocka_unit_test(test_qwen2_5_core_gives_the_same_ids),
        cmocka_unit_test(test_llama3_bulk_gives_the_same_hashes),
        cmocka_unit_test(test_qwen2_5_bulk_gives_the_same_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
