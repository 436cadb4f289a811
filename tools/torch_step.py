#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The anchor of `sower bench train`: forward and backward pass of SmolLM2-135M's shape in PyTorch, 4 rows of 256 tokens, with
random weights, in float32 or with weights and activations in bfloat16 (the loss in float32).  CPU seconds are of all threads together; where other jobs share the machine they say more than elapsed ones.

    python3 tools/torch_step.py [THREADS [float32|bfloat16]]          # needs torch and transformers
"""

import resource
import sys
import time

import torch
import transformers

ROWS, TOKENS, VOCAB = 4, 256, 49152


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    dtype = getattr(torch, sys.argv[2]) if len(sys.argv) > 2 else torch.float32
    model = transformers.LlamaForCausalLM(config).to(dtype).train()
    ids = torch.randint(0, VOCAB, (ROWS, TOKENS + 1))
    for step in range(4):
        model.zero_grad(set_to_none=False)
        cpu, start = cpu_s(), time.monotonic()
        logits = model(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB).float(), ids[:, 1:].reshape(-1))
        forward_cpu, forward = cpu_s() - cpu, time.monotonic() - start
        loss.backward()
        print(
            f"step {step}: forward {forward:.2f} s ({forward_cpu:.2f} s of CPU), "
            f"forward and backward {time.monotonic() - start:.2f} s ({cpu_s() - cpu:.2f} s of CPU)",
            flush=True,
        )


if __name__ == "__main__":
    main()
