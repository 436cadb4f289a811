// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* Rows of a generation: the target's, and those of tasks that are to be kept. */
#include "../../src/train/train_impl.h"
#include "task_options.h"

#include "sower/model.h"

enum { BATCH = 64 };

/* A rank that knows its options and tasks and no more. */
typedef struct fixture {
    sow_run run;
    sow_model *model;
} fixture;

static sow_code begin(fixture *f, double retention, const char *tasks, int64_t rows)
{
    size_t bytes = 0;
    sow_conf *conf = NULL;
    sow_task *task = NULL;
    sow_task_options target = task_options("countdown");
    memset(f, 0, sizeof *f);
    sow_run *run = &f->run;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(SOW_ALLOC(&run->options, 1));
    *run->options = *sow_conf_options(conf);
    sow_conf_destroy(&conf);
    task_set(target.form, "short");
    target.rows = rows;
    run->options->task = target;
    run->options->es.batch = BATCH;
    run->options->es.retention = retention;
    task_set(run->options->es.retention_tasks, tasks);
    run->plan.seed = 3;
    run->options->run.seed = 3;
    run->method = sow_method_find("es");
    run->rows_generation = -1;
    CHECK_OK(sow_la_create("exact", "auto", 1, &run->la));
    CHECK_OK(sow_model_open(SOW_SOURCE_DIR "/models/sprout", &f->model));
    const char *json = sow_model_tokenizer_json(f->model, &bytes);
    CHECK_OK(sow_evaluator_create(&(sow_evaluator_args){.la = run->la,
                                                        .layout = sow_model_layout(f->model),
                                                        .tokenizer_json = json,
                                                        .tokenizer_bytes = bytes,
                                                        .batch = 4},
                                  &run->evaluator));
    CHECK_OK(sow_task_open(&target, &task));
    CHECK_OK(sow_run_add_job(run, task, 0, &run->train_job));
    return sow_retention_open(run);
}

static void end(fixture *f)
{
    sow_run_fini(&f->run);
    sow_model_close(&f->model);
}

static void check_distinct(const int64_t *rows, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            assert_true(rows[i] != rows[j]);
}

static void test_draw_with_retention_shares_the_batch_and_its_tasks_take_turns(void **state)
{
    (void)state;
    fixture f;
    CHECK_OK(begin(&f, 0.25, "calc, rev,count", 1000000));
    int64_t before[BATCH] = {0}, n_of[3] = {0};
    for (int64_t generation = 1; generation <= 3; generation++) {
        CHECK_OK(sow_run_draw(&f.run, generation));
        assert_int_equal(f.run.n_rows, 48);
        assert_int_equal(f.run.n_retention_rows, 16);
        check_distinct(f.run.rows, 48);
        check_distinct(f.run.rows + 48, 16);
        assert_memory_not_equal(before, f.run.rows, 48 * sizeof *before);
        assert_memory_not_equal(before + 48, f.run.rows + 48, 16 * sizeof *before);
        memcpy(before, f.run.rows, sizeof before);
        memset(n_of, 0, sizeof n_of);
        for (int64_t i = 48; i < BATCH; i++)
            n_of[f.run.rows[i] % 3]++;
        assert_true(n_of[0] == 6 && n_of[1] == 5 && n_of[2] == 5);
    }
    CHECK_OK(sow_run_draw(&f.run, 4));
    CHECK_OK(sow_run_draw(&f.run, 3)); /* anyone can draw any generation */
    assert_memory_equal(before, f.run.rows, sizeof before);
    end(&f);
}

/* Generated training rows: none of those that probes ask. */
static void test_retention_rows_are_not_held_out(void **state)
{
    (void)state;
    fixture f;
    CHECK_OK(begin(&f, 0.5, "eval", 1000000));
    CHECK_OK(sow_run_draw(&f.run, 1));
    sow_task *task = sow_evaluator_task(f.run.evaluator, f.run.retention_job - 1);
    assert_string_equal(sow_task_kind_of(task)->name, "eval");
    assert_string_equal(sow_task_options_of(task)->split, "train");
    for (int64_t i = f.run.n_rows; i < BATCH; i++) {
        int64_t n = 0;
        CHECK_OK(sow_evaluator_prompt_tokens(f.run.evaluator, f.run.retention_job, f.run.rows[i], &n));
        assert_true(n > (int64_t)strlen("eval "));
    }
    end(&f);
}

/* The target's rows are a prefix of those without retention: the same place of random numbers. */
static void test_draw_without_retention_is_all_of_the_target(void **state)
{
    (void)state;
    fixture f;
    CHECK_OK(begin(&f, 0, "calc", 1000000));
    CHECK_OK(sow_run_draw(&f.run, 1));
    assert_true(f.run.n_rows == BATCH && f.run.n_retention_rows == 0 && f.run.retention_job == -1);
    check_distinct(f.run.rows, BATCH);
    end(&f);
    CHECK_OK(begin(&f, 0, "calc", BATCH)); /* all rows, in order */
    CHECK_OK(sow_run_draw(&f.run, 1));
    for (int64_t i = 0; i < BATCH; i++)
        assert_int_equal(f.run.rows[i], i);
    end(&f);
    CHECK_OK(begin(&f, 0.25, "calc", BATCH)); /* no longer all */
    CHECK_OK(sow_run_draw(&f.run, 1));
    assert_int_equal(f.run.n_rows, 48);
    check_distinct(f.run.rows, 48);
    end(&f);
}

static void test_share_without_a_row_is_refused(void **state)
{
    (void)state;
    static const double shares[] = {0.001, 0.999};
    for (int i = 0; i < 2; i++) {
        fixture f;
        CHECK_FAILS(begin(&f, shares[i], "calc", 1000000), SOW_ECONF, "expected at least one row");
        end(&f);
    }
}

static void test_check_of_names_says_which_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *tasks, *text;
    } cases[] = {{"calc,rev,sort,eval,count", NULL},
                 {" calc ,", NULL},
                 {"calc,revv", "revv is not (did you mean rev?)"},
                 {"mc", "mc is not"},
                 {"jsonl", "jsonl is not"},
                 {" , ", "expected 1 to"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char assignment[SOW_TEXT];
        sow_conf *conf = NULL;
        CHECK_OK(sow_conf_create(&conf));
        (void)snprintf(assignment, sizeof assignment, "es.retention_tasks=%s", cases[i].tasks);
        CHECK_OK(sow_conf_set(conf, assignment));
        /* Nobody uses them: there may be none, but their names are checked. */
        if (cases[i].text == NULL || strncmp(cases[i].text, "expected", 8) == 0)
            CHECK_OK(sow_retention_check(conf));
        else
            CHECK_FAILS(sow_retention_check(conf), SOW_ECONF, cases[i].text);
        CHECK_OK(sow_conf_set(conf, "es.retention=0.5"));
        if (cases[i].text == NULL)
            CHECK_OK(sow_retention_check(conf));
        else
            CHECK_FAILS(sow_retention_check(conf), SOW_ECONF, cases[i].text);
        sow_conf_destroy(&conf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draw_with_retention_shares_the_batch_and_its_tasks_take_turns),
        cmocka_unit_test(test_retention_rows_are_not_held_out),
        cmocka_unit_test(test_draw_without_retention_is_all_of_the_target),
        cmocka_unit_test(test_share_without_a_row_is_refused),
        cmocka_unit_test(test_check_of_names_says_which_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
