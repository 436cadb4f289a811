// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
#include "check.h"

#include "sower/model.h"
#include "sower/plan.h"

/* What the shape of Qwen2.5-1.5B needs under the paper's settings, by hand. */
static sow_model *model;
static const double weights = 1543714304;

static int open_model(void **state)
{
    (void)state;
    return sow_model_open_shape(SOW_SOURCE_DIR "/tests/fixtures/qwen2.5-1.5b", &model) == SOW_OK ? 0 : -1;
}

static int close_model(void **state)
{
    sow_model_close(&model);
    return check_live_zero(state);
}

/* Settings of the paper, changed by `set` (NULL: not), at so many ranks on nodes of 4. */
static sow_plan plan_of(const char *set, int64_t ranks)
{
    sow_conf *conf = NULL;
    sow_plan plan;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_load(conf, SOW_SOURCE_DIR "/conf/countdown-qwen2.5-1.5b-grpo.yaml"));
    if (set != NULL)
        CHECK_OK(sow_conf_set(conf, set));
    CHECK_OK(sow_conf_finish(conf, NULL));
    const sow_options *o = sow_conf_options(conf);
    sow_plan_make(&(sow_plan_args){.options = o,
                                   .layout = sow_model_layout(model),
                                   .type = SOW_FP16,
                                   .ranks = ranks,
                                   .ranks_per_node = ranks < 4 ? ranks : 4,
                                   .threads = 1,
                                   .rows = o->task.rows,
                                   .prompt_tokens = 150,
                                   .max_new = o->generate.max_new_tokens,
                                   .longest = 180 + o->generate.max_new_tokens,
                                   .longest_answered = 180 + o->generate.max_new_tokens},
                  &plan);
    sow_conf_destroy(&conf);
    return plan;
}

static void test_conf_of_the_paper_has_its_values(void **state)
{
    (void)state;
    sow_conf *conf = NULL;
    CHECK_OK(sow_conf_create(&conf));
    CHECK_OK(sow_conf_load(conf, SOW_SOURCE_DIR "/conf/countdown-qwen2.5-1.5b-grpo.yaml"));
    CHECK_OK(sow_conf_finish(conf, NULL));
    const sow_options *o = sow_conf_options(conf);
    const double want[] = {30, 200, 32, 1, 1e-6, 0.2, 0.2, 3, 0.001, 0, 1, 1e-6, 1, 0.9, 0.999, 1e-8, 0.01, 1};
    const double is[] = {(double)o->grpo.group_size,
                         (double)o->grpo.prompts_per_step,
                         (double)o->grpo.minibatch,
                         (double)o->grpo.epochs,
                         o->grpo.learning_rate,
                         o->grpo.clip_low,
                         o->grpo.clip_high,
                         o->grpo.dual_clip,
                         o->grpo.kl,
                         o->grpo.entropy,
                         (double)o->grpo.advantage_ddof,
                         o->grpo.advantage_eps,
                         o->grpo.temperature,
                         o->adamw.beta1,
                         o->adamw.beta2,
                         o->adamw.eps,
                         o->adamw.weight_decay,
                         o->adamw.clip_norm};
    assert_memory_equal(is, want, sizeof want);
    assert_string_equal(o->grpo.loss, "dapo");
    assert_string_equal(o->grpo.schedule, "constant");
    assert_string_equal(o->grpo.advantage_scale, "group");
    assert_false(o->grpo.drop_zero_std || o->grpo.mask_truncated);
    assert_int_equal(o->generate.max_new_tokens, 1024);
    assert_int_equal(o->task.rows, 200);
    assert_int_equal(o->run.steps, 500);
    sow_conf_destroy(&conf);
}

static void test_bytes_of_grpo_are_those_of_a_weight_times_weights(void **state)
{
    (void)state;
    const sow_plan p = plan_of(NULL, 16);
    assert_int_equal(sow_model_layout(model)->n_parameters, (int64_t)weights);
    CHECK_NEAR((double)p.theta_bytes / weights, 12, 0.01);
    CHECK_NEAR((double)p.moments_bytes / weights, 16, 0.01);
    CHECK_NEAR((double)p.gradient_bytes / weights, 4, 0.01);
    CHECK_NEAR((double)p.totals_bytes / weights, 8, 0.01);
    CHECK_NEAR((double)p.sums_bytes / weights, 8, 0.01);
    CHECK_NEAR((double)p.replica_bytes / weights, 2, 0.01);
    assert_int_equal(p.reference_bytes, p.replica_bytes);
    /* Transposed weights 2, the gradient of a unit 4, and activations below 4 GiB. */
    assert_true((double)p.backward_bytes > 5.5 * weights && (double)p.backward_bytes < 6 * weights + 0x1p32);
    /* 6,000 completions of 1,024 tokens: id, old and reference log-probability of each. */
    assert_int_equal(p.root_bytes, 6000 * 1024 * 12);
}

static void test_totals_are_the_sums_of_their_parts(void **state)
{
    (void)state;
    const sow_plan p = plan_of(NULL, 16);
    assert_int_equal(p.shared_bytes,
                     p.theta_bytes + p.moments_bytes + p.gradient_bytes + p.totals_bytes + p.code_bytes);
    assert_int_equal(p.rank_bytes, p.replica_bytes + p.reference_bytes + p.engine_bytes + p.sums_bytes +
                                       p.backward_bytes + p.samples_bytes + p.program_bytes);
    assert_int_equal(p.node_bytes, p.shared_bytes + 4 * p.rank_bytes + p.root_bytes + p.measure_bytes);
    assert_int_equal(p.nodes, 4);
}

static void test_one_node_has_no_totals_and_sends_nothing(void **state)
{
    (void)state;
    const sow_plan p = plan_of(NULL, 2);
    assert_int_equal(p.totals_bytes, 0);
    assert_true(p.allreduce_bytes == 0);
}

static void test_without_kl_there_is_no_second_replica(void **state)
{
    (void)state;
    const sow_plan with = plan_of(NULL, 1), without = plan_of("grpo.kl=0", 1);
    assert_int_equal(without.reference_bytes, 0);
    CHECK_NEAR(with.eval_flops / without.eval_flops, 2, 1e-9);
}

static void test_work_of_grpo_is_the_papers(void **state)
{
    (void)state;
    const sow_plan p = plan_of(NULL, 16);
    assert_int_equal(p.rows, 200);
    assert_int_equal(p.samples, 6000);
    assert_int_equal(p.updates, 7);
    assert_int_equal(p.tokens, 6000 * (150 + 1024));
    assert_int_equal(p.units, 101); /* of 5, 4, ... 1 prompts */
    assert_int_equal(p.gradient_units, 32);
    assert_int_equal(p.useful_ranks, 200);
    /* 6 d a token, 8 where activations are not kept, and attention besides; a prompt once a group. */
    double tokens = 200 * 150 + 6000.0 * 1024, per_token = p.gradient_flops / tokens / weights;
    assert_true(per_token > 6 && per_token < 8 * 1.15);
    assert_true(p.eval_flops / tokens / weights > 2 * 2 && p.eval_flops / tokens / weights < 2 * 2 * 1.15);
    /* A node of four sends 2 (4 - 1) / 4 of 8 bytes a weight in each of 7 steps. */
    CHECK_NEAR(p.allreduce_bytes / weights, 7 * 1.5 * 8, 0.1);
    CHECK_NEAR(plan_of("grpo.epochs=3", 16).gradient_flops / p.gradient_flops, 3, 1e-9);
}

static void test_recomputed_activations_cost_a_forward_pass(void **state)
{
    (void)state;
    const sow_plan kept = plan_of("train.recompute=none", 1), again = plan_of("train.recompute=layer", 1);
    CHECK_NEAR(again.gradient_flops / kept.gradient_flops, 4.0 / 3, 1e-9);
    assert_true(again.backward_bytes < kept.backward_bytes);
}

static void test_sft_has_one_gradient_and_generates_nothing(void **state)
{
    (void)state;
    const sow_plan p = plan_of("method=sft", 16);
    assert_int_equal(p.rows, 32);
    assert_int_equal(p.samples, 32);
    assert_int_equal(p.updates, 1);
    assert_int_equal(p.units, 0);
    assert_int_equal(p.reference_bytes, 0);
    assert_int_equal(p.root_bytes, 0);
    assert_true(p.eval_flops == 0 && p.gradient_flops > 0);
}

static void test_es_has_no_gradient(void **state)
{
    (void)state;
    const sow_plan p = plan_of("method=es", 16);
    assert_int_equal(p.moments_bytes + p.gradient_bytes + p.totals_bytes + p.sums_bytes + p.backward_bytes, 0);
    assert_int_equal(p.tokens, INT64_C(30) * 200 * (150 + 1024));
    assert_int_equal(p.reference_bytes, 0);
    CHECK_NEAR(p.update_elements / weights, 30, 1e-9);
}

static void test_check_names_what_is_needed_and_what_is_free(void **state)
{
    (void)state;
    sow_plan p = plan_of(NULL, 4);
    p.available_bytes = p.node_bytes;
    CHECK_OK(sow_plan_check(&p));
    p.available_bytes--;
    CHECK_FAILS(sow_plan_check(&p), SOW_ENOMEM, "GiB of memory free");
    CHECK_FAILS(sow_plan_check(&p), SOW_ENOMEM, "4 x ");
    p.available_bytes = 0; /* not known */
    CHECK_OK(sow_plan_check(&p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conf_of_the_paper_has_its_values),
        cmocka_unit_test(test_bytes_of_grpo_are_those_of_a_weight_times_weights),
        cmocka_unit_test(test_totals_are_the_sums_of_their_parts),
        cmocka_unit_test(test_one_node_has_no_totals_and_sends_nothing),
        cmocka_unit_test(test_without_kl_there_is_no_second_replica),
        cmocka_unit_test(test_work_of_grpo_is_the_papers),
        cmocka_unit_test(test_recomputed_activations_cost_a_forward_pass),
        cmocka_unit_test(test_sft_has_one_gradient_and_generates_nothing),
        cmocka_unit_test(test_es_has_no_gradient),
        cmocka_unit_test(test_check_names_what_is_needed_and_what_is_free),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
