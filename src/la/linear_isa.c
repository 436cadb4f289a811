/* SPDX-License-Identifier: Apache-2.0 */
/* linear_isa.c: linear layers in float32; those of bf16-mixed are mixed_isa.c's.  Compiled once per instruction set.
 *
 * A tile is `rows` rows of x by `vecs` vectors of outputs, held in registers while k runs:
 *
 *                 w: one panel, K-major                  Each k loads `vecs` vectors of weights once and uses them
 *              k  [o0 o1 ... o31]  <- 64 bytes           for all rows.  Lanes are outputs, so a lane is one chain over
 *            k+1  [o0 o1 ... o31]                        ascending k, whatever rows, vecs and VL are: the shape of the
 *                                                        tile is free, the bits are not.
 *
 * Where rows take several tiles, the first of them writes the weights of 16 bits down as floats, which are in the cache
 * for the others: to widen them costs a tile up to a seventh of its time (fp16, Zen 4). */
#include "isa.h"

#include <stdalign.h>

/* The widest tile whose sums, weights and one x fit the registers: 14x2 for AVX-512, 6x2 for AVX2, 10x2 for NEON. */
#define FITS(rows, vecs) ((vecs)*VL <= SOW_PANEL && ((rows) + 1) * (vecs) + 1 <= REGISTERS)
#define VECS(rows)       (FITS(rows, 8) ? 8 : FITS(rows, 4) ? 4 : 2)
enum { MAX_ROWS = (REGISTERS - 1) / 2 - 1, MAX_VECS = 8 }; /* 14, 6, 10, plain 1: EACH_ROWS below goes as far */

enum {
    NEAR = 4096, /* bytes to prefetch ahead, and into which cache */
    FAR = 8192,
    FIRST = 3,
    SECOND = 2,
    SHARED = 1536, /* lines that tiles share, widened: 192 KiB, which stay in the second cache */
};

static const int64_t bytes_of[SOW_N_TYPES] = {[SOW_FP16] = 2, [SOW_BF16] = 2, [SOW_F32] = 4};

typedef struct tile {
    int64_t k_size, ldx, ldy;
    int64_t ahead;          /* bytes to the lines to prefetch; 0: there are none */
    bool goes_on;           /* sums start from what y holds */
    int64_t index, n_tiles; /* of tiles that go through this panel */
    const float *x;
    const char *w; /* lines of one panel */
    float *wide;   /* where the lines are kept widened, or NULL */
    const float *bias;
    float *y;
} tile;

/* The output where vector v of a tile starts that begins at output n: bf16 has one half of its vectors from each half
 * of the line. */
INLINE int64_t output_of(sow_type type, int64_t vecs, int64_t n, int64_t v)
{
    if (type != SOW_BF16)
        return n + v * VL;
    return v < vecs / 2 ? n / 2 + v * VL : SOW_PANEL / 2 + n / 2 + (v - vecs / 2) * VL;
}

INLINE void load_weights(sow_type type, int64_t vecs, int64_t n, const char *line, vec w[MAX_VECS])
{
    UNROLL for (int64_t v = 0; v < vecs; v++)
    {
        if (type == SOW_F32)
            w[v] = vec_load((const float *)(const void *)line + n + v * VL);
        else if (type == SOW_FP16)
            w[v] = vec_load_fp16((const uint16_t *)(const void *)line + n + v * VL);
        else if (v < vecs / 2) {
            words pairs = words_load(line + (n / 2 + v * VL) * (int64_t)sizeof(uint32_t));
            w[v] = vec_bf16_low(pairs);
            w[v + vecs / 2] = vec_bf16_high(pairs);
        }
    }
}

/* Where a tile has all outputs of a line, the first tile prefetches a little ahead of itself: into the first cache, if
 * with so few rows memory is slower than the multiplications, else into the second.  Where it has some, the tiles take
 * turns to prefetch the next panel's lines, so that memory is asked evenly. */
INLINE void prefetch_line(int64_t bytes, int cache, const char *line)
{
    UNROLL for (int64_t i = 0; i < SOW_PANEL * bytes; i += 64)
    {
        if (cache == FIRST)
            __builtin_prefetch(line + i, 0, FIRST);
        else
            __builtin_prefetch(line + i, 0, SECOND);
    }
}

/* The arrays have constant sizes and every loop over them is unrolled: only then do both compilers keep them in
 * registers. */
INLINE void multiply(int64_t rows, int64_t vecs, sow_type type, int64_t bytes, int64_t n, tile t)
{
    vec sum[MAX_ROWS][MAX_VECS], w[MAX_VECS];
    const int64_t width = vecs * VL, every = t.n_tiles * (SOW_PANEL / width);
    const int cache = rows < 2 * bytes ? FIRST : SECOND;
    const int64_t distance = t.index > 0 ? 0 : cache == FIRST ? NEAR : FAR; /* 0 costs nothing */
    int64_t wait = t.index + t.n_tiles * (n / width);
    if (t.goes_on) {
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            UNROLL for (int64_t v = 0; v < vecs; v++) sum[i][v] =
                vec_load(t.y + i * t.ldy + output_of(type, vecs, n, v));
        }
    } else {
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            UNROLL for (int64_t v = 0; v < vecs; v++) sum[i][v] = vec_set(0.0f);
        }
    }
    for (int64_t k = 0; k < t.k_size; k++, t.w += SOW_PANEL * bytes) {
        if (width == SOW_PANEL) {
            prefetch_line(bytes, cache, t.w + distance);
        } else if (wait-- == 0) {
            prefetch_line(bytes, SECOND, t.w + t.ahead);
            wait = every - 1;
        }
        load_weights(type, vecs, n, t.w, w);
        /* The first of several tiles has more than half of the rows that fit; smaller ones need no branch. */
        if (type != SOW_F32 && 2 * rows > MAX_ROWS && t.wide != NULL) {
            UNROLL for (int64_t v = 0; v < vecs; v++)
                vec_store(t.wide + k * SOW_PANEL + output_of(type, vecs, n, v), w[v]);
        }
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            vec x = vec_set(t.x[i * t.ldx + k]);
            UNROLL for (int64_t v = 0; v < vecs; v++) sum[i][v] = vec_fma(x, w[v], sum[i][v]);
        }
    }
    UNROLL for (int64_t v = 0; v < vecs; v++)
    {
        const int64_t output = output_of(type, vecs, n, v);
        UNROLL for (int64_t i = 0; i < rows; i++)
        {
            vec y = t.bias == NULL ? sum[i][v] : vec_add(sum[i][v], vec_load(t.bias + output));
            vec_store(t.y + i * t.ldy + output, y);
        }
    }
}

/* `rows` rows of one panel, by tiles of VECS(rows) vectors. */
INLINE void multiply_panel(int64_t rows, sow_type type, int64_t bytes, tile t)
{
    UNROLL for (int64_t n = 0; n < SOW_PANEL; n += (int64_t)VECS(rows) * VL)
        multiply(rows, VECS(rows), type, bytes, n, t);
}

#define ROWS_TO_6(X, ...)                                                                                              \
    X(1, __VA_ARGS__)                                                                                                  \
    X(2, __VA_ARGS__) X(3, __VA_ARGS__) X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__)
#define ROWS_7_TO_10(X, ...)  X(7, __VA_ARGS__) X(8, __VA_ARGS__) X(9, __VA_ARGS__) X(10, __VA_ARGS__)
#define ROWS_11_TO_14(X, ...) X(11, __VA_ARGS__) X(12, __VA_ARGS__) X(13, __VA_ARGS__) X(14, __VA_ARGS__)
#if defined(VEC_PLAIN)
#define EACH_ROWS(X, ...) X(1, __VA_ARGS__)
#elif defined(VEC_AVX512)
#define EACH_ROWS(X, ...) ROWS_TO_6(X, __VA_ARGS__) ROWS_7_TO_10(X, __VA_ARGS__) ROWS_11_TO_14(X, __VA_ARGS__)
#elif defined(VEC_NEON)
#define EACH_ROWS(X, ...) ROWS_TO_6(X, __VA_ARGS__) ROWS_7_TO_10(X, __VA_ARGS__)
#else
#define EACH_ROWS(X, ...) ROWS_TO_6(X, __VA_ARGS__)
#endif
#define EACH_TILE(X) EACH_ROWS(X, SOW_FP16, 2) EACH_ROWS(X, SOW_BF16, 2) EACH_ROWS(X, SOW_F32, 4)

#define DEFINE_TILE(rows, type, bytes)                                                                                 \
    static void tile_##type##_##rows(const tile *t)                                                                    \
    {                                                                                                                  \
        multiply_panel(rows, type, bytes, *t);                                                                         \
    }
EACH_TILE(DEFINE_TILE)

#define TILE_ENTRY(rows, type, bytes) [type][rows] = tile_##type##_##rows,
static void (*const tiles[SOW_N_TYPES][MAX_ROWS + 1])(const tile *) = {EACH_TILE(TILE_ENTRY)};

/* All rows by one block of k of one panel.  Rows are shared out evenly: 16 are 8 + 8, not 14 + 2.  `lines`: where the
 * first tile keeps what it widens, for the others; or NULL. */
static void multiply_block(const sow_linear_args *a, tile block, float *lines)
{
    const int64_t n_tiles = (a->m_size + MAX_ROWS - 1) / MAX_ROWS;
    block.n_tiles = lines == NULL ? n_tiles : 1; /* that take turns to prefetch */
    block.wide = lines;
    for (int64_t m = 0, rows; m < a->m_size; m += rows, block.index++) {
        rows = (a->m_size - m + n_tiles - block.index - 1) / (n_tiles - block.index);
        const bool is_widened = lines != NULL && block.index > 0;
        if (is_widened) {
            block.w = (const char *)lines;
            block.wide = NULL;
            block.ahead = 0;
        }
        tiles[is_widened ? SOW_F32 : a->type][rows](&block);
        block.x += rows * a->ldx;
        block.y += rows * a->ldy;
    }
}

/* Weights of 16 bits that go through several tiles are widened once, block by block of k; y holds the sums between two
 * blocks. */
static __attribute__((noinline)) void linear_float32(const sow_linear_args *a)
{
    alignas(64) float lines[SHARED * SOW_PANEL];
    const bool is_shared = a->type != SOW_F32 && a->m_size > MAX_ROWS;
    const int64_t n_blocks = is_shared ? (a->k_size + SHARED - 1) / SHARED : 1;
    const char *w = a->w; /* block lies behind block, panel behind panel */
    for (int64_t n = 0; n < a->n_size; n += SOW_PANEL) {
        for (int64_t i = 0; i < n_blocks; i++) {
            const int64_t k = a->k_size * i / n_blocks, k_size = a->k_size * (i + 1) / n_blocks - k;
            const int64_t bytes = k_size * SOW_PANEL * bytes_of[a->type];
            const bool is_last = i + 1 == n_blocks;
            multiply_block(a,
                           (tile){.k_size = k_size,
                                  .ldx = a->ldx,
                                  .ldy = a->ldy,
                                  .ahead = is_last && n + SOW_PANEL == a->n_size ? 0 : bytes,
                                  .goes_on = i > 0,
                                  .x = a->x + k,
                                  .w = w,
                                  .bias = is_last && a->bias != NULL ? a->bias + n : NULL,
                                  .y = a->y + n},
                           is_shared ? lines : NULL);
            w += bytes;
        }
    }
}

void ISA_FN(linear)(const sow_linear_args *a)
{
    if (a->type == SOW_BF16_MIXED)
        ISA_FN(linear_mixed)(a);
    else
        linear_float32(a);
}
