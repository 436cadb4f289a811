// NEEDS: train
// SPDX-License-Identifier: Apache-2.0
/* The ES update on one process: against a few lines that know nothing of blocks, granules and threads, and its guards.
 * */
#include "check.h"

#include "sower/drift.h"
#include "sower/mask.h"
#include "sower/shaping.h"
#include "sower/theta.h"

enum { POPULATION = 6, GENERATION = 3 };

typedef struct fixture {
    sow_layout *layout;
    sow_la *la;
    sow_theta *theta;
    bool *is_selected;
    sow_noise_plan plan;
    float coefficients[POPULATION];
} fixture;

static void begin_with(fixture *f, const char *noise, int64_t block, int64_t threads)
{
    sow_shape shape = {.family = "llama",
                       .vocab_size = 300,
                       .hidden_size = 72,
                       .intermediate_size = 100,
                       .n_layers = 2,
                       .n_heads = 6,
                       .n_kv_heads = 2,
                       .head_dim = 12,
                       .max_positions = 64,
                       .rope_theta = 1e4,
                       .rms_norm_eps = 1e-5,
                       .rope_factor = 1,
                       .is_tied = true,
                       .has_qkv_bias = true,
                       .has_o_bias = true,
                       .bos = -1,
                       .pad = -1};
    memset(f, 0, sizeof *f);
    CHECK_OK(sow_layout_create(&shape, &f->layout));
    CHECK_OK(sow_la_create("exact", "auto", threads, &f->la));
    CHECK_OK(sow_theta_create(NULL, f->la, f->layout, block, &f->theta));
    CHECK_OK(SOW_ALLOC(&f->is_selected, f->layout->n_tensors));
    for (int64_t k = 0; k < f->layout->n_tensors; k++) {
        f->is_selected[k] = k != 3;
        float *base = sow_theta_base(f->theta) + f->layout->tensors[k].offset;
        for (int64_t i = 0; i < f->layout->tensors[k].rows * f->layout->tensors[k].cols; i++)
            base[i] = (float)((i * 37 + k * 11) % 101 - 50) * 0.003f;
    }
    f->plan = (sow_noise_plan){.noise = sow_noise_find(noise), .seed = 5, .sigma = 0.1, .is_selected = f->is_selected};
    for (int i = 0; i < POPULATION; i++)
        f->coefficients[i] = (float)(i - 2) * 0.013f;
    for (int g = GENERATION - 2; g < GENERATION; g++)
        memcpy(sow_theta_buffer(f->theta, g), sow_theta_base(f->theta), (size_t)f->layout->n_elements * sizeof(float));
    sow_theta_loaded(f->theta, GENERATION - 1);
}

static void end_with(fixture *f)
{
    SOW_FREE(&f->is_selected);
    sow_theta_destroy(&f->theta);
    sow_la_destroy(&f->la);
    sow_layout_destroy(&f->layout);
}

static sow_step step_of(const fixture *f, sow_anchor anchor)
{
    return (sow_step){.generation = GENERATION,
                      .population = POPULATION,
                      .coefficients = f->coefficients,
                      .anchor = anchor,
                      .decay = anchor == SOW_ANCHOR_NONE ? 0.0f : 0.01f};
}

static void update(fixture *f, const sow_step *step)
{
    CHECK_OK(sow_theta_update(f->theta, &f->plan, step, true));
    CHECK_OK(sow_theta_complete(f->theta, &f->plan, step));
}

/* theta' of one element, straight from the formula. */
static float expected(float theta, float base, const float *noises, const sow_step *step)
{
    float acc = 0;
    for (int i = 0; i < POPULATION; i++)
        acc = fmaf(step->coefficients[i], noises[i], acc);
    float delta = theta + acc - base;
    if (step->anchor == SOW_ANCHOR_L2)
        return base + (1.0f - step->decay) * delta;
    if (step->anchor == SOW_ANCHOR_L1)
        return base + copysignf(fmaxf(fabsf(delta) - step->decay, 0.0f), delta);
    return theta + acc;
}

/* Compares all weights of the step with the formula, noise taken tensor by tensor in one piece. */
static void compare(fixture *f, const sow_step *step)
{
    const float *base = sow_theta_base(f->theta), *was = sow_theta_buffer(f->theta, GENERATION - 1);
    const float *is = sow_theta_buffer(f->theta, GENERATION);
    const sow_kernels *kernels = sow_kernels_at(sow_kernels_count() - 1);
    for (int64_t k = 0; k < f->layout->n_tensors; k++) {
        const sow_tensor *tensor = &f->layout->tensors[k];
        int64_t n = tensor->rows * tensor->cols;
        float *noise = NULL;
        CHECK_OK(SOW_ALLOC(&noise, n * POPULATION));
        for (uint32_t i = 0; f->is_selected[k] && i < POPULATION; i++) {
            sow_member_noise whose = sow_noise_of_member(i, f->plan.is_mirrored);
            sow_place place = f->plan.noise->place(f->plan.seed, GENERATION, whose.member, (uint32_t)k);
            kernels->noise(f->plan.noise->loop, place, 0, n, noise + i * n);
            for (int64_t e = 0; e < n; e++)
                noise[i * n + e] *= whose.sign;
        }
        for (int64_t e = 0; e < n; e++) {
            float noises[POPULATION];
            for (int i = 0; i < POPULATION; i++)
                noises[i] = noise[i * n + e];
            float want = expected(was[tensor->offset + e], base[tensor->offset + e], noises, step);
            if (memcmp(&want, &is[tensor->offset + e], sizeof want) != 0)
                fail_msg("%s[%lld]: %a, expected %a", tensor->name, (long long)e, (double)is[tensor->offset + e],
                         (double)want);
        }
        SOW_FREE(&noise);
    }
}

static void test_update_equals_the_formula_for_every_noise_and_anchor(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_noise_count(); i++)
        for (int anchor = SOW_ANCHOR_NONE; anchor <= SOW_ANCHOR_L2; anchor++)
            for (int mirrored = 0; mirrored < 2; mirrored++) {
                fixture f;
                begin_with(&f, sow_noise_at(i)->name, SOW_GRANULE, 2);
                f.plan.is_mirrored = mirrored == 1;
                sow_step step = step_of(&f, (sow_anchor)anchor);
                update(&f, &step);
                compare(&f, &step);
                end_with(&f);
            }
}

static void test_digest_depends_on_neither_blocks_nor_threads(void **state)
{
    (void)state;
    sow_hash first = {0};
    const int64_t blocks[] = {SOW_GRANULE, 2 * SOW_GRANULE, 64 * SOW_GRANULE};
    for (int i = 0; i < 3; i++) {
        fixture f;
        begin_with(&f, "gaussian", blocks[i], i + 1);
        sow_step step = step_of(&f, SOW_ANCHOR_NONE);
        sow_hash before = sow_theta_digest(f.theta, GENERATION - 1);
        update(&f, &step);
        sow_hash digest = sow_theta_digest(f.theta, GENERATION);
        assert_false(sow_hash_equal(before, digest));
        first = i == 0 ? digest : first;
        assert_true(sow_hash_equal(first, digest));
        end_with(&f);
    }
}

static void test_delta2_is_the_distance_from_the_base(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f, "gaussian", SOW_GRANULE, 1);
    sow_step step = step_of(&f, SOW_ANCHOR_NONE);
    update(&f, &step);
    double sum = 0;
    for (int64_t i = 0; i < f.layout->n_elements; i++) {
        double delta = (double)sow_theta_buffer(f.theta, GENERATION)[i] - (double)sow_theta_base(f.theta)[i];
        sum += delta * delta;
    }
    assert_true(sum > 0);
    CHECK_NEAR(sow_theta_delta2(f.theta, GENERATION), sum, 1e-12 * sum);
    end_with(&f);
}

static void test_step_without_spread_leaves_theta(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f, "gaussian", SOW_GRANULE, 1);
    sow_step step = step_of(&f, SOW_ANCHOR_L2);
    step.coefficients = NULL;
    update(&f, &step);
    assert_memory_equal(sow_theta_buffer(f.theta, GENERATION), sow_theta_buffer(f.theta, GENERATION - 1),
                        (size_t)f.layout->n_elements * sizeof(float));
    end_with(&f);
}

static double n_selected(const fixture *f)
{
    double n = 0;
    for (int64_t k = 0; k < f->layout->n_tensors; k++)
        n += f->is_selected[k] ? (double)(f->layout->tensors[k].rows * f->layout->tensors[k].cols) : 0;
    return n;
}

/* T steps by random shaping from the base: the distance from it. */
static double walk(fixture *f, int64_t n_steps, double alpha)
{
    const double rewards[POPULATION] = {0};
    for (int64_t g = GENERATION; g < GENERATION + n_steps; g++) {
        bool has_spread = false;
        const sow_population population = {
            .fitness = rewards, .n = POPULATION, .seed = f->plan.seed, .generation = (uint32_t)g};
        CHECK_OK(
            sow_shaping_coefficients(sow_shaping_find("random"), alpha, &population, f->coefficients, &has_spread));
        sow_step step = step_of(f, SOW_ANCHOR_NONE);
        step.generation = g;
        update(f, &step);
    }
    return sqrt(sow_theta_delta2(f->theta, GENERATION + n_steps - 1));
}

static void test_random_shaping_walks_by_the_law(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_noise_count(); i++) {
        fixture f;
        if (strcmp(sow_noise_at(i)->name, "shared-seed") == 0)
            continue; /* the same noise in many tensors: the law holds in the mean only */
        begin_with(&f, sow_noise_at(i)->name, SOW_GRANULE, 2);
        double norm = walk(&f, 10, 0.02), law = sow_drift_law(0.02, n_selected(&f), 10, POPULATION);
        CHECK_NEAR(norm, law, 0.02 * law);
        end_with(&f);
    }
}

/* A mask of the fixture's selected tensors; the plan has it.  Its first weights are -0, which 0 + -0 would change. */
static uint32_t *put_mask(fixture *f, const char *name, double density, double *n_moving)
{
    uint32_t *mask = NULL;
    CHECK_OK(SOW_ALLOC(&mask, f->layout->n_elements / 32 + 1));
    for (int g = GENERATION - 1; g <= GENERATION; g++)
        for (int64_t i = 0; i < 50; i++)
            sow_theta_base(f->theta)[i] = sow_theta_buffer(f->theta, g)[i] = -0.0f;
    sow_theta_loaded(f->theta, GENERATION - 1);
    *n_moving = 0;
    for (int64_t k = 0; k < f->layout->n_tensors; k++) {
        const sow_tensor *tensor = &f->layout->tensors[k];
        const sow_mask_args args = {.density = density,
                                    .seed = 5,
                                    .tensor = (uint32_t)k,
                                    .n = tensor->rows * tensor->cols,
                                    .base = sow_theta_base(f->theta) + tensor->offset};
        if (f->is_selected[k])
            *n_moving += (double)sow_mask_find(name)->fill(&args, mask + tensor->offset / 32);
    }
    f->plan.mask = mask;
    return mask;
}

static bool is_moved(const uint32_t *mask, int64_t i)
{
    return (mask[i / 32] >> i % 32 & 1) != 0;
}

/* Weights that do not move keep their bits, the others are those of an update without a mask. */
static void test_update_under_a_mask_moves_its_weights_only(void **state)
{
    (void)state;
    for (int64_t i = 0; i < sow_mask_count(); i++)
        for (int anchor = SOW_ANCHOR_NONE; anchor <= SOW_ANCHOR_L2; anchor++) {
            fixture f;
            float *without = NULL;
            double n_moving = 0;
            begin_with(&f, "gaussian", SOW_GRANULE, 2);
            uint32_t *mask = put_mask(&f, sow_mask_at(i)->name, 0.3, &n_moving);
            sow_step step = step_of(&f, (sow_anchor)anchor);
            f.plan.mask = NULL;
            update(&f, &step);
            CHECK_OK(SOW_ALLOC(&without, f.layout->n_elements));
            memcpy(without, sow_theta_buffer(f.theta, GENERATION), (size_t)f.layout->n_elements * sizeof *without);
            sow_theta_loaded(f.theta, GENERATION - 1);
            f.plan.mask = mask;
            update(&f, &step);
            const float *was = sow_theta_buffer(f.theta, GENERATION - 1), *is = sow_theta_buffer(f.theta, GENERATION);
            int64_t n_changed = 0;
            for (int64_t e = 0; e < f.layout->n_elements; e++) {
                assert_memory_equal(&is[e], is_moved(mask, e) ? &without[e] : &was[e], sizeof *is);
                n_changed += memcmp(&is[e], &was[e], sizeof *is) != 0;
            }
            assert_true((double)n_changed >
                        (anchor == SOW_ANCHOR_L1 ? 0.2 : 0.9) * n_moving); /* l1 takes small steps back */
            CHECK_OK(sow_theta_check_granule(f.theta, &f.plan, &step, 1));
            SOW_FREE(&without);
            SOW_FREE(&mask);
            end_with(&f);
        }
}

static void test_walk_under_a_mask_has_the_norm_of_what_moves(void **state)
{
    (void)state;
    fixture f;
    double n_moving = 0;
    begin_with(&f, "gaussian", SOW_GRANULE, 2);
    uint32_t *mask = put_mask(&f, "random", 0.3, &n_moving);
    double norm = walk(&f, 8, 0.02), law = sow_drift_law(0.02, n_moving, 8, POPULATION);
    CHECK_NEAR(norm, law, 0.02 * law);
    SOW_FREE(&mask);
    end_with(&f);
}

static void test_changed_memory_is_found(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f, "gaussian", SOW_GRANULE, 1);
    sow_step step = step_of(&f, SOW_ANCHOR_NONE);
    update(&f, &step);
    CHECK_OK(sow_theta_scrub(f.theta, GENERATION, 0, 1));
    CHECK_OK(sow_theta_check_granule(f.theta, &f.plan, &step, 1));
    sow_theta_buffer(f.theta, GENERATION)[SOW_GRANULE + 7] += 1e-6f;
    CHECK_FAILS(sow_theta_scrub(f.theta, GENERATION, 0, 1), SOW_EBITS, "changed in memory");
    CHECK_FAILS(sow_theta_check_granule(f.theta, &f.plan, &step, 1), SOW_EBITS, "computed again");
    end_with(&f);
}

static void test_update_to_infinity_names_the_tensor(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f, "gaussian", SOW_GRANULE, 1);
    f.coefficients[0] = 3e38f;
    f.coefficients[1] = 3e38f;
    sow_step step = step_of(&f, SOW_ANCHOR_NONE);
    CHECK_FAILS(sow_theta_update(f.theta, &f.plan, &step, true), SOW_ENUM, "alpha is too large");
    end_with(&f);
}

static void test_read_of_an_old_generation_is_refused(void **state)
{
    (void)state;
    fixture f;
    begin_with(&f, "gaussian", SOW_GRANULE, 1);
    assert_true(sow_theta_begin_read(f.theta, GENERATION - 1));
    sow_theta_end_read(f.theta);
    assert_false(sow_theta_begin_read(f.theta, GENERATION)); /* not yet whole */
    sow_step step = step_of(&f, SOW_ANCHOR_NONE);
    update(&f, &step);
    assert_true(sow_theta_begin_read(f.theta, GENERATION - 1));
    sow_theta_end_read(f.theta);
    assert_false(sow_theta_begin_read(f.theta, GENERATION - 2)); /* overwritten */
    end_with(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_update_equals_the_formula_for_every_noise_and_anchor),
        cmocka_unit_test(test_digest_depends_on_neither_blocks_nor_threads),
        cmocka_unit_test(test_delta2_is_the_distance_from_the_base),
        cmocka_unit_test(test_step_without_spread_leaves_theta),
        cmocka_unit_test(test_random_shaping_walks_by_the_law),
        cmocka_unit_test(test_update_under_a_mask_moves_its_weights_only),
        cmocka_unit_test(test_walk_under_a_mask_has_the_norm_of_what_moves),
        cmocka_unit_test(test_changed_memory_is_found),
        cmocka_unit_test(test_update_to_infinity_names_the_tensor),
        cmocka_unit_test(test_read_of_an_old_generation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
