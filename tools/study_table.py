#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables of the study from its runs, as Markdown, and the evaluations of all runs as CSV.

    python3 tools/study_table.py runs/study docs/study/evaluations.csv > docs/study/tables.md
"""
import csv
import glob
import json
import os
import statistics
import sys

SKILLS = ("calc", "eval", "rev", "sort", "count")
STEPS = (0, 10, 20, 30, 40, 60, 80, 100, 150)
ARMS = ("es", "es-l2", "es-n64", "es-random", "es-kl", "es-retention", "es-sparse", "grpo", "grpo-nokl")
# Student's t, 97.5 %, by degrees of freedom
T975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def lines(path):
    return [json.loads(line) for line in open(path)] if os.path.exists(path) else []


def read(folder):
    """{step: {...}} of a run's evaluations."""
    out, flops = {}, 0.0
    kl = {line["step"]: line for line in lines(f"{folder}/kl.jsonl")}
    drift = {line["step"]: line for line in lines(f"{folder}/drift.jsonl")}
    for line in lines(f"{folder}/metrics.jsonl"):
        flops += line.get("flops", line.get("flops_per_s", 0) * line.get("eval_s", 0))
        if "eval" not in line or not line["probes"] or line["probes"][0] is None:
            continue
        scores = {p["task"]: p["accuracy"] for p in line["probes"]}
        step, row = line["step"], {"countdown": line["eval"]["accuracy"], "format": line["eval"]["format"], **scores}
        row["prior"] = sum(scores[s] for s in SKILLS) / len(SKILLS)
        row["norm"], row["tokens"], row["tflop"] = line.get("norm", 0.0), line.get("num_tokens"), flops / 1e12
        if step in kl:
            row["kl_target"] = kl[step]["eval"]["kl_exact"]
            row["kl_prior"] = statistics.mean(p["kl_exact"] for p in kl[step]["probes"] if p["task"] in SKILLS)
        if step in drift:
            row["same_bf16"] = drift[step]["all"].get("same_bf16")
        out[step] = row
    return out


def mean_and_interval(values):
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = T975[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    return f"**{mean:.1f}** ± {half:.1f}"


def table(arm, runs):
    print(f"\n## {arm} ({len(runs)} seeds)\n")
    print("| step | Countdown | each | prior | each | " + " | ".join(SKILLS) + " | mc | norm | KL target | KL prior |")
    print("|--:" * (len(SKILLS) + 9) + "|")
    for step in STEPS:
        rows = [run[step] for run in runs.values() if step in run]
        if not rows:
            continue

        def percents(key):
            return [100 * row[key] for row in rows]

        def each(key):
            return " ".join(f"{x:.1f}" for x in percents(key))

        kl = [f"{statistics.mean(r[k] for r in rows):.3f}" if k in rows[0] else "" for k in ("kl_target", "kl_prior")]
        print(f"| {step} | {mean_and_interval(percents('countdown'))} | {each('countdown')} | {mean_and_interval(percents('prior'))} | "
              f"{each('prior')} | " + " | ".join(f"{statistics.mean(percents(s)):.1f}" for s in SKILLS) +
              f" | {statistics.mean(percents('mc')):.1f} | {statistics.mean(r['norm'] for r in rows):.2f} | {kl[0]} | {kl[1]} |")


def main():
    folder, out = sys.argv[1], sys.argv[2]
    print("# Tables\n\nMade by `tools/study_table.py` from the runs of `jobs/study.sh`. Accuracies in %, held-out items, greedy: mean over seeds ± half of the "
          "95 % interval (Student's t), and each seed. `prior`: mean of the five skills. KL: exact, nats per token of fixed base continuations; KL prior: mean of the five "
          "skills, without multiple choice, whose prompts are those of calc.")
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        keys = ("countdown", "format", "prior", *SKILLS, "mc", "norm", "tokens", "tflop", "kl_target", "kl_prior", "same_bf16")
        writer.writerow(("arm", "seed", "step", *keys))
        for arm in ARMS:
            runs = {}
            for path in sorted(glob.glob(f"{folder}/{arm}-seed*")):
                runs[path.rsplit("seed", 1)[1]] = read(path)
            if not runs:
                continue
            for seed, run in runs.items():
                for step, row in sorted(run.items()):
                    writer.writerow((arm, seed, step, *(f"{row[k]:.6g}" if row.get(k) is not None else "" for k in keys)))
            table(arm, runs)


main()
