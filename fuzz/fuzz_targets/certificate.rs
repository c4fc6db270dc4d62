//! What a client shows as its certificate: whatever it is, its subject is short, has no control character, and is that of
//! the facts.
#![no_main]

use ringway::tls::facts::{facts, subject};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let subject = subject(bytes);
    assert!(subject.as_ref().is_none_or(|text| text.len() <= 8 << 10 && !text.contains(|c: char| c.is_ascii_control())));
    assert!(facts(bytes).is_none_or(|facts| Some(facts.subject) == subject));
});
