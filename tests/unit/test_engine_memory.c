// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the engine: none is taken after the first unit, its bound holds, and any failed allocation is a clean
 * error. */
#include "random_model.h"

enum { N = 30 };

static void make_args(const random_model *m, int32_t ids[N][40], sow_prompt *prompts, uint32_t seed,
                      sow_generate_args *out)
{
    for (int64_t i = 0; i < N; i++) {
        random_ids(seed + (uint32_t)i, m->layout->shape.vocab_size, 40, ids[i]);
        prompts[i] = (sow_prompt){ids[i], 1 + (i * 11 + seed) % 40};
    }
    prompts[N - 1].n = 40;
    *out = (sow_generate_args){.replica = m->replica,
                               .prompts = prompts,
                               .n_prompts = N,
                               .max_new = 30,
                               .want_logprobs = true,
                               .temperature = 0.5};
}

/* Units of other prompts and other completion lengths, no longer than the first. */
static void test_units_after_the_first_take_no_memory(void **state)
{
    (void)state;
    sow_shape shape = random_shapes[1];
    shape.n_eos = 3;
    shape.eos[0] = 5, shape.eos[1] = 6, shape.eos[2] = 7;
    random_model m = random_model_open(&shape, "auto", 2, SOW_FP16);
    sow_engine *engine = NULL;
    static int32_t ids[N][40];
    static float logprobs[N][40];
    sow_prompt prompts[N];
    sow_completion got[N];
    sow_score_item items[N];
    sow_generate_args args;
    CHECK_OK(sow_engine_create(m.la, m.layout, 7, &engine));
    make_args(&m, ids, prompts, 1, &args);
    CHECK_OK(sow_engine_generate(engine, &args, got));
    const int64_t taken = sow_alloc_taken();
    for (uint32_t unit = 2; unit < 8; unit++) {
        make_args(&m, ids, prompts, unit * 100, &args);
        args.step = unit;
        args.temperature = unit % 2 == 0 ? 0.0 : 1.0;
        args.n_prompts = N - unit % 3;
        CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
        CHECK_OK(sow_engine_generate(engine, &args, got));
        for (int64_t i = 0; i < N; i++)
            items[i] = (sow_score_item){ids[i], prompts[i].n, 1, logprobs[i], NULL};
        CHECK_OK(sow_engine_score(engine, m.replica, items, N));
    }
    assert_int_equal(sow_alloc_taken(), taken);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static void test_create_and_generate_when_memory_fails_then_clean_error(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_FP16);
    static int32_t ids[N][40];
    sow_prompt prompts[N];
    sow_completion got[N];
    sow_generate_args args;
    int64_t n = 1;
    make_args(&m, ids, prompts, 3, &args);
    for (; n < 200; n++) {
        sow_engine *engine = NULL;
        const int64_t live = sow_alloc_live();
        sow_alloc_fail_at(n);
        sow_code rc = sow_engine_create(m.la, m.layout, 3, &engine);
        if (rc == SOW_OK)
            rc = sow_engine_generate(engine, &args, got);
        sow_alloc_fail_at(0);
        assert_true(rc == SOW_OK || rc == SOW_ENOMEM);
        if (engine != NULL && rc != SOW_OK)
            CHECK_OK(sow_engine_generate(engine, &args, got)); /* what failed can be done again */
        sow_engine_destroy(&engine);
        assert_int_equal(sow_alloc_live(), live);
        if (rc == SOW_OK)
            break;
    }
    assert_true(n > 10 && n < 200);
    random_model_close(&m);
}

static void test_bytes_grow_with_batch_and_positions(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_FP16);
    const size_t bytes = sow_engine_bytes(m.layout, 8, 100);
    const size_t page = 4 * 3 * 2 * 2 * 16 * 24; /* float, layers, KV heads, K and V, positions, head dimension */
    assert_true(bytes > 9 * 7 * page);
    assert_true(sow_engine_bytes(m.layout, 9, 100) >= bytes + 7 * page);
    assert_true(sow_engine_bytes(m.layout, 8, 116) >= bytes + 9 * page);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units_after_the_first_take_no_memory),
        cmocka_unit_test(test_create_and_generate_when_memory_fails_then_clean_error),
        cmocka_unit_test(test_bytes_grow_with_batch_and_positions),
    };
    return cmocka_run_group_tests_name("engine_memory", tests, NULL, check_live_zero);
}
