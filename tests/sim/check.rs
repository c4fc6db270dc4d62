//! What must hold: at each FIN and each close, after each turn, at rest, and at the end.

use ringway::base::session::SessionId;
use ringway::base::side::Side;
use ringway::base::time::Moment;
use ringway::kernel::token::Operation;
use ringway::snapshot::table::Phase;
use ringway::stats::record::Record;

use crate::corner::Corner;
use crate::faults::MS;
use crate::host::{Host, Thing};
use crate::pair::{Key, Pair};
use crate::ring::Deed;
use crate::world::World;

/// Sessions that one turn may cut of those on a list.
const CUT_A_TURN: usize = 4;
/// Places of sessions that are free before one is used again; some may be of sessions that are not over.
const PLACES_REST: usize = 200;
/// A session that found no descriptor or no memory tries again sooner than that.
const TRIES_AGAIN_NS: u64 = 200 * MS;

impl Host {
    /// A FIN is about to be sent: after all bytes, and only if the other side's FIN was seen.
    pub fn check_fin(&self, id: usize) {
        let sock = &self.socks[id];
        assert!(!sock.shut, "two FINs to c{id}");
        let partner = sock.partner.unwrap_or_else(|| panic!("a FIN to c{id}, which has no other side"));
        let from = &self.socks[partner];
        assert!(from.eof_told && from.error_turn >= self.turn, "FIN to c{id} before the other's FIN was seen");
        assert_eq!(from.undelivered(sock), 0, "FIN to c{id} and not everything was delivered");
        assert!(from.rx.is_empty(), "FIN to c{id} and not everything was read");
    }

    /// A connection was closed: what looks like a proper end is one.
    pub fn check_close(&mut self, id: usize) {
        let sock = &self.socks[id];
        // What was shut before has had its FIN.
        if !sock.open || sock.linger_reset || sock.shut {
            return;
        }
        let Some(partner) = sock.partner else {
            // One that has said nothing may be told in this way that it was idle for too long.
            assert!(sock.is_client && sock.taken == sock.skipped, "c{id} is closed properly, and has no other side");
            return;
        };
        let from = &self.socks[partner];
        // Once both streams were carried to their end, what happens to the connections says nothing.
        let finished = from.eof_told && sock.eof_told && sock.undelivered(from) == 0;
        assert!(finished || from.error_turn >= self.turn, "FIN to c{id} after a failure of c{partner}");
        assert_eq!(from.undelivered(sock), 0, "FIN to c{id} with bytes undelivered");
    }

    /// Whether a session that relays holds a buffer of that worker. What is owed to a dead peer is not held any more.
    fn has_holder(&self, worker: usize) -> bool {
        let holds = |pair: &Pair| {
            let [Some(client), Some(backend)] = pair.socks else { return false };
            let is_open = [client, backend].iter().all(|&sock| self.socks[sock].closed.is_none());
            let pool = &self.rings[worker].pool;
            is_open && pair.connected_at.is_some() && pool.held_by(client) + pool.held_by(backend) > 0
        };
        self.sessions.iter().any(|(key, pair)| key.0 == worker && holds(pair))
    }

    fn open_fds(&self, wanted: impl Fn(&crate::sock::Sock) -> bool) -> usize {
        let is_one = |thing: &&Thing| matches!(thing, Thing::Sock(sock) if wanted(&self.socks[*sock]));
        self.fds.values().filter(is_one).count()
    }

    /// Connections in messages between workers.
    fn in_messages(&self) -> usize {
        let handed = |ring: &crate::ring::Ring| {
            let is_one =
                |deed: &Deed| matches!(deed, Deed::Message { there, .. } if there.operation == Operation::HandOver);
            ring.queued.iter().filter(|op| is_one(&op.deed)).count()
        };
        let moving = |ring| ring_moving(ring) + handed(ring);
        self.rings.iter().map(moving).sum()
    }
}

fn ring_moving(ring: &crate::ring::Ring) -> usize {
    ring.on_their_way(&[Operation::HandOver]) + ring.failed_messages()
}

impl World {
    /// Thousands of sessions that end in one turn would keep all others waiting.
    pub fn check_cuts(&mut self, index: usize) {
        let mut host = self.host.borrow_mut();
        let ring = &host.rings[index];
        let is_listed = |key: &&Key| !host.sessions.get(key).is_some_and(|pair| self.may_have_expired(pair));
        let (cut, listed, heard) = (ring.cut.len(), ring.cut.iter().filter(is_listed).count(), ring.heard);
        // Silent ones end by themselves in the same turn, where that is wanted.
        let is_silence_ended = self.control.config.pools.iter().any(|pool| !pool.limits.drain_idle.is_zero());
        if self.control.phase == Phase::Stopping && !self.control.kills && !is_silence_ended {
            assert!(listed <= CUT_A_TURN + heard + host.refused, "{listed} sessions were cut in one turn");
        }
        if cut >= CUT_A_TURN {
            host.corners.reach(Corner::CutInParts);
        }
    }

    /// While nothing is short but room, clients wait for it: none is turned away.
    pub fn check_nobody_was_turned_away(&self) {
        let host = self.host.borrow();
        let busy = host.rings.iter().any(|ring| !ring.queued.is_empty() || !ring.done.is_empty());
        let is_plain = host.profile.workers == 1 && host.profile.odds.no_socket.0 == 0 && host.profile.early_max >= 4;
        if !is_plain || busy || self.seats[0].is_busy || self.has_orders {
            return;
        }
        let accepted = self.control.shared.stats.workers[0].worker.accepted.get();
        let known = self.records + self.control.shared.counts.process_connections() + self.early.get();
        assert_eq!(accepted, known, "clients that were accepted, and those that were served or wait");
    }

    /// After a turn: what is counted is what is there.
    pub fn check_turn(&mut self) {
        let records: Vec<Record> = {
            let host = self.host.borrow();
            if host.rings.iter().any(|ring| !ring.queued.is_empty()) {
                return;
            }
            let journal = self.control.shared.journal.as_ref().expect("there is a journal");
            std::iter::from_fn(|| journal.pop()).collect()
        };
        for record in records {
            self.records += 1;
            self.check_record(&record);
            self.check_order(&record);
            self.check_id(record.session);
        }
        self.check_counts();
        self.check_sources();
    }

    /// The id of a session is not given to another one before many others have come and gone.
    fn check_id(&mut self, id: SessionId) {
        assert!(self.ids.insert(id), "two sessions are called {id:?}");
        let places = self.ids.iter().filter(|other| other.worker() == id.worker() && other.generation() == 0).count();
        let is_again = id.generation() > 0;
        assert!(!is_again || places >= PLACES_REST, "a place is used again after {places} others");
        if is_again {
            self.host.borrow_mut().corners.reach(Corner::PlaceUsedAgain);
        }
    }

    fn check_counts(&self) {
        let host = self.host.borrow();
        let unseen =
            host.rings.iter().any(|ring| !ring.queued.is_empty()) || self.seats.iter().any(|seat| seat.is_busy);
        if unseen {
            return;
        }
        let shared = &self.control.shared;
        let gauges: u64 = shared.stats.workers.iter().map(|cells| cells.worker.connections.get()).sum();
        let process = shared.counts.process_connections();
        let moving = host.in_messages() as u64;
        assert_eq!(process, gauges + moving, "clients of the process, of the workers, and between them");
        let (mut of_listeners, mut listener_gauges) = (0, 0);
        for listener in &self.control.table.listeners {
            let Some(listener) = listener else { continue };
            of_listeners += u64::from(shared.counts.listener_connections(listener.id));
            let cells = shared.stats.workers.iter().map(|cells| cells.listeners.get(listener.id.index()));
            listener_gauges += cells.map(|cells| cells.connections.get()).sum::<u64>();
        }
        assert_eq!(of_listeners, process, "clients of the listeners");
        assert_eq!(listener_gauges, gauges, "clients of the listeners, by worker");
        let accepted: usize = host.rings.iter().map(|ring| ring.on_their_way(&[Operation::Accept])).sum();
        let polled: usize = host.rings.iter().map(|ring| polled(ring, &host)).sum();
        let clients = host.open_fds(|sock| sock.is_client) as u64;
        let known = process + (accepted - polled) as u64;
        assert!(clients >= known, "{clients} descriptors of {known} clients");
        let early = (clients - known) as usize;
        let early_max = host.profile.early_max * host.profile.workers;
        self.early.set(early as u64);
        assert!(early <= early_max, "{early} clients wait, or their descriptors are lost");
        let backends = host.open_fds(|sock| !sock.is_client);
        let counted: u32 = self.control.members.iter().map(|member| shared.counts.connections(member.id)).sum();
        assert!(backends <= counted as usize, "{backends} connections to backends, {counted} counted");
        assert!(u64::from(counted) <= process, "{counted} backends of {process} clients");
        // A session has a backend and cannot connect to it now.
        let since = self.hindered_since.get().unwrap_or(host.now).max(host.tried_at);
        self.hindered_since.set((backends < counted as usize).then_some(since));
        drop(host);
        if early > 0 {
            self.host.borrow_mut().corners.reach(Corner::CameEarly);
        }
    }

    /// Nothing can go on before `next`, when a timer comes or a peer wakes.
    pub fn check_rest(&mut self, next: Moment) {
        let keys: Vec<Key> = self.host.borrow().sessions.keys().copied().collect();
        for key in keys {
            self.check_session_at_rest(key, next);
        }
        self.check_doors_at_rest(next);
        self.check_unheard(next);
        let since = self.hindered_since.get().map(|since| since.max(self.host.borrow().tried_at));
        let is_left = since.is_some_and(|since| next > since.after_ns(TRIES_AGAIN_NS));
        assert!(!is_left, "somebody could not connect, and does not try again");
        let stuck: Vec<bool> = self.control.leave_clients_waiting().map(|pool| pool.wants_primary()).collect();
        // A primary that refuses is tried again and again.
        let (is_stuck, tries) = (!stuck.is_empty(), stuck.iter().all(|&wants_primary| wants_primary));
        let (now, tried_at) = (self.host.borrow().now, self.host.borrow().tried_at);
        let since = &mut self.control.queue_stuck_since;
        *since = is_stuck.then(|| since.unwrap_or(now).max(if tries { tried_at } else { Moment(0) }));
        assert!(
            since.is_none_or(|since| !Host::is_overdue(since, next)),
            "clients wait, and backends have nothing to do"
        );
        let listed = self.control.listed.load(std::sync::atomic::Ordering::Relaxed);
        let all_run = self.seats.iter().all(|seat| seat.worker.is_some());
        assert!(!all_run || listed == self.control.asked, "a question was not answered");
    }

    fn check_session_at_rest(&mut self, key: Key, next: Moment) {
        let mut host = self.host.borrow_mut();
        let Some(&pair) = host.sessions.get(&key) else { return };
        // Those that hold every buffer are ended, if they relay.
        let exhausted = host.rings[key.0].pool.is_exhausted() && !host.has_holder(key.0);
        for side in Side::BOTH {
            let Some(from) = pair.socks[side.index()] else { continue };
            let why = why_stuck(&host, &pair, side).filter(|_| !exhausted);
            let now = host.now;
            let since = &mut host.socks[from].stuck_since;
            *since = why.map(|_| since.unwrap_or(now));
            if let (Some(why), Some(since)) = (why, *since)
                && Host::is_overdue(since, next)
            {
                panic!("c{from} of {key:?}: {why}, since {since:?}");
            }
        }
    }

    /// A client that was accepted is listened to, except for the few that came early.
    fn check_unheard(&mut self, next: Moment) {
        let mut host = self.host.borrow_mut();
        let (host, early) = (&mut *host, self.early.get());
        for thing in host.fds.values() {
            let &Thing::Sock(id) = thing else { continue };
            let sock = &mut host.socks[id];
            let is_unheard = sock.is_client && sock.dead && sock.session.is_none() && early == 0;
            let since = is_unheard.then(|| sock.stuck_since.unwrap_or(host.now));
            if sock.session.is_none() {
                sock.stuck_since = since;
            }
            let is_lost = since.is_some_and(|since| Host::is_overdue(since, next));
            assert!(!is_lost, "c{id} has left, and nobody listens to it");
        }
    }

    fn check_doors_at_rest(&mut self, next: Moment) {
        let mut host = self.host.borrow_mut();
        let host = &mut *host;
        let counts = &self.control.shared.counts;
        let room = counts.process_connections() < host.profile.connections_max;
        for op in host.rings.iter().flat_map(|ring| &ring.armed).filter(|op| matches!(op.deed, Deed::Accept)) {
            let Thing::Door(door) = host.thing(op.fd) else { panic!("{op:?} is no listening socket") };
            let near = counts.is_near_limit(host.doors[door].listener);
            assert!(!near || op.cancelled, "near a limit, whoever comes is accepted");
        }
        let fds = host.descriptors() < host.profile.fd_max;
        for door in host.doors.iter_mut().filter(|door| !door.closed) {
            let most = self.control.table.listener(door.listener).and_then(|entry| entry.connections_max);
            let open = most.is_none_or(|most| counts.listener_connections(door.listener) < most.get());
            let stuck = !door.backlog.is_empty() && room && open && fds;
            door.stuck_since = stuck.then(|| door.stuck_since.unwrap_or(host.now));
            let overdue = door.stuck_since.is_some_and(|since| Host::is_overdue(since, next));
            assert!(!overdue, "somebody waits at {:?}, and there is room", door.bind);
        }
    }

    /// Everything was given back, and the peers saw what they should.
    pub fn check_end(&mut self) {
        let host = self.host.borrow();
        // Listening sockets on their way to a worker that has ended go with the process.
        let left: Vec<_> = host.fds.iter().filter(|(_, thing)| matches!(thing, Thing::Sock(_))).collect();
        assert!(left.is_empty(), "descriptors are left: {left:?}");
        assert!(host.sessions.is_empty(), "sessions have left no record: {:?}", host.sessions);
        for ring in &host.rings {
            assert_eq!(ring.pool.leased(), 0, "buffers were never released");
            assert_eq!(ring.pipes.lent(), 0, "pipes were never given back");
            let bells = ring.armed.iter().filter(|op| !matches!(op.deed, Deed::Bell)).count();
            assert_eq!(bells, 0, "operations are in flight after the end: {:?}", ring.armed);
        }
        let counts = &self.control.shared.counts;
        assert_eq!(counts.process_connections(), 0, "clients are counted after the end");
        for member in &self.control.members {
            assert!(counts.is_unused(member.id), "{:?} is counted after the end", member.id);
            assert_eq!(counts.queue(member.pool).waiting(), 0, "somebody waits after the end");
        }
        for cells in &self.control.shared.stats.workers {
            assert_eq!((cells.worker.connections.get(), cells.worker.running.get()), (0, 0), "gauges after the end");
        }
        for sock in &host.socks {
            let whole = sock.peer.received == sock.accepted + sock.greeted();
            assert!(!sock.peer.fin_seen || whole, "c{} saw a FIN too early", sock.id);
        }
    }
}

/// Polls of listening sockets look like accepted connections, and are none.
fn polled(ring: &crate::ring::Ring, host: &Host) -> usize {
    let is_poll = |result: i32| !matches!(host.fds.get(&result), Some(Thing::Sock(_)));
    let accepts = ring.done.iter().filter(|(done, _)| done.token.operation == Operation::Accept && done.result >= 0);
    accepts.filter(|(done, _)| !done.more && is_poll(done.result)).count()
}

/// Why a session should go on that does not: nothing is waited for but ringway.
fn why_stuck(host: &Host, pair: &Pair, side: Side) -> Option<&'static str> {
    let from = &host.socks[pair.socks[side.index()]?];
    if from.closed.is_some() {
        return None;
    }
    let is_told = from.error_told || from.eof_told || from.unix;
    let is_unnoticed = from.dead && from.rx.is_empty() && !is_told;
    let Some(to) =
        pair.socks[side.peer().index()].map(|to| &host.socks[to]).filter(|to| to.open && pair.connected_at.is_some())
    else {
        return (from.dead && !is_told).then_some("it has failed, and nobody knows");
    };
    // If neither side can get anything any more, a side is read on: else it might never take in its last bytes.
    if to.error_told && from.open && !from.dead && !from.rx.is_empty() {
        return Some("the other side has failed, and it is not read on");
    }
    if to.closed.is_some() || to.dead || to.shut {
        return None;
    }
    let (unread, undelivered) = (from.rx.len(), from.undelivered(to));
    if unread + undelivered > 0 {
        return (to.is_writable() && from.open).then_some("bytes lie about");
    }
    if from.dead {
        return is_unnoticed.then_some("it has failed, and nobody knows");
    }
    from.fin_arrived.then_some("its FIN is not passed on")
}
