//! The end of a session: why it ended, whether its time had come, and what became of its bytes, by its record and by
//! what its kernel saw.

use ringway::base::side::Side;
use ringway::base::termination::{Termination, When, Who};
use ringway::base::time::Moment;
use ringway::health::State;
use ringway::snapshot::table::Phase;
use ringway::stats::ConnectError;
use ringway::stats::record::{EndReason, Record};

use crate::corner::Corner;
use crate::faults::{MS, SECOND};
use crate::host::Host;
use crate::limits::{SLACK_NS, Spans};
use crate::pair::Pair;
use crate::sock::{Parting, Sock};
use crate::world::World;

/// A stream that moved a byte so lately has more on its way; one with a pipe, if it did within a second.
const FLOWING_NS: u64 = 10 * MS;
/// Between two looks at what a kernel has not sent.
const FLUSH_NS: u64 = 10 * MS;

/// A session that is over.
struct Ended<'a> {
    record: &'a Record,
    pair: &'a Pair,
    spans: Spans,
    /// Both, if there was a connection to a backend.
    socks: [Option<&'a Sock>; 2],
    /// When it was decided.
    at: Moment,
    /// How long it had been quiet then, and might be.
    quiet_ns: u64,
    quiet_max_ns: u64,
    /// The side that had failed then.
    first_error: Option<Side>,
}

impl Host {
    /// A worker gives a connection up.
    pub fn part(&mut self, id: usize, reset: bool) {
        self.note_parting(id);
        let now = self.now;
        let sock = &self.socks[id];
        let from = sock.partner.map(|partner| &self.socks[partner]).filter(|_| !sock.error_told);
        let (unread, undelivered) = from.map_or((0, 0), |from| (from.rx.len(), from.undelivered(sock)));
        let connected =
            sock.session.and_then(|key| self.sessions.get(&key)).is_some_and(|it| it.connected_at.is_some());
        // One that has said nothing has nothing to lose, and may be told that it was idle for too long.
        let is_silent = sock.is_client && sock.rx.is_empty() && !sock.fin_arrived;
        assert!(reset || connected || is_silent, "c{id} was never connected to anybody, and gets a FIN");
        let (at, dead, unsent, moved_at) = (now, sock.dead, sock.tx.len(), sock.moved_at);
        let parting = Parting { at, reset, dead, unsent, moved_at, unread, undelivered };
        let sock = &mut self.socks[id];
        (sock.linger_reset, sock.parting) = (reset, Some(parting));
    }
}

impl Ended<'_> {
    fn sock(&self, side: Side) -> Option<&Sock> {
        self.socks[side.index()]
    }

    fn parting(&self, side: Side) -> Option<Parting> {
        self.sock(side)?.parting
    }

    /// It was relaying, and a limit ended it.
    fn is_timed_out(&self) -> bool {
        let Termination(who, when) = self.record.termination;
        let is_limit = matches!(who, Who::ClientTimeout | Who::ServerTimeout | Who::Local);
        is_limit && matches!(when, When::Data | When::Last)
    }

    /// It was silent while its backend or its process drained; of a process also before it had said anything.
    fn is_drained(&self) -> bool {
        let Termination(who, when) = self.record.termination;
        let is_drain = matches!((who, when), (Who::Down | Who::Killed, When::Data) | (Who::Killed, When::Request));
        is_drain && self.record.reason == Some(EndReason::DrainIdle)
    }

    /// No session is ended by a limit before its time has come.
    fn check_not_early(&self) {
        let (record, spans) = (self.record, &self.spans);
        let Termination(who, when) = record.termination;
        let waits = matches!((who, when), (Who::ServerTimeout, When::Queue));
        if waits && record.failed.is_empty() {
            assert!(record.queue_ns >= spans.queue, "it waited for {} ns, and no longer", record.queue_ns);
        }
        // The kernel's own time-out may come sooner, to one that waits for the answer to its greeting.
        let timeouts = record.failed.iter().filter(|failed| failed.error == ConnectError::Timeout);
        // One that is cancelled because the session ends has not timed out.
        let is_cut = self.pair.connect_cancelled && (who, when) != (Who::ServerTimeout, When::Connect);
        let all_ours = timeouts.clone().count() + usize::from(is_cut) <= self.pair.connects_cancelled as usize
            && self.pair.greetings_lost == 0;
        for failed in timeouts.filter(|_| all_ours) {
            assert!(failed.took_ns >= spans.connect, "a connect was given up after {} ns", failed.took_ns);
        }
        if who == Who::Local {
            let first = spans.lifetime_ends(record.accepted_at).0;
            assert!(self.at >= first, "it ended before its time");
        } else if self.is_drained() {
            assert!(self.quiet_ns >= self.spans.drain_idle, "drained after {} ns without a byte", self.quiet_ns);
        } else if self.is_timed_out() {
            assert!(self.quiet_ns >= self.quiet_max_ns, "it ended after {} ns without a byte", self.quiet_ns);
        }
    }

    /// No session is left waiting longer than its limits say, whatever ends it.
    fn check_not_late(&self) {
        let (record, spans) = (self.record, &self.spans);
        let queue_max = spans.queue.saturating_add(SLACK_NS);
        assert!(record.queue_ns <= queue_max, "it waited for {} ns in all", record.queue_ns);
        // What is in flight may take a while to be cancelled; what could not begin does not.
        let resources = record.failed.iter().filter(|failed| failed.error == ConnectError::Resource);
        for failed in resources.filter(|_| self.pair.connects_cancelled == 0) {
            let connect_max = spans.connect.saturating_add(SLACK_NS);
            assert!(failed.took_ns <= connect_max, "a connect was tried for {} ns", failed.took_ns);
        }
        let Some(connected_at) = self.pair.connected_at.filter(|_| self.pair.flushing_since.is_none()) else { return };
        let quiet_since = Moment(self.at.since_ns(Moment(self.quiet_ns)));
        let opened_at = self.pair.opened_at.unwrap_or(record.accepted_at);
        let too_old_at = spans.lifetime_ends(opened_at).1.max(connected_at);
        let due = quiet_since.after_ns(self.quiet_max_ns).min(too_old_at);
        assert!(self.at <= due.after_ns(SLACK_NS), "it should have ended at {due:?}, and did at {:?}", self.at);
    }

    /// The last data is left exactly when one side has had its FIN.
    fn check_when(&self) {
        let Termination(who, when) = self.record.termination;
        let (Some(client), Some(backend)) = (self.sock(Side::Client), self.sock(Side::Backend)) else { return };
        let has_finished = client.shut || backend.shut;
        let expected = if has_finished { When::Last } else { When::Data };
        let is_failure = matches!(who, Who::Client | Who::Server) && matches!(when, When::Data | When::Last);
        // The last FIN is that of the close.
        let may_be_both = is_failure && !has_finished && (client.eof_told || backend.eof_told);
        assert!(
            !(self.is_timed_out() || is_failure) || when == expected || may_be_both,
            "it ended in {when:?}, and not in {expected:?}"
        );
    }

    /// The side that did not do its part is blamed, if it can be one of the two.
    fn check_blame(&self) {
        let Termination(who, _) = self.record.termination;
        let expected = match self.pair.ending.map(|ending| ending.held) {
            Some([true, false]) => Who::ServerTimeout,
            Some([false, true]) => Who::ClientTimeout,
            _ => return,
        };
        let is_quiet = matches!(who, Who::ClientTimeout | Who::ServerTimeout);
        assert!(!self.is_timed_out() || !is_quiet || who == expected, "{who:?} is blamed, not {expected:?}");
    }

    /// The close of a connection that was used: a FIN or a reset, and nothing lost that need not be.
    fn check_parting(&self, at: Side, may_be_cut: bool) {
        let Some(parting) = self.parting(at).filter(|_| self.pair.connected_at.is_some()) else { return };
        let Termination(who, when) = self.record.termination;
        let failed = self.first_error.is_some();
        match (who, parting.reset) {
            (Who::Normal, reset) => assert!(!reset, "a reset to the {at:?} after a normal end"),
            (_, false) => {
                assert!(
                    (self.is_timed_out() || self.is_drained()) && !failed,
                    "FIN to the {at:?} after {who:?} {when:?}"
                );
                let flowing_ns = self.pair.ending.map_or(0, |end| if end.spliced { SECOND } else { FLOWING_NS });
                assert!(who != Who::Local || self.quiet_ns >= flowing_ns, "FIN to the {at:?} amid a stream");
                assert_eq!(parting.undelivered, 0, "FIN to the {at:?} with bytes undelivered");
            }
            (Who::Client | Who::Server, true) => self.check_flushed(at, parting, may_be_cut),
            (_, true) if self.is_timed_out() || self.is_drained() => self.check_needed(at, parting),
            (_, true) => {}
        }
    }

    /// A time-out is no failure: only bytes that are lost make it one.
    fn check_needed(&self, at: Side, parting: Parting) {
        let Some(ending) = self.pair.ending.filter(|ending| !ending.sends) else { return };
        let undelivered = Side::BOTH.iter().filter_map(|&side| self.parting(side)).any(|it| it.undelivered > 0);
        let flowing_ns = if ending.spliced { SECOND } else { FLOWING_NS };
        let is_cut = ending.held != [false, false] || undelivered || ending.quiet_ns < flowing_ns;
        let brings = self.pair.quiet_since() > ending.at || self.pair.first_error.is_some();
        assert!(is_cut || brings || parting.dead, "a reset to the {at:?} although nothing was undelivered");
    }

    /// What the other side had sent before it failed has reached this one, unless that is stuck.
    fn check_flushed(&self, at: Side, parting: Parting, may_be_cut: bool) {
        let both = self.socks.iter().flatten().all(|sock| sock.error_told);
        if self.first_error != Some(at.peer()) || both {
            return;
        }
        let quiet_ns = self.spans.quiet(self.pair);
        let lifetime_end = self.spans.lifetime_ends(self.record.accepted_at).0;
        let Some(since) = self.pair.flushing_since else {
            let due = self.quiet_ns >= quiet_ns || self.at >= lifetime_end;
            return assert!(due, "what came before a failure is thrown away, and {} bytes unsent", parting.unsent);
        };
        let left = parting.unread + parting.undelivered;
        assert_eq!(left, 0, "bytes that came before a failure are thrown away");
        if parting.unsent == 0 || parting.dead {
            return;
        }
        let moved_at = self.pair.ending.map_or(parting.moved_at, |ending| ending.moved_at[at.index()]);
        let stuck_ns = self.at.since_ns(since.max(moved_at)).saturating_add(FLUSH_NS + SLACK_NS);
        let given_up = stuck_ns >= quiet_ns || self.at >= lifetime_end || may_be_cut;
        assert!(given_up, "a reset overtakes {} bytes to the {at:?}", parting.unsent);
    }

    /// As many attempts as there may be, and no more.
    fn check_attempts(&self, may_be_tried: bool, may_give_way: bool) {
        let record = self.record;
        let attempts = record.failed.len() + usize::from(record.connect_ns.is_some());
        assert!(attempts <= self.spans.attempts_max(), "too many attempts: {attempts}");
        let Termination(who, when) = record.termination;
        let gave_up = matches!(who, Who::Server | Who::ServerTimeout | Who::Resource) && when == When::Connect;
        let spent = record.failed.len() >= self.spans.attempts as usize;
        let gave_way = may_give_way && who == Who::Resource && record.reason == Some(EndReason::Descriptors);
        assert!(!gave_up || spent || !may_be_tried || gave_way, "there was another backend to try");
    }

    /// The code fits what happened (`docs/codes.md`).
    fn fits(&self, was_cut: bool, was_killed: bool, was_drained: bool) -> bool {
        let (client, backend) = (self.sock(Side::Client), self.sock(Side::Backend));
        let Termination(who, when) = self.record.termination;
        let has_failed = |sock: Option<&Sock>| sock.is_some_and(|sock| sock.error_told);
        let last = self.record.failed.last().map(|failed| failed.error);
        match (who, when) {
            (Who::Normal, When::Done) => match (client, backend) {
                (Some(client), Some(backend)) => {
                    client.eof_told
                        && backend.eof_told
                        && client.undelivered(backend) == 0
                        && backend.undelivered(client) == 0
                }
                _ => false,
            },
            (Who::Killed | Who::Down, _) if self.is_drained() => was_drained && self.first_error.is_none(),
            (Who::Killed, _) => was_killed,
            (Who::Down | Who::Up, _) => was_cut,
            (Who::Rule, When::Request) => matches!(self.record.reason, Some(EndReason::Refused(_))),
            (Who::Client, When::Request) => client.is_none_or(|client| client.dead || client.fin_arrived),
            (Who::Client, When::Queue | When::Connect) => client.is_none_or(|client| client.dead),
            (Who::Client, _) => has_failed(client) && self.first_error == Some(Side::Client),
            // A connect that was given up has taken too long, whatever it came to.
            (Who::Server, When::Connect) => {
                let took_ns = self.record.failed.last().map_or(0, |failed| failed.took_ns);
                let expired = self.pair.connect_cancelled && !was_cut && took_ns >= self.spans.connect;
                !expired && !matches!(last, Some(ConnectError::Timeout | ConnectError::Resource))
            }
            (Who::Server, _) => has_failed(backend) && self.first_error == Some(Side::Backend),
            (Who::Resource, When::Queue) => self.record.reason == Some(EndReason::QueueFull),
            // Sessions that wait for a descriptor give way, and none that has one.
            (Who::Resource, When::Data | When::Last) => self.record.reason != Some(EndReason::Descriptors),
            (Who::Resource, _) => true,
            (Who::ClientTimeout, When::Request) => {
                let waited_ns = self.at.since_ns(self.record.accepted_at);
                self.spans.preread > 0 && waited_ns >= self.spans.idle && self.first_error.is_none()
            }
            (Who::ServerTimeout, When::Queue) => self.record.queue_position > 0,
            (Who::ServerTimeout, When::Connect) => last == Some(ConnectError::Timeout) || self.pair.connect_cancelled,
            (Who::Local | Who::ClientTimeout | Who::ServerTimeout, When::Data | When::Last) => {
                self.first_error.is_none()
            }
            _ => false,
        }
    }
}

impl World {
    /// A session has ended: what its record says is what happened.
    pub fn check_record(&mut self, record: &Record) {
        let id = record.session;
        let key = (id.worker(), id.place(), id.generation());
        let mut host = self.host.borrow_mut();
        let mut pair = host.sessions.remove(&key).unwrap_or_default();
        let client = pair.socks[Side::Client.index()];
        if let Some(parting) = client.and_then(|client| host.socks[client].parting) {
            pair.forget_old_cancels(parting.at);
        }
        for side in Side::BOTH {
            let open = pair.socks[side.index()].is_some_and(|sock| host.socks[sock].closed.is_none());
            assert!(!open, "{key:?} is over, and its {side:?} is open");
        }
        let accepted = |side: Side| pair.socks[side.index()].map_or(0, |sock| host.socks[sock].accepted);
        assert_eq!(record.bytes_to_backend, accepted(Side::Backend), "bytes to the backend of {key:?}");
        assert_eq!(record.bytes_to_client, accepted(Side::Client), "bytes to the client of {key:?}");
        let Termination(who, when) = record.termination;
        host.say(format_args!("  {key:?} ended: {who:?} {when:?} {:?}, {pair:?}", record.reason));
        self.check_ended(&host, record, &pair);
        let on_its_way = self.check_way(&host, record, &pair);
        let gave_up =
            pair.first_error.and_then(|by| pair.socks[by.peer().index()]).and_then(|at| host.socks[at].parting);
        if pair.flushing_since.is_some() && gave_up.is_some_and(|parting| parting.unsent > 0 && !parting.dead) {
            host.corners.reach(Corner::FlushGaveUp);
        }
        for corner in corners_of(record, &pair).into_iter().chain(on_its_way) {
            host.corners.reach(corner);
        }
    }

    fn check_ended(&self, host: &Host, record: &Record, pair: &Pair) {
        let socks = pair.socks.map(|sock| sock.map(|sock| &host.socks[sock]));
        let parted_at =
            socks[Side::Client.index()].and_then(|sock| sock.parting).map_or(host.now, |parting| parting.at);
        let at = pair.ending.map_or(parted_at, |ending| ending.at);
        let quiet_ns = pair.ending.map_or(at.since_ns(pair.quiet_since()), |ending| ending.quiet_ns);
        let spans = Spans::of(self.control.pool(record.pool));
        let half_closed = pair.ending.map_or(pair.half_closed_at.is_some(), |ending| ending.half_closed);
        // One that ends because a side failed may have had something cancelled a moment before (`worker::silence`).
        let by_failure = matches!(record.termination.0, Who::Client | Who::Server);
        // What a send says that was in flight at the end comes after it.
        let last = pair.first_error.filter(|_| by_failure || !pair.failed_last);
        let first_error = pair.ending.filter(|_| !by_failure).map_or(last, |ending| ending.first_error);
        let quiet_max_ns = if half_closed { spans.half_closed } else { spans.idle };
        let ended = Ended { record, pair, spans, socks, at, quiet_ns, quiet_max_ns, first_error };
        let was_cut = record.backend.is_some_and(|backend| self.control.cut.contains(&backend.0));
        let was_killed = self.control.kills || self.control.phase == Phase::Stopping;
        let Termination(who, when) = record.termination;
        let drains = !matches!(self.control.phase, Phase::Serving | Phase::Leaving { .. });
        let was_drained = match who {
            Who::Killed => drains,
            _ => record.backend.is_some_and(|backend| self.control.drained.contains(&backend.0)),
        };
        let fits = ended.fits(was_cut, was_killed, was_drained);
        assert!(fits, "{who:?} {when:?} {:?} does not fit what happened to {:?}", record.reason, record.session);
        let may_be_cut = was_cut || was_killed || host.rings[record.session.worker()].pool.has_run_out;
        let is_asked_first = self.control.pool(record.pool).awaits_first_byte;
        let is_idle = is_asked_first
            && when == When::Request
            && (who == Who::ClientTimeout || record.reason == Some(EndReason::DrainIdle));
        let parted_in_fin = ended.parting(Side::Client).is_some_and(|parting| !parting.reset);
        assert!(!parted_in_fin || pair.connected_at.is_some() || is_idle, "a FIN to a client without a backend");
        ended.check_when();
        ended.check_blame();
        if !self.may_have_fallen(record) {
            ended.check_not_early();
            ended.check_not_late();
            ended.check_attempts(self.has_another(record), self.may_give_way(pair.others_seek_ns));
        }
        Side::BOTH.into_iter().for_each(|side| ended.check_parting(side, may_be_cut));
    }

    /// Whether it may have waited, or tried a backend, under the limits of another pool that fell back to this one.
    fn may_have_fallen(&self, record: &Record) -> bool {
        let pools = &self.control.config.pools;
        let name = &self.control.pool(record.pool).name;
        let is_fallback = pools.iter().any(|pool| pool.fallback.as_ref() == Some(name));
        is_fallback && (record.queue_position > 0 || !record.failed.is_empty())
    }

    /// Whether one that was not tried could have been, all the time.
    fn has_another(&self, record: &Record) -> bool {
        let tried = |id| record.failed.iter().any(|failed| failed.backend == id);
        let mut of_pool = self.control.members.iter().filter(|member| member.pool == record.pool);
        !self.has_orders && of_pool.any(|member| !tried(member.id) && member.state == State::Up && member.weight > 0)
    }
}

fn corners_of(record: &Record, pair: &Pair) -> Vec<Corner> {
    let Termination(who, when) = record.termination;
    let mut corners = Vec::new();
    let corner = match (who, when) {
        (Who::Normal, _) => Some(Corner::EndedNormally),
        (Who::Client, When::Data | When::Last) => Some(Corner::ClientReset),
        (Who::Client, When::Queue) => Some(Corner::ClientLeftQueue),
        (Who::Client, When::Connect) => Some(Corner::ClientLeftEarly),
        (Who::Server, When::Data | When::Last) => Some(Corner::BackendReset),
        (Who::ServerTimeout, When::Queue) => Some(Corner::QueueTimedOut),
        (Who::ServerTimeout, When::Connect) => Some(Corner::ConnectTimedOut),
        (Who::ClientTimeout | Who::ServerTimeout, _) if pair.half_closed_at.is_some() => Some(Corner::HalfCloseEnd),
        (Who::ClientTimeout | Who::ServerTimeout, _) => Some(Corner::IdleEnd),
        (Who::Local, _) => Some(Corner::LifetimeEnd),
        (Who::Down, _) if record.reason == Some(EndReason::DrainIdle) => Some(Corner::DrainIdleEnd),
        (Who::Up, _) => Some(Corner::MadeRoom),
        (Who::Killed, _) if record.reason == Some(EndReason::DrainIdle) => Some(Corner::ShutdownIdleEnd),
        (Who::Resource, When::Queue) => Some(Corner::QueueFull),
        (Who::Rule, _) => Some(Corner::Refused),
        (Who::Server, When::Connect) if record.failed.is_empty() => Some(Corner::NoBackend),
        _ => None,
    };
    corners.extend(corner);
    corners.extend((record.queue_position > 0).then_some(Corner::Queued));
    corners.extend((record.queue_position > 0 && !record.failed.is_empty()).then_some(Corner::QueuedAfterAttempt));
    corners.extend((!record.failed.is_empty() && record.connect_ns.is_some()).then_some(Corner::TriedAnother));
    corners.extend(pair.flushing_since.map(|_| Corner::Flushed));
    corners
}
