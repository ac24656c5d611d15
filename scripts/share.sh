#!/bin/sh
# Looks at a shared directory from the guest, and from here: names, kinds, sizes, times, contents and
# targets are the same. Then what must not work, and what ends early. Arguments: [--quick] (Proxima
# alone), then the command of the tool.
#
# A line for each, and in the end `N passed, N failed`; exit code 1 if one failed.
set -u

kernels="proxima linux"
[ "${1-}" = --quick ] && kernels=proxima && shift
[ $# -gt 0 ] || set -- proxima
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

dir="$work/a,share"
mkdir -p "$dir/sub/empty" "$work/outside"
cd "$dir" || exit 1
echo hello >plain
: >nothing
head -c 258048 /dev/urandom >piece        # exactly what is fetched at once
head -c 258049 /dev/urandom >piece-and-one
head -c 9000000 /dev/urandom >large
truncate -s 3M holes && printf x | dd of=holes bs=1 seek=1500000 conv=notrunc 2>/dev/null
printf '#!/bin/sh\necho ran "$@"\n' >sub/program && chmod 755 sub/program
mkfifo fifo
ln -s sub/program inside
ln -s ../outside/secret outside
ln -s /outside-too absolute
ln -s loop loop
echo 'not to be seen' >"$work/outside/secret"
long=$(printf '%0255d' 0)
echo long >"$long"
printf 'odd' >"$(printf 'b\377\n c')"
deep=sub
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do deep=$deep/d$i; done
mkdir -p "$deep" && echo deep >"$deep/file"
mkdir many && (cd many && seq 1 600 | xargs touch)
touch -d '2001-02-03 04:05:06.789 UTC' plain

# What there is, as anybody sees it who looks with find(1).
cat >"$work/look.sh" <<'LOOK'
cd "$1" || exit 1
find . ! -type d -printf '%P|%y|%m|%n|%s|%T@|%l\n' | LC_ALL=C sort
find . -type d -printf '%P|%y|%m\n' | LC_ALL=C sort
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
LOOK

cat >"$work/check.sh" <<'CHECK'
# In the guest, in the shared directory: a line for each thing that is not as it must be.
want() { # what, expected, command...
    what=$1 expected=$2
    shift 2
    got=$("$@" 2>&1)
    case $got in
    *"$expected"*) ;;
    *) echo "$what: $got" ;;
    esac
}
want write 'Read-only file system' sh -c 'echo x >plain'
want create 'Read-only file system' sh -c ': >new'
want mkdir 'Read-only file system' mkdir new
want remove 'Read-only file system' rm -f plain
want rename 'Read-only file system' mv plain new
want mode 'Read-only file system' chmod 777 plain
want touch 'Read-only file system' touch plain
want link 'Read-only file system' ln plain new
want symlink 'Read-only file system' ln -s plain new
want absent 'No such file' cat absent
want absent-below 'No such file' cat sub/absent/x
want no-directory 'Not a directory' cat plain/x
want directory 'Is a directory' cat sub
want inside 'ran 1 2' ./inside 1 2
want outside 'No such file' cat outside
want outside-by-dots 'No such file' cat sub/../../outside/secret
want absolute 'No such file' cat absolute
want loop 'Too many' cat loop
want deep deep cat "$1/file"
want up hello cat sub/empty/../../plain
want part ' c' sh -c 'head -c 258050 piece-and-one | wc -c | grep -q 258049 && echo " c"'
want end '' tail -c 1 large
want mounted ro sh -c 'grep " 9p " /proc/mounts | cut -d" " -f4'
want untouched hello cat plain
# Several at once, and some that are killed while they read.
for i in 1 2 3 4; do
    (sha256sum large many/*$i >/tmp/sum$i) &
    (cat large piece holes >/dev/null) & kill -9 $!
done 2>/dev/null
wait
for i in 2 3 4; do [ "$(head -1 /tmp/sum1)" = "$(head -1 /tmp/sum$i)" ] || echo "sum $i"; done
want after-kills hello cat plain
mkdir /mnt/again /mnt/none /mnt/other
want again busy mount -t 9p -o trans=virtio,version=9p2000.L share0 /mnt/again
want none 'No such file' mount -t 9p -o trans=virtio,version=9p2000.L nosuch /mnt/none
cd / && umount "$2"
want other hello sh -c 'mount -t 9p -o ro,trans=virtio,version=9p2000.L share0 /mnt/other && cat /mnt/other/plain'
cd /mnt/other
[ -x /usr/bin/python3 ] || exit 0
want mapped 'same True' python3 -c '
import mmap, hashlib
with open("large", "rb") as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
    print("same", hashlib.sha256(m).digest() == hashlib.sha256(open("large", "rb").read()).digest())'
want no-shared-write 'Permission denied' python3 -c '
import mmap
f = open("plain", "rb")
m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_SHARED, prot=3)'
want private-copy "b'jello'" python3 -c '
import mmap
f = open("plain", "rb")
m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=3)
m[0] = 106
print(m[:5], f.read())'
CHECK

# More than memory holds, of contents and of names; what is forgotten is there again when it is asked for.
much="$work/much"
mkdir -p "$much/names"
(cd "$much/names" && seq -f "%06.0f-a-name-of-some-length" 70000 | xargs touch)
for i in 1 2 3 4 5 6 7 8; do head -c 40000000 /dev/urandom >"$much/$i"; done
truncate -s 2T "$much/vast" && printf vast | dd of="$much/vast" bs=1 seek=1T conv=notrunc 2>/dev/null
cat >"$work/press.sh" <<'PRESS'
cd "$1" || exit 1
sum() { sha256sum [1-8]; }
sum >/tmp/first && sum | cmp - /tmp/first && echo sums
find names -type f -size 0 -printf '%i\n' | sort -u | wc -l
stat -c '%s %b' vast
dd if=vast bs=1 skip=1T count=4 2>/dev/null && echo
./program && echo ran
# What is cached makes room for what is not.
dd if=/dev/zero of=/tmp/large bs=1M count=200 2>/dev/null && echo written
head -c 160000000 /dev/zero | tail -c 160000000 | wc -c
./program && sum | cmp - /tmp/first && echo again
PRESS
cp /bin/true "$much/program"
(cd "$much" && {
    echo sums && echo 70000 && stat -c '%s %b' vast && echo vast
    echo ran && echo written && echo 160000000 && echo again
}) >"$work/press"

judge() { # what, whether it is so
    if [ "$2" = yes ]; then
        passed=$((passed + 1))
        echo "ok    $1"
    else
        failed=$((failed + 1))
        echo "FAIL  $1"
    fi
}
same() { if cmp -s "$1" "$2"; then echo yes; else diff "$1" "$2" | head -5 >&2; fi; }

python=
[ -x /usr/bin/python3 ] && python="--with /usr/bin/python3 --share $(/usr/bin/python3 -c \
    'import json, os; print(os.path.dirname(os.path.dirname(json.__file__)))')"
sh "$work/look.sh" "$dir" >"$work/host" 2>&1
for kernel in $kernels; do
    cd /
    "$@" run --quiet --topology two-socket --kernel $kernel --share "$dir" --with "$work/look.sh" -- \
        sh "$work/look.sh" "$dir" >"$work/guest" 2>&1
    judge "$kernel: names, attributes and contents" "$(same "$work/host" "$work/guest")"
    cd "$dir" || exit 1
    # Nothing is gathered: what a link out of the share leads to would come along.
    "$@" run --quiet --topology two-socket --kernel $kernel --share "$dir" --with "$work/check.sh" \
        $python --no-gather -- sh "$work/check.sh" "$deep" "$dir" >"$work/guest" 2>&1
    : >"$work/none"
    judge "$kernel: what is refused, mapped, and killed" "$(same "$work/none" "$work/guest")"
    cd /
    "$@" run --quiet --nodes 2 --memory 512M --kernel $kernel --share "$much" --with "$work/press.sh" \
        -- sh "$work/press.sh" "$much" >"$work/guest" 2>&1
    judge "$kernel: more than memory holds" "$(same "$work/press" "$work/guest")"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
