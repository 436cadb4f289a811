// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* Answers of the laboratory model: their penalty for leaving the base, and mixed tasks. */
#include "task_options.h"

#include "sower/evaluate.h"
#include "sower/kernels.h"
#include "sower/model.h"

enum { ROWS = 9, LONGEST = 64, N_MIXED = 3 };

typedef struct fixture {
    sow_la *la;
    sow_model *model;
    float *theta;
    sow_tensor_noise *noise;
    sow_evaluator *evaluator;
    int job;
} fixture;

static sow_task *open_task(const char *name)
{
    sow_task *task = NULL;
    sow_task_options options = task_options(name);
    task_set(options.form, "short");
    CHECK_OK(sow_task_open(&options, &task));
    return task;
}

/* A member that is far enough from the base to answer otherwise now and then. */
static void begin(fixture *f)
{
    size_t bytes = 0;
    *f = (fixture){0};
    CHECK_OK(sow_la_create("exact", "auto", 2, &f->la));
    CHECK_OK(sow_model_open(SOW_SOURCE_DIR "/models/sprout", &f->model));
    const sow_layout *layout = sow_model_layout(f->model);
    CHECK_OK(SOW_ALLOC(&f->theta, layout->n_elements));
    CHECK_OK(sow_model_load(f->model, f->theta));
    CHECK_OK(SOW_ALLOC(&f->noise, layout->n_tensors));
    for (int64_t t = 0; t < layout->n_tensors; t++)
        f->noise[t] =
            (sow_tensor_noise){.place = sow_place_of(SOW_STREAM_NOISE, 1, 2, 3, (uint32_t)t), .factor = 0.05f};
    const char *json = sow_model_tokenizer_json(f->model, &bytes);
    CHECK_OK(sow_evaluator_create(&(sow_evaluator_args){.la = f->la,
                                                        .layout = layout,
                                                        .type = SOW_FP16,
                                                        .tokenizer_json = json,
                                                        .tokenizer_bytes = bytes,
                                                        .batch = 4},
                                  &f->evaluator));
    CHECK_OK(sow_evaluator_add(f->evaluator, open_task("countdown"), 0, &f->job));
    CHECK_OK(sow_evaluator_hold_base(f->evaluator, f->theta));
}

static void end(fixture *f)
{
    sow_evaluator_destroy(&f->evaluator);
    SOW_FREE(&f->noise);
    SOW_FREE(&f->theta);
    sow_model_close(&f->model);
    sow_la_destroy(&f->la);
}

/* Keeps an answer's tokens with the end token. */
typedef struct kept {
    int64_t n;
    int32_t ids[LONGEST];
} kept;

static sow_code keep(void *context, const sow_answer *answer)
{
    kept *to = context;
    to->n = answer->tokens->n_sampled;
    for (int64_t i = 0; i < to->n; i++)
        to->ids[i] = i < answer->tokens->n ? answer->tokens->ids[i] : answer->tokens->end;
    return SOW_OK;
}

/* log p(token) for the tokens of an answer behind a row's prompt. */
static void score(fixture *f, const sow_replica *replica, int64_t row, const kept *answer, float *out)
{
    int32_t ids[2 * LONGEST];
    sow_words text = {0};
    CHECK_OK(sow_task_prompt(sow_evaluator_task(f->evaluator, f->job), row, &text));
    int64_t n = (int64_t)text.bytes; /* ids are bytes */
    for (int64_t i = 0; i < n; i++)
        ids[i] = text.text[i];
    memcpy(ids + n, answer->ids, (size_t)answer->n * sizeof *ids);
    const sow_score_item item = {.ids = ids, .n = n + answer->n, .n_context = n, .logprobs = out};
    CHECK_OK(sow_engine_score(sow_evaluator_engine(f->evaluator), replica, &item, 1));
    sow_words_fini(&text);
}

/* k3 of one row from log-probabilities that both models were asked for anew. */
static double k3_of(fixture *f, int64_t row, const sow_replica *base)
{
    kept answer = {0};
    float member[LONGEST], other[LONGEST];
    sow_tally tally;
    double sum = 0;
    CHECK_OK(sow_evaluator_run(f->evaluator, f->job, &row, 1, keep, &answer, &tally));
    score(f, sow_evaluator_replica(f->evaluator), row, &answer, member);
    score(f, base, row, &answer, other);
    for (int64_t i = 0; i < answer.n; i++) {
        float r = other[i] - member[i], ratio = 0;
        sow_la_kernels(f->la)->exp(1, &r, &ratio);
        CHECK_NEAR((double)ratio, exp((double)r), 1e-6 * exp((double)r));
        sum += (double)ratio - (double)r - 1.0;
    }
    return sum / (double)answer.n;
}

static void test_member_with_kl_beta_loses_exactly_beta_times_k3(void **state)
{
    (void)state;
    fixture f;
    begin(&f);
    const double beta = 0.37;
    int64_t rows[ROWS], want = 0;
    double sum = 0;
    sow_replica *base = NULL;
    CHECK_OK(sow_replica_create(f.la, sow_model_layout(f.model), SOW_FP16, &base));
    CHECK_OK(sow_replica_make(base, f.theta, NULL));
    CHECK_OK(sow_evaluator_weights(f.evaluator, 1, f.theta, f.noise));
    for (int64_t i = 0; i < ROWS; i++) {
        sow_tally plain;
        rows[i] = 3 * i;
        CHECK_OK(sow_evaluator_run(f.evaluator, f.job, &rows[i], 1, NULL, NULL, &plain));
        double k3 = k3_of(&f, rows[i], base);
        assert_true(k3 > -1e-6);
        sum += k3;
        want += llrint(((double)plain.reward / 0x1p32 - beta * k3) * 0x1p32);
    }
    sow_tally without, with, parts = {0};
    CHECK_OK(sow_evaluator_run(f.evaluator, f.job, rows, ROWS, NULL, NULL, &without));
    CHECK_OK(sow_evaluator_run_member(f.evaluator, f.job, rows, ROWS, beta, &with));
    assert_true(sum > 1e-3);                        /* this member does differ */
    assert_true(llabs(with.reward - want) <= ROWS); /* the reward that is told here is rounded itself */
    CHECK_NEAR(with.kl, sum, 1e-12);
    assert_int_equal(with.correct, without.correct);
    assert_int_equal(with.new_tokens, without.new_tokens);
    for (int64_t i = 0; i < ROWS; i += 2) { /* slices add up to the bit */
        sow_tally part;
        CHECK_OK(sow_evaluator_run_member(f.evaluator, f.job, rows + i, i + 2 < ROWS ? 2 : ROWS - i, beta, &part));
        sow_tally_add(&parts, &part);
    }
    assert_int_equal(parts.reward, with.reward);
    CHECK_OK(sow_evaluator_run_member(f.evaluator, f.job, rows, ROWS, 0, &with));
    assert_true(with.reward == without.reward && with.kl == 0);
    sow_replica_destroy(&base);
    end(&f);
}

static void test_base_itself_pays_nothing(void **state)
{
    (void)state;
    fixture f;
    const int64_t rows[ROWS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    sow_tally without, with;
    begin(&f);
    CHECK_OK(sow_evaluator_weights(f.evaluator, 1, f.theta, NULL));
    CHECK_OK(sow_evaluator_run(f.evaluator, f.job, rows, ROWS, NULL, NULL, &without));
    CHECK_OK(sow_evaluator_run_member(f.evaluator, f.job, rows, ROWS, 1000, &with));
    assert_true(with.kl == 0 && with.reward == without.reward);
    end(&f);
}

static void test_reward_that_a_penalty_makes_too_large_is_refused(void **state)
{
    (void)state;
    fixture f;
    const int64_t rows[ROWS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    sow_tally tally;
    begin(&f);
    f.noise[0].factor = 1; /* the embedding drowns */
    CHECK_OK(sow_evaluator_weights(f.evaluator, 1, f.theta, f.noise));
    CHECK_FAILS(sow_evaluator_run_member(f.evaluator, f.job, rows, ROWS, 1e9, &tally), SOW_ENUM, "the reward -");
    end(&f);
}

/* Row r of the mix is row r / 3 of job r % 3. */
static void test_mix_gives_the_rows_of_its_jobs(void **state)
{
    (void)state;
    static const char *const names[N_MIXED] = {"calc", "rev", "count"};
    const int64_t rows[ROWS] = {0, 1, 2, 7, 5, 300, 301, 302, 17};
    fixture f;
    int jobs[N_MIXED], mix = 0;
    sow_tally sum = {0}, mixed;
    begin(&f);
    for (int i = 0; i < N_MIXED; i++)
        CHECK_OK(sow_evaluator_add(f.evaluator, open_task(names[i]), 0, &jobs[i]));
    CHECK_OK(sow_evaluator_mix(f.evaluator, jobs[0], N_MIXED, &mix));
    CHECK_OK(sow_evaluator_weights(f.evaluator, 1, f.theta, f.noise));
    for (int64_t i = 0; i < ROWS; i++) {
        int64_t own = rows[i] / N_MIXED, job = jobs[rows[i] % N_MIXED], n = 0, n_mix = 0;
        sow_tally one;
        CHECK_OK(sow_evaluator_run(f.evaluator, (int)job, &own, 1, NULL, NULL, &one));
        sow_tally_add(&sum, &one);
        CHECK_OK(sow_evaluator_prompt_tokens(f.evaluator, (int)job, own, &n));
        CHECK_OK(sow_evaluator_prompt_tokens(f.evaluator, mix, rows[i], &n_mix));
        assert_int_equal(n, n_mix);
    }
    CHECK_OK(sow_evaluator_run(f.evaluator, mix, rows, ROWS, NULL, NULL, &mixed));
    assert_true(sum.correct > 0 && sum.correct < ROWS);
    assert_true(mixed.reward == sum.reward && mixed.correct == sum.correct && mixed.new_tokens == sum.new_tokens);
    assert_true(mixed.prompt_tokens == sum.prompt_tokens && mixed.rows == ROWS);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_member_with_kl_beta_loses_exactly_beta_times_k3),
        cmocka_unit_test(test_base_itself_pays_nothing),
        cmocka_unit_test(test_reward_that_a_penalty_makes_too_large_is_refused),
        cmocka_unit_test(test_mix_gives_the_rows_of_its_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
