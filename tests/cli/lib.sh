#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For the tests of the command line; sourced.  SOWER_BIN is the program, SOWER_FORGE the one of forge.c, MPIEXEC that of the build.
#
# shellcheck disable=SC2034 # variables are for the scripts that source this file
#
# A test says what went wrong with `fail` and goes on; its end is `finish`.  SKIP lines say what needs ../shared.
set -u
source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
shared=$source_folder/../shared
sprout=$source_folder/models/sprout
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sower-cli-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
n_failed=0
: "${SOWER_BIN:?is not set, expected the path of the program}"
: "${MPIEXEC:=mpiexec}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# shellcheck source=tools/packages.sh
. "$source_folder/tools/packages.sh"
openmpi_environment
cd "$scratch" || exit 1

fail() {
    echo "FAILED: $*" >&2
    n_failed=$((n_failed + 1))
}

finish() {
    [ "$n_failed" -eq 0 ] || { echo "$n_failed failed" >&2; exit 1; }
    exit 0
}

sower() { "$SOWER_BIN" "$@"; }
sower_mpi() { "$MPIEXEC" -n "$1" "$SOWER_BIN" "${@:2}"; }

# status WANT COMMAND...: the exit status must be WANT; stdout goes to `out`, stderr to `err`.
status() {
    local want=$1 is=0
    shift
    "$@" >out 2>err || is=$?
    [ "$is" -eq "$want" ] || fail "$* ended with $is, expected $want: $(head -n 3 err)"
}

# refused WANT WORDS COMMAND...: the exit status must be WANT, and stderr one line of ours with these words (mpiexec adds its own).
refused() {
    local want=$1 words=$2
    shift 2
    status "$want" "$@"
    [ "$(grep -c '^error: ' err)" -eq 1 ] || fail "$*: $(grep -c '^error: ' err) lines of error, expected one: $(head -n 3 err)"
    grep -qF -- "$words" err || fail "$*: says '$(head -n 1 err)', expected '$words' in it"
}

# python NAME ARGUMENTS... <<EOF: a check in Python; what it prints is what is wrong.
python() {
    local name=$1 said
    shift
    said=$(python3 - "$@" 2>&1) || fail "$name: ended with an error: $said"
    [ -z "$said" ] || fail "$name: $said"
}
