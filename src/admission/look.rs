//! When to look at what a client has said so far.
//!
//! A look copies all of it, and the kernel goes through every segment that it came in. A client that sends byte by byte
//! would cost a look for each byte, so the whole the square of its length. So how many bytes there are is asked first,
//! which costs the same for any number; they are looked at only when there are as many as what was seen says there must
//! be at least; and a client that takes many looks all the same, because it cuts what it says into tiny records, has a
//! budget of bytes.

use crate::base::time::Moment;

/// Between looks where the kernel cannot say that more has come (unix sockets), at the least; and as a part of the time
/// that was waited already, so that a client that never goes on costs ever less; and at the most, so that a client that
/// leaves is let go.
const AGAIN_NS: u64 = 5_000_000;
const AGAIN_PART: u64 = 8;
const AGAIN_MAX_NS: u64 = 1_000_000_000;

/// The wait for one thing that a client must say.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    began_at: Moment,
    deadline: Moment,
    /// Before there are so many bytes, a look tells nothing new.
    need: usize,
    /// How many there were when that was asked last.
    known: Option<usize>,
    /// Bytes that may still be copied.
    budget: usize,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LookWait {
    /// Until there are so many bytes, or until that moment.
    More {
        /// All of them, counted from the first.
        need: usize,
        /// [`Moment::NEVER`] if there is no hurry.
        until: Moment,
    },
    /// Until that moment: the kernel said that there is more, and there is not.
    Again {
        /// Soon.
        at: Moment,
    },
}

impl Look {
    /// Begins to wait, `timeout_ns` long (0: without end), and copies `budget` bytes at most, and what one look more
    /// takes.
    pub fn new(timeout_ns: u64, budget: usize, now: Moment) -> Look {
        let deadline = if timeout_ns == 0 { Moment::NEVER } else { now.after_ns(timeout_ns) };
        Look { began_at: now, deadline, need: 1, known: None, budget }
    }

    /// Whether `count` bytes are worth a look. So is an end without any, which costs nothing to see.
    pub fn is_worth(&self, count: usize, now: Moment) -> bool {
        count == 0 || count >= self.need || self.is_late(now)
    }

    /// Whether what has come by now must do.
    pub fn is_late(&self, now: Moment) -> bool {
        now >= self.deadline
    }

    /// Whether a look more would be one too many.
    pub fn is_spent(&self) -> bool {
        self.budget == 0
    }

    /// Whether there are as many bytes as there were before.
    pub fn is_known(&self, count: usize) -> bool {
        self.known == Some(count)
    }

    /// So many bytes were looked at.
    pub fn looked(&mut self, count: usize) {
        self.budget = self.budget.saturating_sub(count);
    }

    /// `count` bytes are not enough, `need` may be.
    pub fn wait(&mut self, count: usize, need: usize, now: Moment) -> LookWait {
        self.need = need.max(count + 1);
        if self.known.replace(count) != Some(count) {
            return LookWait::More { need: self.need, until: self.deadline };
        }
        // This socket has no low-water mark, or the kernel is short of memory and keeps to none.
        let pause_ns = (now.since_ns(self.began_at) / AGAIN_PART).clamp(AGAIN_NS, AGAIN_MAX_NS);
        LookWait::Again { at: now.after_ns(pause_ns).min(self.deadline) }
    }

    /// `count` bytes are not worth a look.
    pub fn wait_on(&mut self, count: usize, now: Moment) -> LookWait {
        self.wait(count, self.need, now)
    }

    /// What was there was taken out: the count begins anew.
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
