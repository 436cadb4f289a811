// NEEDS: nn la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Batched generation: the same completions whatever the batch, the order, the sharing, the threads; and every way to
 * end. */
#include "random_model.h"

#include "sower/phase.h"

enum { N_PROMPTS = 37, MAX_NEW = 20, LONGEST = 60 };

/* Prompts of several lengths: some share a beginning, some are equal, some have nothing in common. */
typedef struct prompts {
    int32_t ids[N_PROMPTS][LONGEST];
    sow_prompt list[N_PROMPTS];
} prompts;

static void make_prompts(int64_t vocab, prompts *out)
{
    int32_t common[LONGEST];
    random_ids(100, vocab, LONGEST, common);
    for (int64_t i = 0; i < N_PROMPTS; i++) {
        const int64_t n = 1 + (i * 7) % LONGEST, own = i % 5 == 0 ? 0 : i % 5 == 1 ? n : n - n / 2;
        random_ids((uint32_t)(200 + (i % 7 == 3 ? i - 1 : i)), vocab, n, out->ids[i]);
        memcpy(out->ids[i], common, (size_t)(n - own) * sizeof(int32_t));
        out->list[i] = (sow_prompt){out->ids[i], n};
    }
    /* A group of one prompt, as many completions as one wants; the last token of a full page too. */
    for (int64_t i = 20; i < 28; i++)
        out->list[i] = (sow_prompt){common, i < 24 ? 48 : 49};
    memcpy(out->ids[20], common, sizeof common);
    for (int64_t i = 20; i < 28; i++)
        out->list[i].ids = out->ids[20];
}

/* All completions, kept. */
typedef struct answers {
    int32_t ids[N_PROMPTS][MAX_NEW];
    float logprobs[N_PROMPTS][MAX_NEW];
    int64_t n[N_PROMPTS], n_sampled[N_PROMPTS];
    sow_finish finish[N_PROMPTS];
    sow_engine_counts counts;
} answers;

static void keep(const sow_completion *completions, int64_t first, int64_t n, answers *out)
{
    for (int64_t i = 0; i < n; i++) {
        const sow_completion *c = &completions[i];
        memcpy(out->ids[first + i], c->ids, (size_t)c->n * sizeof *c->ids);
        memcpy(out->logprobs[first + i], c->logprobs, (size_t)c->n * sizeof *c->logprobs);
        out->n[first + i] = c->n;
        out->n_sampled[first + i] = c->n_sampled;
        out->finish[first + i] = c->finish;
    }
}

static void assert_same(const answers *a, const answers *b)
{
    assert_memory_equal(a->n, b->n, sizeof a->n);
    assert_memory_equal(a->n_sampled, b->n_sampled, sizeof a->n_sampled);
    assert_memory_equal(a->finish, b->finish, sizeof a->finish);
    assert_memory_equal(a->ids, b->ids, sizeof a->ids);
    assert_memory_equal(a->logprobs, b->logprobs, sizeof a->logprobs);
}

/* `together` prompts a call: 1 leaves nothing to share. */
static void answer(random_model *m, const prompts *p, int64_t batch, int64_t together, double temperature, answers *out)
{
    sow_engine *engine = NULL;
    sow_completion completions[N_PROMPTS];
    memset(out, 0, sizeof *out);
    CHECK_OK(sow_engine_create(m->la, m->layout, batch, &engine));
    for (int64_t first = 0; first < N_PROMPTS; first += together) {
        const int64_t n = N_PROMPTS - first < together ? N_PROMPTS - first : together;
        CHECK_OK(sow_engine_generate(engine,
                                     &(sow_generate_args){.replica = m->replica,
                                                          .prompts = p->list + first,
                                                          .n_prompts = n,
                                                          .max_new = MAX_NEW,
                                                          .want_logprobs = true,
                                                          .temperature = temperature,
                                                          .seed = 5,
                                                          .step = 9,
                                                          .first_prompt = first},
                                     completions));
        keep(completions, first, n, out);
    }
    out->counts = sow_engine_counted(engine);
    sow_engine_destroy(&engine);
}

/* A shape with an end token that the random model does say now and then. */
static sow_shape shape_with_end(int s, int64_t n_eos)
{
    sow_shape shape = random_shapes[s];
    shape.n_eos = n_eos;
    for (int64_t i = 0; i < n_eos; i++)
        shape.eos[i] = (int32_t)(3 + 5 * i);
    return shape;
}

static void check_shape(const sow_shape *shape, double temperature)
{
    static prompts p;
    static answers one, other;
    random_model m = random_model_open(shape, "auto", 1, SOW_FP16);
    make_prompts(shape->vocab_size, &p);
    answer(&m, &p, 1, 1, temperature, &one);
    assert_int_equal(one.counts.shared_tokens, 0);
    for (int64_t batch = 1; batch <= 32; batch = batch == 1 ? 3 : batch == 3 ? 8 : batch * 4) {
        for (int64_t together = 5; together <= N_PROMPTS; together += 32) {
            answer(&m, &p, batch, together, temperature, &other);
            assert_same(&one, &other);
            assert_true(other.counts.shared_tokens > 0);
            assert_int_equal(other.counts.shared_tokens + other.counts.prefill_tokens, one.counts.prefill_tokens);
            assert_int_equal(other.counts.decode_tokens, one.counts.decode_tokens);
            assert_true(other.counts.flops < one.counts.flops);
        }
    }
    random_model_close(&m);
    /* Three threads and another kernel: the plain one for the smallest shape only, it is slow. */
    const int64_t last = sow_kernels_count() - 1;
    const sow_kernels *kernels = sow_kernels_at(shape->vocab_size < 64 || last == 0 ? last : 1);
    random_model three = random_model_open(shape, kernels->name, 3, SOW_FP16);
    answer(&three, &p, 8, N_PROMPTS, temperature, &other);
    assert_same(&one, &other);
    random_model_close(&three);
}

static void test_greedy_in_any_batch_and_any_company_gives_equal_bits(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++) {
        const sow_shape shape = shape_with_end(s, 4);
        check_shape(&shape, 0.0);
    }
}

static void test_sampling_in_any_batch_and_any_company_gives_equal_bits(void **state)
{
    (void)state;
    for (int s = 0; s < N_RANDOM_SHAPES; s++) {
        const sow_shape shape = shape_with_end(s, 2);
        check_shape(&shape, 0.8);
    }
}

/* Each token is the argmax of the logits that the engine gives for its prefix, its log-probability that of them. */
static void test_greedy_tokens_are_the_argmax_of_the_logits(void **state)
{
    (void)state;
    static prompts p;
    static answers got;
    const sow_shape shape = shape_with_end(1, 1);
    random_model m = random_model_open(&shape, "auto", 1, SOW_FP16);
    sow_engine *engine = NULL;
    float logits[130];
    make_prompts(shape.vocab_size, &p);
    answer(&m, &p, 8, N_PROMPTS, 0.0, &got);
    CHECK_OK(sow_engine_create(m.la, m.layout, 1, &engine));
    for (int64_t i = 0; i < N_PROMPTS; i += 4) {
        int32_t ids[LONGEST + MAX_NEW];
        memcpy(ids, p.list[i].ids, (size_t)p.list[i].n * sizeof *ids);
        memcpy(ids + p.list[i].n, got.ids[i], (size_t)got.n[i] * sizeof *ids);
        for (int64_t k = 0; k < got.n_sampled[i]; k++) {
            int best = 0;
            double sum = 0.0;
            CHECK_OK(sow_engine_logits(engine, m.replica, (sow_prompt){ids, p.list[i].n + k}, 1, logits));
            for (int v = 1; v < shape.vocab_size; v++)
                best = logits[v] > logits[best] ? v : best;
            for (int v = 0; v < shape.vocab_size; v++)
                sum += exp((double)logits[v] - (double)logits[best]);
            assert_int_equal(k < got.n[i] ? got.ids[i][k] : shape.eos[0], best);
            if (k < got.n[i])
                CHECK_NEAR((double)got.logprobs[i][k], -log(sum), 1e-5);
        }
    }
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

/* An embedding of rows in pairs makes logits in pairs: the lower id of a pair wins. */
static void test_greedy_when_two_logits_are_equal_then_the_lower_id(void **state)
{
    (void)state;
    sow_shape shape = random_shapes[0];
    random_model m = random_model_open(&shape, "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    sow_completion got;
    int32_t ids[4] = {1, 8, 20, 33};
    float *embedding = m.theta + m.layout->tensors[0].offset;
    for (int64_t v = 1; v < shape.vocab_size; v += 2)
        memcpy(embedding + v * shape.hidden_size, embedding + (v - 1) * shape.hidden_size,
               (size_t)shape.hidden_size * sizeof(float));
    CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));
    CHECK_OK(sow_engine_generate(
        engine,
        &(sow_generate_args){.replica = m.replica, .prompts = &(sow_prompt){ids, 4}, .n_prompts = 1, .max_new = 30},
        &got));
    assert_int_equal(got.n, 30);
    assert_null(got.logprobs);
    for (int64_t k = 0; k < got.n; k++)
        assert_int_equal(got.ids[k] % 2, 0);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static sow_completion complete(random_model *m, sow_engine *engine, const int32_t *ids, int64_t n, int64_t max_new)
{
    sow_completion got = {0};
    CHECK_OK(sow_engine_generate(
        engine,
        &(sow_generate_args){
            .replica = m->replica, .prompts = &(sow_prompt){ids, n}, .n_prompts = 1, .max_new = max_new},
        &got));
    return got;
}

static void test_finish_for_every_end_is_named(void **state)
{
    (void)state;
    sow_shape shape = random_shapes[0]; /* no end token */
    random_model m = random_model_open(&shape, "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    int32_t ids[96];
    random_ids(41, shape.vocab_size, 96, ids);
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));

    sow_completion got = complete(&m, engine, ids, 10, 7);
    assert_int_equal(got.n, 7);
    assert_int_equal(got.n_sampled, 7);
    assert_int_equal(got.finish, SOW_FINISH_LENGTH);
    const int32_t third = got.ids[2];

    got = complete(&m, engine, ids, 90, 50); /* the context holds 96 */
    assert_int_equal(got.n, 6);
    assert_int_equal(got.finish, SOW_FINISH_CONTEXT);
    got = complete(&m, engine, ids, 90, 6);
    assert_int_equal(got.finish, SOW_FINISH_LENGTH);
    got = complete(&m, engine, ids, 96, 5); /* full before the first token */
    assert_int_equal(got.n, 0);
    assert_int_equal(got.n_sampled, 0);
    assert_int_equal(got.finish, SOW_FINISH_CONTEXT);
    got = complete(&m, engine, ids, 10, 0);
    assert_int_equal(got.n, 0);
    assert_int_equal(got.finish, SOW_FINISH_LENGTH);
    sow_engine_destroy(&engine);
    random_model_close(&m);

    shape.n_eos = 2;
    shape.eos[0] = 0;
    shape.eos[1] = third;
    m = random_model_open(&shape, "auto", 1, SOW_F32);
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));
    got = complete(&m, engine, ids, 10, 7);
    assert_int_equal(got.n, 2); /* the end token is not among them */
    assert_int_equal(got.n_sampled, 3);
    assert_int_equal(got.finish, SOW_FINISH_EOS);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static void count_tick(void *context)
{
    ++*(int64_t *)context;
}

/* A unit shows life: it enters prefill and decode, and ticks in every layer of every pass. */
static void test_generate_enters_phases_and_ticks(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    _Atomic int word = -1;
    int64_t n_ticks = 0;
    int32_t ids[3] = {1, 2, 3};
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));
    sow_phase_install_word(&word);
    sow_phase_install_tick(count_tick, &n_ticks);
    (void)complete(&m, engine, ids, 3, 1);
    assert_int_equal(word, SOW_PHASE_PREFILL);
    const int64_t of_a_pass = n_ticks;
    assert_true(of_a_pass >= 3 * m.layout->shape.n_layers);
    (void)complete(&m, engine, ids, 3, 5);
    assert_int_equal(word, SOW_PHASE_DECODE);
    assert_int_equal(n_ticks, 6 * of_a_pass);
    sow_phase_install_tick(NULL, NULL);
    sow_phase_install_word(NULL);
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

static void test_generate_when_arguments_are_wrong_then_fail(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[0], "auto", 1, SOW_F32);
    sow_engine *engine = NULL;
    int32_t ids[97] = {0}, bad[3] = {0, -1, 0};
    sow_prompt list[3] = {{ids, 4}, {ids, 97}, {bad, 3}};
    sow_completion got[3] = {{.n = 77}};
    sow_generate_args args = {.replica = m.replica, .prompts = list, .n_prompts = 3, .max_new = 4, .first_prompt = 10};
    CHECK_OK(sow_engine_create(m.la, m.layout, 2, &engine));
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "row 11: 97 tokens, expected 1 to 96");
    list[1].n = 0;
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "row 11: 0 tokens");
    list[1].n = 2;
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "row 12: token 1 is -1");
    args.n_prompts = 2;
    args.temperature = -1.0;
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "temperature");
    args.temperature = (double)NAN;
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "temperature");
    args.temperature = 0.0;
    args.stop = "x";
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "tokenizer");
    args.stop = "";
    args.max_new = -1;
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "negative");
    args.max_new = 3;
    args.first_prompt = -1;
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_EARG, "32 bits");
    assert_int_equal(got[0].n, 77); /* untouched by all that */
    args.first_prompt = 0;
    CHECK_OK(sow_engine_generate(engine, &args, got)); /* and the engine still works */
    assert_int_equal(got[0].n, 3);
    args.n_prompts = 0;
    CHECK_OK(sow_engine_generate(engine, &args, got));
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

/* An embedding that overflows for one token: only a prompt that has it fails, and its row is named. */
static void test_generate_when_logits_are_not_finite_then_the_row_is_named(void **state)
{
    (void)state;
    random_model m = random_model_open(&random_shapes[1], "auto", 1, SOW_F32); /* untied */
    sow_engine *engine = NULL;
    int32_t good[3] = {1, 2, 3}, bad[3] = {1, 60, 3};
    sow_prompt list[4] = {{good, 3}, {good, 3}, {bad, 3}, {bad, 3}};
    sow_completion got[4];
    sow_generate_args args = {.replica = m.replica, .prompts = list, .n_prompts = 4, .max_new = 1, .first_prompt = 100};
    for (int64_t i = 0; i < 40; i++)
        m.theta[m.layout->tensors[0].offset + 60 * 40 + i] =
            1e30f; /* its square is infinite, and the norm of it would be 0 */
    CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
    CHECK_OK(sow_engine_create(m.la, m.layout, 4, &engine));
    list[2].n = 2; /* position 1 */
    CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_ENUM, "row 102: the state or the logits after token 1");
    args.n_prompts = 2;
    CHECK_OK(sow_engine_generate(engine, &args, got));
    /* One infinite logit among finite ones, whatever its sign. */
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int64_t i = 0; i < 40; i++)
            m.theta[sow_layout_find(m.layout, SOW_TENSOR_LM_HEAD, -1)->offset + 7 * 40 + i] = (float)sign * 3e38f;
        CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
        CHECK_FAILS(sow_engine_generate(engine, &args, got), SOW_ENUM,
                    "row 100: the state or the logits after token 2");
    }
    sow_engine_destroy(&engine);
    random_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_in_any_batch_and_any_company_gives_equal_bits),
        cmocka_unit_test(test_sampling_in_any_batch_and_any_company_gives_equal_bits),
        cmocka_unit_test(test_greedy_tokens_are_the_argmax_of_the_logits),
        cmocka_unit_test(test_greedy_when_two_logits_are_equal_then_the_lower_id),
        cmocka_unit_test(test_finish_for_every_end_is_named),
        cmocka_unit_test(test_generate_enters_phases_and_ticks),
        cmocka_unit_test(test_generate_when_arguments_are_wrong_then_fail),
        cmocka_unit_test(test_generate_when_logits_are_not_finite_then_the_row_is_named),
    };
    return cmocka_run_group_tests_name("engine_generate", tests, NULL, check_live_zero);
}
