/* SPDX-License-Identifier: Apache-2.0 */
/* Random models of odd shapes for the tests of the computing half of `nn`, and a plain twin of the forward pass in
 * double. */
#ifndef SOWER_TESTS_RANDOM_MODEL_H
#define SOWER_TESTS_RANDOM_MODEL_H

#include "check.h"

#include "sower/engine.h"
#include "sower/philox.h"

/* clang-format off */
static const sow_shape random_shapes[] = {
    /* tied, no bias, head dimension 12 */
    {.family = "llama", .vocab_size = 61, .hidden_size = 48, .intermediate_size = 80, .n_layers = 2,
     .n_heads = 4, .n_kv_heads = 4, .head_dim = 12, .max_positions = 96,
     .rope_theta = 10000.0, .rms_norm_eps = 1e-5, .rope_factor = 1.0,
     .is_tied = true, .bos = -1, .pad = -1},
    /* grouped queries, head dimension 24 that is not hidden / heads, untied, all biases, stretched RoPE */
    {.family = "llama", .vocab_size = 130, .hidden_size = 40, .intermediate_size = 72, .n_layers = 3,
     .n_heads = 6, .n_kv_heads = 2, .head_dim = 24, .max_positions = 160,
     .rope_theta = 500000.0, .rms_norm_eps = 1e-6, .rope_factor = 8.0,
     .rope_low_freq_factor = 1.0, .rope_high_freq_factor = 4.0, .rope_original_positions = 64,
     .has_qkv_bias = true, .has_o_bias = true, .has_mlp_bias = true, .bos = -1, .pad = -1},
    /* one KV head, biases of q, k, v only (Qwen2), one layer, rows of gate and up a multiple of 4 KiB long */
    {.family = "qwen2", .vocab_size = 257, .hidden_size = 64, .intermediate_size = 512, .n_layers = 1,
     .n_heads = 4, .n_kv_heads = 1, .head_dim = 16, .max_positions = 64,
     .rope_theta = 1e6, .rms_norm_eps = 1e-6, .rope_factor = 1.0,
     .is_tied = true, .has_qkv_bias = true, .bos = -1, .pad = -1},
    /* norms of q and k (Qwen3), an odd width */
    {.family = "qwen3", .vocab_size = 96, .hidden_size = 64, .intermediate_size = 101, .n_layers = 2,
     .n_heads = 4, .n_kv_heads = 2, .head_dim = 32, .max_positions = 64,
     .rope_theta = 1e6, .rms_norm_eps = 1e-6, .rope_factor = 1.0,
     .has_qk_norm = true, .bos = -1, .pad = -1},
};
/* clang-format on */
enum { N_RANDOM_SHAPES = sizeof random_shapes / sizeof random_shapes[0] };

typedef struct random_model {
    sow_la *la;
    sow_layout *layout;
    float *theta;
    sow_replica *replica;
} random_model;

static inline float random_unit(sow_random *random)
{
    return (float)(sow_random_next(random) >> 8) / 8388608.0f - 1.0f; /* [-1, 1) */
}

/* Weights spread so that logits are a few units wide and attention is not flat. */
static inline void random_theta(const sow_layout *layout, uint32_t seed, float *theta)
{
    for (int64_t t = 0; t < layout->n_tensors; t++) {
        const sow_tensor *tensor = &layout->tensors[t];
        const bool is_norm = strcmp(sow_tensor_group(tensor->kind), "norm") == 0 ||
                             strcmp(sow_tensor_group(tensor->kind), "qk_norm") == 0;
        const float scale = tensor->is_matrix ? 2.5f / sqrtf((float)tensor->cols) : 0.3f;
        sow_random random;
        sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, seed, 0, 0, (uint32_t)t));
        for (int64_t i = 0; i < tensor->rows * tensor->cols; i++)
            theta[tensor->offset + i] = scale * random_unit(&random) + (is_norm ? 1.0f : 0.0f);
    }
}

static inline random_model random_model_open(const sow_shape *shape, const char *kernel, int64_t threads, sow_type type)
{
    random_model m = {0};
    CHECK_OK(sow_la_create("exact", kernel, threads, &m.la));
    CHECK_OK(sow_layout_create(shape, &m.layout));
    CHECK_OK(SOW_ALLOC(&m.theta, m.layout->n_elements));
    random_theta(m.layout, 7, m.theta);
    CHECK_OK(sow_replica_create(m.la, m.layout, type, &m.replica));
    CHECK_OK(sow_replica_make(m.replica, m.theta, NULL));
    return m;
}

static inline void random_model_close(random_model *m)
{
    sow_replica_destroy(&m->replica);
    SOW_FREE(&m->theta);
    sow_layout_destroy(&m->layout);
    sow_la_destroy(&m->la);
}

static inline void random_ids(uint32_t seed, int64_t vocab, int64_t n, int32_t *out)
{
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, seed, 1, 0, 0));
    for (int64_t i = 0; i < n; i++)
        out[i] = (int32_t)sow_random_below(&random, (uint32_t)vocab);
}

/* The plain twin: one sequence, all positions at once, double, libm, from theta as it is. */

enum { PLAIN_WIDE = 512, PLAIN_LONG = 256 };

static inline const float *plain_tensor(const sow_layout *layout, const float *theta, sow_tensor_kind kind, int layer)
{
    const sow_tensor *tensor = sow_layout_find(layout, kind, layer);
    return tensor == NULL ? NULL : theta + tensor->offset;
}

static inline void plain_norm(int64_t n, const double *x, const float *w, double eps, double *y)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / (double)n + eps) * (double)w[i];
}

static inline void plain_linear(int64_t n, int64_t k, const double *x, const float *w, const float *bias, double *y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = bias == NULL ? 0.0 : (double)bias[i];
        for (int64_t j = 0; j < k; j++)
            y[i] += x[j] * (double)w[i * k + j];
    }
}

static inline double plain_frequency(const sow_shape *s, int64_t i)
{
    double f = pow(s->rope_theta, -2.0 * (double)i / (double)s->head_dim), wave = 2.0 * acos(-1.0) / f;
    if (s->rope_factor == 1.0)
        return f;
    double low = (double)s->rope_original_positions / s->rope_low_freq_factor,
           high = (double)s->rope_original_positions / s->rope_high_freq_factor;
    double smooth = ((double)s->rope_original_positions / wave - s->rope_low_freq_factor) /
                    (s->rope_high_freq_factor - s->rope_low_freq_factor);
    return wave < high ? f : wave > low ? f / s->rope_factor : (1.0 - smooth) * f / s->rope_factor + smooth * f;
}

static inline void plain_rope(const sow_shape *s, int64_t position, double *x)
{
    const int64_t half = s->head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        double angle = (double)position * plain_frequency(s, i), a = x[i], b = x[i + half];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + half] = b * cos(angle) + a * sin(angle);
    }
}

/* A sequence in the making: the residual stream, queries, keys and values of every position. */
typedef struct plain_state {
    const sow_layout *layout;
    const float *theta;
    double x[PLAIN_LONG][PLAIN_WIDE], q[PLAIN_LONG][PLAIN_WIDE], k[PLAIN_LONG][PLAIN_WIDE], v[PLAIN_LONG][PLAIN_WIDE];
} plain_state;

#define PLAIN(kind, layer) plain_tensor(p->layout, p->theta, SOW_TENSOR_##kind, layer)

static inline void plain_heads(const sow_shape *s, int64_t n_heads, const float *norm, int64_t position, double *heads)
{
    for (int64_t i = 0; i < n_heads; i++, heads += s->head_dim) {
        if (norm != NULL)
            plain_norm(s->head_dim, heads, norm, s->rms_norm_eps, heads);
        plain_rope(s, position, heads);
    }
}

static inline void plain_qkv(plain_state *p, int l, int64_t t)
{
    const sow_shape *s = &p->layout->shape;
    double h[PLAIN_WIDE];
    plain_norm(s->hidden_size, p->x[t], PLAIN(INPUT_NORM, l), s->rms_norm_eps, h);
    plain_linear(s->n_heads * s->head_dim, s->hidden_size, h, PLAIN(Q, l), PLAIN(Q_BIAS, l), p->q[t]);
    plain_linear(s->n_kv_heads * s->head_dim, s->hidden_size, h, PLAIN(K, l), PLAIN(K_BIAS, l), p->k[t]);
    plain_linear(s->n_kv_heads * s->head_dim, s->hidden_size, h, PLAIN(V, l), PLAIN(V_BIAS, l), p->v[t]);
    plain_heads(s, s->n_heads, PLAIN(Q_NORM, l), t, p->q[t]);
    plain_heads(s, s->n_kv_heads, PLAIN(K_NORM, l), t, p->k[t]);
}

/* One head's attention over positions 0 .. t. */
static inline void plain_attend(const plain_state *p, int64_t t, int64_t head, double *out)
{
    const sow_shape *s = &p->layout->shape;
    const int64_t dim = s->head_dim, kv = head / (s->n_heads / s->n_kv_heads) * dim;
    double score[PLAIN_LONG], sum = 0.0;
    for (int64_t i = 0; i <= t; i++) {
        score[i] = 0.0;
        for (int64_t d = 0; d < dim; d++)
            score[i] += p->q[t][head * dim + d] * p->k[i][kv + d] / sqrt((double)dim);
        sum += score[i] = exp(score[i]);
    }
    for (int64_t d = 0; d < dim; d++) {
        out[d] = 0.0;
        for (int64_t i = 0; i <= t; i++)
            out[d] += score[i] / sum * p->v[i][kv + d];
    }
}

static inline void plain_rest(plain_state *p, int l, int64_t t)
{
    const sow_shape *s = &p->layout->shape;
    double h[PLAIN_WIDE], a[PLAIN_WIDE], b[PLAIN_WIDE];
    for (int64_t i = 0; i < s->n_heads; i++)
        plain_attend(p, t, i, a + i * s->head_dim);
    plain_linear(s->hidden_size, s->n_heads * s->head_dim, a, PLAIN(O, l), PLAIN(O_BIAS, l), h);
    for (int64_t i = 0; i < s->hidden_size; i++)
        p->x[t][i] += h[i];
    plain_norm(s->hidden_size, p->x[t], PLAIN(POST_NORM, l), s->rms_norm_eps, h);
    plain_linear(s->intermediate_size, s->hidden_size, h, PLAIN(GATE, l), PLAIN(GATE_BIAS, l), a);
    plain_linear(s->intermediate_size, s->hidden_size, h, PLAIN(UP, l), PLAIN(UP_BIAS, l), b);
    for (int64_t i = 0; i < s->intermediate_size; i++)
        a[i] = a[i] / (1.0 + exp(-a[i])) * b[i];
    plain_linear(s->hidden_size, s->intermediate_size, a, PLAIN(DOWN, l), PLAIN(DOWN_BIAS, l), h);
    for (int64_t i = 0; i < s->hidden_size; i++)
        p->x[t][i] += h[i];
}

/* Logits of every position: out [n][vocab]. */
static inline void plain_forward(const sow_layout *layout, const float *theta, const int32_t *ids, int64_t n,
                                 double *out)
{
    static plain_state state;
    plain_state *p = &state;
    const sow_shape *s = &layout->shape;
    double h[PLAIN_WIDE];
    p->layout = layout;
    p->theta = theta;
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < s->hidden_size; i++)
            p->x[t][i] = (double)PLAIN(EMBED, -1)[ids[t] * s->hidden_size + i];
    for (int l = 0; l < (int)s->n_layers; l++) {
        for (int64_t t = 0; t < n; t++)
            plain_qkv(p, l, t);
        for (int64_t t = 0; t < n; t++)
            plain_rest(p, l, t);
    }
    const float *head = s->is_tied ? PLAIN(EMBED, -1) : PLAIN(LM_HEAD, -1);
    for (int64_t t = 0; t < n; t++) {
        plain_norm(s->hidden_size, p->x[t], PLAIN(FINAL_NORM, -1), s->rms_norm_eps, h);
        plain_linear(s->vocab_size, s->hidden_size, h, head, NULL, out + t * s->vocab_size);
    }
}

#endif
