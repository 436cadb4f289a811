// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* New models from a seed, and the tokenizer whose tokens are bytes. */
#include "model_files.h"

/* Mean and deviation of a tensor as its kind asks; norms are ones; padding is zero; seeds differ. */
static void check_tensor(const sow_tensor *tensor, const float *x, double std)
{
    double sum = 0, squares = 0, n = (double)(tensor->rows * tensor->cols);
    for (int64_t i = 0; i < tensor->rows * tensor->cols; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    CHECK_NEAR(sum / n, 0, 5 * std / sqrt(n));
    CHECK_NEAR(sqrt(squares / n), std, 5 * std / sqrt(2 * n));
}

static void test_init_gives_the_deviations_it_promises(void **state)
{
    (void)state;
    sow_shape shape = small_shape(false);
    sow_layout *layout = NULL;
    float *theta = NULL, *plain = NULL;
    shape.has_qkv_bias = shape.has_o_bias = true;
    shape.hidden_size = 96;
    CHECK_OK(sow_layout_create(&shape, &layout));
    CHECK_OK(SOW_ALLOC(&theta, layout->n_elements));
    CHECK_OK(SOW_ALLOC(&plain, layout->n_elements));
    sow_model_init(layout, 5, 0.03, sow_kernels_at(0), theta);
    double total = 0;
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *t = &layout->tensors[i];
        const char *group = sow_tensor_group(t->kind);
        double std = 0.6 / sqrt((double)t->cols);
        if (strcmp(group, "norm") == 0) {
            for (int64_t j = 0; j < t->cols; j++)
                assert_true(theta[t->offset + j] == 1);
        } else {
            if (t->kind == SOW_TENSOR_EMBED || !t->is_matrix)
                std = 0.03;
            if (t->kind == SOW_TENSOR_O || t->kind == SOW_TENSOR_DOWN)
                std /= 2; /* sqrt(2 x 2 layers) */
            check_tensor(t, theta + t->offset, std);
        }
        for (int64_t j = 0; j < t->rows * t->cols; j++)
            total += fabs((double)theta[t->offset + j]);
    }
    for (int64_t j = 0; j < layout->n_elements; j++)
        total -= fabs((double)theta[j]);
    CHECK_NEAR(total, 0, 1e-6); /* between the tensors all is zero */
    const sow_tensor *q0 = sow_layout_find(layout, SOW_TENSOR_Q, 0), *q1 = sow_layout_find(layout, SOW_TENSOR_Q, 1);
    assert_memory_not_equal(theta + q0->offset, theta + q1->offset, 64);
    sow_model_init(layout, 5, 0.03, sow_kernels_at(sow_kernels_count() - 1), plain);
    assert_memory_equal(theta, plain, (size_t)layout->n_elements * sizeof *theta);
    sow_model_init(layout, 6, 0.03, sow_kernels_at(0), plain);
    assert_memory_not_equal(theta + q0->offset, plain + q0->offset, 64);
    SOW_FREE(&plain);
    SOW_FREE(&theta);
    sow_layout_destroy(&layout);
}

static void test_byte_tokenizer_gives_each_byte_its_own_id(void **state)
{
    (void)state;
    static const char text[] = "Hello,\n\tw\xc3\xb6rld \x7f~ 0<unused0> \xe2\x82\xac";
    static const int64_t sizes[] = {256, 300, 1024};
    for (size_t s = 0; s < 3; s++) {
        char *json = NULL;
        sow_tokenizer *tokenizer = NULL;
        sow_ids ids = {0};
        CHECK_OK(sow_model_byte_tokenizer(sizes[s], &json));
        CHECK_OK(sow_tokenizer_parse(json, strlen(json), "bytes", &tokenizer));
        assert_int_equal(sow_tokenizer_size(tokenizer), sizes[s]);
        CHECK_OK(sow_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids));
        assert_int_equal(ids.n, sizeof text - 1);
        for (int64_t i = 0; i < ids.n; i++)
            assert_int_equal(ids.ids[i], (unsigned char)text[i]);
        for (int id = 0; id < 256; id++) {
            size_t n = 0;
            const char *bytes = sow_tokenizer_bytes(tokenizer, id, &n);
            assert_true(n == 1 && (unsigned char)bytes[0] == id);
        }
        sow_ids_fini(&ids);
        sow_tokenizer_destroy(&tokenizer);
        SOW_FREE(&json);
    }
    char *json = NULL;
    CHECK_FAILS(sow_model_byte_tokenizer(127, &json), SOW_EARG, "vocab_size: 127 is out of range, expected 128");
    CHECK_FAILS(sow_model_byte_tokenizer(1LL << 40, &json), SOW_EARG, "is out of range");
}

/* The file that was made by hand for sprout is the same tokenizer as the one made here for 128 ids. */
static void test_byte_tokenizer_of_128_ids_equals_sprouts(void **state)
{
    (void)state;
    sow_json *ours = NULL, *theirs = NULL;
    char *json = NULL;
    CHECK_OK(sow_model_byte_tokenizer(128, &json));
    CHECK_OK(sow_json_parse(json, strlen(json), "ours", &ours));
    CHECK_OK(sow_json_load(SOW_SOURCE_DIR "/models/sprout/tokenizer.json", &theirs));
    sow_line *a = NULL, *b = NULL;
    const char *a_text, *b_text;
    CHECK_OK(sow_line_create(&a));
    CHECK_OK(sow_line_create(&b));
    sow_line_node(a, NULL, ours);
    sow_line_node(b, NULL, theirs);
    CHECK_OK(sow_line_text(a, &a_text));
    CHECK_OK(sow_line_text(b, &b_text));
    assert_string_equal(a_text, b_text);
    sow_line_destroy(&b);
    sow_line_destroy(&a);
    sow_json_destroy(&theirs);
    sow_json_destroy(&ours);
    SOW_FREE(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_gives_the_deviations_it_promises),
        cmocka_unit_test(test_byte_tokenizer_gives_each_byte_its_own_id),
        cmocka_unit_test(test_byte_tokenizer_of_128_ids_equals_sprouts),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
