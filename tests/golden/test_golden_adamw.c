// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of AdamW against torch's (tests/golden/make_adamw.py), element by element.
 *
 * Both compute in float32 and differ in where they round (torch multiplies by 1 - beta2 before squaring, not after, and
 * may fuse): a few roundings of 6e-8 a step, of values that decay with the moments.  2e-7 is allowed: of the gradient's
 * scale for m, of a hundredth of its square for v (which sums thousandths), and of theta or the step for theta, where
 * that is two units in the last place at most. */
#include "kernel_check.h"

#include "sower/json.h"

#define GOLDEN SOW_SOURCE_DIR "/tests/golden/adamw.json"

enum { N = 48 };
static const double tolerance = 2e-7;

static double number(const sow_json *node, const char *key)
{
    double value = 0;
    assert_true(sow_json_to_real(sow_json_get(node, key), &value));
    return value;
}

static void read_floats(const sow_json *node, const char *key, float out[N])
{
    const sow_json *list = sow_json_get(node, key);
    assert_int_equal(sow_json_size(list), N);
    for (int64_t i = 0; i < N; i++) {
        double value = 0;
        assert_true(sow_json_to_real(sow_json_at(list, i), &value));
        out[i] = (float)value; /* exact: a float32 was written */
    }
}

static void check_near(const char *what, const float got[N], const float want[N], const double unit[N])
{
    for (int i = 0; i < N; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * unit[i]))
            fail_msg("%s[%d] is %.9g, torch has %.9g", what, i, (double)got[i], (double)want[i]);
}

static void check_steps(const sow_kernels *k, const sow_json *golden, float clip)
{
    const sow_json *steps = sow_json_get(golden, "steps");
    const double lr = number(golden, "lr"), beta1 = number(golden, "beta1"), beta2 = number(golden, "beta2");
    float gradient[N], scale[N], state[2][3][N] = {{{0}}}, want[3][N];
    double unit[3][N];
    read_floats(golden, "theta", state[0][0]);
    read_floats(golden, "scale", scale);
    assert_int_equal(sow_json_size(steps), 7);
    for (int t = 1; t <= 7; t++) {
        float(*from)[N] = state[(t - 1) % 2], (*to)[N] = state[t % 2];
        const sow_json *step = sow_json_at(steps, t - 1);
        read_floats(step, "gradient", gradient);
        read_floats(step, "theta", want[0]);
        read_floats(step, "m", want[1]);
        read_floats(step, "v", want[2]);
        for (int i = 0; i < N; i++) {
            gradient[i] /= clip;
            unit[0][i] = fmax(fabs((double)want[0][i]), lr);
            unit[1][i] = (double)scale[i];
            unit[2][i] = 0.01 * (double)scale[i] * (double)scale[i];
        }
        k->adamw(&(sow_adamw_args){.n = N,
                                   .clip = clip,
                                   .keep = (float)(1.0 - lr * number(golden, "weight_decay")),
                                   .one_minus_beta1 = (float)(1.0 - beta1),
                                   .beta2 = (float)beta2,
                                   .one_minus_beta2 = (float)(1.0 - beta2),
                                   .eps = (float)number(golden, "eps"),
                                   .step_size = (float)(lr / (1.0 - pow(beta1, t))),
                                   .root_correction = (float)sqrt(1.0 - pow(beta2, t)),
                                   .gradient = gradient,
                                   .theta = from[0],
                                   .m = from[1],
                                   .v = from[2],
                                   .theta_out = to[0],
                                   .m_out = to[1],
                                   .v_out = to[2]});
        check_near("theta", to[0], want[0], unit[0]);
        check_near("m", to[1], want[1], unit[1]);
        check_near("v", to[2], want[2], unit[2]);
    }
}

/* With the gradient as it is, and four times as large and clipped back. */
static void test_adamw_in_seven_steps_follows_torch(void **state)
{
    (void)state;
    sow_json *golden = NULL;
    CHECK_OK(sow_json_load(GOLDEN, &golden));
    EACH_KERNELS(k)
    {
        check_steps(k, golden, 1.0f);
        check_steps(k, golden, 0.25f);
    }
    sow_json_destroy(&golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw_in_seven_steps_follows_torch),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
