#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the drivers of programs in which ranks die have in common; sourced by kill_*.sh with MPIEXEC PROGRAM [REPETITIONS].
#
# Two kinds of runs.  `ends`: without recovery, mpiexec's exit status is the verdict (every MPI).  `survives`: ranks die and the others
# go on, which only Open MPI with --enable-recovery allows; its exit status tells nothing, a line "verdict: pass" does.
mpiexec=$1
program=$2
repetitions=${3:-1}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
n_failed=0
is_open_mpi=no
if "$mpiexec" --version 2>&1 | grep -q 'Open'; then
    # shellcheck disable=SC2034 # used by the scripts that source this file
    is_open_mpi=yes
fi

failed() {
    echo "FAIL $*"
    cat "$log"
    n_failed=$((n_failed + 1))
}

# ends SCENARIO RANKS STATUS[,STATUS]
ends() {
    timeout -k 5 30 "$mpiexec" -n "$2" "$program" "$1" >"$log" 2>&1
    local status=$?
    if [[ ,$3, == *,$status,* ]]; then echo "ok   $1 at $2 ranks: status $status"; else failed "$1 at $2 ranks: status $status, expected $3"; fi
}

# survives SCENARIO RANKS [MPIEXEC FLAG...]
survives() {
    local scenario=$1 ranks=$2 begun=$SECONDS i
    shift 2
    for ((i = 0; i < repetitions; i++)); do
        timeout -k 5 40 "$mpiexec" --enable-recovery "$@" -n "$ranks" "$program" "$scenario" >"$log" 2>&1
        local status=$?
        if [ $status -ge 124 ]; then
            failed "$scenario at $ranks ranks: it hung, status $status"
            return
        fi
        if ! grep -q '^verdict: pass' "$log" || grep -q -e FAILED -e 'Alarm clock' "$log"; then
            failed "$scenario at $ranks ranks"
            return
        fi
    done
    echo "ok   $scenario at $ranks ranks, $repetitions times in $((SECONDS - begun)) s $*"
}
