//! Which program the tests run.

use std::path::PathBuf;

/// The one that was built with the tests, or `RINGWAY_TEST_PROGRAM`: built of the same source for another C library,
/// or in another profile.
pub fn program() -> PathBuf {
    let Some(other) = std::env::var_os("RINGWAY_TEST_PROGRAM") else { return env!("CARGO_BIN_EXE_ringway").into() };
    std::fs::canonicalize(&other).unwrap_or_else(|error| panic!("RINGWAY_TEST_PROGRAM={}: {error}", other.display()))
}
