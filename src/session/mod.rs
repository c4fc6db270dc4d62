//! One client's connection with its backend connection, from accept to close. Pure: told what happened and when, it
//! says what to do.
//!
//! ```text
//! accepted → (Prereading) → Picking → Connecting ─────────→ Relaying → (Flushing) → Closing → closed
//!                            ↓   ↑        │  ↑ next backend     │                      ↑
//!                           Waiting ──────┴──┴──────────────────┴──────────────────────┘
//! ```
//!
//! A session waits while every backend has as many connections as it may have, or while it is not known which one is
//! the primary. It is called when it may be its turn, and picks again.
//!
//! Closing is three steps, because closing a descriptor with an operation in flight would leave the connection open
//! and the operation free to take a later session's bytes: [`Session::terminate`] cancels what is in flight, `join`
//! waits until nothing is, `close` closes.

mod effect;
mod end;
#[cfg(debug_assertions)]
mod invariants;
mod preread;
mod timer;

pub use effect::{Effect, Effects};
pub use preread::Looked;

use std::sync::Arc;

use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Moment;
use crate::relay::{self, End, Relay};

/// What a session captures from the configuration when it is admitted. Nanoseconds; 0 turns a limit off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SessionLimits {
    /// For each attempt to connect.
    pub connect_timeout_ns: u64,
    /// Attempts in all.
    pub connect_attempts_max: u32,
    /// Waiting for a backend, in all.
    pub queue_timeout_ns: u64,
    /// A primary that cannot be connected to is waited for: attempts alone do not end the session.
    pub waits_for_primary: bool,
    /// Without a byte.
    pub idle_timeout_ns: u64,
    /// Without a byte, after one side's FIN.
    pub half_close_timeout_ns: u64,
    /// Age.
    pub lifetime_max_ns: u64,
    /// Without a byte, while it is to end soon ([`Event::Drains`]).
    pub drain_idle_ns: u64,
}

/// What is cancelled is answered soon. A session that waits longer than this waits for an answer that was lost.
pub const CLOSING_NS: u64 = 10_000_000_000;

/// Why an attempt to connect failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectFailure {
    /// The backend refused, cannot be reached, or broke off.
    Backend,
    /// No answer in time.
    Timeout,
    /// A local resource ran out: ports, memory.
    Resource,
}

/// What became of [`Effect::Pick`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Picked {
    /// There is a backend, and the session is counted there.
    Backend,
    /// There is none, or all were tried.
    Nobody,
    /// None has room now, or it is not known yet which one it is: the session stands in the queue.
    Wait,
    /// It would have to wait, but too many do already.
    QueueFull,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The client was accepted. Said once, first.
    Accepted,
    /// The client was accepted, and has something to say before a backend is chosen. Said instead of `Accepted`.
    Preread,
    /// The answer to [`Effect::Look`].
    Looked(Looked),
    /// The answer to [`Effect::AwaitClient`].
    ClientSpoke {
        /// It will send no more.
        ended: bool,
    },
    /// The answer to [`Effect::Pick`].
    Picked(Picked),
    /// A session that waits may find a backend now.
    Called,
    /// The attempt to connect is over.
    Connected(Result<(), ConnectFailure>),
    /// Nothing could be started now, through no fault that another backend would help against: there is no descriptor
    /// or no memory, or so many wait for this backend to accept them that the kernel takes no more. Later there may be.
    ConnectLater,
    /// The connect was abandoned: the client left, and its address, which the backend must be told, can no longer be
    /// read.
    ClientGone,
    /// Something happened to the bytes.
    Relay(relay::Event),
    /// The moment of [`Effect::Timer`] has come, or the session was asked to look.
    Timer,
    /// The answer to [`Effect::QueryUnsent`].
    Unsent {
        /// Bytes that the peer's kernel has not acknowledged.
        bytes: u32,
    },
    /// The session must end now, in a reset, for this reason.
    End(Who),
    /// Its backend or the process drains, for this reason: a session that is silent for long enough ends now, in a FIN.
    /// `None`: not any more.
    Drains(Option<Who>),
}

/// Where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SessionState {
    /// The client must say something first.
    Prereading,
    /// A backend is being chosen.
    Picking,
    /// It stands in the queue.
    Waiting,
    /// A backend was chosen.
    Connecting(ConnectState),
    /// Bytes move. `kept_alive`: the kernel probes both connections while they are idle.
    Relaying { kept_alive: bool },
    /// Everything was handed to the kernel; `reset` is reset as soon as its peer has acknowledged it all.
    Flushing { reset: Side, unsent: u32 },
    /// Waits until nothing is in flight. `reset`: what the close of each side shall be, a reset or a FIN.
    Closing { reset: [bool; 2], backend: LastBackend },
    /// Over. Events that still come are late and change nothing.
    Closed,
}

/// How far an attempt to connect has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ConnectState {
    /// Nothing is in flight: it waits for a descriptor, for memory or for room, to be tried again.
    Hindered,
    /// A connect is in flight.
    InFlight,
    /// The connect in flight was cancelled, because it took too long.
    Expired,
}

/// The backend of a session that ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LastBackend {
    /// There is none, or it was closed.
    Nobody,
    /// A connect to it is in flight, and was cancelled.
    InFlight,
    /// No connect to it is in flight.
    Idle,
}

/// A client connection with its backend connection: told what happened, it says what to do.
#[derive(Debug)]
pub struct Session {
    /// How far it has come.
    state: SessionState,
    /// Both directions of its bytes.
    relay: Relay,
    /// As they were when it was admitted, whatever a reload has changed since. All sessions of a pool share them.
    limits: Arc<SessionLimits>,
    /// True exactly when a poll of [`Effect::AwaitClient`] is in flight. Independent of the state: a timer may have
    /// looked meanwhile and found all that was awaited, and then the poll outlives `Prereading`.
    awaiting: bool,
    /// It is to end soon, for this reason. Independent of the state: it may be known before there is a connection.
    drained_by: Option<Who>,
    /// Connects that were started, the one in flight among them.
    attempts: u32,
    /// The code that it would end with now.
    termination: Termination,
    /// When the state was entered, or the last byte or FIN moved.
    active_at: Moment,
    /// Waiting ends here; set when it begins for the first time, [`Moment::NEVER`] before.
    wait_until: Moment,
    /// Age ends here.
    ends_at: Moment,
    /// The timer is set to this.
    timer_at: Moment,
}

impl Session {
    /// A session that was accepted at `now`. `jitter` is a random number, for the lifetime.
    pub fn new(limits: impl Into<Arc<SessionLimits>>, jitter: u32, now: Moment) -> Session {
        let limits = limits.into();
        Session {
            state: SessionState::Picking,
            relay: Relay::new(),
            awaiting: false,
            drained_by: None,
            attempts: 0,
            termination: Termination::NORMAL,
            active_at: now,
            wait_until: Moment::NEVER,
            ends_at: timer::lifetime_end(limits.lifetime_max_ns, jitter, now),
            limits,
            timer_at: Moment::NEVER,
        }
    }

    /// Takes an event; the effects must be carried out in order, and what they answer be said after them.
    #[inline]
    pub fn on(&mut self, event: Event, now: Moment, out: &mut Effects) {
        match event {
            Event::Relay(event) => self.relay_event(event, now, out),
            Event::Accepted => out.push(Effect::Pick),
            Event::Preread => self.preread(out),
            Event::Looked(looked) => self.looked(looked, out),
            Event::ClientSpoke { ended } => self.client_spoke(ended, out),
            Event::Picked(picked) => self.picked(picked, now, out),
            Event::Called => self.called(out),
            Event::Connected(result) => self.connect_ended(result, now, out),
            Event::ConnectLater => self.connect_later(now, out),
            Event::ClientGone => self.client_gone(out),
            Event::Timer => self.timer(now, out),
            Event::Unsent { bytes } => self.unsent(bytes, now, out),
            Event::End(who) => self.end_by(who, out),
            Event::Drains(who) => self.drains(who, now, out),
        }
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    /// How it ended; true of a session that is over.
    pub fn termination(&self) -> Termination {
        self.termination
    }

    /// What goes to `side` ends in a last word before the FIN: its connection speaks TLS.
    pub fn speaks_last(&mut self, side: Side) {
        self.relay.speaks_last(side);
    }

    /// When the last byte or FIN moved, or its state was entered.
    pub fn active_at(&self) -> Moment {
        self.active_at
    }

    /// Whether a drain may end it before its deadline.
    pub fn heeds_drains(&self) -> bool {
        self.limits.drain_idle_ns > 0
    }

    /// Whether it holds receive buffers.
    pub fn holds_buffers(&self) -> bool {
        self.relay.holds_buffers()
    }

    /// Whether it counts as one of its backend's.
    pub fn has_backend(&self) -> bool {
        match self.state {
            SessionState::Connecting(_) | SessionState::Relaying { .. } | SessionState::Flushing { .. } => true,
            SessionState::Closing { backend, .. } => backend != LastBackend::Nobody,
            SessionState::Prereading | SessionState::Picking | SessionState::Waiting | SessionState::Closed => false,
        }
    }

    /// Receive buffers that it holds.
    pub fn leases(&self) -> usize {
        self.relay.leases()
    }

    /// Pipes that it holds.
    pub fn pipes(&self) -> usize {
        self.relay.pipes()
    }

    /// Whether bytes are moving or could move.
    pub fn is_relaying(&self) -> bool {
        matches!(self.state, SessionState::Relaying { .. })
    }

    /// Whether a connect is in flight that was not given up.
    pub fn is_connecting(&self) -> bool {
        self.state == SessionState::Connecting(ConnectState::InFlight)
    }

    /// Whether the client has sent bytes that a backend is to get.
    pub fn has_early_bytes(&self) -> bool {
        self.relay.has_received(Side::Client)
    }

    /// Whether it stands in the queue.
    pub fn is_waiting(&self) -> bool {
        self.state == SessionState::Waiting
    }

    /// Whether it has ended and only waits for the kernel.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, SessionState::Closing { .. } | SessionState::Closed)
    }

    /// Passes an event of a descriptor on to the relay, and draws the consequences of an end.
    #[inline]
    fn relay_event(&mut self, event: relay::Event, now: Moment, out: &mut Effects) {
        let was_half_closed = self.is_half_closed();
        let had_ended = self.has_an_end();
        self.relay.on(event, out);
        match &mut self.state {
            SessionState::Relaying { .. } => {
                if !had_ended && self.has_an_end() && self.is_hang_up() {
                    out.push(Effect::HungUp);
                }
                // The end of one side starts the clock anew: it may have been quiet for long before.
                if event.is_progress() || self.is_half_closed() != was_half_closed {
                    self.active_at = now;
                }
                self.relaying(event, now, out);
            }
            SessionState::Waiting => self.client_without_backend(event, When::Queue, out),
            SessionState::Connecting(_) => self.client_without_backend(event, When::Connect, out),
            SessionState::Flushing { reset, .. } if self.relay.has_failed(*reset) => self.terminate([true, true], out),
            SessionState::Closing { reset, .. } => {
                // A receive may bring something although it was cancelled. It is thrown away, so the end is no FIN.
                if matches!(event, relay::Event::Received { .. } | relay::Event::Ended { end: End::Failed(_), .. }) {
                    *reset = [true, true];
                }
                self.join(out);
            }
            SessionState::Prereading | SessionState::Picking | SessionState::Flushing { .. } | SessionState::Closed => {
            }
        }
    }

    /// Hears what the pool has for it: a backend, a place in the queue, or nothing.
    fn picked(&mut self, picked: Picked, now: Moment, out: &mut Effects) {
        debug_assert!(matches!(self.state, SessionState::Picking | SessionState::Waiting));
        match picked {
            Picked::Backend => {
                self.attempts += 1;
                self.active_at = now;
                self.connect(now.after_ns(timer::or_never(self.limits.connect_timeout_ns)), out);
                // What the client sends from now on is kept, and that it leaves is noticed.
                self.relay.open(Side::Client, out);
            }
            Picked::Nobody => {
                // After a failed attempt, its code stays.
                if self.attempts == 0 {
                    self.termination = Termination(Who::Server, When::Connect);
                }
                self.terminate([true, true], out);
            }
            Picked::Wait => self.wait(now, out),
            Picked::QueueFull => {
                self.termination = Termination(Who::Resource, When::Queue);
                self.terminate([true, true], out);
            }
        }
    }

    /// All its waits together end at one moment.
    fn wait(&mut self, now: Moment, out: &mut Effects) {
        if self.wait_until == Moment::NEVER {
            self.wait_until = now.after_ns(timer::or_never(self.limits.queue_timeout_ns));
        }
        self.state = SessionState::Waiting;
        self.timer_while_waiting(now, out);
        if self.state == SessionState::Waiting {
            self.relay.open(Side::Client, out);
        }
    }

    /// It may be its turn in the queue: it picks again. It is not certain that a place is left.
    fn called(&mut self, out: &mut Effects) {
        if self.state == SessionState::Waiting {
            out.push(Effect::Pick);
        }
    }

    /// Starts an attempt, which has until the deadline.
    fn connect(&mut self, deadline: Moment, out: &mut Effects) {
        self.state = SessionState::Connecting(ConnectState::InFlight);
        out.push(Effect::Connect);
        self.set_timer(deadline, out);
    }

    /// Hears of the end of an attempt: from here on bytes move, or another backend is tried.
    fn connect_ended(&mut self, result: Result<(), ConnectFailure>, now: Moment, out: &mut Effects) {
        match (self.state, result) {
            (SessionState::Connecting(_), Ok(())) => {
                self.state = SessionState::Relaying { kept_alive: false };
                self.active_at = now;
                self.relay.open(Side::Backend, out);
                // The client may have sent its FIN before, and what watched it since may have ended.
                let look = self.next_look(now).min(now.after_ns(timer::SETTLE_NS));
                if look < self.timer_at {
                    self.set_timer(look, out);
                }
            }
            (SessionState::Connecting(ConnectState::Expired), Err(_)) => {
                self.attempt_failed(ConnectFailure::Timeout, out)
            }
            (SessionState::Connecting(_), Err(error)) => self.attempt_failed(error, out),
            _ => self.connect_joined(out),
        }
    }

    /// The connect of a session that ends is over.
    fn connect_joined(&mut self, out: &mut Effects) {
        if let SessionState::Closing { backend: backend @ LastBackend::InFlight, .. } = &mut self.state {
            *backend = LastBackend::Idle;
        }
        self.join(out);
    }

    /// Goes to another backend immediately, while one is left.
    fn attempt_failed(&mut self, error: ConnectFailure, out: &mut Effects) {
        self.termination = Termination(
            match error {
                ConnectFailure::Backend => Who::Server,
                ConnectFailure::Timeout => Who::ServerTimeout,
                ConnectFailure::Resource => Who::Resource,
            },
            When::Connect,
        );
        // The next one may not drain.
        self.drained_by = None;
        out.push(Effect::Close { side: Side::Backend, reset: true });
        self.state = SessionState::Picking;
        if self.attempts < self.limits.connect_attempts_max.max(1) || self.limits.waits_for_primary {
            out.push(Effect::Pick);
        } else {
            self.terminate([true, true], out);
        }
    }

    /// Hears that the client left while its address was still needed for the connect.
    fn client_gone(&mut self, out: &mut Effects) {
        match &mut self.state {
            SessionState::Connecting(attempt) => {
                *attempt = ConnectState::Hindered;
                self.end_by(Who::Client, out);
            }
            _ => self.connect_joined(out),
        }
    }

    /// A client whose connection fails before there is a backend takes its session along. One that has sent its FIN,
    /// with a request before it or without, has not left: it waits for what the backend says.
    fn client_without_backend(&mut self, event: relay::Event, when: When, out: &mut Effects) {
        if self.relay.has_failed(Side::Client) {
            self.termination = Termination(Who::Client, when);
            self.terminate([true, true], out);
        } else if matches!(event, relay::Event::Ended { end: End::Eof, .. }) {
            self.relay.watch(out);
        }
    }
}
