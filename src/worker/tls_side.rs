//! What a session keeps of TLS on one of its sides.

use crate::base::time::Moment;
use crate::tls::{Codec, Handshake};

/// TLS on one side of a session.
#[derive(Debug)]
pub enum TlsSide {
    /// Its handshake goes on, until the deadline at the latest.
    Shaking(Box<Handshake>, Moment),
    /// Its records are opened and sealed.
    Open(TlsStream),
}

/// The stream of a side that speaks TLS.
#[derive(Debug)]
pub struct TlsStream {
    /// Opens and seals it.
    pub codec: Box<Codec>,
    /// Of the receive that was armed last, in bytes.
    pub credit: u32,
    /// The connection has ended, however the stream has.
    pub has_ended: bool,
}
