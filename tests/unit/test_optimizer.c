// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* The optimizer of one process: gradient, norm and steps of AdamW against a few lines that know nothing of granules,
 * blocks and threads, bit for bit. */
#include "../../src/train/optimizer_impl.h"
#include "check.h"

typedef struct fixture {
    sow_layout *layout;
    sow_la *la;
    sow_theta *theta;
    sow_optimizer *optimizer;
    float *gradient, *want[3]; /* owned [n_elements]; theta, m, v */
    int64_t n;
} fixture;

static const sow_adamw_step usual = {
    .rate = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1, .anchor = SOW_ANCHOR_NONE};

/* Three and more granules. */
static void begin_with(fixture *f, int64_t block, int64_t threads)
{
    const sow_shape shape = {.family = "llama",
                             .vocab_size = 300,
                             .hidden_size = 72,
                             .intermediate_size = 100,
                             .n_layers = 2,
                             .n_heads = 6,
                             .n_kv_heads = 2,
                             .head_dim = 12,
                             .max_positions = 64,
                             .rope_theta = 1e4,
                             .rms_norm_eps = 1e-5,
                             .rope_factor = 1,
                             .is_tied = true,
                             .bos = -1,
                             .pad = -1};
    *f = (fixture){0};
    CHECK_OK(sow_layout_create(&shape, &f->layout));
    f->n = f->layout->n_elements;
    assert_true(f->n > 3 * SOW_GRANULE);
    CHECK_OK(sow_la_create("exact", "auto", threads, &f->la));
    CHECK_OK(sow_theta_create(NULL, f->la, f->layout, block, &f->theta));
    CHECK_OK(sow_optimizer_create(NULL, f->la, f->layout, block, &f->optimizer));
    CHECK_OK(SOW_ALLOC(&f->gradient, f->n));
    for (int i = 0; i < 3; i++)
        CHECK_OK(SOW_ALLOC(&f->want[i], f->n));
    for (int64_t i = 0; i < f->n; i++)
        f->want[0][i] = sow_theta_base(f->theta)[i] = (float)(i * 37 % 101 - 50) * 0.003f;
    memcpy(sow_theta_buffer(f->theta, 0), f->want[0], (size_t)f->n * sizeof(float));
    sow_theta_loaded(f->theta, 0);
    sow_optimizer_loaded(f->optimizer, 0);
}

static void end_with(fixture *f)
{
    for (int i = 0; i < 3; i++)
        SOW_FREE(&f->want[i]);
    SOW_FREE(&f->gradient);
    sow_optimizer_destroy(&f->optimizer);
    sow_theta_destroy(&f->theta);
    sow_la_destroy(&f->la);
    sow_layout_destroy(&f->layout);
}

/* The sums of two units whose gradients are multiples of 2^-12: f->gradient is what they sum to, exactly. */
static void make_gradient(fixture *f, int64_t key, int seed)
{
    sow_rank_set ranks = {0};
    float *unit = NULL;
    int overflows = 0;
    CHECK_OK(SOW_ALLOC(&unit, f->n));
    memset(f->gradient, 0, (size_t)f->n * sizeof(float));
    sow_optimizer_clear(f->optimizer);
    for (int u = 0; u < 2; u++) {
        for (int64_t i = 0; i < f->n; i++) {
            unit[i] = (float)((i * (13 + u) + seed) % 211 - 105) * 0x1p-12f;
            f->gradient[i] += unit[i];
        }
        overflows |= sow_la_kernels(f->la)->add_fixed(f->n, unit, sow_optimizer_sums(f->optimizer));
    }
    assert_int_equal(overflows, 0);
    sow_rank_set_add(&ranks, 0);
    assert_false(sow_optimizer_has(f->optimizer, key));
    CHECK_OK(sow_optimizer_reduce(f->optimizer, key, &ranks, true));
    CHECK_OK(sow_optimizer_complete(f->optimizer, key, &ranks, &ranks));
    assert_true(sow_optimizer_has(f->optimizer, key));
    SOW_FREE(&unit);
}

/* Squares in order within a granule, granules in order. */
static double norm_of(const fixture *f)
{
    double sum = 0;
    for (int64_t at = 0; at < f->n; at += SOW_GRANULE) {
        double part = 0;
        for (int64_t i = at; i < at + SOW_GRANULE; i++)
            part += (double)f->gradient[i] * (double)f->gradient[i];
        sum += part;
    }
    return sqrt(sum);
}

/* One step of AdamW (Loshchilov and Hutter 2019, algorithm 2), in float32 as kernels.h writes it down. */
static void expect_step(fixture *f, const sow_adamw_step *s)
{
    double bias1 = 1, bias2 = 1, clip = s->clip_norm > 0 ? s->clip_norm / (norm_of(f) + 1e-6) : 1;
    for (int64_t t = 0; t < s->t; t++) { /* t is small here: so few products round as those by squaring */
        bias1 *= s->beta1;
        bias2 *= s->beta2;
    }
    const float scale = (float)(clip < 1 ? clip : 1), size = (float)(s->rate / (1 - bias1));
    const float root = (float)sqrt(1 - bias2), keep = (float)(1 - s->rate * s->weight_decay);
    const float decay = (float)(s->rate * s->anchor_lambda);
    for (int64_t i = 0; i < f->n; i++) {
        float *w = &f->want[0][i], *m = &f->want[1][i], *v = &f->want[2][i];
        const float g = f->gradient[i] * scale, base = sow_theta_base(f->theta)[i];
        *m = *m + (g - *m) * (float)(1 - s->beta1);
        *v = *v * (float)s->beta2 + (g * g) * (float)(1 - s->beta2);
        *w = *w * keep - size * (*m / (sqrtf(*v) / root + (float)s->eps));
        if (s->anchor == SOW_ANCHOR_L2)
            *w = base + (1.0f - decay) * (*w - base);
        if (s->anchor == SOW_ANCHOR_L1)
            *w = base + copysignf(fmaxf(fabsf(*w - base) - decay, 0.0f), *w - base);
    }
}

static void make_step(fixture *f, const sow_adamw_step *s)
{
    sow_step step;
    sow_noise_plan plan = {0};
    sow_optimizer_step(f->optimizer, s, &step);
    CHECK_OK(sow_theta_update(f->theta, &plan, &step, true));
    CHECK_OK(sow_theta_complete(f->theta, &plan, &step));
    for (int64_t granule = 0; granule < sow_theta_n_granules(f->theta); granule++)
        CHECK_OK(sow_theta_check_granule(f->theta, &plan, &step, granule));
}

static void compare(fixture *f, int64_t t)
{
    size_t bytes = (size_t)f->n * sizeof(float);
    assert_memory_equal(sow_theta_buffer(f->theta, t), f->want[0], bytes);
    assert_memory_equal(sow_optimizer_moment(f->optimizer, 0, t), f->want[1], bytes);
    assert_memory_equal(sow_optimizer_moment(f->optimizer, 1, t), f->want[2], bytes);
}

/* Three steps from zero moments: t = 1, 2, 3 see other corrections, and both buffers are read and written. */
static void check_steps(const sow_adamw_step *settings, int64_t block, int64_t threads)
{
    fixture f;
    sow_adamw_step s = *settings;
    begin_with(&f, block, threads);
    for (s.t = 1; s.t <= 3; s.t++) {
        make_gradient(&f, s.t, (int)s.t);
        double norm = sow_optimizer_norm(f.optimizer), want = norm_of(&f);
        assert_memory_equal(&norm, &want, sizeof norm);
        expect_step(&f, &s);
        make_step(&f, &s);
        compare(&f, s.t);
    }
    end_with(&f);
}

static void test_steps_are_those_of_the_formula(void **state)
{
    (void)state;
    check_steps(&usual, 1 << 20, 1);
    check_steps(&usual, SOW_GRANULE, 2);
}

static void test_clip_scales_to_the_norm_and_never_up(void **state)
{
    (void)state;
    sow_adamw_step tight = usual, loose = usual;
    tight.clip_norm = 0.01;
    loose.clip_norm = 1e6;
    check_steps(&tight, 1 << 20, 1);
    check_steps(&loose, 1 << 20, 1);
}

static void test_anchors_pull_to_the_base(void **state)
{
    (void)state;
    sow_adamw_step s = usual;
    s.anchor_lambda = 3;
    for (s.anchor = SOW_ANCHOR_L1; s.anchor <= SOW_ANCHOR_L2; s.anchor++)
        check_steps(&s, 1 << 20, 1);
}

static void test_digest_is_that_of_the_moments(void **state)
{
    (void)state;
    fixture f;
    sow_adamw_step s = usual;
    begin_with(&f, 1 << 20, 1);
    sow_hash zeros = sow_optimizer_digest(f.optimizer, 0);
    s.t = 1;
    make_gradient(&f, 1, 1);
    make_step(&f, &s);
    sow_hash first = sow_optimizer_digest(f.optimizer, 1);
    assert_false(sow_hash_equal(zeros, first));
    assert_true(sow_hash_equal(zeros, sow_optimizer_digest(f.optimizer, 0))); /* the other buffer */
    sow_optimizer_loaded(f.optimizer, 1);
    assert_true(sow_hash_equal(first, sow_optimizer_digest(f.optimizer, 1)));
    for (int which = 0; which < 2; which++) { /* any weight of either moment counts */
        float *last = &sow_optimizer_moment(f.optimizer, which, 1)[f.n - 1], kept = *last;
        *last = 1;
        sow_optimizer_loaded(f.optimizer, 1);
        assert_false(sow_hash_equal(first, sow_optimizer_digest(f.optimizer, 1)));
        *last = kept;
    }
    end_with(&f);
}

/* Whoever did not answer in the round is left out, whatever its sums hold. */
static void test_ranks_outside_of_the_set_do_not_count(void **state)
{
    (void)state;
    fixture f;
    sow_rank_set nobody = {0};
    begin_with(&f, SOW_GRANULE, 1);
    make_gradient(&f, 1, 1);
    assert_true(sow_optimizer_norm(f.optimizer) > 0);
    CHECK_OK(sow_optimizer_reduce(f.optimizer, 2, &nobody, true));
    CHECK_OK(sow_optimizer_complete(f.optimizer, 2, &nobody, &nobody));
    assert_true(sow_optimizer_norm(f.optimizer) == 0);
    assert_false(sow_optimizer_has(f.optimizer, 1));
    end_with(&f);
}

/* A rank that was away finds in its post what its node has left behind. */
static void test_attempt_before_the_newest_touches_nothing(void **state)
{
    (void)state;
    fixture f;
    sow_rank_set nobody = {0};
    begin_with(&f, SOW_GRANULE, 1);
    make_gradient(&f, 5, 1);
    const double norm = sow_optimizer_norm(f.optimizer);
    CHECK_OK(sow_optimizer_reduce(f.optimizer, 4, &nobody, true));
    CHECK_FAILS(sow_optimizer_complete(f.optimizer, 4, &nobody, &nobody), SOW_ECOMM, "attempt 4 was given up");
    assert_true(norm > 0 && !(sow_optimizer_norm(f.optimizer) < norm) && sow_optimizer_has(f.optimizer, 5));
    make_gradient(&f, 6, 1);
    end_with(&f);
}

static void test_bytes_say_what_creation_takes(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f, SOW_GRANULE, 1);
    size_t node = sow_optimizer_node_bytes(f.layout, SOW_GRANULE, 1), rank = sow_optimizer_rank_bytes(f.layout);
    size_t nodes = sow_optimizer_node_bytes(f.layout, SOW_GRANULE, 2);
    assert_int_equal(rank, (size_t)f.n * 8);
    assert_int_equal(nodes - node, (size_t)f.n * 8);
    assert_in_range(node, (size_t)f.n * 20, (size_t)f.n * 20 + 8192);
    end_with(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_are_those_of_the_formula),
        cmocka_unit_test(test_clip_scales_to_the_norm_and_never_up),
        cmocka_unit_test(test_anchors_pull_to_the_base),
        cmocka_unit_test(test_digest_is_that_of_the_moments),
        cmocka_unit_test(test_ranks_outside_of_the_set_do_not_count),
        cmocka_unit_test(test_attempt_before_the_newest_touches_nothing),
        cmocka_unit_test(test_bytes_say_what_creation_takes),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
