// NEEDS: la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Attention: every table against the definition in design, "Numerics" 4, and against softmax in double. */
#include "kernel_check.h"

enum { MAX_DIM = 130, MAX_POSITIONS = 150, MAX_PAGES = (MAX_POSITIONS + SOW_PAGE - 1) / SOW_PAGE, MAX_QUERIES = 9 };

typedef struct problem {
    int64_t n, dim, n_queries;
    float scale;
    float k[MAX_POSITIONS][MAX_DIM], v[MAX_POSITIONS][MAX_DIM];
    float q[MAX_QUERIES * MAX_DIM], want[MAX_QUERIES * MAX_DIM], scores[MAX_QUERIES * MAX_PAGES * SOW_PAGE];
    float *cache; /* [MAX_PAGES][2][SOW_PAGE * dim], pages in descending order */
    const float *pages[MAX_PAGES];
} problem;

static problem p;

/* Positions behind n hold NaN. */
static void make_problem(int64_t n, int64_t dim, int64_t n_queries, float scale)
{
    p.n = n, p.dim = dim, p.n_queries = n_queries, p.scale = scale;
    fill_floats(1, 2.0f, MAX_POSITIONS * MAX_DIM, p.k[0]);
    fill_floats(2, 2.0f, MAX_POSITIONS * MAX_DIM, p.v[0]);
    fill_floats(3, 2.0f, MAX_QUERIES * MAX_DIM, p.q);
    const int64_t page_floats = 2 * SOW_PAGE * dim;
    CHECK_OK(SOW_ALLOC(&p.cache, MAX_PAGES * page_floats));
    for (int64_t i = 0; i < MAX_PAGES * page_floats; i++)
        p.cache[i] = NAN;
    for (int64_t i = 0; i < MAX_PAGES; i++)
        p.pages[i] = p.cache + (MAX_PAGES - 1 - i) * page_floats;
    for (int64_t t = 0; t < n; t++) {
        float *page = p.cache + (MAX_PAGES - 1 - t / SOW_PAGE) * page_floats;
        for (int64_t d = 0; d < dim; d++) {
            page[d * SOW_PAGE + t % SOW_PAGE] = p.k[t][d];
            page[SOW_PAGE * dim + t % SOW_PAGE * dim + d] = p.v[t][d];
        }
    }
}

/* The definition.  exp is the program's own (it has its own test). */
static void define(const float *q, float *out)
{
    const sow_kernels *plain = sow_kernels_at(sow_kernels_count() - 1);
    float score[MAX_PAGES * SOW_PAGE], lane[SOW_LANES] = {0}, max = -INFINITY;
    for (int64_t t = 0; t < p.n; t++) {
        score[t] = 0.0f;
        for (int64_t d = 0; d < p.dim; d++)
            score[t] = fmaf(q[d] * p.scale, p.k[t][d], score[t]);
        max = score[t] > max ? score[t] : max;
    }
    for (int64_t t = 0; t < p.n; t++)
        score[t] -= max;
    plain->exp(p.n, score, score);
    for (int64_t t = 0; t < p.n; t++)
        lane[t % SOW_LANES] += score[t];
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    for (int64_t d = 0; d < p.dim; d++) {
        float acc = 0.0f;
        for (int64_t t = 0; t < p.n; t++)
            acc = fmaf(score[t], p.v[t][d], acc);
        out[d] = acc / lane[0];
    }
}

static void check_problem(void)
{
    float out[MAX_QUERIES * MAX_DIM + 1];
    const int64_t size = p.n_queries * p.dim;
    for (int64_t i = 0; i < p.n_queries; i++)
        define(p.q + i * p.dim, p.want + i * p.dim);
    EACH_KERNELS(k)
    {
        out[size] = 7.0f;
        k->attention(&(sow_attention_args){.n_positions = p.n,
                                           .head_dim = p.dim,
                                           .v_offset = SOW_PAGE * p.dim,
                                           .n_queries = p.n_queries == 1 ? 0 : p.n_queries,
                                           .scale = p.scale,
                                           .q = p.q,
                                           .pages = p.pages,
                                           .scores = p.scores,
                                           .out = out});
        check_bits("attention", k->name, size, out, p.want);
        assert_true(out[size] == 7.0f);
    }
    SOW_FREE(&p.cache);
}

static void test_attention_of_every_length_is_its_chains(void **state)
{
    (void)state;
    static const int64_t dims[] = {1, 7, 12, 16, 24, 64, 80, 130};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        for (int64_t n = 1; n <= MAX_POSITIONS; n += n < 70 ? 1 : 11) {
            make_problem(n, dims[i], 1, 0.3f);
            check_problem();
        }
    }
}

static void test_attention_of_several_queries_is_that_of_each(void **state)
{
    (void)state;
    for (int64_t n_queries = 2; n_queries <= MAX_QUERIES; n_queries++) {
        for (int64_t n = 1; n <= MAX_POSITIONS; n += 37) {
            make_problem(n, 20 * n_queries % 64 + 1, n_queries, 0.2f);
            check_problem();
        }
    }
}

static void test_attention_with_far_scores_is_its_chains(void **state)
{
    (void)state;
    make_problem(100, 64, 3, 20.0f); /* most weights are subnormal or zero */
    check_problem();
    make_problem(100, 64, 3, 0.0f); /* all are 1 */
    check_problem();
}

static void test_attention_beside_double_is_near(void **state)
{
    (void)state;
    make_problem(150, 64, 1, 0.125f);
    float out[64];
    double sum = 0.0, want[64] = {0};
    sow_kernels_at(0)->attention(&(sow_attention_args){.n_positions = p.n,
                                                       .head_dim = p.dim,
                                                       .v_offset = SOW_PAGE * p.dim,
                                                       .scale = p.scale,
                                                       .q = p.q,
                                                       .pages = p.pages,
                                                       .scores = p.scores,
                                                       .out = out});
    for (int64_t t = 0; t < p.n; t++) {
        double score = 0.0;
        for (int64_t d = 0; d < p.dim; d++)
            score += (double)p.q[d] * (double)p.k[t][d];
        const double e = exp(score * (double)p.scale);
        sum += e;
        for (int64_t d = 0; d < p.dim; d++)
            want[d] += e * (double)p.v[t][d];
    }
    for (int64_t d = 0; d < p.dim; d++)
        CHECK_NEAR((double)out[d], want[d] / sum, 1e-5);
    SOW_FREE(&p.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_of_every_length_is_its_chains),
        cmocka_unit_test(test_attention_of_several_queries_is_that_of_each),
        cmocka_unit_test(test_attention_with_far_scores_is_its_chains),
        cmocka_unit_test(test_attention_beside_double_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
