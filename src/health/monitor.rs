//! Rise and fall in one counter, as HAProxy does it.
//!
//! Values from 0 to rise-1 mean down, from rise to rise+fall-1 up. A success counts up and a failure down. A step over
//! the middle goes to the far end immediately, and a result against the trend goes back to the near end. So it takes
//! `rise` successes in a row or `fall` failures in a row to change the state. Only the very first result decides alone.
//! Source: HAProxy `check.c`, `check_notify_success` and `check_notify_failure`.

use super::State;

/// What the checks of one target add up to.
#[derive(Clone, Debug)]
pub struct Monitor {
    /// Successes in a row that bring it up.
    rise: u32,
    /// Failures in a row that take it down.
    fall: u32,
    /// What it counts as before the first result.
    initial_up: bool,
    /// The counter; `None` exactly before the first result.
    health: Option<u32>,
}

/// Where a monitor is between two results. The time to the next check depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trend {
    /// No result yet.
    Unknown,
    /// Up, and the last result agrees.
    Up,
    /// The last result contradicts the state, which has not changed yet.
    Changing,
    /// Down, and the last result agrees.
    Down,
}

impl Monitor {
    /// `rise` and `fall` are at least 1 (0 counts as 1).
    pub fn new(rise: u32, fall: u32, initial_up: bool) -> Monitor {
        Monitor { rise: rise.max(1), fall: fall.max(1), initial_up, health: None }
    }

    /// Uses other numbers from now on. The state stays, and of what contradicts it, as much as one result.
    pub fn change(&mut self, rise: u32, fall: u32, initial_up: bool) {
        let (before, trend) = (self.state(), self.trend());
        if (rise.max(1), fall.max(1)) != (self.rise, self.fall) && self.health.is_some() {
            let (rise, fall) = (rise.max(1), fall.max(1));
            let top = rise.saturating_add(fall - 1);
            self.health = Some(match (before, trend) {
                (State::Up, Trend::Changing) if fall > 1 => top - 1,
                (State::Up, _) => top,
                (_, Trend::Changing) if rise > 1 => 1,
                _ => 0,
            });
        }
        *self = Monitor { rise: rise.max(1), fall: fall.max(1), initial_up, health: self.health };
    }

    /// Takes a result. Returns the new state if it has changed.
    pub fn on(&mut self, success: bool) -> Option<State> {
        let before = self.state();
        let top = self.rise.saturating_add(self.fall - 1);
        self.health = Some(match self.health {
            None => {
                if success {
                    top
                } else {
                    0
                }
            }
            Some(health) if success => {
                if health + 1 >= self.rise {
                    top
                } else {
                    health + 1
                }
            }
            Some(health) => {
                if health > self.rise {
                    health - 1
                } else {
                    0
                }
            }
        });
        let after = self.state();
        (after != before).then_some(after)
    }

    /// Up or down.
    pub fn state(&self) -> State {
        let up = self.health.map_or(self.initial_up, |health| health >= self.rise);
        if up { State::Up } else { State::Down }
    }

    /// Where it is between two results.
    pub fn trend(&self) -> Trend {
        match self.health {
            None => Trend::Unknown,
            Some(0) => Trend::Down,
            Some(health) if health == self.rise.saturating_add(self.fall - 1) => Trend::Up,
            Some(_) => Trend::Changing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state after `results`, by the words of the contract.
    fn model(rise: usize, fall: usize, initial_up: bool, results: &[bool]) -> bool {
        let Some((&last, before)) = results.split_last() else { return initial_up };
        if before.is_empty() {
            return last;
        }
        let needed = if last { rise } else { fall };
        let in_a_row = results.iter().rev().take_while(|&&result| result == last).count();
        if in_a_row >= needed { last } else { model(rise, fall, initial_up, before) }
    }

    #[test]
    fn every_sequence_of_results_ends_where_the_contract_says() {
        for (rise, fall) in (1..5).flat_map(|rise| (1..5).map(move |fall| (rise, fall))) {
            for (length, bits) in (0..=10u32).flat_map(|length| (0..1u32 << length).map(move |bits| (length, bits))) {
                let results: Vec<bool> = (0..length).map(|bit| bits >> bit & 1 == 1).collect();
                for initial_up in [true, false] {
                    let mut monitor = Monitor::new(rise, fall, initial_up);
                    let mut last = monitor.state();
                    for &result in &results {
                        let changed = monitor.on(result);
                        assert_eq!(changed.is_some(), monitor.state() != last, "reports exactly the changes");
                        last = monitor.state();
                    }
                    let expected = model(rise as usize, fall as usize, initial_up, &results);
                    assert_eq!(last == State::Up, expected, "rise {rise} fall {fall}: {results:?}");
                }
            }
        }
    }

    #[test]
    fn other_numbers_change_no_state() {
        for (rise, fall) in (1..4).flat_map(|rise| (1..4).map(move |fall| (rise, fall))) {
            for (rise_then, fall_then) in (1..4).flat_map(|rise| (1..4).map(move |fall| (rise, fall))) {
                for (length, bits) in (0..=6u32).flat_map(|length| (0..1u32 << length).map(move |bits| (length, bits)))
                {
                    let mut monitor = Monitor::new(rise, fall, true);
                    for bit in 0..length {
                        monitor.on(bits >> bit & 1 == 1);
                    }
                    let state = monitor.state();
                    monitor.change(rise_then, fall_then, true);
                    assert_eq!(monitor.state(), state);
                    if length == 0 {
                        continue;
                    }
                    // From here on it takes as many in a row as the new numbers say to change its mind.
                    let needed = if state == State::Up { fall_then } else { rise_then };
                    monitor.on(state == State::Up);
                    let changed = (0..needed).position(|_| monitor.on(state != State::Up).is_some());
                    assert_eq!(changed, Some(needed as usize - 1), "{rise} {fall} {rise_then} {fall_then}");
                }
            }
        }
    }

    #[test]
    fn the_trend_is_changing_exactly_while_the_last_result_contradicts_the_state() {
        let mut monitor = Monitor::new(2, 3, true);
        assert_eq!(monitor.trend(), Trend::Unknown);
        let script = [
            (true, Trend::Up),
            (false, Trend::Changing),
            (false, Trend::Changing),
            (true, Trend::Up),
            (false, Trend::Changing),
            (false, Trend::Changing),
            (false, Trend::Down),
            (true, Trend::Changing),
            (false, Trend::Down),
            (true, Trend::Changing),
            (true, Trend::Up),
        ];
        for (result, trend) in script {
            monitor.on(result);
            assert_eq!(monitor.trend(), trend);
        }
    }
}
