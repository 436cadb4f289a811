// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include "sower/shaping.h"

enum { N = 5 };
static const double fitness[N] = {1.0, 3.0, 2.0, 2.0, -4.0};

static void coefficients_of(const char *name, float *out)
{
    bool has_spread = false;
    CHECK_OK(sow_shaping_coefficients(sow_shaping_find(name), 10.0, fitness, N, out, &has_spread));
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

/* In float32 the mean of 30 equal numbers may differ in the last bit, and 1e-8 does not protect. */
static void test_equal_fitness_has_no_spread(void **state)
{
    (void)state;
    double equal[30];
    float c[30];
    for (int i = 0; i < 30; i++)
        equal[i] = 0.1;
    for (int64_t i = 0; i < sow_shaping_count(); i++) {
        bool has_spread = true;
        CHECK_OK(sow_shaping_coefficients(sow_shaping_at(i), 1.0, equal, 30, c, &has_spread));
        assert_false(has_spread);
    }
}

static void test_fitness_that_is_no_number_is_refused(void **state)
{
    (void)state;
    double bad[2] = {0.0, (double)NAN};
    float c[2];
    bool has_spread = false;
    CHECK_FAILS(sow_shaping_coefficients(sow_shaping_at(0), 1.0, bad, 2, c, &has_spread), SOW_ENUM, "member 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zscore_is_the_papers),
        cmocka_unit_test(test_centered_rank_shares_ties),
        cmocka_unit_test(test_none_is_the_fitness),
        cmocka_unit_test(test_equal_fitness_has_no_spread),
        cmocka_unit_test(test_fitness_that_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
