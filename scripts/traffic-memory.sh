#!/bin/sh
# What counting costs in memory: QEMU's resident memory at most, with the plugin and without, of a
# program that writes 64, 256 and 1024 MiB. At most 1.5 times 64 bytes for each page that is touched,
# and 64 MiB.
# Usage: traffic-memory.sh PROXIMA-COMMAND...
set -eu
programs=$("$@" build --programs)
python3 - "$programs/traffic" "$@" <<'PYTHON'
import os, resource, subprocess, sys
program, proxima = sys.argv[1], sys.argv[2:]


failed = False
for mib in (64, 256, 1024):
    sizes = {}
    for name, mode in (("plain", []), ("count", ["--traffic=count"]), ("caches", ["--traffic"])):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            command = [*proxima, "run", "--nodes", "2", "--cpus", "4", "--memory", "3G", "--quiet", *mode,
                       "--", program, "write", "0", "0", str(mib), "1"]
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if done.returncode == 0 else -1
            os.write(writer, str(size).encode())
            os._exit(0)
        os.close(writer)
        sizes[name] = int(os.read(reader, 100))
        os.close(reader)
        os.waitpid(pid, 0)
    # The guest's kernel and programs touch some 64 MiB beside the array.
    limit = 1.5 * 64 * (mib + 64) * 256 / 1024 + 64 * 1024
    for name in ("count", "caches"):
        more = sizes[name] - sizes["plain"]
        bad = min(sizes.values()) < 0 or more > limit
        failed |= bad
        print(f"{'FAIL' if bad else 'ok  '} {mib} MiB, {name}: {more / 1024:.1f} MiB more than "
              f"{sizes['plain'] / 1024:.0f}; at most {limit / 1024:.1f}")
sys.exit(failed)
PYTHON
