#!/bin/sh
# Counts a program whose accesses are known line by line: linked statically at a fixed address, at any
# address, in a shared library, and all of them in one run, where the fixed ones share addresses.
# Usage: traffic-lines.sh PROXIMA-COMMAND...; skips with the reason where there is no C compiler.
set -eu
command -v cc >/dev/null || { echo "skip: there is no C compiler"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/sum.c" <<'C'
#include <stdlib.h>
#define WORDS (1 << 16)
static inline long sum(long *a, long n) {
    long s = 0;
    for (long i = 0; i < n; i++)
        s += a[i];
    return s;
}
int main(void) {
    long *a = malloc(WORDS * sizeof *a), s = 0;
    for (long i = 0; i < WORDS; i++)
        a[i] = i;
    for (int round = 0; round < 3; round++)
        s += sum(a, WORDS);
    return s == 1;
}
C
echo 'int work(void); int main(void) { return work(); }' > "$dir/main.c"
cd "$dir"
cc -g -O1 -fno-tree-vectorize -static -no-pie -o fixed sum.c
cp fixed other
cc -g -O1 -fno-tree-vectorize -pie -fPIE -o anywhere sum.c
cc -g -O1 -fno-tree-vectorize -shared -fPIC -Dmain=work -o libsum.so sum.c
cc -o library main.c -L. -lsum -Wl,-rpath,"$dir"
printf '#!/bin/sh\n./fixed; ./other; ./anywhere; ./anywhere; ./library\n' > all
chmod +x all
failed=0
for program in fixed anywhere library all; do
    "$@" run --topology two-socket --quiet --traffic=count --json counts.json -- "./$program" 2> table ||
        { cat table; exit 1; }
    python3 - "$program" counts.json <<'PYTHON' || failed=1
import json, sys
program, counts = sys.argv[1], json.load(open(sys.argv[2]))
got = {}
for row in counts["source_lines"]:
    if row["file"].endswith("/sum.c"):
        got[row["object"].rsplit("/")[-1], row["line"]] = row["accesses"]
words, times = 1 << 16, {"fixed": {"fixed": 1}, "anywhere": {"anywhere": 1}, "library": {"libsum.so": 1},
                         "all": {"fixed": 1, "other": 1, "anywhere": 2, "libsum.so": 1}}[program]
want = {}
for name, runs in times.items():
    want[name, 6], want[name, 12] = 3 * words * runs, words * runs
wrong = {key: got.get(key) for key, count in want.items() if got.get(key) != count}
extra = {key: count for key, count in got.items() if count > 100 and key not in want}
print(f"{'FAIL' if wrong or extra else 'ok  '} {program}: {len(want)} lines counted as known", wrong or "", extra or "")
sys.exit(bool(wrong or extra))
PYTHON
done
exit $failed
