use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use crate::discover::etcd::wire;

/// A store as etcd keeps it: every change has a revision.
#[derive(Clone, Default)]
struct Store {
    revision: u64,
    keys: BTreeMap<Vec<u8>, (String, u64)>,
    events: Vec<(u64, String)>,
}

impl Store {
    fn put(&mut self, key: &str, value: &str) {
        self.revision += 1;
        self.keys.insert(key.into(), (value.to_string(), self.revision));
        self.events.push((self.revision, format!(r#"{{"kv":{}}}"#, json(key.as_bytes(), value, self.revision))));
    }

    fn delete(&mut self, key: &str) {
        if self.keys.remove(key.as_bytes()).is_some() {
            self.revision += 1;
            let kv = json(key.as_bytes(), "", self.revision);
            self.events.push((self.revision, format!(r#"{{"type":"DELETE","kv":{kv}}}"#)));
        }
    }

    fn page(&self, kvs: &[String], count: usize) -> KeyPage {
        let kvs = kvs.join(",");
        let text = format!(r#"{{"header":{{"revision":"{}"}},"count":"{count}","kvs":[{kvs}]}}"#, self.revision);
        wire::page(text.as_bytes()).unwrap()
    }

    fn range(&self, from: &[u8], limit: usize) -> KeyPage {
        let found: Vec<String> = self
            .keys
            .range(from.to_vec()..)
            .filter(|(key, _)| key.starts_with(b"/db/"))
            .map(|(key, (value, revision))| json(key, value, *revision))
            .collect();
        self.page(&found[..found.len().min(limit)], found.len())
    }

    fn newest(&self) -> KeyPage {
        let below = self.keys.iter().filter(|(key, _)| key.starts_with(b"/db/"));
        let newest = below.clone().max_by_key(|(_, (_, revision))| *revision);
        let kvs: Vec<String> = newest.map(|(key, (_, revision))| json(key, "", *revision)).into_iter().collect();
        self.page(&kvs, below.count())
    }

    /// The lines of a watch from that revision on.
    fn watch(&self, from: u64) -> Vec<WatchLine> {
        let later = self.events.iter().filter(|(revision, _)| *revision >= from);
        later.map(|(_, event)| line(&format!(r#"{{"result":{{"events":[{event}]}}}}"#))).collect()
    }
}

fn json(key: &[u8], value: &str, revision: u64) -> String {
    format!(r#"{{"key":"{}","value":"{}","mod_revision":"{revision}"}}"#, BASE64.encode(key), BASE64.encode(value))
}

fn line(text: &str) -> WatchLine {
    wire::watch_line(text.as_bytes()).unwrap()
}

fn listed(store: &Store, limit: usize) -> Keyspace {
    let (mut keyspace, mut from) = (Keyspace::new(b"/db/"), b"/db/".to_vec());
    while let Listing::Next(next) = keyspace.on_page(&from, store.range(&from, limit)).unwrap() {
        from = next;
    }
    keyspace
}

fn known(keyspace: &Keyspace) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
    keyspace.iter().map(|(key, value)| (text(key), value.map(text).unwrap_or_default())).collect()
}

/// Changes of a store: which key, and its value or that it goes.
fn changes() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
    prop::collection::vec((0..6u8, prop::option::of(0..3u8)), 0..30)
}

fn change(store: &mut Store, (key, value): (u8, Option<u8>)) {
    // One of them is outside of the prefix.
    let key = if key == 0 { "/dc/0".to_string() } else { format!("/db/{key}") };
    match value {
        Some(value) => store.put(&key, &value.to_string()),
        None => store.delete(&key),
    }
}

proptest! {
    /// Whatever happens before the listing and behind it, in pages of any size, and missed events are noticed.
    #[test]
    fn what_is_known_is_what_etcd_has(before in changes(), after in changes(), limit in 1..4usize, heard in 0..30u8) {
        let mut store = Store { revision: 1, ..Store::default() };
        before.into_iter().for_each(|one| change(&mut store, one));
        let mut keyspace = listed(&store, limit);
        prop_assert!(keyspace.is_current(&store.newest()));
        after.into_iter().for_each(|one| change(&mut store, one));
        let lines: Vec<WatchLine> =
            store.watch(keyspace.next_revision()).into_iter().filter(below).collect();
        let heard = usize::from(heard).min(lines.len());
        for line in &lines[..heard] {
            prop_assert_eq!(keyspace.on_line(line.clone()), Ok(Heard::Changed));
        }
        let now = known(&listed(&store, limit));
        prop_assert!(!keyspace.is_current(&store.newest()) || known(&keyspace) == now);
        for line in &lines[heard..] {
            prop_assert_eq!(keyspace.on_line(line.clone()), Ok(Heard::Changed));
        }
        prop_assert_eq!(known(&keyspace), now);
        prop_assert!(keyspace.is_current(&store.newest()));
    }

    /// Room is counted, whatever comes.
    #[test]
    fn bytes_are_those_of_the_keys_that_are_known(changes in changes()) {
        let mut store = Store { revision: 1, ..Store::default() };
        changes.into_iter().for_each(|one| change(&mut store, one));
        let mut keyspace = Keyspace::new(b"/db/");
        for line in store.watch(0) {
            let _ = keyspace.on_line(line);
            let bytes: usize = known(&keyspace).iter().map(|(key, value)| 4 + key.len() + value.len()).sum();
            prop_assert_eq!(keyspace.bytes, bytes);
        }
    }
}

/// etcd sends what lies below the prefix alone.
fn below(line: &WatchLine) -> bool {
    matches!(line, WatchLine::Events { events, .. } if events.iter().all(|event| event.kv.key.starts_with(b"/db/")))
}

#[test]
fn a_change_in_parts_is_told_when_it_is_whole() {
    let mut keyspace = listed(&Store { revision: 1, ..Store::default() }, 1);
    let part = |key: &str, more: bool| {
        let kv = json(key.as_bytes(), "x", 2);
        line(&format!(r#"{{"result":{{"events":[{{"kv":{kv}}}],"fragment":{more}}}}}"#))
    };
    assert_eq!(keyspace.on_line(part("/db/a", true)), Ok(Heard::Nothing));
    assert_eq!(keyspace.on_line(part("/db/b", false)), Ok(Heard::Changed));
    assert_eq!(keyspace.on_line(line(r#"{"result":{"created":true}}"#)), Ok(Heard::Nothing));
}

#[test]
fn what_a_watch_has_lost_is_listed_anew_and_a_refusal_is_an_error() {
    let mut keyspace = Keyspace::new(b"/");
    assert_eq!(keyspace.on_line(WatchLine::Compacted), Ok(Heard::Lost));
    let old = line(r#"{"error":{"message":"etcdserver: invalid auth token"}}"#);
    assert_eq!(keyspace.on_line(old), Ok(Heard::Lost));
    let denied = line(r#"{"error":{"message":"etcdserver: permission denied"}}"#);
    assert_eq!(keyspace.on_line(denied), Err("etcd says: \"etcdserver: permission denied\"".to_string()));
}

#[test]
fn too_many_keys_too_many_bytes_and_a_long_value_take_no_room() {
    let mut store = Store { revision: 1, ..Store::default() };
    (0..FOUND_MAX + 1).for_each(|key| store.put(&format!("/db/{key:05}"), ""));
    let keyspace = listed(&store, 500);
    assert_eq!((keyspace.keys.len(), keyspace.is_crowded()), (FOUND_MAX, true));
    assert!(!keyspace.is_current(&store.newest()), "it is looked at again");
    let mut store = Store { revision: 1, ..Store::default() };
    store.put("/db/long", &"x".repeat(VALUE_MAX + 1));
    store.put("/db/most", &"x".repeat(VALUE_MAX));
    let mut keyspace = listed(&store, 500);
    assert_eq!(keyspace.iter().map(|(_, value)| value.is_some()).collect::<Vec<_>>(), [false, true]);
    for key in 0..ALL_MAX / VALUE_MAX {
        store.put(&format!("/db/{key:05}"), &"x".repeat(VALUE_MAX));
    }
    let heard: Vec<_> = store.watch(keyspace.next_revision()).into_iter().map(|line| keyspace.on_line(line)).collect();
    assert_eq!(heard.last(), Some(&Ok(Heard::Lost)));
    assert!(keyspace.bytes <= ALL_MAX && keyspace.is_crowded());
}

#[test]
fn pages_that_go_nowhere_are_an_error() {
    let mut store = Store { revision: 1, ..Store::default() };
    ["/db/a", "/db/b", "/dc"].into_iter().for_each(|key| store.put(key, "1"));
    let err = |from: &str, page: KeyPage| Keyspace::new(b"/db/").on_page(from.as_bytes(), page).unwrap_err();
    assert!(err("/db/b", store.range(b"/db/a", 9)).contains("not asked for"), "backwards");
    let behind = store.page(&[json(b"/dc", "", 1)], 1);
    assert!(err("/db/", behind).contains("not asked for"), "behind the prefix");
    assert!(err("/db/", store.page(&[], 3)).contains("sends none"));
    assert!(err("/db/", wire::page(br#"{"header":{}}"#).unwrap()).contains("no revision"));
}
