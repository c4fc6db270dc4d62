//! What every PROXY header must keep, whichever target made it; and peers that speak TLS.

pub mod tls;

use ringway::wire::proxy::{ProxyClaim, HEADER_MAX, Version, encode, need, parse};

/// An accepted header ends where it says, needs nothing behind it, and its claim survives being sent on.
pub fn check_proxy(bytes: &[u8]) {
    let needed = need(bytes);
    match parse(bytes) {
        Ok(Some(header)) => {
            assert!(header.len <= bytes.len() && header.len <= HEADER_MAX);
            assert_eq!(needed, header.len);
            assert_eq!(parse(&bytes[..header.len]), Ok(Some(header)));
            assert_eq!(parse(&bytes[..header.len - 1]), Ok(None));
            let ProxyClaim::Tcp { source, destination } = header.claim else { return };
            for version in [Version::V1, Version::V2] {
                let sent = encode(version, Some((source, destination)));
                let read = parse(&sent).expect("what is sent is right").expect("what is sent is whole");
                assert_eq!((read.claim, read.len), (header.claim, sent.len()));
            }
        }
        Ok(None) => assert!(bytes.len() < needed && needed <= HEADER_MAX),
        Err(fault) => {
            assert_eq!(needed, bytes.len());
            assert!(!fault.to_string().is_empty());
        }
    }
}

/// The same is told of the whole and of every part from which anything is told at all.
pub fn check_split<T: Clone + PartialEq + std::fmt::Debug>(bytes: &[u8], parse: impl Fn(&[u8]) -> Option<T>) {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        if let Some(told) = parse(&bytes[..end]) {
            assert_eq!(Some(told), whole, "after {end} bytes");
        }
    }
}
