#!/bin/sh
# Does the same commit give the same bytes? Builds HEAD twice, in two folders with crates in two places, and compares
# what scripts/package.sh makes: the program and the Debian package.
#
#   scripts/reproducible.sh
#
# It takes two release builds, twenty minutes on two CPUs: CI does without. Exit 1 if a byte differs; then both are kept.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
unset CARGO_TARGET_DIR RINGWAY_PACKAGES

# build FOLDER: the commit there, and what it gives in FOLDER/target/packages.
build() {
    mkdir -p "$work/$1"
    git archive HEAD | tar -x -C "$work/$1"
    # The program that makes the package is the same for both.
    mkdir -p "$work/$1/target"
    ln -s "$tools" "$work/$1/target/tools"
    echo "== $1 ($(date +%H:%M:%S))"
    "$work/$1/scripts/package.sh"
}

mkdir -p target/tools
tools=$(cd target/tools && pwd -P)
build here
mkdir -p "$work/crates"
cp -R "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/crates/registry"
(
    CARGO_HOME="$work/crates"
    export CARGO_HOME
    build some/where/else
)

same=yes
for file in "$work"/here/target/packages/*; do
    other="$work/some/where/else/target/packages/${file##*/}"
    if cmp "$file" "$other"; then sha256sum "$file" | sed "s|$work/here/||"; else same=; fi
done
if grep -q -a -F -e "$work" -e "$HOME/" "$work/here/target/packages/ringway"; then
    echo "a path of this machine is in the program" >&2
    same=
fi
[ -n "$same" ] || {
    echo "they differ: $work" >&2
    exit 1
}
rm -rf "$work"
echo "the same bytes"
