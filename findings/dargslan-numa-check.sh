#!/bin/sh
# dargslan-numa-check 1.0.0 (PyPI), a "NUMA topology checker": it installs without a word and then
# cannot be started. A line near the top of its module is indented, which Python refuses before it
# runs any of it; a CI job that lets it decide whether a machine has NUMA gets exit code 1 always.
#
# Guessed before looking: it prints the nodes with their CPUs and memory, and exits with 0.
set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q dargslan-numa-check==1.0.0 || exit 77

code=0
"$dir/venv/bin/dargslan-numa-check" >"$dir/out" 2>&1 || code=$?
tail -2 "$dir/out"
echo "exit code $code"
[ "$code" -eq 1 ] && grep -q '^IndentationError: unexpected indent' "$dir/out"
