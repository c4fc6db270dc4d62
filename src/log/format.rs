//! What a line of the access log looks like: JSON, or HAProxy's `tcplog`.
//!
//! A record has ids, moments and durations; names and the time of day are added here. The fields are described in
//! `docs/operating.md`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::LogContext;
use super::names::Names;
use crate::base::side::Side;
use crate::base::time::Moment;
use crate::config::model::AccessFormat;
use crate::stats::record::{Client, Record};

/// Names of months, as `tcplog` writes them.
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Turns records into lines of one form.
pub(super) struct Formatter(AccessFormat);

impl Formatter {
    /// For lines of this form.
    pub(super) fn new(format: AccessFormat) -> Formatter {
        Formatter(format)
    }

    /// Appends one line. `clock` is a moment and the time of day at that moment.
    pub(super) fn write(&self, record: &Record, facts: &LogContext, clock: (Moment, SystemTime), out: &mut Vec<u8>) {
        let names = facts.names.borrow();
        match self.0 {
            AccessFormat::Json => {
                // A struct of numbers and texts, into memory: nothing there can fail.
                let _ = serde_json::to_writer(&mut *out, &AccessLine::new(record, &names, clock));
            }
            AccessFormat::Tcplog => {
                out.extend_from_slice(tcplog(record, &names, &Load::of(record, facts, &names), clock).as_bytes());
            }
        }
        out.push(b'\n');
    }
}

/// A line of JSON. The names of the fields are the keys.
#[derive(Serialize)]
struct AccessLine<'a> {
    /// When the session ended, in UTC with milliseconds.
    time: String,
    /// Its id, as the API has it while the session lives.
    session: String,
    /// The listener that accepted it.
    listener: &'a str,
    /// Address and port of the client, `unix:`, or nothing if it had left before it could be asked.
    client: Option<String>,
    /// The pool that served it.
    pool: &'a str,
    /// The last backend that was tried.
    backend: Option<&'a str>,
    /// From which address ringway connected to the backend.
    backend_local: Option<String>,
    /// How it ended: two letters (`docs/codes.md`).
    termination: String,
    /// Which rule or resource ended it, if the letters need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The server that the client's TLS asked for, where routes look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    /// The version of TLS with the client, where it ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_version: Option<&'static str>,
    /// Its cipher suite, by its name as in the register of IANA.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cipher: Option<&'static str>,
    /// Whether it resumed an earlier session.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_resumed: Option<bool>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_error: Option<String>,
    /// The subject of the client's certificate, if it has shown one.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate: Option<&'a str>,
    /// All attempts to connect, if there was more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attempts: Vec<AttemptLine<'a>>,
    /// How long it waited for a backend; 0 if it did not.
    queue_ms: u64,
    /// How long it took to connect, all attempts together; nothing if it never was connected.
    connect_ms: Option<u64>,
    /// From accept to close.
    duration_ms: u64,
    /// Bytes delivered to the backend.
    bytes_to_backend: u64,
    /// Bytes delivered to the client.
    bytes_to_client: u64,
    /// The round-trip time to the client, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_rtt_us: Option<u32>,
    /// Segments that were sent to the client again.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_retransmits: Option<u32>,
    /// The round-trip time to the backend, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_rtt_us: Option<u32>,
    /// Segments that were sent to the backend again.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_retransmits: Option<u32>,
    /// The worker that served it.
    worker: u32,
}

/// One attempt to connect, in a line of JSON.
#[derive(Serialize)]
struct AttemptLine<'a> {
    /// The backend that was tried.
    backend: &'a str,
    /// Why it failed; `None` if it did not.
    error: Option<&'static str>,
    /// Why there was no TLS with the backend, if that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_error: Option<&'a str>,
    /// How long it took.
    ms: u64,
}

impl<'a> AccessLine<'a> {
    /// The line about a session, with names in place of ids.
    fn new(record: &'a Record, names: &'a Names, clock: (Moment, SystemTime)) -> AccessLine<'a> {
        let [client, backend] = [Side::Client, Side::Backend].map(|side| record.quality[side.index()]);
        AccessLine {
            time: humantime::format_rfc3339_millis(time_of_day(record.ended_at, clock)).to_string(),
            session: record.session.to_string(),
            listener: names.listener(record.listener),
            client: match record.client {
                Client::Tcp(address) => Some(address.to_string()),
                Client::Unix => Some("unix:".to_owned()),
                Client::Gone => None,
            },
            pool: names.pool(record.pool),
            backend: record.backend.map(|id| names.backend(id)),
            backend_local: record.backend_local.map(|own| own.to_string()),
            termination: record.termination.to_string(),
            reason: record.reason.map(|reason| reason.name()),
            sni: record.server_name.as_deref(),
            tls_version: record.tls.map(|tls| tls.version),
            tls_cipher: record.tls.map(|tls| tls.cipher),
            tls_resumed: record.tls.map(|tls| tls.is_resumed),
            tls_error: tls_error(record),
            client_certificate: record.client_certificate.as_deref(),
            attempts: attempts(record, names),
            queue_ms: ms(record.queue_ns),
            connect_ms: record.connect_ns.map(ms),
            duration_ms: ms(record.ended_at.since_ns(record.accepted_at)),
            bytes_to_backend: record.bytes_to_backend,
            bytes_to_client: record.bytes_to_client,
            client_rtt_us: client.map(|quality| quality.rtt_us),
            client_retransmits: client.map(|quality| quality.retransmits),
            backend_rtt_us: backend.map(|quality| quality.rtt_us),
            backend_retransmits: backend.map(|quality| quality.retransmits),
            worker: record.worker,
        }
    }
}

/// Why TLS failed: with the client, or with the backend of the last attempt of a session that was never connected.
fn tls_error(record: &Record) -> Option<String> {
    let last = record.failed.last().filter(|_| record.connect_ns.is_none());
    let with_backend = last.and_then(|attempt| attempt.tls_error.as_deref().map(str::to_string));
    record.tls_error.as_ref().map(ToString::to_string).or(with_backend)
}

/// The attempts to connect, if there was more than one; else the line says everything without them.
fn attempts<'a>(record: &'a Record, names: &'a Names) -> Vec<AttemptLine<'a>> {
    if record.failed.len() + usize::from(record.connect_ns.is_some()) < 2 {
        return Vec::new();
    }
    let failed = record.failed.iter().map(|attempt| AttemptLine {
        backend: names.backend(attempt.backend),
        error: Some(attempt.error.name()),
        tls_error: attempt.tls_error.as_deref(),
        ms: ms(attempt.took_ns),
    });
    let success = record.backend.filter(|_| record.connect_ns.is_some());
    let success = success.map(|id| AttemptLine {
        backend: names.backend(id),
        error: None,
        tls_error: None,
        ms: ms(record.last_attempt_ns),
    });
    failed.chain(success).collect()
}

/// How many sessions were open when the line was made, as `tcplog` wants it.
struct Load {
    /// In the process.
    process: u64,
    /// Of the listener.
    listener: u64,
    /// Of the pool.
    pool: u64,
    /// Of the backend.
    backend: u64,
}

impl Load {
    /// Reads the numbers now.
    fn of(record: &Record, facts: &LogContext, names: &Names) -> Load {
        let of_worker = |worker: &crate::stats::WorkerStats| {
            worker.listeners.existing(record.listener.index()).map_or(0, |cells| cells.connections.get())
        };
        let connections = |id| u64::from(facts.counts.connections(id));
        Load {
            process: facts.counts.process_connections(),
            listener: facts.stats.workers.iter().map(of_worker).sum(),
            pool: names.backends_of(record.pool).map(connections).sum(),
            backend: record.backend.map_or(0, connections),
        }
    }
}

/// A line in the form of HAProxy's `option tcplog` (its configuration manual, section 8.2.2):
/// `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq`
fn tcplog(record: &Record, names: &Names, load: &Load, clock: (Moment, SystemTime)) -> String {
    let mut line = String::with_capacity(160);
    let retries = record.failed.len().saturating_sub(usize::from(record.connect_ns.is_none()));
    // Nothing of it can fail: it goes to memory.
    let _ = write!(
        line,
        "{} [{}] {} {}/{} {}/{}/{} {} {} {}/{}/{}/{}/{}{} 0/{}",
        match record.client {
            Client::Tcp(address) => format!("{}:{}", address.ip(), address.port()),
            Client::Unix => "unix:0".to_owned(),
            Client::Gone => "unknown:0".to_owned(),
        },
        date(time_of_day(record.accepted_at, clock)),
        word(names.listener(record.listener)),
        word(names.pool(record.pool)),
        record.backend.map_or("<NOSRV>".to_owned(), |id| word(names.backend(id))),
        if record.backend.is_some() || record.queue_ns > 0 { ms(record.queue_ns) as i64 } else { -1 },
        record.connect_ns.map_or(-1, |spent_ns| ms(spent_ns) as i64),
        ms(record.ended_at.since_ns(record.accepted_at)),
        record.bytes_to_client,
        record.termination,
        load.process,
        load.listener,
        load.pool,
        load.backend,
        // Each attempt goes to another backend.
        if retries > 0 { "+" } else { "" },
        retries,
        record.queue_position,
    );
    line
}

/// A name as one word of a line. Bytes that cannot be in a word are written as `#` and two digits, as HAProxy does.
fn word(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'!'..=b'~' if !b"#\"/[]".contains(&byte) => word.push(byte.into()),
            // Into memory.
            _ => drop(write!(word, "#{byte:02X}")),
        }
    }
    word
}

/// A time in the form of `tcplog`, in UTC: `09/Dec/2026:12:59:46.633`.
fn date(time: SystemTime) -> String {
    let iso = humantime::format_rfc3339_millis(time).to_string();
    let (day, month, year) = (&iso[8..10], &iso[5..7], &iso[..4]);
    let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"");
    format!("{day}/{month}/{year}:{}", &iso[11..23])
}

/// The time of day at a moment.
fn time_of_day(moment: Moment, (now, wall): (Moment, SystemTime)) -> SystemTime {
    wall.checked_sub(Duration::from_nanos(now.since_ns(moment))).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whole milliseconds.
fn ms(span_ns: u64) -> u64 {
    span_ns / 1_000_000
}

#[cfg(test)]
mod tests;
