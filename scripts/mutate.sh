#!/bin/sh
# Does the simulation notice? Puts each fault of tests/sim/mutants.txt into a copy of the tree, one at a time, and runs
# the sweep until it fails. Prints a table: the fault, the seed that found it, what it said.
#
#   scripts/mutate.sh                  all of them
#   scripts/mutate.sh 'flush|FIN'      those whose title matches
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

# One line a mutant: its number and its title.
perl -ne 'print ++$n, "\t$1\n" if /^# (.*)/' tests/sim/mutants.txt >"$list"
failures=0
fresh
echo '| fault | seed | what the simulation said |'
echo '|---|---|---|'
while IFS="$(printf '\t')" read -r number title; do
    printf '%s\n' "$title" | grep -Eq "${1:-.}" || continue
    file=$(perl -00 -ne 'if (/^# / && ++$n == '"$number"') { print((split /\n/)[1]) }' tests/sim/mutants.txt)
    if ! perl scripts/mutate.pl "$number" tests/sim/mutants.txt "$here/$file" "$copy/$file"; then
        echo "| $title | - | **does not apply** |"
        failures=$((failures + 1))
        continue
    fi
    if (cd "$copy" && cargo test --quiet --test sim) >"$output" 2>&1; then
        echo "| $title | - | **survives** |"
        failures=$((failures + 1))
    elif grep -q '^error' "$output" && ! grep -q 'test result' "$output"; then
        echo "| $title | - | **does not compile** |"
        failures=$((failures + 1))
    else
        said=$(perl -ne 'if (/^seed (\d+): (.*)/) { print "$1 | $2"; $seen = 1; exit }
            if (/(the sweep is too kind.*)/) { $kind = $1 } END { print "- | ", $kind // "?" unless $seen }' "$output")
        echo "| $title | $said |"
    fi
    cp -p "$here/$file" "$copy/$file"
    touch "$copy/$file"
done <"$list"
[ "$failures" = 0 ]
