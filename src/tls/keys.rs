//! Where the keys of a connection come from once its handshake is over.
//!
//! rustls knows the secrets, and gives out keys that follow from them (RFC 8446, section 7.2). A client's also takes
//! the tickets that a server sends behind the handshake; they are kept with the configuration that it was started by.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, Error, ProtocolVersion};

/// What renews keys.
pub(super) enum KeySource {
    /// TLS 1.2: nothing does.
    Fixed,
    /// TLS 1.3 of a server.
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// TLS 1.3 of a client, which also keeps the tickets that come.
    Client(Box<KernelConnection<ClientConnectionData>>),
}

impl KeySource {
    /// That of a server whose handshake is over.
    pub(super) fn of_server(connection: KernelConnection<ServerConnectionData>) -> KeySource {
        match connection.protocol_version() {
            ProtocolVersion::TLSv1_3 => KeySource::Server(Box::new(connection)),
            _ => KeySource::Fixed,
        }
    }

    /// That of a client.
    pub(super) fn of_client(connection: KernelConnection<ClientConnectionData>) -> KeySource {
        match connection.protocol_version() {
            ProtocolVersion::TLSv1_3 => KeySource::Client(Box::new(connection)),
            _ => KeySource::Fixed,
        }
    }

    /// The next keys of what the peer sends, and the number of its next record.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn renew_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            KeySource::Fixed => Err(Error::General("keys are renewed by TLS 1.3 alone".into())),
            KeySource::Server(connection) => connection.update_rx_secret(),
            KeySource::Client(connection) => connection.update_rx_secret(),
        }
    }

    /// The next keys of what is sent to the peer, and the number of the next record.
    ///
    /// # Errors
    /// There are none.
    pub(super) fn renew_send(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            KeySource::Fixed => Err(Error::General("keys are renewed by TLS 1.3 alone".into())),
            KeySource::Server(connection) => connection.update_tx_secret(),
            KeySource::Client(connection) => connection.update_tx_secret(),
        }
    }
}
