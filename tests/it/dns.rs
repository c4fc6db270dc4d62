//! Backends behind a name: every address is used, changes are followed, and what DNS fails to say changes nothing
//! (R44).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::harness::ringway::Plan;
use crate::harness::{Backend, Dns, End, Peer, Ringway, Says, timed, wait_until};

const MS: Duration = Duration::from_millis(1);

pub fn ip(backend: &Backend) -> IpAddr {
    backend.address().parse::<SocketAddr>().unwrap().ip()
}

pub fn ips(backends: &[&Backend]) -> Vec<IpAddr> {
    backends.iter().map(|backend| ip(backend)).collect()
}

/// One backend `db` behind a name; all harness backends have the same port. An address that leaves the answers goes
/// immediately.
pub fn plan(dns: &Dns) -> Plan {
    held(dns).pool("obsolete_hold = \"0s\"")
}

/// The same with the holds that are the default.
fn held(dns: &Dns) -> Plan {
    Ringway::plan().backend("db", "db.test:7300", "").environment("RINGWAY_RESOLVER", &dns.address())
}

/// A session, and the name that its backend said.
#[track_caller]
pub fn session(ringway: &Ringway) -> (Peer, String) {
    let mut client = ringway.connect();
    let name = client.read_some(16).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
    (client, name)
}

/// Whether a client is turned away: the reset may come before it knows that it is connected.
pub fn is_refused(ringway: &Ringway) -> bool {
    match Peer::try_connect(ringway.address()) {
        Ok(mut client) => client.drain() == (Vec::new(), End::Reset),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// Which backends serve a number of sessions.
pub fn serving(ringway: &Ringway) -> BTreeSet<String> {
    let name = || {
        let mut client = Peer::try_connect(ringway.address()).ok()?;
        String::from_utf8(client.read_some(16).ok()?).ok()
    };
    (0..8).map(|_| name().unwrap_or_default()).collect()
}

#[track_caller]
pub fn wait_serving(ringway: &Ringway, names: &[&str]) {
    let names: BTreeSet<String> = names.iter().map(|name| name.to_string()).collect();
    wait_until(&format!("{names:?} serve"), || serving(ringway) == names);
}

/// What the metrics call the backends, with what they are.
pub fn states(ringway: &Ringway) -> Vec<(String, &'static str)> {
    let metrics = ringway.metrics();
    let mut all = Vec::new();
    for (name, _) in metrics.by("backend_up", "backend") {
        let is = |state: &&str| metrics.count("backend_state", &[("backend", &name), ("state", state)]) == 1;
        let states =
            ["up", "standby", "down", "ejected", "draining", "maintenance"].into_iter().filter(is).collect::<Vec<_>>();
        assert_eq!(states.len(), 1, "{name} is {states:?}");
        all.push((name, states[0]));
    }
    all.sort();
    all
}

#[test]
fn every_address_of_a_name_is_a_backend() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let dns = Dns::with(&ips(&[&a, &b]));
    let ringway = plan(&dns).start();
    wait_serving(&ringway, &["a", "b"]);
    assert_eq!(states(&ringway), [("db".into(), "up"), ("db#2".into(), "up")]);
}

/// One client would go around until no listener answers any more.
#[test]
fn a_name_that_leads_back_to_its_own_listener_is_down_and_says_why() {
    let backend = Backend::named("a");
    let plan = Ringway::plan();
    let own: SocketAddr = plan.address().parse().unwrap();
    let dns = Dns::with(&[own.ip()]);
    let plan = plan.backend("db", "db.test:7000", "").environment("RINGWAY_RESOLVER", &dns.address());
    let ringway = plan.backend("a", backend.address(), "backup = true").start();
    wait_serving(&ringway, &["a"]);
    ringway.wait_said("it is ringway itself: connections would come back by listener main and go around for ever");
    assert_eq!(states(&ringway), [("a".into(), "up"), ("db".into(), "down")]);
    assert_eq!(ringway.metrics().count("listener_connections_total", &[]), backend.accepted() as u64);
}

#[test]
fn new_sessions_follow_the_addresses_also_without_a_time_to_live() {
    let [a, b, c] = ["a", "b", "c"].map(Backend::named);
    let dns = Dns::new(Says::Addresses(ips(&[&a]), 0));
    let ringway = plan(&dns).start();
    wait_serving(&ringway, &["a"]);
    dns.say(Says::Addresses(ips(&[&a, &b]), 0));
    wait_serving(&ringway, &["a", "b"]);
    dns.say(Says::Addresses(ips(&[&c]), 0));
    wait_serving(&ringway, &["c"]);
    dns.say(Says::Addresses(ips(&[&a]), 0));
    wait_serving(&ringway, &["a"]);
    let codes = ringway.metrics().codes();
    let unserved = codes.iter().filter(|(code, _)| code != "--" && code != "SC" && code != "CD");
    assert_eq!(unserved.count(), 0, "{codes:?}");
}

#[test]
fn what_dns_fails_to_say_changes_nothing() {
    let a = Backend::named("a");
    for says in [Says::NxDomain, Says::Refused, Says::Empty, Says::Nothing, Says::WrongId, Says::Truncated] {
        let dns = Dns::with(&ips(&[&a]));
        let ringway = plan(&dns).start();
        wait_serving(&ringway, &["a"]);
        let (mut client, _) = session(&ringway);
        dns.say(says.clone());
        dns.wait_questions(4);
        assert_eq!(serving(&ringway), ["a".to_string()].into(), "{says:?}");
        client.send(b"still here");
        client.expect(b"still here");
        wait_until("it says so", || ringway.process().output().contains("cannot look up"));
        dns.say(Says::Addresses(ips(&[&a]), 1));
        wait_until("and that it is over", || ringway.process().output().contains("can be looked up again"));
        assert_eq!(states(&ringway), [("db".into(), "up")]);
    }
}

#[test]
fn without_dns_it_starts_refuses_at_once_and_serves_when_dns_is_there() {
    let a = Backend::named("a");
    let dns = Dns::new(Says::Nothing);
    let ringway = plan(&dns).start();
    assert_eq!(states(&ringway), [("db".into(), "down")]);
    let (took, refused) = timed(|| is_refused(&ringway));
    assert!(refused && took < 500 * MS, "{took:?}");
    dns.say(Says::Addresses(ips(&[&a]), 1));
    wait_serving(&ringway, &["a"]);
    assert_eq!(states(&ringway), [("db".into(), "up")]);
}

/// As every program knows it, whatever DNS says.
#[test]
fn localhost_is_this_host() {
    let a = Backend::named_at("127.0.0.1:0", "a");
    let dns = Dns::new(Says::NxDomain);
    let port = a.address().parse::<SocketAddr>().unwrap().port();
    let plan = Ringway::plan().backend("db", &format!("localhost:{port}"), "");
    let ringway = plan.environment("RINGWAY_RESOLVER", &dns.address()).start();
    wait_serving(&ringway, &["a"]);
}

/// Each address has its own checks, and one that is down is down alone.
#[test]
fn an_address_that_does_not_answer_is_left_out() {
    let (a, b) = (Backend::named("a"), Backend::named("b"));
    let dns = Dns::with(&ips(&[&a, &b]));
    let ringway = plan(&dns).checked(2, 2).start();
    wait_serving(&ringway, &["a", "b"]);
    b.kill();
    wait_until("one is down", || states(&ringway).iter().filter(|(_, state)| *state == "down").count() == 1);
    assert_eq!(serving(&ringway), ["a".to_string()].into());
}

/// Lookups wait for nothing else, and nothing else waits for them.
#[test]
fn sessions_do_not_wait_for_a_dns_that_hangs() {
    let a = Backend::named("a");
    let dns = Dns::new(Says::Nothing);
    let ringway = plan(&dns).backend("fixed", a.address(), "").start();
    for _ in 0..20 {
        let (took, (_, name)) = timed(|| session(&ringway));
        assert!(name == "a" && took < 500 * MS, "{name:?} after {took:?}");
    }
}

/// Whether a session is still relayed.
fn lives(client: &mut Peer) -> bool {
    client.write_all(b"x").is_ok() && client.read_some(1).is_ok_and(|bytes| bytes == b"x")
}

/// Load balancers in front of many servers answer with some of them, and with others the next time.
#[test]
fn sessions_live_on_whatever_part_of_its_addresses_a_name_answers_with() {
    let backends = ["a", "b", "c"].map(Backend::named);
    let dns = Dns::new(Says::Addresses(ips(&[&backends[0], &backends[1]]), 0));
    let ringway = held(&dns).pool("drain_timeout = \"1ms\"").checked(1, 2).start();
    wait_serving(&ringway, &["a", "b"]);
    let mut clients: Vec<Peer> = (0..6).map(|_| session(&ringway).0).collect();
    for turn in 0..3 {
        dns.say(Says::Addresses(ips(&[&backends[turn], &backends[(turn + 1) % 3]]), 0));
        dns.wait_questions(4);
    }
    assert!(clients.iter_mut().all(lives));
    wait_serving(&ringway, &["a", "b", "c"]);
    ringway.wait_metrics("no other is left", |metrics| metrics.count("backend_connections", &[]) == 6);
}

#[test]
fn an_address_that_has_left_its_name_loses_its_sessions_when_its_check_fails() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let dns = Dns::with(&ips(&[&a]));
    let plan = held(&dns).pool("obsolete_hold = \"2s\"\ndrain_timeout = \"1ms\"").checked(1, 2);
    let ringway = plan.start();
    wait_serving(&ringway, &["a"]);
    let (mut client, _) = session(&ringway);
    dns.say(Says::Addresses(ips(&[&b]), 1));
    wait_serving(&ringway, &["a", "b"]);
    wait_serving(&ringway, &["b"]);
    assert!(lives(&mut client), "no name ends a session");
    a.kill();
    assert_eq!(client.end(), End::Reset, "its checks do");
}

/// At the old address of a name a stranger may answer one day.
#[test]
fn a_name_that_is_denied_serves_nobody_after_a_while() {
    let a = Backend::named("a");
    let dns = Dns::with(&ips(&[&a]));
    let ringway = held(&dns).pool("denied_hold = \"2s\"").checked(1, 2).start();
    wait_serving(&ringway, &["a"]);
    let (mut client, _) = session(&ringway);
    dns.say(Says::NxDomain);
    dns.wait_questions(2);
    assert_eq!(serving(&ringway), ["a".to_string()].into());
    wait_serving(&ringway, &[""]);
    assert!(lives(&mut client));
    wait_until("it says why", || {
        let pool = ringway.api().get("/v1/pools/main").to_string();
        pool.contains("its name has no address: it is not in /etc/hosts; DNS (127.0.0.1:")
    });
    dns.say(Says::Addresses(ips(&[&a]), 1));
    wait_serving(&ringway, &["a"]);
}

#[test]
fn only_addresses_of_the_family_that_is_wanted_are_used() {
    let a = Backend::named("a");
    let dns = Dns::with(&[ip(&a), "fd00::1".parse().unwrap()]);
    let ringway = held(&dns).pool("address_family = \"ipv4\"").start();
    wait_serving(&ringway, &["a"]);
    assert_eq!(states(&ringway), [("db".into(), "up")]);
}

/// `[dns]` names the servers, the first one that knows something counts, and a reload can name others.
#[test]
fn name_servers_of_the_configuration_are_asked_in_their_order() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let [broken, first, second] =
        [Says::Refused, Says::Addresses(ips(&[&a]), 1), Says::Addresses(ips(&[&b]), 1)].map(Dns::new);
    let servers = |all: [&Dns; 2]| format!("servers = [{:?}, {:?}]", all[0].address(), all[1].address());
    let plan = Ringway::plan().backend("db", "db.test:7300", "").pool("obsolete_hold = \"0s\"");
    let ringway = plan.more(&format!("[dns]\n{}\ntimeout = \"1s\"", servers([&broken, &first]))).start();
    wait_serving(&ringway, &["a"]);
    ringway.change(&servers([&broken, &first]), &servers([&second, &first]));
    wait_serving(&ringway, &["b"]);
}
