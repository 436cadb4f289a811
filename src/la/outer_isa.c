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
 * A strip is all tiles of the same rows, side by side, so that dw is read and written along its rows, each tile asking
 * for the next one's lines.  Blocks of T_BLOCK t and K_BLOCK columns keep a strip's dy in the first cache and x in the
 * second.  Where its rows lie far apart, a block of dy or x is copied first (Goto and van de Geijn 2008, doi
 * 10.1145/1356052.1356053), so that it takes few pages and no two rows of it fall on the same line of a cache; where
 * they lie close, copying costs more than it brings (T 128, 96 x 96, Zen 4: 0.88 of the peak instead of 0.98). */
#include "isa.h"

/* As many rows as with the panels of linear_isa.c: 14x2 vectors for AVX-512, 6x2 for AVX2, 10x2 for NEON, 1x2 plain. */
enum {
    VECS = 2,
    WIDTH = VECS * VL,
    MAX_ROWS = (REGISTERS - 1) / VECS - 1,
    T_BLOCK = 128,
    K_BLOCK = 384,
    /* Floats from the first row to the last that are few pages: 64 of 4 KiB; narrow tiles read x more often. */
    NEAR = VL == 16 ? 64 * 1024 : 32 * 1024,
};

typedef struct strip {
    int64_t t_size, k_size; /* k_size a multiple of 32 */
    int64_t ldy, ldx, ldw;
    int64_t panel_step; /* from a panel of x to the next */
    const float *dy;    /* [t_size][ldy] */
    const float *x;     /* panels [t_size][ldx] */
    float *dw;          /* [rows][ldw] */
} strip;

/* sum[row] += dy[t][row] * x[t] for `n` of t.  `ahead`: so many rows of dw are asked for, one at each t, because many
 * lines asked for at once stop a CPU. */
INLINE void add_products(int64_t rows, int64_t n, const strip *s, const float *dy, const float *x, const float *ahead,
                         vec sum[MAX_ROWS][VECS])
{
    for (int64_t t = 0; t < n; t++, dy += s->ldy, x += s->ldx) {
        vec line[VECS];
        if (ahead != NULL) {
            UNROLL for (int64_t column = 0; column < WIDTH; column += 16) /* a line of a cache */
                __builtin_prefetch(ahead + t * s->ldw + column, 1);
        }
        UNROLL for (int64_t v = 0; v < VECS; v++) line[v] = vec_load(x + v * VL);
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            vec y = vec_set(dy[i]);
            UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_fma(y, line[v], sum[i][v]);
        }
    }
}

INLINE void multiply(int64_t rows, const strip *s, const float *x, const float *ahead, float *dw)
{
    vec sum[MAX_ROWS][VECS];
    const int64_t first = s->t_size < rows ? s->t_size : rows;
    UNROLL for (int64_t i = 0; i < rows; i++)
    {
        UNROLL for (int64_t v = 0; v < VECS; v++) sum[i][v] = vec_load(dw + i * s->ldw + v * VL);
    }
    add_products(rows, first, s, s->dy, x, ahead, sum);
    add_products(rows, s->t_size - first, s, s->dy + first * s->ldy, x + first * s->ldx, NULL, sum);
    UNROLL for (int64_t i = 0; i < rows; i++)
    {
        UNROLL for (int64_t v = 0; v < VECS; v++) vec_store(dw + i * s->ldw + v * VL, sum[i][v]);
    }
}

/* Asks for tiles `distance` ahead: further where a tile takes less time; behind the last ones come the next strip's. */
INLINE void multiply_strip(int64_t rows, const strip *s)
{
    const int64_t distance = SOW_PANEL * (s->t_size < 64 ? 2 : 1);
    const float *x = s->x;
    for (int64_t k = 0; k < s->k_size; k += SOW_PANEL, x += s->panel_step) {
        const int64_t next = k + distance;
        const float *ahead = s->dw + (next < s->k_size ? next : rows * s->ldw + next - s->k_size);
        UNROLL for (int64_t column = 0; column < SOW_PANEL; column += WIDTH)
            multiply(rows, s, x + column, ahead + column, s->dw + k + column);
    }
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

#define DEFINE_STRIP(rows)                                                                                             \
    static void strip_##rows(const strip *s)                                                                           \
    {                                                                                                                  \
        multiply_strip(rows, s);                                                                                       \
    }
EACH_ROWS(DEFINE_STRIP)

#define STRIP_ENTRY(rows) [rows] = strip_##rows,
static void (*const strips[MAX_ROWS + 1])(const strip *) = {EACH_ROWS(STRIP_ENTRY)};

/* A panel of fewer than 32 columns goes through a copy of dw, whose other columns are zero. */
static void multiply_edge(int64_t rows, int64_t columns, const strip *s)
{
    _Alignas(64) float edge[MAX_ROWS * SOW_PANEL] = {0};
    strip copy = *s;
    copy.dw = edge, copy.ldw = SOW_PANEL, copy.k_size = SOW_PANEL;
    for (int64_t i = 0; i < rows; i++)
        memcpy(edge + i * SOW_PANEL, s->dw + i * s->ldw, (size_t)columns * sizeof *edge);
    strips[rows](&copy);
    for (int64_t i = 0; i < rows; i++)
        memcpy(s->dw + i * s->ldw, edge + i * SOW_PANEL, (size_t)columns * sizeof *edge);
}

/* out[panel][t][32] of `columns` columns; of a last panel that has fewer the others are zero. */
static void pack_x(const sow_outer_args *a, int64_t columns, const float *from, float *out)
{
    for (int64_t k = 0; k < columns; k += SOW_PANEL) {
        const float *x = from + k;
        if (columns - k >= SOW_PANEL) {
            for (int64_t t = 0; t < a->t_size; t++, x += a->ldx, out += SOW_PANEL)
                memcpy(out, x, SOW_PANEL * sizeof *out);
        } else {
            memset(out, 0, (size_t)(a->t_size * SOW_PANEL) * sizeof *out);
            for (int64_t t = 0; t < a->t_size; t++, x += a->ldx, out += SOW_PANEL)
                memcpy(out, x, (size_t)(columns - k) * sizeof *out);
        }
    }
}

/* out[t][rows]; writes up to VL - 1 floats more.  The next strip's lines are asked for in time. */
static void pack_dy(const sow_outer_args *a, int64_t n, int64_t rows, float *out)
{
    const float *dy = a->dy + n;
    for (int64_t t = 0; t < a->t_size; t++, dy += a->ldy, out += rows) {
        __builtin_prefetch(dy + 2 * rows);
        for (int64_t i = 0; i < rows; i += VL)
            vec_store(out + i, vec_load_n(dy + i, (int)(rows - i < VL ? rows - i : VL)));
    }
}

/* At most T_BLOCK of t and K_BLOCK columns. */
static void multiply_block(const sow_outer_args *a)
{
    _Alignas(64) float dy[T_BLOCK * MAX_ROWS + VL], x[T_BLOCK * K_BLOCK];
    const int64_t n_strips = (a->n_size + MAX_ROWS - 1) / MAX_ROWS;
    const int64_t edge = a->k_size % SOW_PANEL, whole = a->k_size - edge;
    const bool is_reused = n_strips > 1; /* else x is read once, copied or not */
    const bool copies_dy = a->t_size * a->ldy > NEAR, copies_x = is_reused && a->t_size * a->ldx > NEAR;
    strip s = {.t_size = a->t_size,
               .k_size = whole,
               .ldx = copies_x ? SOW_PANEL : a->ldx,
               .ldw = a->ldw,
               .panel_step = copies_x ? SOW_PANEL * a->t_size : SOW_PANEL,
               .x = copies_x ? x : a->x};
    pack_x(a, copies_x ? a->k_size : edge, copies_x ? a->x : a->x + whole, x);
    for (int64_t i = 0, n = 0, end; i < n_strips; i++, n = end) {
        end = a->n_size * (i + 1) / n_strips; /* rows are shared out evenly */
        if (copies_dy)
            pack_dy(a, n, end - n, dy);
        s.dy = copies_dy ? dy : a->dy + n;
        s.ldy = copies_dy ? end - n : a->ldy;
        s.dw = a->dw + n * a->ldw;
        strips[end - n](&s);
        if (edge > 0) {
            strip last = s;
            last.ldx = SOW_PANEL;
            last.x = copies_x ? x + whole * a->t_size : x;
            last.dw += whole;
            multiply_edge(end - n, edge, &last);
        }
    }
}

void ISA_FN(outer)(const sow_outer_args *a)
{
    if (a->ends != NULL) {
        ISA_FN(outer_mixed)(a);
        return;
    }
    const int64_t panels = (a->k_size + SOW_PANEL - 1) / SOW_PANEL;
    const int64_t n_blocks = (a->k_size + K_BLOCK - 1) / K_BLOCK;
    for (int64_t i = 0; i < n_blocks; i++) {
        const int64_t k = panels * i / n_blocks * SOW_PANEL, k_end = panels * (i + 1) / n_blocks * SOW_PANEL;
        for (int64_t t = 0; t < a->t_size; t += T_BLOCK) {
            sow_outer_args some = *a;
            some.k_size = (k_end < a->k_size ? k_end : a->k_size) - k;
            some.t_size = a->t_size - t < T_BLOCK ? a->t_size - t : T_BLOCK;
            some.dy += t * a->ldy;
            some.x += t * a->ldx + k;
            some.dw += k;
            multiply_block(&some);
        }
    }
}
