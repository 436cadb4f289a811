// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Noise: published vectors, equal bits in all tables and for any cut, moments, tails, correlations. */
#include "kernel_check.h"

enum { MANY = 1 << 22, CUT_N = 5000 };

static float many[MANY], others[MANY];

static sow_place place_of(uint32_t seed, uint32_t generation, uint32_t member, uint32_t tensor)
{
    return sow_place_of(SOW_STREAM_NOISE, seed, generation, member, tensor);
}

static void test_philox_of_published_counters_gives_the_published_words(void **state)
{
    (void)state;
    static const struct vector {
        uint32_t counter[4], key[2], want[4];
    } vectors[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        uint64_t word[4];
        for (int j = 0; j < 4; j++)
            word[j] = vectors[v].counter[j];
        sow_philox4x32(vectors[v].key, word);
        for (int j = 0; j < 4; j++)
            assert_int_equal((uint32_t)word[j], vectors[v].want[j]);
    }
}

/* Bit e of the stream is bit e % 128 of counter e / 128: so the loops' own Philox is the published one. */
static void test_rademacher_of_any_place_is_the_bits_of_philox(void **state)
{
    (void)state;
    const sow_place place = {.key = {0xa4093822, 0x299f31d0}, .stream = {0x13198a2e, 0x03707344}};
    const uint64_t counter = 0x85a308d3243f6a88 & 0x01ffffffffffffff, first = counter * 128;
    float x[4096];
    EACH_KERNELS(k)
    {
        k->noise(SOW_NOISE_RADEMACHER, place, first, 4096, x);
        for (uint64_t i = 0; i < 4096; i++) {
            uint64_t word[4] = {(counter + i / 128) & 0xffffffff, (counter + i / 128) >> 32, place.stream[0],
                                place.stream[1]};
            sow_philox4x32(place.key, word);
            const float want = (uint32_t)word[i % 128 / 32] >> (i % 32) & 1 ? -1.0f : 1.0f;
            assert_true(x[i] == want);
        }
    }
}

/* The pair (radius, angle) of a counter, in double. */
static void test_gaussian_beside_double_is_near(void **state)
{
    (void)state;
    const sow_place place = place_of(3, 1, 4, 1);
    const double half_pi = acos(0.0);
    float x[1024];
    EACH_KERNELS(k)
    {
        k->noise(SOW_NOISE_GAUSSIAN, place, 1 << 20, 1024, x);
        for (uint64_t i = 0; i < 1024; i++) {
            const uint64_t block = (1 << 20) / 64 + i / 64, j = i % 64 / 16;
            uint64_t word[4] = {16 * block + i % 16, 0, place.stream[0], place.stream[1]};
            sow_philox4x32(place.key, word);
            const uint32_t a = (uint32_t)word[j / 2 * 2], b = (uint32_t)word[j / 2 * 2 + 1];
            const double radius = sqrt(-2.0 * log(((double)(a >> 1) + 0.5) / 0x1p31)),
                         angle = half_pi * (int32_t)b / 0x1p31;
            const double want = radius * (j % 2 == 0 ? sin(angle) : a & 1 ? -cos(angle) : cos(angle));
            CHECK_NEAR((double)x[i], want, 2e-6);
        }
    }
}

static void test_noise_of_any_cut_is_that_of_the_whole(void **state)
{
    (void)state;
    static const uint64_t starts[] = {0, 64, 128, 1984, 2048, 4032, (1ull << 36) - 192, (1ull << 39) - 64};
    static float whole[CUT_N + 4096], cut[CUT_N + 1];
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++) {
        for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
            const sow_place place = place_of(1, 2, 3, (uint32_t)s);
            const sow_kernels *plain = sow_kernels_at(sow_kernels_count() - 1);
            plain->noise(loop, place, starts[s], CUT_N + 4096, whole);
            EACH_KERNELS(k)
            {
                for (int64_t n = 0; n <= CUT_N; n = n < 200 ? n + 1 : n * 2 + 13) {
                    const int64_t skip = n % 7 * 192;
                    cut[n] = 4711.0f;
                    k->noise(loop, place, starts[s] + (uint64_t)skip, n, cut);
                    check_bits("noise", k->name, n, cut, whole + skip);
                    assert_true(cut[n] == 4711.0f);
                }
            }
        }
    }
}

static void test_accumulate_of_any_length_is_one_multiply_add(void **state)
{
    (void)state;
    static float noise[CUT_N], acc[CUT_N + 1], want[CUT_N];
    const sow_place place = place_of(5, 6, 7, 8);
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++) {
        for (int64_t n = 1; n <= CUT_N; n = n < 70 ? n + 1 : n * 3) {
            EACH_KERNELS(k)
            {
                fill_floats(1, 1e-3f, n, acc);
                acc[n] = 4711.0f;
                k->noise(loop, place, 640, n, noise);
                for (int64_t i = 0; i < n; i++)
                    want[i] = fmaf(1e-3f, noise[i], acc[i]);
                k->accumulate(
                    &(sow_accumulate_args){.loop = loop, .place = place, .first = 640, .n = n, .c = 1e-3f, .acc = acc});
                check_bits("accumulate", k->name, n, acc, want);
                assert_true(acc[n] == 4711.0f);
            }
        }
    }
}

/* Every figure within 5 of its standard errors. */
static void test_gaussian_of_many_has_the_moments_and_tails_of_a_normal(void **state)
{
    (void)state;
    static const double expected[] = {0, 1, 0, 3, 0, 15, 0, 105};
    static const double variance[] = {1, 2, 15, 96, 945, 10170, 135135, 2016000};
    double moment[8] = {0}, beyond[6] = {0}, largest = 0;
    sow_kernels_at(0)->noise(SOW_NOISE_GAUSSIAN, place_of(7, 0, 0, 0), 0, MANY, many);
    for (int64_t i = 0; i < MANY; i++) {
        double v = (double)many[i], power = 1;
        for (int j = 0; j < 8; j++)
            moment[j] += power *= v;
        for (int j = 1; j < 6; j++)
            beyond[j] += fabs(v) > j;
        largest = fmax(largest, fabs(v));
    }
    for (int j = 0; j < 8; j++)
        CHECK_NEAR(moment[j] / MANY, expected[j], 5 * sqrt(variance[j] / MANY));
    for (int j = 1; j < 6; j++) {
        const double p = erfc(j / sqrt(2.0));
        CHECK_NEAR(beyond[j], MANY * p, 5 * sqrt(MANY * p));
    }
    assert_true(largest > 4.5 && largest < 6.67);
}

static void test_rademacher_of_many_has_mean_0_and_no_runs(void **state)
{
    (void)state;
    double sum = 0, lag[130] = {0};
    sow_kernels_at(0)->noise(SOW_NOISE_RADEMACHER, place_of(7, 0, 0, 0), 0, MANY, many);
    for (int64_t i = 0; i < MANY; i++)
        sum += (double)many[i];
    CHECK_NEAR(sum, 0.0, 5 * sqrt(MANY));
    for (int l = 1; l < 130; l += l < 4 ? 1 : l < 32 ? 14 : 32) {
        for (int64_t i = l; i < MANY; i++)
            lag[l] += (double)(many[i] * many[i - l]);
        CHECK_NEAR(lag[l], 0.0, 5 * sqrt(MANY));
    }
}

/* Of the numbers and of their squares (which are dependent where a radius or an angle is used twice). */
static void check_uncorrelated(sow_noise_loop loop, sow_place a, sow_place b, int64_t lag)
{
    enum { PART = MANY / 8 };
    double both = 0, squares = 0;
    sow_kernels_at(0)->noise(loop, a, 0, PART, many);
    sow_kernels_at(0)->noise(loop, b, 0, PART, others);
    for (int64_t i = 0; i < PART - lag; i++) {
        const double x = (double)many[i], y = (double)others[i + lag];
        both += x * y;
        squares += (x * x - 1) * (y * y - 1) / 2;
    }
    CHECK_NEAR(both, 0.0, 5 * sqrt(PART));
    CHECK_NEAR(squares, 0.0, 5 * sqrt(PART));
}

static void test_noise_of_two_places_is_uncorrelated(void **state)
{
    (void)state;
    const sow_place one = place_of(1, 2, 3, 4);
    const sow_place others_of[] = {place_of(2, 2, 3, 4), place_of(1, 3, 3, 4), place_of(1, 2, 4, 4),
                                   place_of(1, 2, 3, 5), place_of(2, 1, 3, 4), place_of(1, 2, 4, 3)};
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++)
        for (size_t i = 0; i < sizeof others_of / sizeof *others_of; i++)
            check_uncorrelated(loop, one, others_of[i], 0);
    for (int64_t lag = 1; lag <= 64; lag = lag < 16 ? lag * 4 : lag + 16)
        check_uncorrelated(SOW_NOISE_GAUSSIAN, one, one, lag);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_of_published_counters_gives_the_published_words),
        cmocka_unit_test(test_rademacher_of_any_place_is_the_bits_of_philox),
        cmocka_unit_test(test_gaussian_beside_double_is_near),
        cmocka_unit_test(test_noise_of_any_cut_is_that_of_the_whole),
        cmocka_unit_test(test_accumulate_of_any_length_is_one_multiply_add),
        cmocka_unit_test(test_gaussian_of_many_has_the_moments_and_tails_of_a_normal),
        cmocka_unit_test(test_rademacher_of_many_has_mean_0_and_no_runs),
        cmocka_unit_test(test_noise_of_two_places_is_uncorrelated),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
