use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
/// What the next look says of a fleet that was broken so.
fn noticed(mut rig: Rig, spoil: impl FnOnce(&mut Fleet)) -> Option<String> {
    spoil(&mut rig.fleet);
    let look = catch_unwind(AssertUnwindSafe(|| rig.fleet.on_time(rig.now)));
    look.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast::<&str>().map(|text| text.to_string()).unwrap_or_default(),
    })
}

/// Three that serve, two of them in a pool that ejects.
fn serving() -> Rig {
    let mut rig = rig(vec![Pool { ejection: Some(ejection::RULES), ..pool("p", &["a", "b"]) }, pool("q", &["c"])]);
    ["a", "b", "c"].into_iter().for_each(|name| rig.succeed(name));
    assert_eq!(rig.states(), [State::Up; 3]);
    rig
}

/// What is said of it, and how it is brought about.
type Contradiction = (&'static str, fn(&mut Fleet));

#[test]
fn a_fleet_that_contradicts_itself_is_noticed() {
    assert_eq!(noticed(serving(), |_| {}), None);
    let broken: [Contradiction; 12] = [
        ("is not where it is looked for", |fleet| {
            let (a, b) = (fleet.seats[0].id, fleet.seats[1].id);
            fleet.places.extend([(a, 1), (b, 0)]);
        }),
        ("two seats have one slot", |fleet| _ = fleet.places.remove(&fleet.seats[2].id)),
        ("a slot that becomes free has a seat", |fleet| {
            fleet.leaving.insert(fleet.seats[0].id, Default::default());
        }),
        ("a seat between two pools", |fleet| fleet.pools[1].seats.start -= 1),
        ("a seat behind the last pool", |fleet| fleet.pools[1].seats.end -= 1),
        ("nothing comes of it", |fleet| fleet.seats[0].subscriber = None),
        ("are not told to it", |fleet| fleet.seats[0].watch = fleet.seats[1].watch),
        ("it can be ejected, or not", |fleet| fleet.seats[0].ejector = None),
        ("it is ejected without end", |fleet| fleet.seats[0].standing.state = State::Ejected),
        ("unnoticed", |fleet| fleet.seats[0].took_sessions = false),
        ("it serves without an address", |fleet| fleet.seats[2].address = None),
        ("it stands otherwise", |fleet| fleet.seats[0].standing.cut = Cut::Now),
    ];
    for (said, spoil) in broken {
        let heard = noticed(serving(), spoil);
        assert!(heard.as_ref().is_some_and(|heard| heard.contains(said)), "{said}: {heard:?}");
    }
}

/// With two writers data is lost.
#[test]
fn a_second_primary_is_noticed() {
    let writers = || {
        let mut pools = vec![pool("p", &["a", "b"])];
        (check_of(&mut pools[0]).role, check_of(&mut pools[0]).rise) = (Some(Role::Primary), 1);
        let mut rig = rig(pools);
        rig.check("a", &Finding::Success(Facts { role: Some(Role::Primary), term: 1, ..Facts::default() }));
        assert_eq!(rig.states(), [State::Up, State::Down]);
        rig
    };
    assert_eq!(noticed(writers(), |_| {}), None);
    let serves = |fleet: &mut Fleet| {
        (fleet.seats[1].standing.state, fleet.seats[1].took_sessions) = (State::Up, true);
    };
    let heard = noticed(writers(), serves);
    assert!(heard.is_some_and(|heard| heard.contains("one serves that is not the primary")));
    let heard = noticed(writers(), |fleet| fleet.pools[0].guard = None);
    assert!(heard.is_some_and(|heard| heard.contains("a guard, or none")), "or the wrong one is looked at");
}
