//! Servers that speak TLS, by rustls.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::Peer;
use super::authority::{Authority, Certificate};
use super::secure::SecureEnd;

/// What a server shows and asks for.
#[derive(Clone)]
pub struct Shown(ServerConfig);

impl Shown {
    /// This certificate, with versions 1.2 and 1.3.
    pub fn of(certificate: &Certificate) -> Shown {
        Shown::with(certificate, rustls::ALL_VERSIONS, None)
    }

    /// Clients show a certificate of `clients`, if it is there.
    pub fn with(
        Certificate { certificate, key }: &Certificate,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Shown {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                config.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        Shown(config.with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap())
    }

    /// It speaks these protocols.
    pub fn alpn(mut self, protocols: &[&str]) -> Shown {
        self.0.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// It lets no session be resumed.
    pub fn without_tickets(mut self) -> Shown {
        self.0.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        self.0.send_tls13_tickets = 0;
        self
    }

    /// What a server knows of its connection; its keys can be taken out.
    pub fn connection(&self) -> ServerConnection {
        let mut config = self.0.clone();
        config.enable_secret_extraction = true;
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    /// It shakes hands.
    ///
    /// # Errors
    /// The client does not like it, or it does not like the client.
    pub fn accept(&self, peer: Peer) -> io::Result<SecureServer> {
        let mut server = self.begin(peer);
        server.shake_hands()?;
        Ok(server)
    }

    /// Before the handshake.
    pub fn begin(&self, peer: Peer) -> SecureServer {
        SecureServer { tls: self.connection(), tcp: peer, step: usize::MAX }
    }
}

/// A server's end of a connection.
pub type SecureServer = SecureEnd<ServerConnection, Peer>;

impl SecureServer {
    /// Sends back whatever comes, until close_notify, which it says too.
    pub fn echo(mut self) {
        while let Ok(bytes) = self.read_some() {
            if bytes.is_empty() {
                return self.say_last();
            }
            self.send(&bytes);
        }
    }
}
