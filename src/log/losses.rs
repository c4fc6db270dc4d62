//! When a log says that it loses lines.

use crate::base::time::Moment;

/// Between two complaints.
const PAUSE_NS: u64 = 10_000_000_000;

/// Complains at once, and then not more often than anybody wants to read.
#[derive(Debug, Default)]
pub(super) struct Losses {
    told: u64,
    quiet_until: Moment,
}

impl Losses {
    /// Of what was `dropped` in all, what is to be told now.
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
