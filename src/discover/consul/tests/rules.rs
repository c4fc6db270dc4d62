//! What is decided, without a server.

use std::time::Duration;

use proptest::prelude::*;

use super::source;
use crate::discover::consul::entries::Dialect;
use crate::discover::consul::query::{Query, QueryEvent, ReplyFacts};
use crate::discover::found::{Answer, Found, News, WEIGHT_MAX};
use crate::discover::settings::ConsulSource;

const GOOD: ReplyFacts = ReplyFacts { index: 7, has_leader: true, last_contact: Duration::ZERO, is_filtered: false };
const ONE: &str = r#"[{"Node":{"Address":"10.0.0.1"},"Service":{"Port":1}}]"#;

fn settings() -> ConsulSource {
    source("http://127.0.0.1:8500".parse().unwrap())
}

fn event(facts: ReplyFacts, body: &str, took_ms: u64) -> QueryEvent {
    QueryEvent::Reply { facts, body: body.into(), took: Duration::from_millis(took_ms) }
}

/// What Consul's reply with this body means.
fn read(body: &str, passing: bool) -> Answer {
    Dialect::Consul.read(body.as_bytes(), &ConsulSource { passing, ..settings() }).unwrap()
}

/// An instance with that address, port, weights and states of its checks.
fn entry(address: &str, port: i64, weights: &str, statuses: &[&str]) -> String {
    let checks: Vec<String> =
        statuses.iter().map(|status| format!(r#"{{"CheckID":"c","Status":"{status}"}}"#)).collect();
    format!(
        r#"{{"Node":{{"Address":"10.9.9.9"}},"Service":{{"ID":"i","Address":"{address}","Port":{port}{weights}}},
        "Checks":[{}]}}"#,
        checks.join(",")
    )
}

fn shown(answer: &Answer) -> Vec<(String, u16)> {
    answer.found.iter().map(|found| (found.address(), found.weight)).collect()
}

#[test]
fn an_instance_without_an_address_is_at_that_of_its_node() {
    let body = format!("[{},{}]", entry("", 1, "", &[]), entry("db.example", 2, "", &[]));
    assert_eq!(shown(&read(&body, true)), [("10.9.9.9:1".to_string(), 1), ("db.example:2".to_string(), 1)]);
}

#[test]
fn only_passing_ones_count_unless_all_are_wanted() {
    let weights = r#","Weights":{"Passing":9,"Warning":3}"#;
    let body = format!(
        "[{},{},{},{}]",
        entry("10.0.0.1", 1, weights, &["passing", "passing"]),
        entry("10.0.0.2", 1, weights, &["passing", "warning"]),
        entry("10.0.0.3", 1, weights, &["critical"]),
        entry("10.0.0.4", 1, weights, &["strange"]),
    );
    assert_eq!(shown(&read(&body, true)), [("10.0.0.1:1".to_string(), 9)]);
    let weights: Vec<u16> = read(&body, false).found.iter().map(|found| found.weight).collect();
    assert_eq!(weights, [9, 3, 3, 3]);
}

#[test]
fn one_in_maintenance_takes_no_new_sessions_where_all_are_wanted() {
    for id in ["_service_maintenance:db-1", "_node_maintenance"] {
        let body = format!(
            r#"[{{"Service":{{"Address":"10.0.0.1","Port":1}},"Checks":[{{"CheckID":"{id}","Status":"critical"}}]}}]"#
        );
        assert_eq!(read(&body, false).found[0].rests.as_deref(), Some("in maintenance, says Consul"));
        assert!(read(&body, true).found.is_empty());
    }
}

#[test]
fn weights_beyond_the_greatest_are_scaled_and_0_stays() {
    let of = |weight: i64| format!(r#","Weights":{{"Passing":{weight},"Warning":0}}"#);
    let body = format!(
        "[{},{},{}]",
        entry("10.0.0.1", 1, &of(65_535), &[]),
        entry("10.0.0.2", 1, &of(1), &[]),
        entry("10.0.0.3", 1, &of(-5), &[]),
    );
    let weights: Vec<u16> = read(&body, true).found.iter().map(|found| found.weight).collect();
    assert_eq!(weights, [256, 1, 0]);
}

#[test]
fn what_is_no_host_or_no_port_is_left_out_with_a_remark() {
    let body = format!(
        "[{},{},{},{},{}]",
        entry("10.0.0.1", 1, "", &[]),
        entry("0.0.0.0", 1, "", &[]),
        entry("no host", 1, "", &[]),
        entry("10.0.0.2", 0, "", &[]),
        entry("10.0.0.3", 65_536, "", &[]),
    );
    let answer = read(&body, true);
    assert_eq!(shown(&answer), [("10.0.0.1:1".to_string(), 1)]);
    assert_eq!(answer.remarks.len(), 4);
    assert_eq!(answer.remarks[1], "instance \"i\": \"no host\" is no address of a server; it is left out");
    assert_eq!(answer.trouble, None);
}

#[test]
fn an_index_that_goes_back_or_a_failure_starts_anew() {
    let settings = settings();
    let mut query = Query::new(Dialect::Consul, &settings);
    let asked = |query: &Query<'_>| query.next(0).0.split_once("&index=").map(|(_, rest)| rest.to_string());
    assert_eq!(asked(&query), None);
    query.on(event(GOOD, ONE, 0), 0);
    assert_eq!(asked(&query).as_deref(), Some("7&wait=60s"));
    query.on(event(ReplyFacts { index: 9, ..GOOD }, ONE, 0), 0);
    assert_eq!(asked(&query).as_deref(), Some("9&wait=60s"));
    query.on(event(ReplyFacts { index: 8, ..GOOD }, ONE, 0), 0);
    assert_eq!(asked(&query), None, "it went back");
    query.on(event(GOOD, ONE, 0), 0);
    query.on(event(ReplyFacts { index: 0, ..GOOD }, ONE, 0), 0);
    assert_eq!(asked(&query), None, "there is none");
    query.on(event(GOOD, ONE, 0), 0);
    query.on(QueryEvent::Failed { why: "it fails".to_string(), retry_after: None }, 0);
    assert_eq!(asked(&query), None, "a request failed");
    query.on(event(GOOD, ONE, 0), 0);
    query.on(event(GOOD, "no JSON", 0), 0);
    assert_eq!(asked(&query), None, "a reply made no sense");
}

#[test]
fn many_that_wait_do_not_all_wait_for_the_same_time() {
    let settings = settings();
    let mut query = Query::new(Dialect::Consul, &settings);
    query.on(event(GOOD, ONE, 0), 0);
    let mut waits: Vec<u64> = (0..200)
        .map(|chance| {
            let (path, timeout) = query.next(chance);
            let wait_s = path.split_once("&wait=").unwrap().1.trim_end_matches('s').parse().unwrap();
            assert!(timeout > Duration::from_secs(wait_s + wait_s / 16), "Consul waits longer than that");
            wait_s
        })
        .collect();
    waits.sort_unstable();
    assert_eq!((waits[0], waits[199]), (45, 60));
}

#[test]
fn what_may_be_old_changes_nothing_and_is_better_than_nothing() {
    let settings = settings();
    for old in [ReplyFacts { has_leader: false, ..GOOD }, ReplyFacts { last_contact: Duration::from_secs(11), ..GOOD }]
    {
        let mut query = Query::new(Dialect::Consul, &settings);
        let (news, _) = query.on(event(old.clone(), "[]", 0), 0);
        assert!(matches!(news, News::Failed(_)), "nothing that may be old: {news:?}");
        let (News::Answer(first), _) = query.on(event(old.clone(), ONE, 0), 0) else { panic!("better than none") };
        assert!(first.trouble.is_some_and(|why| why.contains("may be old")));
        let (News::Answer(good), _) = query.on(event(GOOD, ONE, 0), 0) else { panic!("the trouble is over") };
        assert_eq!(good.trouble, None);
        let (news, _) = query.on(event(old, "[]", 0), 0);
        assert!(matches!(&news, News::Failed(why) if why.contains("may be old")), "{news:?}");
        assert_eq!(query.on(event(GOOD, ONE, 0), 0).0, News::Confirmed);
    }
}

#[test]
fn what_an_acl_hides_is_a_trouble_and_never_an_empty_service() {
    let settings = settings();
    let mut query = Query::new(Dialect::Consul, &settings);
    let hidden = ReplyFacts { is_filtered: true, ..GOOD };
    let (news, _) = query.on(event(hidden.clone(), "[]", 0), 0);
    assert!(matches!(&news, News::Failed(why) if why.contains("service:read")), "{news:?}");
    for _ in 0..2 {
        let (news, _) = query.on(event(hidden.clone(), ONE, 0), 0);
        assert!(matches!(&news, News::Answer(answer) if answer.trouble.is_some()), "{news:?}");
    }
}

#[test]
fn a_pause_is_short_after_a_wait_and_grows_where_nothing_is_new() {
    let settings = settings();
    let mut query = Query::new(Dialect::Consul, &settings);
    assert_eq!(query.on(event(GOOD, ONE, 300), 0).1, Duration::from_millis(700), "a second between two requests");
    assert_eq!(query.on(event(GOOD, ONE, 50_000), 0).1, Duration::ZERO, "it waited");
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let (_, pause) = query.on(event(GOOD, ONE, 0), 0);
        assert!(pause >= last.max(Duration::from_secs(1)) && pause <= Duration::from_secs(5), "{pause:?}");
        last = pause;
    }
    assert!(last >= Duration::from_secs(2));
    let failed = || QueryEvent::Failed { why: String::new(), retry_after: Some(Duration::from_secs(1 << 40)) };
    assert_eq!(query.on(failed(), 0).1, Duration::from_secs(60), "a server cannot send us away for ever");
}

/// JSON of any shape, with the names that are looked for.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[0-9.:a-z\u{0}-\u{ff}]{0,12}".prop_map(Into::into),
        Just("10.0.0.1".into()),
        Just("passing".into()),
    ];
    let name = prop_oneof![
        Just("Node"),
        Just("Service"),
        Just("Checks"),
        Just("Address"),
        Just("Port"),
        Just("Weights"),
        Just("Passing"),
        Just("Status"),
        Just("Tags"),
        Just("ID"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_string(), value)).collect()),
        ]
    })
}

/// Whether an answer is what every source owes.
fn is_fit(answer: &Answer) -> bool {
    let addresses: Vec<String> = answer.found.iter().map(Found::address).collect();
    let mut once = addresses.clone();
    once.sort();
    once.dedup();
    once.len() == addresses.len() && answer.found.iter().all(|found| found.port > 0 && found.weight <= WEIGHT_MAX)
}

proptest! {
    #[test]
    fn no_reply_breaks_anything(entries in prop::collection::vec(json(), 0..4), index: u64, passing: bool, cut: usize) {
        for dialect in [Dialect::Consul, Dialect::Nomad] {
            let settings = ConsulSource { passing, ..settings() };
            let mut query = Query::new(dialect, &settings);
            let body = serde_json::to_string(&entries).unwrap();
            for body in [&body.as_bytes()[..cut % (body.len() + 1)], body.as_bytes()] {
                let facts = ReplyFacts { index, ..GOOD };
                let event = QueryEvent::Reply { facts, body: body.to_vec(), took: Duration::ZERO };
                let (news, pause) = query.on(event, index);
                prop_assert!(pause >= Duration::from_millis(250));
                if let News::Answer(answer) = news {
                    prop_assert!(is_fit(&answer));
                }
            }
        }
    }
}
