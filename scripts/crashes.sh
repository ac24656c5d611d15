#!/bin/sh
# Crashes, resets and powers off guests by /proc/sysrq-trigger, on Proxima and on Linux, and looks at
# what the tool says of it. The checked kernel crashes also while it tells of a crash, and before it
# can tell of one. Arguments: the command that is proxima [default: proxima].
#
# A line for each, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

[ $# -gt 0 ] || set -- proxima
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

# kernel, letter, words for the kernel's command line, what the tool must say, what it must say too;
# then the tool's words
try() {
    kernel=$1 letter=$2 append=$3 first=$4 second=$5
    shift 5
    "$@" run --kernel "$kernel" --append "$append" --nodes 2 --cpus 4 --timeout 120 -- \
        sh -c "echo $letter > /proc/sysrq-trigger; sleep 100" >"$out" 2>&1
    code=$?
    if [ $code -eq 125 ] && grep -q "$first" "$out" && grep -q "$second" "$out"; then
        passed=$((passed + 1))
        echo "ok    $kernel $letter $append"
    else
        failed=$((failed + 1))
        echo "FAIL  $kernel $letter $append: exit code $code, not 125, or without \"$first\", \"$second\""
        tail -20 "$out" | sed 's/^/      | /'
    fi
}

crash='Kernel panic - not syncing: sysrq triggered crash'
quiet='reset or powered off without a status'
for kernel in proxima linux; do
    try $kernel c panic=-1 'the guest crashed' "$crash" "$@"
    for letter in b o; do
        try $kernel $letter panic=-1 'the guest crashed' "$quiet" "$@"
    done
done
try checked c provoke_crash=panic "$crash" 'Fault inside the panic: invalid opcode' "$@"
try checked c 'provoke_crash=panic panic=2' "$crash" 'Fault inside the panic: invalid opcode' "$@"
try checked c 'provoke_crash=stack panic=-1' 'Kernel panic - not syncing: kernel stack overflow' deeper "$@"
try checked c provoke_crash=early 'early trap 6 at' "$quiet" "$@"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
