//! TLS for checks of databases: it hides what is said from all that read along, and proves no identity.
//!
//! A check goes to an address that the configuration names, and its password goes there as the proof of SCRAM or a
//! challenge wherever the server can; a certificate would have to be configured for each backend, and its last day
//! would take the database down. What only a verified server may hear, a check never says: the password itself.
//!
//! rustls speaks TLS 1.2 and 1.3 with ephemeral elliptic keys; old servers may have only what it leaves out. Then the
//! check goes on in the clear, on another connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::CheckTrouble;
use super::stream::Stream;
use crate::base::address::Address;
use crate::health::transcript::printable;

/// Why there is no secret stream.
pub(super) enum Handshake {
    /// The server speaks TLS, and no form of it that ringway speaks too.
    NoCommon(String),
    /// The server is at fault.
    Failed(CheckTrouble),
}

/// Makes a stream secret.
pub(super) async fn handshake(stream: Stream, target: &Address) -> Result<Stream, Handshake> {
    /// Made once: it is the same for all checks.
    static CONFIG: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(config);
    let config = CONFIG.as_ref().map_err(|error| Handshake::NoCommon(error.clone()))?;
    // An address is never sent (SNI is for names, RFC 6066), it only has to be there.
    let ip = match target {
        Address::Tcp(address) => address.ip(),
        Address::Unix(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let connector = TlsConnector::from(Arc::clone(config));
    match connector.connect(ServerName::IpAddress(ip.into()), stream).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => Err(of_error(error)),
    }
}

/// What is no TLS, or breaks its rules, is the server's fault; all else are two that do not get together.
fn of_error(error: io::Error) -> Handshake {
    use rustls::Error::{InappropriateHandshakeMessage, InappropriateMessage, InvalidMessage, PeerMisbehaved};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        None => Handshake::Failed(CheckTrouble::broken("beginning TLS", error)),
        Some(
            InvalidMessage(_) | PeerMisbehaved(_) | InappropriateMessage { .. } | InappropriateHandshakeMessage { .. },
        ) => Handshake::Failed(CheckTrouble::answer(format!(
            "TLS cannot be begun: {}",
            printable(error.to_string().as_bytes())
        ))),
        Some(_) => Handshake::NoCommon(printable(error.to_string().as_bytes())),
    }
}

/// Whether the server broke off because it does not like what ringway offers: a certificate that is missing, say, which
/// with TLS 1.3 it tells only after the handshake.
pub(super) fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let rustls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(rustls, Some(rustls::Error::AlertReceived(_))) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What to change where both have nothing in common.
pub(super) fn advice(why: &str) -> String {
    if why.contains("Certificate") {
        return format!("TLS cannot be agreed on ({why}); checks have no certificate: let the account in without one");
    }
    format!(
        "TLS cannot be agreed on ({why}); give the server TLS 1.2 or 1.3 with an ECDHE cipher suite and a certificate \
         with an RSA, P-256 or P-384 key"
    )
}

/// TLS 1.2 and 1.3 with the suites of `ring`, and no certificate of our own.
fn config() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let anyone = Arc::new(Anyone(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(anyone);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Believes every certificate.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// Those that the provider has: a server chooses among them.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
