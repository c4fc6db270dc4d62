//! The clients of one worker that wait for a backend: in which order they are called. Pure: it is told what happens and
//! says which client to call. How the order over all workers comes about is in [`queue`](super::queue).
//!
//! Most clients stand in the *line* of their pool: any backend will do, so when there is no place for the first one,
//! there is none for those behind it. Others stand *aside*: they have tried some of the backends, and the places of
//! those are not for them. They do not hold up the line, and are of one *kind* if they have tried the same backends:
//! when there is no place for the oldest one of a kind, there is none for the others of its kind. So a look costs one
//! call in vain for each kind, however many wait.
//!
//! Clients aside on one worker must not starve beside the line of another one, whose worker may have made the room and
//! is the first to know. So a worker that has news gives way: while a client stands aside elsewhere that came before
//! the first one in the line, it tells the worker of that client and does not call the line. The told worker looks, and
//! then tells the worker that has the first one in the line. That one was told, so it does not give way again.

#[cfg(debug_assertions)]
mod invariants;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::queue::{Queue, Ticket};
use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;

/// Between looks at the queues if nothing happens: should a message between workers ever be late or lost, no client
/// waits much longer for it than this.
const LOOK_INTERVAL_NS: u64 = 10_000_000;
/// Before another attempt to connect to a primary that could not be connected to.
const SCOUT_NS: u64 = 100_000_000;
/// Kinds that are called in one look; the others have their turn in the next one.
const KINDS_A_LOOK: usize = 16;

/// Where a session stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// In the line.
    Line(Ticket),
    /// Beside it: places of the backends it has tried are not for it.
    Aside(Ticket),
}

/// What a session knows of the queue.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// `None` while it does not wait.
    pub place: Option<Place>,
    /// When it began to.
    pub since: Moment,
}

impl Waiting {
    /// Of a session that does not wait.
    pub const NONE: Waiting = Waiting { place: None, since: Moment(0) };
}

/// Backends that were tried, in ascending order: what makes a kind.
type Tried = Arc<[BackendId]>;

/// The clients of one pool. `K` is what a session is known by.
#[derive(Debug)]
struct Line<K> {
    line: BTreeMap<Ticket, K>,
    aside: BTreeMap<Ticket, (K, Tried)>,
    /// The same by kind.
    kinds: BTreeMap<Tried, BTreeSet<Ticket>>,
    /// The last kind that was called: the next look begins behind it.
    last_kind: Option<Tried>,
    /// Of a pool that waits for its primary: there is a reason for all of those aside to try again.
    is_released: bool,
    /// Without a reason, one of them tries again then: a thousand that try together would do a server that is coming up
    /// no good.
    scout_at: Moment,
}

/// Why a queue is looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WaitReason {
    /// Something happened on this worker. Others may have to know first.
    pub is_news: bool,
    /// Another worker has told it, or the time has come: those that had to know have looked.
    pub is_told: bool,
}

/// All clients of a worker that wait.
#[derive(Debug)]
pub struct Waiters<K> {
    pools: BTreeMap<PoolId, Line<K>>,
    /// Where something may have changed.
    to_serve: BTreeMap<PoolId, WaitReason>,
    look_at: Moment,
    #[cfg(debug_assertions)]
    pace: crate::base::pace::LookPace,
}

/// A look at the queue of one pool, as far as it has come.
#[derive(Debug)]
pub struct LineLook {
    pool: PoolId,
    reason: WaitReason,
    afresh: bool,
    /// Those that are called one after another; `None` is all that stand aside, whatever they have tried.
    kinds: std::vec::IntoIter<Option<Tried>>,
    kind: Option<Option<Tried>>,
    /// A client that comes aside while this look goes on waits for the next one.
    until: Option<Ticket>,
    /// One call is enough.
    is_scout: bool,
    /// The client that was called last, of this kind or in the line.
    called: Option<Ticket>,
    stage: LineStage,
}

#[derive(Debug)]
enum LineStage {
    /// Those that stand aside here are called.
    Aside,
    /// Workers that have to look first are told.
    Tell(std::vec::IntoIter<usize>),
    /// The line is called.
    Line,
    /// Nothing is left to do.
    Over,
}

/// What to do next in a look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineStep<K> {
    /// That session may find a backend now. `afresh`: also among those it has tried.
    Call {
        /// Which one.
        key: K,
        /// What it has tried is forgotten.
        afresh: bool,
    },
    /// That worker must look: see [`Waiters::told`].
    Tell(usize),
    /// This look is over.
    Done,
}

impl<K> Default for Line<K> {
    fn default() -> Line<K> {
        Line {
            line: BTreeMap::new(),
            aside: BTreeMap::new(),
            kinds: BTreeMap::new(),
            last_kind: None,
            is_released: false,
            scout_at: Moment::NEVER,
        }
    }
}

impl<K: Copy> Line<K> {
    /// Takes a client in. One that has tried backends stands aside, because the next free one may be no use to it.
    fn enter(&mut self, ticket: Ticket, key: K, tried: &[BackendId], now: Moment) -> Place {
        if tried.is_empty() {
            self.line.insert(ticket, key);
            return Place::Line(ticket);
        }
        if self.aside.is_empty() {
            self.scout_at = now.after_ns(SCOUT_NS);
        }
        let mut tried = tried.to_vec();
        tried.sort_unstable();
        let tried = match self.kinds.get_key_value(&tried[..]) {
            Some((kind, _)) => kind.clone(),
            None => Tried::from(tried),
        };
        self.kinds.entry(tried.clone()).or_default().insert(ticket);
        self.aside.insert(ticket, (key, tried));
        Place::Aside(ticket)
    }

    /// Lets a client go, wherever it stands.
    fn leave(&mut self, place: Place) {
        match place {
            Place::Line(ticket) => _ = self.line.remove(&ticket),
            Place::Aside(ticket) => {
                let Some((_, tried)) = self.aside.remove(&ticket) else { return };
                if let Some(kind) = self.kinds.get_mut(&tried) {
                    kind.remove(&ticket);
                    if kind.is_empty() {
                        self.kinds.remove(&tried);
                    }
                }
            }
        }
    }

    /// Whether no client waits.
    fn is_empty(&self) -> bool {
        self.line.is_empty() && self.aside.is_empty()
    }

    /// How many clients wait.
    fn len(&self) -> usize {
        self.line.len() + self.aside.len()
    }

    /// Which kinds a look calls, and whether one call is enough.
    fn begin(&mut self, afresh: bool, now: Moment) -> (Vec<Option<Tried>>, bool) {
        if self.aside.is_empty() {
            return (Vec::new(), false);
        }
        if afresh {
            let is_scout = !std::mem::take(&mut self.is_released);
            if is_scout && now < self.scout_at {
                return (Vec::new(), false);
            }
            self.scout_at = now.after_ns(SCOUT_NS);
            return (vec![None], is_scout);
        }
        let behind = match &self.last_kind {
            Some(last) => (Bound::Excluded(last.clone()), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let turn = self.kinds.range(behind).chain(&self.kinds).take(self.kinds.len().min(KINDS_A_LOOK));
        let mut turn: Vec<_> = turn.map(|(kind, tickets)| (tickets.first().copied(), kind.clone())).collect();
        self.last_kind = turn.last().map(|(_, kind)| kind.clone());
        turn.sort_unstable();
        (turn.into_iter().map(|(_, kind)| Some(kind)).collect(), false)
    }

    /// The oldest one of a kind, or of all that stand aside.
    fn oldest_aside(&self, kind: Option<&Tried>) -> Option<(Ticket, K)> {
        let ticket = match kind {
            Some(kind) => *self.kinds.get(kind)?.first()?,
            None => *self.aside.first_key_value()?.0,
        };
        Some((ticket, self.aside.get(&ticket)?.0))
    }

    /// The client that has waited for the longest time.
    fn oldest(&self) -> Option<(Ticket, K)> {
        self.line.first_key_value().map(|(&ticket, &key)| (ticket, key))
    }

    /// The next one aside that is to be called: of each kind, for as long as those that were called have left.
    fn next_aside(&self, look: &mut LineLook) -> Option<K> {
        loop {
            let kind = match &look.kind {
                Some(kind) => kind,
                None => look.kind.insert(look.kinds.next()?),
            };
            let is_over = look.is_scout && look.called.is_some();
            match self.oldest_aside(kind.as_ref()).filter(|_| !is_over) {
                Some((ticket, key)) if look.called != Some(ticket) && Some(ticket) <= look.until => {
                    look.called = Some(ticket);
                    return Some(key);
                }
                _ => (look.kind, look.called) = (None, None),
            }
        }
    }
}

impl<K> Default for Waiters<K> {
    fn default() -> Waiters<K> {
        Waiters {
            pools: BTreeMap::new(),
            to_serve: BTreeMap::new(),
            look_at: Moment::NEVER,
            #[cfg(debug_assertions)]
            pace: crate::base::pace::LookPace::default(),
        }
    }
}

impl<K: Copy> Waiters<K> {
    /// Clients that wait.
    pub fn len(&self) -> usize {
        self.pools.values().map(Line::len).sum()
    }

    /// Whether no client waits.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// When the worker has to look although nothing happened.
    #[inline]
    pub fn look_at(&self) -> Moment {
        if self.to_serve.is_empty() { self.look_at } else { Moment::default() }
    }

    /// Something has changed for that pool on this worker: the oldest one may find a backend.
    pub fn serve(&mut self, pool: PoolId) {
        self.to_serve.entry(pool).or_default().is_news = true;
    }

    /// Another worker says that the oldest one of this worker may find a backend.
    pub fn told(&mut self, pool: PoolId) {
        self.to_serve.entry(pool).or_default().is_told = true;
    }

    /// Something may have changed for every pool, and every worker knows it.
    pub fn serve_all(&mut self) {
        self.pools.values_mut().for_each(|line| line.is_released = true);
        self.told_of_all();
    }

    fn told_of_all(&mut self) {
        for &pool in self.pools.keys() {
            self.to_serve.entry(pool).or_default().is_told = true;
        }
    }

    /// A session of that pool was connected, so others may be too.
    #[inline]
    pub fn connected(&mut self, pool: PoolId) {
        if !self.pools.is_empty()
            && let Some(line) = self.pools.get_mut(&pool).filter(|line| !line.aside.is_empty())
        {
            line.is_released = true;
            self.serve(pool);
        }
    }

    /// A session begins to wait, with the ticket it drew; it has tried these backends.
    pub fn enter(&mut self, pool: PoolId, ticket: Ticket, key: K, tried: &[BackendId], now: Moment) -> Place {
        let place = self.pools.entry(pool).or_default().enter(ticket, key, tried, now);
        self.look_at = self.look_at.min(now.after_ns(LOOK_INTERVAL_NS));
        // There may have become room since it looked.
        self.serve(pool);
        #[cfg(debug_assertions)]
        self.check_invariants();
        place
    }

    /// A session waits no more, with a backend or without.
    pub fn leave(&mut self, pool: PoolId, place: Place) {
        if let Some(line) = self.pools.get_mut(&pool) {
            line.leave(place);
            if line.is_empty() {
                self.pools.remove(&pool);
            }
        }
        // What it waited for may be for the next one.
        self.serve(pool);
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// What the other workers must know, see [`Queue::set_heads`]: the oldest one in the line, and aside.
    pub fn heads(&self, pool: PoolId) -> [Option<Ticket>; 2] {
        let Some(line) = self.pools.get(&pool) else { return [None; 2] };
        [line.oldest().map(|(ticket, _)| ticket), line.oldest_aside(None).map(|(ticket, _)| ticket)]
    }

    /// The pools to look at now. To be asked again until there are none, as a look may give reason for another one.
    pub fn due(&mut self, now: Moment) -> BTreeMap<PoolId, WaitReason> {
        if now >= self.look_at {
            self.look_at = now.after_ns(LOOK_INTERVAL_NS);
            self.told_of_all();
        }
        if self.pools.is_empty() {
            self.look_at = Moment::NEVER;
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
        std::mem::take(&mut self.to_serve)
    }

    /// Begins a look at the queue of a pool. `afresh`: the pool waits for its primary, and what its clients have tried
    /// may have become the primary.
    pub fn begin(&mut self, pool: PoolId, reason: WaitReason, afresh: bool, now: Moment) -> LineLook {
        let line = self.pools.get_mut(&pool);
        let until = line.as_ref().and_then(|line| line.aside.last_key_value()).map(|(&ticket, _)| ticket);
        let (kinds, is_scout) = line.map_or_else(Default::default, |line| line.begin(afresh, now));
        let kinds = kinds.into_iter();
        LineLook { pool, reason, afresh, kinds, kind: None, until, is_scout, called: None, stage: LineStage::Aside }
    }

    /// What to do next; to be asked until it is done. `me` is this worker, one of so many.
    pub fn next(&mut self, look: &mut LineLook, queue: &Queue, me: usize, workers: usize) -> LineStep<K> {
        loop {
            match &mut look.stage {
                LineStage::Aside => {
                    if let Some(key) = self.pools.get(&look.pool).and_then(|line| line.next_aside(look)) {
                        return LineStep::Call { key, afresh: look.afresh };
                    }
                    let first = if look.reason.is_news { queue.before_the_line(workers, me) } else { Vec::new() };
                    look.stage = LineStage::Tell(first.into_iter());
                }
                LineStage::Tell(first) => {
                    if let Some(worker) = first.next() {
                        if first.len() == 0 {
                            // They go on with the line.
                            look.stage = if look.reason.is_told { LineStage::Line } else { LineStage::Over };
                        }
                        return LineStep::Tell(worker);
                    }
                    look.stage = LineStage::Line;
                }
                LineStage::Line => return self.next_in_line(look, queue, me, workers),
                LineStage::Over => return LineStep::Done,
            }
        }
    }

    fn next_in_line(&self, look: &mut LineLook, queue: &Queue, me: usize, workers: usize) -> LineStep<K> {
        let Some((first, worker)) = queue.oldest(workers) else { return LineStep::Done };
        if worker != me {
            look.stage = LineStage::Over;
            return LineStep::Tell(worker);
        }
        // No backend has room for it, and so none for those behind it.
        if look.called.replace(first) == Some(first) {
            return LineStep::Done;
        }
        match self.pools.get(&look.pool).and_then(Line::oldest) {
            Some((oldest, key)) if oldest == first => LineStep::Call { key, afresh: false },
            _ => {
                debug_assert!(false, "a head without a client");
                queue.set_heads(me, self.heads(look.pool));
                LineStep::Done
            }
        }
    }
}

#[cfg(test)]
mod tests;
