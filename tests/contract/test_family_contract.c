// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* What every family of families.def must keep, with each part that a configuration may choose, tied and not: a shape
 * survives config.json, weights survive a folder of every type and a GGUF, the forward pass agrees with a plain one in
 * double, decoding token by token gives the bits of the whole pass, and gradients agree with differences. */
#include "../unit/gradient_case.h"
#include "../unit/model_files.h"
#include "../unit/random_model.h"

enum { N_TOKENS = 21 };

/* A variant of a family: with or without what its configuration may choose. */
static sow_shape make_shape(const sow_family *family, bool is_rich)
{
    sow_shape shape = small_shape(!is_rich);
    (void)snprintf(shape.family, sizeof shape.family, "%s", family->name);
    shape.has_qkv_bias = family->qkv_bias == SOW_ALWAYS || (family->qkv_bias == SOW_BY_CONFIG && is_rich);
    shape.has_o_bias = family->o_bias == SOW_ALWAYS || (family->o_bias == SOW_BY_CONFIG && is_rich);
    shape.has_mlp_bias = family->mlp_bias == SOW_ALWAYS || (family->mlp_bias == SOW_BY_CONFIG && is_rich);
    shape.has_qk_norm = family->qk_norm == SOW_ALWAYS || (family->qk_norm == SOW_BY_CONFIG && is_rich);
    shape.n_kv_heads = is_rich ? 1 : 2;
    shape.head_dim = is_rich ? 12 : 8; /* not hidden_size / num_attention_heads */
    return shape;
}

static void check_config(const sow_shape *shape)
{
    sow_words text = {0};
    sow_shape back;
    CHECK_OK(sow_hf_config(shape, SOW_F32, &text));
    CHECK_OK(sow_shape_parse(text.text, text.bytes, "config.json", &back));
    assert_memory_equal(&back, shape, sizeof back);
    sow_words_fini(&text);
}

static void check_load(sow_model *model, const sow_layout *layout, const float *theta)
{
    float *loaded = NULL;
    assert_memory_equal(&sow_model_layout(model)->shape, &layout->shape, sizeof layout->shape);
    CHECK_OK(SOW_ALLOC(&loaded, layout->n_elements));
    CHECK_OK(sow_model_load(model, loaded));
    assert_memory_equal(loaded, theta, (size_t)layout->n_elements * sizeof *theta);
    SOW_FREE(&loaded);
}

static void check_folder_of_type(const sow_layout *layout, const float *theta, sow_type type)
{
    static const char *const names[] = {"config.json", "generation_config.json", "model.safetensors"};
    char root[64], path[128], file[192];
    sow_model *model = NULL;
    (void)snprintf(root, sizeof root, "%s", check_folder());
    (void)snprintf(path, sizeof path, "%s/model", root);
    CHECK_OK(sow_model_save(path, layout, theta, type, NULL, 0, NULL));
    CHECK_OK(sow_model_open(path, &model));
    check_load(model, layout, theta);
    sow_model_close(&model);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", path, names[i]);
        assert_int_equal(unlink(file), 0);
    }
    assert_int_equal(rmdir(path) + rmdir(root), 0); /* nothing else was written */
}

static void check_gguf(const sow_layout *layout, const float *theta)
{
    static blob file;
    sow_model *model = NULL;
    gguf_edit edit = {.kind = SOW_GGUF_U32, .number = (double)layout->shape.head_dim};
    char key[64];
    (void)snprintf(key, sizeof key, "%s.attention.key_length", layout->shape.family);
    edit.key = key;
    blob_gguf(&file, layout, theta, &edit);
    CHECK_OK(sow_model_from_gguf(file.data, file.n, "m.gguf", &model));
    check_load(model, layout, theta);
    sow_model_close(&model);
}

static void test_family_when_saved_and_loaded_is_the_same(void **state)
{
    (void)state;
    for (int64_t f = 0; f < sow_family_count(); f++) {
        for (int is_rich = 0; is_rich < 2; is_rich++) {
            sow_shape shape = make_shape(sow_family_at(f), is_rich != 0);
            sow_layout *layout = NULL;
            assert_ptr_equal(sow_family_find(shape.family), sow_family_at(f));
            check_config(&shape);
            CHECK_OK(sow_layout_create(&shape, &layout));
            float *theta = fill_theta(layout);
            for (int type = 0; type < SOW_N_STORED; type++)
                check_folder_of_type(layout, theta, (sow_type)type);
            check_gguf(layout, theta);
            SOW_FREE(&theta);
            sow_layout_destroy(&layout);
        }
    }
}

/* All rows of one pass against the plain twin, and each row alone against its prefix. */
static void check_forward(const sow_shape *shape)
{
    random_model m = random_model_open(shape, "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    int32_t ids[N_TOKENS];
    const int64_t vocab = shape->vocab_size;
    float *logits = NULL, *row = NULL;
    double *plain = NULL;
    CHECK_OK(sow_engine_create(m.la, m.layout, 3, &engine));
    CHECK_OK(SOW_ALLOC(&logits, N_TOKENS * vocab));
    CHECK_OK(SOW_ALLOC(&row, vocab));
    CHECK_OK(SOW_ALLOC(&plain, N_TOKENS * vocab));
    random_ids(4, vocab, N_TOKENS, ids);
    plain_forward(m.layout, m.theta, ids, N_TOKENS, plain);
    CHECK_OK(sow_engine_logits(engine, m.replica, (sow_prompt){ids, N_TOKENS}, N_TOKENS, logits));
    for (int64_t i = 0; i < N_TOKENS * vocab; i++)
        CHECK_NEAR((double)logits[i], plain[i], 2e-4);
    for (int64_t n = 1; n <= N_TOKENS; n++) {
        CHECK_OK(sow_engine_logits(engine, m.replica, (sow_prompt){ids, n}, 1, row));
        assert_memory_equal(row, logits + (n - 1) * vocab, (size_t)vocab * sizeof *row);
    }
    SOW_FREE(&plain);
    SOW_FREE(&row);
    SOW_FREE(&logits);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

/* Greedy decoding, cached, chooses what a fresh pass over all tokens so far finds largest, with the same
 * log-probabilities. */
static void check_decoding(const sow_shape *shape)
{
    enum { MAX_NEW = 17 };
    random_model m = random_model_open(shape, "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    int32_t ids[N_TOKENS + MAX_NEW];
    float logprobs[MAX_NEW];
    bool is_greedy[MAX_NEW];
    sow_completion completion;
    CHECK_OK(sow_engine_create(m.la, m.layout, 3, &engine));
    random_ids(5, shape->vocab_size, N_TOKENS, ids);
    const sow_prompt prompt = {ids, N_TOKENS};
    const sow_generate_args args = {
        .replica = m.replica, .prompts = &prompt, .n_prompts = 1, .max_new = MAX_NEW, .want_logprobs = true};
    CHECK_OK(sow_engine_generate(engine, &args, &completion));
    const int64_t n = completion.n;
    assert_true(n > 0);
    float cached[MAX_NEW];
    memcpy(ids + N_TOKENS, completion.ids, (size_t)n * sizeof *ids);
    memcpy(cached, completion.logprobs, (size_t)n * sizeof *cached);
    const sow_score_item item = {ids, N_TOKENS + n, N_TOKENS, logprobs, is_greedy};
    CHECK_OK(sow_engine_score(engine, m.replica, &item, 1));
    assert_memory_equal(cached, logprobs, (size_t)n * sizeof *cached);
    for (int64_t i = 0; i < n; i++)
        assert_true(is_greedy[i]);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static void test_family_forward_agrees_with_a_plain_one_and_with_its_prefixes(void **state)
{
    (void)state;
    for (int64_t f = 0; f < sow_family_count(); f++)
        for (int is_rich = 0; is_rich < 2; is_rich++) {
            sow_shape shape = make_shape(sow_family_at(f), is_rich != 0);
            check_forward(&shape);
        }
}

static void test_family_decoding_equals_scoring_in_bits(void **state)
{
    (void)state;
    for (int64_t f = 0; f < sow_family_count(); f++)
        for (int is_rich = 0; is_rich < 2; is_rich++) {
            sow_shape shape = make_shape(sow_family_at(f), is_rich != 0);
            shape.n_eos = 0;
            shape.eos[0] = 0;
            check_decoding(&shape);
        }
}

/* ---- gradients ---- */

/* The loss of a unit's sequences by the plain forward pass: weights and entropies as weigh_case has them. */
static double plain_loss(const random_model *m, const gradient_case *c, double *logits)
{
    const int64_t vocab = c->vocab;
    int32_t ids[2 * CASE_LENGTH];
    double loss = 0.0;
    const sow_train_unit *unit = &c->units[0];
    memcpy(ids, unit->prefix, (size_t)unit->n_prefix * sizeof *ids);
    for (int64_t s = 0; s < unit->n_sequences; s++) {
        const sow_sequence *sequence = &unit->sequences[s];
        const int64_t n = unit->n_prefix + sequence->n - 1;
        memcpy(ids + unit->n_prefix, sequence->ids, (size_t)sequence->n * sizeof *ids);
        plain_forward(m->layout, m->theta, ids, n, logits);
        for (int64_t i = 0; i + 1 < sequence->n; i++) {
            const double *row = logits + (unit->n_prefix + i) * vocab;
            double sum = 0.0, entropy = 0.0;
            const sow_token token = {.sequence = s, .index = i};
            for (int64_t v = 0; v < vocab; v++)
                sum += exp(row[v] / c->temperature);
            for (int64_t v = 0; v < vocab; v++)
                entropy -= exp(row[v] / c->temperature) / sum * (row[v] / c->temperature - log(sum));
            loss += (double)case_weight(c, &token) * (row[sequence->ids[i + 1]] / c->temperature - log(sum));
            loss += (double)case_entropy_weight(c, &token) * entropy;
        }
    }
    return loss;
}

/* Along a random direction of each tensor, all its elements at once: an element that is wrong by a hundredth of the
 * tensor's gradient is seen. */
static void check_tensor(random_model *m, const gradient_case *c, const int64_t *sums, const sow_tensor *tensor,
                         uint32_t seed, double *logits)
{
    const int64_t n = tensor->rows * tensor->cols;
    float *theta = m->theta + tensor->offset, *start = NULL;
    double size = 0.0, expected = 0.0, loss[2];
    CHECK_OK(SOW_ALLOC(&start, n));
    memcpy(start, theta, (size_t)n * sizeof *theta);
    for (int64_t i = 0; i < n; i++)
        size += pow((double)sums[tensor->offset + i] / SOW_FIXED_SCALE, 2);
    for (int side = 0; side < 2; side++) {
        sow_random random;
        sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, seed, 3, 0, 0));
        for (int64_t i = 0; i < n; i++) {
            const float step = (sow_random_next(&random) >> 31 == (uint32_t)side) ? 0x1p-13f : -0x1p-13f;
            theta[i] = start[i] + step;
            const double moved = (double)theta[i] - (double)start[i];
            expected += (side == 0 ? -moved : moved) * (double)sums[tensor->offset + i] / SOW_FIXED_SCALE;
        }
        loss[side] = plain_loss(m, c, logits);
    }
    memcpy(theta, start, (size_t)n * sizeof *theta);
    SOW_FREE(&start);
    assert_true(size > 0.0);
    const double got = loss[1] - loss[0], tolerance = 5e-3 * sqrt(size) * 0x1p-12;
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%s, %s: the loss moves by %g, expected %g +- %g", m->layout->shape.family, tensor->name, got,
                 expected, tolerance);
}

static void check_gradients(const sow_shape *shape)
{
    static gradient_case c;
    random_model m = random_model_open(shape, "auto", 1, SOW_F32);
    sow_gradient *g = open_gradient(&m, 1024, "auto");
    int64_t *sums = new_sums(m.layout);
    double *logits = NULL;
    CHECK_OK(SOW_ALLOC(&logits, 2 * CASE_LENGTH * shape->vocab_size));
    make_case(&c, shape->vocab_size, 77);
    c.n_units = 1;
    c.units[0].n_prefix = 18;
    c.units[0].n_sequences = 3;
    c.wants_entropy = true;
    c.temperature = 0.8;
    const sow_gradient_args args = case_args(&c, &m, sums);
    CHECK_OK(sow_gradient_run(g, &args));
    CHECK_NEAR(c.loss, plain_loss(&m, &c, logits), 1e-4);
    for (int64_t t = 0; t < m.layout->n_tensors; t++)
        check_tensor(&m, &c, sums, &m.layout->tensors[t], (uint32_t)t, logits);
    SOW_FREE(&logits);
    SOW_FREE(&sums);
    sow_gradient_destroy(&g);
    random_model_close(&m);
}

static void test_family_gradients_agree_with_differences(void **state)
{
    (void)state;
    for (int64_t f = 0; f < sow_family_count(); f++)
        for (int is_rich = 0; is_rich < 2; is_rich++) {
            sow_shape shape = make_shape(sow_family_at(f), is_rich != 0);
            check_gradients(&shape);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_family_when_saved_and_loaded_is_the_same),
        cmocka_unit_test(test_family_forward_agrees_with_a_plain_one_and_with_its_prefixes),
        cmocka_unit_test(test_family_decoding_equals_scoring_in_bits),
        cmocka_unit_test(test_family_gradients_agree_with_differences),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
