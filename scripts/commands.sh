#!/bin/sh
# Runs the command lines of commands.txt as a newcomer would: with the tool, from a directory that is
# not the checkout, on both kernels. Arguments: the command of the tool, which must hold from there.
#
# A line a command, and in the end `N passed, N failed`. Exit code 1 if one failed. What the host has
# no program for is left out.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tool=$*
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

printf '#!/bin/sh\necho prog "$@"\ncat data.txt\n' >prog
printf '#!/bin/sh\nexec ./prog\n' >nested
echo hello >data.txt
echo 'print("python")' >s.py
chmod +x prog nested
if command -v cc >/dev/null && ! cc -x c -o exe - -lnuma 2>/dev/null <<'C'
#include <numa.h>
#include <stdio.h>
int main(void) { printf("nodes %d\n", numa_num_configured_nodes()); return 0; }
C
then
    rm -f exe
fi

command -v cc >/dev/null && ! cc -fopenmp -x c -o omp - 2>/dev/null <<'C' && rm -f omp
#define _GNU_SOURCE
#include <omp.h>
#include <sched.h>
#include <stdio.h>
int main(void) {
    int cpus[64] = {0}, threads = 0, different = 0;
#pragma omp parallel
    {
        cpus[omp_get_thread_num()] = sched_getcpu() + 1;
#pragma omp single
        threads = omp_get_num_threads();
    }
    for (int i = 0; i < threads; i++) {
        int seen = 0;
        for (int j = 0; j < i; j++) seen |= cpus[j] == cpus[i];
        different += !seen;
    }
    printf("threads %d on %d cpus, %d places\n", threads, different, omp_get_num_places());
    return 0;
}
C
command -v c++ >/dev/null && ! c++ -x c++ -o tbb - -ltbb 2>/dev/null <<'C' && rm -f tbb
#include <cstdio>
#include <oneapi/tbb/info.h>
int main() {
    auto nodes = oneapi::tbb::info::numa_nodes();
    std::printf("tbb nodes %zu, %d threads on the last\n", nodes.size(),
                oneapi::tbb::info::default_concurrency(nodes.back()));
}
C
echo 'public class Hello { public static void main(String[] a) {
    System.out.println("java " + Runtime.getRuntime().availableProcessors()); } }' >Hello.java
printf 'for i in 1 2; do\n    ./prog $i\ndone\nnproc | sed "s/^/cpus /"\n' >plain.sh

passed=0
failed=0
tab=$(printf '\t')
for kernel in proxima linux; do
    while IFS= read -r line <&3; do
        case $line in "" | "#"*) continue ;; esac
        wanted=${line%%"$tab"*}
        words=${line#*"$tab"}
        case $words in --*) ;; *) words="-- $words" ;; esac
        eval "set -- $words"
        program=
        for word; do
            [ "$program" = -- ] && program=$word && break
            [ "$word" != -- ] || program=--
        done
        command -v "$program" >/dev/null || continue
        case $words in *./exe*) [ -e exe ] || continue ;; *./omp*) [ -e omp ] || continue ;;
        *./tbb*) [ -e tbb ] || continue ;; esac
        if $tool run --topology two-socket --timeout 240 --kernel $kernel "$@" >out.txt 2>&1 </dev/null ||
            true && grep -Eq -- "$wanted" out.txt; then
            passed=$((passed + 1))
            echo "ok $kernel: ${words#-- }"
        else
            failed=$((failed + 1))
            echo "FAIL $kernel: ${words#-- }"
            sed 's/^/    /' out.txt | tail -5
        fi
    done 3<"$here/commands.txt"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
