#!/bin/sh
# Measures ringway beside HAProxy, nginx and a tokio-uring relay; docs/performance.md says how.
#
#   scripts/bench.sh                                         everything, three rounds of one second
#   scripts/bench.sh --quick                                 one round of 0.3 s: does everything run?
#   scripts/bench.sh --workloads rr64 --subjects ringway,nginx64 --rounds 5 --seconds 0.5
#   scripts/bench.sh --ringway old=/tmp/ringway --ringway tuned=target/release/ringway,RINGWAY_X=1
#   scripts/bench.sh --io epoll                              ringway once more on epoll, as a subject `epoll`
#   scripts/bench.sh --io io_uring,epoll                     and on io_uring, whatever `auto` would choose
#   scripts/bench.sh --out benches/runs/2030-01-31-name      writes table, CSV and chart there
#
# Without --ringway the release build of this tree is made and measured; RINGWAY_BENCH_NO_BUILD=1 takes it as it is.
# Needs root (a network namespace a run), haproxy, nginx and libnginx-mod-stream.
set -eu
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
program="$target/bench-macro"

newest() { find benches/macro -name '*.rs' -newer "$program" | head -n 1; }
if [ ! -x "$program" ] || [ -n "$(newest)" ]; then
    built=$(cargo bench --quiet --profile load --bench macro --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*macro-[^"]*\)".*/\1/p' | tail -n 1)
    cp "$built" "$program.new"
    mv "$program.new" "$program"
fi

own=yes
quick=
for word in "$@"; do
    case "$word" in
        --ringway | --ringway=*) own= ;;
        --quick) quick=yes ;;
    esac
done
if [ -n "$quick" ]; then
    rest=
    for word in "$@"; do
        [ "$word" = --quick ] || rest="$rest $word"
    done
    # Words of this command line have no spaces in them.
    # shellcheck disable=SC2086
    set -- --rounds=1 --seconds=0.3 --tries=1 $rest
fi
if [ -n "$own" ]; then
    [ -n "${RINGWAY_BENCH_NO_BUILD:-}" ] || cargo build --quiet --release --bin ringway
    set -- --ringway="$target/release/ringway" "$@"
fi
case "$program" in /*) ;; *) program="./$program" ;; esac
exec "$program" sweep "$@"
