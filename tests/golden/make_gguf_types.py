#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/gguf_types.json: blocks of every storage type of a GGUF and their float32 values, by the Python package
`gguf` (pip install gguf numpy), which follows ggml's reference.  Values are the bits of float32 in hexadecimal, so that equal means
equal.  Usage: python3 tests/golden/make_gguf_types.py > tests/golden/gguf_types.json"""
import importlib.metadata
import json

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Where the halves of a block lie: scales, and minima.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

random = np.random.default_rng(1)
out = {}
for name in TYPES:
    kind = GGMLQuantizationType[name]
    size, size_bytes = GGML_QUANT_SIZES[kind]
    if size == 1:  # 32 numbers, a few of them subnormal, zero of both signs, or large
        values = random.standard_normal(32).astype(np.float32)
        values[:6] = [0, -0.0, 6e-8, -3.1e-6, 65504, 1 / 3]
        if name == "BF16":
            raw = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
        else:
            raw = values.astype(np.float32 if name == "F32" else np.float16).view(np.uint8)
    else:  # two blocks of random bytes; their halves are random numbers, the second block's small
        raw = random.integers(0, 256, (2, size_bytes), dtype=np.uint8)
        for row in range(2):
            for at in HALVES[name]:
                half = np.array([random.standard_normal() * (1 if row == 0 else 1e-5)], dtype=np.float16)
                raw[row, at:at + 2] = half.view(np.uint8)
    values = dequantize(raw.reshape(-1), kind).astype(np.float32).reshape(-1)
    out[name] = {"bytes": raw.tobytes().hex(), "bits": "".join(f"{bits:08x}" for bits in values.view(np.uint32))}

made = f"tests/golden/make_gguf_types.py, gguf {importlib.metadata.version('gguf')}, numpy {np.__version__}"
print(json.dumps({"provenance": made, "types": out}, indent=1))
