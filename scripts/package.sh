#!/bin/sh
# Builds the program that is handed out. scripts/release.sh makes packages, an image and a chart of it.
#
#   scripts/package.sh --static [--target TRIPLE]   target/packages/ringway-static: linked with its C library, musl, so
#                                                   it runs on every Linux of that architecture, and in an empty image
#   scripts/package.sh --program                    target/packages/ringway: with the C library of this machine
#
# TRIPLE is that of this machine with musl if it is left out: $(uname -m)-unknown-linux-musl. Debian's package musl-tools
# has the compiler for what crates have in C.
#
# The same commit gives the same bytes in whatever folder, with the same rustc, C compiler and linker: no path of this
# machine gets into them (scripts/reproducible.sh shows it). RINGWAY_PACKAGES says where else to put them.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
target="${CARGO_TARGET_DIR:-$here/target}"
home="${CARGO_HOME:-$HOME/.cargo}"
packages="${RINGWAY_PACKAGES:-$target/packages}"
rust="$(rustc --print sysroot)/lib/rustlib/src/rust"
commit=$(rustc --version --verbose | sed -n 's/^commit-hash: //p')

usage() {
    sed -n 's/^# \{0,1\}//; 2,/^$/p' "$0" >&2
    exit 2
}

triple=
case "$*" in
--program) ;;
--static) triple="$(uname -m)-unknown-linux-musl" ;;
"--static --target "?*) triple=$3 ;;
*) usage ;;
esac

# The sources of crates are there before their folders are asked for.
cargo fetch --quiet --locked

# Of those that fit a path the last one counts.
separator=$(printf '\037')
flags=
for pair in "$home=/cargo" "$here=/ringway" "$target=/ringway/target" "$rust=/rustc/$commit"; do
    flags="$flags${flags:+$separator}--remap-path-prefix=$pair"
    CFLAGS="${CFLAGS:-} -ffile-prefix-map=$pair"
done
for folder in "$home"/registry/src/*/; do
    flags="$flags$separator--remap-path-prefix=${folder%/}=/cargo/crates"
    CFLAGS="$CFLAGS -ffile-prefix-map=${folder%/}=/cargo/crates"
done
export CFLAGS
mkdir -p "$packages"
if [ -n "$triple" ]; then
    rustup target list --installed 2>/dev/null | grep -q -x "$triple" || rustup target add "$triple"
    # With a target that is named, the flags are not for what the compiler itself loads, which cannot be static.
    CARGO_ENCODED_RUSTFLAGS="$flags$separator-Ctarget-feature=+crt-static" \
        cargo build --quiet --locked --profile packaged --bin ringway --target "$triple"
    install -m 755 "$target/$triple/packaged/ringway" "$packages/ringway-static"
else
    CARGO_ENCODED_RUSTFLAGS="$flags" cargo build --quiet --locked --profile packaged --bin ringway
    install -m 755 "$target/packaged/ringway" "$packages/ringway"
fi
ls -l "$packages"
