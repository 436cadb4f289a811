/* SPDX-License-Identifier: Apache-2.0 */
/* Llama (Touvron et al. 2023, arXiv 2302.13971; Llama 3 of 2024, arXiv 2407.21783), and all that share its form:
 * SmolLM2, TinyLlama, sprout.  RMSNorm, rotated halves, grouped queries, SwiGLU; biases if the configuration asks for
 * them. */
#include "files_impl.h"

const sow_family sow_family_llama = {
    .name = "llama",
    .architecture = "LlamaForCausalLM",
    .qkv_bias = SOW_BY_CONFIG,
    .o_bias = SOW_BY_CONFIG,
    .mlp_bias = SOW_BY_CONFIG,
    .qk_norm = SOW_NEVER,
    .is_gguf_permuted = true, /* llama.cpp keeps Meta's order of the rotated pairs */
};
