//! Which member of etcd is asked next, and after which pause. Pure.
//!
//! Any member can answer. When one fails, the next is asked immediately; only when all have failed one after the other
//! that is an outage, which is told, and there is a pause.

use std::time::Duration;

use crate::discover::backoff::Backoff;

/// The longest pause in an outage: after it etcd is found again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many reasons are shown for an outage.
const REASONS_MAX: usize = 5;

/// How asking a member has ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MemberEnding {
    /// It answers, and has to be asked anew: changes were lost, or its watch has ended.
    Anew,
    /// It has failed, for this reason.
    Failed(String),
}

/// What is done next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextMember {
    /// Every member has failed, for these reasons.
    pub outage: Option<String>,
    /// How long to wait before the next one is asked.
    pub pause: Duration,
}

/// Which member is asked.
#[derive(Debug)]
pub struct Rotation {
    /// How many there are.
    count: usize,
    /// The one that is asked.
    at: usize,
    /// Why each one has failed that was asked since one was proven, or since the last outage was told.
    failed: Vec<String>,
    /// It was proven since it was asked.
    is_proven: bool,
    /// Pauses between rounds.
    backoff: Backoff,
}

impl Rotation {
    /// The first of so many.
    pub fn new(count: usize) -> Rotation {
        Rotation { count, at: 0, failed: Vec::new(), is_proven: false, backoff: Backoff::new(PAUSE_MAX) }
    }

    /// The place of the one that is asked.
    pub fn at(&self) -> usize {
        self.at
    }

    /// It has answered, a while after it was first asked: an answer that came immediately does not prove that the next
    /// one comes too.
    pub fn on_proven(&mut self) {
        self.failed.clear();
        self.is_proven = true;
        self.backoff.reset();
    }

    /// It is asked no longer. `chance` is a random number.
    pub fn on_ending(&mut self, ending: MemberEnding, chance: u64) -> NextMember {
        let was_proven = std::mem::replace(&mut self.is_proven, false);
        let why = match ending {
            MemberEnding::Anew if was_proven => return NextMember { outage: None, pause: Duration::ZERO },
            // It would go on like this without a pause.
            MemberEnding::Anew => return NextMember { outage: None, pause: self.backoff.pause(chance) },
            MemberEnding::Failed(why) => why,
        };
        self.failed.push(why);
        self.at = (self.at + 1) % self.count.max(1);
        if self.failed.len() < self.count {
            return NextMember { outage: None, pause: Duration::ZERO };
        }
        let mut reasons = std::mem::take(&mut self.failed);
        reasons.truncate(REASONS_MAX);
        NextMember { outage: Some(reasons.join("; ")), pause: self.backoff.pause(chance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failed() -> MemberEnding {
        MemberEnding::Failed("gone".to_string())
    }

    #[test]
    fn every_member_is_asked_before_there_is_an_outage() {
        let mut rotation = Rotation::new(3);
        for round in 0..2 {
            for at in 0..2 {
                assert_eq!(rotation.at(), at, "round {round}");
                assert_eq!(rotation.on_ending(failed(), 0), NextMember { outage: None, pause: Duration::ZERO });
            }
            let next = rotation.on_ending(failed(), 0);
            assert!(next.outage == Some("gone; gone; gone".to_string()) && next.pause > Duration::ZERO, "{next:?}");
        }
        rotation.on_proven();
        assert_eq!(rotation.on_ending(failed(), 0).outage, None, "one of three");
        assert_eq!(rotation.at(), 1);
    }

    #[test]
    fn a_watch_that_ends_is_opened_again_and_not_without_a_pause_for_ever() {
        let mut rotation = Rotation::new(1);
        rotation.on_proven();
        assert_eq!(rotation.on_ending(MemberEnding::Anew, 0).pause, Duration::ZERO);
        let pauses: Vec<_> = (0..5).map(|_| rotation.on_ending(MemberEnding::Anew, 0).pause).collect();
        assert!(pauses[0] > Duration::ZERO && pauses.is_sorted() && pauses[4] > pauses[0], "{pauses:?}");
    }

    proptest! {
        /// No history of a server makes it ask more often than twice per member in a time without a pause or a proof.
        #[test]
        fn nothing_makes_it_ask_without_a_pause(count in 1..5usize, steps in prop::collection::vec(0..2u8, 1..40)) {
            let (mut rotation, mut without) = (Rotation::new(count), 0);
            for step in steps {
                let next = rotation.on_ending(if step == 0 { MemberEnding::Anew } else { failed() }, 7);
                without = if next.pause.is_zero() { without + 1 } else { 0 };
                prop_assert!(without < count, "{} members, {} in a row", count, without);
                prop_assert!(next.pause <= PAUSE_MAX && rotation.at() < count);
            }
        }
    }
}
