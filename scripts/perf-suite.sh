#!/bin/sh
# Debian's perf, unmodified: it counts, records and reports in guests (Linux beside Proxima), and reads
# on this machine what was recorded there, by itself and by `proxima run --perf`.
#
# The program is the guest suites' own, which can keep busy in three functions of known weight.
#
# usage: perf-suite.sh PROXIMA...   (the command of the host tool)
set -u

perf=$(command -v perf) || { echo "skip perf-suite: perf is not installed (package linux-perf)"; exit 0; }
[ $# -gt 0 ] || { echo "usage: $0 PROXIMA..." >&2; exit 2; }
"$@" build >/dev/null || exit 1
target=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}
tests=$(realpath "$target/x86_64-unknown-linux-musl/release/tests")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# check NAME COMMAND...: its verdict.
check() {
    name=$1
    shift
    if "$@"; then echo "ok $name"; else echo "FAIL $name"; failed=1; fi
}

# has FILE PATTERN: a line of it is like that.
has() { grep -Eq -- "$2" "$1" || { echo "no /$2/ in:"; head -40 "$1"; return 1; }; }

# shares FILE: a report's lines of the three functions say 60, 30 and 10 percent, 3 points more or less.
shares() {
    awk '
        /::six *$/ { six = $1 + 0 } /::three *$/ { three = $1 + 0 } /::one *$/ { one = $1 + 0 }
        function far(a, b) { return a < b - 3 || a > b + 3 }
        END { exit far(six, 60) || far(three, 30) || far(one, 10) }
    ' "$1" || { echo "not 60, 30 and 10 %:"; grep % "$1" | head; return 1; }
}

cat >"$work/guest.sh" <<'GUEST'
perf stat -x, -e task-clock,page-faults,context-switches -o /tmp/stat "$1" --helper busy 300 1
sed 's/^/stat: /' /tmp/stat
perf record -q -e cpu-clock:u -F 1000 -g -o /tmp/data "$1" --helper busy 2000 2 2>/dev/null
perf report -i /tmp/data --stdio --no-children -g none -F overhead,sym 2>/dev/null | sed 's/^/report: /'
perf script -i /tmp/data -F comm,tid,event,ip,sym 2>/dev/null | sed 's/^/script: /'
GUEST

for kernel in proxima linux; do
    out=$work/$kernel
    "$@" run --kernel $kernel --topology two-socket --with "$perf" --with "$tests" \
        --with "$work/guest.sh:/guest.sh" -- sh /guest.sh "$tests" >"$out" 2>"$out.err" || cat "$out.err"
    check "$kernel: perf stat" has "$out" '^stat: [0-9.]+,msec,task-clock,'
    check "$kernel: perf stat counts faults" has "$out" '^stat: [1-9][0-9]*,,page-faults,'
    sed -n 's/^report: //p' "$out" >"$out.report"
    check "$kernel: perf report" shares "$out.report"
    sed -n 's/^script: //p' "$out" >"$out.script"
    check "$kernel: perf script" has "$out.script" '::six'
    threads=$(awk '/cpu-clock/ { print $2 }' "$out.script" | sort -u | wc -l)
    check "$kernel: perf record of two threads" [ "$threads" = 2 ]
done

# Recorded by perf in the guest, read by perf here: the program is at the same place on both.
"$@" run --topology two-socket --with "$perf" --with "$tests" -- sh -c \
    "perf record -q -e cpu-clock:u -F 1000 -g -o /tmp/data $tests --helper busy 1000 2 2>/dev/null; cat /tmp/data" \
    >"$work/data" 2>"$work/err"
perf report -i "$work/data" --stdio --no-children -g none -F overhead,sym >"$work/report" 2>>"$work/err"
check "here: a recording of perf's" shares "$work/report"

# Recorded by the project's own tool, with the kernel's functions.
"$@" run --topology two-socket --perf="$work/own" --with "$tests" -- \
    sh -c "$tests --helper busy 1000 1; dd if=/dev/zero of=/dev/null bs=1M count=3000 2>/dev/null" \
    >/dev/null 2>"$work/own.err"
perf report -i "$work/own" --kallsyms "$work/own.kallsyms" --stdio --no-children -g none -F overhead,sym \
    >"$work/own.report" 2>>"$work/err"
check "here: a recording of proxima run --perf" has "$work/own.report" '\[\.\] .*::six *$'
check "here: the kernel's functions in it" has "$work/own.report" '\[k\] [a-z_]+::'
exit $failed
