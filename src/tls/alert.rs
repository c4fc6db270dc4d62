//! Alerts: why one end of a TLS connection gives it up (RFC 8446, section 6).

use std::fmt;

/// An alert by its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Alert(pub u8);

impl Alert {
    /// The end of what its sender has to say. No failure.
    pub const CLOSE_NOTIFY: Alert = Alert(0);
    /// A message that has no place here.
    pub const UNEXPECTED_MESSAGE: Alert = Alert(10);
    /// A record that was not made with the keys of this connection.
    pub const BAD_RECORD_MAC: Alert = Alert(20);
    /// A record that is longer than a record may be.
    pub const RECORD_OVERFLOW: Alert = Alert(22);
    /// A value that no sender may choose.
    pub const ILLEGAL_PARAMETER: Alert = Alert(47);
    /// A message that does not have the form of its type.
    pub const DECODE_ERROR: Alert = Alert(50);
    /// Something of our own is broken.
    pub const INTERNAL_ERROR: Alert = Alert(80);
    /// The user has changed his mind. close_notify follows.
    pub const USER_CANCELED: Alert = Alert(90);
    /// No second handshake on this connection.
    pub const NO_RENEGOTIATION: Alert = Alert(100);
    /// The client and the server have no protocol in common.
    pub const NO_APPLICATION_PROTOCOL: Alert = Alert(120);
    /// No certificate is there for the name that the client asks for.
    pub const UNRECOGNIZED_NAME: Alert = Alert(112);

    /// Its name as in the register of TLS alerts (IANA), if it is there.
    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            21 => "decryption_failed",
            22 => "record_overflow",
            30 => "decompression_failure",
            40 => "handshake_failure",
            41 => "no_certificate",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => return None,
        })
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "alert {}", self.0),
        }
    }
}
