#!/bin/sh
# Counts a badly placed program on four nodes, and looks at the page of it in headless Chromium.
# Usage: traffic-page.sh PROXIMA-COMMAND...; skips with the reason where Chromium is missing.
# SHOTS=DIR keeps pictures, to be looked at.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
programs=$("$@" build --programs)
[ -x "$programs/traffic" ] || programs=$(dirname "$programs")
"$@" run --topology ring-4 --quiet --caches small --flame "$dir/flame.svg" --report "$dir/page.html" --json "$dir/counts.json" \
    -- "$programs/traffic" bad 8 8 3 2> "$dir/table"
python3 "$(dirname "$0")/traffic-schema.py" "$dir/counts.json"
python3 "$(dirname "$0")/traffic-page.py" "$dir/page.html" "$dir/counts.json" ${SHOTS:+"$SHOTS"}
