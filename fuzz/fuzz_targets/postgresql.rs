//! What a client of PostgreSQL begins with: as soon as anything is told of it, the same is told of the whole.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ringway_fuzz::check_split(bytes, ringway::wire::postgresql::parse);
    ringway_fuzz::check_split(&[&[0, 0, 0, 8, 4, 0xd2, 0x16], bytes].concat(), ringway::wire::postgresql::parse);
});
