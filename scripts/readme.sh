#!/bin/sh
# Runs every command of README.md that begins with `proxima`, as it stands there, from a directory that
# is not the checkout and with programs of one's own; then every block of shell commands of the book's pages
# that have such blocks, each page in a directory of its own. Arguments: (--book: only those, then) the command
# of the tool.
#
# In a page a block marked `sh` is run, and ends with 0 (or as `sh exit=N` says); one marked `LANGUAGE file=NAME`
# is written to NAME; each line of one marked `text` stands in what the block before it printed, whatever its
# numbers are (a line that ends in `...` up to there).
#
# What README.md leaves open is filled in: PROGRAM ARGS... is a program, DIR a directory of tests.
# Long campaigns are shortened; the whole of `proxima test` is left to itself. A line a command, and
# in the end `N passed, N failed`. Exit code 1 if one failed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
book=
[ "${1-}" = --book ] && book=only && shift
tool=$*
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
proxima() { $tool "$@"; }

passed=0
failed=0

if [ -z "$book" ]; then
cc -O1 -x c -o program - <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <string.h>
__attribute__((noinline)) static unsigned hot(unsigned n) { unsigned x = 1; while (n--) x = x * 1664525 + 1013904223; return x; }
int main(void) {
    char *memory = malloc(8 << 20);
    memset(memory, 1, 8 << 20);
    unsigned sum = memory[1 << 20];
    for (clock_t end = clock() + CLOCKS_PER_SEC / 2; clock() < end;) sum += hot(100000);
    printf("sum %u\n", sum);
    return 0;
}
C
printf '#!/bin/sh\necho prog "$@"\ncat data.txt\n' >prog
echo hello >data.txt
echo 'print("report")' >report.py
printf '#include <stdio.h>\nint main(void) { puts("made"); return 0; }\n' >prog.c
mkdir suite
printf '#!/bin/sh\ntest "$(nproc)" -gt 1\n' >suite/has_cpus
chmod +x prog suite/has_cpus
programs=$($tool build 2>/dev/null | grep '/traffic$') && cp "$programs" traffic

# What the output of a command must match.
wanted() {
    case $1 in
    *"numactl --membind=1 ./prog"*) echo '^hello$' ;;
    *report.py*) echo '^report$' ;;
    *"perl -MPOSIX"*) echo '^7$' ;;
    *gcc*) echo '^made$' ;;
    *redis-cli*) echo '^"?b"?$' ;;
    *"numactl --hardware"*) echo '^available: 3 nodes' ;;
    *--placement*) echo '^all +[0-9]' ;;
    *--flame*) echo '%.* hot ' ;;
    *"perf record"*) echo '%.*hot' ;;
    *"perf stat"*) echo 'numa/alloc_local/' ;;
    *--traffic*) echo 'reads\+writes|remote' ;;
    *"./traffic"*) echo 'advice: .*first touch' ;;
    *"--report"*) echo '.' ;;
    *"test mm"*) echo '^[1-9][0-9]* passed, 0 failed' ;;
    *"test --dir"*) echo 'has_cpus.* ok +ok' ;;
    *"record "*) echo '^proxima: recorded in run.rec' ;;
    *"replay "*) echo '^hello$' ;;
    *"explain"*) echo '.' ;;
    *"topo list"*) echo '^quad-16' ;;
    *"topo show"*) echo '^ +2 +24 +28 +10' ;;
    *) echo '' ;;
    esac
}

commands() {
    # Indented lines, with what is said behind them cut off; and those within a sentence or a table.
    sed -n 's/^    \(\$ \)\{0,1\}\(proxima .*\)$/\2/p' "$here/../README.md" | sed 's/   *.*//; s/ *#.*//'
    grep -o '`proxima [a-z][^`|]*`' "$here/../README.md" | tr -d '`'
}

# In their order: some go on with what others have made.
commands | awk '!seen[$0]++' >list
while IFS= read -r line <&3; do
    case $line in
    "proxima run ..." | "proxima test" | "proxima shell" | "proxima cpus") continue ;;
    esac
    text=$(echo "$line" | sed "s/explain CODE/explain 125/; s/PROGRAM ARGS\.\.\./.\/program/; s/PROGRAM/.\/program/
        s/ DIR / suite /; s/--ops [0-9]*/--ops 300/; s/test mm/test mm --topology two-socket --filter break/")
    # In a shell of its own: what is no command at all ends it.
    if (eval "$text") >out.txt 2>&1 </dev/null && grep -Eq -- "$(wanted "$line")" out.txt; then
        passed=$((passed + 1))
        echo "ok $text"
    else
        failed=$((failed + 1))
        echo "FAIL $text"
        tail -5 out.txt | sed 's/^/    /'
    fi
done 3<list
[ -s page.html ] && [ -s out.svg ] || { failed=$((failed + 1)); echo "FAIL no page.html or out.svg"; }
fi

# The book. `proxima` is a program there, not a function of this shell.
mkdir "$dir/bin"
printf '#!/bin/sh\nexec %s "$@"\n' "$tool" >"$dir/bin/proxima"
chmod +x "$dir/bin/proxima"
PATH=$dir/bin:$PATH

# Writes block number N of a page to a file `N`, and a line `N INFO` to `index`.
blocks() { # page
    awk '/^```/ { if (inside) { inside = 0; close(n) } else { inside = 1; n++; print n, substr($0, 4) > "index"; printf "" > n }; next }
        inside { print > n }' "$1"
}

# Numbers are those of the machine that the page was written on.
even() { sed 's/[0-9][0-9.,]*/N/g; s/  */ /g; s/^ //; s/ $//'; }

# The first line of a text block that is not in what was printed.
missing() { # block, output
    even <"$2" >printed
    even <"$1" | while IFS= read -r line; do
        case $line in
        *...) grep -Fq -- "${line%...}" printed ;;
        *) grep -Fq -- "$line" printed ;;
        esac || { echo "$line"; break; }
    done
}

page() { # page, its name
    mkdir "$dir/$2" "$dir/$2/here"
    cd "$dir/$2"
    blocks "$1"
    while read -r number info; do
        case $info in
        *file=*) cp "$number" "here/${info##*file=}" ;;
        sh | "sh exit="*)
            want=0
            case $info in *exit=*) want=${info##*exit=} ;; esac
            (cd here && sh -e "../$number") >out.txt 2>&1 </dev/null && code=0 || code=$?
            what="$2: $(head -1 "$number")"
            if [ "$code" -eq "$want" ]; then
                passed=$((passed + 1))
                printf '%s\n' "ok $what"
            else
                failed=$((failed + 1))
                printf '%s\n' "FAIL $what: exit code $code"
                tail -5 out.txt | sed 's/^/    /'
            fi
            ;;
        text)
            line=$(missing "$number" out.txt)
            [ -z "$line" ] || {
                failed=$((failed + 1))
                echo "FAIL $2: not printed: $line"
                tail -5 out.txt | sed 's/^/    /'
            }
            ;;
        esac
    done <index
}

for each in "$root"/docs/*.md; do
    grep -q '^```sh' "$each" && page "$each" "$(basename "$each" .md)"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
