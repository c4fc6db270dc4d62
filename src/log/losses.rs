//! Decides when a log reports that it loses lines.
//!
//! A log that cannot be written must not fill itself, or another log, with complaints about that.

use crate::base::time::Moment;

/// The least time between two reports.
const PAUSE_NS: u64 = 10_000_000_000;

/// Reports the first loss immediately, and further ones now and then: each report counts all losses since the one
/// before.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// How many losses were reported.
    told: u64,
    /// Nothing is reported before this moment.
    quiet_until: Moment,
}

impl Losses {
    /// `dropped` is the number of all losses so far. Returns how many to report now; `None` if there is nothing new or
    /// it is too early.
    pub(super) fn on(&mut self, dropped: u64, now: Moment) -> Option<u64> {
        let news = dropped.saturating_sub(self.told);
        if news == 0 || now < self.quiet_until {
            return None;
        }
        self.told = dropped;
        self.quiet_until = now.after_ns(PAUSE_NS);
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once_and_not_each_at_once() {
        let mut losses = Losses::default();
        assert_eq!(losses.on(0, Moment(1)), None);
        assert_eq!(losses.on(3, Moment(2)), Some(3));
        assert_eq!(losses.on(9, Moment(3)), None);
        assert_eq!(losses.on(9, Moment(2 + PAUSE_NS)), Some(6));
        assert_eq!(losses.on(9, Moment(9 * PAUSE_NS)), None);
    }
}
