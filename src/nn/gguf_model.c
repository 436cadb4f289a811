/* SPDX-License-Identifier: Apache-2.0 */
/* What a GGUF says about a model's shape: its keys in a table beside those of config.json, and what its tensors show
 * (biases, a separate head).  What would change the computation and is not computed here is refused by name.
 *
 * A GGUF does not say how a Llama 3 rotation was scaled; it holds the result, rope_freqs.weight: a divisor for each
 * frequency. The one rule that Meta has used so far (wavelengths up to 8192 / 4 stay, from 8192 / 1 on are divided by
 * the factor, between them a ramp) is tried with the largest divisor as the factor; if it gives the same divisors,
 * that is the scaling. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <math.h>
#include <string.h>

enum { KEY_BYTES = 96 };

/* A reader's hands: the file, and what its keys begin with. */
typedef struct source {
    const sow_gguf *gguf;
    const sow_family *family;
} source;

static const sow_gguf_entry *find(const source *in, const char *suffix, char key[KEY_BYTES])
{
    (void)snprintf(key, KEY_BYTES, "%s.%s", in->family->name, suffix);
    return sow_gguf_find(in->gguf, key);
}

/* Not there: *out stays. */
static sow_code get_real(const source *in, const char *suffix, bool is_required, double *out)
{
    char key[KEY_BYTES];
    const sow_gguf_entry *entry = find(in, suffix, key);
    if (entry == NULL && !is_required)
        return SOW_OK;
    if (entry == NULL || !sow_gguf_to_real(entry->kind, entry->value, out))
        return sow_gguf_fail_kind(in->gguf, key, entry, "a number");
    return SOW_OK;
}

static sow_code get_count(const source *in, const char *suffix, bool is_required, const sow_shape_count *count,
                          int64_t *out)
{
    char key[KEY_BYTES], expected[80];
    const sow_gguf_entry *entry = find(in, suffix, key);
    int64_t value;
    if (entry == NULL && !is_required)
        return SOW_OK;
    (void)snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)count->min,
                   (long long)count->max);
    if (entry == NULL || !sow_gguf_to_int(entry->kind, entry->value, &value))
        return sow_gguf_fail_kind(in->gguf, key, entry, expected);
    if (value < count->min || value > count->max)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld is out of range, expected %s", in->gguf->what, key, (long long)value,
                        expected);
    *out = value;
    return SOW_OK;
}

static const sow_shape_count *find_count(const char *key)
{
    const sow_shape_count *counts;
    int64_t n = sow_shape_counts(&counts);
    for (int64_t i = 0; i < n; i++)
        if (strcmp(counts[i].key, key) == 0)
            return &counts[i];
    return NULL;
}

static sow_code get_counts(const source *in, sow_shape *shape)
{
    static const struct {
        const char *suffix, *key;
        bool is_required;
    } rows[] = {
        {"embedding_length", "hidden_size", true},
        {"feed_forward_length", "intermediate_size", true},
        {"block_count", "num_hidden_layers", true},
        {"attention.head_count", "num_attention_heads", true},
        {"attention.head_count_kv", "num_key_value_heads", false},
        {"rope.dimension_count", "head_dim", false},
        {"attention.key_length", "head_dim", false}, /* counts if both are there; they must agree, see below */
        {"context_length", "max_position_embeddings", true},
        {"vocab_size", "vocab_size", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const sow_shape_count *count = find_count(rows[i].key);
        SOW_TRY(get_count(in, rows[i].suffix, rows[i].is_required, count, (int64_t *)((char *)shape + count->offset)));
    }
    if (shape->n_kv_heads == 0)
        shape->n_kv_heads = shape->n_heads;
    if (shape->head_dim == 0)
        shape->head_dim = shape->hidden_size / shape->n_heads;
    return SOW_OK;
}

static sow_code get_vocabulary(const source *in, sow_shape *shape)
{
    const char *key = "tokenizer.ggml.tokens";
    const sow_gguf_entry *tokens = sow_gguf_find(in->gguf, key);
    const sow_shape_count *count = find_count("vocab_size");
    if (tokens == NULL && shape->vocab_size == 0)
        return sow_gguf_fail_kind(in->gguf, key, tokens, "a list of tokens");
    if (tokens == NULL)
        return SOW_OK;
    if (tokens->kind != SOW_GGUF_ARRAY || tokens->item_kind != SOW_GGUF_STRING)
        return sow_gguf_fail_kind(in->gguf, key, tokens, "an array of strings");
    int64_t most = shape->vocab_size != 0 ? shape->vocab_size : count->max;
    if (tokens->n < count->min || tokens->n > most)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld tokens is out of range, expected %lld to %lld", in->gguf->what, key,
                        (long long)tokens->n, (long long)count->min, (long long)most);
    if (shape->vocab_size == 0)
        shape->vocab_size = tokens->n;
    return SOW_OK;
}

static sow_code refuse_unknown_computations(const source *in, const sow_shape *shape)
{
    static const struct {
        const char *suffix;
        double only; /* the one value that changes nothing; NAN: the head's size */
    } rows[] = {
        {"attention.key_length", (double)NAN},
        {"attention.value_length", (double)NAN},
        {"rope.dimension_count", (double)NAN},
        {"rope.scaling.factor", 1},
        {"rope.scale_linear", 1},
        {"expert_count", 0},
        {"attention.sliding_window", 0},
        {"attention.clamp_kqv", 0},
        {"attention.max_alibi_bias", 0},
        {"attn_logit_softcapping", 0},
        {"final_logit_softcapping", 0},
        {"logit_scale", 1},
        {"embedding_scale", 1},
        {"residual_scale", 1},
    };
    char key[KEY_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double only = isnan(rows[i].only) ? (double)shape->head_dim : rows[i].only, value = only;
        SOW_TRY(get_real(in, rows[i].suffix, false, &value));
        if (value != only)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s.%s: %g is not supported, expected %g", in->gguf->what,
                            in->family->name, rows[i].suffix, value, only);
    }
    const sow_gguf_entry *scaling = find(in, "rope.scaling.type", key);
    sow_quoted quoted;
    if (scaling == NULL ||
        (scaling->kind == SOW_GGUF_STRING && scaling->n == 4 && memcmp(scaling->value, "none", 4) == 0))
        return SOW_OK;
    if (scaling->kind != SOW_GGUF_STRING)
        return sow_gguf_fail_kind(in->gguf, key, scaling, "\"none\"");
    return SOW_FAIL(SOW_EFORMAT, "%s: %s: %s is not supported, expected \"none\"", in->gguf->what, key,
                    sow_quote((const char *)scaling->value, (size_t)scaling->n, &quoted));
}

/* The divisor of frequency i by the rule of Llama 3. */
static double llama3_divisor(const sow_shape *shape, int64_t i)
{
    double pi = 3.14159265358979323846;
    double wavelength = 2 * pi * pow(shape->rope_theta, 2.0 * (double)i / (double)shape->head_dim);
    double original = (double)shape->rope_original_positions, factor = shape->rope_factor;
    double low = shape->rope_low_freq_factor, high = shape->rope_high_freq_factor;
    if (wavelength < original / high)
        return 1;
    if (wavelength > original / low)
        return factor;
    double smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

static sow_code get_rope_scaling(const source *in, sow_weights *weights, sow_shape *shape)
{
    sow_stored *stored = sow_weights_find(weights, "rope_freqs.weight");
    if (stored == NULL)
        return SOW_OK;
    int64_t n = shape->head_dim / 2;
    float divisors[512]; /* half of the largest head_dim */
    if (stored->n_dims != 1 || stored->cols != n || n > 512 || stored->storage->block != 1)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: is no list of %lld numbers, expected one for each frequency",
                        in->gguf->what, stored->name, (long long)n);
    stored->is_used = true;
    stored->storage->widen(stored->data, n, divisors);
    for (int64_t i = 0; i < n; i++)
        if ((double)divisors[i] > shape->rope_factor)
            shape->rope_factor = (double)divisors[i];
    if (shape->rope_factor > 1) {
        shape->rope_low_freq_factor = 1;
        shape->rope_high_freq_factor = 4;
        shape->rope_original_positions = 8192;
    }
    for (int64_t i = 0; i < n; i++) {
        double expected = shape->rope_factor > 1 ? llama3_divisor(shape, i) : 1;
        if (!(fabs((double)divisors[i] - expected) <= 1e-4 * expected))
            return SOW_FAIL(
                SOW_EFORMAT, "%s: %s: element %lld is %g, expected %g by the scaling of Llama 3 with factor %g",
                in->gguf->what, stored->name, (long long)i, (double)divisors[i], expected, shape->rope_factor);
    }
    return SOW_OK;
}

static sow_code get_tokens(const sow_gguf *gguf, sow_shape *shape)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id;
    SOW_TRY(sow_gguf_get_token(gguf, "tokenizer.ggml.bos_token_id", &id));
    shape->bos = (int32_t)id;
    SOW_TRY(sow_gguf_get_token(gguf, "tokenizer.ggml.padding_token_id", &id));
    shape->pad = (int32_t)id;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        SOW_TRY(sow_gguf_get_token(gguf, ends[i], &id));
        if (id != -1)
            SOW_TRY(sow_shape_add_eos(shape, id, gguf->what, ends[i]));
    }
    return SOW_OK;
}

static bool has_tensor(const sow_weights *weights, sow_tensor_kind kind, int layer)
{
    char name[SOW_MAX_NAME];
    return sow_shape_gguf_name(kind, layer, name) && sow_weights_find(weights, name) != NULL;
}

static sow_code get_family(const sow_gguf *gguf, const sow_family **out)
{
    const char *key = "general.architecture";
    const sow_gguf_entry *entry = sow_gguf_find(gguf, key);
    sow_quoted quoted, names;
    char name[32];
    if (entry == NULL || entry->kind != SOW_GGUF_STRING)
        return sow_gguf_fail_kind(gguf, key, entry, "the name of a family");
    (void)snprintf(name, sizeof name, "%.*s", (int)(entry->n < 31 ? entry->n : 31), (const char *)entry->value);
    *out = entry->n < 32 ? sow_family_find(name) : NULL;
    if (*out == NULL)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %s is not known, expected one of: %s", gguf->what, key,
                        sow_quote((const char *)entry->value, (size_t)entry->n, &quoted), sow_family_names(&names));
    return SOW_OK;
}

sow_code sow_gguf_shape(const sow_gguf *gguf, sow_weights *weights, sow_shape *out)
{
    source in = {.gguf = gguf};
    sow_shape shape; /* padding too is zero: a shape is sent and compared as bytes */
    memset(&shape, 0, sizeof shape);
    SOW_TRY(get_family(gguf, &in.family));
    SOW_ASSERT(in.family != NULL);
    (void)snprintf(shape.family, sizeof shape.family, "%s", in.family->name);
    SOW_TRY(get_counts(&in, &shape));
    SOW_TRY(get_vocabulary(&in, &shape));
    SOW_TRY(refuse_unknown_computations(&in, &shape));
    shape.rope_theta = 10000;
    shape.rope_factor = 1;
    SOW_TRY(get_real(&in, "rope.freq_base", false, &shape.rope_theta));
    SOW_TRY(get_real(&in, "attention.layer_norm_rms_epsilon", true, &shape.rms_norm_eps));
    SOW_TRY(get_rope_scaling(&in, weights, &shape));
    SOW_TRY(get_tokens(gguf, &shape));
    shape.is_tied = !has_tensor(weights, SOW_TENSOR_LM_HEAD, -1);
    shape.has_qkv_bias = has_tensor(weights, SOW_TENSOR_Q_BIAS, 0);
    shape.has_o_bias = has_tensor(weights, SOW_TENSOR_O_BIAS, 0);
    shape.has_mlp_bias = has_tensor(weights, SOW_TENSOR_DOWN_BIAS, 0);
    shape.has_qk_norm = has_tensor(weights, SOW_TENSOR_Q_NORM, 0);
    weights->is_permuted = in.family->is_gguf_permuted;
    SOW_TRY(sow_shape_check(&shape, gguf->what));
    memcpy(out, &shape, sizeof shape);
    return SOW_OK;
}
