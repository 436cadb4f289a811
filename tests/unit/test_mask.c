// NEEDS: noise base
/* SPDX-License-Identifier: Apache-2.0 */
/* What every mask must keep, and which weights each of them takes. */
#include "check.h"

#include "sower/mask.h"
#include "sower/philox.h"

#include <stdlib.h>

enum { N = 5003, WORDS = N / 32 + 2 };
static float base[N];

/* Sizes with many equal ones, both zeros, subnormals and both signs. */
static int fill_base(void **state)
{
    (void)state;
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 1, 0, 0, 0));
    for (int64_t i = 0; i < N; i++) {
        float size = (float)sow_random_below(&random, 700) * (i % 3 == 0 ? 1e-40f : 1e-3f);
        base[i] = sow_random_below(&random, 2) == 0 ? size : -size;
    }
    return 0;
}

static int64_t fill(const sow_mask *mask, double density, uint32_t seed, uint32_t tensor, int64_t n, uint32_t *words)
{
    memset(words, 0, WORDS * sizeof *words);
    return mask->fill(&(sow_mask_args){.density = density, .seed = seed, .tensor = tensor, .n = n, .base = base},
                      words);
}

static bool moves(const uint32_t *words, int64_t i)
{
    return (words[i / 32] >> i % 32 & 1) != 0;
}

static void test_mask_of_every_kind_has_the_density_and_nothing_behind_the_end(void **state)
{
    (void)state;
    static const double densities[] = {0, 1e-9, 0.1, 0.333, 0.5, 0.999, 1};
    uint32_t words[WORDS];
    for (int64_t k = 0; k < sow_mask_count(); k++)
        for (size_t d = 0; d < sizeof densities / sizeof *densities; d++)
            for (int64_t n = 1; n <= N; n = n * 3 + 1) {
                int64_t n_set = fill(sow_mask_at(k), densities[d], 5, 6, n, words), sum = 0;
                for (int64_t i = 0; i < INT64_C(32) * WORDS; i++) {
                    assert_true(i < n || !moves(words, i));
                    sum += moves(words, i);
                }
                assert_int_equal(n_set, sum);
                bool is_random = strcmp(sow_mask_at(k)->name, "random") == 0;
                double sd = sqrt((double)n * densities[d] * (1 - densities[d]));
                CHECK_NEAR((double)sum, densities[d] * (double)n, is_random ? 5 * sd : 0.5);
            }
}

static void test_table_of_masks_finds_its_names(void **state)
{
    (void)state;
    for (int64_t k = 0; k < sow_mask_count(); k++)
        assert_ptr_equal(sow_mask_find(sow_mask_at(k)->name), sow_mask_at(k));
    assert_null(sow_mask_find("none"));
}

static void test_random_mask_depends_on_seed_and_tensor_and_not_on_the_base(void **state)
{
    (void)state;
    uint32_t a[WORDS], b[WORDS];
    const sow_mask *random = sow_mask_find("random");
    fill(random, 0.3, 5, 6, N, a);
    base[0] += 1;
    fill(random, 0.3, 5, 6, N, b);
    base[0] -= 1;
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 2; i++) {
        int64_t both = 0;
        fill(random, 0.3, i == 0 ? 6 : 5, i == 0 ? 6 : 7, N, b);
        for (int64_t e = 0; e < N; e++)
            both += moves(a, e) && moves(b, e);
        CHECK_NEAR((double)both, 0.09 * N, 5 * sqrt(0.09 * 0.91 * N)); /* independent */
    }
    /* A larger share holds a smaller one: an element has one number of its own. */
    fill(random, 0.1, 5, 6, N, b);
    for (int64_t e = 0; e < N; e++)
        assert_true(moves(a, e) || !moves(b, e));
}

static bool is_largest;

/* By size, equal ones by index. */
static int by_size(const void *a, const void *b)
{
    int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    float x = fabsf(base[i]), y = fabsf(base[j]);
    if (x == y)
        return i < j ? -1 : 1;
    return (x < y) != is_largest ? -1 : 1;
}

static void test_mask_by_size_takes_the_first_of_a_sorted_list(void **state)
{
    (void)state;
    static int64_t order[N];
    uint32_t words[WORDS], want[WORDS];
    for (int largest = 0; largest < 2; largest++) {
        is_largest = largest == 1;
        for (int64_t i = 0; i < N; i++)
            order[i] = i;
        qsort(order, N, sizeof *order, by_size);
        for (int64_t n_wanted = 0; n_wanted <= N; n_wanted += n_wanted < 20 || n_wanted > N - 20 ? 1 : 101) {
            memset(want, 0, sizeof want);
            for (int64_t i = 0; i < n_wanted; i++)
                want[order[i] / 32] |= 1U << order[i] % 32;
            fill(sow_mask_find(is_largest ? "largest" : "smallest"), (double)n_wanted / N, 5, 6, N, words);
            assert_memory_equal(words, want, sizeof want);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mask_of_every_kind_has_the_density_and_nothing_behind_the_end),
        cmocka_unit_test(test_table_of_masks_finds_its_names),
        cmocka_unit_test(test_random_mask_depends_on_seed_and_tensor_and_not_on_the_base),
        cmocka_unit_test(test_mask_by_size_takes_the_first_of_a_sorted_list),
    };
    return cmocka_run_group_tests(tests, fill_base, check_live_zero);
}
