use super::*;
use crate::config::load;
use std::net::IpAddr;

fn is_own(ip: IpAddr) -> bool {
    ip == IpAddr::from([10, 0, 0, 7])
}

fn rig_of(text: &str) -> Rig {
    let now = Moment(100 * S);
    let config = load(text, "f", &|_: &str| None).unwrap();
    let mut fleet = Fleet::new(Arc::new(config), now);
    let changes = fleet.tell_own_by(is_own, now);
    Rig { fleet, now, changes }
}

const NAMED: &str = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\n[pools.p]\nwhen_all_down = \"use_all\"\n\
    obsolete_hold = \"0s\"\n[[pools.p.backends]]\nname = \"b\"\naddress = \"b.test:80\"\n";

#[test]
fn a_name_that_stands_for_ringway_itself_is_not_connected_to_until_it_stands_for_another_host() {
    let mut rig = rig_of(NAMED);
    let mut resolve = |last: u8| {
        rig.fleet.on_resolved("b.test", &[IpAddr::from([10, 0, 0, last])], rig.now);
        let seat = rig.seat("b");
        (seat.standing.state, seat.standing.reason.clone(), seat.member().address.is_some())
    };
    let (state, reason, _) = resolve(8);
    assert_ne!(state, State::Down, "{reason}");
    let (state, reason, has_address) = resolve(7);
    assert_eq!((state, &reason, has_address), (State::Down, &Reason::LeadsBack("l".into()), false));
    assert!(reason.to_string().starts_with("it is ringway itself: connections would come back by listener l"));
    assert_ne!(resolve(8).0, State::Down);
}

#[test]
fn a_way_around_over_another_listener_is_found_and_a_chain_that_ends_is_none() {
    let chain = |last: &str| {
        format!(
            "[listeners.outer]\nbind = \"0.0.0.0:80\"\npool = \"outer\"\n[listeners.inner]\nbind = \"0.0.0.0:81\"\n\
             pool = \"inner\"\n[[pools.outer.backends]]\nname = \"o\"\naddress = \"10.0.0.7:81\"\n\
             [[pools.inner.backends]]\nname = \"i\"\naddress = \"{last}\"\n"
        )
    };
    let rig = rig_of(&chain("10.0.0.8:80"));
    assert_eq!((rig.seat("o").leads_back.as_deref(), rig.seat("i").leads_back.as_deref()), (None, None));
    let rig = rig_of(&chain("10.0.0.7:80"));
    assert_eq!(
        (rig.seat("o").leads_back.as_deref(), rig.seat("i").leads_back.as_deref()),
        (Some("inner"), Some("outer"))
    );
    assert!(rig.changes.table);
}

/// When the first pool is down, all clients would go around.
#[test]
fn a_fallback_that_leads_back_to_the_listener_is_never_used() {
    let text = |address: &str| {
        format!(
            "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\n[pools.p]\nfallback = \"q\"\n\
             [[pools.p.backends]]\nname = \"b\"\naddress = \"10.0.0.8:80\"\n\
             [[pools.q.backends]]\nname = \"c\"\naddress = \"{address}\"\n"
        )
    };
    assert_eq!(rig_of(&text("10.0.0.7:80")).seat("c").leads_back.as_deref(), Some("l"));
    assert_eq!(rig_of(&text("10.0.0.8:81")).seat("c").leads_back, None);
}

#[test]
fn where_clients_decide_the_way_nothing_is_cut() {
    let text = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\n\
        [[listeners.l.routes]]\nsni = [\"x.test\"]\npool = \"q\"\n\
        [[pools.p.backends]]\nname = \"b\"\naddress = \"10.0.0.7:80\"\n\
        [[pools.q.backends]]\nname = \"c\"\naddress = \"10.0.0.8:80\"\n";
    assert_eq!(rig_of(text).seat("b").leads_back, None);
}

/// Only the clients of its routes are served, and they have one pool.
#[test]
fn a_listener_that_refuses_whom_no_route_fits_has_only_the_pools_of_its_routes() {
    let text = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\nunmatched = \"refuse\"\n\
        [[listeners.l.routes]]\nsni = [\"x.test\"]\npool = \"q\"\n\
        [[pools.p.backends]]\nname = \"b\"\naddress = \"10.0.0.8:80\"\n\
        [[pools.q.backends]]\nname = \"c\"\naddress = \"10.0.0.7:80\"\n";
    assert_eq!(rig_of(text).seat("c").leads_back.as_deref(), Some("l"));
}

thread_local! {
    /// How often the kernel was asked, and which last number it says is this host's.
    static KERNEL: std::cell::Cell<(u32, u8)> = const { std::cell::Cell::new((0, 0)) };
}

fn ask_kernel(ip: IpAddr) -> bool {
    let (asked, own) = KERNEL.get();
    KERNEL.set((asked + 1, own));
    ip == IpAddr::from([10, 0, 0, own])
}

/// How often the kernel was asked since the last call.
fn asked() -> u32 {
    let (asked, own) = KERNEL.get();
    KERNEL.set((0, own));
    asked
}

/// Two names, both with the port of the listener, as the kernel of the test has it.
fn rig_of_two() -> Rig {
    let text = NAMED.to_string() + "[[pools.p.backends]]\nname = \"c\"\naddress = \"c.test:80\"\n";
    let mut rig = rig_of(&text);
    KERNEL.set((0, 0));
    rig.fleet.tell_own_by(ask_kernel, rig.now);
    rig
}

fn resolve(rig: &mut Rig, name: &str, numbers: &[u8]) {
    let addresses: Vec<IpAddr> = numbers.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
    rig.fleet.on_resolved(name, &addresses, rig.now);
}

/// With a thousand backends a name that moves would cost thousands of system calls.
#[test]
fn a_name_that_moves_has_the_kernel_asked_for_its_new_address_alone() {
    let mut rig = rig_of_two();
    let many: Vec<u8> = (10..60).collect();
    resolve(&mut rig, "b.test", &many);
    assert_eq!(asked(), 50);
    resolve(&mut rig, "c.test", &[3]);
    assert_eq!(asked(), 1);
    resolve(&mut rig, "c.test", &[3, 4]);
    assert_eq!(asked(), 1);
    resolve(&mut rig, "b.test", &[10]);
    assert_eq!((asked(), rig.fleet.own.said.len()), (0, 3), "what no backend has any more is forgotten");
}

/// keepalived moves addresses between hosts, and no name changes.
#[test]
fn an_address_that_comes_to_this_host_or_leaves_it_is_noticed_by_itself() {
    let mut rig = rig_of_two();
    resolve(&mut rig, "b.test", &[8]);
    resolve(&mut rig, "c.test", &[9]);
    assert_eq!((asked(), rig.seat("b").leads_back.as_deref()), (2, None));
    for (own, expected) in [(8, Some("l")), (9, None)] {
        KERNEL.set((0, own));
        let due = rig.fleet.deadline();
        assert!(due > rig.now && due <= rig.now.after_ns(10 * S), "nobody else wakes it");
        rig.pass(due.since_ns(rig.now) - 1);
        assert_eq!(asked(), 0);
        rig.pass(1);
        assert_eq!((asked(), rig.seat("b").leads_back.as_deref(), rig.changes.table), (2, expected, true));
    }
    assert_eq!(rig.seat("c").leads_back.as_deref(), Some("l"));
}

#[test]
fn where_no_backend_could_be_a_listener_nothing_is_asked_and_nothing_wakes() {
    let mut rig = rig_of(&NAMED.replace("b.test:80", "b.test:81"));
    KERNEL.set((0, 0));
    rig.fleet.tell_own_by(ask_kernel, rig.now);
    resolve(&mut rig, "b.test", &[8]);
    assert_eq!((asked(), rig.fleet.deadline()), (0, Moment::NEVER));
}
