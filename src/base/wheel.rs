//! A hashed timing wheel: one timer for each key, set and cleared in constant time.
//!
//! Varghese and Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987), scheme 6 without rounds: a moment beyond
//! the wheel's horizon goes into its farthest slot and fires early. The caller then looks at the clock and sets the
//! timer again, so a long time-out costs one visit every 40 seconds. Apart from that, a timer never fires before its
//! moment, and at most one tick after it.
//!
//! A wheel that was not looked at for long (no timer was set, or the process was stopped) catches up in one step: it
//! jumps to the next slot that has a timer, and a wheel without timers follows the clock when the next one is set.

use super::time::Moment;

/// Length of a tick.
pub const TICK_NS: u64 = 5_000_000;
/// How many ticks the wheel looks ahead: 41 s.
const SLOTS: usize = 8192;
/// Words of 64 slots; the summary has a bit for each.
const WORDS: usize = SLOTS / 64;
const _: () = assert!(WORDS == u128::BITS as usize);
/// No key, or no slot.
const NONE: u32 = u32::MAX;

/// The timer of one key, linked with the others of its slot.
#[derive(Clone, Copy, Debug)]
struct Entry {
    next: u32,
    previous: u32,
    slot: u32,
}

/// The timers of one thread, one per key. Keys are small numbers, as of a slab.
#[derive(Debug)]
pub struct Wheel {
    /// First key of each slot.
    heads: Vec<u32>,
    /// A bit for each slot that is not empty.
    occupied: Vec<u64>,
    /// A bit for each word of `occupied` that is not 0.
    summary: u128,
    /// By key.
    entries: Vec<Entry>,
    /// Every tick before this one has been visited.
    tick: u64,
    /// How many timers are set.
    len: usize,
}

impl Wheel {
    /// Empty; nothing fires before `now`.
    pub fn new(now: Moment) -> Wheel {
        Wheel {
            heads: vec![NONE; SLOTS],
            occupied: vec![0; WORDS],
            summary: 0,
            entries: Vec::new(),
            tick: now.0 / TICK_NS,
            len: 0,
        }
    }

    /// Sets the timer of `key`, in place of what it was set to. [`Moment::NEVER`] clears it. `now` is the moment it is:
    /// a timer counts from there, and not from when the wheel was looked at last.
    pub fn set(&mut self, key: u32, at: Moment, now: Moment) {
        self.clear(key);
        if at == Moment::NEVER {
            return;
        }
        if self.len == 0 {
            // No slot has to be visited any more.
            self.tick = self.tick.max(now.0 / TICK_NS);
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
        self.summary |= 1 << (slot / 64);
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
            let word = entry.slot as usize / 64;
            self.occupied[word] &= !(1 << (entry.slot % 64));
            if self.occupied[word] == 0 {
                self.summary &= !(1 << word);
            }
        }
        self.entries[key as usize].slot = NONE;
        self.len -= 1;
    }

    /// Clears and returns a key whose moment has come, `None` if there is none (any more).
    #[inline]
    pub fn expire(&mut self, now: Moment) -> Option<u32> {
        let now_tick = now.0 / TICK_NS;
        if self.tick > now_tick { None } else { self.expire_until(now_tick) }
    }

    /// The same up to a tick, for a wheel whose time has come.
    fn expire_until(&mut self, now_tick: u64) -> Option<u32> {
        // Beyond one turn of the wheel every timer is due. One that is set again now gets a slot that lies ahead of
        // now, and not ahead of a moment that is long past.
        self.tick = self.tick.max((now_tick + 1).saturating_sub(SLOTS as u64));
        match self.next_tick().filter(|&tick| tick <= now_tick) {
            None => {
                self.tick = now_tick + 1;
                None
            }
            Some(tick) => {
                self.tick = tick;
                let key = self.heads[(tick % SLOTS as u64) as usize];
                self.clear(key);
                Some(key)
            }
        }
    }

    /// The next moment at which [`Wheel::expire`] may return something.
    pub fn next(&self) -> Moment {
        self.next_tick().map_or(Moment::NEVER, |tick| Moment(tick * TICK_NS))
    }

    /// The first tick whose slot is not empty: in the rest of this word, or in the next word that has one, by the
    /// summary, or in the beginning of this word, which comes round again.
    fn next_tick(&self) -> Option<u64> {
        let start = (self.tick % SLOTS as u64) as usize;
        let (word, bit) = (start / 64, start % 64);
        let ahead = self.occupied[word] & (u64::MAX << bit);
        if ahead != 0 {
            return Some(self.tick + u64::from(ahead.trailing_zeros()) - bit as u64);
        }
        if self.summary == 0 {
            return None;
        }
        // The word itself comes last: rotated right by one more, it is the highest bit.
        let after = self.summary.rotate_right(word as u32).rotate_right(1).trailing_zeros() as usize + 1;
        let found = (word + after) % WORDS;
        let slots = after * 64 + self.occupied[found].trailing_zeros() as usize;
        Some(self.tick + (slots - bit) as u64)
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
            (0..100 * HORIZON_NS).prop_map(Step::Advance),
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
                        wheel.set(key, now.after_ns(after), now);
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
                wheel.set(7, now.after_ns(offset * TICK_NS), now);
                assert_eq!(wheel.next(), now.after_ns(offset * TICK_NS));
            }
        }
    }

    /// Every timer is set again when it fires, as those of sessions are: how often in all, and the moment it is then.
    fn fired_while_set_again(wheel: &mut Wheel, now: Moment, span_ns: u64) -> usize {
        let mut fired = 0;
        while let Some(key) = wheel.expire(now) {
            fired += 1;
            assert!(fired < 10_000, "timers fire without end");
            wheel.set(key, now.after_ns(span_ns), now);
        }
        fired
    }

    const HOUR_NS: u64 = 3_600_000_000_000;

    #[test]
    fn the_first_timer_after_a_month_of_quiet_counts_from_the_moment_it_is_set() {
        let mut wheel = Wheel::new(START);
        let now = START.after_ns(30 * 24 * HOUR_NS);
        wheel.set(1, now.after_ns(HOUR_NS), now);
        assert_eq!(fired_while_set_again(&mut wheel, now, HOUR_NS), 0);
        assert!(wheel.next() > now.after_ns(HORIZON_NS) && wheel.next() <= now.after_ns(HORIZON_NS + 2 * TICK_NS));
    }

    /// A process that was stopped for a month.
    #[test]
    fn timers_that_were_looked_at_much_too_late_fire_once_and_not_once_a_turn_of_the_wheel() {
        let mut wheel = Wheel::new(START);
        (0..100).for_each(|key| wheel.set(key, START.after_ns(u64::from(key) * 300_000_000), START));
        let now = START.after_ns(30 * 24 * HOUR_NS);
        let fired = fired_while_set_again(&mut wheel, now, HOUR_NS);
        assert!((100..=101).contains(&fired), "{fired}");
    }
}
