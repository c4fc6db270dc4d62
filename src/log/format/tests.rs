//! What lines look like, field by field.

use super::*;
use crate::balance::Counts;
use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Clock;
use crate::snapshot::build::tests::{config, pool};
use crate::stats::record::tests::record;
use crate::stats::record::{Attempt as Failed, EndReason};
use crate::stats::{ConnectError, Stats};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

fn facts(pool_name: &str) -> LogContext {
    let config = Arc::new(config(vec![pool(pool_name, &["a", "b"])]));
    let mut names = Names::default();
    names.learn(&crate::control::first_table(&config));
    LogContext {
        names: Rc::new(RefCell::new(names)),
        stats: Arc::new(Stats::new(2)),
        counts: Arc::new(Counts::new()),
        clock: Clock::new(),
        driver: crate::kernel::driver::Driver::IoUring,
    }
}

/// Half a second after the record's end it was the first second of 2027.
fn clock() -> (Moment, SystemTime) {
    (Moment(4_000_000_000), SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_761_600))
}

fn line_of(format: AccessFormat, record: &Record, pool: &str) -> String {
    let mut line = Vec::new();
    Formatter::new(format).write(record, &facts(pool), clock(), &mut line);
    String::from_utf8(line).unwrap()
}

fn json(record: &Record) -> String {
    line_of(AccessFormat::Json, record, "db")
}

fn tcplog(record: &Record) -> String {
    line_of(AccessFormat::Tcplog, record, "db")
}

fn retried() -> Record {
    Record {
        failed: vec![Failed {
            backend: BackendId(0),
            error: ConnectError::Timeout,
            took_ns: 3_000_999_999,
            tls_error: None,
        }],
        backend: Some(BackendId(1)),
        connect_ns: Some(3_001_999_999),
        last_attempt_ns: 1_000_000,
        ..record(2049)
    }
}

#[test]
fn a_json_line_has_the_fields_of_the_contract() {
    assert_eq!(
        json(&record(2049)),
        concat!(
            r#"{"time":"2026-12-31T23:59:59.500Z","session":"801","listener":"db","client":"192.0.2.7:40000","#,
            r#""pool":"db","backend":"a","backend_local":"10.0.0.9:50000","termination":"--","queue_ms":0,"#,
            r#""connect_ms":1,"duration_ms":2500,"#,
            r#""bytes_to_backend":10,"bytes_to_client":20,"worker":1}"#,
            "\n"
        )
    );
}

#[test]
fn what_was_measured_and_asked_for_stands_there_if_it_is_known() {
    use crate::base::session::PathQuality;
    let known = Record {
        server_name: Some("db1.example.com".into()),
        quality: [
            Some(PathQuality { rtt_us: 48_000, retransmits: 3 }),
            Some(PathQuality { rtt_us: 90, retransmits: 0 }),
        ],
        ..record(1)
    };
    let line = json(&known);
    assert!(line.contains(r#""termination":"--","sni":"db1.example.com","queue_ms":0"#), "{line}");
    for quality in
        [r#""client_rtt_us":48000,"client_retransmits":3,"#, r#""backend_rtt_us":90,"backend_retransmits":0,"#]
    {
        assert!(line.contains(quality), "{line}");
    }
    let unix = Record { quality: [None, Some(PathQuality { rtt_us: 90, retransmits: 1 })], ..record(1) };
    assert!(!json(&unix).contains("client_rtt_us") && json(&unix).contains(r#""backend_retransmits":1"#));
}

#[test]
fn attempts_stand_there_when_there_was_more_than_one() {
    let attempts = concat!(
        r#""attempts":[{"backend":"a","error":"timeout","ms":3000},{"backend":"b","error":null,"ms":1}],"#,
        r#""queue_ms":0,"connect_ms":3001"#
    );
    assert!(json(&retried()).contains(attempts), "{}", json(&retried()));
    let refused = Record {
        backend: Some(BackendId(0)),
        connect_ns: None,
        termination: Termination(Who::Server, When::Connect),
        ..retried()
    };
    let line = json(&refused);
    assert!(line.contains(r#""termination":"SC","queue_ms":0,"connect_ms":null"#), "one attempt is no list: {line}");
}

#[test]
fn who_is_not_there_has_no_name() {
    let full = Record {
        backend: None,
        backend_local: None,
        client: Client::Gone,
        connect_ns: None,
        termination: Termination(Who::Resource, When::Queue),
        reason: Some(EndReason::QueueFull),
        ..record(1)
    };
    let line = json(&full);
    assert!(line.contains(
        r#""client":null,"pool":"db","backend":null,"backend_local":null,"termination":"RQ","reason":"queue_full""#
    ));
    assert!(json(&Record { client: Client::Unix, ..full }).contains(r#""client":"unix:""#));
}

#[test]
fn a_tcplog_line_is_what_haproxy_writes() {
    let line = tcplog(&record(1));
    assert_eq!(line, "192.0.2.7:40000 [31/Dec/2026:23:59:57.000] db db/a 0/1/2500 20 -- 0/0/0/0/0 0/0\n");
    let line = tcplog(&Record { queue_ns: 7_000_000, queue_position: 3, ..retried() });
    assert!(line.contains(" db/b 7/3001/2500 20 -- 0/0/0/0/+1 0/3\n"), "{line}");
    let nobody = Record {
        backend: None,
        connect_ns: None,
        client: Client::Tcp("[2001:db8::1]:7".parse().unwrap()),
        termination: Termination(Who::Server, When::Connect),
        ..record(1)
    };
    assert!(tcplog(&nobody).starts_with("2001:db8::1:7 ["));
    assert!(tcplog(&nobody).contains(" db/<NOSRV> -1/-1/2500 20 SC "), "{}", tcplog(&nobody));
}

#[test]
fn what_goes_on_beside_the_session_is_counted() {
    let (facts, record) = (facts("db"), record(1));
    facts.counts.process_opened();
    facts.stats.workers[0].listeners.get(0).connections.add(2);
    facts.stats.workers[1].listeners.get(0).connections.add(3);
    let load = Load::of(&record, &facts, &facts.names.borrow());
    assert_eq!([load.process, load.listener, load.pool, load.backend], [1, 5, 0, 0]);
}

#[test]
fn a_name_breaks_no_line() {
    let name = "a\"b\n{c} d\u{1b}[31mé";
    let line = line_of(AccessFormat::Json, &record(1), name);
    assert_eq!(line.matches('\n').count(), 1);
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["pool"], name);
    let line = line_of(AccessFormat::Tcplog, &record(1), name);
    assert!(line.contains(" a#22b#0A{c}#20d#1B#5B31m#C3#A9/a "), "{line}");
}

#[test]
fn names_outlive_what_they_name() {
    let facts = facts("db");
    facts.names.borrow_mut().learn(&crate::control::first_table(&Arc::new(config(Vec::new()))));
    let names = facts.names.borrow();
    assert_eq!((names.listener(ListenerId(0)), names.pool(PoolId(0)), names.backend(BackendId(1))), ("db", "db", "b"));
    assert_eq!(names.backends_of(PoolId(0)).count(), 2);
}
