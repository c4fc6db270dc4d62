#!/bin/sh
# Builds what is handed out: the program, and the Debian package around it.
#
#   scripts/package.sh             target/packages/ringway and target/packages/ringway_VERSION_ARCHITECTURE.deb
#   scripts/package.sh --program   the program alone, which needs no cargo deb
#   scripts/package.sh --static    target/packages/ringway-static alone: linked with its C library, for a container
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

deb=yes
static=
case "${1:-}" in
--program) deb= ;;
--static)
    deb=
    static=yes
    ;;
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
if [ -n "$static" ]; then
    # With a target that is named, the flags are not for what the compiler itself loads, which cannot be static.
    machine=$(rustc --print host-tuple)
    CARGO_ENCODED_RUSTFLAGS="$flags$separator-Ctarget-feature=+crt-static" \
        cargo build --quiet --locked --profile packaged --bin ringway --target "$machine"
    cp "$target/$machine/packaged/ringway" "$packages/ringway-static"
else
    CARGO_ENCODED_RUSTFLAGS="$flags" cargo build --quiet --locked --profile packaged --bin ringway
    cp "$target/packaged/ringway" "$packages/ringway"
fi
if [ -n "$deb" ]; then
    PATH="$here/target/tools/bin:$PATH"
    cargo deb --version >/dev/null 2>&1 ||
        cargo install --quiet --locked --root target/tools --version 3.8.0 --debug cargo-deb
    # The times of the files in the package.
    SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
    export SOURCE_DATE_EPOCH
    cargo deb --quiet --no-build --no-strip --locked --profile packaged -o "$packages/"
fi
ls -l "$packages"
