//! The logs: ringway's own lines, and the access log, which makes lines of what workers say of ended sessions.
//!
//! ```text
//! worker ─> Journal (a bounded queue) ─> LogWriter (format, names) ─┬─> LogFile: a file, by control's ring or a thread
//!                                                                  └─> Outlet: a stream, by a thread
//! tracing (ringway's own log) ────────────────────────────────────────> Outlet
//! ```
//!
//! Workers never wait for a log: a record that finds no room is dropped and counted. Control does not wait for it
//! either, because files are written by its ring (`runtime`), or by a thread where it has none, and streams by a
//! thread. `changes` says what the log tells of backends.

pub(crate) mod changes;
mod file;
mod format;
mod losses;
mod names;
mod outlet;
pub(crate) mod runtime;
mod syslog;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{error, info};

use self::file::LogFile;
use self::format::Formatter;
use self::losses::Losses;
use crate::balance::Counts;
use crate::base::time::Clock;
use crate::config::model::{AccessFormat, LogLevel};
use crate::kernel::driver::Driver;
use crate::stats::Stats;
use crate::stats::alarm::Alarm;
use crate::stats::record::Journal;

pub use self::syslog::Syslog;
pub use file::open;
pub(super) use names::Names;
pub use outlet::{Outlet, OutletTarget};

/// How long records are gathered before they are written, because sessions end in bursts.
const GATHER: Duration = Duration::from_millis(5);
/// How many bytes are written together.
const BATCH_MAX: usize = 256 << 10;
/// How long the end of the process waits for the last lines.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What control has to do about logs.
#[derive(Default)]
pub struct Logs {
    /// Where ringway's own log goes; `None` if it does not go through an outlet.
    pub operational: Option<Outlet>,
    /// The access log; `None` if there is none.
    pub access: Option<Access>,
    /// Changes the level of ringway's own log; `None` if this process has no log of its own (tests, the
    /// demo).
    pub set_level: Option<SetLevel>,
}

/// Changes the level of ringway's own log; see [`Logs::set_level`].
pub type SetLevel = Box<dyn Fn(LogLevel) + Send>;

/// An access log that control must write.
pub struct Access {
    /// Where workers put their records.
    pub journal: Arc<Journal>,
    /// Rung by a worker that has put a record there.
    pub alarm: Alarm,
    /// What a line looks like.
    pub format: AccessFormat,
    /// Whether sessions are left out in which the client sent nothing and nothing went wrong.
    pub skip_empty: bool,
    /// Where the lines go.
    pub sink: LogSink,
}

/// Where the lines of the access log go.
pub enum LogSink {
    /// To this file, which was opened by [`open`].
    File(PathBuf, std::fs::File),
    /// To a stream, through an outlet.
    Stream(Outlet),
}

/// What lines contain besides the records: names, and numbers of open sessions.
pub(super) struct LogContext {
    /// Names of listeners, pools and backends, also of removed ones.
    pub names: Rc<RefCell<Names>>,
    /// Counters: here, how many lines were lost.
    pub stats: Arc<Stats>,
    /// Open sessions.
    pub counts: Arc<Counts>,
    /// The clock of records' moments.
    pub clock: Clock,
    /// What control runs on.
    pub driver: Driver,
}

/// The logs at work. Control holds it, and tells it to open files anew and to finish.
pub(super) struct Keeper {
    /// Where ringway's own log goes.
    operational: Option<Outlet>,
    /// The task of the access log, and how it is told something.
    access: Option<(Rc<Orders>, JoinHandle<()>)>,
}

/// What the task that writes the access log is told.
#[derive(Default)]
struct Orders {
    /// Open the file again.
    reopen: Notify,
    /// Write the rest and end.
    finish: Notify,
}

impl Keeper {
    /// Starts the task that writes the access log, if there is one.
    pub(super) fn begin(logs: Logs, facts: LogContext) -> Keeper {
        let access = logs.access.map(|access| {
            let orders = Rc::new(Orders::default());
            let writer = LogWriter::new(access, facts);
            (orders.clone(), tokio::task::spawn_local(writer.write_until_finished(orders)))
        });
        Keeper { operational: logs.operational, access }
    }

    /// Opens the files again, as after a rotation (SIGUSR1).
    pub(super) fn reopen(&self) {
        if let Some(outlet) = &self.operational {
            outlet.reopen();
        }
        if let Some((orders, _)) = &self.access {
            orders.reopen.notify_one();
        }
    }

    /// Writes what is left. Called when no worker runs any more, so that nothing can be added.
    pub(super) async fn finish(self) {
        if let Some((orders, task)) = self.access {
            orders.finish.notify_one();
            if timeout(FINISH_MAX, task).await.is_err() {
                error!("the access log did not take its last lines in time; they are lost");
            }
        }
    }
}

/// The task that writes the access log: it takes records, makes lines, writes them and reports losses.
struct LogWriter {
    /// Where workers put records.
    journal: Arc<Journal>,
    /// Rung when there is a new one.
    alarm: Alarm,
    /// Where lines go.
    target: Writable,
    /// How a line looks.
    format: Formatter,
    /// Whether empty sessions are left out ([`Record::is_empty`](crate::stats::record::Record::is_empty)).
    skip_empty: bool,
    /// What lines contain besides the records.
    facts: LogContext,
    /// When losses are reported.
    losses: Losses,
}

/// Where it writes.
enum Writable {
    /// A file.
    File(LogFile),
    /// A stream, written by a thread.
    Stream(Outlet),
}

impl LogWriter {
    /// Prepares the task; nothing is written yet.
    fn new(access: Access, facts: LogContext) -> LogWriter {
        let target = match access.sink {
            LogSink::File(path, file) => Writable::File(LogFile::new(path, file, facts.driver)),
            LogSink::Stream(outlet) => Writable::Stream(outlet),
        };
        let format = Formatter::new(access.format);
        let Access { journal, alarm, skip_empty, .. } = access;
        LogWriter { journal, alarm, target, format, skip_empty, facts, losses: Losses::default() }
    }

    /// The loop: write what is there, then wait for more records or an order.
    async fn write_until_finished(mut self, orders: Rc<Orders>) {
        loop {
            self.alarm.arm();
            self.write_what_is_there().await;
            tokio::select! {
                () = self.alarm.rung() => sleep(GATHER).await,
                () = orders.reopen.notified() => self.reopen().await,
                () = orders.finish.notified() => return self.write_what_is_there().await,
            }
        }
    }

    /// Writes until the journal is empty.
    async fn write_what_is_there(&mut self) {
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return;
            }
            self.write(batch).await;
        }
    }

    /// Makes lines of the oldest records, up to [`BATCH_MAX`] bytes.
    fn batch(&mut self) -> Vec<u8> {
        let mut batch = Vec::new();
        // Only here do moments become times of day.
        let (now, wall) = (self.facts.clock.now(), SystemTime::now());
        while batch.len() < BATCH_MAX
            && let Some(record) = self.journal.pop()
        {
            if !(self.skip_empty && record.is_empty()) {
                self.format.write(&record, &self.facts, (now, wall), &mut batch);
            }
        }
        batch
    }

    /// Writes lines, counts what is lost, and reports it if it is time.
    async fn write(&mut self, batch: Vec<u8>) {
        let (lost, error) = match &mut self.target {
            Writable::File(file) => file.write(batch).await,
            Writable::Stream(outlet) => {
                outlet.write(batch).await;
                (outlet.take_lost(), None)
            }
        };
        let cells = &self.facts.stats;
        cells.control.access_log_dropped.add(lost);
        let in_queues: u64 = cells.workers.iter().map(|worker| worker.worker.access_log_dropped.get()).sum();
        let dropped = cells.control.access_log_dropped.get() + in_queues;
        if let Some(news) = self.losses.on(dropped, self.facts.clock.now()) {
            match error {
                Some(error) => {
                    error!(dropped = news, %error, "lines of the access log are lost: it cannot be written to")
                }
                None => error!(dropped = news, "lines of the access log are lost: its reader is too slow"),
            }
        }
    }

    /// Opens the file again. A failure is logged, and the old file stays in use.
    async fn reopen(&mut self) {
        // A stream cannot be opened again.
        let Writable::File(file) = &mut self.target else { return };
        let path = file.path().display().to_string();
        match file.reopen().await {
            Ok(()) => info!(path, "access log reopened"),
            Err(error) => error!(path, %error, "cannot reopen the access log; lines still go to the old file"),
        }
    }
}

#[cfg(test)]
mod tests;
