// NEEDS: noise la
/* SPDX-License-Identifier: Apache-2.0 */
/* What every perturbation of noises.def must keep, on every kernel table this machine can run: the same bits for the
 * same call and for any cut, signs of mirrored pairs, moments and tails, and no correlation between places of a run.
 *
 * All draws are fixed, so a bound of 5 standard errors is not a matter of luck: a row either keeps it or never does. */
#include "check.h"

#include "sower/hash.h"
#include "sower/kernels.h"
#include "sower/noise.h"

enum { N_SMALL = 1 << 12, N_PAIRS = 1 << 18, N_MOMENTS = 1 << 22 };
static float *a, *b; /* N_MOMENTS each; owned by the group */

static int make_buffers(void **state)
{
    (void)state;
    return SOW_ALLOC(&a, N_MOMENTS) == SOW_OK && SOW_ALLOC(&b, N_MOMENTS) == SOW_OK ? 0 : -1;
}

static int free_buffers(void **state)
{
    SOW_FREE(&a);
    SOW_FREE(&b);
    return check_live_zero(state);
}

/* The best table: fast enough for millions of numbers; the others are compared with it bit for bit. */
static const sow_kernels *best(void)
{
    const sow_kernels *kernels = NULL;
    CHECK_OK(sow_kernels_find("auto", &kernels));
    return kernels;
}

static bool is_shared(const sow_noise *noise)
{
    return strcmp(noise->name, "shared-seed") == 0;
}

static void test_table_when_walked_then_names_are_found(void **state)
{
    (void)state;
    assert_true(sow_noise_count() >= 3);
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        assert_true(noise->name[0] != '\0' && noise->doc[0] != '\0' && noise->loop < SOW_N_NOISE_LOOPS);
        assert_ptr_equal(sow_noise_find(noise->name), noise); /* also: no two of one name */
    }
    assert_null(sow_noise_find("gausian"));
    assert_null(sow_noise_find(""));
}

static void test_noise_when_called_again_then_same_bits(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        best()->noise(noise->loop, noise->place(1, 2, 3, 4), 64, N_SMALL, a);
        for (int64_t k = 0; k < sow_kernels_count(); k++) {
            memset(b, 0xff, N_SMALL * sizeof *b);
            sow_kernels_at(k)->noise(noise->loop, noise->place(1, 2, 3, 4), 64, N_SMALL, b);
            if (memcmp(a, b, N_SMALL * sizeof *a) != 0)
                fail_msg("%s: other bits with the kernels of %s", noise->name, sow_kernels_at(k)->name);
        }
    }
}

/* Rows by name: what kind of numbers they are, and digests of 4,096 of them, recorded with gcc 12 and AVX-512 kernels
 * when the rows were made.  They change only together with the ledger's `numerics`. */
static const struct {
    const char *name;
    bool is_sign;
    const char *digest;
} recorded[] = {
    {"gaussian", false, "052ce0ccbbd4e768131595d1bfd71c01"},
    {"rademacher", true, "58f5306686fce6f1b187d06c8923c5cd"},
    {"shared-seed", false, "cb28f7254bc0564e1381c3554bc872ec"},
};

static void test_noise_when_drawn_then_recorded_bits(void **state)
{
    (void)state;
    char digest[SOW_HASH_HEX];
    for (size_t i = 0; i < sizeof recorded / sizeof recorded[0]; i++) {
        const sow_noise *noise = sow_noise_find(recorded[i].name);
        assert_non_null(noise);
        best()->noise(noise->loop, noise->place(1, 2, 3, 4), 0, N_SMALL, a);
        int64_t n_signs = 0;
        for (int64_t e = 0; e < N_SMALL; e++)
            n_signs += fabsf(a[e]) == 1.0f;
        assert_true(recorded[i].is_sign ? n_signs == N_SMALL : n_signs < 5);
        sow_hash_write(sow_hash_bytes(a, N_SMALL * sizeof *a), digest);
        assert_string_equal(digest, recorded[i].digest);
    }
}

/* A slice from `first` on, of n elements, equals that part of the whole in a, and nothing behind it is written. */
static void check_slice(const sow_noise *noise, const sow_kernels *kernels, int64_t first, int64_t n)
{
    const float mark = 12345.0f;
    for (int64_t i = 0; i <= n; i++)
        b[i] = mark;
    kernels->noise(noise->loop, noise->place(7, 0, 5, 9), (uint64_t)first, n, b);
    if (memcmp(a + first, b, (size_t)n * sizeof *b) != 0 || b[n] != mark)
        fail_msg("%s, %s: slice of %lld from %lld", noise->name, kernels->name, (long long)n, (long long)first);
}

static void test_noise_when_cut_anywhere_then_bits_of_the_whole(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        for (int64_t k = 0; k < sow_kernels_count(); k++) {
            const sow_kernels *kernels = sow_kernels_at(k);
            kernels->noise(noise->loop, noise->place(7, 0, 5, 9), 0, N_SMALL, a);
            for (int64_t n = 0; n <= 3 * SOW_NOISE_BLOCK + 1; n++)
                check_slice(noise, kernels, SOW_NOISE_BLOCK * (n % 7), n);
            for (int64_t first = 0; first < N_SMALL; first += SOW_NOISE_BLOCK)
                check_slice(noise, kernels, first, N_SMALL - first);
        }
    }
}

static void test_noise_when_index_is_far_then_no_repeat(void **state)
{
    (void)state;
    static const uint64_t firsts[] = {0, UINT64_C(1) << 32, UINT64_C(1) << 36, UINT64_C(1) << 40};
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        for (size_t j = 1; j < sizeof firsts / sizeof firsts[0]; j++) {
            best()->noise(noise->loop, noise->place(1, 1, 1, 1), firsts[j - 1], N_SMALL, a);
            best()->noise(noise->loop, noise->place(1, 1, 1, 1), firsts[j], N_SMALL, b);
            assert_memory_not_equal(a, b, N_SMALL * sizeof *a);
        }
    }
}

/* The perturbation of a member by itself, as it is applied: fma(factor, noise, 0). */
static void perturb(const sow_noise *noise, int64_t member, bool is_mirrored, float *out)
{
    static const float zero[N_SMALL];
    sow_member_noise who = sow_noise_of_member(member, is_mirrored);
    best()->perturb_f32(noise->loop, noise->place(3, 4, who.member, 2), N_SMALL, 0.125f * who.sign, zero, out);
}

static void test_mirrored_members_when_paired_then_differ_by_sign(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        for (int64_t j = 0; j < 3; j++) {
            perturb(noise, 2 * j, true, a);
            perturb(noise, 2 * j + 1, true, b);
            for (int64_t e = 0; e < N_SMALL; e++)
                assert_true(a[e] == -b[e] && a[e] != 0);
            perturb(noise, 2 * j + 2, true, b);
            assert_memory_not_equal(a, b, N_SMALL * sizeof *a);
            perturb(noise, j, false, b); /* the pair j has the noise of member j */
            assert_memory_equal(a, b, N_SMALL * sizeof *a);
        }
    }
}

/* Expected moments of a loop; the standard error of a mean of x^k over n is sqrt((E x^2k - (E x^k)^2) / n). */
static const struct {
    double m4, m6, m8;
} moments[SOW_N_NOISE_LOOPS] = {[SOW_NOISE_GAUSSIAN] = {3, 15, 105}, [SOW_NOISE_RADEMACHER] = {1, 1, 1}};

static void test_noise_when_many_then_moments_within_5_standard_errors(void **state)
{
    (void)state;
    const double n = N_MOMENTS;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        double m4 = moments[noise->loop].m4, m6 = moments[noise->loop].m6, m8 = moments[noise->loop].m8;
        double sum[5] = {0};
        best()->noise(noise->loop, noise->place(42, 1, 2, 3), 0, N_MOMENTS, a);
        for (int64_t e = 0; e < N_MOMENTS; e++) {
            double x = (double)a[e];
            sum[1] += x;
            sum[2] += x * x;
            sum[3] += x * x * x;
            sum[4] += x * x * x * x;
        }
        CHECK_NEAR(sum[1] / n, 0, 5 / sqrt(n));
        CHECK_NEAR(sum[2] / n, 1, 5 * sqrt((m4 - 1) / n));
        CHECK_NEAR(sum[3] / n, 0, 5 * sqrt(m6 / n));
        CHECK_NEAR(sum[4] / n, m4, 5 * sqrt((m8 - m4 * m4) / n));
    }
}

static void test_gaussian_when_many_then_tails_within_5_standard_errors(void **state)
{
    (void)state;
    const double n = N_MOMENTS;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        if (noise->loop != SOW_NOISE_GAUSSIAN)
            continue;
        int64_t above[6] = {0}, below[6] = {0};
        best()->noise(noise->loop, noise->place(43, 0, 0, 0), 0, N_MOMENTS, a);
        for (int64_t e = 0; e < N_MOMENTS; e++)
            for (int k = 0; k <= 5; k++) {
                above[k] += a[e] > (float)k;
                below[k] += a[e] < (float)-k;
            }
        for (int k = 0; k <= 5; k++) {
            double p = 0.5 * erfc(k / sqrt(2.0));
            CHECK_NEAR((double)above[k] / n, p, 5 * sqrt(p * (1 - p) / n));
            CHECK_NEAR((double)below[k] / n, p, 5 * sqrt(p * (1 - p) / n));
        }
    }
}

/* Correlation of two unit-variance sequences, in standard errors; of their squares if is_squared. */
static double correlation(const float *x, const float *y, int64_t n, bool is_squared)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double u = (double)x[i], v = (double)y[i];
        sum += is_squared ? (u * u - 1) * (v * v - 1) / 2 : u * v; /* the variance of x^2 is 2 */
    }
    return sum / sqrt((double)n);
}

static void test_noise_when_shifted_then_uncorrelated(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        bool has_squares = noise->loop == SOW_NOISE_GAUSSIAN;
        best()->noise(noise->loop, noise->place(44, 5, 6, 7), 0, N_PAIRS + 2 * SOW_NOISE_BLOCK, a);
        for (int64_t lag = 1; lag <= 2 * SOW_NOISE_BLOCK; lag++) {
            CHECK_NEAR(correlation(a, a + lag, N_PAIRS, false), 0, 5);
            if (has_squares) /* the two numbers of one radius too */
                CHECK_NEAR(correlation(a, a + lag, N_PAIRS, true), 0, 5);
        }
    }
}

/* Places that a run meets, or two runs beside each other. */
typedef struct place_of {
    uint32_t seed, generation, member, tensor;
} place_of;

static void draw(const sow_noise *noise, place_of p, float *out)
{
    best()->noise(noise->loop, noise->place(p.seed, p.generation, p.member, p.tensor), 0, N_PAIRS, out);
}

static void test_noise_when_place_differs_then_uncorrelated(void **state)
{
    (void)state;
    const place_of here = {100, 20, 3, 5};
    static const place_of others[] = {
        {101, 20, 3, 5},       {99, 20, 3, 5},  {UINT32_MAX, 20, 3, 5}, {100, 21, 3, 5}, {100, 19, 3, 5},
        {100, 1U << 31, 3, 5}, {100, 20, 4, 5}, {100, 20, 2, 5},        {100, 20, 0, 5}, {100, 20, (1U << 28) - 1, 5},
        {20, 100, 3, 5},       {100, 20, 5, 3}, {101, 19, 3, 5},        {100, 21, 2, 5}, {100, 3, 20, 5},
    };
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        draw(noise, here, a);
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++) {
            draw(noise, others[j], b);
            CHECK_NEAR(correlation(a, b, N_PAIRS, false), 0, 5);
            assert_memory_not_equal(a, b, 64 * sizeof *a);
        }
    }
}

static void test_noise_when_tensor_differs_then_uncorrelated_or_shared(void **state)
{
    (void)state;
    const place_of here = {100, 20, 3, 5};
    static const uint32_t tensors[] = {0, 4, 6, 3, 20, 100, 1U << 31, UINT32_MAX};
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        const sow_noise *noise = sow_noise_at(i);
        draw(noise, here, a);
        for (size_t j = 0; j < sizeof tensors / sizeof tensors[0]; j++) {
            draw(noise, (place_of){here.seed, here.generation, here.member, tensors[j]}, b);
            if (is_shared(noise))
                assert_memory_equal(a, b, N_PAIRS * sizeof *a);
            else
                CHECK_NEAR(correlation(a, b, N_PAIRS, false), 0, 5);
        }
    }
}

static void test_member_when_numbered_then_noise_and_sign(void **state)
{
    (void)state;
    sow_member_noise who = sow_noise_of_member(7, false);
    assert_true(who.member == 7 && who.sign == 1.0f);
    who = sow_noise_of_member(7, true);
    assert_true(who.member == 3 && who.sign == -1.0f);
    who = sow_noise_of_member(6, true);
    assert_true(who.member == 3 && who.sign == 1.0f);
    who = sow_noise_of_member(0, true);
    assert_true(who.member == 0 && who.sign == 1.0f);
}

static void test_selects_when_patterns_then_last_match_wins(void **state)
{
    (void)state;
    static const char *const q = "model.layers.0.self_attn.q_proj.weight", *const norm = "model.norm.weight";
    static const struct {
        const char *patterns;
        bool has_q, has_norm;
    } cases[] = {
        {"*", true, true},
        {"", false, false},
        {"*q_proj*", true, false},
        {"*,!*norm*", true, false},
        {"!*norm*", true, false},
        {"!*norm*,*", true, true},
        {"*.weight , !*norm* ", true, false},
        {" !*norm* , !*q_proj*", false, false},
        {"*,!*,*norm*", false, true},
        {"model.layers.[0-3].*", true, false},
        {"model.layers.[1-3].*", false, false},
        {"model.norm.weight,,", false, true},
        {"q_proj", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (sow_noise_selects(cases[i].patterns, q) != cases[i].has_q ||
            sow_noise_selects(cases[i].patterns, norm) != cases[i].has_norm)
            fail_msg("'%s'", cases[i].patterns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_when_walked_then_names_are_found),
        cmocka_unit_test(test_noise_when_called_again_then_same_bits),
        cmocka_unit_test(test_noise_when_drawn_then_recorded_bits),
        cmocka_unit_test(test_noise_when_cut_anywhere_then_bits_of_the_whole),
        cmocka_unit_test(test_noise_when_index_is_far_then_no_repeat),
        cmocka_unit_test(test_mirrored_members_when_paired_then_differ_by_sign),
        cmocka_unit_test(test_noise_when_many_then_moments_within_5_standard_errors),
        cmocka_unit_test(test_gaussian_when_many_then_tails_within_5_standard_errors),
        cmocka_unit_test(test_noise_when_shifted_then_uncorrelated),
        cmocka_unit_test(test_noise_when_place_differs_then_uncorrelated),
        cmocka_unit_test(test_noise_when_tensor_differs_then_uncorrelated_or_shared),
        cmocka_unit_test(test_member_when_numbered_then_noise_and_sign),
        cmocka_unit_test(test_selects_when_patterns_then_last_match_wins),
    };
    return cmocka_run_group_tests_name("noise contract", tests, make_buffers, free_buffers);
}
