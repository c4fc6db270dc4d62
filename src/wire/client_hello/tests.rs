//! Against what rustls really sends, and the cases of Envoy's `tls_inspector` corpus.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;

const VERSIONS: [&[&SupportedProtocolVersion]; 3] =
    [rustls::ALL_VERSIONS, &[&rustls::version::TLS12], &[&rustls::version::TLS13]];

/// What rustls sends first to `name`.
fn real_hello(name: &str, alpn: &[&[u8]], versions: &[&'static SupportedProtocolVersion]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

fn hello(name: Option<&str>, alpn: &[&[u8]]) -> ClientHello {
    let alpn = alpn.iter().map(|name| name.to_vec()).collect();
    ClientHello { server_name: name.map(str::to_string), alpn }
}

/// The handshake message of `records`, without their headers.
fn message(records: &[u8]) -> Vec<u8> {
    (Records { rest: records }).flat_map(|fragment| fragment.unwrap().to_vec()).collect()
}

/// `message` in records of those lengths, over and over.
fn in_records(message: &[u8], lens: &[usize]) -> Vec<u8> {
    let (mut rest, mut out) = (message, Vec::new());
    for len in lens.iter().cycle() {
        let (fragment, left) = rest.split_at((*len).min(rest.len()));
        out.extend([HANDSHAKE, MAJOR, 1]);
        out.extend((fragment.len() as u16).to_be_bytes());
        out.extend(fragment);
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    out
}

/// A message of that body.
fn of_body(body: &[u8]) -> Vec<u8> {
    [&[CLIENT_HELLO, 0, (body.len() >> 8) as u8, body.len() as u8], body].concat()
}

/// A body with those extensions; `None` is no list of extensions at all.
fn body(extensions: Option<&[u8]>) -> Vec<u8> {
    let begin = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]].concat();
    extensions.map_or(begin.clone(), |list| [&begin, &(list.len() as u16).to_be_bytes()[..], list].concat())
}

fn with(extensions: &[u8]) -> Result<Option<ClientHello>, MalformedHello> {
    parse(&in_records(&of_body(&body(Some(extensions))), &[FRAGMENT_MAX]))
}

/// An extension with the name of one host.
fn named(name: &[u8]) -> Vec<u8> {
    let len = |add: usize| ((name.len() + add) as u16).to_be_bytes();
    [&[0, 0][..], &len(5), &len(3), &[HOST_NAME], &len(0), name].concat()
}

/// Not told before its last byte, then and with more behind it told as `expected`.
fn told_at_the_end(bytes: &[u8], expected: &ClientHello) {
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Ok(None), "after {end} of {} bytes", bytes.len());
    }
    assert_eq!(parse(bytes).as_ref(), Ok(&Some(expected.clone())));
    assert_eq!(parse(&[bytes, b"\x14\x03\x03\0\x01\x01"].concat()).as_ref(), Ok(&Some(expected.clone())));
}

#[test]
fn what_rustls_sends_is_read_at_its_last_byte() {
    for versions in VERSIONS {
        let bytes = real_hello("Db.Example.COM", &[b"postgresql", b"h2"], versions);
        told_at_the_end(&bytes, &hello(Some("db.example.com"), &[b"postgresql", b"h2"]));
        told_at_the_end(&real_hello("a", &[], versions), &hello(Some("a"), &[]));
        // rustls names no host when it connects to an address.
        told_at_the_end(&real_hello("127.0.0.1", &[b"h2"], versions), &hello(None, &[b"h2"]));
    }
}

#[test]
fn multiple_reads_over_multiple_records() {
    let real = message(&real_hello("example.com", &[b"h2"], rustls::ALL_VERSIONS));
    for lens in [&[1][..], &[2, 3], &[4, 1, 100], &[50]] {
        told_at_the_end(&in_records(&real, lens), &hello(Some("example.com"), &[b"h2"]));
    }
}

#[test]
fn no_extensions() {
    told_at_the_end(&in_records(&of_body(&body(None)), &[FRAGMENT_MAX]), &ClientHello::default());
    told_at_the_end(&in_records(&of_body(&body(Some(&[]))), &[FRAGMENT_MAX]), &ClientHello::default());
}

#[test]
fn not_ssl() {
    let refused_at = |at: usize, bytes: &[u8], expected| {
        assert_eq!(parse(&bytes[..at - 1]), Ok(None), "{bytes:?} before byte {at}");
        assert_eq!(parse(&bytes[..at]), Err(expected), "{bytes:?} at byte {at}");
        assert_eq!(parse(bytes), Err(expected), "{bytes:?}");
    };
    refused_at(1, b"GET / HTTP/1.1\r\n", MalformedHello::NotTls);
    refused_at(1, b"PROXY TCP4", MalformedHello::NotTls);
    refused_at(1, b"\x80\x2e\x01\x03\x01", MalformedHello::NotTls); // SSL 2
    refused_at(1, b"\x15\x03\x01\0\x02\x02\x28", MalformedHello::NotTls); // an alert
    refused_at(2, b"\x16\x02\0\0\x05\x01", MalformedHello::NotTls);
    refused_at(5, b"\x16\x03\x01\0\0\x16\x03\x01", MalformedHello::RecordLength);
    refused_at(5, b"\x16\x03\x01\x40\x01\x01", MalformedHello::RecordLength);
    refused_at(6, b"\x16\x03\x01\0\x05\x02\0\0\x01\0", MalformedHello::NotClientHello);
    // A second record that is another one.
    refused_at(7, b"\x16\x03\x01\0\x01\x01\x14\x03\x01", MalformedHello::NotTls);
}

#[test]
fn too_large() {
    let len = HELLO_MAX - MESSAGE_HEADER;
    let padding = len - body(Some(&[])).len() - 4;
    let extension = [&[0, 21][..], &(padding as u16).to_be_bytes(), &vec![0; padding]].concat();
    let largest = of_body(&body(Some(&extension)));
    assert_eq!(largest.len(), HELLO_MAX);
    assert_eq!(parse(&in_records(&largest, &[1000])), Ok(Some(ClientHello::default())));

    let too_long = [CLIENT_HELLO, 0, ((len + 1) >> 8) as u8, (len + 1) as u8];
    assert_eq!(parse(&in_records(&too_long, &[9])), Err(MalformedHello::TooLong));
    assert_eq!(parse(b"\x16\x03\x01\x02\0\x01\x01\0\0"), Err(MalformedHello::TooLong));
    // One byte a record: six bytes of input for each.
    let pieces = in_records(&largest[..4000], &[1]);
    assert_eq!(parse(&pieces[..INPUT_MAX - 1]), Ok(None));
    assert_eq!(parse(&pieces[..INPUT_MAX]), Err(MalformedHello::TooLong));
    assert_eq!(parse(&pieces), Err(MalformedHello::TooLong));
}

#[test]
fn lengths_that_lead_astray_are_refused() {
    let begin = body(None);
    for cut in [1, 10, 34, 37, 39] {
        let bytes = in_records(&of_body(&begin[..cut]), &[FRAGMENT_MAX]);
        assert_eq!(parse(&bytes), Err(MalformedHello::Length), "{cut}");
    }
    let over = in_records(&of_body(&[&body(Some(&[]))[..], &[0]].concat()), &[FRAGMENT_MAX]);
    assert_eq!(parse(&over), Err(MalformedHello::Length));
    for extensions in [
        &[0][..],
        &[0, 0, 0][..],
        &[0, 0, 0, 0],                                 // a server_name without a list
        &[0, 0, 0, 2, 0, 0],                           // an empty list of names
        &[0, 0, 0, 5, 0, 3, HOST_NAME, 0, 0],          // an empty name
        &[0, 0, 0, 5, 0, 3, HOST_NAME, 0, 1],          // a name that goes beyond
        &[0, 0, 0, 7, 0, 4, HOST_NAME, 0, 1, b'a', 0], // something behind the list
        &[0, 16, 0, 3, 0, 1, 0],                       // an empty protocol
        &[0, 16, 0, 4, 0, 2, 2, b'h'],                 // a protocol that goes beyond
    ] {
        assert_eq!(with(extensions), Err(MalformedHello::Length), "{extensions:?}");
    }
}

#[test]
fn what_may_be_there_once_is_refused_twice() {
    assert_eq!(with(&[named(b"a"), named(b"b")].concat()), Err(MalformedHello::Twice));
    let alpn = [0, 16, 0, 5, 0, 3, 2, b'h', b'2'];
    assert_eq!(with(&[alpn, alpn].concat()), Err(MalformedHello::Twice));
    let two_hosts = [0, 0, 0, 10, 0, 8, HOST_NAME, 0, 1, b'a', HOST_NAME, 0, 1, b'b'];
    assert_eq!(with(&two_hosts), Err(MalformedHello::Twice));
    let other_type = [0, 0, 0, 10, 0, 8, 7, 0, 1, b'a', HOST_NAME, 0, 1, b'b'];
    assert_eq!(with(&other_type), Ok(Some(hello(Some("b"), &[]))));
}

#[test]
fn only_a_host_name_is_told() {
    let long = |last: usize| format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(last));
    for name in ["a", "A.b-c.De", "xn--nxasmq6b.example", "my_db.internal", "1.2.3.4a", "0x1", "a.", &long(61)] {
        let told = name.to_ascii_lowercase();
        let told = told.strip_suffix('.').unwrap_or(&told);
        assert_eq!(with(&named(name.as_bytes())), Ok(Some(hello(Some(told), &[]))), "{name}");
    }
    for name in
        ["1.2.3.4", "::1", "a..", ".", ".a", "a..b", "-a.b", "a-.b", "a b", "a\0b", "b\u{fc}cher.de", "*.a", "a:1"]
    {
        assert_eq!(with(&named(name.as_bytes())), Ok(Some(hello(None, &[]))), "{name}");
    }
    for name in [&long(62), &"a".repeat(64)] {
        assert_eq!(with(&named(name.as_bytes())), Ok(Some(hello(None, &[]))), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_split_over_records_gives_the_same(
        name in "[a-z][a-z0-9-]{0,20}[a-z]\\.[a-z]{2,9}",
        alpn in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..30), 0..6),
        lens in prop::collection::vec(1..300usize, 1..6),
        versions in 0..VERSIONS.len(),
    ) {
        let alpn: Vec<&[u8]> = alpn.iter().map(Vec::as_slice).collect();
        let real = real_hello(&name, &alpn, VERSIONS[versions]);
        told_at_the_end(&in_records(&message(&real), &lens), &hello(Some(&name), &alpn));
    }

    #[test]
    fn what_is_told_of_a_part_is_told_of_the_whole(
        at in any::<prop::sample::Index>(), bit in 0..8u8, lens in prop::collection::vec(1..300usize, 1..4),
    ) {
        let real = message(&real_hello("example.com", &[b"h2"], rustls::ALL_VERSIONS));
        let mut bytes = in_records(&real, &lens);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let whole = parse(&bytes);
        let told = (0..=bytes.len()).map(|end| parse(&bytes[..end])).find(|told| *told != Ok(None));
        prop_assert_eq!(told.unwrap_or(Ok(None)), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600), begin in 0..3usize,
        lens in prop::collection::vec(1..99usize, 1..4),
    ) {
        let _ = match begin {
            0 => parse(&bytes),
            1 => parse(&in_records(&of_body(&bytes), &lens)),
            _ => with(&bytes),
        };
    }
}

proptest! {
    /// What is waited for never lies beyond the end, or a client would wait with all it had to say.
    #[test]
    fn more_is_needed_until_the_hello_is_whole_and_never_more_than_it_has(
        lens in prop::collection::vec(1usize..600, 1..8), version in 0usize..3
    ) {
        let whole = in_records(&message(&real_hello("db1.example.com", &[b"h2"], VERSIONS[version])), &lens);
        for end in 0..whole.len() {
            prop_assert_eq!(parse(&whole[..end]), Ok(None));
            let needed = need(&whole[..end]);
            prop_assert!(needed > end && needed <= whole.len(), "{} needed of {} at {}", needed, whole.len(), end);
        }
    }
}

#[test]
fn the_rest_of_a_hello_in_one_record_is_needed_exactly() {
    let whole = real_hello("db1.example.com", &[], VERSIONS[0]);
    assert_eq!((need(&[]), need(&whole[..1])), (1, RECORD_HEADER + MESSAGE_HEADER));
    assert!((9..whole.len()).all(|end| need(&whole[..end]) == whole.len()));
    // The longest one has more than a record holds.
    let longest = in_records(&of_body(&vec![0; HELLO_MAX - MESSAGE_HEADER]), &[FRAGMENT_MAX - 1]);
    assert!((9..longest.len()).all(|end| need(&longest[..end]) == longest.len()), "two records");
    // In tiny ones it does not end within what is looked at.
    let scattered = in_records(&of_body(&vec![0; HELLO_MAX - MESSAGE_HEADER]), &[1]);
    assert_eq!(need(&scattered[..INPUT_MAX - 1]), INPUT_MAX);
}
