//! Before a session has a backend: what its client must say first, and what follows from it.
//!
//! Pure: a [`Guest`] is told how many bytes there are, which ones, and what time it is. It answers whether a look is
//! worth its price, what to wait for, and what the client has said. Formats are in `wire`, rules in `admit`; the worker
//! peeks, and carries the answers out.
#![forbid(unsafe_code)]

pub mod guest;
pub mod look;

pub use guest::{Guest, Verdict};
pub use look::{Look, LookWait};
