//! The messages of etcd's JSON API, which its gRPC gateway serves below `/v3`. Pure.
//!
//! Keys and values are base64 in it, numbers of 64 bits are texts, and what is zero, false or empty is left out
//! (protobuf's JSON mapping). A watch answers with one message per line, each in `{"result": …}` or `{"error": …}`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::base::text::printable;

/// Where a range of keys is asked for.
pub const RANGE: &str = "/v3/kv/range";
/// Where keys are watched.
pub const WATCH: &str = "/v3/watch";
/// Where a user logs in.
pub const LOG_IN: &str = "/v3/auth/authenticate";
/// How many keys are asked for at a time.
pub const PAGE_KEYS: usize = 500;
/// How many keys or events one message can have. etcd sends at most 1.5 MiB of events at a time, in which some 40,000
/// of the shortest have room.
const ITEMS_MAX: usize = 65_536;
/// How much is shown of what etcd says, in characters.
const SHOWN_MAX: usize = 200;

/// A key as etcd has it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct KeyValue {
    /// Its name.
    #[serde(deserialize_with = "bytes")]
    pub key: Vec<u8>,
    /// What it holds.
    #[serde(default, deserialize_with = "bytes")]
    pub value: Vec<u8>,
    /// The revision of its last change.
    #[serde(default, deserialize_with = "number")]
    pub mod_revision: u64,
}

/// The answer to a range: some of the keys, at one revision.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct KeyPage {
    /// Of the whole store.
    header: StoreHeader,
    /// In the order that was asked for.
    #[serde(default, deserialize_with = "few")]
    pub kvs: Vec<KeyValue>,
    /// How many keys there are in the range, whatever the limit.
    #[serde(default, deserialize_with = "number")]
    pub count: u64,
}

impl KeyPage {
    /// The revision of the store at which it was read.
    pub fn revision(&self) -> u64 {
        self.header.revision
    }
}

/// What stands at the head of every answer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
struct StoreHeader {
    /// The revision of the store.
    #[serde(default, deserialize_with = "number")]
    revision: u64,
}

/// A change of a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct KeyEvent {
    /// What has become of it; a key that is put has no word for it.
    #[serde(default, rename = "type")]
    kind: KeyEventKind,
    /// The key.
    pub kv: KeyValue,
}

impl KeyEvent {
    /// Whether the key is gone.
    pub fn is_delete(&self) -> bool {
        self.kind == KeyEventKind::Delete
    }
}

/// What has become of a key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
enum KeyEventKind {
    /// It has a value, new or changed.
    #[default]
    Put,
    /// It is gone.
    Delete,
}

/// What a line of a watch says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WatchLine {
    /// These changes, in this order; there are none in the first line and in one that says that nothing has happened.
    Events {
        /// The changes.
        events: Vec<KeyEvent>,
        /// The next line belongs to it.
        goes_on: bool,
    },
    /// The watch asks for changes that etcd no longer has.
    Compacted,
    /// The watch has ended, for this reason.
    Refused(EtcdRefusal),
}

/// Why etcd does not do what it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EtcdRefusal {
    /// In its own words.
    said: String,
}

impl EtcdRefusal {
    /// Whether it would be done for a user that logs in again: the token is missing, unknown or too old.
    pub fn asks_to_log_in(&self) -> bool {
        ["invalid auth token", "user name is empty", "revision of auth store is old", "revision in header is old"]
            .iter()
            .any(|words| self.said.contains(words))
    }

    /// Whether it knows no users at all.
    pub fn is_without_users(&self) -> bool {
        self.said.contains("authentication is not enabled")
    }

    /// Whether the changes that a watch asks for are gone.
    fn is_compacted(&self) -> bool {
        self.said.contains("has been compacted")
    }
}

impl fmt::Display for EtcdRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.said.chars().take(SHOWN_MAX).collect();
        let dots = if short.len() < self.said.len() { "…" } else { "" };
        write!(f, "etcd says: \"{}{dots}\"", printable(&short))
    }
}

/// The end of the range of all keys with this prefix: the first key behind them (etcd's "range end of a prefix").
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff).map_or(0, |at| at + 1);
    match prefix[..kept].split_last() {
        Some((last, before)) => [before, &[last + 1]].concat(),
        // All keys from the prefix on.
        None => vec![0],
    }
}

/// Asks for the keys from `from` up to `end`, as they were at a revision, or with 0 as they are now.
pub fn ask_range(from: &[u8], end: &[u8], revision: u64) -> Vec<u8> {
    let mut body = json!({"key": BASE64.encode(from), "range_end": BASE64.encode(end), "limit": PAGE_KEYS.to_string()});
    if revision > 0 {
        body["revision"] = revision.to_string().into();
    }
    body.to_string().into_bytes()
}

/// Asks how many keys have this prefix, and for the one of them that was changed last, without its value.
pub fn ask_newest(prefix: &[u8]) -> Vec<u8> {
    json!({
        "key": BASE64.encode(prefix),
        "range_end": BASE64.encode(end_of(prefix)),
        "limit": "1",
        "sort_order": "DESCEND",
        "sort_target": "MOD",
        "keys_only": true,
    })
    .to_string()
    .into_bytes()
}

/// Asks for every change of keys with this prefix, from a revision on.
pub fn ask_watch(prefix: &[u8], revision: u64) -> Vec<u8> {
    json!({"create_request": {
        "key": BASE64.encode(prefix),
        "range_end": BASE64.encode(end_of(prefix)),
        "start_revision": revision.to_string(),
        "progress_notify": true,
        "fragment": true,
    }})
    .to_string()
    .into_bytes()
}

/// Asks for a token.
pub fn ask_token(user: &str, password: &str) -> Vec<u8> {
    json!({"name": user, "password": password}).to_string().into_bytes()
}

/// Reads the answer to a range.
///
/// # Errors
/// It is none; with the words for it.
pub fn page(body: &[u8]) -> Result<KeyPage, String> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

/// Reads the answer to a login.
///
/// # Errors
/// It is none, or no header can have the token.
pub fn token(body: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct TokenAnswer {
        /// What is sent with each request from then on.
        token: String,
    }
    let TokenAnswer { token } = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let is_fit = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_fit { Ok(token) } else { Err("its token is none that can be sent".to_string()) }
}

/// Reads why a request was refused, from a body with a status that is none of success; `None` if etcd does not say why.
pub fn refusal(body: &[u8]) -> Option<EtcdRefusal> {
    let said: EtcdError = serde_json::from_slice(body).ok()?;
    Some(EtcdRefusal { said: said.words()? })
}

/// Reads a line of a watch.
///
/// # Errors
/// It is none; with the words for it.
pub fn watch_line(line: &[u8]) -> Result<WatchLine, String> {
    let message: WatchMessage = serde_json::from_slice(line).map_err(|error| unreadable(&error))?;
    if let Some(said) = message.error {
        let refusal = EtcdRefusal { said: said.words().unwrap_or_else(|| "the watch has failed".to_string()) };
        return Ok(if refusal.is_compacted() { WatchLine::Compacted } else { WatchLine::Refused(refusal) });
    }
    let Some(result) = message.result else { return Err("a line of its watch says nothing".to_string()) };
    if result.compact_revision > 0 {
        return Ok(WatchLine::Compacted);
    }
    if result.canceled {
        let refusal =
            EtcdRefusal { said: result.cancel_reason.unwrap_or_else(|| "the watch was cancelled".to_string()) };
        return Ok(if refusal.is_compacted() { WatchLine::Compacted } else { WatchLine::Refused(refusal) });
    }
    Ok(WatchLine::Events { events: result.events, goes_on: result.fragment })
}

/// A line of a watch.
#[derive(Deserialize)]
struct WatchMessage {
    /// What has happened.
    result: Option<WatchResult>,
    /// Why there is no watch.
    error: Option<EtcdError>,
}

/// What has happened.
#[derive(Deserialize)]
struct WatchResult {
    /// The changes.
    #[serde(default, deserialize_with = "few")]
    events: Vec<KeyEvent>,
    /// More of the same revision follows.
    #[serde(default)]
    fragment: bool,
    /// The watch has ended.
    #[serde(default)]
    canceled: bool,
    /// Why.
    cancel_reason: Option<String>,
    /// Changes before this revision are gone; 0 if that is not why it has ended.
    #[serde(default, deserialize_with = "number")]
    compact_revision: u64,
}

/// An error as the gateway writes it: 3.4 has both words for the same.
#[derive(Deserialize)]
struct EtcdError {
    /// What is wrong; in a watch it is not there.
    error: Option<serde_json::Value>,
    /// The same.
    message: Option<String>,
}

impl EtcdError {
    /// What is wrong, in its own words.
    fn words(self) -> Option<String> {
        self.message.or_else(|| Some(self.error?.as_str()?.to_string()))
    }
}

/// Says that an answer makes no sense.
fn unreadable(error: &serde_json::Error) -> String {
    // The error quotes what came.
    let why = error.to_string();
    let short: String = why.chars().take(SHOWN_MAX).collect();
    format!("its answer is none of etcd's: {}", printable(&short))
}

/// A text in base64.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map_err(|_| D::Error::custom("a key or a value is no base64"))
}

/// A number that is a text, as protobuf writes one of 64 bits, or a number.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct TextNumber;
    impl Visitor<'_> for TextNumber {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.parse().map_err(|_| E::custom("no number"))
        }
    }
    deserializer.deserialize_any(TextNumber)
}

/// A list of at most [`ITEMS_MAX`]: the shortest item takes many times as much memory as its text.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {ITEMS_MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while items.len() < ITEMS_MAX {
                let Some(item) = list.next_element()? else { return Ok(items) };
                items.push(item);
            }
            match list.next_element::<IgnoredAny>()? {
                None => Ok(items),
                Some(_) => Err(A::Error::custom("a list of it is too long")),
            }
        }
    }
    deserializer.deserialize_seq(Few(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Result<WatchLine, String> {
        watch_line(text.as_bytes())
    }

    /// What etcd 3.4.23 has sent.
    #[test]
    fn what_etcd_sends_is_understood() {
        let range = br#"{"header":{"cluster_id":"15118495548433857066","revision":"3","raft_term":"2"},"kvs":[{"key":
            "L2RiL2E=","create_revision":"2","mod_revision":"2","value":"MTAuMC4wLjE6MQ=="}],"count":"7"}"#;
        let read = page(range).unwrap();
        let kv = KeyValue { key: b"/db/a".to_vec(), value: b"10.0.0.1:1".to_vec(), mod_revision: 2 };
        assert_eq!((read.revision(), read.count, read.kvs), (3, 7, vec![kv]));
        let events = r#"{"result":{"header":{"revision":"5"},"events":[
            {"kv":{"key":"L2RiL2I=","mod_revision":"4","value":"eA=="}},
            {"type":"DELETE","kv":{"key":"L2RiL2E=","mod_revision":"5"}}]}}"#;
        let Ok(WatchLine::Events { events, goes_on: false }) = of(events) else { panic!() };
        assert_eq!(events.iter().map(KeyEvent::is_delete).collect::<Vec<_>>(), [false, true]);
        let created = of(r#"{"result":{"header":{"revision":"5"},"created":true}}"#);
        assert_eq!(created, Ok(WatchLine::Events { events: vec![], goes_on: false }));
        let compacted = r#"{"result":{"header":{"raft_term":"2"},"canceled":true,"compact_revision":"4"}}"#;
        assert_eq!(of(compacted), Ok(WatchLine::Compacted));
        assert_eq!(token(br#"{"header":{},"token":"abc.9"}"#), Ok("abc.9".to_string()));
    }

    #[test]
    fn a_refusal_says_what_is_to_be_done() {
        let of = |text: &str| refusal(text.as_bytes()).unwrap();
        let token =
            of(r#"{"error":"etcdserver: invalid auth token","code":16,"message":"etcdserver: invalid auth token"}"#);
        assert!(token.asks_to_log_in() && !token.is_without_users());
        assert!(of(r#"{"error":"etcdserver: user name is empty","code":3}"#).asks_to_log_in());
        assert!(of(r#"{"message":"etcdserver: authentication is not enabled"}"#).is_without_users());
        let denied = of(r#"{"error":"etcdserver: permission denied\n"}"#);
        assert!(!denied.asks_to_log_in());
        assert_eq!(denied.to_string(), r#"etcd says: "etcdserver: permission denied\n""#);
        assert_eq!(refusal(b"404 page not found"), None);
        let cancelled = watch_line(
            br#"{"result":{"created":true,"canceled":true,"cancel_reason":"etcdserver: permission denied"}}"#,
        );
        assert!(matches!(cancelled, Ok(WatchLine::Refused(why)) if why.to_string().contains("permission denied")));
        let lost = watch_line(br#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#);
        assert!(matches!(lost, Ok(WatchLine::Refused(why)) if why.to_string().contains("no leader")));
    }

    #[test]
    fn the_range_of_a_prefix_ends_behind_it() {
        for (prefix, end) in [
            (&b"/db/"[..], &b"/db0"[..]),
            (b"a\xff\xff", b"b"),
            (b"a\xfe\xff", b"a\xff"),
            (b"\xff", b"\0"),
            (b"", b"\0"),
        ] {
            assert_eq!(end_of(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn a_list_is_not_read_beyond_its_limit() {
        let list = |count: usize| format!(r#"{{"header":{{}},"kvs":[{}]}}"#, vec![r#"{"key":""}"#; count].join(","));
        assert_eq!(page(list(ITEMS_MAX).as_bytes()).unwrap().kvs.len(), ITEMS_MAX);
        assert!(page(list(ITEMS_MAX + 1).as_bytes()).is_err_and(|why| why.contains("too long")));
    }

    proptest! {
        /// Keys behind the prefix are not in its range, and those that begin with it are.
        #[test]
        fn the_range_of_a_prefix_holds_what_begins_with_it(prefix: Vec<u8>, key: Vec<u8>) {
            prop_assume!(prefix.iter().any(|byte| *byte < 0xff));
            let is_in = key >= prefix && key < end_of(&prefix);
            prop_assert_eq!(is_in, key.starts_with(&prefix));
            let below = [&prefix[..], &key].concat();
            prop_assert!(below >= prefix && below < end_of(&prefix));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in r#"[\[\]{}:,"a-z0-9=]{0,60}"#) {
            for bytes in [text.as_bytes(), format!("{{\"result\":{text}}}").as_bytes()] {
                let _ = (page(bytes), token(bytes), refusal(bytes).map(|why| why.to_string()), watch_line(bytes));
            }
        }
    }
}
