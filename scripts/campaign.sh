#!/bin/sh
# Runs the long campaigns whose figures stand in docs/security.md: system calls with any arguments on
# the kernel as it is shipped and on the one that checks itself, calls whose allocations fail in turn,
# and the suites' races, each on six topologies. They take hours.
#
# usage: [CALLS=N] [CHECKED=N] [FAILING=N] [RACES=N] [SEED=N] campaign.sh PROXIMA...
#
# CALLS, CHECKED and FAILING count calls altogether, RACES seconds of races on each topology; with 0 a
# part is left out. SEED is the first guest's, and the next one's is one more. A line for each part and
# topology, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

[ $# -gt 0 ] || set -- proxima
CALLS=${CALLS:-100000000} CHECKED=${CHECKED:-3000000} FAILING=${FAILING:-1000000}
RACES=${RACES:-600} SEED=${SEED:-1}
topologies='one-node two-socket ring-4 memoryless cxl epyc-nps4-2s'
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0

# NAME CODE: a verdict, with the last line of what was said.
judge() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok    $1: $(tail -1 "$out")"
    else
        failed=$((failed + 1))
        echo "FAIL  $1 (exit code $2)"
        sed 's/^/      | /' "$out"
    fi
}

# NAME CALLS WORDS, for `proxima fuzz --syscalls`; then what is proxima.
calls() {
    name=$1 each=$((($2 + 5) / 6)) words=$3
    shift 3
    [ "$each" -gt 0 ] || return
    for topology in $topologies; do
        # shellcheck disable=SC2086 # several words
        "$@" fuzz --syscalls --ops "$each" --seed "$SEED" --topology "$topology" $words >"$out" 2>&1
        judge "$name $topology" $?
    done
}

# What is proxima: tests in which CPUs, tasks and pages race, again and again.
races() {
    [ "$RACES" -gt 0 ] || return
    for topology in $topologies; do
        began=$(date +%s) runs=0 code=0
        while [ $code -eq 0 ] && [ $(($(date +%s) - began)) -lt "$RACES" ]; do
            "$@" test mm task fs net ptrace migrate hugetlb thp affinity cgroup sched --long \
                --filter 'storm|torture|_race|_cpus?_at_once|under_stress|threads_fault|_they_move_lose|cpusets_change|ends_(mean)?while|close_at_once' \
                --topology "$topology" --timeout 900 >"$out" 2>&1
            code=$?
            runs=$((runs + 1))
        done
        echo "$runs rounds, $(($(date +%s) - began)) s" >>"$out"
        judge "races $topology" $code
    done
}

calls calls "$CALLS" '' "$@"
calls checked "$CHECKED" '--kernel checked' "$@"
calls failing "$FAILING" '--kernel checked --fail-allocations' "$@"
races "$@"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
