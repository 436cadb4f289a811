// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of a row: every table against the definition; exp and log against libm; every 16-bit number there and
 * back. */
#include "kernel_check.h"

enum { N = 600, MANY = 1 << 18 };

/* Every length of the first 70, then a few: all tails. */
#define EACH_LENGTH(n) for (int64_t n = 1; n <= N; n += n < 70 ? 1 : 53)

static const sow_kernels *plain(void)
{
    return sow_kernels_at(sow_kernels_count() - 1);
}

static float tree(float lane[SOW_LANES])
{
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

static void test_rms_norm_of_every_length_is_its_definition(void **state)
{
    (void)state;
    float x[N], w[N], y[N], want[N];
    EACH_LENGTH(n)
    {
        float lane[SOW_LANES] = {0};
        double squares = 0.0;
        fill_floats((uint32_t)n, 3.0f, n, x);
        fill_floats(1000, 1.0f, n, w);
        for (int64_t i = 0; i < n; i++) {
            lane[i % SOW_LANES] = fmaf(x[i], x[i], lane[i % SOW_LANES]);
            squares += (double)x[i] * (double)x[i];
        }
        const float inverse = 1.0f / sqrtf(tree(lane) / (float)n + 1e-5f);
        CHECK_NEAR((double)inverse, 1.0 / sqrt(squares / (double)n + 1e-5), 1e-5 * (double)inverse);
        for (int64_t i = 0; i < n; i++)
            want[i] = x[i] * inverse * w[i];
        EACH_KERNELS(k)
        {
            k->rms_norm(n, x, w, 1e-5f, y);
            check_bits("rms_norm", k->name, n, y, want);
            memcpy(y, x, sizeof y);
            k->rms_norm(n, y, w, 1e-5f, y); /* in place */
            check_bits("rms_norm in place", k->name, n, y, want);
        }
    }
}

static void test_activations_of_every_length_are_their_definitions(void **state)
{
    (void)state;
    float x[N], w[N], e[N], y[N], want[N];
    EACH_LENGTH(n)
    {
        fill_floats((uint32_t)n, 50.0f, n, x);
        fill_floats(1001, 1.0f, n, w);
        for (int64_t i = 0; i < n; i++)
            e[i] = -x[i];
        plain()->exp(n, e, e);
        for (int64_t i = 0; i < n; i++) {
            want[i] = x[i] / (1.0f + e[i]) * w[i];
            const double silu = (double)x[i] / (1.0 + exp(-(double)x[i])) * (double)w[i];
            CHECK_NEAR((double)want[i], silu, 1e-6 * fabs(silu) + 1e-30);
        }
        EACH_KERNELS(k)
        {
            k->swiglu(n, x, w, y);
            check_bits("swiglu", k->name, n, y, want);
        }
        for (int64_t i = 0; i < n; i++)
            want[i] = w[i] + x[i];
        EACH_KERNELS(k)
        {
            memcpy(y, w, sizeof y);
            k->add(n, x, y);
            check_bits("add", k->name, n, y, want);
        }
    }
}

static void test_rope_of_every_head_is_its_definition(void **state)
{
    (void)state;
    float x[N], cosine[N], sine[N], y[N], want[N];
    for (int64_t half = 1; half <= 70; half++) {
        fill_floats(1, 3.0f, 2 * half, x);
        fill_floats(2, 1.0f, half, cosine);
        fill_floats(3, 1.0f, half, sine);
        for (int64_t i = 0; i < half; i++) {
            want[i] = fmaf(x[i], cosine[i], -(x[half + i] * sine[i]));
            want[half + i] = fmaf(x[half + i], cosine[i], x[i] * sine[i]);
        }
        EACH_KERNELS(k)
        {
            memcpy(y, x, sizeof y);
            k->rope(2 * half, cosine, sine, y);
            check_bits("rope", k->name, 2 * half, y, want);
        }
    }
}

static void test_argmax_with_equal_values_takes_the_lowest_index(void **state)
{
    (void)state;
    float x[N];
    EACH_LENGTH(n)
    {
        fill_floats((uint32_t)n, 1.0f, n, x);
        const int64_t at = (int64_t)(random_word(5, (uint64_t)n) % (uint32_t)n);
        for (int64_t i = at; i < n; i += 3)
            x[i] = 2.0f;
        EACH_KERNELS(k)
        {
            float max = 0.0f;
            assert_int_equal(k->argmax(n, x, &max), at);
            assert_true(max == 2.0f);
        }
        x[n - 1] = NAN;
        EACH_KERNELS(k)
        {
            float max = 0.0f;
            assert_int_equal(k->argmax(n, x, &max), -1);
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = -INFINITY;
        EACH_KERNELS(k)
        {
            float max = 0.0f;
            assert_int_equal(k->argmax(n, x, &max), 0);
            assert_true(max == -INFINITY);
        }
    }
    EACH_KERNELS(k)
    {
        float zeros[3] = {-1.0f, -0.0f, 0.0f}, max = 1.0f;
        assert_int_equal(k->argmax(3, zeros, &max), 1);
        assert_true(max == 0.0f && signbit(max));
    }
}

static void test_sum_exp_of_every_length_is_its_definition(void **state)
{
    (void)state;
    float x[N], e[N];
    EACH_LENGTH(n)
    {
        float lane[SOW_LANES] = {0}, max = 0.0f;
        double sum = 0.0;
        fill_floats((uint32_t)n, 30.0f, n, x);
        x[0] = -INFINITY;
        const int64_t at = plain()->argmax(n, x, &max);
        assert_true(at >= 0);
        max = n == 1 ? 0.0f : max;
        for (int64_t i = 0; i < n; i++) {
            e[i] = x[i] - max;
            sum += exp((double)e[i]);
        }
        plain()->exp(n, e, e);
        for (int64_t i = 0; i < n; i++)
            lane[i % SOW_LANES] += e[i];
        const float want = tree(lane);
        CHECK_NEAR((double)want, sum, 1e-5 * sum);
        EACH_KERNELS(k)
        {
            const float got = k->sum_exp(n, x, max);
            check_bits("sum_exp", k->name, 1, &got, &want);
        }
    }
}

static void test_has_non_finite_at_any_place_finds_it(void **state)
{
    (void)state;
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    float x[70];
    for (int64_t n = 1; n <= 70; n++) {
        fill_wild(9, n, x);
        x[0] = 3.4e38f;
        EACH_KERNELS(k) assert_int_equal(k->has_non_finite(n, x), 0);
        for (int64_t at = 0; at < n; at++) {
            const float was = x[at];
            x[at] = bad[at % 3];
            EACH_KERNELS(k) assert_int_equal(k->has_non_finite(n, x), 1);
            x[at] = was;
        }
    }
}

/* Floats from `from` to `to` in steps of their bits; the worst error of f against exact(x), in units of the last
 * place. */
static double worst_error(void (*f)(int64_t, const float *, float *), double (*exact)(double), uint32_t from,
                          uint32_t to, uint32_t stride)
{
    enum { CHUNK = 4096 };
    static float x[CHUNK], y[CHUNK];
    double worst = 0.0;
    for (uint32_t u = from; u < to;) {
        int64_t n = 0;
        for (; n < CHUNK && u < to; n++, u += stride)
            x[n] = float_of(u);
        f(n, x, y);
        for (int64_t i = 0; i < n; i++) {
            const double want = exact((double)x[i]);
            const double ulp = ldexp(1.0, (int)fmax(floor(log2(fabs(want))), -126) - 23);
            if (want != 0.0)
                worst = fmax(worst, fabs((double)y[i] - want) / ulp);
        }
    }
    return worst;
}

static void test_exp_of_all_magnitudes_is_within_an_ulp(void **state)
{
    (void)state;
    const sow_kernels *k = sow_kernels_at(0);
    const double above = worst_error(k->exp, exp, 0, bits_of(88.7f), 4001);
    const double below = worst_error(k->exp, exp, 0x80000000, bits_of(-103.9f), 4001);
    print_message("exp: at most %.4f ulp above 0, %.4f below\n", above, below);
    assert_true(above > 0.4 && above <= 1.02 && below <= 1.02);
}

static void test_log_of_all_magnitudes_is_within_an_ulp(void **state)
{
    (void)state;
    const sow_kernels *k = sow_kernels_at(0);
    const double all = worst_error(k->log, log, 1, bits_of(INFINITY), 4001);
    const double near_one = worst_error(k->log, log, bits_of(0.9f), bits_of(1.1f), 31);
    print_message("log: at most %.4f ulp, %.4f near 1\n", all, near_one);
    assert_true(all > 0.4 && all <= 1.0 && near_one <= 1.0);
}

static void test_exp_and_log_of_any_bits_are_equal_in_all_tables(void **state)
{
    (void)state;
    static float x[MANY], want[MANY], y[MANY];
    for (int64_t i = 0; i < MANY; i++)
        x[i] = float_of(random_word(11, (uint64_t)i));
    EACH_KERNELS(k)
    {
        plain()->exp(MANY, x, want);
        k->exp(MANY, x, y);
        check_bits("exp", k->name, MANY, y, want);
        plain()->log(MANY, x, want);
        k->log(MANY, x, y);
        check_bits("log", k->name, MANY, y, want);
    }
}

static void test_exp_and_log_of_special_values_are_right(void **state)
{
    (void)state;
    const float x[] = {INFINITY, -INFINITY, 0.0f, -0.0f, NAN, -1.0f, 1.0f, -200.0f, 200.0f};
    const float exps[] = {INFINITY, 0.0f, 1.0f, 1.0f, NAN, 0.36787945f, 2.7182817f, 0.0f, INFINITY};
    const float logs[] = {INFINITY, NAN, -INFINITY, -INFINITY, NAN, NAN, 0.0f, NAN, 5.2983174f};
    EACH_KERNELS(k)
    {
        for (int64_t n = 1; n <= 9; n++) {
            float y[9];
            k->exp(n, x, y);
            check_bits("exp", k->name, n, y, exps);
            k->log(n, x, y);
            check_bits("log", k->name, n, y, logs);
        }
    }
}

/* ---- 16-bit formats ---- */

/* The nearest of the two neighbours in double, ties to the even one: `step` is the distance of numbers there. */
static double round_to(double x, int bits, int least_exponent)
{
    int exponent = 0;
    (void)frexp(x, &exponent);
    const int last = exponent - bits > least_exponent ? exponent - bits : least_exponent;
    return ldexp(nearbyint(ldexp(x, -last)), last);
}

static void test_narrow_of_any_number_is_the_nearest(void **state)
{
    (void)state;
    static float x[MANY], wide[MANY];
    static uint16_t half[MANY], first[MANY];
    for (int64_t i = 0; i < MANY; i++) /* half of them near the range of fp16, with ties */
        x[i] = float_of(i % 2 ? random_word(12, (uint64_t)i)
                              : 0x33000000 + random_word(12, (uint64_t)i) % 0x14ffffff / 0x800 * 0x800);
    x[0] = 65519.996f, x[1] = 65520.0f, x[2] = 0x1p-25f, x[3] = 0x1.000002p-25f, x[4] = 0x1p-133f, x[5] = 0x1p-134f;
    for (sow_type type = SOW_FP16; type <= SOW_BF16; type++) {
        const int bits = type == SOW_FP16 ? 11 : 8, least = type == SOW_FP16 ? -24 : -133;
        const double limit = type == SOW_FP16 ? 65520.0 : 0x1.ffp127;
        plain()->narrow(type, MANY, x, first);
        plain()->widen(type, MANY, first, wide);
        for (int64_t i = 0; i < MANY; i++) {
            const double exact = (double)x[i];
            const double want = fabs(exact) >= limit ? copysign(HUGE_VAL, exact) : round_to(exact, bits, least);
            if (isnan(x[i]) ? !isnan(wide[i]) : (double)wide[i] != want || signbit(wide[i]) != signbit(x[i]))
                fail_msg("%a as %s is %a, expected %a", exact, sow_type_name(type), (double)wide[i], want);
        }
        EACH_KERNELS(k)
        {
            static float again[MANY];
            for (int64_t n = 1; n <= 70; n++) {
                half[n] = 4711;
                k->narrow(type, n, x, half);
                assert_memory_equal(half, first, (size_t)n * sizeof *half);
                assert_int_equal(half[n], 4711);
            }
            k->narrow(type, MANY, x, half);
            k->widen(type, MANY, half, again);
            check_bits(sow_type_name(type), k->name, MANY, again, wide);
        }
    }
}

static void test_every_16_bit_number_survives_there_and_back(void **state)
{
    (void)state;
    static uint16_t half[1 << 16], back[1 << 16];
    static float wide[1 << 16];
    for (int i = 0; i < 1 << 16; i++)
        half[i] = (uint16_t)i;
    for (sow_type type = SOW_FP16; type <= SOW_BF16; type++) {
        EACH_KERNELS(k)
        {
            k->widen(type, 1 << 16, half, wide);
            k->narrow(type, 1 << 16, wide, back);
            for (int i = 0; i < 1 << 16; i++)
                if (back[i] != half[i] && !isnan(wide[i]))
                    fail_msg("%s, %s: %04x became %04x", sow_type_name(type), k->name, half[i], back[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rms_norm_of_every_length_is_its_definition),
        cmocka_unit_test(test_activations_of_every_length_are_their_definitions),
        cmocka_unit_test(test_rope_of_every_head_is_its_definition),
        cmocka_unit_test(test_argmax_with_equal_values_takes_the_lowest_index),
        cmocka_unit_test(test_sum_exp_of_every_length_is_its_definition),
        cmocka_unit_test(test_has_non_finite_at_any_place_finds_it),
        cmocka_unit_test(test_exp_of_all_magnitudes_is_within_an_ulp),
        cmocka_unit_test(test_log_of_all_magnitudes_is_within_an_ulp),
        cmocka_unit_test(test_exp_and_log_of_any_bits_are_equal_in_all_tables),
        cmocka_unit_test(test_exp_and_log_of_special_values_are_right),
        cmocka_unit_test(test_narrow_of_any_number_is_the_nearest),
        cmocka_unit_test(test_every_16_bit_number_survives_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
