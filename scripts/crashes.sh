#!/bin/sh
# Crashes, resets and powers off guests by /proc/sysrq-trigger, on Proxima and on Linux, and looks at
# what the tool says of it. Arguments: the command that is proxima [default: proxima].
#
# A line for each, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

[ $# -gt 0 ] || set -- proxima
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

try() { # kernel, letter, what the tool must say, what it must say too; then the tool's words
    kernel=$1 letter=$2 first=$3 second=$4
    shift 4
    "$@" run --kernel "$kernel" --nodes 2 --cpus 4 --timeout 120 -- \
        sh -c "echo $letter > /proc/sysrq-trigger; sleep 100" >"$out" 2>&1
    code=$?
    if [ $code -eq 125 ] && grep -q "$first" "$out" && grep -q "$second" "$out"; then
        passed=$((passed + 1))
        echo "ok    $kernel $letter"
    else
        failed=$((failed + 1))
        echo "FAIL  $kernel $letter: exit code $code, not 125, or without \"$first\", \"$second\""
        tail -20 "$out" | sed 's/^/      | /'
    fi
}

for kernel in proxima linux; do
    try $kernel c 'the guest crashed' 'Kernel panic - not syncing: sysrq triggered crash' "$@"
    for letter in b o; do
        try $kernel $letter 'the guest crashed' 'reset or powered off without a status' "$@"
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
