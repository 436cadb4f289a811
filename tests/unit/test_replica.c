// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas: theta and noise in, packed weights out. */
#include "../../src/nn/nn_impl.h"
#include "random_model.h"

static sow_tensor_noise *make_noise(const sow_layout *layout, float factor)
{
    sow_tensor_noise *noise = NULL;
    CHECK_OK(SOW_ALLOC(&noise, layout->n_tensors));
    for (int64_t t = 0; t < layout->n_tensors; t++)
        noise[t] = (sow_tensor_noise){.place = sow_place_of(SOW_STREAM_NOISE, 1, 2, 3, (uint32_t)t),
                                      .loop = SOW_NOISE_GAUSSIAN,
                                      .factor = factor};
    return noise;
}

/* What a row of a tensor must hold: theta + factor * noise, rounded to the type if it is a matrix. */
static void expected_row(const random_model *m, sow_type type, int64_t t, int64_t row, const sow_tensor_noise *noise,
                         float *out)
{
    static float drawn[64 * 1024];
    static uint16_t narrow[1024];
    const sow_tensor *tensor = &m->layout->tensors[t];
    const sow_kernels *kernels = sow_la_kernels(m->la);
    const int64_t n = tensor->cols;
    memcpy(out, m->theta + tensor->offset + row * n, (size_t)n * sizeof *out);
    if (noise != NULL && noise[t].factor != 0.0f) {
        kernels->noise(noise[t].loop, noise[t].place, 0, tensor->rows * n, drawn);
        for (int64_t i = 0; i < n; i++)
            if (noise[t].mask == NULL || (noise[t].mask[(row * n + i) / 32] >> (row * n + i) % 32 & 1) != 0)
                out[i] = fmaf(noise[t].factor, drawn[row * n + i], out[i]);
    }
    if (tensor->is_matrix && type != SOW_F32) {
        kernels->narrow(type, n, out, narrow);
        kernels->widen(type, n, narrow, out);
    }
}

static void check_weights(const random_model *m, sow_type type, const sow_tensor_noise *noise)
{
    float row[1024], expected[1024];
    for (int64_t t = 0; t < m->layout->n_tensors; t++) {
        const sow_tensor *tensor = &m->layout->tensors[t];
        for (int64_t r = 0; r < tensor->rows; r++) {
            if (tensor->is_matrix)
                sow_la_packed_row(type, tensor->cols, sow_replica_tensor(m->replica, t), r, row);
            else
                memcpy(row, sow_replica_tensor(m->replica, t), (size_t)tensor->cols * sizeof *row);
            expected_row(m, type, t, r, noise, expected);
            assert_memory_equal(row, expected, (size_t)tensor->cols * sizeof *row);
        }
    }
}

static void test_weights_without_noise_are_theta_rounded(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++) {
        for (int type = 0; type < SOW_N_TYPES; type++) {
            random_model m = random_model_open(&random_shapes[s], "auto", 1, (sow_type)type);
            assert_int_equal(sow_replica_type(m.replica), type);
            assert_ptr_equal(sow_replica_layout(m.replica), m.layout);
            check_weights(&m, (sow_type)type, NULL);
            random_model_close(&m);
        }
    }
}

static void test_weights_with_noise_are_theta_plus_noise_rounded(void **state)
{
    (void)state;
    for (int type = 0; type < SOW_N_TYPES; type++) {
        random_model m = random_model_open(&random_shapes[1], "auto", 1, (sow_type)type);
        sow_tensor_noise *noise = make_noise(m.layout, 0.01f);
        noise[2].factor = 0.0f; /* a tensor that es.tensors leaves out */
        noise[3].factor = -0.01f;
        CHECK_OK(sow_replica_make(m.replica, m.theta, noise));
        check_weights(&m, (sow_type)type, noise);
        CHECK_OK(sow_replica_make(m.replica, m.theta, NULL)); /* nothing of a member stays */
        check_weights(&m, (sow_type)type, NULL);
        SOW_FREE(&noise);
        random_model_close(&m);
    }
}

/* About half of all weights; NULL fails. */
static uint32_t *make_mask(const sow_layout *layout)
{
    uint32_t *mask = NULL;
    sow_random random;
    CHECK_OK(SOW_ALLOC(&mask, layout->n_elements / 32 + 1));
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 4, 0, 0, 0));
    for (int64_t i = 0; i < layout->n_elements / 32; i++)
        mask[i] = sow_random_next(&random);
    return mask;
}

static void test_weights_under_a_mask_move_where_it_says_and_correlate(void **state)
{
    (void)state;
    for (int type = 0; type < SOW_N_TYPES; type++) {
        random_model m = random_model_open(&random_shapes[1], "auto", 2, (sow_type)type);
        sow_tensor_noise *noise = make_noise(m.layout, 0.01f);
        uint32_t *mask = make_mask(m.layout);
        for (int64_t t = 0; t < m.layout->n_tensors; t++)
            noise[t].mask = mask + m.layout->tensors[t].offset / 32;
        CHECK_OK(sow_replica_make(m.replica, m.theta, noise));
        check_weights(&m, (sow_type)type, noise);
        for (int64_t t = 0; t < m.layout->n_tensors; t++) {
            double r = 0; /* credited is what was applied: else it were sqrt(1/2) */
            CHECK_OK(sow_replica_correlation(m.replica, t, m.theta, noise, &r));
            assert_true(r > (type == SOW_BF16 || type == SOW_BF16_MIXED ? 0.95 : 0.99));
        }
        SOW_FREE(&mask);
        SOW_FREE(&noise);
        random_model_close(&m);
    }
}

static void test_neighbours_in_a_layer_are_one_packed_tensor(void **state)
{
    (void)state;
    static const sow_tensor_kind pairs[][2] = {
        {SOW_TENSOR_Q, SOW_TENSOR_K},           {SOW_TENSOR_K, SOW_TENSOR_V},
        {SOW_TENSOR_Q_BIAS, SOW_TENSOR_K_BIAS}, {SOW_TENSOR_K_BIAS, SOW_TENSOR_V_BIAS},
        {SOW_TENSOR_GATE, SOW_TENSOR_UP},       {SOW_TENSOR_GATE_BIAS, SOW_TENSOR_UP_BIAS},
    };
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_FP16);
    for (int64_t layer = 0; layer < m.layout->shape.n_layers; layer++) {
        for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
            const sow_tensor *first = sow_layout_find(m.layout, pairs[p][0], (int)layer);
            const char *a = sow_replica_find(m.replica, pairs[p][0], layer);
            const char *b = sow_replica_find(m.replica, pairs[p][1], layer);
            const int64_t bytes = first->is_matrix ? (int64_t)sow_la_packed_bytes(SOW_FP16, first->rows, first->cols)
                                                   : sow_la_padded(first->cols) * (int64_t)sizeof(float);
            assert_int_equal(b - a, bytes);
        }
    }
    random_model_close(&m);
}

static void test_weights_on_other_thread_counts_are_equal_bits(void **state)
{
    (void)state;
    sow_shape shape = random_shapes[0];
    shape.vocab_size = 2000; /* enough for several chunks */
    random_model one = random_model_open(&shape, "auto", 1, SOW_FP16),
                 three = random_model_open(&shape, "auto", 3, SOW_FP16);
    sow_tensor_noise *noise = make_noise(one.layout, 0.02f);
    CHECK_OK(sow_replica_make(one.replica, one.theta, noise));
    CHECK_OK(sow_replica_make(three.replica, three.theta, noise));
    for (int64_t t = 0; t < one.layout->n_tensors; t++) {
        const sow_tensor *tensor = &one.layout->tensors[t];
        const size_t bytes = tensor->is_matrix ? sow_la_packed_bytes(SOW_FP16, tensor->rows, tensor->cols)
                                               : (size_t)tensor->cols * sizeof(float);
        assert_memory_equal(sow_replica_tensor(one.replica, t), sow_replica_tensor(three.replica, t), bytes);
    }
    SOW_FREE(&noise);
    random_model_close(&three);
    random_model_close(&one);
}

static void test_weights_that_are_not_finite_fail_naming_the_tensor(void **state)
{
    (void)state;
    for (int type = 0; type < SOW_N_TYPES; type++) {
        random_model m = random_model_open(&random_shapes[0], "auto", 2, (sow_type)type);
        for (int64_t t = 0; t < m.layout->n_tensors; t++) {
            const sow_tensor *tensor = &m.layout->tensors[t];
            float *last = &m.theta[tensor->offset + tensor->rows * tensor->cols - 1], kept = *last;
            *last = NAN;
            CHECK_FAILS(sow_replica_make(m.replica, m.theta, NULL), SOW_ENUM, tensor->name);
            *last = -INFINITY;
            CHECK_FAILS(sow_replica_make(m.replica, m.theta, NULL), SOW_ENUM, tensor->name);
            *last = 70000.0f; /* infinite as fp16; 1-D tensors are float32 */
            if (type == SOW_FP16 && tensor->is_matrix)
                CHECK_FAILS(sow_replica_make(m.replica, m.theta, NULL), SOW_ENUM, "65504");
            else
                CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
            *last = 1e37f; /* large, and fits */
            if (type != SOW_FP16)
                CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
            *last = kept;
        }
        random_model_close(&m);
    }
}

static void test_choose_type_of_names_and_auto_then_as_documented(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    sow_type type = SOW_F32;
    CHECK_OK(sow_replica_choose_type("auto", m.layout, m.theta, &type));
    assert_int_equal(type, SOW_FP16);
    m.theta[m.layout->tensors[1].offset] = 9000.0f; /* a norm: stays float32 anyway */
    CHECK_OK(sow_replica_choose_type("auto", m.layout, m.theta, &type));
    assert_int_equal(type, SOW_FP16);
    m.theta[m.layout->tensors[0].offset + 5] = -8192.0f;
    CHECK_OK(sow_replica_choose_type("auto", m.layout, m.theta, &type));
    assert_int_equal(type, SOW_BF16);
    CHECK_OK(sow_replica_choose_type("f32", m.layout, NULL, &type));
    assert_int_equal(type, SOW_F32);
    CHECK_OK(sow_replica_choose_type("fp16", m.layout, NULL, &type));
    assert_int_equal(type, SOW_FP16);
    CHECK_OK(sow_replica_choose_type("bf16-mixed", m.layout, NULL, &type));
    assert_int_equal(type, SOW_BF16_MIXED);
    CHECK_FAILS(sow_replica_choose_type("fp8", m.layout, NULL, &type), SOW_ECONF, "'fp8' is unknown");
    random_model_close(&m);
}

/* Sigma 1e-3 on weights near 0.3: fp16 keeps the noise, bf16 much less of it, float32 nearly all. */
static void test_correlation_by_type_is_what_rounding_leaves(void **state)
{
    (void)state;
    static const double low[] = {0.97, 0.6, 0.999999, 0.6}, high[] = {0.9999, 0.97, 1.0000001, 0.97};
    for (int type = 0; type < SOW_N_TYPES; type++) {
        random_model m = random_model_open(&random_shapes[1], "auto", 1, (sow_type)type);
        sow_tensor_noise *noise = make_noise(m.layout, -1e-3f);
        const int64_t norm = sow_layout_find(m.layout, SOW_TENSOR_POST_NORM, 1) - m.layout->tensors;
        const int64_t q = sow_layout_find(m.layout, SOW_TENSOR_Q, 1) - m.layout->tensors;
        double got = -2.0;
        CHECK_OK(sow_replica_make(m.replica, m.theta, noise));
        CHECK_OK(sow_replica_correlation(m.replica, q, m.theta, noise, &got));
        if (!(got > low[type] && got < high[type]))
            fail_msg("%s: correlation %.9g", sow_type_name((sow_type)type), got);
        random_model two = random_model_open(&random_shapes[1], "auto", 2, (sow_type)type);
        double other = -2.0;
        CHECK_OK(sow_replica_make(two.replica, two.theta, noise));
        CHECK_OK(sow_replica_correlation(two.replica, q, two.theta, noise, &other));
        assert_true(got == other);
        random_model_close(&two);
        CHECK_OK(sow_replica_correlation(m.replica, norm, m.theta, noise, &got));
        assert_true(got > 0.999 && got < 1.0000001);
        noise[q].factor = 0.0f;
        CHECK_OK(sow_replica_correlation(m.replica, q, m.theta, noise, &got));
        assert_true(isnan(got));
        CHECK_OK(sow_replica_correlation(m.replica, q, m.theta, NULL, &got));
        assert_true(isnan(got));
        CHECK_FAILS(sow_replica_correlation(m.replica, m.layout->n_tensors, m.theta, noise, &got), SOW_EARG,
                    "is none of");
        SOW_FREE(&noise);
        random_model_close(&m);
    }
}

/* Noise far below half a step of the type is lost altogether. */
static void test_correlation_when_all_noise_is_lost_then_zero(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_BF16);
    sow_tensor_noise *noise = make_noise(m.layout, 1e-12f);
    double got = -2.0;
    for (int64_t i = 0; i < m.layout->n_elements; i++)
        m.theta[i] = 0.5f;
    CHECK_OK(sow_replica_make(m.replica, m.theta, noise));
    CHECK_OK(sow_replica_correlation(m.replica, 0, m.theta, noise, &got));
    assert_true(got == 0.0);
    SOW_FREE(&noise);
    random_model_close(&m);
}

static void test_create_when_memory_fails_then_clean_error(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    int64_t n = 1;
    for (; n < 100; n++) {
        sow_replica *replica = NULL;
        const int64_t live = sow_alloc_live();
        sow_alloc_fail_at(n);
        sow_code rc = sow_replica_create(m.la, m.layout, SOW_FP16, &replica);
        sow_alloc_fail_at(0);
        if (rc == SOW_OK) {
            sow_replica_destroy(&replica);
            break;
        }
        assert_int_equal(rc, SOW_ENOMEM);
        assert_null(replica);
        assert_int_equal(sow_alloc_live(), live);
    }
    assert_true(n > 3 && n < 100);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_without_noise_are_theta_rounded),
        cmocka_unit_test(test_weights_with_noise_are_theta_plus_noise_rounded),
        cmocka_unit_test(test_weights_under_a_mask_move_where_it_says_and_correlate),
        cmocka_unit_test(test_neighbours_in_a_layer_are_one_packed_tensor),
        cmocka_unit_test(test_weights_on_other_thread_counts_are_equal_bits),
        cmocka_unit_test(test_weights_that_are_not_finite_fail_naming_the_tensor),
        cmocka_unit_test(test_choose_type_of_names_and_auto_then_as_documented),
        cmocka_unit_test(test_correlation_by_type_is_what_rounding_leaves),
        cmocka_unit_test(test_correlation_when_all_noise_is_lost_then_zero),
        cmocka_unit_test(test_create_when_memory_fails_then_clean_error),
    };
    return cmocka_run_group_tests_name("replica", tests, NULL, check_live_zero);
}
