/* SPDX-License-Identifier: Apache-2.0 */
/* mixed_isa.c: products of bf16 (type bf16-mixed): linear layers, and the gradient of their weights.  Compiled once per
 * instruction set.
 *
 * A tile is `rows` rows by two vectors of sums, held in registers while pairs run.  A word is a pair of bf16; each pair
 * loads two vectors of words of one side once and multiplies them with one word a row of the other:
 *
 *     linear   panel of w   [k 0,1: o0 o1 ... o31]   times   x[row][k 0,1]       lanes are outputs
 *                           [k 2,3: o0 o1 ... o31]           x[row][k 2,3]
 *     outer    panel of x   [t 0,1: k0 k1 ... k31]   times   dy[t 0,1][row]      lanes are columns of dw
 *
 * What is float32 outside is first rounded into a block of words that the second cache holds; y and dw keep the sums
 * between two blocks.  A lane is one chain over its pairs: blocks, tiles and VL change no bits. */
#include "isa.h"

enum {
    VECS = 2,
    WIDTH = VECS * VL,
    X_WORDS = 49152, /* of a block of x: 192 KiB */
    LINE = 16,       /* words of a line of a cache */
    AHEAD = 2048,    /* words to prefetch ahead in a panel: 8 KiB */
    T_PAIRS = 128,   /* of a block of dy and x */
    K_BLOCK = 384,   /* columns of it */
    TILES = 8,       /* that are packed together */
};

/* Of a panel and some rows. */
typedef struct tile {
    int64_t n_pairs;
    const uint32_t *panel; /* [n_pairs][32] */
    const uint32_t *other; /* the other side: [n_pairs][rows] */
    int64_t ld;
    float *sums;  /* [rows][ld] */
    bool goes_on; /* from what sums holds, else from 0 */
} tile;

/* Half a panel or a whole one, from output or column `first` on. */
INLINE void multiply(int64_t rows, int64_t first, const tile *t)
{
    vec sum[DOT_ROWS][VECS];
    const uint32_t *line = t->panel + first, *other = t->other;
    float *out = t->sums + first;
    if (t->goes_on) {
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_load(out + i * t->ld + v * VL);
        }
    } else {
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_set(0.0f);
        }
    }
    for (int64_t p = 0; p < t->n_pairs; p++, line += SOW_PANEL, other += rows) {
        words w[VECS];
        UNROLL for (int64_t i = 0; i < WIDTH; i += LINE) __builtin_prefetch(line + AHEAD + i);
        UNROLL for (int64_t v = 0; v < VECS; v++) w[v] = words_load(line + v * VL);
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            const words one = words_set(other[i]);
            UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_dot(sum[i][v], one, w[v]);
        }
    }
    UNROLL for (int64_t i = 0; i < rows; i++)
    {
        UNROLL for (int64_t v = 0; v < VECS; v++) vec_store(out + i * t->ld + v * VL, sum[i][v]);
    }
}

#if defined(VEC_PLAIN)
#define EACH_ROWS(X) X(1)
#else
#define ROWS_TO_4(X)    X(1) X(2) X(3) X(4)
#define ROWS_5_TO_12(X) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#if defined(VEC_AVX512) && defined(__AVX512BF16__)
#define EACH_ROWS(X) ROWS_TO_4(X) ROWS_5_TO_12(X) X(13) X(14)
#elif defined(VEC_AVX512)
#define EACH_ROWS(X) ROWS_TO_4(X) ROWS_5_TO_12(X)
#else
#define EACH_ROWS(X) ROWS_TO_4(X)
#endif
#endif

#define DEFINE_TILE(rows)                                                                                              \
    static void tile_##rows(const tile *t)                                                                             \
    {                                                                                                                  \
        UNROLL for (int64_t n = 0; n < SOW_PANEL; n += WIDTH) multiply(rows, n, t);                                    \
    }
EACH_ROWS(DEFINE_TILE)

#define TILE_ENTRY(rows) [rows] = tile_##rows,
static void (*const tiles[DOT_ROWS + 1])(const tile *) = {EACH_ROWS(TILE_ENTRY)};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- linear ---- */

/* VL words of up to 2 VL floats, the others zero. */
INLINE words load_pairs(int64_t n, const float *x)
{
    const int first = (int)least(n, VL), second = (int)least(n - first, VL);
    if (n >= 2 * VL)
        return words_of_bf16_row(vec_load(x), vec_load(x + VL));
    return words_of_bf16_row(vec_load_n(x, first), second == 0 ? vec_set(0.0f) : vec_load_n(x + VL, second));
}

/* out[pair][rows] of k_size inputs, by squares of VL x VL words that become their transpose.  Up to VL words more are
 * written. */
static void pack_x(int64_t rows, int64_t k_size, const float *x, int64_t ldx, uint32_t *out)
{
    const int64_t n_pairs = (k_size + 1) / 2;
    for (int64_t p = 0; p < n_pairs; p += VL, x += 2 * VL) {
        words square[VL];
        const int64_t n = least(VL, n_pairs - p);
        for (int64_t i = 0; i < VL; i++)
            square[i] = i < rows ? load_pairs(k_size - 2 * p, x + i * ldx) : words_set(0);
        words_transpose(square);
        for (int64_t l = 0; l < n; l++, out += rows)
            words_store(out, square[l]);
    }
}

/* Some rows of x by inputs k .. k + k_size - 1 (k even) of all panels. */
static void multiply_inputs(const sow_linear_args *a, int64_t m_size, int64_t k, int64_t k_size, uint32_t *x)
{
    const int64_t n_pairs = (k_size + 1) / 2, all_pairs = (a->k_size + 1) / 2;
    const int64_t n_tiles = (m_size + DOT_ROWS - 1) / DOT_ROWS; /* rows are shared out evenly */
    for (int64_t i = 0; i < n_tiles; i++) {
        const int64_t first = m_size * i / n_tiles, end = m_size * (i + 1) / n_tiles;
        pack_x(end - first, k_size, a->x + first * a->ldx + k, a->ldx, x + first * n_pairs);
    }
    for (int64_t n = 0; n < a->n_size; n += SOW_PANEL) {
        for (int64_t i = 0; i < n_tiles; i++) {
            const int64_t first = m_size * i / n_tiles, end = m_size * (i + 1) / n_tiles;
            tiles[end - first](&(tile){.n_pairs = n_pairs,
                                       .panel = (const uint32_t *)a->w + n * all_pairs + k / 2 * SOW_PANEL,
                                       .other = x + first * n_pairs,
                                       .ld = a->ldy,
                                       .sums = a->y + first * a->ldy + n,
                                       .goes_on = k > 0});
        }
    }
}

static __attribute__((noinline)) void multiply_rows(const sow_linear_args *a)
{
    _Alignas(64) uint32_t x[X_WORDS + VL];
    const int64_t n_parts = (a->m_size + SOW_MIXED_ROWS - 1) / SOW_MIXED_ROWS;
    for (int64_t part = 0; part < n_parts; part++) {
        const int64_t m = a->m_size * part / n_parts, m_size = a->m_size * (part + 1) / n_parts - m;
        const int64_t most = X_WORDS / m_size; /* pairs of a block */
        const int64_t n_pairs = (a->k_size + 1) / 2, n_blocks = (n_pairs + most - 1) / most;
        sow_linear_args some = *a;
        some.x += m * a->ldx;
        some.y += m * a->ldy;
        for (int64_t i = 0; i < n_blocks; i++) {
            const int64_t k = n_pairs * i / n_blocks * 2, end = least(n_pairs * (i + 1) / n_blocks * 2, a->k_size);
            multiply_inputs(&some, m_size, k, end - k, x);
        }
    }
}

/* The bias is added in the ordinary mode, as in float32. */
void ISA_FN(linear_mixed)(const sow_linear_args *a)
{
    const unsigned mode = flush_begin();
    multiply_rows(a);
    flush_end(mode);
    for (int64_t m = 0; a->bias != NULL && m < a->m_size; m++)
        for (int64_t n = 0; n < a->n_size; n += VL)
            vec_store(a->y + m * a->ldy + n, vec_add(vec_load(a->y + m * a->ldy + n), vec_load(a->bias + n)));
}

/* ---- outer ---- */

/* Up to T_PAIRS pairs of rows and K_BLOCK columns. */
typedef struct block {
    const sow_outer_args *args;
    int64_t n_pairs;
    int64_t first[T_PAIRS]; /* a pair's first row */
    bool is_alone[T_PAIRS]; /* it has no second one */
    int64_t column, n_columns;
} block;

/* Words of n columns of a pair's rows, from column `column` on; whole vectors are written. */
INLINE void pack_pair(const block *b, int64_t p, const float *rows, int64_t ld, int64_t column, int64_t n,
                      uint32_t *out)
{
    const float *low = rows + b->first[p] * ld + column, *high = b->is_alone[p] ? NULL : low + ld;
    for (int64_t i = 0; i < n; i += VL) {
        const int count = (int)least(n - i, VL);
        const bool is_whole = count == VL; /* an ordinary load is faster */
        const vec zero = vec_set(0.0f), first = is_whole ? vec_load(low + i) : vec_load_n(low + i, count);
        const vec second = high == NULL ? zero : is_whole ? vec_load(high + i) : vec_load_n(high + i, count);
        words_store(out + i, words_of_bf16(first, second));
    }
}

/* out[panel][pair][32]; what a last panel lacks is zero. */
static void pack_panels(const block *b, const float *x, int64_t ld, uint32_t *out)
{
    if (b->n_columns % SOW_PANEL != 0)
        memset(out + b->n_columns / SOW_PANEL * b->n_pairs * SOW_PANEL, 0,
               (size_t)(b->n_pairs * SOW_PANEL) * sizeof *out);
    for (int64_t p = 0; p < b->n_pairs; p++)
        for (int64_t k = 0; k < b->n_columns; k += SOW_PANEL)
            pack_pair(b, p, x, ld, k, least(SOW_PANEL, b->n_columns - k), out + (k * b->n_pairs + p * SOW_PANEL));
}

/* Where tile i of some lies in their words: each has room for the end of its last vector. */
static int64_t tile_at(const block *b, const int64_t *starts, int64_t i)
{
    return (starts[i] - starts[0]) * b->n_pairs + i * VL;
}

/* out[tile][pair][rows] of the tiles whose rows of dw are starts[tile] .. starts[tile + 1] - 1.  Rows of dy may lie
 * pages apart, so one pair is read for all tiles. */
static void pack_tiles(const block *b, const int64_t *starts, int64_t n_tiles, const float *dy, int64_t ld,
                       uint32_t *out)
{
    const int64_t width = starts[n_tiles] - starts[0];
    for (int64_t p = 0; p < b->n_pairs; p++) {
        const float *next = dy + b->first[p] * ld + starts[n_tiles];
        for (int64_t i = 0; i < width; i += LINE) { /* the tiles that come after these */
            __builtin_prefetch(next + i);
            __builtin_prefetch(next + ld + i);
        }
        for (int64_t i = 0; i < n_tiles; i++) {
            const int64_t rows = starts[i + 1] - starts[i];
            pack_pair(b, p, dy, ld, starts[i], rows, out + tile_at(b, starts, i) + p * rows);
        }
    }
}

/* A panel of fewer than 32 columns goes through a copy of dw, whose other columns are zero. */
static void multiply_edge(int64_t rows, int64_t columns, const tile *t)
{
    _Alignas(64) float edge[DOT_ROWS * SOW_PANEL] = {0};
    tile copy = *t;
    copy.sums = edge, copy.ld = SOW_PANEL;
    for (int64_t i = 0; i < rows; i++)
        memcpy(edge + i * SOW_PANEL, t->sums + i * t->ld, (size_t)columns * sizeof *edge);
    tiles[rows](&copy);
    for (int64_t i = 0; i < rows; i++)
        memcpy(t->sums + i * t->ld, edge + i * SOW_PANEL, (size_t)columns * sizeof *edge);
}

/* Up to TILES tiles, which lie in dy. */
static void multiply_tiles(const block *b, const int64_t *starts, int64_t n_tiles, const uint32_t *x,
                           const uint32_t *dy)
{
    const sow_outer_args *a = b->args;
    for (int64_t i = 0; i < n_tiles; i++) {
        const int64_t rows = starts[i + 1] - starts[i];
        for (int64_t k = 0; k < b->n_columns; k += SOW_PANEL) {
            const tile t = {.n_pairs = b->n_pairs,
                            .panel = x + k * b->n_pairs,
                            .other = dy + tile_at(b, starts, i),
                            .ld = a->ldw,
                            .sums = a->dw + starts[i] * a->ldw + b->column + k,
                            .goes_on = true};
            if (b->n_columns - k >= SOW_PANEL)
                tiles[rows](&t);
            else
                multiply_edge(rows, b->n_columns - k, &t);
        }
    }
}

static void multiply_block(const block *b)
{
    _Alignas(64) uint32_t x[T_PAIRS * K_BLOCK], dy[TILES * (T_PAIRS * DOT_ROWS + VL)];
    const sow_outer_args *a = b->args;
    const int64_t all = (a->n_size + DOT_ROWS - 1) / DOT_ROWS;
    pack_panels(b, a->x + b->column, a->ldx, x);
    for (int64_t i = 0; i < all; i += TILES) {
        const int64_t n_tiles = least(TILES, all - i);
        int64_t starts[TILES + 1];
        for (int64_t j = 0; j <= n_tiles; j++)
            starts[j] = a->n_size * (i + j) / all; /* rows are shared out evenly */
        pack_tiles(b, starts, n_tiles, a->dy, a->ldy, dy);
        multiply_tiles(b, starts, n_tiles, x, dy);
    }
}

/* The next pairs from row t on; returns the row behind them. */
static int64_t pair_rows(const sow_outer_args *a, int64_t t, block *b)
{
    for (b->n_pairs = 0; b->n_pairs < T_PAIRS && t < a->t_size; b->n_pairs++) {
        const bool is_alone = a->ends[t] != 0 || t + 1 == a->t_size;
        b->first[b->n_pairs] = t;
        b->is_alone[b->n_pairs] = is_alone;
        t += is_alone ? 1 : 2;
    }
    return t;
}

static __attribute__((noinline)) void multiply_outer(const sow_outer_args *a)
{
    const int64_t panels = (a->k_size + SOW_PANEL - 1) / SOW_PANEL;
    const int64_t n_blocks = (a->k_size + K_BLOCK - 1) / K_BLOCK;
    block b = {.args = a};
    for (int64_t t = 0; t < a->t_size;) {
        t = pair_rows(a, t, &b);
        for (int64_t i = 0; i < n_blocks; i++) {
            b.column = panels * i / n_blocks * SOW_PANEL;
            b.n_columns = least(panels * (i + 1) / n_blocks * SOW_PANEL, a->k_size) - b.column;
            multiply_block(&b);
        }
    }
}

void ISA_FN(outer_mixed)(const sow_outer_args *a)
{
    const unsigned mode = flush_begin();
    multiply_outer(a);
    flush_end(mode);
}
