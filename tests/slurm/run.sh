#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# jobs/es.slurm and jobs/study.slurm under a real Slurm, on three pretended nodes of this machine: what they start, stop
# and put back into the queue gives the bits of the same run under plain mpirun.  Status 77 where Slurm is not installed
# or this is not root.
#   tests/slurm/run.sh [PART...]    by default all parts
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/slurm/cluster.sh
. tests/slurm/cluster.sh
cluster_is_possible || exit 77
# shellcheck source=tests/bits/lib.sh
. tests/bits/lib.sh
# shellcheck source=tools/packages.sh
. tools/packages.sh
trap 'cluster_stop; rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP
unset "${!SLURM@}" "${!SBATCH@}"
openmpi_environment
SOWER_BIN=$(realpath "$SOWER_BIN")
export SOWER=$SOWER_BIN
config=tests/bits/bits.yaml
# Steps enough, and heavy enough, to be stopped in the middle.
longer=(--set run.steps=18 --set es.alpha=0.005 --set es.batch=100 --set run.checkpoint_every=7 --set run.deadline_s=3
    --set run.threads=1)
three=(--nodes=3 --ntasks-per-node=2)
pmix="srun --mpi=pmix"
unset MPIRUN # that of the jobs
job=''

submit() { # NAME SBATCH-OPTION... -- ARGUMENTS...: sets job; its output is $scratch/NAME.log
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    job=$(sbatch --parsable --time=20 --output="$scratch/$name.log" "${options[@]}" jobs/es.slurm $config "$scratch/$name" "${@:2}") ||
        fail "$name: sbatch"
}

job_field() { scontrol show job -o "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1; }

ends_as() { # NAME STATE RESTARTS
    cluster_wait 60 "$2" job_field "$job" JobState ||
        fail "$1: state $(job_field "$job" JobState), expected $2: $(log_end "$1")"
    [ "$(job_field "$job" Restarts)" = "$3" ] || fail "$1: $(job_field "$job" Restarts) restarts, expected $3"
}

log_end() { tail -n 5 "$scratch/$1.log"; } # NAME

n_lines() { # NAME: a header, and a line a step
    local n
    n=$(grep -c '' "$scratch/$1/ledger.jsonl" 2>/dev/null)
    echo "${n:-0}"
}

await_step() { # NAME N
    local end=$((SECONDS + 60))
    until [ "$(n_lines "$1")" -gt "$2" ]; do
        [ $SECONDS -lt $end ] || { fail "$1: no step $2: $(log_end "$1")" && return; }
        sleep 0.05
    done
}

# Back in the queue with a part of the steps done.  Slurm would wait two minutes; what is needed is that the first start
# has gone (its steps' folders have the names of the second's), and a second, in which the old credential ends.
comes_back() { # NAME
    cluster_wait 60 PENDING job_field "$job" JobState || fail "$1: is not back in the queue: $(log_end "$1")"
    [ "$(n_lines "$1")" -le 18 ] || fail "$1: was done before it was stopped"
    cluster_wait 30 "" cluster_steps || fail "$1: the first start's steps do not end"
    sleep 2
    scontrol update "JobId=$job" StartTime=now || fail "$1: StartTime"
}

state_is() { # NAME STATE
    grep -q "^{\"state\": \"$2\"" "$scratch/$1/status.json" || fail "$1: $(cut -c1-90 "$scratch/$1/status.json"), expected state $2"
}

done_same() { # NAME RESTARTS WORDS
    ends_as "$1" COMPLETED "$2"
    state_is "$1" "done"
    same "$1" reference
    n_variants=$((n_variants + 1))
    echo "equal : $3 ($SECONDS s)"
}

one_node() {
    submit one --ntasks=2 -- "${longer[@]}"
    done_same one 0 "2 ranks on one node"
}

stopped_and_resumed() { # NAME LAUNCHER
    MPIRUN=$2 submit "$1" "${three[@]}" -- "${longer[@]}"
    await_step "$1" 3
    scancel --signal=USR1 --batch "$job"
    comes_back "$1"
    state_is "$1" resubmit
    done_same "$1" 1 "6 ranks on 3 nodes by ${2:-mpirun}, SIGUSR1, back into the queue, resumed"
}

by_mpirun() { stopped_and_resumed mpirun ""; }
by_srun() { stopped_and_resumed srun "$pmix"; }

# Slurm puts the job back by itself; that the ranks were ended in the middle is all that the run knows.
node_lost() {
    submit node "${three[@]}" -- "${longer[@]}"
    await_step node 3
    scontrol update NodeName=n2 State=DOWN Reason=test
    comes_back node
    done_same node 1 "a node lost, resumed"
}

# A root that is lost takes the job with it: it goes back, as a step was made; a start that makes none does not.
root_lost() {
    MPIRUN=$pmix submit root --ntasks=2 -- "${longer[@]}" --set run.fault=0:decode:60:KILL
    await_step root 1
    comes_back root
    cluster_wait 60 1 job_field "$job" Restarts
    scancel "$job"
    MPIRUN=$pmix submit early --ntasks=2 -- "${longer[@]}" --set run.fault=0:decode:1:KILL
    ends_as early FAILED 0
    grep -q "made no step" "$scratch/early.log" ||
        fail "early: does not say that no step was made: $(log_end early)"
    echo "right : a lost root comes back, one that is lost at once does not ($SECONDS s)"
}

cancelled() {
    submit cancel --ntasks=2 -- "${longer[@]}"
    await_step cancel 3
    scancel "$job"
    ends_as cancel CANCELLED 0
    cluster_wait 20 "" squeue -h -j "$job"
    state_is cancel resubmit
    echo "right : scancel leaves a true status ($SECONDS s)"
}

# A start that is refused leaves the word of an earlier one: no reason to go back.
refused() {
    MPIRUN=$pmix submit cancel --ntasks=2 -- "${longer[@]}" --set es.sigma=1
    ends_as cancel FAILED 0
    grep -q "es.sigma: '1' is not what the run began with" "$scratch/cancel.log" ||
        fail "refused: $(log_end cancel)"
    echo "right : a refused start fails ($SECONDS s)"
}

study() {
    local want n
    job=$(ARMS="es-n64 es" SEEDS="1 2" OUT=$scratch/study SETTINGS="run.steps=1 run.eval_rows=2 task.rows=8 es.batch=2" \
        sbatch --parsable --array=1-4%1 --ntasks-per-node=2 --time=10 --output="$scratch/study-%a.log" jobs/study.slurm)
    cluster_wait 60 "" squeue -h -j "$job" || fail "study: still there: $(squeue -h -j "$job")"
    want="es-n64-seed2 es-seed1 es-seed2"
    [ "$(cd "$scratch/study" && printf '%s\n' * | xargs)" = "$want" ] || fail "study: $(ls "$scratch/study"), expected $want"
    for n in $want; do
        state_is "study/$n" "done"
        grep -q "\"run.seed\": \"${n##*seed}\"" "$scratch/study/$n/ledger.jsonl" || fail "study: $n has another seed"
    done
    for n in 1 2 3; do
        grep -q '^done: 1 of 1' "$scratch/study-$n.log" || fail "study: job $n: $(log_end "study-$n")"
    done
    grep -q "run 4 is not there, expected 0 to 3" "$scratch/study-4.log" ||
        fail "study: job 4: $(log_end study-4)"
    echo "right : an array of the study, arms and seeds by index ($SECONDS s)"
}

run_reference() {
    MPIRUN=mpirun run_case reference 3 "${longer[@]}" || { cat "$scratch/reference.log" && exit 1; }
    check_moves "$scratch/reference/ledger.jsonl"
}

slurmd -V
run_reference
# Nodes that share a host must not share its memory: between them there is TCP only.
export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo
mkdir "$scratch/cluster"
cluster_start "$scratch/cluster" 3 4 || exit 1
parts=("$@")
[ $# -gt 0 ] || parts=(one_node by_mpirun by_srun node_lost root_lost cancelled refused study)
for part in "${parts[@]}"; do $part || fail "$part"; done
finish
