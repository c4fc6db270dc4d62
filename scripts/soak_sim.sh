#!/bin/sh
# A million schedules of the simulation: with debug assertions, optimised, so about 500 a second on a CPU of its own, and
# half an hour in all. Stops at the first one that breaks an invariant, and says how to run it again.
#
#   scripts/soak_sim.sh            from seed 0
#   scripts/soak_sim.sh 420000     from that seed on
#
# RINGWAY_SIM_SEEDS is where it ends (1,000,000), RINGWAY_SIM_THREADS how many CPUs it takes (all).
set -eu
cd "$(dirname "$0")/.."
end="${RINGWAY_SIM_SEEDS:-1000000}"
from="${1:-0}"
part=20000

while [ "$from" -lt "$end" ]; do
    # Only what is simulated is optimised: the crates around it are those of every other test.
    RINGWAY_SIM_FROM="$from" RINGWAY_SIM_SEEDS="$part" cargo test --quiet --locked --test sim \
        --config profile.test.opt-level=2 --config 'profile.test.package."*".opt-level=0' no_schedule_breaks
    from=$((from + part))
    echo "$(date +%H:%M:%S) all seeds below $from hold"
done
