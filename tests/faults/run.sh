#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A lost worker costs time, nothing else.  Under Open MPI with recovery a worker killed in any phase leaves ledger and weights as
# they are without; where the whole job ends, --resume on another number of ranks gives the same bits.
#   tests/faults/run.sh quick    a kill in each phase, one resume
#   tests/faults/run.sh smollm2  the pretrained model alone
#   tests/faults/run.sh stopped  the stopped ranks of full alone
#   tests/faults/run.sh full     stopped ranks, stragglers, kills from outside at random moments, a pretrained model
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/bits/lib.sh
. tests/bits/lib.sh
# shellcheck source=tools/packages.sh
. tools/packages.sh
openmpi_environment
config=tests/bits/bits.yaml
common=(--set run.threads=1 --set run.deadline_s=2)
heavier=(--set run.steps=6 --set es.batch=400) # generations long enough to wake a rank within a given one
longer=(--set run.steps=40 --set es.alpha=0.005 --set run.checkpoint_every=7)
n_seen=0
plain_mpirun=$MPIRUN
recovering="$MPIRUN --enable-recovery"

state_of() { "$SOWER_BIN" status "$scratch/$1" --json | grep -o '"state": "[a-z]*"' | head -n 1 | cut -d'"' -f4; }

reference() {
    run_case reference 1 "${common[@]}" || { cat "$scratch/reference.log"; exit 1; }
    check_moves "$scratch/reference/ledger.jsonl"
}

# A fault inside: the run goes on and ends with the same bits, and the log names rank and phase.
fault() { # RANKS FAULT PHASE [ARGUMENTS...]
    local name=f$((++n_variants)) ranks=$1 fault=$2 phase=$3
    shift 3
    MPIRUN=$recovering run_case "$name" "$ranks" "${common[@]}" --set run.fault="$fault" "$@"
    [ "$(state_of "$name")" = "done" ] || fail "$fault: state is '$(state_of "$name")': $(tail -n 3 "$scratch/$name.log")"
    same "$name" reference
    grep -q "rank ${fault%%:*} .*phase $phase" "$scratch/$name.log" || fail "$fault: the log does not name rank and phase: $(grep -i 'rank' "$scratch/$name.log" | head -n 3)"
    echo "survived: $ranks ranks, $fault $*"
    rm -rf "${scratch:?}/$name"
}

each_phase() {
    for phase in perturb prefill decode grade send update idle; do
        fault 3 "1:$phase:2:KILL" $phase
    done
    fault 3 1:checkpoint:1:KILL checkpoint # the second is at the end, where nobody looks for it any more
    fault 4 2:update:1:KILL update --set run.ranks_per_node=2
    fault 3 1:decode:3:KILL decode --set run.ranks_per_node=1
    fault 3 2:update:2:KILL update --set es.update=replicated
}

# Methods with gradients: a worker lost anywhere; a whole (pretended) node lost with its sums and its moments.
gradient_phases() { # METHOD PHASE...
    config=tests/bits/bits-$1.yaml
    rm -rf "$scratch/reference"
    reference
    shift
    for phase in "$@"; do
        fault 3 "1:$phase:2:KILL" "$phase"
    done
    fault 3 1:checkpoint:1:KILL checkpoint
    fault 3 1:backward:3:KILL backward --set run.ranks_per_node=1
    fault 3 2:reduce:3:KILL reduce --set run.ranks_per_node=1
    fault 3 1:update:30:KILL update --set run.ranks_per_node=1
    fault 4 3:reduce:5:KILL reduce --set run.ranks_per_node=2
    resume 1:backward:3:KILL 2 3
    config=tests/bits/bits.yaml
}

# Without recovery the job ends; --resume gives the same bits.
resume() { # FAULT RANKS RANKS-AFTER
    local name=r$((++n_variants))
    MPIRUN=$plain_mpirun run_case "$name" "$2" "${common[@]}" --set run.fault="$1" && fail "$1: the job did not end"
    MPIRUN=$plain_mpirun run_case "$name" "$3" "${common[@]}" --resume || fail "$1: resume: $(tail -n 3 "$scratch/$name.log")"
    same "$name" reference
    echo "resumed: $1 on $2 ranks, then $3"
    rm -rf "${scratch:?}/$name"
}

# The remedies against forgetting: a worker that is lost with them.
remedies() {
    common+=(--set es.kl_beta=0.3 --set es.retention=0.5 --set es.mask=random --set es.mask_density=0.7)
    rm -rf "${scratch:?}/reference"
    reference
    fault 3 1:decode:4:KILL decode
    fault 3 1:update:2:KILL update
    resume 1:prefill:9:KILL 2 3
}

# A rank that is stopped and wakes up: it is passed over, or ended where it stands in the way.  The log tells so, in this order.
stopped() { # REFERENCE RANKS FAULT WAKE-AFTER-STEP STORY [ARGUMENTS...]
    local name=s$((++n_variants)) job pid end=$((SECONDS + 60)) reference=$1 ranks=$2 fault=$3 wake=$4 story=$5
    local ledger=$scratch/$name/ledger.jsonl
    shift 5
    MPIRUN=$recovering run_case "$name" "$ranks" "${common[@]}" "$@" --set run.fault="$fault" &
    job=$!
    while kill -0 $job 2>/dev/null; do
        if [ -e "$ledger" ] && [ "$(wc -l <"$ledger")" -gt "$wake" ]; then
            for pid in $(pgrep -f "out $scratch/$name "); do kill -CONT "$pid" 2>/dev/null; done
        fi
        [ $SECONDS -lt $end ] || for pid in $(pgrep -f "out $scratch/$name "); do kill -KILL "$pid" 2>/dev/null; done # it hangs
        sleep 0.01
    done
    wait $job
    [ "$(state_of "$name")" = "done" ] || fail "$fault: state is '$(state_of "$name")': $(tail -n 3 "$scratch/$name.log")"
    same "$name" "$reference"
    tr '\n' ' ' <"$scratch/$name.log" | grep -qE "$story" || fail "$fault: the log does not tell '$story': $(grep -E 'rank|anew' "$scratch/$name.log")"
    echo "passed over: $ranks ranks, $fault $*, woken after step $wake: $(grep -cE 'came again' "$scratch/$name.log") equal duplicates"
}

# Methods with gradients: on one node; a node of its own, which cannot catch up; a node whose leader wakes in a sum that was given up.
stopped_gradients() { # METHOD STEPS
    local of=$1-reference steps=(--set run.steps="$2")
    config=tests/bits/bits-$1.yaml
    run_case "$of" 1 "${common[@]}" "${steps[@]}"
    check_moves "$scratch/$of/ledger.jsonl"
    stopped "$of" 3 1:update:2:STOP 3 'rank 1 on \S+ (is ended: it does not finish|has been silent)' "${steps[@]}"
    stopped "$of" 3 1:backward:3:STOP 3 'rank 1 on .*silent .*phase backward.*begun anew.*rank 1 on \S+ is heard again' "${steps[@]}"
    stopped "$of" 3 1:update:30:STOP 3 'rank 1 on .*silent .*phase update.*going on without.*rank 1 on \S+ leaves: its node has no gradient' \
        "${steps[@]}" --set run.ranks_per_node=1
    stopped "$of" 3 2:reduce:3:STOP 3 'begun anew.*rank 2 on \S+ leaves: its node has no gradient' "${steps[@]}" --set run.ranks_per_node=1
    stopped "$of" 4 2:reduce:5:STOP 3 'begun anew.*rank 2 on \S+ (is ended: it is still at a gradient that was given up|is heard again)' \
        "${steps[@]}" --set run.ranks_per_node=2
    config=tests/bits/bits.yaml
}

straggler_compared() {
    grep -lq "came again" "$scratch"/s*.log || fail "no straggler's duplicate was compared"
}

all_stopped() {
    run_case reference6 1 "${common[@]}" "${heavier[@]}"
    check_moves "$scratch/reference6/ledger.jsonl"
    stopped reference6 3 1:update:1:STOP 3 'rank 1 on \S+ (is ended|has been silent)' "${heavier[@]}"
    stopped reference6 3 1:decode:3:STOP 2 'rank 1 on .*silent .*phase decode' "${heavier[@]}"
    stopped reference6 3 1:decode:3:STOP 2 'rank 1 on .*silent .*phase decode' "${heavier[@]}"
    stopped reference6 3 2:perturb:2:STOP 3 'rank 2 on .*silent .*phase perturb' "${heavier[@]}"
    straggler_compared
    stopped_gradients sft 12
    stopped_gradients grpo 8
}

# Waits until the ledger of the run in $scratch/NAME holds its header and N generations: from there on ranks may die.  (Before,
# MPI_Init of the others waits for a rank that will not come; the watchdog ends the job.)  Moments are counted in generations, not
# in seconds, so that they lie inside the run on every machine.
await_generation() { # NAME JOB N
    while kill -0 "$2" 2>/dev/null && [ "$(wc -l 2>/dev/null <"$scratch/$1/ledger.jsonl" || echo 0)" -le "$3" ]; do sleep 0.003; done
}

# A worker killed from outside at a random moment.
random_kill() { # RANKS GENERATION
    local name=k$((++n_variants)) job pid victim=$((1 + RANDOM % ($1 - 1)))
    MPIRUN=$recovering run_case "$name" "$1" "${common[@]}" "${longer[@]}" &
    job=$!
    await_generation "$name" $job "$2"
    sleep "0.0$((RANDOM % 30))" # somewhere in a generation
    pid=$(pgrep -f "$SOWER_BIN run $config --out $scratch/$name " | while read -r p; do
        tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$victim" && echo "$p"
    done | head -n 1)
    [ -n "$pid" ] && kill -KILL "$pid"
    wait $job
    [ "$(state_of "$name")" = "done" ] || fail "random kill: state is '$(state_of "$name")': $(tail -n 3 "$scratch/$name.log")"
    same "$name" reference40
    grep -q "lost rank" "$scratch/$name.log" && n_seen=$((n_seen + 1))
    echo "killed a worker of $1 after generation $2 (${pid:-none}): $(grep -o 'lost rank.*' "$scratch/$name.log" | head -n 1)"
    rm -rf "${scratch:?}/$name"
}

# The whole job killed at a random moment, resumed on another number of ranks.
random_job_kill() { # RANKS GENERATION RANKS-AFTER
    local name=j$((++n_variants)) job
    run_case "$name" "$1" "${common[@]}" "${longer[@]}" &
    job=$!
    await_generation "$name" $job "$2"
    sleep "0.0$((RANDOM % 30))" # somewhere in a generation
    pkill -KILL -f "out $scratch/$name " 2>/dev/null
    wait $job 2>/dev/null
    sleep 0.3
    if [ -d "$scratch/$name" ]; then
        run_case "$name" "$3" "${common[@]}" "${longer[@]}" --resume || fail "job killed after generation $2: resume: $(tail -n 3 "$scratch/$name.log")"
    else
        run_case "$name" "$3" "${common[@]}" "${longer[@]}" || fail "job killed before it began: $(tail -n 3 "$scratch/$name.log")"
    fi
    same "$name" reference40
    echo "killed the job of $1 ranks after generation $2, resumed on $3"
    rm -rf "${scratch:?}/$name"
}

pretrained() {
    local model=${SOWER_TEST_SMOLLM2:-models/downloads/SmolLM2-135M-Instruct.Q4_1.gguf}
    if [ ! -r "$model" ]; then
        echo "SKIP: no SmolLM2 (bash jobs/quickstart.sh --smollm2 fetches it, or SOWER_TEST_SMOLLM2 names it)"
        return
    fi
    config=conf/conciseness-smollm2.yaml
    common=(--set model.path="$model" --set run.steps=2 --set es.population=4 --set task.rows=4 --set run.eval_rows=2
        --set generate.max_new_tokens=8 --set run.checkpoint_every=0 --set es.unit_tokens_min=64 --set run.threads=1 --set run.deadline_s=10)
    rm -rf "$scratch/reference"
    reference
    fault 2 1:decode:2:KILL decode
    fault 2 1:update:2:KILL update
}

reference
case "${1:-quick}" in
quick)
    each_phase
    resume 1:decode:5:KILL 2 3
    resume 0:checkpoint:1:KILL 2 1
    remedies
    gradient_phases sft backward reduce update send idle
    gradient_phases grpo prefill decode grade backward reduce update send idle
    ;;
full)
    all_stopped
    run_case reference40 1 "${common[@]}" "${longer[@]}"
    check_moves "$scratch/reference40/ledger.jsonl"
    RANDOM=3
    for i in $(seq 20); do random_kill $((3 + i % 2)) $((RANDOM % 34)); done
    [ $n_seen -ge 15 ] || fail "only $n_seen of 20 kills hit a run at work"
    for i in $(seq 20); do random_job_kill $((1 + i % 3)) $((RANDOM % 38)) $((1 + (i + 1) % 3)); done
    pretrained
    ;;
stopped) all_stopped ;;
smollm2) pretrained ;;
esac
finish
