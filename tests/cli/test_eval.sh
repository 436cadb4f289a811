#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# eval and grade: the shipped model has the accuracies of its card, at any number of ranks; the grader says what was recorded.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

tasks=countdown,calc,eval,rev,sort,count
status 0 sower eval "$sprout" --task $tasks --set task.form=short --rows 500
python "accuracies" <<'EOF'
import json
rows = {}
for line in open("out"):
    d = json.loads(line)
    rows[d["task"]] = d
if list(rows) != "countdown calc eval rev sort count".split():
    print(list(rows))
for d in rows.values():
    if d["rows"] != 500 or not 0 <= d["low"] <= d["accuracy"] <= d["high"] <= 1 or d["tokens"] <= 500:
        print(d)
prior = sum(d["accuracy"] for name, d in rows.items() if name != "countdown") / 5
if not 0.14 <= rows["countdown"]["accuracy"] <= 0.26 or not 0.975 <= prior <= 0.993:
    print("countdown", rows["countdown"]["accuracy"], "prior", prior)
if abs(rows["countdown"]["reward"] - 0.1 - rows["countdown"]["accuracy"]) > 1e-6:
    print("the reward is not 0.1 format + answer", rows["countdown"])
EOF
mv out one.jsonl
for ranks in 2 3; do
    status 0 sower_mpi $ranks eval "$sprout" --task $tasks --set task.form=short --rows 500
    cmp -s out one.jsonl || fail "figures at $ranks ranks are not those of one: $(diff out one.jsonl | head -n 2)"
done
status 0 sower eval "$sprout" --task calc --rows 100 --set generate.batch=3 --set la.kernel=plain
mv out three.jsonl
status 0 sower eval "$sprout" --task calc --rows 100
cmp -s out three.jsonl || fail "figures depend on batch or kernel"

# Multiple choice by log-likelihood, and the habit.
status 0 sower eval "$sprout" --task mc,lazy --rows 500
python "mc and lazy" <<'EOF'
import json
rows = {d["task"]: d for d in map(json.loads, open("out"))}
if rows["mc"]["accuracy"] < 0.99 or rows["lazy"]["accuracy"] < 0.95:
    print(rows)
EOF
mv out one.jsonl
status 0 sower_mpi 3 eval "$sprout" --task mc,lazy --rows 500 --set generate.batch=5
cmp -s out one.jsonl || fail "mc at 3 ranks is not that of one: $(diff out one.jsonl | head -n 2)"

# Rows of a file: held-out rows where it has them, else all.
printf '%s\n' '{"prompt": "calc 1+1=", "answer": "2"}' '{"prompt": "calc 9-3=", "answer": "6"}' >train.jsonl
(cat train.jsonl && echo '{"prompt": "calc 2+2=", "answer": "5", "split": "test"}') >both.jsonl
status 0 sower eval "$sprout" --task jsonl --set task.file=train.jsonl
grep -q '"rows": 2, "accuracy": 1.0' out || fail "rows without a held-out one: $(cat out)"
status 0 sower eval "$sprout" --task jsonl --set task.file=both.jsonl
grep -q '"rows": 1, "accuracy": 0.0' out || fail "held-out rows: $(cat out)"
status 0 sower eval "$sprout" --task jsonl --set task.file=both.jsonl --set task.split=train
grep -q '"rows": 2, "accuracy": 1.0' out || fail "training rows: $(cat out)"
refused 2 "task.file" sower eval "$sprout" --task jsonl
refused 1 "no-such" sower eval "$sprout" --task jsonl --set task.file=no-such
refused 1 "is not there" sower_mpi 2 eval no-such-model --task calc

# The grader alone.
printf '%s\n' '{"numbers": [2, 3], "target": 5, "response": "so</think>\n<answer>2+3</answer>", "id": 7}' \
    '{"numbers": [2, 3], "target": 6, "response": "2+3", "extra": [1]}' >responses.jsonl
status 0 sower grade countdown --input responses.jsonl
[ "$(head -n 1 out)" = '{"id": 7, "reward": 1.1, "correct": true, "parts": {"format": 1.0, "answer": 1.0}}' ] || fail "grade: $(head -n 1 out)"
[ "$(sed -n 2p out)" = '{"reward": 0.0, "correct": false, "parts": {"format": 0.0, "answer": 0.0}}' ] || fail "grade: $(sed -n 2p out)"
refused 1 "responses.jsonl:1: target" sh -c "sed 's/target/goal/' responses.jsonl >x && mv x responses.jsonl && '$SOWER_BIN' grade countdown --input responses.jsonl"
if [ -d "$shared" ]; then
    status 0 sower grade countdown --input "$shared/grader_cases/countdown.jsonl"
    python "recorded grades" "$shared/grader_cases/countdown.jsonl" <<'EOF'
import json, sys
cases, grades = [[json.loads(line) for line in open(name)] for name in (sys.argv[1], "out")]
if len(cases) != len(grades):
    print(len(grades), "grades of", len(cases))
for i, (case, grade) in enumerate(zip(cases, grades)):
    parts = grade["parts"]
    if abs(parts["format"] - case["format"]) > 1e-12 or parts["answer"] != case["answer"] or grade["correct"] != (case["answer"] == 1):
        print(i + 1, case, grade)
EOF
else
    echo "SKIP: recorded grades, no ../shared"
fi
finish
