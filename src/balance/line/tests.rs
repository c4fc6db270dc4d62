use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const POOL: PoolId = PoolId(0);
const A: &[BackendId] = &[BackendId(1)];
const B: &[BackendId] = &[BackendId(2)];
const NEWS: WaitReason = WaitReason { is_news: true, is_told: false };
const TOLD: WaitReason = WaitReason { is_news: false, is_told: true };
const NOW: Moment = Moment(1_000_000_000);

/// One worker and its queue, without a backend.
#[derive(Default)]
struct Alone {
    queue: Queue,
    waiters: Waiters<u32>,
    places: std::collections::HashMap<u32, Place>,
}

impl Alone {
    fn enter(&mut self, key: u32, tried: &[BackendId]) {
        let ticket = self.queue.enter(u32::MAX).unwrap();
        self.places.insert(key, self.waiters.enter(POOL, ticket, key, tried, NOW));
        self.queue.set_heads(0, self.waiters.heads(POOL));
    }

    fn leave(&mut self, key: u32) {
        self.waiters.leave(POOL, self.places.remove(&key).unwrap());
        self.queue.leave();
        self.queue.set_heads(0, self.waiters.heads(POOL));
    }

    /// One look: the clients that are called. Those that find a backend, by `finds`, leave.
    fn look(&mut self, afresh: bool, now: Moment, mut finds: impl FnMut(u32) -> bool) -> Vec<u32> {
        let (mut look, mut called) = (self.waiters.begin(POOL, NEWS, afresh, now), Vec::new());
        loop {
            match self.waiters.next(&mut look, &self.queue, 0, 1) {
                LineStep::Call { key, .. } => {
                    called.push(key);
                    assert!(called.len() < 100_000, "a look without end");
                    if finds(key) {
                        self.leave(key);
                    }
                }
                LineStep::Tell(worker) => panic!("there is no worker {worker}"),
                LineStep::Done => return called,
            }
        }
    }
}

/// A look was a call for each of them, and a linear search each: with 4,000 aside, a whole core.
#[test]
fn however_many_wait_a_look_costs_one_call_in_vain_of_each_kind() {
    let mut alone = Alone::default();
    (0..4000).for_each(|key| alone.enter(key, if key % 2 == 0 { A } else { B }));
    (4000..8000).for_each(|key| alone.enter(key, &[]));
    assert_eq!(alone.look(false, NOW, |_| false), [0, 1, 4000]);
}

#[test]
fn as_many_are_called_as_find_a_place_and_one_more_the_oldest_first() {
    let mut alone = Alone::default();
    (0..10).for_each(|key| alone.enter(key, A));
    let mut places = 3;
    let called = alone.look(false, NOW, |_| {
        places -= 1;
        places >= 0
    });
    assert_eq!(called, [0, 1, 2, 3]);
    (10..20).for_each(|key| alone.enter(key, &[]));
    assert_eq!(alone.look(false, NOW, |key| (10..13).contains(&key)), [3, 10, 11, 12, 13]);
}

#[test]
fn a_client_that_finds_no_place_holds_up_its_own_kind_only() {
    let mut alone = Alone::default();
    alone.enter(0, A);
    alone.enter(1, &[]);
    alone.enter(2, B);
    // The order in which they were tried makes no other kind.
    alone.enter(3, &[A[0], B[0]]);
    alone.enter(4, &[B[0], A[0]]);
    assert_eq!(alone.look(false, NOW, |key| key == 2), [0, 2, 3, 1]);
}

#[test]
fn of_many_kinds_each_has_its_turn() {
    let mut alone = Alone::default();
    let kinds = KINDS_A_LOOK as u32 * 3 + 5;
    (0..kinds).for_each(|key| alone.enter(key, &[BackendId(1000 - key)]));
    let mut called: Vec<u32> = (0..4).flat_map(|_| alone.look(false, NOW, |_| false)).collect();
    assert_eq!(called.len(), KINDS_A_LOOK * 4);
    called.sort_unstable();
    called.dedup();
    assert_eq!(called.len(), kinds as usize);
}

/// A server that is coming up is tried by one of a thousand, and by all of them once it has taken one.
#[test]
fn after_failed_attempts_one_at_a_time_tries_again_and_all_do_once_there_is_a_reason() {
    const NOBODY: [u32; 0] = [];
    let mut alone = Alone::default();
    (0..3).for_each(|key| alone.enter(key, A));
    let after = |span_ns| NOW.after_ns(span_ns);
    assert_eq!(alone.look(true, after(SCOUT_NS - 1), |_| true), NOBODY);
    assert_eq!(alone.look(true, after(SCOUT_NS), |_| true), [0], "one, although it has found a backend");
    alone.enter(0, A);
    assert_eq!(alone.look(true, after(2 * SCOUT_NS - 1), |_| true), NOBODY, "the others wait for what comes of it");
    assert_eq!(alone.look(true, after(2 * SCOUT_NS), |_| false), [1]);
    alone.waiters.connected(POOL);
    assert_eq!(alone.look(true, after(2 * SCOUT_NS), |key| key == 1), [1, 2], "the reason was none for the second one");
    assert_eq!(alone.look(true, after(3 * SCOUT_NS - 1), |_| true), NOBODY);
    alone.waiters.serve_all();
    assert_eq!(alone.look(true, after(3 * SCOUT_NS - 1), |_| true), [2, 0]);
}

/// One whose attempt fails immediately stands aside again before the look is over.
#[test]
fn no_client_is_called_twice_in_a_look() {
    for afresh in [false, true] {
        let mut alone = Alone::default();
        (0..5).for_each(|key| alone.enter(key, A));
        alone.waiters.serve_all();
        let mut look = alone.waiters.begin(POOL, NEWS, afresh, NOW);
        let mut called = Vec::new();
        while let LineStep::Call { key, .. } = alone.waiters.next(&mut look, &alone.queue, 0, 1) {
            called.push(key);
            alone.leave(key);
            alone.enter(key, A);
        }
        assert_eq!(called, [0, 1, 2, 3, 4]);
    }
}

proptest! {
    /// Against a plain list.
    #[test]
    fn heads_and_calls_are_those_of_a_plain_list(steps in prop::collection::vec((0u32..30, 0usize..4), 1..80)) {
        let kinds: [&[BackendId]; 4] = [&[], &[], A, B];
        let (mut alone, mut list) = (Alone::default(), Vec::<(u32, usize)>::new());
        for (key, kind) in steps {
            let kind = if kind == 0 { 1 } else { kind };
            match list.iter().position(|&(other, _)| other == key) {
                Some(at) => {
                    list.remove(at);
                    alone.leave(key);
                }
                None => {
                    list.push((key, kind));
                    alone.enter(key, kinds[kind]);
                }
            }
            prop_assert_eq!(alone.queue.waiting() as usize, list.len());
            let first = |wanted: fn(usize) -> bool| list.iter().find(|&&(_, kind)| wanted(kind)).map(|&(key, _)| key);
            let [line, aside] = alone.waiters.heads(POOL);
            prop_assert_eq!(line.is_some(), first(|kind| kind == 1).is_some());
            prop_assert_eq!(aside.is_some(), first(|kind| kind > 1).is_some());
            let firsts = [first(|kind| kind == 2), first(|kind| kind == 3)];
            let mut expected: Vec<u32> = firsts.into_iter().flatten().collect();
            expected.sort_by_key(|&key| list.iter().position(|&(other, _)| other == key));
            expected.extend(first(|kind| kind == 1));
            prop_assert_eq!(alone.look(false, NOW, |_| false), expected);
        }
    }
}

/// Workers that share one backend, `BackendId(2)`, with room for one session.
struct Together {
    queue: Queue,
    workers: Vec<Waiters<u32>>,
    /// Where each client is: its worker, its place, and what it has tried.
    clients: std::collections::BTreeMap<u32, (usize, Place, &'static [BackendId])>,
    /// Workers that were told to look and have not looked yet.
    mail: VecDeque<usize>,
    /// Where something has happened that was not looked at yet.
    news: VecDeque<usize>,
    is_free: bool,
    served: Vec<u32>,
    looks: usize,
}

impl Together {
    fn new(workers: usize) -> Together {
        Together {
            queue: Queue::default(),
            workers: (0..workers).map(|_| Waiters::default()).collect(),
            clients: Default::default(),
            mail: VecDeque::new(),
            news: VecDeque::new(),
            is_free: false,
            served: Vec::new(),
            looks: 0,
        }
    }

    fn enter(&mut self, worker: usize, key: u32, tried: &'static [BackendId]) {
        let ticket = self.queue.enter(u32::MAX).unwrap();
        let place = self.workers[worker].enter(POOL, ticket, key, tried, NOW);
        self.clients.insert(key, (worker, place, tried));
        self.queue.set_heads(worker, self.workers[worker].heads(POOL));
        self.settle(worker);
    }

    fn look(&mut self, worker: usize, reason: WaitReason) {
        self.looks += 1;
        let (mut look, workers) = (self.workers[worker].begin(POOL, reason, false, NOW), self.workers.len());
        loop {
            match self.workers[worker].next(&mut look, &self.queue, worker, workers) {
                LineStep::Done => return,
                LineStep::Tell(other) => {
                    assert_ne!(other, worker);
                    self.mail.push_back(other);
                }
                LineStep::Call { key, .. } => {
                    let (_, place, tried) = self.clients[&key];
                    if !tried.contains(&B[0]) && std::mem::take(&mut self.is_free) {
                        self.clients.remove(&key);
                        self.workers[worker].leave(POOL, place);
                        self.queue.leave();
                        self.queue.set_heads(worker, self.workers[worker].heads(POOL));
                        self.served.push(key);
                        self.news.push_back(worker);
                    }
                }
            }
        }
    }

    /// That worker looks, and then those that were told to, until none is left.
    fn settle(&mut self, worker: usize) {
        self.news.push_back(worker);
        self.looks = 0;
        loop {
            if let Some(worker) = self.news.pop_front() {
                self.look(worker, NEWS);
            } else if let Some(worker) = self.mail.pop_front() {
                self.look(worker, TOLD);
            } else {
                return;
            }
            assert!(self.looks < 100, "they tell each other without end");
        }
    }

    /// The session of the backend ends on that worker.
    fn free(&mut self, worker: usize) {
        self.is_free = true;
        self.settle(worker);
    }
}

/// A worker whose line never ends makes all the room and is the first to know.
#[test]
fn clients_aside_are_not_starved_by_the_line_of_another_worker() {
    let mut together = Together::new(3);
    together.enter(0, 1, A);
    (10..14).for_each(|key| together.enter(1, key, &[]));
    for round in 0..4 {
        together.enter(1, 100 + round, &[]);
        together.free(1);
    }
    assert!(together.served.contains(&1), "{:?}", together.served);
    // Without a line, too, and if the worker that made the room has no client that waits.
    let mut together = Together::new(3);
    together.enter(0, 1, A);
    together.free(2);
    assert_eq!(together.served, [1]);
}

/// Those aside that cannot use a place do not keep it from the line, on whichever workers they are.
#[test]
fn clients_aside_in_vain_keep_no_place_from_the_line() {
    let mut together = Together::new(4);
    (0..4).for_each(|worker| together.enter(worker, worker as u32, B));
    (10..20).for_each(|key| together.enter(key as usize % 4, key, &[]));
    for (served, key) in (10..20).enumerate() {
        together.free(served % 3);
        assert_eq!(together.served.last(), Some(&key), "the oldest one in the line");
    }
    assert_eq!(together.clients.len(), 4);
}

proptest! {
    /// No place is left free beside a client that could use it, and telling each other comes to an end.
    #[test]
    fn a_free_place_is_taken_if_anybody_can_use_it(
        steps in prop::collection::vec((0usize..3, 0usize..4), 1..60)
    ) {
        let kinds: [&'static [BackendId]; 3] = [&[], A, B];
        let mut together = Together::new(3);
        for (key, (worker, what)) in steps.into_iter().enumerate() {
            match kinds.get(what) {
                Some(tried) => together.enter(worker, key as u32, tried),
                None => together.free(worker),
            }
            let could = together.clients.values().any(|(_, _, tried)| !tried.contains(&B[0]));
            prop_assert!(!(together.is_free && could), "{:?}", together.clients);
        }
    }
}

#[cfg(debug_assertions)]
fn of(waiters: &mut Waiters<u32>) -> &mut Line<u32> {
    waiters.pools.get_mut(&POOL).unwrap()
}

#[cfg(debug_assertions)]
#[test]
fn clients_that_stand_in_no_place_or_in_two_are_noticed() {
    let noticed = |spoil: fn(&mut Waiters<u32>)| {
        let mut alone = Alone::default();
        (0..6).for_each(|key| alone.enter(key, [A, B, &[]][key as usize % 3]));
        spoil(&mut alone.waiters);
        let look = std::panic::AssertUnwindSafe(|| alone.waiters.check_invariants());
        std::panic::catch_unwind(look).is_err()
    };
    assert!(!noticed(|_| {}));
    let broken: [fn(&mut Waiters<u32>); 6] = [
        |waiters| waiters.look_at = Moment::NEVER,
        |waiters| {
            let Line { line, aside, .. } = of(waiters);
            line.extend(aside.keys().map(|&ticket| (ticket, 7)));
        },
        |waiters| _ = of(waiters).kinds.pop_first(),
        |waiters| _ = of(waiters).aside.pop_first(),
        |waiters| of(waiters).kinds.values_mut().for_each(BTreeSet::clear),
        |waiters| _ = waiters.pools.insert(PoolId(1), Line::default()),
    ];
    for (number, spoil) in broken.into_iter().enumerate() {
        assert!(noticed(spoil), "the {number}th is not noticed");
    }
}
