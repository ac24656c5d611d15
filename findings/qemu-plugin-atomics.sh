#!/bin/sh
# QEMU 7.2's TCG plugins (Debian 12): a locked instruction is a load and a store while the program
# has one thread, and a store alone from the moment a second thread exists, though that one only
# sleeps. So a count of loads by a plugin falls when a program starts a thread, and locked
# instructions of guests with several CPUs never load.
#
# Guessed before looking: what an instruction accesses does not depend on other threads.
set -eu

version=1:7.2+dfsg-7+deb12u18+b2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"
command -v gcc >/dev/null || exit 77
apt-get download -q "qemu-user=$version" >/dev/null 2>&1 || exit 77
dpkg -x qemu-user_*.deb root
qemu=root/usr/bin/qemu-x86_64
$qemu --version | head -1

# Counts the accesses to one address, which is the plugin's argument.
cat >plugin.c <<'C'
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
struct qemu_plugin_tb;
struct qemu_plugin_insn;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
                                      void (*)(unsigned, uint32_t, uint64_t, void *), int, int, void *);
_Bool qemu_plugin_mem_is_store(uint32_t);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);
void qemu_plugin_outs(const char *);
int qemu_plugin_version = 1;

static uint64_t watched;
static unsigned long counts[2];

static void access(unsigned cpu, uint32_t info, uint64_t address, void *data) {
    if (address == watched) counts[qemu_plugin_mem_is_store(info)]++;
}
static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    enum { BOTH = 3 };
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), access, 0, BOTH, NULL);
}
static void ended(uint64_t id, void *data) {
    char line[80];
    snprintf(line, sizeof line, "%lu %lu\n", counts[0], counts[1]);
    qemu_plugin_outs(line);
}
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    watched = strtoull(argv[0] + sizeof "watched", NULL, 0);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
C
cat >program.c <<'C'
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
static void *sleeper(void *started) {
    write(*(int *)started, "", 1);
    for (;;) pause();
}
int main(int argc, char **argv) {
    long *word = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (argc > 1) {
        int ends[2];
        char byte;
        pthread_t thread;
        if (pipe(ends) || pthread_create(&thread, NULL, sleeper, &ends[1]) || read(ends[0], &byte, 1) != 1)
            return 2;
    }
    for (int i = 0; i < 1000; i++) __asm__ volatile("lock addq $1, %0" : "+m"(*word));
    _exit(0);
}
C
gcc -w -shared -fPIC -o plugin.so plugin.c
gcc -w -O1 -static -pthread -o program program.c

$qemu -d plugin -D alone -plugin ./plugin.so,watched=0x10000000 ./program
$qemu -d plugin -D beside -plugin ./plugin.so,watched=0x10000000 ./program thread
read -r loads stores <alone
echo "one thread: 1000 locked additions are $loads loads and $stores stores"
read -r loads_beside stores_beside <beside
echo "beside one that sleeps: $loads_beside loads and $stores_beside stores"
[ "$loads" -eq 1000 ] && [ "$stores" -eq 1000 ] && [ "$loads_beside" -eq 0 ] && [ "$stores_beside" -eq 1000 ]
