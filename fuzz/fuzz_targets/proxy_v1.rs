//! Lines of version 1: what is fuzzed stands behind the word they all begin with.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ringway_fuzz::check_proxy(bytes);
    ringway_fuzz::check_proxy(&[b"PROXY ", bytes].concat());
});
