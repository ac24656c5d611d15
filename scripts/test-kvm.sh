#!/bin/sh
# Runs Proxima under KVM on a machine that has none: QEMU from version 9 on emulates AMD's SVM with nested
# paging. In it boots Debian's Linux 6.12 with kvm-amd, from a small initramfs and with the root of a
# Debian 13 by 9p, read-only; and in that the tool, with KVM.
#
# Arguments: [--root DIR] (a Debian 13 with qemu-system-x86, busybox-static and its apt lists, such as
# debootstrap makes; default: this machine, if it is one), then the command of the tool. A line a case,
# in the end `N passed, N failed`; exit code 1 if one failed. Where QEMU is too old, one line says so.
set -u

root=/
[ "${1-}" = --root ] && root=$2 && shift 2
[ $# -gt 0 ] || set -- proxima
case $1 in
*cargo*) tool=${CARGO_TARGET_DIR:-target}/release/proxima ;;
*) tool=$(command -v "$1") ;;
esac
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
skip() {
    echo "skipped: $1"
    exit 0
}

# A QEMU of another root runs by that root's loader, without any privilege.
emulator() {
    if [ "$root" = / ]; then
        qemu-system-x86_64 "$@"
    else
        "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" \
            "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" \
            -L "$root/usr/share/seabios" "$@"
    fi
}
version=$(emulator --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p')
[ "${version:-0}" -ge 9 ] ||
    skip "QEMU ${version:-is missing} here, KVM needs one from 9 on (sh scripts/test-kvm.sh --root DEBIAN-13)"
[ -e "$root/usr/bin/busybox" ] || skip "$root has no busybox-static"

# The kernel and what it needs to find its root, and KVM.
state="-o Dir=$root -o Dir::State::Status=$root/var/lib/dpkg/status -o APT::Sandbox::User=root"
package=$(apt-cache $state depends linux-image-amd64 2>/dev/null |
    sed -n 's/ *Depends: \(linux-image-6.12[^ ]*\).*/\1/p')
[ -n "$package" ] || skip "apt of $root knows no linux-image-amd64 of 6.12"
(cd "$dir" && apt-get -q $state download "$package" >apt.txt 2>&1) ||
    skip "$package cannot be fetched: $(tail -1 "$dir/apt.txt")"
mkdir -p "$dir/linux" "$dir/initramfs/modules" "$dir/share/bin"
dpkg-deb --fsys-tarfile "$dir"/*.deb | tar -x -C "$dir/linux" --wildcards './boot/vmlinuz-*' \
    '*/kernel/arch/x86/kvm/*' '*/kernel/fs/9p/*' '*/kernel/fs/netfs/*' '*/kernel/net/9p/*' \
    '*/irqbypass.ko*' '*/ccp.ko*'
rm "$dir"/*.deb
modules='netfs 9pnet 9pnet_virtio 9p irqbypass ccp kvm kvm-amd'
for module in $modules; do
    file=$(find "$dir/linux" -name "$module.ko*")
    case $file in
    *.xz) xz -dc "$file" >"$dir/initramfs/modules/$module.ko" ;;
    *) cp "$file" "$dir/initramfs/modules/$module.ko" ;;
    esac
done
cp "$root/usr/bin/busybox" "$dir/initramfs/busybox"
cat >"$dir/initramfs/init" <<INIT
#!/busybox sh
b=/busybox
\$b mkdir -p /proc /sys /dev /host
\$b mount -t proc proc /proc
\$b mount -t sysfs sysfs /sys
\$b mount -t devtmpfs devtmpfs /dev
for module in $modules; do \$b insmod /modules/\$module.ko || echo "no \$module"; done
how=trans=virtio,version=9p2000.L,msize=512000,cache=loose
\$b mount -t 9p -o ro,\$how root /host
for each in tmp run root srv mnt; do \$b mount -t tmpfs tmpfs /host/\$each; done
\$b mount -t 9p -o ro,\$how share /host/srv
for each in proc sys dev; do \$b mount -o bind /\$each /host/\$each; done
exec 2>&1
HOME=/root PATH=/usr/sbin:/usr/bin \$b chroot /host sh /srv/cases
echo "@@ end"
\$b poweroff -f
INIT
chmod +x "$dir/initramfs/init"
(cd "$dir/initramfs" && find . | ./busybox cpio -o -H newc 2>/dev/null) >"$dir/initramfs.cpio"

# The tool as `make install` has it: nothing beside it is needed.
case $1 in *cargo*) "$1" build --quiet --release -p boot_tester || exit 1 ;; esac
cp "$tool" "$dir/share/bin/proxima"
cat >"$dir/share/cases" <<'CASES'
proxima=/srv/bin/proxima
[ -w /dev/kvm ] || echo "@@ FAIL /dev/kvm: there is none"
try() { # what, a pattern that the output must have, arguments
    what=$1 pattern=$2
    shift 2
    if "$proxima" "$@" >/tmp/out 2>&1 </dev/null && grep -Eq -- "$pattern" /tmp/out; then
        echo "@@ ok   $what: $(grep -E -- "$pattern" /tmp/out | tail -1)"
    else
        echo "@@ FAIL $what"
        tail -15 /tmp/out | sed 's/^/@@      | /'
    fi
}
source=/sys/devices/system/clocksource/clocksource0/current_clocksource
small="--nodes 2 --cpus 4 --memory 512M --timeout 120"
try "KVM is taken" '-accel kvm' run --dry-run -- true
try "run" 'clock: ' run $small -- sh -c "echo clock: \$(cat $source)"
try "run -smap" 'clock: ' run $small --cpu max,-smap -- sh -c "echo clock: \$(cat $source)"
try "run, kvm-clock" 'clock: kvm-clock' \
    run $small --append clocksource=kvm-clock -- sh -c "echo clock: \$(cat $source)"
try "clocks" ' 0 failed' test task --filter 'clock|sleep' --topology two-socket
try "clocks by kvm-clock" ' 0 failed' test task --filter 'clock|sleep' --topology two-socket \
    --append clocksource=kvm-clock
try "suites" ' 0 failed' test $SUITES --topology two-socket
CASES
sed -i "1i SUITES='${SUITES:-boot mm mempolicy affinity}'" "$dir/share/cases"

passed=0
failed=0
for clock in tsc=reliable tsc=unstable; do
    echo "the host's clock: $clock"
    emulator -M q35 -accel tcg,thread=multi -cpu max -smp "$(nproc)" -m 3G -nodefaults -no-user-config \
        -no-reboot -vga none -nic none -display none -serial stdio -monitor none \
        -kernel "$dir"/linux/boot/vmlinuz-* -initrd "$dir/initramfs.cpio" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off $clock" \
        -fsdev "local,id=root,path=$root,security_model=none,readonly=on" \
        -device virtio-9p-pci,fsdev=root,mount_tag=root \
        -fsdev "local,id=share,path=$dir/share,security_model=none,readonly=on" \
        -device virtio-9p-pci,fsdev=share,mount_tag=share </dev/null 2>&1 |
        tr -d '\r' >"$dir/console"
    sed -n '/^@@ end/d;s/^@@ /    /p' "$dir/console"
    passed=$((passed + $(grep -c '^@@ ok' "$dir/console")))
    failed=$((failed + $(grep -c '^@@ FAIL' "$dir/console")))
    if ! grep -q '^@@ end' "$dir/console"; then
        failed=$((failed + 1))
        echo "    FAIL it did not come to its end"
        tail -20 "$dir/console" | sed 's/^/         | /'
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
