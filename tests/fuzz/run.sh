#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/fuzz/run.sh SECONDS [TARGET...] | --runs N [TARGET...]: fuzzes every target (fuzz_NAME.c), or those named.
#
# Builds them with clang's libFuzzer and sanitizers in build/fuzz, starts each from tests/fuzz/corpus/NAME, and runs it for
# SECONDS, or N inputs; as many targets at once as there are cores.  Exit 1 if any found something: the input lies in
# build/fuzz/findings.  New inputs that reach new code are put, minimised, into build/fuzz/min/NAME beside the kept ones; those
# worth keeping are copied by hand to the corpus.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/fuzz

usage() {
    echo "usage: tests/fuzz/run.sh SECONDS [TARGET...] | --runs N [TARGET...]" >&2
    exit 2
}

# One target: run, say what came out, minimise.
run_one() {
    local limit=$1 name=$2 corpus=tests/fuzz/corpus/$2 log=$build/log/$2.txt status=ok
    local new=$build/new/$name min=$build/min/$name dictionary=tests/fuzz/$name.dict args
    mkdir -p "$new" "$corpus"
    args=("$limit" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "-artifact_prefix=$build/findings/$name-")
    [ -f "$dictionary" ] && args+=("-dict=$dictionary")
    "$build/fuzz_$name" "${args[@]}" "$new" "$corpus" >"$log" 2>&1 || status=FAIL
    local runs cover
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cover=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 || true)
    echo "$status   $name: ${runs:-?} inputs, ${cover:-cov: ?}"
    if [ $status = FAIL ]; then
        tail -n 40 "$log" | sed 's/^/       /'
        return 1
    fi
    rm -rf "$min" && mkdir -p "$min"
    find "$corpus" -type f -exec cp -t "$min" {} +
    "$build/fuzz_$name" -merge=1 -timeout=10 -rss_limit_mb=2048 "$min" "$new" >>"$log" 2>&1
}

if [ "${1:-}" = --one ]; then
    shift
    run_one "$@"
    exit
fi

case ${1:-} in
--runs)
    [ $# -ge 2 ] || usage
    limit=-runs=$2
    shift 2
    ;;
*)
    [ $# -ge 1 ] || usage
    limit=-max_total_time=$1
    shift
    ;;
esac
[[ ${limit#*=} =~ ^[0-9]+$ ]] || usage

names=("$@")
if [ ${#names[@]} = 0 ]; then
    for file in tests/fuzz/fuzz_*.c; do
        name=${file##*/fuzz_}
        names+=("${name%.c}")
    done
fi
mkdir -p $build/findings $build/log
if ! { cmake -S . -B $build -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DSOW_FUZZ=ON -DSOW_TESTS=OFF &&
    cmake --build $build --parallel "$(nproc)" --target "${names[@]/#/fuzz_}"; } >$build/log/build.txt 2>&1; then
    echo "FAIL building the targets"
    tail -n 40 $build/log/build.txt
    exit 1
fi
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I NAME "$0" --one "$limit" NAME || exit 1
