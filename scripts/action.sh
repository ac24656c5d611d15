#!/bin/sh
# The steps of action.yml. Argument: install or run. What is wanted comes in variables, named in action.yml;
# GITHUB_ACTION_PATH, GITHUB_OUTPUT, GITHUB_PATH, GITHUB_STEP_SUMMARY and RUNNER_TEMP are the runner's.
#
# Elsewhere: RUNNER_TEMP=DIR PROXIMA_TESTS=DIR sh scripts/action.sh run, with proxima in PATH, does as well.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
temp=${RUNNER_TEMP:-${TMPDIR:-/tmp}}/proxima
mkdir -p "$temp"
fail() {
    echo "proxima action: $1" >&2
    exit 2
}
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }
packages() {
    [ -n "$*" ] || return 0
    command -v apt-get >/dev/null || fail "please install$* first: there is no apt-get here"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$temp/apt.log" 2>&1 || {
        as_root apt-get update -q >"$temp/apt.log" 2>&1 || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$temp/apt.log" 2>&1 || {
            tail -3 "$temp/apt.log" >&2
            fail "apt-get install $* does not work"
        }
    }
}

# Fetches a release's package, and compares it with the release's checksums.
fetch() { # version
    base=${PROXIMA_RELEASES:-https://github.com/${PROXIMA_REPOSITORY:?}/releases/download}/v$1
    file=proxima_$1_amd64.deb
    for each in "$file" SHA256SUMS; do
        curl -fsSL --retry 3 -o "$temp/$each" "$base/$each" || fail "$base/$each cannot be fetched"
    done
    (cd "$temp" && grep " $file\$" SHA256SUMS | sha256sum --quiet -c -) || fail "$file is not as its checksum says"
    package=$temp/$file
}

install() {
    package=${PROXIMA_PACKAGE:-}
    version=${PROXIMA_VERSION:-}
    [ -n "$version" ] ||
        version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$here/Cargo.toml")
    [ -n "$package" ] || fetch "${version#v}"
    [ -e "$package" ] || fail "package $package: there is no such file"
    lacking=
    command -v numactl >/dev/null || lacking="$lacking numactl"
    case $package in
    *.deb)
        # apt takes a path for a file only with a slash in it.
        # shellcheck disable=SC2086 # a list of words
        packages $lacking "$(cd "$(dirname "$package")" && pwd)/$(basename "$package")"
        ;;
    *.tar.xz)
        command -v qemu-system-x86_64 >/dev/null || lacking="$lacking qemu-system-x86"
        # shellcheck disable=SC2086 # a list of words
        packages $lacking
        mkdir -p "$temp/tool"
        tar -xJf "$package" -C "$temp/tool" --strip-components=1
        echo "$temp/tool/bin" >>"$GITHUB_PATH"
        PATH=$temp/tool/bin:$PATH
        ;;
    *) fail "package $package: neither .deb nor .tar.xz" ;;
    esac
    # A runner's user may not open it, where it is; the machine is thrown away afterwards.
    if [ "${GITHUB_ACTIONS:-}" = true ] && [ -e /dev/kvm ] && [ ! -w /dev/kvm ]; then
        as_root chmod a+rw /dev/kvm || true
    fi
    proxima --version
    proxima doctor
}

escaped() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/"/\&quot;/g' | tr -d '\000-\010\013\014\016-\037'; }

# A command on each topology and kernel: a test case each.
command_everywhere() {
    case $kernel in both) kernels="proxima linux" ;; *) kernels=$kernel ;; esac
    cases=0
    failures=0
    : >"$temp/cases"
    for topology in $topologies; do
        for each in $kernels; do
            cases=$((cases + 1))
            start=$(date +%s)
            # shellcheck disable=SC2086 # a list of words
            if proxima run --topology "$topology" --kernel "$each" $options -- sh -c "$PROXIMA_COMMAND" \
                >"$temp/out" 2>&1 </dev/null; then
                code=0
            else
                code=$?
            fi
            time=$(($(date +%s) - start))
            cat "$temp/out"
            {
                printf '    <testcase classname="%s" name="%s" time="%s"' "$each" "$topology" "$time"
                case $code in
                0) echo '/>' ;;
                77) echo '><skipped/></testcase>' ;;
                *)
                    printf '><failure message="exit code %s">' "$code"
                    tail -c 20000 "$temp/out" | escaped
                    echo '</failure></testcase>'
                    ;;
                esac
            } >>"$temp/cases"
            case $code in 0) word=ok ;; 77) word=skip ;; *) word="FAIL, exit code $code" failures=$((failures + 1)) ;; esac
            echo "$word [$topology, $each] $time s"
        done
    done
    {
        echo '<?xml version="1.0" encoding="UTF-8"?>'
        echo "<testsuites><testsuite name=\"proxima\" tests=\"$cases\" failures=\"$failures\">"
        cat "$temp/cases"
        echo '</testsuite></testsuites>'
    } >"$junit"
    [ "$failures" -eq 0 ]
}

tests_everywhere() {
    set --
    for topology in $topologies; do set -- "$@" --topology "$topology"; done
    [ "${PROXIMA_REPEAT:-1}" = 1 ] || set -- "$@" --repeat "$PROXIMA_REPEAT"
    # shellcheck disable=SC2086 # a list of words
    proxima test --dir "$PROXIMA_TESTS" --kernel "$kernel" --junit "$junit" "$@" $options
}

run() {
    topologies=${PROXIMA_TOPOLOGIES:-two-socket}
    kernel=${PROXIMA_KERNEL:-proxima}
    options=${PROXIMA_OPTIONS:-}
    junit=$temp/junit.xml
    report=$temp/report.txt
    case ${PROXIMA_TESTS:+t}${PROXIMA_COMMAND:+c} in
    t) what=tests_everywhere ;;
    c) what=command_everywhere ;;
    *) fail "give either tests (a directory) or command" ;;
    esac
    # The verdict is not the pipe's.
    { $what 2>&1 && echo 0 >"$temp/code" || echo $? >"$temp/code"; } | tee "$report"
    if [ -n "${GITHUB_OUTPUT:-}" ]; then
        printf 'junit=%s\nreport=%s\n' "$junit" "$report" >>"$GITHUB_OUTPUT"
    fi
    if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
        { echo '### Proxima' && echo '```' && tail -100 "$report" && echo '```'; } >>"$GITHUB_STEP_SUMMARY"
    fi
    exit "$(cat "$temp/code")"
}

case ${1:-} in
install | run) "$1" ;;
*) fail "usage: action.sh install|run" ;;
esac
