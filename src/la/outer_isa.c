/* SPDX-License-Identifier: Apache-2.0 */
/* outer_isa.c: the gradient of a linear layer's weights, dw += dy^T x.  Compiled once per instruction set.
 *
 * A tile is `rows` rows of dw by VECS vectors of its columns, held in registers while t runs:
 *
 *                 x: one panel of columns                 Each t loads VECS vectors of x once and uses them for all
 *              t  [k0 k1 ... k31]   times dy[t][rows]     rows.  A lane is one element of dw and one chain over
 *            t+1  [k0 k1 ... k31]   times dy[t+1][rows]   ascending t, which starts from what dw holds: blocks of t,
 *                                                         shapes of tiles and VL change no bits.
 *
 * Blocks are as in Goto and van de Geijn 2008 (doi 10.1145/1356052.1356053): a panel of x [T_BLOCK][32] is copied for
 * the first cache, dy's block is copied tile by tile [T_BLOCK][rows] for the second; with few t dy is read in place. */
#include "isa.h"

/* As many rows as with the panels of linear_isa.c: 14x2 vectors for AVX-512, 6x2 for AVX2, 10x2 for NEON, 1x2 plain. */
enum {
    VECS = 2,
    WIDTH = VECS * VL,
    MAX_ROWS = (REGISTERS - 1) / VECS - 1,
    T_BLOCK = 128,
    N_BLOCK = 256,
    FEW = 16, /* t in place */
};

typedef struct tile {
    int64_t t_size, ldy, ldw;
    const float *dy; /* [t_size][ldy] */
    const float *x;  /* [t_size][32] */
    float *dw;
    const float *next; /* the tile of dw after this one: prefetched */
} tile;

INLINE void multiply(int64_t rows, int64_t column, const tile *t)
{
    vec sum[MAX_ROWS][VECS], x[VECS];
    float *dw = t->dw + column;
    const float *dy = t->dy, *line = t->x + column;
    UNROLL for (int64_t i = 0; i < rows; i++)
    {
        UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_load(dw + i * t->ldw + v * VL);
    }
    for (int64_t k = 0; k < t->t_size; k++, dy += t->ldy, line += SOW_PANEL) {
        UNROLL for (int64_t v = 0; v < VECS; v++) x[v] = vec_load(line + v * VL);
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            vec y = vec_set(dy[i]);
            UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_fma(y, x[v], sum[i][v]);
        }
    }
    UNROLL for (int64_t i = 0; i < rows; i++)
    {
        UNROLL for (int64_t v = 0; v < VECS; v++) vec_store(dw + i * t->ldw + v * VL, sum[i][v]);
    }
}

/* `rows` rows of a panel. */
INLINE void multiply_panel(int64_t rows, const tile *t)
{
    UNROLL for (int64_t i = 0; i < rows; i++)
    {
        __builtin_prefetch(t->next + i * t->ldw, 1);
        __builtin_prefetch(t->next + i * t->ldw + SOW_PANEL / 2, 1);
    }
    for (int64_t column = 0; column < SOW_PANEL; column += WIDTH)
        multiply(rows, column, t);
}

#define ROWS_TO_6(X)     X(1) X(2) X(3) X(4) X(5) X(6)
#define ROWS_7_TO_10(X)  X(7) X(8) X(9) X(10)
#define ROWS_11_TO_14(X) X(11) X(12) X(13) X(14)
#if defined(VEC_PLAIN)
#define EACH_ROWS(X) X(1)
#elif defined(VEC_AVX512)
#define EACH_ROWS(X) ROWS_TO_6(X) ROWS_7_TO_10(X) ROWS_11_TO_14(X)
#elif defined(VEC_NEON)
#define EACH_ROWS(X) ROWS_TO_6(X) ROWS_7_TO_10(X)
#else
#define EACH_ROWS(X) ROWS_TO_6(X)
#endif

#define DEFINE_TILE(rows)                                                                                              \
    static void tile_##rows(const tile *t)                                                                             \
    {                                                                                                                  \
        multiply_panel(rows, t);                                                                                       \
    }
EACH_ROWS(DEFINE_TILE)

#define TILE_ENTRY(rows) [rows] = tile_##rows,
static void (*const tiles[MAX_ROWS + 1])(const tile *) = {EACH_ROWS(TILE_ENTRY)};

/* A panel of fewer than 32 columns goes through a copy, whose other columns are zero. */
static void multiply_edge(int64_t rows, int64_t columns, const tile *t)
{
    _Alignas(64) float edge[MAX_ROWS * SOW_PANEL] = {0};
    tile copy = *t;
    copy.dw = edge, copy.ldw = SOW_PANEL, copy.next = edge;
    for (int64_t i = 0; i < rows; i++)
        memcpy(edge + i * SOW_PANEL, t->dw + i * t->ldw, (size_t)columns * sizeof *edge);
    tiles[rows](&copy);
    for (int64_t i = 0; i < rows; i++)
        memcpy(t->dw + i * t->ldw, edge + i * SOW_PANEL, (size_t)columns * sizeof *edge);
}

/* Part `index` of n rows shared out evenly over `parts`: the first of them. */
static int64_t share(int64_t n, int64_t parts, int64_t index)
{
    return n * index / parts;
}

/* out[tile][t][rows of the tile] */
static void pack_dy(const sow_outer_args *a, int64_t n_tiles, float *out)
{
    for (int64_t i = 0; i < n_tiles; i++) {
        const int64_t n = share(a->n_size, n_tiles, i), rows = share(a->n_size, n_tiles, i + 1) - n;
        for (int64_t t = 0; t < a->t_size; t++, out += rows)
            for (int64_t r = 0; r < rows; r++)
                out[r] = a->dy[t * a->ldy + n + r];
    }
}

/* out[t][32], zero beyond `columns` */
static void pack_x(const sow_outer_args *a, int64_t column, int64_t columns, float *out)
{
    const float *x = a->x + column;
    for (int64_t t = 0; t < a->t_size; t++, out += SOW_PANEL, x += a->ldx) {
        if (columns < SOW_PANEL)
            memset(out, 0, SOW_PANEL * sizeof *out);
        memcpy(out, x, (size_t)columns * sizeof *out);
    }
}

/* At most T_BLOCK of t and N_BLOCK rows. */
static void multiply_block(const sow_outer_args *a)
{
    _Alignas(64) float dy[T_BLOCK * N_BLOCK], x[T_BLOCK * SOW_PANEL];
    const int64_t n_tiles = (a->n_size + MAX_ROWS - 1) / MAX_ROWS;
    const bool is_packed = a->t_size > FEW;
    if (is_packed)
        pack_dy(a, n_tiles, dy);
    for (int64_t k = 0; k < a->k_size; k += SOW_PANEL) {
        const int64_t columns = a->k_size - k < SOW_PANEL ? a->k_size - k : SOW_PANEL;
        pack_x(a, k, columns, x);
        for (int64_t i = 0; i < n_tiles; i++) {
            const int64_t n = share(a->n_size, n_tiles, i), end = share(a->n_size, n_tiles, i + 1), rows = end - n;
            float *dw = a->dw + n * a->ldw + k;
            const tile t = {.t_size = a->t_size,
                            .ldy = is_packed ? rows : a->ldy,
                            .ldw = a->ldw,
                            .dy = is_packed ? dy + n * a->t_size : a->dy + n,
                            .x = x,
                            .dw = dw,
                            .next = end < a->n_size ? dw + rows * a->ldw : dw};
            if (columns == SOW_PANEL)
                tiles[rows](&t);
            else
                multiply_edge(rows, columns, &t);
        }
    }
}

void ISA_FN(outer)(const sow_outer_args *a)
{
    const int64_t n_blocks = (a->n_size + N_BLOCK - 1) / N_BLOCK;
    for (int64_t i = 0; i < n_blocks; i++) {
        const int64_t n = share(a->n_size, n_blocks, i);
        for (int64_t t = 0; t < a->t_size; t += T_BLOCK) {
            sow_outer_args some = *a;
            some.n_size = share(a->n_size, n_blocks, i + 1) - n;
            some.t_size = a->t_size - t < T_BLOCK ? a->t_size - t : T_BLOCK;
            some.dy += t * a->ldy + n;
            some.x += t * a->ldx;
            some.dw += n * a->ldw;
            multiply_block(&some);
        }
    }
}
