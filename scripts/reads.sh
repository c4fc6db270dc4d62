#!/bin/bash
# What readers notice when the primary of their database dies: the table of docs/databases.md.
#
#   scripts/reads.sh                                    all of it, 20 minutes
#   scripts/reads.sh postgresql 2 cut 5s recommended    one line: database, servers, fault, lag_max, pool for reading
#
# Databases are postgresql, mysql and redis; faults kill, stop and cut; lag_max a duration or "-"; pools recommended
# (that of docs/databases.md for so many servers), plain (least_conn alone) and spread (least_conn with use_all). Each
# line runs in a network of its own, as root, and prints what became of the reads of new clients and of those that stay.
set -euo pipefail
cd "$(dirname "$0")/.."

one() {
    unshare --mount --net --pid --fork --kill-child --mount-proc python3 scripts/reads/measure.py "$@"
}

if [ $# -gt 0 ]; then
    one "$@"
    exit
fi
cargo build --quiet --release --locked
for database in postgresql mysql redis; do
    for servers in 2 3; do
        for fault in kill stop cut; do
            for lag_max in - 5s; do one "$database" "$servers" "$fault" "$lag_max" recommended; done
        done
    done
    one "$database" 2 kill - plain
    one "$database" 2 stop - spread
done
