//! The one source of chance of a schedule.

/// Seeded; the same seed throws the same numbers.
pub struct Dice {
    random: fastrand::Rng,
}

/// Of 1024.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds(pub u16);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice { random: fastrand::Rng::with_seed(seed) }
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.u64(..end)
    }

    /// From `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        self.random.u64(first..=last.max(first))
    }

    /// From 1 to `last`, small numbers as often as large ones.
    pub fn size(&mut self, last: u64) -> u64 {
        let bits = self.between(0, u64::from(last.max(1).ilog2()));
        self.between(1, (2u64 << bits) - 1).min(last.max(1))
    }

    pub fn chance(&mut self, odds: Odds) -> bool {
        odds.0 > 0 && self.random.u16(..1024) < odds.0
    }

    /// True once in `n` times.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        self.random.shuffle(list);
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())]
    }
}
