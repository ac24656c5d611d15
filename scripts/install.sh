#!/bin/sh
# Puts the tool, its manual pages and completions below a prefix. Arguments: the tool, built to be
# installed, and the prefix (such as /usr/local, or below a directory that becomes a package).
set -eu

[ $# -eq 2 ] || { echo "usage: install.sh PROXIMA PREFIX" >&2; exit 2; }
tool=$1
prefix=$2
share=$prefix/share

install -D -m 755 "$tool" "$prefix/bin/proxima"
install -d "$share/man/man1"
"$tool" man "$share/man/man1" >/dev/null
install -d "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
"$tool" completions bash >"$share/bash-completion/completions/proxima"
"$tool" completions zsh >"$share/zsh/site-functions/_proxima"
"$tool" completions fish >"$share/fish/vendor_completions.d/proxima.fish"
