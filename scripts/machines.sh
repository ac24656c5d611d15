#!/bin/sh
# Boots machines that a topology cannot describe, by QEMU's own options: DIMMs that are plugged in, no ACPI
# tables of QEMU's, microvm; and compares the caches of CPU models with Linux's. Arguments: the command
# of the tool.
#
# A line for each, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

[ $# -gt 0 ] || set -- proxima
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

ok() {
    passed=$((passed + 1))
    echo "ok    $1"
}
fail() { # what, a file to show
    failed=$((failed + 1))
    echo "FAIL  $1"
    tail -15 "$2" | sed 's/^/      | /'
}

# Boots what `run --dry-run` prints, with `-M q35` replaced and more options: the program's stdout comes
# into out, QEMU's exit code is the function's.
boot() { # kernel, machine, more options, program
    kernel=$1 machine=$2 more=$3 program=$4
    line=$($tool run --dry-run --kernel "$kernel" --nodes 2 --cpus 4 --memory 1G -- sh -c "$program" |
        tr -d '\\\n')
    work=$(echo "$line" | sed 's/.*file:\([^ ]*\)\/console.*/\1/')
    echo "$line" | sed "s/-M q35/-M $machine/;s|\$| $more|" >"$dir/line"
    timeout 120 sh "$dir/line" </dev/null >"$dir/out" 2>&1
    code=$?
    tail -5 "$work/console" >>"$dir/out" 2>/dev/null
    rm -rf "$work"
    return $code
}
tool=$*

# DIMMs: 512 MiB on node 1, 256 MiB on node 0, beyond the 512 MiB that each has.
dimms='-m 1G,slots=2,maxmem=4G -object memory-backend-ram,id=m1,size=512M'
dimms="$dimms -device pc-dimm,memdev=m1,node=1 -object memory-backend-ram,id=m2,size=256M"
dimms="$dimms -device pc-dimm,memdev=m2,node=0"
# What each node has, in units of 128 MiB: what the kernel keeps for itself is less than one of them.
sizes='for n in 0 1; do
    read -r a b c kib unit </sys/devices/system/node/node$n/meminfo; echo "node $n: $((kib / 131072 + 1))"
done; ls -d /sys/devices/system/memory/memory[0-9]* | wc -l | sed "s/^/blocks: /"'
for kernel in proxima linux; do
    boot $kernel q35 "$dimms" "$sizes" && grep -qx 'node 0: 6' "$dir/out" &&
        grep -qx 'node 1: 8' "$dir/out" && grep -qx 'blocks: 14' "$dir/out" &&
        ok "$kernel: DIMMs that are plugged in" || fail "$kernel: DIMMs" "$dir/out"
    # Firmware has tables of its own then, with what powers off in a secondary one.
    boot $kernel q35,acpi=off '' 'echo all well' && grep -qx 'all well' "$dir/out" &&
        ok "$kernel: powers off without ACPI tables of QEMU's" ||
        fail "$kernel: acpi=off, code $code" "$dir/out"
done
# Its first serial port is the only one: init runs the program on the console.
boot proxima microvm '' 'echo all well' && grep -q 'the program ended: exit 0' "$dir/out" &&
    ok "proxima: microvm powers off" || fail "proxima: microvm, code $code" "$dir/out"

caches='for i in /sys/devices/system/cpu/cpu[0-9]*/cache/index*; do
    echo "$i" $(cat $i/level $i/type $i/id $i/shared_cpu_list $i/size)
done'
for topology in two-socket epyc-nps4-2s; do
    for cpu in EPYC Opteron_G3 max Skylake-Server; do
        for kernel in proxima linux; do
            "$@" run --kernel $kernel --topology $topology --cpu $cpu --timeout 120 -- \
                sh -c "$caches" </dev/null >"$dir/$kernel" 2>&1
        done
        if [ "$(wc -l <"$dir/linux")" -gt 15 ] && diff "$dir/proxima" "$dir/linux" >"$dir/diff"; then
            ok "$topology: caches of $cpu"
        else
            fail "$topology: caches of $cpu" "$dir/diff"
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
