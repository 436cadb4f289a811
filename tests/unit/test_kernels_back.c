// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Rows and attention of the backward pass: equal bits of all tables, and near to the formulas in double. */
#include "kernel_check.h"

enum { MOST = 700 };

static const int64_t counts[] = {1, 2, 15, 16, 17, 31, 33, 64, 255, 256, 257, 576, MOST};
static const sow_kernels *plain_kernels(void)
{
    return sow_kernels_at(sow_kernels_count() - 1);
}

static void check_norm(int64_t n)
{
    float x[MOST], w[MOST], dy[MOST], dx[MOST], want_dy[MOST], want_dx[MOST], start[MOST] = {0};
    double square = 0.0, product = 0.0;
    fill_floats(1, 2.0f, n, x);
    fill_floats(2, 1.5f, n, w);
    fill_floats(3, 1.0f, n, start);
    memcpy(want_dy, start, sizeof want_dy);
    fill_floats(4, 1.0f, n, want_dx);
    plain_kernels()->rms_norm_back(n, x, w, 1e-5f, want_dy, want_dx);
    for (int64_t i = 0; i < n; i++) {
        square += (double)x[i] * (double)x[i];
        product += (double)x[i] * (double)w[i] * (double)start[i];
    }
    const double inverse = 1.0 / sqrt(square / (double)n + 1e-5);
    EACH_KERNELS(k)
    {
        memcpy(dy, start, sizeof dy);
        fill_floats(4, 1.0f, n, dx);
        k->rms_norm_back(n, x, w, 1e-5f, dy, dx);
        check_bits("rms_norm_back dy", k->name, n, dy, want_dy);
        check_bits("rms_norm_back dx", k->name, n, dx, want_dx);
    }
    fill_floats(4, 1.0f, n, dx);
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)w[i] * (double)start[i];
        CHECK_NEAR((double)want_dx[i],
                   (double)dx[i] + inverse * (g - (double)x[i] * inverse * inverse * product / (double)n), 4e-6);
        CHECK_NEAR((double)want_dy[i], (double)start[i] * (double)x[i] * inverse, 1e-6);
    }
}

static void check_swiglu(int64_t n)
{
    float gate[MOST] = {0}, up[MOST] = {0}, dy[MOST], got[2][MOST], want[2][MOST];
    fill_floats(1, 8.0f, n, gate);
    fill_floats(2, 2.0f, n, up);
    fill_floats(3, 1.0f, n, dy);
    gate[0] = -1000.0f; /* exp overflows */
    gate[n / 2] = 1000.0f;
    memcpy(want[0], gate, sizeof gate);
    memcpy(want[1], up, sizeof up);
    plain_kernels()->swiglu_back(n, dy, want[0], want[1]);
    EACH_KERNELS(k)
    {
        memcpy(got[0], gate, sizeof gate);
        memcpy(got[1], up, sizeof up);
        k->swiglu_back(n, dy, got[0], got[1]);
        check_bits("swiglu_back gate", k->name, n, got[0], want[0]);
        check_bits("swiglu_back up", k->name, n, got[1], want[1]);
    }
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)gate[i], q = 1.0 / (1.0 + exp(-g));
        CHECK_NEAR((double)want[0][i], (double)dy[i] * (double)up[i] * q * (1.0 + g * (1.0 - q)), 2e-6);
        CHECK_NEAR((double)want[1][i], (double)dy[i] * g * q, 2e-6 * (1.0 + fabs(g)));
    }
}

static void check_rope(int64_t n)
{
    float x[2 * MOST] = {0}, got[2 * MOST], want[2 * MOST], cosine[MOST], sine[MOST];
    fill_floats(1, 1.0f, 2 * n, x);
    for (int64_t i = 0; i < n; i++) {
        cosine[i] = (float)cos((double)i * 0.7);
        sine[i] = (float)sin((double)i * 0.7);
    }
    memcpy(want, x, sizeof x);
    plain_kernels()->rope(2 * n, cosine, sine, want);
    plain_kernels()->rope_back(2 * n, cosine, sine, want);
    for (int64_t i = 0; i < 2 * n; i++)
        CHECK_NEAR((double)want[i], (double)x[i], 1e-6); /* there and back */
    EACH_KERNELS(k)
    {
        memcpy(got, x, sizeof x);
        k->rope(2 * n, cosine, sine, got);
        k->rope_back(2 * n, cosine, sine, got);
        check_bits("rope_back", k->name, 2 * n, got, want);
    }
}

static void check_softmax(int64_t n)
{
    float l[MOST] = {0}, got[MOST], want[MOST], max = 0.0f;
    const sow_kernels *p = plain_kernels();
    fill_floats(1, 9.0f, n, l);
    l[n - 1] = -300.0f; /* its probability is 0 */
    l[0] = 8.5f;
    const int64_t best = p->argmax(n, l, &max);
    sow_softmax_back_args a = {.n = n,
                               .target = n / 2,
                               .max = max,
                               .sum = p->sum_exp(n, l, max),
                               .weight = -0.7f,
                               .entropy_weight = 0.3f,
                               .scale = 1.25f,
                               .logits = want};
    double sum = 0.0, entropy = 0.0;
    assert_true(best >= 0);
    p->log(1, &a.sum, &a.log_sum);
    a.entropy = p->entropy(n, l, max, a.sum);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)l[i]);
    for (int64_t i = 0; i < n; i++)
        entropy -= exp((double)l[i]) / sum * ((double)l[i] - log(sum));
    CHECK_NEAR((double)a.entropy, entropy, 2e-6 * (1.0 + entropy));
    memcpy(want, l, sizeof want);
    p->softmax_back(&a);
    for (int64_t i = 0; i < n; i++) {
        const double q = exp((double)l[i]) / sum;
        const double d = -0.7 * ((i == n / 2 ? 1.0 : 0.0) - q) - 0.3 * q * ((double)l[i] - log(sum) + entropy);
        CHECK_NEAR((double)want[i], 1.25 * d, 1e-6);
    }
    EACH_KERNELS(k)
    {
        const float again = k->entropy(n, l, max, a.sum);
        assert_memory_equal(&again, &a.entropy, sizeof again);
        memcpy(got, l, sizeof got);
        a.logits = got;
        k->softmax_back(&a);
        check_bits("softmax_back", k->name, n, got, want);
    }
}

static void test_rows_back_of_every_length_have_equal_bits_and_are_near(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_norm(counts[i]);
        check_swiglu(counts[i]);
        check_rope(counts[i] / 2 + 1);
        check_softmax(counts[i]);
    }
}

/* ---- attention ---- */

enum { LONGEST = 70, MOST_DIM = 80, MOST_HEADS = 6, PAGES = (LONGEST + 15) / 16 };

/* One KV head: queries of all positions, keys and values in pages that hold the transposes too. */
typedef struct attention_case {
    int64_t n, dim, heads;
    float q[LONGEST][MOST_HEADS * MOST_DIM], dy[LONGEST][MOST_HEADS * MOST_DIM];
    float k[LONGEST][MOST_DIM], v[LONGEST][MOST_DIM];
    float pages[PAGES][4 * 16 * MOST_DIM];
} attention_case;

typedef struct attention_result {
    float dq[LONGEST * MOST_HEADS * MOST_DIM], dk[LONGEST * MOST_DIM], dv[LONGEST * MOST_DIM];
} attention_result;

static void make_attention(attention_case *c, int64_t n, int64_t dim, int64_t heads)
{
    memset(c, 0, sizeof *c);
    c->n = n, c->dim = dim, c->heads = heads;
    for (int64_t t = 0; t < n; t++) {
        fill_floats((uint32_t)(4 * t), 1.0f, heads * dim, c->q[t]);
        fill_floats((uint32_t)(4 * t + 1), 1.0f, heads * dim, c->dy[t]);
        fill_floats((uint32_t)(4 * t + 2), 1.5f, dim, c->k[t]);
        fill_floats((uint32_t)(4 * t + 3), 1.0f, dim, c->v[t]);
    }
    for (int64_t t = 0; t < PAGES * 16; t++)
        for (int64_t d = 0; d < dim; d++) {
            float *page = c->pages[t / 16];
            const float k = t < n ? c->k[t][d] : NAN, v = t < n ? c->v[t][d] : NAN; /* what is behind does not matter */
            page[d * 16 + t % 16] = k;
            page[(16 + t % 16) * dim + d] = v;
            page[32 * dim + d * 16 + t % 16] = v;
            page[(48 + t % 16) * dim + d] = k;
        }
}

/* By the kernels; rows of a page's dk, dv in two calls, as passes may cut them. */
static void attend_back(const sow_kernels *kernels, const attention_case *c, attention_result *out)
{
    static float q[LONGEST][MOST_HEADS * MOST_DIM], scores[2 * MOST_HEADS * (LONGEST + 16)];
    static sow_attention_stats stats[LONGEST][MOST_HEADS];
    const float *pages[PAGES];
    memset(out, 0, sizeof *out);
    memcpy(q, c->q, sizeof q);
    for (int64_t p = 0; p < PAGES; p++)
        pages[p] = c->pages[p];
    for (int64_t t = 0; t < c->n; t++)
        kernels->attention_dq(&(sow_attention_dq_args){.n_positions = t + 1,
                                                       .head_dim = c->dim,
                                                       .n_queries = c->heads,
                                                       .scale = 0.3f,
                                                       .q = q[t],
                                                       .dy = c->dy[t],
                                                       .pages = pages,
                                                       .scores = scores,
                                                       .dq = out->dq + t * c->heads * c->dim,
                                                       .stats = stats[t]});
    for (int64_t begin = 0; begin < c->n; begin += 16) {
        const int64_t end = begin + 16 < c->n ? begin + 16 : c->n, half = (begin + c->n) / 2;
        for (int side = 0; side < 2; side++) {
            const int64_t row = side == 0 ? begin : half;
            kernels->attention_dkv(&(sow_attention_dkv_args){.head_dim = c->dim,
                                                             .n_queries = c->heads,
                                                             .n_rows = side == 0 ? half - begin : c->n - half,
                                                             .end = end - begin,
                                                             .n_visible = row - begin + 1,
                                                             .ldq = MOST_HEADS * MOST_DIM,
                                                             .ldo = MOST_HEADS * MOST_DIM,
                                                             .ld_stats = MOST_HEADS,
                                                             .page = pages[begin / 16],
                                                             .q = q[row],
                                                             .dy = c->dy[row],
                                                             .stats = stats[row],
                                                             .ld = c->dim,
                                                             .dk = out->dk + begin * c->dim,
                                                             .dv = out->dv + begin * c->dim});
        }
    }
}

/* The formulas in double; adds one head of one query. */
static void add_plain(const attention_case *c, int64_t t, int64_t h, double *dq, double *dk, double *dv)
{
    const float *q = c->q[t] + h * c->dim, *dy = c->dy[t] + h * c->dim;
    double p[LONGEST], dp[LONGEST], sum = 0.0, dot = 0.0;
    for (int64_t j = 0; j <= t; j++) {
        p[j] = dp[j] = 0.0;
        for (int64_t d = 0; d < c->dim; d++) {
            p[j] += 0.3 * (double)q[d] * (double)c->k[j][d];
            dp[j] += (double)dy[d] * (double)c->v[j][d];
        }
        sum += p[j] = exp(p[j]);
    }
    for (int64_t j = 0; j <= t; j++)
        dot += (p[j] /= sum) * dp[j];
    for (int64_t j = 0; j <= t; j++)
        for (int64_t d = 0; d < c->dim; d++) {
            const double ds = p[j] * (dp[j] - dot);
            dq[d] += 0.3 * ds * (double)c->k[j][d];
            dk[j * c->dim + d] += 0.3 * ds * (double)q[d];
            dv[j * c->dim + d] += p[j] * (double)dy[d];
        }
}

static void check_attention(int64_t n, int64_t dim, int64_t heads)
{
    static attention_case c;
    static attention_result want, got;
    static double dq[LONGEST * MOST_HEADS * MOST_DIM], dk[LONGEST * MOST_DIM], dv[LONGEST * MOST_DIM];
    make_attention(&c, n, dim, heads);
    attend_back(plain_kernels(), &c, &want);
    EACH_KERNELS(k)
    {
        attend_back(k, &c, &got);
        check_bits("dq", k->name, n * heads * dim, got.dq, want.dq);
        check_bits("dk", k->name, n * dim, got.dk, want.dk);
        check_bits("dv", k->name, n * dim, got.dv, want.dv);
    }
    memset(dq, 0, sizeof dq);
    memset(dk, 0, sizeof dk);
    memset(dv, 0, sizeof dv);
    for (int64_t t = 0; t < n; t++)
        for (int64_t h = 0; h < heads; h++)
            add_plain(&c, t, h, dq + (t * heads + h) * dim, dk, dv);
    for (int64_t i = 0; i < n * heads * dim; i++)
        CHECK_NEAR((double)want.dq[i], dq[i], 1e-5);
    for (int64_t i = 0; i < n * dim; i++) {
        CHECK_NEAR((double)want.dk[i], dk[i], 2e-5);
        CHECK_NEAR((double)want.dv[i], dv[i], 2e-5);
    }
}

static void test_attention_back_of_every_size_has_equal_bits_and_is_near(void **state)
{
    (void)state;
    for (int64_t heads = 1; heads <= MOST_HEADS; heads++)
        check_attention(40, 12, heads);
    for (int64_t n = 1; n <= 34; n++)
        check_attention(n, 8, 2);
    check_attention(LONGEST, MOST_DIM, 3);
    check_attention(33, 64, 1);
    check_attention(50, 2, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_back_of_every_length_have_equal_bits_and_are_near),
        cmocka_unit_test(test_attention_back_of_every_size_has_equal_bits_and_is_near),
    };
    return cmocka_run_group_tests_name("kernels_back", tests, NULL, check_live_zero);
}
