#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/policy.json: policy losses, their gradients by autograd, and advantages, by TRL's and verl's own functions in
float64, for small recorded rollouts.

What runs is GRPOTrainer._compute_loss of TRL, with a stand-in for the trainer and for the model that hands out log-probabilities; and
compute_policy_loss_vanilla, kl_penalty, agg_loss and compute_grpo_outcome_advantage of verl's core_algos.py, loaded alone (its
imports of tensordict and of configuration classes have stand-ins), put together as verl's ppo_loss does.  TRL's advantages are a few lines in
the middle of a long method; they are written out here, with its nanstd.

Batch 0 has ratios on both sides of the clip and a group that is on-policy; batch 1 adds differences beyond the clamps and a sequence
without any unmasked token.  In both, rewards of one group are equal.  Log-probabilities are multiples of 1/256, exact in float32.
Needs: torch, transformers, trl, verl (--no-deps), accelerate, datasets, pandas, numpy, omegaconf.
Usage: python3 tests/golden/make_policy.py > tests/golden/policy.json"""
import collections
import importlib.metadata
import importlib.util
import json
import pathlib
import sys
import types

import numpy as np
import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import nanstd

GROUPS, SIZE, LONGEST = 3, 4, 8
REWARDS = [1.0, 0.0, 0.0, 1.1, 0.1, 0.1, 0.1, 0.1, 1.1, 0.1, 0.0, 0.06]
LENGTHS = [8, 5, 1, 6, 4, 8, 2, 3, 7, 8, 3, 5]
CLIP_LOW, CLIP_HIGH = 0.2, 0.28


def load_core_algos():
    """verl/trainer/ppo/core_algos.py without the packages around it."""
    folder = pathlib.Path(importlib.util.find_spec("verl").submodule_search_locations[0])

    def package(name, **names):
        module = types.ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        module.__dict__.update(names)
        sys.modules[name] = module

    sys.modules["tensordict"] = types.SimpleNamespace(TensorDict=None)
    package("verl")
    package("verl.utils", as_torch_index=None, group_mean_std=None)
    package("verl.utils.import_utils", deprecated=lambda _: lambda function: function)
    package("verl.utils.device", get_device_name=None, get_torch_device=None)
    package("verl.trainer")
    package("verl.trainer.ppo")
    package("verl.trainer.config", AlgoConfig=type("AlgoConfig", (), {}))
    package("verl.workers")
    package("verl.workers.config", ActorConfig=type("ActorConfig", (), {}))
    return importlib.import_module("verl.trainer.ppo.core_algos")


core_algos = load_core_algos()


def make_batch(seed, is_extreme):
    """Log-probabilities [12][8]; group 0 is on-policy; what is masked holds numbers that would be seen."""
    random = np.random.default_rng(seed)
    shape = (GROUPS * SIZE, LONGEST)
    logprob = -random.exponential(1.5, shape)
    old = np.minimum(logprob + random.normal(0, 0.35, shape), 0)
    reference = np.minimum(logprob + random.normal(0, 0.5, shape), 0)
    entropy = random.exponential(1.0, shape)
    old[0:SIZE] = logprob[0:SIZE]
    mask = np.arange(LONGEST)[None, :] < np.array(LENGTHS)[:, None]
    if is_extreme:
        logprob[9, 0:4], old[9, 0:4] = [-1.0, -0.5, -30.0, -0.25], [-2.5, -24.0, -1.0, -1.5]  # reward below the mean
        logprob[8, 0:2], old[8, 0:2] = [-30.0, -0.5], [-1.0, -29.0]  # above it
        logprob[1, 0:2], reference[1, 0:2] = [-6.0, -0.5], [-0.25, -27.0]  # k3 beyond 10
        old[0:SIZE] = logprob[0:SIZE]
        mask[2] = False
    grid = {name: torch.tensor(np.round(x * 256) / 256, dtype=torch.float64) for name, x in
            dict(logprob=logprob, old=old, reference=reference, entropy=entropy).items()}
    return grid | {"mask": torch.tensor(mask, dtype=torch.float64)}


def trl_advantages(scale):
    rewards = torch.tensor(REWARDS, dtype=torch.float64)
    means = rewards.view(-1, SIZE).mean(dim=1).repeat_interleave(SIZE)
    if scale == "none":
        return rewards - means
    deviation = nanstd(rewards) if scale == "batch" else nanstd(rewards.view(-1, SIZE), dim=1).repeat_interleave(SIZE)
    return (rewards - means) / (deviation + 1e-4)


def verl_advantages(by_std):
    rewards = torch.tensor(REWARDS, dtype=torch.float64).unsqueeze(1)
    index = np.repeat(np.arange(GROUPS), SIZE)
    return core_algos.compute_grpo_outcome_advantage(rewards, torch.ones_like(rewards), index,
                                                     norm_adv_by_std_in_grpo=by_std)[0].squeeze(1)


class Accelerator:
    num_processes, process_index, sync_gradients = 1, 0, True

    def gather(self, x):
        return x

    def reduce(self, x, reduction):
        return x


def trl_loss(batch, logprob, entropy, advantages, case):
    args = types.SimpleNamespace(use_bias_correction_kl=False, delta=case["dual_clip"] or None, steps_per_generation=1)
    trainer = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprob, entropy, None), aux_loss_enabled=False,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=case["kl"], args=args,
        loss_type=case["loss"], epsilon_low=CLIP_LOW, epsilon_high=CLIP_HIGH, use_vllm=False,
        current_gradient_accumulation_steps=1, _entropy_bonus_enabled=case["entropy"] != 0, use_adaptive_entropy=False,
        entropy_coef=case["entropy"], accelerator=Accelerator(), model=types.SimpleNamespace(training=True),
        max_completion_length=LONGEST, _metrics={"train": collections.defaultdict(list)})
    ids = torch.zeros_like(batch["mask"], dtype=torch.int64)
    return GRPOTrainer._compute_loss(trainer, None, {
        "prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": batch["mask"], "advantages": advantages,
        "old_per_token_logps": batch["old"], "ref_per_token_logps": batch["reference"], "num_items_in_batch": batch["mask"].sum()})


class ActorConfig(types.SimpleNamespace):
    def get(self, key, default):
        return getattr(self, key, default)


def verl_loss(batch, logprob, entropy, advantages, case):
    mode = {"dapo": "token-mean", "grpo": "seq-mean-token-mean", "dr_grpo": "seq-mean-token-sum-norm"}[case["loss"]]
    info = {"loss_scale_factor": LONGEST}
    config = ActorConfig(clip_ratio=None, clip_ratio_low=CLIP_LOW, clip_ratio_high=CLIP_HIGH, clip_ratio_c=case["dual_clip"],
                         global_batch_info=info)
    mask = batch["mask"]
    policy, _ = core_algos.compute_policy_loss_vanilla(batch["old"], logprob, advantages.unsqueeze(1), mask.bool(), mode, config)
    kl = core_algos.agg_loss(core_algos.kl_penalty(logprob, batch["reference"], "low_var_kl"), mask, mode, **info)
    return policy - case["entropy"] * core_algos.agg_loss(entropy, mask, mode, **info) + case["kl"] * kl


def run(batches, case):
    batch = batches[case["batch"]]
    logprob, entropy = batch["logprob"].clone().requires_grad_(), batch["entropy"].clone().requires_grad_()
    advantages = torch.tensor(ADVANTAGES[case["advantages"]], dtype=torch.float64)
    loss = {"trl": trl_loss, "verl": verl_loss}[case["program"]](batch, logprob, entropy, advantages, case)
    loss.backward()
    by_entropy = entropy.grad if entropy.grad is not None else torch.zeros_like(entropy)
    return case | {"value": loss.item(), "dlogprob": cut(logprob.grad, batch), "dentropy": cut(by_entropy, batch)}


def cut(grid, batch):
    return [row[:int(mask.sum())].tolist() for row, mask in zip(grid, batch["mask"])]


ADVANTAGES = {
    "verl": verl_advantages(True).tolist(), "verl_no_std": verl_advantages(False).tolist(),
    "trl_group": trl_advantages("group").tolist(), "trl_batch": trl_advantages("batch").tolist(),
    "trl_none": trl_advantages("none").tolist(),
}
CASES = [dict(program="trl", batch=0, loss=loss, kl=kl, dual_clip=0.0, entropy=0.0, advantages="trl_group")
         for loss in ("grpo", "dapo", "dr_grpo", "bnpo") for kl in (0.0, 0.04)]
CASES += [dict(program="trl", batch=0, loss="dapo", kl=0.04, dual_clip=1.5, entropy=0.01, advantages="trl_batch")]
CASES += [dict(program="verl", batch=batch, loss=loss, kl=0.001, dual_clip=3.0, entropy=0.0, advantages="verl")
          for batch in (0, 1) for loss in ("dapo", "grpo")]
CASES += [dict(program="verl", batch=1, loss="dr_grpo", kl=0.001, dual_clip=1.3, entropy=0.02, advantages="verl_no_std")]

batches = [make_batch(11, False), make_batch(12, True)]
print(json.dumps({
    "provenance": {
        "script": "tests/golden/make_policy.py", "precision": "float64; log-probabilities are exact in float32",
        "programs": {name: importlib.metadata.version(name) for name in ("torch", "trl", "verl")},
    },
    "tolerance": 1e-6, "group_size": SIZE, "max_completion": LONGEST, "clip_low": CLIP_LOW, "clip_high": CLIP_HIGH,
    "rewards": REWARDS, "advantages": ADVANTAGES,
    "batches": [{name: cut(grid, batch) for name, grid in batch.items() if name != "mask"} for batch in batches],
    "cases": [run(batches, case) for case in CASES],
}).replace("}, {", "},\n{").replace('"cases": ', '\n"cases": '))
