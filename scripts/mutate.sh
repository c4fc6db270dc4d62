#!/bin/sh
# Do the simulations notice? Puts each fault of tests/sim/mutants.txt and tests/sim_worker/mutants.txt into a copy of the
# tree, one at a time, and runs the sweep of that simulation until it fails. Prints a table for each: the fault, the seed
# that found it, what it said.
#
#   scripts/mutate.sh                            all of them
#   scripts/mutate.sh 'flush|FIN'                those whose title matches
#   scripts/mutate.sh 'flush|FIN' sim_worker     those of one simulation
#
# Debug assertions are off, so that it is the simulation that notices. Exit 1 if a fault survives or does not apply.
# RINGWAY_SIM_SEEDS bounds each sweep (20,000).
set -eu
cd "$(dirname "$0")/.."
here=$PWD
target="${CARGO_TARGET_DIR:-$here/target}/mutants"
copy="$target/tree"
mkdir -p "$copy"
list="$copy/mutants.tsv"
output="$copy/output"

export CARGO_TARGET_DIR="$target" CARGO_PROFILE_TEST_DEBUG_ASSERTIONS=false RUST_BACKTRACE=0
export RINGWAY_SIM_SEEDS="${RINGWAY_SIM_SEEDS:-20000}"

fresh() {
    for part in src tests benches Cargo.toml Cargo.lock; do
        rm -rf "${copy:?}/$part"
        cp -Rp "$here/$part" "$copy/$part"
    done
}

# One fault: its number and its title, of the simulation $suite.
try() {
    file=$(perl -00 -ne 'if (/^# / && ++$n == '"$1"') { print((split /\n/)[1]) }' "$mutants")
    if ! perl scripts/mutate.pl "$1" "$mutants" "$here/$file" "$copy/$file"; then
        echo "| $2 | - | **does not apply** |"
        failures=$((failures + 1))
        return
    fi
    if (cd "$copy" && cargo test --quiet --test "$suite") >"$output" 2>&1; then
        echo "| $2 | - | **survives** |"
        failures=$((failures + 1))
    elif grep -q '^error' "$output" && ! grep -q 'test result' "$output"; then
        echo "| $2 | - | **does not compile** |"
        failures=$((failures + 1))
    else
        said=$(perl -ne 'if (/^seed (\d+): (.*)/) { print "$1 | $2"; $seen = 1; exit }
            if (/(the sweep is too kind.*)/) { $kind = $1 } $last = $1 if /(a worker left .*|the ring is entered .*)/;
            END { print "- | ", $kind // $last // "?" unless $seen }' "$output")
        echo "| $2 | $said |"
    fi
    cp -p "$here/$file" "$copy/$file"
    touch "$copy/$file"
}

failures=0
fresh
for suite in ${2:-sim sim_worker}; do
    mutants="tests/$suite/mutants.txt"
    perl -ne 'print ++$n, "\t$1\n" if /^# (.*)/' "$mutants" >"$list"
    echo "$suite:"
    echo '| fault | seed | what the simulation said |'
    echo '|---|---|---|'
    while IFS="$(printf '\t')" read -r number title; do
        printf '%s\n' "$title" | grep -Eq "${1:-.}" || continue
        try "$number" "$title"
    done <"$list"
done
[ "$failures" = 0 ]
