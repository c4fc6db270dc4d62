//! Peers in tests: rustls as a client and as a server, and one that can break every rule.

use std::io::{Read, Write};
use std::ops::DerefMut;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
    SideData,
};

use crate::tls::handshake::{Agreed, Handshake, HandshakeStep};
use crate::tls::record::{ContentType, RecordKey};
use crate::tls::{Alert, Codec};

/// The versions and ciphers that can be agreed on, by the position in `aws_lc_rs::ALL_CIPHER_SUITES`.
pub const SUITES: usize = aws_lc_rs::ALL_CIPHER_SUITES.len();

/// One certificate for `db.example`, of one authority.
pub fn certificate() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["db.example".to_string()]).unwrap();
    (made.cert.der().clone(), PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()))
}

/// The configurations of a server and of a client that believes it, with one cipher suite.
pub fn configs(suite: usize) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let (certificate, key) = certificate();
    let suite = aws_lc_rs::ALL_CIPHER_SUITES[suite];
    let provider = Arc::new(CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() });
    let versions: &[&rustls::SupportedProtocolVersion] = match suite.version().version {
        ProtocolVersion::TLSv1_3 => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12],
    };
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let mut server = server.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
}

/// The suites that go with a certificate with an ECDSA key.
pub fn suites() -> impl Iterator<Item = usize> {
    (0..SUITES).filter(|suite| !aws_lc_rs::ALL_CIPHER_SUITES[*suite].suite().as_str().unwrap_or("").contains("_RSA_"))
}

/// The server's end, what was agreed on, and what the client has said behind its handshake.
pub type Shaken = (Box<Codec>, Agreed, Vec<u8>);

/// What a server has agreed on with a client that was driven by `exchange`: given what the server has said, it returns
/// what the client says then. The last of that comes back too.
pub fn shake(
    config: Arc<ServerConfig>,
    mut exchange: impl FnMut(&[u8]) -> Vec<u8>,
) -> Result<Shaken, (String, Vec<u8>)> {
    let mut server = Box::new(Handshake::by(config).unwrap());
    let mut said = Vec::new();
    for _ in 0..20 {
        let bytes = exchange(&std::mem::take(&mut said));
        match server.on(&bytes, &mut said) {
            HandshakeStep::Goes(goes) => server = goes,
            HandshakeStep::Done(codec, agreed) => {
                let rest = exchange(&said);
                return Ok((codec, agreed, rest));
            }
            HandshakeStep::Failed(failure) => return Err((failure.cause, said)),
        }
    }
    panic!("it does not come to an end");
}

/// One end of rustls, with what its application has got.
pub struct End<T> {
    /// The connection.
    pub connection: T,
    got: Vec<u8>,
}

/// A client.
pub type Client = End<ClientConnection>;
/// A server.
pub type Server = End<ServerConnection>;

impl Client {
    /// For `db.example`.
    pub fn new(config: Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("db.example").unwrap();
        Client { connection: ClientConnection::new(config, name).unwrap(), got: Vec::new() }
    }
}

impl<T, D> End<T>
where
    T: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    /// Tells it what has come, and returns what it has to say.
    pub fn tell(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut part = vec![0; 1 << 16];
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).unwrap();
            self.connection.process_new_packets().unwrap();
            while let Ok(count @ 1..) = self.connection.reader().read(&mut part) {
                self.got.extend_from_slice(&part[..count]);
            }
        }
        self.said()
    }

    fn said(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut said).unwrap();
        }
        said
    }

    /// What its application has got since the last call.
    pub fn got(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.got)
    }

    /// The records in which it says this.
    pub fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        for part in bytes.chunks(8192) {
            self.connection.writer().write_all(part).unwrap();
            said.extend(self.said());
        }
        said
    }
}

impl Server {
    pub fn new(config: Arc<ServerConfig>) -> Server {
        Server { connection: ServerConnection::new(config).unwrap(), got: Vec::new() }
    }

    /// One that can break every rule from now on.
    pub fn rebel(self) -> Rebel {
        let version = self.connection.protocol_version().unwrap();
        let secrets = self.connection.dangerous_extract_secrets().unwrap();
        let key = |(sequence, secrets): (u64, _)| RecordKey::new(version, sequence, &secrets).unwrap();
        Rebel { send: key(secrets.tx), receive: key(secrets.rx) }
    }
}

/// A peer that can break every rule: it has the keys.
pub struct Rebel {
    /// For what it sends.
    pub send: RecordKey,
    /// For what it gets.
    pub receive: RecordKey,
}

impl Rebel {
    /// With a server that it has shaken hands with by the rules.
    pub fn new(suite: usize) -> (Rebel, Box<Codec>) {
        let (server, client) = configs(suite);
        let name = ServerName::try_from("db.example").unwrap();
        let mut connection = UnbufferedClientConnection::new(client, name).unwrap();
        let mut input = Vec::new();
        let (codec, ..) = shake(server, |bytes| {
            input.extend_from_slice(bytes);
            let mut said = Vec::new();
            loop {
                let UnbufferedStatus { discard, state, .. } = connection.process_tls_records(&mut input);
                let is_done = match state.unwrap() {
                    ConnectionState::EncodeTlsData(mut data) => {
                        let mut room = vec![0; 1 << 15];
                        let len = data.encode(&mut room).unwrap();
                        said.extend_from_slice(&room[..len]);
                        false
                    }
                    ConnectionState::TransmitTlsData(data) => {
                        data.done();
                        false
                    }
                    _ => true,
                };
                input.drain(..discard);
                if is_done {
                    return said;
                }
            }
        })
        .unwrap();
        let (secrets, kernel) = connection.dangerous_into_kernel_connection().unwrap();
        let version = kernel.protocol_version();
        let key = |(sequence, secrets): (u64, _)| RecordKey::new(version, sequence, &secrets).unwrap();
        (Rebel { send: key(secrets.tx), receive: key(secrets.rx) }, codec)
    }

    /// A record with this in it.
    pub fn record(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        let wrapping = self.send.seal(kind, &mut content).unwrap();
        [wrapping.head(), &content, wrapping.tail()].concat()
    }

    /// What is in a record.
    pub fn open(&mut self, mut record: Vec<u8>) -> Result<(ContentType, Vec<u8>), Alert> {
        let (kind, content) = self.receive.open(&mut record)?;
        Ok((kind, record[content].to_vec()))
    }
}
