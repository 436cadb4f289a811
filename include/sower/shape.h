/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of a model, the list of its tensors, and where each lies in theta.
 *
 * Needs: error.  Threads: plain data.  Ranks: knows none; sow_shape is plain data that root can send as bytes. */
#ifndef SOWER_SHAPE_H
#define SOWER_SHAPE_H

#include "sower/error.h"

#include <stdbool.h>

enum { SOW_MAX_EOS = 8, SOW_MAX_NAME = 96 };

typedef struct sow_shape {
    char family[32]; /* a name of families.def: "llama" */
    int64_t vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim, max_positions;
    double rope_theta, rms_norm_eps;
    /* Llama-3 rope scaling ("rope_type": "llama3"); factor 1: none. */
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    int64_t rope_original_positions;
    bool is_tied, has_qkv_bias, has_o_bias, has_mlp_bias, has_qk_norm;
    int64_t n_eos;
    int32_t eos[SOW_MAX_EOS];
    int32_t bos, pad; /* -1: none */
} sow_shape;

/* What a tensor is, for patterns, drift by kind, and where forward finds it. */
/* clang-format off */
#define SOW_TENSOR_KINDS(KIND)                                               \
    KIND(EMBED, "embed") KIND(INPUT_NORM, "norm") KIND(Q, "q") KIND(K, "k")  \
    KIND(V, "v") KIND(O, "o") KIND(Q_BIAS, "q_bias") KIND(K_BIAS, "k_bias")  \
    KIND(V_BIAS, "v_bias") KIND(O_BIAS, "o_bias") KIND(Q_NORM, "qk_norm")    \
    KIND(K_NORM, "qk_norm") KIND(POST_NORM, "norm") KIND(GATE, "gate")       \
    KIND(UP, "up") KIND(DOWN, "down") KIND(GATE_BIAS, "gate_bias")           \
    KIND(UP_BIAS, "up_bias") KIND(DOWN_BIAS, "down_bias")                    \
    KIND(FINAL_NORM, "norm") KIND(LM_HEAD, "lm_head")
/* clang-format on */
typedef enum sow_tensor_kind {
#define KIND(name, group) SOW_TENSOR_##name,
    SOW_TENSOR_KINDS(KIND)
#undef KIND
        SOW_N_TENSOR_KINDS
} sow_tensor_kind;
const char *sow_tensor_group(sow_tensor_kind kind); /* "q", "norm", ... */

/* One tensor: [rows][cols] row-major at theta + offset; 1-D tensors have rows 1.  Offsets are multiples of 64 elements
 * and the padding between is zero. */
typedef struct sow_tensor {
    char name[SOW_MAX_NAME]; /* Hugging Face's: "model.layers.0.self_attn.q_proj.weight" */
    sow_tensor_kind kind;
    int layer; /* -1: none */
    int64_t rows, cols, offset;
    bool is_matrix;
} sow_tensor;

/* All tensors of a shape in canonical order (the order of this list is the tensor number of the noise). */
typedef struct sow_layout {
    sow_shape shape;
    int64_t n_tensors;
    sow_tensor *tensors;  /* owned */
    int64_t n_elements;   /* with padding: the length of theta, a multiple of 16384 */
    int64_t n_parameters; /* without: d of the random-walk law */
} sow_layout;

/* SOW_EFORMAT if the shape is impossible (`what` names where it came from: "PATH: hidden_size: 0 is ..., expected
 * ..."). */
SOW_NODISCARD sow_code sow_shape_check(const sow_shape *shape, const char *what);
SOW_NODISCARD sow_code sow_layout_create(const sow_shape *shape, sow_layout **out);
void sow_layout_destroy(sow_layout **layout);
/* The tensor of a kind in a layer; NULL if the shape has none. */
const sow_tensor *sow_layout_find(const sow_layout *layout, sow_tensor_kind kind, int layer);
/* Floating-point operations of one token's forward pass at a position (2 per weight and attention). */
double sow_layout_flops(const sow_layout *layout, int64_t position);

/* From the text of config.json (Hugging Face); `what` names it. */
SOW_NODISCARD sow_code sow_shape_parse(const char *json, size_t bytes, const char *what, sow_shape *out);

#endif
