//! When to look at what a client has sent so far.
//!
//! A look copies all of it, and the kernel walks over every segment in which it came. A client that sends byte by byte
//! would cost one look per byte, in total the square of the length. So the number of bytes is asked first, which costs
//! the same for any number. They are looked at only when there are as many as are needed at least, going by what was
//! seen before. A client that still makes many looks necessary, because it cuts what it says into tiny records, has a
//! budget of bytes.

use crate::base::time::Moment;

/// The pause between looks if the kernel cannot report that more has come (unix sockets): at least `AGAIN_NS`; an
/// eighth of the time that was waited already, so that a client that never goes on costs less and less; at most
/// `AGAIN_MAX_NS`, so that a client that leaves is noticed.
const AGAIN_NS: u64 = 5_000_000;
const AGAIN_PART: u64 = 8;
const AGAIN_MAX_NS: u64 = 1_000_000_000;

/// The wait for one thing that a client must say.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When it began.
    began_at: Moment,
    /// When it ends; [`Moment::NEVER`] without a time-out.
    deadline: Moment,
    /// With fewer bytes than this, a look tells nothing new.
    need: u32,
    /// How many bytes there were at the last look at their number.
    known: Option<u32>,
    /// How many bytes can still be copied.
    budget: u32,
}

/// A number of bytes in few bits: sessions that wait for their clients are many.
fn short(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What to wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LookWait {
    /// Until there are this many bytes, or until this moment.
    More {
        /// All bytes, counted from the first one.
        need: usize,
        /// [`Moment::NEVER`] if there is no time-out.
        until: Moment,
    },
    /// Until this moment, because the kernel has reported bytes and there are no new ones.
    Again {
        /// Soon.
        at: Moment,
    },
}

impl Look {
    /// Begins a wait of `timeout_ns` (0: without end) that copies at most `budget` bytes, and what one more look takes.
    pub fn new(timeout_ns: u64, budget: usize, now: Moment) -> Look {
        let deadline = if timeout_ns == 0 { Moment::NEVER } else { now.after_ns(timeout_ns) };
        Look { began_at: now, deadline, need: 1, known: None, budget: short(budget) }
    }

    /// Whether `count` bytes are worth a look. An end without any bytes is, because it costs nothing.
    pub fn is_worth(&self, count: usize, now: Moment) -> bool {
        count == 0 || short(count) >= self.need || self.is_late(now)
    }

    /// Whether the time is over, so that what has come must do.
    pub fn is_late(&self, now: Moment) -> bool {
        now >= self.deadline
    }

    /// Whether the budget is used up.
    pub fn is_spent(&self) -> bool {
        self.budget == 0
    }

    /// Whether there are as many bytes as before.
    pub fn is_known(&self, count: usize) -> bool {
        self.known == Some(short(count))
    }

    /// Notes that this many bytes were looked at.
    pub fn looked(&mut self, count: usize) {
        self.budget = self.budget.saturating_sub(short(count));
    }

    /// `count` bytes are not enough; `need` bytes may be.
    pub fn wait(&mut self, count: usize, need: usize, now: Moment) -> LookWait {
        let count = short(count);
        self.need = short(need).max(count.saturating_add(1));
        if self.known.replace(count) != Some(count) {
            return LookWait::More { need: self.need as usize, until: self.deadline };
        }
        // This socket has no low-water mark, or the kernel is short of memory and does not respect it.
        let pause_ns = (now.since_ns(self.began_at) / AGAIN_PART).clamp(AGAIN_NS, AGAIN_MAX_NS);
        LookWait::Again { at: now.after_ns(pause_ns).min(self.deadline) }
    }

    /// `count` bytes are not worth a look.
    pub fn wait_on(&mut self, count: usize, now: Moment) -> LookWait {
        self.wait(count, self.need as usize, now)
    }

    /// The bytes were taken out, so the count starts again.
    pub fn restart(&mut self) {
        (self.need, self.known) = (1, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_000_000_000);

    #[test]
    fn nothing_is_looked_at_before_it_can_tell_something_new() {
        let mut look = Look::new(50, 1000, NOW);
        assert!(look.is_worth(0, NOW) && look.is_worth(1, NOW));
        assert_eq!(look.wait(1, 9, NOW), LookWait::More { need: 9, until: NOW.after_ns(50) });
        assert!(!look.is_worth(8, NOW) && look.is_worth(9, NOW));
        assert!(look.is_worth(8, NOW.after_ns(50)), "at the end, what is there must do");
        assert_eq!(look.wait(9, 0, NOW), LookWait::More { need: 10, until: NOW.after_ns(50) });
        look.restart();
        assert!(look.is_worth(1, NOW));
    }

    #[test]
    fn a_client_that_wakes_us_for_nothing_is_looked_at_ever_less_often() {
        let mut look = Look::new(0, 1000, NOW);
        assert_eq!(look.wait(1, 9, NOW), LookWait::More { need: 9, until: Moment::NEVER });
        assert_eq!(look.wait_on(1, NOW), LookWait::Again { at: NOW.after_ns(AGAIN_NS) });
        assert_eq!(look.wait_on(2, NOW), LookWait::More { need: 9, until: Moment::NEVER }, "there is more");
        let later = NOW.after_ns(800_000_000);
        assert_eq!(look.wait_on(2, later), LookWait::Again { at: later.after_ns(100_000_000) });
        let late = NOW.after_ns(3_600_000_000_000);
        assert_eq!(look.wait_on(2, late), LookWait::Again { at: late.after_ns(AGAIN_MAX_NS) });
    }

    #[test]
    fn looks_have_a_budget() {
        let mut look = Look::new(0, 1000, NOW);
        look.looked(999);
        assert!(!look.is_spent());
        look.looked(20_000);
        assert!(look.is_spent());
    }
}
