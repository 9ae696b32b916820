#!/usr/bin/env bash
# clang-format and clang-tidy over the sources; anything they find is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t sources < <(git ls-files 'src/*.cpp' 'app/*.cpp' 'tests/*.cpp' 'bench/*.cpp')
mapfile -t headers < <(git ls-files '*.h')
clang-format --dry-run --Werror "${sources[@]}" "${headers[@]}"
mapfile -t checked < <(git ls-files 'src/*.cpp' 'app/*.cpp')
# A folder of its own: clang cannot read the precompiled headers that gcc makes.
cmake --preset cpu -B build-lint -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON > /dev/null
printf '%s\n' "${checked[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build-lint --extra-arg=-Wno-unknown-warning-option
echo "lint: clean"
