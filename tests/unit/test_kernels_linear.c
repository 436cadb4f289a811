// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers: every table against the definition (one chain of fmaf), a sum in double, and OpenBLAS. */
#include "kernel_check.h"

enum { M = 40, N = 96, MAX_K = 200, PAD = 3 };

typedef struct layer {
    sow_type type;
    int64_t k_size;
    float *x; /* [M][k_size + PAD] */
    float *w; /* [N][k_size], as stored */
    void *packed;
    float *bias; /* [N] */
    float *want; /* [M][N + PAD], padding 7 */
} layer;

/* Wild weights and x near `scale`: small scales make subnormal sums. */
static layer make_layer(sow_type type, int64_t k_size, float scale, bool is_wild)
{
    layer l = {.type = type, .k_size = k_size};
    CHECK_OK(SOW_ALLOC(&l.x, M * (k_size + PAD)));
    CHECK_OK(SOW_ALLOC(&l.w, N * k_size));
    CHECK_OK(SOW_ALLOC(&l.bias, N));
    CHECK_OK(SOW_ALLOC(&l.want, M * (N + PAD)));
    fill_floats(1, scale, M * (k_size + PAD), l.x);
    fill_floats(2, scale, N, l.bias);
    if (is_wild)
        fill_wild(3, N * k_size, l.w);
    else
        fill_floats(3, 0.1f, N * k_size, l.w);
    l.packed = pack_weights(type, N, k_size, l.w);
    for (int64_t n = 0; n < N; n++)
        sow_la_packed_row(type, k_size, l.packed, n, l.w + n * k_size);
    return l;
}

static void free_layer(layer *l)
{
    SOW_FREE(&l->x);
    SOW_FREE(&l->w);
    SOW_FREE(&l->packed);
    SOW_FREE(&l->bias);
    SOW_FREE(&l->want);
}

/* One step of a chain of l's type. */
static float add_product(const layer *l, float x, float w, float acc)
{
    return l->type == SOW_BF16_MIXED ? fma_flushed(rounded_bf16(x), w, acc) : fmaf(x, w, acc);
}

/* The definition, word for word. */
static void define(layer *l, bool has_bias)
{
    for (int64_t m = 0; m < M; m++) {
        for (int64_t n = 0; n < N + PAD; n++) {
            float acc = 0.0f;
            for (int64_t i = 0; i < (l->k_size + 1) / 2 * 2 && n < N; i++) {
                const int64_t k = l->type == SOW_BF16_MIXED ? i ^ 1 : i; /* the second of a pair first */
                if (k < l->k_size)
                    acc = add_product(l, l->x[m * (l->k_size + PAD) + k], l->w[n * l->k_size + k], acc);
                else if (l->type == SOW_BF16_MIXED)
                    acc = add_product(l, 0.0f, 0.0f, acc); /* what a pair lacks is zero */
            }
            l->want[m * (N + PAD) + n] = n >= N ? 7.0f : has_bias ? acc + l->bias[n] : acc;
        }
    }
}

static void run(const sow_kernels *k, const layer *l, int64_t m, bool has_bias, float *y)
{
    for (int64_t i = 0; i < M * (N + PAD); i++)
        y[i] = 7.0f;
    k->linear(&(sow_linear_args){.type = l->type,
                                 .m_size = m,
                                 .n_size = N,
                                 .k_size = l->k_size,
                                 .ldx = l->k_size + PAD,
                                 .ldy = N + PAD,
                                 .x = l->x,
                                 .w = l->packed,
                                 .bias = has_bias ? l->bias : NULL,
                                 .y = y});
}

/* Every `step`-th number of rows; what lies behind a row is not written. */
static void check_layer_by(layer *l, bool has_bias, int64_t step)
{
    static float y[M * (N + PAD)];
    define(l, has_bias);
    EACH_KERNELS(k)
    {
        for (int64_t m = step; m <= M; m += step) {
            run(k, l, m, has_bias, y);
            check_bits(sow_type_name(l->type), k->name, m * (N + PAD), y, l->want);
            if (m < M)
                assert_true(y[m * (N + PAD)] == 7.0f);
        }
    }
}

/* Every number of rows, hence every tile. */
static void check_layer(layer *l, bool has_bias)
{
    check_layer_by(l, has_bias, 1);
}

static void test_linear_of_every_shape_is_its_chains(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 17, 77, 200};
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            layer l = make_layer(type, sizes[i], 1.0f, true);
            check_layer(&l, i % 2 == 0);
            free_layer(&l);
        }
    }
}

/* More inputs than are widened at once for several tiles: three blocks, not of one size. */
static void test_linear_of_many_inputs_is_its_chains(void **state)
{
    (void)state;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        layer l = make_layer(type, 3074, 1.0f, true);
        check_layer_by(&l, true, 20);
        free_layer(&l);
    }
}

static void test_linear_with_subnormal_sums_is_its_chains(void **state)
{
    (void)state;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        layer l = make_layer(type, 33, 0x1p-138f, true);
        check_layer(&l, true);
        free_layer(&l);
    }
}

/* x that would be normal if it were rounded before it is taken for zero; sums that are normal only after rounding. */
static void test_linear_in_pairs_at_the_edge_of_normal_numbers_is_its_chains(void **state)
{
    (void)state;
    static const float xs[] = {0x1.fffffcp-127f, 0x1.fep-127f, 0x1.fdfffcp-127f, 0x1p-126f, -0x1p-126f, 0x1.02p-126f};
    static const float ws[] = {1.0f, 2.0f, 0x1p-26f, 0x1p-25f, 0x1.8p-25f, -0x1p-24f, 0x1p-1f};
    layer l = make_layer(SOW_BF16_MIXED, 4, 1.0f, false);
    for (int64_t i = 0; i < N * 4; i++)
        l.w[i] = ws[random_word(4, (uint64_t)i) % (sizeof ws / sizeof *ws)];
    for (int64_t i = 0; i < M * (4 + PAD); i++)
        l.x[i] = xs[random_word(5, (uint64_t)i) % (sizeof xs / sizeof *xs)] * (i % 5 == 0 ? -1.0f : 1.0f);
    SOW_FREE(&l.packed);
    l.packed = pack_weights(SOW_BF16_MIXED, N, 4, l.w);
    check_layer(&l, false);
    free_layer(&l);
}

static void test_linear_with_infinite_inputs_is_its_chains(void **state)
{
    (void)state;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        layer l = make_layer(type, 9, 1.0f, false);
        l.x[2] = INFINITY;
        l.x[l.k_size + PAD + 1] = NAN;
        l.x[2 * (l.k_size + PAD)] = 3e38f;
        check_layer(&l, false);
        free_layer(&l);
    }
}

static void test_linear_beside_double_is_near(void **state)
{
    (void)state;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        static float y[M * (N + PAD)];
        layer l = make_layer(type, MAX_K, 1.0f, false);
        run(sow_kernels_at(0), &l, M, true, y);
        for (int64_t m = 0; m < M; m++) {
            for (int64_t n = 0; n < N; n++) {
                double sum = (double)l.bias[n], size = fabs(sum);
                for (int64_t k = 0; k < MAX_K; k++) {
                    const double product = (double)l.x[m * (MAX_K + PAD) + k] * (double)l.w[n * MAX_K + k];
                    sum += product, size += fabs(product);
                }
                const double each = type == SOW_BF16_MIXED ? 0x1p-8 : 0; /* x to 8 bits */
                CHECK_NEAR((double)y[m * (N + PAD) + n], sum, size * (MAX_K * 0x1p-24 + each));
            }
        }
        free_layer(&l);
    }
}

static void test_linear_beside_openblas_is_near(void **state)
{
    (void)state;
    static float y[M * (N + PAD)], oracle[M * N], x[M * MAX_K];
    layer l = make_layer(SOW_BF16, MAX_K, 1.0f, false);
    run(sow_kernels_at(0), &l, M, false, y);
    for (int64_t m = 0; m < M; m++)
        memcpy(x + m * MAX_K, l.x + m * (MAX_K + PAD), MAX_K * sizeof *x);
    sow_la_blas_linear(M, N, MAX_K, x, l.w, oracle);
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++)
            CHECK_NEAR((double)y[m * (N + PAD) + n], (double)oracle[m * N + n], 1e-5);
    free_layer(&l);
}

/* What a chain with another order or another rounding would give differs: the tests above can fail. */
static void test_linear_by_other_rules_differs(void **state)
{
    (void)state;
    layer l = make_layer(SOW_F32, MAX_K, 1.0f, false);
    int64_t n_backward = 0, n_unfused = 0;
    define(&l, false);
    for (int64_t n = 0; n < N; n++) {
        volatile float backward = 0.0f, unfused = 0.0f, product;
        for (int64_t k = 0; k < MAX_K; k++) {
            backward = fmaf(l.x[MAX_K - 1 - k], l.w[n * MAX_K + MAX_K - 1 - k], backward);
            product = l.x[k] * l.w[n * MAX_K + k];
            unfused = unfused + product;
        }
        n_backward += backward != l.want[n];
        n_unfused += unfused != l.want[n];
    }
    assert_true(n_backward > N / 2 && n_unfused > N / 2);
    free_layer(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_of_every_shape_is_its_chains),
        cmocka_unit_test(test_linear_of_many_inputs_is_its_chains),
        cmocka_unit_test(test_linear_with_subnormal_sums_is_its_chains),
        cmocka_unit_test(test_linear_in_pairs_at_the_edge_of_normal_numbers_is_its_chains),
        cmocka_unit_test(test_linear_with_infinite_inputs_is_its_chains),
        cmocka_unit_test(test_linear_beside_double_is_near),
        cmocka_unit_test(test_linear_beside_openblas_is_near),
        cmocka_unit_test(test_linear_by_other_rules_differs),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
