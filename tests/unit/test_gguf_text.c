// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer and the chat template inside a GGUF: lists as they should be become a tokenizer.json, lists that
 * disagree with each other are one line. */
#include "model_files.h"

static blob file;

/* What shall be different from a good vocabulary of four tokens: a key left out (kind -1), or with another value. */
typedef struct text_edit {
    const char *key;
    int kind, item; /* of the value, of its items */
    int64_t n;      /* items of an array; all the same: */
    const char *text;
    double number;
    const char *words; /* of the message; NULL: none */
} text_edit;

static void put_value(blob *b, int kind, double number, const char *text)
{
    if (kind == SOW_GGUF_STRING)
        blob_string(b, text);
    else if (kind == SOW_GGUF_F32)
        blob_float(b, (float)number);
    else
        blob_number(b, (uint64_t)(int64_t)number, kind == SOW_GGUF_BOOL ? 1 : 4);
}

static void put_edit(blob *b, const text_edit *edit)
{
    blob_string(b, edit->key);
    blob_number(b, (uint64_t)edit->kind, 4);
    if (edit->kind != SOW_GGUF_ARRAY) {
        put_value(b, edit->kind, edit->number, edit->text);
        return;
    }
    blob_number(b, (uint64_t)edit->item, 4);
    blob_number(b, (uint64_t)edit->n, 8);
    for (int64_t i = 0; i < edit->n; i++)
        put_value(b, edit->item, edit->number, edit->text);
}

/* Begins an entry unless the edit is about it. */
static bool begin(blob *b, const text_edit *edit, const char *key, int kind, int64_t *n)
{
    if (edit->key != NULL && strcmp(edit->key, key) == 0)
        return false;
    blob_string(b, key);
    blob_number(b, (uint64_t)kind, 4);
    (*n)++;
    return true;
}

static void begin_array(blob *b, int item, uint64_t n)
{
    blob_number(b, (uint64_t)item, 4);
    blob_number(b, n, 8);
}

/* A sentencepiece vocabulary: unknown, begin, a letter, a blank in front of it. */
static sow_code read_with(const text_edit *edit, char **json, char **template)
{
    static const char *const tokens[] = {"<unk>", "<s>", "a", "\xe2\x96\x81"};
    static const int types[] = {2, 3, 1, 1};
    int64_t n = 0;
    size_t bytes = 0;
    sow_gguf gguf = {0};
    sow_weights weights = {0};
    file.n = 0;
    blob_add(&file, "GGUF", 4);
    blob_number(&file, 3, 4);
    blob_number(&file, 0, 8);
    blob_number(&file, 0, 8);
    if (begin(&file, edit, "tokenizer.ggml.model", SOW_GGUF_STRING, &n))
        blob_string(&file, "llama");
    if (begin(&file, edit, "tokenizer.ggml.tokens", SOW_GGUF_ARRAY, &n)) {
        begin_array(&file, SOW_GGUF_STRING, 4);
        for (int i = 0; i < 4; i++)
            blob_string(&file, tokens[i]);
    }
    if (begin(&file, edit, "tokenizer.ggml.token_type", SOW_GGUF_ARRAY, &n)) {
        begin_array(&file, SOW_GGUF_I32, 4);
        for (int i = 0; i < 4; i++)
            blob_number(&file, (uint64_t)types[i], 4);
    }
    if (begin(&file, edit, "tokenizer.ggml.scores", SOW_GGUF_ARRAY, &n)) {
        begin_array(&file, SOW_GGUF_F32, 4);
        for (int i = 0; i < 4; i++)
            blob_float(&file, (float)-i);
    }
    if (begin(&file, edit, "tokenizer.ggml.bos_token_id", SOW_GGUF_U32, &n))
        blob_number(&file, 1, 4);
    if (begin(&file, edit, "tokenizer.chat_template", SOW_GGUF_STRING, &n))
        blob_string(&file, "{{ messages }}");
    if (edit->key != NULL && edit->kind >= 0) {
        put_edit(&file, edit);
        n++;
    }
    file.data[16] = (unsigned char)n;
    sow_code rc = sow_gguf_read(file.data, file.n, "m.gguf", &gguf, &weights);
    if (rc == SOW_OK)
        rc = sow_gguf_tokenizer(&gguf, json, &bytes);
    if (rc == SOW_OK)
        rc = sow_gguf_chat_template(&gguf, template);
    if (rc != SOW_OK)
        SOW_FREE(json);
    sow_weights_fini(&weights);
    sow_gguf_fini(&gguf);
    return rc;
}

static int64_t encode(const char *json, const char *text, int32_t ids[8])
{
    sow_tokenizer *tokenizer = NULL;
    sow_ids got = {0};
    CHECK_OK(sow_tokenizer_parse(json, strlen(json), "tokenizer.json", &tokenizer));
    CHECK_OK(sow_tokenizer_encode(tokenizer, text, strlen(text), true, &got));
    int64_t n = got.n;
    assert_in_range(n, 1, 8);
    memcpy(ids, got.ids, (size_t)n * sizeof *ids);
    sow_ids_fini(&got);
    sow_tokenizer_destroy(&tokenizer);
    return n;
}

/* llama.cpp's own defaults count where a key is missing: a sentencepiece model begins with BOS and a blank. */
static void test_tokenizer_when_flags_are_missing_takes_the_defaults_of_its_kind(void **state)
{
    (void)state;
    static const text_edit none = {0};
    static const text_edit plain = {.key = "tokenizer.ggml.add_bos_token", .kind = SOW_GGUF_BOOL, .number = 0};
    static const text_edit tight = {.key = "tokenizer.ggml.add_space_prefix", .kind = SOW_GGUF_BOOL, .number = 0};
    static const text_edit *const edits[] = {&none, &plain, &tight};
    static const int32_t expected[][3] = {{1, 3, 2}, {3, 2, -1}, {1, 2, -1}};
    for (int e = 0; e < 3; e++) {
        char *json = NULL, *template = NULL;
        int32_t ids[8] = {-1, -1, -1};
        CHECK_OK(read_with(edits[e], &json, &template));
        assert_int_equal(encode(json, "a", ids), expected[e][2] < 0 ? 2 : 3);
        assert_memory_equal(ids, expected[e], sizeof expected[e]);
        assert_string_equal(template, "{{ messages }}");
        SOW_FREE(&template);
        SOW_FREE(&json);
    }
}

/* One wrong thing each, and words of the message; without words nothing is wrong, and something is not there. */
static const text_edit wrong[] = {
    {.key = "tokenizer.ggml.tokens", .kind = -1}, /* no tokenizer at all */
    {.key = "tokenizer.ggml.scores", .kind = -1, .words = "m.gguf: "},
    {.key = "tokenizer.ggml.model", .kind = -1, .words = "tokenizer.ggml.model: is missing, expected a name"},
    {.key = "tokenizer.ggml.model", .kind = SOW_GGUF_U32, .words = "tokenizer.ggml.model: is of kind uint32"},
    {.key = "tokenizer.ggml.model", .kind = SOW_GGUF_STRING, .text = "rwkv", .words = "rwkv"},
    {.key = "tokenizer.ggml.model",
     .kind = SOW_GGUF_STRING,
     .words = "is no name",
     .text = "0123456789012345678901234567890123456789012345678901234567890123"},
    {.key = "tokenizer.ggml.pre", .kind = SOW_GGUF_BOOL, .words = "tokenizer.ggml.pre: is of kind bool"},
    {.key = "tokenizer.ggml.tokens",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_U32,
     .words = "expected an array of strings"},
    {.key = "tokenizer.ggml.tokens",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_STRING,
     .n = 4,
     .text = "\xff",
     .words = "tokenizer.ggml.tokens: item 0 is no UTF-8 text"},
    {.key = "tokenizer.ggml.tokens",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_STRING,
     .n = 5,
     .text = "x",
     .words = "tokenizer.ggml.token_type: 4 items is wrong, expected 5, one for each token"},
    {.key = "tokenizer.ggml.tokens", .kind = SOW_GGUF_ARRAY, .item = SOW_GGUF_STRING, .n = 0, .words = "expected 0"},
    {.key = "tokenizer.ggml.tokens",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_STRING,
     .n = 4,
     .text = "x",
     .words = "m.gguf"},
    {.key = "tokenizer.ggml.merges", .kind = SOW_GGUF_STRING, .text = "a b", .words = "merges: is of kind string"},
    {.key = "tokenizer.ggml.token_type",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_I32,
     .n = 4,
     .number = 7,
     .words = "tokenizer.ggml.token_type: item 0 is 7, expected 0 to 6"},
    {.key = "tokenizer.ggml.token_type",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_F32,
     .n = 4,
     .words = "tokenizer.ggml.token_type: is of kind array, expected an array of integers"},
    {.key = "tokenizer.ggml.token_type", .kind = SOW_GGUF_U32, .words = "token_type: is of kind uint32"},
    {.key = "tokenizer.ggml.scores", .kind = SOW_GGUF_ARRAY, .item = SOW_GGUF_F32, .n = 3, .words = "3 items is wrong"},
    {.key = "tokenizer.ggml.scores",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_F32,
     .n = 4,
     .number = (double)NAN,
     .words = "tokenizer.ggml.scores: item 0 is no finite number"},
    {.key = "tokenizer.ggml.scores",
     .kind = SOW_GGUF_ARRAY,
     .item = SOW_GGUF_BOOL,
     .n = 4,
     .words = "scores: is of kind"},
    {.key = "tokenizer.ggml.bos_token_id", .kind = -1, .words = "m.gguf: "}, /* BOS is asked for, by default */
    {.key = "tokenizer.ggml.bos_token_id", .kind = SOW_GGUF_U32, .number = 4, .words = "m.gguf: "},
    {.key = "tokenizer.ggml.bos_token_id", .kind = SOW_GGUF_F32, .words = "bos_token_id: is of kind float32"},
    {.key = "tokenizer.ggml.add_bos_token", .kind = SOW_GGUF_U32, .words = "add_bos_token: is of kind uint32"},
    {.key = "tokenizer.chat_template", .kind = SOW_GGUF_STRING, .text = "\xc3(", .words = "chat_template: is no UTF-8"},
    {.key = "tokenizer.chat_template", .kind = -1}, /* none */
};

static void test_tokenizer_when_lists_are_wrong_names_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *json = NULL, *template = NULL;
        if (wrong[i].words != NULL) {
            CHECK_FAILS(read_with(&wrong[i], &json, &template), SOW_EFORMAT, wrong[i].words);
        } else {
            CHECK_OK(read_with(&wrong[i], &json, &template));
            assert_true((json == NULL) == (i == 0) && (template == NULL) == (i != 0));
        }
        SOW_FREE(&template);
        SOW_FREE(&json);
    }
}

/* A byte-level vocabulary in a whole file, kept among the inputs of the fuzz target. */
static void test_tokenizer_of_bytes_in_a_whole_file_is_read(void **state)
{
    (void)state;
    sow_model *model = NULL;
    int32_t ids[8];
    CHECK_OK(sow_model_open_shape(SOW_SOURCE_DIR "/tests/fuzz/corpus/gguf/gpt2.gguf", &model));
    assert_int_equal(encode(sow_model_tokenizer_json(model, NULL), "he!<|end|>", ids), 3);
    assert_int_equal(ids[0], 256);
    assert_int_equal(ids[1], '!');
    assert_int_equal(ids[2], 257);
    assert_string_equal(sow_model_chat_template(model), "{{ x }}");
    sow_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer_when_flags_are_missing_takes_the_defaults_of_its_kind),
        cmocka_unit_test(test_tokenizer_when_lists_are_wrong_names_them),
        cmocka_unit_test(test_tokenizer_of_bytes_in_a_whole_file_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
