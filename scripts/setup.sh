#!/bin/sh
# Installs what building and running need and this machine lacks, by apt.
#
# It says what it would install. Not being root, it uses sudo, and on a terminal asks first
# (PROXIMA_YES=1 answers yes). Where nothing is missing it says nothing and takes no time.
set -eu

want=""
need() { case " $want " in *" $1 "*) ;; *) want="$want $1" ;; esac; }
has() { command -v "$1" >/dev/null 2>&1; }

# Edition 2024 needs Rust 1.85.
rust_is_new() {
    has rustc && has cargo || return 1
    minor=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    [ "${minor:-0}" -ge 85 ]
}

has_target() {
    dir=$(rustc --print target-libdir --target "$1" 2>/dev/null) && ls "$dir"/libcore-* >/dev/null 2>&1
}

has qemu-system-x86_64 || need qemu-system-x86
has cc || need gcc
has ar || need binutils
has numactl || need numactl
has zstd || need zstd

# Rust: rustup's targets where they can be had, else a distribution's compiler and its source.
if ! rust_is_new; then
    need rustc-web
    need cargo-web
fi
for target in x86_64-unknown-none x86_64-unknown-linux-musl; do
    if has rustup && ! has_target "$target"; then
        rustup target add "$target" >/dev/null 2>&1 || true
    fi
    if ! has_target "$target"; then
        [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] || { need rustc-web; need cargo-web; }
        [ -d /usr/lib/rustlib/src/rust/library ] || need rust-web-src
        has ld.lld || need lld
        has musl-gcc || need musl-tools
        ls /usr/lib/llvm-*/lib/libunwind.a >/dev/null 2>&1 || need libunwind-14-dev
    fi
done

[ -n "$want" ] || exit 0

if ! has apt-get; then
    echo "setup: please install (named as in Debian):$want" >&2
    exit 1
fi

echo "setup: to be installed:$want"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if ! has sudo; then
        echo "setup: not root, and there is no sudo: please run  apt-get install$want" >&2
        exit 1
    fi
    sudo="sudo"
    if [ -t 0 ] && [ "${PROXIMA_YES:-}" != 1 ]; then
        printf 'setup: run  sudo apt-get install%s ? [y/N] ' "$want"
        read -r answer
        case "$answer" in y | Y | yes) ;; *) echo "setup: nothing installed" >&2; exit 1 ;; esac
    elif [ ! -t 0 ]; then
        sudo="sudo -n"
    fi
fi

export DEBIAN_FRONTEND=noninteractive
# A fresh container has no lists yet.
if ! apt-cache show qemu-system-x86 >/dev/null 2>&1; then
    $sudo apt-get update
fi
# A newer QEMU where the backports are set up.
release=""
for package in $want; do
    if [ "$package" = qemu-system-x86 ]; then
        release=$(apt-cache madison qemu-system-x86 2>/dev/null | sed -n 's/.* \([a-z]*-backports\)\/.*/\1/p' | head -1)
    fi
done
if [ -n "$release" ]; then
    $sudo apt-get install -y --no-install-recommends -t "$release" qemu-system-x86
fi
# shellcheck disable=SC2086 # a list of words
$sudo apt-get install -y --no-install-recommends $want
