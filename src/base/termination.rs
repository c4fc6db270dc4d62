//! How a session ended: HAProxy's two letters, and some more of the same kind (`docs/codes.md`).

use std::fmt;

/// What ended the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Who {
    /// `-` both sides finished.
    Normal,
    /// `C` the client aborted.
    Client,
    /// `S` the backend aborted, refused, or none was usable.
    Server,
    /// `P` a rule refused it.
    Rule,
    /// `L` ringway itself (shutdown of what it serves locally).
    Local,
    /// `R` a resource ran out: descriptors, ports, memory, a full queue.
    Resource,
    /// `I` an internal error.
    Internal,
    /// `D` the backend went down, was removed, or drained.
    Down,
    /// `K` killed by the operator, or left over at the end of the shutdown grace.
    Killed,
    /// `c` the client took too long.
    ClientTimeout,
    /// `s` the backend took too long.
    ServerTimeout,
    /// `U` its backend is a backup, and made room for one that came up.
    Up,
}

/// How far the session had come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum When {
    /// `R` before a backend was chosen.
    Request,
    /// `Q` in the queue.
    Queue,
    /// `C` connecting.
    Connect,
    /// `D` moving data.
    Data,
    /// `L` only the last data was left: one side had finished.
    Last,
    /// `-` it was over.
    Done,
}

/// The first letter, by [`Who`].
const WHO: [char; 12] = ['-', 'C', 'S', 'P', 'L', 'R', 'I', 'D', 'K', 'c', 's', 'U'];
/// The second letter, by [`When`].
const WHEN: [char; 6] = ['R', 'Q', 'C', 'D', 'L', '-'];

/// The pair, as it stands in logs and metrics (`docs/codes.md`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Termination(pub Who, pub When);

impl Termination {
    /// Number of different terminations: arrays indexed by [`Termination::index`] have this length.
    pub const COUNT: usize = WHO.len() * WHEN.len();
    /// Both sides finished.
    pub const NORMAL: Termination = Termination(Who::Normal, When::Done);

    /// Dense number below [`Termination::COUNT`].
    pub fn index(self) -> usize {
        self.0 as usize * WHEN.len() + self.1 as usize
    }

    /// The two letters of the termination with that [`Termination::index`].
    pub fn letters(index: usize) -> String {
        [WHO[index / WHEN.len()], WHEN[index % WHEN.len()]].iter().collect()
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Termination::letters(self.index()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_the_contract() {
        assert_eq!(Termination::NORMAL.to_string(), "--");
        assert_eq!(Termination(Who::ClientTimeout, When::Data).to_string(), "cD");
        assert_eq!(Termination(Who::ServerTimeout, When::Last).to_string(), "sL");
        assert!(Termination(Who::ServerTimeout, When::Done).index() < Termination::COUNT);
    }
}
