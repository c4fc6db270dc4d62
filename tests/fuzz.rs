//! The fuzz targets that speak TLS, run by every `cargo test` on what is kept of them and on some changes of that.
//! scripts/fuzz.sh lets libFuzzer look for more, with a build of its own.
//!
//! RINGWAY_FUZZ_CASES is how many inputs each target gets, RINGWAY_FUZZ_SEED with which they begin.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something unexpected happens")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "they are made once")]
#![allow(unused_attributes, reason = "each target is a program elsewhere")]

// What the targets name.
extern crate self as libfuzzer_sys;
extern crate self as ringway_fuzz;

use std::path::Path;

#[path = "../fuzz/tls.rs"]
pub mod tls;
#[path = "../fuzz/fuzz_targets/tls_client.rs"]
mod tls_client;
#[path = "../fuzz/fuzz_targets/tls_records.rs"]
mod tls_records;
#[path = "../fuzz/fuzz_targets/tls_server.rs"]
mod tls_server;

/// A target as a function.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:block) => {
        pub fn run($bytes: &[u8]) $body
    };
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A part of it.
    fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len());
        &bytes[start..start + self.below(bytes.len() - start + 1)]
    }

    /// An input with some changes.
    fn changed(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..self.below(6) {
            let at = self.below(input.len() + 1);
            let end = (at + self.below(12)).min(input.len());
            match self.below(6) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = [0, 1, 20, 21, 22, 23, 24, 64, 255][self.below(9)],
                2 => _ = input.drain(at..end),
                3 => {
                    let len = self.below(40);
                    let more = self.bytes(len);
                    input.splice(at..at, more);
                }
                4 => {
                    let more = self.part(&input).to_vec();
                    input.splice(at..end, more);
                }
                _ => {
                    let other = self.below(corpus.len());
                    let more = self.part(&corpus[other]).to_vec();
                    input.splice(at..end, more);
                }
            }
        }
        input.truncate(4096);
        input
    }
}

/// Runs a target on its corpus and on changes of it.
fn holds(name: &str, run: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let number = |variable: &str, default| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let (cases, seed) = (number("RINGWAY_FUZZ_CASES", 200_u64), number("RINGWAY_FUZZ_SEED", 0));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let check = |input: &[u8], which: &str| {
        if let Err(fault) = std::panic::catch_unwind(|| run(input)) {
            eprintln!("{name} fails on {which}: {input:?}");
            std::panic::resume_unwind(fault);
        }
    };
    corpus.iter().zip(&paths).for_each(|(input, path)| check(input, &path.display().to_string()));
    for case in seed..seed + cases {
        check(&Chance(case << 20).changed(&corpus), &format!("seed {case}"));
    }
}

#[test]
fn whatever_a_peer_with_keys_sends_no_byte_is_opened_that_it_did_not_seal() {
    holds("tls_records", tls_records::run);
}

#[test]
fn whatever_a_client_says_in_a_handshake_it_fails_with_a_cause_or_goes_on() {
    holds("tls_server", tls_server::run);
}

#[test]
fn whatever_a_server_says_in_a_handshake_it_fails_with_a_cause_or_goes_on() {
    holds("tls_client", tls_client::run);
}
