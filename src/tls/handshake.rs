//! The handshake of a server or a client, by rustls.
//!
//! rustls is given one record at a time, so that it never opens what follows the handshake.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind, ServerConfig};

use super::codec::Codec;
use super::{Alert, ServerTls, TlsDialer, cause, record};
use crate::wire::client_hello::{self, MalformedHello};

/// Most bytes of handshake messages that are kept: those of a client with a long chain of certificates.
const INPUT_MAX: usize = 80 * 1024;
/// Steps after which rustls has said what it has to say of a failure: it encodes it, and hears that it was sent.
const ALERT_STEPS_MAX: usize = 8;
/// What is said of a failure at the most.
const CAUSE_MAX: usize = 200;

/// Why a handshake fails.
enum HandshakeFault {
    /// A fault that rustls has found; it has an alert ready.
    Rustls(rustls::Error),
    /// A fault that we have found, with its alert and its cause.
    Ours(Alert, String),
}

impl From<rustls::Error> for HandshakeFault {
    fn from(error: rustls::Error) -> HandshakeFault {
        HandshakeFault::Rustls(error)
    }
}

/// Which end of it ringway is, with what rustls knows of it.
enum HandshakeEnd {
    /// A client shakes hands with ringway.
    Server(UnbufferedServerConnection),
    /// ringway shakes hands with a backend.
    Client(UnbufferedClientConnection),
}

impl HandshakeEnd {
    /// What both ends know.
    fn common(&self) -> &CommonState {
        match self {
            HandshakeEnd::Server(connection) => connection,
            HandshakeEnd::Client(connection) => connection,
        }
    }

    /// The other end.
    fn peer(&self) -> &'static str {
        match self {
            HandshakeEnd::Server(_) => "client",
            HandshakeEnd::Client(_) => "backend",
        }
    }
}

/// A handshake that goes on.
pub struct Handshake {
    /// By which it goes, until the client has said which name it wants; `None` with a backend.
    tls: Option<Arc<ServerTls>>,
    /// The name that the client wants, once it has said it.
    server_name: Option<String>,
    /// What rustls knows of it.
    end: HandshakeEnd,
    /// What has come and was not used up.
    input: Vec<u8>,
    /// How much of it was shown to rustls.
    shown: usize,
    /// What is to be sent.
    output: Vec<u8>,
    /// Something was sent before.
    has_answered: bool,
    /// The listener has a key that takes long for a signature.
    signs_slowly: bool,
    /// The backend is to prove the name that the client asked for.
    asks_for_clients_name: bool,
}

/// What was agreed on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Agreed {
    /// `"1.2"` or `"1.3"`.
    pub version: &'static str,
    /// The cipher suite by its name as in the register of IANA.
    pub cipher: &'static str,
    /// Whether an earlier session goes on.
    pub is_resumed: bool,
    /// The protocol of the application, if one was agreed on.
    pub protocol: Option<Vec<u8>>,
    /// The name that the client asked for.
    pub server_name: Option<String>,
    /// The certificate of a client, which was verified: DER (X.509).
    pub certificate: Option<Vec<u8>>,
}

impl Agreed {
    /// What it counts as: whether it is TLS 1.3, and whether an earlier session goes on.
    pub fn kind(&self) -> (bool, bool) {
        (self.version == "1.3", self.is_resumed)
    }
}

/// How far a handshake has come.
pub enum HandshakeStep {
    /// More has to come.
    Goes(Box<Handshake>),
    /// It is over. What is to be sent is sent before anything else.
    Done(Box<Codec>, Agreed),
    /// It failed for this reason.
    Failed(HandshakeFailure),
}

/// Why a handshake failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandshakeFailure {
    /// For the log.
    pub cause: String,
    /// The backend does not have the name that the client asked for, so it is not at fault.
    pub is_of_clients_name: bool,
}

impl HandshakeFailure {
    /// One that is not about the client's choice.
    pub fn new(cause: impl Into<String>) -> HandshakeFailure {
        HandshakeFailure { cause: cause.into(), is_of_clients_name: false }
    }
}

impl fmt::Debug for Handshake {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Handshake {
    /// Begins.
    ///
    /// # Errors
    /// rustls cannot begin.
    pub fn new(tls: &Arc<ServerTls>) -> Result<Handshake, rustls::Error> {
        let mut handshake = Handshake::by(tls.config())?;
        handshake.tls = Some(tls.clone());
        handshake.signs_slowly = tls.signs_slowly();
        Ok(handshake)
    }

    /// Begins by a configuration of rustls, without names that are refused.
    ///
    /// # Errors
    /// rustls cannot begin.
    pub(super) fn by(config: Arc<ServerConfig>) -> Result<Handshake, rustls::Error> {
        Ok(Handshake::of(HandshakeEnd::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// Begins with a backend. `asked` is the name that the client asked for, if it did. What is to be sent first comes
    /// with the first call of [`Handshake::on`], which has no bytes.
    ///
    /// # Errors
    /// rustls cannot begin.
    pub fn dial(dialer: &TlsDialer, asked: Option<&str>) -> Result<Handshake, rustls::Error> {
        let (config, name) = dialer.terms(asked);
        let mut handshake = Handshake::of(HandshakeEnd::Client(UnbufferedClientConnection::new(config, name)?));
        handshake.asks_for_clients_name = dialer.asks_for_clients_name();
        Ok(handshake)
    }

    /// Before anything is said.
    fn of(end: HandshakeEnd) -> Handshake {
        Handshake {
            tls: None,
            server_name: None,
            end,
            input: Vec::new(),
            shown: 0,
            output: Vec::new(),
            has_answered: false,
            signs_slowly: false,
            asks_for_clients_name: false,
        }
    }

    /// Takes in what has come, and appends what is to be sent to `output`.
    pub fn on(mut self: Box<Handshake>, bytes: &[u8], output: &mut Vec<u8>) -> HandshakeStep {
        self.input.extend_from_slice(bytes);
        let step = self.look_at_name().and_then(|()| self.proceed());
        output.append(&mut self.output);
        match step {
            Ok(true) => self.finish(),
            Ok(false) if self.input.len() <= INPUT_MAX => {
                self.has_answered |= !output.is_empty();
                HandshakeStep::Goes(self)
            }
            Ok(false) => self.fail(Alert::RECORD_OVERFLOW, "its messages are too long".to_string(), output),
            Err(HandshakeFault::Ours(alert, cause)) => self.fail(alert, cause, output),
            Err(HandshakeFault::Rustls(error)) => {
                self.take_alert();
                output.append(&mut self.output);
                let mut cause = match &self.end {
                    HandshakeEnd::Server(_) => error.to_string(),
                    HandshakeEnd::Client(_) => cause::of_handshake(&error),
                };
                cause.truncate(cause.floor_char_boundary(CAUSE_MAX));
                let is_of_clients_name = self.asks_for_clients_name && cause::is_of_name(&error);
                HandshakeStep::Failed(HandshakeFailure { cause, is_of_clients_name })
            }
        }
    }

    /// Gives up with an alert of our own, in the clear: behind an answer the peer would not understand it.
    fn fail(&self, alert: Alert, cause: String, output: &mut Vec<u8>) -> HandshakeStep {
        if !self.has_answered && output.is_empty() {
            output.extend_from_slice(&in_the_clear(alert));
        }
        HandshakeStep::Failed(HandshakeFailure::new(cause))
    }

    /// Whether the next step can take as long as a signature by a slow key. With TLS 1.2 also the step after that one,
    /// which takes little.
    pub fn may_sign_slowly(&self) -> bool {
        self.signs_slowly && self.end.common().negotiated_key_exchange_group().is_none()
    }

    /// The name that the client wants, once it has said it.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Notes the name that the client wants, as soon as its ClientHello has come.
    fn look_at_name(&mut self) -> Result<(), HandshakeFault> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let hello = match client_hello::parse(&self.input) {
            Ok(Some(hello)) => hello,
            Err(MalformedHello::TooLong) if tls.refuses_unknown_names() => {
                return Err(HandshakeFault::Ours(Alert::ILLEGAL_PARAMETER, "its ClientHello is too long".to_string()));
            }
            // What is no ClientHello is for rustls to say.
            Ok(None) | Err(_) => return Ok(()),
        };
        let is_refused = hello.server_name.as_ref().is_some_and(|name| tls.refuses(name));
        (self.tls, self.server_name) = (None, hello.server_name);
        if is_refused {
            let name = self.server_name.as_deref().unwrap_or_default();
            let cause = format!("no certificate is for {name}");
            return Err(HandshakeFault::Ours(Alert::UNRECOGNIZED_NAME, cause));
        }
        Ok(())
    }

    /// Shows rustls one record after another: whether the handshake is over.
    fn proceed(&mut self) -> Result<bool, HandshakeFault> {
        loop {
            let (shown, peer) = (&mut self.input[..self.shown], self.end.peer());
            let (discard, is_blocked) = match &mut self.end {
                HandshakeEnd::Server(connection) => {
                    heed(connection.process_tls_records(shown), &mut self.output, peer)?
                }
                HandshakeEnd::Client(connection) => {
                    heed(connection.process_tls_records(shown), &mut self.output, peer)?
                }
            };
            self.input.drain(..discard);
            self.shown -= discard;
            if !is_blocked {
                continue;
            }
            if !self.end.common().is_handshaking() {
                return Ok(true);
            }
            let hidden = &self.input[self.shown..];
            let len = ensure_tls(hidden, peer).and_then(|()| {
                record::length(hidden).map_err(|alert| HandshakeFault::Ours(alert, alert.to_string()))
            })?;
            match len {
                Some(len) if len <= hidden.len() => self.shown += len,
                _ => return Ok(false),
            }
        }
    }

    /// Has rustls give out the alert that says what was wrong. It must not look at what has come once more: it would
    /// find another fault there, in a record that it has opened already.
    fn take_alert(&mut self) {
        for _ in 0..ALERT_STEPS_MAX {
            if !self.end.common().wants_write() {
                return;
            }
            let (shown, peer) = (&mut self.input[..self.shown], self.end.peer());
            let taken = match &mut self.end {
                HandshakeEnd::Server(connection) => heed(connection.process_tls_records(shown), &mut self.output, peer),
                HandshakeEnd::Client(connection) => heed(connection.process_tls_records(shown), &mut self.output, peer),
            };
            if taken.is_err() {
                return;
            }
        }
    }

    /// The codec that follows, with what has come behind the handshake.
    fn finish(self: Box<Handshake>) -> HandshakeStep {
        let Handshake { end, mut input, shown, server_name, .. } = *self;
        let common = end.common();
        let suite = common.negotiated_cipher_suite();
        let agreed = Agreed {
            version: match common.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            },
            cipher: suite.and_then(|suite| name_of(suite.suite())).unwrap_or("unknown"),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            protocol: common.alpn_protocol().map(<[u8]>::to_vec),
            server_name,
            certificate: match &end {
                HandshakeEnd::Server(_) => {
                    common.peer_certificates().and_then(|all| all.first()).map(|der| der.to_vec())
                }
                HandshakeEnd::Client(_) => None,
            },
        };
        input.drain(..shown);
        let codec = match end {
            HandshakeEnd::Server(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, kernel)| Codec::of_server(secrets, kernel, input)),
            HandshakeEnd::Client(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, kernel)| Codec::of_client(secrets, kernel, input)),
        };
        match codec.map_err(|error| error.to_string()).and_then(|codec| codec.map_err(|alert| alert.to_string())) {
            Ok(codec) => HandshakeStep::Done(Box::new(codec), agreed),
            Err(cause) => HandshakeStep::Failed(HandshakeFailure::new(cause)),
        }
    }
}

/// A fatal alert in a record that is not protected (RFC 8446, section 5.1).
pub fn in_the_clear(alert: Alert) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert.0]
}

/// Heeds what rustls makes of what it was shown: how many bytes of that are done with, and whether more must come.
fn heed<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    output: &mut Vec<u8>,
    peer: &str,
) -> Result<(usize, bool), HandshakeFault> {
    let UnbufferedStatus { discard, state, .. } = status;
    let is_blocked = match state.map_err(HandshakeFault::Rustls)? {
        ConnectionState::EncodeTlsData(mut data) => {
            let mut room = vec![0; 1024];
            let len = match data.encode(&mut room) {
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                    room.resize(required_size, 0);
                    data.encode(&mut room)
                }
                encoded => encoded,
            };
            let len = len.map_err(|error| HandshakeFault::Ours(Alert::INTERNAL_ERROR, error.to_string()))?;
            output.extend_from_slice(&room[..len]);
            false
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            false
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => true,
        ConnectionState::PeerClosed | ConnectionState::Closed => {
            return Err(unexpected(peer, "has closed the connection"));
        }
        // Nothing follows a record of the handshake in what is shown.
        _ => return Err(unexpected(peer, "has sent data before its time")),
    };
    Ok((discard, is_blocked))
}

/// The fault of a peer that says something at the wrong time.
fn unexpected(peer: &str, what: &str) -> HandshakeFault {
    HandshakeFault::Ours(Alert::UNEXPECTED_MESSAGE, format!("the {peer} {what}"))
}

/// Whether this can be the beginning of a record: its type and the first byte of its version. Otherwise a peer that
/// speaks something else would be waited for until the end of the time.
fn ensure_tls(bytes: &[u8], peer: &str) -> Result<(), HandshakeFault> {
    match bytes {
        [] | [20..=23] | [20..=23, 3, ..] => Ok(()),
        _ => Err(unexpected(peer, "does not speak TLS")),
    }
}

/// The name of a cipher suite as in the register of IANA.
fn name_of(suite: rustls::CipherSuite) -> Option<&'static str> {
    use rustls::CipherSuite as Suite;
    Some(match suite {
        Suite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Suite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str()?,
    })
}
