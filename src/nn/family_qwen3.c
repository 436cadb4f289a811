/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen3 (Yang et al. 2025, arXiv 2505.09388): Llama with an RMSNorm over each head's queries and keys, and heads whose
 * size is not hidden_size / num_attention_heads. */
#include "files_impl.h"

const sow_family sow_family_qwen3 = {
    .name = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .default_head_dim = 128,
    .qkv_bias = SOW_BY_CONFIG,
    .o_bias = SOW_BY_CONFIG,
    .mlp_bias = SOW_NEVER,
    .qk_norm = SOW_ALWAYS,
};
