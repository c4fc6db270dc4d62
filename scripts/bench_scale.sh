#!/bin/bash
# What large configurations cost: 100 pools of 100 backends, 5,000 backends in one pool, 1,000 listeners, 10,000 routes.
# Prints start, reload, one change until every worker has it, scrape, `ctl status` (all in ms) and memory (MiB). What a
# pick costs is in `cargo bench --bench pick`.
#
#   scripts/bench_scale.sh            builds the release and measures it
#   RINGWAY=PATH scripts/bench_scale.sh 50     measures that program, with 50 rounds
set -eu
cd "$(dirname "$0")/.."
if [ -z "${RINGWAY:-}" ]; then
    cargo build --release --locked
    RINGWAY=target/release/ringway
fi
ulimit -n "$(ulimit -H -n)"
exec python3 scripts/scale/measure.py "$RINGWAY" "${1:-20}"
