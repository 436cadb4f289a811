/* SPDX-License-Identifier: Apache-2.0 */
/* What the computing half of this layer shares: rotation tables, the paged cache, the forward pass, and the loop that
 * feeds sequences through it.
 *
 *     engine (run: admits, feeds, takes)  ->  forward (rows of tokens -> logits)  ->  cache, rope, replica
 *     generate, score: what to feed, and what to take from a row of logits
 *
 * Dimension letters are not used; rows of tokens are `m`, as in la. */
#ifndef SOWER_NN_IMPL_H
#define SOWER_NN_IMPL_H

#include "sower/engine.h"

/* replica.c: the weights of a kind in a layer (-1: outside layers), NULL if the shape has none.  Weights of Q, K, V
 * lie one behind the other, as do GATE and UP, and their biases: each is one packed tensor of padded outputs. */
const void *sow_replica_find(const sow_replica *replica, sow_tensor_kind kind, int64_t layer);

/* rope.c: rotation tables. */
typedef struct sow_rope {
    int64_t half, n_positions, max_positions;
    double *frequency;    /* owned [half], radians per position */
    float *cosine, *sine; /* owned [n_positions][half] */
} sow_rope;
SOW_NODISCARD sow_code sow_rope_init(sow_rope *rope, const sow_shape *shape);
void sow_rope_fini(sow_rope *rope);
/* Makes sure that positions 0 .. n_positions - 1 are there. */
SOW_NODISCARD sow_code sow_rope_reserve(sow_rope *rope, int64_t n_positions);

/* cache.c: pages of keys and values with a count of users each. */
typedef struct sow_cache {
    int64_t n_layers, n_kv_heads, head_dim, page_floats;
    int64_t n_pages, n_free, n_slabs;
    float **pages;   /* owned [n_pages]: where each begins, inside a slab */
    int32_t *uses;   /* owned [n_pages] */
    int32_t *unused; /* owned [n_pages], the first n_free count */
    float **slabs;   /* owned [n_slabs], each owned */
} sow_cache;
void sow_cache_init(sow_cache *cache, const sow_shape *shape);
void sow_cache_fini(sow_cache *cache);
/* Makes sure that the cache has n_pages pages. */
SOW_NODISCARD sow_code sow_cache_reserve(sow_cache *cache, int64_t n_pages);
/* Every page becomes unused. */
void sow_cache_clear(sow_cache *cache);
/* An unused page (there must be one) with one user; another user; one user less. */
int32_t sow_cache_take(sow_cache *cache);
void sow_cache_share(sow_cache *cache, int32_t page);
void sow_cache_release(sow_cache *cache, int32_t page);
/* The base of a layer's KV head in a page: K [head_dim][16], then V [16][head_dim]. */
float *sow_cache_base(const sow_cache *cache, int32_t page, int64_t layer, int64_t head);
/* Stores one position's K and V of a head. */
void sow_cache_write(const sow_cache *cache, float *base, int64_t slot, const float *k, const float *v);

/* forward.c: one row of a forward pass: a token of a sequence at a position. */
typedef struct sow_row {
    int64_t sequence; /* the caller's number */
    int64_t position;
    const int32_t *pages; /* borrowed: pages of the sequence, [position / 16] among them */
    int32_t token;
    bool wants_logits;
    bool is_overflowing; /* set by the pass: its state left the range in which norms work */
} sow_row;

enum { SOW_LOGIT_ROWS = 32 }; /* rows of logits made at a time */

typedef struct sow_forward {
    sow_la *la;                 /* borrowed */
    const sow_kernels *kernels; /* borrowed */
    const sow_layout *layout;   /* borrowed */
    int threads;
    int64_t max_rows;
    int64_t q_pad, kv_pad, ff_pad; /* outputs of packed tensors: where K, V and UP begin in a row */
    int64_t hidden_ld, qkv_ld, attended_ld, gate_up_ld, inner_ld, logits_ld; /* distances of rows */
    sow_rope rope;
    sow_cache cache;
    float *block;             /* owned: the arrays below, one behind the other */
    float *x;                 /* [max_rows][hidden_ld] residual stream */
    float *normed;            /* [max_rows][hidden_ld] */
    float *qkv;               /* [max_rows][qkv_ld] */
    float *attended;          /* [max_rows][attended_ld] */
    float *y;                 /* [max_rows][hidden_ld] output of o and down */
    float *gate_up;           /* [max_rows][gate_up_ld] */
    float *inner;             /* [max_rows][inner_ld] */
    float *logits;            /* [SOW_LOGIT_ROWS][logits_ld] */
    int64_t n_positions;      /* the scratch below has room for */
    float *scores;            /* owned [threads][heads per KV head][n_positions] */
    const float **page_bases; /* owned [threads][n_positions / 16] */
    double flops;             /* done since creation */
} sow_forward;
SOW_NODISCARD sow_code sow_forward_init(sow_forward *forward, sow_la *la, const sow_layout *layout, int64_t max_rows);
void sow_forward_fini(sow_forward *forward);
/* Room for sequences of n_positions in n_pages pages. */
SOW_NODISCARD sow_code sow_forward_reserve(sow_forward *forward, int64_t n_positions, int64_t n_pages);
/* Floats of `block`. */
int64_t sow_forward_floats(const sow_layout *layout, int64_t max_rows);
/* Feeds *n_rows rows (<= max_rows): K and V of each go to its pages.  Rows of one sequence may be there together,
 * positions in any order.  Afterwards rows[0 .. *n_rows) are those that want logits or overflow, in their order, and
 * their last states are ready. */
void sow_forward_run(sow_forward *forward, const sow_replica *replica, sow_row *rows, int64_t *n_rows);
/* Logits of rows first .. first + n - 1 (n <= SOW_LOGIT_ROWS) of those, in forward->logits, logits_ld apart. */
void sow_forward_logits(sow_forward *forward, const sow_replica *replica, int64_t first, int64_t n);

/* The multiplications of a pass: Q, K, V are one, and so are GATE and UP. */
typedef enum sow_linear {
    SOW_LINEAR_QKV,
    SOW_LINEAR_O,
    SOW_LINEAR_GATE_UP,
    SOW_LINEAR_DOWN,
    SOW_LINEAR_HEAD,
    SOW_N_LINEARS
} sow_linear;
typedef struct sow_linear_size {
    sow_tensor_kind kind, bias; /* of the first tensor; bias SOW_N_TENSOR_KINDS: none */
    int64_t k, n_pad;           /* inputs; outputs with each tensor padded */
    int64_t n;                  /* outputs without padding */
} sow_linear_size;
sow_linear_size sow_linear_size_of(const sow_shape *shape, sow_linear linear);

/* The distance of rows of n values, padded.  Rows a multiple of 4 KiB apart would all need the same few lines of the
 * first cache: 14 of them do not fit (85 GFLOP/s instead of 101 with 3,072 inputs). */
int64_t sow_row_ld(int64_t n);

/* Steps of a pass, which training takes too.  y [m][n_pad] = x [m][k] times the weights, rows sow_row_ld apart; layer
 * -1: the head. */
void sow_forward_linear(sow_forward *forward, const sow_replica *replica, sow_linear linear, int64_t layer, int64_t m,
                        const float *x, float *y);
/* Norms (if norm is not NULL) and rotates n_heads heads of a row. */
void sow_forward_turn(const sow_forward *forward, const float *norm, int64_t n_heads, int64_t position, float *heads);
/* Whether one of the n values of a state is beyond the range in which norms work. */
bool sow_forward_overflows(int64_t n, const float *x);
/* Whether n items of about `cost` operations each are worth waking the threads. */
bool sow_forward_is_worth(const sow_forward *forward, int64_t n, int64_t cost);

/* engine.c: what to feed of an item, and what to do with the rows of logits it wanted. */
typedef struct sow_feed {
    const int32_t *ids;   /* known tokens, fed in order */
    int64_t n;            /* 0: nothing to do for this item */
    int64_t first_wanted; /* logits are wanted from this position on; those before may come from another's pages */
    int64_t n_positions;  /* most that may be fed, with those that `take` returns */
} sow_feed;

typedef struct sow_logit_row {
    int64_t item, position;
    const float *logits; /* [vocab_size], finite */
    float max;
    int32_t best; /* lowest id with the largest logit */
    int thread;
} sow_logit_row;

typedef struct sow_source {
    int64_t n_items, first_row; /* messages name row first_row + item */
    sow_feed (*feed)(void *context, int64_t item);
    /* Called for each wanted row, for rows of one forward pass concurrently.  After an item's last known token: the
     * token to feed next, or -1 if the item is done. */
    int32_t (*take)(void *context, const sow_logit_row *row);
    void *context;
} sow_source;

/* A place in the batch. */
typedef struct sow_slot {
    int64_t item; /* -1: free */
    sow_feed feed;
    int64_t n_fed;  /* positions fed, or shared */
    int32_t next;   /* token to feed at n_fed once the known ones are fed */
    int32_t *pages; /* borrowed from the engine's page_tables */
    int64_t n_pages;
} sow_slot;

struct sow_engine {
    sow_forward forward;
    int64_t batch;
    sow_slot *slots;     /* owned [batch] */
    int64_t *prefilling; /* owned [batch]: slots that have known tokens left, in the order of their items */
    int64_t n_prefilling;
    int64_t table_pages;  /* pages of one table */
    int32_t *page_tables; /* owned [batch + 1][table_pages]; the last holds the pages of `last` */
    sow_feed last;        /* the item admitted last: its full pages of known tokens stay until the next is admitted */
    int64_t n_last_pages;
    sow_row *rows; /* owned [max_rows] */
    int32_t *next; /* owned [max_rows]: what `take` returned, or BAD_ROW */
    sow_engine_counts counts;
    /* generate.c */
    int64_t ids_room, logprobs_room, items_room, stop_room;
    int32_t *ids;                /* owned [ids_room] */
    float *logprobs;             /* owned [logprobs_room] */
    sow_completion *completions; /* owned [items_room] */
    int64_t *stop_states;        /* owned [items_room] */
    int64_t *stop_table;         /* owned [stop_room] */
    float *draws;                /* owned [threads][logits_ld], from the first sampled unit on */
};

/* Feeds all items through the model, up to `batch` of them together. */
SOW_NODISCARD sow_code sow_engine_run(sow_engine *engine, const sow_replica *replica, const sow_source *source);
/* SOW_EARG naming row `row` if an id is outside the vocabulary or there are less than 1 or more than the context
 * holds. */
SOW_NODISCARD sow_code sow_engine_check_ids(const sow_engine *engine, int64_t row, const int32_t *ids, int64_t n);
/* Natural logarithm of the probability of `id` at temperature 1, in float32: l - max - log(sum exp(l - max)). */
float sow_engine_logprob(const sow_engine *engine, const sow_logit_row *row, int32_t id);

/* sample.c: draws an id with probability softmax(logits / temperature) through integers; `scratch` [n].  `random` are
 * 64 random bits. */
int32_t sow_sample(const sow_kernels *kernels, int64_t n, const float *logits, float max, double temperature,
                   uint64_t random, float *scratch);
/* The 64 random bits of a prompt's token. */
uint64_t sow_sample_bits(uint32_t seed, uint32_t step, uint32_t prompt, uint64_t token);

#endif
