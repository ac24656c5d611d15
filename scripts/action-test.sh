#!/bin/sh
# Runs the steps of action.yml as a runner would, with the variables that it sets. Argument: a package of Proxima
# (.tar.xz or .deb, as `make dist` makes them; with a .deb it is installed, which needs root).
#
# What each step runs and is given is read from action.yml itself. A line a case, in the end `N passed, N failed`;
# exit code 1 if one failed. Needs python3 with its YAML.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -eq 1 ] || { echo "usage: action-test.sh PACKAGE" >&2; exit 2; }
package=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
python3 -c 'import yaml' 2>/dev/null || { echo "skipped: no python3 with YAML"; exit 0; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/project" "$dir/project/numa" "$dir/release"
cd "$dir/project" || exit 1
printf '#!/bin/sh\n[ -d /sys/devices/system/node/node1 ] || exit 77\nnumactl --membind=1 true\n' >numa/needs_two_nodes
printf '#!/bin/sh\nexit 3\n' >broken
chmod +x numa/needs_two_nodes broken
printf 'with = ["numactl"]\n' >numa/proxima.toml

# Runs both steps with the inputs that are given as NAME=VALUE; the exit code is that of the first that fails.
cat >"$dir/runner.py" <<'PY'
import os, re, subprocess, sys, yaml
root, temp = sys.argv[1:3]
action = yaml.safe_load(open(root + "/action.yml"))
given = dict(word.split("=", 1) for word in sys.argv[3:])
unknown = set(given) - set(action["inputs"])
assert not unknown, unknown
inputs = {name: given.get(name, spec["default"]) for name, spec in action["inputs"].items()}
outputs, path = {}, os.environ["PATH"]
for step in action["runs"]["steps"]:
    names = {"GITHUB_OUTPUT": temp + "/output", "GITHUB_PATH": temp + "/path", "GITHUB_STEP_SUMMARY": temp + "/summary"}
    for file in names.values():
        open(file, "a").close()
    def fill(text):
        text = re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], text)
        return text.replace("${{ github.action_repository }}", "owner/proxima")
    env = {name: fill(value) for name, value in step["env"].items()}
    assert not any("${{" in value for value in env.values()), env
    added = open(names["GITHUB_PATH"]).read().split()
    env |= names | {"GITHUB_ACTION_PATH": root, "RUNNER_TEMP": temp, "HOME": os.environ["HOME"],
                    "PATH": ":".join(added[::-1] + [path])}
    env |= {name: os.environ[name] for name in ["PROXIMA_RELEASES", "XDG_CACHE_HOME"] if name in os.environ}
    done = subprocess.run([step["shell"], "-e", "-o", "pipefail", "-c", step["run"]], env=env)
    if "id" in step:
        outputs[step["id"]] = dict(line.split("=", 1) for line in open(names["GITHUB_OUTPUT"]).read().splitlines())
    if done.returncode:
        break
for name, spec in action["outputs"].items():
    step, key = re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", spec["value"]).groups()
    print(f"output {name}={outputs.get(step, {}).get(key, '')}")
sys.exit(done.returncode)
PY

passed=0
failed=0
number=0
# what, exit code, a pattern that the JUnit file must have (none: no file), inputs
try() {
    what=$1 wanted=$2 pattern=$3
    shift 3
    number=$((number + 1))
    temp=$dir/temp$number
    mkdir "$temp"
    start=$(date +%s)
    python3 "$dir/runner.py" "$root" "$temp" "$@" >"$dir/log" 2>&1 </dev/null
    code=$?
    time=$(($(date +%s) - start))
    junit=$(sed -n 's/^output junit=//p' "$dir/log")
    report=$(sed -n 's/^output report=//p' "$dir/log")
    well=true
    [ "$code" -eq "$wanted" ] || well="exit code $code"
    if [ -n "$pattern" ]; then
        [ -s "$junit" ] && python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$junit" &&
            grep -q "$pattern" "$junit" && [ -s "$report" ] && [ -s "$temp/summary" ] || well="its outputs"
    fi
    if [ "$well" = true ]; then
        passed=$((passed + 1))
        echo "ok   $what ($time s)"
    else
        failed=$((failed + 1))
        echo "FAIL $what: $well"
        tail -8 "$dir/log" | sed 's/^/    /'
    fi
}

export XDG_CACHE_HOME="$dir/cache"
try "a directory of tests on two topologies, from an empty cache" 0 \
    'name="needs_two_nodes \[cxl, proxima\]"' package="$package" tests=numa topologies="two-socket cxl"
unset XDG_CACHE_HOME
try "each test three times" 0 'failures="0"' package="$package" tests=numa repeat=3
try "a command" 0 'name="two-socket"' package="$package" command='numactl --hardware | grep "available: 2"'
try "a command that fails" 1 'exit code 3' package="$package" command=./broken topologies="one-node two-socket"
try "with Linux beside" 0 'name="needs_two_nodes \[two-socket, linux\]"' package="$package" tests=numa kernel=both
try "neither tests nor command" 2 "" package="$package"
try "no such package" 2 "" package=absent.deb tests=numa
case $package in
*.deb)
    version=$(dpkg-deb -f "$package" Version)
    mkdir -p "$dir/release/v$version"
    cp "$package" "$dir/release/v$version/proxima_${version}_amd64.deb"
    (cd "$dir/release/v$version" && sha256sum ./*.deb | sed 's| \./| |' >SHA256SUMS)
    export PROXIMA_RELEASES="file://$dir/release"
    try "a release that is fetched" 0 'failures="0"' version="v$version" tests=numa
    echo >>"$dir/release/v$version/proxima_${version}_amd64.deb"
    try "a release that is not as its checksum says" 2 "" version="$version" tests=numa
    ;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
