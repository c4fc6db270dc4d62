//! What a client of PostgreSQL begins with: as soon as anything is told of it, the same is told of the whole. A listener
//! that ends TLS knows more ways to begin, each of them after eight bytes at the most.
#![no_main]

use ringway::wire::postgresql::{ClientBegin, REQUEST_LEN, Request, begin, is_begin};

fn check_begin(bytes: &[u8]) {
    ringway_fuzz::check_split(bytes, begin);
    let told = begin(bytes);
    assert_eq!(told, begin(&bytes[..bytes.len().min(REQUEST_LEN)]));
    match told {
        None => assert!(bytes.len() < REQUEST_LEN),
        Some(ClientBegin::Asks(request)) => {
            assert!(request != Request::Other && ringway::wire::postgresql::parse(bytes) == Some(request));
        }
        Some(ClientBegin::Cancel | ClientBegin::Startup) => assert_eq!(is_begin(bytes), Some(true)),
        Some(ClientBegin::Tls) => assert!(bytes[0] == 22 && is_begin(bytes) == Some(false)),
        Some(ClientBegin::Unknown) => {}
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    check_begin(bytes);
    check_begin(&[&[0, 0, 0, 8, 4, 0xd2, 0x16], bytes].concat());
    check_begin(&[&[0, 0], bytes].concat());
    ringway_fuzz::check_split(bytes, ringway::wire::postgresql::parse);
    ringway_fuzz::check_split(&[&[0, 0, 0, 8, 4, 0xd2, 0x16], bytes].concat(), ringway::wire::postgresql::parse);
});
