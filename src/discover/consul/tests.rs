//! A service that is followed, at a server that behaves as Consul's and Nomad's do, and one that does not.

mod rules;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::{follow, follow_nomad};
use crate::discover::dns::{Dns, Resolver};
use crate::discover::found::News;
use crate::discover::http::testing::{NewsLog, Stub, StubRequest, Wire, addresses, beside, reply, run};
use crate::discover::settings::{Access, ConsulSource, Endpoint};

/// What such a server has.
#[derive(Clone, Debug)]
struct StubState {
    index: u64,
    body: String,
}

/// An instance as Consul shows it.
fn instance(address: &str, port: u16) -> String {
    format!(
        r#"{{"Node":{{"Node":"n","Address":"10.9.9.9"}},"Service":{{"ID":"db-{address}","Service":"db","Tags":null,
        "Address":"{address}","Port":{port},"Weights":{{"Passing":1,"Warning":1}}}},
        "Checks":[{{"CheckID":"serfHealth","Status":"passing"}}]}}"#
    )
}

fn state(index: u64, instances: &[String]) -> StubState {
    StubState { index, body: format!("[{}]", instances.join(",")) }
}

/// Answers as Consul does: a query with the index that it has waits for another one.
fn blocking(request: &StubRequest, to: &mut dyn Wire, state: &watch::Receiver<StubState>, prefix: &str) {
    let asked: u64 = request.query("index").map_or(0, |text| text.parse().unwrap());
    assert_eq!(request.query("wait").is_some(), asked > 0, "{}", request.path);
    let now = || state.borrow().clone();
    while now().index <= asked && !request.is_over() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let StubState { index, body } = now();
    let headers = [format!("{prefix}-Index: {index}"), format!("{prefix}-KnownLeader: true")];
    reply(to, "200 OK", &[&headers[0], &headers[1], &format!("{prefix}-LastContact: 0")], &body);
}

fn source(endpoint: Endpoint) -> ConsulSource {
    ConsulSource { endpoint, service: "db".to_string(), tag: String::new(), passing: true, access: Access::default() }
}

/// Follows a service while a test looks at what is told.
fn following<T>(source: &ConsulSource, test: impl AsyncFnOnce(&NewsLog) -> T) -> T {
    run(async {
        let (told, resolver) = (NewsLog::default(), Resolver::new(&Dns::default(), None));
        beside(follow(source, &resolver, &|news| told.tell(news)), test(&told)).await
    })
}

#[test]
fn a_change_is_known_while_a_query_waits_for_it() {
    let (set, seen) = watch::channel(state(7, &[instance("10.0.0.1", 1)]));
    let (asked, paths) = std::sync::mpsc::channel();
    let stub = Stub::start(move |request, to| {
        asked.send(request.path.clone()).unwrap();
        blocking(request, to, &seen, "X-Consul");
    });
    let settings = ConsulSource { tag: "a b".to_string(), ..source(stub.endpoint()) };
    following(&settings, async |told| {
        assert_eq!(addresses(&told.answer().await), ["10.0.0.1:1"]);
        // The query that waits.
        while paths.try_recv().is_ok_and(|path| path != "/v1/health/service/db?passing=1&tag=a%20b") {}
        set.send_replace(state(9, &[instance("10.0.0.2", 2), instance("10.0.0.1", 1)]));
        assert_eq!(addresses(&told.answer().await), ["10.0.0.1:1", "10.0.0.2:2"]);
        set.send_replace(state(10, &[]));
        assert!(told.answer().await.found.is_empty());
    });
    let second = paths.recv().unwrap();
    assert!(second.starts_with("/v1/health/service/db?passing=1&tag=a%20b&index=7&wait="), "{second}");
}

#[test]
fn after_an_outage_the_index_starts_anew_and_the_same_answer_is_a_confirmation() {
    let (set, seen) = watch::channel(state(7, &[instance("10.0.0.1", 1)]));
    let serve = move |seen: watch::Receiver<StubState>| {
        move |request: &StubRequest, to: &mut dyn Wire| blocking(request, to, &seen, "X-Consul")
    };
    let stub = Stub::start(serve(seen.clone()));
    let address = stub.address();
    following(&source(stub.endpoint()), async |told| {
        told.answer().await;
        drop(stub);
        let why = told.failure().await;
        assert!(why.starts_with(&format!("http://{address}: ")), "{why}");
        // It has lost its state: an index of before would wait for long.
        set.send_replace(state(3, &[instance("10.0.0.1", 1)]));
        let stub = Stub::listen(address, None, serve(seen.clone()));
        loop {
            match told.next().await {
                News::Failed(_) => {}
                News::Confirmed => break,
                other => panic!("{other:?}"),
            }
        }
        set.send_replace(state(4, &[instance("10.0.0.1", 2)]));
        assert_eq!(addresses(&told.answer().await), ["10.0.0.1:2"]);
        drop(stub);
    });
}

#[test]
fn a_token_that_was_replaced_is_used_for_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let stub = Stub::start(|request, to| match request.header("x-consul-token") {
        Some("right") => reply(to, "200 OK", &["X-Consul-Index: 1"], "[]"),
        _ => reply(to, "403 Forbidden", &[], "ACL not found"),
    });
    let access = Access { token_file: Some(path.clone()), ..Access::default() };
    following(&ConsulSource { access, ..source(stub.endpoint()) }, async |told| {
        let why = told.failure().await;
        assert!(why.contains("token_file") && why.contains("No such file"), "{why}");
        std::fs::write(&path, "wrong\n").unwrap();
        let refused = loop {
            let why = told.failure().await;
            if !why.contains("token_file") {
                break why;
            }
        };
        assert!(refused.ends_with("it answers 403: \"ACL not found\""), "{refused}");
        std::fs::write(&path, "right\n").unwrap();
        assert!(told.answer().await.found.is_empty());
    });
}

/// How many requests such a server gets in two seconds, and what was told last.
fn asked_in_two_seconds(serve: impl Fn(usize, &mut dyn Wire) + Send + Sync + 'static) -> (usize, Option<News>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let stub = Stub::start(move |_, to| serve(counted.fetch_add(1, Ordering::SeqCst), to));
    following(&source(stub.endpoint()), async |told| {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut last = None;
        while let Ok(news) = tokio::time::timeout(Duration::ZERO, told.next()).await {
            last = Some(news);
        }
        (count.load(Ordering::SeqCst), last)
    })
}

#[test]
fn a_broken_server_is_not_asked_in_a_circle() {
    let with = |index: usize, body: &str, to: &mut dyn Wire| {
        reply(to, "200 OK", &[&format!("X-Consul-Index: {index}")], body);
    };
    type Serve = Box<dyn Fn(usize, &mut dyn Wire) + Send + Sync>;
    let busy: [Serve; 3] = [
        Box::new(move |_, to| with(5, "[]", to)),
        Box::new(move |turn, to| with(turn + 1, "[]", to)),
        Box::new(move |turn, to| with(turn + 1, &format!("[{}]", instance("10.0.0.1", turn as u16 + 1)), to)),
    ];
    let failing = [
        (
            "500 Internal Server Error",
            "rpc error: No cluster leader",
            "it answers 500: \"rpc error: No cluster leader\"",
        ),
        ("200 OK", "[{\"Service\":{\"Address\":\"10.0", "its answer makes no sense: EOF"),
        ("200 OK", "<html>", "its answer makes no sense: "),
        ("302 Found", "", "it answers 302"),
    ];
    std::thread::scope(|scope| {
        for serve in busy {
            scope.spawn(|| {
                let (asked, last) = asked_in_two_seconds(serve);
                assert!((2..=3).contains(&asked), "{asked} requests");
                assert!(!matches!(last, Some(News::Failed(_))), "{last:?}");
            });
        }
        for (status, body, says) in failing {
            scope.spawn(move || {
                let (asked, last) = asked_in_two_seconds(move |_, to| reply(to, status, &[], body));
                let Some(News::Failed(why)) = last else { panic!("{last:?}") };
                assert!(why.contains(says), "{why}");
                assert!((2..=5).contains(&asked), "{asked} requests");
            });
        }
        scope.spawn(|| {
            let busy = |_: usize, to: &mut dyn Wire| reply(to, "429 Too Many Requests", &["Retry-After: 9"], "");
            assert_eq!(asked_in_two_seconds(busy).0, 1, "it wants to be left alone for longer");
        });
    });
}

#[test]
fn a_service_of_nomad_is_followed_in_the_same_way() {
    let body = r#"[{"ID":"a","ServiceName":"db","Tags":["main","x"],"Address":"10.0.0.1","Port":20001},
        {"ID":"b","ServiceName":"db","Tags":null,"Address":"10.0.0.2","Port":20002}]"#;
    let (set, seen) = watch::channel(StubState { index: 4, body: body.to_string() });
    let stub = Stub::start(move |request, to| {
        assert!(request.path == "/v1/service/db" || request.path.starts_with("/v1/service/db?index=4&wait="));
        blocking(request, to, &seen, "X-Nomad");
    });
    let settings = ConsulSource { tag: "main".to_string(), ..source(stub.endpoint()) };
    run(async {
        let (told, resolver) = (NewsLog::default(), Resolver::new(&Dns::default(), None));
        beside(follow_nomad(&settings, &resolver, &|news| told.tell(news)), async {
            assert_eq!(addresses(&told.answer().await), ["10.0.0.1:20001"]);
            set.send_replace(StubState { index: 5, body: "[]".to_string() });
            assert!(told.answer().await.found.is_empty());
        })
        .await;
    });
}
