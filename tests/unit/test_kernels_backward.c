// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass and the optimizer: every table against a few plain lines, by memcmp. */
#include "kernel_check.h"

/* ---- outer ---- */

static void add_pair(const sow_outer_args *a, int64_t t, bool is_alone, float *dw)
{
    for (int64_t n = 0; n < a->n_size; n++)
        for (int64_t k = 0; k < a->k_size; k++)
            for (int64_t row = t + 1; row >= t; row--) {
                const bool is_there = row == t || !is_alone;
                const float y = is_there ? rounded_bf16(a->dy[row * a->ldy + n]) : 0.0f;
                const float x = is_there ? rounded_bf16(a->x[row * a->ldx + k]) : 0.0f;
                dw[n * a->ldw + k] = fma_flushed(y, x, dw[n * a->ldw + k]);
            }
}

static void add_outer(const sow_outer_args *a, float *dw)
{
    for (int64_t t = 0; a->ends != NULL && t < a->t_size;) {
        const bool is_alone = t + 1 == a->t_size || a->ends[t] != 0;
        add_pair(a, t, is_alone, dw);
        t += is_alone ? 1 : 2;
    }
    if (a->ends != NULL)
        return;
    for (int64_t n = 0; n < a->n_size; n++)
        for (int64_t k = 0; k < a->k_size; k++)
            for (int64_t t = 0; t < a->t_size; t++)
                dw[n * a->ldw + k] = fmaf(a->dy[t * a->ldy + n], a->x[t * a->ldx + k], dw[n * a->ldw + k]);
}

/* Products of bf16 if ends is not NULL.  Rows lie further apart than they are long; what is between them stays as it
 * is. */
static void check_outer_of(int64_t t_size, int64_t n_size, int64_t k_size, bool is_wild, const unsigned char *ends)
{
    sow_outer_args a = {
        .t_size = t_size, .n_size = n_size, .k_size = k_size, .ldy = n_size + 3, .ldx = k_size + 1, .ldw = k_size + 5};
    float *dy = NULL, *x = NULL, *start = NULL, *want = NULL, *dw = NULL;
    const int64_t n_dw = n_size * a.ldw;
    CHECK_OK(SOW_ALLOC(&dy, t_size * a.ldy));
    CHECK_OK(SOW_ALLOC(&x, t_size * a.ldx));
    CHECK_OK(SOW_ALLOC(&start, n_dw));
    CHECK_OK(SOW_ALLOC(&want, n_dw));
    CHECK_OK(SOW_ALLOC(&dw, n_dw));
    fill_floats(1, 1.0f, t_size * a.ldy, dy);
    fill_floats(2, 1.0f, t_size * a.ldx, x);
    fill_floats(3, 1.0f, n_dw, start);
    if (is_wild) {
        fill_wild(1, t_size * a.ldy, dy);
        fill_floats(2, 0x1p-130f, t_size * a.ldx, x); /* subnormal */
        for (int64_t i = 0; i < t_size * a.ldx; i += 3)
            x[i] = i % 2 == 0 ? 0x1.fffffcp-127f : -0x1.fep-127f; /* would be normal, rounded to bf16 */
        fill_floats(3, 0x1p-140f, n_dw, start);
    }
    a.dy = dy, a.x = x, a.dw = dw, a.ends = ends;
    int64_t cut = t_size / 3; /* not between the two of a pair */
    for (int64_t t = 0; ends != NULL && t < cut; t += ends[t] != 0 ? 1 : 2)
        cut += t + 1 == cut && ends[t] == 0 ? 1 : 0;
    memcpy(want, start, (size_t)n_dw * sizeof *want);
    add_outer(&a, want);
    EACH_KERNELS(k)
    {
        memcpy(dw, start, (size_t)n_dw * sizeof *dw);
        k->outer(&a);
        check_bits("outer", k->name, n_dw, dw, want);

        memcpy(dw, start, (size_t)n_dw * sizeof *dw); /* the same rows in two calls */
        sow_outer_args some = a;
        some.t_size = cut;
        k->outer(&some);
        some.dy += cut * a.ldy, some.x += cut * a.ldx, some.t_size = t_size - cut;
        some.ends = ends == NULL ? NULL : ends + cut;
        k->outer(&some);
        check_bits("outer in two calls", k->name, n_dw, dw, want);
    }
    SOW_FREE(&dy);
    SOW_FREE(&x);
    SOW_FREE(&start);
    SOW_FREE(&want);
    SOW_FREE(&dw);
}

static void check_outer(int64_t t_size, int64_t n_size, int64_t k_size, bool is_wild)
{
    check_outer_of(t_size, n_size, k_size, is_wild, NULL);
}

/* Sequences of one row, two, three ... and again; what differs from float32 differs. */
static void check_outer_in_pairs(int64_t t_size, int64_t n_size, int64_t k_size, bool is_wild)
{
    unsigned char *ends = NULL;
    CHECK_OK(SOW_ALLOC(&ends, t_size));
    for (int64_t t = 0, n = 1; t < t_size; t += n, n = n % 7 + 1)
        ends[t + n - 1 < t_size ? t + n - 1 : t_size - 1] = 1;
    check_outer_of(t_size, n_size, k_size, is_wild, ends);
    SOW_FREE(&ends);
}

static void test_outer_in_pairs_is_one_chain_an_element(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 255, 256, 257, 300, 511, 600};
    for (int64_t n = 1; n <= 45; n++)
        check_outer_in_pairs(5, n, 33, false);
    for (int64_t k = 1; k <= 100; k++)
        check_outer_in_pairs(3, 15, k, false);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        check_outer_in_pairs(counts[i], 29, 70, false);
    check_outer_in_pairs(33, 257, 40, false);
    check_outer_in_pairs(129, 300, 517, false);
    check_outer_in_pairs(40, 29, 70, true);
    check_outer_in_pairs(7, 16, 96, true);
}

static void test_outer_of_every_shape_is_one_chain_an_element(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 15, 16, 17, 31, 127, 128, 129, 300};
    for (int64_t n = 1; n <= 45; n++)
        check_outer(5, n, 33, false); /* every number of rows, hence every tile */
    for (int64_t k = 1; k <= 100; k++)
        check_outer(3, 15, k, false);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        check_outer(counts[i], 29, 70, false);
    check_outer(33, 257, 40, false);
    check_outer(20, 600, 64, false);
    check_outer(0, 5, 40, false);
    check_outer(130, 600, 40, false); /* rows far apart: copied */
    check_outer(150, 40, 600, false);
    check_outer(129, 515, 517, false);
}

static void test_outer_of_subnormal_and_large_values_is_one_chain_an_element(void **state)
{
    (void)state;
    check_outer(40, 29, 70, true);
    check_outer(7, 16, 96, true);
}

/* ---- transpose ---- */

/* Two tensors side by side in one packed layer: output k of it has the inputs n of the first, then of the second. */
static void check_transpose(int64_t n_size, int64_t k_size, sow_type type)
{
    enum { BEFORE = 5, BEHIND = 2 };
    const int64_t inner = BEFORE + n_size + BEHIND, n_panels = sow_la_padded(k_size) / SOW_PANEL;
    const size_t bytes = sow_la_packed_bytes(type, k_size, inner);
    const sow_kernels *plain = sow_kernels_at(sow_kernels_count() - 1);
    float *theta = NULL, *want = NULL, *row = NULL, *untouched = NULL;
    unsigned char *w = NULL, *first = NULL;
    uint16_t *half = NULL;
    CHECK_OK(SOW_ALLOC(&theta, n_size * k_size));
    CHECK_OK(SOW_ALLOC(&want, n_size));
    CHECK_OK(SOW_ALLOC(&row, inner));
    CHECK_OK(SOW_ALLOC(&untouched, inner));
    CHECK_OK(SOW_ALLOC(&half, n_size));
    CHECK_OK(SOW_ALLOC(&w, bytes + 64));
    CHECK_OK(SOW_ALLOC(&first, bytes));
    fill_floats(1, 0.05f, n_size * k_size, theta);
    theta[0] = -0.0f;
    theta[n_size * k_size - 1] = 1e-6f; /* subnormal as fp16 */
    EACH_KERNELS(kernels)
    {
        sow_transpose_args a = {.type = type,
                                .n_size = n_size,
                                .k_size = k_size,
                                .inner_size = inner,
                                .inner_first = BEFORE,
                                .n_panels = n_panels,
                                .theta = theta,
                                .w = w};
        memset(w, 0x11, bytes + 64);
        sow_la_packed_row(type, inner, w, 0, untouched);
        kernels->transpose(&a);
        for (int64_t k = 0; k < n_panels * SOW_PANEL; k++) {
            for (int64_t n = 0; n < n_size; n++)
                want[n] = k < k_size ? theta[n * k_size + k] : 0.0f;
            if (type != SOW_F32) {
                plain->narrow(type, n_size, want, half);
                plain->widen(type, n_size, half, want);
            }
            sow_la_packed_row(type, inner, w, k, row);
            check_bits(sow_type_name(type), kernels->name, n_size, row + BEFORE, want);
            check_bits("inputs before", kernels->name, BEFORE, row, untouched);
            check_bits("inputs behind", kernels->name, BEHIND, row + BEFORE + n_size, untouched);
        }
        assert_int_equal(w[bytes], 0x11);
        memcpy(first, w, bytes);
        memset(w, 0x11, bytes);
        a.n_panels = 1;
        for (a.first_panel = n_panels - 1; a.first_panel >= 0; a.first_panel--)
            kernels->transpose(&a);
        assert_memory_equal(w, first, bytes);
    }
    SOW_FREE(&theta);
    SOW_FREE(&want);
    SOW_FREE(&row);
    SOW_FREE(&untouched);
    SOW_FREE(&half);
    SOW_FREE(&w);
    SOW_FREE(&first);
}

static void test_transpose_of_every_shape_is_the_rounded_tensor(void **state)
{
    (void)state;
    static const struct shape {
        int64_t n, k;
    } shapes[] = {{1, 1}, {7, 31}, {24, 32}, {9, 33}, {64, 96}, {3, 100}, {33, 300}, {130, 65}};
    for (sow_type type = 0; type < SOW_N_TYPES; type++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            check_transpose(shapes[i].n, shapes[i].k, type);
}

/* ---- AdamW ---- */

enum { N = 333 };

/* One element, one operation a line. */
static void step(const sow_adamw_args *a, int64_t i, float *theta, float *m, float *v)
{
    const float g = a->gradient[i] * a->clip, w = a->theta[i] * a->keep;
    const float dm = g - a->m[i], dm_part = dm * a->one_minus_beta1;
    *m = a->m[i] + dm_part;
    const float old = a->v[i] * a->beta2, square = g * g, new = square * a->one_minus_beta2;
    *v = old + new;
    const float root = sqrtf(*v), corrected = root / a->root_correction, denominator = corrected + a->eps;
    const float ratio = *m / denominator, change = a->step_size * ratio;
    const float next = w - change, delta = next - a->base[i];
    const float keep = 1.0f - a->anchor_decay, kept = keep * delta, size = fabsf(delta) - a->anchor_decay;
    *theta = a->anchor == SOW_ANCHOR_L2   ? a->base[i] + kept
             : a->anchor == SOW_ANCHOR_L1 ? a->base[i] + copysignf(size > 0.0f ? size : 0.0f, delta)
                                          : next;
}

static void test_adamw_of_every_anchor_is_its_definition(void **state)
{
    (void)state;
    float gradient[N], theta[N], base[N], m[N], v[N], out[3][N + 1], want[3][N];
    fill_floats(1, 1.0f, N, gradient);
    fill_floats(2, 1.0f, N, theta);
    fill_floats(3, 1.0f, N, base);
    fill_floats(4, 0.1f, N, m);
    fill_floats(5, 0.1f, N, v);
    memcpy(base, theta, 200 * sizeof *base); /* delta within the decay and beyond */
    fill_wild(6, 50, gradient);
    for (int64_t i = 0; i < N; i++)
        v[i] = i % 7 == 0 ? 0.0f : i % 7 == 1 ? fabsf(v[i]) * 0x1p-130f : fabsf(v[i]);
    gradient[60] = 0.0f, v[60] = 0.0f, m[60] = 0.0f; /* divides 0 by eps */
    sow_adamw_args a = {.clip = 0.37f,
                        .keep = 1.0f - 1e-3f * 0.01f,
                        .one_minus_beta1 = 0.1f,
                        .beta2 = 0.999f,
                        .one_minus_beta2 = 0.001f,
                        .eps = 1e-8f,
                        .step_size = 3e-3f,
                        .root_correction = 0.05f,
                        .anchor_decay = 0.004f,
                        .gradient = gradient,
                        .theta = theta,
                        .base = base,
                        .m = m,
                        .v = v,
                        .theta_out = out[0],
                        .m_out = out[1],
                        .v_out = out[2]};
    for (a.anchor = SOW_ANCHOR_NONE; a.anchor <= SOW_ANCHOR_L2; a.anchor++) {
        for (int64_t i = 0; i < N; i++)
            step(&a, i, &want[0][i], &want[1][i], &want[2][i]);
        EACH_KERNELS(k)
        {
            for (a.n = 1; a.n <= N; a.n += a.n < 70 ? 1 : 66) {
                out[0][a.n] = out[1][a.n] = out[2][a.n] = 7.0f;
                k->adamw(&a);
                check_bits("theta", k->name, a.n, out[0], want[0]);
                check_bits("m", k->name, a.n, out[1], want[1]);
                check_bits("v", k->name, a.n, out[2], want[2]);
                assert_true(out[0][a.n] == 7.0f && out[1][a.n] == 7.0f && out[2][a.n] == 7.0f);
            }
        }
    }
}

/* ---- fixed point ---- */

static void check_sums(const char *what, const char *who, int64_t n, const int64_t *got, const int64_t *want)
{
    for (int64_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("%s, %s: element %" PRId64 " is %" PRId64 ", expected %" PRId64, what, who, i, got[i], want[i]);
}

/* Magnitudes from below half a step of 2^-48 to 2^15, ties among them. */
static void fill_gradients(float x[N])
{
    static const float special[] = {0.0f,       -0.0f,     0x1p-49f,  -0x1p-49f,  0x1.8p-48f,      -0x1.8p-48f,
                                    0x1.4p-47f, 0x1p-149f, 0x1p-126f, 0x1.8p-26f, 0x1.fffffep14f,  -0x1.fffffep14f,
                                    0x1p-17f,   0x1p-16f,  -0x1p-16f, 0x1p-33f,   0x1.000002p-26f, 0x1.fffffep-26f};
    fill_floats(1, 1.0f, N, x);
    for (int64_t i = 0; i < N; i++)
        x[i] = ldexpf(x[i], (int)(i % 75) - 60);
    memcpy(x + 20, special, sizeof special);
}

static void test_add_fixed_of_every_magnitude_is_rounded_once(void **state)
{
    (void)state;
    float x[N];
    int64_t start[N], sums[N + 1], want[N];
    fill_gradients(x);
    for (int64_t i = 0; i < N; i++) {
        start[i] = (int64_t)(int32_t)random_word(2, (uint64_t)i) * (INT64_C(1) << (i % 30));
        want[i] = start[i] + llrint(ldexp((double)x[i], 48)); /* exact but for llrint, which rounds to nearest even */
    }
    EACH_KERNELS(k)
    {
        for (int64_t n = 1; n <= N; n += n < 70 ? 1 : 66) {
            memcpy(sums, start, sizeof start);
            sums[n] = 7;
            assert_int_equal(k->add_fixed(n, x, sums), 0);
            check_sums("add_fixed", k->name, n, sums, want);
            assert_int_equal(sums[n], 7);
        }
    }
}

static void test_add_fixed_of_what_does_not_fit_is_not_0(void **state)
{
    (void)state;
    static const float wrong[] = {0x1p15f, -0x1p15f, 0x1p100f, -3.4e38f, INFINITY, -INFINITY, NAN};
    enum { LENGTH = 37 };
    EACH_KERNELS(k)
    {
        for (int64_t at = 0; at < LENGTH; at++) {
            for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                float x[LENGTH] = {0};
                int64_t sums[LENGTH] = {0};
                x[at] = wrong[i];
                assert_true(k->add_fixed(LENGTH, x, sums) != 0);
            }
            for (int sign = -1; sign <= 1; sign += 2) { /* a sum one step beyond 64 bits, and just within */
                float x[LENGTH] = {0};
                int64_t sums[LENGTH] = {0};
                x[at] = (float)sign * 0x1p14f;
                sums[at] = sign < 0 ? INT64_MIN + (1ll << 62) - 1 : INT64_MAX - (1ll << 62) + 1;
                assert_true(k->add_fixed(LENGTH, x, sums) != 0);
                sums[at] = sign < 0 ? INT64_MIN + (1ll << 62) : INT64_MAX - (1ll << 62);
                assert_int_equal(k->add_fixed(LENGTH, x, sums), 0);
                assert_int_equal(sums[at], sign < 0 ? INT64_MIN : INT64_MAX);
            }
        }
    }
}

static void test_add_int64_adds_and_tells_of_overflow(void **state)
{
    (void)state;
    int64_t from[N], start[N], to[N + 1], want[N];
    for (int64_t i = 0; i < N; i++) {
        from[i] = (int64_t)(int32_t)random_word(1, (uint64_t)i) * (INT64_C(1) << (i % 32));
        start[i] = (int64_t)(int32_t)random_word(2, (uint64_t)i) * (INT64_C(1) << 20);
        want[i] = start[i] + from[i];
    }
    EACH_KERNELS(k)
    {
        for (int64_t n = 1; n <= N; n += n < 70 ? 1 : 66) {
            memcpy(to, start, sizeof start);
            to[n] = 7;
            assert_int_equal(k->add_int64(n, from, to), 0);
            check_sums("add_int64", k->name, n, to, want);
            assert_int_equal(to[n], 7);
            memcpy(to, start, sizeof start);
            to[n - 1] = from[n - 1] < 0 ? INT64_MIN - from[n - 1] : INT64_MAX - from[n - 1];
            assert_int_equal(k->add_int64(n, from, to), 0); /* just fits */
            to[n - 1] = from[n - 1] < 0 ? INT64_MIN : INT64_MAX;
            assert_int_equal(k->add_int64(n, from, to) != 0, from[n - 1] != 0);
        }
    }
}

static void test_from_fixed_of_every_magnitude_is_its_definition(void **state)
{
    (void)state;
    static const int64_t special[] = {0,
                                      1,
                                      -1,
                                      INT64_MAX,
                                      INT64_MIN,
                                      1ll << 53,
                                      (1ll << 53) + 1,
                                      (1ll << 53) + 3,
                                      (1ll << 62) + (1ll << 38),
                                      (1ll << 62) + (1ll << 38) + 1};
    int64_t sums[N];
    float out[N + 1], want[N];
    for (int64_t i = 0; i < N; i++)
        sums[i] = (int64_t)((uint64_t)random_word(1, (uint64_t)i) << 32 | random_word(2, (uint64_t)i)) >> (i % 64);
    memcpy(sums + 5, special, sizeof special);
    for (int64_t i = 0; i < N; i++)
        want[i] = (float)ldexp((double)sums[i], -48);
    EACH_KERNELS(k)
    {
        for (int64_t n = 1; n <= N; n += n < 70 ? 1 : 66) {
            out[n] = 7.0f;
            k->from_fixed(n, sums, out);
            check_bits("from_fixed", k->name, n, out, want);
            assert_true(out[n] == 7.0f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outer_of_every_shape_is_one_chain_an_element),
        cmocka_unit_test(test_outer_in_pairs_is_one_chain_an_element),
        cmocka_unit_test(test_outer_of_subnormal_and_large_values_is_one_chain_an_element),
        cmocka_unit_test(test_transpose_of_every_shape_is_the_rounded_tensor),
        cmocka_unit_test(test_adamw_of_every_anchor_is_its_definition),
        cmocka_unit_test(test_add_fixed_of_every_magnitude_is_rounded_once),
        cmocka_unit_test(test_add_fixed_of_what_does_not_fit_is_not_0),
        cmocka_unit_test(test_add_int64_adds_and_tells_of_overflow),
        cmocka_unit_test(test_from_fixed_of_every_magnitude_is_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
