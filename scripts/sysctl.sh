#!/bin/sh
# Compares `sysctl -a` of Proxima with Linux's in the same QEMU. Arguments: the command of the tool.
#
# Each difference must be one that sysctl.txt gives a reason for, and each reason there must still
# explain something. Exit code 1 otherwise.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for kernel in linux proxima; do
    "$@" run --quiet --topology two-socket --kernel $kernel -- sysctl -a 2>/dev/null |
        sed 's/ = /\t/; s/ =$/\t/' >"$dir/$kernel"
    [ -s "$dir/$kernel" ] || { echo "$kernel shows nothing"; exit 1; }
done
awk -F '\t' -v rules="$here/sysctl.txt" '
function explained(kind, name,    i) {
    for (i = 1; i <= count; i++)
        if (kinds[i] == kind && name ~ patterns[i]) { used[i] = 1; return 1 }
    return 0
}
function said(kind, name, text) {
    if (!explained(kind, name)) { bad++; print kind ": " name text }
}
BEGIN {
    FS = " "
    while ((getline line < rules) > 0) {
        if (line ~ /^(#|$)/) continue
        split(line, words, " ")
        kinds[++count] = words[1]
        patterns[count] = "^(" words[2] ")$"
    }
    FS = "\t"
}
FILENAME ~ /linux$/ { linux[$1] = substr($0, length($1) + 2); next }
{
    value = substr($0, length($1) + 2)
    shown++
    if (!($1 in linux)) said("only", $1, " = " value)
    else if (linux[$1] != value) said("differs", $1, ": " value ", Linux: " linux[$1])
    else same++
    here[$1] = 1
}
END {
    for (name in linux) if (!(name in here)) said("missing", name, " = " linux[name])
    for (i = 1; i <= count; i++)
        if (!(i in used)) { bad++; print "explains nothing: " kinds[i] " " patterns[i] }
    printf "%d settings, %d as on Linux, %d without a reason\n", shown, same, bad
    exit bad > 0
}' "$dir/linux" "$dir/proxima"
