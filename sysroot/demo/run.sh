#!/bin/sh
# `make run`: builds the demo's programs and runs it on four nodes. Arguments: the proxima command.
set -e
cd "$(dirname "$0")/../.."
programs="$("$@" build --programs)"
with="--with $programs/demo:/usr/bin/demo"
[ ! -e "$programs/perf" ] || with="$with --with $programs/perf:/usr/bin/perf"
# shellcheck disable=SC2086 # words on purpose
exec "$@" run --nodes 4 --cpus 8 --memory 2G \
    --distance 0,1=16 --distance 0,2=22 --distance 0,3=16 \
    --distance 1,2=16 --distance 1,3=22 --distance 2,3=16 \
    ${KERNEL:+--kernel "$KERNEL"} \
    --with numactl --with migratepages $with -- ./sysroot/demo/demo.sh
