/* SPDX-License-Identifier: Apache-2.0 */
/* sower init: a new model of a given shape, from a seed. */
#include "app_impl.h"

#include "sower/alloc.h"
#include "sower/log.h"

#include <stdio.h>
#include <string.h>

static const char *out_folder;
static const char *dtype = "f32";

static const sow_flag flags[] = {
    {"out", 'o', "DIR", "the new model's folder", &out_folder, NULL},
    {"dtype", 0, "TYPE", "storage of the weights: f32 (default), bf16, fp16", &dtype, NULL},
    {0},
};

/* The context before it was stretched by the factor. */
static int64_t original_positions(const sow_options *o)
{
    double original = (double)o->shape.max_position_embeddings / o->shape.rope_scaling;
    return original < 1 ? 1 : (int64_t)original;
}

static void take_shape(const sow_options *o, sow_shape *out)
{
    bool has_scaling = o->shape.rope_scaling != 1;
    int64_t heads = o->shape.num_attention_heads;
    *out = (sow_shape){
        .vocab_size = o->shape.vocab_size,
        .hidden_size = o->shape.hidden_size,
        .intermediate_size = o->shape.intermediate_size,
        .n_layers = o->shape.num_hidden_layers,
        .n_heads = heads,
        .n_kv_heads = o->shape.num_key_value_heads > 0 ? o->shape.num_key_value_heads : heads,
        .head_dim = o->shape.head_dim > 0 ? o->shape.head_dim : o->shape.hidden_size / heads,
        .max_positions = o->shape.max_position_embeddings,
        .rope_theta = o->shape.rope_theta,
        .rms_norm_eps = o->shape.rms_norm_eps,
        .rope_factor = o->shape.rope_scaling,
        /* Llama 3's own values for what the options do not say. */
        .rope_low_freq_factor = has_scaling ? 1 : 0,
        .rope_high_freq_factor = has_scaling ? 4 : 0,
        .rope_original_positions = has_scaling ? original_positions(o) : 0,
        .is_tied = o->shape.tie_word_embeddings,
        .has_qkv_bias = o->shape.attention_bias,
        .has_o_bias = o->shape.attention_bias,
        .has_mlp_bias = o->shape.mlp_bias,
        .n_eos = 1,
        .eos = {'\n'},
        .bos = -1,
        .pad = -1,
    };
    (void)snprintf(out->family, sizeof out->family, "llama");
}

static sow_code check_heads(const sow_options *o)
{
    int64_t heads = o->shape.num_attention_heads, kv = o->shape.num_key_value_heads;
    if (o->shape.head_dim == 0 && o->shape.hidden_size % heads != 0)
        return SOW_FAIL(SOW_ECONF,
                        "shape.hidden_size: %lld is no multiple of the %lld heads, expected one, or shape.head_dim",
                        (long long)o->shape.hidden_size, (long long)heads);
    if (kv > 0 && heads % kv != 0)
        return SOW_FAIL(SOW_ECONF, "shape.num_key_value_heads: %lld does not divide the %lld heads", (long long)kv,
                        (long long)heads);
    return SOW_OK;
}

static sow_code make_model(const sow_options *o, sow_type type, const sow_shape *shape)
{
    sow_layout *layout = NULL;
    float *theta = NULL;
    char *tokenizer = NULL;
    sow_code rc = SOW_OK;
    SOW_TRY_OR(rc, sow_layout_create(shape, &layout));
    SOW_TRY_OR(rc, sow_model_byte_tokenizer(shape->vocab_size, &tokenizer));
    SOW_TRY_OR(rc, SOW_ALLOC(&theta, layout->n_elements));
    sow_model_init(layout, (uint32_t)o->run.seed, o->shape.init_std, sow_kernels_at(0), theta);
    SOW_TRY_OR(rc, sow_model_save(out_folder, layout, theta, type, tokenizer, strlen(tokenizer), NULL));
    sow_log(SOW_LOG_INFO, "%s: %lld weights from seed %lld, stored as %s", out_folder, (long long)layout->n_parameters,
            (long long)o->run.seed, sow_type_name(type));
done:
    SOW_FREE(&theta);
    SOW_FREE(&tokenizer);
    sow_layout_destroy(&layout);
    return rc;
}

static sow_code run(sow_app *app)
{
    sow_options options;
    sow_conf *conf = NULL;
    sow_shape shape;
    sow_type type = SOW_F32;
    if (out_folder == NULL)
        return SOW_FAIL(SOW_EARG, "sower init: expected -o DIR, the new model's folder");
    SOW_TRY(sow_app_type("dtype", dtype, &type));
    if (app->n_words > 0) {
        SOW_TRY(sow_app_conf(app, app->words[0], &conf));
        options = *sow_conf_options(conf);
        sow_conf_destroy(&conf);
    } else
        SOW_TRY(sow_app_options(app, &options));
    SOW_TRY(check_heads(&options));
    take_shape(&options, &shape);
    if (sow_shape_check(&shape, "shape") != SOW_OK)
        return SOW_FAIL(SOW_ECONF, "%s", sow_error_text());
    sow_kernels_set_rounding();
    return make_model(&options, type, &shape);
}

const sow_command sow_command_init = {
    .name = "init",
    .doc = "a new model of a given shape with a tokenizer of bytes, from a seed",
    .usage = "[CONF.yaml] -o DIR [--set shape.key=value]... [--set run.seed=N]",
    .examples = "  sower init -o small\n"
                "  sower init conf/sprout.yaml -o runs/sprout-0\n"
                "  sower init -o wide --set shape.hidden_size=256 --set shape.num_key_value_heads=2 --set run.seed=7\n",
    .has_sets = true,
    .max_words = 1,
    .flags = flags,
    .run = run,
};
