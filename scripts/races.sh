#!/bin/sh
# Races for as long as wanted on each topology: the guest tests in which threads and processes get in
# each other's way, over and over, each time on a fresh boot.
#
# usage: races.sh SECONDS COMMAND-OF-THE-TOOL [--topology NAME]...
#
# A line for each topology, what failed with its output, and in the end `N passed, N failed`; exit code
# 1 if one failed.
set -u

seconds=$1
shift
tool=
while [ $# -gt 0 ] && [ "$1" != --topology ]; do tool="$tool $1" && shift; done
[ $# -gt 0 ] || set -- --topology one-node --topology two-socket --topology ring-4 \
    --topology memoryless --topology cxl --topology quad-16
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
suites='mm task fs migrate hugetlb thp affinity cgroup sched perf'
races='storm|torture|threads_|while_|_while|meanwhile|race|beside|under_|at_once|concurrent|hammer'

passed=0
failed=0
while [ $# -gt 0 ]; do
    topology=$2
    shift 2
    end=$(($(date +%s) + seconds))
    turns=0 ok=0 bad=0
    while [ "$(date +%s)" -lt $end ]; do
        # shellcheck disable=SC2086 # words
        $tool test $suites --filter "$races" --topology "$topology" >"$out" 2>&1 ||
            grep -A40 '^FAIL' "$out" || tail -5 "$out"
        # shellcheck disable=SC2046 # two numbers
        set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed.*/\1 \2/p' "$out" | tail -1) "$@"
        case ${1-} in [0-9]*) ok=$((ok + $1)) bad=$((bad + $2)) && shift 2 ;; *) bad=$((bad + 1)) ;; esac
        turns=$((turns + 1))
    done
    echo "$topology: $turns turns, $ok passed, $bad failed"
    passed=$((passed + ok))
    failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
