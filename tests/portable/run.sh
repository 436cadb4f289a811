#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the kernels with every compiler that is here, for every instruction set, and checks that all give the same
# bits.  Objects go to FOLDER (default: a temporary one).
# usage: run.sh [FOLDER]
#
# No MPI and no other library is needed.  Another CPU is emulated by qemu-user.  What is not installed is skipped, with a
# line that says so.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${1:-}
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"

# As in cmake/flags.cmake and cmake/isa.cmake.
flags="-std=c17 -O3 -ffp-contract=off -fno-math-errno -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Wpedantic -Wshadow
       -Wconversion -Wdouble-promotion -Wundef -Werror -I$root/include -I$root/src/la"

march_of() { # CPU-instruction set
    case $1 in
    x86_64-plain) echo "-march=x86-64-v2" ;;
    x86_64-avx2) echo "-march=x86-64-v3" ;;
    x86_64-avx512) echo "-march=x86-64-v4 -mprefer-vector-width=512" ;;
    x86_64-avx512bf16) echo "-march=x86-64-v4 -mprefer-vector-width=512 -mavx512bf16" ;;
    aarch64-plain) echo "-march=armv8-a -DSOW_PLAIN=1" ;;
    aarch64-neon) echo "-march=armv8-a" ;;
    esac
}

build() { # name, compiler, CPU, link flags, instruction sets...
    name=$1 cc=$2 cpu=$3 link=$4
    shift 4
    objects=
    has=
    for isa in "$@"; do
        for source in "$root"/src/la/*_isa.c; do
            object=$folder/$name-$isa-$(basename "$source" .c).o
            # shellcheck disable=SC2046,SC2086 # lists of flags
            $cc $flags $(march_of "$cpu-$isa") -DSOW_ISA="$isa" -c "$source" -o "$object"
            objects="$objects $object"
        done
        has="$has -DSOW_HAS_$(echo "$isa" | tr '[:lower:]' '[:upper:]')=1"
    done
    # shellcheck disable=SC2086
    $cc $flags $has "$here/digest.c" $objects $link -o "$folder/digest-$name" -lm
}

: > "$folder/lines"
run() { # name, command...
    name=$1
    shift
    "$@" > "$folder/lines-$name"
    sed "s/^/$name /" "$folder/lines-$name" >> "$folder/lines"
}

if [ "$(uname -m)" = x86_64 ]; then
    for cc in gcc clang; do
        if command -v $cc > /dev/null; then
            build $cc $cc x86_64 "" plain avx2 avx512 avx512bf16
            run $cc "$folder/digest-$cc"
        else
            echo "SKIP: $cc is not installed"
        fi
    done
fi
if command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64-static > /dev/null; then
    build aarch64 aarch64-linux-gnu-gcc aarch64 -static plain neon
    run aarch64 qemu-aarch64-static "$folder/digest-aarch64"
elif [ "$(uname -m)" = aarch64 ]; then
    build aarch64 gcc aarch64 "" plain neon
    run aarch64 "$folder/digest-aarch64"
else
    echo "SKIP: aarch64 (needs gcc-aarch64-linux-gnu and qemu-user-static)"
fi

builds=$(wc -l < "$folder/lines")
if [ "$builds" -lt 2 ]; then
    echo "FAILED: fewer than two builds to compare"
    exit 1
fi
if [ "$(cut -d' ' -f3- "$folder/lines" | sed 's/^ *//' | sort -u | wc -l)" -ne 1 ]; then
    cat "$folder/lines"
    echo "FAILED: builds differ"
    exit 1
fi
cut -d' ' -f1,2 "$folder/lines"
echo "same bits in $builds builds"
