#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A private Slurm of pretended nodes on this machine, without systemd; sourced.  Its daemons listen on 127.0.0.1 only,
# write into one folder, and carry that folder's name in their environment, by which all they started is found again.
#
#   cluster_start FOLDER NODES CPUS   exports SLURM_CONF; 1 with the logs' ends if the nodes are not idle within 20 s
#   cluster_stop                      ends jobs, daemons, and what is left of them

cluster_pids=()

cluster_is_possible() { # says what is missing
    local program
    for program in munged slurmctld slurmd sbatch; do
        if ! command -v "$program" >/dev/null; then
            echo "SKIP: no $program (packages slurmctld, slurmd, slurm-client, munge)"
            return 77
        fi
    done
    [ "$(id -u)" -eq 0 ] || { echo "SKIP: slurmd wants to be root" && return 77; }
}

# Nodes with more processors than the machine has: Slurm is told to believe it.  Tasks are neither bound nor accounted,
# which needs no cgroups.
cluster_write_conf() { # NODES CPUS PORT
    cat >"$SLURM_CONF" <<CONF
ClusterName=sower
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$3
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$SOWER_CLUSTER/munge.socket
CredType=cred/munge
StateSaveLocation=$SOWER_CLUSTER/state
SlurmctldPidFile=$SOWER_CLUSTER/slurmctld.pid
SlurmctldLogFile=$SOWER_CLUSTER/slurmctld.log
SlurmdPidFile=$SOWER_CLUSTER/slurmd-%n.pid
SlurmdLogFile=$SOWER_CLUSTER/slurmd-%n.log
SlurmdSpoolDir=$SOWER_CLUSTER/spool-%n
TmpFS=$SOWER_CLUSTER/tmp-%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
KillWait=10
NodeName=n[1-$1] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$(($3 + 1))-$(($3 + $1))] CPUs=$2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n[1-$1] Default=YES MaxTime=60 State=UP
CONF
}

cluster_node() { # NAME: its daemon, as process of this shell
    mkdir -p "$SOWER_CLUSTER/spool-$1" "$SOWER_CLUSTER/tmp-$1"
    slurmd -D -f "$SLURM_CONF" -N "$1" >"$SOWER_CLUSTER/slurmd-$1.out" 2>&1 &
    cluster_pids+=($!)
}

cluster_wait() { # SECONDS WORDS COMMAND...: until the command prints the words
    local end=$((SECONDS + $1)) words=$2
    shift 2
    until [ "$("$@" 2>/dev/null)" = "$words" ]; do
        [ $SECONDS -lt "$end" ] || return 1
        sleep 0.1
    done
}

cluster_start() { # FOLDER NODES CPUS
    local port=$((20000 + RANDOM % 2000 * 5)) i
    SOWER_CLUSTER=$(realpath "$1")
    SLURM_CONF=$SOWER_CLUSTER/slurm.conf
    export SOWER_CLUSTER SLURM_CONF
    mkdir -p "$SOWER_CLUSTER/state"
    chmod 755 "$SOWER_CLUSTER"
    (umask 077 && head -c 256 /dev/urandom >"$SOWER_CLUSTER/munge.key")
    cluster_write_conf "$2" "$3" "$port"
    munged --foreground --force --key-file="$SOWER_CLUSTER/munge.key" --socket="$SOWER_CLUSTER/munge.socket" \
        --pid-file="$SOWER_CLUSTER/munged.pid" --log-file="$SOWER_CLUSTER/munged.log" --seed-file="$SOWER_CLUSTER/munge.seed" \
        --num-threads=2 >"$SOWER_CLUSTER/munged.out" 2>&1 &
    cluster_pids+=($!)
    until [ -S "$SOWER_CLUSTER/munge.socket" ]; do
        kill -0 "${cluster_pids[0]}" 2>/dev/null || break
        sleep 0.05
    done
    slurmctld -D -c -f "$SLURM_CONF" >"$SOWER_CLUSTER/slurmctld.out" 2>&1 &
    cluster_pids+=($!)
    for ((i = 1; i <= $2; i++)); do cluster_node "n$i"; done
    cluster_wait 20 "idle $2" sinfo -h -o "%T %D" && return 0
    tail -n 5 "$SOWER_CLUSTER"/*.log "$SOWER_CLUSTER"/*.out >&2
    return 1
}

# Processes that carry the folder's name, this shell excepted; slurmstepd writes over its environment, but holds files there.
cluster_left() {
    local file pid
    for file in /proc/[0-9]*/environ; do
        pid=${file#/proc/}
        pid=${pid%/environ}
        if [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ]; then continue; fi
        if grep -qzxF "SOWER_CLUSTER=$SOWER_CLUSTER" "$file" 2>/dev/null; then echo "$pid"; fi
    done
    cluster_steps
}

# The processes in which Slurm holds the steps of jobs.
cluster_steps() {
    local pid
    for pid in $(pgrep -x slurmstepd); do
        if readlink "/proc/$pid"/fd/* 2>/dev/null | grep -qF "$SOWER_CLUSTER/"; then echo "$pid"; fi
    done
}

cluster_stop() {
    [ ${#cluster_pids[@]} -gt 0 ] || return 0
    timeout 5 scancel --user=root 2>/dev/null
    cluster_wait 15 "" timeout 5 squeue -h
    kill "${cluster_pids[@]}" 2>/dev/null
    for _ in $(seq 50); do kill -0 "${cluster_pids[@]}" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "${cluster_pids[@]}" 2>/dev/null
    wait "${cluster_pids[@]}" 2>/dev/null
    cluster_pids=()
    # shellcheck disable=SC2046 # a list of numbers
    kill -KILL $(cluster_left) 2>/dev/null
    return 0
}
