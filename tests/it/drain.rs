//! A backend that is gone from DNS keeps the sessions it has until `drain_timeout`, and gets no new ones.

use std::time::Duration;

use crate::dns::{ips, plan, session, states, wait_serving};
use crate::harness::{Backend, Dns, End, Peer, Ringway, Says, assert_about, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

/// A session of `a`, whose address has just gone, and `b` serves.
fn left_behind(drain_timeout: &str) -> (Ringway, Peer, Dns, [Backend; 2]) {
    let backends = ["a", "b"].map(Backend::named);
    let dns = Dns::with(&ips(&[&backends[0]]));
    let ringway = plan(&dns).pool(&format!("drain_timeout = \"{drain_timeout}\"")).start();
    wait_serving(&ringway, &["a"]);
    let (client, name) = session(&ringway);
    assert_eq!(name, "a");
    dns.say(Says::Addresses(ips(&[&backends[1]]), 1));
    (ringway, client, dns, backends)
}

#[test]
fn sessions_go_on_until_the_deadline_and_are_then_reset() {
    let (ringway, mut client, _dns, _backends) = left_behind("1500ms");
    wait_serving(&ringway, &["b"]);
    client.send(b"still here");
    client.expect(b"still here");
    assert_eq!(client.end(), End::Reset);
    ringway.wait_metrics("it ended because its backend did", |metrics| metrics.ended("DD") == 1);
}

#[test]
fn the_deadline_is_kept() {
    let (ringway, mut client, _dns, _backends) = left_behind("1s");
    let gone = || ringway.process().output().contains("backend is draining");
    wait_until("the address is gone", gone);
    let (took, end) = timed(|| client.end());
    assert_eq!(end, End::Reset);
    assert_about(took, 1000 * MS);
}

#[test]
fn without_a_deadline_they_go_on() {
    let (ringway, mut client, _dns, _backends) = left_behind("0s");
    wait_serving(&ringway, &["b"]);
    assert!(client.is_silent_for(1500 * MS));
    client.send(b"still here");
    client.expect(b"still here");
    client.finish();
    assert_eq!(client.end(), End::Fin);
}

#[test]
fn what_has_lost_its_last_session_is_gone_and_may_return() {
    let (ringway, client, dns, [a, b]) = left_behind("30s");
    wait_serving(&ringway, &["b"]);
    assert_eq!(states(&ringway), [("db".into(), "up")], "the new one has the name");
    dns.say(Says::Addresses(ips(&[&a, &b]), 1));
    wait_serving(&ringway, &["a", "b"]);
    dns.say(Says::Addresses(ips(&[&b]), 1));
    wait_serving(&ringway, &["b"]);
    wait_until("it drains", || states(&ringway).contains(&("db#2".into(), "draining")));
    drop(client);
    wait_until("it is gone", || states(&ringway) == [("db".into(), "up")]);
}
