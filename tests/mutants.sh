#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Can the tests of gradients fail?  Each line of the list is an error put into a copy of the sources; the contract and golden tests
# of gradients and losses must fail with it, and pass without.  One build a mutant, a minute and a half together.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tests=(test_family_contract test_loss_contract test_golden_gradients test_policy test_golden_adamw)

mutants() {
    cat <<'END'
sign of the inner products in the gradient of RMSNorm|src/la/backward_isa.c|fused(-x\[i\], c, g)|fused(x[i], c, g)
sign of SiLU's second term|src/la/backward_isa.c|fused(g, 1.0f - q, 1.0f)|fused(-g, 1.0f - q, 1.0f)
rotation forward instead of back|src/la/backward_isa.c|fused(a, cosine\[i\], b \* sine\[i\])|fused(a, cosine[i], -(b * sine[i]))
sign of the softmax at other tokens|src/la/backward_isa.c|(0.0f - exp_f32(l\[i\] - max) / sum)|(exp_f32(l[i] - max) / sum)
sign of the policy's surrogate|src/train/loss.c|const double value = -advantage|const double value = advantage
sign of the slope of k3|src/train/loss.c|value, 1 - ratio}|value, ratio - 1}
sign of the entropy bonus|src/train/loss.c|(-args->weight \* policy->entropy)|(args->weight * policy->entropy)
sign of AdamW's step|src/la/optimizer_isa.c|w - step_size \* (m|w + step_size * (m
END
}

build_and_test() { # LOG
    cmake --build "$scratch/build" --target "${tests[@]}" >"$1" 2>&1 || return 2
    ctest --test-dir "$scratch/build" --no-tests=error -R "contract\.(family|loss)|golden\.(golden_gradients|policy|golden_adamw)" >>"$1" 2>&1
}

git ls-files -z | xargs -0 cp --parents -t "$scratch" || exit 1
cmake -S "$scratch" -B "$scratch/build" -G Ninja -DCMAKE_BUILD_TYPE=Release >"$scratch/log" 2>&1 || exit 1
build_and_test "$scratch/log" || {
    tail -n 20 "$scratch/log" >&2
    echo "FAIL: the tests do not pass without a mutant"
    exit 1
}
n_failed=0
while IFS='|' read -r name file from to; do
    cp "$file" "$scratch/$file"
    sed -i "s|$from|$to|" "$scratch/$file"
    if cmp -s "$file" "$scratch/$file"; then
        echo "FAIL: $name: $file no longer has the line"
        n_failed=$((n_failed + 1))
        continue
    fi
    build_and_test "$scratch/log"
    case $? in
    0) echo "FAIL: $name: no test noticed" && n_failed=$((n_failed + 1)) ;;
    2) echo "FAIL: $name: does not build" && tail -n 5 "$scratch/log" && n_failed=$((n_failed + 1)) ;;
    *) echo "found: $name: $(grep -o '[a-z]*\.[a-z_]* (Failed)' "$scratch/log" | tr '\n' ' ')" ;;
    esac
    cp "$file" "$scratch/$file"
done < <(mutants)
echo "$(mutants | wc -l) mutants, $n_failed not found"
[ $n_failed = 0 ]
