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

void ISA_FN(transpose)(const sow_transpose_args *a)
{
    for (int64_t p = a->first_panel; p < a->first_panel + a->n_panels; p++) {
        if (a->type == SOW_F32)
            pack_panel(SOW_F32, sizeof(float), a, p);
        else if (a->type == SOW_FP16)
            pack_panel(SOW_FP16, sizeof(uint16_t), a, p);
        else
            pack_panel(SOW_BF16, sizeof(uint16_t), a, p);
    }
}
