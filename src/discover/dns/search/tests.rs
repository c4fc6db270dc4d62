use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

const S: u64 = 1_000_000_000;

fn conf(text: &str) -> Arc<Conf> {
    Arc::new(Conf::read(text, &crate::discover::dns::conf::Surroundings::default()))
}

fn at(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn found(last: u8) -> Reply {
    Reply::Found(vec![IpAddr::from([10, 0, 0, last])], Duration::from_secs(60))
}

/// Runs a lookup against servers that answer immediately. Returns what was asked, as `server name`, and the result.
fn run(conf: Arc<Conf>, name: &str, says: impl Fn(u8, &str, Asked) -> Option<Reply>) -> (Vec<String>, Resolution) {
    let mut search = Search::new(conf, name, 0);
    let (mut now, mut asked) = (at(0), Vec::new());
    let mut step = search.on(SearchEvent::Begin, now);
    loop {
        match step {
            SearchStep::Done(answer) => return (asked, answer),
            SearchStep::Wait(until) => {
                now = until;
                step = search.on(SearchEvent::Time, now);
            }
            SearchStep::Ask(server, name, until) => {
                let IpAddr::V4(ip) = server.ip() else { unreachable!() };
                let number = ip.octets()[3];
                asked.push(format!("{number} {name}"));
                step = SearchStep::Wait(until);
                for kind in [Asked::V4, Asked::V6] {
                    if let Some(reply) = says(number, &name, kind) {
                        step = search.on(SearchEvent::Reply(kind, reply), now);
                    }
                }
            }
        }
        assert!(asked.len() < 100, "it ends");
    }
}

const TWO: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\n";

fn useless() -> Option<Reply> {
    Some(Reply::Useless("SERVFAIL".into()))
}

#[test]
fn servers_are_asked_in_their_order_until_one_says_something() {
    let (asked, answer) = run(conf(TWO), "db", |server, _, _| match server {
        1 => useless(),
        _ => Some(found(2)),
    });
    assert_eq!(asked, ["1 db.", "2 db."]);
    assert_eq!(answer.v4, family(found(2)));
    assert!(answer.failed.is_empty(), "the name was found, whoever said so");
    let (asked, answer) = run(conf(TWO), "db", |server, _, _| match server {
        1 => Some(Reply::NxDomain),
        _ => Some(found(2)),
    });
    assert_eq!((asked, answer.is_denial()), (vec!["1 db.".to_owned()], true), "the first one's denial is final");
}

#[test]
fn silence_leads_to_the_next_server_and_all_of_them_have_their_attempts() {
    let (asked, answer) = run(conf(&format!("{TWO}options attempts:3")), "db.", |_, _, _| None);
    assert_eq!(asked, ["1 db.", "2 db.", "1 db.", "2 db.", "1 db.", "2 db."]);
    let FamilyAnswer::Failed(why) = &answer.v4 else { panic!("{answer:?}") };
    assert_eq!(why, "db: 10.0.0.2:53: no answer in time");
}

#[test]
fn a_name_that_nobody_knows_anything_of_does_not_end_the_search_and_is_remembered() {
    let k8s = "nameserver 10.0.0.1\nsearch ns.test svc.test\noptions ndots:5 attempts:1";
    let broken = |reply: Option<Reply>| {
        run(conf(k8s), "db", move |_, name, _| match name {
            "db.ns.test." => reply.clone(),
            "db.svc.test." => Some(found(7)),
            _ => Some(Reply::NxDomain),
        })
    };
    for reply in [useless(), None] {
        let (asked, answer) = broken(reply);
        assert_eq!(asked, ["1 db.ns.test.", "1 db.svc.test."]);
        assert_eq!(answer.from.as_deref(), Some("db.svc.test."));
        assert_eq!(answer.failed.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["db.ns.test."]);
    }
    let (_, answer) = run(conf(k8s), "db", |_, name, _| match name {
        "db.ns.test." => useless(),
        _ => Some(Reply::NxDomain),
    });
    assert!(!answer.is_denial(), "one that failed is not denied");
}

#[test]
fn one_family_that_is_answered_is_an_answer() {
    let mixed = |v4: Option<Reply>, v6: Option<Reply>| {
        run(conf(TWO), "db", move |_, _, kind| if kind == Asked::V4 { v4.clone() } else { v6.clone() })
    };
    let (asked, answer) = mixed(Some(found(1)), useless());
    assert_eq!((asked.len(), answer.v4, answer.v6), (1, family(found(1)), FamilyAnswer::Failed("SERVFAIL".into())));
    let (_, answer) = mixed(Some(found(1)), Some(Reply::NxDomain));
    assert_eq!(answer.v6, FamilyAnswer::Absent);
    let (asked, answer) = mixed(Some(Reply::NoData), useless());
    assert_eq!((asked.len(), answer.is_denial()), (1, false));
}

#[test]
fn the_family_that_is_not_answered_does_not_hold_up_the_other() {
    let mut search = Search::new(conf(TWO), "db", 0);
    assert_eq!(
        search.on(SearchEvent::Begin, at(0)),
        SearchStep::Ask("10.0.0.1:53".parse().unwrap(), "db.".into(), at(5000))
    );
    assert_eq!(search.on(SearchEvent::Reply(Asked::V4, found(1)), at(100)), SearchStep::Wait(at(600)));
    assert_eq!(search.on(SearchEvent::Time, at(599)), SearchStep::Wait(at(600)), "not yet");
    assert!(matches!(search.on(SearchEvent::Time, at(600)), SearchStep::Done(answer) if answer.v4 == family(found(1))));
    let mut search = Search::new(conf(TWO), "db", 0);
    search.on(SearchEvent::Begin, at(0));
    assert_eq!(
        search.on(SearchEvent::Reply(Asked::V6, Reply::NoData), at(100)),
        SearchStep::Wait(at(5000)),
        "a denial waits"
    );
}

#[test]
fn rotate_begins_with_another_server_each_time() {
    let first =
        |turn| match Search::new(conf(&format!("{TWO}options rotate")), "db", turn).on(SearchEvent::Begin, at(0)) {
            SearchStep::Ask(server, ..) => server.to_string(),
            other => panic!("{other:?}"),
        };
    assert_eq!([first(0), first(1), first(2)], ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.1:53"]);
}

proptest! {
    /// Whatever is answered in whatever order, it ends, in a bounded time, and never with a denial after a failure.
    #[test]
    fn every_lookup_ends(
        replies in prop::collection::vec((0..5u8, 0..5u8), 64),
        servers in 1..4usize, attempts in 1..4u32, domains in 0..4usize,
    ) {
        let search: Vec<String> = (0..domains).map(|number| format!("d{number}.test")).collect();
        let servers = (1..=servers).map(|number| SocketAddr::from(([10, 0, 0, number as u8], 53))).collect();
        let conf = Arc::new(Conf { servers, attempts, search, ..Conf::default() });
        let (count, rounds) = (conf.servers.len(), attempts as usize);
        let mut lookup = Search::new(conf, "db", 0);
        let (mut now, mut asked, mut failures) = (at(0), 0, 0);
        let mut step = lookup.on(SearchEvent::Begin, now);
        let answer = loop {
            step = match step {
                SearchStep::Done(answer) => break answer,
                SearchStep::Wait(until) => { now = until; lookup.on(SearchEvent::Time, now) }
                SearchStep::Ask(_, _, until) => {
                    let (v4, v6) = replies[asked % replies.len()];
                    asked += 1;
                    failures += usize::from(v4 >= 3 || v6 >= 3);
                    let mut next = SearchStep::Wait(until);
                    for (kind, code) in [(Asked::V4, v4), (Asked::V6, v6)] {
                        let reply = match code {
                            0 => found(1),
                            1 => Reply::NoData,
                            2 => Reply::NxDomain,
                            3 => Reply::Useless("x".into()),
                            _ => continue,
                        };
                        next = lookup.on(SearchEvent::Reply(kind, reply), now);
                    }
                    next
                }
            };
        };
        prop_assert!(asked <= count * rounds * (domains + 1));
        prop_assert!(now <= Moment(30 * S * (count * rounds * (domains + 1)) as u64));
        if failures == 0 {
            prop_assert!(answer.failed.is_empty());
        }
        prop_assert!(!answer.is_denial() || answer.failed.is_empty());
    }
}
