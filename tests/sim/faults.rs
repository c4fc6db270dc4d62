//! What the machine of a schedule is like, and what goes wrong in it: thrown once, from the seed.

use ringway::session::{ConnectError, Limits};

use crate::dice::{Dice, Odds};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// The machine.
#[derive(Debug)]
pub struct Profile {
    pub sessions: usize,
    /// Receive buffers of the worker.
    pub buffers: u16,
    /// Buffers are so few that sessions are given no more than one at a time.
    pub scarce: bool,
    pub pipes: u16,
    pub pipe_capacity: u32,
    /// Receives that end by themselves after so many bytes; else each brings one buffer.
    pub recv_credit: bool,
    /// Most time between two things that happen.
    pub step_ns: u64,
    pub odds: Faults,
    /// Faults that come from nowhere. They must be few, or nothing would ever come to rest.
    pub spurious_left: u32,
}

/// How often what goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// A receive brings less than there is.
    pub short_recv: Odds,
    /// A receive ends with the bytes it brings, though it has credit left.
    pub recv_ends: Odds,
    /// A receive is interrupted and brings nothing.
    pub recv_interrupted: Odds,
    /// "There is more to read" is not true, or is not said.
    pub wrong_hint: Odds,
    /// A send takes less than there is room for.
    pub short_send: Odds,
    /// A send would block though there is room.
    pub send_refused: Odds,
    /// The kernel has no memory for an operation just now.
    pub no_memory: Odds,
    /// Splice moves less than it could.
    pub short_splice: Odds,
    /// Splice would block though it could move something.
    pub splice_refused: Odds,
    /// Splice returns 0 and there is no FIN.
    pub splice_zero: Odds,
    /// A poll says that there is something, and there is not.
    pub poll_lies: Odds,
    /// No pipe, though the pool has one.
    pub no_pipe: Odds,
    /// No descriptor to connect with.
    pub no_descriptor: Odds,
    /// The session is told to look at itself.
    pub spurious_timer: Odds,
    /// Somebody ends the session.
    pub kill: Odds,
}

impl Profile {
    pub fn throw(dice: &mut Dice) -> Profile {
        let pipes = dice.pick(&[0, 1, 1, 2, 4, 8]);
        let buffers = if dice.one_in(3) { dice.between(1, 6) } else { dice.between(8, 200) };
        Profile {
            sessions: dice.pick(&[1, 1, 2, 3, 4]),
            buffers: buffers as u16,
            scarce: dice.one_in(10),
            pipes,
            pipe_capacity: dice.pick(&[1 << 18, 1 << 19, 1 << 20]),
            recv_credit: !dice.one_in(3),
            step_ns: dice.pick(&[0, 1_000, 50_000, 50_000, 2 * MS]),
            odds: Faults::throw(dice),
            spurious_left: 30,
        }
    }
}

impl Faults {
    fn throw(dice: &mut Dice) -> Faults {
        let calm = dice.one_in(4);
        let mut odds = |often: u16| match dice.below(4) {
            _ if calm => Odds(0),
            0 | 1 => Odds(0),
            2 => Odds((often / 8).max(1)),
            _ => Odds(often),
        };
        Faults {
            short_recv: odds(400),
            recv_ends: odds(400),
            recv_interrupted: odds(100),
            wrong_hint: odds(300),
            short_send: odds(400),
            send_refused: odds(200),
            no_memory: odds(100),
            short_splice: odds(400),
            splice_refused: odds(60),
            splice_zero: odds(30),
            poll_lies: odds(50),
            no_pipe: odds(300),
            no_descriptor: odds(300),
            spurious_timer: odds(4),
            kill: odds(2),
        }
    }
}

/// Limits of a session: most of the time so long that nothing runs into them by accident.
pub fn throw_limits(dice: &mut Dice) -> Limits {
    Limits {
        connect_timeout_ns: dice.pick(&[0, 20 * MS, 3 * SECOND, 3 * SECOND]),
        connect_attempts_max: dice.pick(&[0, 1, 2, 3, 3]),
        queue_timeout_ns: dice.pick(&[0, 10 * MS, 5 * SECOND, 5 * SECOND]),
        waits_for_primary: dice.one_in(4),
        idle_timeout_ns: dice.pick(&[0, 300 * MS, 5 * SECOND, 60 * SECOND, 60 * SECOND, 150 * SECOND]),
        half_close_timeout_ns: dice.pick(&[0, 100 * MS, 2 * SECOND, 20 * SECOND]),
        lifetime_max_ns: dice.pick(&[0, 0, 0, 0, 0, 50 * MS, 2 * SECOND, 50 * SECOND]),
    }
}

/// What an attempt to connect comes to.
#[derive(Clone, Copy, Debug)]
pub enum Attempt {
    /// At once (a unix socket, or no socket to be had).
    AtOnce(Result<(), ConnectError>),
    /// After a while.
    Later(Result<(), ConnectError>),
    /// Never: no answer.
    Silence,
}

impl Attempt {
    pub fn throw(dice: &mut Dice) -> Attempt {
        let error = dice.pick(&[
            ConnectError::Backend,
            ConnectError::Backend,
            ConnectError::Backend,
            ConnectError::Resource,
            ConnectError::Timeout,
        ]);
        match dice.below(32) {
            0..20 => Attempt::Later(Ok(())),
            20..26 => Attempt::AtOnce(Ok(())),
            26 => Attempt::AtOnce(Err(error)),
            27..30 => Attempt::Later(Err(error)),
            _ => Attempt::Silence,
        }
    }
}
