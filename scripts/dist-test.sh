#!/bin/sh
# Tests what `make dist` makes. Arguments: roots of other releases of Debian or Ubuntu (directories), with
# qemu-system-x86, busybox-static and numactl in them; being root is needed for those.
#
# Builds twice, each time from nothing and in a directory of its own, and compares the bytes; checks sizes and
# checksums; installs the package in each root and runs it there, and starts two at once on an empty cache. A
# line a case, in the end `N passed, N failed`; exit code 1 if one failed.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
mounted=
leave() {
    for each in $mounted; do umount "$each"; done
    rm -rf "$dir"
}
trap leave EXIT
trap 'exit 130' INT TERM
passed=0
failed=0
verdict() { # code, what
    if [ "$1" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $2"
    else
        failed=$((failed + 1))
        echo "FAIL $2"
    fi
}
# As committed, in directories of different names.
for each in one another-one; do
    mkdir "$dir/$each"
    (cd "$root" && git archive HEAD) | tar -x -C "$dir/$each"
    start=$(date +%s)
    (cd "$dir/$each" && SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct) \
        CARGO_TARGET_DIR=$dir/$each/target sh scripts/dist.sh "$dir/$each/dist") >"$dir/$each.log" 2>&1 || {
        verdict 1 "dist in $each"
        tail -5 "$dir/$each.log" | sed 's/^/    /'
        exit 1
    }
    verdict 0 "dist, $(($(date +%s) - start)) s"
    rm -rf "$dir/$each/dist/build"
done
cmp "$dir/one/dist/SHA256SUMS" "$dir/another-one/dist/SHA256SUMS"
verdict $? "two clean builds in two directories are the same to the byte"
(cd "$dir/one/dist" && sha256sum --quiet -c SHA256SUMS)
verdict $? "checksums"
deb=$(echo "$dir"/one/dist/*.deb)
size=$(stat -c %s "$deb")
[ "$size" -le $((12 << 20)) ]
verdict $? "the package has $((size / 1024)) KiB, at most 12 MiB"
! tar -xJOf "$dir"/one/dist/proxima-*-linux.tar.xz | grep -aq "$dir"
verdict $? "no path of this machine is in it"

# As somebody without a source tree, from the tarball.
tar -xJf "$dir"/one/dist/proxima-*-linux.tar.xz -C "$dir"
tool=$(echo "$dir"/proxima-*/bin/proxima)
export XDG_CACHE_HOME="$dir/cache"
"$tool" --version | grep -q "^kernel: Proxima .* inside"
verdict $? "--version names the kernel inside"
start=$(date +%s%N)
"$tool" run -- true
verdict $? "the first run, $((($(date +%s%N) - start) / 1000000)) ms"
rm -rf "$XDG_CACHE_HOME"
"$tool" run -- true &
other=$!
"$tool" run -- true && wait $other
verdict $? "two at once on an empty cache"
! find "$XDG_CACHE_HOME/proxima/parts" -name '.tmp*' | grep -q .
verdict $? "nothing half-written is left"

sh "$root/scripts/action-test.sh" "$(echo "$dir"/one/dist/proxima-*-linux.tar.xz)"
verdict $? "the steps of action.yml"

for other; do
    release=$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' "$other/etc/os-release")
    if [ "$(id -u)" -ne 0 ]; then
        verdict 1 "$release: must be root, for chroot"
        continue
    fi
    cp "$deb" "$other/tmp/proxima.deb"
    mount --bind /proc "$other/proc" && mounted="$mounted $other/proc"
    mount --bind /dev "$other/dev" && mounted="$mounted $other/dev"
    in_root() { chroot "$other" env -i HOME=/tmp/proxima-home PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
    in_root dpkg -i /tmp/proxima.deb >"$dir/log" 2>&1
    verdict $? "$release: installed"
    in_root proxima run --topology cxl -- numactl --hardware >"$dir/log" 2>&1 &&
        grep -q '^available: 3 nodes' "$dir/log"
    verdict $? "$release: $(grep '^available' "$dir/log")"
    in_root man -w proxima-run >/dev/null 2>&1 || in_root test -e /usr/share/man/man1/proxima-run.1.gz
    verdict $? "$release: manual pages"
    in_root dpkg -P proxima >/dev/null 2>&1
    verdict $? "$release: removed"
    rm -rf "$other/tmp/proxima.deb" "$other/tmp/proxima-home"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
