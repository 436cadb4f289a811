// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes: what config.json says, what it may not say, and where each tensor lies. */
#include "check.h"

#include "sower/file.h"
#include "sower/shape.h"

enum { TEXT_BYTES = 4096 };

/* A configuration that is right; a test replaces, adds or leaves out one key. */
static const struct {
    const char *key, *value;
} good[] = {
    {"model_type", "\"llama\""},  {"vocab_size", "300"},
    {"hidden_size", "48"},        {"intermediate_size", "80"},
    {"num_hidden_layers", "2"},   {"num_attention_heads", "4"},
    {"num_key_value_heads", "2"}, {"max_position_embeddings", "64"},
    {"rms_norm_eps", "1e-5"},     {"rope_theta", "20000"},
    {"eos_token_id", "[7, 9]"},   {"some_key_of_tomorrow", "{\"a\": [1]}"},
};

/* The configuration with `key` set to `value` (NULL: left out). */
static const char *config_with(const char *key, const char *value)
{
    static char text[TEXT_BYTES];
    size_t at = (size_t)snprintf(text, sizeof text, "{");
    bool is_known = false;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        bool is_it = strcmp(good[i].key, key) == 0;
        is_known = is_known || is_it;
        if (!is_it || value != NULL)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s\"%s\": %s", at > 1 ? ", " : "", good[i].key,
                                   is_it ? value : good[i].value);
    }
    if (!is_known && value != NULL)
        at += (size_t)snprintf(text + at, sizeof text - at, ", \"%s\": %s", key, value);
    at += (size_t)snprintf(text + at, sizeof text - at, "}");
    assert_true(at < sizeof text);
    return text;
}

static sow_code parse_with(const char *key, const char *value, sow_shape *out)
{
    const char *text = config_with(key, value);
    return sow_shape_parse(text, strlen(text), "m/config.json", out);
}

static void test_parse_when_keys_are_missing_puts_defaults(void **state)
{
    (void)state;
    sow_shape shape;
    CHECK_OK(parse_with("", NULL, &shape));
    assert_string_equal(shape.family, "llama");
    assert_int_equal(shape.vocab_size, 300);
    assert_int_equal(shape.n_layers, 2);
    assert_int_equal(shape.n_kv_heads, 2);
    assert_int_equal(shape.head_dim, 12);
    assert_true(shape.rope_theta == 20000 && shape.rms_norm_eps == 1e-5 && shape.rope_factor == 1);
    assert_false(shape.is_tied || shape.has_qkv_bias || shape.has_o_bias || shape.has_mlp_bias || shape.has_qk_norm);
    assert_int_equal(shape.bos, -1);
    assert_int_equal(shape.pad, -1);
    assert_int_equal(shape.n_eos, 2);
    assert_int_equal(shape.eos[1], 9);
    CHECK_OK(parse_with("num_key_value_heads", NULL, &shape));
    assert_int_equal(shape.n_kv_heads, 4);
    CHECK_OK(parse_with("rope_theta", NULL, &shape));
    assert_true(shape.rope_theta == 10000);
    CHECK_OK(parse_with("eos_token_id", "null", &shape));
    assert_int_equal(shape.n_eos, 0);
}

static void test_parse_when_a_family_has_more_parts_sets_them(void **state)
{
    (void)state;
    sow_shape shape;
    CHECK_OK(parse_with("attention_bias", "true", &shape));
    assert_true(shape.has_qkv_bias && shape.has_o_bias && !shape.has_mlp_bias);
    CHECK_OK(parse_with("mlp_bias", "true", &shape));
    assert_true(shape.has_mlp_bias && !shape.has_o_bias);
    CHECK_OK(parse_with("tie_word_embeddings", "true", &shape));
    assert_true(shape.is_tied);
    CHECK_OK(parse_with("model_type", "\"qwen2\"", &shape));
    assert_true(shape.has_qkv_bias && !shape.has_o_bias && !shape.has_qk_norm);
    assert_int_equal(shape.head_dim, 12);
    CHECK_OK(parse_with("model_type", "\"qwen3\"", &shape));
    assert_true(shape.has_qk_norm && !shape.has_qkv_bias);
    assert_int_equal(shape.head_dim, 128);
}

static void test_parse_when_rotation_is_scaled_reads_both_forms(void **state)
{
    (void)state;
    static const char *const scaling =
        "{\"rope_type\": \"llama3\", \"rope_theta\": 5e5, \"factor\": 8, \"low_freq_factor\": 1, "
        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}";
    sow_shape old, new, plain;
    CHECK_OK(parse_with("rope_scaling", scaling, &old));
    CHECK_OK(parse_with("rope_parameters", scaling, &new));
    assert_memory_equal(&old, &new, sizeof old);
    assert_true(old.rope_factor == 8 && old.rope_low_freq_factor == 1 && old.rope_high_freq_factor == 4);
    assert_int_equal(old.rope_original_positions, 32);
    assert_true(old.rope_theta == 5e5);
    CHECK_OK(parse_with("rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 77}", &plain));
    assert_true(plain.rope_factor == 1 && plain.rope_theta == 77);
    sow_shape unit;
    CHECK_OK(parse_with("", NULL, &plain));
    CHECK_OK(parse_with("rope_scaling",
                        "{\"rope_type\": \"llama3\", \"factor\": 1, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                        "\"original_max_position_embeddings\": 32}",
                        &unit));
    assert_memory_equal(&plain, &unit, sizeof plain); /* a factor of 1 is no scaling */
    CHECK_OK(parse_with("rope_scaling", "null", &plain));
    assert_true(plain.rope_factor == 1 && plain.rope_theta == 20000);
}

/* One wrong value each: key, value (NULL: left out), and words that the message must hold. */
static const struct {
    const char *key, *value, *words;
} wrong[] = {
    {"model_type", NULL, "m/config.json: model_type: is missing, expected one of: llama, qwen2, qwen3"},
    {"model_type", "\"bert\"", "model_type: \"bert\" is not known, expected one of"},
    {"model_type", "\"l\\u0000\\n\\u001b[31m\"", "model_type: \"l???[31m\" is not known"},
    {"model_type", "3", "model_type: 3 is not known"},
    {"vocab_size", NULL, "vocab_size: is missing, expected an integer from 1 to 16777216"},
    {"vocab_size", "null", "vocab_size: null is no integer"},
    {"vocab_size", "\"300\"", "vocab_size: \"300\" is no integer"},
    {"vocab_size", "0", "vocab_size: 0 is out of range"},
    {"vocab_size", "16777217", "vocab_size: 16777217 is out of range"},
    {"hidden_size", "-48", "hidden_size: -48 is out of range, expected an integer from 1 to 131072"},
    {"hidden_size", "48.0", "hidden_size: 48 is no integer"},
    {"hidden_size", "9223372036854775807", "hidden_size: 9223372036854775807 is out of range"},
    {"hidden_size", "92233720368547758080", "is not JSON"},
    {"hidden_size", "[48]", "hidden_size: [...] is no integer"},
    {"intermediate_size", "true", "intermediate_size: true is no integer"},
    {"num_hidden_layers", "1025", "num_hidden_layers: 1025 is out of range"},
    {"num_attention_heads", "5", "head_dim: is missing"},
    {"num_attention_heads", "0", "num_attention_heads: 0 is out of range"},
    {"num_key_value_heads", "3", "num_key_value_heads: 3 is no divisor of num_attention_heads, expected one of 4"},
    {"head_dim", "7", "head_dim: 7 is odd"},
    {"head_dim", "1026", "head_dim: 1026 is out of range"},
    {"max_position_embeddings", NULL, "max_position_embeddings: is missing"},
    {"rms_norm_eps", NULL, "rms_norm_eps: is missing, expected a number"},
    {"rms_norm_eps", "\"small\"", "rms_norm_eps: \"small\" is no number"},
    {"rms_norm_eps", "0", "rms_norm_eps: 0 is out of range"},
    {"rope_theta", "-1", "rope_theta: -1 is out of range"},
    {"rope_theta", "1e300", "rope_theta: 1e+300 is out of range"},
    {"rope_scaling", "2", "rope_scaling: 2 is no object, expected an object or null"},
    {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}", "rope_scaling.rope_type: \"linear\" is not supported"},
    {"rope_scaling", "{\"rope_type\": \"yarn\"}", "rope_scaling.rope_type: \"yarn\" is not supported"},
    {"rope_scaling", "{\"factor\": 2}", "rope_scaling.rope_type: is missing"},
    {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 2}", "rope_scaling.low_freq_factor: is missing"},
    {"rope_scaling",
     "{\"rope_type\": \"llama3\", \"factor\": 0.5, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
     "\"original_max_position_embeddings\": 8}",
     "rope_scaling.factor: 0.5 is out of range"},
    {"rope_scaling",
     "{\"rope_type\": \"llama3\", \"factor\": 2, \"low_freq_factor\": 4, \"high_freq_factor\": 4, "
     "\"original_max_position_embeddings\": 8}",
     "rope_scaling.high_freq_factor: 4 is too small"},
    {"rope_scaling",
     "{\"rope_type\": \"llama3\", \"factor\": 2, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
     "\"original_max_position_embeddings\": 8.5}",
     "rope_scaling.original_max_position_embeddings: 8.5 is out of range"},
    {"rope_parameters", "{\"rope_type\": \"linear\"}", "rope_parameters.rope_type: \"linear\" is not supported"},
    {"partial_rotary_factor", "0.5", "partial_rotary_factor: 0.5 is not supported, expected 1"},
    {"tie_word_embeddings", "1", "tie_word_embeddings: 1 is neither true nor false"},
    {"attention_bias", "\"no\"", "attention_bias: \"no\" is neither true nor false"},
    {"hidden_act", "\"gelu\"", "hidden_act: \"gelu\" is not supported, expected \"silu\""},
    {"use_sliding_window", "true", "use_sliding_window: true is not supported"},
    {"quantization_config", "{}", "quantization_config: {...} is not supported"},
    {"layer_types", "[\"full_attention\", \"sliding_attention\"]",
     "layer_types: \"sliding_attention\" is not supported"},
    {"eos_token_id", "300", "eos_token_id: 300 is outside the vocabulary, expected an id from 0 to 299"},
    {"eos_token_id", "[1, \"2\"]", "eos_token_id: \"2\" is no integer"},
    {"eos_token_id", "[0,1,2,3,4,5,6,7,8]", "eos_token_id: 8 is one end token too many, expected at most 8"},
    {"bos_token_id", "300", "bos_token_id: 300 is outside the vocabulary"},
    {"bos_token_id", "-2", "bos_token_id: -2 is out of range"},
    {"pad_token_id", "1.5", "pad_token_id: 1.5 is no integer"},
};

static void test_parse_when_a_value_is_wrong_names_key_and_value(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        sow_shape shape = {.vocab_size = 12345};
        CHECK_FAILS(parse_with(wrong[i].key, wrong[i].value, &shape), SOW_EFORMAT, wrong[i].words);
        assert_int_equal(shape.vocab_size, 12345); /* out is untouched */
        assert_null(strchr(sow_error_text(), '\n'));
    }
}

static void test_parse_when_text_is_cut_anywhere_fails(void **state)
{
    (void)state;
    char text[TEXT_BYTES];
    (void)snprintf(text, sizeof text, "%s", config_with("", NULL));
    sow_shape shape;
    for (size_t n = 0; n < strlen(text); n++)
        CHECK_FAILS(sow_shape_parse(text, n, "m/config.json", &shape), SOW_EFORMAT, "m/config.json:");
    CHECK_FAILS(sow_shape_parse("[1]", 3, "m/config.json", &shape), SOW_EFORMAT, "is no JSON object");
}

static void test_layout_when_an_allocation_fails_says_so(void **state)
{
    (void)state;
    sow_layout *layout = NULL;
    sow_shape shape;
    CHECK_OK(parse_with("", NULL, &shape));
    for (int64_t n = 1; n <= 2; n++) {
        sow_alloc_fail_at(n);
        CHECK_FAILS(sow_layout_create(&shape, &layout), SOW_ENOMEM, "");
        assert_null(layout);
    }
    sow_alloc_fail_at(0);
}

/* The largest shape within the limits: no sum overflows, and it is refused for its number of weights. */
static void test_check_when_all_is_largest_refuses_the_sum(void **state)
{
    (void)state;
    sow_shape shape = {.family = "llama",
                       .vocab_size = 1 << 24,
                       .hidden_size = 1 << 17,
                       .intermediate_size = 1 << 20,
                       .n_layers = 1024,
                       .n_heads = 1024,
                       .n_kv_heads = 1024,
                       .head_dim = 1024,
                       .max_positions = 1 << 24,
                       .rope_theta = 1e4,
                       .rms_norm_eps = 1e-5,
                       .rope_factor = 1,
                       .bos = -1,
                       .pad = -1};
    CHECK_FAILS(sow_shape_check(&shape, "x"), SOW_EFORMAT, "x: 989560733564928 weights are too many");
    memset(shape.family, 'a', sizeof shape.family);
    CHECK_FAILS(sow_shape_check(&shape, "x"), SOW_EFORMAT, "x: model_type: \"aaaa");
}

static void test_check_when_a_family_lacks_a_part_refuses_it(void **state)
{
    (void)state;
    sow_shape shape;
    CHECK_OK(parse_with("", NULL, &shape));
    shape.has_qk_norm = true;
    CHECK_FAILS(sow_shape_check(&shape, "x"), SOW_EFORMAT, "norms of q and k");
    shape.has_qk_norm = false;
    shape.has_qkv_bias = true;
    CHECK_FAILS(sow_shape_check(&shape, "x"), SOW_EFORMAT, "attention_bias: is half true");
}

/* Tensors lie one behind the other on multiples of 64, and are found by kind and layer. */
static void check_layout(const sow_layout *layout)
{
    int64_t end = 0, n_parameters = 0;
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *tensor = &layout->tensors[i];
        assert_true(tensor->offset % 64 == 0 && tensor->offset >= end && tensor->offset < end + 64);
        assert_true(tensor->is_matrix || tensor->rows == 1);
        assert_ptr_equal(sow_layout_find(layout, tensor->kind, tensor->layer), tensor);
        end = tensor->offset + tensor->rows * tensor->cols;
        n_parameters += tensor->rows * tensor->cols;
    }
    assert_int_equal(layout->n_elements % 16384, 0);
    assert_true(layout->n_elements >= end && layout->n_elements < end + 16384 + 64);
    assert_int_equal(layout->n_parameters, n_parameters);
}

static void test_layout_when_all_parts_are_there_is_in_canonical_order(void **state)
{
    (void)state;
    static const char *const names[] = {
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.k_proj.bias",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.v_proj.bias",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.o_proj.bias",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.gate_proj.bias",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.bias",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.down_proj.bias",
        "model.norm.weight",
        "lm_head.weight",
    };
    const int64_t n = sizeof names / sizeof names[0];
    sow_shape shape;
    sow_layout *layout = NULL;
    CHECK_OK(parse_with("attention_bias", "true", &shape));
    shape.has_mlp_bias = true;
    CHECK_OK(sow_layout_create(&shape, &layout));
    check_layout(layout);
    assert_int_equal(layout->n_tensors, n + 16);
    for (int64_t i = 0; i < n; i++) /* the last two stand behind layer 1 */
        assert_string_equal(layout->tensors[i < 17 ? i : i + 16].name, names[i]);
    assert_string_equal(sow_layout_find(layout, SOW_TENSOR_K_BIAS, 1)->name, "model.layers.1.self_attn.k_proj.bias");
    assert_null(sow_layout_find(layout, SOW_TENSOR_Q_NORM, 0));
    assert_null(sow_layout_find(layout, SOW_TENSOR_Q, 2));
    assert_null(sow_layout_find(layout, SOW_TENSOR_Q, -1));
    assert_null(sow_layout_find(layout, SOW_TENSOR_EMBED, 0));
    assert_string_equal(sow_tensor_group(SOW_TENSOR_POST_NORM), "norm");
    assert_string_equal(sow_tensor_group(SOW_TENSOR_LM_HEAD), "lm_head");
    sow_layout_destroy(&layout);
    CHECK_OK(parse_with("model_type", "\"qwen3\"", &shape));
    shape.is_tied = true;
    CHECK_OK(sow_layout_create(&shape, &layout));
    check_layout(layout);
    assert_int_equal(layout->n_tensors, 1 + 2 * 11 + 1);
    assert_null(sow_layout_find(layout, SOW_TENSOR_LM_HEAD, -1));
    assert_int_equal(sow_layout_find(layout, SOW_TENSOR_Q_NORM, 1)->cols, 128);
    sow_layout_destroy(&layout);
}

/* Counted by hand: 2 per weight that is multiplied, 4 per position, head and dimension. */
static void test_flops_count_products_and_attention(void **state)
{
    (void)state;
    sow_shape shape;
    sow_layout *layout = NULL;
    CHECK_OK(parse_with("", NULL, &shape));
    CHECK_OK(sow_layout_create(&shape, &layout));
    double layer = 48 * 48 + 2 * 24 * 48 + 48 * 48 + 3 * 48 * 80, head = 300 * 48;
    CHECK_NEAR(sow_layout_flops(layout, 0), 2 * (2 * layer + head) + 2 * 4 * 48, 0);
    CHECK_NEAR(sow_layout_flops(layout, 9), 2 * (2 * layer + head) + 2 * 4 * 48 * 10, 0);
    sow_layout_destroy(&layout);
    shape.is_tied = true; /* the table is multiplied with, too */
    CHECK_OK(sow_layout_create(&shape, &layout));
    CHECK_NEAR(sow_layout_flops(layout, 0), 2 * (2 * layer + head) + 2 * 4 * 48, 0);
    sow_layout_destroy(&layout);
}

/* The published size of a model whose configuration is kept here: 1.24 G weights. */
static void test_layout_of_llama_3_2_1b_has_its_published_size(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    sow_shape shape;
    sow_layout *layout = NULL;
    CHECK_OK(sow_file_read(SOW_SOURCE_DIR "/tests/fixtures/llama3.2-1b/config.json", 1 << 20, &text, &bytes));
    CHECK_OK(sow_shape_parse(text, bytes, "config.json", &shape));
    SOW_FREE(&text);
    assert_true(shape.rope_factor == 32 && shape.rope_theta == 500000 && shape.n_eos == 3 && shape.is_tied);
    CHECK_OK(sow_layout_create(&shape, &layout));
    check_layout(layout);
    assert_int_equal(layout->n_parameters, 1235814400);
    sow_layout_destroy(&layout);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_when_keys_are_missing_puts_defaults),
        cmocka_unit_test(test_parse_when_a_family_has_more_parts_sets_them),
        cmocka_unit_test(test_parse_when_rotation_is_scaled_reads_both_forms),
        cmocka_unit_test(test_parse_when_a_value_is_wrong_names_key_and_value),
        cmocka_unit_test(test_parse_when_text_is_cut_anywhere_fails),
        cmocka_unit_test(test_layout_when_an_allocation_fails_says_so),
        cmocka_unit_test(test_check_when_all_is_largest_refuses_the_sum),
        cmocka_unit_test(test_check_when_a_family_lacks_a_part_refuses_it),
        cmocka_unit_test(test_layout_when_all_parts_are_there_is_in_canonical_order),
        cmocka_unit_test(test_flops_count_products_and_attention),
        cmocka_unit_test(test_layout_of_llama_3_2_1b_has_its_published_size),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
