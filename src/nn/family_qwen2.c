/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv 2407.10671): Llama with biases on q, k, v and nowhere else. */
#include "files_impl.h"

const sow_family sow_family_qwen2 = {
    .name = "qwen2",
    .architecture = "Qwen2ForCausalLM",
    .qkv_bias = SOW_ALWAYS,
    .o_bias = SOW_NEVER,
    .mlp_bias = SOW_NEVER,
    .qk_norm = SOW_NEVER,
};
