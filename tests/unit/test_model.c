// NEEDS: nn la text base
/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models: folders written, opened again and read to the bit; folders that are not right; the models that
 * others made. */
#include "model_files.h"

#include <dirent.h>

/* A folder under a temporary one; both are removed by drop(). */
typedef struct place {
    char root[64], path[128];
} place;

static place make_place(void)
{
    place p;
    (void)snprintf(p.root, sizeof p.root, "%s", check_folder());
    (void)snprintf(p.path, sizeof p.path, "%s/model", p.root);
    return p;
}

static void remove_all(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    char name[4096];
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && unlink(name) != 0)
            remove_all(name);
    }
    if (folder != NULL)
        (void)closedir(folder);
    (void)rmdir(path);
}

static int64_t count_files(const char *path)
{
    DIR *folder = opendir(path);
    int64_t n = 0;
    while (folder != NULL && readdir(folder) != NULL)
        n++;
    if (folder != NULL)
        (void)closedir(folder);
    return n - 2;
}

static void save_shape(const place *p, const sow_shape *shape, sow_type type)
{
    sow_layout *layout = NULL;
    char *tokenizer = NULL;
    CHECK_OK(sow_layout_create(shape, &layout));
    float *theta = fill_theta(layout);
    CHECK_OK(sow_model_byte_tokenizer(shape->vocab_size, &tokenizer));
    CHECK_OK(sow_model_save(p->path, layout, theta, type, tokenizer, strlen(tokenizer), "{{ \"chat\" }}\n"));
    SOW_FREE(&tokenizer);
    SOW_FREE(&theta);
    sow_layout_destroy(&layout);
}

static sow_code open_and_close(const place *p)
{
    sow_model *model = NULL;
    sow_code rc = sow_model_open(p->path, &model);
    sow_model_close(&model);
    return rc;
}

/* Every field of a shape survives, in every family. */
static void test_open_when_saved_gives_shape_weights_and_text(void **state)
{
    (void)state;
    sow_shape shapes[5];
    for (int i = 0; i < 5; i++)
        shapes[i] = small_shape(i % 2 == 0);
    shapes[1].has_qkv_bias = shapes[1].has_o_bias = shapes[1].has_mlp_bias = true;
    shapes[1].rope_theta = 123456.789;
    shapes[1].rms_norm_eps = 1.0 / 3e5;
    shapes[2].rope_factor = 32;
    shapes[2].rope_low_freq_factor = 1;
    shapes[2].rope_high_freq_factor = 4.5;
    shapes[2].rope_original_positions = 20;
    shapes[2].n_eos = 3;
    shapes[2].eos[1] = 7;
    shapes[2].eos[2] = 127;
    shapes[2].bos = 0;
    shapes[2].pad = 3;
    (void)snprintf(shapes[3].family, sizeof shapes[3].family, "qwen2");
    shapes[3].has_qkv_bias = true;
    shapes[3].n_eos = 0;
    shapes[3].eos[0] = 0;
    (void)snprintf(shapes[4].family, sizeof shapes[4].family, "qwen3");
    shapes[4].has_qk_norm = true;
    shapes[4].head_dim = 16;
    for (int i = 0; i < 15; i++) {
        const sow_shape *shape = &shapes[i / 3];
        place p = make_place();
        sow_model *model = NULL;
        float *loaded = NULL;
        size_t bytes = 0;
        save_shape(&p, shape, (sow_type)(i % 3));
        assert_int_equal(count_files(p.root), 1);
        assert_int_equal(count_files(p.path), 5);
        CHECK_OK(sow_model_open(p.path, &model));
        const sow_layout *layout = sow_model_layout(model);
        assert_memory_equal(&layout->shape, shape, sizeof *shape);
        float *theta = fill_theta(layout);
        CHECK_OK(SOW_ALLOC(&loaded, layout->n_elements));
        CHECK_OK(sow_model_load(model, loaded));
        assert_memory_equal(loaded, theta, (size_t)layout->n_elements * sizeof *theta);
        assert_non_null(strstr(sow_model_tokenizer_json(model, &bytes), "\"ByteLevel\""));
        assert_int_equal(bytes, strlen(sow_model_tokenizer_json(model, NULL)));
        assert_string_equal(sow_model_chat_template(model), "{{ \"chat\" }}\n");
        SOW_FREE(&loaded);
        SOW_FREE(&theta);
        sow_model_close(&model);
        remove_all(p.root);
    }
}

static void test_open_shape_when_only_a_configuration_is_there_suffices(void **state)
{
    (void)state;
    place p = make_place();
    sow_model *model = NULL;
    float none[1];
    sow_shape shape = small_shape(true);
    save_shape(&p, &shape, SOW_F32);
    static const char *const names[] = {"model.safetensors", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4096];
        CHECK_OK(sow_file_join(p.path, names[i], path, sizeof path));
        assert_int_equal(unlink(path), 0);
    }
    CHECK_OK(sow_model_open_shape(p.path, &model));
    assert_memory_equal(&sow_model_layout(model)->shape, &shape, sizeof shape);
    assert_null(sow_model_tokenizer_json(model, NULL));
    assert_null(sow_model_chat_template(model));
    CHECK_FAILS(sow_model_load(model, none), SOW_EARG, "was opened for its shape only");
    sow_model_close(&model);
    CHECK_FAILS(sow_model_open(p.path, &model), SOW_EIO, "has no model.safetensors");
    remove_all(p.root);
    CHECK_FAILS(sow_model_open(p.path, &model), SOW_EIO, "is not there, expected a model");
}

static void test_open_when_generation_config_has_more_ends_adds_them(void **state)
{
    (void)state;
    place p = make_place();
    sow_model *model = NULL;
    sow_shape shape = small_shape(true);
    save_shape(&p, &shape, SOW_F32);
    static const char more[] = "{\"eos_token_id\": [10, 12], \"temperature\": 0.6}";
    write_file(p.path, "generation_config.json", more, sizeof more - 1);
    CHECK_OK(sow_model_open(p.path, &model));
    assert_int_equal(sow_model_layout(model)->shape.n_eos, 2);
    assert_int_equal(sow_model_layout(model)->shape.eos[1], 12);
    sow_model_close(&model);
    static const char wrong[] = "{\"eos_token_id\": [10, 128]}";
    write_file(p.path, "generation_config.json", wrong, sizeof wrong - 1);
    CHECK_FAILS(open_and_close(&p), SOW_EFORMAT, "generation_config.json: eos_token_id: 128 is outside the vocabulary");
    remove_all(p.root);
}

/* tokenizer_config.json as it is usual: a number beyond 64 bits, several templates. */
static void test_open_when_templates_have_names_takes_the_default(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected; /* or words of an error */
        sow_code code;
    } rows[] = {
        {"{\"model_max_length\": 1000000000000000019884624838656, \"chat_template\": \"a\\\"18446744073709551616 b\"}",
         "a\"18446744073709551616 b", SOW_OK},
        {"{\"x\": -1000000000000000019884624838656.5e3, \"y\": [99999999999999999999], \"chat_template\": \"t\"}", "t",
         SOW_OK},
        {"{\"chat_template\": [{\"name\": \"tool\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": "
         "\"y\"}]}",
         "y", SOW_OK},
        {"{\"chat_template\": null}", NULL, SOW_OK},
        {"{}", NULL, SOW_OK},
        {"{\"chat_template\": 3}", "tokenizer_config.json: chat_template: 3 is no text", SOW_EFORMAT},
        {"{\"chat_template\": \"", "is not JSON", SOW_EFORMAT},
    };
    place p = make_place();
    sow_model *model = NULL;
    sow_shape shape = small_shape(true);
    save_shape(&p, &shape, SOW_F32);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(p.path, "tokenizer_config.json", rows[i].text, strlen(rows[i].text));
        if (rows[i].code != SOW_OK) {
            CHECK_FAILS(open_and_close(&p), rows[i].code, rows[i].expected);
            continue;
        }
        CHECK_OK(sow_model_open(p.path, &model));
        if (rows[i].expected == NULL)
            assert_null(sow_model_chat_template(model));
        else
            assert_string_equal(sow_model_chat_template(model), rows[i].expected);
        sow_model_close(&model);
    }
    write_file(p.path, "chat_template.jinja", "first", 5);
    CHECK_OK(sow_model_open(p.path, &model)); /* wins, and the broken file is not read */
    assert_string_equal(sow_model_chat_template(model), "first");
    sow_model_close(&model);
    remove_all(p.root);
}

/* Every second tensor of a model in a file of its own. */
static void write_shard(const place *p, const char *name, const sow_layout *layout, const float *theta, int64_t first)
{
    static blob file;
    static char header[1 << 16];
    size_t at = 0, offset = 0;
    for (int64_t i = first; i < layout->n_tensors; i += 2) {
        const sow_tensor *t = &layout->tensors[i];
        size_t end = offset + (size_t)(t->rows * t->cols) * 4;
        char rows[32] = "";
        if (t->is_matrix)
            (void)snprintf(rows, sizeof rows, "%lld,", (long long)t->rows);
        at += (size_t)snprintf(header + at, sizeof header - at,
                               "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%s%lld],\"data_offsets\":[%zu,%zu]}",
                               i == first ? '{' : ',', t->name, rows, (long long)t->cols, offset, end);
        offset = end;
    }
    (void)snprintf(header + at, sizeof header - at, "}");
    blob_safetensors(&file, header, 0);
    for (int64_t i = first; i < layout->n_tensors; i += 2)
        blob_add(&file, theta + layout->tensors[i].offset,
                 (size_t)(layout->tensors[i].rows * layout->tensors[i].cols) * 4);
    write_file(p->path, name, file.data, file.n);
}

/* A model in two files with an index, as large models come; the index names the second file, and that of the last norm.
 */
static void write_shards(const place *p, const char *second, const char *of_norm)
{
    sow_shape shape = small_shape(true);
    sow_layout *layout = NULL;
    static char index[1 << 16];
    CHECK_OK(sow_layout_create(&shape, &layout));
    float *theta = fill_theta(layout);
    write_shard(p, "a.safetensors", layout, theta, 0);
    write_shard(p, "b.safetensors", layout, theta, 1);
    size_t at = (size_t)snprintf(index, sizeof index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": ");
    for (int64_t i = 0; i < layout->n_tensors; i++) {
        const sow_tensor *t = &layout->tensors[i];
        const char *name = t->kind == SOW_TENSOR_FINAL_NORM ? of_norm : i % 2 == 0 ? "a.safetensors" : second;
        at += (size_t)snprintf(index + at, sizeof index - at, "%c\"%s\": \"%s\"", i == 0 ? '{' : ',', t->name, name);
    }
    (void)snprintf(index + at, sizeof index - at, "}}");
    write_file(p->path, "model.safetensors.index.json", index, strlen(index));
    SOW_FREE(&theta);
    sow_layout_destroy(&layout);
}

static void test_open_when_weights_are_in_shards_reads_all(void **state)
{
    (void)state;
    place p = make_place();
    sow_model *model = NULL;
    float *loaded = NULL;
    char path[4096];
    sow_shape shape = small_shape(true);
    save_shape(&p, &shape, SOW_F32);
    CHECK_OK(sow_file_join(p.path, "model.safetensors", path, sizeof path));
    assert_int_equal(unlink(path), 0);
    write_shards(&p, "b.safetensors", "b.safetensors");
    CHECK_OK(sow_model_open(p.path, &model));
    const sow_layout *layout = sow_model_layout(model);
    float *theta = fill_theta(layout);
    CHECK_OK(SOW_ALLOC(&loaded, layout->n_elements));
    CHECK_OK(sow_model_load(model, loaded));
    assert_memory_equal(loaded, theta, (size_t)layout->n_elements * sizeof *theta);
    SOW_FREE(&loaded);
    SOW_FREE(&theta);
    sow_model_close(&model);
    static const char *const bad[] = {
        "../b.safetensors", "/etc/b.safetensors",   "x/b.safetensors",  ".b.safetensors", "b.bin", "",
        ".safetensors",     "b\\u0000.safetensors", "b\\\\.safetensors"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_shards(&p, bad[i], "b.safetensors");
        CHECK_FAILS(open_and_close(&p), SOW_EFORMAT, "is not the name of a .safetensors file in this folder");
    }
    write_shards(&p, "c.safetensors", "b.safetensors");
    CHECK_FAILS(open_and_close(&p), SOW_EIO, "c.safetensors");
    write_shards(&p, "b.safetensors", "a.safetensors");
    CHECK_FAILS(open_and_close(&p), SOW_EFORMAT, "weight_map: \"model.norm.weight\" is not in a.safetensors");
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"{}", "weight_map: is missing or no object"},
        {"{\"weight_map\": [1]}", "weight_map: is missing or no object"},
        {"{\"weight_map\": {\"a\": 1}}", "weight_map: a value is not the name"},
        {"{\"weight_map\": {}}", "model.embed_tokens.weight: is missing"},
        {"{\"weight_map\": {\"model.norm.weight\": \"b.safetensors\"}}", "model.embed_tokens.weight: is missing"},
        {"{", "is not JSON"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(p.path, "model.safetensors.index.json", rows[i].text, strlen(rows[i].text));
        CHECK_FAILS(open_and_close(&p), SOW_EFORMAT, rows[i].words);
    }
    remove_all(p.root);
}

static sow_code save_again(const char *path, float first)
{
    sow_shape shape = small_shape(true);
    sow_layout *layout = NULL;
    CHECK_OK(sow_layout_create(&shape, &layout));
    float *theta = fill_theta(layout);
    theta[0] = first;
    sow_code rc = sow_model_save(path, layout, theta, SOW_FP16, NULL, 0, NULL);
    SOW_FREE(&theta);
    sow_layout_destroy(&layout);
    return rc;
}

static void test_save_when_something_is_there_leaves_it(void **state)
{
    (void)state;
    place p = make_place();
    char deep[256];
    write_file(p.root, "model", "x", 1);
    CHECK_FAILS(save_again(p.path, 0), SOW_EIO, "is a file, expected a new or empty folder");
    assert_int_equal(unlink(p.path), 0);
    CHECK_OK(sow_file_make_folder(p.path));
    CHECK_OK(save_again(p.path, 0)); /* an empty folder is as good as none */
    assert_int_equal(count_files(p.path), 3);
    CHECK_FAILS(save_again(p.path, 0), SOW_EIO, "is not empty, expected a new or empty folder");
    CHECK_OK(open_and_close(&p));
    (void)snprintf(deep, sizeof deep, "%s/a/b/c//", p.root);
    CHECK_OK(save_again(deep, 0)); /* the folders above it are made */
    (void)snprintf(deep, sizeof deep, "%s/a/d", p.root);
    CHECK_FAILS(save_again(deep, NAN), SOW_ENUM, "model.embed_tokens.weight: element 0 is nan");
    CHECK_FAILS(save_again(deep, 1e5f), SOW_ENUM, "is 100000, expected a value that is finite as fp16");
    (void)snprintf(deep, sizeof deep, "%s/a", p.root);
    assert_int_equal(count_files(deep), 1); /* a failure leaves nothing */
    CHECK_FAILS(save_again("/proc/no/such/folder", 0), SOW_EIO, "/proc/no");
    CHECK_FAILS(save_again("", 0), SOW_EARG, "a folder's name has 0 bytes");
    remove_all(p.root);
}

static void test_save_and_open_when_an_allocation_fails_say_so(void **state)
{
    (void)state;
    place p = make_place();
    sow_shape shape = small_shape(true);
    sow_layout *layout = NULL;
    char *tokenizer = NULL;
    CHECK_OK(sow_layout_create(&shape, &layout));
    CHECK_OK(sow_model_byte_tokenizer(128, &tokenizer));
    float *theta = fill_theta(layout);
    sow_code rc = SOW_ENOMEM;
    int64_t n = 0;
    for (; rc == SOW_ENOMEM; n++) {
        sow_alloc_fail_at(n + 1);
        rc = sow_model_save(p.path, layout, theta, SOW_BF16, tokenizer, strlen(tokenizer), "t");
        assert_true(rc == SOW_OK || (rc == SOW_ENOMEM && count_files(p.root) == 0));
    }
    assert_true(rc == SOW_OK && n > 20);
    rc = SOW_ENOMEM;
    for (n = 0; rc == SOW_ENOMEM; n++) {
        sow_alloc_fail_at(n + 1);
        rc = open_and_close(&p);
    }
    sow_alloc_fail_at(0);
    assert_true(rc == SOW_OK && n > 10);
    SOW_FREE(&theta);
    SOW_FREE(&tokenizer);
    sow_layout_destroy(&layout);
    remove_all(p.root);
}

static void check_sprout(const char *path)
{
    sow_model *model = NULL;
    float *theta = NULL;
    CHECK_OK(sow_model_open(path, &model));
    const sow_layout *layout = sow_model_layout(model);
    assert_int_equal(layout->n_parameters, 344736);
    assert_int_equal(layout->shape.head_dim, 24);
    assert_true(layout->shape.is_tied && layout->shape.n_eos == 1 && layout->shape.eos[0] == 10);
    assert_true(layout->shape.bos == -1 && layout->shape.pad == -1);
    CHECK_OK(SOW_ALLOC(&theta, layout->n_elements));
    CHECK_OK(sow_model_load(model, theta));
    assert_non_null(sow_model_tokenizer_json(model, NULL));
    SOW_FREE(&theta);
    sow_model_close(&model);
}

static void test_open_of_sprout_has_its_shape(void **state)
{
    (void)state;
    check_sprout(SOW_SOURCE_DIR "/models/sprout");
}

static void test_open_of_tinystories_takes_lm_head_as_the_table(void **state)
{
    (void)state;
    const char *path = check_shared("models/tinystories-656k");
    if (path == NULL)
        skip();
    sow_model *model = NULL;
    sow_mapping map = {0};
    float *theta = NULL;
    char file[2048];
    CHECK_OK(sow_file_join(path, "model.safetensors", file, sizeof file));
    CHECK_OK(sow_model_open(path, &model));
    const sow_layout *layout = sow_model_layout(model);
    assert_true(layout->shape.is_tied && layout->shape.n_kv_heads == 4 && layout->shape.bos == 1);
    assert_int_equal(layout->n_parameters, 656000);
    CHECK_OK(SOW_ALLOC(&theta, layout->n_elements));
    CHECK_OK(sow_model_load(model, theta));
    CHECK_OK(sow_file_map(file, &map)); /* its first tensor is lm_head.weight, float32, right behind the header */
    assert_memory_equal(theta, map.data + 8 + 2160, (size_t)2048 * 128 * 4);
    sow_file_unmap(&map);
    SOW_FREE(&theta);
    sow_model_close(&model);
}

/* Against the Python package gguf and transformers' order of rows (tests/golden/make_smollm2_weights.py). */
static void check_recorded(const sow_layout *layout, const float *theta, const char *name, const sow_json *item)
{
    const sow_tensor *tensor = NULL;
    for (int64_t i = 0; i < layout->n_tensors; i++)
        if (strcmp(layout->tensors[i].name, name) == 0)
            tensor = &layout->tensors[i];
    if (tensor == NULL) {
        fail_msg("no tensor %s", name);
        return;
    }
    const sow_json *at = sow_json_get(item, "at"), *bits = sow_json_get(item, "bits");
    double expected = 0, sum = 0;
    for (int64_t i = 0; i < sow_json_size(at); i++) {
        int64_t index = -1;
        uint32_t got;
        char text[16];
        assert_true(sow_json_to_int(sow_json_at(at, i), &index));
        memcpy(&got, &theta[tensor->offset + index], sizeof got);
        (void)snprintf(text, sizeof text, "%08x", got);
        if (strcmp(text, sow_json_to_string(sow_json_at(bits, i), NULL)) != 0)
            fail_msg("%s [%lld]: got %s, expected %s", name, (long long)index, text,
                     sow_json_to_string(sow_json_at(bits, i), NULL));
    }
    for (int64_t i = 0; i < tensor->rows * tensor->cols; i++)
        sum += (double)theta[tensor->offset + i];
    assert_true(sow_json_to_real(sow_json_get(item, "sum"), &expected));
    CHECK_NEAR(sum, expected, 1e-6);
}

static void test_open_of_smollm2_gives_recorded_weights(void **state)
{
    (void)state;
    const char *path = getenv("SOWER_TEST_SMOLLM2"), *name;
    if (path == NULL || path[0] == '\0') {
        (void)fprintf(stderr, "SKIP: SOWER_TEST_SMOLLM2 is not set to SmolLM2's .gguf\n");
        skip();
    }
    sow_model *model = NULL;
    sow_json *root = NULL;
    float *theta = NULL;
    CHECK_OK(sow_model_open(path, &model));
    const sow_layout *layout = sow_model_layout(model);
    const sow_shape *s = &layout->shape;
    assert_int_equal(layout->n_parameters, 134515008);
    assert_true(s->is_tied && s->n_heads == 9 && s->n_kv_heads == 3 && s->head_dim == 64 && s->max_positions == 8192);
    assert_true(s->rope_theta == 100000 && s->rms_norm_eps == 1e-5 && s->n_eos == 1 && s->eos[0] == 2 && s->bos == 1);
    CHECK_OK(SOW_ALLOC(&theta, layout->n_elements));
    CHECK_OK(sow_model_load(model, theta));
    CHECK_OK(sow_json_load(SOW_SOURCE_DIR "/tests/golden/smollm2_weights.json", &root));
    const sow_json *tensors = sow_json_get(root, "tensors"), *item;
    void *iterator = NULL;
    while (sow_json_next(tensors, &iterator, &name, &item))
        check_recorded(layout, theta, name, item);
    assert_int_equal(sow_json_size(tensors), 2 + 3 * 9);
    assert_non_null(strstr(sow_model_chat_template(model), "<|im_start|>"));
    assert_non_null(strstr(sow_model_tokenizer_json(model, NULL), "<|im_end|>"));
    sow_json_destroy(&root);
    SOW_FREE(&theta);
    sow_model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_when_saved_gives_shape_weights_and_text),
        cmocka_unit_test(test_open_shape_when_only_a_configuration_is_there_suffices),
        cmocka_unit_test(test_open_when_generation_config_has_more_ends_adds_them),
        cmocka_unit_test(test_open_when_templates_have_names_takes_the_default),
        cmocka_unit_test(test_open_when_weights_are_in_shards_reads_all),
        cmocka_unit_test(test_save_when_something_is_there_leaves_it),
        cmocka_unit_test(test_save_and_open_when_an_allocation_fails_say_so),
        cmocka_unit_test(test_open_of_sprout_has_its_shape),
        cmocka_unit_test(test_open_of_tinystories_takes_lm_head_as_the_table),
        cmocka_unit_test(test_open_of_smollm2_gives_recorded_weights),
    };
    return cmocka_run_group_tests(tests, NULL, check_live_zero);
}
