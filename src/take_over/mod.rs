//! One ringway takes over from another: it receives every listening socket, accepts from them as well, and then has the
//! other one drain. The sockets never close, so nobody who waits in a backlog notices.
//!
//! What is said, over the `admin.socket` of the one that serves:
//!
//! 1. `POST /v1/take-over` with `Upgrade: ringway-take-over/1`; 101, or a refusal as everywhere in the API.
//! 2. The new one says [`LISTENING`]: from here on it reads no HTTP, which could lose descriptors. The old one sends
//!    the number of its sockets (32 bits, big endian) and then the sockets (SCM_RIGHTS), with one byte for each
//!    [`DESCRIPTORS_MAX`](crate::sys::pass::DESCRIPTORS_MAX) of them.
//! 3. The new one says [`ACCEPTING`] once every listener of its own configuration accepts. If it leaves without a word,
//!    nothing has happened.
//! 4. The old one accepts no more, says [`DRAINING`], and drains as after SIGTERM.

mod giver;
mod succession;
mod taker;

pub use giver::routes;
pub use succession::Succession;
pub use taker::{Predecessor, Relief, TakeOverError, Taken, take};

/// Name and version of the protocol, as the `Upgrade` header has them. Whoever changes what is said gives it a new one.
const PROTOCOL: &str = "ringway-take-over/1";
/// Where it is asked for.
const PATH: &str = "/v1/take-over";
/// What the new one says first.
const LISTENING: &[u8] = b"listening\n";
/// What it says in the end.
const ACCEPTING: &[u8] = b"accepting\n";
/// What the old one answers.
const DRAINING: &[u8] = b"draining\n";
