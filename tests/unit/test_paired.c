// NEEDS: measure
/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "sower/paired.h"

/* Against the sums of binomial coefficients written out. */
static void test_mcnemar_when_few_items_changed_then_the_binomial_sum(void **state)
{
    (void)state;
    assert_true(sow_paired_mcnemar(0, 0) == 1);
    assert_true(sow_paired_mcnemar(7, 7) == 1);
    CHECK_NEAR(sow_paired_mcnemar(1, 0), 1.0, 1e-15);                         /* 2 * 1/2 */
    CHECK_NEAR(sow_paired_mcnemar(5, 0), 2.0 / 32, 1e-15);                    /* 2 * 1/32 */
    CHECK_NEAR(sow_paired_mcnemar(1, 5), 2.0 * (1 + 6) / 64, 1e-15);          /* 2 * (C(6,0) + C(6,1)) / 2^6 */
    CHECK_NEAR(sow_paired_mcnemar(10, 2), 2.0 * (1 + 12 + 66) / 4096, 1e-15); /* n 12, k 2 */
    CHECK_NEAR(sow_paired_mcnemar(121, 59), 4.434449263755176e-06, 1e-17);    /* n 180, k 59, summed in whole numbers */
    CHECK_NEAR(sow_paired_mcnemar(3, 4), 1.0, 1e-15);                         /* twice the sum exceeds 1 */
    assert_true(sow_paired_mcnemar(59, 121) == sow_paired_mcnemar(121, 59));
}

static void test_mcnemar_when_many_items_changed_then_no_underflow(void **state)
{
    (void)state;
    CHECK_NEAR(sow_paired_mcnemar(950, 1050), 0.026824146240280695, 1e-12);         /* summed in whole numbers */
    CHECK_NEAR(sow_paired_mcnemar(50500, 49500), erfc(999 / sqrt(200000.0)), 1e-6); /* the normal law, corrected */
    assert_true(sow_paired_mcnemar(100000, 0) == 0.0);
    assert_true(sow_paired_mcnemar(1000, 0) > 0); /* 2^-999 */
}

static void test_change_when_items_flip_then_counted_each_way(void **state)
{
    (void)state;
    sow_change c = sow_paired_change("1111000011", "1100001011", 10);
    assert_int_equal(c.n, 10);
    assert_int_equal(c.lost, 2);
    assert_int_equal(c.gained, 1);
    CHECK_NEAR(c.p, 1.0, 1e-15);
    c = sow_paired_change("11111", "00000", 5);
    assert_int_equal(c.lost, 5);
    assert_int_equal(c.gained, 0);
    CHECK_NEAR(c.p, 0.0625, 1e-15);
    c = sow_paired_change("", "", 0);
    assert_true(c.n == 0 && c.lost == 0 && c.gained == 0 && c.p == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mcnemar_when_few_items_changed_then_the_binomial_sum),
        cmocka_unit_test(test_mcnemar_when_many_items_changed_then_no_underflow),
        cmocka_unit_test(test_change_when_items_flip_then_counted_each_way),
    };
    return cmocka_run_group_tests_name("paired", tests, NULL, check_live_zero);
}
