#!/bin/sh
# Everything that CI checks, from a bare Debian 12 with Rust. Also what to run before a push.
set -eu
cd "$(dirname "$0")/.."

step() {
    echo
    echo "== $* ($(date +%H:%M:%S))"
}

step tools
scripts/setup.sh
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
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --locked

step tests
scripts/test.sh --locked

# Those that move bytes; the others would only say the same again.
bytes="relay backpressure reset half_close timeout connect queue limits leaks consistency workers drain proxy_in proxy_out
    sni redis postgresql take_over stalled"

step tests as on a kernel before 6.17
# The list is words.
# shellcheck disable=SC2086
RINGWAY_WITHOUT=recv_credit scripts/test.sh --locked --test it -- $bytes

step tests on epoll, as where io_uring is forbidden
RINGWAY_IO=epoll scripts/test.sh --locked --test it

step tests with receive buffers that become inaccessible
# shellcheck disable=SC2086
scripts/test.sh --locked --features paranoid --test it -- $bytes

step benchmarks, one short run
cargo test --quiet --locked --benches

step dependencies
scripts/deny.sh

step the demo
cargo run --quiet --locked --release -- doctor || true
cargo run --quiet --locked --release -- demo --for 6s

step a first week by the documents
scripts/first_week.sh

step passed
