// NEEDS: base
/* SPDX-License-Identifier: Apache-2.0 */
/* Our own exp, log, sine and cosine against libm's. */
#include "check.h"

#include "sower/real.h"

static void test_log_of_many_numbers_is_near_libm(void **state)
{
    (void)state;
    double x = 1.0;
    for (int i = 0; i < 93000; i++) {
        CHECK_NEAR(sow_real_log(x), log(x), 1e-14);
        x *= 1.00037; /* to about 1e15 */
    }
    CHECK_NEAR(sow_real_log(0.7), log(0.7), 1e-15);
    assert_true(sow_real_log(1.0) == 0.0);
}

static void test_exp_of_many_numbers_is_near_libm(void **state)
{
    (void)state;
    for (int i = -10000; i <= 10000; i++)
        CHECK_NEAR(sow_real_exp(0.0035001 * i) / exp(0.0035001 * i), 1.0, 1e-15);
    assert_true(sow_real_exp(0.0) == 1.0);
}

static void test_sincos_of_angles_in_a_context_is_near_libm(void **state)
{
    (void)state;
    double angle = 0.0;
    for (int i = 0; i < 96000; i++) {
        double s = 2.0, c = 2.0;
        angle = angle * 1.0001 + 0.0137; /* to about 2e6 */
        sow_real_sincos(angle, &s, &c);
        CHECK_NEAR(s, sin(angle), 1e-15);
        CHECK_NEAR(c, cos(angle), 1e-15);
    }
}

static void test_exp_at_its_ends_is_zero_infinity_or_no_number(void **state)
{
    (void)state;
    assert_true(sow_real_exp(1000.0) == (double)INFINITY && sow_real_exp((double)INFINITY) == (double)INFINITY);
    assert_true(sow_real_exp(-1000.0) == 0.0 && sow_real_exp(-(double)INFINITY) == 0.0);
    assert_true(isnan(sow_real_exp((double)NAN)));
    CHECK_NEAR(sow_real_exp(709.7) / exp(709.7), 1.0, 1e-13);
    CHECK_NEAR(sow_real_exp(-745.0), exp(-745.0), 5e-324);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_of_many_numbers_is_near_libm),
        cmocka_unit_test(test_exp_of_many_numbers_is_near_libm),
        cmocka_unit_test(test_sincos_of_angles_in_a_context_is_near_libm),
        cmocka_unit_test(test_exp_at_its_ends_is_zero_infinity_or_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
