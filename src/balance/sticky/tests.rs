use std::net::IpAddr;

use super::*;

const S: u64 = 1_000_000_000;
const KEEP: u64 = 60 * S;

fn key(number: u32) -> u64 {
    hash::of_ip(IpAddr::from(number.to_be_bytes()))
}

/// A session of a client, and the backend that the client had.
fn enter(table: &StickyTable, client: u32, now: Moment) -> (StickyPermit, Option<BackendId>) {
    let permit = table.enter(key(client), KEEP, now).permit;
    let backend = table.backend(&permit);
    (permit, backend)
}

#[test]
fn a_client_keeps_its_backend_until_its_time_is_over() {
    let table = StickyTable::default();
    let (first, before) = enter(&table, 1, Moment(S));
    assert_eq!(before, None);
    table.remember(&first, BackendId(7));
    let (second, same) = enter(&table, 1, Moment(2 * S));
    assert_eq!(same, Some(BackendId(7)));
    assert_eq!(enter(&table, 2, Moment(2 * S)).1, None, "another client has none");
    table.leave(first, Moment(3 * S));
    let late = Moment(1000 * S);
    let (third, same) = enter(&table, 1, late);
    assert_eq!(same, Some(BackendId(7)), "a session is open all the time");
    table.remember(&third, BackendId(0));
    assert_eq!(table.backend(&second), Some(BackendId(0)), "it has moved");
    [second, third].into_iter().for_each(|permit| table.leave(permit, late));
    for (waits_ns, expected) in [(KEEP - 1, Some(BackendId(0))), (KEEP, None)] {
        let table = StickyTable::default();
        let (permit, _) = enter(&table, 1, late);
        table.remember(&permit, BackendId(0));
        table.leave(permit, late);
        assert_eq!(enter(&table, 1, late.after_ns(waits_ns)).1, expected, "{waits_ns}");
    }
}

/// An address has sixteen places. The client goes that was without a session for longest.
#[test]
fn a_full_table_forgets_the_idlest_client_and_none_with_a_session() {
    let table = StickyTable::default();
    let mut clients = 0..u32::MAX;
    let mut evicted = 0;
    let mut entered = Vec::new();
    while evicted == 0 {
        let client = clients.next().unwrap();
        let now = Moment(S + u64::from(client));
        let StickyEntered { permit, evicts } = table.enter(key(client), KEEP, now);
        table.remember(&permit, BackendId(client % 1000));
        table.leave(permit, now);
        evicted += u32::from(evicts);
        entered.push(client);
    }
    let places = BUCKETS * WAYS;
    assert!(entered.len() > places * 7 / 10 && entered.len() <= places, "{} of {places}", entered.len());
    let now = Moment(S + entered.len() as u64);
    let has = |client: &&u32| table.find(Name::of(key(**client)), None).is_some();
    let gone: Vec<u32> = entered.iter().filter(|client| !has(client)).copied().collect();
    assert_eq!(gone.len(), 1);
    assert!(gone[0] < *entered.last().unwrap() / 2, "{gone:?}: it was one of the older ones");
    // All of them have sessions now.
    let open: Vec<StickyPermit> =
        entered.iter().filter(has).map(|client| table.enter(key(*client), KEEP, now).permit).collect();
    let mut refused = 0;
    for client in clients.take(places * 4) {
        let entered = table.enter(key(client), KEEP, now);
        assert!(!entered.evicts);
        refused += usize::from(entered.permit == StickyPermit::NOBODY);
    }
    assert!(refused > 0 && open.iter().all(|permit| table.backend(permit).is_some()));
}

#[test]
fn one_client_has_one_backend_however_many_workers_serve_it() {
    let table = StickyTable::default();
    for round in 0..200u32 {
        let now = Moment(S);
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (table, barrier) = (&table, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let permit = table.enter(key(round), KEEP, now).permit;
                    if table.backend(&permit).is_none() {
                        table.remember(&permit, BackendId(worker));
                    }
                    table.leave(permit, now);
                });
            }
        });
        let name = Name::of(key(round));
        let found = name.places().filter(|place| tag_of(table.places()[*place].word.load(SeqCst)) == name.tag);
        let words: Vec<u64> = found.map(|place| table.places()[place].word.load(SeqCst)).collect();
        assert!(matches!(words[..], [word] if word & OPEN == 0 && backend_of(word).is_some()), "{words:x?}");
    }
}

#[test]
fn entries_go_from_one_table_to_another() {
    let (before, after) = (StickyTable::default(), StickyTable::default());
    let mut open = Vec::new();
    for client in 0..5000 {
        let now = Moment(S * u64::from(client % 100 + 1));
        let (permit, _) = enter(&before, client, now);
        before.remember(&permit, BackendId(client % 7));
        match client % 3 {
            0 => open.push(permit),
            _ => before.leave(permit, now),
        }
    }
    let now = Moment(100 * S);
    let (own, _) = enter(&after, 1, now);
    after.remember(&own, BackendId(99));
    before.entries(KEEP, now).for_each(|entry| after.restore(entry, KEEP, now));
    for client in 0..5000 {
        let since = Moment(S * u64::from(client % 100 + 1));
        let is_over = client % 3 != 0 && now >= since.after_ns(KEEP);
        let expected = if client == 1 { Some(BackendId(99)) } else { Some(BackendId(client % 7)).filter(|_| !is_over) };
        assert_eq!(enter(&after, client, now).1, expected, "{client}");
    }
    assert!(after.entries(KEEP, now).count() <= 5000);
}

#[test]
fn a_client_with_too_many_sessions_is_not_counted_any_more() {
    let table = StickyTable::default();
    let permits: Vec<StickyPermit> = (0..OPEN).map(|_| table.enter(key(1), KEEP, Moment(S)).permit).collect();
    assert!(!permits.contains(&StickyPermit::NOBODY));
    let one_more = table.enter(key(1), KEEP, Moment(S));
    assert_eq!(one_more, StickyEntered { permit: StickyPermit::NOBODY, evicts: false });
    table.remember(&one_more.permit, BackendId(1));
    assert_eq!(table.backend(&one_more.permit), None);
    table.leave(one_more.permit, Moment(S));
    permits.into_iter().for_each(|permit| table.leave(permit, Moment(S)));
    assert_ne!(table.enter(key(1), KEEP, Moment(S)).permit, StickyPermit::NOBODY);
}
