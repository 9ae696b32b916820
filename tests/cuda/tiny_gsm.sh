#!/bin/sh
# tiny_gsm.sh MXMLA DATA: the embedded model's accuracy on the GPU. 77: there is none.
set -eu
nvidia-smi -L >/dev/null 2>&1 || { echo "no GPU: skipped"; exit 77; }
json=$(mktemp)
trap 'rm -f "$json"' EXIT
"$1" eval tiny-gsm "$2" --device cuda --batch 64 --json "$json"
# The cpu backend solves 99.4% of them.
grep -o '"accuracy": [0-9.]*' "$json" | awk '{ print; exit !($2 >= 0.98) }'
