#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The first command of the README in a fresh clone, and its result against the range of the recipe: at generation 100 held-out Countdown
# 41 to 55 %, prior skills 80 to 92 % (five seeds and sampling error).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone -q . "$clone/sower" || exit 1
start=$SECONDS
env -i PATH="$PATH" HOME="$clone" bash "$clone/sower/jobs/quickstart.sh" || exit 1
echo "quickstart took $((SECONDS - start)) s"
python3 - "$clone/sower/runs/quickstart/metrics.jsonl" <<'PYTHON'
import json, sys
last = [json.loads(l) for l in open(sys.argv[1])][-1]
target = last["eval"]["accuracy"]
prior = sum(p["accuracy"] for p in last["probes"]) / len(last["probes"])
print(f"generation {last['step']}: countdown {target:.3f}, prior {prior:.3f}, norm {last['norm']:.2f}, law {last['norm_law']:.2f}")
assert last["step"] == 100 and 0.41 <= target <= 0.55 and 0.80 <= prior <= 0.92
assert abs(last["norm"] / last["norm_law"] - 1) < 0.02
PYTHON
