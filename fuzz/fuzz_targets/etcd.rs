#![no_main]
//! What etcd sends: a page of keys, and the lines of a watch behind it.

use libfuzzer_sys::fuzz_target;
use ringway::discover::etcd::{Keyspace, wire};

fuzz_target!(|bytes: &[u8]| {
    let mut keyspace = Keyspace::new(b"/db/");
    let mut lines = bytes.split(|byte| *byte == b'\n');
    if let Some(Ok(page)) = lines.next().map(wire::page) {
        let _ = keyspace.is_current(&page);
        let _ = keyspace.on_page(b"/db/", page);
    }
    for line in lines.flat_map(wire::watch_line) {
        let _ = keyspace.on_line(line);
    }
    assert!(keyspace.iter().all(|(_, value)| value.is_none_or(|value| value.len() <= bytes.len())));
    let _ = (wire::token(bytes), wire::refusal(bytes).map(|refusal| refusal.to_string()));
});
