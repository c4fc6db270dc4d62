//! What a listener shows to its clients and asks of them: certificates by name, authorities, tickets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureAlgorithm, SupportedProtocolVersion, version};
use zeroize::Zeroize;

use super::facts::{CertificateFacts, facts};
use crate::base::hash;

/// A ticket is good for this long after its key was made, and its key makes tickets for half of it: a day.
const TICKET_KEY_S: u32 = 24 * 3600;

/// A file of the configuration.
#[derive(Clone, Debug)]
pub struct PemFile {
    /// Its path, for messages.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Drop for PemFile {
    /// It may hold a private key, which must not stay in memory that is used for something else.
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// What the configuration says of TLS at a listener.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// Certificates with their keys; the first pair serves clients that no name fits.
    pub pairs: Vec<(PemFile, PemFile)>,
    /// Whether a client is refused that asks for a name without a certificate.
    pub refuses_unknown_names: bool,
    /// Whether TLS 1.2 is not spoken.
    pub is_tls13_only: bool,
    /// The protocols for ALPN, the best one first.
    pub protocols: Vec<Vec<u8>>,
    /// The authorities of clients' certificates; `None` if clients are not asked for one.
    pub client_ca: Option<PemFile>,
    /// Clients' certificates that are revoked.
    pub client_crl: Option<PemFile>,
    /// Whether a client without a certificate is refused.
    pub is_certificate_required: bool,
    /// Whether sessions can be resumed.
    pub has_tickets: bool,
    /// How long a handshake can take; 0 means without end.
    pub handshake_timeout_ns: u64,
    /// Whether clients of PostgreSQL ask for TLS first, or begin with it by the name of their protocol.
    pub is_postgresql: bool,
    /// Whether such a client that goes on without TLS is served.
    pub allows_plaintext: bool,
}

/// A certificate that clients are shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShownCertificate {
    /// The path of its file.
    pub file: String,
    /// The path of the file of its key, which can be the same.
    pub key_file: String,
    /// What it says of itself; `None` if it cannot be read, though rustls can use it.
    pub facts: Option<CertificateFacts>,
}

impl ShownCertificate {
    /// What is told of a pair.
    pub(super) fn new(cert: &PemFile, key: &PemFile, certified: &CertifiedKey) -> ShownCertificate {
        let facts = certified.cert.first().and_then(|der| facts(der));
        ShownCertificate { file: cert.path.clone(), key_file: key.path.clone(), facts }
    }

    /// What it is called: by its first DNS name, else its subject, else its file.
    pub fn name(&self) -> &str {
        let name = self.facts.as_ref().map_or("", CertificateFacts::name);
        if name.is_empty() { &self.file } else { name }
    }
}

/// TLS at a listener, ready for clients. All workers share it.
pub struct ServerTls {
    /// What rustls goes by.
    config: Arc<ServerConfig>,
    /// The certificates, which rustls asks for.
    certificates: Arc<CertificatesByName>,
    /// The keys of tickets, which outlive a reload as long as the same clients are let in.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    /// Which clients are let in.
    guard: ClientGuard,
    /// Whether a client is refused that asks for a name without a certificate.
    refuses_unknown_names: bool,
    /// Whether one of its keys takes long for a signature: RSA, 0.3 to 2.5 ms, where ECDSA takes 0.02 to 0.2.
    signs_slowly: bool,
    /// How long a handshake can take; 0 means without end.
    pub handshake_timeout_ns: u64,
    /// Whether clients of PostgreSQL ask for TLS first, or begin with it by the name of their protocol.
    pub is_postgresql: bool,
    /// Whether such a client that goes on without TLS is served.
    pub allows_plaintext: bool,
    /// Its certificates, in the order of the configuration.
    shown: Box<[ShownCertificate]>,
    /// The files of its pairs, for a successor whose own cannot be used.
    files: Box<[(PemFile, PemFile)]>,
    /// Of all files.
    digest: u64,
}

/// What clients have to prove.
#[derive(Eq, PartialEq)]
struct ClientGuard {
    /// The authorities of their certificates, as the file has them.
    authorities: Option<Vec<u8>>,
    /// Those that are revoked, as the file has them.
    revoked: Option<Vec<u8>>,
    /// Whether they must show one.
    is_required: bool,
}

impl fmt::Debug for ServerTls {
    /// Without its keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("handshake_timeout_ns", &self.handshake_timeout_ns).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads what the files say. Tickets of `before`, which it takes the place of, stay good if both believe the same
    /// authorities.
    ///
    /// # Errors
    /// Everything that is wrong with the files, each as `PATH: what, and what to do`.
    pub fn new(settings: &ServerSettings, before: Option<&ServerTls>) -> Result<ServerTls, Vec<String>> {
        let mut faults = Vec::new();
        let (keys, shown) = pairs(&settings.pairs, &mut faults);
        let verifier = verifier(settings).map_err(|fault| faults.push(fault)).ok().flatten();
        if !faults.is_empty() {
            return Err(faults);
        }
        let wrong = |error: rustls::Error| vec![format!("TLS cannot be set up: {error}")];
        let versions: &[&SupportedProtocolVersion] =
            if settings.is_tls13_only { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
        let certificates = Arc::new(CertificatesByName::new(&keys));
        let signs_slowly = keys.iter().any(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .map_err(wrong)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols.clone_from(&settings.protocols);
        config.enable_secret_extraction = true;
        // What is resumed is in the tickets alone, so any worker can.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let client_ca = settings.client_ca.as_ref().map(|file| file.bytes.clone());
        // A ticket stands for a client that was let in, and rustls does not verify that again.
        let guard = ClientGuard {
            authorities: client_ca,
            revoked: settings.client_crl.as_ref().map(|file| file.bytes.clone()),
            is_required: settings.is_certificate_required,
        };
        let kept = before.filter(|before| before.guard == guard).and_then(|before| before.ticketer.clone());
        let ticketer = match (settings.has_tickets, kept) {
            (false, _) => None,
            (true, Some(kept)) => Some(kept),
            (true, None) => Some(new_ticketer().map_err(wrong)?),
        };
        match &ticketer {
            Some(ticketer) => config.ticketer = ticketer.clone(),
            None => config.send_tls13_tickets = 0,
        }
        let ServerSettings { refuses_unknown_names, handshake_timeout_ns, is_postgresql, allows_plaintext, .. } =
            *settings;
        let config = Arc::new(config);
        let digest = digest(settings);
        Ok(ServerTls {
            config,
            certificates,
            ticketer,
            guard,
            refuses_unknown_names,
            signs_slowly,
            handshake_timeout_ns,
            is_postgresql,
            allows_plaintext,
            shown,
            files: settings.pairs.clone().into(),
            digest,
        })
    }

    /// The same from what can be used of the files: a pair that is broken is what `before` shows in its place, or left
    /// out if that does not show it. `None` if nothing is left, or clients cannot be verified.
    pub fn of_usable(settings: &ServerSettings, before: &ServerTls) -> Option<ServerTls> {
        let is_same = |one: &(PemFile, PemFile), other: &(PemFile, PemFile)| {
            one.0.path == other.0.path && one.1.path == other.1.path
        };
        let usable = |pair: &(PemFile, PemFile)| match certified(&pair.0, &pair.1) {
            Ok(_) => Some(pair.clone()),
            Err(_) => before.files.iter().find(|known| is_same(pair, known)).cloned(),
        };
        let pairs: Vec<(PemFile, PemFile)> = settings.pairs.iter().filter_map(usable).collect();
        let settings = ServerSettings { pairs, ..settings.clone() };
        if settings.pairs.is_empty() { None } else { ServerTls::new(&settings, Some(before)).ok() }
    }

    /// Whether its files said the same.
    pub fn says_the_same(&self, other: &ServerTls) -> bool {
        self.digest == other.digest
    }

    /// Its certificates, in the order of the configuration.
    pub fn shown(&self) -> &[ShownCertificate] {
        &self.shown
    }

    /// For a handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether one of its keys takes long for a signature.
    pub fn signs_slowly(&self) -> bool {
        self.signs_slowly
    }

    /// Whether a client that asks for a name without a certificate is refused.
    pub(super) fn refuses_unknown_names(&self) -> bool {
        self.refuses_unknown_names
    }

    /// Whether a client that asks for this name is refused.
    pub(super) fn refuses(&self, name: &str) -> bool {
        self.refuses_unknown_names && self.certificates.named(name).is_none()
    }
}

/// The pairs that can be used, with what is told of them.
fn pairs(files: &[(PemFile, PemFile)], faults: &mut Vec<String>) -> (Vec<Arc<CertifiedKey>>, Box<[ShownCertificate]>) {
    let (mut keys, mut shown) = (Vec::new(), Vec::new());
    for (cert, key) in files {
        match certified(cert, key) {
            Ok(certified) => {
                shown.push(ShownCertificate::new(cert, key, &certified));
                keys.push(certified);
            }
            Err(fault) => faults.push(fault),
        }
    }
    (keys, shown.into())
}

/// A number that tells files apart that say something else, or have other names.
fn digest(settings: &ServerSettings) -> u64 {
    let pairs = settings.pairs.iter().flat_map(|(cert, key)| [cert, key]);
    let files = pairs.chain(&settings.client_ca).chain(&settings.client_crl);
    files.fold(0, |digest, file| hash::stable(&file.bytes, hash::stable(file.path.as_bytes(), digest)))
}

/// Keys for tickets that change daily.
///
/// # Errors
/// There is no random number.
fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    let rotator = rustls::ticketer::TicketRotator::new(TICKET_KEY_S / 2, || {
        let made = aws_lc_rs::Ticketer::new().map_err(|_| rustls::crypto::GetRandomFailed)?;
        Ok(Box::new(SharedTicketer(made)) as Box<dyn ProducesTickets>)
    })?;
    Ok(Arc::new(rotator))
}

/// A ticketer behind an `Arc`, where a box is asked for.
#[derive(Debug)]
struct SharedTicketer(Arc<dyn ProducesTickets>);

impl ProducesTickets for SharedTicketer {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// A certificate with its key.
///
/// # Errors
/// What is wrong with one of the files, and what to do.
pub fn certified(cert: &PemFile, key: &PemFile) -> Result<Arc<CertifiedKey>, String> {
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&cert.bytes).collect();
    let chain = chain.map_err(|error| format!("{}: its PEM cannot be read: {error}", cert.path))?;
    if chain.is_empty() {
        return Err(format!(
            "{}: it holds no certificate; it has to begin with -----BEGIN CERTIFICATE----- (PEM)",
            cert.path
        ));
    }
    let private = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => format!(
            "{}: it holds no private key that is not encrypted; `openssl pkey -in FILE` writes one as PEM",
            key.path
        ),
        error => format!("{}: its PEM cannot be read: {error}", key.path),
    })?;
    let made = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
    let made = made.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{}: it is not the key of the certificate in {}", key.path, cert.path)
        }
        error => format!("{} with {}: they cannot be used: {error}", cert.path, key.path),
    })?;
    webpki::EndEntityCert::try_from(&made.cert[0])
        .map_err(|error| format!("{}: its first certificate is not one of a server: {error}", cert.path))?;
    Ok(Arc::new(made))
}

/// The authorities in a file. One that cannot be used is an error, as it is there on purpose.
///
/// # Errors
/// What is wrong with the file.
pub fn authorities_in(file: &PemFile) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(&file.bytes) {
        let der = der.map_err(|error| format!("{}: its PEM cannot be read: {error}", file.path))?;
        roots.add(der).map_err(|error| format!("{}: an authority in it cannot be used: {error}", file.path))?;
    }
    if roots.is_empty() {
        return Err(format!("{}: it holds no certificate of an authority (PEM)", file.path));
    }
    Ok(roots)
}

/// What looks at clients' certificates; `None` if they are not asked for one.
///
/// # Errors
/// What is wrong with one of the files, and what to do.
fn verifier(settings: &ServerSettings) -> Result<Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>, String> {
    let Some(ca) = &settings.client_ca else { return Ok(None) };
    let roots = authorities_in(ca)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = &settings.client_crl {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&crl.bytes).collect();
        let lists = lists.map_err(|error| format!("{}: its PEM cannot be read: {error}", crl.path))?;
        if lists.is_empty() {
            return Err(format!(
                "{}: it holds no revocation list; it has to begin with -----BEGIN X509 CRL-----",
                crl.path
            ));
        }
        // A list need not cover the authorities in between.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if !settings.is_certificate_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(|error| format!("{}: clients cannot be verified by it: {error}", ca.path))
}

/// The certificates of a listener.
#[derive(Debug)]
struct CertificatesByName {
    /// By name in lower case.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.` of a name with a wildcard.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For clients that no name fits.
    default: Vec<Arc<CertifiedKey>>,
}

impl CertificatesByName {
    /// These certificates, the first one for clients that no name fits.
    fn new(all: &[Arc<CertifiedKey>]) -> CertificatesByName {
        let mut made = CertificatesByName { exact: HashMap::new(), wildcard: HashMap::new(), default: Vec::new() };
        let mut first: Option<Vec<String>> = None;
        for key in all {
            let names = names_of(key);
            for name in &names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut made.wildcard, suffix),
                    None => (&mut made.exact, name.as_str()),
                };
                map.entry(name.to_string()).or_default().push(key.clone());
            }
            // A second certificate of the same names has another kind of key.
            if first.get_or_insert_with(|| names.clone()) == &names {
                made.default.push(key.clone());
            }
        }
        made
    }

    /// The certificates for a name, which has no final dot; `None` if there are none.
    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.exact.get(&name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}

impl ResolvesServerCert for CertificatesByName {
    /// The first certificate for the name that the client can verify; one that it cannot verify if there is no other,
    /// so that it is told what is wrong.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name)).unwrap_or(&self.default);
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        named.iter().find(fits).or(named.first()).cloned()
    }
}

/// The names that a certificate is for, in lower case and in order.
fn names_of(key: &CertifiedKey) -> Vec<String> {
    let parsed = key.cert.first().and_then(|der| webpki::EndEntityCert::try_from(der).ok());
    let mut names: Vec<String> =
        parsed.iter().flat_map(|parsed| parsed.valid_dns_names()).map(str::to_ascii_lowercase).collect();
    names.sort_unstable();
    names
}
