// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Perturbing: every table against theta + factor * noise, element by element; the update's last step. */
#include "kernel_check.h"

typedef struct tensor {
    int64_t n_size, k_size;
    float *theta, *noise, *row;
} tensor;

static tensor make_tensor(int64_t n_size, int64_t k_size, sow_noise_loop loop, sow_place place)
{
    tensor t = {.n_size = n_size, .k_size = k_size};
    CHECK_OK(SOW_ALLOC(&t.theta, n_size * k_size));
    CHECK_OK(SOW_ALLOC(&t.noise, n_size * k_size));
    CHECK_OK(SOW_ALLOC(&t.row, k_size));
    fill_floats(1, 0.05f, n_size * k_size, t.theta);
    t.theta[0] = -0.0f;
    t.theta[n_size * k_size - 1] = 1e-6f; /* subnormal as fp16 */
    sow_kernels_at(sow_kernels_count() - 1)->noise(loop, place, 0, n_size * k_size, t.noise);
    return t;
}

static void free_tensor(tensor *t)
{
    SOW_FREE(&t->theta);
    SOW_FREE(&t->noise);
    SOW_FREE(&t->row);
}

/* Each row of the packed tensor is the definition, rounded; the rows that are not there are zero. */
static void check_packed(const tensor *t, sow_type type, float factor, const void *w, const char *who)
{
    float want[1200];
    uint16_t half[1200];
    const sow_kernels *plain = sow_kernels_at(sow_kernels_count() - 1);
    assert_true(t->k_size <= 1200);
    for (int64_t n = 0; n < sow_la_padded(t->n_size); n++) {
        for (int64_t k = 0; k < t->k_size; k++) {
            const int64_t i = n * t->k_size + k;
            want[k] = n >= t->n_size ? 0.0f : factor == 0.0f ? t->theta[i] : fmaf(factor, t->noise[i], t->theta[i]);
        }
        if (type != SOW_F32) {
            plain->narrow(type, t->k_size, want, half);
            plain->widen(type, t->k_size, half, want);
        }
        sow_la_packed_row(type, t->k_size, w, n, t->row);
        check_bits(sow_type_name(type), who, t->k_size, t->row, want);
    }
}

/* In one go, and panel by panel in descending order over rubbish. */
static void check_tensor(int64_t n_size, int64_t k_size, sow_noise_loop loop)
{
    const sow_place place = sow_place_of(SOW_STREAM_NOISE, 1, 2, 3, (uint32_t)k_size);
    tensor t = make_tensor(n_size, k_size, loop, place);
    const int64_t n_panels = sow_la_padded(n_size) / SOW_PANEL;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        const size_t bytes = sow_la_packed_bytes(type, n_size, k_size);
        unsigned char *w = NULL, *first = NULL;
        CHECK_OK(SOW_ALLOC(&w, bytes + 64));
        CHECK_OK(SOW_ALLOC(&first, bytes));
        EACH_KERNELS(k)
        {
            const float factor = k_size % 2 ? 1e-2f : -1e-3f;
            sow_perturb_args args = {.type = type,
                                     .loop = loop,
                                     .place = place,
                                     .factor = factor,
                                     .n_size = n_size,
                                     .k_size = k_size,
                                     .n_panels = n_panels,
                                     .theta = t.theta,
                                     .w = w};
            memset(w, 0xa5, bytes + 64);
            k->perturb(&args);
            check_packed(&t, type, factor, w, k->name);
            assert_int_equal(w[bytes], 0xa5);
            memcpy(first, w, bytes);
            memset(w, 0x5a, bytes + 64);
            args.n_panels = 1;
            for (args.first_panel = n_panels - 1; args.first_panel >= 0; args.first_panel--)
                k->perturb(&args);
            assert_memory_equal(w, first, bytes);
            args.first_panel = 0, args.n_panels = n_panels, args.factor = 0.0f;
            k->perturb(&args);
            check_packed(&t, type, 0.0f, w, k->name);
        }
        SOW_FREE(&w);
        SOW_FREE(&first);
    }
    free_tensor(&t);
}

static void test_perturb_of_every_shape_is_one_multiply_add(void **state)
{
    (void)state;
    static const struct shape {
        int64_t n, k;
    } shapes[] = {{1, 1},    {31, 24},  {32, 96},  {33, 64},  {70, 7},   {5, 255},  {64, 256},
                  {40, 257}, {33, 300}, {32, 512}, {3, 1000}, {64, 576}, {20, 1111}};
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            check_tensor(shapes[i].n, shapes[i].k, loop);
}

static void test_perturb_f32_of_every_length_is_one_multiply_add(void **state)
{
    (void)state;
    const sow_place place = sow_place_of(SOW_STREAM_NOISE, 1, 2, 3, 4);
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++) {
        tensor t = make_tensor(1, 1100, loop, place);
        for (int64_t n = 1; n <= 1100; n += n < 70 ? 1 : 103) {
            float out[1101], want[1100];
            for (int64_t i = 0; i < n; i++)
                want[i] = fmaf(0.3f, t.noise[i], t.theta[i]);
            EACH_KERNELS(k)
            {
                out[n] = 7.0f;
                k->perturb_f32(loop, place, n, 0.3f, t.theta, out);
                check_bits("perturb_f32", k->name, n, out, want);
                assert_true(out[n] == 7.0f);
                k->perturb_f32(loop, place, n, 0.0f, t.theta, out);
                check_bits("perturb_f32 by 0", k->name, n, out, t.theta);
            }
        }
        free_tensor(&t);
    }
}

/* Three of ten bits, and a word behind the last. */
static uint32_t *random_mask(int64_t n)
{
    uint32_t *mask = NULL;
    CHECK_OK(SOW_ALLOC(&mask, n / 32 + 2));
    for (int64_t i = 0; i < n; i++)
        mask[i / 32] |= (random_word(9, (uint64_t)i) % 10 < 3 ? UINT32_C(1) : 0) << i % 32;
    return mask;
}

static bool is_moved(const uint32_t *mask, int64_t i)
{
    return (mask[i / 32] >> i % 32 & 1) != 0;
}

static void test_hold_of_every_slice_keeps_what_does_not_move(void **state)
{
    (void)state;
    enum { N = 300 };
    float from[N], to[N + 1], want[N + 1];
    uint32_t *mask = random_mask(2 * N);
    fill_wild(1, N, from);
    from[5] = -0.0f, from[6] = NAN;
    for (int64_t first = 0; first < N; first += first < 70 ? 1 : 31)
        for (int64_t n = 0; n <= N; n += n < 70 ? 1 : 46) {
            fill_wild(2, N + 1, want);
            for (int64_t i = 0; i < n; i++)
                want[i] = is_moved(mask, first + i) ? want[i] : from[i];
            EACH_KERNELS(k)
            {
                fill_wild(2, N + 1, to);
                k->hold(mask, first, n, from, to);
                assert_memory_equal(to, want, sizeof to);
            }
        }
    SOW_FREE(&mask);
}

/* Where the mask is 0: the weight of a replica without noise; where it is 1: that of one without a mask. */
static void test_perturb_under_a_mask_moves_its_elements_only(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{33, 64}, {70, 7}, {40, 257}, {20, 1111}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const int64_t rows = shapes[s][0], cols = shapes[s][1];
        const sow_place place = sow_place_of(SOW_STREAM_NOISE, 1, 2, 3, 4);
        tensor t = make_tensor(rows, cols, SOW_NOISE_GAUSSIAN, place);
        uint32_t *mask = random_mask(rows * cols);
        float still[1200], moved[1200], want[1200];
        for (sow_type type = 0; type < SOW_N_TYPES; type++) {
            unsigned char *w[3] = {NULL, NULL, NULL};
            for (int i = 0; i < 3; i++)
                CHECK_OK(SOW_ALLOC(&w[i], sow_la_packed_bytes(type, rows, cols)));
            EACH_KERNELS(k)
            {
                for (int i = 0; i < 3; i++)
                    k->perturb(&(sow_perturb_args){.type = type,
                                                   .place = place,
                                                   .factor = i == 0 ? 0.0f : 0.02f,
                                                   .n_size = rows,
                                                   .k_size = cols,
                                                   .n_panels = sow_la_padded(rows) / SOW_PANEL,
                                                   .theta = t.theta,
                                                   .mask = i == 2 ? mask : NULL,
                                                   .w = w[i]});
                for (int64_t r = 0; r < rows; r++) {
                    sow_la_packed_row(type, cols, w[0], r, still);
                    sow_la_packed_row(type, cols, w[1], r, moved);
                    sow_la_packed_row(type, cols, w[2], r, t.row);
                    for (int64_t i = 0; i < cols; i++)
                        want[i] = is_moved(mask, r * cols + i) ? moved[i] : still[i];
                    check_bits("perturb under a mask", k->name, cols, t.row, want);
                }
            }
            for (int i = 0; i < 3; i++)
                SOW_FREE(&w[i]);
        }
        SOW_FREE(&mask);
        free_tensor(&t);
    }
}

static float anchored(sow_anchor anchor, float decay, float theta, float base, float acc)
{
    volatile float sum = theta + acc, delta = sum - base, keep = 1.0f - decay, shorter = fabsf(delta) - decay;
    volatile float kept = keep * delta;
    if (anchor == SOW_ANCHOR_L2)
        return base + kept;
    if (anchor == SOW_ANCHOR_L1)
        return base + copysignf(shorter > 0.0f ? shorter : 0.0f, delta);
    return sum;
}

static void test_apply_of_every_anchor_is_its_definition(void **state)
{
    (void)state;
    enum { N = 333 };
    float theta[N], base[N], acc[N], out[N + 1], want[N];
    fill_floats(1, 1.0f, N, theta);
    fill_floats(2, 1.0f, N, base);
    fill_floats(3, 0.1f, N, acc);
    memcpy(base, theta, 100 * sizeof *base); /* delta within the decay and beyond */
    for (sow_anchor anchor = SOW_ANCHOR_NONE; anchor <= SOW_ANCHOR_L2; anchor++) {
        for (int64_t i = 0; i < N; i++)
            want[i] = anchored(anchor, 0.05f, theta[i], base[i], acc[i]);
        EACH_KERNELS(k)
        {
            for (int64_t n = 1; n <= N; n += n < 70 ? 1 : 66) {
                out[n] = 7.0f;
                k->apply(&(sow_apply_args){
                    .n = n, .anchor = anchor, .decay = 0.05f, .theta = theta, .base = base, .acc = acc, .out = out});
                check_bits("apply", k->name, n, out, want);
                assert_true(out[n] == 7.0f);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_perturb_of_every_shape_is_one_multiply_add),
        cmocka_unit_test(test_perturb_f32_of_every_length_is_one_multiply_add),
        cmocka_unit_test(test_hold_of_every_slice_keeps_what_does_not_move),
        cmocka_unit_test(test_perturb_under_a_mask_moves_its_elements_only),
        cmocka_unit_test(test_apply_of_every_anchor_is_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
