//! TLS of sessions: the handshake, and the records after it. Without I/O: told what bytes have come, it says which are
//! to be sent, and turns ciphertext into plaintext where it lies.
//!
//! ```text
//! Handshake (rustls) ── done ──> Codec: open(ciphertext in a receive buffer) -> plaintext in that buffer
//!                                       seal(plaintext in a receive buffer)  -> one record around it
//! ```
//!
//! rustls decides everything about a handshake, certificates, resumption and the keys that follow from a KeyUpdate.
//! Only the protection of records is here ([`record`]), because rustls makes a vector for each record that it sends and
//! copies it once more; a kernel with TLS would take the same place.
//!
//! Sources: RFC 8446 (TLS 1.3), RFC 5246 and RFC 5288 (TLS 1.2 with GCM), RFC 7905 (ChaCha20).

pub mod alert;
pub mod cause;
pub mod client;
pub mod codec;
pub mod facts;
pub mod handshake;
mod keys;
pub mod record;
pub mod server;

pub use alert::Alert;
pub use client::{ClientTls, TlsDialer};
pub use codec::Codec;
pub use handshake::Handshake;
pub use server::ServerTls;

#[cfg(test)]
mod tests;
