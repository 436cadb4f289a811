#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The anchor of an ES generation: 30 members of models/sprout on 64 Countdown prompts in PyTorch, float32, as one would write it
by hand: noise from `torch.randn` by a seed a member, the prompts as one batch, greedy decoding with a cache of keys and values
until all are at their end, rewards, z-scores, and the update from the seeds.  Prompts are drawn anew in each generation; the reward is
the right answer only, which costs next to nothing.  Compare with `mpirun -n 1 sower run conf/study/es.yaml --set run.threads=1`.

    python3 tools/torch_es.py [MODEL] [THREADS]          # needs torch and safetensors
"""

import random
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

POPULATION, ROWS, NEW, SIGMA, ALPHA = 30, 64, 24, 0.015, 0.012
VOCAB, HIDDEN, LAYERS, HEADS, EPS, THETA, END = 128, 96, 3, 4, 1e-5, 10000.0, 10
DIM = HIDDEN // HEADS


def prompts(generator):
    """Lines `cd A B C T=`, of one length after padding on the left; the target need not be reachable for a timing."""
    lines = []
    for _ in range(ROWS):
        numbers = [generator.randint(1, 11) for _ in range(3)]
        lines.append("cd " + " ".join(map(str, numbers)) + f" {numbers[0] + numbers[1] * numbers[2]}=")
    width = max(map(len, lines))
    ids = torch.tensor([[0] * (width - len(line)) + list(line.encode()) for line in lines])
    return ids, torch.tensor([width - len(line) for line in lines])


def norm(x, w):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * w


def turn(x, cosine, sine):
    half = DIM // 2
    return x * cosine + torch.cat((-x[..., half:], x[..., :half]), -1) * sine


def forward(w, ids, positions, mask, cache):
    """Logits of the last position; keys and values go behind those in `cache`."""
    x = w["model.embed_tokens.weight"][ids]
    rows, n = ids.shape
    angle = positions[..., None] / THETA ** (torch.arange(0, DIM, 2) / DIM)
    angle = torch.cat((angle, angle), -1)[:, None]
    cosine, sine = angle.cos(), angle.sin()
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        y = norm(x, w[name + "input_layernorm.weight"])
        q, k, v = (
            F.linear(y, w[name + f"self_attn.{part}_proj.weight"]).view(rows, n, HEADS, DIM).transpose(1, 2) for part in "qkv"
        )
        q, k = turn(q, cosine, sine), turn(k, cosine, sine)
        if cache[layer] is not None:
            k, v = torch.cat((cache[layer][0], k), 2), torch.cat((cache[layer][1], v), 2)
        cache[layer] = k, v
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + F.linear(a.transpose(1, 2).reshape(rows, n, HIDDEN), w[name + "self_attn.o_proj.weight"])
        y = norm(x, w[name + "post_attention_layernorm.weight"])
        gate, up = F.linear(y, w[name + "mlp.gate_proj.weight"]), F.linear(y, w[name + "mlp.up_proj.weight"])
        x = x + F.linear(F.silu(gate) * up, w[name + "mlp.down_proj.weight"])
    return F.linear(norm(x[:, -1], w["model.norm.weight"]), w["model.embed_tokens.weight"])


def answer(w, ids, padding):
    """Greedy completions; tokens computed are returned for the rate."""
    n = ids.shape[1]
    at = torch.arange(n)
    seen = at[None] >= padding[:, None]
    mask = (seen[:, None] & (at[:, None] >= at[None])[None])[:, None] | torch.eye(n, dtype=torch.bool)
    cache = [None] * LAYERS
    logits = forward(w, ids, (at[None] - padding[:, None]).clamp(min=0).float(), mask, cache)
    out, running, n_tokens = [], torch.ones(ROWS, dtype=torch.bool), int(seen.sum())
    for i in range(NEW):
        token = logits.argmax(-1)
        out.append(token)
        n_tokens += int(running.sum())
        running &= token != END
        if not running.any():
            break
        seen = torch.cat((seen, torch.ones(ROWS, 1, dtype=torch.bool)), 1)
        logits = forward(w, token[:, None], (n + i - padding[:, None]).float(), seen[:, None, None], cache)
    return torch.stack(out, 1), n_tokens


def noise(w, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in w.items()}


@torch.no_grad()
def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "models/sprout"
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    theta = {name: tensor.float() for name, tensor in load_file(path + "/model.safetensors").items()}
    draw = random.Random(1)
    for generation in range(6):
        start, n_tokens, rewards = time.process_time(), 0, []
        ids, padding = prompts(draw)
        for member in range(POPULATION):
            z = noise(theta, generation * POPULATION + member)
            completions, n = answer({name: theta[name] + SIGMA * z[name] for name in theta}, ids, padding)
            rewards.append(float((completions == ord("*")).any(1).float().mean()))
            n_tokens += n
        score = torch.tensor(rewards, dtype=torch.float64)
        score = ((score - score.mean()) / (score.std(correction=0) + 1e-8)).tolist()
        step = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
        for member in range(POPULATION):
            for name, z in noise(theta, generation * POPULATION + member).items():
                step[name].add_(z, alpha=score[member])
        for name, tensor in theta.items():
            tensor.add_(step[name], alpha=ALPHA / POPULATION)
        seconds = time.process_time() - start
        print(f"generation {generation + 1}: {seconds:.3f} s of CPU, {n_tokens} tokens, {n_tokens / seconds:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
