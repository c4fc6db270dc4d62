//! Carries out what sessions ask for, as the worker does, on the fake kernel; and looks at each effect first.

use ringway::base::lease::{Moved, PipeId};
use ringway::base::side::Side;
use ringway::base::termination::{Termination, Who};
use ringway::relay::{self, Armed, CREDIT, End};
use ringway::session::{CLOSING_NS, ConnectError, Effect, Event, Picked};

use crate::corner::Corner;
use crate::faults::{Attempt, MS, SECOND};
use crate::kernel::stream_of;
use crate::link::{Kind, Link, Op};
use crate::pools::Half;
use crate::world::{NO_ROOM, World};

/// Contract 7. A turn of 4 MiB in pieces of 64 KiB, each filled and drained, is the most there is.
const EFFECTS_MAX: usize = 160;
/// A stream that moved a byte so lately has more on its way; one with a pipe, if it did within a second.
const FLOWING_NS: u64 = 10 * MS;
/// Once to find nothing, once more because the poll says that there is something.
const STALLS_MAX: u32 = 2;
/// Events in a row that may move nothing.
const IDLE_EVENTS_MAX: u32 = 300;

impl World {
    /// As `Worker::tell`.
    pub fn tell(&mut self, s: usize, event: Event) {
        if self.slots[s].over {
            return;
        }
        let now = self.kernel.now;
        self.kernel.say(format_args!("s{s} ← {event:?}"));
        self.ensure_not_busy();
        let was = (self.slots[s].session.is_ending(), self.is_flushing(s));
        self.note(s, &event);
        if !was.0 {
            self.slots[s].limit_came = matches!(event, Event::Timer) && self.slots[s].session.is_relaying();
        }
        self.slots[s].session.on(event, now, &mut self.effects);
        let mut count = 0;
        while let Some(effect) = self.effects.pop() {
            count += 1;
            assert!(count <= EFFECTS_MAX, "contract 7: more than {EFFECTS_MAX} effects of one event");
            self.kernel.say(format_args!("s{s} → {effect:?}"));
            let Some(answer) = self.execute(s, effect) else { continue };
            self.kernel.say(format_args!("s{s} ↩ {answer:?}"));
            self.note(s, &answer);
            self.slots[s].session.on(answer, now, &mut self.effects);
        }
        self.look_at(s, &event, was);
    }

    fn ensure_not_busy(&mut self) {
        if self.kernel.progress != self.seen_progress {
            self.seen_progress = self.kernel.progress;
            self.idle_events = 0;
        }
        self.idle_events += 1;
        let max = IDLE_EVENTS_MAX * self.slots.len() as u32;
        assert!(self.idle_events <= max, "busy loop: {max} events in a row moved nothing");
    }

    /// Keeps in mind what the session was told.
    fn note(&mut self, s: usize, event: &Event) {
        let now = self.kernel.now;
        match *event {
            Event::Timer if !self.slots[s].session.is_ending() => {
                self.slots[s].open_at_timer = Side::BOTH.map(|side| self.undelivered((s, side)) > 0);
                let is_bulk = Side::BOTH.iter().any(|&side| self.kernel.pipes.lent_to((s, side)).is_some());
                let flowing_ns = if is_bulk { SECOND } else { FLOWING_NS };
                self.slots[s].flowing_at_timer = now.since_ns(self.slots[s].quiet_since()) < flowing_ns;
            }
            Event::Connected(Ok(())) if self.slots[s].session.is_ending() => {}
            Event::Connected(Ok(())) => {
                self.slots[s].connected = true;
                self.slots[s].connected_at = now;
                self.slots[s].active_at = now;
            }
            Event::Connected(Err(error)) => {
                let expired = self.slots[s].connect_expired;
                self.slots[s].last_error = Some(if expired { ConnectError::Timeout } else { error });
            }
            Event::Relay(event) => {
                if event.is_progress() {
                    self.slots[s].active_at = now;
                }
                match event {
                    relay::Event::Turn { half, .. } => self.slots[s].spliced_at[half.index()] = now,
                    relay::Event::Lent { half, .. } => {
                        self.slots[s].spliced_at[half.index()] = now;
                        self.slots[s].splice_dry[half.index()] = false;
                        self.slots[s].splice_stalls[half.index()] = 0;
                    }
                    relay::Event::Unloaded { half, lease: None } => self.slots[s].spliced_at[half.index()] = now,
                    relay::Event::Unloaded { half, lease: Some(_) } => self.slots[s].unloaded[half.index()] = true,
                    relay::Event::Ended { side, end: End::Eof } => {
                        self.slots[s].ended[side.index()] = true;
                        // After a reset, 0 is no FIN.
                        self.slots[s].eof_told[side.index()] = self.kernel.link((s, side)).fin_arrived;
                    }
                    relay::Event::Ended { side, end: End::Failed(_) } => self.note_failure(s, side),
                    relay::Event::HungUp { side } if !self.slots[s].finished_to[side.index()] => {
                        self.note_failure(s, side);
                    }
                    relay::Event::Sent { side, moved: Moved::Failed(_) } => self.note_failure(s, side),
                    relay::Event::Filled { half, moved: Moved::Failed(_) } => self.note_failure(s, half),
                    relay::Event::Drained { half, moved: Moved::Failed(_) } => self.note_failure(s, half.peer()),
                    _ => {}
                }
            }
            Event::End(who) => match (self.slots[s].session.is_ending(), self.is_flushing(s)) {
                (true, _) => {}
                (_, true) => self.slots[s].killed_while_flushing = true,
                _ => self.slots[s].ended_by = Some(who),
            },
            _ => {}
        }
    }

    /// The time-out of this attempt has passed: see [`World::ensure_close_is_right`] for the other limits.
    fn ensure_connect_is_late(&self, s: usize) {
        let slot = &self.slots[s];
        let took_ns = self.kernel.now.since_ns(slot.connecting_at);
        let timeout_ns = slot.limits.connect_timeout_ns;
        assert!(timeout_ns > 0 && took_ns >= timeout_ns, "a connect is cancelled after {took_ns} ns");
    }

    fn note_failure(&mut self, s: usize, side: Side) {
        let now = self.kernel.now;
        let slot = &mut self.slots[s];
        slot.error_told[side.index()] = true;
        slot.first_error.get_or_insert(side);
        slot.half_closed_at.get_or_insert(now);
        if slot.error_told == [true, true] {
            self.kernel.corners.reach(Corner::BothFailed);
        }
    }

    fn execute(&mut self, s: usize, effect: Effect) -> Option<Event> {
        let harmless = matches!(effect, Effect::Relay(relay::Effect::GiveBack { .. } | relay::Effect::Release { .. }));
        assert!(!self.slots[s].over || harmless, "{effect:?} after the end");
        match effect {
            Effect::Relay(effect) => self.execute_relay(s, effect).map(Event::Relay),
            Effect::Look { .. } | Effect::AwaitClient => self.preread(s, effect),
            Effect::Pick => Some(Event::Picked(self.pick(s))),
            Effect::HungUp => None,
            Effect::StopWaiting => {
                assert!(self.slots[s].queued, "leaves a queue that it does not stand in");
                self.slots[s].queued = false;
                self.slots[s].left_queue = true;
                None
            }
            Effect::Connect => self.connect(s),
            Effect::CancelConnect => {
                let is_ending = self.slots[s].session.is_ending();
                if !is_ending {
                    self.ensure_connect_is_late(s);
                }
                if !self.slots[s].backend_fd {
                    // It has tried again for long enough.
                    let error = self.kernel.dice.pick(&[ConnectError::Resource, ConnectError::Timeout]);
                    self.slots[s].last_error = Some(error);
                    return Some(Event::Connected(Err(error)));
                }
                if !is_ending {
                    self.slots[s].connect_expired = true;
                    self.kernel.corners.reach(Corner::ConnectTimedOut);
                }
                self.cancel((s, Side::Backend), Kind::Connect);
                None
            }
            Effect::CancelAwait => {
                self.cancel((s, Side::Client), Kind::Preread);
                None
            }
            Effect::Close { side, reset } => {
                self.close(s, side, reset);
                None
            }
            Effect::QueryUnsent { side } => {
                self.kernel.corners.reach(Corner::Flushed);
                Some(Event::Unsent { bytes: self.kernel.link((s, side)).unsent() })
            }
            Effect::WatchClose => {
                self.slots[s].close_due = self.kernel.now.after_ns(CLOSING_NS);
                self.wheel.set(s as u32, self.slots[s].close_due, self.kernel.now);
                None
            }
            Effect::Stuck => {
                assert!(self.kernel.now < self.slots[s].close_due, "s{s} waits for its end for long");
                None
            }
            Effect::KeepAlive => {
                Side::BOTH.into_iter().for_each(|side| self.ensure_usable((s, side)));
                assert!(!self.slots[s].kept_alive, "keepalive is set up twice");
                self.slots[s].kept_alive = true;
                None
            }
            Effect::Timer(at) => {
                self.wheel.set(s as u32, at, self.kernel.now);
                None
            }
            Effect::Over => {
                self.over(s);
                None
            }
        }
    }

    fn execute_relay(&mut self, s: usize, effect: relay::Effect) -> Option<relay::Event> {
        match effect {
            relay::Effect::Recv { side, credit, .. } => self.recv((s, side), credit),
            relay::Effect::Send { side, lease, .. } => self.send((s, side), lease),
            relay::Effect::Hurry => {}
            relay::Effect::Append { from, to } => {
                self.kernel.corners.reach(Corner::LeasesPutTogether);
                let half = Side::BOTH.map(|side| (s, side)).into_iter().find(|&half| self.holds(half, from.buffer));
                self.kernel.buffers.append(half.unwrap_or((s, Side::Client)), from, to);
            }
            relay::Effect::Release { buffer } => self.kernel.buffers.release(s, buffer),
            relay::Effect::Starve { side } => self.starved.push_back((s, side)),
            relay::Effect::Ready { half } => {
                assert!(!self.ready.contains(&(s, half)), "half {half:?} waits for two turns");
                assert!(self.kernel.pipes.lent_to((s, half)).is_some(), "half {half:?} wants a turn without a pipe");
                self.ready.push_back((s, half));
            }
            relay::Effect::Finish { side } => self.finish((s, side)),
            relay::Effect::Borrow { half } => {
                return Some(relay::Event::Lent { half, pipe: self.kernel.lend((s, half)) });
            }
            relay::Effect::GiveBack { pipe } => {
                self.kernel.corners.reach(Corner::PipeGivenBack);
                self.kernel.pipes.give_back(s, pipe);
            }
            relay::Effect::Destroy { pipe } => {
                self.kernel.corners.reach(Corner::PipeDestroyed);
                self.kernel.pipes.destroy(s, pipe);
            }
            relay::Effect::Fill { half, pipe, len } => return Some(self.fill((s, half), pipe, len)),
            relay::Effect::Drain { half, pipe, len } => {
                self.ensure_usable((s, half.peer()));
                assert!(!self.kernel.link((s, half.peer())).busy[Kind::Send as usize], "a drain beside a send");
                return Some(relay::Event::Drained { half, moved: self.kernel.drain((s, half), pipe, len) });
            }
            relay::Effect::Unload { half, pipe, left } => {
                return Some(relay::Event::Unloaded { half, lease: self.kernel.unload((s, half), pipe, left) });
            }
            relay::Effect::PollReadable { side } => self.poll((s, side), Kind::Readable),
            relay::Effect::PollWritable { side } => self.poll((s, side), Kind::Writable),
            relay::Effect::PollHangup { side } => self.poll((s, side), Kind::Hangup),
            relay::Effect::Pause { half, for_ns } => self.pause((s, half), for_ns),
            relay::Effect::Cancel { side, armed } => {
                let kind = match armed {
                    Armed::Recv => Kind::Recv,
                    Armed::Readable => Kind::Readable,
                    Armed::Writable => Kind::Writable,
                    Armed::Hangup => Kind::Hangup,
                };
                self.cancel((s, side), kind);
            }
            relay::Effect::StopReading { side } => {
                self.ensure_usable((s, side));
                self.kernel.link((s, side)).reading_stopped = true;
            }
        }
        None
    }

    /// The operation ends now, or soon, or completes all the same.
    fn cancel(&mut self, at: Half, kind: Kind) {
        assert!(self.kernel.link(at).busy[kind as usize], "{kind:?} on {at:?} is cancelled, and is not in flight");
        self.kernel.cancel_one(at, kind);
        if self.kernel.dice.one_in(2) {
            self.kernel.run(at, kind);
        }
    }

    fn pause(&mut self, half: Half, for_ns: u64) {
        assert!((1..=SECOND).contains(&for_ns), "a pause of {for_ns} ns");
        let now = self.kernel.now;
        let paused = self.pauses.iter().any(|&(_, other)| other == half);
        assert!(!paused, "{half:?} pauses twice");
        self.kernel.corners.reach(Corner::Paused);
        self.pauses.push((now.after_ns(for_ns), half));
    }

    fn holds(&self, half: Half, buffer: u16) -> bool {
        self.kernel.buffers.is_held_by(half, buffer)
    }

    /// The connection is there, as far as the session knows, and it has not closed it.
    fn ensure_usable(&mut self, at: Half) {
        let connected = at.1 == Side::Client || self.slots[at.0].connected;
        let link = self.kernel.link(at);
        assert!(connected && link.open, "{at:?} is used before it is connected");
        assert!(link.closed.is_none(), "{at:?} is used after its close");
    }

    fn recv(&mut self, at: Half, credit: u32) {
        self.ensure_usable(at);
        assert!(!self.slots[at.0].ended[at.1.index()], "a receive on {at:?} after its end");
        assert!(self.kernel.pipes.lent_to(at).is_none(), "a receive on {at:?} beside splice");
        let held = self.undelivered(at);
        self.slots[at.0].unloaded[at.1.index()] = false;
        assert!((1..=CREDIT).contains(&credit), "credit of {credit}");
        assert!(held + u64::from(credit) <= u64::from(CREDIT), "a half may come to hold {held} + {credit} bytes");
        let credit = if self.kernel.profile.scarce { 1 } else { credit };
        self.kernel.submit(at, Kind::Recv, Op { credit, ..Op::new() });
    }

    fn send(&mut self, at: Half, lease: ringway::base::lease::Lease) {
        self.ensure_usable(at);
        assert!(!self.kernel.link(at).busy[Kind::Send as usize], "two sends in flight to {at:?}");
        let half = (at.0, at.1.peer());
        assert!(self.kernel.pipes.lent_to(half).is_none(), "a send to {at:?} beside splice");
        assert!(!self.kernel.link(at).busy[Kind::Writable as usize], "a send to {at:?} beside the wait for room");
        self.kernel.buffers.set_sending(half, lease.buffer, true);
        self.kernel.submit(at, Kind::Send, Op { lease, ..Op::new() });
    }

    fn fill(&mut self, half: Half, pipe: PipeId, len: u32) -> relay::Event {
        self.ensure_usable(half);
        assert!(!self.kernel.link(half).busy[Kind::Recv as usize], "splice beside a receive");
        let moved = self.kernel.fill(half, pipe, len);
        if let Moved::Bytes(len) = moved {
            assert!(len <= self.budget, "a half takes more than its turn");
            self.budget -= len;
        }
        self.ensure_splice_gives_up(half, moved);
        relay::Event::Filled { half: half.1, moved }
    }

    /// Splice tells neither a FIN from nothing nor urgent data from nothing: whoever goes on asking waits for ever.
    fn ensure_splice_gives_up(&mut self, half: Half, moved: Moved) {
        let link = self.kernel.link(half);
        let stalled = moved == Moved::WouldBlock && link.urgent_at == Some(link.taken);
        let slot = &mut self.slots[half.0];
        let index = half.1.index();
        assert!(!slot.splice_dry[index], "splice is asked again after its end");
        slot.splice_dry[index] = matches!(moved, Moved::Bytes(0) | Moved::Failed(_));
        slot.splice_stalls[index] = if stalled { slot.splice_stalls[index] + 1 } else { 0 };
        assert!(slot.splice_stalls[index] <= STALLS_MAX, "urgent data stalls a half");
    }

    fn poll(&mut self, at: Half, kind: Kind) {
        self.ensure_usable(at);
        self.kernel.submit(at, kind, Op::new());
    }

    fn pick(&mut self, s: usize) -> Picked {
        let slot = &mut self.slots[s];
        assert!(!slot.connected, "I6: another backend after a connection was made");
        assert_eq!(slot.counted, 0, "a second backend is counted");
        slot.waits_for_descriptor = false;
        let found = !slot.attempts.is_empty();
        if slot.waits > 0 || (!found && slot.limits.waits_for_primary) {
            return self.wait(s);
        }
        slot.no_backend |= !found;
        if !found {
            self.kernel.corners.reach(Corner::NoBackend);
            return Picked::Nobody;
        }
        slot.counted += 1;
        slot.picks += 1;
        let enough = slot.picks > slot.limits.connect_attempts_max.max(1);
        assert!(!enough || slot.limits.waits_for_primary, "too many attempts");
        if std::mem::take(&mut slot.queued) {
            self.kernel.corners.reach(Corner::LeftQueueServed);
        }
        if slot.picks > 1 {
            self.kernel.corners.reach(Corner::SecondAttempt);
        }
        Picked::Backend
    }

    /// There is no room, or no primary.
    fn wait(&mut self, s: usize) -> Picked {
        let now = self.kernel.now;
        let slot = &mut self.slots[s];
        if slot.waits != NO_ROOM {
            slot.waits = slot.waits.saturating_sub(1);
        }
        if slot.queued {
            return Picked::Wait;
        }
        if self.kernel.dice.one_in(10) {
            slot.queue_full = true;
            self.kernel.corners.reach(Corner::QueueFull);
            return Picked::QueueFull;
        }
        slot.queued = true;
        slot.first_queued_at.get_or_insert(now);
        self.kernel.corners.reach(if slot.picks > 0 { Corner::QueuedAfterAttempt } else { Corner::Queued });
        Picked::Wait
    }

    fn connect(&mut self, s: usize) -> Option<Event> {
        let at = (s, Side::Backend);
        assert_eq!(self.slots[s].counted, 1, "a connect without a backend");
        assert!(!self.slots[s].backend_fd, "a second connect");
        if !self.slots[s].waits_for_descriptor {
            self.slots[s].connecting_at = self.kernel.now;
        }
        self.slots[s].waits_for_descriptor = self.kernel.spurious(self.kernel.profile.odds.no_descriptor);
        if self.slots[s].waits_for_descriptor {
            self.kernel.corners.reach(Corner::NoDescriptor);
            return Some(Event::ConnectLater);
        }
        if self.kernel.link((s, Side::Client)).dead && self.kernel.dice.one_in(4) {
            self.kernel.corners.reach(Corner::ClientGone);
            self.slots[s].client_gone = true;
            return Some(Event::ClientGone);
        }
        let attempt = self.slots[s].attempts.pop().unwrap_or(Attempt::Silence);
        self.slots[s].backend_fd = true;
        self.slots[s].connect_expired = false;
        self.kernel.connect(at, attempt).map(Event::Connected)
    }

    /// FIN to a side, half way: I2.
    fn finish(&mut self, to: Half) {
        self.ensure_usable(to);
        let now = self.kernel.now;
        self.ensure_complete(to);
        let link = self.kernel.link(to);
        assert!(!link.shut, "two FINs to {to:?}");
        link.shut = true;
        let slot = &mut self.slots[to.0];
        slot.finished_to[to.1.index()] = true;
        slot.half_closed_at = Some(now);
        self.kernel.corners.reach(Corner::HalfClosed);
    }

    /// Everything that the other side has sent, FIN and all, was delivered to `to`.
    pub fn ensure_complete(&mut self, to: Half) {
        let from = (to.0, to.1.peer());
        assert!(self.slots[from.0].eof_told[from.1.index()], "I2: FIN to {to:?} before the other's FIN was seen");
        let sent = self.kernel.link(from).peer.sent;
        let delivered = self.kernel.link(to).accepted;
        assert!(self.kernel.link(from).peer.fin_sent, "I2: FIN to {to:?}, and the other has sent none");
        assert_eq!(delivered, sent, "I2: FIN to {to:?} and not everything was delivered");
    }

    fn close(&mut self, s: usize, side: Side, reset: bool) {
        let at = (s, side);
        if side == Side::Backend {
            self.slots[s].counted -= 1;
            assert_eq!(self.slots[s].counted, 0, "the backend's count is off");
        }
        if side == Side::Backend && !self.slots[s].backend_fd {
            return;
        }
        let link = self.kernel.link(at);
        assert!(!link.in_flight(), "contract 1: {at:?} closes with {:?} in flight", link.busy);
        if side == Side::Backend && !self.slots[s].connected {
            assert!(reset && link.accepted == 0, "a failed attempt ends in a FIN or was sent bytes");
        } else {
            self.ensure_close_is_right(at, reset);
        }
        self.kernel.link(at).close(reset);
        if side == Side::Backend && !self.slots[s].session.is_ending() {
            self.slots[s].backend_fd = false;
            self.kernel.links[s][Side::Backend.index()] = Link::throw(&mut self.kernel.dice, false);
        }
    }

    fn over(&mut self, s: usize) {
        let kernel = &mut self.kernel;
        assert!(kernel.link((s, Side::Client)).closed.is_some(), "over before the client was closed");
        let backend = kernel.link((s, Side::Backend)).closed.is_some();
        assert!(backend || !self.slots[s].backend_fd, "over before the backend was closed");
        assert_eq!(self.slots[s].counted, 0, "the backend's count is off");
        assert!(!self.slots[s].queued, "over, and still in the queue");
        self.wheel.clear(s as u32);
        self.slots[s].over = true;
        self.kernel.progress += 1;
        let Termination(who, _) = self.slots[s].session.termination();
        match who {
            Who::Normal => self.kernel.corners.reach(Corner::EndedNormally),
            Who::Killed | Who::Down => self.kernel.corners.reach(Corner::Killed),
            _ => {}
        }
        self.check_termination(s);
    }

    /// Bytes that came from that side and were not handed to the other side's kernel, pipes and all; 0 once there is
    /// nobody to hand them to.
    pub fn undelivered(&mut self, from: Half) -> u64 {
        let to = (from.0, from.1.peer());
        if self.slots[to.0].error_told[to.1.index()] {
            return 0;
        }
        debug_assert_eq!(stream_of(from) / 2, from.0 as u32);
        self.kernel.link(from).taken - self.kernel.link(to).accepted
    }
}
