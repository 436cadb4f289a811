// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a tokenizer.json: it is read or refused with one line.  What was read encodes texts (and the file
 * itself), to ids in range, decodes them and any others, at once and in a stream, to UTF-8; read again, it gives the
 * same ids. */
#include "fuzz.h"

#include "sower/tokenizer.h"
#include "sower/words.h"

static const char *const texts[] = {
    "",
    " Hello  world's\n\n 12345 \xC2\xBD",
    "<s><|im_start|>a\tb<unk></s> foo foobar  ",
    "e\xCC\x81\xE2\x96\x81\xF0\x9F\x91\x8D\xE0\xA2\x97 \xE4\xB8\xAD\xE6\x96\x87 ab aab abab",
};

static void check_code(sow_code rc)
{
    FUZZ_CHECK(rc == SOW_OK || rc == SOW_EFORMAT);
    if (rc != SOW_OK)
        FUZZ_CHECK_MESSAGE();
}

static void check_utf8(const sow_words *words)
{
    FUZZ_CHECK(words->bytes == 0 || sow_words_is_utf8(words->text, words->bytes));
}

static void run_ids(sow_tokenizer *tokenizer, const int32_t *ids, int64_t n)
{
    sow_stream_decoder *decoder = NULL;
    sow_words whole = {0}, stream = {0};
    for (int skip = 0; skip < 2; skip++)
        FUZZ_CHECK(sow_tokenizer_decode(tokenizer, ids, n, skip == 1, &whole) == SOW_OK);
    check_utf8(&whole);
    FUZZ_CHECK(sow_stream_decoder_create(tokenizer, &decoder) == SOW_OK);
    for (int64_t i = 0; i < n; i++) {
        FUZZ_CHECK(sow_stream_decoder_put(decoder, ids[i], &stream) == SOW_OK);
        check_utf8(&stream);
    }
    FUZZ_CHECK(sow_stream_decoder_end(decoder, &stream) == SOW_OK);
    check_utf8(&stream);
    sow_stream_decoder_destroy(&decoder);
    sow_words_fini(&stream);
    sow_words_fini(&whole);
}

/* An expression of the file may give up on a text: that is an error, and `ids` stays as it was. */
static void run_text(sow_tokenizer *tokenizer, sow_tokenizer *again, const char *text, size_t bytes)
{
    sow_ids ids = {0}, same = {0};
    sow_code rc = sow_tokenizer_encode(tokenizer, text, bytes, true, &ids);
    check_code(rc);
    FUZZ_CHECK(sow_tokenizer_encode(again, text, bytes, true, &same) == rc);
    FUZZ_CHECK(ids.n == same.n && (ids.n == 0 || memcmp(ids.ids, same.ids, (size_t)ids.n * sizeof *ids.ids) == 0));
    FUZZ_CHECK(rc == SOW_OK || ids.n == 0);
    for (int64_t i = 0; i < ids.n; i++) {
        size_t n = 0;
        FUZZ_CHECK(ids.ids[i] >= 0 && ids.ids[i] < sow_tokenizer_size(tokenizer));
        FUZZ_CHECK(sow_tokenizer_bytes(tokenizer, ids.ids[i], &n) != NULL);
    }
    run_ids(tokenizer, ids.ids, ids.n);
    sow_ids_fini(&same);
    sow_ids_fini(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    sow_tokenizer *tokenizer = NULL, *again = NULL;
    const char *json = bytes > 0 ? (const char *)data : "";
    sow_code rc = sow_tokenizer_parse(json, bytes, "fuzz", &tokenizer);
    check_code(rc);
    if (rc == SOW_OK) {
        size_t json_bytes = 0;
        const char *text = sow_tokenizer_json(tokenizer, &json_bytes);
        FUZZ_CHECK(json_bytes == bytes && sow_tokenizer_parse(text, json_bytes, "again", &again) == SOW_OK);
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            run_text(tokenizer, again, texts[i], strlen(texts[i]));
        run_text(tokenizer, again, json, bytes);
        int32_t all[300];
        for (int32_t i = 0; i < 300; i++)
            all[i] = i * 7 % 300;
        run_ids(tokenizer, all, 300);
    }
    sow_tokenizer_destroy(&again);
    sow_tokenizer_destroy(&tokenizer);
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}
