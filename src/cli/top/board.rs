//! What `ringway top` knows: the last answers, and what follows from two of them. Pure.

use std::collections::{HashMap, VecDeque};

use crate::base::time::Moment;
use crate::cli::ctl::model::{Backend, Pool, Status};

/// Seconds that the plots show, if the screen is wide enough.
const HISTORY_MAX: usize = 240;

/// Both answers of one look.
#[derive(Debug)]
pub(in crate::cli) struct Look {
    pub at: Moment,
    pub status: Status,
    pub pools: Vec<Pool>,
}

/// What something did between two looks, in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::cli) struct Rate {
    pub sessions: f64,
    pub bytes: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::cli) struct Board {
    pub last: Option<Look>,
    /// Of all backends together, the newest last.
    pub history: VecDeque<Rate>,
    /// By `POOL/BACKEND`.
    pub rates: HashMap<String, Rate>,
    /// By worker: how much of the time it worked, from 0 to 1.
    pub busy: Vec<f64>,
    /// Why the last look failed, if it did.
    pub trouble: Option<String>,
    /// The first row of backends that is shown.
    pub scroll: usize,
}

impl Board {
    /// Another look.
    pub(in crate::cli) fn on(&mut self, look: Look) {
        self.trouble = None;
        // One that has started anew counts from 0 again.
        let before = self.last.take().filter(|before| before.status.pid == look.status.pid);
        if let Some(before) = before {
            let seconds = look.at.since_ns(before.at).max(1) as f64 / 1e9;
            self.compare(&before, &look, seconds);
        } else {
            self.rates.clear();
            self.busy = vec![0.0; look.status.workers.len()];
        }
        self.last = Some(look);
    }

    /// A look that failed; what was seen before stays.
    pub(in crate::cli) fn on_trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Rows up or down.
    pub(in crate::cli) fn scroll_by(&mut self, rows: isize) {
        let all = self.last.as_ref().map_or(0, |look| look.pools.iter().map(|pool| pool.backends.len()).sum());
        self.scroll = self.scroll.saturating_add_signed(rows).min(all.max(1) - 1);
    }

    fn compare(&mut self, before: &Look, look: &Look, seconds: f64) {
        let old: HashMap<String, &Backend> = backends(&before.pools).collect();
        self.rates.clear();
        let mut sum = Rate::default();
        for (name, backend) in backends(&look.pools) {
            let zero = || old.get(&name).map_or((0, 0), |old| counters(old));
            let ((sessions, bytes), (sessions_before, bytes_before)) = (counters(backend), zero());
            let rate = Rate {
                sessions: sessions.saturating_sub(sessions_before) as f64 / seconds,
                bytes: bytes.saturating_sub(bytes_before) as f64 / seconds,
            };
            sum = Rate { sessions: sum.sessions + rate.sessions, bytes: sum.bytes + rate.bytes };
            self.rates.insert(name, rate);
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(sum);
        let pairs = before.status.workers.iter().zip(&look.status.workers);
        let share = |(old, new): (&crate::cli::ctl::model::Worker, &crate::cli::ctl::model::Worker)| {
            ((new.busy_seconds_total - old.busy_seconds_total) / seconds).clamp(0.0, 1.0)
        };
        self.busy = pairs.map(share).collect();
    }
}

/// Every backend, by `POOL/BACKEND`.
pub(in crate::cli) fn backends(pools: &[Pool]) -> impl Iterator<Item = (String, &Backend)> {
    pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (format!("{}/{}", pool.name, backend.name), backend)))
}

fn counters(backend: &Backend) -> (u64, u64) {
    (backend.connections_total, backend.bytes_to_backend + backend.bytes_to_client)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A look after that many seconds, with so many sessions and bytes so far.
    pub(in crate::cli::top) fn look(pid: u32, second: u64, sessions: u64, bytes: u64) -> Look {
        let worker = |number: u64| {
            json!({"worker": number, "is_running": true, "table_generation": 1, "connections": sessions,
                "accepted_total": sessions, "busy_seconds_total": second as f64 / 4.0, "copied_bytes_total": bytes,
                "spliced_bytes_total": 0})
        };
        let status = json!({"version": "0.1.0", "pid": pid, "uptime_ms": second * 1000, "phase": "serving",
            "generation": 1, "table_generation": 1, "connections": 5, "workers": [worker(0), worker(1)],
            "limits": {"connections_max": 100}});
        let backend = |name: &str, state: &str| {
            json!({"name": name, "address": "10.0.0.1:1", "state": state, "reason": "connect: refused",
                "since_ms": 1000, "weight": 1, "backup": false, "connections": 5, "connections_max": 0,
                "connections_total": sessions, "connect_errors_total": 0, "sessions_cut_total": 0,
                "bytes_to_backend": bytes, "bytes_to_client": bytes,
                "checks": {"success_total": 1, "failure_total": 0, "mean_ms": 1.5}, "set_by_hand": [],
                "drain_left_ms": null, "removed": false})
        };
        let pool = json!({"name": "db", "balance": "least_conn", "listeners": ["db"], "backends_up": 1,
            "connections": 5, "connections_total": sessions, "queue_length": 0, "refused_total": 0, "removed": false,
            "backends": [backend("a", "up"), backend("b", "down")]});
        Look {
            at: Moment(second * 1_000_000_000),
            status: serde_json::from_value(status).unwrap(),
            pools: serde_json::from_value(json!([pool])).unwrap(),
        }
    }

    #[test]
    fn rates_are_what_happened_between_two_looks() {
        let mut board = Board::default();
        board.on(look(1, 10, 100, 1000));
        assert!(board.history.is_empty(), "one look alone says nothing");
        board.on(look(1, 12, 110, 5000));
        assert_eq!(board.rates["db/a"], Rate { sessions: 5.0, bytes: 4000.0 });
        assert_eq!(board.history, [Rate { sessions: 10.0, bytes: 8000.0 }]);
        assert_eq!(board.busy, [0.25, 0.25]);
    }

    #[test]
    fn a_ringway_that_started_anew_does_not_count_backwards() {
        let mut board = Board::default();
        board.on(look(1, 10, 100, 1000));
        board.on(look(2, 11, 1, 10));
        assert!(board.history.is_empty() && board.rates.is_empty());
        board.on(look(2, 12, 3, 10));
        assert_eq!(board.history, [Rate { sessions: 4.0, bytes: 0.0 }]);
    }

    #[test]
    fn the_plots_are_bounded_and_so_is_scrolling() {
        let mut board = Board::default();
        (0..1000).for_each(|second| board.on(look(1, second, second, 0)));
        assert_eq!(board.history.len(), HISTORY_MAX);
        board.scroll_by(-3);
        assert_eq!(board.scroll, 0);
        board.scroll_by(100);
        assert_eq!(board.scroll, 1);
    }
}
