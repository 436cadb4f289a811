// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* A unit takes no memory after the first of its kind that was as large: a whole rank without a world answers units of
 * every kind that its method knows (members, evaluations, likelihoods, rollouts, gradients) and makes optimizer steps,
 * under other weights, of other rows and in other slices.
 *
 * Counted is what goes through sow_alloc, regular expressions' memory (pcre2) among it; not counted are OpenMP's teams,
 * messages between ranks, and what root alone does between steps (lines of JSON, checkpoints). */
#include "../../src/train/grpo_impl.h"
#include "check.h"

enum { ROWS = 12 };

/* One rank, which is root. */
typedef struct rank {
    sow_run run;
    sow_model *model;
    sow_bytes parcel;
    int32_t round;
    int64_t taken; /* blocks when counting began */
} rank;

static const char *const usual = "model: {path: " SOW_SOURCE_DIR "/models/sprout}\n"
                                 "run: {seed: 3, steps: 2, eval_rows: 12, threads: 2}\n"
                                 "generate: {batch: 4}\n"
                                 "es: {population: 6, sigma: 0.02, batch: 12, kl_beta: 0.1, retention: 0.5}\n"
                                 "grpo: {group_size: 3, prompts_per_step: 12, minibatch: 6, kl: 0.01}\n"
                                 "sft: {batch: 12}\n"
                                 "train: {row_tokens: 200}\n"
                                 "task: {name: countdown, form: short, rows: 12}\n"
                                 "probes:\n"
                                 "  - {task: calc, rows: 12}\n"
                                 "  - {task: mc, rows: 12}\n"
                                 "  - {task: conciseness, rows: 12}\n"
                                 "  - {task: sort, rows: 12}\n";

/* `usual` with a method and one more setting. */
static void begin(rank *r, const char *method, const char *setting)
{
    char text[64];
    sow_conf *conf = NULL;
    memset(r, 0, sizeof *r);
    (void)snprintf(text, sizeof text, "method=%s", method);
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_parse(conf, usual, strlen(usual), "usual"));
    CHECK_OK(sow_conf_set(conf, text));
    CHECK_OK(sow_conf_set(conf, setting));
    CHECK_OK(sow_conf_finish(conf, NULL));
    CHECK_OK(SOW_ALLOC(&r->run.options, 1));
    *r->run.options = *sow_conf_options(conf);
    CHECK_OK(sow_run_read(&r->run, conf, &r->model));
    CHECK_OK(sow_run_share(&r->run, r->model));
    CHECK_OK(sow_run_load(&r->run, r->model));
    CHECK_OK(sow_run_prepare(&r->run));
    sow_conf_destroy(&conf);
}

static void end(rank *r)
{
    sow_words_fini(&r->parcel);
    sow_run_fini(&r->run);
    sow_model_close(&r->model);
}

static void answer(rank *r, int round, int group, int job, int first, int count)
{
    const sow_unit unit = {.round = round, .group = group, .job = job, .first = first, .count = count};
    sow_result result;
    bool is_stale = true;
    CHECK_OK(sow_run_unit(&r->run, &unit, &result, &is_stale));
    assert_false(is_stale);
}

/* All rows of a job, or the same in three slices. */
static void answer_all(rank *r, int round, int group, int job, int rows, bool is_sliced)
{
    if (!is_sliced)
        answer(r, round, group, job, 0, rows);
    for (int i = 0; is_sliced && i < 3; i++)
        answer(r, round, group, job, rows * i / 3, rows * (i + 1) / 3 - rows * i / 3);
}

/* What measures a run: held-out rows, probes, and how likely their right answers are. */
static void evaluate(rank *r, int round, int group, bool is_sliced)
{
    const sow_run *run = &r->run;
    answer_all(r, round, group, run->held_out_job, ROWS, is_sliced);
    answer_all(r, round, group, run->held_out_job | SOW_JOB_LIKELIHOOD, ROWS, is_sliced);
    for (int64_t i = 0; i < run->options->n_probes; i++) {
        answer_all(r, round, group, run->probe_jobs[i], ROWS, is_sliced);
        answer_all(r, round, group, run->probe_jobs[i] | SOW_JOB_LIKELIHOOD, ROWS, is_sliced);
    }
}

static void test_units_of_es_after_the_first_take_no_memory(void **state)
{
    (void)state;
    rank r;
    begin(&r, "es", "es.mirrored=true");
    for (int pass = 0; pass < 3; pass++) {
        for (int member = 0; member < 3; member++) {
            answer_all(&r, 2, member, r.run.train_job, ROWS / 2, pass > 0);
            answer_all(&r, 2, member, r.run.retention_job, ROWS / 2, pass > 0);
        }
        evaluate(&r, 1, -1, pass > 0);
        r.taken = pass == 0 ? sow_alloc_taken() : r.taken;
    }
    assert_int_equal(sow_alloc_taken(), r.taken);
    end(&r);
}

/* Groups for a gradient from the rollouts just made, as root would weigh them. */
static void make_parcel(rank *r, const sow_unit *unit)
{
    const sow_grpo *g = r->run.sgd->grpo;
    sow_reader reader = {.at = g->out.text, .end = g->out.text + g->out.bytes};
    const int64_t size = r->run.options->grpo.group_size;
    sow_words_clear(&r->parcel);
    for (int32_t i = 0; i < unit->count; i++) {
        const group_head group = {.row = r->run.rows[unit->first + i], .n_samples = size};
        CHECK_OK(sow_bytes_put(&r->parcel, &group, sizeof group));
        for (int64_t k = 0; k < size; k++) {
            rollout_head from;
            assert_true(sow_reader_get(&reader, &from, sizeof from));
            const sample_head to = {.n = from.n, .weight = 0.01, .advantage = (double)(k - 1)};
            const size_t bytes = 3 * (size_t)from.n * sizeof(float);
            CHECK_OK(sow_bytes_put(&r->parcel, &to, sizeof to));
            CHECK_OK(sow_bytes_put(&r->parcel, reader.at, bytes));
            assert_true(sow_reader_get(&reader, NULL, bytes));
        }
    }
}

/* Rollouts of some prompts and their gradient. */
static void learn_from(rank *r, int index, int first, int count)
{
    const sow_unit unit = {.first = first, .count = count};
    answer(r, ++r->round, index, JOB_ROLLOUT, first, count);
    make_parcel(r, &unit);
    CHECK_OK(sow_parcels_put(&r->run.sgd->grpo->parcels, ++r->round, 0, r->parcel.text, r->parcel.bytes));
    answer(r, r->round, index, JOB_GRADIENT, first, count);
}

/* theta[index + 1] from this rank's sums. */
static void update(rank *r, int index)
{
    const sow_run *run = &r->run;
    reduce_message reduce = {.key = r->round};
    const apply_message apply = {.t = index + 1, .key = r->round, .is_leader = 1, .rate = 1e-4};
    sow_step step;
    sow_rank_set_add(&reduce.ranks, 0);
    sow_rank_set_add(&reduce.leaders, 0);
    CHECK_OK(sow_sgd_reduce(&r->run, &reduce));
    CHECK_OK(sow_sgd_reduce_complete(&r->run));
    CHECK_OK(sow_sgd_apply(&r->run, &apply, &step));
    CHECK_OK(sow_theta_complete(run->theta, &run->plan, &step));
}

/* Temperature 1 takes the sampler's log-probabilities; another makes a pass for them. */
static void check_grpo(const char *temperature)
{
    rank r;
    begin(&r, "grpo", temperature);
    for (int index = 0; index < 3; index++) {
        if (index == 0)
            learn_from(&r, index, 0, ROWS);
        for (int first = 0; index > 0 && first < ROWS; first += ROWS / 3)
            learn_from(&r, index, first, ROWS / 3);
        evaluate(&r, ++r.round, index, index > 0);
        update(&r, index);
        r.taken = index == 0 ? sow_alloc_taken() : r.taken;
    }
    assert_int_equal(sow_alloc_taken(), r.taken);
    end(&r);
}

static void test_units_of_grpo_after_the_first_take_no_memory(void **state)
{
    (void)state;
    check_grpo("grpo.temperature=1");
    check_grpo("grpo.temperature=0.8");
}

static void test_units_of_sft_after_the_first_take_no_memory(void **state)
{
    (void)state;
    static const char *const rows[] = {"sft.mix=lazy=2, calc=1", "sft.mix="}; /* drawn; or all in another order */
    for (int i = 0; i < 2; i++) {
        rank r;
        begin(&r, "sft", rows[i]);
        for (int index = 0; index < 3; index++) {
            answer_all(&r, ++r.round, index, JOB_GRADIENT, ROWS, index > 0);
            evaluate(&r, r.round, index, index > 0);
            update(&r, index);
            r.taken = index == 0 ? sow_alloc_taken() : r.taken;
        }
        assert_int_equal(sow_alloc_taken(), r.taken);
        end(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units_of_es_after_the_first_take_no_memory),
        cmocka_unit_test(test_units_of_grpo_after_the_first_take_no_memory),
        cmocka_unit_test(test_units_of_sft_after_the_first_take_no_memory),
    };
    return cmocka_run_group_tests_name("unit_memory", tests, NULL, check_live_zero);
}
