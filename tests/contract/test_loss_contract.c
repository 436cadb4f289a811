// NEEDS: train base
/* SPDX-License-Identifier: Apache-2.0 */
/* What every loss of losses.def must keep: the sum of its weights over a mini-batch is the one its doc says, and the
 * gradient is that of the loss, by differences, away from clips and on both sides of them. */
#include "check.h"

#include "sower/loss.h"

enum { N_SEQUENCES = 5, LONGEST = 9, MAX_COMPLETION = 16 };
static const int64_t lengths[N_SEQUENCES] = {1, 9, 4, 7, 4};
static const double advantages[N_SEQUENCES] = {1.5, -0.75, 0.25, 0.0, -2.0};
static const sow_loss_counts counts = {.sequences = N_SEQUENCES, .tokens = 25, .max_completion = MAX_COMPLETION};

/* By name: the sum of the weights of all tokens. */
static const struct {
    const char *name;
    double sum;
} sums[] = {{"grpo", 1}, {"dapo", 1}, {"dr_grpo", 25.0 / (N_SEQUENCES * MAX_COMPLETION)}, {"bnpo", 1}};

static void test_table_when_walked_then_names_are_found(void **state)
{
    (void)state;
    assert_true(sow_loss_count() >= 4);
    for (int64_t i = 0; i < sow_loss_count(); i++) {
        const sow_loss *loss = sow_loss_at(i);
        assert_true(loss->name[0] != '\0' && loss->doc[0] != '\0');
        assert_ptr_equal(sow_loss_find(loss->name), loss); /* also: no two of one name */
    }
    assert_null(sow_loss_find("gspo"));
    assert_null(sow_loss_find(""));
}

static double sum_of(const sow_loss *loss)
{
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        if (strcmp(sums[i].name, loss->name) == 0)
            return sums[i].sum;
    fail_msg("%s has no row in this test: say what its weights sum to", loss->name);
    return 0;
}

static void test_weights_when_summed_over_a_batch_then_what_the_doc_says(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_loss_count(); i++) {
        double sum = 0;
        for (int64_t s = 0; s < N_SEQUENCES; s++) {
            const double weight = sow_loss_at(i)->weight(&counts, lengths[s]);
            assert_true(weight > 0);
            sum += weight * (double)lengths[s];
        }
        CHECK_NEAR(sum, sum_of(sow_loss_at(i)), 1e-15);
    }
}

/* Log-probabilities and their distances to the old and the base model's: ratios from 0.45 to 2.2, k3 likewise, all
 * multiples of 2^-8 and none at a border. */
static float logprob[LONGEST], old[LONGEST], reference[LONGEST], entropy[LONGEST];

static void make_tokens(int64_t sequence)
{
    for (int64_t t = 0; t < LONGEST; t++) {
        const int64_t mix = sequence * LONGEST + t;
        logprob[t] = -0.25f * (float)(mix * 7 % 23) - 0.125f;
        old[t] = logprob[t] - (float)(mix * 89 % 407 - 203) / 256;
        reference[t] = logprob[t] - (float)(mix * 131 % 511 - 255) / 256;
        entropy[t] = (float)(mix * 5 % 13) / 8;
    }
}

static const sow_policy policy = {.clip_low = 0.2, .clip_high = 0.28, .dual_clip = 1.7, .kl = 0.04, .entropy = 0.02};

static sow_policy_sums weigh(const sow_loss *loss, int64_t sequence, float *dlogprob, float *dentropy)
{
    sow_policy_sums out;
    sow_policy_weigh(&(sow_policy_args){.policy = &policy,
                                        .n = lengths[sequence],
                                        .weight = loss->weight(&counts, lengths[sequence]),
                                        .advantage = advantages[sequence],
                                        .logprob = logprob,
                                        .old = old,
                                        .reference = reference,
                                        .entropy = entropy},
                     dlogprob, dentropy, &out);
    return out;
}

/* Central difference of the loss with respect to *x; the error of the step is about step^2. */
static double difference(const sow_loss *loss, int64_t sequence, float *x)
{
    float out[LONGEST], unused[LONGEST];
    const float at = *x, step = 0x1p-11f;
    *x = at + step;
    const double above = weigh(loss, sequence, out, unused).loss;
    *x = at - step;
    const double below = weigh(loss, sequence, out, unused).loss;
    *x = at;
    return (above - below) / (2 * (double)step);
}

static void test_gradient_when_compared_with_differences_then_near(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_loss_count(); i++) {
        const sow_loss *loss = sow_loss_at(i);
        int64_t n_clipped = 0;
        for (int64_t s = 0; s < N_SEQUENCES; s++) {
            float dlogprob[LONGEST], dentropy[LONGEST];
            make_tokens(s);
            const sow_policy_sums got = weigh(loss, s, dlogprob, dentropy);
            const double scale = loss->weight(&counts, lengths[s]);
            n_clipped += got.clipped_low + got.clipped_high + got.clipped_dual;
            for (int64_t t = 0; t < lengths[s]; t++) {
                CHECK_NEAR((double)dlogprob[t], difference(loss, s, &logprob[t]), 1e-6 * scale);
                CHECK_NEAR((double)dentropy[t], difference(loss, s, &entropy[t]), 1e-6 * scale);
            }
        }
        assert_true(n_clipped > 3 && n_clipped < counts.tokens);
    }
}

/* A sequence's loss does not depend on which call carries it: two halves of a sequence sum to the whole. */
static void test_sums_when_a_sequence_is_cut_then_add_up(void **state)
{
    (void)state;
    enum { CUT = 4 };
    float whole[LONGEST], parts[LONGEST], unused[LONGEST];
    sow_policy_sums a, b;
    make_tokens(1);
    const sow_policy_sums all = weigh(sow_loss_at(0), 1, whole, unused);
    sow_policy_args args = {.policy = &policy,
                            .n = CUT,
                            .weight = sow_loss_at(0)->weight(&counts, LONGEST),
                            .advantage = advantages[1],
                            .logprob = logprob,
                            .old = old,
                            .reference = reference,
                            .entropy = entropy};
    sow_policy_weigh(&args, parts, NULL, &a);
    args.n = LONGEST - CUT;
    args.logprob += CUT;
    args.old += CUT;
    args.reference += CUT;
    args.entropy += CUT;
    sow_policy_weigh(&args, parts + CUT, NULL, &b);
    assert_memory_equal(whole, parts, sizeof whole);
    CHECK_NEAR(a.loss + b.loss, all.loss, 1e-15);
    CHECK_NEAR(a.kl + b.kl, all.kl, 1e-14);
    CHECK_NEAR(a.entropy + b.entropy, all.entropy, 1e-14);
    CHECK_NEAR(a.ratio + b.ratio, all.ratio, 1e-14);
    assert_true(a.clipped_low + b.clipped_low == all.clipped_low &&
                a.clipped_dual + b.clipped_dual == all.clipped_dual);
    assert_true(fmin(a.ratio_min, b.ratio_min) == all.ratio_min && fmax(a.ratio_max, b.ratio_max) == all.ratio_max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_when_walked_then_names_are_found),
        cmocka_unit_test(test_weights_when_summed_over_a_batch_then_what_the_doc_says),
        cmocka_unit_test(test_gradient_when_compared_with_differences_then_near),
        cmocka_unit_test(test_sums_when_a_sequence_is_cut_then_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
