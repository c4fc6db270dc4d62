use super::*;
use crate::health::agent::Advice;
use crate::health::ask::{CheckTls, Trust};

fn with_agent(backends: &[&str]) -> Vec<Pool> {
    let mut pools = vec![pool("p", backends)];
    check_of(&mut pools[0]).agent_port = Some(6666);
    pools[0].backends.iter_mut().for_each(|backend| backend.weight = 100);
    pools
}

impl Rig {
    /// The agent of a backend sends that line.
    fn advise(&mut self, name: &str, line: &str) {
        let watch = self.seat(name).agent_watch.unwrap();
        let (begun, advice) = (self.now, Finding::Advice(Advice::parse(line.as_bytes()).unwrap()));
        self.now = self.now.after_ns(MS);
        self.changes = self.fleet.on_check(watch, begun, &advice, self.now);
    }

    fn weights(&mut self) -> Vec<u16> {
        self.entries().iter().map(|entry| entry.weight).collect()
    }
}

#[test]
fn an_agent_is_asked_at_its_own_port_of_the_same_host_in_its_own_pace() {
    let mut pools = with_agent(&["a", "b"]);
    // The same host: one agent speaks for both.
    pools[0].backends[1].target = Target::Address(Address::Tcp(([10, 0, 0, 1], 9).into()));
    let rig = rig(pools);
    let agents: Vec<(String, usize)> = rig
        .fleet
        .watches()
        .filter(|(_, watch)| watch.key.kind == CheckKind::Agent)
        .map(|(_, watch)| (watch.key.target.to_string(), watch.subscribers.len()))
        .collect();
    assert_eq!(agents, [("10.0.0.1:6666".to_string(), 2)]);
    let agent = rig.seat("a").agent_watch.unwrap();
    assert_eq!(rig.fleet.pause_ns(agent, 0), 1800 * MS, "the steady interval, less a tenth");
}

#[test]
fn an_agent_changes_the_weight_and_takes_a_backend_out_and_back() {
    let mut rig = rig(with_agent(&["a"]));
    rig.succeed("a");
    rig.advise("a", "50%");
    assert_eq!((rig.weights(), rig.changes.table), (vec![50], true));
    rig.advise("a", "50%");
    assert!(!rig.changes.table, "nothing new");
    rig.advise("a", "0%");
    assert!(!rig.seat("a").is_usable());
    rig.advise("a", "100% drain");
    assert_eq!((rig.state("a"), rig.reason("a")), (State::Draining, "drained by its agent".to_string()));
    rig.advise("a", "up");
    assert_eq!(rig.state("a"), State::Draining, "that ends no drain");
    rig.advise("a", "maint");
    assert_eq!(rig.state("a"), State::Maintenance);
    rig.succeed("a");
    rig.advise("a", "ready");
    assert_eq!((rig.state("a"), rig.weights()), (State::Up, vec![100]));
    rig.advise("a", "down # disk is full");
    assert_eq!((rig.state("a"), rig.reason("a")), (State::Down, "its agent says down, disk is full".to_string()));
    rig.succeed("a");
    assert_eq!(rig.state("a"), State::Down, "whatever its checks say");
    rig.advise("a", "up");
    assert_eq!(rig.state("a"), State::Up);
}

#[test]
fn what_an_operator_has_ordered_stands_above_it() {
    let mut rig = rig(with_agent(&["a"]));
    rig.succeed("a");
    let set = |rig: &mut Rig, mode| rig.set("p", "a", Change { state: Some(mode), ..Change::default() });
    set(&mut rig, crate::fleet::order::Mode::Drain);
    for line in ["up", "ready", "down", "maint"] {
        rig.advise("a", line);
        assert_eq!(rig.reason("a"), "drained by me", "{line}");
    }
    rig.advise("a", "ready up");
    set(&mut rig, crate::fleet::order::Mode::Maintenance);
    assert!(rig.seat("a").agent_watch.is_none(), "nothing of it is asked in maintenance");
    set(&mut rig, crate::fleet::order::Mode::Ready);
    rig.advise("a", "drain");
    assert_eq!(rig.state("a"), State::Draining);
}

#[test]
fn sessions_of_a_server_that_its_agent_calls_down_are_cut_only_for_another_that_can_take_them() {
    let mut pools = with_agent(&["a", "b"]);
    // On another host, and so with another agent.
    pools[0].backends[1].target = Target::Address(Address::Tcp(([10, 0, 0, 2], 9).into()));
    let mut rig = rig(pools);
    rig.succeed("a");
    rig.succeed("b");
    rig.advise("a", "down");
    assert_eq!(rig.ended(), [""; 0], "nothing shows yet that b takes them");
    rig.pass(S);
    rig.succeed("b");
    assert_eq!(rig.ended(), ["a"]);
}

#[test]
fn an_agent_that_is_away_or_gone_changes_nothing_and_is_forgotten_with_its_port() {
    let mut rig = rig(with_agent(&["a"]));
    rig.succeed("a");
    rig.advise("a", "drain 10%");
    let watch = rig.seat("a").agent_watch.unwrap();
    for finding in [Finding::Failure("refused".into()), Finding::Unknown("its agent: refused".into())] {
        rig.changes = rig.fleet.on_check(watch, rig.now, &finding, rig.now);
        assert_eq!((rig.state("a"), rig.weights(), rig.changes.table), (State::Draining, vec![10], false));
    }
    let mut pools = with_agent(&["a"]);
    check_of(&mut pools[0]).agent_port = None;
    let now = rig.now;
    rig.changes = rig.fleet.apply(&config(pools), now);
    assert!(rig.seat("a").agent_watch.is_none());
    assert_eq!((rig.state("a"), rig.weights()), (State::Up, vec![100]));
}

#[test]
fn what_an_agent_has_said_ends_with_it_where_another_takes_its_place() {
    let mut rig = rig(with_agent(&["a"]));
    rig.succeed("a");
    rig.advise("a", "maint");
    let mut pools = with_agent(&["a"]);
    check_of(&mut pools[0]).agent_port = Some(6667);
    rig.changes = rig.fleet.apply(&config(pools), rig.now);
    assert_eq!(rig.state("a"), State::Up, "no agent that is there has said anything else");
}

#[test]
fn a_server_must_prove_the_name_by_which_it_is_written() {
    let mut pools = vec![pool("p", &["a", "b", "c", "d"])];
    check_of(&mut pools[0]).tls =
        CheckTls::Require { trust: Trust::System, server_name: String::new(), identity: None };
    pools[0].backends[1].target = Target::Host { name: "db.example".into(), port: 5432 };
    pools[0].backends[2].target = Target::Host { name: "db.example".into(), port: 5433 };
    let there = Address::Tcp(([127, 0, 0, 1], 15432).into());
    pools[0].backends[2].check_address = Some(CheckAddress::At(there.clone()));
    pools[0].backends[3].check_address = Some(CheckAddress::Port(8008));
    let mut rig = rig(pools);
    let (_, changes) = rig.fleet.on_resolved("db.example", &[[10, 9, 0, 1].into()], rig.now);
    rig.changes = changes;
    let names: Vec<(String, String)> = rig
        .fleet
        .watches()
        .map(|(_, watch)| match &watch.key.tls {
            CheckTls::Require { server_name, .. } => (watch.key.target.to_string(), server_name.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("10.0.0.1:1000", "10.0.0.1"),
        ("10.0.0.1:8008", "10.0.0.1"),
        ("10.9.0.1:5432", "db.example"),
        ("127.0.0.1:15432", "127.0.0.1"),
    ];
    for (target, name) in expected {
        assert!(names.contains(&(target.to_string(), name.to_string())), "{target} {name}: {names:?}");
    }
}
