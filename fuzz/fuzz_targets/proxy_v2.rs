//! Headers of version 2 with TLVs and checksums: what is fuzzed stands behind the signature, and once more behind a
//! length that fits, so that what comes after the length is reached.
#![no_main]

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ringway_fuzz::check_proxy(bytes);
    ringway_fuzz::check_proxy(&[SIGNATURE, bytes].concat());
    if let [command, family, rest @ ..] = bytes {
        let len = u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes();
        ringway_fuzz::check_proxy(&[SIGNATURE, &[*command, *family], &len, rest].concat());
    }
});
