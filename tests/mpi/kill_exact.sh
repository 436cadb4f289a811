#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs tests/mpi/kill_exact.c through its scenarios.  Usage: kill_exact.sh MPIEXEC PROGRAM [REPETITIONS]
set -u
# shellcheck source=tests/mpi/kill_lib.sh
. "$(dirname "$0")/kill_lib.sh"

ends fine 1 0
ends fine 4 0
if [ "$is_open_mpi" = yes ]; then
    for scenario in killed before stopped; do
        survives $scenario 2
        survives $scenario 4
    done
    survives two 4
    survives told 4
    survives woken 4
    for scenario in aside_killed aside_stopped aside_apart aside_late; do
        survives $scenario 4
    done
    # Without a control window, as between hosts: only pulses tell, and workers ask each other.
    export OMPI_MCA_osc_sm_backing_directory=/nonexistent
    for scenario in killed stopped woken aside_stopped aside_late; do
        survives $scenario 4
    done
else
    echo "SKIP: this MPI ends the job when a rank dies; the survivors' scenarios need Open MPI"
fi
echo "$n_failed failed"
[ "$n_failed" -eq 0 ]
