//! Which session.

use std::fmt;
use std::str::FromStr;

/// A session of the process: `generation (24) | worker (12) | place (28)`. The generation is that of its place, so an
/// id is given out anew after 16 million sessions at the same place, and places take turns: 4 billion of a worker.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(u64);

/// Bits for the place in a worker.
const PLACE_BITS: u32 = 28;
/// Bits for the worker.
const WORKER_BITS: u32 = 12;

impl SessionId {
    /// Of the session at that place of a worker, the generation-th one there.
    pub fn new(worker: usize, place: u32, generation: u32) -> SessionId {
        debug_assert!(place >> PLACE_BITS == 0 && worker >> WORKER_BITS == 0);
        SessionId(
            u64::from(generation) << (PLACE_BITS + WORKER_BITS) | (worker as u64) << PLACE_BITS | u64::from(place),
        )
    }

    /// Which worker has it.
    pub fn worker(self) -> usize {
        (self.0 >> PLACE_BITS) as usize & ((1 << WORKER_BITS) - 1)
    }

    /// Its place there.
    pub fn place(self) -> u32 {
        self.0 as u32 & ((1 << PLACE_BITS) - 1)
    }

    /// How many had that place before, modulo 2^24.
    pub fn generation(self) -> u32 {
        (self.0 >> (PLACE_BITS + WORKER_BITS)) as u32
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<SessionId, NotAnId> {
        // What `from_str_radix` takes beside digits, no id has.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_plain).map(SessionId).ok_or(NotAnId)
    }
}

/// That text is no id of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the id of a session: ids are hexadecimal numbers, as `sessions` lists them")]
pub struct NotAnId;

/// How well one connection of a session went, as its kernel measured it (`struct tcp_info`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathQuality {
    /// The smoothed round-trip time, in microseconds; never 0.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sessions_share_an_id() {
        let ids = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1023, (1 << 28) - 1, (1 << 24) - 1)];
        let mut texts = ids.map(|(worker, place, generation)| SessionId::new(worker, place, generation).to_string());
        assert_eq!(texts[4], "ffffff3fffffffff");
        texts.sort_unstable();
        assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "{texts:?}");
    }
}
