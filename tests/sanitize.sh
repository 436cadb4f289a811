#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Address and undefined-behaviour sanitizers over the unit, contract and mpi tests and one small run of each method, with MPICH (Open
# MPI's own leaks would drown the report).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
export ASAN_OPTIONS=fast_unwind_on_malloc=0:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
cmake --preset asan -G Ninja -DSOW_MPIEXEC_FLAGS= >/dev/null && cmake --build build/asan || exit 1
ctest --test-dir build/asan --output-on-failure --no-tests=error -j 2 -L "unit|contract|fuzz|mpi" -LE "long|full|kill" || exit 1
for method in es grpo sft; do
    config=tests/bits/bits-$method.yaml verify=(--steps 1)
    [ $method = es ] && config=tests/bits/bits.yaml verify=(--members 2)
    rm -rf build/asan/run
    mpiexec.mpich -n 2 build/asan/sower run "$config" --out build/asan/run --set run.steps=2 --set run.threads=1 || exit 1
    build/asan/sower verify build/asan/run "${verify[@]}" || exit 1
done
