#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/adamw.json: what torch.optim.AdamW (one tensor at a time, float32) makes of 48 elements in 7 steps, with
gradients of magnitudes from 1e-12 to 1e4, zeros among them.

    python3 tests/golden/make_adamw.py          # needs torch; writes the same file again
"""

import json
import pathlib

import torch

FILE = pathlib.Path(__file__).resolve().parent / "adamw.json"
N, STEPS = 48, 7
HYPER = {"lr": 3e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1}


def main():
    generator = torch.Generator().manual_seed(1)
    theta = torch.nn.Parameter(torch.randn(N, generator=generator))
    scale = 10.0 ** torch.linspace(-12, 4, N)
    optimizer = torch.optim.AdamW(
        [theta],
        lr=HYPER["lr"],
        betas=(HYPER["beta1"], HYPER["beta2"]),
        eps=HYPER["eps"],
        weight_decay=HYPER["weight_decay"],
        foreach=False,
        fused=False,
    )
    out = {
        "provenance": f"tests/golden/make_adamw.py, torch {torch.__version__.split('+')[0]}, torch.optim.AdamW, float32",
        **HYPER,
        "theta": theta.tolist(),
        "scale": scale.tolist(),
        "steps": [],
    }
    for step in range(STEPS):
        gradient = scale * torch.randn(N, generator=generator)
        gradient[step :: 11] = 0
        theta.grad = gradient.clone()
        optimizer.step()
        state = optimizer.state[theta]
        out["steps"].append(
            {
                "gradient": gradient.tolist(),
                "theta": theta.tolist(),
                "m": state["exp_avg"].tolist(),
                "v": state["exp_avg_sq"].tolist(),
            }
        )
    FILE.write_text(json.dumps(out).replace('"theta"', '\n"theta"').replace("{\"gradient", '\n{"gradient') + "\n")


if __name__ == "__main__":
    main()
