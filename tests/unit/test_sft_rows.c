// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* Which rows sft trains on: mixes that are none, how often a portion is drawn, and every row once an epoch. */
#include "../../src/train/sft_impl.h"
#include "check.h"

#include "sower/train.h"

static sow_code check_mix(const char *mix)
{
    sow_conf *conf = NULL;
    char assignment[1024];
    (void)snprintf(assignment, sizeof assignment, "sft.mix=%s", mix);
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_set(conf, "method=sft"));
    CHECK_OK(sow_conf_set(conf, "task.name=calc"));
    CHECK_OK(sow_conf_set(conf, assignment));
    CHECK_OK(sow_conf_finish(conf, NULL));
    sow_code rc = sow_train_check_names(conf);
    sow_conf_destroy(&conf);
    return rc;
}

static void test_mix_is_taken_as_it_stands(void **state)
{
    (void)state;
    sow_mix mix;
    assert_true(sow_mix_parse("calc=1.5, countdown/short=2 ,rev=1e-3", &mix));
    assert_int_equal(mix.n, 3);
    assert_string_equal(mix.portions[0].task, "calc");
    assert_string_equal(mix.portions[0].form, "");
    assert_true(mix.portions[0].weight == 1.5);
    assert_string_equal(mix.portions[1].task, "countdown");
    assert_string_equal(mix.portions[1].form, "short");
    assert_true(mix.portions[1].weight == 2);
    assert_true(mix.portions[2].weight == 1e-3);
    assert_true(sow_mix_parse(" calc = 1 ,  countdown / short =  2", &mix));
    assert_int_equal(mix.n, 2);
    assert_string_equal(mix.portions[0].task, "calc");
    assert_true(mix.portions[0].weight == 1);
    assert_string_equal(mix.portions[1].task, "countdown");
    assert_string_equal(mix.portions[1].form, "short");
    assert_true(mix.portions[1].weight == 2);
    CHECK_OK(check_mix(" calc = 1 "));
    assert_true(sow_mix_parse("", &mix));
    assert_int_equal(mix.n, 0);
    CHECK_OK(check_mix(""));
    CHECK_OK(check_mix("calc=1, countdown/paper=0.25"));
}

static void test_bad_mix_is_one_line_that_names_the_key(void **state)
{
    (void)state;
    char many[1024] = "calc=1";
    const char *const bad[] = {
        "calc",       "calc=",        "calc= ",     "=1",       "calc=0",  "calc=-1",       "calc=nan",     "calc=inf",
        "calc=1e999", "calc=one",     "calc=1 2",   "calc=1,",  ",calc=1", "calc=1,,rev=1", "calc=1;rev=1", "clac=1",
        "jsonl=1",    "calc/long=1",  "calc/=1x",   "/short=1", " ",       "calc=1/short",  "calc=1, rev",  "calc==1",
        "gsm8k=1",    "calc/paper=1", "mc/short=1", "ca lc=1",  "calc =",  " / =1",         many,
    };
    for (int n = 1; n <= SOW_MAX_MIX; n++) { /* ends with one too many */
        CHECK_OK(check_mix(many));
        (void)snprintf(many + strlen(many), sizeof many - strlen(many), ",rev=1");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (check_mix(bad[i]) != SOW_ECONF)
            fail_msg("'%s' is taken for a mix", bad[i]);
        if (strstr(sow_error_text(), "sft.mix") == NULL || strchr(sow_error_text(), '\n') != NULL)
            fail_msg("'%s': says '%s'", bad[i], sow_error_text());
    }
}

static void test_portions_are_drawn_by_their_weights(void **state)
{
    (void)state;
    enum { STEPS = 100, BATCH = 100 };
    sow_mix mix;
    int64_t n[3] = {0}, row = 0, again = 0;
    assert_true(sow_mix_parse("calc=1, rev=2, sort=5", &mix));
    sow_mix_cut(&mix);
    for (int64_t step = 1; step <= STEPS; step++)
        for (int64_t i = 0; i < BATCH; i++) {
            int64_t k = sow_mix_draw(&mix, 7, step, i, &row);
            n[k]++;
            assert_int_equal(sow_mix_draw(&mix, 7, step, i, &again), k);
            assert_int_equal(row, again);
        }
    /* Five standard deviations of a binomial of 10,000. */
    for (int k = 0; k < 3; k++) {
        double p = mix.portions[k].weight / 8, all = STEPS * BATCH;
        CHECK_NEAR((double)n[k], all * p, 5 * sqrt(all * p * (1 - p)));
    }
}

/* Batches of 3 over 10 rows cross the ends of epochs. */
static void test_each_row_comes_once_an_epoch_in_another_order(void **state)
{
    (void)state;
    enum { ROWS = 10, EPOCHS = 4 };
    sow_epochs epochs = {0}, other = {0};
    int64_t order[EPOCHS][ROWS], row = 0;
    for (int64_t at = 0; at < EPOCHS * ROWS; at++)
        CHECK_OK(sow_epochs_row(&epochs, 7, ROWS, at, &order[at / ROWS][at % ROWS]));
    for (int e = 0; e < EPOCHS; e++) {
        int seen[ROWS] = {0};
        for (int i = 0; i < ROWS; i++) {
            assert_in_range(order[e][i], 0, ROWS - 1);
            seen[order[e][i]]++;
        }
        for (int i = 0; i < ROWS; i++)
            assert_int_equal(seen[i], 1);
        for (int before = 0; before < e; before++)
            assert_memory_not_equal(order[before], order[e], sizeof order[e]);
    }
    /* A run that goes on begins in the middle, and may look back; another seed has another order. */
    CHECK_OK(sow_epochs_row(&other, 7, ROWS, 25, &row));
    assert_int_equal(row, order[2][5]);
    CHECK_OK(sow_epochs_row(&other, 7, ROWS, 3, &row));
    assert_int_equal(row, order[0][3]);
    int n_same = 0;
    sow_epochs_fini(&other);
    other = (sow_epochs){0};
    for (int64_t at = 0; at < ROWS; at++) {
        CHECK_OK(sow_epochs_row(&other, 8, ROWS, at, &row));
        n_same += row == order[0][at];
    }
    assert_true(n_same < ROWS);
    sow_epochs_fini(&other);
    sow_epochs_fini(&epochs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mix_is_taken_as_it_stands),
        cmocka_unit_test(test_bad_mix_is_one_line_that_names_the_key),
        cmocka_unit_test(test_portions_are_drawn_by_their_weights),
        cmocka_unit_test(test_each_row_comes_once_an_epoch_in_another_order),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
