//! What a header of version 2 says of TLS that ended here: values with a type and a length, behind the addresses.
//!
//! Source: the PROXY protocol, version 2, sections 2.2.1 to 2.2.6.

use super::encode::Encoded;
use super::v2::{FIXED, SIGNATURE};

/// The protocol of the application (ALPN).
const ALPN: u8 = 0x01;
/// The name that the client asked for.
const AUTHORITY: u8 = 0x02;
/// What follows is of TLS.
const SSL: u8 = 0x20;
/// The same: the version, such as `TLSv1.3`.
const SSL_VERSION: u8 = 0x21;
/// The same: the common name in the client's certificate.
const SSL_CN: u8 = 0x22;
/// The same: the cipher suite.
const SSL_CIPHER: u8 = 0x23;

/// A bit of what is known of the client: it speaks TLS.
const CLIENT_SSL: u8 = 0x01;
/// The same: it has shown a certificate on this connection.
const CLIENT_CERT_CONN: u8 = 0x02;
/// The same: it has shown one in the session that goes on.
const CLIENT_CERT_SESS: u8 = 0x04;

/// Longer values are left out: a name of TLS has 255 bytes at the most, and what a client's certificate says is its
/// own.
const VALUE_MAX: usize = 1024;
/// Where a header of version 2 has its length.
const LENGTH_AT: usize = 14;

/// What was agreed on with the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientTlsFacts<'a> {
    /// The name that the client asked for.
    pub server_name: Option<&'a str>,
    /// The protocol of the application.
    pub protocol: Option<&'a [u8]>,
    /// `"1.2"` or `"1.3"`.
    pub version: &'a str,
    /// The cipher suite by its name as in the register of IANA.
    pub cipher: &'a str,
    /// The client has shown a certificate, which was verified.
    pub has_certificate: bool,
    /// The common name in it.
    pub common_name: Option<&'a str>,
    /// An earlier session goes on, in which the certificate was shown.
    pub is_resumed: bool,
}

/// The values of a header about a client whose TLS ended here.
pub fn encode_tls(facts: &ClientTlsFacts<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(protocol) = facts.protocol {
        put(&mut out, ALPN, protocol);
    }
    if let Some(name) = facts.server_name {
        put(&mut out, AUTHORITY, name.as_bytes());
    }
    let shown = match (facts.has_certificate, facts.is_resumed) {
        (true, false) => CLIENT_CERT_CONN | CLIENT_CERT_SESS,
        (true, true) => CLIENT_CERT_SESS,
        (false, _) => 0,
    };
    let mut ssl = vec![CLIENT_SSL | shown];
    // 0 stands for a certificate that was verified, and for nothing else.
    ssl.extend(u32::from(!facts.has_certificate).to_be_bytes());
    put(&mut ssl, SSL_VERSION, format!("TLSv{}", facts.version).as_bytes());
    put(&mut ssl, SSL_CIPHER, facts.cipher.as_bytes());
    if let Some(name) = facts.common_name {
        put(&mut ssl, SSL_CN, name.as_bytes());
    }
    put(&mut out, SSL, &ssl);
    out
}

/// A header with these values at its end; `None` of version 1, which has no place for them.
pub fn append(header: &Encoded, values: &[u8]) -> Option<Vec<u8>> {
    if !header.starts_with(&SIGNATURE) {
        return None;
    }
    let mut all = [&**header, values].concat();
    let len = u16::try_from(all.len() - FIXED).unwrap_or_default();
    all[LENGTH_AT..FIXED].copy_from_slice(&len.to_be_bytes());
    Some(all)
}

/// Appends one value; one that is too long is left out.
fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if value.len() > VALUE_MAX * 3 || (kind != SSL && value.len() > VALUE_MAX) {
        return;
    }
    out.push(kind);
    out.extend((value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proxy::{self, Version};

    /// The values of a header, by type.
    fn values(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let [kind, high, low, rest @ ..] = bytes {
            let (value, rest) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            all.push((*kind, value.to_vec()));
            bytes = rest;
        }
        assert!(bytes.is_empty());
        all
    }

    const FACTS: ClientTlsFacts<'static> = ClientTlsFacts {
        server_name: Some("db.example"),
        protocol: Some(b"h2"),
        version: "1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        has_certificate: true,
        common_name: Some("alice"),
        is_resumed: false,
    };

    #[test]
    fn a_header_says_what_was_agreed_on_and_is_read_as_the_same_client() {
        let ends = ("192.0.2.1:5".parse().unwrap(), "192.0.2.2:6".parse().unwrap());
        let header = append(&proxy::encode(Version::V2, Some(ends)), &encode_tls(&FACTS)).unwrap();
        assert_eq!(append(&proxy::encode(Version::V1, Some(ends)), &encode_tls(&FACTS)), None);
        let plain = proxy::encode(Version::V2, Some(ends));
        let found = proxy::parse(&header).unwrap().unwrap();
        assert_eq!((found.claim, found.len), (proxy::parse(&plain).unwrap().unwrap().claim, header.len()));
        let all = values(&header[plain.len()..]);
        assert_eq!(all[..2], [(ALPN, b"h2".to_vec()), (AUTHORITY, b"db.example".to_vec())]);
        assert_eq!((all[2].0, &all[2].1[..5]), (SSL, &[7, 0, 0, 0, 0][..]));
        let expected = [(SSL_VERSION, "TLSv1.3"), (SSL_CIPHER, "TLS_AES_128_GCM_SHA256"), (SSL_CN, "alice")];
        assert_eq!(values(&all[2].1[5..]), expected.map(|(kind, value)| (kind, value.as_bytes().to_vec())));
    }

    /// A server that looks at `verify` alone lets nothing in that was not verified.
    #[test]
    fn only_a_certificate_that_was_verified_is_said_to_be() {
        let ssl = |facts: ClientTlsFacts<'_>| values(&encode_tls(&facts)).pop().unwrap().1;
        let without = ClientTlsFacts { has_certificate: false, common_name: None, ..FACTS };
        assert_eq!(ssl(without)[..5], [1, 0, 0, 0, 1]);
        assert_eq!(ssl(ClientTlsFacts { is_resumed: true, ..FACTS })[..5], [5, 0, 0, 0, 0]);
    }

    #[test]
    fn a_value_that_is_too_long_is_left_out() {
        let long = "x".repeat(VALUE_MAX + 1);
        let all = values(&encode_tls(&ClientTlsFacts { common_name: Some(&long), server_name: Some(&long), ..FACTS }));
        assert_eq!(all.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [ALPN, SSL]);
        assert_eq!(values(&all[1].1[5..]).len(), 2, "without the name");
    }
}
