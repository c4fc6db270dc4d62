//! Whose word a check takes for a server, and what it shows of itself: certificates, read again while ringway runs.
//!
//! A file of the configuration is read again when what is known of it is older than a second, those of the system after
//! a minute. The thread that reads them also parses them: a system has some hundred and forty, which take milliseconds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use super::{CheckTrouble, Lack};
use crate::base::time::{Clock, Moment};
use crate::sys::authorities;
use crate::sys::reading::{self, Readings};
use crate::tls::server::{PemFile, certified};

/// Longer files are something else: those of all authorities together have some 200 KiB.
const BYTES_MAX: u64 = 4 << 20;
/// How long what was read of a file counts.
const FILE_AGE_MAX_NS: u64 = 1_000_000_000;
/// How long what was read of the system's counts.
const SYSTEM_AGE_MAX_NS: u64 = 60_000_000_000;

/// Authorities, and when they were read.
type Known = (Moment, Arc<RootCertStore>);

thread_local! {
    /// What is being read. Control is one thread.
    static READING: Readings<Arc<RootCertStore>> = Readings::default();
    /// The same of certificates of our own, and keys.
    static BYTES: Readings<Vec<u8>> = Readings::default();
    /// What was read last, by its path; the system's has an empty one.
    static KNOWN: RefCell<HashMap<Box<Path>, Known>> = RefCell::default();
    /// For the age of both.
    static CLOCK: Clock = Clock::new();
}

/// The authorities of a file, or with `None` those of this host.
///
/// # Errors
/// They cannot be read, or there are none: a lack of ringway's own.
pub(super) async fn authorities(path: Option<&Path>, timeout: Duration) -> Result<Arc<RootCertStore>, CheckTrouble> {
    let (key, age_max_ns) = match path {
        Some(path) => (path, FILE_AGE_MAX_NS),
        None => (Path::new(""), SYSTEM_AGE_MAX_NS),
    };
    let now = CLOCK.with(Clock::now);
    let known = KNOWN.with_borrow(|all| all.get(key).filter(|(at, _)| now.since_ns(*at) < age_max_ns).cloned());
    if let Some((_, authorities)) = known {
        return Ok(authorities);
    }
    let lacks = |error: io::Error| {
        CheckTrouble::Unknown(match path {
            Some(path) => Lack::of_file("ca_file", path, error),
            None => Lack::Authorities(error.to_string()),
        })
    };
    let read = if path.is_some() { of_file } else { authorities::of_system };
    let reading = READING.with(|all| all.begin(key, read)).map_err(lacks)?;
    let authorities = reading.done(reading::patience(timeout)).await.map_err(lacks)?;
    KNOWN.with_borrow_mut(|all| {
        // What no check has asked for lately is of an old configuration.
        all.retain(|_, (at, _)| now.since_ns(*at) < SYSTEM_AGE_MAX_NS);
        all.insert(key.into(), (now, Arc::clone(&authorities)));
    });
    Ok(authorities)
}

/// The certificate that a check shows to servers that ask for one, with its key.
///
/// # Errors
/// One of the files cannot be read, or means nothing: a lack of ringway's own.
pub(super) async fn identity(cert: &Path, key: &Path, timeout: Duration) -> Result<Arc<CertifiedKey>, CheckTrouble> {
    let cert_file = bytes_of("cert", cert, timeout).await?;
    let key_file = bytes_of("key", key, timeout).await?;
    certified(&cert_file, &key_file).map_err(|why| CheckTrouble::Unknown(Lack::Agreement(why)))
}

/// What is in a file that the key `name` names.
async fn bytes_of(name: &'static str, path: &Path, timeout: Duration) -> Result<PemFile, CheckTrouble> {
    let lacks = |error: io::Error| CheckTrouble::Unknown(Lack::of_file(name, path, error));
    let reading = BYTES.with(|all| all.begin(path, read)).map_err(lacks)?;
    let bytes = reading.done(reading::patience(timeout)).await.map_err(lacks)?;
    Ok(PemFile { path: path.display().to_string(), bytes })
}

/// What is in a file of certificates or a key. Blocks.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    reading::bounded(path, BYTES_MAX)
}

/// Those in a file (PEM, RFC 7468). One that cannot be used is an error, as it is there on purpose.
fn of_file(path: &Path) -> io::Result<Arc<RootCertStore>> {
    let bytes = read(path)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let number = store.len() + 1;
        let bad = |why: String| io::Error::other(format!("its certificate number {number} cannot be used: {why}"));
        store.add(certificate.map_err(|error| bad(error.to_string()))?).map_err(|error| bad(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(io::Error::other("it has no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(Arc::new(store))
}
