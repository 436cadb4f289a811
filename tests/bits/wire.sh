#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Scalars only: what the generations send through MPI is the same for two widths of one random model, and a unit with its
# result is at most 64 bytes.  Counted by a library of its own (tests/mpi/pmpi_count.c), on 3 pretended nodes.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/bits/lib.sh
. tests/bits/lib.sh
# shellcheck source=tools/packages.sh
. tools/packages.sh
openmpi_environment
config=tests/bits/wire.yaml
counter=$(realpath "$(dirname "$SOWER_BIN")")/libpmpi_count.so
[ -e "$counter" ] || { echo "$counter is not built"; exit 1; }

count() { # WIDTH
    "$SOWER_BIN" init -o "$scratch/model$1" --set shape.hidden_size="$1" --set shape.intermediate_size=$((2 * $1)) 2>"$scratch/init.log" ||
        { cat "$scratch/init.log"; fail "init"; return; }
    LD_PRELOAD=$counter SOWER_PMPI_OUT=$scratch/count$1 MPIRUN="$MPIRUN -x LD_PRELOAD -x SOWER_PMPI_OUT" \
        run_case "run$1" 3 --set model.path="$scratch/model$1" || fail "width $1: $(tail -n 3 "$scratch/run$1.log")"
    check_moves "$scratch/run$1/ledger.jsonl"
}
count 64
count 256
python3 - "$scratch/count64" "$scratch/count256" <<'PYTHON' || fail "see above"
import collections, json, sys

def load(prefix):
    ranks = [json.load(open(f"{prefix}.{r}")) for r in range(3)]
    star = collections.Counter()
    for r in ranks:
        trace = r["trace"]
        is_star = [t[0] in ("Isend", "Send") and t[2] < 32000 for t in trace]  # 32000: a sign of life, by the clock
        first, last = is_star.index(True), len(trace) - 1 - is_star[::-1].index(True)
        others = [t for t in trace[first:last] if t[0] not in ("Isend", "Send")]
        assert not others, f"rank {r['rank']}: a call other than a message between the first and the last: {others[:3]}"
        for t, counts in zip(trace, is_star):
            if counts:
                star[(r["rank"], t[1], t[2], t[3])] += 1
    return star

a, b = load(sys.argv[1]), load(sys.argv[2])
by_tag = collections.defaultdict(set)
for (rank, peer, tag, size), n in a.items():
    by_tag[tag].add(size)
for key in sorted(set(a) | set(b)):
    if a[key] != b[key]:
        print("differs:", key, a[key], b[key])
        sys.exit(1)
total = sum(n * key[3] for key, n in a.items())
print(f"{sum(a.values())} messages, {total} bytes, equal for both widths; sizes by tag: { {t: sorted(s) for t, s in by_tag.items()} }")
# A unit and its result: the two kinds that come in equal numbers, root to worker and back.
down = collections.Counter(); up = collections.Counter()
for (rank, peer, tag, size), n in a.items():
    (down if rank == 0 else up)[(tag, size)] += n
pairs = [(d, u) for d, n in down.items() for u, m in up.items() if n == m and n > 20]
assert pairs, (down, up)
assert min(d[1] + u[1] for d, u in pairs) <= 64, pairs
PYTHON
finish
