// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Drawing through integers: the distribution is softmax's, edges are exact, and a draw is a pure function of its
 * place. */
#include "../../src/nn/nn_impl.h"
#include "random_model.h"

enum { V = 40 };

static int32_t draw(int64_t n, const float *logits, double temperature, uint64_t random)
{
    static const sow_kernels *kernels = NULL;
    float scratch[1024], max = logits[0];
    if (kernels == NULL)
        CHECK_OK(sow_kernels_find("auto", &kernels));
    for (int64_t i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    return sow_sample(kernels, n, logits, max, temperature, random, scratch);
}

/* Chi-squared over 200,000 draws with V - 1 degrees of freedom: 39 +- 8.8, 5 standard errors above is 83. */
static void check_distribution(const float *logits, double temperature)
{
    enum { DRAWS = 200000 };
    double p[V], sum = 0.0, chi = 0.0;
    int64_t counts[V] = {0};
    for (int i = 0; i < V; i++)
        sum += p[i] = exp((double)logits[i] / temperature);
    for (uint64_t d = 0; d < DRAWS; d++)
        counts[draw(V, logits, temperature, sow_sample_bits(3, 4, 5, d))]++;
    for (int i = 0; i < V; i++) {
        const double expected = DRAWS * p[i] / sum;
        chi += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    }
    if (!(chi < 83.0))
        fail_msg("temperature %g: chi-squared %g", temperature, chi);
}

static void test_sample_at_any_temperature_follows_softmax(void **state)
{
    (void)state;
    float logits[V];
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 1, 2, 3, 4));
    for (int i = 0; i < V; i++)
        logits[i] = 2.0f * random_unit(&random) + 50.0f;
    check_distribution(logits, 1.0);
    check_distribution(logits, 0.7);
    check_distribution(logits, 3.0);
}

static void test_sample_at_the_edges_takes_the_first_and_the_last(void **state)
{
    (void)state;
    /* Equal logits: the threshold r n 2^32 / 2^64 falls into equal parts, to the bit. */
    float logits[4] = {1.5f, 1.5f, 1.5f, 1.5f};
    assert_int_equal(draw(4, logits, 1.0, 0), 0);
    assert_int_equal(draw(4, logits, 1.0, (UINT64_C(1) << 62) - 1), 0);
    assert_int_equal(draw(4, logits, 1.0, UINT64_C(1) << 62), 1);
    assert_int_equal(draw(4, logits, 1.0, (UINT64_C(1) << 63) - 1), 1);
    assert_int_equal(draw(4, logits, 1.0, UINT64_C(1) << 63), 2);
    assert_int_equal(draw(4, logits, 1.0, UINT64_MAX), 3);
    /* Far below the largest: never, even for the largest threshold; also where the difference overflows. */
    float last[4] = {0.0f, 40.0f, -3e38f, 10.0f};
    assert_int_equal(draw(4, last, 1.0, 0), 1);
    assert_int_equal(draw(4, last, 1.0, UINT64_MAX), 1);
    assert_int_equal(draw(4, last, 1e-6, UINT64_MAX), 1);
    assert_int_equal(draw(1, last, 1.0, UINT64_MAX), 0);
    /* 2^32 exp(-22) is 1.2: the second counts 1 of s = 2^32 + 1, from the first r on with r s >= 2^96. */
    float rare[2] = {0.0f, -22.0f}, rarer[2] = {0.0f, -23.0f};
    const uint64_t first = UINT64_MAX - (UINT64_C(1) << 32) + 2;
    assert_int_equal(draw(2, rare, 1.0, UINT64_MAX), 1);
    assert_int_equal(draw(2, rare, 1.0, first), 1);
    assert_int_equal(draw(2, rare, 1.0, first - 1), 0);
    assert_int_equal(draw(2, rarer, 1.0, UINT64_MAX), 0); /* 0.44 */
}

static void test_sample_on_every_kernel_is_equal(void **state)
{
    (void)state;
    float logits[1000], scratch[1000], max = -1e30f;
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 9, 2, 3, 4));
    for (int i = 0; i < 1000; i++) {
        logits[i] = 6.0f * random_unit(&random);
        max = logits[i] > max ? logits[i] : max;
    }
    for (uint64_t d = 0; d < 500; d++) {
        const uint64_t bits = sow_sample_bits(1, 2, 3, d);
        const int32_t first = sow_sample(sow_kernels_at(0), 1000, logits, max, 0.9, bits, scratch);
        for (int64_t k = 1; k < sow_kernels_count(); k++)
            assert_int_equal(sow_sample(sow_kernels_at(k), 1000, logits, max, 0.9, bits, scratch), first);
    }
}

static void test_sample_bits_of_other_places_differ(void **state)
{
    (void)state;
    const uint64_t bits = sow_sample_bits(1, 2, 3, 4);
    assert_true(bits == sow_sample_bits(1, 2, 3, 4));
    assert_true(bits != sow_sample_bits(2, 2, 3, 4));
    assert_true(bits != sow_sample_bits(1, 3, 3, 4));
    assert_true(bits != sow_sample_bits(1, 2, 4, 4));
    assert_true(bits != sow_sample_bits(1, 2, 3, 5));
}

/* Through the engine: equal prompts get different completions, the same numbers the same. */
static void test_generate_with_temperature_depends_on_seed_step_and_prompt_number(void **state)
{
    (void)state;
    enum { N = 12, NEW = 10 };
    random_model m = random_model_open(&random_shapes[2], "auto", 1, SOW_FP16);
    sow_engine *engine = NULL;
    sow_prompt prompts[N];
    sow_completion got[N];
    int32_t ids[5], first[N][NEW];
    random_ids(17, 257, 5, ids);
    for (int i = 0; i < N; i++)
        prompts[i] = (sow_prompt){ids, 5};
    sow_generate_args args = {
        .replica = m.replica, .prompts = prompts, .n_prompts = N, .max_new = NEW, .temperature = 1.0, .seed = 1};
    CHECK_OK(sow_engine_create(m.la, m.layout, 4, &engine));
    CHECK_OK(sow_engine_generate(engine, &args, got));
    for (int i = 0; i < N; i++)
        memcpy(first[i], got[i].ids, sizeof first[i]);
    for (int i = 1; i < N; i++)
        assert_memory_not_equal(first[i], first[0], sizeof first[0]);
    /* Token k of prompt i is drawn with the bits of (seed, step, i, k) from the logits of its prefix. */
    for (int k = 0; k < NEW; k++) {
        int32_t prefix[5 + NEW];
        float logits[257];
        memcpy(prefix, ids, sizeof ids);
        memcpy(prefix + 5, first[7], sizeof first[7]);
        CHECK_OK(sow_engine_logits(engine, m.replica, (sow_prompt){prefix, 5 + k}, 1, logits));
        assert_int_equal(draw(257, logits, 1.0, sow_sample_bits(1, 0, 7, (uint64_t)k)), first[7][k]);
    }
    args.first_prompt = 3; /* the same places, named otherwise */
    args.n_prompts = 2;
    CHECK_OK(sow_engine_generate(engine, &args, got));
    assert_memory_equal(got[0].ids, first[3], sizeof first[0]);
    assert_memory_equal(got[1].ids, first[4], sizeof first[0]);
    args.step = 1;
    CHECK_OK(sow_engine_generate(engine, &args, got));
    assert_memory_not_equal(got[0].ids, first[3], sizeof first[0]);
    args.step = 0;
    args.seed = 2;
    CHECK_OK(sow_engine_generate(engine, &args, got));
    assert_memory_not_equal(got[0].ids, first[3], sizeof first[0]);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_at_any_temperature_follows_softmax),
        cmocka_unit_test(test_sample_at_the_edges_takes_the_first_and_the_last),
        cmocka_unit_test(test_sample_on_every_kernel_is_equal),
        cmocka_unit_test(test_sample_bits_of_other_places_differ),
        cmocka_unit_test(test_generate_with_temperature_depends_on_seed_step_and_prompt_number),
    };
    return cmocka_run_group_tests_name("engine_sample", tests, NULL, check_live_zero);
}
