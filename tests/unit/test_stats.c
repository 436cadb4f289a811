// NEEDS: measure
/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics against known answers. */
#include "check.h"

#include "sower/stats.h"

static void test_summary_when_numbers_are_known_then_exact(void **state)
{
    (void)state;
    static const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    sow_summary s = sow_stats_summary(x, 8);
    assert_true(s.mean == 5 && s.std == 2 && s.min == 2 && s.max == 9);
    s = sow_stats_summary(x, 1);
    assert_true(s.mean == 2 && s.std == 0 && s.min == 2 && s.max == 2);
    s = sow_stats_summary(x, 0);
    assert_true(s.mean == 0 && s.std == 0 && s.min == 0 && s.max == 0);
}

/* ES divides by the spread: rounding of the mean must not make one where there is none. */
static void test_summary_when_all_are_equal_then_no_spread_at_all(void **state)
{
    (void)state;
    double x[30];
    for (int n = 1; n <= 30; n++) {
        for (int i = 0; i < n; i++)
            x[i] = 0.1;
        sow_summary s = sow_stats_summary(x, n);
        assert_true(s.std == 0 && s.mean == 0.1);
    }
}

static void test_summary_when_far_from_zero_then_still_right(void **state)
{
    (void)state;
    double x[] = {1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9 + 4};
    sow_summary s = sow_stats_summary(x, 4);
    CHECK_NEAR(s.mean, 1e9 + 2.5, 0);
    CHECK_NEAR(s.std, 1.118033988749895, 1e-12);
}

/* Wilson's score interval, z = 1.959964.  Values: Wilson's formula in 50 decimal digits (Python's decimal). */
static void test_wilson_when_counts_are_known_then_the_published_interval(void **state)
{
    (void)state;
    static const struct {
        int64_t k, n;
        double low, high;
    } cases[] = {
        {8, 10, 0.4901624715366417, 0.9433178485456247},
        {0, 10, 0, 0.2775327998628893},
        {10, 10, 0.7224672001371107, 1},
        {1, 1, 0.2065493143772374, 1},
        {5, 10, 0.236593090512564, 0.7634069094874361},
        {82, 500, 0.1341289203158717, 0.1989946364742914},
        {250, 500, 0.4563412653024843, 0.5436587346975157},
        {999, 1000, 0.9943574414020421, 0.999823453629374},
        {1, 1000000, 1.765245767453715e-07, 5.664911804311443e-06},
        {588, 1005, 0.5543451971655242, 0.6151561635338011},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double low = -1, high = -1;
        sow_stats_wilson(cases[i].k, cases[i].n, &low, &high);
        CHECK_NEAR(low, cases[i].low, 1e-12);
        CHECK_NEAR(high, cases[i].high, 1e-12);
    }
}

static void test_wilson_when_at_the_ends_then_closed(void **state)
{
    (void)state;
    double low = -1, high = -1;
    sow_stats_wilson(0, 0, &low, &high);
    assert_true(low == 0 && high == 1);
    for (int64_t n = 1; n <= 1000; n += 37) {
        sow_stats_wilson(0, n, &low, &high);
        assert_true(low == 0 && high > 0 && high < 1);
        sow_stats_wilson(n, n, &low, &high);
        assert_true(high == 1 && low > 0 && low < 1);
        sow_stats_wilson(n / 2, n, &low, &high);
        assert_true(low >= 0 && high <= 1 && low <= high);
    }
}

static void test_mean_interval_when_numbers_are_known_then_by_the_normal_law(void **state)
{
    (void)state;
    static const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    double low = 0, high = 0;
    sow_stats_mean_interval(x, 8, &low, &high); /* 5 +- 1.959964 * 2.13809 / sqrt(8) */
    CHECK_NEAR(low, 5 - 1.4815935, 1e-6);
    CHECK_NEAR(high, 5 + 1.4815935, 1e-6);
    sow_stats_mean_interval(x + 1, 3, &low, &high);
    assert_true(low == 4 && high == 4);
}

static void test_mean_interval_when_fewer_than_two_then_nothing_is_known(void **state)
{
    (void)state;
    double x = 3, low = 0, high = 0;
    for (int64_t n = 0; n < 2; n++) {
        sow_stats_mean_interval(&x, n, &low, &high);
        assert_true(isinf(low) && isinf(high) && low < high);
    }
}

/* Student's t at 97.5 %.  Values: Abramowitz and Stegun, table 26.10; R's qt(0.975, df). */
static void test_t975_when_degrees_are_known_then_the_tables_value(void **state)
{
    (void)state;
    static const struct {
        int64_t df;
        double t;
    } cases[] = {{1, 12.706204736174698}, {2, 4.302652729911275},  {3, 3.182446305284263},  {4, 2.776445105197793},
                 {5, 2.570581835636314},  {9, 2.262157162740992},  {10, 2.228138851964939}, {29, 2.045229642132703},
                 {30, 2.042272456301238}, {100, 1.983971518523553}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        CHECK_NEAR(sow_stats_t975(cases[i].df), cases[i].t, 1e-9);
    assert_true(isinf(sow_stats_t975(0)));
    for (int64_t df = 2; df < 300; df++)
        assert_true(sow_stats_t975(df) < sow_stats_t975(df - 1));
    CHECK_NEAR(sow_stats_t975(10000), sow_stats_t975(10001), 3e-4);
}

static void test_t_interval_when_numbers_are_known_then_by_student(void **state)
{
    (void)state;
    static const double x[] = {0.4, 0.5, 0.6};
    double low = 0, high = 0;
    sow_stats_t_interval(x, 3, &low, &high);
    CHECK_NEAR(low, 0.5 - 4.302652729911275 * 0.1 / sqrt(3), 1e-9);
    CHECK_NEAR(high, 0.5 + 4.302652729911275 * 0.1 / sqrt(3), 1e-9);
    sow_stats_t_interval(x, 1, &low, &high);
    assert_true(isinf(low) && isinf(high) && low < high);
}

/* Newcombe's method 10 for paired shares.  Values: his formula in 50 decimal digits (Python's decimal); the first is an
 * example of his paper, 0.0569 to 0.3404. */
static void test_paired_change_when_counts_are_known_then_newcombes_interval(void **state)
{
    (void)state;
    static const struct {
        int64_t both, gained, lost, neither;
        double low, high;
    } cases[] = {
        {36, 12, 2, 0, 0.05692958400323881, 0.3404276029749407},
        {20, 12, 2, 16, 0.056156424841748286, 0.32920699540014053},
        {45, 5, 15, 35, -0.18450629784046568, -0.0122828650624824},
        {450, 10, 30, 10, -0.06654617092345717, -0.01529427574193263},
        {0, 0, 0, 50, -0.07134759913335872, 0.07134759913335872},
        {50, 0, 0, 0, -0.07134759913335872, 0.07134759913335872},
        {36, 14, 0, 0, 0.1528395178558573, 0.41665123695956563},
        {1, 97, 0, 2, 0.9030656974166017, 0.9866723759475092},
        {0, 0, 0, 0, -1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double low = 0, high = 0, other_low = 0, other_high = 0;
        sow_stats_paired_change(cases[i].both, cases[i].gained, cases[i].lost, cases[i].neither, &low, &high);
        CHECK_NEAR(low, cases[i].low, 1e-12);
        CHECK_NEAR(high, cases[i].high, 1e-12);
        sow_stats_paired_change(cases[i].both, cases[i].lost, cases[i].gained, cases[i].neither, &other_low,
                                &other_high);
        CHECK_NEAR(other_low, -high, 1e-12);
        CHECK_NEAR(other_high, -low, 1e-12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary_when_numbers_are_known_then_exact),
        cmocka_unit_test(test_summary_when_all_are_equal_then_no_spread_at_all),
        cmocka_unit_test(test_summary_when_far_from_zero_then_still_right),
        cmocka_unit_test(test_wilson_when_counts_are_known_then_the_published_interval),
        cmocka_unit_test(test_wilson_when_at_the_ends_then_closed),
        cmocka_unit_test(test_mean_interval_when_numbers_are_known_then_by_the_normal_law),
        cmocka_unit_test(test_mean_interval_when_fewer_than_two_then_nothing_is_known),
        cmocka_unit_test(test_t975_when_degrees_are_known_then_the_tables_value),
        cmocka_unit_test(test_paired_change_when_counts_are_known_then_newcombes_interval),
        cmocka_unit_test(test_t_interval_when_numbers_are_known_then_by_student),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, check_live_zero);
}
