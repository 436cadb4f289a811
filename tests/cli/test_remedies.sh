#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The remedies against forgetting and the control, as a run shows them: figures of metrics.jsonl fit together, weights outside of a
# mask keep their bits, a run goes on with --resume, a bad value is one line.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

cat >small.yaml <<EOF
model: {path: $sprout}
run: {seed: 3, steps: 4, checkpoint_every: 2, eval_every: 4, eval_rows: 20, samples: 0}
es: {population: 6, sigma: 0.03, alpha: 0.02, batch: 16, unit_tokens_min: 64, update_block: 16384}
task: {name: countdown, form: short, rows: 1000000}
EOF

# Fitness is the weighted mean of the task's reward and of retention, less beta times the divergence.
both=(--set es.kl_beta=0.3 --set es.retention=0.25 --set 'es.retention_tasks=calc,rev,sort')
status 0 sower_mpi 2 run small.yaml --out both "${both[@]}"
python "fitness" <<'EOF'
import json
for text in open("both/metrics.jsonl"):
    line = json.loads(text)
    if line["step"] == 0:
        continue
    want = 0.75 * line["reward"] + 0.25 * line["retention_reward"] - 0.3 * line["kl"]
    if abs(line["fitness"] - want) > 1e-6 or line["kl"] < 0.001 or not 0 < line["retention_accuracy"] <= 1:
        print(line["step"], line["fitness"], want, line["kl"], line["retention_accuracy"])
    if abs(line["retention_accuracy"] - line["retention_reward"]) > 1e-6:
        print("a skill's reward is not its accuracy")
ledger = [json.loads(text) for text in open("both/ledger.jsonl")]
settings = ledger[0]["settings"]
if (settings["es.kl_beta"], settings["es.retention"], settings["es.retention_tasks"]) != ("0.3", "0.25", "calc,rev,sort"):
    print(settings)
for line, text in zip(ledger[1:], list(open("both/metrics.jsonl"))[1:]):
    mean = sum(float.fromhex(f) for f in line["fitness"]) / 6
    if abs(mean - json.loads(text)["fitness"]) > 1e-9:
        print("the ledger holds another fitness")
EOF
status 0 sower verify both --members all
status 0 sower run small.yaml --out parts "${both[@]}" --set run.steps=2
status 0 sower_mpi 3 run small.yaml --out parts "${both[@]}" --resume
cmp both/ledger.jsonl parts/ledger.jsonl || fail "resume changes the ledger"
refused 2 "es.kl_beta" sower run small.yaml --out parts "${both[@]}" --set es.kl_beta=0.4 --resume

# Without them the line has no such keys, and reward is fitness.
status 0 sower run small.yaml --out plain --set run.steps=1
grep -q '"fitness"\|"kl"\|retention' plain/metrics.jsonl && fail "a plain run shows fitness apart"

# The second replica is in the plan.
status 0 sower plan small.yaml
cp out one
status 0 sower plan small.yaml --set es.kl_beta=0.1
python "plan" <<'EOF'
import json
one, two = json.load(open("one")), json.load(open("out"))
if one["reference_bytes"] != 0 or two["reference_bytes"] != one["replica_bytes"] or two["node_bytes"] - one["node_bytes"] != one["replica_bytes"]:
    print(one, two)
EOF

# Rewards do not count: two tasks, one walk.  Its norm is the law's.
walk=(--set es.shaping=random)
status 0 sower run small.yaml --out walk "${walk[@]}"
status 0 sower run small.yaml --out other "${walk[@]}" --set task.name=calc
cmp walk/final/model.safetensors other/final/model.safetensors || fail "a random walk depends on the task"
cmp -s walk/ledger.jsonl other/ledger.jsonl && fail "rewards are not measured"
python "norm of the walk" <<'EOF'
import json
for text in open("walk/metrics.jsonl"):
    line = json.loads(text)
    if line["step"] > 0 and abs(line["norm"] / line["norm_law"] - 1) > 0.02:
        print(line["norm"], line["norm_law"])
EOF

# What a mask leaves out keeps its bits; the rest moves.
status 0 sower run small.yaml --out still --set es.alpha=0 --set run.steps=1
cp still/checkpoints/step-00000001.safetensors base.safetensors
for mask in random smallest largest; do
    status 0 sower run small.yaml --out $mask "${walk[@]}" --set es.mask=$mask --set es.mask_density=0.1 --set 'es.tensors=!*norm*'
    python "mask $mask" $mask <<'EOF'
import array, json, struct, sys
def weights(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    for name, entry in sorted(json.loads(data[8:8 + n]).items()):
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            yield name, array.array("I", data[8 + n + first:8 + n + last])
base = dict(weights("base.safetensors"))
total = 0
for name, now in weights(sys.argv[1] + "/checkpoints/step-00000004.safetensors"):
    moved = sum(a != b for a, b in zip(base[name], now))
    total += moved
    want = 0 if "norm" in name else 0.1 * len(now)
    if not want * 0.9 - 30 < moved < want * 1.1 + 30 or want == 0 < moved:
        print(name, moved, want)
if total < 30000:
    print("only", total, "weights moved")
for text in open(sys.argv[1] + "/metrics.jsonl"):
    line = json.loads(text)
    if line["step"] > 0 and abs(line["norm"] / line["norm_law"] - 1) > 0.02:
        print(line["norm"], line["norm_law"])
EOF
    status 0 sower verify $mask --members 1
    status 0 sower export $mask --step 3 -o $mask-3
done

refused 2 "es.mask_density: 0 moves no weight" sower run small.yaml --out x --set es.mask=random --set es.mask_density=0
refused 2 "es.mask_density" sower run small.yaml --out x --set es.mask=largest --set es.mask_density=1e-8
refused 2 "es.retention: 0.01 of 16 rows are 0" sower run small.yaml --out x --set es.retention=0.01
refused 2 "revv is not (did you mean rev?)" sower run small.yaml --out x --set es.retention=0.5 --set es.retention_tasks=calc,revv
[ ! -e x ] || fail "a refused run leaves a folder"
finish
