#!/bin/sh
# Sends 10 MB through the standard streams of `proxima run`, each way, and compares checksums. Arguments:
# [--quick] (Proxima alone), then the command of the tool.
#
# The guest's own clock tells how long it took, which leaves the boot out: LIMIT milliseconds at most for
# 10 MB. A line for each, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

LIMIT=2000
kernels="proxima linux"
[ "${1-}" = --quick ] && kernels=proxima && shift
[ $# -gt 0 ] || set -- proxima
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0
# Every byte value, in no order.
seq 1 3000000 | gzip -1 | head -c 10000000 >"$dir/data"
while [ "$(wc -c <"$dir/data")" -lt 10000000 ]; do
    head -c $((10000000 - $(wc -c <"$dir/data"))) "$dir/data" >"$dir/more"
    cat "$dir/more" >>"$dir/data"
done
sum=$(sha256sum <"$dir/data")

judge() { # what, checksum, milliseconds, 10 MB that were sent
    if [ "$2" = "$sum" ] && [ "${3:-99999}" -lt $((LIMIT * $4)) ]; then
        passed=$((passed + 1))
        echo "ok    $1: $3 ms"
    else
        failed=$((failed + 1))
        echo "FAIL  $1: ${3:-no} ms, limit $((LIMIT * $4)) ms; checksum $2, wanted $sum"
        tail -5 "$dir/err" | sed 's/^/      | /'
    fi
}

# Uptime in hundredths of a second, as a number.
now='now() { read -r up idle </proc/uptime; echo "${up%.*}${up#*.}"; }; from=$(now)'
till='echo "took $((($(now) - from) * 10))"'
took() { sed -n 's/^took //p' "$1"; }

for kernel in $kernels; do
    got=$("$@" run --kernel $kernel --nodes 2 --cpus 4 --timeout 60 --with "$dir/data:/data" -- \
        sh -c "$now; cat /data; $till >&2" 2>"$dir/err" </dev/null | sha256sum)
    judge "$kernel stdout" "$got" "$(took "$dir/err")" 1
    "$@" run --kernel $kernel --nodes 2 --cpus 4 --timeout 60 -- \
        sh -c "$now; cat >/tmp/data; $till; sha256sum </tmp/data" \
        <"$dir/data" >"$dir/out" 2>"$dir/err"
    judge "$kernel stdin" "$(tail -1 "$dir/out")" "$(took "$dir/out")" 1
    # Both at once, through a program that waits for neither.
    got=$("$@" run --kernel $kernel --nodes 2 --cpus 4 --timeout 60 -- \
        sh -c "$now; cat; $till >&2" 2>"$dir/err" <"$dir/data" | sha256sum)
    judge "$kernel stdin to stdout" "$got" "$(took "$dir/err")" 2
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
