#!/bin/sh
# Does the simulation notice? Puts each fault of tests/sim/mutants.txt into a copy of the tree, one at a time, and runs the
# sweep until it fails. Prints a table: the fault, the seed that found it, what it said.
#
#   scripts/mutate.sh                    all of them
#   scripts/mutate.sh 'flush|FIN'        those whose title matches
#
# Debug assertions are off, so that it is the simulation that notices. Exit 1 if a fault survives or does not apply.
# RINGWAY_SIM_SEEDS bounds each sweep (10,000), RINGWAY_MUTATE_JOBS says how many faults are tried in parallel (2).
set -eu
cd "$(dirname "$0")/.."
here=$PWD
target="${CARGO_TARGET_DIR:-$here/target}/mutants"
jobs="${RINGWAY_MUTATE_JOBS:-2}"
threads=$(($(nproc) / jobs))
[ "$threads" -gt 0 ] || threads=1

export CARGO_PROFILE_TEST_DEBUG_ASSERTIONS=false CARGO_PROFILE_TEST_DEBUG=0 RUST_BACKTRACE=0 CARGO_BUILD_JOBS=1
export RINGWAY_SIM_SEEDS="${RINGWAY_SIM_SEEDS:-10000}" RINGWAY_SIM_THREADS="$threads"
tab=$(printf '\t')

mkdir -p "$target"
list="$target/list.tsv"
rm -rf "$target/taken" "$target"/*/rows
mkdir "$target/taken"
mutants=tests/sim/mutants.txt
# Its number, its title.
perl -ne 'print ++$number, "\t$1\n" if /^# (.*)/' "$mutants" | { grep -E "${tab}.*(${1:-.})" || true; } >"$list"

# What only the program needs, and no simulation: without it each build takes a third of the time.
modules="api app cli control fleet log probe take_over uring"
crates="anyhow axum caps clap clap_complete clap_mangen flate2 http-body-util hyper-util io-uring landlock metrics
    metrics-exporter-prometheus ratatui redis mysql_common sd-notify serde_json tokio-postgres tokio-rustls
    tokio-uring tracing-subscriber criterion proptest tempfile"

# A tree of its own for each job.
fresh() {
    mkdir -p "$tree"
    for part in src tests benches Cargo.toml Cargo.lock; do
        rm -rf "${tree:?}/$part"
        cp -Rp "$here/$part" "$tree/$part"
    done
    perl -0pi -e 's/\[\[bin\]\]\n(.+\n)+//; s/\[package\]\n/[package]\nautobins = false\n/' "$tree/Cargo.toml"
    # The lists are words.
    # shellcheck disable=SC2086
    for name in $crates; do perl -pi -e 's/^'"$name"' = .*\n//' "$tree/Cargo.toml"; done
    # shellcheck disable=SC2086
    for name in $modules; do perl -pi -e 's/^pub mod '"$name"';\n//' "$tree/src/lib.rs"; done
}

# One of the two tests.
run() {
    (cd "$tree" && timeout 900 cargo test --quiet --test sim "$1")
}

# The short test of a broken ring first. What it finds, the sweep may find too, and then it is found soon.
sweep() {
    # A fault of the driver on epoll shows there alone.
    case "$file" in src/epoll/*)
        run no_schedule_on_epoll
        return
        ;;
    esac
    if run a_ring_that; then
        run no_schedule_breaks
    else
        RINGWAY_SIM_SEEDS=200 run no_schedule_breaks || true
        return 1
    fi
}

# One fault: its number, its title. Prints its row of the table.
try() {
    file=$(perl -00 -ne 'if (/^# / && ++$n == '"$1"') { print((split /\n/)[1]) }' "$mutants")
    if ! perl scripts/mutate.pl "$1" "$mutants" "$here/$file" "$tree/$file"; then
        echo "| $2 | - | **does not apply** |"
        return
    fi
    if sweep >"$output" 2>&1; then
        echo "| $2 | - | **survives** |"
    elif grep -q '^error' "$output" && ! grep -q 'test result' "$output"; then
        echo "| $2 | - | **does not compile** |"
    else
        said=$(perl -ne 's/assertion `left .= right` failed: //; $seen //= "$1 | $2" if /^seed (\d+): (.*)/;
            $kind = $1 if /(the sweep is too kind.*)/; $last = $1 if /(a worker left .*|the ring is entered .*)/;
            $panic //= $_ if $after; $after = /panicked at/;
            END { chomp($panic //= "**nothing that is understood**"); print $seen // "- | " . ($kind // $last // $panic) }
            ' "$output")
        echo "| $2 | $said |"
    fi
    cp -p "$here/$file" "$tree/$file"
    touch "$tree/$file"
}

# Takes one fault after the other, as long as there are any.
work() {
    tree="$target/$1/tree"
    output="$target/$1/output"
    rows="$target/$1/rows"
    export CARGO_TARGET_DIR="$target/$1/build"
    fresh
    : >"$rows"
    while IFS="$tab" read -r number title; do
        mkdir "$target/taken/$number" 2>/dev/null || continue
        row=$(try "$number" "$title")
        printf '%s\t%s\n' "$number" "$row" >>"$rows"
        echo "$row" >&2
    done <"$list"
}

running=""
trap 'kill $running 2>/dev/null; exit 1' INT TERM
job=0
while [ "$job" -lt "$jobs" ]; do
    work "$job" &
    running="$running $!"
    job=$((job + 1))
done
# shellcheck disable=SC2086
wait $running

cat "$target"/*/rows | sort -n >"$target/rows.tsv"
echo '| fault | seed | what the simulation said |'
echo '|---|---|---|'
cut -f 2- "$target/rows.tsv"
echo
all=$(wc -l <"$list")
missed=$(grep -c '\*\*' "$target/rows.tsv" || true)
echo "$((all - missed)) of $all found"
[ "$missed" = 0 ] && [ "$(wc -l <"$target/rows.tsv")" = "$all" ]
