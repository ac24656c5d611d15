#!/bin/sh
# Installs Proxima in fresh roots of other distributions' releases and runs it there on Proxima, on the
# release's own Linux, and on one asked for by its version. Arguments: releases [default: trixie noble].
# Needs root, debootstrap and a network; the roots are temporary (some 600 MB each).
#
# A line for each run, and in the end `N passed, N failed`; exit code 1 if one failed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" -eq 0 ] || { echo "releases: must be root, for chroot" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "releases: please install debootstrap" >&2; exit 2; }
[ $# -gt 0 ] || set -- trixie noble

work=$(mktemp -d)
leave() {
    for dir in "$work"/*/proc "$work"/*/dev; do umount "$dir" 2>/dev/null || true; done
    # A root that something is still mounted in is left, rather than what is mounted.
    grep -q " $work" /proc/mounts || rm -rf "$work"
}
trap leave EXIT
trap 'exit 130' INT TERM

bootstrap() { # release, directory
    case $1 in
    # Debian's scripts serve for Ubuntu, whose keys are not everywhere.
    noble | jammy)
        debootstrap --variant=minbase --no-check-gpg --components=main,universe "$1" "$2" \
            http://archive.ubuntu.com/ubuntu /usr/share/debootstrap/scripts/gutsy
        ;;
    *) debootstrap --variant=minbase "$1" "$2" http://deb.debian.org/debian ;;
    esac
}

passed=0
failed=0
for release; do
    dir=$work/$release
    echo "releases: making a root of $release"
    bootstrap "$release" "$dir" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; exit 1; }
    chroot "$dir" apt-get install -y -q --no-install-recommends qemu-system-x86 busybox-static \
        numactl zstd >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; exit 1; }
    make -s -C "$root" install DESTDIR="$dir" PREFIX=/usr/local >/dev/null
    mount --bind /proc "$dir/proc"
    mount --bind /dev "$dir/dev"
    series=$(chroot "$dir" apt-cache search --names-only '^linux-image-[0-9]' |
        sed -n 's/^linux-image-\([0-9]*\.[0-9]*\).*/\1/p' | sort -V | tail -1)
    for kernel in proxima linux "linux:$series"; do
        if out=$(chroot "$dir" env -i HOME=/root PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            proxima run --kernel "$kernel" --topology cxl -- \
            sh -c 'uname -r; numactl --hardware' 2>&1) &&
            echo "$out" | grep -q '^available: 3 nodes'; then
            passed=$((passed + 1))
            echo "ok $release: $kernel ($(echo "$out" | head -1))"
        else
            failed=$((failed + 1))
            echo "FAIL $release: $kernel"
            echo "$out" | tail -5 | sed 's/^/    /'
        fi
    done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
