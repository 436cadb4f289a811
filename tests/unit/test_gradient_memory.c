// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients: what a run takes of memory, what happens when there is none, refused input, values that are not finite. */
#include "gradient_case.h"

#include <malloc.h>

static void test_gradient_run_no_larger_than_one_before_takes_no_memory(void **state)
{
    (void)state;
    static gradient_case c;
    for (int64_t row_tokens = 10; row_tokens <= 1000; row_tokens *= 10) {
        random_model m = random_model_open(&random_shapes[1], "auto", 2, SOW_FP16);
        sow_gradient *g = open_gradient(&m, row_tokens, "auto");
        int64_t *sums = new_sums(m.layout);
        make_case(&c, random_shapes[1].vocab_size, 3);
        sow_gradient_args args = case_args(&c, &m, sums);
        CHECK_OK(sow_gradient_run(g, &args));
        const int64_t taken = sow_alloc_taken();
        args = case_args(&c, &m, sums);
        CHECK_OK(sow_gradient_run(g, &args));
        for (int64_t u = 0; u < CASE_UNITS; u++) {
            args = case_args(&c, &m, u % 2 == 0 ? sums : NULL);
            args.units += u;
            args.n_units = 1;
            CHECK_OK(sow_gradient_run(g, &args));
        }
        CHECK_OK(sow_gradient_weights(g, m.theta));
        assert_int_equal(sow_alloc_taken(), taken);
        SOW_FREE(&sums);
        sow_gradient_destroy(&g);
        random_model_close(&m);
    }
}

static void test_gradient_when_memory_is_short_then_says_so_and_goes_on(void **state)
{
    (void)state;
    static gradient_case c;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    sow_gradient *g = NULL;
    int64_t *want = new_sums(m.layout), *got = new_sums(m.layout);
    const sow_gradient_options options = {.row_tokens = 16, .recompute = "none"};
    const size_t bytes = (size_t)m.layout->n_elements * sizeof *want;
    int64_t n = 0;
    for (sow_code rc = SOW_ENOMEM; rc != SOW_OK;) {
        sow_alloc_fail_at(++n);
        rc = sow_gradient_create(m.la, m.layout, SOW_F32, &options, &g);
        sow_alloc_fail_at(0);
        assert_true(rc == SOW_OK || (rc == SOW_ENOMEM && g == NULL));
    }
    assert_true(n > 4);
    CHECK_OK(sow_gradient_weights(g, m.theta));
    make_case(&c, random_shapes[0].vocab_size, 3);
    sow_gradient_args args = case_args(&c, &m, want);
    n = 0;
    for (sow_code rc = SOW_ENOMEM; rc != SOW_OK;) {
        memset(want, 0, bytes);
        args = case_args(&c, &m, want);
        sow_alloc_fail_at(++n);
        rc = sow_gradient_run(g, &args);
        sow_alloc_fail_at(0);
        assert_true(rc == SOW_OK || rc == SOW_ENOMEM);
    }
    assert_true(n > 15);
    args = case_args(&c, &m, got);
    CHECK_OK(sow_gradient_run(g, &args));
    assert_memory_equal(got, want, bytes);
    SOW_FREE(&got);
    SOW_FREE(&want);
    sow_gradient_destroy(&g);
    random_model_close(&m);
}

/* Bytes that the C library has handed out. */
static double bytes_taken(void)
{
    const struct mallinfo2 info = mallinfo2();
    return (double)info.uordblks + (double)info.hblkhd;
}

static void check_bytes(const sow_shape *shape, int64_t row_tokens, const char *recompute, int64_t prefix,
                        int64_t positions)
{
    enum { N_SEQUENCES = 3 };
    static gradient_case c;
    random_model m = random_model_open(shape, "auto", 1, SOW_FP16);
    const sow_gradient_options options = {.row_tokens = row_tokens, .recompute = recompute};
    int64_t *sums = new_sums(m.layout);
    int32_t *ids = NULL;
    sow_sequence sequences[N_SEQUENCES];
    CHECK_OK(SOW_ALLOC(&ids, positions + 1));
    for (int s = 0; s < N_SEQUENCES; s++)
        sequences[s] = (sow_sequence){ids, positions - prefix + 1};
    const sow_train_unit unit = {ids, prefix, sequences, N_SEQUENCES};
    make_case(&c, shape->vocab_size, 1);
    sow_gradient_args args = case_args(&c, &m, sums);
    args.units = &unit;
    args.n_units = 1;
    const double before = bytes_taken();
    sow_gradient *g = open_gradient(&m, row_tokens, recompute);
    CHECK_OK(sow_gradient_run(g, &args));
    const double taken = bytes_taken() - before,
                 said = (double)sow_gradient_bytes(m.layout, SOW_FP16, &options, positions);
    if (!(fabs(said / taken - 1.0) < 0.1))
        fail_msg("row_tokens %lld, recompute %s: %g bytes, said to be %g", (long long)row_tokens, recompute, taken,
                 said);
    sow_gradient_destroy(&g);
    SOW_FREE(&ids);
    SOW_FREE(&sums);
    random_model_close(&m);
}

static void test_gradient_bytes_are_within_a_tenth_of_what_is_taken(void **state)
{
    (void)state;
    sow_shape shape = random_shapes[1];
    void *probe = NULL;
    const double before = bytes_taken();
    CHECK_OK(sow_alloc(&probe, 1 << 20, 1));
    const bool is_counted = bytes_taken() > before;
    sow_free(&probe);
    if (!is_counted) {
        (void)fprintf(stderr, "SKIP: this C library's memory is not counted (a sanitizer has its own)\n");
        skip();
    }
    shape.vocab_size = 5000;
    shape.hidden_size = 256;
    shape.intermediate_size = 500;
    shape.max_positions = 2000;
    check_bytes(&shape, 128, "layer", 130, 260); /* several passes */
    check_bytes(&shape, 512, "layer", 60, 260);  /* two */
    check_bytes(&shape, 900, "none", 10, 260);   /* one */
    check_bytes(&shape, 64, "auto", 0, 700);     /* a sequence is longer than row_tokens */
}

static void test_gradient_when_arguments_are_wrong_then_fails(void **state)
{
    (void)state;
    static gradient_case c;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    sow_gradient *g = NULL;
    sow_gradient_options options = {.row_tokens = 16, .recompute = "some"};
    CHECK_FAILS(sow_gradient_create(m.la, m.layout, SOW_F32, &options, &g), SOW_ECONF, "train.recompute: 'some'");
    options = (sow_gradient_options){.row_tokens = 0, .recompute = "auto"};
    CHECK_FAILS(sow_gradient_create(m.la, m.layout, SOW_F32, &options, &g), SOW_ECONF, "train.row_tokens: 0");
    assert_null(g);
    g = open_gradient(&m, 16, "auto");
    int64_t *sums = new_sums(m.layout);
    make_case(&c, random_shapes[0].vocab_size, 3);
    sow_gradient_args args = case_args(&c, &m, sums);
    args.n_units = 0;
    CHECK_OK(sow_gradient_run(g, &args));
    args = case_args(&c, &m, sums);
    c.ids[2][1][4] = 61;
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_EARG, "unit 2: token 4 of sequence 1 is 61, expected 0 to 60");
    c.ids[2][1][4] = 0;
    c.ids[0][CASE_SEQUENCES][0] = -1;
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_EARG, "unit 0: token 0 of the prefix is -1");
    c.ids[0][CASE_SEQUENCES][0] = 0;
    c.sequences[1][0].n = 1;
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_EARG, "unit 1: sequence 0 has 1 tokens");
    c.sequences[1][0].n = 98; /* 97 inputs */
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_EARG, "the model's context of 96");
    c.sequences[1][0].n = 12;
    args.temperature = 0.0;
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_EARG, "temperature: 0");
    args.temperature = 1.0;
    CHECK_OK(sow_gradient_run(g, &args));
    sow_gradient_destroy(&g);
    const sow_gradient_options good = {.row_tokens = 16, .recompute = "auto"};
    CHECK_OK(sow_gradient_create(m.la, m.layout, SOW_BF16, &good, &g));
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_EARG, "storage");
    sow_gradient_destroy(&g);
    SOW_FREE(&sums);
    random_model_close(&m);
}

/* A loss that gives one token of unit 4 a weight of its own. */
static float odd_weight;
static sow_code weigh_oddly(void *context, const sow_token *tokens, int64_t n, sow_token_weight *out)
{
    SOW_TRY(weigh_case(context, tokens, n, out));
    for (int64_t i = 0; i < n; i++) {
        if (tokens[i].unit == 4 && tokens[i].sequence == 1 && tokens[i].index == 3)
            out[i].logprob = odd_weight;
        if (odd_weight == 0.0f && tokens[i].unit == 4)
            return SOW_FAIL(SOW_EPEER, "no more");
    }
    return SOW_OK;
}

static void test_gradient_when_it_is_not_finite_or_too_large_then_names_unit_and_tensor(void **state)
{
    (void)state;
    static gradient_case c;
    for (int64_t row_tokens = 10; row_tokens <= 1000; row_tokens *= 100) {
        random_model m = random_model_open(&random_shapes[0], "auto", 2, SOW_F32);
        sow_gradient *g = open_gradient(&m, row_tokens, "auto");
        int64_t *sums = new_sums(m.layout), *want = new_sums(m.layout);
        const size_t bytes = (size_t)m.layout->n_elements * sizeof *sums;
        make_case(&c, random_shapes[0].vocab_size, 3);
        sow_gradient_args args = case_args(&c, &m, want);
        CHECK_OK(sow_gradient_run(g, &args));
        args = case_args(&c, &m, sums);
        args.weigh = weigh_oddly;
        odd_weight = NAN;
        CHECK_FAILS(sow_gradient_run(g, &args), SOW_ENUM, "unit 4: the gradient of tensor model.");
        args = case_args(&c, &m, sums);
        args.weigh = weigh_oddly;
        odd_weight = 1e6f;
        CHECK_FAILS(sow_gradient_run(g, &args), SOW_ENUM, "unit 4: the gradient of tensor model.");
        args = case_args(&c, &m, sums);
        args.weigh = weigh_oddly;
        odd_weight = 0.0f;
        CHECK_FAILS(sow_gradient_run(g, &args), SOW_EPEER, "no more");
        memset(sums, 0, bytes); /* nothing of the failures is left */
        args = case_args(&c, &m, sums);
        CHECK_OK(sow_gradient_run(g, &args));
        assert_memory_equal(sums, want, bytes);
        SOW_FREE(&want);
        SOW_FREE(&sums);
        sow_gradient_destroy(&g);
        random_model_close(&m);
    }
}

static void test_gradient_when_a_state_overflows_then_names_the_token(void **state)
{
    (void)state;
    static gradient_case c;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    const sow_tensor *embedding = sow_layout_find(m.layout, SOW_TENSOR_EMBED, -1);
    make_case(&c, random_shapes[0].vocab_size, 3);
    const int32_t token = c.ids[3][CASE_SEQUENCES][0]; /* the prefix of unit 3 */
    for (int64_t i = 0; i < embedding->cols; i++)
        m.theta[embedding->offset + token * embedding->cols + i] = 1e20f;
    CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
    sow_gradient *g = open_gradient(&m, 16, "auto");
    sow_gradient_args args = case_args(&c, &m, NULL);
    args.units += 3;
    args.n_units = 1;
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_ENUM, "unit 0: the state after token 0 of the prefix is not finite");
    c.units[3] = (sow_train_unit){.sequences = c.sequences[3], .n_sequences = 1};
    c.ids[3][0][2] = token;
    CHECK_FAILS(sow_gradient_run(g, &args), SOW_ENUM, "unit 0, sequence 0: the state or the logits after token 2");
    sow_gradient_destroy(&g);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient_run_no_larger_than_one_before_takes_no_memory),
        cmocka_unit_test(test_gradient_when_memory_is_short_then_says_so_and_goes_on),
        cmocka_unit_test(test_gradient_bytes_are_within_a_tenth_of_what_is_taken),
        cmocka_unit_test(test_gradient_when_arguments_are_wrong_then_fails),
        cmocka_unit_test(test_gradient_when_it_is_not_finite_or_too_large_then_names_unit_and_tensor),
        cmocka_unit_test(test_gradient_when_a_state_overflows_then_names_the_token),
    };
    return cmocka_run_group_tests_name("gradient_memory", tests, NULL, check_live_zero);
}
