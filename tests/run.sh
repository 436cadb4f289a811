#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds with warnings as errors, and runs the tests.
#
#   bash tests/run.sh          gcc, Open MPI: unit, contract, golden, mpi, command-line and equal-bits tests (under 12 minutes on two cores)
#   bash tests/run.sh --full   also clang, MPICH, sanitizers, valgrind, fuzzing, aarch64, the whole fault matrix (under 35)
#
# It ends with one line per point of what is promised: PASS, FAIL, or SKIP with the reason, and with `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=tools/packages.sh
. tools/packages.sh

is_full=0
case "${1:-}" in
"") ;;
--full) is_full=1 ;;
*)
    echo "usage: bash tests/run.sh [--full]" >&2
    exit 2
    ;;
esac

results=()
n_passed=0 n_failed=0 n_skipped=0
log_folder=build/test-logs
mkdir -p "$log_folder"

note() {
    results+=("$1")
    case "$1" in
    PASS*) n_passed=$((n_passed + 1)) ;;
    FAIL*) n_failed=$((n_failed + 1)) ;;
    SKIP*) n_skipped=$((n_skipped + 1)) ;;
    esac
    printf '%s\n' "$1"
}

# step NAME COMMAND...: runs a part; status 77 is a skip whose reason is the last line printed.
step() {
    local name=$1 log status start=$SECONDS
    shift
    log=$log_folder/$(echo "$name" | tr -c 'a-zA-Z0-9\n' '-').log
    "$@" >"$log" 2>&1
    status=$?
    if [ $status -eq 0 ]; then
        note "PASS  $name ($((SECONDS - start)) s)"
        grep -h '^SKIP' "$log" | sort | uniq -c | sed 's/^ *\([0-9]*\) SKIP:* */      skipped inside (\1 x): /'
    elif [ $status -eq 77 ]; then
        note "SKIP  $name: $(tail -n 1 "$log" | sed 's/^SKIP: *//')"
    else
        note "FAIL  $name ($((SECONDS - start)) s): see $log"
        tail -n 40 "$log" | sed 's/^/    /'
    fi
    return $status
}

build() { # FOLDER CMAKE-ARGUMENTS...
    cmake -S . -B "$1" -G Ninja -DSOW_WERROR=ON "${@:2}" && cmake --build "$1"
}

run_ctest() { # FOLDER ARGUMENTS...
    ctest --test-dir "$1" --output-on-failure --no-tests=error -j 2 "${@:2}"
}

# shellcheck disable=SC2086 # lists of packages
if [ $is_full -eq 1 ]; then need_packages $packages_full; else need_packages $packages_test; fi || exit 1
openmpi_environment
export SOWER_BIN=$PWD/build/test/sower

flags=(-DCMAKE_BUILD_TYPE=Release "-DSOW_MPIEXEC_FLAGS=--oversubscribe")
if step "build with gcc, warnings as errors" build build/test "${flags[@]}"; then
    step "unit, contract, golden, mpi and command-line tests" run_ctest build/test -LE "long|full"
    step "2 equal bits" bash tests/bits/run.sh quick
    step "3 lost workers" bash tests/faults/run.sh quick
    step "8 scalars only" bash tests/bits/wire.sh
fi

if [ $is_full -eq 1 ]; then
    # The points that are tests within the first step, each by its name.
    step "4 models against recorded references" run_ctest build/test -R "golden\.golden_models|unit\.reference"
    step "5 tokenizers and graders, case by case" run_ctest build/test -R "golden\.(tokenizer|grader)"
    step "6 an update against its formula, noise" run_ctest build/test -R "unit\.(theta|noise_loops)|contract\.noise"
    step "7 verify and export" run_ctest build/test -R "cli\.(runs|gradients)"
    step "11 gradients, losses and AdamW against torch, TRL and verl" run_ctest build/test -R "golden\.(golden_adamw|golden_gradients|policy)|contract\.(family|loss)"
    step "11 errors put into gradients and losses are found" bash tests/mutants.sh
    step "12 measures, remedies, the report" run_ctest build/test -R "cli\.(measures|remedies|report)|unit\.(kl|spectrum|paired|report)"
    note "SKIP  13 sprout rebuilt byte for byte: bash jobs/sprout.sh --check (five minutes on two idle cores)"
    note "SKIP  14 the study: bash jobs/study.sh (45 runs, 40 minutes on two cores); what was found is docs/study"
    note "SKIP  9 speed: measured by sower bench, told in docs/PERFORMANCE.md, never asserted by a test"
    step "10 checks of the source" bash tools/check
    step "2 equal bits, the whole matrix" bash tests/bits/run.sh full
    step "2 equal digests on other compilers and processors" bash tests/portable/run.sh
    step "3 lost workers, the whole matrix" bash tests/faults/run.sh full
    step "Slurm: jobs/es.slurm and jobs/study.slurm on three pretended nodes" bash tests/slurm/run.sh
    step "10 sanitizers" bash tests/sanitize.sh
    step "10 valgrind" bash tests/valgrind.sh
    step "10 fuzzing, 30 s a target" bash tests/fuzz/run.sh 30
    step "1 quickstart" bash tests/quickstart.sh
fi

printf '\n'
printf '%s\n' "${results[@]}"
printf '\n%d passed, %d failed, %d skipped\n' $n_passed $n_failed $n_skipped
[ $n_failed -eq 0 ]
