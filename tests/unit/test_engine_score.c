// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Log-probabilities of given tokens: those of the logits, whatever is scored beside them. */
#include "random_model.h"

enum { N_ITEMS = 24, LENGTH = 50, VOCAB = 130 };

/* Questions of four endings each; the contexts of a question are equal, the endings begin equal now and then. */
static void make_items(int32_t ids[N_ITEMS][LENGTH], float logprobs[N_ITEMS][LENGTH], bool greedy[N_ITEMS][LENGTH],
                       sow_score_item *items)
{
    for (int64_t i = 0; i < N_ITEMS; i++) {
        const int64_t n_context = 1 + (i / 4) * 9;
        random_ids((uint32_t)(50 + i), VOCAB, LENGTH, ids[i]);
        random_ids((uint32_t)(20 + i / 4), VOCAB, n_context, ids[i]);
        if (i % 4 == 2)
            memcpy(ids[i], ids[i - 1], sizeof ids[i]);
        items[i] = (sow_score_item){.ids = ids[i],
                                    .n = i == 7 ? n_context : n_context + 1 + i % 4, /* item 7 has nothing to score */
                                    .n_context = n_context,
                                    .logprobs = logprobs[i],
                                    .is_greedy = i % 3 == 0 ? NULL : greedy[i]};
    }
}

static void test_score_of_each_token_is_that_of_the_logits_before_it(void **state)
{
    (void)state;
    static int32_t ids[N_ITEMS][LENGTH];
    static float logprobs[N_ITEMS][LENGTH], logits[VOCAB];
    static bool greedy[N_ITEMS][LENGTH];
    sow_score_item items[N_ITEMS];
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_FP16);
    sow_engine *engine = NULL, *single = NULL;
    make_items(ids, logprobs, greedy, items);
    CHECK_OK(sow_engine_create(m.la, m.layout, 5, &engine));
    CHECK_OK(sow_engine_create(m.la, m.layout, 1, &single));
    CHECK_OK(sow_engine_score(engine, m.replica, items, N_ITEMS));
    for (int64_t i = 0; i < N_ITEMS; i++) {
        for (int64_t k = 0; k < items[i].n - items[i].n_context; k++) {
            const int32_t id = ids[i][items[i].n_context + k];
            int best = 0;
            double sum = 0.0;
            CHECK_OK(sow_engine_logits(single, m.replica, (sow_prompt){ids[i], items[i].n_context + k}, 1, logits));
            for (int v = 0; v < VOCAB; v++) {
                best = logits[v] > logits[best] ? v : best;
                sum += exp((double)logits[v]);
            }
            CHECK_NEAR((double)logprobs[i][k], (double)logits[id] - log(sum), 1e-5);
            if (items[i].is_greedy != NULL)
                assert_int_equal(greedy[i][k], best == id);
        }
    }
    sow_engine_destroy(&single);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static void test_score_in_any_company_gives_equal_bits(void **state)
{
    (void)state;
    static int32_t ids[N_ITEMS][LENGTH];
    static float alone[N_ITEMS][LENGTH], together[N_ITEMS][LENGTH];
    static bool greedy[2][N_ITEMS][LENGTH];
    sow_score_item items[N_ITEMS];
    random_model m = random_model_open(&random_shapes[1], "auto", 2, SOW_BF16);
    sow_engine *engine = NULL;
    make_items(ids, alone, greedy[0], items);
    CHECK_OK(sow_engine_create(m.la, m.layout, 1, &engine));
    for (int64_t i = 0; i < N_ITEMS; i++)
        CHECK_OK(sow_engine_score(engine, m.replica, &items[i], 1));
    assert_int_equal(sow_engine_counted(engine).shared_tokens, 0);
    sow_engine_destroy(&engine);
    for (int64_t batch = 1; batch <= 32; batch = batch * 2 + 1) {
        CHECK_OK(sow_engine_create(m.la, m.layout, batch, &engine));
        memset(together, 0, sizeof together);
        memset(greedy[1], 0, sizeof greedy[1]);
        make_items(ids, together, greedy[1], items);
        CHECK_OK(sow_engine_score(engine, m.replica, items, N_ITEMS));
        assert_memory_equal(alone, together, sizeof alone);
        assert_memory_equal(greedy[0], greedy[1], sizeof greedy[0]);
        assert_true(sow_engine_counted(engine).shared_tokens > 100); /* contexts, and the endings that are equal */
        sow_engine_destroy(&engine);
    }
    random_model_close(&m);
}

/* A greedy completion scored: its log-probabilities to the bit, and every token greedy. */
static void test_score_of_a_greedy_completion_gives_its_logprobs(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[3], "auto", 1, SOW_FP16);
    sow_engine *engine = NULL;
    sow_completion got;
    int32_t ids[40];
    float logprobs[20], kept[20];
    bool greedy[20];
    random_ids(8, 96, 20, ids);
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));
    CHECK_OK(sow_engine_generate(engine,
                                 &(sow_generate_args){.replica = m.replica,
                                                      .prompts = &(sow_prompt){ids, 20},
                                                      .n_prompts = 1,
                                                      .max_new = 20,
                                                      .want_logprobs = true},
                                 &got));
    assert_int_equal(got.n, 20);
    memcpy(ids + 20, got.ids, sizeof *ids * 20);
    memcpy(kept, got.logprobs, sizeof kept);
    CHECK_OK(sow_engine_score(
        engine, m.replica,
        &(sow_score_item){.ids = ids, .n = 40, .n_context = 20, .logprobs = logprobs, .is_greedy = greedy}, 1));
    assert_memory_equal(logprobs, kept, sizeof kept);
    for (int k = 0; k < 20; k++)
        assert_true(greedy[k]);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static void test_score_when_arguments_are_wrong_then_fail(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    int32_t ids[97] = {0};
    float logprobs[97];
    sow_score_item items[2] = {{ids, 3, 1, logprobs, NULL}, {ids, 3, 0, logprobs, NULL}};
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));
    CHECK_FAILS(sow_engine_score(engine, m.replica, items, 2), SOW_EARG,
                "row 1: a context of 0 tokens, expected 1 to 3");
    items[1].n_context = 4;
    CHECK_FAILS(sow_engine_score(engine, m.replica, items, 2), SOW_EARG, "row 1: a context of 4");
    items[1].n = 97;
    CHECK_FAILS(sow_engine_score(engine, m.replica, items, 2), SOW_EARG, "row 1: 97 tokens");
    items[1] = items[0];
    ids[2] = 61;
    CHECK_FAILS(sow_engine_score(engine, m.replica, items, 2), SOW_EARG, "row 0: token 2 is 61");
    ids[2] = 0;
    CHECK_OK(sow_engine_score(engine, m.replica, items, 2));
    CHECK_OK(sow_engine_score(engine, m.replica, items, 0));
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score_of_each_token_is_that_of_the_logits_before_it),
        cmocka_unit_test(test_score_in_any_company_gives_equal_bits),
        cmocka_unit_test(test_score_of_a_greedy_completion_gives_its_logprobs),
        cmocka_unit_test(test_score_when_arguments_are_wrong_then_fail),
    };
    return cmocka_run_group_tests_name("engine_score", tests, NULL, check_live_zero);
}
