#!/bin/sh
# Counts a program with valgrind's cachegrind and with `proxima run --traffic`, on the same caches,
# and demands that misses of D1 and of the last level agree within 3 %.
# Usage: cachegrind.sh PROXIMA-COMMAND...; skips with the reason where valgrind is missing.
set -eu
command -v valgrind >/dev/null || { echo "skip: valgrind is not installed"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
programs=$("$@" build --programs)
[ -x "$programs/traffic" ] || programs=$(dirname "$programs")
# Two levels, as cachegrind has.
cat > "$dir/caches.toml" <<'TOML'
[caches]
l1 = { size = "32K", ways = 8 }
l3 = { size = "1M", ways = 16 }
TOML
failed=0
for kernel in read copy triad chase transpose; do
    valgrind --tool=cachegrind --cache-sim=yes --D1=32768,8,64 --LL=1048576,16,64 \
        --cachegrind-out-file=/dev/null "$programs/traffic" $kernel 0 0 4 4 2> "$dir/valgrind"
    "$@" run --topology one-node --quiet --traffic=caches,user --caches "$dir/caches.toml" \
        --json "$dir/counts.json" -- "$programs/traffic" $kernel 0 0 4 4 2> /dev/null
    python3 - "$kernel" "$dir/valgrind" "$dir/counts.json" <<'PYTHON' || failed=1
import json, re, sys
kernel, valgrind, counts = sys.argv[1:]
text = open(valgrind).read()
find = lambda name: int(re.search(name + r"\s*misses:\s*([\d,]+)", text)[1].replace(",", ""))
ends = json.load(open(counts))["ends"]["user"]
# Lookups beyond L1, and those that no cache answered.
ours = {"D1": sum(ends.values()) - ends["l1"], "LLd": ends["own_memory"] + ends["other_memory"]}
bad = False
for name, count in ours.items():
    theirs = find(name)
    off = abs(count - theirs) / theirs
    bad |= off > 0.03
    print(f"{'FAIL' if off > 0.03 else 'ok  '} {kernel:<10} {name:<4} "
          f"cachegrind {theirs:>10,} proxima {count:>10,} off by {off:.2%}")
sys.exit(bad)
PYTHON
done
exit $failed
