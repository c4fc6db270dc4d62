//! One ringway takes over from another: it receives every listening socket, accepts on them as well, and then has the
//! other one drain. The sockets are never closed, so no client that waits in a backlog notices.
//!
//! The two need not be of the same version, only of the same protocol. `app` starts a take-over before it binds
//! anything ([`take`]), `control` relieves the other one when every listener accepts ([`Succession`]), and the API of
//! the old one offers it ([`routes`]).
//!
//! What is said, over the `admin.socket` of the one that serves:
//!
//! 1. `POST /v1/take-over` with `Upgrade: ringway-take-over/1`. The answer is 101, or a refusal as everywhere in the
//!    API.
//! 2. The new one says [`LISTENING`]. From here on it reads no HTTP, which could lose descriptors. The old one sends
//!    the number of its sockets (32 bits, big endian) and then the sockets (SCM_RIGHTS), with one byte per
//!    [`DESCRIPTORS_MAX`](crate::sys::pass::DESCRIPTORS_MAX) of them.
//! 3. The new one says [`ACCEPTING`] when every listener of its own configuration accepts. If it leaves without a word,
//!    nothing has happened.
//! 4. The old one accepts no more, says [`DRAINING`], and drains as after SIGTERM. What follows up to the end of the
//!    connection is for pools whose clients keep their backend (`sticky`).

mod giver;
mod sticky;
mod succession;
mod taker;

pub use giver::routes;
pub use succession::Succession;
pub use taker::{Predecessor, Relief, TakeOverError, Taken, take};

/// The name and version of the protocol, as in the `Upgrade` header. A change of what is said needs a new version.
const PROTOCOL: &str = "ringway-take-over/1";
/// Where it is asked for.
const PATH: &str = "/v1/take-over";
/// The first word of the new one.
const LISTENING: &[u8] = b"listening\n";
/// The last word of the new one.
const ACCEPTING: &[u8] = b"accepting\n";
/// The answer of the old one.
const DRAINING: &[u8] = b"draining\n";
