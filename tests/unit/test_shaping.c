// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include "sower/shaping.h"

enum { N = 5 };
static const double fitness[N] = {1.0, 3.0, 2.0, 2.0, -4.0};

static void coefficients_of(const char *name, float *out)
{
    bool has_spread = false;
    const sow_population population = {.fitness = fitness, .n = N, .seed = 7, .generation = 3};
    CHECK_OK(sow_shaping_coefficients(sow_shaping_find(name), 10.0, &population, out, &has_spread));
    assert_true(has_spread);
}

static void test_zscore_is_the_papers(void **state)
{
    (void)state;
    float c[N];
    coefficients_of("zscore", c);
    /* mean 0.8, population std sqrt(6.16) */
    for (int i = 0; i < N; i++)
        CHECK_NEAR((double)c[i], 10.0 * (fitness[i] - 0.8) / (sqrt(6.16) + 1e-8) / N, 1e-6);
}

static void test_centered_rank_shares_ties(void **state)
{
    (void)state;
    const double want[N] = {-0.25, 0.5, 0.125, 0.125, -0.5};
    float c[N];
    coefficients_of("centered_rank", c);
    for (int i = 0; i < N; i++)
        CHECK_NEAR((double)c[i], 10.0 * want[i] / N, 1e-7);
}

static void test_none_is_the_fitness(void **state)
{
    (void)state;
    float c[N];
    coefficients_of("none", c);
    for (int i = 0; i < N; i++)
        CHECK_NEAR((double)c[i], 10.0 * fitness[i] / N, 1e-7);
}

enum { MANY = 1000 };

/* Coefficients of n members with alpha = n: z itself. */
static void random_weights(const double *rewards, int64_t n, uint32_t seed, uint32_t generation, float *out)
{
    bool has_spread = false;
    const sow_population population = {.fitness = rewards, .n = n, .seed = seed, .generation = generation};
    CHECK_OK(sow_shaping_coefficients(sow_shaping_find("random"), (double)n, &population, out, &has_spread));
    assert_true(has_spread);
}

static void test_random_does_not_depend_on_rewards(void **state)
{
    (void)state;
    const double equal[N] = {0.5, 0.5, 0.5, 0.5, 0.5};
    float a[N], b[N];
    random_weights(fitness, N, 7, 3, a);
    random_weights(equal, N, 7, 3, b);
    assert_memory_equal(a, b, sizeof a);
    random_weights(fitness, N, 7, 4, b);
    assert_memory_not_equal(a, b, sizeof a);
    random_weights(fitness, N, 8, 3, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* Whatever the population: sum z = 0 and sum z^2 = n, which is all that the norm of the walk depends on. */
static void test_random_has_mean_0_and_deviation_1(void **state)
{
    (void)state;
    static double rewards[MANY];
    static float z[MANY];
    for (int64_t n = 2; n <= MANY; n = n * 3 + 1)
        for (uint32_t generation = 1; generation <= 3; generation++) {
            double sum = 0, squares = 0, fourth = 0;
            random_weights(rewards, n, 1, generation, z);
            for (int64_t i = 0; i < n; i++) {
                double x = (double)z[i];
                sum += x, squares += x * x, fourth += x * x * x * x;
            }
            CHECK_NEAR(sum / (double)n, 0, 1e-6);
            CHECK_NEAR(squares / (double)n, 1, 1e-6);
            if (n > 500) /* normal, not signs or a uniform draw: 5 standard errors */
                CHECK_NEAR(fourth / (double)n, 3, 5 * sqrt(96.0 / (double)n));
        }
}

/* In float32 the mean of 30 equal numbers may differ in the last bit, and 1e-8 does not protect. */
static void test_equal_fitness_has_no_spread(void **state)
{
    (void)state;
    double equal[30];
    float c[30];
    for (int i = 0; i < 30; i++)
        equal[i] = 0.1;
    const sow_population population = {.fitness = equal, .n = 30};
    for (int64_t i = 0; i < sow_shaping_count(); i++) {
        bool has_spread = true;
        CHECK_OK(sow_shaping_coefficients(sow_shaping_at(i), 1.0, &population, c, &has_spread));
        assert_int_equal(has_spread, sow_shaping_at(i)->is_blind);
        assert_int_equal(has_spread, sow_shaping_moves(sow_shaping_at(i), equal, 30));
    }
}

static void test_fitness_that_is_no_number_is_refused(void **state)
{
    (void)state;
    double bad[2] = {0.0, (double)NAN};
    float c[2];
    bool has_spread = false;
    const sow_population population = {.fitness = bad, .n = 2};
    for (int64_t i = 0; i < sow_shaping_count(); i++)
        CHECK_FAILS(sow_shaping_coefficients(sow_shaping_at(i), 1.0, &population, c, &has_spread), SOW_ENUM,
                    "member 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zscore_is_the_papers),
        cmocka_unit_test(test_centered_rank_shares_ties),
        cmocka_unit_test(test_none_is_the_fitness),
        cmocka_unit_test(test_random_does_not_depend_on_rewards),
        cmocka_unit_test(test_random_has_mean_0_and_deviation_1),
        cmocka_unit_test(test_equal_fitness_has_no_spread),
        cmocka_unit_test(test_fitness_that_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
