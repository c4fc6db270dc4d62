//! The requests that can come before PostgreSQL's start-up message: for TLS, and for encryption by GSS.
//!
//! Source: PostgreSQL documentation, "Message Formats": SSLRequest and GSSENCRequest. Each is a length of 8 and a
//! number.
//!
//! ringway answers the request for TLS itself when it must see the ClientHello (routes by server name), and then asks
//! the backend for TLS in the client's place (`worker::greet`). A request for GSS is answered with no.

/// "Can we use TLS?": the length 8 and the number 80877103.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// "Can we use encryption by GSS?": the length 8 and the number 80877104.
const GSS_ENCRYPTION_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// Bytes of each request.
pub const REQUEST_LEN: usize = SSL_REQUEST.len();

/// The name of the protocol in ALPN, which a client that begins with TLS must offer (PostgreSQL 17, "sslnegotiation").
pub const ALPN: &str = "postgresql";

/// What a client begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// It wants TLS. It has sent [`REQUEST_LEN`] bytes and waits for one byte, `S` or `N`.
    Ssl,
    /// It wants encryption by GSS. It has sent [`REQUEST_LEN`] bytes and waits for one byte, `G` or `N`.
    GssEncryption,
    /// Something else: a StartupMessage, a CancelRequest, or not PostgreSQL.
    Other,
}

/// The request with which `bytes` begin; `None` while they could become more than one thing.
pub fn parse(bytes: &[u8]) -> Option<Request> {
    let begins = |request: &[u8; REQUEST_LEN]| bytes.iter().zip(request).all(|(byte, expected)| byte == expected);
    match (begins(&SSL_REQUEST), begins(&GSS_ENCRYPTION_REQUEST)) {
        (false, false) => Some(Request::Other),
        _ if bytes.len() < REQUEST_LEN => None,
        (true, _) => Some(Request::Ssl),
        (false, true) => Some(Request::GssEncryption),
    }
}

/// How a client begins at a server where TLS can follow a request for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientBegin {
    /// With a request; it waits for the answer.
    Asks(Request),
    /// With TLS itself (since PostgreSQL 17).
    Tls,
    /// With a CancelRequest, which holds a secret of its own and is never encrypted by old clients.
    Cancel,
    /// With a start-up message in the clear.
    Startup,
    /// With something that is none of these.
    Unknown,
}

/// How a client begins that has sent `bytes`; `None` while they could become more than one thing. At most
/// [`REQUEST_LEN`] bytes are looked at.
pub fn begin(bytes: &[u8]) -> Option<ClientBegin> {
    /// The type of a record with a handshake message of TLS.
    const HANDSHAKE: u8 = 22;
    if bytes.first()? == &HANDSHAKE {
        return Some(ClientBegin::Tls);
    }
    match is_begin(bytes)? {
        false => return Some(ClientBegin::Unknown),
        true if bytes.len() < REQUEST_LEN => return None,
        true => {}
    }
    let code = &bytes[4..REQUEST_LEN];
    Some(match parse(bytes)? {
        Request::Other if code == REQUESTS[0] => ClientBegin::Cancel,
        Request::Other if code.starts_with(&MAJOR) => ClientBegin::Startup,
        // A request of another length.
        Request::Other => ClientBegin::Unknown,
        request => ClientBegin::Asks(request),
    })
}

/// An ErrorResponse (PostgreSQL documentation, "Error and Notice Message Fields") for a client in the clear, which
/// shows it to its user.
pub fn refusal_of_clear_text() -> Vec<u8> {
    let fields =
        b"SFATAL\0VFATAL\0C28000\0Mconnections without TLS are refused here\0Huse sslmode=require or stricter\0\0";
    let length = (fields.len() + 4) as u32;
    [&b"E"[..], &length.to_be_bytes(), fields].concat()
}

/// Codes with which a client of PostgreSQL begins after the length, but for protocol versions: to cancel a query, for
/// TLS, for GSS.
const REQUESTS: [[u8; 4]; 3] = [[0x04, 0xd2, 0x16, 0x2e], [0x04, 0xd2, 0x16, 0x2f], [0x04, 0xd2, 0x16, 0x30]];
/// The major version of the protocol in a start-up message, in use since PostgreSQL 7.4.
const MAJOR: [u8; 2] = [0, 3];
/// The longest start-up message that a server takes (MAX_STARTUP_PACKET_LENGTH).
const STARTUP_MAX: u32 = 10_000;

/// Whether a client of PostgreSQL begins so: with one of its requests, or with a start-up message. `None` while it
/// could.
pub fn is_begin(bytes: &[u8]) -> Option<bool> {
    let (length, code) = bytes.split_at(bytes.len().min(4));
    let code = &code[..code.len().min(4)];
    // A length fits two bytes.
    if length.iter().take(2).any(|byte| *byte != 0) {
        return Some(false);
    }
    if let Ok(length) = <[u8; 4]>::try_from(length)
        && !(8..=STARTUP_MAX).contains(&u32::from_be_bytes(length))
    {
        return Some(false);
    }
    let could =
        MAJOR.starts_with(&code[..code.len().min(2)]) || REQUESTS.iter().any(|request| request.starts_with(code));
    match (could, code.len() == 4) {
        (false, _) => Some(false),
        (true, true) => Some(true),
        (true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of `request`, one byte more at a time: after how many bytes, and what.
    fn told_after(request: &[u8]) -> (usize, Option<Request>) {
        let told = (0..=request.len()).map(|len| (len, parse(&request[..len]))).find(|(_, told)| told.is_some());
        told.unwrap_or((request.len(), None))
    }

    #[test]
    fn both_requests_are_known_by_their_last_byte() {
        assert_eq!(told_after(&SSL_REQUEST), (8, Some(Request::Ssl)));
        assert_eq!(told_after(&GSS_ENCRYPTION_REQUEST), (8, Some(Request::GssEncryption)));
        assert_eq!(u32::from_be_bytes([4, 0xd2, 0x16, 0x2f]), 80_877_103);
        assert_eq!(parse(&[&SSL_REQUEST[..], b"\x16\x03\x01"].concat()), Some(Request::Ssl));
    }

    #[test]
    fn each_way_to_begin_is_known_after_eight_bytes_at_the_most() {
        let told = |bytes: &[u8]| {
            let all: Vec<_> = (0..=bytes.len()).map(|len| begin(&bytes[..len])).collect();
            let known = all.iter().position(Option::is_some).unwrap();
            assert!(known <= REQUEST_LEN && all[known..].iter().all(|one| *one == all[known]), "{all:?}");
            all[known].unwrap()
        };
        assert_eq!(told(&SSL_REQUEST), ClientBegin::Asks(Request::Ssl));
        assert_eq!(told(&GSS_ENCRYPTION_REQUEST), ClientBegin::Asks(Request::GssEncryption));
        assert_eq!(told(b"\0\0\0\x29\0\x03\0\0user\0postgres\0\0"), ClientBegin::Startup);
        assert_eq!(told(&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2]), ClientBegin::Cancel);
        assert_eq!(told(b"\x16\x03\x01\x02\0\x01"), ClientBegin::Tls);
        assert_eq!(told(b"GET / HTTP/1.1\r\n"), ClientBegin::Unknown);
        assert_eq!(told(&[0, 0, 0, 9, 0x04, 0xd2, 0x16, 0x2f, 0]), ClientBegin::Unknown);
        let error = refusal_of_clear_text();
        assert_eq!(error.len(), 1 + u32::from_be_bytes(error[1..5].try_into().unwrap()) as usize);
    }

    #[test]
    fn anything_else_is_known_by_the_first_byte_that_differs() {
        let startup = b"\0\0\0\x29\0\x03\0\0user\0postgres\0\0";
        assert_eq!(told_after(startup), (4, Some(Request::Other)));
        let cancel = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(told_after(&cancel), (4, Some(Request::Other)));
        assert_eq!(told_after(b"\0\0\0\x08\x04\xd2\x16\x31"), (8, Some(Request::Other)));
        assert_eq!(told_after(b"\x16\x03\x01"), (1, Some(Request::Other)));
        assert_eq!(told_after(b"\0\0\0"), (3, None));
    }
}
