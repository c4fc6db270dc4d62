//! On what terms a check speaks TLS: whether it must, and what a server has to prove.
//!
//! A database is asked for TLS where it has it, and proves nothing (`prefer`): that hides what is said from all that
//! read along. A check goes to an address that the configuration names, and its password goes there as the proof of
//! SCRAM or a challenge wherever the server can. What only a verified server may hear, such a check never says: the
//! password itself. With `require` a server without TLS is not fit, nor is one whose certificate does not prove its
//! name.
//!
//! rustls speaks TLS 1.2 and 1.3 with ephemeral elliptic keys; old servers may have only what it leaves out. A check
//! that prefers TLS then goes on in the clear, on another connection; one that requires it finds nothing out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;

use super::{CheckTrouble, trust};
use crate::base::address::Address;
use crate::health::ask::{Ask, CheckKind, CheckTls, Trust};
use crate::tls::cause::Anyone;

/// On what terms a check speaks TLS.
pub(super) struct Terms {
    /// Which authorities it believes, and what it offers.
    pub config: Arc<ClientConfig>,
    /// What is asked for, and what the certificate must have.
    pub name: ServerName<'static>,
    /// Whether a server without TLS is not fit.
    pub is_required: bool,
    /// Whether the server proves its name.
    pub is_verified: bool,
}

/// The terms of a check; `None` exactly if it speaks no TLS.
///
/// # Errors
/// The authorities that it is to believe cannot be read, or the certificate that it is to show.
pub(super) async fn of(ask: &Ask, timeout: Duration) -> Result<Option<Terms>, CheckTrouble> {
    let (trust, server_name, identity) = match &ask.tls {
        CheckTls::Off => return Ok(None),
        CheckTls::Prefer => (&Trust::Unverified, "", &None),
        CheckTls::Require { trust, server_name, identity } => (trust, server_name.as_str(), identity),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Unverified => Arc::new(Anyone(Arc::clone(&provider))),
        Trust::System => verifier(trust::authorities(None, timeout).await?, &provider)?,
        Trust::File(path) => verifier(trust::authorities(Some(path), timeout).await?, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| CheckTrouble::no_agreement(error.to_string()))?;
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let shown = trust::identity(cert, key, timeout).await?;
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::unwrap_or_clone(shown))))
        }
    };
    // A session that is taken up again proves nothing anew.
    config.resumption = Resumption::disabled();
    if matches!(ask.kind, CheckKind::Http(_)) {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(Some(Terms {
        config: Arc::new(config),
        name: name(server_name, &ask.target),
        is_required: ask.tls.is_required(),
        is_verified: *trust != Trust::Unverified,
    }))
}

/// Believes those authorities and what they sign (RFC 5280).
fn verifier(
    authorities: Arc<rustls::RootCertStore>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, CheckTrouble> {
    let verifier = WebPkiServerVerifier::builder_with_provider(authorities, Arc::clone(provider)).build();
    Ok(verifier.map_err(|error| CheckTrouble::no_agreement(error.to_string()))?)
}

/// The name of the server. An address is never sent (SNI is for names, RFC 6066), it only has to be there; a unix
/// socket that proves no name has that of this host.
fn name(server_name: &str, target: &Address) -> ServerName<'static> {
    let of_target = || {
        let ip = match target {
            Address::Tcp(address) => address.ip(),
            Address::Unix(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        ServerName::IpAddress(ip.into())
    };
    // RFC 6066: without the final dot.
    let server_name = server_name.strip_suffix('.').unwrap_or(server_name);
    ServerName::try_from(server_name.to_string()).unwrap_or_else(|_| of_target())
}
