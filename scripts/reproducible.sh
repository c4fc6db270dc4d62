#!/bin/bash
# Does the same commit give the same bytes? Builds HEAD twice, in two folders with crates in two places, and compares
# what scripts/release.sh makes.
#
#   scripts/reproducible.sh                    builds: two release builds, ten to twenty minutes on two CPUs
#   scripts/reproducible.sh --program FILE     packs that static program twice, in ten seconds
#
# CI does without. Exit 1 if a byte differs; then both are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
unset CARGO_TARGET_DIR RINGWAY_PACKAGES RINGWAY_DIST
[ $# = 0 ] || { [ $# = 2 ] && [ "$1" = --program ]; } || {
    sed -n 's/^# \{0,1\}//; 2,/^$/p' "$0" >&2
    exit 2
}
words=("$@")
[ $# = 0 ] || words[1]=$(realpath "$2")

# build FOLDER: the commit there, and what it gives in FOLDER/dist. Nothing follows from the mode of new files, from the
# time of the day or from the order in which a folder is read.
build() {
    mkdir -p "$work/$1"
    git archive HEAD | tar -x -C "$work/$1"
    # The program that makes the package is the same for both.
    mkdir -p "$work/$1/target"
    ln -s "$tools" "$work/$1/target/tools"
    echo "== $1 ($(date +%H:%M:%S))"
    "$work/$1/scripts/release.sh" "${words[@]}"
}

mkdir -p target/tools
tools=$(cd target/tools && pwd -P)
build here
(
    if [ $# = 0 ]; then
        mkdir -p "$work/crates"
        cp -R "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/crates/registry"
        export CARGO_HOME="$work/crates"
    fi
    umask 077
    export TZ=Asia/Tokyo LC_ALL=C
    build some/where/else
)

same=yes
diff -r "$work/here/dist" "$work/some/where/else/dist" || same=
cat "$work/here/dist/SHA256SUMS"
[ -s "$work/here/dist/SHA256SUMS" ] || same=
mkdir "$work/deb"
dpkg-deb --extract "$work"/here/dist/*.deb "$work/deb"
if [ $# = 0 ] && grep -q -a -F -e "$work" -e "$HOME/" "$work/deb/usr/bin/ringway"; then
    echo "a path of this machine is in the program" >&2
    same=
fi
[ -n "$same" ] || {
    echo "they differ: $work" >&2
    exit 1
}
rm -rf "$work"
echo "the same bytes"
