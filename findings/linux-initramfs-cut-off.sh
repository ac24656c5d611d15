#!/bin/sh
# Linux 6.12.95 (Debian's backport, booted in QEMU 7.2 with 512 MiB): a file of an initramfs that has no
# room in the initial root keeps its size, its end reads as zeroes, everything behind it in the archive is
# missing, and the program there starts all the same. The initial root may take half of the memory that
# is left beside the packed image: 115 MiB here. The one sign is "Initramfs unpacking failed: write
# error" in the log.
#
# Guessed before looking: a panic, or that the file is whole, since half of 512 MiB is more than it has.
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
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
int main(void) {
    struct stat big;
    struct statfs root;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (stat("/big", &big) == 0) {
        char first = '?', end = '?';
        int file = open("/big", O_RDONLY);
        pread(file, &first, 1, 0);
        pread(file, &end, 1, big.st_size - 1);
        printf("told: big has %lld MiB, from %d to %d\n", (long long)big.st_size >> 20, first, end);
    }
    printf("told: what comes behind is %s\n", stat("/last", &big) < 0 ? "missing" : "there");
    if (statfs("/", &root) == 0)
        printf("room: %llu MiB\n", (unsigned long long)root.f_blocks * root.f_bsize >> 20);
    reboot(RB_POWER_OFF);
}
C
gcc -static -O1 -o init init.c
# An archive in cpio's newc format: the program, a large file, and a small one behind it.
python3 - <<'P'
def entry(number, name, mode, data=b""):
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = ("070701" + "".join(f"{field:08X}" for field in fields) + name + "\0").encode()
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
with open("init", "rb") as program, open("image", "wb") as image:
    image.write(entry(1, "dev", 0o40755) + entry(2, "init", 0o100755, program.read()))
    image.write(entry(3, "big", 0o100644, b"x" * (224 << 20)))
    image.write(entry(4, "last", 0o100644, b"y") + entry(0, "TRAILER!!!", 0))
P

timeout 300 qemu-system-x86_64 -accel tcg -cpu max -m 512 -nodefaults -display none -no-reboot -serial stdio \
    -kernel root/boot/vmlinuz-* -initrd image -append 'console=ttyS0 panic=-1' >log
grep -a '^told\|^room\|npacking' log | tr -d '\r' | tee told
[ "$(grep '^told' told)" = "told: big has 224 MiB, from 120 to 0
told: what comes behind is missing" ]
