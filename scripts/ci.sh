#!/bin/sh
# Everything that CI checks, from a bare Debian 12 with Rust. Also what to run before a push.
set -eu
cd "$(dirname "$0")/.."

step() {
    echo
    echo "== $* ($(date +%H:%M:%S))"
}

# Builds are from scratch: nothing is gained by what the next build would need, and lines are all that a backtrace has.
export CARGO_INCREMENTAL=0
# Most tests wait for something most of the time.
export RUST_TEST_THREADS=3
export CARGO_PROFILE_DEV_DEBUG=line-tables-only
# For the demo and the first week: what optimisation across crates gains is for benchmarks.
export CARGO_PROFILE_RELEASE_LTO=off
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
musl=x86_64-unknown-linux-musl

step tools
scripts/setup.sh --targets
# A minimal toolchain has neither.
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
cargo --version
uname -r

step format
cargo fmt --check

step shell scripts
shellcheck -x scripts/*.sh scripts/container/*.sh scripts/release/*.sh scripts/first_week/*.sh scripts/first_week/systemctl .ci/run

step lints
cargo clippy --quiet --all-targets --locked -- -D warnings

step documentation
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --locked --document-private-items

step tests, with a short simulation
RINGWAY_SIM_SEEDS=300 scripts/test.sh --locked

step the simulation
# ringway alone is compiled again, with every check: that takes less than the simulation takes without.
scripts/test.sh --locked --config profile.dev.package.ringway.opt-level=1 --test sim

# Those that move bytes; the others would only say the same again.
bytes="relay backpressure reset half_close timeout connect queue limits leaks consistency workers drain proxy_in proxy_out
    sni redis postgresql take_over stalled tls_"

step tests as on a kernel before 6.17
# The list is words.
# shellcheck disable=SC2086
RINGWAY_WITHOUT=recv_credit scripts/test.sh --locked --test it -- $bytes

step a static program with musl
rustup target add "$musl"
cargo build --quiet --locked --target "$musl"

step tests of it on epoll, as where io_uring is forbidden
RINGWAY_TEST_PROGRAM=target/$musl/debug/ringway RINGWAY_IO=epoll scripts/test.sh --locked --test it

step the same program in a container
scripts/container.sh "target/$musl/debug/ringway"

step unit tests, simulation and demo on aarch64
scripts/aarch64.sh

step tests with receive buffers that become inaccessible
# shellcheck disable=SC2086
scripts/test.sh --locked --features paranoid --test it -- $bytes

step benchmarks, one short run
# `--benches` would run the unit tests again.
cargo test --quiet --locked --bench '*'

step dependencies
scripts/deny.sh

step the demo
cargo run --quiet --locked --release -- doctor || true
cargo run --quiet --locked --release -- demo --for 6s

step a first week by the documents
scripts/first_week.sh

step passed
