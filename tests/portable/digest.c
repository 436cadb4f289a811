/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c: prints digests of everything that promises bits, for each table of kernels of this build that runs here.
 *
 * It links the kernels and nothing else (no MPI, no base layer), so that it can be built for another CPU and run under
 * an emulator. run.sh compares the lines over compilers, instruction sets and CPUs: behind the name they must all be
 * equal. */
#include "la_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_M = 33,
    MAX_K = 129,
    N = 96,
    MAX_DIM = 80,
    POSITIONS = 83,
    PAGES = (POSITIONS + 15) / 16,
    ROW = 1013,
    MANY = 1 << 16
};

static void *take(size_t n, size_t item_bytes)
{
    size_t bytes = (n * item_bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    if (p == NULL) {
        (void)fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memset(p, 0, bytes);
}

/* After FNV-1a, over whole floats; NaNs of any payload count as one. */
static uint64_t digest(uint64_t h, int64_t n, const float *x)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        h = (h ^ h >> 32 ^ (x[i] != x[i] ? 0x7fc00000u : u)) * 1099511628211u;
    }
    return h;
}

static uint64_t digest_bytes(uint64_t h, size_t n, const void *x)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)x)[i]) * 1099511628211u;
    return h;
}

static uint32_t random_word(uint64_t i)
{
    uint64_t w[4] = {i, 0, 0, 0};
    sow_philox4x32((const uint32_t[2]){1, 2}, w);
    return (uint32_t)w[0];
}

/* Uniform in [-scale, scale). */
static void fill(int64_t n, uint64_t stream, float scale, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(int32_t)random_word(stream << 32 | (uint64_t)i) * 0x1p-31f * scale;
}

/* Weights of all magnitudes, subnormals too, none infinite. */
static void fill_weights(sow_type type, void *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t r = random_word((uint64_t)i);
        if (type == SOW_F32)
            ((uint32_t *)w)[i] = r & 0xbfffffff;
        else
            ((uint16_t *)w)[i] = (uint16_t)(type == SOW_FP16 ? r & 0xfbff : r & 0xbfff);
    }
}

/* Scale 1 makes ordinary sums, the small scale subnormal ones.  Every number of rows, hence every tile. */
static uint64_t digest_linear(const sow_kernels *k, sow_type type, float scale, uint64_t h)
{
    float *x = take(MAX_M * (MAX_K + 3), sizeof *x), *y = take(MAX_M * (N + 5), sizeof *y),
          *bias = take(N, sizeof *bias);
    void *w = take(MAX_K * N, sizeof(float));
    fill(MAX_M * (MAX_K + 3), 1, scale, x);
    fill(N, 2, scale, bias);
    fill_weights(type, w, MAX_K * N);
    for (int64_t m = 1; m <= MAX_M; m++) {
        k->linear(&(sow_linear_args){.type = type,
                                     .m_size = m,
                                     .n_size = N,
                                     .k_size = MAX_K - m,
                                     .ldx = MAX_K + 3,
                                     .ldy = N + 5,
                                     .x = x,
                                     .w = w,
                                     .bias = m % 2 ? bias : NULL,
                                     .y = y});
        h = digest(h, m * (N + 5), y);
    }
    free(x), free(w), free(y), free(bias);
    return h;
}

static uint64_t digest_attention(const sow_kernels *k)
{
    static const int64_t dims[] = {1, 12, 24, 64, 80};
    float *cache = take(PAGES * 2 * SOW_PAGE * MAX_DIM, sizeof *cache), q[5 * MAX_DIM], out[5 * MAX_DIM];
    float scores[5 * PAGES * SOW_PAGE];
    const float *pages[PAGES];
    uint64_t h = 0;
    fill(PAGES * 2 * SOW_PAGE * MAX_DIM, 3, 2.0f, cache);
    fill(5 * MAX_DIM, 4, 2.0f, q);
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        for (int64_t p = 0; p < PAGES; p++)
            pages[p] = cache + (PAGES - 1 - p) * 2 * SOW_PAGE * dims[d];
        for (int64_t n = 1; n <= POSITIONS; n++) {
            k->attention(&(sow_attention_args){.n_positions = n,
                                               .head_dim = dims[d],
                                               .v_offset = SOW_PAGE * dims[d],
                                               .n_queries = n % 6,
                                               .scale = 0.3f,
                                               .q = q,
                                               .pages = pages,
                                               .scores = scores,
                                               .out = out});
            h = digest(h, (n % 6 > 1 ? n % 6 : 1) * dims[d], out);
        }
    }
    free(cache);
    return h;
}

static uint64_t digest_rows(const sow_kernels *k)
{
    static float x[ROW], w[ROW], y[ROW];
    uint64_t h = 0;
    for (int64_t n = 1; n <= ROW; n += n < 70 ? 1 : 97) {
        float max = 0, sum;
        fill(n, (uint64_t)(100 + n), 3.0f, x);
        fill(n, 5, 1.0f, w);
        k->rms_norm(n, x, w, 1e-5f, y);
        h = digest(h, n, y);
        int64_t at = k->argmax(n, x, &max);
        sum = k->sum_exp(n, x, max);
        h = digest(digest(h + (uint64_t)at, 1, &max), 1, &sum);
        k->swiglu(n, x, w, y);
        k->add(n, x, y);
        k->rope(n / 2 * 2, w, x, y);
        h = digest(h, n, y);
    }
    return h;
}

static uint64_t digest_functions(const sow_kernels *k)
{
    float *x = take(MANY, sizeof *x), *y = take(MANY, sizeof *y);
    uint16_t *half = take(MANY, sizeof *half);
    uint64_t h = 0;
    for (uint64_t i = 0; i < MANY; i++) {
        uint32_t u = random_word(i);
        memcpy(&x[i], &u, sizeof u);
    }
    k->exp(MANY, x, y);
    h = digest(h, MANY, y);
    k->log(MANY, x, y);
    h = digest(h, MANY, y);
    for (sow_type type = SOW_FP16; type <= SOW_BF16; type++) {
        k->narrow(type, MANY, x, half);
        k->widen(type, MANY, half, y);
        h = digest(h, MANY, y);
    }
    free(x), free(y), free(half);
    return h;
}

static uint64_t digest_noise(const sow_kernels *k, sow_noise_loop loop)
{
    float *x = take(MANY, sizeof *x);
    sow_place place = {.key = {42, 43}, .stream = {1, 2}};
    uint64_t first = (1ull << 34) - 64 * 10; /* the counter's low word overflows within the slice */
    k->noise(loop, place, first, MANY - 7, x);
    uint64_t h = digest(0, MANY, x);
    free(x);
    return h;
}

/* A member's weights, and one update: the noise of three members summed, added, anchored. */
static uint64_t digest_member(const sow_kernels *k, sow_noise_loop loop)
{
    enum { ROWS = 70, COLUMNS = 357, ALL = ROWS * COLUMNS, PADDED = 96 * COLUMNS };
    float *theta = take(ALL, sizeof *theta), *acc = take(ALL, sizeof *acc), *out = take(ALL, sizeof *out);
    void *w = take(PADDED, sizeof(float));
    sow_place place = {.key = {9, 1}, .stream = {5, 7}};
    uint64_t h = 0;
    fill(ALL, 6, 0.1f, theta);
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        k->perturb(&(sow_perturb_args){.type = type,
                                       .loop = loop,
                                       .place = place,
                                       .factor = 1e-3f,
                                       .n_size = ROWS,
                                       .k_size = COLUMNS,
                                       .n_panels = PADDED / COLUMNS / SOW_PANEL,
                                       .theta = theta,
                                       .w = w});
        h = digest_bytes(h, PADDED * (type == SOW_F32 ? sizeof(float) : sizeof(uint16_t)), w);
    }
    k->perturb_f32(loop, place, ALL, 1e-3f, theta, out);
    h = digest(h, ALL, out);
    for (uint32_t member = 0; member < 3; member++) {
        place.stream[0] = member;
        k->accumulate(&(sow_accumulate_args){
            .loop = loop, .place = place, .first = 64, .n = ALL, .c = 0.1f * (float)(member + 1), .acc = acc});
    }
    for (sow_anchor anchor = SOW_ANCHOR_NONE; anchor <= SOW_ANCHOR_L2; anchor++) {
        k->apply(&(sow_apply_args){
            .n = ALL, .anchor = anchor, .decay = 0.01f, .theta = theta, .base = theta, .acc = acc, .out = out});
        h = digest(h, ALL, out);
    }
    free(theta), free(acc), free(out), free(w);
    return h;
}

/* Every number of rows, hence every tile; ordinary values, then of all magnitudes with subnormal products; rows near to
 * and far from each other. */
static uint64_t digest_outer(const sow_kernels *k)
{
    enum { T = 140, COLUMNS = 77, FAR = 520 };
    float *dy = take(T * FAR, sizeof *dy), *x = take(T * FAR, sizeof *x), *dw = take(MAX_M * COLUMNS, sizeof *dw);
    unsigned char ends[T];
    uint64_t h = 0;
    for (int t = 0; t < T; t++)
        ends[t] = t * t % 7 == 1;
    for (int i = 0; i < 4; i++) { /* in float32, then in products of bf16 */
        const bool is_wild = i % 2 == 1;
        fill(T * FAR, 7, 1.0f, dy);
        fill(T * FAR, 8, is_wild ? 0x1p-130f : 1.0f, x);
        fill(MAX_M * COLUMNS, 9, is_wild ? 0x1p-140f : 1.0f, dw);
        if (is_wild)
            fill_weights(SOW_F32, dy, T * FAR);
        for (int j = 0; is_wild && j < T * FAR; j += 3)
            x[j] = j % 2 == 0 ? 0x1.fffffcp-127f : -0x1.fep-127f; /* would be normal, rounded to bf16 */
        for (int64_t n = 1; n <= MAX_M; n++) {
            k->outer(&(sow_outer_args){.t_size = T - n,
                                       .n_size = n,
                                       .k_size = COLUMNS - n % 3,
                                       .ldy = n % 2 ? MAX_M : FAR,
                                       .ldx = n % 5 ? COLUMNS : FAR,
                                       .ldw = COLUMNS,
                                       .dy = dy,
                                       .x = x,
                                       .dw = dw,
                                       .ends = i < 2 ? NULL : ends});
            h = digest(h, MAX_M * COLUMNS, dw);
        }
    }
    free(dy), free(x), free(dw);
    return h;
}

/* Of values of all magnitudes, subnormal and infinite as fp16 too. */
static uint64_t digest_transpose(const sow_kernels *k)
{
    enum { ROWS = 41, COLUMNS = 77, INNER = 50, PADDED = 96 };
    float *theta = take(ROWS * COLUMNS, sizeof *theta);
    void *w = take(PADDED * INNER, sizeof(float));
    uint64_t h = 0;
    fill_weights(SOW_F32, theta, ROWS * COLUMNS);
    for (int64_t i = 0; i < ROWS * COLUMNS; i++)
        theta[i] *= i % 3 == 0 ? 1.0f : 0x1p50f;
    for (sow_type type = 0; type < SOW_N_TYPES; type++) {
        k->transpose(&(sow_transpose_args){.type = type,
                                           .n_size = ROWS,
                                           .k_size = COLUMNS,
                                           .inner_size = INNER,
                                           .inner_first = 3,
                                           .n_panels = PADDED / SOW_PANEL,
                                           .theta = theta,
                                           .w = w});
        h = digest_bytes(h, PADDED * INNER * (type == SOW_F32 ? sizeof(float) : sizeof(uint16_t)), w);
    }
    free(theta), free(w);
    return h;
}

/* Three steps, with gradients whose squares overflow, are ordinary, or are subnormal. */
static uint64_t digest_adamw(const sow_kernels *k)
{
    static float gradient[ROW], base[ROW], state[2][3][ROW]; /* theta, m, v */
    uint64_t h = 0;
    fill(ROW, 10, 0.1f, base);
    for (sow_anchor anchor = SOW_ANCHOR_NONE; anchor <= SOW_ANCHOR_L2; anchor++) {
        memset(state, 0, sizeof state);
        memcpy(state[0][0], base, sizeof base);
        for (uint64_t t = 0; t < 3; t++) {
            float(*from)[ROW] = state[t % 2], (*to)[ROW] = state[1 - t % 2];
            fill(ROW, 11 + t, 1.0f, gradient);
            for (int64_t i = 0; i < ROW; i++)
                gradient[i] *= i % 5 == 0 ? 0x1p66f : i % 5 == 1 ? 0x1p-66f : i % 5 == 2 ? 0x1p-140f : 1.0f;
            k->adamw(&(sow_adamw_args){.n = ROW,
                                       .clip = 0.7f,
                                       .keep = 0.99999f,
                                       .one_minus_beta1 = 0.1f,
                                       .beta2 = 0.999f,
                                       .one_minus_beta2 = 0.001f,
                                       .eps = 1e-8f,
                                       .step_size = 3e-3f,
                                       .root_correction = 0.0316f,
                                       .anchor = anchor,
                                       .anchor_decay = 1e-3f,
                                       .gradient = gradient,
                                       .theta = from[0],
                                       .base = base,
                                       .m = from[1],
                                       .v = from[2],
                                       .theta_out = to[0],
                                       .m_out = to[1],
                                       .v_out = to[2]});
            for (int i = 0; i < 3; i++)
                h = digest(h, ROW, to[i]);
        }
    }
    return h;
}

/* Sums that are to fit, of all magnitudes below 2^15; then a number that does not fit; and back to floats. */
static uint64_t digest_fixed(const sow_kernels *k)
{
    float *x = take(MANY, sizeof *x);
    int64_t *sums = take(MANY, sizeof *sums), *twice = take(MANY, sizeof *twice);
    uint64_t h = 0;
    for (uint64_t i = 0; i < MANY; i++) {
        uint32_t u = random_word(i) & 0xbfffffff; /* below 2 */
        memcpy(&x[i], &u, sizeof u);
        x[i] *= i % 4 == 0 ? 0x1p13f : i % 4 == 1 ? 0x1p-40f : 1.0f;
        memcpy(&twice[i], (const uint64_t[]){(uint64_t)random_word(i + MANY) << (i % 31)}, sizeof *twice);
    }
    for (int i = 0; i < 2; i++)
        h = h * 31 + (uint64_t)(k->add_fixed(MANY - i, x, sums) != 0);
    h = digest_bytes(h, MANY * sizeof *sums, sums) + (uint64_t)(k->add_int64(MANY, sums, twice) != 0);
    h = digest_bytes(h, MANY * sizeof *sums, twice);
    k->from_fixed(MANY, twice, x);
    h = digest(h, MANY, x);
    x[MANY - 1] = 0x1p15f;
    h = h * 31 + (uint64_t)(k->add_fixed(MANY, x, sums) != 0);
    free(x), free(sums), free(twice);
    return h;
}

static void print_digests(const sow_kernels *k)
{
    (void)printf("%-6s", k->name);
    for (sow_type type = 0; type < SOW_N_TYPES; type++)
        (void)printf(" linear %016" PRIx64, digest_linear(k, type, 0x1p-138f, digest_linear(k, type, 1.0f, 0)));
    (void)printf(" attention %016" PRIx64 " rows %016" PRIx64, digest_attention(k), digest_rows(k));
    (void)printf(" functions %016" PRIx64, digest_functions(k));
    for (sow_noise_loop loop = 0; loop < SOW_N_NOISE_LOOPS; loop++)
        (void)printf(" noise %016" PRIx64 " member %016" PRIx64, digest_noise(k, loop), digest_member(k, loop));
    (void)printf(" outer %016" PRIx64 " transpose %016" PRIx64, digest_outer(k), digest_transpose(k));
    (void)printf(" adamw %016" PRIx64 " fixed %016" PRIx64, digest_adamw(k), digest_fixed(k));
    (void)printf("\n");
}

int main(void)
{
#if defined(SOW_HAS_AVX512BF16)
    if (__builtin_cpu_supports("avx512bf16"))
        print_digests(&sow_kernels_avx512bf16);
#endif
#if defined(SOW_HAS_AVX512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        print_digests(&sow_kernels_avx512);
#endif
#if defined(SOW_HAS_AVX2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        print_digests(&sow_kernels_avx2);
#endif
#if defined(SOW_HAS_NEON)
    print_digests(&sow_kernels_neon);
#endif
    print_digests(&sow_kernels_plain);
    return 0;
}
