#!/bin/sh
# usage: weak_symbols.sh BUILD/src/cpu/CMakeFiles
# Prints the weak symbols that the AVX objects define and the portable objects lack, and fails if there is one: the
# linker could keep such a function for code that must run without AVX (see CMakeLists.txt).
set -e
weak() { nm -o "$@" | awk '$(NF-1) ~ /^[WVu]$/ {print $NF}' | sort -u; }
portable=$(mktemp)
trap 'rm -f "$portable"' EXIT
weak "$1"/mxmla_cpu_portable.dir/*.o > "$portable"
extra=$(weak "$1"/mxmla_cpu_avx2.dir/*.o "$1"/mxmla_cpu_avx512.dir/*.o \
             "$1"/mxmla_cpu_avx512vnni.dir/*.o "$1"/mxmla_cpu_avx512bf16.dir/*.o \
             "$1"/mxmla_cpu_amx.dir/*.o |
        grep -v -e 3cpu4avx2 -e 3cpu6avx512 -e 3cpu10avx512vnni -e 3cpu10avx512bf16 -e 3cpu3amx |
        comm -13 "$portable" -)
[ -z "$extra" ] || { echo "$extra"; exit 1; }
