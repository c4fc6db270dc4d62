//! How much a check takes in: so much, whatever the server sends, and all checks together no more than the process can
//! bear.
//!
//! What a check keeps of an answer is a small multiple of it at most, so that bytes are what has to be bounded. Honest
//! answers have some hundred bytes. A check that stays within [`FAIR`] is served even while others are greedy.
//!
//! Two limits are checked for each read: one of the check itself, and one of all checks that are under way in this
//! process. A check that fails while all of them together take in too much is not a failure of the server, because
//! others may have used up the budget.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// Of one connection.
pub(super) const BYTES_MAX: usize = 256 * 1024;
/// Of all checks that are under way.
const ALL_MAX: usize = 16 * 1024 * 1024;
/// What each check may take whatever the others do.
const FAIR: usize = 16 * 1024;
/// Bytes that tell what a server speaks.
const FIRST: usize = 8;

thread_local! {
    /// What the checks that are under way have taken in. Control is one thread.
    static ALL: Cell<usize> = const { Cell::new(0) };
}

/// What one connection has taken in. Its share of the whole ends with it.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Bytes that have come over this connection.
    taken: Cell<usize>,
    /// How many may come; an HTTP check lowers it until the header is complete.
    limit: Cell<usize>,
    /// The first of them, from which the likely cause of a failure is guessed.
    first: Cell<[u8; FIRST]>,
    /// It was ended because all checks together took in too much.
    is_crowded: Cell<bool>,
}

impl Budget {
    /// The budget of a check that begins: [`BYTES_MAX`].
    pub(super) fn begin() -> Rc<Budget> {
        let budget = Budget::default();
        budget.limit_to(BYTES_MAX);
        Rc::new(budget)
    }

    /// So many bytes may come in all.
    pub(super) fn limit_to(&self, bytes: usize) {
        self.limit.set(bytes);
    }

    /// These have come.
    ///
    /// # Errors
    /// They are too many, of this check or of all.
    pub(super) fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let before = self.taken.get();
        let mut first = self.first.get();
        first.iter_mut().skip(before).zip(bytes).for_each(|(kept, byte)| *kept = *byte);
        self.first.set(first);
        let taken = before + bytes.len();
        self.taken.set(taken);
        let all = ALL.get() + bytes.len();
        ALL.set(all);
        if taken > self.limit.get() {
            let limit = self.limit.get() / 1024;
            return Err(io::Error::other(format!("it sent more than {limit} KiB, which no check needs")));
        }
        if all > ALL_MAX && taken > FAIR {
            self.is_crowded.set(true);
            return Err(io::Error::other("all checks together are being sent too much"));
        }
        Ok(())
    }

    /// Bytes that have come.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Whether it ended for what others were sent.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.get()
    }

    /// The first bytes that came.
    pub(super) fn first(&self) -> Vec<u8> {
        self.first.get()[..self.taken.get().min(FIRST)].to_vec()
    }
}

impl Drop for Budget {
    /// Gives its share of the whole back.
    fn drop(&mut self) {
        ALL.set(ALL.get().saturating_sub(self.taken.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_has_an_end_and_all_together_have_one() {
        let budget = Budget::begin();
        assert!(budget.take(&[7; BYTES_MAX]).is_ok());
        assert!(budget.take(&[7]).is_err_and(|error| error.to_string().contains("256 KiB")));
        assert_eq!((budget.first(), budget.is_crowded()), (vec![7; FIRST], false));
        let greedy: Vec<_> = (0..ALL_MAX / BYTES_MAX)
            .map(|_| {
                let budget = Budget::begin();
                let _ = budget.take(&[0; BYTES_MAX]);
                budget
            })
            .collect();
        let late = Budget::begin();
        assert!(late.take(&[0; FAIR]).is_ok(), "what is honest is served");
        assert!(late.take(&[0]).is_err() && late.is_crowded());
        drop((budget, greedy, late));
        assert!(Budget::begin().take(&[0; FAIR + 1]).is_ok(), "what was taken is given back");
    }
}
