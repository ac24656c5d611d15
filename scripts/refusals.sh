#!/bin/sh
# Asks the tool for what it must refuse, and puts it where little works: each ends with one clear line
# and the documented exit code. Arguments: the command of the tool.
#
# A line for each, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

[ $# -gt 0 ] || set -- proxima
tool=$*
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0
cd "$dir" || exit 1
echo x >file
mkdir sub
truncate -s 300M large
# A directory for the tool's own, so that what it leaves can be seen.
mkdir tmp
export TMPDIR="$dir/tmp"

judge() { # what, wanted code, code, pattern (or '': nothing), file of what was said
    lines=$(wc -l <"$5")
    said=no
    if [ -n "$4" ]; then grep -Eq -- "$4" "$5" && said=yes; else [ -s "$5" ] || said=yes; fi
    if [ "$2" = "$3" ] && [ $said = yes ] && [ "$lines" -le 1 ]; then
        passed=$((passed + 1))
        echo "ok    $1: $(head -c 110 "$5" | head -1)"
    else
        failed=$((failed + 1))
        echo "FAIL  $1: code $3 for $2, $lines lines"
        sed 's/^/    /' "$5" | head -5
    fi
}
refused() { # pattern, words of the tool...
    pattern=$1
    shift
    $tool "$@" >/dev/null 2>said
    judge "$(echo "$*" | cut -c1-60)" 2 $? "$pattern" said
}

refused '/dev/zero: it is longer' run --topology /dev/zero -- true
refused 'name is empty' run -- ''
refused 'required.*PROGRAM' run
refused 'is no option of run' run -- --nosuch
refused 'not in 1..=100000' run --perf --perf-frequency 0 -- true
refused 'perf-frequency' run --perf --perf-frequency many -- true
refused '^proxima: --append: 3001 bytes' run --append "$(printf '%03000d' 0)" -- true
refused '/proc is the guest.s own' run --with file:/proc/x -- true
refused '/sys is the guest.s own' run --with file:/sys/x -- true
refused '/dev is the guest.s own' run --with file:/dev/x -- true
refused '/init is the guest.s own' run --with file:/init -- true
refused 'no file /nosuch' run --with /nosuch -- true
refused 'must begin with /' run --with file:x -- true
refused 'QEMU knows no such CPU' cpus nosuch
refused 'no such CPU' cpus max,-smap nosuch
refused '^proxima: 1M of memory are too little: a guest needs 32M' run --memory 1M -- true
refused '^proxima: 1M of memory are too little' run --nodes 2 --memory 1M -- true
refused 'too much for 256M of memory: give it --memory 704M' run --memory 256M --with large -- true
refused 'such as --share /usr' run --share / -- true
refused '/proc is the guest.s own' run --share /proc/self -- true
refused 'it is the guest.s own' run --share /etc -- true
refused 'No such file' run --share /nosuch -- true
refused 'no directory' run --share file -- true
refused 'there the guest sees' run --share sub --with "file:$dir/sub/file" -- true
refused 'no such kernel|no such file' run --kernel /nosuch -- true

$tool run -- echo hi >/dev/full 2>said
judge 'stdout is full' 125 $? 'standard output: No space left' said
$tool topo list >/dev/full 2>said
judge 'stdout of a list is full' 125 $? 'standard output: No space left' said
# What the standard library makes of a closed one is /dev/null: the program's code is what counts.
$tool run --quiet -- sh -c 'echo hi; exit 3' >&- 2>said
judge 'stdout is closed' 3 $? '' said
$tool run --quiet -- sh -c 'yes' 2>said | head -1 >/dev/null
judge 'the reader of stdout goes' 0 $? '' said
env -u HOME -u XDG_CACHE_HOME $tool run --quiet -- echo hi >said 2>&1
judge 'no HOME' 0 $? '^hi$' said
rm -rf tmp/*
for signal in TERM HUP INT; do
    $tool run -- sleep 30 >/dev/null 2>&1 &
    child=$!
    while [ -z "$(ls tmp)" ] && kill -0 $child 2>/dev/null; do sleep 0.1; done
    kill -$signal $child
    wait $child
    code=$?
    ls tmp >said
    case $signal in TERM) wanted=143 ;; HUP) wanted=129 ;; INT) wanted=130 ;; esac
    judge "SIG$signal leaves nothing" $wanted $code '' said
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
