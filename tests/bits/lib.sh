#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Words shared by the tests that compare whole runs; sourced.  SOWER_BIN is the program; MPIRUN may name another launcher.
# shellcheck disable=SC2034 # variables are for the scripts that source this file

SOWER_BIN=${SOWER_BIN:-build/test/sower}
MPIRUN=${MPIRUN:-mpirun}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
n_bad=0

fail() {
    echo "FAILED: $*" >&2
    n_bad=$((n_bad + 1))
}

extra=() # arguments of all runs

# run_case NAME RANKS ARGUMENTS...: a run into $scratch/NAME; its log beside it
run_case() {
    local name=$1 ranks=$2
    shift 2
    # shellcheck disable=SC2086 # MPIRUN may carry options
    $MPIRUN -n "$ranks" "$SOWER_BIN" run "${config:?}" --out "$scratch/$name" "${extra[@]}" "$@" >"$scratch/$name.log" 2>&1
}

# Every line's fitnesses differ among members (of a method with gradients: the last value, their norm, is not 0), and every
# digest is new: else equal bits mean nothing.
check_moves() { # LEDGER
    awk -F'"' '
        NR == 1 { next }
        { differs = 0; first = ""; i = 6
          for (; $i ~ /^-?0x/; i += 2) { if (first == "") first = $i; else if ($i != first) differs = 1 }
          if ($4 == "values") differs = $(i - 2) != "0x0p+0"
          match($0, /"digest": "[0-9a-f]+"/); digest = substr($0, RSTART, RLENGTH)
          if (!differs) { print "generation " NR - 1 ": all members have the same fitness, or the gradient is 0"; bad = 1 }
          if (digest in seen) { print "generation " NR - 1 ": the digest did not change"; bad = 1 }
          seen[digest] = 1 }
        END { if (NR < 3) { print "too few generations"; bad = 1 } exit bad }' "$1" || fail "$1: this run does not move, it tests nothing"
}

# same NAME REFERENCE: ledgers, last checkpoints and final weights of two runs are equal byte for byte
same() {
    local file last
    for file in ledger.jsonl final/model.safetensors; do
        cmp -s "$scratch/$1/$file" "$scratch/$2/$file" || fail "$1: $file is not that of $2 (log: $(tail -n 3 "$scratch/$1.log" | tr '\n' ' '))"
    done
    last=$(cd "$scratch/$2/checkpoints" && printf '%s\n' step-*.safetensors | tail -n 1)
    cmp -s "$scratch/$1/checkpoints/$last" "$scratch/$2/checkpoints/$last" || fail "$1: checkpoint $last is not that of $2"
}

# A variant: runs, and is compared with the reference.
variant() { # REFERENCE RANKS ARGUMENTS...
    local reference=$1 name
    shift
    name=v$((++n_variants))
    if run_case "$name" "$@"; then
        same "$name" "$reference"
    else
        fail "$*: exit status $? (log: $(tail -n 3 "$scratch/$name.log" | tr '\n' ' '))"
    fi
    echo "$([ "$n_bad" -eq 0 ] && echo equal || echo '-----') : ranks $*"
    rm -rf "${scratch:?}/$name"
}
n_variants=0

# A CPU that says it has the instruction must have been found to multiply as the plain kernels do.
if grep -qw avx512_bf16 /proc/cpuinfo && ! "$SOWER_BIN" --version | grep -qw "^kernels:.* avx512bf16"; then
    fail "this processor has avx512_bf16, but the program does not offer its kernels"
fi
has_kernel() { "$SOWER_BIN" --version | grep -qw "^kernels:.* $1"; }

finish() {
    echo "$n_variants variants, $n_bad failures"
    [ "$n_bad" -eq 0 ]
}
