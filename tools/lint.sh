#!/usr/bin/env bash
# clang-format and clang-tidy over the sources; anything they find is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files 'src/*.cpp' 'app/*.cpp' 'tests/*.cpp' 'bench/*.cpp')
mapfile -t headers < <(git ls-files '*.h')
clang-format --dry-run --Werror "${sources[@]}" "${headers[@]}"
mapfile -t checked < <(git ls-files 'src/*.cpp' 'app/*.cpp')
printf '%s\n' "${checked[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build --extra-arg=-Wno-unknown-warning-option
echo "lint: clean"
