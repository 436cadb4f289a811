#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# grpo and sft on small runs: status, resume, export of a checkpoint, verify; verify refuses what was changed, and names the step; wrong
# options are refused in one line.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

common="
model: {path: $sprout}
run: {seed: 3, steps: 4, checkpoint_every: 2, eval_every: 2, eval_rows: 20, samples: 2}
es: {update_block: 16384}
task: {name: countdown, form: short}
probes: [{task: calc, rows: 10, every: 2}]"
echo "method: grpo
grpo: {group_size: 4, prompts_per_step: 4, minibatch: 2, learning_rate: 5e-4, kl: 0.01}$common" >grpo.yaml
echo "method: sft
sft: {batch: 6, learning_rate: 1e-3, mix: 'countdown/short=1, calc=2, lazy=1'}$common" >sft.yaml

# What metrics.jsonl must hold under a method.
check_metrics() { # RUN KEY...
    python "metrics of $1" "$@" <<'EOF'
import json, math, sys
lines = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
if [l["step"] for l in lines] != [0, 1, 2, 3, 4]:
    print("steps", [l["step"] for l in lines])
for line in lines[1:]:
    for key in sys.argv[2:]:
        if not math.isfinite(line.get(key, math.nan)):
            print(f"step {line['step']}: {key} is {line.get(key)}")
    if not line["grad_norm"] > 0 or not line["norm"] > 0 or line["restarts"] != 0:
        print(line)
EOF
}

wrong() { # NAME STEP
    status 1 sower verify bad --steps 0
    grep -q "^{\"ok\": false, .*\"first_wrong\": $2, " out || fail "$1: $(cat out err)"
}
bad() { rm -rf bad && cp -r "$method" bad; }
flip() { printf '\x5a' | dd of="$1" bs=1 seek=200000 conv=notrunc status=none; }

for method in grpo sft; do
    status 0 sower_mpi 2 run $method.yaml --out $method
    grep -q '"state": "done", .*"verdict": "VALID"' out || fail "$method: $(cat out)"
    status 0 sower status $method --table
    grep -q '^done: 4 of 4' out || fail "$method: status: $(head -n 1 out)"
    status 0 sower verify $method
    [ "$(cat out)" = '{"ok": true, "steps": 4, "files": 3, "redone_from": 1, "redone": 2, "first_wrong": null, "reason": ""}' ] || fail "$method: verify: $(cat out)"
    status 0 sower_mpi 3 verify $method --steps 5 --generations 3
    grep -q '"ok": true, .*"redone": 2' out || fail "$method: verify from the checkpoint: $(cat out)"
    { grep -q "^step 3/4 again: .* units$" err && ! grep -q "steps/s" err; } || fail "$method: progress of verify: $(cat err)"
    status 0 sower export $method --step 2 -o $method-2
    cmp $method-2/model.safetensors $method/checkpoints/step-00000002.safetensors || fail "$method: export"
    refused 2 "has no checkpoint" sower export $method --step 3 -o x
    bad && sed -i '3s/"0x1/"0x2/;3s/"-0x1/"-0x2/' bad/ledger.jsonl && wrong "a value" 2
    bad && sed -i '4s/"moments": "./"moments": "g/' bad/ledger.jsonl && wrong "a digit of the moments' digest" 3
    bad && flip bad/checkpoints/step-00000002.safetensors && wrong "a weight of a checkpoint" 2
    bad && flip bad/checkpoints/step-00000002.exp_avg_sq.safetensors && wrong "a moment of a checkpoint" 2
    bad && flip bad/final/model.safetensors && wrong "a weight of the result" 4
    # A forger who makes the chain anew is found out by running steps again, and by nothing else.
    bad && "$SOWER_FORGE" bad/ledger.jsonl fitness 1 0
    status 0 sower verify bad --steps 0
    status 1 sower verify bad --steps 1
    grep -q '"first_wrong": 1, ' out || fail "$method: a forged value: $(cat out)"
    # Also off a checkpoint, and the last of all.
    bad && "$SOWER_FORGE" bad/ledger.jsonl fitness 4 0
    status 0 sower verify bad --steps 2
    for asked in "--steps 1 --generations 4" "--generations 4" "--generations 3-4" "--steps 2 --generations 3"; do
        # shellcheck disable=SC2086 # options
        status 1 sower verify bad $asked
        grep -q '"redone_from": 3, "redone": 1, "first_wrong": 4, ' out || fail "$method: a forged value, $asked: $(cat out)"
    done
    refused 2 "expected --steps" sower verify $method --members 2
    refused 2 "--generations: 5, expected 1 to 4" sower verify $method --generations 5
    # More steps of a run that is done; other settings are refused.
    status 0 sower_mpi 3 run $method.yaml --out $method --set run.steps=5 --resume
    refused 2 "adamw.beta1" sower run $method.yaml --out $method --set adamw.beta1=0.8 --resume
done
# As many checkpoints stay as run.checkpoints_keep says.
status 0 sower run sft.yaml --out kept --set run.checkpoint_every=1 --set run.checkpoints_keep=3 --set run.steps=5
[ "$(cd kept/checkpoints && echo step-*[0-9].safetensors)" = "step-00000003.safetensors step-00000004.safetensors step-00000005.safetensors" ] ||
    fail "checkpoints: $(ls kept/checkpoints)"
# OpenBLAS' sums depend on how much goes through at once: that stands in the header, and a run goes on with no other.
status 0 sower run sft.yaml --out blas --set la.backend=openblas --set run.steps=1
refused 2 "row_tokens: 64 is not what the run began with" sower run sft.yaml --out blas --set la.backend=openblas --set train.row_tokens=64 --resume
status 0 sower run sft.yaml --out blas --set la.backend=openblas --set run.steps=2 --resume
# Its products are of float32.
refused 2 "model.dtype: 'bf16-mixed' is not possible with la.backend openblas" sower run sft.yaml --out mixed --set la.backend=openblas --set model.dtype=bf16-mixed
[ ! -e mixed ] || fail "a refused run left its folder"
# In products of bf16: trained, verified; a file is of no such type.
status 0 sower_mpi 2 run grpo.yaml --out mixed --set model.dtype=bf16-mixed
check_metrics mixed kl reward importance_ratio/mean
status 0 sower verify mixed --steps 3
refused 2 "expected f32, fp16 or bf16" sower export mixed --dtype bf16-mixed -o mixed-export
# num_tokens adds up every step's prompts and completions, whether the run was stopped or not.
adds_up() { # RUN
    python "num_tokens of $1" "$1" <<'EOF'
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
took = [l["rollout_tokens"] + l["prompt_tokens"] if "rollout_tokens" in l else l.get("tokens", 0) for l in lines]
for i, line in enumerate(lines):
    if line["num_tokens"] != sum(took[: i + 1]) or (i > 0) != (took[i] > 0):
        print(line["step"], line["num_tokens"], took)
if json.load(open(sys.argv[1] + "/status.json"))["num_tokens"] != sum(took):
    print("status.json")
EOF
}
# A run as a kill would have left it after 3 steps; all of them are made again.
kill_after_3() { # RUN STEP-OF-STATUS LINES-OF-METRICS
    local tokens
    rm -rf killed && cp -r "$1" killed && rm -r killed/final killed/checkpoints/*
    tokens=$(sed -n "$(($2 + 1))s/.*\"num_tokens\": \([0-9]*\),.*/\1/p" killed/metrics.jsonl)
    sed -i '5,$d' killed/ledger.jsonl
    sed -i "$(($3 + 1)),\$d" killed/metrics.jsonl
    echo "{\"state\": \"running\", \"step\": $2, \"steps\": 5, \"num_tokens\": $tokens}" >killed/status.json
}
for method in grpo sft; do
    adds_up $method
    cut -d, -f1,2 $method/metrics.jsonl >want
    for state in "3 4" "3 3" "2 3"; do # killed after, while and before the third step was measured
        # shellcheck disable=SC2086 # two words
        kill_after_3 $method $state
        status 0 sower_mpi 2 run $method.yaml --out killed --set run.steps=5 --resume
        cut -d, -f1,2 killed/metrics.jsonl | cmp - want || fail "$method: num_tokens after a kill ($state): $(tail -n 1 killed/metrics.jsonl)"
        cmp killed/ledger.jsonl $method/ledger.jsonl || fail "$method: another ledger after a kill ($state)"
    done
done
sed -i '$d' sft/metrics.jsonl grpo/metrics.jsonl # of the fifth step
check_metrics grpo loss learning_rate reward reward_std frac_reward_zero_std accuracy kl entropy clip_ratio/low_mean clip_ratio/high_mean \
    clip_ratio/region_mean importance_ratio/mean completions/mean_length completions/clipped_ratio tokens flops
check_metrics sft loss learning_rate tokens targets flops

# One mini-batch a step: every ratio is 1, whatever groups are left out and in whose unit they were; of no tokens there is none.
for ranks in 1 3; do
    status 0 sower_mpi $ranks run grpo.yaml --out dropped$ranks --set grpo.minibatch=4 --set grpo.drop_zero_std=true
done
status 0 sower_mpi 2 run grpo.yaml --out masked --set grpo.mask_truncated=true --set generate.max_new_tokens=1
python "ratios" <<'EOF'
import json
def read(name):
    return [json.loads(line) for line in open(name + "/metrics.jsonl")][1:]
ratios = ["importance_ratio/" + what for what in ("mean", "min", "max")]
for line in read("dropped1") + read("dropped3"):
    if [line[key] for key in ratios] != [1, 1, 1]:
        print([line[key] for key in ratios])
if not any(0 < line["frac_reward_zero_std"] < 1 for line in read("dropped1")):
    print("no group was dropped beside others")
for line in read("masked"):
    if any(line[key] is not None for key in ratios + ["kl", "entropy", "clip_ratio/low_mean"]) or line["grad_norm"] != 0:
        print(line)
EOF

# Under a falling rate the length of the run belongs to its settings.
status 0 sower run sft.yaml --out falling --set sft.schedule=cosine --set run.steps=2
refused 2 "steps" sower run sft.yaml --out falling --set sft.schedule=cosine --set run.steps=3 --resume

refused 2 "grpo.loss" sower run grpo.yaml --out x --set grpo.loss=ppo
refused 2 "grpo.dual_clip" sower run grpo.yaml --out x --set grpo.dual_clip=0.5
refused 2 "sft.mix" sower run sft.yaml --out x --set sft.mix=calc
refused 2 "sft.mix" sower run sft.yaml --out x --set sft.mix=jsonl=1
refused 2 "sft.mix" sower run sft.yaml --out x --set sft.mix=calc=-1
# Whatever method runs; and keys of another are told of.
refused 2 "grpo.loss" sower run sft.yaml --out x --set grpo.loss=zzz
refused 2 "grpo.dual_clip" sower run sft.yaml --out x --set method=es --set grpo.dual_clip=0.5
refused 2 "sft.mix" sower run grpo.yaml --out x --set sft.mix=zzz
refused 2 "es.noise" sower run grpo.yaml --out x --set es.noise=loud
refused 2 "es.retention_tasks" sower run grpo.yaml --out x --set es.retention_tasks=clac
[ ! -e x ] || fail "a refused run left a folder"
status 0 sower plan grpo.yaml --set method=es
grep -qx "warning: grpo.group_size and 4 more keys: given, but without effect: method es runs" err || fail "keys of grpo: $(cat err)"
status 0 sower plan grpo.yaml --set sft.batch=3
grep -qx "warning: sft.batch: given, but without effect: method grpo runs" err || fail "a key of sft: $(cat err)"
status 0 sower plan grpo/config.yaml
! grep -q "without effect" err || fail "the configuration of a run is warned of: $(cat err)"
finish
