//! What a session keeps of TLS on one of its sides.

use std::fmt;
use std::sync::Arc;

use crate::base::time::Moment;
use crate::tls::handshake::HandshakeStep;
use crate::tls::{Codec, Handshake, ServerTls, TlsDialer};

/// TLS on one side of a session.
#[derive(Debug)]
pub enum TlsSide {
    /// The client of PostgreSQL has not asked for TLS yet.
    Unasked(TlsOffer),
    /// The backend was connected to, and its handshake has not started.
    Dialing(TlsDial),
    /// Its handshake goes on.
    Shaking(TlsShake),
    /// A step of its handshake is made on another thread.
    Away(TlsAway),
    /// Its records are opened and sealed.
    Open(TlsStream),
}

/// What a client of PostgreSQL can ask for.
#[derive(Debug)]
pub struct TlsOffer {
    /// What it gets.
    pub tls: Arc<ServerTls>,
    /// When its handshake has to be over.
    pub deadline: Moment,
    /// It was told that there is no encryption by GSS.
    pub was_told_no: bool,
}

/// TLS to a backend that is about to begin.
#[derive(Debug)]
pub struct TlsDial {
    /// On which terms.
    pub dialer: Arc<TlsDialer>,
    /// The backend is asked for TLS first, by PostgreSQL's request.
    pub asks_first: bool,
    /// It waits in the worker's queue for a turn that has time for it.
    pub is_queued: bool,
}

/// A handshake that goes on.
#[derive(Debug)]
pub struct TlsShake {
    /// How far it has come.
    pub handshake: Box<Handshake>,
    /// What holds for it.
    pub terms: ShakeTerms,
    /// It waits in the worker's queue for a turn that has time for it.
    pub is_queued: bool,
}

/// What holds for a handshake, however far it has come.
#[derive(Clone, Copy, Debug)]
pub struct ShakeTerms {
    /// When it has to be over.
    pub deadline: Moment,
    /// The client began with TLS where others ask for it: it must name the protocol in ALPN, so that no client of
    /// another protocol is led here (PostgreSQL 17, "sslnegotiation").
    pub must_name_postgresql: bool,
}

/// A handshake of which another thread makes a step.
#[derive(Debug)]
pub struct TlsAway {
    /// What holds for it.
    pub terms: ShakeTerms,
    /// What the step has come to, once it is back.
    pub answer: Option<StepAnswer>,
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
    /// Why the connection has failed, as an errno, if it has.
    pub failure: Option<i32>,
}

/// What a step of a handshake has come to.
pub struct StepAnswer {
    /// How far the handshake has come.
    pub step: HandshakeStep,
    /// What is to be sent.
    pub said: Vec<u8>,
}

impl StepAnswer {
    /// Tells a handshake what has come.
    pub fn of(handshake: Box<Handshake>, bytes: &[u8]) -> StepAnswer {
        let mut said = Vec::new();
        let step = handshake.on(bytes, &mut said);
        StepAnswer { step, said }
    }
}

impl fmt::Debug for StepAnswer {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepAnswer").field("said", &self.said.len()).finish_non_exhaustive()
    }
}
