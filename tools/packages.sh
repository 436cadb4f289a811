#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian packages that a job needs; sourced by jobs/quickstart.sh and tests/run.sh.
#
#   need_packages PACKAGE...   installs what is missing where this user may, else says what to install and ends with status 1

packages_build="cmake ninja-build gcc libc6-dev pkg-config openmpi-bin libopenmpi-dev libopenblas-dev liblapacke-dev libyaml-dev
    libjansson-dev libxxhash-dev libpcre2-dev libutf8proc-dev gnuplot-nox" # gnuplot: run by sower report
packages_test="$packages_build libcmocka-dev python3 git procps"
# shellcheck disable=SC2034 # used by the scripts that source this file
packages_full="$packages_test clang clang-format clang-tidy libclang-rt-dev libomp-dev mpich libmpich-dev valgrind codespell shellcheck yamllint
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static slurmctld slurmd slurm-client munge"

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# The daemons of packages (Slurm's) are not to be started, with systemd or without: a policy says so, for as long as apt-get runs.  One
# that is there already is left as it is.
# shellcheck disable=SC2016 # a script of its own, for sudo
install_without_daemons='
    policy=/usr/sbin/policy-rc.d
    trap "exit 130" INT TERM HUP
    if [ ! -e $policy ]; then
        trap "rm -f $policy" EXIT
        printf "#!/bin/sh\nexit 101\n" >$policy && chmod 755 $policy || exit 1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"'

need_packages() {
    local missing=() package sudo=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then
            sudo=(sudo -n)
        else
            echo "these packages are missing; install them first: apt-get install ${missing[*]}" >&2
            return 1
        fi
    fi
    echo "installing ${missing[*]}" >&2
    "${sudo[@]}" apt-get update -qq >&2 &&
        "${sudo[@]}" sh -c "$install_without_daemons" sh "${missing[@]}" >&2
}

# What Open MPI wants to be quiet and quick for root, on few cores and in a container.
openmpi_environment() {
    export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
    export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl=self,vader
    # Threads of more ranks than there are cores must not spin long against each other: gcc's runtime, clang's runtime.
    export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000} KMP_BLOCKTIME=${KMP_BLOCKTIME:-0}
    # Where this machine's own name is not known, Open MPI waits for a name server at each start: then not five seconds, but one.
    if ! timeout 1 getent hosts "$(uname -n)" >/dev/null; then
        export RES_OPTIONS=${RES_OPTIONS:-timeout:1 attempts:1}
    fi
    if [ "$(id -u)" -eq 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
}
