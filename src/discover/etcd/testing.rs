//! Keys for tests of what they mean.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Keyspace, wire};

/// These keys below a prefix, as etcd lists them.
pub(in crate::discover) fn keyspace(prefix: &str, keys: &[(&[u8], &[u8])]) -> Keyspace {
    let sorted: BTreeMap<_, _> = keys.iter().copied().collect();
    let kv = |(key, value): (&&[u8], &&[u8])| {
        let key = [prefix.as_bytes(), key].concat();
        format!(r#"{{"key":"{}","value":"{}","mod_revision":"2"}}"#, BASE64.encode(key), BASE64.encode(value))
    };
    let kvs: Vec<String> = sorted.iter().map(kv).collect();
    let text = format!(r#"{{"header":{{"revision":"2"}},"count":"{}","kvs":[{}]}}"#, kvs.len(), kvs.join(","));
    let mut keyspace = Keyspace::new(prefix.as_bytes());
    keyspace.on_page(prefix.as_bytes(), wire::page(text.as_bytes()).unwrap()).unwrap();
    keyspace
}
