//! ClientHellos, as they come and again in small records; in pieces they are judged as at once.
#![no_main]

use ringway::wire::client_hello::{INPUT_MAX, MalformedHello, need, parse};

/// The bytes behind the first record header, in records of `len`.
fn in_records(message: &[u8], len: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
    message.chunks(len).flat_map(record).collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Ok(Some(hello)) = &whole {
        let name = hello.server_name.as_deref().unwrap_or("a");
        assert!(!name.is_empty() && name.len() <= 253 && name.is_ascii() && name.to_ascii_lowercase() == name);
        assert!(hello.alpn.iter().all(|name| (1..=255).contains(&name.len())));
    }
    if bytes.len() >= INPUT_MAX {
        assert_ne!(whole, Ok(None));
    }
    if whole == Ok(None) {
        assert!((bytes.len() + 1..=INPUT_MAX).contains(&need(bytes)));
    }
    ringway_fuzz::check_split(&bytes[..bytes.len().min(600)], |bytes| parse(bytes).transpose());
    // A message in one record is the same message in many, unless the records make it too long.
    if let [22, 3, _, high, low, message @ ..] = bytes
        && usize::from(u16::from_be_bytes([*high, *low])) == message.len()
    {
        let pieces = parse(&in_records(message, 1 + message.len() % 97));
        if pieces != Err(MalformedHello::TooLong) && whole != Err(MalformedHello::RecordLength) {
            assert_eq!(pieces, whole);
        }
    }
});
