//! Where the operational log and the access log go.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_line::LogLine;
use crate::config::model::{Config, Log, LogLevel, Output};
use crate::log::{self, Access, LogSink, Outlet, OutletTarget, SetLevel, Syslog};
use crate::stats::alarm::Alarm;
use crate::stats::record::Journal;

/// The operational log at work.
pub(super) struct Operational {
    /// Where it goes.
    pub outlet: Outlet,
    /// Changes how much goes there.
    pub set_level: SetLevel,
}

/// Starts the operational log; the first one that is started stays.
pub(super) fn start(config: &Log) -> anyhow::Result<Operational> {
    let terminal = match &config.output {
        Output::Stdout => io::stdout().is_terminal(),
        Output::Stderr => io::stderr().is_terminal(),
        Output::File(_) | Output::Syslog(_) => false,
    };
    let outlet = outlet(&config.output, "log.output")?;
    let lines = outlet.clone();
    let writer = move || PendingLine { outlet: lines.clone(), text: Vec::new() };
    let (filter, handle) = reload::Layer::new(filter_of(config.level));
    let line = LogLine { json: config.json, journal: is_journal(&config.output) };
    let layer = tracing_subscriber::fmt::layer().event_format(line).with_writer(writer).with_ansi(terminal);
    // Fails only for a log that was not the first one.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    let set_level = move |level| drop(handle.modify(|filter| *filter = filter_of(level)));
    Ok(Operational { outlet, set_level: Box::new(set_level) })
}

/// Whether it goes to the journal of systemd, which says the device and inode of its stream (systemd.exec(5)).
fn is_journal(output: &Output) -> bool {
    let stream = match output {
        Output::Stderr => nix::sys::stat::fstat(io::stderr().as_fd()),
        Output::Stdout => nix::sys::stat::fstat(io::stdout().as_fd()),
        Output::File(_) | Output::Syslog(_) => return false,
    };
    let is_it = |there: String| stream.is_ok_and(|here| there == format!("{}:{}", here.st_dev, here.st_ino));
    std::env::var("JOURNAL_STREAM").is_ok_and(is_it)
}

/// The level of the configuration in the words of `tracing`.
fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Opens what the access log goes to. `log` is the operational one: two logs that share a stream take turns.
pub(super) fn access(config: &Config, workers: usize, log: Option<&Outlet>) -> anyhow::Result<Option<Access>> {
    let Some(access) = &config.access_log else { return Ok(None) };
    let sink = match (&access.output, log) {
        (Output::File(path), _) => {
            let file = log::open(path).map_err(|error| anyhow::anyhow!("access_log.output: {error}"))?;
            LogSink::File(path.clone(), file)
        }
        (stream, Some(log)) if *stream == config.log.output => LogSink::Stream(log.beside()),
        (stream, _) => LogSink::Stream(outlet(stream, "access_log.output")?),
    };
    let alarm = Alarm::new();
    let ring = alarm.clone();
    let journal = Arc::new(Journal::new(workers, Box::new(move || ring.ring())));
    Ok(Some(Access { journal, alarm, format: access.format, skip_empty: access.skip_empty, sink }))
}

/// Opens an output, with the thread that writes to it. An error names `key`.
fn outlet(output: &Output, key: &str) -> anyhow::Result<Outlet> {
    let target = match output {
        Output::Stderr => OutletTarget::Stderr,
        Output::Stdout => OutletTarget::Stdout,
        Output::File(path) => {
            let file = log::open(path).map_err(|error| anyhow::anyhow!("{key}: {error}"))?;
            OutletTarget::File(path.clone(), file)
        }
        Output::Syslog(server) => OutletTarget::Syslog(Box::new(Syslog::new(server.clone()))),
    };
    Outlet::start(target).context("cannot start the thread that writes the log")
}

/// One line on its way: the subscriber may write it in pieces.
struct PendingLine {
    /// Where the whole line goes.
    outlet: Outlet,
    /// What has been written so far.
    text: Vec<u8>,
}

impl Write for PendingLine {
    /// Collects; nothing goes out before the line is whole.
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    /// There is nothing to do: a line goes out when it is dropped.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PendingLine {
    /// Hands the line over. If the outlet is full the line is dropped and counted, so that no thread waits for a log.
    fn drop(&mut self) {
        if !self.text.is_empty() {
            self.outlet.write_or_drop(&self.text);
        }
    }
}
