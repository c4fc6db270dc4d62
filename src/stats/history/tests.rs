use super::*;

fn at(second: u64) -> Moment {
    Moment(second * SECOND_NS)
}

fn backend(id: u32, name: &str, established: u64) -> (BackendKey, BackendCount) {
    let key = BackendKey { id: BackendId(id), pool: "db".into(), name: name.into() };
    (key, BackendCount { established, connections: 3, ..BackendCount::default() })
}

fn reading(accepted: u64, backends: Vec<(BackendKey, BackendCount)>) -> Reading {
    let total =
        TotalCount { accepted, connections: 5, busy_ns: vec![accepted * SECOND_NS / 100, 0], ..Default::default() };
    Reading { total, backends, ..Reading::default() }
}

fn sessions(history: &History) -> Vec<f32> {
    history.total().newest(SECONDS_MAX).map(|sample| sample.sessions).collect()
}

#[test]
fn a_sample_is_what_happened_in_its_second() {
    let mut history = History::new(at(100));
    history.on_reading(reading(10, vec![]), at(101));
    history.on_reading(reading(35, vec![]), at(102));
    assert_eq!(sessions(&history), [10.0, 25.0]);
    let last = *history.total().newest(1).next().unwrap();
    assert_eq!((last.connections, last.busy), (5, 0.25), "the busiest worker");
    assert_eq!((history.second(), history.sampled_at()), (2, at(102)));
}

#[test]
fn a_late_reading_is_spread_over_the_seconds_it_is_late_by() {
    let mut history = History::new(at(0));
    history.on_reading(reading(10, vec![]), at(1));
    history.on_reading(reading(40, vec![]), at(4));
    assert_eq!(sessions(&history), [10.0, 10.0, 10.0, 10.0]);
    assert_eq!(history.second(), 4);
    // Half a second early or late is the second that it is next to; nothing is counted twice.
    history.on_reading(reading(40, vec![]), Moment(at(4).0 + SECOND_NS / 4));
    assert_eq!(history.second(), 4);
    history.on_reading(reading(54, vec![]), Moment(at(5).0 + SECOND_NS / 4));
    assert_eq!((history.second(), sessions(&history)[4]), (5, 14.0 / 1.25));
}

#[test]
fn after_a_pause_of_hours_no_more_is_kept_than_ever() {
    let mut history = History::new(at(0));
    history.on_reading(reading(36_000, vec![]), at(36_000));
    assert_eq!((history.second(), sessions(&history).len()), (36_000, SECONDS_MAX));
    assert!(sessions(&history).iter().all(|rate| *rate == 1.0));
}

#[test]
fn a_series_is_of_one_backend_and_not_of_its_slot() {
    let mut history = History::new(at(0));
    let counts = |second: u64| vec![backend(1, "a", second * 10), backend(2, "b", second)];
    (1..=3).for_each(|second| history.on_reading(reading(0, counts(second)), at(second)));
    let rates = |history: &History| -> Vec<(String, Vec<f32>)> {
        let of = |series: &Series<BackendKey, BackendCount>| {
            (series.key().name.to_string(), series.newest(9).map(|sample| sample.sessions).collect())
        };
        history.backends().iter().map(of).collect()
    };
    let expected = |name: &str, rates: &[f32]| (name.to_string(), rates.to_vec());
    assert_eq!(rates(&history), [expected("a", &[10.0; 3]), expected("b", &[1.0; 3])]);
    // The one goes, and another gets its slot; the other moves.
    history.on_reading(reading(0, vec![backend(2, "b", 4), backend(1, "c", 2)]), at(4));
    assert_eq!(rates(&history), [expected("b", &[1.0; 4]), expected("c", &[2.0])]);
    history.on_reading(reading(0, vec![backend(2, "b", 4), backend(1, "c", 9)]), at(5));
    assert_eq!(rates(&history), [expected("b", &[1.0, 1.0, 1.0, 1.0, 0.0]), expected("c", &[2.0, 7.0])]);
    // A counter that begins anew counts from 0.
    history.on_reading(reading(0, vec![backend(2, "b", 3), backend(1, "c", 9)]), at(6));
    assert_eq!(rates(&history)[0].1.last(), Some(&3.0));
}

#[test]
fn a_pool_keeps_what_its_backends_did_also_when_one_of_them_goes() {
    let mut history = History::new(at(0));
    let mut read = |backends: Vec<_>, second| {
        let pools = vec![("db".into(), PoolCount::default())];
        history.on_reading(Reading { pools, backends, ..Reading::default() }, at(second));
        history.pools()[0].newest(9).map(|sample| (sample.backends.sessions, sample.backends.connections)).collect()
    };
    let _: Vec<(f32, u32)> = read(vec![backend(1, "a", 0), backend(2, "b", 0)], 1);
    assert_eq!(read(vec![backend(1, "a", 4), backend(2, "b", 1)], 2), [(0.0, 6), (5.0, 6)]);
    assert_eq!(read(vec![backend(1, "a", 4)], 3), [(0.0, 6), (5.0, 6), (0.0, 3)]);
}

/// A name that was removed from the configuration and comes back has its counters of before.
#[test]
fn what_a_name_counted_long_ago_is_not_of_the_second_in_which_it_comes_back() {
    let mut history = History::new(at(0));
    let mut read = |accepted: Option<u64>, second| {
        let count = accepted.map(|accepted| ("in".into(), ListenerCount { accepted, ..ListenerCount::default() }));
        history.on_reading(Reading { listeners: count.into_iter().collect(), ..Reading::default() }, at(second));
        let rates = |series: &Series<Arc<str>, ListenerCount>| series.newest(9).map(|sample| sample.sessions).collect();
        history.listeners().iter().map(rates).collect::<Vec<Vec<f32>>>()
    };
    assert_eq!(read(Some(50), 1), [[50.0]], "at the start all of it is new");
    assert!(read(None, 2).is_empty());
    assert_eq!(read(Some(51), 3), [Vec::<f32>::new()]);
    assert_eq!(read(Some(53), 4), [[2.0]]);
}

#[test]
fn ten_minutes_are_kept_and_never_more_memory_than_allowed() {
    let mut history = History::bounded(at(0), 100_000);
    let many = |count: u32, second: u64| (0..count).map(|id| backend(id, "x", second)).collect::<Vec<_>>();
    (1..=700).for_each(|second| history.on_reading(reading(second, many(1, second)), at(second)));
    assert_eq!(sessions(&history).len(), SECONDS_MAX);
    assert_eq!(history.backends()[0].newest(usize::MAX).len(), SECONDS_MAX);
    // A fleet that grows shortens what is kept of each.
    (701..=800).for_each(|second| history.on_reading(reading(second, many(100, second)), at(second)));
    let of_each = size_of::<TotalSample>() + 100 * size_of::<BackendSample>();
    assert_eq!(sessions(&history).len(), 100_000 / of_each);
    for series in history.backends() {
        assert_eq!(series.newest(usize::MAX).len(), 100_000 / of_each);
    }
    // And one that shrinks gives it back.
    (801..=1500).for_each(|second| history.on_reading(reading(second, many(2, second)), at(second)));
    assert_eq!(sessions(&history).len(), SECONDS_MAX);
}

#[test]
fn what_happened_is_marked_beside_the_second_it_happened_in() {
    let mut history = History::new(at(0));
    history.on_reading(reading(0, vec![]), at(1));
    let event = |number: u64| HistoryEvent::Configured(number);
    history.on_event(event(2), at(1));
    assert_eq!(history.marks_after(0).count(), 0, "its second has no sample yet");
    history.on_reading(reading(0, vec![]), at(2));
    let marks: Vec<&Mark> = history.marks_after(1).collect();
    assert_eq!((marks.len(), marks[0].second, &marks[0].event), (1, 2, &event(2)));
    assert_eq!(history.marks_after(2).count(), 0, "whoever saw that second saw it");
    (0..2 * MARKS_MAX as u64).for_each(|number| history.on_event(event(number), at(2)));
    history.on_reading(reading(0, vec![]), at(3));
    assert_eq!(history.marks_after(0).count(), MARKS_MAX, "bounded");
    history.on_reading(reading(0, vec![]), at(3 + SECONDS_MAX as u64));
    assert_eq!(history.marks_after(0).count(), 0, "as old as the samples beside it");
}

#[test]
fn a_second_without_a_connect_has_no_times() {
    let mut history = History::new(at(0));
    let mut count = PoolCount::default();
    let mut read = |count: &PoolCount, second| {
        let pools = vec![("db".into(), count.clone())];
        history.on_reading(Reading { pools, ..Reading::default() }, at(second));
        history.pools()[0].newest(1).next().map(|sample| sample.connect_ms.0)
    };
    assert_eq!(read(&count, 1), Some(None));
    count.connect.buckets[4] = 100; // above 0.5 ms, up to 1 ms
    assert_eq!(read(&count, 2), Some(Some([0.75, 0.95, 0.995])));
    assert_eq!(read(&count, 3), Some(None));
}
