#!/bin/sh
# Makes what is given away: a tarball, a Debian package, a list of what they are made of (scripts/sbom.sh), and
# checksums of all. Argument: the directory [default: target/dist]. Needs dpkg-deb, objdump and xz.
#
# The same sources and compiler give the same bytes, in whatever directory: no path, name, clock or order of
# this machine gets in. scripts/dist-test.sh proves it.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-${CARGO_TARGET_DIR:-$root/target}/dist}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$root"

fail() {
    echo "dist: $1" >&2
    exit 1
}
for each in dpkg-deb objdump xz; do
    command -v $each >/dev/null || fail "no $each (packages dpkg, binutils, xz-utils)"
done

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=proxima-$version-x86_64-linux
# Everything is as old as the sources.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022

# build.rs does the same for what the tool carries. Host and target are one here, so that build scripts
# have these flags, too.
RUSTFLAGS="--remap-path-prefix=$root=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    cargo build --quiet --release --locked -p boot_tester --target-dir "$out/build"
tool=$out/build/release/proxima

list=proxima-$version.cdx.json
sh scripts/sbom.sh >"$out/$list"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Files of a source tree as they are said to be, without what else lies about.
documents() { # to
    install -d "$1"
    install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$1"
    install -m 644 "$out/$list" "$1"
}

# The tarball: below one directory, to be unpacked anywhere (such as /usr/local with --strip-components=1).
sh scripts/install.sh "$tool" "$work/$name"
documents "$work/$name/share/doc/proxima"
find "$work/$name" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar -c "$name" |
    xz -T1 >"$out/$name.tar.xz"

# The package: the same below /usr, with manual pages compressed as Debian has them.
deb=$work/deb
sh scripts/install.sh "$tool" "$deb/usr"
documents "$deb/usr/share/doc/proxima"
rm "$deb"/usr/share/doc/proxima/LICENSE-*
{
    echo 'Proxima is licensed under the MIT license or the Apache License 2.0, as you like.'
    echo 'The latter stands in /usr/share/common-licenses/Apache-2.0, the former below.'
    echo 'What it is made of, with the license of each crate, is in the list beside this file; the sources are'
    echo "at https://crates.io. (One, inferno, which draws flame graphs, is under the CDDL 1.0.)"
    echo
    cat LICENSE-MIT
} >"$deb/usr/share/doc/proxima/copyright"
chmod 644 "$deb/usr/share/doc/proxima/copyright"
gzip -9n "$deb"/usr/share/man/man1/*.1 "$deb/usr/share/doc/proxima/CHANGELOG.md"
mv "$deb/usr/share/doc/proxima/CHANGELOG.md.gz" "$deb/usr/share/doc/proxima/changelog.gz"
mv "$deb/usr/share/zsh/site-functions" "$deb/usr/share/zsh/vendor-completions"
libc=$(objdump -T "$tool" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1 | sed 's/GLIBC_//')
mkdir "$deb/DEBIAN"
cat >"$deb/DEBIAN/control" <<CONTROL
Package: proxima
Version: $version
Architecture: amd64
Maintainer: the Proxima developers <proxima@localhost>
Installed-Size: $(du -k -s --apparent-size "$deb/usr" | cut -f1)
Depends: qemu-system-x86, libc6 (>= $libc), libgcc-s1
Recommends: busybox-static
Suggests: linux-perf, numactl, zstd
Section: devel
Priority: optional
Description: runs unmodified Linux programs on any NUMA machine you can describe
 Boots a small kernel in QEMU on a machine with the nodes, CPUs, memory and
 distances that you name, and runs your own program there as if it ran here:
 without root, without KVM, with Linux beside it to compare.
CONTROL
find "$deb" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$deb" "$out/proxima_${version}_amd64.deb" >/dev/null

cd "$out"
sha256sum "$name.tar.xz" "proxima_${version}_amd64.deb" "$list" >SHA256SUMS
cat SHA256SUMS
