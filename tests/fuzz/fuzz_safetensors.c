// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a safetensors file of a small model: they are read or refused with one line; what was read is finite
 * everywhere and zero between the tensors; no block stays alive. */
#include "../../src/nn/files_impl.h"
#include "fuzz.h"

#include <math.h>

/* The smallest model there is: one layer, sides of 1 to 4. */
static sow_layout *make_layout(bool is_tied)
{
    const sow_shape shape = {
        .family = "llama",
        .vocab_size = 4,
        .hidden_size = 2,
        .intermediate_size = 3,
        .n_layers = 1,
        .n_heads = 1,
        .n_kv_heads = 1,
        .head_dim = 2,
        .max_positions = 8,
        .rope_theta = 10000,
        .rms_norm_eps = 1e-5,
        .rope_factor = 1,
        .is_tied = is_tied,
        .bos = -1,
        .pad = -1,
    };
    sow_layout *layout = NULL;
    FUZZ_CHECK(sow_layout_create(&shape, &layout) == SOW_OK);
    return layout;
}

static void check_theta(const sow_layout *layout, const float *theta)
{
    int64_t at = 0;
    for (int64_t t = 0; t < layout->n_tensors; t++) {
        const sow_tensor *tensor = &layout->tensors[t];
        for (; at < tensor->offset; at++)
            FUZZ_CHECK(theta[at] == 0);
        for (; at < tensor->offset + tensor->rows * tensor->cols; at++)
            FUZZ_CHECK(isfinite(theta[at]));
    }
    for (; at < layout->n_elements; at++)
        FUZZ_CHECK(theta[at] == 0);
}

static sow_code run(const uint8_t *data, size_t bytes, const sow_layout *layout, float *theta)
{
    sow_weights weights = {0};
    sow_code rc = sow_safetensors_read(data, bytes, "fuzz.st", &weights);
    if (rc == SOW_OK)
        rc = sow_weights_sort(&weights);
    if (rc == SOW_OK)
        rc = sow_weights_match(&weights, layout, "fuzz.st");
    if (rc == SOW_OK)
        rc = sow_weights_load(&weights, layout, theta);
    sow_weights_fini(&weights);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    for (int is_tied = 0; is_tied < 2; is_tied++) {
        sow_layout *layout = make_layout(is_tied != 0);
        float *theta = NULL;
        FUZZ_CHECK(SOW_ALLOC(&theta, layout->n_elements) == SOW_OK);
        sow_code rc = run(data, bytes, layout, theta);
        if (rc == SOW_OK) {
            check_theta(layout, theta);
        } else {
            FUZZ_CHECK(rc == SOW_EFORMAT || rc == SOW_ENUM);
            FUZZ_CHECK_MESSAGE();
            FUZZ_CHECK(strncmp(sow_error_text(), "fuzz.st:", 8) == 0);
        }
        SOW_FREE(&theta);
        sow_layout_destroy(&layout);
    }
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}
