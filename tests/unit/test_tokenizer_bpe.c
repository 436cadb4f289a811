// NEEDS: text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding with a heap against its plain twin, which looks through the whole word before every merge: random
 * vocabularies over four letters, random words. */
#include "check.h"

#include "sower/tokenizer.h"
#include "sower/words.h"

enum { N_LETTERS = 4, N_MERGES = 60, N_TOKENS = N_LETTERS + N_MERGES, TOKEN_BYTES = 24, WORD_BYTES = 80 };

typedef struct vocabulary {
    char tokens[N_TOKENS][TOKEN_BYTES];
    int left[N_MERGES], right[N_MERGES]; /* merge i makes token N_LETTERS + i */
    int n;                               /* tokens */
} vocabulary;

static uint32_t state_of_draw;

/* A small generator of our own: the numbers only have to be many and the same each time. */
static int draw(int below)
{
    state_of_draw = state_of_draw * 1664525u + 1013904223u;
    return (int)((state_of_draw >> 8) % (uint32_t)below);
}

static int find(const vocabulary *v, const char *token)
{
    for (int i = 0; i < v->n; i++)
        if (strcmp(v->tokens[i], token) == 0)
            return i;
    return -1;
}

/* Random merges of tokens that are there already, none twice. */
static void make_vocabulary(vocabulary *v)
{
    v->n = N_LETTERS;
    for (int i = 0; i < N_LETTERS; i++)
        (void)snprintf(v->tokens[i], TOKEN_BYTES, "%c", 'a' + i);
    while (v->n < N_TOKENS) {
        int left = draw(v->n), right = draw(v->n);
        char made[2 * TOKEN_BYTES];
        (void)snprintf(made, sizeof made, "%s%s", v->tokens[left], v->tokens[right]);
        if (strlen(made) >= TOKEN_BYTES || find(v, made) >= 0)
            continue;
        v->left[v->n - N_LETTERS] = left;
        v->right[v->n - N_LETTERS] = right;
        memcpy(v->tokens[v->n++], made, TOKEN_BYTES);
    }
}

static sow_tokenizer *make_tokenizer(const vocabulary *v)
{
    sow_words json = {0};
    sow_tokenizer *tokenizer = NULL;
    CHECK_OK(sow_words_print(&json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{"));
    for (int i = 0; i < v->n; i++)
        CHECK_OK(sow_words_print(&json, "%s\"%s\":%d", i > 0 ? "," : "", v->tokens[i], i));
    CHECK_OK(sow_words_print(&json, "},\"merges\":["));
    for (int i = 0; i < N_MERGES; i++)
        CHECK_OK(
            sow_words_print(&json, "%s\"%s %s\"", i > 0 ? "," : "", v->tokens[v->left[i]], v->tokens[v->right[i]]));
    CHECK_OK(sow_words_print(&json, "]}}"));
    CHECK_OK(sow_tokenizer_parse(json.text, json.bytes, "test", &tokenizer));
    sow_words_fini(&json);
    return tokenizer;
}

/* The plain twin: merges the leftmost pair of the lowest rank until there is none. */
static int merge_plainly(const vocabulary *v, const char *word, int *ids)
{
    int n = (int)strlen(word);
    for (int i = 0; i < n; i++)
        ids[i] = word[i] - 'a';
    for (;;) {
        int best = N_MERGES, at = -1;
        for (int i = 0; i + 1 < n; i++)
            for (int m = 0; m < best; m++)
                if (v->left[m] == ids[i] && v->right[m] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
        if (at < 0)
            return n;
        ids[at] = N_LETTERS + best;
        memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 2) * sizeof *ids);
        n--;
    }
}

static void check_word(const vocabulary *v, sow_tokenizer *tokenizer, const char *word, int64_t *n_merged)
{
    int want[WORD_BYTES];
    int n = merge_plainly(v, word, want);
    sow_ids got = {0};
    CHECK_OK(sow_tokenizer_encode(tokenizer, word, strlen(word), false, &got));
    assert_int_equal(got.n, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(got.ids[i], want[i]);
    sow_ids_fini(&got);
    *n_merged += (int64_t)strlen(word) - n;
}

static void test_heap_gives_what_the_plain_twin_gives(void **state)
{
    (void)state;
    state_of_draw = 1;
    int64_t n_merged = 0;
    for (int k = 0; k < 20; k++) {
        vocabulary v;
        make_vocabulary(&v);
        sow_tokenizer *tokenizer = make_tokenizer(&v);
        for (int i = 0; i < 300; i++) {
            char word[WORD_BYTES + 1] = "";
            int bytes = draw(WORD_BYTES);
            for (int c = 0; c < bytes; c++)
                word[c] = (char)('a' + draw(N_LETTERS));
            check_word(&v, tokenizer, word, &n_merged);
        }
        sow_tokenizer_destroy(&tokenizer);
    }
    assert_true(n_merged > 50000);
}

/* More words of one length than the tokenizer can remember, twice. */
static void test_remembered_words_are_not_mixed_up(void **state)
{
    enum { LENGTH = 7, N_WORDS = 16384 }; /* N_LETTERS to the power of LENGTH */
    (void)state;
    state_of_draw = 2;
    vocabulary v;
    make_vocabulary(&v);
    sow_tokenizer *tokenizer = make_tokenizer(&v);
    int64_t n_merged = 0;
    for (int i = 0; i < 2 * N_WORDS; i++) {
        char word[LENGTH + 1] = "";
        for (int c = 0; c < LENGTH; c++)
            word[c] = (char)('a' + (i >> 2 * c) % N_LETTERS);
        check_word(&v, tokenizer, word, &n_merged);
    }
    assert_true(n_merged > 0);
    sow_tokenizer_destroy(&tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_gives_what_the_plain_twin_gives),
        cmocka_unit_test(test_remembered_words_are_not_mixed_up),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
