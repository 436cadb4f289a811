#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records training of tests/fixtures/random-llama into its train.json: loss and gradients of cross-entropy, three steps of AdamW,
policy losses with a clip and the k3 estimate of the KL divergence; torch, float64 (norms and rotation in float32, as transformers
does them).  The form is that of include/sower/reference_train.h.

    python3 tests/golden/make_train_reference.py          # needs torch and transformers; writes the same file again
"""

import copy
import hashlib
import json
import pathlib

import torch
import transformers

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "random-llama"
SAMPLES = 4  # values of each tensor
POLICY = {"clip_low": 0.2, "clip_high": 0.3, "beta": 0.05, "max_completion": 20}
LENGTHS = [20, 7, 1, 12]
ADVANTAGES = [1.2, -0.7, 0.5, -1.0]
PROMPT = 18  # two rows each; longer than a page of 16 positions


def places(flat, generator):
    """Of elements that are not zero: most rows of an embedding have no gradient."""
    some = torch.nonzero(flat).reshape(-1)
    return sorted(some[torch.randint(0, len(some), (SAMPLES,), generator=generator)].tolist())


def gradients(model):
    generator = torch.Generator().manual_seed(3)
    out = {}
    for name, tensor in model.named_parameters():
        flat = tensor.grad.reshape(-1)
        out[name] = {"norm": float(flat.norm()), "samples": [[i, float(flat[i])] for i in places(flat, generator)]}
    return out


def cross_entropy(model, rows):
    """Mean over all targets of all rows; rows of any length."""
    losses = []
    for ids in rows:
        table = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
        losses += [-table[i, ids[i + 1]] for i in range(len(ids) - 1)]
    return torch.stack(losses).mean()


def record_ce(model, rows):
    model.zero_grad()
    loss = cross_entropy(model, rows)
    loss.backward()
    return {"ids": rows, "loss": loss.item(), "grad": gradients(model)}


def record_adamw(model, rows):
    settings = {"lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.02}
    clip = 2.0  # below the norm of the first step
    optimizer = torch.optim.AdamW(model.parameters(), **{**settings, "betas": tuple(settings["betas"])})
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = cross_entropy(model, rows)
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
    losses.append(cross_entropy(model, rows).item())
    generator = torch.Generator().manual_seed(4)
    params = {}
    for name, tensor in model.named_parameters():
        flat = tensor.detach().reshape(-1)
        params[name] = [[i, float(flat[i])] for i in places(flat, generator)]
    return {**settings, "clip": clip, "losses": losses, "params": params}


def logprobs(model, ids, length):
    table = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    return torch.stack([table[PROMPT - 1 + t, ids[PROMPT + t]] for t in range(length)])


def record_policy(model, kind, rows, olds, references):
    """TRL's losses: grpo is a mean of means, bnpo a mean over tokens, dr_grpo divides by the longest completion."""
    model.zero_grad()
    n_tokens, terms, clipped, kls, logps = sum(LENGTHS), [], 0, [], []
    for ids, length, advantage, old, reference in zip(rows, LENGTHS, ADVANTAGES, olds, references, strict=True):
        logp = logprobs(model, ids, length)
        ratio = torch.exp(logp - torch.tensor(old, dtype=torch.float64))
        bounded = torch.clamp(ratio, 1 - POLICY["clip_low"], 1 + POLICY["clip_high"])
        difference = torch.tensor(reference, dtype=torch.float64) - logp
        kl = torch.exp(difference) - difference - 1
        term = -torch.minimum(ratio * advantage, bounded * advantage) + POLICY["beta"] * kl
        clipped += int(((bounded * advantage) < (ratio * advantage)).sum())
        kls += kl.tolist()
        logps.append(logp.tolist())
        weight = {
            "grpo": 1 / (len(rows) * length),
            "bnpo": 1 / n_tokens,
            "dr_grpo": 1 / (len(rows) * POLICY["max_completion"]),
        }[kind]
        terms.append(weight * term.sum())
    loss = torch.stack(terms).sum()
    loss.backward()
    return {
        "loss_type": kind,
        **POLICY,
        "prompt_len": PROMPT,
        "ids": rows,
        "completion_lens": LENGTHS,
        "advantages": ADVANTAGES,
        "old_logp": olds,
        "ref_logp": references,
        "logp": logps,
        "loss": loss.item(),
        "clip_fraction": clipped / n_tokens,
        "mean_kl": sum(kls) / n_tokens,
        "grad": gradients(model),
    }


def main():
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).double()
    vocab = model.config.vocab_size
    generator = torch.Generator().manual_seed(5)

    def draw(n):
        return torch.randint(0, vocab, (n,), generator=generator).tolist()

    def shift(values, size):
        return [v + float(size * torch.randn((), generator=generator, dtype=torch.float64)) for v in values]

    ce_rows = [draw(n) for n in (33, 2, 50, 16)]
    prompts = [draw(PROMPT), draw(PROMPT)]
    rows = [prompts[i // 2] + draw(length) for i, length in enumerate(LENGTHS)]
    with torch.no_grad():
        now = [logprobs(model, ids, length).tolist() for ids, length in zip(rows, LENGTHS, strict=True)]
    olds = [shift(values, 0.2) for values in now]
    references = [shift(values, 0.1) for values in now]
    reference = {
        "provenance": {
            "script": "tests/golden/make_train_reference.py",
            "program": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
            "precision": "float64 (norms and rotation in float32, as transformers does them)",
            "sha256": hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest(),
        },
        "ce": record_ce(model, ce_rows),
        "adamw": record_adamw(copy.deepcopy(model), ce_rows),
        "policy": [record_policy(model, kind, rows, olds, references) for kind in ("grpo", "bnpo", "dr_grpo")],
    }
    text = json.dumps(json.loads(json.dumps(reference), parse_float=lambda v: round(float(v), 12)))
    for key in ('"ce"', '"adamw"', '"policy"', '{"loss_type"', '"model.', '"lm_head'):
        text = text.replace(key, "\n" + key)
    (FOLDER / "train.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
