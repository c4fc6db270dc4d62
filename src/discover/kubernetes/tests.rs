//! A service that is followed, at a server that behaves as that of Kubernetes does, and goes wrong as it does.

use std::time::Duration;

use serde_json::{Value, json};

use super::follow;
use super::testing::{ApiFault, ApiServer};
use crate::discover::dns::{Dns, Resolver};
use crate::discover::found::News;
use crate::discover::http::testing::{NewsLog, Stub, addresses, begin_chunks, beside, chunk, reply, run};
use crate::discover::settings::KubernetesSource;

/// Follows the service of a server while a test looks at what is told. The kubeconfig is in that folder.
fn following_as<T>(user: &str, server: &ApiServer, test: impl AsyncFnOnce(&NewsLog) -> T) -> T {
    following_file(&server.kubeconfig(user), test)
}

/// The same with this kubeconfig.
fn following_file<T>(kubeconfig: &str, test: impl AsyncFnOnce(&NewsLog) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, kubeconfig).unwrap();
    let settings = KubernetesSource {
        service: "db".to_string(),
        namespace: String::new(),
        port: "pg".to_string(),
        kubeconfig: Some(path),
    };
    run(async {
        let (told, resolver) = (NewsLog::default(), Resolver::new(&Dns::default(), None));
        beside(follow(&settings, &resolver, &|news| told.tell(news)), test(&told)).await
    })
}

fn following<T>(server: &ApiServer, test: impl AsyncFnOnce(&NewsLog) -> T) -> T {
    following_as("token: x", server, test)
}

fn ready(address: &str) -> (&str, Value) {
    (address, json!({"ready": true}))
}

/// Waits until the server is asked for a watch.
async fn watched(server: &ApiServer) {
    loop {
        while let Ok((path, _)) = server.asked.try_recv() {
            if path.contains("&watch=1") {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_service_is_listed_and_its_changes_are_told() {
    let server = ApiServer::start();
    following(&server, async |told| {
        assert!(told.answer().await.found.is_empty(), "a service without slices");
        server.put("db-1", &[ready("10.0.0.1"), ("10.0.0.2", json!({"ready": false}))]);
        let answer = told.answer().await;
        assert_eq!(addresses(&answer), ["10.0.0.1:5432", "10.0.0.2:5432"]);
        assert_eq!(answer.found[1].rests.as_deref(), Some("not ready, says Kubernetes"));
        server.put("db-2", &[ready("10.0.0.3"), ready("10.0.0.1")]);
        assert_eq!(addresses(&told.answer().await).len(), 3, "the same address is in two slices");
        server.delete("db-1");
        assert_eq!(addresses(&told.answer().await), ["10.0.0.1:5432", "10.0.0.3:5432"]);
    });
}

#[test]
fn a_burst_of_changes_is_one_answer() {
    let server = ApiServer::start();
    server.put("db-0", &[ready("10.0.1.1")]);
    following(&server, async |told| {
        told.answer().await;
        watched(&server).await;
        for number in 1..=50 {
            server.put("db-0", &[ready(&format!("10.0.1.{number}"))]);
        }
        let mut answers = 0;
        while addresses(&told.answer().await) != ["10.0.1.50:5432"] {
            answers += 1;
        }
        assert!(answers < 10, "{answers} answers");
    });
}

#[test]
fn many_slices_come_in_pages() {
    let server = ApiServer::start();
    for number in 0..7 {
        server.put(&format!("db-{number}"), &[ready(&format!("10.0.0.{}", number + 1))]);
    }
    server.page(3);
    following(&server, async |told| {
        assert_eq!(told.answer().await.found.len(), 7);
    });
    let pages = server.asked.try_iter().filter(|(path, _)| path.contains("&limit=")).count();
    assert_eq!(pages, 3);
}

#[test]
fn what_is_gone_is_listed_anew_without_a_failure() {
    let server = ApiServer::start();
    server.put("db-1", &[ready("10.0.0.1")]);
    following(&server, async |told| {
        told.answer().await;
        for (number, gone) in [ApiFault::GoneEvent, ApiFault::Status(410)].into_iter().enumerate() {
            watched(&server).await;
            // The watch ends with the change, and the next one finds that its version has gone.
            server.fault(ApiFault::CutLine);
            server.put("db-1", &[ready("10.0.0.9")]);
            while !server.has_failed() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server.fault(gone);
            server.compact();
            server.put("db-1", &[ready(&format!("10.0.2.{number}"))]);
            loop {
                match told.next().await {
                    News::Answer(answer) if addresses(&answer) == [format!("10.0.2.{number}:5432")] => break,
                    News::Failed(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn a_connection_that_is_cut_in_a_line_loses_no_change() {
    let server = ApiServer::start();
    server.put("db-1", &[ready("10.0.0.1")]);
    following(&server, async |told| {
        told.answer().await;
        watched(&server).await;
        server.fault(ApiFault::CutLine);
        server.put("db-1", &[ready("10.0.0.2")]);
        loop {
            match told.next().await {
                News::Answer(answer) => break assert_eq!(addresses(&answer), ["10.0.0.2:5432"]),
                News::Failed(why) => panic!("a cut is no failure: {why}"),
                _ => {}
            }
        }
    });
}

#[test]
fn an_outage_is_a_failure_that_ends_and_what_changed_meanwhile_is_told() {
    let server = ApiServer::start();
    server.put("db-1", &[ready("10.0.0.1")]);
    let kubeconfig = server.kubeconfig("token: x");
    following_file(&kubeconfig, async move |told| {
        told.answer().await;
        let down = server.stop();
        let why = told.failure().await;
        assert!(why.contains("cannot connect"), "{why}");
        let server = down.start();
        server.compact();
        server.put("db-1", &[ready("10.0.0.2")]);
        assert_eq!(addresses(&told.answer().await), ["10.0.0.2:5432"]);
    });
}

#[test]
fn refusals_are_told_with_what_the_server_says_and_it_is_asked_again() {
    for (fault, says) in [
        (ApiFault::Status(403), "it answers 403"),
        (ApiFault::Status(500), "it answers 500"),
        (ApiFault::Status(503), "it answers 503"),
        (ApiFault::Busy, "it answers 429"),
    ] {
        let server = ApiServer::start();
        server.put("db-1", &[ready("10.0.0.1")]);
        server.fault(fault);
        following(&server, async |told| {
            let News::Failed(why) = told.next().await else { panic!("{fault:?} is a failure") };
            assert!(why.contains(says) && why.contains(&server.address().to_string()), "{why}");
            assert_eq!(addresses(&told.answer().await), ["10.0.0.1:5432"]);
        });
    }
}

#[test]
fn a_token_that_was_replaced_is_used_for_the_next_request() {
    let server = ApiServer::start();
    server.put("db-1", &[ready("10.0.0.1")]);
    server.take_token("second");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "first\n").unwrap();
    following_as(&format!("tokenFile: {}", path.display()), &server, async |told| {
        let why = told.failure().await;
        assert!(why.contains("it answers 401"), "{why}");
        std::fs::write(&path, "second\n").unwrap();
        assert_eq!(addresses(&told.answer().await), ["10.0.0.1:5432"]);
    });
    let tokens: Vec<_> = server.asked.try_iter().filter_map(|(_, token)| token).collect();
    assert_eq!((&*tokens[0], &**tokens.last().unwrap()), ("Bearer first", "Bearer second"));
}

#[test]
fn a_watch_that_sends_garbage_is_a_trouble_that_ends() {
    let server = ApiServer::start();
    server.put("db-1", &[ready("10.0.0.1")]);
    server.fault(ApiFault::Garbage);
    following(&server, async |told| {
        assert_eq!(told.answer().await.trouble, None);
        let answer = told.answer().await;
        assert!(answer.trouble.as_ref().is_some_and(|why| why.contains("its watch makes no sense")));
        assert_eq!(addresses(&answer), ["10.0.0.1:5432"]);
        assert_eq!(told.answer().await.trouble, None, "the next watch works");
    });
}

/// A server that answers every list with nothing, and every watch with this without end.
fn flood(text: &'static str) -> Stub {
    Stub::start(move |request, to| match request.path.contains("&watch=1") {
        false => {
            let list = json!({"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"}, "items": null});
            reply(to, "200 OK", &[], &list.to_string());
        }
        true => {
            begin_chunks(to);
            while !request.is_over() && chunk(to, text).is_ok() {}
        }
    })
}

#[test]
fn a_flood_without_end_is_left_and_is_a_trouble() {
    for (text, says) in [("x".repeat(60_000), "more than"), ("garbage\n".repeat(5000), "makes no sense")] {
        let stub = flood(text.leak());
        let kubeconfig = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'http://{}'}}}}]\n",
            stub.address()
        );
        following_file(&kubeconfig, async |told| {
            assert_eq!(told.answer().await.trouble, None);
            let trouble = told.answer().await.trouble.unwrap();
            assert!(trouble.contains(says), "{trouble}");
        });
    }
}
