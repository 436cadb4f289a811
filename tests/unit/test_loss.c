// NEEDS: train base
/* SPDX-License-Identifier: Apache-2.0 */
/* The policy term at its borders, advantages, and schedules, by known answers. */
#include "check.h"

#include "sower/loss.h"

/* ---- policy: one token ---- */

typedef struct token {
    double advantage;
    float logprob, old, reference;
} token;

static sow_policy_sums one(sow_policy policy, token t, double *slope)
{
    float out = -1;
    sow_policy_sums sums;
    sow_policy_weigh(&(sow_policy_args){.policy = &policy,
                                        .n = 1,
                                        .weight = 1,
                                        .advantage = t.advantage,
                                        .logprob = &t.logprob,
                                        .old = &t.old,
                                        .reference = &t.reference},
                     &out, NULL, &sums);
    *slope = (double)out;
    return sums;
}

static const sow_policy usual = {.clip_low = 0.2, .clip_high = 0.2, .dual_clip = 3};

static void test_gradient_at_ratio_one_is_that_of_the_unclipped_branch(void **state)
{
    (void)state;
    static const double clips[] = {0.2, 0}; /* 0: the border itself */
    for (size_t c = 0; c < 2; c++)
        for (double a = -2.5; a < 3; a += 5) {
            double slope = 0;
            sow_policy policy = {.clip_low = clips[c], .clip_high = clips[c], .dual_clip = 3};
            const sow_policy_sums sums = one(policy, (token){a, -1.3f, -1.3f, 0}, &slope);
            assert_true(slope == -a && sums.loss == -a && sums.ratio == 1);
            assert_true(sums.clipped_low == 0 && sums.clipped_high == 0 && sums.clipped_dual == 0);
        }
}

static void test_clip_acts_on_one_side_of_each_sign(void **state)
{
    (void)state;
    double slope = -1;
    sow_policy_sums s = one(usual, (token){2, -1, -1.5f, 0}, &slope); /* r = 1.65, A > 0 */
    assert_true(slope == 0 && s.clipped_high == 1);
    CHECK_NEAR(s.loss, -2.4, 1e-14);
    s = one(usual, (token){-2, -1, -0.5f, 0}, &slope); /* r = 0.61, A < 0 */
    assert_true(slope == 0 && s.clipped_low == 1);
    CHECK_NEAR(s.loss, 1.6, 1e-14);
    s = one(usual, (token){2, -1, -0.5f, 0}, &slope); /* r = 0.61, A > 0: free */
    CHECK_NEAR(slope, -2 * exp(-0.5), 1e-7);
    s = one(usual, (token){-2, -1, -1.5f, 0}, &slope); /* r = 1.65, A < 0: free */
    CHECK_NEAR(slope, 2 * exp(0.5), 1e-6);
    s = one(usual, (token){-2, -1, -2.5f, 0}, &slope); /* r = 4.5, A < 0: dual */
    assert_true(slope == 0 && s.clipped_dual == 1);
    CHECK_NEAR(s.loss, 6, 1e-14);
    s = one((sow_policy){.clip_low = 0.2, .clip_high = 0.2}, (token){-2, -1, -2.5f, 0}, &slope); /* no dual clip */
    CHECK_NEAR(slope, 2 * exp(1.5), 1e-5);
    assert_true(s.clipped_dual == 0);
}

static void test_clamps_bound_the_value_and_end_the_gradient(void **state)
{
    (void)state;
    double slope = -1;
    const sow_policy open = {.clip_low = 1, .clip_high = 1e3, .kl = 1};
    sow_policy_sums s = one(open, (token){-1, -1, -31, -1}, &slope); /* log r = 30 */
    assert_true(slope == 0);
    CHECK_NEAR(s.loss / exp(20), 1, 1e-14);
    s = one(open, (token){-1, -1, -21, -1}, &slope); /* log r = 20, the border */
    CHECK_NEAR(slope / exp(20), 1, 1e-7);
    s = one(open, (token){1, -31, -1, -31}, &slope); /* log r = -30 */
    assert_true(slope == 0 && s.ratio > 0);
    s = one(open, (token){0, -4, -4, -1.5f}, &slope); /* k = 2.5: 8.68 */
    CHECK_NEAR(s.kl, exp(2.5) - 3.5, 1e-14);
    CHECK_NEAR(slope, 1 - exp(2.5), 1e-6);
    s = one(open, (token){0, -4, -4, -1}, &slope); /* k = 3: 16.1 */
    assert_true(slope == 0 && s.kl == 10 && s.loss == 10);
    s = one(open, (token){0, -0.5f, -0.5f, -12}, &slope); /* k = -11.5: 10.5 */
    assert_true(slope == 0 && s.kl == 10);
    s = one(open, (token){0, -0.5f, -0.5f, -(float)INFINITY}, &slope);
    assert_true(slope == 0 && s.kl == 10);
}

static void test_no_number_in_gives_no_number_out(void **state)
{
    (void)state;
    double slope = 0;
    const sow_policy_sums s = one(usual, (token){1, (float)NAN, -1, -1}, &slope);
    assert_true(isnan(slope) && isnan(s.loss));
}

static void test_missing_reference_and_entropy_count_nothing(void **state)
{
    (void)state;
    const sow_policy policy = {.clip_low = 0.2, .clip_high = 0.2, .kl = 5, .entropy = 5};
    const float logprob[2] = {-1, -2};
    float out[2], by_entropy[2];
    sow_policy_sums s;
    sow_policy_weigh(
        &(sow_policy_args){
            .policy = &policy, .n = 2, .weight = 0.25, .advantage = 1, .logprob = logprob, .old = logprob},
        out, by_entropy, &s);
    assert_true(s.loss == -0.5 && s.kl == 0 && s.entropy == 0 && s.ratio == 2);
    assert_true(out[0] == -0.25f && out[1] == -0.25f && by_entropy[0] == -1.25f && by_entropy[1] == -1.25f);
}

/* ---- advantages ---- */

static void test_equal_rewards_have_no_advantage_whatever_the_scale(void **state)
{
    (void)state;
    enum { SIZE = 30 };
    double rewards[2 * SIZE], out[2 * SIZE];
    for (int i = 0; i < SIZE; i++) {
        rewards[i] = 0.1; /* 30 of them have a rounded mean that differs from it */
        rewards[SIZE + i] = i % 3;
    }
    for (int scale = 0; scale <= SOW_ADVANTAGE_NONE; scale++)
        for (int ddof = 0; ddof <= 1; ddof++) {
            sow_advantages(rewards, 2, SIZE, ddof, (sow_advantage_scale)scale, 0, out);
            for (int i = 0; i < SIZE; i++)
                assert_true(out[i] == 0 && isfinite(out[SIZE + i]));
            assert_true(out[SIZE] < 0 && fabs(out[SIZE + 1]) < 1e-15 && out[SIZE + 2] > 0);
        }
    sow_advantages(rewards, 1, SIZE, 1, SOW_ADVANTAGE_BATCH, 0, out); /* the whole batch is equal */
    for (int i = 0; i < SIZE; i++)
        assert_true(out[i] == 0);
}

static void test_advantages_by_scale_and_ddof(void **state)
{
    (void)state;
    const double rewards[4] = {1, 3, 0, 10}; /* means 2 and 5, all: 3.5; squares: 2, 50, all 61 */
    double out[4];
    sow_advantages(rewards, 2, 2, 0, SOW_ADVANTAGE_GROUP, 0.5, out);
    CHECK_NEAR(out[0], -1 / 1.5, 1e-15);
    CHECK_NEAR(out[3], 5 / 5.5, 1e-15);
    sow_advantages(rewards, 2, 2, 1, SOW_ADVANTAGE_GROUP, 0.5, out);
    CHECK_NEAR(out[1], 1 / (sqrt(2.0) + 0.5), 1e-15);
    sow_advantages(rewards, 2, 2, 0, SOW_ADVANTAGE_BATCH, 0.5, out);
    CHECK_NEAR(out[2], -5 / (sqrt(61.0 / 4) + 0.5), 1e-15);
    sow_advantages(rewards, 2, 2, 1, SOW_ADVANTAGE_BATCH, 0.5, out);
    CHECK_NEAR(out[2], -5 / (sqrt(61.0 / 3) + 0.5), 1e-15);
    sow_advantages(rewards, 2, 2, 1, SOW_ADVANTAGE_NONE, 0.5, out);
    assert_true(out[0] == -1 && out[1] == 1 && out[2] == -5 && out[3] == 5);
    sow_advantages(rewards, 4, 1, 1, SOW_ADVANTAGE_GROUP, 0.5, out);
    assert_true(out[0] == 0 && out[3] == 0);
}

/* ---- schedules ---- */

static void test_schedule_falls_to_its_smallest_factor(void **state)
{
    (void)state;
    for (int64_t t = 1; t <= 100; t++) {
        const double rise = t < 8 ? (double)t / 8 : 1, done = (double)t / 100;
        assert_true(sow_schedule_factor(SOW_SCHEDULE_CONSTANT, t, 100, 8, 0.05) == rise);
        CHECK_NEAR(sow_schedule_factor(SOW_SCHEDULE_LINEAR, t, 100, 8, 0.05), rise * (1 - 0.95 * done), 1e-15);
        CHECK_NEAR(sow_schedule_factor(SOW_SCHEDULE_COSINE, t, 100, 8, 0.05),
                   rise * (0.05 + 0.95 * (1 + cos(3.14159265358979 * done)) / 2), 1e-14);
    }
    for (int64_t t = 100; t < 103; t++) {
        CHECK_NEAR(sow_schedule_factor(SOW_SCHEDULE_LINEAR, t, 100, 0, 0.05), 0.05, 0);
        CHECK_NEAR(sow_schedule_factor(SOW_SCHEDULE_COSINE, t, 100, 0, 0.05), 0.05, 0);
        assert_true(sow_schedule_factor(SOW_SCHEDULE_CONSTANT, t, 100, 0, 0.05) == 1);
    }
    assert_true(sow_schedule_factor(SOW_SCHEDULE_COSINE, 1, 0, 0, 0.5) == 0.5); /* a run of no steps */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient_at_ratio_one_is_that_of_the_unclipped_branch),
        cmocka_unit_test(test_clip_acts_on_one_side_of_each_sign),
        cmocka_unit_test(test_clamps_bound_the_value_and_end_the_gradient),
        cmocka_unit_test(test_no_number_in_gives_no_number_out),
        cmocka_unit_test(test_missing_reference_and_entropy_count_nothing),
        cmocka_unit_test(test_equal_rewards_have_no_advantage_whatever_the_scale),
        cmocka_unit_test(test_advantages_by_scale_and_ddof),
        cmocka_unit_test(test_schedule_falls_to_its_smallest_factor),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
