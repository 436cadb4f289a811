#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of tests/fuzz/corpus/{gguf,safetensors,config}: tiny models that are right, in every storage type, with
tokenizers of both kinds (pip install gguf numpy).  Usage: python3 tests/fuzz/make_model_seeds.py"""
import json
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quantize

HERE = pathlib.Path(__file__).resolve().parent / "corpus"
random = np.random.default_rng(3)


def gguf_tensors(vocab, hidden, inner, heads, kv_heads, dim, has_bias, has_norm, is_tied):
    yield "token_embd.weight", (vocab, hidden)
    yield "blk.0.attn_norm.weight", (hidden,)
    for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        yield f"blk.0.attn_{name}.weight", (n * dim, hidden)
        if has_bias:
            yield f"blk.0.attn_{name}.bias", (n * dim,)
        if has_norm and name != "v":
            yield f"blk.0.attn_{name}_norm.weight", (dim,)
    yield "blk.0.attn_output.weight", (hidden, heads * dim)
    yield "blk.0.ffn_norm.weight", (hidden,)
    yield "blk.0.ffn_gate.weight", (inner, hidden)
    yield "blk.0.ffn_up.weight", (inner, hidden)
    yield "blk.0.ffn_down.weight", (hidden, inner)
    yield "output_norm.weight", (hidden,)
    if not is_tied:
        yield "output.weight", (vocab, hidden)


def byte_tokens():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other, names = 0, []
    for byte in range(256):
        names.append(chr(byte if byte in plain else 256 + other))
        other += byte not in plain
    return names


def write_gguf(name, arch="llama", kind=Type.F32, text=None, divisors=False, is_tied=True, alignment=None):
    block = {Type.Q4_K: 256, Type.Q5_K: 256, Type.Q6_K: 256}.get(kind, 1 if kind in (Type.F32, Type.F16, Type.BF16) else 32)
    hidden, inner, heads, kv_heads, dim = max(block, 4), 3, 2, 1, 4
    tokens = {"gpt2": [*byte_tokens(), "he", "<|end|>"], "llama": ["<unk>", "<s>", "</s>", "▁", "a", "▁a", "b", "<0x0A>"]}.get(text)
    vocab = len(tokens) if tokens else 3
    path = HERE / "gguf" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, arch)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_vocab_size(vocab)
    writer.add_context_length(16)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_rope_dimension_count(dim)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    if arch == "qwen3":
        writer.add_key_length(dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5e7 if divisors else 500000.0)
    if tokens:
        writer.add_tokenizer_model(text)
        writer.add_token_list(tokens)
        writer.add_eos_token_id(vocab - 1)
        if text == "gpt2":
            writer.add_tokenizer_pre("smollm")
            writer.add_token_types([1] * (vocab - 1) + [3])
            writer.add_token_merges(["h e"])
            writer.add_chat_template("{{ x }}")
        else:
            writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 6])
            writer.add_token_scores([0.0, 0.0, 0.0, -1.0, -2.0, -0.5, -3.0, 0.0])
            writer.add_bos_token_id(1)
            writer.add_add_bos_token(True)
    if divisors:
        writer.add_tensor("rope_freqs.weight", np.array([1.0, 8.0], dtype=np.float32))
    for tensor, shape in gguf_tensors(vocab, hidden, inner, heads, kv_heads, dim, arch == "qwen2", arch == "qwen3", is_tied):
        values = random.standard_normal(shape).astype(np.float32)
        if len(shape) == 2 and shape[1] % block == 0 and kind != Type.F32:
            if kind in (Type.Q4_K, Type.Q5_K, Type.Q6_K):  # the package cannot make them: random bytes, small scales
                raw = random.integers(0, 256, (*shape[:1], {Type.Q4_K: 144, Type.Q5_K: 176, Type.Q6_K: 210}[kind]), dtype=np.uint8)
                at = 208 if kind == Type.Q6_K else 0
                raw[:, at + 1] = 0x20
                raw[:, at + 3 if at == 0 else at + 1] = 0x20
            else:
                raw = quantize(values, kind)
            writer.add_tensor(tensor, raw, raw_dtype=kind)
        else:
            writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(name, dtype, is_tied, both=False, buffers=False):
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": [4, 2], layer + "input_layernorm.weight": [2]}
    for part in "qkvo":
        shapes[f"{layer}self_attn.{part}_proj.weight"] = [2, 2]
    shapes |= {layer + "post_attention_layernorm.weight": [2], layer + "mlp.gate_proj.weight": [3, 2],
               layer + "mlp.up_proj.weight": [3, 2], layer + "mlp.down_proj.weight": [2, 3], "model.norm.weight": [2]}
    if not is_tied or both:
        shapes["lm_head.weight"] = [4, 2]
    if buffers:
        shapes[layer + "self_attn.rotary_emb.inv_freq"] = [1]
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for tensor, shape in shapes.items():
        values = random.standard_normal(shape).astype(np.float32)
        if both and tensor in ("model.embed_tokens.weight", "lm_head.weight"):
            values[:] = 0.5
        raw = {"F32": values, "F16": values.astype(np.float16),
               "BF16": (values.view(np.uint32) >> 16).astype(np.uint16)}[dtype].tobytes()
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    path = HERE / "safetensors" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_config(name, config):
    path = HERE / "config" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))


for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"):
    write_gguf(f"{kind.lower()}.gguf", kind=Type[kind])
write_gguf("qwen2.gguf", arch="qwen2", is_tied=False)
write_gguf("qwen3.gguf", arch="qwen3")
write_gguf("gpt2.gguf", text="gpt2", alignment=64)
write_gguf("llama.gguf", text="llama")
write_gguf("scaled.gguf", divisors=True)
for dtype in ("F32", "F16", "BF16"):
    write_safetensors(f"{dtype.lower()}.safetensors", dtype, is_tied=dtype != "F16")
write_safetensors("both.safetensors", "F32", True, both=True)
write_safetensors("buffers.safetensors", "F16", True, buffers=True)
shape = {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 3, "num_hidden_layers": 1,
         "num_attention_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-05}
scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 32}
write_config("plain.json", shape | {"eos_token_id": 3, "hidden_act": "silu", "tie_word_embeddings": True})
write_config("scaled.json", shape | {"rope_theta": 500000.0, "rope_scaling": scaling, "eos_token_id": [1, 2]})
write_config("nested.json", shape | {"rope_parameters": scaling | {"rope_theta": 1e6}, "bos_token_id": 0, "pad_token_id": -1})
write_config("qwen2.json", shape | {"model_type": "qwen2", "num_key_value_heads": 1, "use_sliding_window": False})
write_config("qwen3.json", shape | {"model_type": "qwen3", "head_dim": 16, "layer_types": ["full_attention"]})
write_config("biases.json", shape | {"attention_bias": True, "mlp_bias": True})
write_config("tokenizer_config.json", {"model_max_length": 10**30, "chat_template": [{"name": "default", "template": "x"}]})
