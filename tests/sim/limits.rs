//! Limits are kept to the moment: no session is ended before its time has come, and none is left waiting longer. A
//! timer
//! comes at most a tick late, and a worker looks at it soon.

use ringway::base::lease::BUFFER_LEN;
use ringway::base::side::Side;
use ringway::base::time::{Moment, ns};
use ringway::base::wheel::TICK_NS;
use ringway::config::Config;
use ringway::config::model::{Chains, Listener, Pool};
use ringway::kernel::token::Operation;
use ringway::relay::CREDIT;

use crate::corner::Corner;
use crate::faults::{MS, SECOND};
use crate::host::Host;
use crate::pair::{Ending, Key, Pair, Stage};
use crate::world::{LATE_NS, World};

/// A timer is looked at in whole ticks, a worker sleeps a little too long, and what a turn has left over waits for the
/// next one.
pub const SLACK_NS: u64 = 2 * TICK_NS + 2 * LATE_NS + 2 * MS;
/// Leases of a half: `relay::queue` has the reason.
const LEASES_MAX: usize = 12;
/// Between two looks at what a kernel has not sent.
const FLUSH_NS: u64 = 10 * MS;
/// Until a reset after a FIN is noticed, at the most.
const WATCH_NS: u64 = 50 * MS;
/// A session of this age has its connections probed.
const SETTLED_NS: u64 = 5 * SECOND;
/// A pipe that is of no use goes back after two looks, a second apart, and the first may come just before it rests.
const PIPE_REST_NS: u64 = 3 * SECOND;
/// A client that has left before there is a backend is let go.
const LEFT_NS: u64 = 10 * MS;

/// After half of that, and after half of its time to connect, a session that has no descriptor for a backend is late.
const LATE_NS_MAX: u64 = 3 * SECOND;

/// Turns after which a crowd is looked at.
const CROWD_TURNS: u64 = 16;

/// What a session may take for what; [`u64::MAX`] is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spans {
    pub preread: u64,
    pub connect: u64,
    pub attempts: u32,
    pub queue: u64,
    pub idle: u64,
    pub half_closed: u64,
    pub lifetime: u64,
    pub drain_idle: u64,
    waits_for_primary: bool,
}

fn or_never(span_ns: u64) -> u64 {
    if span_ns == 0 { u64::MAX } else { span_ns }
}

impl Spans {
    /// Of the sessions of a pool.
    pub fn of(pool: &Pool) -> Spans {
        let limits = &pool.limits;
        let (idle, half_closed) = (or_never(ns(limits.idle_timeout)), ns(limits.half_close_timeout));
        Spans {
            preread: if pool.awaits_first_byte { or_never(ns(limits.idle_timeout)) } else { 0 },
            connect: or_never(ns(limits.connect_timeout)),
            attempts: limits.connect_attempts.max(1),
            queue: or_never(ns(pool.queue.timeout)),
            idle,
            half_closed: if half_closed == 0 { idle } else { half_closed },
            lifetime: or_never(ns(limits.lifetime_max)),
            drain_idle: or_never(ns(limits.drain_idle)),
            waits_for_primary: pool.wants_primary(),
        }
    }

    /// The longest of sessions of a listener: which pool each gets is not known before it ends.
    pub fn longest(config: &Config, listener: &Listener) -> Spans {
        let chains = Chains::of(config);
        let its: Vec<&Pool> = listener.pools().flat_map(|name| chains.from(name)).collect();
        let is_its = |pool: &&Pool| its.iter().any(|its| its.name == pool.name);
        let header = listener.proxy.as_ref().map_or(0, |proxy| or_never(ns(proxy.timeout)));
        let hello = listener.preread.as_ref().map_or(0, |preread| or_never(ns(preread.timeout)));
        let begin = Spans { preread: header.max(hello), ..Spans::default() };
        config.pools.iter().filter(is_its).map(Spans::of).fold(begin, Spans::or)
    }

    /// The longer one of each.
    pub fn or(self, other: Spans) -> Spans {
        Spans {
            preread: self.preread.max(other.preread),
            connect: self.connect.max(other.connect),
            attempts: self.attempts.max(other.attempts),
            queue: self.queue.max(other.queue),
            idle: self.idle.max(other.idle),
            half_closed: self.half_closed.max(other.half_closed),
            lifetime: self.lifetime.max(other.lifetime),
            drain_idle: self.drain_idle.max(other.drain_idle),
            waits_for_primary: self.waits_for_primary || other.waits_for_primary,
        }
    }

    /// How long a session may be quiet.
    pub fn quiet(&self, pair: &Pair) -> u64 {
        if pair.half_closed_at.is_some() { self.half_closed } else { self.idle }
    }

    /// The end of the lifetime lies between these parts of it.
    pub fn lifetime_ends(&self, since: Moment) -> (Moment, Moment) {
        match self.lifetime {
            u64::MAX => (Moment::NEVER, Moment::NEVER),
            span => (since.after_ns(span - span / 10), since.after_ns(span + span / 10)),
        }
    }

    /// Whether a session that has been cut may have come to the end of one of these, or of its flush.
    fn may_have_come(&self, pair: &Pair, ending: &Ending) -> bool {
        let waited_ns = ending.at.since_ns(pair.known_at);
        match pair.connected_at {
            Some(_) => {
                let is_old = ending.at >= self.lifetime_ends(pair.known_at).0;
                is_old || pair.flushing_since.is_some() || ending.quiet_ns >= self.idle.min(self.half_closed)
            }
            None => waited_ns >= self.connect.min(self.queue),
        }
    }

    /// A primary is waited for, however often it cannot be connected to.
    pub fn attempts_max(&self) -> usize {
        if self.waits_for_primary { usize::MAX } else { self.attempts as usize }
    }

    /// Waiting for a backend, all in all.
    fn seeking(&self) -> u64 {
        let connecting = self.connect.saturating_mul(u64::from(self.attempts));
        if self.waits_for_primary { u64::MAX } else { self.queue.saturating_add(connecting) }
    }
}

impl Host {
    /// When a session must have ended that stands there, if nothing more happens.
    pub fn due(&self, pair: &Pair, stage: Stage, spans: &Spans) -> Moment {
        match stage {
            Stage::Ending => Moment::NEVER,
            Stage::Prereading => {
                let headed_at = pair.socks[Side::Client.index()].map_or(Moment(0), |sock| self.socks[sock].began_at);
                pair.known_at.max(headed_at).after_ns(spans.preread)
            }
            Stage::Connecting => {
                let began_at = pair.socks[Side::Backend.index()].map_or(self.now, |sock| self.socks[sock].began_at);
                began_at.after_ns(if pair.connect_cancelled { u64::MAX } else { spans.connect })
            }
            Stage::Seeking => pair.seeking_since.after_ns(spans.seeking()),
            Stage::Relaying => {
                let opened_at = pair.opened_at.unwrap_or(pair.known_at);
                let too_old_at = spans.lifetime_ends(opened_at).1.max(pair.connected_at.unwrap_or_default());
                pair.quiet_since().after_ns(spans.quiet(pair)).min(too_old_at)
            }
            Stage::Flushing(since) => self.flush_due(pair, since, spans),
        }
    }

    /// When a flush must be over.
    fn flush_due(&self, pair: &Pair, since: Moment, spans: &Spans) -> Moment {
        let Some(at) = pair.first_error.and_then(|by| pair.socks[by.peer().index()]) else { return Moment::NEVER };
        let sock = &self.socks[at];
        let moved_at = since.max(sock.moved_at);
        let quiet_ns = if sock.tx.is_empty() && !sock.dead { 0 } else { spans.quiet(pair) };
        // The next look notices the last byte that moved: half as long as nothing had moved before it.
        let look_ns = (moved_at.since_ns(since) / 2).clamp(FLUSH_NS, SECOND) + TICK_NS;
        moved_at.after_ns(quiet_ns.saturating_add(look_ns))
    }

    /// A receive is about to begin: what its half may come to hold is bounded. Where memory is scarce, what there is
    /// left is for those that hold nothing.
    pub fn check_recv(&mut self, worker: usize, id: usize, credit: u32) {
        let sock = &self.socks[id];
        assert!(!sock.eof_told, "a receive on c{id} after its end");
        assert!(self.rings[worker].pipes.lent_to(id).is_none(), "a receive on c{id} beside splice");
        let to = sock.partner.map(|partner| &self.socks[partner]);
        let held = match to {
            Some(to) if to.error_told => 0,
            Some(to) => sock.undelivered(to),
            None => sock.taken - sock.skipped,
        };
        assert!((1..=CREDIT).contains(&credit), "credit of {credit}");
        assert!(held + u64::from(credit) <= u64::from(CREDIT), "c{id} may come to hold {held} + {credit} bytes");
        let scarce = self.rings[worker].pool.is_scarce();
        let gone = to.is_some_and(|to| to.dead);
        assert!(!scarce || held == 0 || gone, "memory is scarce, and c{id} takes more of it");
        self.socks[id].unloaded = false;
    }

    /// What the half from that connection holds.
    fn check_held(&self, worker: usize, from: usize) {
        let sock = &self.socks[from];
        let ring = &self.rings[worker];
        // All that a pipe held, and until some of that is delivered nothing is received.
        let unloaded = if sock.unloaded { ring.pipes.capacity } else { 0 };
        let leases = ring.pool.held_by(from);
        assert!(leases <= LEASES_MAX.max(unloaded as usize / BUFFER_LEN), "c{from} holds {leases} buffers");
        let Some(to) = sock.partner.map(|partner| &self.socks[partner]).filter(|to| !to.error_told) else { return };
        let (held, max) = (sock.undelivered(to), u64::from(CREDIT.max(unloaded)) + BUFFER_LEN as u64);
        assert!(ring.pipes.lent_to(from).is_some() || held < max, "c{from} holds {held} bytes");
    }

    /// A pipe that is of no use goes back. So does one that is stuck, unless there were too few buffers.
    fn check_pipe(&self, worker: usize, from: usize) {
        let Some((held, used_at)) = self.rings[worker].pipes.lent_to(from) else { return };
        let rests_for = self.now.since_ns(used_at);
        // The pipe of the other half may go first.
        let rest_ns = PIPE_REST_NS + 4 * SLACK_NS + if held > 0 { SECOND } else { 0 };
        assert!(rests_for < rest_ns, "c{from} keeps a pipe with {held} bytes that is of no use");
    }

    /// A reset that follows a FIN is noticed soon.
    fn check_hangup(&mut self, key: Key, side: Side) {
        let (now, pair) = (self.now, self.sessions[&key]);
        let Some(id) = pair.socks[side.index()] else { return };
        let sock = &self.socks[id];
        let hangup = if side == Side::Client { Operation::HangupClient } else { Operation::HangupBackend };
        let told = sock.error_told || sock.shut || !sock.eof_told;
        let is_due = sock.dead && !told && !pair.has_in_flight(hangup) && pair.stage() == Stage::Relaying;
        let since = is_due.then(|| pair.unnoticed_since[side.index()].unwrap_or(now));
        if let Some(pair) = self.sessions.get_mut(&key) {
            pair.unnoticed_since[side.index()] = since;
        }
        let Some(since) = since else { return };
        assert!(now.since_ns(since) < WATCH_NS + 2 * SLACK_NS, "the reset of c{id} after its FIN is not noticed");
        self.corners.reach(Corner::ResetAfterFin);
    }
}

impl World {
    /// Whether a session has ended because its own time had come, in whichever pool it is.
    pub fn may_have_expired(&self, pair: &Pair) -> bool {
        let may_be = |ending| self.control.config.pools.iter().any(|pool| Spans::of(pool).may_have_come(pair, ending));
        pair.ending.as_ref().is_some_and(may_be)
    }

    /// A session of that worker that has no descriptor for a backend gives its own to others if one of them has waited
    /// for half of its time. `others_seek_ns`: for how long one of them has been there without a backend.
    pub fn may_give_way(&self, others_seek_ns: u64) -> bool {
        let late_ns = |pool| Spans::of(pool).connect.min(LATE_NS_MAX) / 2;
        self.control.config.pools.iter().any(|pool| others_seek_ns >= late_ns(pool))
    }

    /// No session is left waiting longer than its limits say, and none holds more than it can.
    pub fn check_deadlines(&self, rests: bool) {
        let mut host = self.host.borrow_mut();
        // To look at a whole crowd takes a while.
        if host.profile.is_crowd() && !host.turn.is_multiple_of(CROWD_TURNS) {
            return;
        }
        let keys: Vec<Key> = host.sessions.keys().copied().collect();
        for key in keys {
            let pair = host.sessions[&key];
            let [Some(client), backend] = pair.socks else { continue };
            if host.socks[client].parting.is_some() {
                continue;
            }
            let spans = self.control.spans(host.socks[client].listener);
            let (now, stage) = (host.now, pair.stage());
            let due = host.due(&pair, stage, &spans);
            assert!(
                now <= due.after_ns(SLACK_NS),
                "{stage:?} of {key:?} should have ended at {due:?}, now it is {now:?}"
            );
            if stage == Stage::Relaying {
                let age_ns = now.since_ns(pair.connected_at.unwrap_or(now));
                let is_settled = age_ns > SETTLED_NS + SLACK_NS;
                assert!(!is_settled || pair.kept_alive, "{key:?} lives long and is not probed");
                [client, backend.unwrap_or(client)].into_iter().for_each(|from| host.check_pipe(key.0, from));
            }
            let left_at = host.socks[client].error_at;
            let may_end_unseen = pair.may_end_unseen();
            let seeks = matches!(stage, Stage::Connecting | Stage::Seeking) && !may_end_unseen;
            let stays = seeks && host.socks[client].error_told && now.since_ns(left_at) > LEFT_NS + SLACK_NS;
            assert!(!stays, "the client of {key:?} has left, and it still looks for a backend");
            if rests && stage != Stage::Ending && !may_end_unseen {
                pair.socks.into_iter().flatten().for_each(|from| host.check_held(key.0, from));
            }
            Side::BOTH.into_iter().for_each(|side| host.check_hangup(key, side));
        }
    }
}
