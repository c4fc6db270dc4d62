//! What no worker sleeps beside. Nothing makes it look again before something else happens, so whatever it could do
//! now, it must have done.

use ringway::balance::failover;
use ringway::base::id::BackendId;
use ringway::base::side::Side;
use ringway::kernel::token::Operation;
use ringway::snapshot::table::{Phase, PoolEntry};

use crate::host::Host;
use crate::pair::{Key, Pair, Stage};
use crate::world::World;

impl World {
    /// To be called when a worker goes to sleep.
    pub fn check_asleep(&self, index: usize) {
        self.check_quiet(index);
        self.check_fed(index);
        let cells = &self.control.shared.stats.workers[index].worker;
        if cells.generation.get() == self.control.generation {
            self.check_cut(index);
        }
    }

    /// What has been sent and need not be heard of waits until something else happens: so nothing may follow from it.
    fn check_quiet(&self, index: usize) {
        let host = self.host.borrow();
        for id in host.rings[index].sent_quietly() {
            let Some(from) = host.socks[id].partner.map(|partner| &host.socks[partner]) else { continue };
            let pair = from.session.and_then(|key| host.sessions.get(&key));
            let follows = match pair.filter(|pair| pair.stage() == Stage::Ending) {
                // What was cancelled is told, and the send with it.
                Some(pair) => !pair.has_cancelled(),
                None => from.eof_told,
            };
            assert!(!follows, "something follows from a send to c{id}, and nobody hears of it");
        }
    }

    /// A receive that starved has been armed again, or there is no buffer.
    fn check_fed(&self, index: usize) {
        let host = self.host.borrow();
        if host.rings[index].pool.available() > 0 {
            let left = host.starving(index).next();
            assert_eq!(left, None, "it receives nothing, worker {index} sleeps, and there are buffers");
        }
    }

    /// Sessions that must be cut are being cut, and none goes on to connect to a backend whose sessions must end.
    fn check_cut(&self, index: usize) {
        let stops = self.control.phase == Phase::Stopping;
        if !stops && !self.control.members.iter().any(|member| member.end_sessions) {
            return;
        }
        let host = self.host.borrow();
        for (key, pair) in host.sessions.range((index, 0, 0)..(index + 1, 0, 0)) {
            let is_closed = pair.socks.into_iter().flatten().any(|sock| host.socks[sock].parting.is_some());
            // What ends has cancelled all that does not end by itself.
            if is_closed || !pair.has_armed() {
                continue;
            }
            let ends = stops || (pair.connected_at.is_some() && self.is_of_the_cut(&host, pair));
            assert!(!ends, "{key:?} is to be cut, and worker {index} sleeps");
            let connects = pair.is_begun(Operation::Connect) || pair.is_begun(Operation::Greet);
            let in_vain = connects && self.is_of_the_cut(&host, pair);
            assert!(!in_vain, "{key:?} goes on to connect to a backend that is to have no session");
        }
    }

    /// Whether its backend is to have no session, in whichever pool.
    pub fn is_of_the_cut(&self, host: &Host, pair: &Pair) -> bool {
        let [Some(_), Some(backend)] = pair.socks else { return false };
        let address = &host.socks[backend].peer_address;
        let mut there =
            self.control.members.iter().filter(|member| member.address.as_ref() == Some(address)).peekable();
        there.peek().is_some() && there.all(|member| member.end_sessions)
    }

    /// All workers sleep and have heard everything: no session waits in the line of a pool that has a place.
    pub fn check_places(&self) {
        let host = self.host.borrow();
        let may_be_lost = host.profile.odds.no_message.0 > 0;
        let is_told =
            host.rings.iter().all(|ring| ring.queued.is_empty() && ring.on_their_way(&[Operation::Queue]) == 0);
        let cells = self.control.shared.stats.workers.iter().map(|cells| &cells.worker);
        let knows = |running: u64, generation: u64| running == 0 || generation == self.control.generation;
        let all_know = cells.into_iter().all(|cells| knows(cells.running.get(), cells.generation.get()));
        if may_be_lost || !is_told || !all_know || self.seats.iter().any(|seat| seat.is_busy) {
            return;
        }
        let workers = self.seats.len();
        for pool in self.control.table.pools.iter().flatten() {
            if self.control.shared.counts.queue(pool.id).oldest(workers).is_some() {
                assert_eq!(pool.falls_to, None, "somebody waits for {}, and its fallback serves", pool.name);
                let place = self.place_of(pool);
                assert_eq!(place, None, "somebody waits in the line of {}, and all workers sleep", pool.name);
            }
        }
    }

    /// A backend that could have one session more.
    fn place_of(&self, pool: &PoolEntry) -> Option<BackendId> {
        let (table, counts) = (&self.control.table, &self.control.shared.counts);
        let usable = || pool.picker.candidates().filter_map(|id| table.backend(id)).filter(|it| it.weight > 0);
        let level = usable().map(|backend| backend.backup).min();
        let is_first_only = self.control.pool(pool.id).balance == failover::POLICY;
        let next = usable().filter(|backend| Some(backend.backup) == level);
        let has_place = |id, most: u32| counts.connections(id) < most;
        next.take(if is_first_only { 1 } else { usize::MAX })
            .find(|backend| has_place(backend.id, backend.connections_max.map_or(u32::MAX, |most| most.get())))
            .map(|backend| backend.id)
    }
}

impl Host {
    /// There are buffers, and more receives that starved than those.
    pub fn is_fed_in_parts(&self, worker: usize) -> bool {
        self.rings[worker].pool.available() > 0 && self.starving(worker).next().is_some()
    }

    /// Receives of a worker that found no buffer, and nothing but one is in their way.
    pub fn starving(&self, worker: usize) -> impl Iterator<Item = (Key, usize)> {
        self.rings[worker].starved.iter().copied().filter(move |&(key, from)| self.is_starving(worker, key, from))
    }

    fn is_starving(&self, worker: usize, key: Key, from: usize) -> bool {
        let Some(pair) = self.sessions.get(&key).filter(|pair| pair.socks.contains(&Some(from))) else { return false };
        let sock = &self.socks[from];
        let to = sock.partner.map(|partner| &self.socks[partner]);
        // What it holds may have to go first.
        let held = to.map_or(sock.taken - sock.skipped, |to| sock.undelivered(to));
        let sends = |side| pair.has_in_flight(Operation::send(side));
        let may_end = pair.stage() == Stage::Ending || pair.may_end_unseen();
        let may_rest = may_end || self.has_pipe(worker, pair) || to.is_some_and(|to| to.error_told);
        let is_open = sock.parting.is_none() && !sock.eof_told && !sock.error_told && !sock.reading_stopped;
        let side = if sock.is_client { Side::Client } else { Side::Backend };
        held == 0 && !sends(side.peer()) && is_open && !may_rest
    }
}
