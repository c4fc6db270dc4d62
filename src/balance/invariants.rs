//! What holds of a policy that was made ready, in builds with debug assertions. It never changes afterwards.

/// Each place is there as often as it should be, and no other is.
pub(super) fn check_shares(places: &[u32], wanted: impl Iterator<Item = usize>) {
    let mut left: Vec<usize> = wanted.collect();
    for &place in places {
        let place = place as usize;
        assert!(left.get(place).is_some_and(|left| *left > 0), "{place} has more than its share, or is nobody's");
        left[place] -= 1;
    }
    assert!(left.iter().all(|left| *left == 0), "a place that has less than its share");
}

/// Each slot is the slot of one of so many places.
pub(super) fn check_slots(slots: &[u16], places: usize) {
    assert!(slots.iter().all(|&slot| usize::from(slot) < places), "a slot that is nobody's");
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_place_with_more_or_less_than_its_share_is_noticed() {
        let check = |places: &'static [u32]| catch_unwind(|| check_shares(places, [2, 1].into_iter()));
        assert!(check(&[0, 1, 0]).is_ok());
        for broken in [&[0, 1][..], &[0, 1, 1], &[0, 0, 0, 1], &[0, 2, 0]] {
            assert!(check(broken).is_err(), "{broken:?}");
        }
        assert!(catch_unwind(|| check_slots(&[0, 1, 0], 2)).is_ok());
        assert!(catch_unwind(|| check_slots(&[0, u16::MAX], 2)).is_err(), "a slot that was not filled");
    }
}
