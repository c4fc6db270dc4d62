use super::*;
use std::net::IpAddr;

/// A pool with one backend behind a name.
fn named() -> Vec<Pool> {
    let mut pools = vec![pool("p", &["db"])];
    pools[0].hold.obsolete = Duration::ZERO;
    pools[0].backends[0].target = Target::Host { name: "db.example".into(), port: 5432 };
    pools
}

impl Rig {
    fn is_at(&mut self, last: u8) -> BackendId {
        let (_, changes) = self.fleet.on_resolved("db.example", &[IpAddr::from([10, 9, 0, last])], self.now);
        self.changes = changes;
        self.seat("db").id
    }

    /// A second passes; what control does then. Returns slots that became free.
    fn second(&mut self, seen: Option<u64>, busy: &[BackendId]) -> Vec<BackendId> {
        self.pass(S);
        let generation = self.fleet.table(None, Phase::Serving).generation;
        let seen = seen.unwrap_or(generation);
        self.fleet.sweep(seen, |id| u32::from(busy.contains(&id)));
        self.fleet.free_slots(seen, |id| !busy.contains(&id), self.now)
    }

    fn seconds(&mut self, count: usize, busy: &[BackendId]) -> Vec<BackendId> {
        (0..count).flat_map(|_| self.second(None, busy)).collect()
    }
}

#[test]
fn addresses_that_come_and_go_take_turns() {
    let mut rig = rig(named());
    for round in 0..500u32 {
        rig.is_at((round % 250) as u8 + 1);
        rig.seconds(30, &[]);
    }
    let (_, _, backends) = rig.fleet.ids.lengths();
    assert!(backends <= 8, "{backends} slots for one backend that moves every 30 s");
    assert!(rig.fleet.leaving.len() < 8 && rig.fleet.troubles_seen.len() < 8);
}

#[test]
fn a_slot_is_not_given_out_while_anything_refers_to_it() {
    let mut rig = rig(named());
    let old = rig.is_at(1);
    rig.seconds(1, &[]);
    let seen = rig.fleet.table(None, Phase::Serving).generation;
    assert_ne!(rig.is_at(2), old);
    assert_eq!(rig.seconds(100, &[old]), [], "a session has it");
    // Its seat is gone once the session is, and a worker that has not looked since may still connect to the old one.
    assert_eq!(rig.seconds(2, &[]), []);
    assert!(rig.fleet.has_leaving() && !rig.fleet.has_retired());
    assert_eq!((0..100).flat_map(|_| rig.second(Some(seen), &[])).collect::<Vec<_>>(), []);
    assert_eq!(rig.seconds(100, &[old]), [], "a session that has tried it is still to be logged");
    assert_eq!(rig.seconds(59, &[]), [], "it rests");
    assert_eq!(rig.seconds(3, &[]), [old]);
    assert!(!rig.fleet.has_leaving());
    assert_eq!(rig.is_at(3), old, "another server has the slot now");
}

#[test]
fn a_backend_that_comes_back_in_time_has_its_slot_again() {
    let mut rig = rig(named());
    let old = rig.is_at(1);
    rig.is_at(2);
    rig.seconds(20, &[]);
    assert!(rig.fleet.has_leaving() && !rig.fleet.has_retired());
    assert_eq!(rig.is_at(1), old);
    let freed = rig.seconds(100, &[]);
    assert!(!freed.contains(&old), "{freed:?}");
    assert_eq!(rig.seat("db").id, old);
}
