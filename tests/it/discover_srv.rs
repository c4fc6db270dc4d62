//! Backends in SRV records: priorities are levels, and what DNS fails to say changes nothing.

use crate::dns::{ip, wait_serving};
use crate::harness::{Backend, Dns, Ringway, Says, wait_until};

/// Records of these backends, each with its priority and its name.
fn services(all: &[(u16, &str, &Backend)]) -> Says {
    let port = |backend: &Backend| backend.address().rsplit(':').next().unwrap().parse().unwrap();
    Says::Services(
        all.iter().map(|(priority, name, it)| (*priority, 1, port(it), format!("{name}.test."))).collect(),
        1,
    )
}

/// A server that says this of the service, and that knows the addresses of both hosts.
fn dns(says: Says, a: &Backend, b: &Backend) -> Dns {
    let host = |name: &str, it: &Backend| (format!("{name}.test."), Says::Addresses(vec![ip(it)], 1));
    Dns::naming(says, vec![host("a", a), host("b", b)])
}

fn start(dns: &Dns, more: &str) -> Ringway {
    Ringway::plan()
        .pool(&format!("obsolete_hold = \"0s\"\n{more}"))
        .more("[pools.main.discover]\ntype = \"srv\"\nname = \"_db._tcp.test\"\n")
        .environment("RINGWAY_RESOLVER", &dns.address())
        .start()
}

#[test]
fn targets_are_looked_up_and_priorities_are_levels_of_backups() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let dns = dns(services(&[(10, "a", &a), (20, "b", &b)]), &a, &b);
    let ringway = start(&dns, "");
    wait_serving(&ringway, &["a"]);
    wait_until("the backup is there", || {
        let backends = ringway.api().get("/v1/pools/main")["backends"].clone();
        backends.as_array().unwrap().iter().any(|it| it["backup_level"] == 1 && it["origin"] == "srv")
    });
    assert_eq!(ringway.metrics().count("discovery_backends", &[("pool", "main")]), 2);
    ringway.stop();
}

#[test]
fn targets_come_and_go_and_a_server_that_cannot_say_changes_nothing() {
    let [a, b] = ["a", "b"].map(Backend::named);
    let dns = dns(services(&[(10, "a", &a)]), &a, &b);
    let ringway = start(&dns, "");
    wait_serving(&ringway, &["a"]);
    dns.say(services(&[(10, "a", &a), (10, "b", &b)]));
    wait_serving(&ringway, &["a", "b"]);
    dns.say(Says::Refused);
    wait_until("it is seen", || ringway.metrics().count("discovery_up", &[("pool", "main")]) == 0);
    wait_serving(&ringway, &["a", "b"]);
    dns.say(services(&[(10, "b", &b)]));
    wait_serving(&ringway, &["b"]);
    wait_until("all is well", || ringway.metrics().count("discovery_up", &[("pool", "main")]) == 1);
    dns.say(Says::NxDomain);
    dns.wait_questions(4);
    wait_serving(&ringway, &["b"]);
    ringway.stop();
}
