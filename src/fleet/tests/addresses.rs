use super::*;
use crate::config::model::{AddressFamily, Hold};
use std::net::IpAddr;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 9, 0, last])
}

/// A pool with a fixed backend, one behind a name, and another fixed one. What a name leaves goes immediately.
fn named() -> Vec<Pool> {
    let mut pools = held();
    pools[0].hold = Hold { obsolete: Duration::ZERO, ..pools[0].hold };
    pools
}

/// The same with the holds that are the default.
fn held() -> Vec<Pool> {
    let mut pools = vec![pool("p", &["first", "db", "last"])];
    pools[0].backends[1].target = Target::Host { name: "db.example".into(), port: 5432 };
    pools
}

impl Rig {
    fn resolve(&mut self, addresses: &[u8]) -> bool {
        let found: Vec<IpAddr> = addresses.iter().map(|last| ip(*last)).collect();
        let (is_good, changes) = self.fleet.on_resolved("db.example", &found, self.now);
        self.changes = changes;
        is_good
    }

    /// Name, name for hashing, address and state, in the order of the table's making.
    fn shown(&self) -> Vec<String> {
        let of = |seat: &Seat| {
            let address = seat.address.as_ref().map_or_else(|| "-".into(), |address| address.to_string());
            format!("{} {} {address} {}", seat.name, seat.hash_name, seat.standing.state)
        };
        self.fleet.seats().iter().filter(|seat| seat.backend == 1).map(of).collect()
    }

    fn retired_count(&self) -> usize {
        self.fleet.seats().iter().filter(|seat| seat.retired.is_some()).count()
    }

    fn deny(&mut self) {
        self.changes = self.fleet.on_denied("db.example", "nobody knows it", self.now);
    }

    /// The only address that drains fails its check as often as counts.
    fn fail_retired(&mut self) {
        let watch = self.fleet.seats().iter().find(|seat| seat.retired.is_some()).unwrap().watch.unwrap();
        for _ in 0..3 {
            self.now = self.now.after_ns(MS);
            self.changes = self.fleet.on_check(watch, self.now, &Finding::Failure("refused".into()), self.now);
        }
    }

    fn sweep(&mut self, seen: u64, busy: &[BackendId]) -> bool {
        let changes = self.fleet.sweep(seen, |id| u32::from(busy.contains(&id)));
        self.changes = changes;
        self.changes.table
    }
}

#[test]
fn without_an_address_a_backend_is_down_and_says_why() {
    let mut rig = rig(named());
    assert_eq!(rig.fleet.hosts(), [std::sync::Arc::<str>::from("db.example")]);
    assert_eq!(rig.shown(), ["db db - down"]);
    assert_eq!(rig.reason("db"), "its name has no address yet");
    assert!(!rig.resolve(&[]), "no answer");
    let unfit = ["fe80::1", "0.0.0.0", "ff02::1"].map(|text| text.parse().unwrap());
    assert!(!rig.fleet.on_resolved("db.example", &unfit, rig.now).0);
    assert_eq!(rig.shown(), ["db db - down"]);
    assert_eq!(rig.fleet.watches().count(), 2, "there is nothing to check");
}

#[test]
fn each_address_is_a_backend_with_a_name_of_its_own() {
    let mut rig = rig(named());
    assert!(rig.resolve(&[7]) && rig.changes.table);
    assert_eq!(rig.shown(), ["db db 10.9.0.7:5432 up"]);
    assert_eq!(rig.names(), ["first", "db", "last"], "in the place of the file");
    let only = rig.seat("db").id;
    assert!(rig.resolve(&[7]) && !rig.changes.table, "the same again");
    assert!(rig.resolve(&[9, 7, 8]));
    assert_eq!(
        rig.shown(),
        ["db db@10.9.0.7 10.9.0.7:5432 up", "db#2 db@10.9.0.8 10.9.0.8:5432 up", "db#3 db@10.9.0.9 10.9.0.9:5432 up"]
    );
    assert_eq!(rig.seat("db").id, only);
    assert_eq!(rig.fleet.watches().count(), 5);
    assert!(!rig.resolve(&[]), "an empty answer takes nobody away");
    assert_eq!(rig.fleet.seats().len(), 5);
    rig.fail("db#2");
    assert_eq!((rig.state("db"), rig.state("db#2")), (State::Up, State::Down), "each has its own state");
}

#[test]
fn an_address_that_goes_drains_and_one_that_returns_is_its_old_slot() {
    let mut rig = rig(named());
    rig.resolve(&[7, 8]);
    rig.fail("db");
    let (seven, eight) = (rig.seat("db").id, rig.seat("db#2").id);
    rig.resolve(&[8, 9]);
    assert_eq!(
        rig.shown(),
        [
            "db db@10.9.0.9 10.9.0.9:5432 up",
            "db#2 db@10.9.0.8 10.9.0.8:5432 up",
            "db db@10.9.0.7 10.9.0.7:5432 draining"
        ]
    );
    let change = &rig.changes.transitions[0];
    assert_eq!((change.to.state, change.id), (State::Draining, seven));
    assert_eq!(change.to.reason.to_string(), "its name no longer has this address");
    assert_eq!(rig.fleet.watches().count(), 5, "it is checked on");
    assert_eq!(rig.seat("db#2").id, eight);
    rig.resolve(&[8]);
    rig.resolve(&[7, 8]);
    assert_eq!(rig.seat("db").id, seven);
    assert_eq!(rig.shown()[0], "db db@10.9.0.7 10.9.0.7:5432 down", "its checks went on");
    let past: Vec<State> = rig.seat("db").history().map(|past| past.state).collect();
    assert_eq!(past, [State::Up, State::Down, State::Draining, State::Down], "and what it was is known");
}

#[test]
fn names_do_not_end_sessions_and_checks_do() {
    let mut rig = rig(named());
    rig.resolve(&[7]);
    let seven = rig.seat("db").id;
    rig.resolve(&[8]);
    assert!(rig.fleet.has_retired());
    assert!(!rig.sweep(u64::MAX, &[]), "no table has said so yet");
    let table = rig.fleet.table(None, Phase::Serving);
    let entry = table.backend(seven).unwrap();
    assert!(entry.retired && entry.state == State::Draining && !entry.end_sessions);
    assert_eq!(rig.fleet.deadline(), Moment::NEVER);
    rig.pass(3600 * S);
    assert!(rig.ended().is_empty(), "whatever drain_timeout says");
    rig.fail_retired();
    assert!(rig.ended().is_empty(), "nobody is known to take them");
    rig.succeed("first");
    assert_eq!(rig.ended(), ["db"]);
    assert!(!rig.sweep(table.generation - 1, &[]), "a worker may still give it a session");
    assert!(!rig.sweep(table.generation, &[seven]), "it has one");
    assert!(rig.sweep(table.generation, &[]) && !rig.fleet.has_retired());
    assert_eq!(rig.fleet.watches().count(), 3, "nobody asks for its checks any more");
    assert!(rig.fleet.table(None, Phase::Serving).backend(seven).is_none());
}

#[test]
fn a_pool_that_keeps_sessions_of_backends_that_go_down_keeps_these_too() {
    let mut pools = named();
    pools[0].close_on_backend_down = false;
    let mut rig = rig(pools);
    rig.resolve(&[7]);
    rig.resolve(&[8]);
    rig.fail_retired();
    assert!(rig.ended().is_empty());
}

#[test]
fn an_address_that_is_missing_from_answers_stays_for_a_while() {
    let mut rig = rig(held());
    rig.resolve(&[7, 8]);
    rig.resolve(&[8]);
    assert!(!rig.changes.table && rig.retired_count() == 0, "still in use");
    assert_eq!(rig.fleet.deadline(), rig.now.after_ns(30 * S));
    rig.pass(29 * S);
    rig.resolve(&[8]);
    rig.pass(S - 1);
    assert_eq!(rig.retired_count(), 0);
    rig.pass(1);
    assert_eq!((rig.retired_count(), rig.shown().len()), (1, 2), "from the first answer without it");
    assert_eq!(rig.state("db#2"), State::Up);
    rig.resolve(&[7, 8]);
    assert_eq!((rig.retired_count(), rig.state("db")), (0, State::Up), "it is back");
    rig.resolve(&[8]);
    rig.pass(20 * S);
    rig.resolve(&[7]);
    rig.pass(29 * S);
    assert_eq!(rig.retired_count(), 0, "an answer with it begins anew");
}

/// Many load balancers answer with a part of their addresses, another one each time.
#[test]
fn answers_that_change_their_part_take_nobody_away() {
    let mut rig = rig(held());
    for turn in 0..200u8 {
        rig.resolve(&[1 + turn % 4, 1 + (turn + 1) % 4]);
        rig.pass(5 * S);
        assert_eq!(rig.retired_count(), 0);
    }
    assert_eq!(rig.shown().len(), 4);
    let all: Vec<u8> = (100..170).collect();
    rig.resolve(&all);
    assert_eq!(rig.shown().len(), 64 + 4, "the newest answer has its places, and those without leave");
    assert_eq!(rig.retired_count(), 4);
}

#[test]
fn a_name_that_is_denied_keeps_its_addresses_for_a_while_and_then_has_none() {
    let mut rig = rig(held());
    rig.resolve(&[7]);
    rig.deny();
    assert!(!rig.changes.table);
    rig.pass(299 * S);
    rig.deny();
    assert_eq!(rig.state("db"), State::Up);
    rig.pass(S);
    assert_eq!(rig.shown(), ["db db - down", "db db 10.9.0.7:5432 draining"]);
    assert_eq!(rig.changes.transitions[0].to.reason.to_string(), "its name no longer has any address");
    rig.deny();
    assert_eq!(rig.reason("db"), "its name has no address: nobody knows it");
    assert!(rig.ended().is_empty());
    rig.resolve(&[7]);
    assert_eq!(rig.shown(), ["db db 10.9.0.7:5432 up"]);
    rig.deny();
    rig.pass(10 * S);
    rig.resolve(&[8]);
    rig.pass(30 * S);
    assert_eq!(rig.retired_count(), 1, "an answer without it has its own time");
    rig.changes = rig.fleet.on_unresolved("db.example", "SERVFAIL", rig.now);
    assert!(!rig.changes.table, "what is not said changes nothing");
}

#[test]
fn a_reload_does_not_make_a_denied_name_good_again() {
    let pools = held();
    let mut rig = rig(pools.clone());
    rig.resolve(&[7]);
    rig.deny();
    rig.changes = rig.fleet.apply(&config(pools.clone()), rig.now);
    rig.pass(300 * S);
    assert_eq!(rig.shown(), ["db db - down", "db db 10.9.0.7:5432 draining"]);
    let mut fewer = pools;
    fewer[0].backends.remove(1);
    rig.changes = rig.fleet.apply(&config(fewer), rig.now);
    let retired = rig.fleet.seats().iter().find(|seat| seat.retired.is_some()).unwrap();
    assert_eq!(retired.retired.as_ref().unwrap().until, rig.now.after_ns(30 * S), "now it drains like others");
    assert!(retired.watch.is_none());
}

#[test]
fn only_the_family_that_a_pool_wants_is_used() {
    let mut pools = held();
    pools[0].address_family = AddressFamily::Ipv4;
    let mut rig = rig(pools);
    let six: IpAddr = "fd00::1".parse().unwrap();
    let mapped: IpAddr = "::ffff:10.9.0.8".parse().unwrap();
    assert!(rig.fleet.on_resolved("db.example", &[six, ip(7), mapped], rig.now).0);
    assert_eq!(rig.shown().len(), 2);
    assert!(rig.fleet.on_resolved("db.example", &[six], rig.now).0);
    rig.pass(299 * S);
    assert_eq!(rig.retired_count(), 0, "as far as the pool goes the name is denied");
    rig.pass(S);
    rig.fleet.on_resolved("db.example", &[six], rig.now);
    assert_eq!(rig.reason("db"), "its name has no address: it has no address of address_family = \"ipv4\"");
}

/// `localhost`, or a server with A and AAAA.
#[test]
fn a_primary_at_two_addresses_of_its_name_is_one_server() {
    let mut pools = named();
    check_of(&mut pools[0]).role = Some(Role::Primary);
    let mut rig = rig(pools);
    rig.resolve(&[7, 8]);
    let primary = |term| Finding::Success(Facts { role: Some(Role::Primary), term, ..Facts::default() });
    rig.check("db", &primary(1));
    rig.check("db#2", &primary(1));
    assert!(rig.changes.notices.is_empty(), "{:?}", rig.changes.notices);
    assert_eq!((rig.state("db"), rig.state("db#2")), (State::Up, State::Standby), "no more than one is used");
    assert_eq!(rig.reason("db#2"), "is another address of the primary, which is used at db");
    (0..3).for_each(|_| rig.fail("db"));
    assert_eq!(rig.state("db#2"), State::Up);
    (0..2).for_each(|_| rig.check("db", &primary(1)));
    assert_eq!(rig.state("db"), State::Standby);
    assert_eq!(rig.ended(), ["first", "last"], "its sessions are still on the primary");
    rig.check("first", &primary(2));
    assert!(rig.changes.notices.is_empty(), "db has not been asked again");
    rig.check("db", &primary(1));
    assert_eq!(rig.changes.notices.len(), 1, "that is another server");
    rig.check("db#2", &primary(1));
    assert!(rig.changes.notices.is_empty(), "it has been named");
    assert_eq!(rig.ended(), ["last", "db", "db#2"]);
}

#[test]
fn a_drain_without_a_deadline_waits() {
    let mut pools = named();
    pools[0].drain_timeout = Duration::ZERO;
    let mut rig = rig(pools);
    rig.resolve(&[7]);
    rig.resolve(&[8]);
    assert_eq!(rig.fleet.deadline(), Moment::NEVER);
    rig.pass(3600 * S);
    assert!(rig.ended().is_empty() && rig.fleet.has_retired());
}

/// The primary moves to another address: the old one must not keep its writers for the time of a drain.
#[test]
fn sessions_of_a_retired_primary_end_when_there_is_another() {
    let mut pools = named();
    check_of(&mut pools[0]).role = Some(Role::Primary);
    let mut rig = rig(pools);
    rig.resolve(&[7]);
    let primary = Finding::Success(Facts { role: Some(Role::Primary), term: 1, lag_ns: None, ..Facts::default() });
    rig.check("db", &primary);
    rig.resolve(&[8]);
    assert!(!rig.fleet.seats().iter().any(|seat| seat.retired.is_some() && seat.ends_sessions()));
    rig.check("db", &primary);
    assert_eq!(rig.state("db"), State::Up);
    assert!(rig.fleet.seats().iter().all(|seat| seat.retired.is_none() || seat.ends_sessions()));
}

#[test]
fn a_name_with_very_many_addresses_is_cut_and_said() {
    let mut rig = rig(named());
    let all: Vec<u8> = (1..=70).collect();
    assert!(rig.resolve(&all));
    assert_eq!(rig.fleet.seats().len(), 66);
    let notice = Notice::TooMany { pool: "p".into(), backend: "db".into(), left_out: 6 };
    assert_eq!(rig.changes.notices, [notice]);
}

#[test]
fn a_name_that_several_pools_use_is_looked_up_once_and_used_by_all() {
    let mut pools = named();
    pools.push(pool("q", &["x"]));
    pools[1].hold.obsolete = Duration::ZERO;
    pools[1].backends[0].target = Target::Host { name: "db.example".into(), port: 5432 };
    let mut rig = rig(pools);
    assert_eq!(rig.fleet.hosts().len(), 1);
    rig.resolve(&[7]);
    assert_eq!(rig.seat("x").watch, rig.seat("db").watch, "and checked once");
    rig.resolve(&[8]);
    assert_eq!(rig.seat("x").address, rig.seat("db").address);
    assert_eq!(rig.fleet.watches().count(), 4, "the old one is checked on, once as well");
}
