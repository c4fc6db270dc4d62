//! From samples to text. Pure: the same samples give the same text, so the tests compare whole pictures.
//!
//! A [`Sample`] holds counters as of one moment, and rates are made of two of them. The picture is [`WIDTH`] columns
//! wide, whatever the terminal has. At the end a [`Summary`] says what the fail-over cost the clients.

use std::time::Duration;

use super::latency::LatencySpread;
use crate::cli::paint::{Paint, Tone};

/// What ringway and the clients had counted at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// When, since the start of the demo.
    pub(super) at: Duration,
    /// The backends, in the order of the pool.
    pub(super) backends: Vec<BackendRow>,
    /// The clients, added up.
    pub(super) clients: ClientSample,
}

/// What ringway counted for one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct BackendRow {
    /// Its name.
    pub(super) name: &'static str,
    /// ringway's word for its state.
    pub(super) state: &'static str,
    /// Whether it takes sessions.
    pub(super) is_up: bool,
    /// Open connections, as the backend itself counts them.
    pub(super) open: u64,
    /// Connections that ringway made to it.
    pub(super) total: u64,
    /// Attempts to connect that failed; each went on to another backend.
    pub(super) connect_errors: u64,
    /// Bytes in both directions.
    pub(super) bytes: u64,
}

/// What the clients counted, added up.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientSample {
    /// Sessions that they opened.
    pub(super) sessions: u64,
    /// Messages that came back.
    pub(super) echoes: u64,
    /// Bytes, in both directions.
    pub(super) bytes: u64,
    /// Sessions without an answer.
    pub(super) failed: u64,
    /// Sessions that ended early.
    pub(super) cut: u64,
    /// Sessions with wrong bytes.
    pub(super) wrong: u64,
    /// How long answers took.
    pub(super) latencies: LatencySpread,
}

/// Something that happened, for a line.
#[derive(Clone, Debug)]
pub(super) struct DemoEvent {
    /// When, since the start of the demo.
    pub(super) at: Duration,
    /// How it is coloured.
    pub(super) tone: Tone,
    /// What happened, in one line.
    pub(super) text: String,
}

/// What does not change during the demo.
#[derive(Clone, Debug)]
pub(super) struct DemoStage {
    /// The address of ringway.
    pub(super) listen: String,
    /// How many clients there are.
    pub(super) clients: usize,
    /// How many workers ringway has.
    pub(super) workers: usize,
    /// How long the demo lasts.
    pub(super) span: Duration,
    /// Whether to use colours.
    pub(super) paint: Paint,
}

/// Columns of the picture.
const WIDTH: usize = 76;
/// Columns of the longest bar.
const BAR: usize = 28;

impl DemoStage {
    /// The whole picture for a terminal. Rates are those since `before`.
    pub(super) fn frame(&self, now: &Sample, before: &Sample, events: &[DemoEvent]) -> String {
        let mut lines = vec![self.title(now), self.progress(now), String::new()];
        let head = format!("  {:<8} {:<8} {:>5} {:>9} {:>9}", "backend", "state", "open", "sessions", "MB/s");
        lines.push(self.paint.tone(Tone::Dim, &head));
        let rates = rates(now, before);
        let most = rates.iter().copied().fold(1.0, f64::max);
        lines.extend(now.backends.iter().zip(rates).map(|(backend, rate)| self.backend(backend, rate, most)));
        lines.push(String::new());
        lines.extend(self.clients(now, before));
        lines.push(String::new());
        lines.extend(events.iter().map(|event| self.event(event)));
        lines.join("\n") + "\n"
    }

    /// The same as one line, for a pipe.
    pub(super) fn line(&self, now: &Sample, before: &Sample) -> String {
        let mut out = format!("{:>5.1} s ", now.at.as_secs_f64());
        for (backend, rate) in now.backends.iter().zip(rates(now, before)) {
            let BackendRow { name, state, open, .. } = backend;
            out += &format!("  {name} {state:<4} {open:>2} open {:>6.1} MB/s ", rate / 1e6);
        }
        let answers = now.clients.echoes.saturating_sub(before.clients.echoes) as f64 / seconds(now, before);
        let p99 = now.clients.latencies.since(&before.clients.latencies).percentile_ns(0.99);
        let ClientSample { failed, cut, wrong, .. } = now.clients;
        out += &format!("  {} answers/s, p99 {}", grouped(answers as u64), shown(p99));
        out + &format!(", {cut} cut, {failed} not served, {wrong} wrong\n")
    }

    /// A line about something that happened, with its time.
    pub(super) fn event(&self, event: &DemoEvent) -> String {
        let at = self.paint.tone(Tone::Dim, &format!("{:>6.2} s", event.at.as_secs_f64()));
        format!("{at}   {}", self.paint.tone(event.tone, &event.text))
    }

    /// The first line: clients, address, backends, time.
    fn title(&self, now: &Sample) -> String {
        let name = self.paint.tone(Tone::Strong, "ringway demo");
        let workers = if self.workers == 1 { "1 worker".to_string() } else { format!("{} workers", self.workers) };
        let what =
            format!("  {} clients → {} ({workers}) → {} backends", self.clients, self.listen, now.backends.len());
        let time =
            format!("{:.1} of {:.0} s", now.at.as_secs_f64().min(self.span.as_secs_f64()), self.span.as_secs_f64());
        let used = "ringway demo".len() + what.chars().count() + time.len();
        format!("{name}{what}{}{time}", " ".repeat(WIDTH.saturating_sub(used).max(1)))
    }

    /// A bar of how much time has passed.
    fn progress(&self, now: &Sample) -> String {
        let share = (now.at.as_secs_f64() / self.span.as_secs_f64()).clamp(0.0, 1.0);
        let done = (share * WIDTH as f64) as usize;
        let rest = self.paint.tone(Tone::Dim, &"─".repeat(WIDTH - done));
        self.paint.tone(Tone::Good, &"━".repeat(done)) + &rest
    }

    /// A row about one backend, with its rate as a bar; `most` is the highest rate.
    fn backend(&self, backend: &BackendRow, rate: f64, most: f64) -> String {
        let (mark, tone) = if backend.is_up { ("●", Tone::Good) } else { ("○", Tone::Bad) };
        let state = self.paint.tone(tone, &format!("{mark} {:<6}", backend.state));
        let numbers = format!("{:>5} {:>9} {:>9.1}", backend.open, grouped(backend.total), rate / 1e6);
        format!("  {:<8} {state} {numbers}  {}", backend.name, self.paint.tone(tone, &bar(rate / most)))
    }

    /// Two lines about the clients.
    fn clients(&self, now: &Sample, before: &Sample) -> [String; 2] {
        let span = seconds(now, before);
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / span) as u64;
        let latencies = now.clients.latencies.since(&before.clients.latencies);
        let echoes = grouped(rate(now.clients.echoes, before.clients.echoes));
        let sessions = rate(now.clients.sessions, before.clients.sessions);
        let [p50, p99] = [0.5, 0.99].map(|share| shown(latencies.percentile_ns(share)));
        let label = self.paint.tone(Tone::Dim, "  clients ");
        let first = format!("{label} {echoes} answers/s · p50 {p50} · p99 {p99} · {sessions} new sessions/s");
        let count = |count: u64, what: &str, tone: Tone| {
            let text = format!("{count} {what}");
            if count == 0 { self.paint.tone(Tone::Dim, &text) } else { self.paint.tone(tone, &text) }
        };
        let cut = count(now.clients.cut, "sessions cut", Tone::Warn);
        let failed = count(now.clients.failed, "not served", Tone::Bad);
        let wrong = count(now.clients.wrong, "with wrong bytes", Tone::Bad);
        [first, format!("           {cut} · {failed} · {wrong}")]
    }
}

/// What the summary at the end is made of.
pub(super) struct Summary<'a> {
    /// The last sample.
    pub(super) last: &'a Sample,
    /// The backend that was stopped.
    pub(super) stopped: &'a str,
    /// How long each client that was cut waited for its next answer.
    pub(super) waits: &'a [Duration],
    /// From the stop of the backend until ringway took it out of the pool; `None` if that was not seen.
    pub(super) out_after: Option<Duration>,
    /// From its return until ringway took it in again; `None` if that was not seen.
    pub(super) in_after: Option<Duration>,
}

impl Summary<'_> {
    /// The summary.
    pub(super) fn text(&self, paint: Paint) -> String {
        let (last, clients) = (self.last, &self.last.clients);
        let mut out = String::from("\n");
        let mut section = |label: &str, lines: Vec<String>| {
            for (at, line) in lines.into_iter().enumerate() {
                let label = paint.tone(Tone::Strong, &format!("{:<11}", if at == 0 { label } else { "" }));
                out += &format!("{label}{line}\n");
            }
        };
        let all: u64 = last.backends.iter().map(|backend| backend.bytes).sum::<u64>().max(1);
        let backend = |backend: &BackendRow| {
            let BackendRow { name, total, connect_errors, bytes, .. } = backend;
            let share = *bytes as f64 / all as f64;
            let errors = match connect_errors {
                0 => String::new(),
                1 => ", 1 failed connect went to another".to_string(),
                n => format!(", {n} failed connects went to another"),
            };
            format!("{name}  {:>6} sessions  {:>9}  {:>3.0} %{errors}", grouped(*total), size(*bytes), share * 100.0)
        };
        section("backends", last.backends.iter().map(backend).collect());
        let [p50, p99] = [0.5, 0.99].map(|share| shown(clients.latencies.percentile_ns(share)));
        let answers = format!("{} answers checked byte by byte, {}", grouped(clients.echoes), size(clients.bytes));
        section(
            "clients",
            vec![
                format!("{answers}, {} wrong", clients.wrong),
                format!(
                    "p50 {p50}, p99 {p99}; {} sessions, {} could not be served",
                    grouped(clients.sessions),
                    clients.failed
                ),
            ],
        );
        section("fail-over", self.fail_over());
        let next = "ringway run --listen 127.0.0.1:7000 --backend ADDR --backend ADDR";
        section(
            "next",
            vec![next.to_string(), "conf/ringway.toml to begin with, conf/reference.toml has every key".into()],
        );
        out
    }

    /// The lines about the fail-over.
    fn fail_over(&self) -> Vec<String> {
        if self.out_after.is_none() && self.last.clients.cut == 0 {
            return vec!["none: it was interrupted before".to_string()];
        }
        let cut = format!("{} sessions were cut with backend {}", self.last.clients.cut, self.stopped);
        let mut waits = self.waits.to_vec();
        waits.sort();
        let waited = match (waits.get(waits.len() / 2), waits.last()) {
            (Some(median), Some(longest)) => {
                format!(
                    "their clients had an answer from another one after {} (median), {} (longest)",
                    millis(*median),
                    millis(*longest)
                )
            }
            _ => "no client had to wait".to_string(),
        };
        let after =
            |time: Option<Duration>| time.map_or("not seen".to_string(), |time| format!("after {}", millis(time)));
        let out = format!("out of the pool {}, in it again {}", after(self.out_after), after(self.in_after));
        vec![cut, waited, out]
    }
}

/// Bytes per second of each backend.
fn rates(now: &Sample, before: &Sample) -> Vec<f64> {
    let earlier = before.backends.iter().map(|backend| backend.bytes).chain(std::iter::repeat(0));
    let span = seconds(now, before);
    now.backends.iter().zip(earlier).map(|(now, before)| now.bytes.saturating_sub(before) as f64 / span).collect()
}

/// Seconds between two samples; never 0, so that it can be divided by.
fn seconds(now: &Sample, before: &Sample) -> f64 {
    now.at.saturating_sub(before.at).as_secs_f64().max(0.001)
}

/// A bar in eighths of a column.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + part
}

/// A number with commas, such as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes with a decimal unit.
fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.2} GB", bytes / 1e9),
        bytes if bytes >= 1e6 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} kB", bytes / 1e3),
    }
}

/// A latency; `-` if there is none.
fn shown(ns: Option<u64>) -> String {
    match ns {
        None => "-".to_string(),
        Some(ns) if ns < 1_000_000 => format!("{} µs", ns / 1_000),
        Some(ns) => millis(Duration::from_nanos(ns)),
    }
}

/// A time in milliseconds.
fn millis(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests;
