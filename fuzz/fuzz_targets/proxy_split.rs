//! A header that comes in pieces is judged as one that comes at once.
#![no_main]

use ringway::wire::proxy::parse;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let told = |bytes: &[u8]| parse(bytes).transpose();
    // Longer ones cost the square of their length, and nothing new begins there.
    let bytes = &bytes[..bytes.len().min(600)];
    ringway_fuzz::check_split(bytes, told);
    ringway_fuzz::check_split(&[b"PROXY ", bytes].concat(), told);
    ringway_fuzz::check_split(&[&b"\r\n\r\n\0\r\nQUIT\n"[..], bytes].concat(), told);
});
