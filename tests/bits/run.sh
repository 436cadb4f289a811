#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One configuration and one seed give the same ledger and the same weights, byte for byte, however the run was laid out.
#   tests/bits/run.sh quick    the axes one by one, for each method
#   tests/bits/run.sh full     20 random combinations a method, clang, MPICH, a pretrained model
#   tests/bits/run.sh smollm2  the pretrained model alone
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/bits/lib.sh
. tests/bits/lib.sh
# shellcheck source=tools/packages.sh
. tools/packages.sh
openmpi_environment

use_method() { # NAME [ARGUMENTS OF ALL RUNS...]
    method=$1
    shift
    extra=("$@")
    case $method in
    es) config=tests/bits/bits.yaml ;;
    *) config=tests/bits/bits-$method.yaml ;;
    esac
    golden=tests/golden/ledger-$method-sprout.jsonl
    [ "${#extra[@]}" -eq 0 ] || golden=tests/golden/ledger-$method-mixed-sprout.jsonl
    rm -rf "$scratch/reference"
    reference
}

reference() {
    run_case reference 1 --set run.threads=1 || {
        cat "$scratch/reference.log" >&2
        fail "the reference run"
        finish
        exit 1
    }
    check_moves "$scratch/reference/ledger.jsonl"
}

# Yesterday's processor against today's.
against_golden() {
    cmp "$scratch/reference/ledger.jsonl" "$golden" || fail "the ledger is not the committed one: bits have changed (raise SOW_NUMERICS if meant)"
}

# What methods with gradients have beside.
gradient_axes() {
    local kernel
    variant reference 2 --set run.threads=1
    variant reference 3 --set run.threads=1
    variant reference 4 --set run.threads=1 --set run.ranks_per_node=2
    variant reference 3 --set run.threads=1 --set run.ranks_per_node=1
    variant reference 1 --set run.threads=2
    variant reference 2 --set run.threads=1 --set train.row_tokens=7 --set train.recompute=layer
    variant reference 1 --set train.row_tokens=64 --set train.recompute=none --set generate.batch=3
    variant reference 2 --set run.threads=1 --set es.schedule=static --set es.update_block=1048576
    for kernel in avx512bf16 avx512 avx2 plain; do has_kernel $kernel && variant reference 1 --set la.kernel=$kernel; done
    resumed reference 2 3
}

# Products of bf16: by the instruction where there is one, by others everywhere.
mixed_axes() {
    local kernel
    for kernel in avx512bf16 avx512 avx2 plain; do
        if has_kernel $kernel; then
            variant reference 1 --set la.kernel=$kernel --set run.threads=2
        else
            echo "SKIP: this processor has no $kernel"
        fi
    done
    variant reference 2 --set run.threads=1 --set train.row_tokens=7 --set train.recompute=layer --set generate.batch=3
    variant reference 3 --set run.threads=1 --set run.ranks_per_node=2 --set train.row_tokens=40
    if [ "$method" != es ]; then resumed reference 2 3; fi
}

# Ended while its second checkpoint is written, then resumed from the first on another number of ranks: the steps between are run
# again, and compared with the ledger.
resumed() { # REFERENCE RANKS RANKS-AFTER
    local name=v$((++n_variants)) n
    run_case "$name" "$2" --set run.threads=1 --set run.fault=0:checkpoint:2:KILL && fail "resume: the run did not end"
    n=$(wc -l <"$scratch/$name/ledger.jsonl")
    [ "$n" -gt 3 ] || fail "resume: ended with $n lines, before the second checkpoint"
    run_case "$name" "$3" --set run.threads=1 --resume || fail "resume: the second half: $(tail -n 2 "$scratch/$name.log")"
    same "$name" "$1"
    echo "equal : ended on $2 ranks after $((n - 1)) steps, resumed on $3"
    rm -rf "${scratch:?}/$name"
}

axes() {
    local kernel
    variant reference 2 --set run.threads=1
    variant reference 3 --set run.threads=1
    variant reference 4 --set run.threads=1
    variant reference 1 --set run.threads=2
    variant reference 2 --set run.threads=2
    for batch in 1 3 8; do variant reference 1 --set generate.batch=$batch; done
    variant reference 2 --set es.unit_tokens_min=1000000
    variant reference 3 --set es.schedule=static --set run.threads=1
    variant reference 2 --set es.update=replicated --set run.threads=1
    variant reference 3 --set run.ranks_per_node=1 --set run.threads=1
    variant reference 4 --set run.ranks_per_node=2 --set run.threads=1
    variant reference 2 --set es.update_block=1048576 --set run.threads=1
    for kernel in avx512bf16 avx512 avx2 plain; do
        if has_kernel $kernel; then
            variant reference 1 --set la.kernel=$kernel
        else
            echo "SKIP: this processor has no $kernel"
        fi
    done
}

# The remedies against forgetting and the control: another run, whose bits must not depend on its layout either.
remedy() { # NAME ARGUMENTS...
    local name=$1
    shift
    run_case "$name" 1 "$@" --set run.threads=1 || fail "$*: $(tail -n 2 "$scratch/$name.log")"
    check_moves "$scratch/$name/ledger.jsonl"
    variant "$name" 3 "$@" --set run.threads=1 --set run.ranks_per_node=2 --set generate.batch=5
    variant "$name" 2 "$@" --set run.threads=2 --set es.update=replicated --set es.unit_tokens_min=1000000
    "$SOWER_BIN" verify "$scratch/$name" --members all >"$scratch/verify.log" 2>&1 || fail "$name: verify: $(tail -n 2 "$scratch/verify.log")"
}

# Options of GRPO that the golden run leaves at their defaults; each must act somewhere, or equal bits say nothing of it.
weighed() {
    local options=(--set grpo.temperature=0.8 --set grpo.loss=grpo --set grpo.advantage_scale=batch --set grpo.advantage_ddof=0
        --set grpo.drop_zero_std=true --set grpo.mask_truncated=true --set grpo.dual_clip=1.05 --set grpo.group_size=6
        --set grpo.learning_rate=2e-3 --set generate.max_new_tokens=8)
    run_case weighed 1 "${options[@]}" --set run.threads=1 || fail "${options[*]}: $(tail -n 2 "$scratch/weighed.log")"
    check_moves "$scratch/weighed/ledger.jsonl"
    python3 - "$scratch/weighed/metrics.jsonl" <<'PYTHON' || fail "weighed: see above"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])][1:]
for key, most in ("frac_reward_zero_std", 1), ("completions/clipped_ratio", 1), ("clip_ratio/dual_mean", 1):
    if not any(0 < line[key] < most for line in lines):
        print(f"{key} is {[line[key] for line in lines]}")
        sys.exit(1)
PYTHON
    variant weighed 3 "${options[@]}" --set run.threads=1
    variant weighed 4 "${options[@]}" --set run.threads=1 --set run.ranks_per_node=2 --set train.row_tokens=7
    "$SOWER_BIN" verify "$scratch/weighed" --steps 4 >"$scratch/verify.log" 2>&1 || fail "weighed: verify: $(tail -n 2 "$scratch/verify.log")"
}

pick() { # from the words given, by the state of RANDOM
    local words=("$@")
    echo "${words[RANDOM % ${#words[@]}]}"
}

random_combinations() { # N SEED
    local i kernels=(plain)
    RANDOM=$2
    for kernel in avx2 avx512 avx512bf16; do has_kernel $kernel && kernels+=("$kernel"); done
    for ((i = 0; i < $1; i++)); do
        variant reference "$(pick 1 2 3 4)" --set run.threads="$(pick 1 2)" --set generate.batch="$(pick 1 2 3 5 8 32)" \
            --set es.schedule="$(pick dynamic static)" --set es.update="$(pick node replicated)" \
            --set run.ranks_per_node="$(pick 0 1 2)" --set es.update_block="$(pick 16384 32768 65536 1048576)" \
            --set es.unit_tokens_min="$(pick 1 64 150 400 100000)" --set la.kernel="$(pick "${kernels[@]}")" \
            --set train.row_tokens="$(pick 5 40 1024)" --set train.recompute="$(pick auto none layer)"
    done
}

build_other() { # NAME CMAKE-ARGUMENTS...
    local name=$1
    shift
    if ! { cmake -S . -B "build/$name" -G Ninja -DSOW_WERROR=ON -DSOW_TESTS=OFF "$@" && cmake --build "build/$name"; } \
        >"$scratch/$name.log" 2>&1; then
        tail "$scratch/$name.log"
        fail "the build with $name"
    fi
}

other_builds() {
    local mpich=build/mpich/sower
    build_other clang -DCMAKE_C_COMPILER=clang
    SOWER_BIN=build/clang/sower variant reference 2 --set run.threads=1
    build_other mpich -DMPI_C_COMPILER=mpicc.mpich -DMPIEXEC_EXECUTABLE=/usr/bin/mpiexec.mpich
    MPIRUN=mpiexec.mpich SOWER_BIN=$mpich variant reference 1 --set run.threads=2
    MPIRUN=mpiexec.mpich SOWER_BIN=$mpich variant reference 2 --set run.threads=1
    MPIRUN=mpiexec.mpich SOWER_BIN=$mpich variant reference 3 --set run.threads=1 --set run.ranks_per_node=2
}

pretrained() {
    local model=${SOWER_TEST_SMOLLM2:-models/downloads/SmolLM2-135M-Instruct.Q4_1.gguf}
    if [ ! -r "$model" ]; then
        echo "SKIP: no SmolLM2 (bash jobs/quickstart.sh --smollm2 fetches it, or SOWER_TEST_SMOLLM2 names it)"
        return
    fi
    config=conf/conciseness-smollm2.yaml
    local common=(--set model.path="$model" --set run.steps=2 --set es.population=3 --set task.rows=4 --set run.eval_rows=2
        --set generate.max_new_tokens=8 --set run.checkpoint_every=0 --set es.unit_tokens_min=64)
    run_case smollm2 1 "${common[@]}" --set run.threads=2 || fail "the reference run on SmolLM2: $(tail -n 2 "$scratch/smollm2.log")"
    check_moves "$scratch/smollm2/ledger.jsonl"
    variant smollm2 2 "${common[@]}" --set run.threads=1 --set generate.batch=3
    variant smollm2 3 "${common[@]}" --set run.threads=1 --set run.ranks_per_node=2 --set la.kernel=avx2
}

case "${1:-quick}" in
quick)
    use_method es
    against_golden
    axes
    random_combinations 3 1
    remedy walk --set es.shaping=random --set es.mask=random --set es.mask_density=0.3
    remedy kept --set es.kl_beta=0.3 --set es.retention=0.5 --set es.retention_tasks=calc,rev,count
    for name in sft grpo; do
        use_method $name
        against_golden
        gradient_axes
    done
    weighed # under grpo
    for name in es sft grpo; do
        use_method $name --set model.dtype=bf16-mixed
        against_golden
        mixed_axes
    done
    ;;
full)
    for name in es sft grpo; do
        use_method $name
        random_combinations 20 2
        other_builds
    done
    for name in es sft grpo; do
        use_method $name --set model.dtype=bf16-mixed
        random_combinations 7 3
    done
    use_method es
    remedy smallest --set es.mask=smallest --set es.mask_density=0.7 --set es.sigma=0.06 --set es.mirrored=true
    remedy largest --set es.mask=largest --set es.sigma=0.06 --set 'es.tensors=*proj*'
    pretrained
    ;;
smollm2) pretrained ;;
esac
finish
