#!/bin/sh
# Linux 6.12.95 (Debian's backport, booted in QEMU 7.2): a parent that unmaps a private huge page
# which its child still has makes the count of reserved huge pages go below none. Until the child
# ends, resv_hugepages and meminfo's HugePages_Rsvd say 18446744073709551615, which a tool that
# subtracts it from the free ones takes for a full pool.
# (Linux 7.2.11 says 0.)
#
# Guessed before looking: 0, as the page's reservation was used up when it was written.
set -eu

kernel=linux-image-6.12.95+deb12-amd64
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
for tool in gcc python3 qemu-system-x86_64; do command -v $tool >/dev/null || exit 77; done

# A view of Debian's backports that leaves the machine's own as it is.
mkdir -p apt/lists/partial apt/archives/partial
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] http://deb.debian.org/debian bookworm-backports main" >apt/sources.list
apt() {
    apt-get -q -o APT::Sandbox::User=root -o Dir::State::Lists="$dir/apt/lists" -o Dir::Cache="$dir/apt" \
        -o Dir::Etc::SourceList="$dir/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null "$@" >/dev/null 2>&1
}
apt update && apt download "$kernel" || exit 77
dpkg -x linux-image-*.deb root
qemu-system-x86_64 --version | head -1
echo "$kernel"

cat >init.c <<'C'
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>
#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"
static void tell(const char *when) {
    char value[64] = "?\n";
    int file = open(POOL "resv_hugepages", O_RDONLY);
    if (read(file, value, sizeof value - 1) < 0) value[0] = '?';
    close(file);
    printf("reserved %s: %s", when, value);
}
int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    int file = open(POOL "nr_hugepages", O_WRONLY);
    if (write(file, "4", 1) != 1) puts("no pool");
    close(file);
    char *page = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    tell("when a page is mapped");
    *page = 1;
    tell("when it is written");
    pid_t child = fork();
    if (child == 0) for (;;) pause();
    munmap(page, 2 << 20);
    tell("when the parent has unmapped it");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    tell("when the child has ended");
    reboot(RB_POWER_OFF);
}
C
gcc -static -O1 -o init init.c
# An archive in cpio's newc format: the program and where it mounts.
python3 - <<'P'
def entry(number, name, mode, data=b""):
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = ("070701" + "".join(f"{field:08X}" for field in fields) + name + "\0").encode()
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
with open("init", "rb") as program, open("image", "wb") as image:
    image.write(entry(1, "dev", 0o40755) + entry(2, "sys", 0o40755))
    image.write(entry(3, "init", 0o100755, program.read()) + entry(0, "TRAILER!!!", 0))
P

timeout 300 qemu-system-x86_64 -accel tcg -cpu max -m 512 -nodefaults -display none -no-reboot -serial stdio \
    -kernel root/boot/vmlinuz-* -initrd image -append 'console=ttyS0 quiet panic=-1' >log
grep -a '^reserved' log | tr -d '\r' | tee told
[ "$(sed 's/.*: //' told | tr '\n' ' ')" = "1 0 18446744073709551615 0 " ]
