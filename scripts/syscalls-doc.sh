#!/bin/sh
# Writes docs/syscalls.md from the running kernel's own table: scripts/syscalls-doc.sh PROXIMA...
# (the command that is the host tool). So the page names what is there, and nothing else.
set -eu
cd "$(dirname "$0")/.."
table=$("$@" run --topology one-node --timeout 60 -- cat /proc/proxima/syscalls)
[ -n "$table" ] || { echo "syscalls-doc: the guest printed no table" >&2; exit 1; }
{
    echo "# System calls"
    echo
    echo "What the kernel dispatches, written by \`make docs\` from its own table"
    echo "(/proc/proxima/syscalls). Every other number answers ENOSYS, and is named once in the"
    echo "kernel's log. docs/linux-facts.md tells corners of Linux that these calls keep to."
    echo
    echo "| number | call |"
    echo "|---:|---|"
    echo "$table" | while read -r number name args; do
        echo "| $number | \`$name($args)\` |" | sed "s/ : /: /g"
    done
} >docs/syscalls.md
# A row a line, whatever a call's arguments are called.
if sed 1,8d docs/syscalls.md | grep -Ev '^\| [0-9]+ \| `[a-z0-9_]+\([^|`]*\)` \|$'; then
    echo "syscalls-doc: these rows of docs/syscalls.md are broken" >&2
    exit 1
fi
