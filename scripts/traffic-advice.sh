#!/bin/sh
# Counts programs that place their memory badly, runs each again with the best advice that numactl
# can express, and demands that the share of remote lines comes within 5 points of the expected one.
# Usage: traffic-advice.sh PROXIMA-COMMAND...; skips with the reason where numactl is missing.
set -eu
command -v numactl >/dev/null || { echo "skip: numactl is not installed"; exit 0; }
programs=$("$@" build --programs)
failed=0
while read -r name cpus first; do
    said=$("$@" run --topology two-socket --quiet --traffic --caches small --advice=apply -- \
        "$programs/traffic" work "$name" "$cpus" "$first" 4 4 2>&1 < /dev/null | grep '^advice applied') || said="no advice"
    echo "$said" | awk -v name="$name $cpus" '
        { n = 0; for (i = 1; i <= NF; i++) if ($i ~ /%/) { v[n++] = $i + 0 }
          off = v[1] - v[2]; if (off < 0) off = -off
          bad = n != 3 || off > 5
          print (bad ? "FAIL" : "ok  "), name ":", $0; exit bad }' || failed=1
done <<'END'
cg 0,1 3
is 0,1 3
ft 2,3 1
join 0,1 2
queue 0,1 3
stencil 2,3 0
cg 0,1,2 3
ft 1,2,3 0
END
exit $failed
