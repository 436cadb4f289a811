#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# plan, run, status, export, verify on a small run; verify refuses what was changed, and names the generation.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

cat >small.yaml <<EOF
model: {path: $sprout}
run: {seed: 3, steps: 3, checkpoint_every: 1, eval_every: 3, eval_rows: 40, samples: 2}
es: {population: 6, sigma: 0.015, alpha: 0.012, batch: 16, unit_tokens_min: 64, update_block: 16384}
task: {name: countdown, form: short}
probes: [{task: calc, rows: 40, every: 3}]
EOF

status 0 sower plan small.yaml --ranks 4 --threads 1
python "plan" <<'EOF'
import json
d = json.load(open("out"))
if d["parameters"] != 344736 or d["ranks"] != 4 or not d["fits"] or not 1e6 < d["node_bytes"] < 1e9 or d["eval_s"] <= 0:
    print(d)
EOF
for conf in "$source_folder"/conf/*.yaml "$source_folder"/conf/*/*.yaml; do
    for shape in llama3.2-1b qwen2.5-1.5b; do
        status 0 sower plan "$conf" --ranks 2 --set model.path="$source_folder/tests/fixtures/$shape"
    done
done
# The paper's GRPO on two nodes of two ranks: 40 bytes a weight and node, 18 a rank, and 8 sent for each of 7 gradients.
paper=("$source_folder/conf/countdown-qwen2.5-1.5b-grpo.yaml" --set model.path="$source_folder/tests/fixtures/qwen2.5-1.5b")
status 0 sower plan "${paper[@]}" --ranks 4 --threads 1 --set run.ranks_per_node=2
python "plan of GRPO" <<'EOF'
import json
d = json.load(open("out"))
n = d["parameters"]
node = sum(d[k + "_bytes"] for k in ("theta", "moments", "gradient", "totals", "code", "root", "measure"))
rank = sum(d[k + "_bytes"] for k in ("sums", "replica", "reference", "backward", "engine", "samples", "program"))
if (n, d["samples"], d["updates"], d["useful_ranks"], d["units"], d["gradient_units"]) != (1543714304, 6000, 7, 200, 40, 20):
    print(d)
if d["node_bytes"] != node + 2 * rank or node < 40 * n or rank < 18 * n or d["fits"] != (d["node_bytes"] <= d["available_bytes"]):
    print(d)
if abs(d["allreduce_bytes"] / (7 * 8 * n) - 1) > 0.001 or d["gradient_flops"] < 6 * n * 6000 * d["max_new_tokens"]:
    print(d)
EOF
status 0 sower plan "${paper[@]}" --ranks 4 --threads 1 --set run.ranks_per_node=2 --table
grep -q '6000 samples' out || fail "the table of a plan: $(cat out)"
status 0 sower plan "$source_folder/conf/sprout.yaml" --set model.path="$sprout" --table
grep -q '128 rows' out || fail "the table of a plan for sft: $(cat out)"
refused 2 "es.noise" sower plan small.yaml --set es.noise=loud

mkdir run # an empty folder is as good as none; nothing is written over
status 0 sower_mpi 2 run small.yaml --out run
python "run" <<'EOF'
import json
d = json.load(open("out"))
if d["state"] != "done" or d["verdict"] != "VALID" or [row["step"] for row in d["rows"]] != [0, 3] or len(d["samples"]) != 2:
    print(d)
EOF
refused 2 "exists already, expected a new or empty folder" sower run small.yaml --out run
status 0 sower status run
python "status" <<'EOF'
import json
d = json.load(open("out"))
if (d["state"], d["step"], d["steps"], d["task"], d["probes"]) != ("done", 3, 3, "countdown", ["calc"]):
    print(d)
EOF
status 0 sower status run --table
grep -q "^done: 3 of 3 steps, VALID" out || fail "status --table: $(head -n 1 out)"
cp -r run copy
sed -i 's/"done"/"resubmit"/' copy/status.json
status 75 sower status copy
sed -i 's/"resubmit"/"failed"/' copy/status.json
status 1 sower status copy
sed -i 's/"failed"/"running"/' copy/status.json
status 75 sower status copy # its process is not there any more
grep -q '"state": "died"' out || fail "status of a run that died: $(cat out)"
echo "elsewhere 1" >copy/lock # cannot be known
status 0 sower status copy

# A run at work is nobody else's; one whose root was killed goes on.
sower_mpi 1 run small.yaml --out live --set run.steps=100000 --set run.eval_every=0 >/dev/null 2>&1 &
for _ in $(seq 300); do
    [ ! -s live/metrics.jsonl ] || break
    sleep 0.1
done
status 0 sower status live
grep -q '"state": "running"' out || fail "status of a run at work: $(cat out)"
refused 2 "live/lock: is held by a run at work" sower_mpi 1 run small.yaml --out live --set run.steps=100000 --set run.eval_every=0 --resume
kill -KILL "$(cut -d' ' -f2 live/lock)"
wait
status 75 sower status live
steps=$(($(wc -l <live/ledger.jsonl) - 1))
status 0 sower_mpi 1 run small.yaml --out live --set run.steps=$((steps + 1)) --set run.eval_every=0 --resume
status 0 sower status live

# export: from a checkpoint, and from the base alone.
rm -rf bare && cp -r run bare && rm -r bare/checkpoints bare/final
for from in run bare; do
    for step in 2 3; do
        status 0 sower export $from --step $step -o $from-$step
        cmp $from-$step/model.safetensors run/checkpoints/step-0000000$step.safetensors || fail "export $from --step $step"
    done
done
diff -r run-3 run/final || fail "export of the last step is not final/"
status 0 sower export run --step 0 -o run-0
status 0 sower drift "$sprout" run-0
grep -q '"all": {"n": 344736, "norm": 0.0' out || fail "generation 0 is not the base"
status 0 sower export run --dtype bf16 -o run-bf16
[ "$(stat -c %s run-bf16/model.safetensors)" -lt 700000 ] || fail "bf16 is not half the size"
refused 2 "--step" sower export run --step 4 -o x
refused 1 "not empty" sower export run -o run-3

# verify accepts what is good, at any number of ranks.
status 0 sower verify run --members all
[ "$(cat out)" = '{"ok": true, "generations": 3, "members": 18, "first_wrong": null, "reason": ""}' ] || fail "verify: $(cat out)"
status 0 sower_mpi 3 verify run --members 2 --generations 2-3
[ "$(cat out)" = '{"ok": true, "generations": 3, "members": 2, "first_wrong": null, "reason": ""}' ] || fail "verify: $(cat out)"
refused 2 "expected --members" sower verify run --steps 2
refused 2 "--generations: 4, expected 1 to 3" sower verify run --generations 4
mv run moved && cp -r "$sprout" sprout
sed -i 's|path: .*sprout"\?$|path: /no/such/model|' moved/config.yaml
refused 1 "/no/such/model" sower verify moved
status 0 sower verify moved --set model.path=sprout --members 0
rm -r moved/config.yaml && mv moved run && cp bare/config.yaml run/

# wrong NAME GENERATION ARGUMENTS...: verify refuses `bad` and names the generation (null: none).
wrong() {
    local name=$1 generation=$2
    shift 2
    status 1 sower verify bad --members 0 "$@"
    grep -q "^{\"ok\": false, .*\"first_wrong\": $generation, " out || fail "$name: $(cat out err)"
    status 1 sower_mpi 2 verify bad --members 0 "$@"
}
bad() { rm -rf bad && cp -r run bad; }

bad && sed -i '3s/"0x1/"0x2/' bad/ledger.jsonl && wrong "a fitness" 2
bad && sed -i '4s/"digest": "./"digest": "g/' bad/ledger.jsonl && wrong "a digit of the last digest" 3
bad && sed -i '2s/"chain": /"chain":  /' bad/ledger.jsonl && wrong "a blank" 1
bad && sed -i '$s/}$/]/' bad/ledger.jsonl && wrong "the last character" 3
bad && sed -i '$d' bad/ledger.jsonl && wrong "a line less" 3
bad && sed -i '1s/"0.015"/"0.016"/' bad/ledger.jsonl && wrong "the header" 1
bad && sed -i 's/sigma: 0.015/sigma: 0.016/' bad/config.yaml && wrong "the configuration" null
bad && printf x | dd of=bad/checkpoints/step-00000002.safetensors bs=1 seek=99999 conv=notrunc status=none && wrong "a checkpoint" 2
bad && printf x | dd of=bad/final/model.safetensors bs=1 seek=99999 conv=notrunc status=none && wrong "the result" 3
bad && rm -r bad/final && wrong "no result" 3

# A forger who makes digests and chains anew is found out by evaluating again, and by nothing else.
bad && rm -r bad/checkpoints bad/final
"$SOWER_FORGE" bad/ledger.jsonl fitness 2 1 || fail "forge"
for _ in 1 2 3 4; do
    "$SOWER_BIN" verify bad --members 0 >out 2>/dev/null && break
    read -r generation digest < <(sed -n 's/.*generation \([0-9]*\): rebuilt weights have digest \([0-9a-f]*\).*/\1 \2/p' out)
    [ -n "${digest:-}" ] || break
    "$SOWER_FORGE" bad/ledger.jsonl digest "$generation" "$digest" || fail "forge"
done
status 0 sower export bad -o bad/final
status 0 sower verify bad --members 0
refused 1 "generation 2: member 1 evaluated again" sower verify bad --members all
grep -q '"ok": false, .*"first_wrong": 2, ' out || fail "a forged fitness: $(cat out)"
status 1 sower_mpi 2 verify bad --members all

# num_tokens goes on if the run was killed while generation 2 was measured; killed before its status was written nobody knows what it took.
for told in 2 1; do
    rm -rf killed && cp -r run killed && rm -r killed/final killed/checkpoints/*
    sed -i '4,$d' killed/ledger.jsonl
    sed -i '3,$d' killed/metrics.jsonl
    tokens=$(sed -n "$((told + 1))s/.*\"num_tokens\": \([0-9]*\),.*/\1/p" run/metrics.jsonl)
    echo "{\"state\": \"running\", \"step\": $told, \"steps\": 3, \"num_tokens\": $tokens}" >killed/status.json
    status 0 sower run small.yaml --out killed --resume
    cmp killed/ledger.jsonl run/ledger.jsonl || fail "another ledger after a kill"
    python "num_tokens, told of $told" "$told" <<'EOF'
import json, sys
want = [0]
for line in map(json.loads, open("run/metrics.jsonl").readlines()[1:]):
    want.append(want[-1] + line["tokens"])
got = [json.loads(line)["num_tokens"] for line in open("killed/metrics.jsonl")]
told = json.load(open("killed/status.json"))["num_tokens"]
if sys.argv[1] == "1":
    want[2:] = [None, None]
if got != want or told != want[-1] or want[1] == 0:
    print(got, told, want)
EOF
done
finish
