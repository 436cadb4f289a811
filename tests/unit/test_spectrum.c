// NEEDS: measure nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Spectra that one can write down: of lists of values, and of updates that are made of orthogonal directions. */
#include "check.h"

#include "sower/json.h"
#include "sower/spectrum.h"

static void test_values_when_known_then_the_formulas(void **state)
{
    (void)state;
    const double values[4] = {4, 2, 1, 0};
    sow_spectrum s = sow_spectrum_of(4, 7, values);
    assert_int_equal(s.n, 4);
    CHECK_NEAR(s.norm, sqrt(21), 1e-12);
    CHECK_NEAR(s.stable_rank, 21.0 / 16, 1e-12);
    CHECK_NEAR(s.energy_1, 16.0 / 21, 1e-12); /* one value at least */
    CHECK_NEAR(s.energy_10, 16.0 / 21, 1e-12);
    assert_true(s.rank == 0.75 && s.top[0] == 4 && s.top[3] == 0 && s.top[4] == 0);
}

static void test_values_when_many_then_the_largest_percents(void **state)
{
    (void)state;
    double values[200];
    for (int i = 0; i < 200; i++)
        values[i] = i < 2 ? 10 : i < 20 ? 1 : 1e-5; /* two: 1 %; twenty: 10 %; the rest is above 1e-6 of 10 only */
    sow_spectrum s = sow_spectrum_of(300, 200, values);
    double all = 200 + 18 + 180e-10;
    CHECK_NEAR(s.energy_1, 200 / all, 1e-12);
    CHECK_NEAR(s.energy_10, 218 / all, 1e-12);
    CHECK_NEAR(s.stable_rank, all / 100, 1e-12);
    CHECK_NEAR(s.rank, 0.1, 1e-12);
}

static void test_values_when_all_alike_or_zero_then_the_ends(void **state)
{
    (void)state;
    const double alike[5] = {3, 3, 3, 3, 3}, zero[5] = {0};
    sow_spectrum s = sow_spectrum_of(5, 5, alike);
    CHECK_NEAR(s.stable_rank, 5, 1e-12);
    assert_true(s.rank == 1);
    s = sow_spectrum_of(5, 5, zero);
    assert_true(s.norm == 0 && s.stable_rank == 0 && s.energy_1 == 0 && s.rank == 0);
}

/* theta - base = 3 u v' + 1 w x' with orthonormal vectors: values 3, 1, 0, ... */
static void test_update_when_two_directions_then_their_sizes(void **state)
{
    (void)state;
    enum { ROWS = 8, COLS = 6, OFFSET = 5 };
    float base[OFFSET + ROWS * COLS], theta[OFFSET + ROWS * COLS];
    sow_tensor tensor = {.name = "w", .rows = ROWS, .cols = COLS, .offset = OFFSET, .is_matrix = true};
    sow_spectrum s;
    for (int i = 0; i < OFFSET + ROWS * COLS; i++)
        base[i] = theta[i] = (float)i; /* whole numbers: the difference is exact */
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < 4; c++) { /* u: all ones / sqrt 8, v: four ones / 2; w: signs / sqrt 8, x: signs / 2 */
            float one = 1.5f, other = (r % 2 == 0) == (c % 2 == 0) ? 0.5f : -0.5f;
            theta[OFFSET + r * COLS + c] += one + other;
        }
    CHECK_OK(sow_spectrum_measure(&tensor, base, theta, &s));
    double first = 1.5 * sqrt(ROWS * 4), second = 0.5 * sqrt(ROWS * 4);
    CHECK_NEAR(s.top[0], first, 1e-10);
    CHECK_NEAR(s.top[1], second, 1e-10);
    CHECK_NEAR(s.top[2], 0, 1e-10);
    CHECK_NEAR(s.stable_rank, 1 + 1.0 / 9, 1e-10);
    CHECK_NEAR(s.rank, 2.0 / COLS, 1e-12);
    CHECK_NEAR(s.norm, sqrt(first * first + second * second), 1e-10);
    tensor.rows = 1;
    assert_false(sow_spectrum_has(&tensor));
    CHECK_FAILS(sow_spectrum_measure(&tensor, base, theta, &s), SOW_EARG, "w: is no matrix");
}

static void test_json_when_two_of_a_kind_then_their_mean(void **state)
{
    (void)state;
    sow_tensor tensors[3] = {{.name = "a.norm", .kind = SOW_TENSOR_INPUT_NORM, .rows = 1, .cols = 4},
                             {.name = "a.q", .kind = SOW_TENSOR_Q, .rows = 2, .cols = 2},
                             {.name = "b.q", .kind = SOW_TENSOR_Q, .rows = 2, .cols = 2}};
    const sow_layout layout = {.n_tensors = 3, .tensors = tensors};
    const double a[2] = {1, 1}, b[2] = {1, 0};
    const sow_spectrum spectra[3] = {{0}, sow_spectrum_of(2, 2, a), sow_spectrum_of(2, 2, b)};
    sow_line *line = NULL;
    sow_json *json = NULL;
    const char *text = NULL;
    double value = 0;
    CHECK_OK(sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_spectrum_put(line, &layout, spectra);
    sow_line_end_object(line);
    CHECK_OK(sow_line_text(line, &text));
    CHECK_OK(sow_json_parse(text, strlen(text), "line", &json));
    const sow_json *kinds = sow_json_get(json, "kinds");
    assert_int_equal(sow_json_size(kinds), 1);
    assert_true(sow_json_to_real(sow_json_get(sow_json_get(kinds, "q"), "stable_rank"), &value) && value == 1.5);
    assert_true(sow_json_to_real(sow_json_get(sow_json_get(kinds, "q"), "rank"), &value) && value == 0.75);
    const sow_json *shares = sow_json_get(sow_json_get(kinds, "q"), "top_share");
    assert_int_equal(sow_json_size(shares), SOW_SPECTRUM_TOP);
    assert_true(sow_json_to_real(sow_json_at(shares, 0), &value));
    CHECK_NEAR(value, (1 / sqrt(2) + 1) / 2, 1e-12);
    assert_int_equal(sow_json_size(sow_json_get(json, "tensors")), 2);
    sow_json_destroy(&json);
    sow_line_destroy(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_when_known_then_the_formulas),
        cmocka_unit_test(test_values_when_many_then_the_largest_percents),
        cmocka_unit_test(test_values_when_all_alike_or_zero_then_the_ends),
        cmocka_unit_test(test_update_when_two_directions_then_their_sizes),
        cmocka_unit_test(test_json_when_two_of_a_kind_then_their_mean),
    };
    return cmocka_run_group_tests_name("spectrum", tests, NULL, check_live_zero);
}
