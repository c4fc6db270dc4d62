//! How often everything is looked at, in builds with debug assertions.

/// Things that a look may cost per event.
const A_EVENT: usize = 16;

/// Spaces looks that cost as much as there is, so that an event costs no more of them however much that is: few things
/// are looked at after each event, many once in so many events.
#[derive(Debug, Default)]
pub struct LookPace {
    /// Events until the next look.
    left: usize,
}

impl LookPace {
    /// An event has happened; whether everything is to be looked at. `len` says how much that is.
    pub fn is_due(&mut self, len: impl FnOnce() -> usize) -> bool {
        let is_due = self.left == 0;
        self.left = if is_due { len() / A_EVENT } else { self.left - 1 };
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_things_are_looked_at_after_each_event_and_many_so_rarely_that_an_event_costs_the_same() {
        for (len, looks) in [(0, 1000), (A_EVENT - 1, 1000), (10 * A_EVENT - 1, 100), (10_000 * A_EVENT, 1)] {
            let mut pace = LookPace::default();
            let due = (0..1000).filter(|_| pace.is_due(|| len)).count();
            assert_eq!(due, looks, "of {len}");
        }
    }
}
