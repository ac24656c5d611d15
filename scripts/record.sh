#!/bin/sh
# Records runs and runs them again: the same output, end and number of instructions, also on a busy host and under
# a debugger (where there is gdb). Arguments: the command of the tool. A line a case, in the end `N passed, N failed`;
# exit code 1 if one failed.
set -u

tool=$*
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
passed=0
failed=0
verdict() { # code, what
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $2"
    else
        failed=$((failed + 1))
        echo "FAIL $2"
        tail -5 err | sed 's/^/    /'
    fi
}

# What four threads on as many CPUs make of an order that nobody keeps.
cc -O1 -pthread -x c -o race - <<'C'
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
static volatile int next, order[4000];
static void *work(void *own) {
    for (int i = 0; i < 1000; i++) {
        int at = next;
        for (volatile int turn = 0; turn < rand() % 50; turn++) {}
        next = at + 1;
        order[at % 4000] = (int)(long)own;
        if (i % 16 == 0) sched_yield();
    }
    return 0;
}
int main(void) {
    pthread_t threads[4];
    int word = getchar(), hash = 0;
    for (long i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, (void *)(i + 1));
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    for (int i = 0; i < 4000; i++) hash = hash * 31 + order[i];
    printf("%c: %d steps, order %x\n", word, next, hash);
    return 3;
}
C
printf 'x' | $tool record --topology ring-4 -o run.rec -- ./race >recorded 2>err
[ $? -eq 3 ] && grep -q '^x: ' recorded
verdict $? "recorded: $(cat recorded)"
for how in quiet busy; do
    [ $how = quiet ] || { (while :; do :; done) & load=$!; }
    $tool replay -v run.rec >replayed 2>err </dev/null
    [ $? -eq 3 ] && cmp -s recorded replayed
    verdict $? "replayed on a $how host: $(sed -n 's/.*same run: //p' err)"
done
kill $load
if command -v gdb >/dev/null; then
    $tool replay --gdb run.rec >replayed 2>err </dev/null &
    for _ in $(seq 100); do grep -q gdb err && break || sleep 0.1; done
    symbols=$(sed -n 's/.*waiting for gdb: gdb \([^ ]*\) .*/\1/p' err)
    # gdb knows no paths of Rust's in a program without types.
    place=$(nm -C "$symbols" | sed -n 's/ . hal::x86::acpi::power_off$//p')
    gdb -batch -ex 'target remote 127.0.0.1:1234' -ex "hbreak *0x$place" -ex continue -ex backtrace -ex 'stepi 20' \
        -ex delete -ex detach "$symbols" >gdb.txt 2>&1
    wait $!
    [ $? -eq 3 ] && cmp -s recorded replayed && grep -q '^#0 .*power_off' gdb.txt
    verdict $? "replayed under gdb: $(grep '^#0' gdb.txt)"
fi
# One byte of the image more: not the recorded run.
cp run.rec damaged.rec
printf '\377' | dd of=damaged.rec bs=1 seek=200000 conv=notrunc 2>/dev/null
$tool replay damaged.rec >/dev/null 2>err
[ $? -eq 2 ]
verdict $? "a damaged record is refused: $(tail -1 err)"
$tool record --share /usr -- true >/dev/null 2>err
[ $? -eq 2 ]
verdict $? "what --share brings is refused: $(tail -1 err)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
