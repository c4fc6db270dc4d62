//! A hashed timing wheel: one timer for each key, set and cleared in constant time.
//!
//! Varghese and Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987), scheme 6 without rounds: a moment beyond
//! the wheel's horizon goes into its farthest slot and fires early. Whoever set it looks at the clock and sets it
//! again, so long time-outs cost one visit every 40 seconds. A timer never fires before its moment otherwise, and at
//! most one tick after it.

use super::time::Moment;

/// Length of a tick.
pub const TICK_NS: u64 = 5_000_000;
const SLOTS: usize = 8192;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    next: u32,
    previous: u32,
    slot: u32,
}

/// See the module. Keys are small numbers, as of a slab.
#[derive(Debug)]
pub struct Wheel {
    /// First key of each slot.
    heads: Vec<u32>,
    /// A bit for each slot that is not empty.
    occupied: Vec<u64>,
    entries: Vec<Entry>,
    /// Every tick before this one has been visited.
    tick: u64,
    len: usize,
}

impl Wheel {
    /// Empty; nothing fires before `now`.
    pub fn new(now: Moment) -> Wheel {
        Wheel {
            heads: vec![NONE; SLOTS],
            occupied: vec![0; SLOTS / 64],
            entries: Vec::new(),
            tick: now.0 / TICK_NS,
            len: 0,
        }
    }

    /// Sets the timer of `key`, in place of what it was set to. [`Moment::NEVER`] clears it.
    pub fn set(&mut self, key: u32, at: Moment) {
        self.clear(key);
        if at == Moment::NEVER {
            return;
        }
        let index = key as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry { next: NONE, previous: NONE, slot: NONE });
        }
        let tick = at.0.div_ceil(TICK_NS).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        let slot = (tick % SLOTS as u64) as usize;
        let head = self.heads[slot];
        self.entries[index] = Entry { next: head, previous: NONE, slot: slot as u32 };
        if head != NONE {
            self.entries[head as usize].previous = key;
        }
        self.heads[slot] = key;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// Clears the timer of `key`, if it is set.
    pub fn clear(&mut self, key: u32) {
        let Some(&entry) = self.entries.get(key as usize) else { return };
        if entry.slot == NONE {
            return;
        }
        if entry.previous == NONE {
            self.heads[entry.slot as usize] = entry.next;
        } else {
            self.entries[entry.previous as usize].next = entry.next;
        }
        if entry.next != NONE {
            self.entries[entry.next as usize].previous = entry.previous;
        }
        if self.heads[entry.slot as usize] == NONE {
            self.occupied[entry.slot as usize / 64] &= !(1 << (entry.slot % 64));
        }
        self.entries[key as usize].slot = NONE;
        self.len -= 1;
    }

    /// Clears and returns a key whose moment has come, `None` if there is none (any more).
    pub fn expire(&mut self, now: Moment) -> Option<u32> {
        let now_tick = now.0 / TICK_NS;
        while self.tick <= now_tick {
            if self.len == 0 {
                self.tick = now_tick + 1;
                break;
            }
            let key = self.heads[(self.tick % SLOTS as u64) as usize];
            if key != NONE {
                self.clear(key);
                return Some(key);
            }
            self.tick += 1;
        }
        None
    }

    /// The next moment at which [`Wheel::expire`] may return something.
    pub fn next(&self) -> Moment {
        if self.len == 0 {
            return Moment::NEVER;
        }
        let start = (self.tick % SLOTS as u64) as usize;
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            // In the first word only what lies ahead, when it comes round again only what lies behind.
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Moment((self.tick + ahead as u64) * TICK_NS);
            }
        }
        Moment::NEVER
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment(1_000_000_000);
    const HORIZON_NS: u64 = (SLOTS as u64 - 2) * TICK_NS;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u32..40, 0..2 * HORIZON_NS).prop_map(|(key, after)| Step::Set(key, after)),
            (0u32..40, 0..20 * TICK_NS).prop_map(|(key, after)| Step::Set(key, after)),
            (0u32..40).prop_map(Step::Clear),
            (0..30 * TICK_NS).prop_map(Step::Advance),
            (0..HORIZON_NS).prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// Against a map: whatever was set fires once, not early (but for the horizon), not more than a tick late.
        #[test]
        fn timers_fire_once_and_on_time(steps in prop::collection::vec(step(), 1..60)) {
            let mut wheel = Wheel::new(START);
            let mut model: BTreeMap<u32, (Moment, Moment)> = BTreeMap::new();
            let mut now = START;
            for step in steps {
                match step {
                    Step::Set(key, after) => {
                        wheel.set(key, now.after_ns(after));
                        model.insert(key, (now, now.after_ns(after)));
                    }
                    Step::Clear(key) => {
                        wheel.clear(key);
                        model.remove(&key);
                    }
                    Step::Advance(span) => now = now.after_ns(span),
                }
                while let Some(key) = wheel.expire(now) {
                    let (set, at) = model.remove(&key).expect("fires once, and only what was set");
                    prop_assert!(at <= now || at.since_ns(set) > HORIZON_NS - 2 * TICK_NS);
                }
                for (_, at) in model.values() {
                    prop_assert!(now.0 < at.0 + 2 * TICK_NS, "overdue");
                }
                let next = model.values().map(|&(set, at)| at.min(set.after_ns(HORIZON_NS + 2 * TICK_NS))).min();
                match next {
                    None => prop_assert_eq!(wheel.next(), Moment::NEVER),
                    Some(at) => prop_assert!(wheel.next().0 <= at.0 + 2 * TICK_NS && wheel.next() != Moment::NEVER),
                }
            }
        }
    }

    #[test]
    fn next_is_found_all_around_the_wheel() {
        for offset in [0, 1, 63, 64, 65, 4000, SLOTS as u64 - 1] {
            for start in [0u64, 5, 63, 64, 8191] {
                let now = Moment((SLOTS as u64 * 3 + start) * TICK_NS);
                let mut wheel = Wheel::new(now);
                wheel.set(7, now.after_ns(offset * TICK_NS));
                assert_eq!(wheel.next(), now.after_ns(offset * TICK_NS));
            }
        }
    }
}
