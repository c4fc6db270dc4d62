use super::*;
use crate::config::load;
use std::net::IpAddr;

fn is_own(ip: IpAddr) -> bool {
    ip == IpAddr::from([10, 0, 0, 7])
}

fn rig_of(text: &str) -> Rig {
    let now = Moment(100 * S);
    let config = load(text, "f", &|_| None).unwrap();
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

#[test]
fn where_clients_decide_the_way_nothing_is_cut() {
    let text = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\n\
        [[listeners.l.routes]]\nsni = [\"x.test\"]\npool = \"q\"\n\
        [[pools.p.backends]]\nname = \"b\"\naddress = \"10.0.0.7:80\"\n\
        [[pools.q.backends]]\nname = \"c\"\naddress = \"10.0.0.8:80\"\n";
    assert_eq!(rig_of(text).seat("b").leads_back, None);
}

/// Nobody but the clients of its routes is served, and they have one pool.
#[test]
fn a_listener_that_refuses_whom_no_route_fits_has_only_the_pools_of_its_routes() {
    let text = "[listeners.l]\nbind = \"0.0.0.0:80\"\npool = \"p\"\nunmatched = \"refuse\"\n\
        [[listeners.l.routes]]\nsni = [\"x.test\"]\npool = \"q\"\n\
        [[pools.p.backends]]\nname = \"b\"\naddress = \"10.0.0.8:80\"\n\
        [[pools.q.backends]]\nname = \"c\"\naddress = \"10.0.0.7:80\"\n";
    assert_eq!(rig_of(text).seat("c").leads_back.as_deref(), Some("l"));
}
