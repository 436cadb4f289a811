// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Rotation tables against libm's, and Llama 3's stretching. */
#include "../../src/nn/nn_impl.h"
#include "random_model.h"

static void check_table(const sow_shape *shape)
{
    sow_rope rope;
    CHECK_OK(sow_rope_init(&rope, shape));
    CHECK_OK(sow_rope_reserve(&rope, 17)); /* a table made in two parts */
    CHECK_OK(sow_rope_reserve(&rope, shape->max_positions));
    assert_int_equal(rope.n_positions, shape->max_positions);
    for (int64_t p = 0; p < shape->max_positions; p++) {
        for (int64_t i = 0; i < rope.half; i++) {
            const double angle = (double)p * plain_frequency(shape, i);
            CHECK_NEAR((double)rope.cosine[p * rope.half + i], cos(angle), 4e-8);
            CHECK_NEAR((double)rope.sine[p * rope.half + i], sin(angle), 4e-8);
        }
    }
    sow_rope_fini(&rope);
}

static void test_tables_of_random_shapes_are_near_libm(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++)
        check_table(&random_shapes[s]);
}

/* Llama 3.2 1B: some inverse frequencies of transformers 5.23 (LlamaRotaryEmbedding.inv_freq). */
static void test_frequencies_of_llama_3_2_are_those_of_transformers(void **state)
{
    (void)state;
    static const struct {
        int64_t i;
        double frequency;
    } expected[] = {
        {0, 1},
        {1, 0.663601279},
        {14, 0.00321144611},
        {15, 0.00129054801},
        {16, 0.000429556705},
        {17, 9.70828623e-05},
        {18, 1.94616387e-05},
        {31, 9.41830649e-08},
    };
    const sow_shape shape = {.head_dim = 64,
                             .max_positions = 131072,
                             .rope_theta = 500000.0,
                             .rope_factor = 32.0,
                             .rope_low_freq_factor = 1.0,
                             .rope_high_freq_factor = 4.0,
                             .rope_original_positions = 8192};
    sow_rope rope;
    CHECK_OK(sow_rope_init(&rope, &shape));
    for (size_t e = 0; e < sizeof expected / sizeof expected[0]; e++)
        CHECK_NEAR(rope.frequency[expected[e].i] / expected[e].frequency, 1.0, 1e-6); /* made in float32 there */
    sow_rope_fini(&rope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_of_random_shapes_are_near_libm),
        cmocka_unit_test(test_frequencies_of_llama_3_2_are_those_of_transformers),
    };
    return cmocka_run_group_tests_name("engine_rope", tests, NULL, check_live_zero);
}
