// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients: the same bits however rows are grouped, kept, shared out over threads and by whatever kernels;
 * log-probabilities of the engine to the bit; refused input; memory. */
#include "gradient_case.h"

typedef struct result {
    int64_t *sums;
    float logprob[CASE_TARGETS], entropy[CASE_TARGETS];
    int64_t n;
    double loss;
} result;

static void run_case(const sow_shape *shape, const char *kernel, int64_t threads, sow_type type, int64_t row_tokens,
                     const char *recompute, bool wants_entropy, int64_t units_per_call, result *out)
{
    static gradient_case c;
    random_model m = random_model_open(shape, kernel, threads, type);
    sow_gradient *g = open_gradient(&m, row_tokens, recompute);
    memset(out, 0, sizeof *out);
    out->sums = new_sums(m.layout);
    make_case(&c, shape->vocab_size, 31);
    c.wants_entropy = wants_entropy;
    c.temperature = wants_entropy ? 0.7 : 1.0;
    for (int64_t u = 0; u < c.n_units; u += units_per_call) {
        sow_gradient_args args = case_args(&c, &m, out->sums);
        c.first_unit = u;
        args.units += u;
        args.n_units = c.n_units - u < units_per_call ? c.n_units - u : units_per_call;
        CHECK_OK(sow_gradient_run(g, &args));
        for (int64_t i = 0; i < c.n_tokens; i++) {
            out->logprob[out->n] = c.tokens[i].logprob;
            out->entropy[out->n++] = c.tokens[i].entropy;
        }
    }
    assert_true(sow_gradient_flops(g) > 0.0);
    sow_gradient_destroy(&g);
    random_model_close(&m);
}

static void check_equal(const sow_shape *shape, const result *a, result *b)
{
    sow_layout *layout = NULL;
    CHECK_OK(sow_layout_create(shape, &layout));
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->logprob, b->logprob, sizeof a->logprob);
    assert_memory_equal(a->entropy, b->entropy, sizeof a->entropy);
    for (int64_t t = 0; t < layout->n_tensors; t++) {
        const sow_tensor *tensor = &layout->tensors[t];
        if (memcmp(a->sums + tensor->offset, b->sums + tensor->offset,
                   (size_t)(tensor->rows * tensor->cols) * sizeof *a->sums) != 0)
            fail_msg("%s differs", tensor->name);
    }
    assert_memory_equal(a->sums, b->sums, (size_t)layout->n_elements * sizeof *a->sums);
    sow_layout_destroy(&layout);
    SOW_FREE(&b->sums);
}

static result whole, other;

static void test_gradient_whatever_rows_share_a_pass_has_equal_bits(void **state)
{
    (void)state;
    static const int64_t row_tokens[] = {1, 8, 33, 64, 200};
    static const sow_type types[] = {SOW_FP16, SOW_BF16_MIXED};
    for (size_t j = 0; j < 2 * N_RANDOM_SHAPES; j++) {
        const size_t s = j / 2;
        const sow_type type = types[j % 2];
        run_case(&random_shapes[s], "auto", 1, type, 1024, "layer", s % 2 == 0, CASE_UNITS, &whole);
        for (size_t i = 0; i < sizeof row_tokens / sizeof *row_tokens; i++) {
            run_case(&random_shapes[s], "auto", 1, type, row_tokens[i], "layer", s % 2 == 0, CASE_UNITS, &other);
            check_equal(&random_shapes[s], &whole, &other);
        }
        run_case(&random_shapes[s], "auto", 1, type, 64, "layer", s % 2 == 0, 1, &other);
        check_equal(&random_shapes[s], &whole, &other);
        run_case(&random_shapes[s], "auto", 1, type, 8, "none", s % 2 == 0, 2, &other);
        check_equal(&random_shapes[s], &whole, &other);
        SOW_FREE(&whole.sums);
    }
}

/* With so many words the logits of a pass come in chunks of 37 rows, an odd number: what is one product is not cut. */
static void test_gradient_in_chunks_of_logits_has_equal_bits(void **state)
{
    (void)state;
    static const sow_type types[] = {SOW_F32, SOW_BF16_MIXED};
    sow_shape shape = random_shapes[0];
    shape.vocab_size = (64 << 20) / 4 / 37 - 100;
    shape.hidden_size = shape.head_dim = 8;
    shape.n_heads = shape.n_kv_heads = 1;
    for (size_t i = 0; i < 2; i++) {
        run_case(&shape, "auto", 2, types[i], 1024, "layer", false, CASE_UNITS, &whole);
        run_case(&shape, "auto", 2, types[i], 20, "layer", false, CASE_UNITS, &other);
        check_equal(&shape, &whole, &other);
        SOW_FREE(&whole.sums);
    }
}

static void test_gradient_with_kept_activations_and_threads_has_equal_bits(void **state)
{
    (void)state;
    static const char *const recompute[] = {"auto", "none", "layer"};
    static const sow_type types[] = {SOW_BF16, SOW_BF16_MIXED};
    for (size_t j = 0; j < 2 * N_RANDOM_SHAPES; j++) {
        const sow_shape *shape = &random_shapes[j / 2];
        run_case(shape, "auto", 1, types[j % 2], 100, "layer", false, CASE_UNITS, &whole);
        for (int64_t threads = 1; threads <= 3; threads++) {
            run_case(shape, "auto", threads, types[j % 2], 100, recompute[threads - 1], false, CASE_UNITS, &other);
            check_equal(shape, &whole, &other);
        }
        SOW_FREE(&whole.sums);
    }
}

static void test_gradient_of_every_instruction_set_has_equal_bits(void **state)
{
    (void)state;
    static const sow_type types[] = {SOW_F32, SOW_BF16_MIXED};
    for (size_t j = 0; j < 2 * N_RANDOM_SHAPES; j++) {
        const sow_shape *shape = &random_shapes[j / 2];
        run_case(shape, "plain", 1, types[j % 2], 1024, "auto", true, CASE_UNITS, &whole);
        for (int64_t k = 0; k + 1 < sow_kernels_count(); k++) {
            run_case(shape, sow_kernels_at(k)->name, 2, types[j % 2], 70, "auto", true, CASE_UNITS, &other);
            check_equal(shape, &whole, &other);
        }
        SOW_FREE(&whole.sums);
    }
}

/* What the engine says of each token, prefixes shared, is what training computes. */
static void test_gradient_logprobs_are_those_of_the_engine(void **state)
{
    (void)state;
    static gradient_case c;
    static float logprobs[CASE_UNITS][CASE_SEQUENCES][CASE_LENGTH];
    static int32_t ids[CASE_UNITS][CASE_SEQUENCES][2 * CASE_LENGTH];
    for (size_t s = 0; s < N_RANDOM_SHAPES; s++) {
        random_model m = random_model_open(&random_shapes[s], "auto", 2, s % 2 == 0 ? SOW_FP16 : SOW_BF16_MIXED);
        sow_gradient *g = open_gradient(&m, 30, "auto");
        sow_engine *engine = NULL;
        sow_score_item items[CASE_UNITS * CASE_SEQUENCES];
        int64_t n_items = 0, n = 0;
        make_case(&c, random_shapes[s].vocab_size, 5);
        if (c.units[5].n_prefix + 7 > random_shapes[s].max_positions)
            c.n_units = 5;
        for (int64_t u = 0; u < c.n_units; u++) {
            const sow_train_unit *unit = &c.units[u];
            for (int64_t q = 0; q < unit->n_sequences; q++) {
                memcpy(ids[u][q], unit->prefix, (size_t)unit->n_prefix * sizeof(int32_t));
                memcpy(ids[u][q] + unit->n_prefix, unit->sequences[q].ids,
                       (size_t)unit->sequences[q].n * sizeof(int32_t));
                items[n_items++] = (sow_score_item){.ids = ids[u][q],
                                                    .n = unit->n_prefix + unit->sequences[q].n,
                                                    .n_context = unit->n_prefix + 1,
                                                    .logprobs = logprobs[u][q]};
                n += unit->sequences[q].n - 1;
            }
        }
        CHECK_OK(sow_engine_create(m.la, m.layout, 3, &engine));
        CHECK_OK(sow_engine_score(engine, m.replica, items, n_items));
        const sow_gradient_args args = case_args(&c, &m, NULL); /* log-probabilities only */
        CHECK_OK(sow_gradient_run(g, &args));
        assert_int_equal(c.n_tokens, n);
        for (int64_t i = 0; i < c.n_tokens; i++) {
            const sow_token *t = &c.tokens[i];
            assert_memory_equal(&t->logprob, &logprobs[t->unit][t->sequence][t->index], sizeof(float));
        }
        sow_engine_destroy(&engine);
        sow_gradient_destroy(&g);
        random_model_close(&m);
    }
}

/* The other backend promises no bits, but the same numbers. */
static void test_gradient_by_openblas_is_near(void **state)
{
    (void)state;
    static gradient_case c;
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_F32);
    int64_t *exact = new_sums(m.layout), *near = new_sums(m.layout);
    make_case(&c, random_shapes[1].vocab_size, 9);
    for (int i = 0; i < 2; i++) {
        if (i == 1) {
            sow_replica_destroy(&m.replica);
            sow_la_destroy(&m.la);
            CHECK_OK(sow_la_create("openblas", "auto", 1, &m.la));
            CHECK_OK(sow_replica_create(m.la, m.layout, SOW_F32, &m.replica));
            CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
        }
        sow_gradient *g = open_gradient(&m, i == 0 ? 1024 : 40, "auto");
        const sow_gradient_args args = case_args(&c, &m, i == 0 ? exact : near);
        CHECK_OK(sow_gradient_run(g, &args));
        sow_gradient_destroy(&g);
    }
    for (int64_t i = 0; i < m.layout->n_elements; i++)
        CHECK_NEAR((double)near[i] / SOW_FIXED_SCALE, (double)exact[i] / SOW_FIXED_SCALE, 2e-4);
    SOW_FREE(&near);
    SOW_FREE(&exact);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient_whatever_rows_share_a_pass_has_equal_bits),
        cmocka_unit_test(test_gradient_in_chunks_of_logits_has_equal_bits),
        cmocka_unit_test(test_gradient_with_kept_activations_and_threads_has_equal_bits),
        cmocka_unit_test(test_gradient_of_every_instruction_set_has_equal_bits),
        cmocka_unit_test(test_gradient_logprobs_are_those_of_the_engine),
        cmocka_unit_test(test_gradient_by_openblas_is_near),
    };
    return cmocka_run_group_tests_name("gradient", tests, NULL, check_live_zero);
}
