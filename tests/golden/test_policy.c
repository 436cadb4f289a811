// NEEDS: train base
/* SPDX-License-Identifier: Apache-2.0 */
/* Policy losses, their gradients and advantages against TRL's and verl's own functions in float64 (policy.json, made by
 * make_policy.py), and losses of the shared tinystories reference. */
#include "check.h"

#include "sower/json.h"
#include "sower/loss.h"
#include "sower/words.h"

enum { MAX_SEQUENCES = 16, MAX_TOKENS = 64 };

typedef struct rows {
    int64_t n, length[MAX_SEQUENCES];
    double value[MAX_SEQUENCES][MAX_TOKENS];
} rows;

static double real_of(const sow_json *object, const char *key)
{
    double value = 0;
    if (!sow_json_to_real(sow_json_get(object, key), &value))
        fail_msg("no number %s in the reference", key);
    return value;
}

static void read_row(const sow_json *node, int64_t *n, double *out)
{
    *n = sow_json_size(node);
    assert_true(*n <= MAX_TOKENS);
    for (int64_t i = 0; i < *n; i++)
        assert_true(sow_json_to_real(sow_json_at(node, i), &out[i]));
}

static rows read_rows(const sow_json *node)
{
    rows out = {.n = sow_json_size(node)};
    assert_true(out.n > 0 && out.n <= MAX_SEQUENCES);
    for (int64_t i = 0; i < out.n; i++)
        read_row(sow_json_at(node, i), &out.length[i], out.value[i]);
    return out;
}

static void narrow(const rows *from, int64_t row, float *out)
{
    for (int64_t i = 0; i < from->length[row]; i++)
        out[i] = (float)from->value[row][i];
}

typedef struct recorded {
    rows logprob, old, reference, entropy;
    double advantage[MAX_SEQUENCES];
    sow_loss_counts counts;
    const sow_loss *loss;
    sow_policy policy;
} recorded;

static void count(recorded *r, int64_t max_completion)
{
    r->counts = (sow_loss_counts){.max_completion = max_completion};
    for (int64_t i = 0; i < r->logprob.n; i++) {
        r->counts.tokens += r->logprob.length[i];
        r->counts.sequences += r->logprob.length[i] > 0;
    }
}

/* The loss of one sequence of it. */
static sow_policy_sums weigh(const recorded *r, int64_t row, float *dlogprob, float *dentropy)
{
    float logprob[MAX_TOKENS], old[MAX_TOKENS], reference[MAX_TOKENS], entropy[MAX_TOKENS];
    sow_policy_sums sums = {0};
    narrow(&r->logprob, row, logprob);
    narrow(&r->old, row, old);
    narrow(&r->reference, row, reference);
    narrow(&r->entropy, row, entropy);
    const int64_t n = r->logprob.length[row];
    sow_policy_weigh(&(sow_policy_args){.policy = &r->policy,
                                        .n = n,
                                        .weight = r->loss->weight(&r->counts, n),
                                        .advantage = r->advantage[row],
                                        .logprob = logprob,
                                        .old = old,
                                        .reference = reference,
                                        .entropy = r->entropy.n > 0 ? entropy : NULL},
                     dlogprob, dentropy, &sums);
    return sums;
}

static void check_gradient(const float *got, const rows *want, int64_t row, double tolerance)
{
    for (int64_t i = 0; i < want->length[row]; i++) {
        const double w = want->value[row][i];
        CHECK_NEAR((double)got[i], w, tolerance * fabs(w) + 1e-15);
    }
}

static void check_case(const sow_json *reference, const sow_json *node)
{
    const sow_json *batch = sow_json_at(sow_json_get(reference, "batches"), (int64_t)real_of(node, "batch"));
    const char *loss = sow_json_to_string(sow_json_get(node, "loss"), NULL);
    const char *advantages = sow_json_to_string(sow_json_get(node, "advantages"), NULL);
    const double tolerance = real_of(reference, "tolerance");
    recorded r = {.logprob = read_rows(sow_json_get(batch, "logprob")),
                  .old = read_rows(sow_json_get(batch, "old")),
                  .reference = read_rows(sow_json_get(batch, "reference")),
                  .entropy = read_rows(sow_json_get(batch, "entropy")),
                  .loss = sow_loss_find(loss),
                  .policy = {.clip_low = real_of(reference, "clip_low"),
                             .clip_high = real_of(reference, "clip_high"),
                             .dual_clip = real_of(node, "dual_clip"),
                             .kl = real_of(node, "kl"),
                             .entropy = real_of(node, "entropy")}};
    int64_t n = 0;
    read_row(sow_json_get(sow_json_get(reference, "advantages"), advantages), &n, r.advantage);
    assert_true(n == r.logprob.n && r.loss != NULL);
    count(&r, (int64_t)real_of(reference, "max_completion"));
    const rows by_logprob = read_rows(sow_json_get(node, "dlogprob"));
    const rows by_entropy = read_rows(sow_json_get(node, "dentropy"));
    double value = 0;
    for (int64_t row = 0; row < n; row++) {
        float dlogprob[MAX_TOKENS], dentropy[MAX_TOKENS];
        if (r.logprob.length[row] == 0) /* without any unmasked token */
            continue;
        value += weigh(&r, row, dlogprob, dentropy).loss;
        check_gradient(dlogprob, &by_logprob, row, tolerance);
        check_gradient(dentropy, &by_entropy, row, tolerance);
    }
    CHECK_NEAR(value, real_of(node, "value"), tolerance * fabs(real_of(node, "value")));
}

static sow_json *load(const char *path)
{
    sow_json *json = NULL;
    CHECK_OK(sow_json_load(path, &json));
    return json;
}

static void test_losses_when_recorded_then_those_of_trl_and_verl(void **state)
{
    (void)state;
    sow_json *reference = load(SOW_SOURCE_DIR "/tests/golden/policy.json");
    const sow_json *cases = sow_json_get(reference, "cases");
    assert_true(sow_json_size(cases) >= 14);
    for (int64_t i = 0; i < sow_json_size(cases); i++)
        check_case(reference, sow_json_at(cases, i));
    sow_json_destroy(&reference);
}

/* Every clip of either side, dual, clamps and ties at ratio 1 are in the recorded batches. */
static void test_recorded_batches_when_counted_then_hold_every_clip(void **state)
{
    (void)state;
    sow_json *reference = load(SOW_SOURCE_DIR "/tests/golden/policy.json");
    int64_t low = 0, high = 0, dual = 0, ones = 0;
    for (int64_t b = 0; b < 2; b++) {
        const sow_json *batch = sow_json_at(sow_json_get(reference, "batches"), b);
        recorded r = {.logprob = read_rows(sow_json_get(batch, "logprob")),
                      .old = read_rows(sow_json_get(batch, "old")),
                      .loss = sow_loss_find("dapo"),
                      .policy = {.clip_low = 0.2, .clip_high = 0.28, .dual_clip = 3}};
        r.reference = r.logprob;
        int64_t n = 0;
        read_row(sow_json_get(sow_json_get(reference, "advantages"), "verl"), &n, r.advantage);
        count(&r, MAX_TOKENS);
        for (int64_t row = 0; row < n; row++) {
            float dlogprob[MAX_TOKENS];
            if (r.logprob.length[row] == 0)
                continue;
            const sow_policy_sums sums = weigh(&r, row, dlogprob, NULL);
            low += sums.clipped_low;
            high += sums.clipped_high;
            dual += sums.clipped_dual;
            ones += sums.ratio_min == 1 && sums.ratio_max == 1;
        }
    }
    assert_true(low > 0 && high > 0 && dual > 0 && ones >= 4);
    sow_json_destroy(&reference);
}

typedef struct advantage_case {
    const char *name;
    sow_advantage_scale scale;
    double eps, tolerance; /* TRL's n / (n - 1) is a float32 */
} advantage_case;

static void test_advantages_when_recorded_then_those_of_trl_and_verl(void **state)
{
    (void)state;
    static const advantage_case cases[] = {
        {"verl", SOW_ADVANTAGE_GROUP, 1e-6, 1e-12},     {"verl_no_std", SOW_ADVANTAGE_NONE, 1e-6, 1e-12},
        {"trl_group", SOW_ADVANTAGE_GROUP, 1e-4, 1e-7}, {"trl_batch", SOW_ADVANTAGE_BATCH, 1e-4, 1e-7},
        {"trl_none", SOW_ADVANTAGE_NONE, 1e-4, 1e-12},
    };
    sow_json *reference = load(SOW_SOURCE_DIR "/tests/golden/policy.json");
    const int64_t group_size = (int64_t)real_of(reference, "group_size");
    double rewards[MAX_TOKENS], want[MAX_TOKENS], got[MAX_TOKENS];
    int64_t n = 0, n_want = 0;
    read_row(sow_json_get(reference, "rewards"), &n, rewards);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        read_row(sow_json_get(sow_json_get(reference, "advantages"), cases[c].name), &n_want, want);
        assert_true(n == n_want && n % group_size == 0);
        sow_advantages(rewards, n / group_size, group_size, 1, cases[c].scale, cases[c].eps, got);
        for (int64_t i = 0; i < n; i++)
            CHECK_NEAR(got[i], want[i], cases[c].tolerance);
    }
    sow_json_destroy(&reference);
}

/* Loss values of another reference, from whole models; its log-probabilities are not exact in float32, and a
 * log-probability of 20 has an error of 1e-6 there. */
static void test_losses_when_shared_reference_then_equal(void **state)
{
    (void)state;
    const char *path = check_shared("golden/tinystories_grad_shared.json");
    if (path == NULL)
        skip();
    sow_json *reference = load(path);
    const sow_json *policies = sow_json_get(reference, "policy");
    assert_true(sow_json_size(policies) > 0);
    for (int64_t i = 0; i < sow_json_size(policies); i++) {
        const sow_json *node = sow_json_at(policies, i);
        recorded r = {.logprob = read_rows(sow_json_get(node, "logp")),
                      .old = read_rows(sow_json_get(node, "old_logp")),
                      .reference = read_rows(sow_json_get(node, "ref_logp")),
                      .loss = sow_loss_find(sow_json_to_string(sow_json_get(node, "loss_type"), NULL)),
                      .policy = {.clip_low = real_of(node, "clip_low"),
                                 .clip_high = real_of(node, "clip_high"),
                                 .kl = real_of(node, "beta")}};
        int64_t n = 0;
        double value = 0, lengths[MAX_TOKENS];
        read_row(sow_json_get(node, "advantages"), &n, r.advantage);
        read_row(sow_json_get(node, "completion_lens"), &n, lengths);
        for (int64_t row = 0; row < n; row++)
            r.logprob.length[row] = (int64_t)lengths[row];
        count(&r, (int64_t)real_of(node, "max_completion"));
        for (int64_t row = 0; row < n; row++) {
            float dlogprob[MAX_TOKENS];
            value += weigh(&r, row, dlogprob, NULL).loss;
        }
        CHECK_NEAR(value, real_of(node, "loss"), 1e-6 * fabs(real_of(node, "loss")) + 1e-6);
    }
    sow_json_destroy(&reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses_when_recorded_then_those_of_trl_and_verl),
        cmocka_unit_test(test_recorded_batches_when_counted_then_hold_every_clip),
        cmocka_unit_test(test_advantages_when_recorded_then_those_of_trl_and_verl),
        cmocka_unit_test(test_losses_when_shared_reference_then_equal),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
