#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/smollm2_weights.json: some weights of SmolLM2-135M-Instruct's Q4_1 GGUF as transformers would name and order
them.  Values come from the Python package `gguf`; the rows of q and k are put back with the lines of transformers'
modeling_gguf_pytorch_utils (_reverse_permute_weights).  Bits of float32 in hexadecimal, and the sum of each tensor in double.
Usage: python3 tests/golden/make_smollm2_weights.py FILE.gguf > tests/golden/smollm2_weights.json"""
import hashlib
import importlib.metadata
import json
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

NAMES = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
HEADS = {"attn_q": 9, "attn_k": 3}


def reverse_permute(weights, n_head):
    dim = weights.shape[0] // n_head // 2
    w = weights.reshape(n_head, dim, 2, *weights.shape[1:])
    return w.swapaxes(2, 1).reshape(weights.shape)


path = sys.argv[1]
random = np.random.default_rng(2)
tensors = {}
for tensor in GGUFReader(path).tensors:
    parts = tensor.name.split(".")
    if parts[0] == "blk" and int(parts[1]) not in (0, 17, 29):
        continue
    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(tuple(int(n) for n in tensor.shape[::-1]))
    name = NAMES[tensor.name] if parts[0] != "blk" else f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
    if len(parts) > 2 and parts[2] in HEADS:
        values = reverse_permute(values, HEADS[parts[2]])
    flat = np.ascontiguousarray(values).reshape(-1)
    at = sorted(int(i) for i in random.integers(0, flat.size, 12))
    tensors[name] = {"shape": list(values.shape), "sum": float(flat.astype(np.float64).sum()),
                     "at": at, "bits": [f"{flat.view(np.uint32)[i]:08x}" for i in at]}

made = f"tests/golden/make_smollm2_weights.py, gguf {importlib.metadata.version('gguf')}, numpy {np.__version__}"
digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(item)}" for name, item in tensors.items())
print(f'{{\n "provenance": "{made}",\n "sha256": "{digest}",\n "tensors": {{\n{lines}\n }}\n}}')
