/* SPDX-License-Identifier: Apache-2.0 */
/* Two tables: the counts of a shape with their limits, and the tensors of a model in canonical order with their names,
 * sizes and conditions.  Everything else here walks them.
 *
 *     theta   embed | layer 0 | layer 1 | ... | final_norm | lm_head
 *     layer   input_norm q k v o (q_norm k_norm) post_norm gate up down
 *
 * A bias follows its matrix.  Each tensor starts at a multiple of 64 elements (a block of noise), theta's length is a
 * multiple of 16384 (the smallest block of an update). */
#include "sower/shape.h"

#include "files_impl.h"

#include "sower/alloc.h"

#include <string.h>

enum { TENSOR_STEP = 64, THETA_STEP = 16384 };

static const int64_t max_parameters = INT64_C(1) << 40;

/* clang-format off */
static const sow_shape_count counts[] = {
    {"vocab_size",              offsetof(sow_shape, vocab_size),        1, 1 << 24, true},
    {"hidden_size",             offsetof(sow_shape, hidden_size),       1, 1 << 17, true},
    {"intermediate_size",       offsetof(sow_shape, intermediate_size), 1, 1 << 20, true},
    {"num_hidden_layers",       offsetof(sow_shape, n_layers),          1, 1 << 10, true},
    {"num_attention_heads",     offsetof(sow_shape, n_heads),           1, 1 << 10, true},
    {"num_key_value_heads",     offsetof(sow_shape, n_kv_heads),        1, 1 << 10, false},
    {"head_dim",                offsetof(sow_shape, head_dim),          2, 1 << 10, false},
    {"max_position_embeddings", offsetof(sow_shape, max_positions),     1, 1 << 24, true},
};

/* Where a tensor stands, how long its sides are, and when it is there at all. */
enum part { HEAD, LAYER, TAIL };
enum side { ONE, VOCAB, HIDDEN, INNER, QUERY, KEY, PER_HEAD };
enum condition { ALWAYS, QKV_BIAS, O_BIAS, MLP_BIAS, QK_NORM, UNTIED };

static const struct tensor_row {
    sow_tensor_kind kind;
    enum part part;
    enum side rows, cols;
    enum condition when;
    const char *name; /* after "model.layers.N." in a layer */
    const char *gguf; /* after "blk.N." in a layer */
} tensor_rows[] = {
    {SOW_TENSOR_EMBED,      HEAD,  VOCAB,  HIDDEN,   ALWAYS,   "model.embed_tokens.weight",       "token_embd.weight"},
    {SOW_TENSOR_INPUT_NORM, LAYER, ONE,    HIDDEN,   ALWAYS,   "input_layernorm.weight",          "attn_norm.weight"},
    {SOW_TENSOR_Q,          LAYER, QUERY,  HIDDEN,   ALWAYS,   "self_attn.q_proj.weight",         "attn_q.weight"},
    {SOW_TENSOR_Q_BIAS,     LAYER, ONE,    QUERY,    QKV_BIAS, "self_attn.q_proj.bias",           "attn_q.bias"},
    {SOW_TENSOR_K,          LAYER, KEY,    HIDDEN,   ALWAYS,   "self_attn.k_proj.weight",         "attn_k.weight"},
    {SOW_TENSOR_K_BIAS,     LAYER, ONE,    KEY,      QKV_BIAS, "self_attn.k_proj.bias",           "attn_k.bias"},
    {SOW_TENSOR_V,          LAYER, KEY,    HIDDEN,   ALWAYS,   "self_attn.v_proj.weight",         "attn_v.weight"},
    {SOW_TENSOR_V_BIAS,     LAYER, ONE,    KEY,      QKV_BIAS, "self_attn.v_proj.bias",           "attn_v.bias"},
    {SOW_TENSOR_O,          LAYER, HIDDEN, QUERY,    ALWAYS,   "self_attn.o_proj.weight",         "attn_output.weight"},
    {SOW_TENSOR_O_BIAS,     LAYER, ONE,    HIDDEN,   O_BIAS,   "self_attn.o_proj.bias",           "attn_output.bias"},
    {SOW_TENSOR_Q_NORM,     LAYER, ONE,    PER_HEAD, QK_NORM,  "self_attn.q_norm.weight",         "attn_q_norm.weight"},
    {SOW_TENSOR_K_NORM,     LAYER, ONE,    PER_HEAD, QK_NORM,  "self_attn.k_norm.weight",         "attn_k_norm.weight"},
    {SOW_TENSOR_POST_NORM,  LAYER, ONE,    HIDDEN,   ALWAYS,   "post_attention_layernorm.weight", "ffn_norm.weight"},
    {SOW_TENSOR_GATE,       LAYER, INNER,  HIDDEN,   ALWAYS,   "mlp.gate_proj.weight",            "ffn_gate.weight"},
    {SOW_TENSOR_GATE_BIAS,  LAYER, ONE,    INNER,    MLP_BIAS, "mlp.gate_proj.bias",              "ffn_gate.bias"},
    {SOW_TENSOR_UP,         LAYER, INNER,  HIDDEN,   ALWAYS,   "mlp.up_proj.weight",              "ffn_up.weight"},
    {SOW_TENSOR_UP_BIAS,    LAYER, ONE,    INNER,    MLP_BIAS, "mlp.up_proj.bias",                "ffn_up.bias"},
    {SOW_TENSOR_DOWN,       LAYER, HIDDEN, INNER,    ALWAYS,   "mlp.down_proj.weight",            "ffn_down.weight"},
    {SOW_TENSOR_DOWN_BIAS,  LAYER, ONE,    HIDDEN,   MLP_BIAS, "mlp.down_proj.bias",              "ffn_down.bias"},
    {SOW_TENSOR_FINAL_NORM, TAIL,  ONE,    HIDDEN,   ALWAYS,   "model.norm.weight",               "output_norm.weight"},
    {SOW_TENSOR_LM_HEAD,    TAIL,  VOCAB,  HIDDEN,   UNTIED,   "lm_head.weight",                  "output.weight"},
};
/* clang-format on */

#define N_TENSOR_ROWS (sizeof tensor_rows / sizeof tensor_rows[0])

const char *sow_tensor_group(sow_tensor_kind kind)
{
    static const char *const groups[] = {
#define KIND(name, group) group,
        SOW_TENSOR_KINDS(KIND)
#undef KIND
    };
    return groups[kind];
}

int64_t sow_shape_counts(const sow_shape_count **out)
{
    *out = counts;
    return (int64_t)(sizeof counts / sizeof counts[0]);
}

static int64_t side_of(const sow_shape *shape, enum side side)
{
    const int64_t sides[] = {
        [ONE] = 1,
        [VOCAB] = shape->vocab_size,
        [HIDDEN] = shape->hidden_size,
        [INNER] = shape->intermediate_size,
        [QUERY] = shape->n_heads * shape->head_dim,
        [KEY] = shape->n_kv_heads * shape->head_dim,
        [PER_HEAD] = shape->head_dim,
    };
    return sides[side];
}

static bool is_there(const sow_shape *shape, enum condition when)
{
    const bool conditions[] = {
        [ALWAYS] = true,
        [QKV_BIAS] = shape->has_qkv_bias,
        [O_BIAS] = shape->has_o_bias,
        [MLP_BIAS] = shape->has_mlp_bias,
        [QK_NORM] = shape->has_qk_norm,
        [UNTIED] = !shape->is_tied,
    };
    return conditions[when];
}

static sow_code check_counts(const sow_shape *shape, const char *what)
{
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        int64_t value = *(const int64_t *)((const char *)shape + counts[i].offset);
        if (value < counts[i].min || value > counts[i].max)
            return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld is out of range, expected an integer from %lld to %lld", what,
                            counts[i].key, (long long)value, (long long)counts[i].min, (long long)counts[i].max);
    }
    if (shape->n_heads % shape->n_kv_heads != 0)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: num_key_value_heads: %lld is no divisor of num_attention_heads, expected one of %lld",
                        what, (long long)shape->n_kv_heads, (long long)shape->n_heads);
    if (shape->head_dim % 2 != 0)
        return SOW_FAIL(SOW_EFORMAT, "%s: head_dim: %lld is odd, expected an even number (halves are rotated)", what,
                        (long long)shape->head_dim);
    return SOW_OK;
}

static sow_code check_real(double value, double min, double max, const char *key, const char *what)
{
    if (!(value >= min && value <= max)) /* a NaN too */
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %g is out of range, expected a number from %g to %g", what, key, value,
                        min, max);
    return SOW_OK;
}

static sow_code check_reals(const sow_shape *shape, const char *what)
{
    SOW_TRY(check_real(shape->rms_norm_eps, 1e-30, 0.1, "rms_norm_eps", what));
    SOW_TRY(check_real(shape->rope_theta, 1, 1e15, "rope_theta", what));
    SOW_TRY(check_real(shape->rope_factor, 1, 1e6, "rope_scaling.factor", what));
    if (shape->rope_factor == 1)
        return SOW_OK;
    SOW_TRY(check_real(shape->rope_low_freq_factor, 1e-3, 1e6, "rope_scaling.low_freq_factor", what));
    SOW_TRY(check_real(shape->rope_high_freq_factor, 1e-3, 1e6, "rope_scaling.high_freq_factor", what));
    if (shape->rope_high_freq_factor <= shape->rope_low_freq_factor)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: rope_scaling.high_freq_factor: %g is too small, expected more than low_freq_factor %g",
                        what, shape->rope_high_freq_factor, shape->rope_low_freq_factor);
    return check_real((double)shape->rope_original_positions, 1, 1 << 24,
                      "rope_scaling.original_max_position_embeddings", what);
}

static sow_code check_token(const sow_shape *shape, int64_t id, const char *key, const char *what)
{
    if (id < 0 || id >= shape->vocab_size)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld is outside the vocabulary, expected an id from 0 to %lld", what, key,
                        (long long)id, (long long)shape->vocab_size - 1);
    return SOW_OK;
}

static sow_code check_tokens(const sow_shape *shape, const char *what)
{
    if (shape->n_eos < 0 || shape->n_eos > SOW_MAX_EOS)
        return SOW_FAIL(SOW_EFORMAT, "%s: eos_token_id: %lld ids are too many, expected at most %d", what,
                        (long long)shape->n_eos, SOW_MAX_EOS);
    for (int64_t i = 0; i < shape->n_eos; i++)
        SOW_TRY(check_token(shape, shape->eos[i], "eos_token_id", what));
    if (shape->bos != -1)
        SOW_TRY(check_token(shape, shape->bos, "bos_token_id", what));
    if (shape->pad != -1)
        SOW_TRY(check_token(shape, shape->pad, "pad_token_id", what));
    return SOW_OK;
}

/* A family says which parts its models have; what config.json of the family could not say is refused. */
static sow_code check_family(const sow_shape *shape, const char *what)
{
    const sow_family *family =
        memchr(shape->family, '\0', sizeof shape->family) == NULL ? NULL : sow_family_find(shape->family);
    sow_quoted quoted;
    if (family == NULL) {
        sow_quoted names;
        return SOW_FAIL(SOW_EFORMAT, "%s: model_type: %s is not known, expected one of: %s", what,
                        sow_quote(shape->family, strnlen(shape->family, sizeof shape->family), &quoted),
                        sow_family_names(&names));
    }
    const struct {
        const char *name;
        sow_when when;
        bool has;
    } parts[] = {
        {"biases of q, k, v", family->qkv_bias, shape->has_qkv_bias},
        {"biases of o", family->o_bias, shape->has_o_bias},
        {"biases of the mlp", family->mlp_bias, shape->has_mlp_bias},
        {"norms of q and k", family->qk_norm, shape->has_qk_norm},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].when != SOW_BY_CONFIG && parts[i].has != (parts[i].when == SOW_ALWAYS))
            return SOW_FAIL(SOW_EFORMAT, "%s: model_type: %s %s %s, expected otherwise", what, family->name,
                            parts[i].has ? "has no" : "always has", parts[i].name);
    if (family->qkv_bias == SOW_BY_CONFIG && family->o_bias == SOW_BY_CONFIG &&
        shape->has_qkv_bias != shape->has_o_bias)
        return SOW_FAIL(SOW_EFORMAT, "%s: attention_bias: is half true (biases of %s only), expected all four or none",
                        what, shape->has_o_bias ? "o" : "q, k, v");
    return SOW_OK;
}

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

/* Tensors and parameters; the limits of the counts keep both far below 2^63. */
static void count_up(const sow_shape *shape, int64_t *n_tensors, int64_t *n_parameters)
{
    *n_tensors = *n_parameters = 0;
    for (size_t i = 0; i < N_TENSOR_ROWS; i++) {
        const struct tensor_row *row = &tensor_rows[i];
        int64_t times = !is_there(shape, row->when) ? 0 : row->part == LAYER ? shape->n_layers : 1;
        *n_tensors += times;
        *n_parameters += times * side_of(shape, row->rows) * side_of(shape, row->cols);
    }
}

sow_code sow_shape_check(const sow_shape *shape, const char *what)
{
    SOW_TRY(check_counts(shape, what));
    SOW_TRY(check_family(shape, what));
    SOW_TRY(check_reals(shape, what));
    SOW_TRY(check_tokens(shape, what));
    int64_t n_tensors, n_parameters;
    count_up(shape, &n_tensors, &n_parameters);
    if (n_parameters > max_parameters)
        return SOW_FAIL(SOW_EFORMAT, "%s: %lld weights are too many, expected at most %lld", what,
                        (long long)n_parameters, (long long)max_parameters);
    return SOW_OK;
}

sow_code sow_shape_add_eos(sow_shape *shape, int64_t id, const char *what, const char *key)
{
    SOW_TRY(check_token(shape, id, key, what));
    for (int64_t i = 0; i < shape->n_eos; i++)
        if (shape->eos[i] == id)
            return SOW_OK;
    if (shape->n_eos == SOW_MAX_EOS)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s: %lld is one end token too many, expected at most %d", what, key,
                        (long long)id, SOW_MAX_EOS);
    shape->eos[shape->n_eos++] = (int32_t)id;
    return SOW_OK;
}

bool sow_shape_gguf_name(sow_tensor_kind kind, int layer, char out[SOW_MAX_NAME])
{
    for (size_t i = 0; i < N_TENSOR_ROWS; i++) {
        if (tensor_rows[i].kind != kind)
            continue;
        int n = tensor_rows[i].part == LAYER ? snprintf(out, SOW_MAX_NAME, "blk.%d.%s", layer, tensor_rows[i].gguf)
                                             : snprintf(out, SOW_MAX_NAME, "%s", tensor_rows[i].gguf);
        return n > 0 && n < SOW_MAX_NAME;
    }
    return false;
}

static void add_tensor(sow_layout *layout, const struct tensor_row *row, int layer)
{
    if (!is_there(&layout->shape, row->when))
        return;
    sow_tensor *tensor = &layout->tensors[layout->n_tensors++];
    *tensor = (sow_tensor){
        .kind = row->kind,
        .layer = layer,
        .rows = side_of(&layout->shape, row->rows),
        .cols = side_of(&layout->shape, row->cols),
        .offset = layout->n_elements,
        .is_matrix = row->rows != ONE,
    };
    int n = layer >= 0 ? snprintf(tensor->name, sizeof tensor->name, "model.layers.%d.%s", layer, row->name)
                       : snprintf(tensor->name, sizeof tensor->name, "%s", row->name);
    SOW_ASSERT(n > 0 && (size_t)n < sizeof tensor->name);
    layout->n_elements += round_up(tensor->rows * tensor->cols, TENSOR_STEP);
}

static void add_part(sow_layout *layout, enum part part, int layer)
{
    for (size_t i = 0; i < N_TENSOR_ROWS; i++)
        if (tensor_rows[i].part == part)
            add_tensor(layout, &tensor_rows[i], layer);
}

sow_code sow_layout_create(const sow_shape *shape, sow_layout **out)
{
    sow_code rc = SOW_OK;
    sow_layout *layout = NULL;
    int64_t n_tensors;
    SOW_TRY(sow_shape_check(shape, "shape"));
    SOW_TRY(SOW_ALLOC(&layout, 1));
    layout->shape = *shape;
    count_up(shape, &n_tensors, &layout->n_parameters);
    SOW_TRY_OR(rc, SOW_ALLOC(&layout->tensors, n_tensors));
    add_part(layout, HEAD, -1);
    for (int layer = 0; layer < (int)shape->n_layers; layer++)
        add_part(layout, LAYER, layer);
    add_part(layout, TAIL, -1);
    layout->n_elements = round_up(layout->n_elements, THETA_STEP);
    SOW_ASSERT(layout->n_tensors == n_tensors);
done:
    if (rc != SOW_OK)
        sow_layout_destroy(&layout);
    else
        *out = layout;
    return rc;
}

void sow_layout_destroy(sow_layout **layout)
{
    if (*layout != NULL)
        SOW_FREE(&(*layout)->tensors);
    SOW_FREE(layout);
}

/* The list is one tensor, n_layers equal runs, one or two tensors: a layer's run is found by arithmetic. */
const sow_tensor *sow_layout_find(const sow_layout *layout, sow_tensor_kind kind, int layer)
{
    int64_t n_tail = layout->shape.is_tied ? 1 : 2;
    int64_t run = (layout->n_tensors - 1 - n_tail) / layout->shape.n_layers;
    int64_t first = 0, end = layout->n_tensors;
    if (layer >= layout->shape.n_layers)
        return NULL;
    if (layer >= 0) {
        first = 1 + layer * run;
        end = first + run;
    }
    for (int64_t i = first; i < end; i = layer < 0 && i == 0 ? layout->n_tensors - n_tail : i + 1)
        if (layout->tensors[i].kind == kind && layout->tensors[i].layer == layer)
            return &layout->tensors[i];
    return NULL;
}

double sow_layout_flops(const sow_layout *layout, int64_t position)
{
    const sow_shape *shape = &layout->shape;
    double weights = 0;
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        bool is_lookup = tensor->kind == SOW_TENSOR_EMBED && !shape->is_tied;
        if (tensor->is_matrix && !is_lookup)
            weights += (double)(tensor->rows * tensor->cols);
    }
    /* Scores and their products with the values: two chains of n_heads * head_dim per position. */
    double attention =
        2.0 * (double)shape->n_layers * (double)(shape->n_heads * shape->head_dim) * (double)(position + 1);
    return 2 * (weights + attention);
}
