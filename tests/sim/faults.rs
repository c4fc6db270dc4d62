//! What the machine of a schedule is like, and what goes wrong in it: thrown once, from the seed.

use crate::dice::{Dice, Odds};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

/// The machine.
#[derive(Debug)]
pub struct Profile {
    /// On epoll, and not on a ring.
    pub is_epoll: bool,
    pub workers: usize,
    pub clients: usize,
    /// All come to one worker, where they may.
    pub lopsided: bool,
    /// Receive buffers of each worker.
    pub buffers: u16,
    /// Receive buffers that the kernel is given at first.
    pub posted: u16,
    pub pipes: u16,
    pub pipe_capacity: u32,
    /// Receives that end by themselves after so many bytes; else each brings one buffer.
    pub recv_credit: bool,
    /// Most time between two things that happen.
    pub step_ns: u64,
    pub fd_max: usize,
    pub connections_max: u64,
    pub early_max: usize,
    /// How long a worker looks for something to do before it sleeps.
    pub busy_poll_ns: u64,
    /// Bytes that a peer writes, at most.
    pub total_max: u64,
    /// What control does in a schedule, at most.
    pub orders_left: u32,
    pub odds: Faults,
    /// Faults that come from nowhere. They must be few, or nothing would ever come to rest.
    pub spurious_left: u32,
}

/// How often what goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A receive brings less than there is.
    pub short_recv: Odds,
    /// A receive ends with the bytes it brings, though it has credit left.
    pub recv_ends: Odds,
    /// An operation is interrupted and brings nothing.
    pub interrupted: Odds,
    /// "There is more to read" is not true.
    pub wrong_hint: Odds,
    /// A send takes less than there is room for.
    pub short_send: Odds,
    /// A send would block though there is room.
    pub send_refused: Odds,
    /// The kernel has no memory for an operation just now.
    pub no_memory: Odds,
    /// Splice moves less than it could.
    pub short_splice: Odds,
    /// Splice returns 0 and there is no FIN.
    pub splice_zero: Odds,
    /// A poll says that there is something, and there is not.
    pub poll_lies: Odds,
    /// No pipe, though the pool has one.
    pub no_pipe: Odds,
    /// A socket, a bind or an accept that fails for want of something.
    pub no_socket: Odds,
    /// A message to another worker that does not arrive.
    pub no_message: Odds,
    /// A worker wakes up for nothing, or its operations are not taken immediately.
    pub spurious_wake: Odds,
    /// A session that is not modelled takes all free buffers for a while.
    pub withheld: Odds,
    /// A connect fails.
    pub connect_fails: Odds,
    /// A reset does not wake a receive that has taken the last bytes.
    pub silent_reset: Odds,
}

impl Profile {
    pub fn is_crowd(&self) -> bool {
        self.clients > 30
    }

    /// Clients that come and go, one after the other.
    pub fn is_swarm(&self) -> bool {
        self.clients > 200
    }

    pub fn throw(dice: &mut Dice) -> Profile {
        let clients = match dice.below(64) {
            0 if dice.one_in(12) => dice.between(420, 520),
            0 => dice.between(70, 100),
            1..8 => dice.between(7, 16),
            _ => dice.between(1, 6),
        } as usize;
        let crowd = clients > 30;
        let few = dice.one_in(4);
        let buffers = if few { dice.between(2, 8) } else { dice.between(20, 200) } as u16;
        Profile {
            is_epoll: false,
            workers: if crowd { 1 } else { dice.pick(&[1, 2, 2]) },
            clients,
            lopsided: dice.one_in(4),
            buffers,
            posted: dice.between(1, u64::from(buffers)) as u16,
            pipes: dice.pick(&[0, 1, 1, 2, 4]),
            pipe_capacity: dice.pick(&[1 << 18, 1 << 19, 1 << 20]),
            recv_credit: !dice.one_in(3),
            step_ns: dice.pick(&[0, 1_000, 50_000, 50_000, 2 * MS]),
            // A crowd that is short of them gives way by more sessions than may end in one turn.
            fd_max: match crowd {
                true if dice.one_in(3) => dice.between(20, 60) as usize,
                false if dice.one_in(6) => clients + dice.between(12, 20) as usize,
                _ => 100_000,
            },
            connections_max: if !crowd && dice.one_in(5) { dice.between(1, 4) } else { 10_000 },
            early_max: dice.pick(&[0, 1, 4]),
            busy_poll_ns: dice.pick(&[0, 30_000]),
            total_max: if clients > 200 { 100 } else { throw_total(dice, crowd) },
            orders_left: if dice.one_in(2) { dice.between(1, 8) as u32 } else { 0 },
            odds: Faults::throw(dice),
            spurious_left: 30,
        }
    }
}

fn throw_total(dice: &mut Dice, crowd: bool) -> u64 {
    match dice.one_in(12) {
        _ if crowd => 3_000,
        true => 12_000_000,
        false => dice.pick(&[3_000, 100_000, 300_000, 1_500_000]),
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
            interrupted: odds(100),
            wrong_hint: odds(300),
            short_send: odds(400),
            send_refused: odds(200),
            no_memory: odds(100),
            short_splice: odds(400),
            splice_zero: odds(30),
            poll_lies: odds(50),
            no_pipe: odds(300),
            no_socket: odds(100),
            no_message: odds(300),
            spurious_wake: odds(20),
            withheld: odds(100),
            connect_fails: odds(200),
            silent_reset: odds(700),
        }
    }
}
