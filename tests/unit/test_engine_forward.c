// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass: near its plain twin in double, and the same bits whatever goes along with a row. */
#include "random_model.h"

enum { N = 45 }; /* positions: two pages and a part */

static void read_logits(random_model *m, int64_t batch, const int32_t *ids, int64_t n, int64_t n_last, float *out)
{
    sow_engine *engine = NULL;
    CHECK_OK(sow_engine_create(m->la, m->layout, batch, &engine));
    CHECK_OK(sow_engine_logits(engine, m->replica, (sow_prompt){ids, n}, n_last, out));
    sow_engine_destroy(&engine);
}

static void test_logits_of_random_shapes_are_near_the_plain_twin(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++) {
        const int64_t vocab = random_shapes[s].vocab_size;
        random_model m = random_model_open(&random_shapes[s], "auto", 1, SOW_F32);
        int32_t ids[N];
        float *logits = NULL;
        double *expected = NULL, largest = 0.0, spread = 0.0;
        CHECK_OK(SOW_ALLOC(&logits, N * vocab));
        CHECK_OK(SOW_ALLOC(&expected, N * vocab));
        random_ids(3, vocab, N, ids);
        read_logits(&m, 4, ids, N, N, logits);
        plain_forward(m.layout, m.theta, ids, N, expected);
        for (int64_t i = 0; i < N * vocab; i++) {
            largest = fmax(largest, fabs((double)logits[i] - expected[i]));
            spread = fmax(spread, fabs(expected[i]));
        }
        if (!(largest < 1e-4) || !(spread > 1.0))
            fail_msg("shape %d: logits differ by %g of %g", s, largest, spread);
        SOW_FREE(&expected);
        SOW_FREE(&logits);
        random_model_close(&m);
    }
}

/* A 16-bit replica computes what a float32 replica of the rounded weights computes, to the bit. */
static void test_logits_of_16_bit_weights_are_those_of_rounded_weights(void **state)
{
    (void)state;
    const sow_shape *shape = &random_shapes[1];
    const int64_t vocab = shape->vocab_size;
    for (int type = 0; type < SOW_F32; type++) {
        random_model a = random_model_open(shape, "auto", 1, (sow_type)type),
                     b = random_model_open(shape, "auto", 1, SOW_F32);
        static float got[N * 130], expected[N * 130];
        static uint16_t narrow[200 * 160];
        int32_t ids[N];
        random_ids(3, vocab, N, ids);
        for (int64_t t = 0; t < b.layout->n_tensors; t++) {
            const sow_tensor *tensor = &b.layout->tensors[t];
            const sow_kernels *kernels = sow_la_kernels(b.la);
            if (!tensor->is_matrix)
                continue;
            kernels->narrow((sow_type)type, tensor->rows * tensor->cols, b.theta + tensor->offset, narrow);
            kernels->widen((sow_type)type, tensor->rows * tensor->cols, narrow, b.theta + tensor->offset);
        }
        CHECK_OK(sow_replica_make(b.replica, b.theta, NULL));
        read_logits(&a, 4, ids, N, N, got);
        read_logits(&b, 4, ids, N, N, expected);
        assert_memory_equal(got, expected, sizeof got);
        random_model_close(&b);
        random_model_close(&a);
    }
}

static void test_logits_by_prefill_and_token_by_token_are_equal_bits(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++) {
        const int64_t vocab = random_shapes[s].vocab_size;
        random_model m = random_model_open(&random_shapes[s], "auto", 1, SOW_FP16);
        int32_t ids[N];
        float *all = NULL, *last = NULL;
        CHECK_OK(SOW_ALLOC(&all, N * vocab));
        CHECK_OK(SOW_ALLOC(&last, vocab));
        random_ids(5, vocab, N, ids);
        read_logits(&m, 1, ids, N, N, all);
        for (int64_t n = 1; n <= N; n++) {
            read_logits(&m, 3, ids, n, 1, last);
            assert_memory_equal(last, all + (n - 1) * vocab, (size_t)vocab * sizeof *last);
        }
        SOW_FREE(&last);
        SOW_FREE(&all);
        random_model_close(&m);
    }
}

static void test_logits_on_every_kernel_and_thread_count_are_equal_bits(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++) {
        const int64_t vocab = random_shapes[s].vocab_size;
        static float first[N * 257], other[N * 257];
        int32_t ids[N];
        random_ids(6, vocab, N, ids);
        for (int64_t k = 0; k < sow_kernels_count(); k++) {
            for (int threads = 1; threads <= 3; threads++) {
                random_model m = random_model_open(&random_shapes[s], sow_kernels_at(k)->name, threads, SOW_BF16);
                read_logits(&m, 2, ids, N, N, k == 0 && threads == 1 ? first : other);
                if (k > 0 || threads > 1)
                    assert_memory_equal(other, first, (size_t)(N * vocab) * sizeof *first);
                random_model_close(&m);
            }
        }
    }
}

/* Wide and long enough that every loop over threads is really shared out. */
static void test_logits_of_a_wide_shape_on_other_thread_counts_are_equal_bits(void **state)
{
    (void)state;
    enum { LONG = 300, WIDE_VOCAB = 3000, LAST = 40 };
    static float first[LAST * WIDE_VOCAB], other[LAST * WIDE_VOCAB];
    sow_shape shape = random_shapes[1];
    int32_t ids[LONG];
    shape.vocab_size = WIDE_VOCAB;
    shape.hidden_size = 192;
    shape.intermediate_size = 260;
    shape.max_positions = 512;
    random_ids(12, WIDE_VOCAB, LONG, ids);
    for (int threads = 1; threads <= 4; threads++) {
        random_model m = random_model_open(&shape, "auto", threads, SOW_FP16);
        read_logits(&m, 2, ids, LONG, LAST, threads == 1 ? first : other);
        if (threads > 1)
            assert_memory_equal(other, first, sizeof first);
        random_model_close(&m);
    }
}

/* More known tokens than one forward pass takes. */
static void test_logits_of_a_long_prompt_are_near_the_plain_twin(void **state)
{
    (void)state;
    enum { LONG = 250 }; /* a pass of an engine of batch 1 takes 225 */
    sow_shape shape = random_shapes[1];
    shape.max_positions = 256;
    const int64_t vocab = shape.vocab_size;
    random_model m = random_model_open(&shape, "auto", 2, SOW_F32);
    static double expected[LONG * 130];
    static float logits[130];
    int32_t ids[LONG];
    random_ids(11, vocab, LONG, ids);
    read_logits(&m, 1, ids, LONG, 1, logits);
    plain_forward(m.layout, m.theta, ids, LONG, expected);
    for (int64_t i = 0; i < vocab; i++)
        CHECK_NEAR((double)logits[i], expected[(LONG - 1) * vocab + i], 1e-4);
    random_model_close(&m);
}

static void test_logits_when_arguments_are_wrong_then_fail(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    int32_t ids[97] = {0}, wrong[2] = {3, 61};
    float out[61] = {4.0f};
    CHECK_FAILS(sow_engine_create(m.la, m.layout, 0, &engine), SOW_EARG, "batch");
    assert_null(engine);
    CHECK_OK(sow_engine_create(m.la, m.layout, 1, &engine));
    CHECK_FAILS(sow_engine_logits(engine, m.replica, (sow_prompt){ids, 0}, 1, out), SOW_EARG, "row 0: 0 tokens");
    CHECK_FAILS(sow_engine_logits(engine, m.replica, (sow_prompt){ids, 97}, 1, out), SOW_EARG,
                "97 tokens, expected 1 to 96");
    CHECK_FAILS(sow_engine_logits(engine, m.replica, (sow_prompt){wrong, 2}, 1, out), SOW_EARG, "token 1 is 61");
    CHECK_FAILS(sow_engine_logits(engine, m.replica, (sow_prompt){ids, 5}, 6, out), SOW_EARG, "the last 6");
    assert_true(out[0] == 4.0f);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_of_random_shapes_are_near_the_plain_twin),
        cmocka_unit_test(test_logits_of_16_bit_weights_are_those_of_rounded_weights),
        cmocka_unit_test(test_logits_by_prefill_and_token_by_token_are_equal_bits),
        cmocka_unit_test(test_logits_on_every_kernel_and_thread_count_are_equal_bits),
        cmocka_unit_test(test_logits_of_a_wide_shape_on_other_thread_counts_are_equal_bits),
        cmocka_unit_test(test_logits_of_a_long_prompt_are_near_the_plain_twin),
        cmocka_unit_test(test_logits_when_arguments_are_wrong_then_fail),
    };
    return cmocka_run_group_tests_name("engine_forward", tests, NULL, check_live_zero);
}
