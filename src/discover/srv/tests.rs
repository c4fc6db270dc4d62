use super::*;
use crate::discover::found::WEIGHT_MAX;
use proptest::prelude::*;

const S: u64 = 1_000_000_000;

fn settings() -> SrvSource {
    let (obsolete_hold, denied_hold) = (Duration::from_secs(30), Duration::from_secs(300));
    SrvSource { name: "_db._tcp.x".into(), obsolete_hold, denied_hold }
}

fn record(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
    SrvRecord { priority, weight, port, target: target.into() }
}

fn found(records: &[SrvRecord]) -> SrvAnswer {
    SrvAnswer::Found(records.to_vec(), Duration::from_secs(60))
}

fn shown(news: News) -> Vec<String> {
    let News::Answer(answer) = news else { panic!("{news:?}") };
    let show = |it: &Found| format!("{} weight {} backup {}", it.name(), it.weight, it.backup);
    answer.found.iter().map(show).collect()
}

#[test]
fn priorities_are_levels_and_weights_are_shares() {
    let mut known = KnownTargets::default();
    let records = [
        record(10, 0, 1, "a.x."),
        record(10, 65_535, 1, "b.x."),
        record(20, 0, 2, "C.x."),
        record(20, 0, 3, "C.x."),
        record(90, 7, 1, "d.x."),
    ];
    assert_eq!(
        shown(known.on(found(&records), &settings(), Moment(0))),
        [
            "a.x:1 weight 1 backup 0",
            "b.x:1 weight 256 backup 0",
            "c.x:2 weight 1 backup 1",
            "c.x:3 weight 1 backup 1",
            "d.x:1 weight 7 backup 2",
        ]
    );
}

#[test]
fn what_is_missing_stays_for_its_hold_and_what_comes_back_for_good() {
    let (mut known, settings) = (KnownTargets::default(), settings());
    let (a, b) = (record(1, 1, 1, "a."), record(2, 1, 1, "b."));
    known.on(found(&[a.clone(), b.clone()]), &settings, Moment(0));
    let both = ["a:1 weight 1 backup 0", "b:1 weight 1 backup 1"];
    assert_eq!(shown(known.on(found(std::slice::from_ref(&b)), &settings, Moment(S))), both);
    assert_eq!(
        shown(known.on(found(std::slice::from_ref(&b)), &settings, Moment(20 * S))),
        both,
        "it does not begin anew"
    );
    assert_eq!((known.deadline(), known.on_time(Moment(31 * S - 1))), (Moment(31 * S), None));
    assert_eq!(shown(known.on_time(Moment(31 * S)).unwrap()), ["b:1 weight 1 backup 0"]);
    let denied = || SrvAnswer::Denied("no".into());
    assert_eq!(shown(known.on(denied(), &settings, Moment(40 * S))), ["b:1 weight 1 backup 0"]);
    assert_eq!(known.deadline(), Moment(340 * S));
    known.on(found(&[b]), &settings, Moment(50 * S));
    assert_eq!(known.deadline(), Moment::NEVER, "it is back");
    known.on(denied(), &settings, Moment(60 * S));
    let failed = known.on(SrvAnswer::Failed("SERVFAIL".into()), &settings, Moment(70 * S));
    assert_eq!((failed, known.deadline()), (News::Failed("SERVFAIL".into()), Moment(360 * S)));
    assert_eq!(shown(known.on_time(Moment(360 * S)).unwrap()), [""; 0]);
}

#[test]
fn targets_that_are_known_stay_where_there_is_no_room_for_others() {
    let (mut known, settings) = (KnownTargets::default(), settings());
    let port = |number: usize| record(1, 1, 1 + number as u16, "a.");
    let all: Vec<SrvRecord> = (0..FOUND_MAX).map(port).collect();
    known.on(found(&all), &settings, Moment(0));
    let more: Vec<SrvRecord> = (0..=FOUND_MAX).map(port).collect();
    assert_eq!(shown(known.on(found(&more), &settings, Moment(S))).len(), FOUND_MAX);
    assert_eq!(known.deadline(), Moment::NEVER, "every one of them was answered again");
}

#[test]
fn what_is_no_place_to_connect_to_is_left_out_and_told() {
    let mut known = KnownTargets::default();
    let records = [record(1, 1, 0, "a."), record(1, 1, 1, "."), record(1, 1, 1, "b."), record(1, 1, 1, "x y.")];
    let News::Answer(answer) = known.on(found(&records), &settings(), Moment(0)) else { panic!() };
    assert_eq!((answer.found.len(), answer.remarks.len(), answer.trouble), (1, 3, None));
}

proptest! {
    #[test]
    fn shares_keep_their_order_and_none_is_shut_out(weights in prop::collection::vec(0..=u16::MAX, 1..20)) {
        let most = weights.iter().copied().max().unwrap_or(0);
        let shares: Vec<u16> = weights.iter().map(|weight| share(*weight, most)).collect();
        let all = || weights.iter().zip(&shares);
        for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
            prop_assert!((1..=WEIGHT_MAX).contains(one.1));
            prop_assert!(one.0 < other.0 || one.1 >= other.1);
        }
    }
}
