//! Why a handshake with a server failed, in words that say what to do; and what stands in for a proof where none is
//! asked for.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Of the names of a certificate; it may have hundreds.
const NAMES_MAX: usize = 5;

/// Whether a server does not have the name that it was asked for.
pub fn is_of_name(error: &Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(
        error,
        Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })
            | Error::AlertReceived(AlertDescription::UnrecognisedName)
    )
}

/// Why there is no TLS with a server: its fault, or nothing that both speak.
pub fn of_handshake(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(fault) => of_certificate(fault),
        Error::InvalidMessage(_) => format!("{error}; it may speak no TLS at this port"),
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "it does not know the name: set `server_name` to one that it has".to_string()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::BadCertificate) => {
            format!("{error}; it asks for a certificate that it believes: `cert` and `key`")
        }
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            format!("{error}; it knows none of the protocols of `alpn`")
        }
        error => error.to_string(),
    }
}

/// A certificate that does not prove what it is to prove, with what to do.
pub fn of_certificate(fault: &CertificateError) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    match fault {
        ExpiredContext { time, not_after } => {
            let hours = time.as_secs().saturating_sub(not_after.as_secs()) / 3600;
            format!("its certificate expired {} ago; renew it", shown_hours(hours))
        }
        Expired => "its certificate expired; renew it".to_string(),
        NotValidYetContext { time, not_before } => {
            let hours = not_before.as_secs().saturating_sub(time.as_secs()) / 3600;
            format!("its certificate is valid only in {}; look at the clocks of both", shown_hours(hours))
        }
        NotValidYet => "its certificate is not valid yet; look at the clocks of both".to_string(),
        NotValidForNameContext { expected, presented } => {
            if presented.is_empty() {
                return "its certificate has no subjectAltName; issue one that has the name or address in it"
                    .to_string();
            }
            let names: Vec<&str> = presented.iter().take(NAMES_MAX).map(|name| bare(name)).collect();
            let (expected, named) = (expected.to_str(), names.join(", "));
            format!("its certificate is not for {expected} but for {named}; set `server_name` to one of its names")
        }
        NotValidForName => "its certificate is for another name; set `server_name` to one of its names".to_string(),
        // The second: one of the same name is known, and has another key.
        UnknownIssuer | BadSignature => {
            "no authority that is believed has signed its certificate; name the file of its authority with `ca_file`"
                .to_string()
        }
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one of an authority, which proves no server; give it one that is not (CA:FALSE)"
                .to_string()
        }
        other => format!("its certificate proves nothing: {other}"),
    }
}

/// A name as rustls shows it, such as `DnsName("a.example")`, without the word for its kind.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// A number of hours, as days where it is many.
fn shown_hours(hours: u64) -> String {
    match hours {
        0 => "less than an hour".to_string(),
        1..48 => format!("{hours} h"),
        _ => format!("{} days", hours / 24),
    }
}

/// Believes every certificate. The field says which signatures are understood.
#[derive(Debug)]
pub struct Anyone(pub Arc<CryptoProvider>);

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
