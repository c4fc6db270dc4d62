use super::*;
use std::net::IpAddr;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 9, 0, last])
}

/// A pool with a fixed backend, one behind a name, and another fixed one.
fn named() -> Vec<Pool> {
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
    assert_eq!(rig.fleet.watches().count(), 4, "it is not checked");
    assert_eq!(rig.seat("db#2").id, eight);
    rig.resolve(&[8]);
    rig.resolve(&[7, 8]);
    assert_eq!(rig.seat("db").id, seven);
    assert_eq!(rig.shown()[0], "db db@10.9.0.7 10.9.0.7:5432 up", "nothing is known of it now");
    let past: Vec<State> = rig.seat("db").history().map(|past| past.state).collect();
    assert_eq!(past, [State::Up, State::Down, State::Draining, State::Up], "but what it was");
}

#[test]
fn what_drains_is_told_to_end_at_its_deadline_and_goes_with_its_last_session() {
    let mut rig = rig(named());
    rig.resolve(&[7]);
    let seven = rig.seat("db").id;
    rig.resolve(&[8]);
    assert!(rig.fleet.has_retired());
    assert!(!rig.sweep(u64::MAX, &[]), "no table has said so yet");
    let table = rig.fleet.table(None, Phase::Serving);
    let entry = table.backend(seven).unwrap();
    assert!(entry.retired && entry.state == State::Draining && !entry.end_sessions);
    assert_eq!(rig.fleet.deadline(), rig.now.after_ns(30 * S));
    rig.pass(30 * S - 1);
    assert!(rig.ended().is_empty());
    rig.pass(1);
    assert_eq!(rig.ended(), ["db"]);
    assert_eq!(rig.fleet.deadline(), Moment::NEVER, "told once");
    assert!(!rig.sweep(table.generation - 1, &[]), "a worker may still give it a session");
    assert!(!rig.sweep(table.generation, &[seven]), "it has one");
    assert!(rig.sweep(table.generation, &[]) && !rig.fleet.has_retired());
    assert!(rig.fleet.table(None, Phase::Serving).backend(seven).is_none());
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
    pools[1].backends[0].target = Target::Host { name: "db.example".into(), port: 5432 };
    let mut rig = rig(pools);
    assert_eq!(rig.fleet.hosts().len(), 1);
    rig.resolve(&[7]);
    assert_eq!(rig.seat("x").watch, rig.seat("db").watch, "and checked once");
    rig.resolve(&[8]);
    assert_eq!(rig.seat("x").address, rig.seat("db").address);
    assert_eq!(rig.fleet.watches().count(), 3);
}
