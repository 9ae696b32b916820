#!/bin/sh
# usage: avx_functions.sh PROGRAM
# Prints the functions of the linked program that hold AVX instructions outside the namespaces of the AVX kernels, and
# fails if there is one: a machine without AVX could run into it. Fails too if it finds no AVX kernel at all.
set -e
found=$(mktemp)
trap 'rm -f "$found"' EXIT
objdump -d --no-show-raw-insn "$1" | awk '
  /^[0-9a-f]+ <.*>:$/ { name = $2; next }
  $2 ~ /^v[a-z]/ || /%[yz]mm/ { if (name != last) print name; last = name }' | sort -u > "$found"
grep -q 3cpu4avx2 "$found" || { echo "no AVX kernel in $1"; exit 1; }
! grep -v -e 3cpu4avx2 -e 3cpu6avx512 -e 3cpu10avx512vnni -e 3cpu10avx512bf16 -e 3cpu3amx "$found"
