//! Servers that speak TLS, by rustls.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::Peer;
use super::authority::{Authority, Certificate};

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
        SecureServer { tls: self.connection(), peer, step: usize::MAX }
    }
}

/// A server's end of a connection.
pub struct SecureServer {
    pub tls: ServerConnection,
    pub peer: Peer,
    /// It sends at most so many bytes at a time.
    pub step: usize,
}

impl SecureServer {
    pub fn shake_hands(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            self.flush()?;
            if self.tls.is_handshaking() && self.take_in()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.flush()
    }

    /// Reads what has come: how many bytes of it.
    fn take_in(&mut self) -> io::Result<usize> {
        let bytes = self.peer.read_some(1 << 14)?;
        let mut rest = &bytes[..];
        if rest.is_empty() {
            // It learns of the end.
            self.tls.read_tls(&mut rest)?;
        }
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest)?;
            if let Err(error) = self.tls.process_new_packets() {
                let _ = self.flush();
                return Err(io::Error::other(error));
            }
        }
        Ok(bytes.len())
    }

    /// Sends all records that are ready.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes)?;
        }
        bytes.chunks(self.step.max(1)).try_for_each(|part| self.peer.write_all(part))
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(16_000) {
            self.tls.writer().write_all(part).unwrap();
            self.flush().unwrap();
        }
    }

    /// Reads some bytes; none after close_notify.
    ///
    /// # Errors
    /// The connection's, and UnexpectedEof after a FIN without close_notify.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        let mut part = vec![0; 1 << 16];
        loop {
            match self.tls.reader().read(&mut part) {
                Ok(count) => return Ok(part[..count].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => _ = self.take_in()?,
                Err(error) => return Err(error),
            }
        }
    }

    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        let mut all = Vec::new();
        while all.len() < bytes.len() {
            let some = self.read_some().unwrap();
            assert!(!some.is_empty(), "it ended after {} bytes", all.len());
            all.extend(some);
        }
        assert!(all == bytes, "other bytes: {} of {}", all.len(), bytes.len());
    }

    /// Says close_notify and nothing else.
    pub fn say_last(&mut self) {
        self.tls.send_close_notify();
        self.flush().unwrap();
    }

    /// How it ends when nothing more comes: `Ok` after close_notify.
    pub fn end(&mut self) -> Result<(), io::ErrorKind> {
        match self.read_some() {
            Ok(bytes) if bytes.is_empty() => Ok(()),
            Ok(bytes) => panic!("{} more bytes", bytes.len()),
            Err(error) => Err(error.kind()),
        }
    }

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
