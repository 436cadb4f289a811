/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the backward pass share.
 *
 *     gradient.c        the object: memory, transposed weights, a run over units
 *     gradient_plan.c   units -> passes: which rows go through together
 *     gradient_pass.c   one pass: all layers forward, the head, all layers backward
 *     gradient_attend.c attention and its pages, both ways
 *     gradient_head.c   logits, log-probabilities, the loss's weights, gradient of the logits
 *     gradient_sum.c    float32 chains of a unit -> 64-bit sums
 *
 * Rows of a pass: those of all sequences, unit by unit, which want logits; behind them those of the units' prefixes.
 *
 *     [ unit 0: sequence 0, sequence 1, ... | unit 1: ... ][ prefix of unit 0 | prefix of unit 1 ]
 *       0 ......................... n_wanted                ................... n_rows */
#ifndef SOWER_GRADIENT_IMPL_H
#define SOWER_GRADIENT_IMPL_H

#include "nn_impl.h"

#include "sower/gradient.h"

/* A sequence's or a prefix's part of a pass. */
typedef struct sow_segment {
    int64_t unit, sequence;    /* sequence -1: the prefix */
    int64_t first_row, n_rows; /* n_rows 0: a prefix whose keys and values an earlier pass stored */
    int64_t first, end;        /* positions */
    int64_t first_page;        /* its own pages of the pass: those from position `first` on */
    const int32_t *ids;        /* borrowed */
    int64_t prefix;            /* segment of the prefix; -1: none, or is one */
} sow_segment;

/* A unit's part of a pass. */
typedef struct sow_share {
    int64_t unit;
    int64_t first_row, n_rows;         /* of sequences */
    int64_t prefix_row, n_prefix_rows; /* of the prefix */
    int64_t first_segment, n_segments; /* of sequences */
    int64_t prefix;                    /* segment; -1: none */
    bool is_whole;                     /* the unit's chains begin and end in this pass */
} sow_share;

typedef struct sow_pass {
    const sow_gradient_args *args; /* borrowed */
    sow_segment *segments;         /* owned [rows + 1] */
    sow_share *shares;             /* owned [rows + 1] */
    int32_t *tokens;               /* owned [rows] */
    int32_t *row_segments;         /* owned [rows] */
    int32_t *page_segments;        /* owned [pages] */
    unsigned char *ends;           /* owned [rows] 1: the last row of a sequence or a prefix (sow_outer_args) */
    int64_t n_segments, n_shares, n_rows, n_wanted, n_pages;
    bool stores_prefix;   /* keys and values of the prefix are kept for later passes */
    bool is_forward_only; /* nothing else is wanted of this pass */
    bool resumes_prefix;  /* gradients of keys and values of the prefix were begun by earlier passes */
} sow_pass;

/* Activations of a layer that its backward pass reads; [rows][...] each. */
enum { SOW_N_KEPT = 8 };
typedef struct sow_kept {
    float *normed;   /* [hidden_ld] */
    float *qkv;      /* [qkv_ld], q and k turned */
    float *raw;      /* [q + kv] before norms and turning, only if q and k have norms */
    float *attended; /* [attended_ld] */
    float *middle;   /* [hidden_ld] the state after attention */
    float *normed2;  /* [hidden_ld] */
    float *gate_up;  /* [gate_up_ld]; becomes its gradient */
    float *inner;    /* [inner_ld] */
} sow_kept;

/* Other arrays of a pass, [rows][...]. */
enum { SOW_N_WORK = 7 };
typedef struct sow_work {
    float *y;         /* [hidden_ld] what a layer adds to the state; the last normed state */
    float *dx;        /* [hidden_ld] gradient of the state */
    float *dnormed;   /* [hidden_ld] */
    float *dqkv;      /* [qkv_ld] */
    float *dattended; /* [attended_ld]; then products of norms [q] */
    float *dinner;    /* [inner_ld] */
    float *stats;     /* [3 n_heads] */
} sow_work;

enum { SOW_BLOCK = 1 << 18 }; /* weights, at most, whose chains and sums go through the caches together */

struct sow_gradient {
    sow_la *la; /* borrowed */
    const sow_kernels *kernels;
    const sow_layout *layout; /* borrowed */
    sow_type type;
    int64_t row_tokens;
    int recompute;       /* index of recompute_names in gradient.c */
    sow_forward forward; /* of no rows: sizes, rotation, steps */

    unsigned char *transposed; /* owned */
    float *chains;             /* owned [n_elements]: of a unit that is not whole in a pass; zero between units */
    float *blocks;             /* owned [threads][block_floats] */
    int64_t block_floats;
    bool is_dirty; /* chains are not zero: a run failed */

    int64_t rows, positions, pages, head_rows; /* room in what follows */
    int64_t n_kept;                            /* layers whose activations are kept: 1 or all */
    sow_pass pass;
    float *states;     /* owned [n_layers + 1][rows][hidden_ld] */
    float *kept_block; /* owned */
    sow_kept *kept;    /* owned [n_kept] */
    float *work_block; /* owned */
    sow_work work;
    float *page_block;         /* owned [pages][n_kv_heads][4][16 head_dim] */
    float *scores;             /* owned [threads][2 group positions] */
    const float **bases;       /* owned [threads][positions / 16] */
    float *logits;             /* owned [head_rows][logits_ld] */
    struct sow_head_row *head; /* owned [head_rows] */
    sow_token *targets;        /* owned [head_rows] */
    sow_token_weight *weights; /* owned [head_rows] */
    /* Of a prefix whose unit takes several passes, [n_layers][prefix_room][2 n_kv_heads head_dim]. */
    int64_t prefix_room;
    float *prefix_kv, *prefix_dkv; /* owned */
};

/* Numbers of a row of logits. */
typedef struct sow_head_row {
    float max, sum, log_sum;
    int32_t target;
} sow_head_row;

/* gradient.c */
/* dx [m][k] = dy [m][n_pad] times the weights, by the transposed ones; rows sow_row_ld apart. */
void sow_gradient_linear(sow_gradient *g, sow_linear linear, int64_t layer, int64_t m, const float *dy, float *dx);

/* gradient_plan.c */
int64_t sow_plan_pages(int64_t rows, int64_t positions); /* a pass of so many rows may have */
/* Whether a unit goes through in one pass. */
bool sow_plan_fits(const sow_gradient *g, const sow_train_unit *unit);
/* A pass of units first ... as many as fit; returns how many. */
int64_t sow_plan_units(sow_gradient *g, const sow_gradient_args *args, int64_t first);
/* Passes of one unit that does not fit: its prefix forward; sequences from `sequence` on, as many as fit (returns how
 * many); its prefix both ways. */
void sow_plan_prefix(sow_gradient *g, const sow_gradient_args *args, int64_t unit, bool is_forward_only);
int64_t sow_plan_sequences(sow_gradient *g, const sow_gradient_args *args, int64_t unit, int64_t sequence);

/* gradient_pass.c */
SOW_NODISCARD sow_code sow_pass_run(sow_gradient *g);
/* SOW_ENUM for a row whose state or logits are not finite. */
SOW_NODISCARD sow_code sow_pass_bad_row(const sow_pass *pass, int64_t row);
/* Through a norm of the states x [m][hidden_ld]: adds to work.dx; dnormed becomes what its weights' chains add up. */
void sow_pass_norm_back(sow_gradient *g, int64_t m, const float *w, const float *x, float *dnormed);

/* gradient_attend.c: k and v of a layer's rows, and stored ones, into the pages (for the way back too); then
 * attention of the first m rows, and its backward pass from work.dattended to work.dqkv. */
void sow_attend_fill(sow_gradient *g, int64_t layer, const sow_kept *kept, bool is_back);
void sow_attend(sow_gradient *g, int64_t m, const sow_kept *kept);
void sow_attend_back(sow_gradient *g, int64_t layer, int64_t m, const sow_kept *kept);

/* gradient_head.c: from the last states to work.dx (unless the pass has no way back), asking the loss. */
SOW_NODISCARD sow_code sow_head_run(sow_gradient *g);

/* gradient_sum.c: what a pass adds to one tensor: rows dy (NULL: ones) and x, `per_row` of each to a row of the pass.
 * ends: of these rows, where products are of bf16, else NULL.
 */
typedef struct sow_product {
    const sow_tensor *tensor;
    int64_t per_row, ldy, ldx;
    const float *dy, *x;
    const unsigned char *ends;
} sow_product;
/* Rows of one unit in the order of its chain: two ranges. */
typedef struct sow_range {
    int64_t unit, first[2], n[2];
    bool is_whole;
} sow_range;
/* `ends` of a product whose rows begin at this row of the pass. */
const unsigned char *sow_sum_ends(const sow_gradient *g, int64_t row);
/* Of all shares of the pass, with or without the prefixes' rows. */
SOW_NODISCARD sow_code sow_sum_products(sow_gradient *g, const sow_product *product, bool with_prefix);
SOW_NODISCARD sow_code sow_sum_ranges(sow_gradient *g, const sow_product *product, const sow_range *ranges, int64_t n);
/* The input embedding: rows of work.dx. */
SOW_NODISCARD sow_code sow_sum_embedding(sow_gradient *g);
/* Ends the chains of a unit that was not whole: of one tensor, or of all. */
SOW_NODISCARD sow_code sow_sum_end(sow_gradient *g, int64_t *sums, const sow_tensor *tensor, int64_t unit);
SOW_NODISCARD sow_code sow_sum_end_all(sow_gradient *g, int64_t *sums, int64_t unit);

#endif
