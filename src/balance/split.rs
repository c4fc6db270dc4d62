//! How new sessions are divided among pools: each pool gets its share, in turn, exactly as `round_robin` picks
//! backends.
//!
//! The order is written out once, and the turn is one counter for all workers ([`Counts::split_turn`]).
//!
//! [`Counts::split_turn`]: super::Counts::split_turn

use super::round_robin::fair_order;

/// The order in which pools take sessions, known by their places in the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SplitOrder(Box<[u32]>);

impl SplitOrder {
    /// Writes the order out, in which each place stands as often as its weight says. If all weights are 0, which
    /// `config` refuses, the first place takes all.
    pub fn new(weights: &[u16]) -> SplitOrder {
        let unit = super::greatest_divisor(weights.iter().copied());
        let used = (0u32..).zip(weights).filter(|(_, weight)| **weight > 0);
        let (places, shares): (Vec<u32>, Vec<usize>) =
            used.map(|(place, weight)| (place, usize::from(weight / unit))).unzip();
        let mut order: Vec<u32> = fair_order(&shares).into_iter().map(|index| places[index]).collect();
        if order.is_empty() {
            order.push(0);
        }
        SplitOrder(order.into())
    }

    /// The place whose turn it is.
    #[inline]
    pub fn at(&self, turn: u64) -> usize {
        self.0[(turn % self.0.len() as u64) as usize] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// From any turn on: another ringway may begin there.
        #[test]
        fn any_round_gives_each_pool_exactly_its_share(
            weights in proptest::collection::vec(0u16..=256, 1..6), first in any::<u32>()
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let order = SplitOrder::new(&weights);
            let round: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            let mut got = vec![0u16; weights.len()];
            (0..round).for_each(|turn| got[order.at(u64::from(first) + turn)] += 1);
            prop_assert_eq!(got, weights);
        }
    }

    #[test]
    fn a_small_share_is_spread_and_no_share_gets_nothing() {
        let order = SplitOrder::new(&[90, 0, 10]);
        let turns: Vec<usize> = (0..20).map(|turn| order.at(turn)).collect();
        let places: Vec<usize> = turns.iter().enumerate().filter(|(_, at)| **at == 2).map(|(turn, _)| turn).collect();
        assert_eq!((places.len(), places[1] - places[0]), (2, 10), "{turns:?}");
        assert!(!turns.contains(&1));
        assert_eq!(SplitOrder::new(&[0, 0]).at(7), 0);
    }
}
