// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Singular values: known ones, the two shapes of a matrix, ranks, and what is refused. */
#include "kernel_check.h"

#include <float.h>

static void check_values(int64_t rows, int64_t cols, const float *a, int64_t n, const double *want, double tolerance)
{
    double got[64];
    assert_true(n <= 64);
    CHECK_OK(sow_la_singular_values(rows, cols, a, got));
    for (int64_t i = 0; i < n; i++)
        CHECK_NEAR(got[i], want[i], tolerance);
}

static void test_singular_values_of_small_matrices_are_the_known_ones(void **state)
{
    (void)state;
    static const float one[] = {-3.0f}, zero[6] = {0};
    static const float diagonal[] = {0, -5, 0, 3, 0, 0, 0, 0, 0.5f}; /* of a permutation */
    static const float wide[] = {3, 2, 2, 2, 3, -2};                 /* A A^T has eigenvalues 25 and 9 */
    static const float tall[] = {3, 2, 2, 3, 2, -2};
    check_values(1, 1, one, 1, (const double[]){3}, 1e-15);
    check_values(2, 3, zero, 2, (const double[]){0, 0}, 0.0);
    check_values(3, 3, diagonal, 3, (const double[]){5, 3, 0.5}, 1e-14);
    check_values(2, 3, wide, 2, (const double[]){5, 3}, 1e-14);
    check_values(3, 2, tall, 2, (const double[]){5, 3}, 1e-14);
}

/* a[i][j] = u[i] v[j] with small integers, so exact: one value |u| |v|, the others are zero. */
static void test_singular_values_of_an_outer_product_are_of_rank_one(void **state)
{
    (void)state;
    enum { ROWS = 50, COLS = 64 };
    float *a = NULL;
    double u2 = 0, v2 = 0, want[ROWS] = {0};
    CHECK_OK(SOW_ALLOC(&a, ROWS * COLS));
    for (int i = 0; i < ROWS; i++)
        u2 += (i - 20.0) * (i - 20.0);
    for (int j = 0; j < COLS; j++)
        v2 += (j % 7 - 3.0) * (j % 7 - 3.0);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++)
            a[i * COLS + j] = (float)((i - 20) * (j % 7 - 3));
    want[0] = sqrt(u2 * v2);
    check_values(ROWS, COLS, a, ROWS, want, 1e-12 * want[0]);
    SOW_FREE(&a);
}

/* The squares of all values add up to the square of the Frobenius norm; a transpose has the same values. */
static void test_singular_values_of_a_random_matrix_keep_its_norm_in_order(void **state)
{
    (void)state;
    enum { ROWS = 300, COLS = 97 };
    float *a = NULL, *turned = NULL;
    double values[COLS], other[COLS], norm2 = 0, sum2 = 0;
    CHECK_OK(SOW_ALLOC(&a, ROWS * COLS));
    CHECK_OK(SOW_ALLOC(&turned, ROWS * COLS));
    fill_floats(1, 1.0f, ROWS * COLS, a);
    for (int i = 0; i < ROWS * COLS; i++) {
        norm2 += (double)a[i] * (double)a[i];
        turned[i % COLS * ROWS + i / COLS] = a[i];
    }
    CHECK_OK(sow_la_singular_values(ROWS, COLS, a, values));
    CHECK_OK(sow_la_singular_values(COLS, ROWS, turned, other));
    for (int i = 0; i < COLS; i++) {
        assert_true(values[i] > 0.0 && (i == 0 || values[i] <= values[i - 1]));
        CHECK_NEAR(other[i], values[i], 1e-12);
        sum2 += values[i] * values[i];
    }
    CHECK_NEAR(sum2 / norm2, 1.0, 1e-13);
    SOW_FREE(&a);
    SOW_FREE(&turned);
}

static void test_singular_values_of_what_is_not_finite_are_refused(void **state)
{
    (void)state;
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    float a[6] = {1, 2, 3, 4, 5, 6};
    double out[2];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        a[4] = wrong[i];
        CHECK_FAILS(sow_la_singular_values(2, 3, a, out), SOW_ENUM, "2 x 3: element (1, 1) is not finite");
    }
    a[4] = FLT_MAX;
    CHECK_OK(sow_la_singular_values(2, 3, a, out));
    CHECK_NEAR(out[0] / (double)FLT_MAX, 1.0, 1e-14); /* no overflow; LAPACK rounds as its BLAS of the day does */
    CHECK_FAILS(sow_la_singular_values(1ll << 31, 1, a, out), SOW_ENUM, "2147483648 x 1");
    CHECK_FAILS(sow_la_singular_values(1, 1ll << 31, a, out), SOW_ENUM, "1 x 2147483648");
    CHECK_OK(sow_la_singular_values(0, 3, a, out));
}

static void test_singular_values_when_memory_fails_say_so(void **state)
{
    (void)state;
    const float a[4] = {1, 2, 3, 4};
    double out[2];
    sow_alloc_fail_at(1);
    CHECK_FAILS(sow_la_singular_values(2, 2, a, out), SOW_ENOMEM, "memory");
    sow_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_singular_values_of_small_matrices_are_the_known_ones),
        cmocka_unit_test(test_singular_values_of_an_outer_product_are_of_rank_one),
        cmocka_unit_test(test_singular_values_of_a_random_matrix_keep_its_norm_in_order),
        cmocka_unit_test(test_singular_values_of_what_is_not_finite_are_refused),
        cmocka_unit_test(test_singular_values_when_memory_fails_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
