#!/bin/bash
# Throws random input at everything that reads what others wrote: PROXY headers, ClientHellos,
# requests of PostgreSQL, TLS, certificates, configurations of ours and of other programs.
#
#   scripts/fuzz.sh                           ten minutes for each target
#   scripts/fuzz.sh --quick                   one minute for each
#   scripts/fuzz.sh --seconds 5 proxy_v2      for this long, and only that one
#   scripts/fuzz.sh --replay proxy_v2 FILE    what a crash file does
#
# It begins with fuzz/corpus and conf/*.toml, and keeps what it finds in target/fuzz/corpus. Input that crashes, leaks,
# or takes longer than five seconds goes to target/fuzz/crashes; each is to become a test of the module it broke.
# Installs cargo-fuzz below target if there is none. libFuzzer's instrumentation is an unstable flag of a stable compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1

seconds=600 replay='' targets=()
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) seconds=60 ;;
        --seconds) seconds=$2 && shift ;;
        --replay) replay=$3 targets=("$2") && shift 2 ;;
        -*) echo "$1: not an option of this script" >&2 && exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || targets=(proxy_v1 proxy_v2 proxy_split client_hello postgresql etcd certificate
    tls_records tls_server tls_client configuration import)

PATH="$PWD/target/tools/bin:$PATH"
command -v cargo-fuzz >/dev/null || cargo install --quiet cargo-fuzz --version 0.13.2 --locked --root target/tools
# Objects beside those of the tests, which are built without instrumentation.
options=(--fuzz-dir fuzz --target-dir target/fuzz/build)

if [ -n "$replay" ]; then
    exec cargo fuzz run "${options[@]}" "${targets[0]}" "$replay"
fi

crashes=target/fuzz/crashes
mkdir -p "$crashes"
for target in "${targets[@]}"; do
    corpus=target/fuzz/corpus/$target
    case "$target" in proxy_*) seeds=fuzz/corpus/proxy ;; *) seeds=fuzz/corpus/$target ;; esac
    mkdir -p "$corpus"
    if [ "$target" = configuration ]; then cp conf/*.toml "$corpus"; fi
    if [ "$target" = import ]; then cp tests/data/import/* "$corpus"; fi
    echo "== $target, $seconds s"
    before=$(find "$crashes" -type f | wc -l)
    cargo fuzz run "${options[@]}" "$target" "$corpus" "$seeds" -- -max_total_time="$seconds" -timeout=5 \
        -max_len=24576 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=1 -artifact_prefix="$crashes/$target-" \
        >"target/fuzz/$target.log" 2>&1 || true
    grep -E 'stat::(number_of_executed|new_units|peak_rss)|panicked at|^==.*ERROR|^error' "target/fuzz/$target.log" ||
        tail -n 20 "target/fuzz/$target.log"
    if ! grep -q 'stat::number_of_executed_units' "target/fuzz/$target.log"; then
        echo "$target did not run; see target/fuzz/$target.log" >&2
        exit 1
    fi
    if [ "$(find "$crashes" -type f | wc -l)" != "$before" ]; then
        echo "$target found something; the whole report is in target/fuzz/$target.log" >&2
    fi
done

found=$(find "$crashes" -type f | sort)
[ -z "$found" ] || {
    echo "== found; replay with:"
    for file in $found; do
        name=${file#"$crashes/"}
        echo "scripts/fuzz.sh --replay ${name%%-*} $file"
    done
    exit 1
}
