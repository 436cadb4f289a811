/* SPDX-License-Identifier: Apache-2.0 */
/* A new model from a seed, and the tokenizer whose tokens are bytes. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <string.h>

/* Standard deviation of a tensor's values.  What adds to the residual stream (o, down) does it 2L times: variances
 * add. */
static double std_of(const sow_tensor *tensor, int64_t n_layers, double embed_std)
{
    if (!tensor->is_matrix || tensor->kind == SOW_TENSOR_EMBED)
        return embed_std;
    double std = 0.6 / sqrt((double)tensor->cols);
    bool is_added = tensor->kind == SOW_TENSOR_O || tensor->kind == SOW_TENSOR_DOWN;
    return is_added ? std / sqrt(2.0 * (double)n_layers) : std;
}

static bool is_norm(sow_tensor_kind kind)
{
    return kind == SOW_TENSOR_INPUT_NORM || kind == SOW_TENSOR_POST_NORM || kind == SOW_TENSOR_FINAL_NORM ||
           kind == SOW_TENSOR_Q_NORM || kind == SOW_TENSOR_K_NORM;
}

void sow_model_init(const sow_layout *layout, uint32_t seed, double embed_std, const sow_kernels *kernels, float *theta)
{
    memset(theta, 0, (size_t)layout->n_elements * sizeof *theta);
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        float *out = theta + tensor->offset;
        int64_t n = tensor->rows * tensor->cols;
        float std = (float)std_of(tensor, layout->shape.n_layers, embed_std);
        if (is_norm(tensor->kind)) {
            for (int64_t j = 0; j < n; j++)
                out[j] = 1;
            continue;
        }
        kernels->noise(SOW_NOISE_GAUSSIAN, sow_place_of(SOW_STREAM_INIT, seed, 0, 0, (uint32_t)i), 0, n, out);
        for (int64_t j = 0; j < n; j++)
            out[j] *= std;
    }
}

/* The character that stands for a byte in a byte-level vocabulary (GPT-2): printable Latin-1 stands for itself, the
 * rest is counted up from U+0100 in the order of the bytes.  Two bytes of UTF-8 at most. */
static size_t byte_character(int byte, char out[3])
{
    int n_before = 0, code = byte;
    for (int b = 0; b <= byte; b++) {
        bool is_itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xff && b != 0xad);
        if (b == byte && !is_itself)
            code = 0x100 + n_before;
        n_before += !is_itself;
    }
    size_t n = 0;
    if (code >= 0x80)
        out[n++] = (char)(0xc0 | code >> 6);
    out[n++] = (char)(code < 0x80 ? code : 0x80 | (code & 0x3f));
    out[n] = '\0';
    return n;
}

static void put_byte_level(sow_line *line, const char *key)
{
    sow_line_begin_object(line, key);
    sow_line_string(line, "type", "ByteLevel");
    sow_line_bool(line, "add_prefix_space", false);
    sow_line_bool(line, "trim_offsets", true);
    sow_line_bool(line, "use_regex", false);
    sow_line_end_object(line);
}

static void put_vocabulary(sow_line *line, int64_t vocab_size)
{
    sow_line_begin_object(line, "vocab");
    for (int64_t id = 0; id < vocab_size; id++) {
        char name[32];
        if (id < 256)
            (void)byte_character((int)id, name);
        else
            (void)snprintf(name, sizeof name, "<unused%lld>", (long long)(id - 256));
        sow_line_int(line, name, id);
    }
    sow_line_end_object(line);
}

static void put_tokenizer(sow_line *line, int64_t vocab_size)
{
    sow_line_begin_object(line, NULL);
    sow_line_string(line, "version", "1.0");
    sow_line_null(line, "truncation");
    sow_line_null(line, "padding");
    sow_line_begin_array(line, "added_tokens");
    sow_line_end_array(line);
    sow_line_null(line, "normalizer");
    put_byte_level(line, "pre_tokenizer");
    sow_line_null(line, "post_processor");
    put_byte_level(line, "decoder");
    sow_line_begin_object(line, "model");
    sow_line_string(line, "type", "BPE");
    sow_line_null(line, "dropout");
    sow_line_null(line, "unk_token");
    sow_line_null(line, "continuing_subword_prefix");
    sow_line_null(line, "end_of_word_suffix");
    sow_line_bool(line, "fuse_unk", false);
    sow_line_bool(line, "byte_fallback", false);
    sow_line_bool(line, "ignore_merges", false);
    put_vocabulary(line, vocab_size);
    sow_line_begin_array(line, "merges");
    sow_line_end_array(line);
    sow_line_end_object(line);
    sow_line_end_object(line);
}

sow_code sow_model_byte_tokenizer(int64_t vocab_size, char **out)
{
    sow_line *line = NULL;
    const char *text;
    if (vocab_size < 128 || vocab_size > 1 << 24)
        return SOW_FAIL(SOW_EARG, "vocab_size: %lld is out of range, expected 128 to %d for a tokenizer of bytes",
                        (long long)vocab_size, 1 << 24);
    SOW_TRY(sow_line_create(&line));
    put_tokenizer(line, vocab_size);
    sow_code rc = sow_line_text(line, &text);
    if (rc == SOW_OK)
        rc = sow_alloc_string(out, text);
    sow_line_destroy(&line);
    return rc;
}
