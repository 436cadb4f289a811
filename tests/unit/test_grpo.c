// NEEDS: train conf
/* SPDX-License-Identifier: Apache-2.0 */
/* What rewards make of samples, by known answers; and that a policy which is not the one that sampled is noticed. */
#include "../../src/train/grpo_impl.h"
#include "check.h"

#include "sower/model.h"

/* ---- advantages, samples with a loss, weights of tokens ---- */

enum { PROMPTS = 3, SIZE = 4, ALL = PROMPTS * SIZE, LONGEST = 20 };

/* Means 0, 0.5 and 0; sums of squares around them 4, 0 and 8. */
static const double rewards[ALL] = {1, -1, -1, 1, 5e-1, 5e-1, 5e-1, 5e-1, 2, -2, 0, 0};

static void make_samples(grpo_sample samples[ALL])
{
    for (int i = 0; i < ALL; i++)
        samples[i] = (grpo_sample){.head = {.n = i + 1, .is_truncated = i == 1 || i == 6 || i == 8}, .advantage = NAN};
}

static void weigh(const char *scale, int64_t ddof, double eps, bool is_dropping, bool is_masking,
                  grpo_sample samples[ALL])
{
    double advantages[ALL];
    sow_options *o = NULL;
    CHECK_OK(SOW_ALLOC(&o, 1));
    o->grpo.group_size = SIZE;
    o->grpo.advantage_ddof = ddof;
    o->grpo.advantage_eps = eps;
    o->grpo.drop_zero_std = is_dropping;
    o->grpo.mask_truncated = is_masking;
    (void)snprintf(o->grpo.advantage_scale, sizeof o->grpo.advantage_scale, "%s", scale);
    make_samples(samples);
    sow_grpo_weigh(o, rewards, PROMPTS, advantages, samples);
    for (int i = 0; i < ALL; i++)
        assert_true(samples[i].advantage == advantages[i]);
    SOW_FREE(&o);
}

/* The advantages of groups 0 and 2 are their rewards over these; of group 1 they are 0. */
static void check_divisors(const grpo_sample samples[ALL], double first, double last)
{
    for (int i = 0; i < ALL; i++) {
        double want = i < SIZE ? rewards[i] / first : i < 2 * SIZE ? 0 : rewards[i] / last;
        CHECK_NEAR(samples[i].advantage, want, 1e-12);
    }
}

static void test_weigh_when_scaled_then_by_that_deviation(void **state)
{
    (void)state;
    grpo_sample samples[ALL];
    weigh("group", 0, 0.5, false, false, samples);
    check_divisors(samples, 1 + 0.5, sqrt(2) + 0.5);
    weigh("group", 1, 0.5, false, false, samples);
    check_divisors(samples, sqrt(4.0 / 3) + 0.5, sqrt(8.0 / 3) + 0.5);
    weigh("none", 1, 0.5, false, false, samples);
    check_divisors(samples, 1, 1);
    /* Sum 2, squares 13: the mean is 1 / 6, the squares around it are 13 - 12 / 36 = 38 / 3. */
    weigh("batch", 0, 0.25, false, false, samples);
    check_divisors(samples, sqrt(38.0 / 3 / 12) + 0.25, sqrt(38.0 / 3 / 12) + 0.25);
    weigh("batch", 1, 0.25, false, false, samples);
    check_divisors(samples, sqrt(38.0 / 3 / 11) + 0.25, sqrt(38.0 / 3 / 11) + 0.25);
}

/* A bit of each sample that has a loss, the first one lowest. */
static unsigned with_loss(const grpo_sample samples[ALL])
{
    unsigned bits = 0;
    for (int i = 0; i < ALL; i++)
        bits |= samples[i].has_loss ? 1u << i : 0;
    return bits;
}

static void test_weigh_when_samples_are_left_out_then_not_counted(void **state)
{
    (void)state;
    grpo_sample samples[ALL];
    weigh("group", 1, 1e-6, false, false, samples);
    assert_int_equal(with_loss(samples), 0xfff);
    weigh("group", 1, 1e-6, true, false, samples);
    assert_int_equal(with_loss(samples), 0xf0f);
    weigh("group", 1, 1e-6, false, true, samples);
    assert_int_equal(with_loss(samples), 0xfff & ~(1u << 1 | 1u << 6 | 1u << 8));
    weigh("group", 1, 1e-6, true, true, samples);
    assert_int_equal(with_loss(samples), 0xf0f & ~(1u << 1 | 1u << 8));
    /* The first two groups: of lengths 1, 3, 4.  The last: 10, 11, 12. */
    sow_loss_counts counts = sow_grpo_count(samples, 2 * SIZE, LONGEST);
    assert_true(counts.sequences == 3 && counts.tokens == 8 && counts.max_completion == LONGEST);
    CHECK_NEAR(sow_loss_find("grpo")->weight(&counts, 4), 1.0 / 12, 1e-15);
    CHECK_NEAR(sow_loss_find("dapo")->weight(&counts, 4), 1.0 / 8, 1e-15);
    CHECK_NEAR(sow_loss_find("bnpo")->weight(&counts, 4), 1.0 / 8, 1e-15);
    CHECK_NEAR(sow_loss_find("dr_grpo")->weight(&counts, 4), 1.0 / 60, 1e-15);
    counts = sow_grpo_count(samples + 2 * SIZE, SIZE, LONGEST);
    assert_true(counts.sequences == 3 && counts.tokens == 33);
    counts = sow_grpo_count(samples + SIZE, SIZE, LONGEST);
    assert_true(counts.sequences == 0 && counts.tokens == 0);
}

/* ---- the importance ratio of the policy that sampled ---- */

/* One process with the shipped model. */
static void open_run(sow_run *run, sow_model **model, const char *temperature)
{
    const char *const sets[] = {"method=grpo",      "model.path=" SOW_SOURCE_DIR "/models/sprout",
                                "run.threads=1",    "task.name=countdown",
                                "task.form=short",  "grpo.group_size=3",
                                "grpo.minibatch=1", "grpo.prompts_per_step=2",
                                "grpo.kl=0.01",     "generate.max_new_tokens=6",
                                "run.eval_rows=0",  "es.update_block=16384",
                                temperature};
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
        CHECK_OK(sow_conf_set(conf, sets[i]));
    CHECK_OK(sow_conf_finish(conf, NULL));
    *run = (sow_run){0};
    CHECK_OK(SOW_ALLOC(&run->options, 1));
    *run->options = *sow_conf_options(conf);
    CHECK_OK(sow_run_read(run, conf, model));
    CHECK_OK(sow_run_share(run, *model));
    CHECK_OK(sow_run_load(run, *model));
    CHECK_OK(sow_run_prepare(run));
    sow_conf_destroy(&conf);
}

/* A gradient unit's parcel from that of a unit of rollouts of one prompt.  The old log-probability of token `token` of
 * sample `changed` (-1: of none) is another by its last bit. */
static void make_parcel(const sow_run *run, int changed, int token, sow_parcel *out)
{
    sow_reader reader = {.at = run->sgd->grpo->out.text, .end = run->sgd->grpo->out.text + run->sgd->grpo->out.bytes};
    group_head group = {.row = run->rows[0], .n_samples = 3};
    CHECK_OK(sow_bytes_put(&out->data, &group, sizeof group));
    for (int j = 0; j < 3; j++) {
        rollout_head told;
        char block[3 * 6 * sizeof(float)]; /* ids, old, reference */
        assert_true(sow_reader_get(&reader, &told, sizeof told));
        assert_true(told.n >= 1 && told.n <= 6);
        assert_true(sow_reader_get(&reader, block, 3 * (size_t)told.n * sizeof(float)));
        if (j == changed)
            block[(size_t)(told.n + token) * sizeof(float)] ^= 1;
        sample_head head = {.n = told.n, .weight = 0.1, .advantage = j - 1};
        CHECK_OK(sow_bytes_put(&out->data, &head, sizeof head));
        CHECK_OK(sow_bytes_put(&out->data, block, 3 * (size_t)told.n * sizeof(float)));
    }
}

static void check_gradient(sow_run *run, int group, int changed, const char *words)
{
    sow_parcel parcel = {0};
    sow_result result;
    bool has = false;
    const sow_unit unit = {.round = 2 + group + changed, .group = group, .job = JOB_GRADIENT, .count = 1};
    make_parcel(run, changed, 0, &parcel);
    CHECK_OK(sow_sgd_weights(run, 0, true, &has));
    assert_true(has);
    if (words != NULL) {
        CHECK_FAILS(sow_grpo_gradient(run, &unit, &parcel, &result), SOW_EBITS, words);
    } else {
        CHECK_OK(sow_grpo_gradient(run, &unit, &parcel, &result));
        assert_int_equal(result.right, 3);
    }
    sow_words_fini(&parcel.data);
}

static void test_gradient_when_the_policy_is_not_the_one_that_sampled_then_told(void **state)
{
    (void)state;
    static const char *const temperatures[] = {"grpo.temperature=1", "grpo.temperature=0.8"};
    for (size_t i = 0; i < 2; i++) {
        sow_run run;
        sow_model *model = NULL;
        sow_result result;
        bool has = false;
        const sow_unit unit = {.round = 1, .job = JOB_ROLLOUT, .count = 1};
        open_run(&run, &model, temperatures[i]);
        CHECK_OK(sow_sgd_weights(&run, 0, true, &has));
        CHECK_OK(sow_grpo_rollout(&run, &unit, &result));
        check_gradient(&run, 0, -1, NULL);
        assert_true(run.sgd->stats.ratio_min == 1 && run.sgd->stats.ratio_max == 1);
        check_gradient(&run, 0, 0, "prompt 0, sample 0, token 0: the policy that sampled gives log-probability");
        check_gradient(&run, 0, 2, "the importance ratio is not 1");
        check_gradient(&run, 1, 2, NULL); /* not the step's first update: the policy has moved */
        assert_true(run.sgd->stats.ratio_min != 1 || run.sgd->stats.ratio_max != 1);
        sow_model_close(&model);
        sow_run_fini(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weigh_when_scaled_then_by_that_deviation),
        cmocka_unit_test(test_weigh_when_samples_are_left_out_then_not_counted),
        cmocka_unit_test(test_gradient_when_the_policy_is_not_the_one_that_sampled_then_told),
    };
    return cmocka_run_group_tests_name("grpo", tests, NULL, check_live_zero);
}
