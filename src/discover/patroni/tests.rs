use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::discover::etcd::testing::keyspace;

const PREFIX: &str = "/service/main/";

/// A member as Patroni 3.0 describes it.
fn member(ip: &str, role: &str, tags: &Value) -> String {
    json!({
        "conn_url": format!("postgres://{ip}:5432/postgres"), "api_url": format!("http://{ip}:8008/patroni"),
        "state": "running", "role": role, "version": "3.0.2", "xlog_location": 50331968u64, "timeline": 1, "tags": tags,
    })
    .to_string()
}

fn cluster(leader: &str) -> Vec<(&str, String)> {
    vec![
        ("config", r#"{"ttl":30}"#.to_string()),
        ("leader", leader.to_string()),
        ("members/pg1", member("10.0.0.1", "master", &json!({}))),
        ("members/pg2", member("10.0.0.2", "replica", &json!({"noloadbalance": true}))),
        ("status", r#"{"optime":67108960}"#.to_string()),
    ]
}

fn keys(all: &[(&str, String)]) -> Keyspace {
    let all: Vec<(&[u8], &[u8])> = all.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
    keyspace(PREFIX, &all)
}

fn found(all: &[(&str, String)]) -> Answer {
    let News::Answer(answer) = PatroniReader::new(PREFIX).on_keys(&keys(all)).remove(0) else { panic!() };
    answer
}

#[test]
fn members_are_called_by_their_names_and_found_at_their_conn_url() {
    let answer = found(&cluster("pg1"));
    let shown: Vec<_> = answer.found.iter().map(|found| (found.name().to_string(), found.address())).collect();
    let of = |name: &str, address: &str| (name.to_string(), address.to_string());
    assert_eq!(shown, [of("pg1", "10.0.0.1:5432"), of("pg2", "10.0.0.2:5432")]);
    assert_eq!((answer.remarks, answer.trouble), (vec![], None));
    let source = |namespace: &str| PatroniSource {
        endpoints: vec![],
        namespace: namespace.to_string(),
        scope: "main".to_string(),
        access: Default::default(),
    };
    for namespace in ["/service", "service/", "/service/"] {
        assert_eq!(prefix_of(&source(namespace)), PREFIX);
    }
}

/// The rest of what Patroni writes all the time says nothing about backends.
#[test]
fn a_change_of_the_leader_is_a_hint_and_nothing_else_is() {
    let mut reader = PatroniReader::new(PREFIX);
    let mut all = cluster("pg1");
    assert!(matches!(&reader.on_keys(&keys(&all))[..], [News::Answer(_)]));
    all[4].1 = r#"{"optime":67109000}"#.to_string();
    assert_eq!(reader.on_keys(&keys(&all)), [News::Confirmed]);
    all[1].1 = "pg2".to_string();
    let news = reader.on_keys(&keys(&all));
    assert_eq!(news[1..], [News::Hint("pg2".into())]);
    let leads = all.remove(1);
    assert_eq!(reader.on_keys(&keys(&all)).len(), 1, "a key that is gone names no member");
    all.insert(1, leads);
    assert_eq!(reader.on_keys(&keys(&all)).last(), Some(&News::Hint("pg2".into())), "it leads again");
    all[1].1 = "pg9".to_string();
    assert!(!matches!(reader.on_keys(&keys(&all)).last(), Some(News::Hint(_))), "there is no such member");
}

#[test]
fn a_replica_that_is_spared_rests_until_it_leads() {
    let rests = |all: &[(&str, String)]| found(all).found.into_iter().map(|it| it.rests).collect::<Vec<_>>();
    assert_eq!(rests(&cluster("pg1")), [None, Some(RESTS.into())]);
    assert_eq!(rests(&cluster("pg2")), [None, None], "before its role says it");
    let mut all = cluster("pg1");
    all[3].1 = member("10.0.0.2", "primary", &json!({"noloadbalance": true}));
    assert_eq!(rests(&all), [None, None]);
    for (tag, rest) in [(json!(false), false), (json!(0), false), (json!("yes"), true), (json!(null), false)] {
        all[3].1 = member("10.0.0.2", "replica", &json!({"noloadbalance": tag, "nofailover": true}));
        assert_eq!(rests(&all)[1].is_some(), rest);
    }
}

#[test]
fn what_is_no_member_is_said_and_the_others_count() {
    let all = [
        ("members/old", "postgres://u:geheim@10.0.0.2/postgres?application_name=http://10.0.0.2:8008".to_string()),
        ("members/pg1", "{".to_string()),
        ("members/pg2", "{}".to_string()),
        ("members/pg3", r#"{"conn_url":"mysql://u:geheim@a"}"#.to_string()),
        ("members/pg4", r#"{"conn_url":"postgres://u:geheim@a:0"}"#.to_string()),
    ];
    let answer = found(&all);
    let names: Vec<_> = answer.found.iter().map(|found| found.name().to_string()).collect();
    assert_eq!(names, ["old"]);
    let remarks = answer.remarks.join("\n");
    for part in [
        "member \"pg1\" is described by broken JSON",
        "member \"pg2\" has no `conn_url`; it does not count",
        "member \"pg3\" has a `conn_url` that does not begin with postgres://",
        "member \"pg4\" has a `conn_url` that has a port that is none",
    ] {
        assert!(remarks.contains(part), "{part}: {remarks}");
    }
    assert!(!remarks.contains("geheim"), "a password is never shown");
    let none = found(&[("config", String::new())]);
    assert!(none.found.is_empty() && none.remarks[0].contains("with `etcd3:`"), "{:?}", none.remarks);
}

#[test]
fn a_conn_url_leads_where_postgresql_goes() {
    for (url, address) in [
        ("postgres://10.0.0.1:5433/postgres", "10.0.0.1:5433"),
        ("postgresql://db.example/postgres", "db.example:5432"),
        ("postgres://[fd00::1]:1/x", "[fd00::1]:1"),
        ("postgres://[fd00::1]/x", "[fd00::1]:5432"),
        ("postgres://u:p%40@w@10.0.0.1?x=y:1", "10.0.0.1:5432"),
    ] {
        let (host, port) = at(url).unwrap();
        assert_eq!(Found::at(host, port).address(), address);
    }
    for url in ["", "postgres://", "postgres:///x", "postgres://a:1,b:2/x", "postgres://%2Frun/x", "http://a:1"] {
        assert!(at(url).is_err(), "{url}");
    }
}

proptest! {
    #[test]
    fn no_value_is_too_strange(name in r"\PC{0,8}", leader in r"\PC{0,8}", value in prop_oneof![
        r#"\{"conn_url":"postgres://[a-z0-9.:@\[\]/]{0,16}","tags":(\{\}|[0-9]|"x"|\{"noloadbalance":[0-9]\})\}"#,
        r"\PC{0,24}",
    ]) {
        let key = format!("members/{name}");
        let all = [("leader", leader.clone()), (&key, value)];
        let mut reader = PatroniReader::new(PREFIX);
        let news = reader.on_keys(&keys(&all));
        prop_assert!(matches!(&news[..], [News::Answer(_)]));
        let News::Answer(answer) = &news[0] else { unreachable!() };
        prop_assert_eq!(answer.found.len() + answer.remarks.len(), 1);
    }
}
