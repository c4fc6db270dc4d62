//! Peers for targets that speak TLS: both ends of ringway, and rustls, whose keys a target may have.

use std::sync::{Arc, OnceLock};

use ringway::base::address::Address;
use ringway::tls::cause::Anyone;
use ringway::tls::client::{Authorities, ClientSettings, ServerNameSource};
use ringway::tls::handshake::HandshakeStep;
use ringway::tls::record::RecordKey;
use ringway::tls::server::{PemFile, ServerSettings};
use ringway::tls::{ClientTls, Codec, Handshake, ServerTls, TlsDialer};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ProtocolVersion, ServerConfig, SupportedProtocolVersion};

/// The name that everybody asks for.
const NAME: &str = "db.example";

fn versions(is_tls13: bool) -> [&'static SupportedProtocolVersion; 1] {
    [if is_tls13 { &rustls::version::TLS13 } else { &rustls::version::TLS12 }]
}

/// A certificate and its key, the same ones as long as the target runs.
fn pair() -> &'static rcgen::CertifiedKey<rcgen::KeyPair> {
    static PAIR: OnceLock<rcgen::CertifiedKey<rcgen::KeyPair>> = OnceLock::new();
    PAIR.get_or_init(|| rcgen::generate_simple_self_signed([NAME.to_string()]).expect("a certificate"))
}

/// ringway as a server, which knows one name and refuses others.
pub fn server() -> Handshake {
    static SERVER: OnceLock<Arc<ServerTls>> = OnceLock::new();
    let tls = SERVER.get_or_init(|| {
        let file = |text: String| PemFile { path: String::new(), bytes: text.into_bytes() };
        let settings = ServerSettings {
            pairs: vec![(file(pair().cert.pem()), file(pair().signing_key.serialize_pem()))],
            refuses_unknown_names: true,
            has_tickets: true,
            ..ServerSettings::default()
        };
        Arc::new(ServerTls::new(&settings, None).expect("the files are right"))
    });
    Handshake::new(tls).expect("a handshake")
}

/// ringway as a client, which believes everybody. It resumes what it can.
pub fn client() -> Handshake {
    static DIALER: OnceLock<TlsDialer> = OnceLock::new();
    let dialer = DIALER.get_or_init(|| {
        let settings = ClientSettings {
            authorities: Authorities::Unverified,
            pair: None,
            is_tls13_only: false,
            protocols: Vec::new(),
            server_name: ServerNameSource::Given(NAME.into()),
            is_postgresql: false,
        };
        let tls = ClientTls::new(&settings).expect("there are no files");
        tls.dialer(&Address::Tcp(([127, 0, 0, 1], 1).into()), None)
    });
    Handshake::dial(dialer, None).expect("a handshake")
}

/// rustls as a client of that version.
pub fn other_client(is_tls13: bool) -> UnbufferedClientConnection {
    static CONFIGS: OnceLock<[Arc<ClientConfig>; 2]> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        [false, true].map(|is_tls13| {
            let provider = Arc::new(default_provider());
            let builder = ClientConfig::builder_with_provider(provider.clone());
            let builder = builder.with_protocol_versions(&versions(is_tls13)).expect("a version").dangerous();
            let verifier = Arc::new(Anyone(provider));
            let mut config = builder.with_custom_certificate_verifier(verifier).with_no_client_auth();
            config.enable_secret_extraction = true;
            Arc::new(config)
        })
    });
    let name = NAME.try_into().expect("a name");
    UnbufferedClientConnection::new(configs[usize::from(is_tls13)].clone(), name).expect("a connection")
}

/// rustls as a server of that version.
pub fn other_server(is_tls13: bool) -> UnbufferedServerConnection {
    static CONFIGS: OnceLock<[Arc<ServerConfig>; 2]> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        [false, true].map(|is_tls13| {
            let key = rustls::pki_types::PrivateKeyDer::Pkcs8(pair().signing_key.serialize_der().into());
            let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
            let builder = builder.with_protocol_versions(&versions(is_tls13)).expect("a version");
            let builder = builder.with_no_client_auth();
            let mut config = builder.with_single_cert(vec![pair().cert.der().clone()], key).expect("a certificate");
            config.enable_secret_extraction = true;
            Arc::new(config)
        })
    });
    UnbufferedServerConnection::new(configs[usize::from(is_tls13)].clone()).expect("a connection")
}

/// Tells a connection of rustls what has come, and adds what it says. Whether it goes on.
macro_rules! tell {
    ($connection:expr, $input:expr, $said:expr) => {
        loop {
            let UnbufferedStatus { discard, state, .. } = $connection.process_tls_records($input);
            let step = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let mut room = vec![0; 1 << 15];
                    let len = data.encode(&mut room).expect("there is room");
                    $said.extend_from_slice(&room[..len]);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(_) => Some(true),
                Err(_) => Some(false),
            };
            $input.drain(..discard);
            if let Some(goes_on) = step {
                break goes_on;
            }
        }
    };
}

/// rustls at the other end.
pub enum Other {
    /// It is the client.
    Client(UnbufferedClientConnection),
    /// It is the server.
    Server(UnbufferedServerConnection),
    /// It has found a fault, and must not be asked any more.
    Gone,
}

impl Other {
    /// Tells it what has come, and returns what it says.
    pub fn tell(&mut self, input: &mut Vec<u8>) -> Vec<u8> {
        let mut said = Vec::new();
        let goes_on = match self {
            Other::Client(connection) => tell!(connection, input, said),
            Other::Server(connection) => tell!(connection, input, said),
            Other::Gone => false,
        };
        if !goes_on {
            *self = Other::Gone;
            input.clear();
        }
        said
    }
}

/// Where the keys of a rebel come from that follow.
enum Keys {
    /// It is the client.
    Client(KernelConnection<ClientConnectionData>),
    /// It is the server.
    Server(KernelConnection<ServerConnectionData>),
}

/// One that has shaken hands with ringway by the rules, and can break them from now on.
pub struct Rebel {
    /// For what it sends.
    pub key: RecordKey,
    keys: Keys,
    version: ProtocolVersion,
}

impl Rebel {
    /// It is the server or the client, with that version.
    pub fn new(is_server: bool, is_tls13: bool) -> (Rebel, Box<Codec>) {
        let (mut handshake, mut other) = match is_server {
            true => (Box::new(client()), Other::Server(other_server(is_tls13))),
            false => (Box::new(server()), Other::Client(other_client(is_tls13))),
        };
        let (mut bytes, mut input) = (Vec::new(), Vec::new());
        let codec = loop {
            if !is_server {
                bytes = other.tell(&mut input);
            }
            match handshake.on(&bytes, &mut input) {
                HandshakeStep::Goes(goes) => handshake = goes,
                HandshakeStep::Done(codec, _) => break codec,
                HandshakeStep::Failed(failure) => panic!("{failure:?}"),
            }
            if is_server {
                bytes = other.tell(&mut input);
            }
        };
        // Tickets of a server would come next.
        other.tell(&mut input);
        let (secrets, keys) = match other {
            Other::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection().expect("it has shaken hands");
                (secrets, Keys::Client(kernel))
            }
            Other::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection().expect("it has shaken hands");
                (secrets, Keys::Server(kernel))
            }
            Other::Gone => panic!("it was told nothing wrong"),
        };
        let version = if is_tls13 { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 };
        let key = RecordKey::new(version, secrets.tx.0, &secrets.tx.1).expect("a cipher that is known");
        (Rebel { key, keys, version }, codec)
    }

    /// From the next record on it has the keys that follow, if its version has such.
    pub fn renew(&mut self) {
        let renewed = match &mut self.keys {
            Keys::Client(kernel) => kernel.update_tx_secret(),
            Keys::Server(kernel) => kernel.update_tx_secret(),
        };
        if let Ok((sequence, secrets)) = renewed {
            self.key = RecordKey::new(self.version, sequence, &secrets).expect("a cipher that is known");
        }
    }
}
