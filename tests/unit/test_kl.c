// NEEDS: measure nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* KL of distributions that one can write down, and of two models against sums over their logits taken one by one. */
#include "check.h"

#include "sower/kl.h"
#include "sower/model.h"

#include <math.h>

enum { VOCAB = 128, N_PROMPTS = 5, MAX_NEW = 12 };

static void test_logits_when_two_outcomes_then_the_formula(void **state)
{
    (void)state;
    const float base[2] = {logf(0.9f) + 3, logf(0.1f) + 3}, tuned[2] = {-200, -200}; /* shifts mean nothing */
    sow_kl_row row = sow_kl_of_logits(base, tuned, 2, 1);
    CHECK_NEAR(row.exact, 0.9 * log(0.9 / 0.5) + 0.1 * log(0.1 / 0.5), 1e-6);
    CHECK_NEAR(row.reverse, 0.5 * log(0.5 / 0.9) + 0.5 * log(0.5 / 0.1), 1e-6);
    CHECK_NEAR(row.token, log(0.1 / 0.5), 1e-6);
}

static void test_logits_when_three_outcomes_then_the_formula(void **state)
{
    (void)state;
    const double p[3] = {0.5, 0.25, 0.25}, q[3] = {0.125, 0.125, 0.75};
    float base[3], tuned[3];
    double exact = 0, reverse = 0;
    for (int i = 0; i < 3; i++) {
        base[i] = (float)log(p[i]);
        tuned[i] = (float)log(q[i]) + 80;
        exact += p[i] * log(p[i] / q[i]);
        reverse += q[i] * log(q[i] / p[i]);
    }
    sow_kl_row row = sow_kl_of_logits(base, tuned, 3, 2);
    CHECK_NEAR(exact, 0.5 * log(4) + 0.25 * log(2) + 0.25 * log(1.0 / 3), 1e-12);
    CHECK_NEAR(row.exact, exact, 1e-5);
    CHECK_NEAR(row.reverse, reverse, 1e-5);
    CHECK_NEAR(row.token, log(0.25 / 0.75), 1e-5);
}

static void test_logits_when_equal_then_exactly_zero(void **state)
{
    (void)state;
    const float logits[4] = {1.5f, -7, 1e30f, 0.25f};
    sow_kl_row row = sow_kl_of_logits(logits, logits, 4, 0);
    assert_true(row.exact == 0 && row.reverse == 0 && row.token == 0);
}

/* ---- Two models ---- */

typedef struct fixture {
    sow_la *la;
    sow_model *model;
    float *theta;
    sow_tensor_noise *noise;
    sow_replica *base, *tuned;
    sow_engine *engine;
    int32_t ids[N_PROMPTS][16];
    sow_prompt prompts[N_PROMPTS];
    sow_kl_args args;
} fixture;

static void begin(fixture *f)
{
    static const char *const texts[N_PROMPTS] = {
        "cd 7 11 2 20=", "calc 93+3=", "rev qyrg=", "sort 579032=", "count a abccacba="};
    *f = (fixture){0};
    CHECK_OK(sow_la_create("exact", "auto", 1, &f->la));
    CHECK_OK(sow_model_open(SOW_SOURCE_DIR "/models/sprout", &f->model));
    const sow_layout *layout = sow_model_layout(f->model);
    assert_int_equal(layout->shape.vocab_size, VOCAB);
    CHECK_OK(SOW_ALLOC(&f->theta, layout->n_elements));
    CHECK_OK(sow_model_load(f->model, f->theta));
    CHECK_OK(SOW_ALLOC(&f->noise, layout->n_tensors));
    for (int64_t t = 0; t < layout->n_tensors; t++)
        f->noise[t] =
            (sow_tensor_noise){.place = sow_place_of(SOW_STREAM_NOISE, 1, 2, 3, (uint32_t)t), .factor = 0.05f};
    CHECK_OK(sow_replica_create(f->la, layout, SOW_F32, &f->base));
    CHECK_OK(sow_replica_create(f->la, layout, SOW_F32, &f->tuned));
    CHECK_OK(sow_replica_make(f->base, f->theta, NULL));
    CHECK_OK(sow_replica_make(f->tuned, f->theta, f->noise));
    CHECK_OK(sow_engine_create(f->la, layout, 3, &f->engine));
    for (int i = 0; i < N_PROMPTS; i++) { /* ids are bytes */
        f->prompts[i] = (sow_prompt){.ids = f->ids[i], .n = (int64_t)strlen(texts[i])};
        for (int64_t k = 0; k < f->prompts[i].n && k < 16; k++)
            f->ids[i][k] = texts[i][k];
        f->prompts[i].n = f->prompts[i].n < 16 ? f->prompts[i].n : 16;
    }
    f->args = (sow_kl_args){.engine = f->engine,
                            .layout = layout,
                            .tuned = f->tuned,
                            .base = f->base,
                            .prompts = f->prompts,
                            .n_prompts = N_PROMPTS,
                            .max_new = MAX_NEW};
}

static void end(fixture *f)
{
    sow_engine_destroy(&f->engine);
    sow_replica_destroy(&f->base);
    sow_replica_destroy(&f->tuned);
    SOW_FREE(&f->noise);
    SOW_FREE(&f->theta);
    sow_model_close(&f->model);
    sow_la_destroy(&f->la);
}

static double log_sum(const float *x)
{
    double sum = 0;
    for (int i = 0; i < VOCAB; i++)
        sum += exp((double)x[i]);
    return log(sum);
}

/* Greedy decoding a token at a time by `speaker`, with all sums along its path. */
static void walk_alone(fixture *f, const sow_replica *speaker, sow_kl *out)
{
    *out = (sow_kl){.rows = N_PROMPTS};
    for (int i = 0; i < N_PROMPTS; i++) {
        int32_t ids[16 + MAX_NEW];
        float base[VOCAB], tuned[VOCAB];
        int64_t n = f->prompts[i].n, tokens = 0;
        double token = 0, exact = 0, reverse = 0;
        memcpy(ids, f->ids[i], sizeof f->ids[i]);
        for (int32_t best = 0; tokens < MAX_NEW && best != 10; tokens++) {
            CHECK_OK(sow_engine_logits(f->engine, f->base, (sow_prompt){ids, n}, 1, base));
            CHECK_OK(sow_engine_logits(f->engine, f->tuned, (sow_prompt){ids, n}, 1, tuned));
            const float *mine = speaker == f->base ? base : tuned;
            double base_sum = log_sum(base), tuned_sum = log_sum(tuned);
            best = 0;
            for (int32_t v = 0; v < VOCAB; v++) {
                double b = (double)base[v] - base_sum, t = (double)tuned[v] - tuned_sum;
                best = mine[v] > mine[best] ? v : best;
                exact += exp(b) * (b - t);
                reverse += exp(t) * (t - b);
            }
            token += (double)base[best] - base_sum - (double)tuned[best] + tuned_sum;
            ids[n++] = best;
        }
        out->sampled -= token / N_PROMPTS;
        out->token += token / (double)tokens / N_PROMPTS;
        out->exact += exact / (double)tokens / N_PROMPTS;
        out->exact_reverse += reverse / (double)tokens / N_PROMPTS;
        out->base_length += (double)tokens / N_PROMPTS;
    }
}

static void test_models_when_measured_then_the_sums_along_their_paths(void **state)
{
    (void)state;
    fixture f;
    sow_kl by_base, by_tuned, kl;
    sow_sequences fixed = {0};
    begin(&f);
    walk_alone(&f, f.base, &by_base);
    walk_alone(&f, f.tuned, &by_tuned);
    CHECK_OK(sow_kl_measure(&f.args, &fixed, &kl));
    assert_int_equal(kl.rows, N_PROMPTS);
    CHECK_NEAR(kl.sampled, by_tuned.sampled, 1e-4);
    CHECK_NEAR(kl.sampled_length, by_tuned.base_length, 1e-12);
    CHECK_NEAR(kl.token, by_base.token, 1e-5);
    CHECK_NEAR(kl.exact, by_base.exact, 1e-5);
    CHECK_NEAR(kl.exact_reverse, by_base.exact_reverse, 1e-5);
    CHECK_NEAR(kl.base_length, by_base.base_length, 1e-12);
    assert_true(kl.exact > 0.01 && fabs(kl.exact - kl.exact_reverse) > 1e-4); /* the directions are told apart */
    for (f.args.room = 1; f.args.room < 12; f.args.room += 3) {               /* few rows at a time, sequences cut */
        sow_kl cut;
        CHECK_OK(sow_kl_measure(&f.args, &fixed, &cut));
        assert_memory_equal(&cut, &kl, sizeof cut);
    }
    sow_sequences_fini(&fixed);
    end(&f);
}

static void test_models_when_the_base_itself_then_zero(void **state)
{
    (void)state;
    fixture f;
    sow_kl kl;
    sow_sequences fixed = {0};
    begin(&f);
    f.args.tuned = f.base;
    CHECK_OK(sow_kl_measure(&f.args, &fixed, &kl));
    assert_true(kl.sampled == 0 && kl.token == 0 && kl.exact == 0 && kl.exact_reverse == 0);
    assert_true(kl.sampled_length == kl.base_length && kl.base_length > 1);
    f.args.max_new = 0;
    CHECK_FAILS(sow_kl_measure(&f.args, &fixed, &kl), SOW_EARG, "5 prompts and 0 new tokens");
    sow_sequences_fini(&fixed);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_when_two_outcomes_then_the_formula),
        cmocka_unit_test(test_logits_when_three_outcomes_then_the_formula),
        cmocka_unit_test(test_logits_when_equal_then_exactly_zero),
        cmocka_unit_test(test_models_when_measured_then_the_sums_along_their_paths),
        cmocka_unit_test(test_models_when_the_base_itself_then_zero),
    };
    return cmocka_run_group_tests_name("kl", tests, NULL, check_live_zero);
}
