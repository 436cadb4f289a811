#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The study: every arm of conf/study with five seeds, and the report that compares them.  What is done already is not run again, what
# was stopped goes on.
#
#   bash jobs/study.sh                     9 arms x 5 seeds on the laboratory model, no download
#   bash jobs/study.sh --smollm2           the same question on SmolLM2-135M-Instruct, fewer arms and seeds (hours)
#   ARMS="es grpo" SEEDS="1 2" OUT=runs/some bash jobs/study.sh
#   bash jobs/study.sh --list              one line "ARM SEED" per run, in order
#   bash jobs/study.sh --one N             run N of that list alone (0, 1, ...), for arrays of jobs: 0 done, 75 stopped in good order
#   bash jobs/study.sh --arguments N       what run N is: configuration, folder, --set KEY=VALUE..., a word a line (jobs/study.slurm)
#   bash jobs/study.sh --report            the report of what is there
#
# RANKS=N sets the number of ranks of each run (all cores); MPIRUN another launcher; SOWER a program that is built already;
# SETTINGS="run.steps=10 run.eval_rows=20" sets options of every run, to try it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/packages.sh
. tools/packages.sh
# shellcheck source=tools/fetch.sh
. tools/fetch.sh

folder=conf/study
is_report=0 is_list=0 one='' is_arguments=0
while [ $# -gt 0 ]; do
    case $1 in
    --smollm2) folder=conf/study-smollm2 ;;
    --list) is_list=1 ;;
    --report) is_report=1 ;;
    --one) one=${2:?--one N} && shift ;;
    --arguments) one=${2:?--arguments N} is_arguments=1 && shift ;;
    --help)
        sed -n '3,16s/^# \{0,1\}//p' "$0"
        exit
        ;;
    *)
        sed -n '3,16s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
    shift
done
if [ $folder = conf/study ]; then
    arms=${ARMS:-es es-l2 es-n64 es-random es-kl es-retention es-sparse grpo grpo-nokl}
    seeds=${SEEDS:-1 2 3 4 5}
    out=${OUT:-runs/study}
else
    arms=${ARMS:-es es-l2 es-random grpo}
    seeds=${SEEDS:-1 2}
    out=${OUT:-runs/study-smollm2}
fi
ranks=${RANKS:-$(nproc)}
mpirun=${MPIRUN:-mpirun}

list() { for seed in $seeds; do for arm in $arms; do echo "$arm $seed"; done; done; }

build() {
    [ -n "${SOWER:-}" ] && return 0
    # shellcheck disable=SC2086 # a list of packages
    need_packages $packages_build
    cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DSOW_TESTS=OFF >/dev/null
    cmake --build build/quickstart >/dev/null
    SOWER=build/quickstart/sower
}

state_of() { "$SOWER" status "$1" --json 2>/dev/null | grep -o '"state": "[a-z]*"' | head -n 1 | cut -d'"' -f4; }

find_words() { # ARM SEED: configuration, folder, settings
    local setting
    words=("$folder/$1.yaml" "$out/$1-seed$2" --set "run.seed=$2" --set run.threads=1)
    if grep -q 'rows: 1000000' "$folder/$1.yaml"; then words+=(--set "task.seed=$2"); fi # other prompts, too
    for setting in ${SETTINGS:-}; do words+=(--set "$setting"); done
}

run_one() { # ARM SEED
    local resume=() words run
    find_words "$@"
    run=${words[1]}
    [ "$(state_of "$run")" = "done" ] && return 0
    [ -e "$run" ] && resume=(--resume)
    echo "== $run" >&2
    # shellcheck disable=SC2086 # MPIRUN may carry options
    $mpirun -n "$ranks" "$SOWER" run "${words[0]}" --out "$run" "${words[@]:2}" "${resume[@]}" 2>&1 >/dev/null |
        grep -E 'error|warn|%' >&2 || true
    case $(state_of "$run") in
    done) return 0 ;;
    resubmit) exit 75 ;;
    *) exit 1 ;;
    esac
}

# The line of the list that --one or --arguments asks for.
pick() {
    local line
    line=$(list | sed -n "$((one + 1))p")
    [ -n "$line" ] || { echo "run $one is not there, expected 0 to $(($(list | wc -l) - 1))" >&2 && exit 2; }
    echo "$line"
}

report() {
    "$SOWER" report "$out"/*-seed* --output "$out/report.html" --csv "$out/report.csv" --figures "$out/figures"
    echo "the report lies in $out/report.html" >&2
}

if [ $is_list = 1 ]; then
    list
    exit
fi
picked=()
if [ -n "$one" ]; then
    line=$(pick)
    read -ra picked <<<"$line"
fi
if [ $is_arguments = 1 ]; then
    find_words "${picked[@]}"
    printf '%s\n' "${words[@]}"
    exit
fi
openmpi_environment
build
[ $folder = conf/study ] || fetch_smollm2
if [ -n "$one" ]; then
    run_one "${picked[@]}" </dev/null
    exit
fi
if [ $is_report = 0 ]; then
    while read -r arm seed; do
        run_one "$arm" "$seed" </dev/null
    done < <(list)
fi
report
