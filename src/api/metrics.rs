//! `GET /metrics`: every metric in Prometheus' text format, added up over all workers at the moment of the scrape.
//!
//! Each scrape builds a new recorder, so a series exists exactly while the thing that it describes exists. The recorder
//! gets the counters and gauges of which there are few. The rest is written as text beside it, because the recorder
//! takes about 3 µs per series or cannot take it: histograms (it accepts only single values), numbers with a fraction,
//! and the series of backends, of which there may be tens of thousands. A scrape reads atomics, so it costs the workers
//! nothing.
//!
//! Which metrics there are, with their names and their help, is listed in [`list`]; the format is described in the
//! Prometheus documentation under "Exposition formats" (text format 0.0.4).

use std::collections::{BTreeMap, HashSet};
use std::fmt::{Arguments, Write};
use std::sync::LazyLock;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::ApiContext;
use crate::base::id::PoolId;
use crate::base::refused::Refused;
use crate::base::termination::Termination;
use crate::health::State;
use crate::snapshot::table::{BackendEntry, ListenerEntry, PoolEntry, Table};
use crate::stats::cell::BOUNDS_NS;
use crate::stats::list::{self, Metric, MetricKind};
use crate::stats::tls::HANDSHAKES;
use crate::stats::{
    BackendCells, ConnectError, Counter, Distribution, Gauge, ListenerCells, PoolCells, PoolControlCells, WorkerStats,
};
use crate::sys::system;
use crate::tls::ServerTls;

/// What the recorder wants to know of each series; all have the same.
const METADATA: Metadata<'static> = Metadata::new("ringway", Level::INFO, None);
/// For Prometheus, which wants seconds.
const NS_PER_SECOND: f64 = 1e9;

/// The upper bounds of the buckets in seconds, as text, which every histogram writes.
static BOUNDS_TEXT: LazyLock<Vec<String>> =
    LazyLock::new(|| BOUNDS_NS.iter().map(|&bound_ns| (bound_ns as f64 / NS_PER_SECOND).to_string()).collect());

/// The whole answer: every metric of [`list::ALL`] that has a series now.
pub(super) fn render(admin: &ApiContext) -> String {
    let mut scrape = Scrape::new();
    let reader = admin.cell.reader();
    let table = reader.pin();
    process(&mut scrape, admin);
    usage(&mut scrape);
    listeners(&mut scrape, admin, &table);
    routes(&mut scrape, admin, &table);
    let live = table.backends.iter().flatten().filter(|backend| !backend.retired);
    let live: HashSet<(PoolId, &str)> = live.map(|backend| (backend.pool, &*backend.name)).collect();
    for pool in table.pools.iter().flatten() {
        self::pool(&mut scrape, admin, pool);
    }
    for backend in table.backends.iter().flatten() {
        // If a new backend has the name of a retired one, only the new one has series.
        let is_succeeded = backend.retired && live.contains(&(backend.pool, &*backend.name));
        if let Some(pool) = table.pool(backend.pool).filter(|_| !is_succeeded) {
            self::backend(&mut scrape, admin, &pool.name, backend);
        }
    }
    let kernel_threads = system::kernel_worker_threads();
    for (number, worker) in admin.stats.workers.iter().enumerate() {
        self::worker(&mut scrape, &number.to_string(), worker, kernel_threads);
    }
    scrape.finish()
}

/// The metrics of the process itself, of its configuration and of its log.
fn process(scrape: &mut Scrape, admin: &ApiContext) {
    scrape.put(&list::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), admin.io.driver.name()], 1);
    scrape.put(&list::CONFIG_GENERATION, &[], admin.stats.control.config_generation.get());
    scrape.put(&list::CONFIG_RELOADS, &["success"], admin.stats.control.reloads_success.get());
    scrape.put(&list::CONFIG_RELOADS, &["failure"], admin.stats.control.reloads_failure.get());
    scrape.put(&list::CONNECTIONS, &[], admin.counts.process_connections());
    scrape.put(&list::CONNECTIONS_MAX, &[], admin.connections_max);
    let in_queues: u64 = admin.stats.workers.iter().map(|worker| worker.worker.access_log_dropped.get()).sum();
    scrape.put(&list::ACCESS_LOG_DROPPED, &[], admin.stats.control.access_log_dropped.get() + in_queues);
}

/// What the process uses of its host, under the names that all Prometheus exporters use (`process_…`).
fn usage(scrape: &mut Scrape) {
    let Some(usage) = system::usage() else { return };
    scrape.put_fraction(&list::PROCESS_CPU, &[], usage.cpu_s);
    scrape.put(&list::PROCESS_RESIDENT, &[], usage.resident_bytes);
    scrape.put(&list::PROCESS_VIRTUAL, &[], usage.virtual_bytes);
    scrape.put(&list::PROCESS_OPEN_FDS, &[], usage.descriptors);
    scrape.put(&list::PROCESS_MAX_FDS, &[], usage.descriptors_max);
    scrape.put(&list::PROCESS_THREADS, &[], usage.threads);
    scrape.put_fraction(&list::PROCESS_START, &[], usage.started_at_s);
}

/// The metrics of each listener. A listener that was removed keeps them while it has connections.
fn listeners(scrape: &mut Scrape, admin: &ApiContext, table: &Table) {
    for listener in table.listeners.iter().flatten() {
        let cells = || admin.stats.of_listener(listener.id);
        let sum = |number: fn(&ListenerCells) -> u64| cells().map(number).sum::<u64>();
        let (labels, open) = ([&*listener.name], sum(|cells| cells.connections.get()));
        if listener.retired && open == 0 {
            continue;
        }
        scrape.put(&list::LISTENER_CONNECTIONS, &labels, open);
        scrape.put(&list::LISTENER_CONNECTIONS_TOTAL, &labels, sum(|cells| cells.connections_total.get()));
        scrape.put(&list::LISTENER_ACCEPT_ERRORS, &labels, sum(|cells| cells.accept_errors.get()));
        for reason in Refused::ALL {
            let refused = cells().map(|cells| cells.refused[reason as usize].get()).sum();
            scrape.put(&list::LISTENER_REFUSED, &[&listener.name, reason.name()], refused);
        }
        let Some(tls) = listener.admission.as_ref().and_then(|admission| admission.tls.as_ref()) else { continue };
        certificates(scrape, admin, listener, tls);
        for ([result, version, resumed], agreed) in HANDSHAKES {
            let count = cells().map(|cells| cells.handshakes.of(agreed).get()).sum();
            scrape.put(&list::TLS_HANDSHAKES, &[&listener.name, result, version, resumed], count);
        }
        scrape.put(&list::TLS_TRUNCATED, &labels, sum(|cells| cells.tls_truncated.get()));
        let mut took = Distribution::default();
        cells().for_each(|cells| cells.handshakes.took_ns.add_to(&mut took));
        scrape.put_distribution(
            &list::TLS_HANDSHAKE_SECONDS,
            &label_text(&list::TLS_HANDSHAKE_SECONDS, &labels),
            &took,
        );
    }
}

/// The certificates that a listener shows, and how often new ones could not be used.
fn certificates(scrape: &mut Scrape, admin: &ApiContext, listener: &ListenerEntry, tls: &ServerTls) {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for shown in tls.shown() {
        let Some(facts) = &shown.facts else { continue };
        // An RSA and an ECDSA certificate can have one name.
        let end = ends.entry(shown.name()).or_insert(u64::MAX);
        *end = facts.not_after_s.min(*end);
    }
    for (name, not_after_s) in ends {
        scrape.put(&list::TLS_CERTIFICATE_NOT_AFTER, &[&listener.name, name], not_after_s);
    }
    let errors = admin.stats.control.listeners.existing(listener.id.index()).map_or(0, |cells| cells.errors.get());
    scrape.put(&list::TLS_CERTIFICATE_ERRORS, &[&listener.name], errors);
}

/// Sessions that have ended, by listener, pool and code of their end.
fn routes(scrape: &mut Scrape, admin: &ApiContext, table: &Table) {
    for (slot, &(listener, pool)) in table.routes.iter().enumerate() {
        let Some((listener, pool)) = table.listener(listener).zip(table.pool(pool)) else { continue };
        let cells = || admin.stats.workers.iter().filter_map(|worker| worker.routes.existing(slot));
        for index in 0..Termination::COUNT {
            let ended = cells().map(|cells| cells.sessions[index].get()).sum();
            // Of the many codes, those that occurred; the normal one always, so that there is a rate from the start.
            if ended > 0 || (index == Termination::NORMAL.index() && !listener.retired) {
                scrape.put(&list::SESSIONS, &[&listener.name, &pool.name, &Termination::letters(index)], ended);
            }
        }
    }
}

/// The metrics of one pool.
fn pool(scrape: &mut Scrape, admin: &ApiContext, pool: &PoolEntry) {
    let labels = [&*pool.name];
    let cells = || admin.stats.of_pool(pool.id);
    let sum = |number: fn(&PoolCells) -> &Counter| cells().map(|cells| number(cells).get()).sum();
    scrape.put(&list::POOL_QUEUE_LENGTH, &labels, admin.counts.queue(pool.id).waiting().into());
    scrape.put(&list::POOL_QUEUE_TIMEOUTS, &labels, sum(|cells| &cells.queue_timeouts_total));
    scrape.put(&list::POOL_RETRIES, &labels, sum(|cells| &cells.retries_total));
    scrape.put(&list::POOL_REFUSED, &labels, sum(|cells| &cells.refused_total));
    scrape.put(&list::POOL_FALLS_BACK, &labels, pool.falls_to.is_some().into());
    scrape.put(&list::POOL_FALLBACKS, &labels, sum(|cells| &cells.fallbacks_total));
    scrape.put(&list::POOL_STICKY_EVICTIONS, &labels, sum(|cells| &cells.sticky_evictions_total));
    if pool.tls.is_some() {
        let [mut resumed, mut success, mut failure] = [0; 3];
        for (_, agreed) in HANDSHAKES {
            let count: u64 = cells().map(|cells| cells.backend_handshakes.of(agreed).get()).sum();
            match agreed {
                Some((_, true)) => resumed += count,
                Some((_, false)) => success += count,
                None => failure += count,
            }
        }
        for (result, count) in [("resumed", resumed), ("success", success), ("failure", failure)] {
            scrape.put(&list::TLS_BACKEND_HANDSHAKES, &[&pool.name, result], count);
        }
        scrape.put(&list::TLS_BACKEND_TRUNCATED, &labels, sum(|cells| &cells.tls_truncated));
    }
    let of_control = |number: fn(&PoolControlCells) -> &Gauge| {
        admin.stats.control.pools.existing(pool.id.index()).map_or(0, |cells| number(cells).get())
    };
    scrape.put(&list::POOL_SERVES_STALE, &labels, of_control(|cells| &cells.serves_stale));
    if pool.is_discovered {
        scrape.put(&list::DISCOVERY_UP, &labels, of_control(|cells| &cells.discovery_up));
        scrape.put(&list::DISCOVERY_BACKENDS, &labels, of_control(|cells| &cells.discovery_found));
        scrape.put(&list::DISCOVERY_CONFIRMED, &labels, of_control(|cells| &cells.discovery_confirmed_s));
    }
    scrape.put(&list::POOL_BACKENDS_USABLE, &labels, pool.picker.candidates().count() as u64);
    let text = &label_text(&list::SESSION_SECONDS, &labels);
    let (mut queue, mut connect) = (Distribution::default(), Distribution::default());
    let mut session = Distribution::default();
    for cells in cells() {
        cells.queue_ns.add_to(&mut queue);
        cells.connect_ns.add_to(&mut connect);
        cells.session_ns.add_to(&mut session);
    }
    scrape.put_distribution(&list::CONNECT_SECONDS, text, &connect);
    scrape.put_distribution(&list::QUEUE_SECONDS, text, &queue);
    scrape.put_distribution(&list::SESSION_SECONDS, text, &session);
}

/// The metrics of one backend. There may be tens of thousands of backends, so the labels are written once per backend.
fn backend(scrape: &mut Scrape, admin: &ApiContext, pool: &str, backend: &BackendEntry) {
    let labels = &label_text(&list::BACKEND_UP, &[pool, &backend.name]);
    let cells = || admin.stats.of_backend(backend.id);
    let sum = |number: fn(&BackendCells) -> &Counter| cells().map(|cells| number(cells).get()).sum();
    let mut put = |metric, label: &str, value: &str, number: u64| {
        let comma = if label.is_empty() { "" } else { "," };
        let (open, close) = if label.is_empty() { ("", "") } else { ("=\"", "\"") };
        scrape.line(metric, format_args!("{{{labels}{comma}{label}{open}{value}{close}}} {number}"));
    };
    put(&list::BACKEND_UP, "", "", u64::from(backend.state.takes_sessions(backend.weight)));
    for state in State::ALL {
        put(&list::BACKEND_STATE, "state", state.name(), u64::from(backend.state == state));
    }
    put(&list::BACKEND_ORIGIN, "origin", backend.origin, 1);
    put(&list::BACKEND_WEIGHT, "", "", backend.weight.into());
    put(&list::BACKEND_CONNECTIONS, "", "", admin.counts.connections(backend.id).into());
    put(&list::BACKEND_CONNECTIONS_TOTAL, "", "", sum(|cells| &cells.connections_total));
    for reason in ConnectError::ALL {
        let failed = cells().map(|cells| cells.connect_errors[reason as usize].get()).sum();
        put(&list::BACKEND_CONNECT_ERRORS, "reason", reason.name(), failed);
    }
    put(&list::BACKEND_HANGUPS, "", "", sum(|cells| &cells.hangups));
    put(&list::BACKEND_BYTES, "direction", "to_backend", sum(|cells| &cells.bytes_to_backend));
    put(&list::BACKEND_BYTES, "direction", "to_client", sum(|cells| &cells.bytes_to_client));
    // A backend that is not checked has no series of checks.
    let Some(checks) = admin.stats.control.backends.existing(backend.id.index()) else { return };
    put(&list::BACKEND_CHECKS, "result", "success", checks.success.get());
    put(&list::BACKEND_CHECKS, "result", "failure", checks.failure.get());
    put(&list::BACKEND_CHECKS, "result", "refused", checks.refused.get());
    put(&list::BACKEND_CHECKS, "result", "unknown", checks.unknown.get());
    for (to, count) in [
        (State::Up, &checks.went_up),
        (State::Standby, &checks.went_standby),
        (State::Down, &checks.went_down),
        (State::Ejected, &checks.went_ejected),
        (State::Draining, &checks.went_draining),
        (State::Maintenance, &checks.went_maintenance),
    ] {
        put(&list::BACKEND_TRANSITIONS, "to", to.name(), count.get());
    }
    let mut took = Distribution::default();
    checks.check_ns.add_to(&mut took);
    scrape.put_distribution(&list::CHECK_SECONDS, labels, &took);
}

/// The metrics of one worker. The number of kernel threads belongs to the process, and each worker shows it.
fn worker(scrape: &mut Scrape, number: &str, worker: &WorkerStats, kernel_threads: u64) {
    let cells = &worker.worker;
    let labels = [number];
    scrape.put(&list::WORKER_CONNECTIONS, &labels, cells.connections.get());
    scrape.put_fraction(&list::WORKER_BUSY, &labels, cells.busy_ns.get() as f64 / NS_PER_SECOND);
    scrape.put(&list::WORKER_SPLICED, &labels, cells.spliced_bytes.get());
    scrape.put(&list::WORKER_COPIED, &labels, cells.copied_bytes.get());
    scrape.put(&list::WORKER_ACCEPTED, &labels, cells.accepted.get());
    scrape.put(&list::WORKER_HANDED_OVER, &labels, cells.handed_over.get());
    scrape.put(&list::WORKER_STARVED, &labels, cells.buffers_starved.get());
    scrape.put(&list::WORKER_CLOSING_STUCK, &labels, cells.closing_stuck.get());
    scrape.put(&list::WORKER_KERNEL_THREADS, &labels, kernel_threads);
}

/// A scrape that is being written.
struct Scrape {
    /// What the recorder takes.
    recorder: PrometheusRecorder,
    /// The lines that the recorder does not take, by metric, in the order in which they came.
    text: Vec<(&'static Metric, String)>,
}

impl Scrape {
    /// Begins a scrape, with the help of every counter and gauge.
    fn new() -> Scrape {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in list::ALL {
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(metric.name.into(), None, metric.help.into()),
                MetricKind::Gauge => recorder.describe_gauge(metric.name.into(), None, metric.help.into()),
                MetricKind::Histogram => {}
            }
        }
        Scrape { recorder, text: Vec::new() }
    }

    /// Adds a series with a whole number. It goes through the recorder, so it is for metrics with few series.
    fn put(&mut self, metric: &'static Metric, values: &[&str], number: u64) {
        debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
        let labels = metric.labels.iter().zip(values).map(|(&name, &value)| Label::new(name, escaped(value)));
        let key = Key::from_parts(metric.name, labels.collect::<Vec<_>>());
        match metric.kind {
            MetricKind::Counter => self.recorder.register_counter(&key, &METADATA).absolute(number),
            MetricKind::Gauge => self.recorder.register_gauge(&key, &METADATA).set(number as f64),
            MetricKind::Histogram => debug_assert!(false, "{} is a distribution", metric.name),
        }
    }

    /// Adds a series whose number has a fraction.
    fn put_fraction(&mut self, metric: &'static Metric, values: &[&str], number: f64) {
        let labels = label_text(metric, values);
        match labels.as_str() {
            "" => self.line(metric, format_args!(" {number}")),
            labels => self.line(metric, format_args!("{{{labels}}} {number}")),
        }
    }

    /// Adds a histogram: cumulative buckets, then sum and count.
    fn put_distribution(&mut self, metric: &'static Metric, labels: &str, distribution: &Distribution) {
        let mut below = 0;
        for (index, count) in distribution.buckets.iter().take(BOUNDS_NS.len()).enumerate() {
            below += count;
            self.line_after(metric, "_bucket", format_args!("{{{labels},le=\"{}\"}} {below}", BOUNDS_TEXT[index]));
        }
        let (count, sum) = (distribution.count(), distribution.sum_ns as f64 / NS_PER_SECOND);
        self.line_after(metric, "_bucket", format_args!("{{{labels},le=\"+Inf\"}} {count}"));
        self.line_after(metric, "_sum", format_args!("{{{labels}}} {sum}"));
        self.line_after(metric, "_count", format_args!("{{{labels}}} {count}"));
    }

    /// Adds a line that begins with the name of the metric.
    fn line(&mut self, metric: &'static Metric, line: Arguments<'_>) {
        self.line_after(metric, "", line);
    }

    /// Adds a line that begins with the name of the metric and a suffix, such as `_bucket`.
    fn line_after(&mut self, metric: &'static Metric, word: &str, line: Arguments<'_>) {
        let index = self.text.iter().position(|(other, _)| std::ptr::eq(*other, metric)).unwrap_or_else(|| {
            self.text.push((metric, String::new()));
            self.text.len() - 1
        });
        let text = &mut self.text[index].1;
        text.push_str(metric.name);
        text.push_str(word);
        // A String takes whatever is written to it.
        let _ = writeln!(text, "{line}");
    }

    /// The text of the scrape: what the recorder has, then the lines beside it, each metric with its help and type.
    fn finish(self) -> String {
        let mut text = self.recorder.handle().render();
        for (Metric { name, help, kind, .. }, lines) in &self.text {
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram",
            };
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}\n");
        }
        text
    }
}

/// The labels of a series, `name="value",…`, with the values escaped as the format wants.
fn label_text(metric: &Metric, values: &[&str]) -> String {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let text = |(name, value): (&&str, &&str)| format!("{name}=\"{}\"", escaped(value).replace('\n', r"\n"));
    metric.labels.iter().zip(values).map(text).collect::<Vec<_>>().join(",")
}

/// A value escaped as the format wants, except for line feeds. The recorder reads a backslash as the beginning of an
/// escape where it can be one, so without this it would take `a"b` and `a\"b` for the same; what is escaped already it
/// leaves as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"")
}
