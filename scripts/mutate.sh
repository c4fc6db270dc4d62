#!/bin/sh
# Do the simulations notice? Puts each fault of tests/*/mutants.txt into a copy of the tree, one at a time, and runs the
# sweep of that simulation until it fails. Prints a table: the fault, the seed that found it, what it said.
#
#   scripts/mutate.sh                    all of them
#   scripts/mutate.sh 'flush|FIN'        those whose title matches
#
# Debug assertions are off, so that it is the simulation that notices. Exit 1 if a fault survives or does not apply.
# RINGWAY_SIM_SEEDS bounds each sweep (10,000), RINGWAY_MUTATE_JOBS says how many faults are tried at once (2).
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
rm -rf "$target/taken"
mkdir "$target/taken"
# Its place in the whole table, its simulation, its number there, its title.
perl -ne 'if (/^# (.*)/) { my $title = $1; my ($suite) = $ARGV =~ m{tests/(.*)/};
    print ++$place, "\t$suite\t", ++$number{$suite}, "\t$title\n" }' tests/*/mutants.txt |
    { grep -E "^[0-9]+${tab}[a-z_]+${tab}[0-9]+${tab}.*(${1:-.})" || true; } >"$list"

# What only the program needs, and no simulation: without it each build takes a third of the time.
modules="app cli control uring"
crates="anyhow axum caps clap clap_complete clap_mangen flate2 http-body-util hickory-resolver humantime hyper hyper-util
    io-uring landlock metrics metrics-exporter-prometheus ratatui redis mysql_common rustls sd-notify serde_json tokio
    tokio-postgres tokio-rustls tokio-uring tracing-subscriber criterion proptest tempfile"

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

# One fault: its simulation, its number there, its title. Prints its row of the table.
try() {
    mutants="tests/$1/mutants.txt"
    file=$(perl -00 -ne 'if (/^# / && ++$n == '"$2"') { print((split /\n/)[1]) }' "$mutants")
    if ! perl scripts/mutate.pl "$2" "$mutants" "$here/$file" "$tree/$file"; then
        echo "| $3 | - | **does not apply** |"
        return
    fi
    if (cd "$tree" && timeout 900 cargo test --quiet --test "$1") >"$output" 2>&1; then
        echo "| $3 | - | **survives** |"
    elif grep -q '^error' "$output" && ! grep -q 'test result' "$output"; then
        echo "| $3 | - | **does not compile** |"
    else
        said=$(perl -ne 's/assertion `left .= right` failed: //; $seen //= "$1 | $2" if /^seed (\d+): (.*)/;
            $kind = $1 if /(the sweep is too kind.*)/; $last = $1 if /(a worker left .*|the ring is entered .*)/;
            $panic //= $_ if $after; $after = /panicked at/;
            END { chomp($panic //= "**nothing that is understood**"); print $seen // "- | " . ($kind // $last // $panic) }
            ' "$output")
        echo "| $3 | $said |"
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
    while IFS="$tab" read -r place suite number title; do
        mkdir "$target/taken/$place" 2>/dev/null || continue
        row=$(try "$suite" "$number" "$title")
        printf '%s\t%s\t%s\n' "$place" "$suite" "$row" >>"$rows"
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
cut -f 3- "$target/rows.tsv"
echo
all=$(wc -l <"$list")
missed=$(grep -c '\*\*' "$target/rows.tsv" || true)
echo "$((all - missed)) of $all found"
[ "$missed" = 0 ] && [ "$(wc -l <"$target/rows.tsv")" = "$all" ]
