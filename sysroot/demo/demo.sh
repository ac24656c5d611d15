#!/bin/sh
# The demo, inside the guest: everything here is an unmodified Linux program.
set -e
say() { printf '\n== %s\n' "$*"; }

say "$(uname -sr): numactl --hardware"
numactl --hardware

say "numactl --membind=2: the node of each of 256 pages"
numactl --membind=2 demo pages

say "numactl --interleave=all: the same"
numactl --interleave=all demo pages

say "migratepages, from node 0 to node 3, while two threads write"
numactl --preferred=0 demo migrate 0 3

if [ -x /usr/bin/perf ]; then
    say "perf record: where the time of that went"
    perf record -g -o /tmp/demo.data numactl --preferred=0 demo migrate 0 3 >/dev/null
    perf report -n 8 -i /tmp/demo.data
    say "perf numa: who gets pages of which node (CPUs of node 0, memory of node 2)"
    perf numa -n 4 numactl --cpunodebind=0 --membind=2 demo pages
fi
