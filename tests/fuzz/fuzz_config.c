// NEEDS: nn text la base
/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as config.json, generation_config.json and tokenizer_config.json: they are read or refused with one line; a
 * shape that was read is within its limits, is written, and reads back to the same bytes; no block stays alive. */
#include "../../src/nn/files_impl.h"
#include "fuzz.h"

static bool is_fine(sow_code rc)
{
    if (rc == SOW_OK)
        return true;
    FUZZ_CHECK(rc == SOW_EFORMAT);
    FUZZ_CHECK_MESSAGE();
    FUZZ_CHECK(strncmp(sow_error_text(), "fuzz.json:", 10) == 0);
    return false;
}

static void check_shape(const sow_shape *shape)
{
    sow_words text = {0};
    sow_shape back;
    FUZZ_CHECK(sow_shape_check(shape, "x") == SOW_OK);
    FUZZ_CHECK(sow_hf_config(shape, SOW_F32, &text) == SOW_OK);
    FUZZ_CHECK(sow_shape_parse(text.text, text.bytes, "back", &back) == SOW_OK);
    FUZZ_CHECK(memcmp(&back, shape, sizeof back) == 0);
    sow_words_clear(&text);
    FUZZ_CHECK(sow_hf_generation(shape, &text) == SOW_OK);
    FUZZ_CHECK(sow_hf_add_generation(text.text, text.bytes, "back", &back) == SOW_OK);
    FUZZ_CHECK(memcmp(&back, shape, sizeof back) == 0);
    sow_words_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const char *json = (const char *)data;
    sow_shape shape;
    char *template = NULL;
    memset(&shape, 0, sizeof shape);
    shape.vocab_size = 100;
    if (is_fine(sow_hf_add_generation(json, bytes, "fuzz.json", &shape)))
        FUZZ_CHECK(shape.n_eos <= SOW_MAX_EOS);
    if (is_fine(sow_shape_parse(json, bytes, "fuzz.json", &shape)))
        check_shape(&shape);
    (void)is_fine(sow_hf_chat_template(json, bytes, "fuzz.json", &template));
    SOW_FREE(&template);
    FUZZ_CHECK(sow_alloc_live() == 0);
    return 0;
}
