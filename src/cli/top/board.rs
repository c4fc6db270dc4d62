//! What `ringway top` knows: the last answers of the API, and what follows from two of them.
//!
//! It is pure: `top` asks the API and hands in each answer with its time, and `draw` makes a picture of the [`Board`].
//! Rates of backends are the difference of two answers divided by the time between them. The plots come from ringway's
//! own history, so they also show the minutes before `top` was started. A new process number means that ringway was
//! restarted or relieved: its counters start at 0, so nothing of the process before is compared with it.

use std::collections::{HashMap, VecDeque};

use crate::api::words::{
    BackendStatus, Column, Happening, HistoryAnswer, ListenerStatus, PoolStatus, Status, Word, WorkerStatus,
};
use crate::base::time::Moment;

/// How many seconds the plots show, if the screen is wide enough.
const HISTORY_MAX: usize = 600;

/// The answers to one round of requests.
#[derive(Debug)]
pub(in crate::cli) struct TopLook {
    /// When they came.
    pub at: Moment,
    /// `/v1/status`
    pub status: Status,
    /// `/v1/pools`
    pub pools: Vec<PoolStatus>,
    /// `/v1/listeners`
    pub listeners: Vec<ListenerStatus>,
    /// `/v1/history`, only what is new in it; `None` if that ringway keeps no history.
    pub history: Option<HistoryAnswer>,
}

/// What something did per second, between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::cli) struct Rate {
    /// New sessions.
    pub sessions: f64,
    /// Bytes, in both directions.
    pub bytes: f64,
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(in crate::cli) struct Board {
    /// The last answers.
    pub last: Option<TopLook>,
    /// Rates of all backends together, one per second, the newest last.
    pub history: VecDeque<Rate>,
    /// What happened: how many seconds before the newest one, and the new state of a backend; `None` if a configuration
    /// was applied.
    pub marks: VecDeque<(u64, Option<Word>)>,
    /// The number of the newest second, as ringway counts them.
    second: u64,
    /// By `POOL/BACKEND`: its rates.
    pub rates: HashMap<String, Rate>,
    /// By worker: how much of the time it worked, from 0 to 1.
    pub busy: Vec<f64>,
    /// Why the last look failed; `None` if it did not.
    pub trouble: Option<String>,
    /// Which row of backends is shown first.
    pub scroll: usize,
}

impl Board {
    /// The number of the newest second that was seen of this process; 0 for another process.
    pub(in crate::cli) fn seen_of(&self, pid: u32) -> u64 {
        if self.last.as_ref().is_some_and(|look| look.status.pid == pid) { self.second } else { 0 }
    }

    /// Takes in another look.
    pub(in crate::cli) fn on(&mut self, look: TopLook) {
        self.trouble = None;
        if self.last.as_ref().is_some_and(|before| before.status.pid != look.status.pid) {
            self.history.clear();
            self.marks.clear();
            self.second = 0;
        }
        if let Some(history) = &look.history {
            self.remember(history);
        }
        // A process that was restarted counts from 0 again.
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

    /// Notes a look that failed. What was seen before remains.
    pub(in crate::cli) fn on_trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Scrolls by this many rows, down if positive.
    pub(in crate::cli) fn scroll_by(&mut self, rows: isize) {
        let all = self.last.as_ref().map_or(0, |look| look.pools.iter().map(|pool| pool.backends.len()).sum());
        self.scroll = self.scroll.saturating_add_signed(rows).min(all.max(1) - 1);
    }

    /// Takes in what is new in the history.
    fn remember(&mut self, new: &HistoryAnswer) {
        let passed = new.second.saturating_sub(self.second);
        self.marks.iter_mut().for_each(|(ago, _)| *ago += passed);
        self.marks.extend(new.marks.iter().map(|mark| {
            let state = match &mark.event {
                Happening::State { to, .. } => Some(to.clone()),
                Happening::Configured { .. } => None,
            };
            (new.second.saturating_sub(mark.second), state)
        }));
        self.marks.retain(|(ago, _)| *ago < HISTORY_MAX as u64);
        self.second = new.second;
        let rates = |column: &Column| column.0.iter().map(|rate| f64::from(rate.unwrap_or(0.0))).collect::<Vec<_>>();
        for (sessions, bytes) in rates(&new.total.sessions_per_s).into_iter().zip(rates(&new.total.bytes_per_s)) {
            self.push(Rate { sessions, bytes });
        }
    }

    /// Adds the rates of one second, and drops the oldest if there are too many.
    fn push(&mut self, rate: Rate) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(rate);
    }

    /// Computes rates from two looks, `seconds` apart.
    fn compare(&mut self, before: &TopLook, look: &TopLook, seconds: f64) {
        let old: HashMap<String, &BackendStatus> = backends(&before.pools).collect();
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
        if look.history.is_none() {
            self.push(sum);
        }
        let pairs = before.status.workers.iter().zip(&look.status.workers);
        let share = |(old, new): (&WorkerStatus, &WorkerStatus)| {
            ((new.busy_seconds_total - old.busy_seconds_total) / seconds).clamp(0.0, 1.0)
        };
        self.busy = pairs.map(share).collect();
    }
}

/// Every backend of every pool, by `POOL/BACKEND`.
pub(in crate::cli) fn backends(pools: &[PoolStatus]) -> impl Iterator<Item = (String, &BackendStatus)> {
    pools
        .iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (format!("{}/{}", pool.name, backend.name), backend)))
}

/// Sessions and bytes of a backend so far.
fn counters(backend: &BackendStatus) -> (u64, u64) {
    (backend.connections_total, backend.bytes_to_backend + backend.bytes_to_client)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::words::{HistoryMark, TotalHistory};
    use serde_json::json;

    /// A look after `second` seconds, with this many sessions and bytes so far.
    pub(in crate::cli::top) fn look(pid: u32, second: u64, sessions: u64, bytes: u64) -> TopLook {
        let worker = |number: u64| {
            json!({"worker": number, "is_running": true, "table_generation": 1, "connections": sessions,
                "accepted_total": sessions, "busy_seconds_total": second as f64 / 4.0, "copied_bytes_total": bytes,
                "spliced_bytes_total": 0})
        };
        let status = json!({"version": "0.1.0", "io": "epoll", "io_reason": "",
            "pid": pid, "uptime_ms": second * 1000, "phase": "serving",
            "generation": 1, "table_generation": 1, "connections": 5, "workers": [worker(0), worker(1)],
            "limits": {"connections_max": 100}});
        let backend = |name: &str, state: &str| {
            json!({"name": name, "address": "10.0.0.1:1", "state": state, "reason": "connect: refused",
                "since": "2026-01-01T00:00:00.000Z", "since_ms": 1000, "weight": 1, "backup": false, "backup_level": 0,
                "connections": 5, "connections_max": 0,
                "connections_total": sessions, "connect_errors_total": 0, "sessions_cut_total": 0,
                "bytes_to_backend": bytes, "bytes_to_client": bytes,
                "checks": {"success_total": 1, "failure_total": 0, "mean_ms": 1.5}, "set_by_hand": [],
                "drain_left_ms": null, "removed": false})
        };
        let pool = json!({"name": "db", "balance": "least_conn", "listeners": ["db"], "backends_up": 1,
            "connections": 5, "connections_total": sessions, "queue_length": 0, "refused_total": 0, "removed": false,
            "backends": [backend("a", "up"), backend("b", "down")]});
        TopLook {
            at: Moment(second * 1_000_000_000),
            status: serde_json::from_value(status).unwrap(),
            pools: serde_json::from_value(json!([pool])).unwrap(),
            listeners: vec![ListenerStatus {
                interface: "".into(),
                name: "db".into(),
                bind: vec!["10.0.0.9:5432".into()],
                pool: "db".into(),
                split: Vec::new(),
                connections: 5,
                connections_max: 0,
                connections_total: sessions,
                refused_total: 0,
                accept_proxy: false,
                routes: Vec::new(),
            }],
            history: None,
        }
    }

    /// The same of a ringway that keeps a history: the sessions in each of its last seconds, and what happened.
    pub(in crate::cli::top) fn look_back(pid: u32, second: u64, sessions: &[f32], marks: &[HistoryMark]) -> TopLook {
        let column = |rates: &[f32]| Column(rates.iter().map(|rate| Some(*rate)).collect());
        let nothing = vec![0.0; sessions.len()];
        let total = TotalHistory {
            connections: column(&nothing),
            sessions_per_s: column(sessions),
            bytes_per_s: column(&nothing),
            busy: column(&nothing),
        };
        let history = HistoryAnswer {
            second,
            at: "2026-01-01T00:00:00.000Z".into(),
            seconds: sessions.len(),
            interval_ms: 1000,
            total,
            listeners: Vec::new(),
            pools: Vec::new(),
            marks: marks.to_vec(),
        };
        TopLook { history: Some(history), ..look(pid, second, 0, 0) }
    }

    /// A mark: a backend's new state since that second; without one, a configuration that was applied.
    pub(in crate::cli::top) fn mark(second: u64, to: Option<&'static str>) -> HistoryMark {
        let changed = |to: &'static str| Happening::State {
            pool: "db".into(),
            backend: "a".into(),
            from: "up".into(),
            to: to.into(),
            reason: "connect: refused".into(),
        };
        let event = to.map_or(Happening::Configured { generation: 2 }, changed);
        HistoryMark { second, at: "2026-01-01T00:00:00.000Z".into(), event }
    }

    #[test]
    fn the_plots_begin_with_what_happened_before() {
        let mut board = Board::default();
        assert_eq!(board.seen_of(1), 0);
        board.on(look_back(1, 700, &[1.0, 2.0, 3.0], &[mark(699, Some("down"))]));
        let rates = |board: &Board| board.history.iter().map(|rate| rate.sessions).collect::<Vec<_>>();
        assert_eq!(rates(&board), [1.0, 2.0, 3.0]);
        assert_eq!((board.seen_of(1), board.seen_of(2)), (700, 0));
        board.on(look_back(1, 702, &[4.0, 5.0], &[mark(702, None)]));
        assert_eq!(rates(&board), [1.0, 2.0, 3.0, 4.0, 5.0], "each second once");
        assert_eq!(board.marks, [(3, Some("down".into())), (0, None)]);
        board.on(look_back(1, 1301, &[0.0; 599], &[]));
        assert_eq!((board.history.len(), board.marks.len()), (HISTORY_MAX, 1), "marks go with their seconds");
        // Another process has another past.
        board.on(look_back(2, 5, &[9.0], &[]));
        assert_eq!((rates(&board), board.marks.len(), board.seen_of(2)), (vec![9.0], 0, 5));
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
