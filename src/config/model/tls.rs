//! The meaning of `[listeners.NAME.tls]`, TLS that ends at a listener, and of `[pools.NAME.tls]`, TLS to the backends.
//!
//! It says which certificates are shown and what is asked of the peers. Nothing of the files is read here: a file
//! can be replaced while ringway runs, and the configuration then still means the same.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::health::ask::Trust;
use crate::tls::client::ServerNameSource;
use crate::tls::{ClientTls, ServerTls};

/// How a listener ends TLS. At least one of `certificates` and `certificate_dir` is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerTls {
    /// The pairs of the file, in its order; no `cert` is there twice. The first one serves clients that no name fits.
    pub certificates: Vec<CertificatePair>,
    /// A folder with more pairs: every `NAME.crt` with `NAME.key`, and every `NAME.pem` that holds both.
    pub certificate_dir: Option<PathBuf>,
    /// Whether a client that asks for a name without a certificate is refused (`unrecognized_name`). If not, it gets
    /// the first certificate. A client that asks for no name always gets that one.
    pub refuses_unknown_names: bool,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The protocols that the listener offers, the best one first; empty means that it takes no part in ALPN. What
    /// `starttls` implies is not among them.
    pub alpn: Vec<String>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// The authorities of the clients' certificates. Given exactly when `client_auth` is not [`ClientAuth::Off`].
    pub client_ca: Option<PathBuf>,
    /// The clients' certificates that are revoked. Given only with `client_ca`.
    pub client_crl: Option<PathBuf>,
    /// How long the whole handshake can take, with the request for TLS before it; zero means without end.
    pub handshake_timeout: Duration,
    /// Whether a client can resume an earlier session.
    pub has_tickets: bool,
    /// What clients say before TLS.
    pub starttls: Starttls,
    /// Whether a client that goes on without TLS is served. Only with `starttls`; false without it.
    pub allows_plaintext: bool,
    /// What its files said when they were read last ([`load_certificates`](crate::config::load_certificates)).
    pub loaded: Loaded<ServerTls>,
}

/// How TLS is spoken to the backends of a pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolTls {
    /// The name that is asked for, and that the certificate of a backend must have if it is verified.
    pub server_name: ServerNameSource,
    /// Whose word is taken for a backend.
    pub trust: Trust,
    /// A certificate of our own with its key, for backends that ask for one.
    pub pair: Option<CertificatePair>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The protocols that backends are offered, the best one first; empty means none. What `starttls` implies is not
    /// among them.
    pub alpn: Vec<String>,
    /// What is said before TLS.
    pub starttls: Starttls,
    /// What its files said when they were read last ([`load_certificates`](crate::config::load_certificates)).
    pub loaded: Loaded<ClientTls>,
}

impl PoolTls {
    /// Every file that it names, with the keys that name them.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let authorities = match &self.trust {
            Trust::File(path) => Some(("ca_file", path)),
            Trust::System | Trust::Unverified => None,
        };
        let pair = self.pair.iter().flat_map(|pair| [("cert", &pair.cert), ("key", &pair.key)]);
        authorities.into_iter().chain(pair).map(|(key, path)| (key, path.as_path()))
    }
}

/// What the files of a table said. Two of them count as equal, because the configuration is the same.
#[derive(Debug)]
pub struct Loaded<T>(Option<Arc<T>>);

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Loaded<T> {
        Loaded(self.0.clone())
    }
}

impl<T> Loaded<T> {
    /// TLS as the files had it; `None` before they were read.
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// The same, to keep.
    pub fn shared(&self) -> Option<Arc<T>> {
        self.0.clone()
    }

    /// Takes what the files say now.
    pub fn set(&mut self, now: Arc<T>) {
        self.0 = Some(now);
    }
}

impl<T> Default for Loaded<T> {
    fn default() -> Loaded<T> {
        Loaded(None)
    }
}

impl<T> PartialEq for Loaded<T> {
    fn eq(&self, _: &Loaded<T>) -> bool {
        true
    }
}

impl<T> Eq for Loaded<T> {}

impl ListenerTls {
    /// Every file that it names, and the folder of `certificate_dir`, with the keys that name them: in the order of
    /// `conf/reference.toml`, with `cert` and `key` of each pair for `certificates`.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let pairs = self.certificates.iter().flat_map(|pair| [("cert", &pair.cert), ("key", &pair.key)]);
        let others = [
            ("certificate_dir", &self.certificate_dir),
            ("client_ca", &self.client_ca),
            ("client_crl", &self.client_crl),
        ];
        let others = others.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
        pairs.chain(others).map(|(key, path)| (key, path.as_path()))
    }
}

/// One entry of `certificates`. Both can be the same file, which then holds both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificatePair {
    /// The certificate with those that vouch for it, as PEM, its own first.
    pub cert: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

impl fmt::Display for CertificatePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.cert.display(), self.key.display())
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// They are not asked for one.
    Off,
    /// They are asked for one. A client without one is served, a client with one that is not valid is not.
    Optional,
    /// Only a client with a valid one is served.
    Required,
}

impl ClientAuth {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            ClientAuth::Off => "off",
            ClientAuth::Optional => "optional",
            ClientAuth::Required => "required",
        }
    }
}

/// What is said before TLS, by a client or to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Starttls {
    /// Nothing: TLS comes first.
    Off,
    /// PostgreSQL's SSLRequest, or nothing with the protocol "postgresql" in ALPN.
    Postgresql,
}

impl Starttls {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Starttls::Off => "off",
            Starttls::Postgresql => "postgresql",
        }
    }
}
