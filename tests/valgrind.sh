#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Valgrind's memcheck over the unit tests of the layers that parse and copy: it sees what the sanitizers do not, reads of values that
# nobody wrote.  Kernels run as `plain`: valgrind knows no AVX-512.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
flags=(-DCMAKE_BUILD_TYPE=Debug -DSOW_WERROR=ON -DMPI_C_COMPILER=mpicc.mpich -DMPIEXEC_EXECUTABLE=/usr/bin/mpiexec.mpich)
tests=(test_base test_json test_conf test_ledger test_shaping test_safetensors test_gguf test_tokenizer test_tokenizer_errors test_task
    test_task_rows test_expression test_pattern test_chat)
cmake -S . -B build/valgrind -G Ninja "${flags[@]}" >/dev/null && cmake --build build/valgrind --target "${tests[@]}" || exit 1
n_bad=0
run() {
    valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --trace-children=no "build/valgrind/$1" \
        >"build/valgrind/$1.log" 2>&1
}
export -f run
printf '%s\n' "${tests[@]}" | xargs -P "$(nproc)" -I NAME bash -c 'if run NAME; then echo "clean: NAME"; else
    echo "FAILED: NAME"; tail -n 30 build/valgrind/NAME.log; exit 1; fi' || n_bad=1
[ $n_bad -eq 0 ]
