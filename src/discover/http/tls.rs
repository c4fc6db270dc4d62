//! What a source has to prove, and what is shown to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::error::HttpFault;
use super::files;
use crate::discover::settings::{Access, Endpoint};
use crate::sys::authorities::of_system;
use crate::sys::reading::{self, Readings};
use crate::tls::cause::Anyone;
use crate::tls::server::{PemFile, authorities_in, certified};

thread_local! {
    /// Authorities that are being read, by their path; those of the system have an empty one.
    static READING: Readings<Arc<RootCertStore>> = Readings::default();
}

/// How TLS is spoken with a source; the default is that the system's authorities vouch for it.
#[derive(Clone, Debug, Default)]
pub struct HttpTls {
    /// What vouches for the server.
    pub trusted_by: TrustedBy,
    /// A certificate and its key for servers that ask for one.
    pub identity: Option<(Pem, Pem)>,
    /// The name that the server must prove; `None` is the host of the endpoint.
    pub server_name: Option<Arc<str>>,
}

/// What vouches for a server.
#[derive(Clone, Debug, Default)]
pub enum TrustedBy {
    /// The authorities of this host.
    #[default]
    System,
    /// These.
    These(Pem),
    /// Nothing: every certificate is taken. Only a kubeconfig can ask for that (`insecure-skip-tls-verify`).
    Unverified,
}

/// Certificates, or a key, in the form of PEM.
#[derive(Clone, Debug)]
pub enum Pem {
    /// A file, read again for each connection.
    File(PathBuf),
    /// The text itself.
    Text(Arc<PemFile>),
}

impl From<&Access> for HttpTls {
    fn from(access: &Access) -> HttpTls {
        let file = |path: &PathBuf| Pem::File(path.clone());
        HttpTls {
            trusted_by: access.ca_file.as_ref().map_or(TrustedBy::System, |path| TrustedBy::These(file(path))),
            identity: access.cert.as_ref().zip(access.key.as_ref()).map(|(cert, key)| (file(cert), file(key))),
            server_name: None,
        }
    }
}

impl HttpTls {
    /// What rustls goes by.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(super) async fn config(&self, timeout: Duration) -> Result<Arc<ClientConfig>, HttpFault> {
        let unusable = |error: rustls::Error| HttpFault::Tls(error.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = match &self.trusted_by {
            TrustedBy::Unverified => None,
            TrustedBy::System => Some(authorities(None, timeout).await?),
            TrustedBy::These(Pem::File(path)) => Some(authorities(Some(path), timeout).await?),
            TrustedBy::These(Pem::Text(text)) => Some(Arc::new(authorities_in(text).map_err(HttpFault::File)?)),
        };
        let verifier: Arc<dyn ServerCertVerifier> = match roots {
            None => Arc::new(Anyone(Arc::clone(&provider))),
            Some(roots) => WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| HttpFault::Tls(error.to_string()))?,
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(unusable)?.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (cert, key) = (cert.read("cert", timeout).await?, key.read("key", timeout).await?);
                let shown = certified(&cert, &key).map_err(HttpFault::File)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(shown))))
            }
        };
        // A session that is taken up again proves nothing anew.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The name that the server must prove. An address is never sent, it only has to be in the certificate (RFC 6066).
    pub(super) fn name(&self, endpoint: &Endpoint) -> Result<ServerName<'static>, HttpFault> {
        let name = self.server_name.as_ref().unwrap_or(&endpoint.host);
        // RFC 6066: without the final dot.
        let name = name.strip_suffix('.').unwrap_or(name);
        ServerName::try_from(name.to_string())
            .map_err(|_| HttpFault::Tls(format!("{name} is no name that a server can prove")))
    }
}

impl Pem {
    /// What it says.
    async fn read(&self, key: &'static str, timeout: Duration) -> Result<Arc<PemFile>, HttpFault> {
        match self {
            Pem::Text(text) => Ok(Arc::clone(text)),
            Pem::File(path) => {
                let bytes =
                    files::file(path, timeout).await.map_err(|why| HttpFault::File(format!("`{key}`: {why}")))?;
                Ok(Arc::new(PemFile { path: path.display().to_string(), bytes }))
            }
        }
    }
}

/// The authorities of a file, or with `None` those of this host. The thread that reads them also parses them: a system
/// has some hundred and forty, which take milliseconds.
async fn authorities(path: Option<&Path>, timeout: Duration) -> Result<Arc<RootCertStore>, HttpFault> {
    let bad = |error: io::Error| match path {
        Some(path) => HttpFault::File(format!("`ca_file`: {}: {error}", path.display())),
        None => {
            HttpFault::File(format!("the authorities of this host cannot be read: {error}; name a file with `ca_file`"))
        }
    };
    let read = if path.is_some() { of_file } else { of_system };
    let reading = READING.with(|all| all.begin(path.unwrap_or(Path::new("")), read)).map_err(bad)?;
    reading.done(reading::patience(timeout)).await.map_err(bad)
}

/// Those in a file. Blocks.
fn of_file(path: &Path) -> io::Result<Arc<RootCertStore>> {
    let file = PemFile { path: String::new(), bytes: files::read(path)? };
    let roots = authorities_in(&file).map_err(|why| io::Error::other(why.trim_start_matches(": ").to_string()))?;
    Ok(Arc::new(roots))
}
