#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# report over real runs: page, CSV, JSON, figures; the same bytes twice; without gnuplot; bad folders; a run that was changed.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

cat >small.yaml <<EOF
model: {path: $sprout}
run: {steps: 4, checkpoint_every: 0, eval_every: 2, eval_rows: 40, samples: 1}
es: {population: 6, sigma: 0.015, alpha: 0.012, batch: 16}
task: {name: countdown, form: short}
measure: {drift_every: 2}
probes: [{task: calc, rows: 40, every: 2}, {task: rev, rows: 40, every: 2}]
EOF
for seed in 1 2; do
    status 0 sower run small.yaml --out es-$seed --set run.seed=$seed
    status 0 sower run small.yaml --out anchored-$seed --set run.seed=$seed --set es.anchor=l2 --set es.anchor_lambda=2
done

status 0 sower report es-1 es-2 anchored-1 anchored-2 -o page.html --csv all.csv --figures figures
cp out lines
has_gnuplot=$(command -v gnuplot)
[ -n "$has_gnuplot" ] || echo "SKIP: figures, no gnuplot"
python "report" "$has_gnuplot" <<'EOF'
import csv, json, os, sys
import xml.etree.ElementTree as tree
lines = [json.loads(line) for line in open("lines")]
groups = [d for d in lines if d["kind"] == "group"]
if [g["group"] for g in groups] != ["es", "es, anchor l2"] or any(g["seeds"] != 2 or g["step"] != 4 for g in groups):
    print("groups", [(g["group"], g["seeds"], g["step"]) for g in groups])
runs = [d for d in lines if d["kind"] == "run"]
if [d["run"] for d in runs] != ["es-1", "es-2", "anchored-1", "anchored-2"] or any(d["verdict"] != "VALID" for d in runs):
    print("runs", [(d["run"], d["verdict"], d["found"]) for d in runs])

# The numbers are those of the runs' own files.
rows = list(csv.DictReader(open("all.csv")))
for i, seed in enumerate((1, 2)):
    last = json.loads(open(f"es-{seed}/metrics.jsonl").readlines()[-1])
    got = {r["metric"]: float(r["value"]) for r in rows if r["run"] == f"es-{seed}" and r["step"] == "4"}
    prior = sum(p["accuracy"] for p in last["probes"]) / 2
    if got["target"] != last["eval"]["accuracy"] or got["norm"] != last["norm"] or abs(got["prior"] - prior) > 1e-15:
        print("csv of seed", seed, got["target"], got["norm"], got["prior"])
    tokens = sum(json.loads(line).get("tokens", 0) for line in open(f"es-{seed}/metrics.jsonl"))
    if got["total.tokens"] != tokens or runs[i]["tokens"]["mean"] != tokens:
        print("tokens of seed", seed, got["total.tokens"], tokens)
mean = sum(d["target"]["mean"] for d in runs[:2]) / 2
half = 12.706204736174698 * abs(runs[0]["target"]["mean"] - runs[1]["target"]["mean"]) / 2
if abs(groups[0]["target"]["mean"] - mean) > 1e-12 or abs(groups[0]["target"]["high"] - mean - half) > 1e-9:
    print("target", groups[0]["target"], mean, half)

page = open("page.html").read()
for words in ("All runs are VALID", "prefers-color-scheme:dark", "es, anchor l2", "@media print"):
    if words not in page:
        print("the page lacks", words)
for words in ("<script", "http://", "https://", " src="):
    if words in page:
        print("the page has", words)
if sys.argv[1]:
    for name in "plane prior-norm target-step prior-tokens target-flop prior-seconds probe-calc norm within-0 phases published-plane".split():
        if f'id="{name}"' not in page:
            print("no figure", name)
        tree.parse(f"figures/{name}.svg")
    if "es, anchor l2" not in open("figures/plane.svg").read() or "rgb(1," in open("figures/plane.svg").read().replace(" ", ""):
        print("figures/plane.svg has no legend, or colours that are none")
    at = 0
    while (at := page.find("<svg class=\"plot\"", at)) >= 0:
        end = page.index("</svg>", at) + 6
        tree.fromstring(page[at:end].replace("xlink:href", "href"))
        at = end
    if "rgb(" in page:
        print("a colour that is not the page's")
EOF
status 0 sower report es-1 es-2 anchored-1 anchored-2 -o again.html
cmp page.html again.html || fail "the same runs gave another page"
status 0 sower report es-1 es-2 --table
grep -q '^es  .* 2      4 ' out || fail "report --table: $(cat out)"

# Without gnuplot: tables only, a warning, status 0.
status 0 env PATH=/nonexistent "$SOWER_BIN" report es-1 -o bare.html
grep -q 'gnuplot is not installed' err || fail "without gnuplot: $(cat err)"
grep -q 'gnuplot is not installed' bare.html || fail "the page does not say that gnuplot is missing"
if grep -q 'class="plot"' bare.html; then fail "a figure without gnuplot"; fi

# The study's tables have the report's numbers.
skills="calc eval rev sort count"
cat >grpo.yaml <<EOF
method: grpo
model: {path: $sprout}
run: {steps: 2, checkpoint_every: 0, eval_every: 1, eval_rows: 20, samples: 1}
grpo: {group_size: 4, prompts_per_step: 8, minibatch: 8, learning_rate: 0.003}
task: {name: countdown, form: short}
measure: {drift_every: 1, kl_every: 1, kl_rows: 10}
probes:
$(for skill in $skills mc; do echo "  - {task: $skill, rows: 20, every: 1}"; done)
EOF
status 0 sower run grpo.yaml --out study/grpo-seed1
status 0 sower report study/grpo-seed1 -o study/page.html --csv study/all.csv
status 0 python3 "$source_folder/tools/study_table.py" study study/evaluations.csv
python "the study's tables" <<'EOF'
import csv
of = {"countdown": "target", "prior": "prior", "mc": "choice", "norm": "norm", "tokens": "total.tokens", "kl_target": "kl_exact.target", "kl_prior": "kl_exact.prior"}
rows = {(r["step"], r["metric"]): float(r["value"]) for r in csv.DictReader(open("study/all.csv"))}
table = list(csv.DictReader(open("study/evaluations.csv")))
if [r["step"] for r in table] != ["0", "1", "2"]:
    print("steps", [r["step"] for r in table])
for r in table:
    for key, metric in of.items():
        want = rows.get((r["step"], metric))
        if (want is None) != (r[key] == "") or (want is not None and abs(float(r[key]) - want) > 1e-5 * abs(want)):
            print(r["step"], key, r[key], "of", want)
EOF

# What was changed or is not there.
cp -r es-1 changed
sed -i '3s/0x1/0x2/' changed/ledger.jsonl
status 0 sower report changed es-2 -o changed.html
grep -q 'class="tag INVALID">INVALID</span> changed ' changed.html || fail "a changed ledger is not INVALID"
python "a changed ledger" <<'EOF'
import json
lines = [json.loads(line) for line in open("out")]
if (lines[0]["seeds"], lines[1]["verdict"]) != (1, "INVALID") or "ledger" not in lines[1]["found"]:
    print(lines[0]["seeds"], lines[1]["verdict"], lines[1]["found"])
EOF
refused 1 "expected the folder of a run" sower report es-1 no-such-run
refused 1 "expected the folder of a run" sower report "$sprout"
refused 2 "expected -o" sower report es-1 --figures figures
refused 1 "cannot" sower report es-1 -o no-such-folder/page.html
refused 2 "0 arguments" sower report
finish
