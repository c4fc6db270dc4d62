//! TLS of the load: a certificate of the run's own, and clients that offer TLS 1.3 with one cipher suite and one group.
//!
//! rustls makes the handshakes. What follows them on long sessions is sealed and opened where it lies ([`Records`]), so
//! that the generator takes as little time as it can.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, StreamOwned};
use socket2::SockRef;

use crate::load::{Fault, PATIENCE, Pair};

pub use pinned::Pinned;
pub use records::{APPLICATION_DATA, HEADER, Opened, PLAIN_MAX, Records, record_len};

mod pinned;
mod records;

/// The name that the certificate is for.
const NAME: &str = "bench.example";
/// Bytes that a session moves each way when it is opened: the tickets of the proxy come before the answer.
const FIRST: usize = 1024;

/// A certificate of ECDSA with P-256 and its key, as PEM files.
#[derive(Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    /// The certificate.
    pub file: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub both: PathBuf,
}

impl Certificate {
    /// Makes one that vouches for itself, with its files in `folder`.
    pub fn make(folder: &Path) -> Result<Certificate> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("key of the certificate")?;
        let made = CertificateParams::new(vec![NAME.to_string()]).and_then(|params| params.self_signed(&key));
        let made = made.context("certificate")?;
        let [file, key_file, both] = ["crt", "key", "pem"].map(|kind| folder.join(format!("bench.{kind}")));
        fs::write(&file, made.pem())?;
        fs::write(&key_file, key.serialize_pem())?;
        fs::write(&both, made.pem() + &key.serialize_pem())?;
        Ok(Certificate { der: made.der().clone(), file, key: key_file, both })
    }

    /// A client that verifies everything and resumes nothing.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Fault> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).map_err(|error| format!("certificate: {error}"))?;
        let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(|e| format!("client: {e}"))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.enable_secret_extraction = true;
        Ok(Arc::new(config))
    }

    /// Clients that take the one certificate without a look at its signatures, which would be half of their work. Each
    /// resumes its own sessions if it is to, and none else.
    pub fn quick_clients(&self, count: usize, resumes: bool) -> Result<Vec<Arc<ClientConfig>>, Fault> {
        let mut config = ClientConfig::clone(&*self.client()?);
        config.dangerous().set_certificate_verifier(Arc::new(Pinned(self.der.clone())));
        let one = || {
            let mut own = config.clone();
            if resumes {
                own.resumption = Resumption::in_memory_sessions(8);
            }
            Arc::new(own)
        };
        Ok((0..count).map(|_| one()).collect())
    }
}

/// One cipher suite and one group, whatever the proxy would rather have.
fn provider() -> rustls::crypto::CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    provider
}

/// A connection of a client before its handshake.
pub fn begin(config: &Arc<ClientConfig>) -> Result<ClientConnection, Fault> {
    let name = ServerName::try_from(NAME).map_err(|error| format!("name: {error}"))?;
    ClientConnection::new(config.clone(), name).map_err(|error| format!("client: {error}"))
}

/// Ensures that a handshake was of this kind and agreed on what is compared.
pub fn ensure_kind(connection: &ClientConnection, wanted: HandshakeKind) -> Result<(), Fault> {
    match connection.handshake_kind() {
        Some(kind) if kind == wanted => Ok(()),
        other => Err(format!("a handshake was {other:?} and not {wanted:?}")),
    }
}

/// Shakes hands with the proxy over a connected socket.
pub fn shake_hands(
    client: TcpStream,
    config: &Arc<ClientConfig>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Fault> {
    let failed = |error: io::Error| format!("handshake: {error}");
    SockRef::from(&client).set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    client.set_nodelay(true).map_err(failed)?;
    let mut stream = StreamOwned::new(begin(config)?, client);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(failed)?;
    }
    stream.flush().map_err(failed)?;
    ensure_kind(&stream.conn, HandshakeKind::Full)?;
    Ok(stream)
}

/// An open session whose client speaks TLS; its backend does not.
pub struct Session {
    /// The two sockets.
    pub pair: Pair,
    /// What seals and opens for the client.
    pub records: Records,
}

/// Opens `count` sessions through the proxy, each of which has moved 1 KiB to the backend and 1 KiB back.
pub fn open_sessions(
    proxy: SocketAddr,
    backend: &TcpListener,
    config: &Arc<ClientConfig>,
    count: usize,
) -> Result<Vec<Session>, Fault> {
    SockRef::from(backend).set_read_timeout(Some(PATIENCE)).map_err(|error| format!("open: {error}"))?;
    let open = |index: usize| -> Result<Session, Fault> {
        let failed = |error: io::Error| format!("TLS session {index}: {error}");
        let client = TcpStream::connect_timeout(&proxy, PATIENCE).map_err(failed)?;
        let StreamOwned { conn, sock: client } = shake_hands(client, config)?;
        let (backend, _) = backend.accept().map_err(failed)?;
        backend.set_nodelay(true).map_err(failed)?;
        SockRef::from(&backend).set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let records = Records::new(conn)?;
        let mut session = Session { pair: Pair { client, backend }, records };
        session.exchange(index as u8).map_err(failed)?;
        Ok(session)
    };
    (0..count).map(open).collect()
}

impl Session {
    /// 1 KiB to the backend and back, compared.
    fn exchange(&mut self, fill: u8) -> io::Result<()> {
        use std::io::Read;
        let Session { pair: Pair { client, backend }, records } = self;
        let mut record = vec![fill; record_len(FIRST)];
        records.seal(APPLICATION_DATA, &mut record).map_err(io::Error::other)?;
        client.write_all(&record)?;
        let mut got = [!fill; FIRST];
        backend.read_exact(&mut got)?;
        backend.write_all(&got)?;
        let answer = records.read(client, FIRST)?;
        if answer == [fill; FIRST] { Ok(()) } else { Err(io::Error::other("the answer is not what was sent")) }
    }
}
