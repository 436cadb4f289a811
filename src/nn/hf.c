/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON files of a Hugging Face folder, read.
 *
 * Unknown keys of config.json are fine, since every version of transformers adds some; but a key that changes what a
 * model computes, and that this program does not compute, is refused by name: silence would be a wrong number. */
#include "files_impl.h"

#include "sower/alloc.h"

#include <string.h>

const char *sow_quote(const char *text, size_t bytes, sow_quoted *out)
{
    size_t room = sizeof out->text - 6, n = bytes < room ? bytes : room; /* quotes, dots, NUL */
    char *p = out->text;
    *p++ = '"';
    for (size_t i = 0; i < n; i++) {
        *p = text[i];
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
        p++;
    }
    while (n < bytes && p > out->text + 1 && ((unsigned char)p[-1] & 0x80) != 0)
        p--; /* no half character in front of the dots */
    for (int i = 0; n < bytes && i < 3; i++)
        *p++ = '.';
    *p++ = '"';
    *p = '\0';
    return out->text;
}

/* Where a value is looked for: an object inside a file, and how messages call its keys ("rope_scaling."). */
typedef struct place {
    const sow_json *object;
    const char *what, *prefix;
} place;

static const char *describe(const sow_json *node, sow_quoted *out)
{
    double real = 0;
    int64_t whole = 0;
    bool is_true = false;
    size_t bytes = 0;
    const char *text = sow_json_to_string(node, &bytes);
    if (text != NULL)
        return sow_quote(text, bytes, out);
    if (sow_json_to_int(node, &whole))
        (void)snprintf(out->text, sizeof out->text, "%lld", (long long)whole);
    else if (sow_json_to_real(node, &real))
        (void)snprintf(out->text, sizeof out->text, "%.17g", real);
    else if (sow_json_to_bool(node, &is_true))
        (void)snprintf(out->text, sizeof out->text, "%s", is_true ? "true" : "false");
    else
        (void)snprintf(out->text, sizeof out->text, "%s",
                       sow_json_kind_of(node) == SOW_JSON_ARRAY    ? "[...]"
                       : sow_json_kind_of(node) == SOW_JSON_OBJECT ? "{...}"
                                                                   : "null");
    return out->text;
}

static sow_code fail_kind(const place *at, const char *key, const sow_json *node, const char *is_what,
                          const char *expected)
{
    sow_quoted value;
    if (sow_json_kind_of(node) == SOW_JSON_NONE)
        return SOW_FAIL(SOW_EFORMAT, "%s: %s%s: is missing, expected %s", at->what, at->prefix, key, expected);
    return SOW_FAIL(SOW_EFORMAT, "%s: %s%s: %s is %s, expected %s", at->what, at->prefix, key, describe(node, &value),
                    is_what, expected);
}

static bool is_absent(const sow_json *node)
{
    return sow_json_kind_of(node) == SOW_JSON_NONE || sow_json_kind_of(node) == SOW_JSON_NULL;
}

/* Absent and not required: *out stays. */
static sow_code get_real(const place *at, const char *key, bool is_required, double *out)
{
    const sow_json *node = sow_json_get(at->object, key);
    if (is_absent(node) && !is_required)
        return SOW_OK;
    return sow_json_to_real(node, out) ? SOW_OK : fail_kind(at, key, node, "no number", "a number");
}

static sow_code get_bool(const place *at, const char *key, bool *out)
{
    const sow_json *node = sow_json_get(at->object, key);
    if (is_absent(node))
        return SOW_OK;
    return sow_json_to_bool(node, out) ? SOW_OK : fail_kind(at, key, node, "neither true nor false", "true or false");
}

static sow_code get_counts(const place *at, sow_shape *shape)
{
    const sow_shape_count *counts;
    int64_t n = sow_shape_counts(&counts);
    for (int64_t i = 0; i < n; i++) {
        const sow_json *node = sow_json_get(at->object, counts[i].key);
        int64_t *value = (int64_t *)((char *)shape + counts[i].offset);
        char expected[80];
        if (is_absent(node) && !counts[i].is_required)
            continue;
        (void)snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)counts[i].min,
                       (long long)counts[i].max);
        if (!sow_json_to_int(node, value))
            return fail_kind(at, counts[i].key, node, "no integer", expected);
        if (*value < counts[i].min || *value > counts[i].max)
            return fail_kind(at, counts[i].key, node, "out of range", expected);
    }
    return SOW_OK;
}

/* An id, null, or absent: -1; a -1 in the file is an old way to say none. */
static sow_code get_token(const place *at, const char *key, int32_t *out)
{
    const sow_json *node = sow_json_get(at->object, key);
    int64_t id = -1;
    if (!is_absent(node) && !sow_json_to_int(node, &id))
        return fail_kind(at, key, node, "no integer", "the id of a token or null");
    if (id < -1 || id > INT32_MAX)
        return fail_kind(at, key, node, "out of range", "the id of a token or null");
    *out = (int32_t)id;
    return SOW_OK;
}

static sow_code get_eos(const place *at, sow_shape *shape)
{
    const char *key = "eos_token_id";
    const sow_json *node = sow_json_get(at->object, key);
    bool is_list = sow_json_kind_of(node) == SOW_JSON_ARRAY;
    int64_t n = is_list ? sow_json_size(node) : is_absent(node) ? 0 : 1;
    for (int64_t i = 0; i < n; i++) {
        const sow_json *item = is_list ? sow_json_at(node, i) : node;
        int64_t id;
        if (!sow_json_to_int(item, &id))
            return fail_kind(at, key, item, "no integer", "an id, a list of ids or null");
        SOW_TRY(sow_shape_add_eos(shape, id, at->what, key));
    }
    return SOW_OK;
}

/* Keys whose every other value would change what the model computes. */
static sow_code refuse_unknown_computations(const place *at)
{
    static const struct {
        const char *key, *only; /* only: the one string that is fine; NULL: absent, null or false */
    } rows[] = {
        {"hidden_act", "silu"},
        {"use_sliding_window", NULL},
        {"quantization_config", NULL},
        {"add_cross_attention", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const sow_json *node = sow_json_get(at->object, rows[i].key);
        const char *text = sow_json_to_string(node, NULL);
        bool is_true = true;
        if (is_absent(node) || (rows[i].only == NULL && sow_json_to_bool(node, &is_true) && !is_true) ||
            (rows[i].only != NULL && text != NULL && strcmp(text, rows[i].only) == 0))
            continue;
        return fail_kind(at, rows[i].key, node, "not supported", rows[i].only == NULL ? "none" : "\"silu\"");
    }
    const sow_json *types = sow_json_get(at->object, "layer_types");
    for (int64_t i = 0; i < sow_json_size(types); i++) {
        const char *type = sow_json_to_string(sow_json_at(types, i), NULL);
        if (type == NULL || strcmp(type, "full_attention") != 0)
            return fail_kind(at, "layer_types", sow_json_at(types, i), "not supported", "\"full_attention\"");
    }
    return SOW_OK;
}

static sow_code refuse_partial_rotation(const place *at)
{
    double part = 1;
    SOW_TRY(get_real(at, "partial_rotary_factor", false, &part));
    if (part != 1)
        return fail_kind(at, "partial_rotary_factor", sow_json_get(at->object, "partial_rotary_factor"),
                         "not supported", "1");
    return SOW_OK;
}

/* rope_theta beside rope_scaling, or (transformers 5) both inside rope_parameters; with both there, rope_scaling
 * counts, as in transformers. */
static sow_code get_rope(const place *root, sow_shape *shape)
{
    bool is_nested = is_absent(sow_json_get(root->object, "rope_scaling"));
    const char *key = is_nested ? "rope_parameters" : "rope_scaling";
    const sow_json *node = sow_json_get(root->object, key);
    place at = {node, root->what, is_nested ? "rope_parameters." : "rope_scaling."};
    shape->rope_theta = 10000;
    shape->rope_factor = 1;
    SOW_TRY(get_real(root, "rope_theta", false, &shape->rope_theta));
    SOW_TRY(refuse_partial_rotation(root));
    if (is_absent(node))
        return SOW_OK;
    if (sow_json_kind_of(node) != SOW_JSON_OBJECT)
        return fail_kind(root, key, node, "no object", "an object or null");
    SOW_TRY(get_real(&at, "rope_theta", false, &shape->rope_theta));
    SOW_TRY(refuse_partial_rotation(&at));
    const char *type_key = sow_json_kind_of(sow_json_get(node, "rope_type")) == SOW_JSON_NONE ? "type" : "rope_type";
    const sow_json *type_node = sow_json_get(node, type_key);
    const char *type = is_absent(type_node) && is_nested ? "default" : sow_json_to_string(type_node, NULL);
    if (type == NULL || (strcmp(type, "llama3") != 0 && strcmp(type, "default") != 0))
        return fail_kind(&at, "rope_type", type_node, "not supported", "\"llama3\" or \"default\"");
    if (strcmp(type, "default") == 0)
        return SOW_OK;
    double original = 0;
    SOW_TRY(get_real(&at, "factor", true, &shape->rope_factor));
    SOW_TRY(get_real(&at, "low_freq_factor", true, &shape->rope_low_freq_factor));
    SOW_TRY(get_real(&at, "high_freq_factor", true, &shape->rope_high_freq_factor));
    SOW_TRY(get_real(&at, "original_max_position_embeddings", true, &original));
    if (!(original >= 1 && original <= 1 << 24) || original != (double)(int64_t)original)
        return fail_kind(&at, "original_max_position_embeddings",
                         sow_json_get(node, "original_max_position_embeddings"), "out of range",
                         "an integer from 1 to 16777216");
    shape->rope_original_positions = (int64_t)original;
    if (shape->rope_factor == 1) { /* none, which is always written the same way */
        shape->rope_low_freq_factor = shape->rope_high_freq_factor = 0;
        shape->rope_original_positions = 0;
    }
    return SOW_OK;
}

static sow_code get_family(const place *at, sow_shape *shape, const sow_family **out)
{
    const sow_json *node = sow_json_get(at->object, "model_type");
    const char *name = sow_json_to_string(node, NULL);
    const sow_family *family = name == NULL ? NULL : sow_family_find(name);
    char expected[120];
    sow_quoted names;
    (void)snprintf(expected, sizeof expected, "one of: %s", sow_family_names(&names));
    if (family == NULL)
        return fail_kind(at, "model_type", node, "not known", expected);
    (void)snprintf(shape->family, sizeof shape->family, "%s", family->name);
    *out = family;
    return SOW_OK;
}

static sow_code get_switches(const place *at, const sow_family *family, sow_shape *shape)
{
    bool attention = false, mlp = false;
    SOW_TRY(get_bool(at, "tie_word_embeddings", &shape->is_tied));
    SOW_TRY(get_bool(at, "attention_bias", &attention));
    SOW_TRY(get_bool(at, "mlp_bias", &mlp));
    shape->has_qkv_bias = family->qkv_bias == SOW_BY_CONFIG ? attention : family->qkv_bias == SOW_ALWAYS;
    shape->has_o_bias = family->o_bias == SOW_BY_CONFIG ? attention : family->o_bias == SOW_ALWAYS;
    shape->has_mlp_bias = family->mlp_bias == SOW_BY_CONFIG ? mlp : family->mlp_bias == SOW_ALWAYS;
    shape->has_qk_norm = family->qk_norm == SOW_ALWAYS;
    return SOW_OK;
}

static sow_code put_defaults(const place *at, const sow_family *family, sow_shape *shape)
{
    if (shape->n_kv_heads == 0)
        shape->n_kv_heads = shape->n_heads;
    if (shape->head_dim == 0)
        shape->head_dim = family->default_head_dim;
    if (shape->head_dim == 0 && shape->hidden_size % shape->n_heads != 0)
        return SOW_FAIL(SOW_EFORMAT,
                        "%s: head_dim: is missing, expected it since num_attention_heads %lld does not divide "
                        "hidden_size %lld",
                        at->what, (long long)shape->n_heads, (long long)shape->hidden_size);
    if (shape->head_dim == 0)
        shape->head_dim = shape->hidden_size / shape->n_heads;
    return SOW_OK;
}

static sow_code parse_shape(const place *at, sow_shape *shape)
{
    const sow_family *family = NULL;
    if (sow_json_kind_of(at->object) != SOW_JSON_OBJECT)
        return SOW_FAIL(SOW_EFORMAT, "%s: is no JSON object, expected a model's configuration", at->what);
    SOW_TRY(get_family(at, shape, &family));
    SOW_ASSERT(family != NULL);
    SOW_TRY(refuse_unknown_computations(at));
    SOW_TRY(get_counts(at, shape));
    SOW_TRY(put_defaults(at, family, shape));
    SOW_TRY(get_real(at, "rms_norm_eps", true, &shape->rms_norm_eps));
    SOW_TRY(get_rope(at, shape));
    SOW_TRY(get_switches(at, family, shape));
    SOW_TRY(get_token(at, "bos_token_id", &shape->bos));
    SOW_TRY(get_token(at, "pad_token_id", &shape->pad));
    SOW_TRY(get_eos(at, shape));
    return sow_shape_check(shape, at->what);
}

sow_code sow_shape_parse(const char *json, size_t bytes, const char *what, sow_shape *out)
{
    sow_json *root = NULL;
    sow_shape shape; /* padding too is zero: a shape is sent and compared as bytes */
    memset(&shape, 0, sizeof shape);
    SOW_TRY(sow_json_parse(json, bytes, what, &root));
    place at = {root, what, ""};
    sow_code rc = parse_shape(&at, &shape);
    sow_json_destroy(&root);
    SOW_TRY(rc);
    memcpy(out, &shape, sizeof shape);
    return SOW_OK;
}

sow_code sow_hf_add_generation(const char *json, size_t bytes, const char *what, sow_shape *shape)
{
    sow_json *root = NULL;
    SOW_TRY(sow_json_parse(json, bytes, what, &root));
    place at = {root, what, ""};
    sow_code rc = get_eos(&at, shape);
    sow_json_destroy(&root);
    return rc;
}

/* Whether a number's n characters are a whole number that may be too long for 64 bits. */
static bool is_long_integer(const char *number, size_t n)
{
    return n > 18 && memchr(number, '.', n) == NULL && memchr(number, 'e', n) == NULL && memchr(number, 'E', n) == NULL;
}

/* A copy in which whole numbers too long for 64 bits are written with an exponent in place of their last two digits:
 * "model_max_length": 10^30 is usual here for "no limit", and nothing of the kind is read. */
static sow_code shorten_numbers(const char *json, size_t bytes, char **out)
{
    char *copy = NULL;
    bool is_string = false;
    SOW_TRY(SOW_ALLOC(&copy, bytes + 1));
    if (bytes > 0)
        memcpy(copy, json, bytes);
    for (size_t i = 0, n = 0; i < bytes; i++) { /* n: characters of a number in front of i */
        if (!is_string && copy[i] != '\0' && strchr("0123456789+-.eE", copy[i]) != NULL) {
            n++;
            continue;
        }
        if (is_long_integer(copy + i - n, n)) {
            copy[i - 2] = 'e';
            copy[i - 1] = '2';
        }
        n = 0;
        if (is_string && copy[i] == '\\')
            i++; /* what follows is no end */
        else if (copy[i] == '"')
            is_string = !is_string;
    }
    *out = copy;
    return SOW_OK;
}

static const sow_json *template_of(const sow_json *root)
{
    const sow_json *node = sow_json_get(root, "chat_template");
    if (sow_json_kind_of(node) != SOW_JSON_ARRAY)
        return node;
    for (int64_t i = 0; i < sow_json_size(node); i++) { /* several with names: "default" is the one for chat */
        const char *name = sow_json_to_string(sow_json_get(sow_json_at(node, i), "name"), NULL);
        if (name != NULL && strcmp(name, "default") == 0)
            return sow_json_get(sow_json_at(node, i), "template");
    }
    return NULL;
}

sow_code sow_hf_chat_template(const char *json, size_t bytes, const char *what, char **out)
{
    sow_code rc = SOW_OK;
    sow_json *root = NULL;
    char *copy = NULL, *text = NULL;
    SOW_TRY_OR(rc, shorten_numbers(json, bytes, &copy));
    SOW_TRY_OR(rc, sow_json_parse(copy, bytes, what, &root));
    const sow_json *node = template_of(root);
    const char *found = sow_json_to_string(node, NULL);
    place at = {root, what, ""};
    if (found != NULL)
        SOW_TRY_OR(rc, sow_alloc_string(&text, found));
    else if (!is_absent(node))
        SOW_TRY_OR(rc, fail_kind(&at, "chat_template", node, "no text", "a text or a list of named texts"));
    *out = text;
done:
    sow_json_destroy(&root);
    SOW_FREE(&copy);
    return rc;
}
