// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* la: equal bits on any number of threads, OpenBLAS near them, names, the default of threads, the floating-point
 * mode. */
#include "kernel_check.h"

#include "sower/bench_la.h"
#include "sower/phase.h"

#include <fenv.h>

static sow_la *create(const char *backend, const char *kernel, int64_t threads)
{
    sow_la *la = NULL;
    CHECK_OK(sow_la_create(backend, kernel, threads, &la));
    return la;
}

typedef struct layer {
    int64_t m, n, k;
    sow_type type;
    float *x, *w, *bias, *y;
    void *packed;
} layer;

static layer make_layer(int64_t m, int64_t n, int64_t k, sow_type type)
{
    layer l = {.m = m, .n = n, .k = k, .type = type};
    CHECK_OK(SOW_ALLOC(&l.x, m * k));
    CHECK_OK(SOW_ALLOC(&l.w, n * k));
    CHECK_OK(SOW_ALLOC(&l.bias, n));
    CHECK_OK(SOW_ALLOC(&l.y, m * n));
    fill_floats(1, 1.0f, m * k, l.x);
    fill_floats(2, 0.1f, n * k, l.w);
    fill_floats(3, 1.0f, n, l.bias);
    l.packed = pack_weights(type, n, k, l.w);
    return l;
}

static void free_layer(layer *l)
{
    SOW_FREE(&l->x);
    SOW_FREE(&l->w);
    SOW_FREE(&l->bias);
    SOW_FREE(&l->y);
    SOW_FREE(&l->packed);
}

static void run(sow_la *la, layer *l)
{
    memset(l->y, 0, (size_t)(l->m * l->n) * sizeof *l->y);
    sow_la_linear(la, &(sow_linear_args){.type = l->type,
                                         .m_size = l->m,
                                         .n_size = l->n,
                                         .k_size = l->k,
                                         .ldx = l->k,
                                         .ldy = l->n,
                                         .x = l->x,
                                         .w = l->packed,
                                         .bias = l->bias,
                                         .y = l->y});
}

/* Few panels with many rows, many panels with few rows, fewer of both than threads, small and large work. */
static void test_linear_on_any_threads_gives_the_same_bits(void **state)
{
    (void)state;
    static const struct shape {
        int64_t m, n, k;
    } shapes[] = {{1, 32, 8},    {1, 1024, 256}, {3, 32, 2000}, {100, 32, 300},
                  {70, 64, 300}, {37, 224, 129}, {2, 64, 1024}};
    for (size_t i = 0; i < SOW_N_TYPES * sizeof shapes / sizeof *shapes; i++) {
        const struct shape *shape = &shapes[i / SOW_N_TYPES];
        layer l = make_layer(shape->m, shape->n, shape->k, (sow_type)(i % SOW_N_TYPES));
        float *first = NULL;
        CHECK_OK(SOW_ALLOC(&first, l.m * l.n));
        for (int64_t threads = 1; threads <= 7; threads++) {
            sow_la *la = create("exact", "auto", threads);
            assert_int_equal(sow_la_threads(la), threads);
            run(la, &l);
            if (threads == 1)
                memcpy(first, l.y, (size_t)(l.m * l.n) * sizeof *first);
            assert_memory_equal(l.y, first, (size_t)(l.m * l.n) * sizeof *first);
            sow_la_destroy(&la);
            assert_null(la);
        }
        SOW_FREE(&first);
        free_layer(&l);
    }
}

/* So much work that it is cut by rows and by panels, and ticks between. */
static void test_linear_in_steps_has_the_bits_of_one_call(void **state)
{
    (void)state;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        layer l = make_layer(300, 3168, 601, type);
        sow_la *la = create("exact", "auto", 1);
        float *whole = NULL;
        CHECK_OK(SOW_ALLOC(&whole, l.m * l.n));
        sow_la_kernels(la)->linear(&(sow_linear_args){.type = type,
                                                      .m_size = l.m,
                                                      .n_size = l.n,
                                                      .k_size = l.k,
                                                      .ldx = l.k,
                                                      .ldy = l.n,
                                                      .x = l.x,
                                                      .w = l.packed,
                                                      .bias = l.bias,
                                                      .y = whole});
        run(la, &l);
        assert_memory_equal(l.y, whole, (size_t)(l.m * l.n) * sizeof *whole);
        sow_la_destroy(&la);
        SOW_FREE(&whole);
        free_layer(&l);
    }
}

static void test_perturb_on_any_threads_gives_the_same_bits(void **state)
{
    (void)state;
    enum { N = 300, K = 576 };
    float *theta = NULL;
    unsigned char *w = NULL, *first = NULL;
    const size_t bytes = sow_la_packed_bytes(SOW_FP16, N, K);
    CHECK_OK(SOW_ALLOC(&theta, N * K));
    CHECK_OK(SOW_ALLOC(&w, bytes));
    CHECK_OK(SOW_ALLOC(&first, bytes));
    fill_floats(1, 0.1f, N * K, theta);
    for (int64_t threads = 1; threads <= 13; threads += 3) {
        sow_la *la = create("exact", "auto", threads);
        memset(w, 0xa5, bytes);
        sow_la_perturb(la, &(sow_perturb_args){.type = SOW_FP16,
                                               .place = {.key = {1, 2}, .stream = {3, 4}},
                                               .factor = 1e-3f,
                                               .n_size = N,
                                               .k_size = K,
                                               .theta = theta,
                                               .w = w});
        if (threads == 1)
            memcpy(first, w, bytes);
        assert_memory_equal(w, first, bytes);
        sow_la_destroy(&la);
    }
    SOW_FREE(&theta);
    SOW_FREE(&w);
    SOW_FREE(&first);
}

/* ---- the backward pass ---- */

static int n_ticks;

static void count_tick(void *context)
{
    (void)context;
    n_ticks++;
}

typedef struct gradient {
    int64_t t, n, k;
    float *dy, *x, *dw;
} gradient;

static gradient make_gradient(int64_t t, int64_t n, int64_t k)
{
    gradient g = {.t = t, .n = n, .k = k};
    CHECK_OK(SOW_ALLOC(&g.dy, t * n));
    CHECK_OK(SOW_ALLOC(&g.x, t * k));
    CHECK_OK(SOW_ALLOC(&g.dw, n * k));
    fill_floats(1, 1.0f, t * n, g.dy);
    fill_floats(2, 1.0f, t * k, g.x);
    return g;
}

static void free_gradient(gradient *g)
{
    SOW_FREE(&g->dy);
    SOW_FREE(&g->x);
    SOW_FREE(&g->dw);
}

static void run_outer(sow_la *la, gradient *g)
{
    fill_floats(3, 1.0f, g->n * g->k, g->dw);
    sow_la_outer(la, &(sow_outer_args){.t_size = g->t,
                                       .n_size = g->n,
                                       .k_size = g->k,
                                       .ldy = g->n,
                                       .ldx = g->k,
                                       .ldw = g->k,
                                       .dy = g->dy,
                                       .x = g->x,
                                       .dw = g->dw});
}

static void test_outer_on_any_threads_gives_the_same_bits(void **state)
{
    (void)state;
    static const struct shape {
        int64_t t, n, k;
    } shapes[] = {{1, 3, 5}, {40, 2, 1000}, {300, 70, 33}, {16, 300, 20}, {200, 600, 70}, {600, 700, 400}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        gradient g = make_gradient(shapes[i].t, shapes[i].n, shapes[i].k);
        float *first = NULL;
        const size_t bytes = (size_t)(g.n * g.k) * sizeof *first;
        CHECK_OK(SOW_ALLOC(&first, g.n * g.k));
        for (int64_t threads = 1; threads <= 7; threads++) {
            sow_la *la = create("exact", "auto", threads);
            run_outer(la, &g);
            if (threads == 1)
                memcpy(first, g.dw, bytes);
            assert_memory_equal(g.dw, first, bytes);
            sow_la_destroy(&la);
        }
        SOW_FREE(&first);
        free_gradient(&g);
    }
}

static void test_outer_by_openblas_is_near_the_exact_one(void **state)
{
    (void)state;
    gradient exact = make_gradient(150, 70, 100), by_blas = make_gradient(150, 70, 100);
    sow_la *one = create("exact", "auto", 2), *other = create("openblas", "auto", 2);
    run_outer(one, &exact);
    run_outer(other, &by_blas);
    /* sums of 150 products below 1: an error of 150 * 2^-24 each way is far above what rounding gives */
    for (int64_t i = 0; i < exact.n * exact.k; i++)
        CHECK_NEAR((double)by_blas.dw[i], (double)exact.dw[i], 2e-5);
    sow_la_destroy(&one);
    sow_la_destroy(&other);
    free_gradient(&exact);
    free_gradient(&by_blas);
}

static void test_outer_of_much_work_ticks(void **state)
{
    (void)state;
    gradient g = make_gradient(256, 1200, 1024);
    for (int64_t threads = 1; threads <= 2; threads++) {
        sow_la *la = create("exact", "auto", threads);
        n_ticks = 0;
        sow_phase_install_tick(count_tick, NULL);
        run_outer(la, &g);
        sow_phase_install_tick(NULL, NULL);
        assert_true(n_ticks >= 2 / threads && n_ticks < 100);
        sow_la_destroy(&la);
    }
    free_gradient(&g);
}

/* dx = dy W by the transpose, packed on any threads, against sums over rows of W; OpenBLAS reads the same packing. */
static void test_linear_of_the_transpose_is_the_gradient_of_the_input(void **state)
{
    (void)state;
    enum { T = 9, N_SIZE = 300, K_SIZE = 570, PADDED = 576 };
    float *theta = NULL, *dy = NULL, *dx = NULL, *want = NULL, *w = NULL;
    CHECK_OK(SOW_ALLOC(&theta, N_SIZE * K_SIZE));
    CHECK_OK(SOW_ALLOC(&dy, T * N_SIZE));
    CHECK_OK(SOW_ALLOC(&dx, T * PADDED));
    CHECK_OK(SOW_ALLOC(&want, T * PADDED));
    CHECK_OK(SOW_ALLOC(&w, PADDED * N_SIZE));
    fill_floats(1, 0.1f, N_SIZE * K_SIZE, theta);
    fill_floats(2, 1.0f, T * N_SIZE, dy);
    for (int64_t t = 0; t < T; t++)
        for (int64_t n = 0; n < N_SIZE; n++)
            for (int64_t k = 0; k < K_SIZE; k++)
                want[t * PADDED + k] = fmaf(dy[t * N_SIZE + n], theta[n * K_SIZE + k], want[t * PADDED + k]);
    for (int64_t threads = 1; threads <= 4; threads++) {
        for (int by_blas = 0; by_blas < 2; by_blas++) {
            sow_la *la = create(by_blas ? "openblas" : "exact", "auto", threads);
            memset(w, 0xa5, (size_t)PADDED * N_SIZE * sizeof *w);
            sow_la_transpose(
                la,
                &(sow_transpose_args){
                    .type = SOW_F32, .n_size = N_SIZE, .k_size = K_SIZE, .inner_size = N_SIZE, .theta = theta, .w = w});
            sow_la_linear(la, &(sow_linear_args){.type = SOW_F32,
                                                 .m_size = T,
                                                 .n_size = PADDED,
                                                 .k_size = N_SIZE,
                                                 .ldx = N_SIZE,
                                                 .ldy = PADDED,
                                                 .x = dy,
                                                 .w = w,
                                                 .y = dx});
            if (!by_blas)
                assert_memory_equal(dx, want, (size_t)T * PADDED * sizeof *dx);
            for (int64_t i = 0; i < T * PADDED; i++)
                CHECK_NEAR((double)dx[i], (double)want[i], 1e-5);
            sow_la_destroy(&la);
        }
    }
    SOW_FREE(&theta);
    SOW_FREE(&dy);
    SOW_FREE(&dx);
    SOW_FREE(&want);
    SOW_FREE(&w);
}

static void test_add_fixed_on_any_threads_gives_the_same_sums(void **state)
{
    (void)state;
    enum { LENGTH = 200003 };
    float *x = NULL;
    int64_t *sums = NULL, *first = NULL;
    CHECK_OK(SOW_ALLOC(&x, LENGTH));
    CHECK_OK(SOW_ALLOC(&sums, LENGTH));
    CHECK_OK(SOW_ALLOC(&first, LENGTH));
    fill_floats(1, 1.0f, LENGTH, x);
    for (int64_t threads = 1; threads <= 5; threads++) {
        sow_la *la = create("exact", "auto", threads);
        memset(sums, 0, LENGTH * sizeof *sums);
        assert_int_equal(sow_la_add_fixed(la, LENGTH, x, sums), 0);
        if (threads == 1)
            memcpy(first, sums, LENGTH * sizeof *sums);
        assert_memory_equal(sums, first, LENGTH * sizeof *sums);
        for (int64_t i = 0; i < 5; i++) { /* wherever it is, a number that does not fit is seen */
            const int64_t at = i * (LENGTH - 1) / 4;
            const float was = x[at];
            x[at] = NAN;
            assert_true(sow_la_add_fixed(la, LENGTH, x, sums) != 0);
            x[at] = was;
        }
        sow_la_destroy(&la);
    }
    SOW_FREE(&x);
    SOW_FREE(&sums);
    SOW_FREE(&first);
}

/* More than one block of K and of N; all types that multiply in float32. */
static void test_linear_by_openblas_is_near_the_exact_one(void **state)
{
    (void)state;
    for (sow_type type = 0; type < SOW_N_STORED; type++) {
        layer exact = make_layer(19, 544, 600, type), by_blas = make_layer(19, 544, 600, type);
        sow_la *one = create("exact", "auto", 2), *other = create("openblas", "auto", 2);
        assert_true(sow_la_is_exact(one) && !sow_la_is_exact(other));
        run(one, &exact);
        run(other, &by_blas);
        for (int64_t i = 0; i < exact.m * exact.n; i++)
            CHECK_NEAR((double)by_blas.y[i], (double)exact.y[i], 1e-4);
        sow_la_destroy(&one);
        sow_la_destroy(&other);
        free_layer(&exact);
        free_layer(&by_blas);
    }
}

static void test_linear_of_much_work_ticks(void **state)
{
    (void)state;
    layer l = make_layer(256, 1024, 1024, SOW_FP16);
    for (int64_t threads = 1; threads <= 2; threads++) {
        sow_la *la = create("exact", "auto", threads);
        n_ticks = 0;
        sow_phase_install_tick(count_tick, NULL);
        run(la, &l);
        sow_phase_install_tick(NULL, NULL);
        assert_true(n_ticks >= 2 / threads && n_ticks < 100);
        sow_la_destroy(&la);
    }
    free_layer(&l);
}

static void test_create_with_wrong_names_says_what_is_possible(void **state)
{
    (void)state;
    sow_la *la = NULL;
    CHECK_FAILS(sow_la_create("mkl", "auto", 0, &la), SOW_ECONF, "'mkl'");
    CHECK_FAILS(sow_la_create("mkl", "auto", 0, &la), SOW_ECONF, "exact or openblas");
    CHECK_FAILS(sow_la_create("exact", "avx1024", 0, &la), SOW_ECONF, "avx1024");
    CHECK_FAILS(sow_la_create("exact", "avx1024", 0, &la), SOW_ECONF, "auto, ");
    CHECK_FAILS(sow_la_create("exact", "avx1024", 0, &la), SOW_ECONF, "plain");
    CHECK_FAILS(sow_la_create("exact", "auto", -1, &la), SOW_ECONF, "-1");
    assert_null(la);
    sow_la_destroy(&la); /* NULL is accepted */
}

static void test_create_when_memory_fails_leaves_nothing(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 3; n++) {
        sow_la *la = NULL;
        sow_alloc_fail_at(n);
        CHECK_FAILS(sow_la_create("openblas", "auto", 1, &la), SOW_ENOMEM, "memory");
        sow_alloc_fail_at(0);
        assert_null(la);
    }
}

static void test_kernels_by_name_are_found(void **state)
{
    (void)state;
    const sow_kernels *found = NULL;
    assert_string_equal(sow_kernels_at(sow_kernels_count() - 1)->name, "plain");
    assert_null(sow_kernels_at(sow_kernels_count()));
    EACH_KERNELS(k)
    {
        CHECK_OK(sow_kernels_find(k->name, &found));
        assert_ptr_equal(found, k);
        sow_la *la = create("exact", k->name, 1);
        assert_ptr_equal(sow_la_kernels(la), k);
        sow_la_destroy(&la);
    }
    CHECK_OK(sow_kernels_find("auto", &found));
    assert_ptr_equal(found, sow_kernels_at(0));
}

static void test_threads_by_default_follow_the_environment_then_the_cores(void **state)
{
    (void)state;
    static const struct setting {
        const char *text;
        int threads; /* 0: as without it */
    } settings[] = {{"3", 3}, {"5,2", 5}, {"0", 0}, {"many", 0}, {"4x", 0}, {"", 0}};
    assert_int_equal(unsetenv("OMP_NUM_THREADS"), 0);
    sow_la *la = create("exact", "auto", 0);
    const int cores = sow_la_threads(la);
    assert_true(cores >= 1 && cores <= sysconf(_SC_NPROCESSORS_ONLN));
    sow_la_destroy(&la);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        assert_int_equal(setenv("OMP_NUM_THREADS", settings[i].text, 1), 0);
        la = create("exact", "auto", 0);
        assert_int_equal(sow_la_threads(la), settings[i].threads != 0 ? settings[i].threads : cores);
        sow_la_destroy(&la);
    }
    assert_int_equal(unsetenv("OMP_NUM_THREADS"), 0);
}

static void test_sizes_of_packed_weights_are_padded(void **state)
{
    (void)state;
    assert_int_equal(sow_la_padded(0), 0);
    assert_int_equal(sow_la_padded(1), 32);
    assert_int_equal(sow_la_padded(32), 32);
    assert_int_equal(sow_la_padded(33), 64);
    assert_int_equal(sow_la_packed_bytes(SOW_FP16, 33, 10), 64 * 10 * 2);
    assert_int_equal(sow_la_packed_bytes(SOW_F32, 33, 10), 64 * 10 * 4);
    assert_string_equal(sow_type_name(SOW_BF16), "bf16");
}

static void test_names_of_cpu_and_blas_are_words(void **state)
{
    (void)state;
    const char *remedy = "unset";
    assert_non_null(strstr(sow_la_cpu_name(), sow_kernels_at(0)->name));
    assert_ptr_equal(sow_la_cpu_name(), sow_la_cpu_name());
    assert_non_null(strstr(sow_la_blas_name(&remedy), "OpenBLAS"));
    assert_true(remedy == NULL || strstr(remedy, "OPENBLAS_CORETYPE") != NULL);
    assert_int_equal(setenv("OPENBLAS_CORETYPE", "Haswell", 1), 0);
    (void)sow_la_blas_name(&remedy);
    assert_null(remedy); /* the site has spoken */
    assert_int_equal(unsetenv("OPENBLAS_CORETYPE"), 0);
}

static void test_rounding_when_a_thread_lost_it_is_reported_and_set(void **state)
{
    (void)state;
    static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    sow_la *la = create("exact", "auto", 3);
    CHECK_OK(sow_kernels_check_rounding());
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(fesetround(modes[i]), 0);
        CHECK_FAILS(sow_kernels_check_rounding(), SOW_ENUM, "of 3 threads do not round");
        sow_kernels_set_rounding();
        CHECK_OK(sow_kernels_check_rounding());
    }
    sow_la_destroy(&la);
}

/* What a plug-in built with -ffast-math does when it is loaded. */
static void test_rounding_when_subnormals_are_flushed_is_reported_and_set(void **state)
{
    (void)state;
#if defined(__x86_64__)
    static const unsigned bits[] = {0x8000, 0x0040}; /* results, arguments */
    for (int i = 0; i < 2; i++) {
        __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | bits[i]);
        CHECK_FAILS(sow_kernels_check_rounding(), SOW_ENUM, "subnormals");
        sow_kernels_set_rounding();
        CHECK_OK(sow_kernels_check_rounding());
    }
#else
    skip();
#endif
}

static void test_bench_of_small_layers_gives_figures(void **state)
{
    (void)state;
    const sow_kernels *k = sow_kernels_at(0);
    sow_bench_linear linear = {0}, blas = {0};
    CHECK_OK(sow_bench_measure_linear(k, SOW_BF16, 8, 64, 64, 0.001, &linear));
    CHECK_OK(sow_bench_measure_blas(8, 64, 64, 0.001, &blas));
    assert_true(linear.gflops > 0 && linear.gbytes_s > 0 && blas.gflops > 0);
    CHECK_NEAR(linear.gflops / linear.gbytes_s, 2.0 * 8 / 2, 1e-9);
    double outer = 0, by_blas = 0;
    CHECK_OK(sow_bench_measure_outer(k, 8, 64, 64, 0.001, &outer));
    CHECK_OK(sow_bench_measure_outer(NULL, 8, 64, 64, 0.001, &by_blas));
    assert_true(outer > 0 && by_blas > 0);
    sow_alloc_fail_at(3);
    CHECK_FAILS(sow_bench_measure_outer(k, 8, 64, 64, 0.001, &outer), SOW_ENOMEM, "memory");
    sow_alloc_fail_at(3);
    CHECK_FAILS(sow_bench_measure_linear(k, SOW_BF16, 8, 64, 64, 0.001, &linear), SOW_ENOMEM, "memory");
    sow_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_on_any_threads_gives_the_same_bits),
        cmocka_unit_test(test_linear_in_steps_has_the_bits_of_one_call),
        cmocka_unit_test(test_perturb_on_any_threads_gives_the_same_bits),
        cmocka_unit_test(test_linear_by_openblas_is_near_the_exact_one),
        cmocka_unit_test(test_outer_on_any_threads_gives_the_same_bits),
        cmocka_unit_test(test_outer_by_openblas_is_near_the_exact_one),
        cmocka_unit_test(test_outer_of_much_work_ticks),
        cmocka_unit_test(test_linear_of_the_transpose_is_the_gradient_of_the_input),
        cmocka_unit_test(test_add_fixed_on_any_threads_gives_the_same_sums),
        cmocka_unit_test(test_linear_of_much_work_ticks),
        cmocka_unit_test(test_create_with_wrong_names_says_what_is_possible),
        cmocka_unit_test(test_create_when_memory_fails_leaves_nothing),
        cmocka_unit_test(test_kernels_by_name_are_found),
        cmocka_unit_test(test_threads_by_default_follow_the_environment_then_the_cores),
        cmocka_unit_test(test_sizes_of_packed_weights_are_padded),
        cmocka_unit_test(test_names_of_cpu_and_blas_are_words),
        cmocka_unit_test(test_rounding_when_a_thread_lost_it_is_reported_and_set),
        cmocka_unit_test(test_rounding_when_subnormals_are_flushed_is_reported_and_set),
        cmocka_unit_test(test_bench_of_small_layers_gives_figures),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
