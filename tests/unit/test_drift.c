// NEEDS: measure
/* SPDX-License-Identifier: Apache-2.0 */
/* Drift against known answers and against a slow loop written down here. */
#include "check.h"

#include "sower/drift.h"

#include <omp.h>

enum { BLOCK = 16384 };

/* A layout of a few tensors as they stand in theta: offsets are multiples of 64, and what lies between belongs to
 * none. */
static sow_layout layout_of(sow_tensor *tensors, const int64_t (*shapes)[2], int64_t n)
{
    sow_layout layout = {.n_tensors = n, .tensors = tensors};
    for (int64_t i = 0; i < n; i++) {
        tensors[i] = (sow_tensor){.rows = shapes[i][0], .cols = shapes[i][1], .offset = layout.n_elements};
        layout.n_parameters += shapes[i][0] * shapes[i][1];
        layout.n_elements += (shapes[i][0] * shapes[i][1] + 63) / 64 * 64;
    }
    return layout;
}

static sow_drift measure(int64_t n, const float *base, const float *theta, const char *taus)
{
    sow_tensor tensor;
    sow_tau tau;
    sow_drift drift;
    const int64_t shape[1][2] = {{1, n}};
    sow_layout layout = layout_of(&tensor, shape, 1);
    CHECK_OK(sow_tau_parse(taus, &tau));
    sow_drift_measure(&layout, base, theta, &tau, &drift);
    return drift;
}

static void test_measure_when_nothing_moved_then_nothing(void **state)
{
    (void)state;
    static const float base[] = {1, -2, 0.5F, 3};
    sow_drift d = measure(4, base, base, "0,1e-6");
    assert_int_equal(d.n, 4);
    assert_true(d.delta2 == 0 && d.max_abs == 0 && d.paper2 == 0);
    assert_true(d.base2 == 1 + 4 + 0.25 + 9);
    assert_true(d.within[0] == 4 && d.within[1] == 4 && d.within[2] == 0);
    assert_true(d.same_bf16 == 4 && d.same_fp16 == 4);
}

static void test_measure_when_moves_are_known_then_exact(void **state)
{
    (void)state;
    static const float base[] = {0, 0, 0, 1, 1, 1};
    static const float theta[] = {0.5F, -0.25F, 0, 1 + 0x1p-9F, 1 + 0x1p-12F, 1 + 0x1p-7F};
    sow_drift d = measure(6, base, theta, "0,0.001953125,0.25");
    assert_true(d.delta2 == 0.25 + 0.0625 + 0x1p-18 + 0x1p-24 + 0x1p-14);
    assert_true(d.base2 == 3 && d.max_abs == 0.5);
    assert_true(d.within[0] == 1 && d.within[1] == 3 && d.within[2] == 5); /* the bounds belong to it */
    assert_int_equal(d.same_bf16, 3); /* steps of 2^-7 above 1: 2^-9 and 2^-12 vanish */
    assert_int_equal(d.same_fp16, 2); /* steps of 2^-10: 2^-9 stays */
}

/* What the paper's formula loses: |delta| < 1.73e-4 squares to zero in fp16. */
static void test_paper_when_moves_are_small_then_lost_as_in_fp16(void **state)
{
    (void)state;
    static const float base[] = {0, 0, 0, 0};
    static const float lost[] = {1.7e-4F, -1.7e-4F, 0x1p-13F, 1e-6F};
    static const float kept[] = {0x1p-12F, 0, 0, 0}; /* its square is the smallest number of fp16 */
    sow_drift d = measure(4, base, lost, "1e-6");
    assert_true(d.paper2 == 0 && d.delta2 > 0);
    d = measure(4, base, kept, "1e-6");
    assert_true(d.paper2 == 0x1p-24 && d.delta2 == 0x1p-24);
}

static void test_measure_when_a_weight_is_not_finite_then_seen(void **state)
{
    (void)state;
    static const float base[] = {1, 2};
    float theta[] = {1, 2};
    theta[1] = (float)NAN;
    sow_drift d = measure(2, base, theta, "1");
    assert_true(isnan(d.delta2) && isnan(d.paper2));
    assert_int_equal(d.within[0], 1);
    theta[1] = 7e4F; /* beyond fp16 */
    d = measure(2, base, theta, "1");
    assert_true(isinf(d.paper2) && !isinf(d.delta2));
}

/* ---- A slow loop ---- */

/* The nearest number with `bits` bits of mantissa and no exponent below `least`; ties to even. */
static double round_to(double x, int bits, int least)
{
    int e = 0;
    (void)frexp(x, &e);
    double unit = ldexp(1, (e > least ? e : least) - bits);
    return nearbyint(x / unit) * unit;
}

static double half(double x)
{
    return round_to(x, 11, -13);
}

static sow_drift slow(int64_t n, const float *base, const float *theta, const sow_tau *tau)
{
    sow_drift sum = {0};
    for (int64_t first = 0; first < n; first += BLOCK) {
        sow_drift block = {0};
        for (int64_t i = first; i < n && i < first + BLOCK; i++) {
            double b = (double)base[i], t = (double)theta[i], d = t - b, h = half(half(b) - half(t));
            block.n++;
            block.delta2 += d * d;
            block.base2 += b * b;
            block.max_abs = fmax(block.max_abs, fabs(d));
            block.paper2 += half(h * h);
            for (int64_t j = 0; j < tau->n; j++)
                block.within[j] += fabs(d) <= tau->values[j];
            block.same_bf16 += round_to(b, 8, -125) == round_to(t, 8, -125);
            block.same_fp16 += half(b) == half(t);
        }
        sow_drift_add(&sum, &block);
    }
    return sum;
}

/* Weights near 0.02 and near 1, moved by a thousandth of themselves or less. */
static void fill(int64_t n, float *base, float *theta)
{
    uint64_t x = 88172645463325252;
    for (int64_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        double u = (double)(x >> 11) * 0x1p-53 - 0.5, v = (double)(x & 0xfffff) * 0x1p-20 - 0.5;
        base[i] = (float)(i % 7 == 0 ? 1 + 0.1 * u : 0.1 * u);
        theta[i] = base[i] + (float)(i % 5 == 0 ? 0 : i % 3 == 0 ? 1e-5 * v : 4e-3 * v);
    }
}

static bool is_equal(const sow_drift *a, const sow_drift *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static void test_measure_when_blocks_and_tensors_end_anywhere_then_as_the_slow_loop_for_any_threads(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1},    {1, 100},    {3, 5461}, {4, 4096},  {5, 3277},
                                        {1, 1023}, {65, BLOCK}, {1, 1024}, {129, 8191}};
    enum { N = sizeof shapes / sizeof shapes[0] };
    sow_tensor tensors[N];
    sow_layout layout = layout_of(tensors, shapes, N);
    sow_tau tau;
    sow_drift got[N], want[N];
    float *base = NULL, *theta = NULL;
    int threads = omp_get_max_threads();
    CHECK_OK(sow_tau_parse("1e-6,1e-5,1e-4", &tau));
    CHECK_OK(SOW_ALLOC(&base, layout.n_elements));
    CHECK_OK(SOW_ALLOC(&theta, layout.n_elements));
    fill(layout.n_elements, base, theta); /* the gaps too: they must not count */
    for (int64_t i = 0; i < N; i++)
        want[i] = slow(shapes[i][0] * shapes[i][1], base + tensors[i].offset, theta + tensors[i].offset, &tau);
    for (int t = 1; t <= 4; t++) {
        omp_set_num_threads(t);
        memset(got, 0, sizeof got);
        sow_drift_measure(&layout, base, theta, &tau, got);
        for (int64_t i = 0; i < N; i++)
            if (!is_equal(&got[i], &want[i]))
                fail_msg("tensor %d, %d threads: delta2 %.17g, expected %.17g; paper2 %.17g, %.17g", (int)i, t,
                         got[i].delta2, want[i].delta2, got[i].paper2, want[i].paper2);
    }
    omp_set_num_threads(threads);
    SOW_FREE(&base);
    SOW_FREE(&theta);
}

static void test_add_when_two_groups_then_sums_and_the_larger_maximum(void **state)
{
    (void)state;
    sow_drift a = {
        .n = 3, .delta2 = 1, .base2 = 2, .max_abs = 5, .paper2 = 1, .within = {1, 2}, .same_bf16 = 1, .same_fp16 = 2};
    const sow_drift b = {
        .n = 4, .delta2 = 2, .base2 = 3, .max_abs = 4, .paper2 = 2, .within = {3, 4}, .same_bf16 = 5, .same_fp16 = 6};
    const sow_drift want = {
        .n = 7, .delta2 = 3, .base2 = 5, .max_abs = 5, .paper2 = 3, .within = {4, 6}, .same_bf16 = 6, .same_fp16 = 8};
    sow_drift_add(&a, &b);
    assert_true(is_equal(&a, &want));
}

static void test_tau_when_good_then_in_order(void **state)
{
    (void)state;
    sow_tau tau;
    CHECK_OK(sow_tau_parse("1e-6,1e-5,0.5", &tau));
    assert_true(tau.n == 3 && tau.values[0] == 1e-6 && tau.values[1] == 1e-5 && tau.values[2] == 0.5);
    CHECK_OK(sow_tau_parse("0", &tau));
    assert_true(tau.n == 1 && tau.values[0] == 0);
    CHECK_OK(sow_tau_parse("1,2,3,4,5,6,7,8", &tau));
    assert_int_equal(tau.n, SOW_MAX_TAU);
}

static void test_tau_when_bad_then_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "1e-6,",
                                      ",1",
                                      "1;2",
                                      "-1e-6",
                                      "nan",
                                      "inf",
                                      "1e-6, ,2",
                                      "x",
                                      "1,2,,3",
                                      "0000000000000000000000000000000000000000000000000000000000000000000000000001"};
    sow_tau tau = {.n = 77};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_FAILS(sow_tau_parse(bad[i], &tau), SOW_ECONF,
                    "is no threshold, expected numbers >= 0 separated by commas");
    CHECK_FAILS(sow_tau_parse("1,2,3,4,5,6,7,8,9", &tau), SOW_ECONF,
                "measure.tau: '1,2,3,4,5,6,7,8,9' has more than 8 thresholds");
    assert_int_equal(tau.n, 77);
}

/* The published norms (arXiv 2601.20861, figure 3, read off): 27.7 to 88.4, which the law meets within 2.5 %. */
static void test_law_when_the_paper_s_run_then_its_norms(void **state)
{
    (void)state;
    static const double published[][2] = {{50, 27.7}, {100, 39.4}, {200, 55.8}, {300, 68.3}, {400, 78.8}, {500, 88.4}};
    CHECK_NEAR(sow_drift_law(5e-4, 1.777e9, 50, 30), 27.211, 1e-3);
    CHECK_NEAR(sow_drift_law(0.012, 344736, 100, 30), 12.8637, 1e-3); /* the laboratory model, measured 12.86 */
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++)
        CHECK_NEAR(sow_drift_law(5e-4, 1.777e9, published[i][0], 30) / published[i][1], 1, 0.03);
    assert_true(sow_drift_law(1, 4, 0, 1) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measure_when_nothing_moved_then_nothing),
        cmocka_unit_test(test_measure_when_moves_are_known_then_exact),
        cmocka_unit_test(test_paper_when_moves_are_small_then_lost_as_in_fp16),
        cmocka_unit_test(test_measure_when_a_weight_is_not_finite_then_seen),
        cmocka_unit_test(test_measure_when_blocks_and_tensors_end_anywhere_then_as_the_slow_loop_for_any_threads),
        cmocka_unit_test(test_add_when_two_groups_then_sums_and_the_larger_maximum),
        cmocka_unit_test(test_tau_when_good_then_in_order),
        cmocka_unit_test(test_tau_when_bad_then_named),
        cmocka_unit_test(test_law_when_the_paper_s_run_then_its_norms),
    };
    return cmocka_run_group_tests_name("drift", tests, NULL, check_live_zero);
}
