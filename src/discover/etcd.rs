//! Backends that are keys of etcd: every key below a prefix is one, and what it holds describes it.
//!
//! ```text
//! /db/a = 10.0.0.1:5432
//! /db/b = {"address": "10.0.0.2:5432", "weight": 2, "backup": true, "name": "b"}
//! ```
//!
//! etcd is spoken to by the JSON API that each member serves below `/v3` since 3.4, over the HTTP client of all
//! sources.
//! The crate etcd-client (0.21, on tonic and prost) has `protoc` run at each build, which a newcomer's machine lacks,
//! adds 21 crates, and made a small program 763 KB larger (1,647 KB and not 884 KB, in the profile of releases).
//!
//! [`session`] lists and watches the keys, over [`client`] and the JSON API that [`wire`] describes. [`keyspace`],
//! [`rotation`] and what is read here are pure. `docs/etcd.md` explains it to users.

mod client;
mod keyspace;
mod rotation;
mod session;
pub mod wire;

use serde_json::{Map, Value};

pub use keyspace::Keyspace;
pub(super) use session::{WatchedKeys, follow_keys};

use super::dns::Resolver;
use super::found::{Answer, BACKUP_MAX, FOUND_MAX, Found, News, WEIGHT_MAX};
use super::gather::{Gathering, shown};
use super::settings::EtcdSource;
use super::written;

/// Tells what the keys below a prefix say, for ever.
pub async fn follow(settings: &EtcdSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    let prefix = settings.prefix.as_bytes();
    let keys = WatchedKeys { endpoints: &settings.endpoints, prefix, access: &settings.access };
    let mut told: Option<Answer> = None;
    let mut read = |keyspace: &Keyspace| vec![news_of(answer_of(&settings.prefix, keyspace), &mut told)];
    follow_keys(keys, resolver, &mut read, tell).await;
}

/// An answer, unless it was told already.
pub(super) fn news_of(answer: Answer, told: &mut Option<Answer>) -> News {
    if told.as_ref() == Some(&answer) {
        return News::Confirmed;
    }
    *told = Some(answer.clone());
    News::Answer(answer)
}

/// What the keys mean.
fn answer_of(prefix: &str, keyspace: &Keyspace) -> Answer {
    let mut gathered = Gathering::default();
    if keyspace.is_crowded() {
        gathered.remark(crowded(prefix));
    }
    for (rest, value) in keyspace.iter() {
        let key = format!("{prefix}{}", String::from_utf8_lossy(rest));
        match value.ok_or_else(|| "is too long to describe a backend".to_string()).and_then(backend) {
            Ok((found, unknown)) => {
                if let Some(unknown) = unknown {
                    gathered.remark(format!("{}: {} means nothing here", shown(&key), shown(&unknown)));
                }
                gathered.add(&key, found);
            }
            Err(why) => gathered.remark(format!("{} {why}; it does not count", shown(&key))),
        }
    }
    gathered.answer(None)
}

/// Says that there are more keys than are read.
pub(super) fn crowded(prefix: &str) -> String {
    format!(
        "below {} there are more than {FOUND_MAX} keys, or more than 16 MiB; the rest does not count",
        shown(prefix)
    )
}

/// The backend that a value describes, and a key of it that means nothing.
fn backend(value: &[u8]) -> Result<(Found, Option<String>), String> {
    let text = std::str::from_utf8(value).map_err(|_| "holds no text".to_string())?.trim();
    if !text.starts_with('{') {
        let (host, port) = written::address(text).map_err(|lacks| format!("holds {}, which {lacks}", shown(text)))?;
        return Ok((Found::at(host, port), None));
    }
    let object: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("holds broken JSON: {}", shown(&error.to_string())))?;
    let address = object.get("address").ok_or("has no \"address\"")?;
    let address = address.as_str().ok_or("has an \"address\" that is no text")?;
    let (host, port) =
        written::address(address).map_err(|lacks| format!("has the address {}, which {lacks}", shown(address)))?;
    let mut found = Found::at(host, port);
    if let Some(weight) = object.get("weight") {
        found.weight = up_to(weight, WEIGHT_MAX)
            .ok_or_else(|| format!("has a \"weight\" that is no number from 0 to {WEIGHT_MAX}"))?;
    }
    if let Some(backup) = object.get("backup") {
        found.backup = backup.as_bool().map(u16::from).or_else(|| up_to(backup, BACKUP_MAX)).ok_or_else(|| {
            format!("has a \"backup\" that is neither true nor false nor a number from 0 to {BACKUP_MAX}")
        })?;
    }
    if let Some(name) = object.get("name") {
        found.name = Some(name.as_str().ok_or("has a \"name\" that is no text")?.into());
    }
    let known = ["address", "weight", "backup", "name"];
    Ok((found, object.keys().find(|key| !known.contains(&key.as_str())).cloned()))
}

/// A whole number up to that one.
fn up_to(value: &Value, most: u16) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number <= most)
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests {
    use super::testing::keyspace;
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> Result<(String, u16, u16, String), String> {
        let (found, unknown) = backend(value.as_bytes())?;
        Ok((found.to_string(), found.weight, found.backup, unknown.unwrap_or_else(|| found.name().to_string())))
    }

    #[test]
    fn a_value_describes_a_backend() {
        let of =
            |address: &str, weight, backup, name: &str| Ok((address.to_string(), weight, backup, name.to_string()));
        for (value, expected) in [
            ("10.0.0.1:5432", of("10.0.0.1:5432", 1, 0, "10.0.0.1:5432")),
            (" db.example:5432\n", of("db.example:5432", 1, 0, "db.example:5432")),
            (r#"{"address":"[::1]:1"}"#, of("[::1]:1", 1, 0, "[::1]:1")),
            (r#"{"address":"a:1","weight":0,"backup":true,"name":"x"}"#, of("a:1", 0, 1, "x")),
            (r#"{"address":"a:1","weight":256,"backup":1000}"#, of("a:1", 256, 1000, "a:1")),
            (r#"{"address":"a:1","backup":false,"wieght":3}"#, of("a:1", 1, 0, "wieght")),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
        for (value, why) in [
            ("", "holds \"\", which has no port"),
            ("10.0.0.1", "holds \"10.0.0.1\", which has no port"),
            ("{", "holds broken JSON"),
            ("{}", "has no \"address\""),
            (r#"{"address":1}"#, "has an \"address\" that is no text"),
            (r#"{"address":"a"}"#, "has the address \"a\", which has no port"),
            (r#"{"address":"a:1","weight":257}"#, "has a \"weight\" that is no number from 0 to 256"),
            (r#"{"address":"a:1","weight":"1"}"#, "has a \"weight\""),
            (r#"{"address":"a:1","weight":-1}"#, "has a \"weight\""),
            (r#"{"address":"a:1","backup":1001}"#, "has a \"backup\""),
            (r#"{"address":"a:1","name":1}"#, "has a \"name\""),
        ] {
            assert!(read(value).is_err_and(|found| found.starts_with(why)), "{value}: {:?}", read(value));
        }
    }

    #[test]
    fn a_bad_value_is_skipped_with_a_remark_and_the_others_count() {
        let keys: [(&[u8], &[u8]); 4] =
            [(b"a", b"10.0.0.9:1"), (b"b", b"nonsense"), (b"c", b"10.0.0.1:1"), (b"d\xff", b"\xff")];
        let answer = answer_of("/db/", &keyspace("/db/", &keys));
        assert_eq!(answer.found.iter().map(Found::address).collect::<Vec<_>>(), ["10.0.0.1:1", "10.0.0.9:1"]);
        assert_eq!(
            answer.remarks,
            [
                "\"/db/b\" holds \"nonsense\", which has no port; it does not count",
                "\"/db/d\u{fffd}\" holds no text; it does not count",
            ]
        );
        let mut told = None;
        assert_eq!(news_of(answer.clone(), &mut told), News::Answer(answer.clone()));
        assert_eq!(news_of(answer, &mut told), News::Confirmed);
    }

    proptest! {
        #[test]
        fn every_value_is_a_backend_or_a_remark(
            values in prop::collection::vec(prop_oneof![
                r#"\{"address":"[a-z0-9.:\[\]]{0,12}","(weight|backup|name)":("[a-z ]{0,3}"|-?[0-9]{1,5}|true|null)\}"#,
                r"[a-z0-9.:]{0,16}",
                r"\PC{0,16}",
            ], 0..8)
        ) {
            let keys: Vec<[u8; 1]> = (0..values.len() as u8).map(|key| [b'a' + key]).collect();
            let all: Vec<(&[u8], &[u8])> =
                keys.iter().zip(&values).map(|(key, value)| (&key[..], value.as_bytes())).collect();
            let answer = answer_of("/db/", &keyspace("/db/", &all));
            prop_assert!(answer.found.len() + answer.remarks.len() >= values.len());
            prop_assert!(answer.found.iter().all(|found| found.weight <= WEIGHT_MAX && found.backup <= BACKUP_MAX));
            prop_assert!(answer.remarks.iter().all(|remark| remark.len() < 500), "{:?}", answer.remarks);
        }
    }
}
