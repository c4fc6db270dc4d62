//! A configuration, as anybody may write it: no panic, no errors without a place, and what is accepted is accepted
//! again and means the same. That it ends in time is libFuzzer's to see (`-timeout`).
#![no_main]

use ringway::config::load;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let env = |name: &str| name.starts_with('A').then(|| "10.0.0.1:80".to_string());
    match load(text, "fuzzed.toml", &env) {
        Ok(config) => {
            let again = load(text, "fuzzed.toml", &env).expect("what was accepted once");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
});
