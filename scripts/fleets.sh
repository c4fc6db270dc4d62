#!/bin/sh
# Runs the recipes of docs/fleets.md in network namespaces: a pair with VRRP, and two hosts with BGP and ECMP. Prints how
# long new connections failed, and what became of open sessions. As root.
#
#   scripts/fleets.sh                  builds the release
#   RINGWAY=PATH scripts/fleets.sh     uses that program
set -eu
cd "$(dirname "$0")/.."
if [ -z "${RINGWAY:-}" ]; then
    cargo build --release --locked
    RINGWAY=target/release/ringway
fi
exec python3 scripts/fleets/run.py "$RINGWAY"
