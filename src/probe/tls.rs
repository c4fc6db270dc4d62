//! TLS of checks: how it begins, and what is meant by its end.

use std::io;
use std::sync::Arc;

use rustls::AlertDescription;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use super::terms::Terms;
use super::{CheckTrouble, Transcript};
use crate::health::transcript::printable;
use crate::tls::cause;

/// Why there is no secret stream.
pub(super) enum Handshake {
    /// The server speaks TLS, and no form of it that ringway speaks too. The check may go on without.
    NoCommon(String),
    /// The server is at fault, or the check may not go on without TLS.
    Failed(CheckTrouble),
}

/// Makes a stream secret.
pub(super) async fn handshake(stream: Stream, terms: &Terms, transcript: &mut Transcript) -> Result<Stream, Handshake> {
    transcript.doing_now("beginning TLS");
    let connector = TlsConnector::from(Arc::clone(&terms.config));
    match connector.connect(terms.name.clone(), stream).await {
        Ok(stream) => {
            let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
            let proof = match terms.is_verified {
                true => format!("it is {}", terms.name.to_str()),
                false => "its name was not verified".to_string(),
            };
            transcript.note(format!("{} begun; {proof}", version.unwrap_or("TLS").replace('v', " ").replace('_', ".")));
            Ok(Stream::Tls { stream: Box::new(stream), is_verified: terms.is_verified })
        }
        Err(error) => match of_error(error) {
            Handshake::NoCommon(why) if terms.is_required => Err(Handshake::Failed(no_agreement(&why))),
            handshake => Err(handshake),
        },
    }
}

/// Makes a stream secret, or the check fails.
pub(super) async fn begin(stream: Stream, terms: &Terms, transcript: &mut Transcript) -> Result<Stream, CheckTrouble> {
    handshake(stream, terms, transcript).await.map_err(|handshake| match handshake {
        Handshake::NoCommon(why) => no_agreement(&why),
        Handshake::Failed(trouble) => trouble,
    })
}

/// What is no TLS, breaks its rules, or proves the wrong thing is the server's fault; all else are two that do not get
/// together.
fn of_error(error: io::Error) -> Handshake {
    use rustls::Error::{
        AlertReceived, InappropriateHandshakeMessage, InappropriateMessage, InvalidCertificate, InvalidMessage,
        NoCertificatesPresented, PeerMisbehaved,
    };
    let text = printable(error.to_string().as_bytes());
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        None => Handshake::Failed(CheckTrouble::broken("beginning TLS", error)),
        Some(InvalidCertificate(fault)) => {
            let why = cause::of_certificate(fault);
            Handshake::Failed(CheckTrouble::answer(printable(why.as_bytes())))
        }
        Some(InvalidMessage(_)) => {
            let hint = "it may speak no TLS at this port";
            Handshake::Failed(CheckTrouble::answer(format!("TLS cannot be begun: {text}; {hint}")))
        }
        Some(
            PeerMisbehaved(_)
            | InappropriateMessage { .. }
            | InappropriateHandshakeMessage { .. }
            | NoCertificatesPresented
            | AlertReceived(AlertDescription::InternalError),
        ) => Handshake::Failed(CheckTrouble::answer(format!("TLS cannot be begun: {text}"))),
        Some(_) => Handshake::NoCommon(text),
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

/// A server that `require` finds without TLS.
pub(super) fn is_missing() -> CheckTrouble {
    CheckTrouble::answer("it offers no TLS, which `check.tls` = \"require\" asks for")
}

/// Both have nothing in common, and there is no way without.
pub(super) fn no_agreement(why: &str) -> CheckTrouble {
    CheckTrouble::no_agreement(advice(why))
}

/// What a check found in the clear, on another connection, after `why` both had no TLS in common.
pub(super) fn found_without<T>(
    result: Result<T, CheckTrouble>,
    why: &str,
    transcript: &mut Transcript,
) -> Result<T, CheckTrouble> {
    match result {
        Ok(found) => {
            transcript.remark(advice(why));
            Ok(found)
        }
        // It may want no login without TLS.
        Err(CheckTrouble::Refused(text)) => {
            Err(CheckTrouble::no_agreement(format!("{}; without it: {text}", advice(why))))
        }
        Err(trouble) => Err(trouble),
    }
}

/// What to change where both have nothing in common.
pub(super) fn advice(why: &str) -> String {
    // The words of RFC 8446, section 6, as rustls writes them.
    let what = match () {
        () if why.contains("Certificate") => "checks have no certificate: let the server ask for none",
        () if why.contains("UnrecognisedName") => "it does not know the name: set `server_name` to one that it has",
        () if why.contains("NoApplicationProtocol") => "let it speak http/1.1 too",
        () => {
            "give the server TLS 1.2 or 1.3 with an ECDHE cipher suite and a certificate with an RSA, P-256 or P-384 \
             key"
        }
    };
    format!("TLS cannot be agreed on ({why}); {what}")
}

#[cfg(test)]
mod tests;
