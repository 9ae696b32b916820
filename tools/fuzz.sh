#!/usr/bin/env bash
# Runs every fuzz target of a build folder for a number of seconds each, over a copy of the kept corpus.
#   tools/fuzz.sh BUILD_FOLDER SECONDS
set -euo pipefail
build=$1
seconds=$2
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for target in safetensors writer gguf json template tokenizer http requests tool_calls schema; do
  if [[ $target == schema && ! -x "$build/tests/fuzz/fuzz_schema" ]]; then
    echo "== fuzz_schema: skipped, this build has no xgrammar (tools/xgrammar.sh)"
    continue
  fi
  corpus=$target
  [[ $target == writer ]] && corpus=safetensors  # what it writes was read
  cp -r "$root/tests/fuzz/corpus/$corpus" "$work/$target"
  echo "== fuzz_$target, $seconds s"
  options=()
  [[ $target == schema ]] && options=(-dict="$root/tests/fuzz/schema.dict" -max_len=4096)
  "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$build/" -print_final_stats=1 "${options[@]}" "$work/$target" 2>&1 | tail -n 12
done
