#!/bin/sh
# Prints what Linux has in /proc and /sys and Proxima has not, as sysroot/linux-only.txt keeps it:
# sorted patterns, in which `#` stands for a number, or for a component with a colon (a device's
# address). Left out is what comes and goes with processes, interrupts and devices. Arguments: the
# command of the tool.
set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for kernel in proxima linux; do
    "$@" run --quiet --kernel $kernel --topology two-socket -- sh -c 'find /proc /sys 2>/dev/null; true' |
        grep -E '^/(proc/|sys/(devices/system|kernel/mm)/|sys/[a-z]+(/[^/]+){0,2}$)' |
        grep -vE '/(map_files|fdinfo|fd|power|slab|parameters)/|^/sys/(module|devices/[^s])|^/proc/irq/' |
        grep -vE '^/proc/[0-9]+/(task|ns|attr|net)/.*/|^/proc/sys/net/ipv[46]/(conf|neigh)/' |
        sed -E 's,/[^/]*:[^/]*,/#,g; s/[0-9]+/#/g' | LC_ALL=C sort -u >"$dir/$kernel"
done
LC_ALL=C comm -13 "$dir/proxima" "$dir/linux"
