/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON files of a Hugging Face folder, written: as transformers 4 and 5 read them, one key a line, names and
 * numbers from the same table that reading uses. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <stdlib.h>
#include <string.h>

static const char *torch_name(sow_type type)
{
    static const char *const names[] = {[SOW_FP16] = "float16", [SOW_BF16] = "bfloat16", [SOW_F32] = "float32"};
    SOW_ASSERT(type < SOW_N_STORED);
    return names[type];
}

/* The shortest decimal that reads back equal. */
static sow_code print_real(sow_words *out, const char *before, double value, const char *after)
{
    char text[40];
    double back = 0;
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (sow_words_to_real(text, &back) && back == value)
            break;
    }
    return sow_words_print(out, "%s%s%s%s", before, text, strpbrk(text, ".e") == NULL ? ".0" : "", after);
}

static sow_code print_token(sow_words *out, const char *key, int32_t id)
{
    if (id < 0)
        return sow_words_print(out, "  \"%s\": null,\n", key);
    return sow_words_print(out, "  \"%s\": %d,\n", key, (int)id);
}

static sow_code print_eos(sow_words *out, const sow_shape *shape)
{
    if (shape->n_eos <= 1)
        return print_token(out, "eos_token_id", shape->n_eos == 1 ? shape->eos[0] : -1);
    SOW_TRY(sow_words_print(out, "  \"eos_token_id\": ["));
    for (int64_t i = 0; i < shape->n_eos; i++)
        SOW_TRY(sow_words_print(out, "%s%d", i > 0 ? ", " : "", (int)shape->eos[i]));
    return sow_words_print(out, "],\n");
}

static sow_code print_rope(sow_words *out, const sow_shape *shape)
{
    SOW_TRY(print_real(out, "  \"rope_theta\": ", shape->rope_theta, ",\n"));
    if (shape->rope_factor == 1)
        return sow_words_print(out, "  \"rope_scaling\": null,\n");
    SOW_TRY(sow_words_print(out, "  \"rope_scaling\": {\n    \"rope_type\": \"llama3\",\n"));
    SOW_TRY(print_real(out, "    \"factor\": ", shape->rope_factor, ",\n"));
    SOW_TRY(print_real(out, "    \"low_freq_factor\": ", shape->rope_low_freq_factor, ",\n"));
    SOW_TRY(print_real(out, "    \"high_freq_factor\": ", shape->rope_high_freq_factor, ",\n"));
    return sow_words_print(out, "    \"original_max_position_embeddings\": %lld\n  },\n",
                           (long long)shape->rope_original_positions);
}

sow_code sow_hf_config(const sow_shape *shape, sow_type type, sow_words *out)
{
    const sow_family *family = sow_family_find(shape->family);
    const sow_shape_count *counts;
    int64_t n = sow_shape_counts(&counts);
    SOW_ASSERT(family != NULL); /* a layout's shape was checked */
    SOW_TRY(sow_words_print(out, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n", family->architecture,
                            family->name));
    for (int64_t i = 0; i < n; i++)
        SOW_TRY(sow_words_print(out, "  \"%s\": %lld,\n", counts[i].key,
                                (long long)*(const int64_t *)((const char *)shape + counts[i].offset)));
    SOW_TRY(sow_words_print(out, "  \"hidden_act\": \"silu\",\n"));
    SOW_TRY(print_real(out, "  \"rms_norm_eps\": ", shape->rms_norm_eps, ",\n"));
    SOW_TRY(print_rope(out, shape));
    if (family->qkv_bias == SOW_BY_CONFIG)
        SOW_TRY(sow_words_print(out, "  \"attention_bias\": %s,\n", shape->has_qkv_bias ? "true" : "false"));
    if (family->mlp_bias == SOW_BY_CONFIG)
        SOW_TRY(sow_words_print(out, "  \"mlp_bias\": %s,\n", shape->has_mlp_bias ? "true" : "false"));
    SOW_TRY(print_token(out, "bos_token_id", shape->bos));
    SOW_TRY(print_eos(out, shape));
    SOW_TRY(print_token(out, "pad_token_id", shape->pad));
    SOW_TRY(sow_words_print(out, "  \"tie_word_embeddings\": %s,\n", shape->is_tied ? "true" : "false"));
    return sow_words_print(out, "  \"use_cache\": true,\n  \"torch_dtype\": \"%s\"\n}\n", torch_name(type));
}

sow_code sow_hf_generation(const sow_shape *shape, sow_words *out)
{
    SOW_TRY(sow_words_print(out, "{\n"));
    SOW_TRY(print_token(out, "bos_token_id", shape->bos));
    SOW_TRY(print_eos(out, shape));
    SOW_TRY(print_token(out, "pad_token_id", shape->pad));
    return sow_words_print(out, "  \"_from_model_config\": true\n}\n");
}

/* The name of an id in tokenizer.json: an added token, or an entry of the vocabulary. */
static const char *token_name(const sow_json *tokenizer, int64_t id)
{
    const sow_json *added = sow_json_get(tokenizer, "added_tokens");
    const sow_json *vocabulary = sow_json_get(sow_json_get(tokenizer, "model"), "vocab"), *node;
    const char *name;
    void *iterator = NULL;
    int64_t other;
    for (int64_t i = 0; i < sow_json_size(added); i++)
        if (sow_json_to_int(sow_json_get(sow_json_at(added, i), "id"), &other) && other == id)
            return sow_json_to_string(sow_json_get(sow_json_at(added, i), "content"), NULL);
    while (sow_json_next(vocabulary, &iterator, &name, &node))
        if (sow_json_to_int(node, &other) && other == id)
            return name;
    return NULL;
}

static void put_name(sow_line *line, const char *key, const sow_json *tokenizer, int64_t id)
{
    const char *name = id < 0 ? NULL : token_name(tokenizer, id);
    if (name != NULL)
        sow_line_string(line, key, name);
}

sow_code sow_hf_tokenizer_config(const sow_shape *shape, const char *tokenizer_json, size_t bytes,
                                 const char *chat_template, sow_words *out)
{
    sow_code rc = SOW_OK;
    sow_json *tokenizer = NULL;
    sow_line *line = NULL;
    const char *text;
    SOW_TRY_OR(rc, sow_json_parse(tokenizer_json, bytes, "tokenizer.json", &tokenizer));
    SOW_TRY_OR(rc, sow_line_create(&line));
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "tokenizer_class", "PreTrainedTokenizerFast");
    sow_line_bool(line, "clean_up_tokenization_spaces", false);
    sow_line_int(line, "model_max_length", shape->max_positions);
    put_name(line, "bos_token", tokenizer, shape->bos);
    put_name(line, "eos_token", tokenizer, shape->n_eos > 0 ? shape->eos[0] : -1);
    put_name(line, "pad_token", tokenizer, shape->pad);
    if (chat_template != NULL)
        sow_line_string(line, "chat_template", chat_template);
    sow_line_end_object(line);
    SOW_TRY_OR(rc, sow_line_text(line, &text));
    SOW_TRY_OR(rc, sow_words_print(out, "%s\n", text));
done:
    sow_line_destroy(&line);
    sow_json_destroy(&tokenizer);
    return rc;
}
