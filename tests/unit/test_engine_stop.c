// NEEDS: nn text la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings: generation ends with the token whose bytes complete the string, wherever in tokens it begins and
 * ends. */
#include "random_model.h"

#include "sower/tokenizer.h"
#include "sower/words.h"

enum { N = 8, NEW = 24, VOCAB = 61 };

/* Token i is the i-th word over a, b, c, short ones first: "a", "b", "c", "aa", "ab", ...: many overlaps. */
static void word(int64_t i, char out[8])
{
    int64_t length = 1, count = 3;
    for (; i >= count; length++, count *= 3)
        i -= count;
    for (int64_t k = length - 1; k >= 0; k--, i /= 3)
        out[k] = (char)('a' + i % 3);
    out[length] = '\0';
}

static sow_tokenizer *make_tokenizer(void)
{
    sow_tokenizer *tokenizer = NULL;
    sow_words json = {0};
    CHECK_OK(sow_words_print(&json,
                             "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
                             "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                             "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
                             "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
                             "\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                             "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
                             "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{"));
    for (int64_t i = 0; i < VOCAB; i++) {
        char text[8];
        word(i, text);
        CHECK_OK(sow_words_print(&json, "%s\"%s\":%d", i == 0 ? "" : ",", text, (int)i));
    }
    CHECK_OK(sow_words_print(&json, "},\"merges\":[]}}"));
    CHECK_OK(sow_tokenizer_parse(json.text, json.bytes, "test", &tokenizer));
    sow_words_fini(&json);
    return tokenizer;
}

typedef struct setting {
    random_model m;
    sow_tokenizer *tokenizer;
    sow_engine *engine;
    int32_t ids[N][9];
    sow_prompt prompts[N];
} setting;

static void generate(const setting *s, const char *stop, double temperature, sow_completion *out)
{
    CHECK_OK(sow_engine_generate(s->engine,
                                 &(sow_generate_args){.replica = s->m.replica,
                                                      .prompts = s->prompts,
                                                      .n_prompts = N,
                                                      .max_new = NEW,
                                                      .stop = stop,
                                                      .tokenizer = s->tokenizer,
                                                      .temperature = temperature,
                                                      .seed = 1},
                                 out));
}

/* The text after each token of the completions without a stop string. */
static char texts[N][NEW + 1][8 * NEW];
static int32_t free_ids[N][NEW];

static void check_stop(const setting *s, const char *stop, int64_t *n_stopped)
{
    sow_completion got[N];
    generate(s, stop, 1.0, got);
    for (int64_t i = 0; i < N; i++) {
        int64_t n = 1;
        while (n < NEW && strstr(texts[i][n], stop) == NULL)
            n++;
        const bool is_found = strstr(texts[i][n], stop) != NULL;
        assert_int_equal(got[i].n, n);
        assert_int_equal(got[i].n_sampled, n);
        assert_int_equal(got[i].finish, is_found ? SOW_FINISH_STOP : SOW_FINISH_LENGTH);
        assert_memory_equal(got[i].ids, free_ids[i], (size_t)n * sizeof(int32_t));
        *n_stopped += is_found;
    }
}

static void test_stop_string_over_tokens_ends_where_the_text_has_it(void **state)
{
    (void)state;
    setting s = {.m = random_model_open(&random_shapes[0], "auto", 1, SOW_FP16), .tokenizer = make_tokenizer()};
    sow_completion got[N];
    int64_t n_stopped = 0;
    CHECK_OK(sow_engine_create(s.m.la, s.m.layout, 3, &s.engine));
    for (int64_t i = 0; i < N; i++) {
        random_ids((uint32_t)(60 + i), VOCAB, 9, s.ids[i]);
        s.prompts[i] = (sow_prompt){s.ids[i], 9};
    }
    generate(&s, NULL, 1.0, got);
    for (int64_t i = 0; i < N; i++) {
        assert_int_equal(got[i].finish, SOW_FINISH_LENGTH);
        memcpy(free_ids[i], got[i].ids, sizeof free_ids[i]);
        for (int64_t k = 0; k < NEW; k++) {
            char text[8];
            word(got[i].ids[k], text);
            (void)snprintf(texts[i][k + 1], sizeof texts[i][k + 1], "%s%s", texts[i][k], text);
        }
    }
    for (int64_t at = 0; at < 30; at++) {
        for (size_t length = 1; length <= 9; length++) {
            char stop[16] = {0};
            memcpy(stop, texts[at % N][NEW] + at, length);
            check_stop(&s, stop, &n_stopped);
        }
    }
    assert_true(n_stopped > 500);
    n_stopped = 0;
    check_stop(&s, "abd", &n_stopped); /* a letter that is in no token */
    assert_int_equal(n_stopped, 0);
    generate(&s, "", 1.0, got); /* none */
    assert_int_equal(got[0].finish, SOW_FINISH_LENGTH);
    sow_engine_destroy(&s.engine);
    sow_tokenizer_destroy(&s.tokenizer);
    random_model_close(&s.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stop_string_over_tokens_ends_where_the_text_has_it)};
    return cmocka_run_group_tests_name("engine_stop", tests, NULL, check_live_zero);
}
