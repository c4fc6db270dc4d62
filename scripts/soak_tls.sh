#!/bin/sh
# Ten thousand handshakes with clients and as many with backends, each cut at a random byte, on both drivers. Stops at
# the first run that leaves a session, a descriptor or a buffer behind.
#
#   scripts/soak_tls.sh             from seed 0
#   scripts/soak_tls.sh 50000       from that seed on
#
# RINGWAY_TLS_CUTS is how many there are.
set -eu
cd "$(dirname "$0")/.."
export RINGWAY_TLS_CUTS="${RINGWAY_TLS_CUTS:-10000}" RINGWAY_TLS_CUTS_FROM="${1:-0}"

for io in io_uring epoll; do
    echo "== $RINGWAY_TLS_CUTS cuts in each direction, $io"
    RINGWAY_IO=$io cargo test --quiet --locked --test it -- --nocapture --test-threads=1 tls_cuts
done
