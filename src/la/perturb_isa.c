/* SPDX-License-Identifier: Apache-2.0 */
/* perturb_isa.c: weights of a member: theta + factor * noise, rounded, packed; the update's last step; 16-bit rows.
 * Compiled once per instruction set.
 *
 * A panel is 32 rows of the tensor, that is 32 * k_size elements of noise one behind the other, and becomes k_size
 * lines of 32 outputs.  It goes through the cache in chunks of up to 256 columns:
 *
 *     noise        one slice if a chunk is the whole panel, else a slice per row (from the start of a block of 64)
 *     words        rows of 32-bit words [n_words][columns]: a float, or two 16-bit weights of two rows (bf16-mixed: of
 *                  two columns, then there are half as many)
 *     packed       lines of words [columns][n_words]: the transpose, by squares of VL x VL words in registers */
#include "isa.h"

enum {
    CHUNK = 256,                                      /* columns */
    ROOM = SOW_PANEL * (CHUNK + 2 * SOW_NOISE_BLOCK), /* floats of noise; a slice starts and ends with whole blocks */
};

typedef struct chunk {
    const sow_perturb_args *args;
    int64_t row, n_rows; /* rows of theta: up to 32 */
    int64_t column, n_columns;
    const float *noise[SOW_PANEL]; /* of each row; NULL: none */
} chunk;

/* Theta is prefetched while noise is drawn, line by line: 32 short pieces of rows are too many for a CPU to foresee,
 * and many lines asked for at once stop it. */
static void draw_chunk(chunk *c, float *room)
{
    const sow_perturb_args *a = c->args;
    const int64_t block = SOW_NOISE_BLOCK, k_size = a->k_size;
    const bool is_whole = c->n_columns == k_size;
    for (int64_t r = 0; r < c->n_rows; r++) {
        const int64_t first = (c->row + r) * k_size + c->column, offset = first % block;
        const int64_t n = is_whole ? c->n_rows * k_size : c->n_columns; /* elements of the slice */
        if (r == 0 || !is_whole) {
            const int64_t begin = first / block, n_blocks = (offset + n + block - 1) / block;
            float *to = room + (is_whole ? 0 : r * (CHUNK + 2 * block));
            ISA_FN(noise_blocks)(a->loop, &a->place, (uint64_t)begin, n_blocks, a->theta + first, to);
            c->noise[r] = to + offset;
        } else {
            c->noise[r] = c->noise[r - 1] + k_size;
        }
    }
}

void ISA_FN(hold)(const uint32_t *mask, int64_t first, int64_t n, const float *from, float *to)
{
    enum { BITS = 32 };
    for (int64_t i = 0; i < n; i += BITS) {
        const uint32_t *word = mask + (first + i) / BITS;
        const uint64_t pair = (uint64_t)word[1] << BITS | word[0];
        const uint32_t bits = (uint32_t)(pair >> ((first + i) % BITS));
        const int64_t count = n - i < BITS ? n - i : BITS;
        for (int64_t j = 0; j < count; j++) {
            const uint32_t moves = 0U - (bits >> j & 1);
            to[i + j] = from_bits((to_bits(to[i + j]) & moves) | (to_bits(from[i + j]) & ~moves));
        }
    }
}

/* out[j] = the weight of row r of the chunk in column j, in float32. */
static void make_row(const chunk *c, int64_t r, float *out)
{
    const sow_perturb_args *a = c->args;
    if (r >= c->n_rows) {
        memset(out, 0, (size_t)c->n_columns * sizeof *out);
        return;
    }
    const float *theta = a->theta + (c->row + r) * a->k_size + c->column, *noise = c->noise[r];
    if (noise == NULL) {
        memcpy(out, theta, (size_t)c->n_columns * sizeof *out);
        return;
    }
    for (int64_t j = 0; j < c->n_columns; j++)
        out[j] = fused(a->factor, noise[j], theta[j]);
    if (a->mask != NULL)
        ISA_FN(hold)(a->mask, (c->row + r) * a->k_size + c->column, c->n_columns, theta, out);
}

/* The row or the two whose weights share word i of a line, see la_impl.h. */
static void make_words(const chunk *c, int64_t i, uint32_t out[CHUNK])
{
    _Alignas(64) float low[CHUNK], high[CHUNK];
    const int64_t n = c->n_columns;
    if (c->args->type == SOW_F32) {
        make_row(c, i, low);
        memcpy(out, low, (size_t)n * sizeof *out);
        return;
    }
    if (c->args->type == SOW_BF16_MIXED) {
        make_row(c, i, low);
        for (int64_t j = 0; j < n / 2; j++)
            out[j] = to_bf16(low[2 * j]) | (uint32_t)to_bf16(low[2 * j + 1]) << 16;
        if (n % 2 != 0)
            out[n / 2] = to_bf16(low[n - 1]);
        return;
    }
    if (c->args->type == SOW_BF16) {
        make_row(c, i, low);
        make_row(c, i + SOW_PANEL / 2, high);
        for (int64_t j = 0; j < n; j++)
            out[j] = to_bf16(low[j]) | (uint32_t)to_bf16(high[j]) << 16;
        return;
    }
    make_row(c, 2 * i, low);
    make_row(c, 2 * i + 1, high);
    int64_t j = 0;
    for (; j + VL <= n; j += VL)
        words_store(out + j, words_of_fp16(vec_load(low + j), vec_load(high + j)));
    for (; j < n; j++)
        out[j] = to_fp16(low[j]) | (uint32_t)to_fp16(high[j]) << 16;
}

INLINE void pack(int n_words, int64_t n_columns, uint32_t word[SOW_PANEL][CHUNK], uint32_t *out)
{
    int64_t j = 0;
    for (; j + VL <= n_columns; j += VL) {
        for (int i = 0; i < n_words; i += VL) {
            words square[VL];
            UNROLL for (int l = 0; l < VL; l++) square[l] = words_load(word[i + l] + j);
            words_transpose(square);
            UNROLL for (int l = 0; l < VL; l++) words_store(out + (j + l) * n_words + i, square[l]);
        }
    }
    for (; j < n_columns; j++)
        for (int i = 0; i < n_words; i++)
            out[j * n_words + i] = word[i][j];
}

void ISA_FN(perturb)(const sow_perturb_args *a)
{
    _Alignas(64) float room[ROOM];
    _Alignas(64) uint32_t word[SOW_PANEL][CHUNK];
    const bool is_mixed = a->type == SOW_BF16_MIXED;
    const int n_words = a->type == SOW_F32 || is_mixed ? SOW_PANEL : SOW_PANEL / 2;
    const int64_t n_lines = is_mixed ? sow_pack_inputs(a->type, a->k_size) / 2 : a->k_size;
    for (int64_t p = a->first_panel; p < a->first_panel + a->n_panels; p++) {
        const int64_t row = p * SOW_PANEL, left = a->n_size - row;
        for (int64_t k = 0; k < a->k_size; k += CHUNK) {
            chunk c = {.args = a,
                       .row = row,
                       .n_rows = left < SOW_PANEL ? left : SOW_PANEL,
                       .column = k,
                       .n_columns = a->k_size - k < CHUNK ? a->k_size - k : CHUNK};
            if (a->factor != 0.0f)
                draw_chunk(&c, room);
            for (int i = 0; i < n_words; i++)
                make_words(&c, i, word[i]);
            uint32_t *out = (uint32_t *)a->w + (p * n_lines + (is_mixed ? k / 2 : k)) * n_words;
            if (n_words == SOW_PANEL)
                pack(SOW_PANEL, is_mixed ? (c.n_columns + 1) / 2 : c.n_columns, word, out);
            else
                pack(SOW_PANEL / 2, c.n_columns, word, out);
        }
    }
}

/* Each line is as the header says, every operation rounded. */
void ISA_FN(apply)(const sow_apply_args *a)
{
    const float keep = 1.0f - a->decay;
    for (int64_t i = 0; i < a->n; i++)
        a->out[i] = a->theta[i] + a->acc[i];
    if (a->anchor == SOW_ANCHOR_L2) {
        for (int64_t i = 0; i < a->n; i++)
            a->out[i] = a->base[i] + keep * (a->out[i] - a->base[i]);
    } else if (a->anchor == SOW_ANCHOR_L1) {
        for (int64_t i = 0; i < a->n; i++) {
            float delta = a->out[i] - a->base[i], size = __builtin_fabsf(delta) - a->decay;
            a->out[i] = a->base[i] + __builtin_copysignf(size > 0.0f ? size : 0.0f, delta);
        }
    }
}

void ISA_FN(narrow)(sow_type type, int64_t n, const float *x, void *out)
{
    uint16_t *half = out;
    int64_t i = 0;
    if (type == SOW_F32) {
        memmove(out, x, (size_t)n * sizeof *x);
    } else if (type != SOW_FP16) {
        for (; i < n; i++)
            half[i] = to_bf16(x[i]);
    } else {
        for (; i + VL <= n; i += VL)
            vec_store_fp16(half + i, vec_load(x + i));
        for (; i < n; i++)
            half[i] = to_fp16(x[i]);
    }
}

void ISA_FN(widen)(sow_type type, int64_t n, const void *x, float *out)
{
    const uint16_t *half = x;
    int64_t i = 0;
    if (type == SOW_F32) {
        memmove(out, x, (size_t)n * sizeof *out);
    } else if (type != SOW_FP16) {
        for (; i < n; i++)
            out[i] = from_bf16(half[i]);
    } else {
        for (; i + VL <= n; i += VL)
            vec_store(out + i, vec_load_fp16(half + i));
        for (; i < n; i++)
            out[i] = from_fp16(half[i]);
    }
}
