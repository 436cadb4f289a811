// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are no tokenizer.json, or ask for what is not supported: each an error that says where and what. */
#include "check.h"

#include "sower/file.h"
#include "sower/tokenizer.h"
#include "sower/words.h"

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

typedef struct row {
    const char *json, *words;
} row;

static void check_rows(const row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sow_tokenizer *tokenizer = NULL;
        CHECK_FAILS(sow_tokenizer_parse(rows[i].json, strlen(rows[i].json), "T", &tokenizer), SOW_EFORMAT,
                    rows[i].words);
        assert_null(tokenizer);
        assert_true(strncmp(sow_error_text(), "T:", 2) == 0);
    }
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof *(rows))

static void test_wrong_outer_form_is_refused(void **state)
{
    (void)state;
    static const row rows[] = {
        {"", "is not JSON"},
        {"[]", "is no JSON object"},
        {"{}", "model: is missing or no object"},
        {"{\"model\":3}", "model: is missing or no object"},
        {"{" MODEL, "is not JSON"},
        {"{" MODEL ",\"extra\":1}", "key 'extra' is unknown"},
        {"{\"version\":\"2.0\"," MODEL "}", "version"},
        {"{\"version\":1," MODEL "}", "version"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "type 'Unigram' is not supported"},
        {"{\"model\":{\"vocab\":{}}}", "type '' is not supported"},
    };
    CHECK_ROWS(rows);
}

#define VOCAB(text) "{\"model\":{\"type\":\"BPE\",\"vocab\":" text ",\"merges\":[]}}"

static void test_wrong_vocabulary_is_refused(void **state)
{
    (void)state;
    static const row rows[] = {
        {VOCAB("null"), "model.vocab: is missing or no object"},
        {VOCAB("[\"a\"]"), "model.vocab: is missing or no object"},
        {VOCAB("{\"a\":\"0\"}"), "model.vocab: the id of 'a' is no whole number"},
        {VOCAB("{\"a\":0.5}"), "the id of 'a' is no whole number"},
        {VOCAB("{\"a\":-1}"), "id -1 of 'a' is outside [0, 65540]"},
        {VOCAB("{\"a\":65541}"), "id 65541 of 'a' is outside"},
        {VOCAB("{\"a\":9223372036854775807}"), "id 9223372036854775807 of 'a' is outside"},
        {VOCAB("{\"a\":99999999999999999999}"), "is not JSON"},
        {VOCAB("{\"a\":0,\"b\":0}"), "id 0 of 'b' is also that of 'a'"},
        {VOCAB("{\"a\":0,\"a\":1}"), "duplicate"},
        {VOCAB("{\"\xFF\":0}"), "is not JSON"},
    };
    CHECK_ROWS(rows);
}

#define MERGES(text) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":" text "}}"

static void test_wrong_merges_are_refused(void **state)
{
    (void)state;
    static const row rows[] = {
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "model.merges: is missing or no list"},
        {MERGES("{}"), "model.merges: is missing or no list"},
        {MERGES("[\"a b\",\"c a\"]"), "model.merges[1]: 'c' is not in the vocabulary"},
        {MERGES("[\"b a\"]"), "model.merges[0]: makes 'ba', which is not in the vocabulary"},
        {MERGES("[\"ab\"]"), "'ab' does not hold exactly one space"},
        {MERGES("[\"a  b\"]"), "'a  b' does not hold exactly one space"},
        {MERGES("[3]"), "is neither"},
        {MERGES("[[\"a\"]]"), "is neither"},
        {MERGES("[[\"a\",1]]"), "is no pair of strings"},
    };
    CHECK_ROWS(rows);
}

#define FLAG(text) "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]," text "}}"

static void test_unsupported_models_are_refused(void **state)
{
    (void)state;
    static const row rows[] = {
        {FLAG("\"dropout\":0.1"), "model.dropout"},
        {FLAG("\"dropout\":\"no\""), "model.dropout"},
        {FLAG("\"unk_token\":\"<unk>\""), "model.unk_token: '<unk>' is not in the vocabulary"},
        {FLAG("\"unk_token\":3"), "model.unk_token"},
        {FLAG("\"continuing_subword_prefix\":\"##\""), "continuing_subword_prefix"},
        {FLAG("\"end_of_word_suffix\":\"</w>\""), "end_of_word_suffix"},
        {FLAG("\"fuse_unk\":1"), "model.fuse_unk: is neither true nor false"},
        {FLAG("\"max_length\":1"), "key 'max_length' is unknown"},
    };
    CHECK_ROWS(rows);
}

#define ADDED(text) "{\"added_tokens\":" text "," MODEL "}"

static void test_wrong_added_tokens_are_refused(void **state)
{
    (void)state;
    static const row rows[] = {
        {ADDED("{}"), "added_tokens: is no list"},
        {ADDED("[3]"), "added_tokens[0].content"},
        {ADDED("[{\"id\":3}]"), "added_tokens[0].content: is missing or no string"},
        {ADDED("[{\"content\":\"x\"}]"), "id -1 of 'x' must be 3, the next free one"},
        {ADDED("[{\"id\":-2,\"content\":\"x\"}]"), "added_tokens[0].id: -2 is outside"},
        {ADDED("[{\"id\":4,\"content\":\"x\"}]"), "id 4 of 'x' must be 3, the next free one"},
        {ADDED("[{\"id\":1,\"content\":\"a\"}]"), "id 1 of 'a' must be 0, as in the vocabulary"},
        {ADDED("[{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":\"x\"}]"), "'x' is there twice"},
        {ADDED("[{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":\"y\"}]"), "id 3 of 'y' must be 4"},
        {ADDED("[{\"id\":3,\"content\":\"\"}]"), "content: is empty"},
        {ADDED("[{\"id\":3,\"content\":\"x\",\"special\":\"yes\"}]"), "special: is neither true nor false"},
        {ADDED("[{\"id\":3,\"content\":\"x\",\"colour\":1}]"), "key 'colour' is unknown"},
        {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},\"content\":\"\"},\"added_tokens\":[{"
         "\"id\":3,"
         "\"content\":\"x\",\"normalized\":true}]," MODEL "}",
         "is empty once it is normalized"},
    };
    CHECK_ROWS(rows);
}

#define PART(name, text) "{\"" name "\":" text "," MODEL "}"

static void test_unknown_components_are_named(void **state)
{
    (void)state;
    static const row rows[] = {
        {PART("normalizer", "3"), "normalizer: is no object"},
        {PART("normalizer", "{}"), "normalizer.type: is missing"},
        {PART("normalizer", "{\"type\":\"Lowercase\"}"), "normalizer: type 'Lowercase' is not supported; these are"},
        {PART("normalizer", "{\"type\":\"Sequence\"}"), "normalizer.normalizers: is no list"},
        {PART("normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Nmt\"}]}"),
         "normalizer.normalizers[1]: type 'Nmt' is not supported"},
        {PART("normalizer", "{\"type\":\"Prepend\"}"), "normalizer.prepend: is missing"},
        {PART("normalizer", "{\"type\":\"Replace\",\"content\":\"\"}"), "normalizer.pattern: is neither"},
        {PART("normalizer", "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{\"String\":\"\"}}"),
         "is an empty string"},
        {PART("pre_tokenizer", "{\"type\":\"Whitespace\"}"), "pre_tokenizer: type 'Whitespace' is not supported"},
        {PART("pre_tokenizer", "{\"type\":\"Digits\",\"size\":3}"), "key 'size' is unknown"},
        {PART("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Cut\"}"),
         "'Cut' is unknown"},
        {PART("pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "replacement: is not one character"},
        {PART("pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"),
         "'last' is unknown"},
        {PART("pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}"),
         "add_prefix_space"},
        {PART("decoder", "{\"type\":\"CTC\"}"), "decoder: type 'CTC' is not supported"},
        {PART("decoder", "{\"type\":\"Strip\",\"content\":\"\",\"start\":1,\"stop\":0}"),
         "content: is not one character"},
        {PART("decoder", "{\"type\":\"Strip\",\"content\":\"x\",\"start\":-1,\"stop\":0}"), "start: -1 is outside"},
        {PART("decoder", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteLevel\"}]}"),
         "decoders[1]: is not supported behind"},
        {PART("decoder", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":"
                         "\"x\",\"start\":0,"
                         "\"stop\":1}]}"),
         "decoders[1]: behind Fuse"},
        {PART("post_processor", "{\"type\":\"BertProcessing\"}"),
         "post_processor: type 'BertProcessing' is not supported"},
        {PART("post_processor", "{\"type\":\"TemplateProcessing\"}"), "single: is missing"},
        {PART("post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"S\"}}],"
                                "\"special_tokens\":{\"S\":{\"ids\":[7]}}}"),
         "id 7 of 'S' is no token"},
        {PART("post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"S\"}}]}"),
         "no ids for 'S'"},
        {PART("post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[]}"),
         "does not hold Sequence A exactly once"},
        {PART("post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}"),
         "Sequence A"},
    };
    CHECK_ROWS(rows);
}

/* Expressions that pcre2 would read as something else than Oniguruma, or not at all. */
static void test_expressions_that_would_differ_are_refused(void **state)
{
    (void)state;
    static const char *const expressions[] = {
        "a(b",         "[a",         "a)",      "*a",      "\\\\h",    "\\\\b",       "\\\\K",  "\\\\1",
        "\\\\Qa\\\\E", "\\\\p{Han}", "\\\\pL",  "\\\\p{^", "[a[b]]",   "[[:alpha:]]", "[a&&b]", "[]a]",
        "[\\\\W]",     "(?m)a",      "a(?i)b",  "(?~a)",   "(*LIMIT)", "(?{x})",      "a{2}+",  "a{1,2}?",
        "\\\\xZZ",     "\\\\xFF",    "\\\\u12", "\\\\x{}", "a\\\\",    "a\\u0000b",
    };
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) {
        char json[512];
        sow_tokenizer *tokenizer = NULL;
        (void)snprintf(
            json, sizeof json,
            "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"}," MODEL
            "}",
            expressions[i]);
        sow_code rc = sow_tokenizer_parse(json, strlen(json), "T", &tokenizer);
        if (rc != SOW_EFORMAT || strstr(sow_error_text(), "T: pre_tokenizer: ") == NULL)
            fail_msg("'%s': code %d, %s", expressions[i], (int)rc, sow_error_text());
    }
}

/* An expression that would take for ever gives up: an error, not a wrong cut. */
static void test_expression_that_gives_up_is_an_error(void **state)
{
    (void)state;
    static const char json[] =
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+$\"},\"behavior\":\"Isolated\"},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
    sow_tokenizer *tokenizer = NULL;
    sow_ids ids = {0};
    CHECK_OK(sow_tokenizer_parse(json, strlen(json), "T", &tokenizer));
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab";
    CHECK_FAILS(sow_tokenizer_encode(tokenizer, text, sizeof text - 1, false, &ids), SOW_EFORMAT, "gave up");
    assert_int_equal(ids.n, 0);
    sow_ids_fini(&ids);
    sow_tokenizer_destroy(&tokenizer);
}

/* Cut off anywhere, a good file is a bad one. */
static void test_truncated_files_are_refused(void **state)
{
    (void)state;
    char *json = NULL;
    size_t bytes = 0;
    CHECK_OK(sow_file_read(SOW_SOURCE_DIR "/tests/fixtures/tokenizers/bytes.json", 1 << 20, &json, &bytes));
    for (size_t n = 0; n + 2 < bytes; n += 61) {
        sow_tokenizer *tokenizer = NULL;
        CHECK_FAILS(sow_tokenizer_parse(json, n, "T", &tokenizer), SOW_EFORMAT, "is not JSON");
    }
    SOW_FREE(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_outer_form_is_refused),
        cmocka_unit_test(test_wrong_vocabulary_is_refused),
        cmocka_unit_test(test_wrong_merges_are_refused),
        cmocka_unit_test(test_unsupported_models_are_refused),
        cmocka_unit_test(test_wrong_added_tokens_are_refused),
        cmocka_unit_test(test_unknown_components_are_named),
        cmocka_unit_test(test_expressions_that_would_differ_are_refused),
        cmocka_unit_test(test_expression_that_gives_up_is_an_error),
        cmocka_unit_test(test_truncated_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
