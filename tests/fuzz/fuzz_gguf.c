// NEEDS: nn text la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a GGUF: shape, weights, tokenizer and template are read or refused with one line; the weights take no
 * more memory than the file's size justifies; a tokenizer that was made can be made again from its text; no block stays
 * alive. */
#include "../../src/nn/files_impl.h"
#include "fuzz.h"

#include <math.h>

static void check_code(sow_code rc)
{
    FUZZ_CHECK(rc == SOW_EFORMAT || rc == SOW_ENUM);
    FUZZ_CHECK_MESSAGE();
    FUZZ_CHECK(strncmp(sow_error_text(), "fuzz.gguf:", 10) == 0);
}

static void check_weights(sow_model *model, size_t bytes)
{
    const sow_layout *layout = sow_model_layout(model);
    float *theta = NULL;
    /* Q4_0 makes 32 values of 18 bytes; a tensor is padded to 64 elements, the whole to 16384. */
    FUZZ_CHECK((size_t)layout->n_elements < 2 * bytes + (size_t)layout->n_tensors * 64 + 16384);
    FUZZ_CHECK(SOW_ALLOC(&theta, layout->n_elements) == SOW_OK);
    sow_code rc = sow_model_load(model, theta);
    if (rc != SOW_OK)
        check_code(rc);
    for (int64_t i = 0; rc == SOW_OK && i < layout->n_elements; i++)
        FUZZ_CHECK(isfinite(theta[i]));
    SOW_FREE(&theta);
}

static void check_tokenizer(const sow_model *model)
{
    sow_tokenizer *tokenizer = NULL;
    size_t bytes = 0;
    const char *json = sow_model_tokenizer_json(model, &bytes);
    if (json == NULL)
        return;
    FUZZ_CHECK(sow_tokenizer_parse(json, bytes, "tokenizer.json", &tokenizer) == SOW_OK);
    FUZZ_CHECK(sow_tokenizer_size(tokenizer) <= sow_model_layout(model)->shape.vocab_size);
    sow_tokenizer_destroy(&tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    sow_model *model = NULL;
    sow_code rc = sow_model_from_gguf(data, bytes, "fuzz.gguf", &model);
    if (rc == SOW_OK) {
        check_weights(model, bytes);
        check_tokenizer(model);
    } else {
        check_code(rc);
    }
    sow_model_close(&model);
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}
