#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs tests/mpi/kill_world.c through its scenarios.  Usage: kill_world.sh MPIEXEC PROGRAM [REPETITIONS]
set -u
# shellcheck source=tests/mpi/kill_lib.sh
. "$(dirname "$0")/kill_lib.sh"

# asked RANKS: SIGUSR1 to mpiexec reaches the ranks, which leave with 75
asked() {
    timeout -k 5 30 "$mpiexec" -n "$1" "$program" asked >"$log" 2>&1 &
    local pid=$!
    sleep 1.5
    kill -USR1 "$(pgrep -P $pid | head -n 1)"
    wait $pid
    local status=$?
    if [ $status -eq 75 ]; then echo "ok   asked at $1 ranks: status 75"; else failed "asked at $1 ranks: status $status, expected 75"; fi
}

for ranks in 1 4; do
    ends fine $ranks 0
    ends resubmit $ranks 75
    ends agreed $ranks 2
done
alone=3,9 # MPICH's mpiexec may report the signal by which it ended another rank instead of MPI_Abort's status
[ "$is_open_mpi" = yes ] && alone=3
ends alone 3 "$alone"
ends alone_sealed 3 "$alone"
asked 2

if [ "$is_open_mpi" = yes ]; then
    for scenario in killed answered crashed stopped mute; do
        survives $scenario 3
        survives $scenario 4
    done
    survives middle 3 --mca btl_vader_eager_limit 1024
    survives killed 4 --mca btl self,tcp
    survives middle 3 --mca btl self,tcp --mca btl_tcp_eager_limit 1024
    survives window 4
    survives threads 2
    survives root 3
    survives silent_root 3
    survives late 3
    survives late_killed 3
    survives end 3
    survives end_stopped 3
    survives idle 3
    # Without a control window, as between hosts: only pulses tell.
    export OMPI_MCA_osc_sm_backing_directory=/nonexistent
    for scenario in killed stopped mute idle silent_root root end; do
        survives $scenario 3
    done
else
    echo "SKIP: this MPI ends the job when a rank dies; the survivors' scenarios need Open MPI"
fi
echo "$n_failed failed"
[ "$n_failed" -eq 0 ]
