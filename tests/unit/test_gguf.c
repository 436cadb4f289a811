// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF: what is right is read to the bit, what is wrong is one line. */
#include "model_files.h"

static blob file;

/* The bytes in a block of their own, so that a sanitizer sees a step behind their end. */
static sow_code open_bytes(const unsigned char *data, size_t n, sow_model **out)
{
    unsigned char *copy = NULL;
    CHECK_OK(SOW_ALLOC(&copy, n == 0 ? 1 : n));
    if (n > 0)
        memcpy(copy, data, n);
    sow_model *model = NULL;
    float *theta = NULL;
    sow_code rc = sow_model_from_gguf(copy, n, "m.gguf", &model);
    if (rc == SOW_OK) {
        CHECK_OK(SOW_ALLOC(&theta, sow_model_layout(model)->n_elements));
        rc = sow_model_load(model, theta);
    }
    SOW_FREE(&theta);
    SOW_FREE(&copy);
    if (rc == SOW_OK)
        *out = model; /* for its shape only */
    else
        sow_model_close(&model);
    return rc;
}

static sow_code open_edited(const gguf_edit *edit, bool is_tied, sow_model **out)
{
    sow_shape shape = small_shape(is_tied);
    sow_layout *layout = NULL;
    CHECK_OK(sow_layout_create(&shape, &layout));
    float *theta = fill_theta(layout);
    blob_gguf(&file, layout, theta, edit);
    SOW_FREE(&theta);
    sow_layout_destroy(&layout);
    return open_bytes(file.data, file.n, out);
}

static void test_open_when_all_is_right_gives_shape_and_weights(void **state)
{
    (void)state;
    for (int is_tied = 0; is_tied < 2; is_tied++) {
        sow_shape shape = small_shape(is_tied != 0);
        sow_layout *layout = NULL;
        sow_model *model = NULL;
        CHECK_OK(sow_layout_create(&shape, &layout));
        float *theta = fill_theta(layout), *loaded = NULL;
        blob_gguf(&file, layout, theta, NULL);
        CHECK_OK(sow_model_from_gguf(file.data, file.n, "m.gguf", &model));
        assert_memory_equal(&sow_model_layout(model)->shape, &shape, sizeof shape);
        CHECK_OK(SOW_ALLOC(&loaded, layout->n_elements));
        memset(loaded, 0xff, (size_t)layout->n_elements * sizeof *loaded); /* the padding too must become zero */
        CHECK_OK(sow_model_load(model, loaded));
        assert_memory_equal(loaded, theta, (size_t)layout->n_elements * sizeof *theta);
        assert_null(sow_model_tokenizer_json(model, NULL));
        assert_null(sow_model_chat_template(model));
        SOW_FREE(&loaded);
        SOW_FREE(&theta);
        sow_model_close(&model);
        sow_layout_destroy(&layout);
    }
}

/* One wrong thing each, and words that the message must hold. */
static const struct {
    gguf_edit edit;
    sow_code code;
    const char *words;
} wrong[] = {
    {{.key = "general.architecture", .kind = -1}, SOW_EFORMAT, "m.gguf: general.architecture: is missing"},
    {{.key = "general.architecture", .kind = SOW_GGUF_STRING, .text = "gemma"}, SOW_EFORMAT, "\"gemma\" is not known"},
    {{.key = "general.architecture", .kind = SOW_GGUF_U32}, SOW_EFORMAT, "general.architecture: is of kind uint32"},
    {{.key = "general.alignment", .kind = SOW_GGUF_U32, .number = 48}, SOW_EFORMAT, "general.alignment: is no power"},
    {{.key = "general.alignment", .kind = SOW_GGUF_U32, .number = 0}, SOW_EFORMAT, "general.alignment: is no power"},
    {{.key = "general.alignment", .kind = SOW_GGUF_U32, .number = 256}, SOW_EFORMAT, "is wrong, expected"},
    {{.key = "llama.block_count", .kind = -1},
     SOW_EFORMAT,
     "llama.block_count: is missing, expected an integer from 1"},
    {{.key = "llama.block_count", .kind = SOW_GGUF_F32, .number = 2}, SOW_EFORMAT, "block_count: is of kind float32"},
    {{.key = "llama.block_count", .kind = SOW_GGUF_U32, .number = 3},
     SOW_EFORMAT,
     "blk.2.attn_norm.weight: is missing"},
    {{.key = "llama.block_count", .kind = SOW_GGUF_U32, .number = 1}, SOW_EFORMAT, "is no tensor of this model"},
    {{.key = "llama.block_count", .kind = SOW_GGUF_I32, .number = -1}, SOW_EFORMAT, "block_count: -1 is out of range"},
    {{.key = "llama.block_count", .kind = SOW_GGUF_U64, .number = -1}, SOW_EFORMAT, "block_count: is of kind uint64"},
    {{.key = "llama.embedding_length", .kind = SOW_GGUF_U32, .number = 64}, SOW_EFORMAT, "shape [128, 32] is wrong"},
    {{.key = "llama.attention.head_count", .kind = SOW_GGUF_U32, .number = 3}, SOW_EFORMAT, "num_key_value_heads: 2"},
    {{.key = "llama.rope.dimension_count", .kind = SOW_GGUF_U32, .number = 4}, SOW_EFORMAT, "attn_q.weight: shape"},
    {{.key = "llama.attention.value_length", .kind = SOW_GGUF_U32, .number = 4}, SOW_EFORMAT, "4 is not supported"},
    {{.key = "llama.vocab_size", .kind = -1}, SOW_EFORMAT, "tokenizer.ggml.tokens: is missing, expected a list"},
    {{.key = "llama.vocab_size", .kind = SOW_GGUF_U32, .number = 4e9}, SOW_EFORMAT, "4000000000 is out of range"},
    {{.key = "llama.attention.layer_norm_rms_epsilon", .kind = -1}, SOW_EFORMAT, "rms_epsilon: is missing"},
    {{.key = "llama.attention.layer_norm_rms_epsilon", .kind = SOW_GGUF_F32, .number = (double)NAN},
     SOW_EFORMAT,
     "rms_norm_eps: nan is out of range"},
    {{.key = "llama.rope.freq_base", .kind = SOW_GGUF_F32, .number = 0}, SOW_EFORMAT, "rope_theta: 0 is out of range"},
    {{.key = "llama.rope.scaling.type", .kind = SOW_GGUF_STRING, .text = "yarn"}, SOW_EFORMAT, "\"yarn\" is not supp"},
    {{.key = "llama.rope.scaling.factor", .kind = SOW_GGUF_F32, .number = 2},
     SOW_EFORMAT,
     "factor: 2 is not supported"},
    {{.key = "llama.expert_count", .kind = SOW_GGUF_U32, .number = 8}, SOW_EFORMAT, "expert_count: 8 is not supported"},
    {{.key = "tokenizer.ggml.eos_token_id", .kind = SOW_GGUF_U32, .number = 128},
     SOW_EFORMAT,
     "128 is outside the voc"},
    {{.key = "tokenizer.ggml.bos_token_id", .kind = SOW_GGUF_U32, .number = 9e8},
     SOW_EFORMAT,
     "bos_token_id: 900000000"},
    {{.key = "tokenizer.ggml.tokens", .kind = SOW_GGUF_U32, .number = 1}, SOW_EFORMAT, "tokens: is of kind uint32"},
    {{.key = "tokenizer.chat_template", .kind = SOW_GGUF_U32}, SOW_EFORMAT, "chat_template: is of kind uint32"},
    {{.key = "tokenizer.chat_template", .kind = SOW_GGUF_STRING, .text = "\xff"}, SOW_EFORMAT, "is no UTF-8 text"},
    {{.key = "some.flag", .kind = SOW_GGUF_BOOL, .number = 2}, SOW_EFORMAT, "2 is no truth value"},
    {{.key = "llama.block_count\n", .kind = 13}, SOW_EFORMAT, "13 is no kind of metadata, expected 0 to 12"},
    {{.tensor = "output_norm.weight", .change = GGUF_LEFT_OUT}, SOW_EFORMAT, "output_norm.weight: is missing"},
    {{.tensor = "blk.1.attn_q.weight", .change = GGUF_LEFT_OUT}, SOW_EFORMAT, "blk.1.attn_q.weight: is missing"},
    {{.tensor = "blk.1.attn_q.weight", .change = GGUF_RENAMED, .text = "blk.1.attn_x"},
     SOW_EFORMAT,
     "attn_q.weight: is"},
    {{.tensor = "blk.1.attn_q.weight", .change = GGUF_RENAMED, .text = "blk.1.attn_k.weight"}, SOW_EFORMAT, "twice"},
    {{.tensor = "blk.1.attn_q.weight", .change = GGUF_RENAMED, .text = "a\x1b["}, SOW_EFORMAT, "is no tensor's name"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_TURNED},
     SOW_EFORMAT,
     "shape [32, 64] is wrong, expected [64, 32]"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_TYPE, .to = 10}, SOW_EFORMAT, "storage type 10 is not supported"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_TYPE, .to = 14}, SOW_EFORMAT, "side 32 is no multiple of 256"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_TYPE, .to = 1}, SOW_EFORMAT, "is wrong, expected"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_OFFSET, .to = 0}, SOW_EFORMAT, "offset 0 is wrong, expected"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_OFFSET, .to = 1e18}, SOW_EFORMAT, "is wrong, expected"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_OFFSET, .to = 1.8e19}, SOW_EFORMAT, "is out of range"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_DIMS, .to = 0}, SOW_EFORMAT, "0 dimensions is out of range"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_DIMS, .to = 5}, SOW_EFORMAT, "5 dimensions is out of range"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_SIDE, .to = 0}, SOW_EFORMAT, "side 0 is out of range"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_SIDE, .to = 1e15}, SOW_EFORMAT, "side 64 is out of range"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_SIDE, .to = 1.8e19}, SOW_EFORMAT, "is out of range"},
    {{.tensor = "blk.0.ffn_up.weight", .change = GGUF_VALUE, .to = (double)NAN},
     SOW_ENUM,
     "blk.0.ffn_up.weight: element 5 is nan, expected finite"},
    {{.tensor = "output_norm.weight", .change = GGUF_VALUE, .to = (double)INFINITY}, SOW_ENUM, "element 5 is inf"},
    {{.tensor = "blk.1.attn_k.weight", .change = GGUF_VALUE, .to = -(double)INFINITY}, SOW_ENUM, "element 5 is -inf"},
};

static void test_open_when_one_thing_is_wrong_names_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        sow_model *model = NULL;
        CHECK_FAILS(open_edited(&wrong[i].edit, true, &model), wrong[i].code, wrong[i].words);
        if (strncmp(sow_error_text(), "m.gguf: ", 8) != 0)
            fail_msg("'%s' does not begin with the file", sow_error_text());
        assert_null(model);
    }
}

static void test_open_when_harmless_keys_are_there_ignores_them(void **state)
{
    (void)state;
    static const gguf_edit edits[] = {
        {.key = "general.name", .kind = SOW_GGUF_STRING, .text = ""},
        {.key = "llama.rope.scaling.type", .kind = SOW_GGUF_STRING, .text = "none"},
        {.key = "llama.expert_count", .kind = SOW_GGUF_U32, .number = 0},
        {.key = "tokenizer.ggml.padding_token_id", .kind = SOW_GGUF_U32, .number = 4294967295.0}, /* -1: none */
        {.key = "tokenizer.ggml.eot_token_id", .kind = SOW_GGUF_U32, .number = 11},
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        sow_model *model = NULL;
        CHECK_OK(open_edited(&edits[i], true, &model));
        assert_int_equal(sow_model_layout(model)->shape.pad, -1);
        assert_int_equal(sow_model_layout(model)->shape.n_eos, i == 4 ? 2 : 1);
        sow_model_close(&model);
    }
}

static void test_open_when_file_is_cut_anywhere_fails(void **state)
{
    (void)state;
    sow_model *model = NULL;
    CHECK_OK(open_edited(NULL, true, &model));
    sow_model_close(&model);
    size_t whole = file.n, head = 0;
    for (size_t n = 0; n < whole; n += n < 4096 ? 1 : 997) { /* every byte of what is not data */
        sow_code rc = open_bytes(file.data, n, &model);
        if (rc != SOW_EFORMAT || strncmp(sow_error_text(), "m.gguf: ", 8) != 0)
            fail_msg("%zu of %zu bytes: code %d, %s", n, whole, (int)rc, sow_error_text());
        head += strstr(sow_error_text(), "ends within") != NULL;
    }
    assert_in_range(head, 700, 3000); /* the cuts did reach into the metadata and the list of tensors */
}

/* Any byte of the head may be anything: never a crash, and what is refused is refused with one line. */
static void test_open_when_any_byte_is_changed_survives(void **state)
{
    (void)state;
    static const unsigned char flips[] = {0x01, 0x80, 0xff};
    sow_model *model = NULL;
    CHECK_OK(open_edited(NULL, true, &model));
    sow_model_close(&model);
    int64_t n_refused = 0;
    for (size_t at = 0; at < 2000; at++) {
        for (size_t f = 0; f < sizeof flips; f++) {
            file.data[at] ^= flips[f];
            sow_code rc = open_bytes(file.data, file.n, &model);
            file.data[at] ^= flips[f];
            n_refused += rc != SOW_OK;
            sow_model_close(&model);
        }
    }
    assert_true(n_refused > 3000);
}

static void test_open_when_counts_are_huge_takes_no_memory(void **state)
{
    (void)state;
    static const struct {
        size_t at; /* of 8 bytes in the head */
        const char *words;
    } rows[] = {{8, "tensors are too many"}, {16, "metadata entries"}, {24, "ends within the metadata"}};
    sow_model *model = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK_OK(open_edited(NULL, true, &model));
        sow_model_close(&model);
        memset(file.data + rows[i].at, 0xff, 8);
        CHECK_FAILS(open_bytes(file.data, file.n, &model), SOW_EFORMAT, rows[i].words);
        file.data[rows[i].at + 7] = 0x7f;
        CHECK_FAILS(open_bytes(file.data, file.n, &model), SOW_EFORMAT, rows[i].words);
    }
    CHECK_FAILS(open_bytes((const unsigned char *)"GGUF\1\0\0\0", 8, &model), SOW_EFORMAT,
                "version 1 is not supported");
    CHECK_FAILS(open_bytes((const unsigned char *)"GGUF\0\0\0\3", 8, &model), SOW_EFORMAT, "big-endian");
    CHECK_FAILS(open_bytes((const unsigned char *)"GGML\3\0\0\0", 8, &model), SOW_EFORMAT, "does not begin with");
    CHECK_FAILS(open_bytes((const unsigned char *)"", 0, &model), SOW_EFORMAT, "does not begin with");
}

/* Arrays of every kind, empty ones, nested ones, and ones nested too deep. */
static void test_read_when_arrays_are_nested_has_a_limit(void **state)
{
    (void)state;
    for (int depth = 1; depth < 8; depth++) {
        sow_gguf gguf = {0};
        sow_weights weights = {0};
        file.n = 0;
        blob_add(&file, "GGUF", 4);
        blob_number(&file, 2, 4);
        blob_number(&file, 0, 8);
        blob_number(&file, 2, 8);
        blob_string(&file, "b");
        for (int i = 0; i < depth; i++) {
            blob_number(&file, SOW_GGUF_ARRAY, 4);
            if (i > 0)
                blob_number(&file, 1, 8);
        }
        blob_number(&file, SOW_GGUF_I16, 4);
        blob_number(&file, 2, 8);
        blob_number(&file, 0xfffe0007, 4);
        blob_string(&file, "a");
        blob_number(&file, SOW_GGUF_ARRAY, 4);
        blob_number(&file, SOW_GGUF_STRING, 4);
        blob_number(&file, 0, 8);
        sow_code rc = sow_gguf_read(file.data, file.n, "x", &gguf, &weights);
        assert_int_equal(rc, depth <= 4 ? SOW_OK : SOW_EFORMAT);
        if (depth == 1) {
            int64_t value = 0;
            const sow_gguf_entry *entry = sow_gguf_find(&gguf, "b");
            assert_int_equal(entry->n, 2);
            assert_true(sow_gguf_to_int(entry->item_kind, entry->value + 2, &value));
            assert_int_equal(value, -2);
            assert_int_equal(sow_gguf_find(&gguf, "a")->n, 0);
            assert_null(sow_gguf_find(&gguf, "c"));
        }
        sow_weights_fini(&weights);
        sow_gguf_fini(&gguf);
    }
}

/* A file with the divisors of Llama 3's rule in it, the last but one `off` times what it should be. */
static sow_code open_scaled(double factor, double off, sow_model **out)
{
    enum { HALF = 4 };
    float divisors[HALF];
    for (int i = 0; i < HALF; i++) {
        double wave = 2 * acos(-1.0) * pow(500000, i / (double)HALF), smooth = (8192 / wave - 1) / 3;
        double divisor = wave < 8192 / 4.0 ? 1 : wave > 8192 ? factor : 1 / ((1 - smooth) / factor + smooth);
        divisors[i] = (float)(divisor * (i == HALF - 2 ? off : 1));
    }
    const gguf_edit edit = {.key = "llama.rope.freq_base",
                            .kind = SOW_GGUF_F32,
                            .number = 500000,
                            .divisors = divisors,
                            .n_divisors = HALF};
    return open_edited(&edit, true, out);
}

static void test_open_when_rotation_is_scaled_finds_the_factor(void **state)
{
    (void)state;
    static const double factors[] = {8, 32};
    sow_model *model = NULL;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(open_scaled(factors[i], 1, &model));
        const sow_shape *shape = &sow_model_layout(model)->shape;
        assert_true(shape->rope_factor == factors[i] && shape->rope_low_freq_factor == 1);
        assert_true(shape->rope_high_freq_factor == 4 && shape->rope_original_positions == 8192);
        sow_model_close(&model);
    }
    CHECK_OK(open_scaled(1, 1, &model));
    assert_true(sow_model_layout(model)->shape.rope_factor == 1);
    sow_model_close(&model);
    CHECK_FAILS(open_scaled(8, 0.9, &model), SOW_EFORMAT, "rope_freqs.weight: element 2 is 2.42508, expected 2.69453");
    CHECK_FAILS(open_scaled(8, (double)NAN, &model), SOW_EFORMAT, "rope_freqs.weight: element 2 is nan");
}

static void test_open_when_an_allocation_fails_says_so(void **state)
{
    (void)state;
    sow_model *model = NULL;
    CHECK_OK(open_edited(NULL, true, &model));
    sow_model_close(&model);
    int64_t n = 0;
    sow_code rc = SOW_ENOMEM;
    while (rc == SOW_ENOMEM) {
        sow_alloc_fail_at(++n);
        rc = sow_model_from_gguf(file.data, file.n, "m.gguf", &model);
        assert_true(rc == SOW_ENOMEM || rc == SOW_OK);
    }
    sow_alloc_fail_at(0);
    assert_true(n > 5);
    sow_model_close(&model);
}

/* Hexadecimal digits -> bytes. */
static size_t read_hex(const char *text, unsigned char *out, size_t cap)
{
    size_t n = strlen(text) / 2;
    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};
        char *end = NULL;
        out[i] = (unsigned char)strtoul(pair, &end, 16);
        assert_true(*end == '\0');
    }
    return n;
}

/* Against the Python package gguf (tests/golden/make_gguf_types.py), bit for bit. */
static void test_widen_of_every_type_gives_recorded_bits(void **state)
{
    (void)state;
    sow_json *root = NULL;
    const char *name;
    const sow_json *item;
    void *iterator = NULL;
    int64_t n_types = 0;
    static unsigned char bytes[4096], bits[4096];
    static float got[1024];
    CHECK_OK(sow_json_load(SOW_SOURCE_DIR "/tests/golden/gguf_types.json", &root));
    while (sow_json_next(sow_json_get(root, "types"), &iterator, &name, &item)) {
        const sow_storage *storage = sow_storage_find(name);
        assert_non_null(storage);
        assert_ptr_equal(sow_storage_of_id(storage->id), storage);
        size_t n_bytes = read_hex(sow_json_to_string(sow_json_get(item, "bytes"), NULL), bytes, sizeof bytes);
        size_t n = read_hex(sow_json_to_string(sow_json_get(item, "bits"), NULL), bits, sizeof bits) / 4;
        assert_int_equal(n_bytes, n / (size_t)storage->block * (size_t)storage->block_bytes);
        storage->widen(bytes, (int64_t)n, got);
        for (size_t i = 0; i < n; i++) {
            uint32_t expected = (uint32_t)bits[4 * i] << 24 | (uint32_t)bits[4 * i + 1] << 16 |
                                (uint32_t)bits[4 * i + 2] << 8 | bits[4 * i + 3];
            uint32_t value;
            memcpy(&value, &got[i], sizeof value);
            if (value != expected)
                fail_msg("%s element %zu: got %08x, expected %08x", name, i, value, expected);
        }
        n_types++;
    }
    sow_json_destroy(&root);
    assert_int_equal(n_types, 11);
}

/* All 65,536 halves and bfloats, against powers of two. */
static void test_half_and_bfloat_of_all_bits_are_exact(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        int sign = bits >> 15 != 0 ? -1 : 1, exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        double half = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        float got = sow_half_to_float((uint16_t)bits);
        if (exponent == 31)
            assert_true(fraction == 0 ? isinf(got) && (got < 0) == (sign < 0) : isnan(got));
        else
            assert_true((double)got == sign * half && (signbit(got) != 0) == (sign < 0));
        exponent = (int)(bits >> 7 & 255);
        fraction = (int)(bits & 127);
        double bfloat = exponent == 0 ? ldexp(fraction, -133) : ldexp(128 + fraction, exponent - 134);
        got = sow_bfloat_to_float((uint16_t)bits);
        if (exponent == 255)
            assert_true(fraction == 0 ? isinf(got) : isnan(got));
        else
            assert_true((double)got == sign * bfloat && (signbit(got) != 0) == (sign < 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_when_all_is_right_gives_shape_and_weights),
        cmocka_unit_test(test_open_when_one_thing_is_wrong_names_it),
        cmocka_unit_test(test_open_when_harmless_keys_are_there_ignores_them),
        cmocka_unit_test(test_open_when_file_is_cut_anywhere_fails),
        cmocka_unit_test(test_open_when_any_byte_is_changed_survives),
        cmocka_unit_test(test_open_when_counts_are_huge_takes_no_memory),
        cmocka_unit_test(test_read_when_arrays_are_nested_has_a_limit),
        cmocka_unit_test(test_open_when_rotation_is_scaled_finds_the_factor),
        cmocka_unit_test(test_open_when_an_allocation_fails_says_so),
        cmocka_unit_test(test_widen_of_every_type_gives_recorded_bits),
        cmocka_unit_test(test_half_and_bfloat_of_all_bits_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
