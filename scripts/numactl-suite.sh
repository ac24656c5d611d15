#!/bin/sh
# numactl's own programs and tests as a suite for `proxima test --dir`: fetches Debian's source
# package, builds it twice (static with musl; dynamic with glibc, beside Debian's own programs), and
# writes the manifest.
#
# usage: numactl-suite.sh DIRECTORY
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIRECTORY" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
[ ! -e "$out/proxima.toml" ] || { echo "$out"; exit 0; }

missing=
for pair in musl-gcc:musl-tools gcc:gcc numactl:numactl bash:bash; do
    command -v "${pair%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -e /usr/include/numa.h ] || missing="$missing libnuma-dev"
if [ -n "$missing" ]; then
    apt-get install -y -qq --no-install-recommends $missing >&2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Source lists of our own: most machines have none.
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
echo "deb-src [trusted=yes] $mirror ${VERSION_CODENAME} main universe" | sed "$(
    [ "${ID}" = ubuntu ] || echo 's/ universe//')" >"$work/sources.list"
mkdir -p "$work/lists/partial" "$work/source"
options="-qq -o Dir::Etc::SourceList=$work/sources.list -o Dir::Etc::SourceParts=/dev/null
    -o Dir::State::Lists=$work/lists -o APT::Sandbox::User=root"
apt-get $options update >&2
(cd "$work/source" && apt-get $options source --download-only numactl >&2 && tar xf numactl_*.orig.tar.*)
source=$(echo "$work"/source/numactl-*)
[ -d "$source" ] || { echo "$0: the source package cannot be had" >&2; exit 1; }

cd "$source"
library="libnuma.c syscall.c distance.c affinity.c sysfs.c rtnetlink.c"
# Without randmap, which numactl's authors call broken, and regress-io, which wants a disk.
tests="distance mbind_mig_pages migrate_pages move_pages node-parse nodemap pagesize prefered
    realloc_test tbitmap mynode"
scripts="bind_range checkaffinity checktopology regress printcpu"
# What their configure script would find out.
printf '%s\n' '#define HAVE_ATTRIBUTE_SYMVER 0' "#define PACKAGE_VERSION \"$(cat VERSION 2>/dev/null)\"" >config.h
flags="-O2 -w -D_GNU_SOURCE -I. -DHAVE_STREAM_H -include config.h"

# build COMPILER LINK DIRECTORY LIBRARIES: all programs into DIRECTORY, their tests below it.
build() {
    compiler="$1" link="$2" to="$3" libraries="$4"
    mkdir -p "$to/test"
    for test in $tests; do
        $compiler $flags -o "$to/test/$test" "test/$test.c" util.c $libraries $link -lm
    done
    for script in $scripts; do
        install -m 755 "test/$script" "$to/test/$script"
    done
}

musl="musl-gcc -idirafter /usr/include -idirafter /usr/include/$(gcc -print-multiarch)"
build "$musl" -static "$out/musl" "$library"
program() { $musl $flags -o "$out/musl/$1" $2 util.c $library -static -lm -lpthread; }
program numactl "numactl.c shm.c"
program numademo "numademo.c stream_lib.c mt.c clearcache.c"
program migratepages migratepages.c
program migspeed migspeed.c
program memhog memhog.c
$musl $flags -std=gnu99 -o "$out/musl/numastat" numastat.c -static

build gcc "" "$out/glibc" "-lnuma"
# Debian does not ship numademo.
gcc $flags -o "$out/glibc/numademo" numademo.c stream_lib.c mt.c clearcache.c util.c -lnuma -lm
for name in numactl migratepages migspeed memhog numastat; do
    path=$(command -v "$name") || { echo "$0: Debian's numactl package has no $name" >&2; exit 1; }
    install -m 755 "$path" "$out/glibc/$name"
done

# What takes arguments, and checks that their programs leave to the eye.
for kind in musl glibc; do
    check() {
        name="$1"
        shift
        printf '#!/bin/bash\nset -e\ncd "$(dirname "$0")/.."\nPATH=$PWD:$PATH\n%s\n' "$*" >"$out/$kind/test/$name"
        chmod 755 "$out/$kind/test/$name"
    }
    mv "$out/$kind/test/realloc_test" "$out/$kind"
    mv "$out/$kind/test/mbind_mig_pages" "$out/$kind/test/migrate_pages" "$out/$kind"
    mv "$out/$kind/test/move_pages" "$out/$kind/move_pages"
    check mbind_mig_pages './mbind_mig_pages 64'
    check migrate_pages './migrate_pages 64'
    check move_pages './move_pages 64'
    check migspeed 'migspeed -p 512 0 1'
    check memhog 'for how in "interleave 0-1" "membind 1" "preferred 0" default; do memhog 16m $how; done'
    check numademo 'numademo -t -e 1M'
    check realloc_test './realloc_test 4'
    check numastat 'numastat | grep numa_hit; numastat -m | grep MemTotal; numastat -n; numastat -p $$'
    check hardware 'numactl --hardware | grep "node distances"; numactl --show | grep "^policy: default"'
    check migratepages 'numactl --membind=0 sleep 1000 & pid=$!
until grep -q sleep /proc/$pid/comm; do :; done
migratepages $pid 0 1
grep -q "heap.* N1=" /proc/$pid/numa_maps || { cat /proc/$pid/numa_maps; exit 1; }
if grep "stack.* N0=" /proc/$pid/numa_maps; then exit 1; fi
kill $pid'
done

cat >"$out/proxima.toml" <<'TOML'
tests = ["musl/test/*", "glibc/test/*"]
with = ["bash"]
timeout = 120

[skip]
"musl/test/printcpu" = "a part of checkaffinity"
"glibc/test/printcpu" = "a part of checkaffinity"
"musl/test/pagesize" = "a part of regress"
"glibc/test/pagesize" = "a part of regress"
TOML
echo "$out"
