#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/random-llama: a small random Llama with everything the shipped models lack (biases everywhere, an untied
head, grouped queries, a head dimension that is not hidden / heads, Llama 3's rope scaling), and reference.json with what
transformers computes for it in float64.

    python3 tests/golden/make_random_llama.py          # needs torch and transformers; writes the same files again
"""

import copy
import hashlib
import json
import pathlib

import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "random-llama"
VOCAB, CONTEXT, EOS = 160, 128, 7


def make_model():
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=72,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=None,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    model = transformers.LlamaForCausalLM(config).float()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            if tensor.dim() == 2:
                values *= 1.4 / tensor.shape[1] ** 0.5
            elif "norm" in name:
                values = 1 + 0.2 * values
            else:
                values *= 0.3
            # Small values, so that rms_norm_eps is seen: the embedding's mean square is near 1e-4.
            if name == "model.embed_tokens.weight":
                values *= 0.04
            tensor.copy_(values.half().float())  # what the file holds is what the reference computes with
    return model


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def greedy(model, ids, n):
    new, margins, logprobs = [], [], []
    while len(new) < n and len(ids) + len(new) < CONTEXT:
        last = logits_of(model, ids + new)[-1]
        top = torch.topk(last, 2)
        new.append(int(top.indices[0]))
        margins.append(round(float(top.values[0] - top.values[1]), 6))
        logprobs.append(round(float(torch.log_softmax(last, -1)[new[-1]]), 7))
        if new[-1] == EOS:
            break
    return new, margins, logprobs


def token_logprobs(model, ids, n_context):
    table = torch.log_softmax(logits_of(model, ids), -1)
    return [round(float(table[i - 1, ids[i]]), 7) for i in range(n_context, len(ids))]


def prompt_entry(model, name, ids):
    logits = logits_of(model, ids)[-1]
    top = torch.topk(logits, 20)
    new, margins, logprobs = greedy(model, ids, 40)
    entry = {
        "name": name,
        "ids": ids,
        "top_ids": top.indices.tolist(),
        "top_logits": [round(v, 7) for v in top.values.tolist()],
        "greedy_ids": new,
        "margins": margins,
        "logprobs": logprobs,
    }
    if len(ids) > 1:
        values = token_logprobs(model, ids, 1)
        entry["mean_nll"] = -sum(values) / len(values)
    return entry


def main():
    torch.manual_seed(0)
    model = make_model()
    FOLDER.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).half().save_pretrained(FOLDER)  # of a copy: half() rounds the frequencies of the rotation too
    model = model.double()
    generator = torch.Generator().manual_seed(2)

    def draw(n):
        return torch.randint(0, VOCAB, (n,), generator=generator).tolist()

    prompts = [prompt_entry(model, f"{n} tokens", draw(n)) for n in (1, 2, 15, 16, 17, 33, 90)]
    continuations = []
    for n_context, n in ((1, 12), (20, 5), (64, 60)):
        ids = draw(n_context + n)
        continuations.append(
            {
                "context_ids": ids[:n_context],
                "continuation_ids": ids[n_context:],
                "token_logprobs": token_logprobs(model, ids, n_context),
            }
        )
    ids = draw(24)
    reference = {
        "provenance": {
            "script": "tests/golden/make_random_llama.py",
            "program": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
            "precision": "float64 (norms and rotation in float32, as transformers does them)",
            "sha256": hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest(),
        },
        "logits": {"ids": ids, "values": [round(v, 7) for v in logits_of(model, ids)[-1].tolist()]},
        "prompts": prompts,
        "continuations": continuations,
    }
    text = json.dumps(reference)
    (FOLDER / "reference.json").write_text(text.replace('{"name"', '\n{"name"').replace('{"context', '\n{"context') + "\n")


if __name__ == "__main__":
    main()
