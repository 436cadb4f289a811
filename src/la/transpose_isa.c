/* SPDX-License-Identifier: Apache-2.0 */
/* transpose_isa.c: packs the transpose of a tensor, for dx = dy W.  Compiled once per instruction set.
 *
 * A line of a packed panel has 32 outputs of one input.  Outputs of the transpose are columns of theta, so a line is 32
 * neighbours of a row of theta: nothing is transposed, only narrowed. */
#include "isa.h"

/* The order within a line: la_impl.h. */
INLINE void narrow_line(sow_type type, const float *x, char *line)
{
    enum { HALF = SOW_PANEL / 2 };
    if (type == SOW_F32) {
        memcpy(line, x, SOW_PANEL * sizeof *x);
    } else if (type == SOW_FP16) {
        UNROLL for (int i = 0; i < SOW_PANEL; i += VL) vec_store_fp16((uint16_t *)(void *)line + i, vec_load(x + i));
    } else {
        uint32_t word[HALF];
        for (int i = 0; i < HALF; i++)
            word[i] = to_bf16(x[i]) | (uint32_t)to_bf16(x[i + HALF]) << 16;
        memcpy(line, word, sizeof word);
    }
}

INLINE void pack_panel(sow_type type, int64_t bytes, const sow_transpose_args *a, int64_t panel)
{
    const int64_t column = panel * SOW_PANEL, left = a->k_size - column;
    const float *theta = a->theta + column;
    char *line = (char *)a->w + (panel * a->inner_size + a->inner_first) * SOW_PANEL * bytes;
    for (int64_t n = 0; n < a->n_size; n++, theta += a->k_size, line += SOW_PANEL * bytes) {
        if (left >= SOW_PANEL) {
            narrow_line(type, theta, line);
        } else {
            float padded[SOW_PANEL] = {0};
            memcpy(padded, theta, (size_t)left * sizeof *theta);
            narrow_line(type, padded, line);
        }
    }
}

/* Two rows of theta are a line; one whose neighbour is another tensor's, or is not there, fills its halves and leaves
 * the others as they are: zero, where memory came so. */
static void pack_mixed(const sow_transpose_args *a, int64_t panel)
{
    const int64_t column = panel * SOW_PANEL, columns = a->k_size - column < SOW_PANEL ? a->k_size - column : SOW_PANEL;
    const int64_t end = a->inner_first + a->n_size;
    uint32_t *lines = (uint32_t *)a->w + panel * ((a->inner_size + 1) / 2) * SOW_PANEL;
    for (int64_t k = a->inner_first, step; k < end; k += step) {
        const float *theta = a->theta + (k - a->inner_first) * a->k_size + column;
        uint32_t *line = lines + k / 2 * SOW_PANEL;
        const bool is_pair = k % 2 == 0 && k + 1 < end;
        step = is_pair ? 2 : 1;
        for (int64_t i = 0; i < SOW_PANEL; i++) {
            const uint32_t one = i < columns ? to_bf16(theta[i]) : 0;
            if (is_pair)
                line[i] = one | (i < columns ? (uint32_t)to_bf16(theta[a->k_size + i]) << 16 : 0);
            else
                line[i] = k % 2 == 0 ? (line[i] & 0xffff0000) | one : (line[i] & 0xffff) | one << 16;
        }
    }
}

void ISA_FN(transpose)(const sow_transpose_args *a)
{
    for (int64_t p = a->first_panel; p < a->first_panel + a->n_panels; p++) {
        if (a->type == SOW_F32)
            pack_panel(SOW_F32, sizeof(float), a, p);
        else if (a->type == SOW_FP16)
            pack_panel(SOW_FP16, sizeof(uint16_t), a, p);
        else if (a->type == SOW_BF16)
            pack_panel(SOW_BF16, sizeof(uint16_t), a, p);
        else
            pack_mixed(a, p);
    }
}
