/* SPDX-License-Identifier: Apache-2.0 */
/* pack.c: sizes of packed weights, and single rows of them (the order within a line: la_impl.h). */
#include "la_impl.h"
#include "scalar.h"

#include "sower/la.h"

int64_t sow_la_padded(int64_t n_size)
{
    return (n_size + SOW_PANEL - 1) / SOW_PANEL * SOW_PANEL;
}

size_t sow_la_packed_bytes(sow_type type, int64_t n_size, int64_t k_size)
{
    return (size_t)sow_la_padded(n_size) * (size_t)sow_pack_inputs(type, k_size) * sow_type_bytes(type);
}

void sow_la_packed_row(sow_type type, int64_t k_size, const void *w, int64_t n, float *out)
{
    const uint16_t *half = w;
    const float *whole = w;
    for (int64_t k = 0; k < k_size; k++) {
        const int64_t i = sow_pack_index(type, k_size, n, k);
        out[k] = type == SOW_F32 ? whole[i] : type == SOW_FP16 ? from_fp16(half[i]) : from_bf16(half[i]);
    }
}
