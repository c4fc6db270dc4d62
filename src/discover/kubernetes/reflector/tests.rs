use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::discover::kubernetes::slices::tests::any_json;

/// A slice with that name, version and address.
fn slice(name: &str, version: u64, address: &str) -> serde_json::Value {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}, "addressType": "IPv4",
        "endpoints": [{"addresses": [address]}], "ports": [{"port": 1}]})
}

fn page(version: &str, continues: &str, items: &[serde_json::Value]) -> ReflectorEvent {
    let metadata = json!({"resourceVersion": version, "continue": continues});
    let page = json!({"kind": "EndpointSliceList", "metadata": metadata, "items": items});
    ReflectorEvent::Page(page.to_string().into_bytes())
}

fn line(kind: &str, object: &serde_json::Value) -> ReflectorEvent {
    ReflectorEvent::Line(json!({"type": kind, "object": object}).to_string().into_bytes())
}

fn refused(status: u16) -> ReflectorEvent {
    ReflectorEvent::Refused { status, why: format!("it answers {status}"), retry_after: None }
}

/// The addresses of an answer.
fn addresses(news: Option<News>) -> Vec<String> {
    let Some(News::Answer(answer)) = news else { panic!("no answer: {news:?}") };
    answer.found.iter().map(|found| found.address()).collect()
}

/// One that has listed a slice with 10.0.0.1 at version 5, and watches.
fn watching() -> Reflector {
    let mut reflector = Reflector::new("db", "");
    let (news, next) = reflector.on(page("5", "", &[slice("a", 4, "10.0.0.1")]), 0);
    assert_eq!((addresses(news), next), (vec!["10.0.0.1:1".to_string()], ReflectorNext::Ask(Duration::ZERO)));
    reflector
}

/// Whether it lists next, and from where else it watches.
fn asked(reflector: &Reflector) -> String {
    match reflector.ask("ns", 0) {
        ReflectorAsk::List { path } => match path.split_once("&continue=") {
            Some((_, continues)) => format!("list {continues}"),
            None => "list".to_string(),
        },
        ReflectorAsk::Watch { path, .. } => {
            let version = path.split_once("&resourceVersion=").unwrap().1.split('&').next().unwrap();
            format!("watch {version}")
        }
    }
}

#[test]
fn what_is_asked_names_the_service_and_is_what_the_api_takes() {
    let mut reflector = Reflector::new("db", "");
    let base =
        "/apis/discovery.k8s.io/v1/namespaces/my%20ns/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Ddb";
    assert_eq!(reflector.ask("my ns", 0), ReflectorAsk::List { path: format!("{base}&limit=100") });
    reflector.on(page("5/x", "", &[]), 0);
    let path = format!("{base}&watch=1&allowWatchBookmarks=true&resourceVersion=5%2Fx&timeoutSeconds=47");
    assert_eq!(reflector.ask("my ns", 13), ReflectorAsk::Watch { path, lasts: Duration::from_secs(47) });
    for chance in 0..100 {
        let ReflectorAsk::Watch { lasts, .. } = reflector.ask("ns", chance) else { panic!("it watches") };
        assert!((45..=60).contains(&lasts.as_secs()), "a token that was replaced is used within 75 s");
    }
}

#[test]
fn a_list_in_pages_is_told_when_it_is_whole() {
    let mut reflector = Reflector::new("db", "");
    let (news, next) = reflector.on(page("5", "more+", &[slice("a", 4, "10.0.0.1")]), 0);
    assert_eq!((news, next, asked(&reflector)), (None, ReflectorNext::Ask(Duration::ZERO), "list more%2B".to_string()));
    let (news, _) = reflector.on(page("5", "", &[slice("b", 3, "10.0.0.2")]), 0);
    assert_eq!((addresses(news).len(), asked(&reflector)), (2, "watch 5".to_string()));
}

#[test]
fn a_list_whose_continuation_has_expired_starts_anew() {
    let mut reflector = Reflector::new("db", "");
    reflector.on(page("5", "more", &[slice("a", 4, "10.0.0.1")]), 0);
    let (news, _) = reflector.on(refused(410), 0);
    assert_eq!((news, asked(&reflector)), (None, "list".to_string()));
    let (news, _) = reflector.on(page("9", "", &[slice("b", 8, "10.0.0.2")]), 0);
    assert_eq!(addresses(news), ["10.0.0.2:1"], "what came before counts no more");
    let mut reflector = Reflector::new("db", "");
    assert!(matches!(reflector.on(refused(410), 0).0, Some(News::Failed(_))), "a list cannot have expired");
}

#[test]
fn changes_are_told_and_the_watch_goes_on_from_the_last_one() {
    let mut reflector = watching();
    assert_eq!(reflector.on(line("ADDED", &slice("b", 6, "10.0.0.2")), 0), (None, ReflectorNext::Read));
    assert_eq!(reflector.on(line("MODIFIED", &slice("a", 7, "10.0.0.3")), 0), (None, ReflectorNext::Read));
    assert_eq!(addresses(reflector.flush()), ["10.0.0.2:1", "10.0.0.3:1"]);
    assert_eq!(reflector.flush(), None);
    reflector.on(line("DELETED", &slice("a", 8, "10.0.0.3")), 0);
    reflector.on(line("BOOKMARK", &json!({"metadata": {"resourceVersion": "12"}})), 0);
    assert_eq!(addresses(reflector.flush()), ["10.0.0.2:1"]);
    reflector.on(line("LATER", &json!(7)), 0);
    let (news, next) = reflector.on(ReflectorEvent::WatchEnded(Duration::from_secs(50)), 0);
    assert_eq!((news, next), (Some(News::Confirmed), ReflectorNext::Ask(Duration::ZERO)));
    assert_eq!(asked(&reflector), "watch 12");
}

#[test]
fn a_version_that_has_gone_is_listed_anew_and_is_no_failure() {
    let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
    for gone in [line("ERROR", &status), refused(410), line("ERROR", &json!({"reason": "Expired"}))] {
        let mut reflector = watching();
        let (news, next) = reflector.on(gone, 0);
        assert_eq!((news, next, asked(&reflector)), (None, ReflectorNext::Ask(PAUSE_LEAST), "list".to_string()));
        let (news, _) = reflector.on(page("9", "", &[slice("a", 4, "10.0.0.1")]), 0);
        assert_eq!((news, asked(&reflector)), (Some(News::Confirmed), "watch 9".to_string()));
    }
}

#[test]
fn a_watch_that_breaks_goes_on_and_is_no_failure() {
    let mut reflector = watching();
    reflector.on(line("ADDED", &slice("b", 6, "10.0.0.2")), 0);
    let (news, _) = reflector.on(ReflectorEvent::WatchEnded(Duration::from_millis(10)), 0);
    assert_eq!(addresses(news).len(), 2, "what has come counts");
    assert_eq!(asked(&reflector), "watch 6");
    let (news, _) = reflector.on(ReflectorEvent::Failed("no connection".to_string()), 0);
    assert_eq!((news, asked(&reflector)), (Some(News::Failed("no connection".to_string())), "watch 6".to_string()));
    assert_eq!(
        reflector.on(ReflectorEvent::Quiet, 0),
        (Some(News::Confirmed), ReflectorNext::Read),
        "the outage is over"
    );
    assert_eq!(reflector.on(ReflectorEvent::Quiet, 0), (None, ReflectorNext::Read));
}

#[test]
fn a_watch_that_does_not_work_is_a_trouble_and_lists_take_its_place() {
    let expired = json!({"code": 500, "message": "etcd is gone"});
    for (fault, says) in [
        (ReflectorEvent::Line(b"garbage".to_vec()), "its watch makes no sense"),
        (line("ADDED", &json!(7)), "its watch makes no sense"),
        (line("ADDED", &json!({})), "has no name"),
        (line("ERROR", &expired), "its watch ends with an error: \"etcd is gone\""),
        (ReflectorEvent::WatchFault("a line is too long".to_string()), "a line is too long"),
        (refused(403), "it answers 403"),
        (refused(500), "it answers 500"),
    ] {
        let mut reflector = watching();
        for round in 0..3 {
            let (news, next) = reflector.on(fault.clone(), 0);
            assert!(matches!(next, ReflectorNext::Ask(pause) if pause >= PAUSE_LEAST), "{next:?}");
            assert_eq!((news, asked(&reflector)), (None, "list".to_string()), "round {round}");
            let (news, _) = reflector.on(page("9", "", &[slice("a", 4, "10.0.0.1")]), 0);
            let Some(News::Answer(answer)) = news else { panic!("{news:?}") };
            assert!(answer.trouble.as_ref().is_some_and(|why| why.contains(says)), "{:?}", answer.trouble);
        }
        let (news, _) = reflector.on(ReflectorEvent::Quiet, 0);
        let Some(News::Answer(answer)) = news else { panic!("the trouble is over: {news:?}") };
        assert_eq!(answer.trouble, None);
    }
}

#[test]
fn watches_that_end_immediately_do_not_hide_changes() {
    let mut reflector = watching();
    for _ in 0..SHORT_WATCHES_MAX {
        assert_eq!(reflector.on(ReflectorEvent::WatchEnded(Duration::ZERO), 0).0, None);
        assert_eq!(asked(&reflector), "watch 5");
    }
    reflector.on(ReflectorEvent::WatchEnded(Duration::ZERO), 0);
    assert_eq!(asked(&reflector), "list");
}

#[test]
fn a_refused_list_or_token_is_a_failure_and_nothing_is_forgotten() {
    let mut reflector = watching();
    for status in [401, 429] {
        assert!(matches!(reflector.on(refused(status), 0).0, Some(News::Failed(_))));
        assert_eq!(asked(&reflector), "watch 5");
    }
    let busy = ReflectorEvent::Refused { status: 429, why: String::new(), retry_after: Some(Duration::from_secs(9)) };
    assert_eq!(reflector.on(busy, 0).1, ReflectorNext::Ask(Duration::from_secs(9)));
    let away = ReflectorEvent::Refused { status: 429, why: String::new(), retry_after: Some(Duration::MAX) };
    assert_eq!(reflector.on(away, 0).1, ReflectorNext::Ask(RETRY_AFTER_MOST), "a server cannot send us away for ever");
    let mut reflector = Reflector::new("db", "");
    for event in
        [refused(403), refused(503), ReflectorEvent::Page(b"garbage".to_vec()), ReflectorEvent::Page(b"{}".to_vec())]
    {
        let (news, _) = reflector.on(event, 0);
        assert!(matches!(news, Some(News::Failed(_))), "{news:?}");
        assert_eq!(asked(&reflector), "list");
    }
}

#[test]
fn no_server_gets_more_than_three_requests_per_second_on_errors() {
    let list = || page("9", "", &[slice("a", 4, "10.0.0.1")]);
    for fault in [refused(410), refused(500), refused(401), ReflectorEvent::WatchEnded(Duration::ZERO)] {
        for chance in [0, u64::MAX] {
            let (mut reflector, mut now, mut requests) = (Reflector::new("db", ""), Duration::ZERO, Vec::new());
            while now < Duration::from_secs(60) {
                requests.push(now);
                let event = if asked(&reflector).starts_with("list") { list() } else { fault.clone() };
                if let (_, ReflectorNext::Ask(pause)) = reflector.on(event, chance) {
                    now += pause;
                }
            }
            for window in requests.windows(4) {
                let took = window[3] - window[0];
                assert!(took >= PAUSE_LEAST, "{fault:?}: {window:?}");
            }
            assert!(requests.len() <= 40, "{fault:?}: {} requests per minute", requests.len());
        }
    }
}

#[test]
fn a_port_that_is_missing_stays_a_failure_until_it_is_there() {
    let mut reflector = Reflector::new("db", "pg");
    let (news, _) = reflector.on(page("5", "", &[slice("a", 4, "10.0.0.1")]), 0);
    assert!(matches!(&news, Some(News::Failed(why)) if why.contains("no port \"pg\"")), "{news:?}");
    let (news, _) = reflector.on(ReflectorEvent::WatchEnded(Duration::from_secs(50)), 0);
    assert!(matches!(news, Some(News::Failed(_))), "{news:?}");
    let mut named = slice("a", 6, "10.0.0.1");
    named["ports"] = json!([{"name": "pg", "port": 2}]);
    reflector.on(line("MODIFIED", &named), 0);
    assert_eq!(addresses(reflector.flush()), ["10.0.0.1:2"]);
}

#[test]
fn a_list_without_end_has_one() {
    let mut reflector = Reflector::new("db", "");
    for _ in 1..PAGES_MAX {
        assert_eq!(reflector.on(page("5", "more", &[]), 0).0, None);
    }
    assert!(matches!(reflector.on(page("5", "more", &[]), 0).0, Some(News::Failed(_))));
    assert_eq!(asked(&reflector), "list");
}

proptest! {
    #[test]
    fn no_reply_breaks_anything(
        replies in prop::collection::vec((any_json(), 0..6u8, any::<u16>()), 1..12),
        chance: u64,
    ) {
        let mut reflector = Reflector::new("db", "");
        for (json, kind, number) in replies {
            let bytes = json.to_string().into_bytes();
            let event = match kind {
                0 => ReflectorEvent::Page(bytes),
                1 => ReflectorEvent::Line(bytes),
                2 => ReflectorEvent::Line(json!({"type": "ADDED", "object": json}).to_string().into_bytes()),
                3 => ReflectorEvent::Page(
                    json!({"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"}, "items": [json]})
                        .to_string().into_bytes(),
                ),
                4 => refused(number),
                _ => ReflectorEvent::WatchEnded(Duration::from_millis(number.into())),
            };
            let (news, next) = reflector.on(event, chance);
            if let (Some(News::Failed(_)), ReflectorNext::Ask(pause)) = (&news, &next)
                && !matches!(kind, 3 | 5)
            {
                prop_assert!(*pause >= PAUSE_LEAST);
            }
            let _ = reflector.flush();
        }
    }
}
