#!/bin/sh
# QEMU 7.2's TCG plugins (Debian 12): a plugin that registers a memory callback for loads alone
# (QEMU_PLUGIN_MEM_R) is called for stores and never for a load; one that asks for stores alone
# (QEMU_PLUGIN_MEM_W) is called for both. Only who asks for both gets what was asked for. A cache
# simulator that trusts the argument counts stores as its loads, without any error.
#
# Guessed before looking: each is called for its own direction.
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

# The interface, as qemu-plugin.h version 1 has it: one callback counts by the direction that
# QEMU itself tells of each access.
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

static int direction;
static unsigned long counts[2];

static void access(unsigned cpu, uint32_t info, uint64_t address, void *data) {
    counts[qemu_plugin_mem_is_store(info)]++;
}
static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), access, 0, direction, NULL);
}
static void ended(uint64_t id, void *data) {
    char line[80];
    snprintf(line, sizeof line, "%lu %lu\n", counts[0], counts[1]);
    qemu_plugin_outs(line);
}
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    direction = atoi(argv[0] + sizeof "direction");
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
C
cat >program.c <<'C'
static volatile int values[1000];
int main(void) {
    int sum = 0;
    for (int i = 0; i < 1000; i++) values[i] = i;
    for (int i = 0; i < 3000; i++) sum += values[i % 1000];
    return sum == 0;
}
C
gcc -w -shared -fPIC -o plugin.so plugin.c
gcc -O1 -static -o program program.c

for direction in 1 2 3; do
    $qemu -d plugin -D "log$direction" -plugin ./plugin.so,direction=$direction ./program
    read -r loads stores <"log$direction"
    case $direction in 1) asked=loads ;; 2) asked=stores ;; 3) asked=both ;; esac
    echo "asked for $asked: called for $loads loads and $stores stores"
    eval "loads$direction=$loads stores$direction=$stores"
done
[ "$loads3" -gt 3000 ] && [ "$stores3" -gt 1000 ] &&
    [ "$loads1" -eq 0 ] && [ "$stores1" -eq "$stores3" ] &&
    [ "$loads2" -eq "$loads3" ] && [ "$stores2" -eq "$stores3" ]
