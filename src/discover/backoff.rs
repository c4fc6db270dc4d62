//! When to try again what has failed. Pure.

use std::time::Duration;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// Pauses between attempts: each about twice the one before, with a random part, so that many that have failed together
/// do not come back together ("full jitter" over the upper half).
#[derive(Clone, Debug)]
pub struct Backoff {
    /// The longest pause.
    most: Duration,
    /// The next pause, before chance has its part.
    next: Duration,
}

impl Backoff {
    /// Pauses up to `most`.
    pub fn new(most: Duration) -> Backoff {
        Backoff { most, next: FIRST }
    }

    /// The pause after one more failure: between half of what is due and all of it. `chance` is a random number.
    pub fn pause(&mut self, chance: u64) -> Duration {
        let due = self.next.min(self.most);
        self.next = (due * 2).min(self.most);
        let half_us = due.as_micros() as u64 / 2;
        Duration::from_micros(half_us + chance % (half_us + 1))
    }

    /// An attempt has succeeded: the next failure begins anew.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_up_to_the_longest_and_begin_anew_after_a_success(chances: [u64; 12], most_s in 1..60u64) {
            let most = Duration::from_secs(most_s);
            let mut backoff = Backoff::new(most);
            for round in 0..2 {
                for (failure, chance) in chances.iter().enumerate() {
                    let due = (FIRST * 2u32.pow(failure as u32)).min(most);
                    let pause = backoff.pause(*chance);
                    prop_assert!(pause >= due / 2 && pause <= due, "round {}: {:?} of {:?}", round, pause, due);
                }
                backoff.reset();
            }
        }
    }
}
