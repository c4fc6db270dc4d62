//! What the API says of certificates.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// `GET /v1/certificates`: what listeners show to their clients.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Certificates {
    /// Those that end first come first; in front of them files that cannot be used and show nothing.
    pub certificates: Vec<CertificateStatus>,
}

/// One certificate that clients or backends are shown, or a file that cannot be used.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct CertificateStatus {
    /// The listener that shows it to its clients; `null` if a pool shows it to its backends.
    pub listener: Option<Arc<str>>,
    /// That pool.
    pub pool: Option<Arc<str>>,
    /// The path of its file.
    pub file: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Its owner, as RFC 4514 writes it. This and what follows is `null` if nothing is shown from the file, or if
    /// what is shown cannot be read.
    pub subject: Option<String>,
    /// The authority that signed it, as RFC 4514 writes it.
    pub issuer: Option<String>,
    /// Which key it has: `RSA`, `ECDSA P-256`, `Ed25519`.
    pub key_kind: Option<String>,
    /// When it begins to be valid, such as `2026-11-28T17:55:35.000Z`.
    pub not_before: Option<String>,
    /// When it ceases to be valid, which is what is meant by "expires". A time after the year 9999 is written as the
    /// end of that year.
    pub not_after: Option<String>,
    /// Whole days until then; below 0 after it.
    pub days_left: Option<i64>,
    /// What is to be warned of: that it expires within two weeks, has expired, or is not valid yet.
    pub warning: Option<String>,
    /// Why its file, as it is now, cannot be used; what is shown is from before.
    pub error: Option<String>,
}

impl CertificateStatus {
    /// What shows it, as people say it: `listener db`.
    pub fn owner(&self) -> String {
        match (&self.listener, &self.pool) {
            (Some(listener), _) => format!("listener {listener}"),
            (None, Some(pool)) => format!("pool {pool}"),
            (None, None) => String::new(),
        }
    }

    /// What it is called, as in metrics and logs: by its first DNS name, else its subject, else its file.
    pub fn name(&self) -> &str {
        let subject = || self.subject.as_deref().filter(|subject| !subject.is_empty());
        let dns = self.names.iter().find(|name| name.parse::<std::net::IpAddr>().is_err());
        dns.map(String::as_str).or_else(subject).unwrap_or(&self.file)
    }
}
