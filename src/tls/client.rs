//! What ringway, as the client of a backend, asks of it and shows to it: authorities, names, a certificate, sessions.
//!
//! ```text
//! ClientSettings (files) ── ClientTls::new ──> ClientTls of a pool ── dialer ──> TlsDialer of a worker and a backend
//! ```
//!
//! The settings of a pool are checked once, when its files are read. Sessions that can be resumed belong to one server,
//! and rustls keeps them by name alone, so each backend has a dialer of its own, also where all prove the same name.
//! Sessions of TLS 1.3 are used once (RFC 8446, appendix C.4), and none is shown to another backend.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::cause::Anyone;
use super::server::{PemFile, ShownCertificate, authorities_in, certified};
use crate::base::address::Address;
use crate::base::hash;

/// Sessions that are kept of one backend by one worker. rustls makes room for one server name of each eight.
const SESSIONS: usize = 8;
/// The same where clients say the name.
const SESSIONS_OF_CLIENTS: usize = 256;

/// Which authorities vouch for backends.
#[derive(Clone, Debug)]
pub enum Authorities {
    /// Those of this host, each in the form of DER.
    System(Arc<[Vec<u8>]>),
    /// Those in a file.
    File(PemFile),
    /// None: every certificate is taken.
    Unverified,
}

/// The name that is asked for (SNI) and that the certificate of a backend must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerNameSource {
    /// The host of the backend's address.
    Host,
    /// What the client asked for.
    Client,
    /// This name or IP address.
    Given(Box<str>),
}

/// What the configuration says of TLS to the backends of a pool.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Which authorities are believed.
    pub authorities: Authorities,
    /// A certificate of our own with its key, for backends that ask for one.
    pub pair: Option<(PemFile, PemFile)>,
    /// Whether TLS 1.2 is not spoken.
    pub is_tls13_only: bool,
    /// The protocols for ALPN, the best one first.
    pub protocols: Vec<Vec<u8>>,
    /// Which name a backend must prove.
    pub server_name: ServerNameSource,
    /// Whether TLS begins with PostgreSQL's request for it.
    pub is_postgresql: bool,
}

/// TLS to the backends of a pool, ready to be started. All workers share it.
pub struct ClientTls {
    /// What rustls goes by, without a place for sessions.
    config: ClientConfig,
    /// Which name a backend must prove.
    server_name: ServerNameSource,
    /// Whether TLS begins with PostgreSQL's request for it.
    pub is_postgresql: bool,
    /// The certificate that is shown to backends that ask for one.
    shown: Option<ShownCertificate>,
    /// Of the files.
    digest: u64,
}

impl fmt::Debug for ClientTls {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads what the files say.
    ///
    /// # Errors
    /// Everything that is wrong with the files, each as `PATH: what, and what to do`.
    pub fn new(settings: &ClientSettings) -> Result<ClientTls, Vec<String>> {
        let mut faults = Vec::new();
        let verifier = verifier(&settings.authorities).map_err(|fault| faults.push(fault));
        let pair = settings.pair.as_ref().map(|(cert, key)| certified(cert, key)).transpose();
        let pair = pair.map_err(|fault| faults.push(fault));
        let (Ok(verifier), Ok(pair)) = (verifier, pair) else { return Err(faults) };
        let wrong = |error: rustls::Error| vec![format!("TLS cannot be set up: {error}")];
        let versions: &[&SupportedProtocolVersion] =
            if settings.is_tls13_only { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .map_err(wrong)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let shown = settings.pair.as_ref().zip(pair.as_ref());
        let shown = shown.map(|((cert, key), pair)| ShownCertificate::new(cert, key, pair));
        let mut config = match pair {
            Some(pair) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(pair))))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&settings.protocols);
        config.enable_secret_extraction = true;
        config.resumption = Resumption::disabled();
        Ok(ClientTls {
            config,
            server_name: settings.server_name.clone(),
            is_postgresql: settings.is_postgresql,
            shown,
            digest: digest(settings),
        })
    }

    /// Whether its files said the same.
    pub fn says_the_same(&self, other: &ClientTls) -> bool {
        self.digest == other.digest
    }

    /// The certificate that is shown to backends that ask for one; `None` if there is none.
    pub fn shown(&self) -> Option<&ShownCertificate> {
        self.shown.as_ref()
    }

    /// Whether the name is the one that the client asked for.
    pub fn wants_name_of_client(&self) -> bool {
        self.server_name == ServerNameSource::Client
    }

    /// For one backend at that address, which was found by the name `host` if it was. It keeps the sessions that the
    /// backend lets it resume.
    ///
    /// The name that the backend must prove is the one that is given; without one it is `host`, or the address itself,
    /// which a certificate can have in its subjectAltName too (RFC 9525, section 6.5) and which is never sent.
    pub fn dialer(&self, address: &Address, host: Option<&str>) -> TlsDialer {
        let of_client = self.wants_name_of_client();
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(if of_client { SESSIONS_OF_CLIENTS } else { SESSIONS });
        let mut nameless = config.clone();
        nameless.enable_sni = false;
        let of_host = || host.and_then(name).unwrap_or_else(|| of_address(address));
        let own = match &self.server_name {
            ServerNameSource::Given(given) => name(given).unwrap_or_else(of_host),
            ServerNameSource::Host | ServerNameSource::Client => of_host(),
        };
        TlsDialer { config: Arc::new(config), nameless: of_client.then(|| Arc::new(nameless)), own }
    }
}

/// TLS to one backend, of one worker.
#[derive(Debug)]
pub struct TlsDialer {
    /// What rustls goes by.
    config: Arc<ClientConfig>,
    /// The same without SNI, for clients that asked for no name; present exactly where clients say the name.
    nameless: Option<Arc<ClientConfig>>,
    /// The name, unless the client says it.
    own: ServerName<'static>,
}

impl TlsDialer {
    /// Whether the name is the one that the client asked for.
    pub(super) fn asks_for_clients_name(&self) -> bool {
        self.nameless.is_some()
    }

    /// What rustls needs for a connection. `asked` is the name that the client asked for. A client that asked for none,
    /// or for what is no name, has the backend asked for none; its certificate must then have the name of its host.
    pub(super) fn terms(&self, asked: Option<&str>) -> (Arc<ClientConfig>, ServerName<'static>) {
        match (&self.nameless, asked.and_then(name)) {
            (Some(_), Some(asked)) => (self.config.clone(), asked),
            (Some(nameless), None) => (nameless.clone(), self.own.clone()),
            (None, _) => (self.config.clone(), self.own.clone()),
        }
    }
}

/// A name or an address as rustls has it; a name has no final dot there (RFC 6066, section 3).
fn name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.strip_suffix('.').unwrap_or(text).to_string()).ok()
}

/// The name of a backend that has none. A unix socket has that of this host; the configuration gives one where a name
/// is verified.
fn of_address(address: &Address) -> ServerName<'static> {
    let ip = match address {
        Address::Tcp(address) => address.ip(),
        Address::Unix(_) => IpAddr::from([127, 0, 0, 1]),
    };
    ServerName::IpAddress(ip.to_canonical().into())
}

/// A number that tells files apart that say something else.
fn digest(settings: &ClientSettings) -> u64 {
    let pair = settings.pair.iter().flat_map(|(cert, key)| [&cert.bytes, &key.bytes]);
    let authorities: Vec<&Vec<u8>> = match &settings.authorities {
        Authorities::System(all) => all.iter().collect(),
        Authorities::File(file) => vec![&file.bytes],
        Authorities::Unverified => Vec::new(),
    };
    authorities.into_iter().chain(pair).fold(0, |digest, bytes| hash::stable(bytes, digest))
}

/// What looks at the certificates of backends.
///
/// # Errors
/// What is wrong with the authorities, and what to do.
fn verifier(authorities: &Authorities) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (roots, whose) = match authorities {
        Authorities::Unverified => return Ok(Arc::new(Anyone(provider))),
        Authorities::File(file) => (authorities_in(file)?, file.path.as_str()),
        Authorities::System(all) => {
            let mut roots = RootCertStore::empty();
            // Some hosts have a few that cannot be used.
            roots.add_parsable_certificates(all.iter().map(|der| CertificateDer::from(der.as_slice())));
            if roots.is_empty() {
                return Err("this host knows no certificate authority; install ca-certificates, or name a file with \
                            `ca_file`"
                    .to_string());
            }
            (roots, "the authorities of this host")
        }
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    Ok(verifier.map_err(|error| format!("{whose}: backends cannot be verified by it: {error}"))?)
}
