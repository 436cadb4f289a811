// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors files: written and read back to the bit; what is wrong is one line. */
#include "model_files.h"

static blob file;

/* The bytes in a block of their own, so that a sanitizer sees a step behind their end. */
static sow_code read_bytes(const unsigned char *data, size_t n, sow_weights *weights)
{
    unsigned char *copy = NULL;
    CHECK_OK(SOW_ALLOC(&copy, n == 0 ? 1 : n));
    if (n > 0)
        memcpy(copy, data, n);
    sow_code rc = sow_safetensors_read(copy, n, "m.st", weights);
    SOW_FREE(&copy);
    return rc;
}

#define TENSOR(name, dtype, shape, begin, end)                                                                         \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void test_read_when_all_is_right_lists_tensors(void **state)
{
    (void)state;
    sow_weights weights = {0};
    blob_safetensors(
        &file,
        "{\"__metadata__\":{\"format\":\"pt\",\"x\":\"y\"}," TENSOR("b", "F32", "2,3", "6", "30") "," TENSOR(
            "a", "BF16", "3", "0", "6") "," TENSOR("empty", "F16", "0,7", "30", "30") "," TENSOR("n", "I64", "", "30",
                                                                                                 "38") "}  ",
        38);
    CHECK_OK(sow_safetensors_read(file.data, file.n, "m.st", &weights));
    CHECK_OK(sow_weights_sort(&weights));
    assert_int_equal(weights.n, 4);
    const sow_stored *a = sow_weights_find(&weights, "a"), *b = sow_weights_find(&weights, "b");
    assert_true(a->n_dims == 1 && a->rows == 1 && a->cols == 3 && a->bytes == 6);
    assert_true(b->n_dims == 2 && b->rows == 2 && b->cols == 3 && b->bytes == 24);
    assert_ptr_equal(b->data, file.data + file.n - 32);
    assert_string_equal(a->storage->name, "BF16");
    assert_null(sow_weights_find(&weights, "n")->storage);
    assert_null(sow_weights_find(&weights, "nowhere"));
    sow_weights_fini(&weights);
    blob_safetensors(&file, "{}", 0);
    CHECK_OK(sow_safetensors_read(file.data, file.n, "m.st", &weights));
    assert_int_equal(weights.n, 0);
    sow_weights_fini(&weights);
}

/* A header, bytes of data behind it, and words that the message must hold. */
static const struct {
    const char *header;
    size_t data_bytes;
    const char *words;
} wrong[] = {
    {"", 0, "m.st:1: is not JSON"},
    {"{", 0, "m.st:1: is not JSON"},
    {"[]", 0, "the header is no JSON object"},
    {"{} x", 0, "is not JSON"},
    {"{\"a\":1}", 0, "a: is no object"},
    {"{\"a\":{}}", 0, "a: dtype: is missing"},
    {"{" TENSOR("a", "F32", "2", "0", "8") "," TENSOR("a", "F32", "2", "8", "16") "}", 16, "is not JSON: duplicate"},
    {"{" TENSOR("a\\n\\u001b", "F32", "2", "0", "8") "}", 8, "\"a??\": a tensor's name holds control characters"},
    {"{" TENSOR("a", "Q4", "2", "0", "8") "}", 8, "a: dtype: \"Q4\" is not supported, expected F32, F16 or BF16"},
    {"{" TENSOR("a", "f32", "2", "0", "8") "}", 8, "a: dtype: \"f32\" is not supported"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "a: shape: is no list"},
    {"{" TENSOR("a", "F32", "1,1,1,1,1,1,1,1,2", "0", "8") "}", 8, "a: shape: is no list of at most 8"},
    {"{" TENSOR("a", "F32", "-2", "0", "8") "}", 8, "a: shape: item 0 is no integer of at least 0"},
    {"{" TENSOR("a", "F32", "2.0", "0", "8") "}", 8, "a: shape: item 0 is no integer"},
    {"{" TENSOR("a", "F32", "4294967296,4294967296", "0", "8") "}", 8, "a: shape: the product overflows"},
    {"{" TENSOR("a", "F32", "9223372036854775807", "0", "8") "}", 8, "a: shape: the product overflows"},
    {"{" TENSOR("a", "F64", "1152921504606846975", "0", "8") "}", 8, "8 bytes is wrong, expected 9223372036854775800"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "a: data_offsets: is no pair of integers"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "a: data_offsets: is no pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{\"x\":0,\"y\":8}}}", 8, "a: data_offsets: is no pair"},
    {"{" TENSOR("a", "F32", "2", "0", "8.0") "}", 8, "a: data_offsets: is no pair of integers"},
    {"{" TENSOR("a", "F32", "2", "-8", "0") "}", 8, "a: data_offsets: [-8, 0] is out of range"},
    {"{" TENSOR("a", "F32", "2", "8", "0") "}", 8, "a: data_offsets: [8, 0] is out of range"},
    {"{" TENSOR("a", "F32", "2", "0", "9223372036854775807") "}", 8, "is out of range, expected within 0 to 8"},
    {"{" TENSOR("a", "F32", "2", "8", "16") "}", 8, "a: data_offsets: [8, 16] is out of range, expected within 0 to 8"},
    {"{" TENSOR("a", "F32", "3", "0", "8") "}", 8, "a: data_offsets: 8 bytes is wrong, expected 12"},
    {"{" TENSOR("a", "F16", "2", "0", "8") "}", 8, "a: data_offsets: 8 bytes is wrong, expected 4"},
    {"{" TENSOR("a", "F32", "1", "4", "8") "}", 8, "a: data_offsets: begins at 4 and leaves a hole, expected 0"},
    {"{" TENSOR("a", "F32", "2", "0", "8") "," TENSOR("b", "F32", "1", "4", "8") "}", 8,
     "begins at 4 and leaves an overlap"},
    {"{" TENSOR("a", "F32", "1", "0", "4") "," TENSOR("b", "F32", "1", "8", "12") "}", 12,
     "b: data_offsets: begins at 8 and"},
    {"{" TENSOR("a", "F32", "1", "0", "4") "}", 5, "has 5 bytes of data, expected 4"},
};

static void test_read_when_the_header_is_wrong_says_what(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        sow_weights weights = {0};
        blob_safetensors(&file, wrong[i].header, wrong[i].data_bytes);
        CHECK_FAILS(read_bytes(file.data, file.n, &weights), SOW_EFORMAT, wrong[i].words);
        sow_weights_fini(&weights);
    }
    char header[400];
    sow_weights weights = {0};
    (void)snprintf(header, sizeof header, "{\"%0200d\":{}}", 7);
    blob_safetensors(&file, header, 0);
    CHECK_FAILS(read_bytes(file.data, file.n, &weights), SOW_EFORMAT,
                "a tensor's name is too long, expected at most 95");
    sow_weights_fini(&weights);
}

static void test_read_when_the_length_lies_takes_no_memory(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {UINT64_MAX, INT64_MAX, 100000001, 3, 1ULL << 32};
    sow_weights weights = {0};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        blob_safetensors(&file, "{}", 0);
        for (int b = 0; b < 8; b++)
            file.data[b] = (unsigned char)(lengths[i] >> 8 * b);
        CHECK_FAILS(read_bytes(file.data, file.n, &weights), SOW_EFORMAT, "is too large, expected at most 2");
    }
    for (size_t n = 0; n < 8; n++)
        CHECK_FAILS(read_bytes(file.data, n, &weights), SOW_EFORMAT,
                    "bytes, expected a safetensors file of at least 8");
    sow_weights_fini(&weights);
}

/* A model's file for the tests below. */
typedef struct saved {
    sow_layout *layout;
    float *theta, *loaded;
    char path[128];
    char folder[64];
} saved;

static saved save_small(bool is_tied, sow_type type)
{
    saved s = {0};
    sow_shape shape = small_shape(is_tied);
    CHECK_OK(sow_layout_create(&shape, &s.layout));
    s.theta = fill_theta(s.layout);
    CHECK_OK(SOW_ALLOC(&s.loaded, s.layout->n_elements));
    (void)snprintf(s.folder, sizeof s.folder, "%s", check_folder());
    (void)snprintf(s.path, sizeof s.path, "%s/theta.safetensors", s.folder);
    CHECK_OK(sow_model_save_theta(s.path, s.layout, s.theta, type));
    return s;
}

static void saved_fini(saved *s)
{
    SOW_FREE(&s->loaded);
    SOW_FREE(&s->theta);
    sow_layout_destroy(&s->layout);
    (void)unlink(s->path);
    assert_int_equal(rmdir(s->folder), 0); /* nothing else is left there */
}

static void test_load_when_saved_gives_equal_bits(void **state)
{
    (void)state;
    for (int type = 0; type < SOW_N_STORED; type++) {
        saved s = save_small(type % 2 == 0, (sow_type)type);
        memset(s.loaded, 0xff, (size_t)s.layout->n_elements * sizeof *s.loaded);
        CHECK_OK(sow_model_load_theta(s.path, s.layout, s.loaded));
        assert_memory_equal(s.loaded, s.theta, (size_t)s.layout->n_elements * sizeof *s.theta);
        saved_fini(&s);
    }
}

static void test_load_when_values_have_all_bits_gives_equal_bits_as_f32(void **state)
{
    (void)state;
    saved s = save_small(true, SOW_F32);
    sow_random random;
    sow_random_init(&random, sow_place_of(SOW_STREAM_TEST, 3, 0, 0, 0));
    for (int64_t t = 0; t < s.layout->n_tensors; t++)
        for (int64_t i = 0; i < s.layout->tensors[t].rows * s.layout->tensors[t].cols; i++) {
            uint32_t bits = sow_random_next(&random);
            bits &= (bits & 0x7f800000) == 0x7f800000 ? 0xbfffffff : 0xffffffff; /* finite */
            memcpy(&s.theta[s.layout->tensors[t].offset + i], &bits, sizeof bits);
        }
    CHECK_OK(sow_model_save_theta(s.path, s.layout, s.theta, SOW_F32));
    CHECK_OK(sow_model_load_theta(s.path, s.layout, s.loaded));
    assert_memory_equal(s.loaded, s.theta, (size_t)s.layout->n_elements * sizeof *s.theta);
    saved_fini(&s);
}

static void test_save_when_a_value_does_not_fit_keeps_the_old_file(void **state)
{
    (void)state;
    static const struct {
        sow_type type;
        float value;
        const char *words;
    } rows[] = {
        {SOW_F32, NAN, "input_layernorm.weight: element 3 is nan, expected a value that is finite as f32"},
        {SOW_BF16, INFINITY, "input_layernorm.weight: element 3 is inf, expected a value that is finite as bf16"},
        {SOW_BF16, 3.4e38f, "element 3 is 3.4e+38, expected a value that is finite as bf16"},
        {SOW_FP16, 65520, "element 3 is 65520, expected a value that is finite as fp16"},
        {SOW_FP16, -1e6f, "element 3 is -1e+06"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        saved s = save_small(true, rows[i].type);
        float *value = &s.theta[sow_layout_find(s.layout, SOW_TENSOR_INPUT_NORM, 0)->offset + 3], before = *value;
        *value = rows[i].value;
        CHECK_FAILS(sow_model_save_theta(s.path, s.layout, s.theta, rows[i].type), SOW_ENUM, rows[i].words);
        *value = before;
        CHECK_OK(sow_model_load_theta(s.path, s.layout, s.loaded));
        assert_memory_equal(s.loaded, s.theta, (size_t)s.layout->n_elements * sizeof *s.theta);
        saved_fini(&s);
    }
}

static void read_into_blob(const char *path)
{
    sow_mapping map = {0};
    CHECK_OK(sow_file_map(path, &map));
    file.n = 0;
    blob_add(&file, map.data, map.bytes);
    sow_file_unmap(&map);
}

static void test_load_when_file_is_cut_anywhere_fails(void **state)
{
    (void)state;
    saved s = save_small(false, SOW_FP16);
    read_into_blob(s.path);
    sow_weights weights = {0};
    for (size_t n = 0; n < file.n; n += n < 4096 ? 1 : 499) {
        CHECK_FAILS(read_bytes(file.data, n, &weights), SOW_EFORMAT, "m.st");
        sow_weights_fini(&weights);
    }
    blob_number(&file, 0, 1);
    CHECK_FAILS(read_bytes(file.data, file.n, &weights), SOW_EFORMAT, "bytes of data, expected");
    sow_weights_fini(&weights);
    saved_fini(&s);
}

/* Replaces text in the header by text of the same length (so that offsets stay), once. */
static void replace(const char *before, const char *after)
{
    size_t n = strlen(before);
    assert_int_equal(n, strlen(after));
    for (size_t i = 0; i + n <= file.n; i++)
        if (memcmp(file.data + i, before, n) == 0) {
            memcpy(file.data + i, after, n);
            return;
        }
    fail_msg("no %s in the file", before);
}

static void test_load_when_tensors_do_not_match_names_them(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after, *words;
    } rows[] = {
        {"1.mlp.up_proj.weight", "1.mlp.up_prox.weight",
         "model.layers.1.mlp.up_proj.weight: is missing, expected [64, 32]"},
        {"k_proj.weight\":{\"dtype\":\"F16\",\"shape\":[16,32]", "k_proj.weight\":{\"dtype\":\"F16\",\"shape\":[32,16]",
         "model.layers.0.self_attn.k_proj.weight: shape [32, 16] is wrong, expected [16, 32]"},
        {"model.norm.weight\":{\"dtype\":\"F16\",\"shape\":[32]",
         "model.norm.weight\":{\"dtype\":\"I16\",\"shape\":[32]",
         "model.norm.weight: type I16 is not supported, expected F32, F16 or BF16"},
        {"lm_head.weight\"", "lm_tail.weight\"", "lm_head.weight: is missing, expected [128, 32] since tie_word"},
    };
    saved s = save_small(false, SOW_FP16);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        read_into_blob(s.path);
        replace(rows[i].before, rows[i].after);
        CHECK_OK(sow_file_write(s.path, file.data, file.n));
        CHECK_FAILS(sow_model_load_theta(s.path, s.layout, s.loaded), SOW_EFORMAT, rows[i].words);
        CHECK_OK(sow_model_save_theta(s.path, s.layout, s.theta, SOW_FP16));
    }
    /* A tensor of another shape's file is one too many. */
    sow_shape tied = small_shape(true);
    sow_layout *smaller = NULL;
    tied.n_layers = 1;
    CHECK_OK(sow_layout_create(&tied, &smaller));
    CHECK_FAILS(sow_model_load_theta(s.path, smaller, s.loaded), SOW_EFORMAT,
                "is no tensor of this model (llama, 1 layers)");
    sow_layout_destroy(&smaller);
    saved_fini(&s);
}

static void test_load_when_a_value_is_not_finite_names_it(void **state)
{
    (void)state;
    saved s = save_small(true, SOW_BF16);
    read_into_blob(s.path);
    const sow_tensor *last = &s.layout->tensors[s.layout->n_tensors - 1];
    file.data[file.n - 2 * (size_t)(last->cols - 4) + 1] = 0x7f; /* element 4 of model.norm.weight */
    file.data[file.n - 2 * (size_t)(last->cols - 4)] = 0x80;
    CHECK_OK(sow_file_write(s.path, file.data, file.n));
    CHECK_FAILS(sow_model_load_theta(s.path, s.layout, s.loaded), SOW_ENUM,
                "model.norm.weight: element 4 is inf, expected");
    saved_fini(&s);
}

/* A tied model may store the table under either name, or under both if they are equal. */
static void test_load_when_tied_takes_either_copy(void **state)
{
    (void)state;
    saved s = save_small(true, SOW_F32);
    read_into_blob(s.path);
    replace("\"model.embed_tokens.weight\":", "           \"lm_head.weight\":");
    CHECK_OK(sow_file_write(s.path, file.data, file.n));
    CHECK_OK(sow_model_load_theta(s.path, s.layout, s.loaded));
    assert_memory_equal(s.loaded, s.theta, (size_t)s.layout->n_elements * sizeof *s.theta);

    sow_shape untied = small_shape(false);
    sow_layout *both = NULL;
    CHECK_OK(sow_layout_create(&untied, &both));
    float *theta = fill_theta(both);
    const sow_tensor *embed = &both->tensors[0], *head = &both->tensors[both->n_tensors - 1];
    memcpy(theta + head->offset, theta + embed->offset, (size_t)(embed->rows * embed->cols) * sizeof *theta);
    CHECK_OK(sow_model_save_theta(s.path, both, theta, SOW_F32));
    CHECK_OK(sow_model_load_theta(s.path, s.layout, s.loaded));
    assert_memory_equal(s.loaded, s.theta, (size_t)s.layout->n_elements * sizeof *s.theta);
    theta[head->offset + 5 * head->cols] += 1;
    CHECK_OK(sow_model_save_theta(s.path, both, theta, SOW_F32));
    CHECK_FAILS(sow_model_load_theta(s.path, s.layout, s.loaded), SOW_EFORMAT,
                "lm_head.weight: row 5 differs from model.embed_tokens.weight");
    SOW_FREE(&theta);
    sow_layout_destroy(&both);
    saved_fini(&s);
}

static void test_load_when_old_buffers_are_stored_ignores_them(void **state)
{
    (void)state;
    saved s = save_small(true, SOW_F32);
    read_into_blob(s.path);
    uint64_t header = 0;
    for (int i = 0; i < 8; i++)
        header |= (uint64_t)file.data[i] << 8 * i;
    static blob longer;
    static char text[1 << 16];
    size_t data_bytes = file.n - 8 - header, brace = 8 + header;
    while (file.data[brace] != '}')
        brace--;
    (void)snprintf(text, sizeof text,
                   "%.*s,\"model.layers.0.self_attn.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[1],"
                   "\"data_offsets\":[%zu,%zu]}}",
                   (int)(brace - 8), (const char *)file.data + 8, data_bytes, data_bytes + 4);
    blob_safetensors(&longer, text, 0);
    blob_add(&longer, file.data + 8 + header, data_bytes);
    blob_float(&longer, 1);
    CHECK_OK(sow_file_write(s.path, longer.data, longer.n));
    CHECK_OK(sow_model_load_theta(s.path, s.layout, s.loaded));
    assert_memory_equal(s.loaded, s.theta, (size_t)s.layout->n_elements * sizeof *s.theta);
    saved_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_when_all_is_right_lists_tensors),
        cmocka_unit_test(test_read_when_the_header_is_wrong_says_what),
        cmocka_unit_test(test_read_when_the_length_lies_takes_no_memory),
        cmocka_unit_test(test_load_when_saved_gives_equal_bits),
        cmocka_unit_test(test_load_when_values_have_all_bits_gives_equal_bits_as_f32),
        cmocka_unit_test(test_save_when_a_value_does_not_fit_keeps_the_old_file),
        cmocka_unit_test(test_load_when_file_is_cut_anywhere_fails),
        cmocka_unit_test(test_load_when_tensors_do_not_match_names_them),
        cmocka_unit_test(test_load_when_a_value_is_not_finite_names_it),
        cmocka_unit_test(test_load_when_tied_takes_either_copy),
        cmocka_unit_test(test_load_when_old_buffers_are_stored_ignores_them),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
