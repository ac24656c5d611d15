#!/bin/sh
# Prints what a release is made of as CycloneDX 1.5 (JSON): the crates of the tool, of the kernel and of the guest's
# programs that it carries, with versions, licenses and the registry's checksums, and Rust's library.
#
# It is made of what cargo says of the lock files, so the same sources and compiler give the same bytes.
set -eu

cd "$(dirname "$0")/.."
export LC_ALL=C
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
rust=$(rustc --version | cut -d' ' -f2)

# name|version|license|from the registry (or here)|what it is part of
crates() { # part, arguments of cargo tree
    part=$1
    shift
    cargo tree --locked --edges normal,build --prefix none --no-dedupe --format '{p}|{l}' "$@" |
        sed '/|/!d; s/ (\*)//; s/ (proc-macro)//' |
        sed "s/^\([^ ]*\) v\([^ |]*\) (\/[^)]*)|\(.*\)/\1|\2|\3|here|$part/
            t
            s/^\([^ ]*\) v\([^ |]*\)|\(.*\)/\1|\2|\3|registry|$part/"
}
{
    crates proxima -p boot_tester --target x86_64-unknown-linux-gnu
    crates plugin -p traffic_plugin --target x86_64-unknown-linux-gnu
    crates kernel -p kernel --target x86_64-unknown-none
    (cd user && crates guest --workspace --target x86_64-unknown-linux-musl)
} | sort -u | awk -F'|' -v version="$version" -v rust="$rust" '
    function text(s) { gsub(/\\/, "\\\\", s); gsub(/"/, "\\\"", s); return "\"" s "\"" }
    # Checksums by name and version, from both lock files.
    BEGIN {
        split("Cargo.lock user/Cargo.lock", files, " ")
        for (i = 1; i in files; i++) {
            while ((getline line < files[i]) > 0) {
                split(line, word, "\"")
                if (line ~ /^name = /) name = word[2]
                if (line ~ /^version = /) number = word[2]
                if (line ~ /^checksum = /) sum[name "|" number] = word[2]
            }
        }
    }
    { key = $1 "|" $2; license[key] = $3; from[key] = $4; parts[key] = parts[key] (parts[key] ? " " : "") $5
      if (!seen[key]++) order[++count] = key }
    END {
        print "{"
        print "  \"bomFormat\": \"CycloneDX\","
        print "  \"specVersion\": \"1.5\","
        print "  \"version\": 1,"
        print "  \"metadata\": {\"component\": {\"type\": \"application\", \"name\": \"proxima\", \"version\": " text(version) \
            ", \"licenses\": [{\"expression\": \"MIT OR Apache-2.0\"}]}},"
        print "  \"components\": ["
        for (i = 1; i <= count; i++) {
            split(order[i], own, "|")
            line = "    {\"type\": \"library\", \"name\": " text(own[1]) ", \"version\": " text(own[2])
            expression = license[order[i]]
            gsub(/\//, " OR ", expression)
            if (expression) line = line ", \"licenses\": [{\"expression\": " text(expression) "}]"
            if (from[order[i]] == "registry") line = line ", \"purl\": " text("pkg:cargo/" own[1] "@" own[2])
            if (order[i] in sum) line = line ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": " text(sum[order[i]]) "}]"
            print line ", \"properties\": [{\"name\": \"proxima:part\", \"value\": " text(parts[order[i]]) "}]},"
        }
        print "    {\"type\": \"library\", \"name\": \"rust-std\", \"version\": " text(rust) \
            ", \"licenses\": [{\"expression\": \"MIT OR Apache-2.0\"}]}"
        print "  ]"
        print "}"
    }'
