#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a run measures beside itself: by item against step 0, the likelihood of right answers; after a resume as without one, and
# without touching the run's bits.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

printf '{"prompt": "calc %s=", "answer": "%s"}\n' 1+1 2 90-39 51 7+8 15 50+60 110 >rows.jsonl
sed 's/}$/, "split": "test"}/' rows.jsonl >held_out.jsonl
cat >plain.yaml <<EOF
model: {path: $sprout}
run: {seed: 3, steps: 4, checkpoint_every: 1, eval_every: 2, eval_rows: 70, samples: 0}
es: {population: 6, sigma: 0.02, alpha: 0.06, batch: 16, unit_tokens_min: 64, update_block: 16384}
task: {name: countdown, form: short}
EOF
cat >measured.yaml <<EOF
$(cat plain.yaml)
probes:
  - {task: eval, rows: 130, every: 2}
  - {task: mc, rows: 40, every: 4}
  - {task: jsonl, file: held_out.jsonl, rows: 4, every: 0}
EOF

status 0 sower_mpi 2 run measured.yaml --out whole
status 0 sower run measured.yaml --out parts --set run.steps=2
status 0 sower_mpi 3 run measured.yaml --out parts --resume
cmp -s whole/ledger.jsonl parts/ledger.jsonl || fail "the resumed run has another ledger"
status 0 sower_mpi 2 run plain.yaml --out plain --set run.eval_rows=0 --set measure.drift_every=0
cmp -s whole/ledger.jsonl plain/ledger.jsonl || fail "measuring changes the ledger"

# Evaluations and measures are no part of a step's operations and phases: one rank, whose report is never late.
for method in es grpo; do
    settings=(--set "method=$method" --set run.steps=3 --set run.checkpoint_every=0 --set grpo.prompts_per_step=4 --set grpo.group_size=4 --set grpo.minibatch=2)
    status 0 sower run measured.yaml --out $method-measured "${settings[@]}" --set measure.kl_rows=6 --set measure.kl_every=1 --set measure.drift_every=1
    status 0 sower run plain.yaml --out $method-plain "${settings[@]}" --set run.eval_rows=0 --set measure.drift_every=0
done
python "steps without their evaluations" <<'EOF'
import json
for method in ("es", "grpo"):
    measured, plain = [[json.loads(line) for line in open(f"{method}-{which}/metrics.jsonl")] for which in ("measured", "plain")]
    for a, b in list(zip(measured, plain))[1:]:
        if a["flops"] <= 0 or a["flops"] != b["flops"]:
            print(method, "step", a["step"], "has", a["flops"], "operations with evaluations and", b["flops"], "without")
    if not all(line["phases"]["measure"]["min"] > 0 for line in measured[1:]):
        print(method, "evaluations take no time:", [line["phases"]["measure"] for line in measured[1:]])
EOF

awk -F'"' '{printf "{\"context\": \"%s\", \"continuation\": \"%s\\n\"}\n", $4, $8}' rows.jsonl >pairs.jsonl
status 0 sower score "$sprout" --input pairs.jsonl
python "measures" <<'EOF'
import json
from math import comb
whole, parts, items, resumed, scores = [[json.loads(line) for line in open(name)] for name in
                               ("whole/metrics.jsonl", "parts/metrics.jsonl", "whole/items.jsonl", "parts/items.jsonl", "out")]
def evaluations(line):
    return [line.get("eval")] + line["probes"]
for a, b in zip(whole, parts):  # step 2 was the last one of the first part: there all probes were due
    if any(x is not None and x != y for x, y in zip(evaluations(a), evaluations(b))):
        print("step", a["step"], "differs after a resume")
for a, b in zip(items, resumed):
    if a["step"] != b["step"] or any(x is not None and x != y for x, y in zip(a["items"], b["items"])):
        print("items of step", a["step"], "differ after a resume")
first = items[0]["items"]
if [line["step"] for line in items] != [0, 2, 4] or [x and x["rows"] for x in first] != [70, 130, 40, 4]:
    print("items", [line["step"] for line in items], first)
changed = 0
for line in items:
    for was, now, said in zip(first, line["items"], evaluations(whole[line["step"]])):
        if (now is None) != (said is None):
            print("step", line["step"], now, said)
        if now is None:
            continue
        lost = sum(a == "1" and b == "0" for a, b in zip(was["right"], now["right"]))
        gained = sum(a == "0" and b == "1" for a, b in zip(was["right"], now["right"]))
        n, k = lost + gained, min(lost, gained)
        p = min(1, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)
        rows = said["rows"]
        changed += n
        wrong = [said["accuracy"] - now["right"].count("1") / rows, said["lost"] - lost / rows, said["gained"] - gained / rows,
                 said["mcnemar_p"] - p]
        if any(abs(x) > 1e-9 for x in wrong) or not said["answer_logprob"] < 0:
            print("step", line["step"], said, wrong)
if changed < 10:
    print("only", changed, "items changed: nothing was shown")
likelihood = whole[0]["probes"][2]
total, tokens = sum(s["logprob"] for s in scores), sum(s["tokens"] for s in scores)
if abs(likelihood["answer_logprob"] - total / 4) > 1e-6 or abs(likelihood["answer_token_logprob"] - total / tokens) > 1e-6:
    print("likelihood", likelihood, total / 4)
if whole[2]["probes"][1] is not None or whole[4]["probes"][2]["lost"] is None:
    print("probes that were not due", whole[2]["probes"])
EOF

# A probe whose rows are others than those of step 0 is compared with nothing, and the verdict says so.
cp -r parts moved && sed -i 's/steps: 4/steps: 6/' measured.yaml && printf '%s\n' '{"prompt": "calc 2+2=", "answer": "4", "split": "test"}' >>held_out.jsonl
sed -i 's/rows: 4,/rows: 5,/' measured.yaml
status 0 sower run measured.yaml --out moved --resume
python "moved rows" <<'EOF'
import json
last = [json.loads(line) for line in open("moved/metrics.jsonl")][-1]
if last["step"] != 6 or last["probes"][2]["lost"] is not None or last["probes"][2]["mcnemar_p"] is not None or last["probes"][0]["lost"] is None:
    print(last["probes"])
status = json.load(open("moved/status.json"))
if status["verdict"] != "INVALID" or "step 6: jsonl is missing" not in status["verdict_reasons"]:
    print(status)
EOF

# KL and spectra: in a run and between its ends the same, nothing of the run changes, and what is missing is told.
measured=(--set measure.kl_rows=30 --set measure.kl_every=2 --set measure.spectra=true)
sed -i -e 's/steps: 6/steps: 4/' -e '/jsonl/d' measured.yaml
status 0 sower_mpi 2 run measured.yaml --out more "${measured[@]}"
cmp -s whole/ledger.jsonl more/ledger.jsonl || fail "KL and spectra change the ledger"
status 0 sower_mpi 2 run measured.yaml --out beta "${measured[@]}" --set es.kl_beta=0.01 # whose base is there already
status 0 sower drift "$sprout" more/final --spectra --kl countdown,eval,mc --rows 30 --set task.form=short
python "KL and spectra" <<'EOF'
import json, math
kl, spectra, drift, beta = [[json.loads(line) for line in open(name)] for name in
                            ("more/kl.jsonl", "more/spectra.jsonl", "more/drift.jsonl", "beta/kl.jsonl")]
between = json.load(open("out"))
keys = ["kl_sampled", "kl_base", "kl_exact", "kl_exact_reverse", "sampled_length", "base_length"]
if [line["step"] for line in kl] != [2, 4] or [line["step"] for line in spectra] != [4] or len(beta) != 2:
    print("steps", kl, spectra)
for line in kl + beta:
    for item in [line["eval"]] + line["probes"]:
        if item["rows"] != 30 or any(not math.isfinite(item[key]) for key in keys) or not 0 < item["kl_exact"] < 10:
            print(line["step"], item)
for ours, theirs in zip([kl[1]["eval"]] + kl[1]["probes"], between["kl"]):
    if ours["task"] != theirs["task"] or any(abs(ours[key] - theirs[key]) > 1e-6 for key in keys):
        print("between the ends", ours, theirs)
if kl[0]["eval"]["kl_exact"] >= kl[1]["eval"]["kl_exact"]:
    print("KL does not rise", kl)
tensors = spectra[0]["tensors"]
if len(tensors) != 22 or tensors != between["spectra"]["tensors"]:
    print("spectra", len(tensors))
for name, s in tensors.items():
    if abs(s["norm"] - drift[-1]["tensors"][name]["norm"]) > 1e-5 * s["norm"] or s["rank"] != 1 or not 1 < s["stable_rank"] < 96:
        print(name, s)
if any(json.load(open(name + "/status.json"))["verdict"] != "VALID" for name in ("more", "beta")):
    print("not VALID")
EOF
status 0 sower drift "$sprout" more/final --table --spectra --kl eval
grep -q 'stable rank' out || fail "drift --table: $(tail -n 5 out)"
grep -q '^eval ' out || fail "drift --table: $(tail -n 2 out)"
status 0 sower drift "$sprout" more/final --table --spectra --tensors
grep -q '^model.layers.2.mlp.down_proj.weight .* %$' out || fail "drift --table --tensors"
refused 2 "no task" sower drift "$sprout" more/final --kl evl
refused 2 "task.file" sower drift "$sprout" more/final --kl jsonl
status 0 sower plan measured.yaml "${measured[@]}"
grep -q '"measure_bytes": [1-9]' out || fail "plan: $(cat out)"

# Rows of tokens teach and are judged like the texts they are of.
python "rows" <<'EOF'
import json
rows = [("calc 93+3=", "96"), ("calc 90-39=", "51"), ("rev qyrg=", "gryq"), ("sort 579032=", "023579"), ("cd 7 11 2 20=", "<7+2+11>")]
with open("ids.jsonl", "w") as ids, open("texts.jsonl", "w") as texts:
    for split in "train", "test":
        for prompt, answer in rows:
            line = {"ids": [ord(c) for c in prompt + answer + "\n"], "prompt_tokens": len(prompt), "split": split}
            print(json.dumps(line), file=ids)
            print(json.dumps({"prompt": prompt, "completion": answer, "split": split}), file=texts)
EOF
for form in ids texts; do
    cat >sft.yaml <<EOF
method: sft
model: {path: $sprout}
run: {seed: 3, steps: 3, eval_every: 1, eval_rows: 5}
sft: {batch: 4, learning_rate: 1e-3}
task: {name: jsonl, file: $form.jsonl}
measure: {kl_rows: 5}
EOF
    status 0 sower_mpi 2 run sft.yaml --out sft-$form
done
python "tokens and texts" <<'EOF'
import json
def read(name):
    return [json.loads(line) for line in open(name)]
for a, b in zip(read("sft-ids/metrics.jsonl"), read("sft-texts/metrics.jsonl")):
    same = ["accuracy", "lost", "gained", "answer_logprob", "answer_token_logprob"]
    if any(a["eval"][key] != b["eval"][key] for key in same) or a.get("loss") != b.get("loss"):
        print(a["eval"], b["eval"])
    if a["step"] == 0 and not 0 < a["eval"]["accuracy"] < 1:
        print("the base has all right or all wrong", a["eval"])
if [x.get("digest") for x in read("sft-ids/ledger.jsonl")[1:]] != [x.get("digest") for x in read("sft-texts/ledger.jsonl")[1:]]:
    print("other weights")
a, b = read("sft-ids/kl.jsonl")[0]["eval"], read("sft-texts/kl.jsonl")[0]["eval"]
if a != b or not a["kl_exact"] > 0:
    print(a, b)
EOF

# A row that does not fit the model is refused with its line before there is a folder, wherever it stands in its file.
too_wide() { # WORDS ARGUMENTS...
    local words=$1
    shift
    refused 1 "$words" sower_mpi 2 run "$@" --out wide
    [ ! -e wide ] || fail "$*: a refused run leaves a folder"
    rm -rf wide
}
sed -i '1s/"ids": \[99/"ids": [128/' ids.jsonl
sed -i 's/texts.jsonl/ids.jsonl/' sft.yaml
too_wide "ids.jsonl:1: token 128 is outside the model's vocabulary of 128" sft.yaml
too_wide "ids.jsonl:1: token 128 is outside" sft.yaml --set task.file=texts.jsonl --set 'probes=[{task: jsonl, file: ids.jsonl, split: train}]'
python "long rows" <<'EOF'
import json
def write(name, prompt, answer):
    with open(name, "w") as f:
        for i in range(1, 201):
            wide = i == 137
            print(json.dumps({"prompt": "calc %d+1=" % i + wide * prompt, "answer": "%d" % (i + 1) + wide * answer}), file=f)
write("long.jsonl", "", "7" * 250)
write("longer.jsonl", "7" * 250, "")
EOF
too_wide "long.jsonl:137: has 265 tokens, 11 of them the prompt's, expected at most 64" sft.yaml --set task.file=long.jsonl
too_wide "longer.jsonl:137: the prompt has 261 tokens, expected 1 to 63" sft.yaml --set task.file=longer.jsonl
for method in es grpo; do
    too_wide "longer.jsonl:137: the prompt has 261 tokens, expected 1 to 63" sft.yaml --set method=$method --set task.file=longer.jsonl
done
too_wide "ids.jsonl: has rows of ids" sft.yaml --set method=grpo
too_wide "task countdown, row 0: " sft.yaml --set task.file=texts.jsonl --set sft.mix=countdown/paper=1

# wrong_row WORDS ROW: a file whose second row is wrong is refused with its line, before there is a folder.
wrong_row() {
    { echo '{"prompt": "calc 1+2=", "completion": "3"}'; echo "$2"; } >bad.jsonl
    refused "${3:-1}" "bad.jsonl:2: $1" sower run sft.yaml --out refused --set task.file=bad.jsonl
    [ ! -e refused ] || fail "$2: a refused run leaves a folder"
    rm -rf refused
}
wrong_row "completion: is not right" '{"prompt": "calc 1+2=", "answer": "3", "completion": "so it is 3"}' 2
wrong_row "answer: is missing, expected one to compare with, or completion" '{"prompt": "calc 1+2="}'
wrong_row "prompt_tokens: " '{"ids": [1, 2, 3], "prompt_tokens": 0}'
wrong_row "prompt_tokens: " '{"ids": [1, 2, 3], "prompt_tokens": 3}'
wrong_row "prompt_tokens: " '{"ids": [1, 2, 3], "prompt_tokens": -1}'
wrong_row "prompt_tokens: " '{"ids": [1, 2, 3]}'
wrong_row "ids: " '{"ids": [1], "prompt_tokens": 1}'
wrong_row "ids: item 1 is no token" '{"ids": [1, -2, 3], "prompt_tokens": 1}'
wrong_row "ids: item 2 is no token" '{"ids": [1, 2, 3.5], "prompt_tokens": 1}'
wrong_row "ids: is given beside prompt" '{"ids": [1, 2, 3], "prompt_tokens": 1, "prompt": "calc 1+2="}'
wrong_row "completion: " '{"prompt": "calc 1+2=", "completion": 3}'

# Every key that a run writes has its row in docs/METRICS.md.
cat >grpo.yaml <<EOF
method: grpo
model: {path: $sprout}
run: {seed: 3, steps: 1, eval_rows: 5}
grpo: {group_size: 4, prompts_per_step: 4, minibatch: 4, learning_rate: 1e-4}
task: {name: countdown, form: short}
probes: [{task: calc, rows: 5}]
EOF
status 0 sower run grpo.yaml --out grpo
status 0 sower run grpo.yaml --out es --set method=es --set es.population=2 --set es.batch=4 --set es.kl_beta=0.01 --set es.retention=0.5 \
    --set es.evaluate_center=true "${measured[@]}"
python "keys" "$source_folder/docs/METRICS.md" <<'EOF'
import json, pathlib, re, sys
documented = {}
for line in open(sys.argv[1]):
    cells = line.split(" | ")
    if line.startswith("| ") and ".json" in cells[0]:
        for key in re.findall("`([^`]+)`", cells[1]):
            documented.setdefault(cells[0][2:].split(":")[0], set()).add(key)
named = {"phases": None, "kinds": None, "tensors": None, "settings": None, "noise_correlation": None}  # their members are names
def keys(node, inside=None):
    if isinstance(node, dict):
        for key, value in node.items():
            if inside not in named:
                yield key
            yield from keys(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from keys(value)
seen = {}
for run in "more", "sft-ids", "grpo", "es":
    for path in pathlib.Path(run).glob("*.json*"):
        for line in path.read_text().splitlines():
            seen.setdefault(path.name, set()).update(keys(json.loads(line)))
if len(seen) != 9:
    print("files", sorted(seen))
for name in seen:
    for key in sorted(seen[name] - documented.get(name, set())):
        print(f"docs/METRICS.md lacks {key} of {name}")
    for key in sorted(documented.get(name, set()) - seen[name]):
        print(f"docs/METRICS.md has {key} of {name}, which no run wrote")
EOF
finish
