//! Where backends are found: a source per file, each of which says what it found and how long that holds.
#![forbid(unsafe_code)]

pub mod dns;
pub mod known;
