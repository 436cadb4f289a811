/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels: every loop that is compiled per instruction set, as a table of functions, and the choice of the table.
 *
 * Needs: error, philox.  Threads: the functions of a table are pure and serial; `sow_la_*` functions (la.h) split work
 * over OpenMP threads.  Ranks: knows none.
 *
 * Bits: every output element is one fixed chain of IEEE operations (design: "Numerics"), so that results do not depend
 * on the batch, the thread count, the tile or the instruction set.  All tables of one build and of all builds give
 * equal bits; tests compare them by memcmp with the plain one.  NaN payloads are not promised. */
#ifndef SOWER_KERNELS_H
#define SOWER_KERNELS_H

#include "sower/error.h"
#include "sower/philox.h"

#include <stdbool.h>

/* Storage of packed 2-D weights, and what products with them are made of.  The first three multiply in float32.
 * bf16-mixed, for computing only, stores what bf16 does, and rounds to bf16 what is multiplied with it. */
typedef enum sow_type {
    SOW_FP16,
    SOW_BF16,
    SOW_F32,
    SOW_N_STORED, /* those a file may have */
    SOW_BF16_MIXED = SOW_N_STORED,
    SOW_N_TYPES
} sow_type;
const char *sow_type_name(sow_type type); /* "fp16", ... */
size_t sow_type_bytes(sow_type type);

/* Kinds of noise that have loops here. */
typedef enum sow_noise_loop { SOW_NOISE_GAUSSIAN, SOW_NOISE_RADEMACHER, SOW_N_NOISE_LOOPS } sow_noise_loop;

enum {
    SOW_PANEL = 32,       /* outputs per panel of packed weights */
    SOW_PAGE = 16,        /* positions per page of the KV cache */
    SOW_LANES = 16,       /* striped lanes of a row sum */
    SOW_NOISE_BLOCK = 64, /* elements per block of noise; tensors start at multiples of it */
};

/* y[m][n] = chain of fma(x[m][k], w[n][k], acc) over ascending k from acc = 0, and then + bias[n], if bias is not NULL.
 * w is packed [n_size/32][k_size][32] (the order within a line of 32 is la's own: read it with sow_la_packed_row), on a
 * 64-byte boundary.  ldx, ldy: distance of rows.  n_size is a multiple of 32.
 *
 * bf16-mixed: x is rounded to bf16, a subnormal x to zero, and the chain takes pairs of k, of each the odd k first:
 * k = 1, 0, 3, 2, ..., with subnormal sums and factors taken for zero (vec_dot in la/vec.h); what an odd last pair
 * lacks is zero.  Packed [n_size/32][(k_size + 1)/2][32][2]. */
typedef struct sow_linear_args {
    sow_type type;
    int64_t m_size, n_size, k_size, ldx, ldy;
    const float *x;
    const void *w;
    const float *bias; /* [n_size] or NULL */
    float *y;
} sow_linear_args;

/* Attention of one query row of one head over positions 0 .. n_positions-1 (at least one), or of n_queries heads that
 * share their KV head (grouped-query attention; q and out are then [n_queries][head_dim], scores n_queries times as
 * long): sharing saves loads and changes no bits.  K pages: [head_dim][16] floats; V pages: [16][head_dim]; page p
 * holds positions 16p .. 16p+15, and `pages[p]` is the base of a page's floats for this layer and KV head (K first,
 * then V at v_offset floats).  scale multiplies q before the chain (q' = q*scale rounded once).  scores: scratch of
 * n_positions rounded up to 16.  What the last page holds behind n_positions does not matter.  See design, Numerics 4.
 * */
typedef struct sow_attention_args {
    int64_t n_positions, head_dim, v_offset;
    int64_t n_queries; /* 0 is 1 */
    float scale;
    const float *q;            /* [head_dim] */
    const float *const *pages; /* [(n_positions+15)/16] */
    float *scores;
    float *out; /* [head_dim] */
} sow_attention_args;

/* A mask: one bit an element, 1 where it moves; bit e % 32 of word e / 32.  NULL: all move.  Words are read in pairs:
 * one word behind the last must be there. */

/* w = theta + factor * noise (one fma) where the mask says so, else theta; of one tensor [n_size][k_size] row-major at
 * an element offset of 0 in its noise place, rounded to nearest even into the packed layout of `type`; rows n_size ..
 * 32-multiple are zero.  Panels first_panel .. first_panel + n_panels - 1 are made.  factor 0: no noise is drawn. */
typedef struct sow_perturb_args {
    sow_type type;
    sow_noise_loop loop;
    sow_place place;
    float factor;
    int64_t n_size, k_size, first_panel, n_panels;
    const float *theta;   /* the whole tensor */
    const uint32_t *mask; /* of the whole tensor, or NULL */
    void *w;              /* the whole packed tensor */
} sow_perturb_args;

/* One member's noise added to a sum: acc[i] = fma(c, noise[first + i], acc[i]), i < n; first is a multiple of 64. */
typedef struct sow_accumulate_args {
    sow_noise_loop loop;
    sow_place place;
    uint64_t first;
    int64_t n;
    float c;
    float *acc;
} sow_accumulate_args;

typedef enum sow_anchor { SOW_ANCHOR_NONE, SOW_ANCHOR_L1, SOW_ANCHOR_L2 } sow_anchor;

/* theta' = theta + acc, then the anchor on delta = theta' - base with decay = alpha*lambda (float32):
 * l2: base + (1 - decay)*delta; l1: base + sign(delta)*max(|delta| - decay, 0) (arXiv 2605.30148).  Every operation is
 * rounded, none is fused. */
typedef struct sow_apply_args {
    int64_t n;
    sow_anchor anchor;
    float decay;
    const float *theta, *base, *acc;
    float *out;
} sow_apply_args;

/* ---- backward ---- */

/* dw[n][k] = chain of fma(dy[t][n], x[t][k], dw[n][k]) over ascending t, going on from what dw holds, so that rows may
 * come in any number of calls.  Row-major float32; ld*: distance of rows; any sizes.
 *
 * With `ends`, in products of bf16: dy and x are rounded, and the chain takes pairs of rows, the second first, as
 * sow_linear_args says.  Pairs are counted from the first row and anew behind every row that ends a sequence; a last
 * row without a second has zeros for it.  A call must not begin between the two of a pair. */
typedef struct sow_outer_args {
    int64_t t_size, n_size, k_size, ldy, ldx, ldw;
    const float *dy, *x;
    float *dw;
    const unsigned char *ends; /* [t_size] not 0: the last row of a sequence; NULL: products in float32 */
} sow_outer_args;

/* Packs the transpose of a 2-D tensor theta [n_size][k_size], rounded to `type` as sow_perturb_args does, as (part of)
 * the weights of a linear layer with k_size outputs and inner_size inputs, of which this tensor fills inner_first ..
 * inner_first + n_size - 1: then dx = dy W is `linear` with k_size and n_size changed over.  Outputs from k_size up to
 * the next multiple of 32 are zero.  Panels first_panel .. first_panel + n_panels - 1 (of outputs) are made. */
typedef struct sow_transpose_args {
    sow_type type;
    int64_t n_size, k_size, inner_size, inner_first, first_panel, n_panels;
    const float *theta; /* the whole tensor */
    void *w;            /* the whole packed tensor */
} sow_transpose_args;

/* One AdamW step of n elements (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2; order of operations as in
 * PyTorch's AdamW), in float32, every operation rounded, none fused:
 *     g = gradient * clip
 *     w = theta * (1 - rate * decay), computed factor `keep`
 *     m' = m + (g - m) * (1 - beta1);  v' = v * beta2 + (g * g) * (1 - beta2)
 *     theta' = w - step_size * (m' / (sqrt(v') / root_correction + eps))
 * then the anchor on theta' - base as sow_apply_args does, with `anchor_decay`. */
typedef struct sow_adamw_args {
    int64_t n;
    float clip, keep, one_minus_beta1, beta2, one_minus_beta2, eps;
    float step_size;       /* rate / (1 - beta1^t) */
    float root_correction; /* sqrt(1 - beta2^t) */
    sow_anchor anchor;
    float anchor_decay;
    const float *gradient, *theta, *base, *m, *v;
    float *theta_out, *m_out, *v_out; /* not the inputs */
} sow_adamw_args;

/* Backward of attention.  Pages are those of sow_attention_args followed by the transposes, so that every product has
 * whole vectors: K [head_dim][16], V [16][head_dim], V [head_dim][16], K [16][head_dim] floats.  With s = q' k (q' the
 * scaled query), p = exp(s - max) / sum as the forward pass has them, and dp = dy v (a chain over the
 * head):
 *
 *     dot = sum of p dp (16 lanes by position mod 16, one tree)      ds = p (dp - dot)
 *     dq  = scale * (chain over positions of ds k)
 *     dk  = chain over query rows, then heads, of ds q'              dv = the same of p dy */
typedef struct sow_attention_stats {
    float max, sum, dot;
} sow_attention_stats;

/* One query row of n_queries heads that share a KV head.  scores: scratch of 2 n_queries times n_positions rounded up
 * to 16. */
typedef struct sow_attention_dq_args {
    int64_t n_positions, head_dim, n_queries;
    float scale;
    float *q;        /* [n_queries][head_dim]; scaled afterwards */
    const float *dy; /* [n_queries][head_dim] */
    const float *const *pages;
    float *scores;
    float *dq;                  /* [n_queries][head_dim] */
    sow_attention_stats *stats; /* out [n_queries] */
} sow_attention_dq_args;

/* Positions first .. end - 1 (of 0 .. 15) of one page: dk and dv [end - first][ld] go on from what they hold.  Query
 * row r (of n_rows, in order) sees the first n_visible + r positions of the page; that may be more than 16. */
typedef struct sow_attention_dkv_args {
    int64_t head_dim, n_queries, n_rows, first, end, n_visible;
    int64_t ldq, ldo, ld_stats; /* distance of rows */
    const float *page;
    const float *q, *dy;              /* scaled q; [n_rows][n_queries][head_dim] */
    const sow_attention_stats *stats; /* [n_rows][n_queries] */
    int64_t ld;
    float *dk, *dv;
} sow_attention_dkv_args;

/* From logits to their gradient: with p = exp(l - max) / sum, log p = (l - max) - log(sum), H = entropy:
 *     d[i] = (weight * ([i = target] - p) - entropy_weight * p * (log p + H)) * scale */
typedef struct sow_softmax_back_args {
    int64_t n, target;
    float max, sum, log_sum, entropy, weight, entropy_weight, scale;
    float *logits; /* become their gradient */
} sow_softmax_back_args;

/* Fixed point for exact sums of gradients: scale 2^48 (design, Numerics 8). */
#define SOW_FIXED_SCALE 0x1p48

typedef struct sow_kernels {
    const char *name; /* "avx512bf16", "avx512", "avx2", "neon", "plain" */

    void (*linear)(const sow_linear_args *args);
    void (*attention)(const sow_attention_args *args);

    /* y = x * 1/sqrt(mean(x^2) + eps) * w: sum of squares in 16 striped lanes (fma) and one fixed tree; division and
     * square root are IEEE. y = (x * inverse) * w. */
    void (*rms_norm)(int64_t n, const float *x, const float *w, float eps, float *y);
    /* out[i] = silu(gate[i]) * up[i], silu(g) = g / (1 + exp(-g)). */
    void (*swiglu)(int64_t n, const float *gate, const float *up, float *out);
    /* x[i] += y[i]. */
    void (*add)(int64_t n, const float *y, float *x);
    /* Rotates one head: halves (x1, x2) of n = head_dim; cosines and sines [n/2]: x1' = x1 c - x2 s, x2' = x2 c + x1 s,
     * each as fma(x1, c, -(x2*s)) and fma(x2, c, x1*s). */
    void (*rope)(int64_t n, const float *cosine, const float *sine, float *x);
    /* Largest value and the lowest index that has it; a NaN anywhere gives index -1. */
    int64_t (*argmax)(int64_t n, const float *x, float *max);
    /* Sum of exp(x[i] - max) in 16 striped lanes and one fixed tree. */
    float (*sum_exp)(int64_t n, const float *x, float max);
    void (*exp)(int64_t n, const float *x, float *out);
    void (*log)(int64_t n, const float *x, float *out);
    /* 0 if all are finite, else 1. */
    int (*has_non_finite)(int64_t n, const float *x);

    /* Elements first .. first + n - 1 of a place's noise; first is a multiple of 64. */
    void (*noise)(sow_noise_loop loop, sow_place place, uint64_t first, int64_t n, float *out);
    void (*perturb)(const sow_perturb_args *args);
    void (*accumulate)(const sow_accumulate_args *args);
    void (*apply)(const sow_apply_args *args);
    /* out[i] = fma(factor, noise[i], theta[i]); for 1-D tensors, which stay float32. */
    void (*perturb_f32)(sow_noise_loop loop, sow_place place, int64_t n, float factor, const float *theta, float *out);
    /* to[i] = from[i], bit for bit, where bit first + i of the mask is 0. */
    void (*hold)(const uint32_t *mask, int64_t first, int64_t n, const float *from, float *to);

    void (*attention_dq)(const sow_attention_dq_args *args);
    void (*attention_dkv)(const sow_attention_dkv_args *args);
    /* Of y = rms_norm(x): dx += its gradient; dy becomes dy * (x * inverse), what this row adds to the gradient of w.
     * With g = dy * w: dx = inverse * (g - x * c), c = inverse^2 / n * (sum of g x in 16 lanes). */
    void (*rms_norm_back)(int64_t n, const float *x, const float *w, float eps, float *dy, float *dx);
    /* gate and up become their gradients. */
    void (*swiglu_back)(int64_t n, const float *dy, float *gate, float *up);
    /* The rotation by the opposite angle. */
    void (*rope_back)(int64_t n, const float *cosine, const float *sine, float *x);
    /* Entropy of softmax(x): log(sum) - (sum of exp(x - max) (x - max) in 16 lanes) / sum, the sum that of sum_exp. */
    float (*entropy)(int64_t n, const float *x, float max, float sum);
    void (*softmax_back)(const sow_softmax_back_args *args);
    void (*outer)(const sow_outer_args *args);
    void (*transpose)(const sow_transpose_args *args);
    void (*adamw)(const sow_adamw_args *args);
    /* sums[i] += x[i] * 2^48, rounded to nearest even once.  Not 0 if an |x| is not below 2^15, is not finite, or a sum
     * overflows (sums are then of no use). */
    int (*add_fixed)(int64_t n, const float *x, int64_t *sums);
    /* to[i] += from[i]; not 0 if a sum overflows. */
    int (*add_int64)(int64_t n, const int64_t *from, int64_t *to);
    /* out[i] = (float)((double)sums[i] * 2^-48). */
    void (*from_fixed)(int64_t n, const int64_t *sums, float *out);

    /* Row-major float32 <-> 16 bits, round to nearest even (to fp16 above 65504: infinity). */
    void (*narrow)(sow_type type, int64_t n, const float *x, void *out);
    void (*widen)(sow_type type, int64_t n, const void *x, float *out);

    /* Runs n rounds of independent multiply-adds as products of `type` have them; returns how many floating-point
     * operations that were: the limit. */
    double (*peak)(sow_type type, int64_t n, float *out);
    /* Reads n floats as fast as they come and returns their sum in some order: the limit of memory. */
    float (*read)(int64_t n, const float *x);
} sow_kernels;

/* The tables this binary has AND this CPU can run, best first; `plain` is always the last. */
int64_t sow_kernels_count(void);
const sow_kernels *sow_kernels_at(int64_t index);

/* "auto" or a name.  SOW_ECONF with the names that are possible here. */
SOW_NODISCARD sow_code sow_kernels_find(const char *name, const sow_kernels **out);

/* Sets round-to-nearest and no flush-to-zero on the calling thread and on all OpenMP threads; and SOW_ENUM if a thread
 * had lost it since (a plug-in built with -ffast-math turns on flush-to-zero). */
void sow_kernels_set_rounding(void);
SOW_NODISCARD sow_code sow_kernels_check_rounding(void);

#endif
