//! The access log: from what workers say of sessions that have ended to lines in a file or on a stream.
//!
//! Workers never wait for it: their queues drop what finds no room, and so everything here may take its time. Control
//! does not wait for it either: a file is written through its ring or, without io_uring, by a thread; a stream by a
//! thread of its own.

mod file;
mod format;
mod losses;
mod names;
mod outlet;

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

pub use file::open;
pub(super) use names::Names;
pub use outlet::{Outlet, OutletTarget};

/// Sessions end in bursts: this long they are gathered.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes that are written at once.
const BATCH_MAX: usize = 256 << 10;
/// How long the end of the process waits for what is not written yet.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// What control does about logs.
#[derive(Default)]
pub struct Logs {
    /// Where the operational log goes, if it goes through an outlet.
    pub operational: Option<Outlet>,
    /// The access log, if there is one.
    pub access: Option<Access>,
    /// Changes how much goes into the operational log; `None` if that is not ours to say.
    pub set_level: Option<SetLevel>,
}

/// See [`Logs::set_level`].
pub type SetLevel = Box<dyn Fn(LogLevel) + Send>;

/// An access log that is to be kept.
pub struct Access {
    /// Where workers leave their records.
    pub journal: Arc<Journal>,
    /// Rung by it.
    pub alarm: Alarm,
    /// What a line looks like.
    pub format: AccessFormat,
    /// Where lines go.
    pub sink: LogSink,
}

/// Where lines of the access log go.
pub enum LogSink {
    /// To a file that was opened by [`open`].
    File(PathBuf, std::fs::File),
    /// To a stream.
    Stream(Outlet),
}

/// What the lines say beside the records.
pub(super) struct LogContext {
    pub names: Rc<RefCell<Names>>,
    pub stats: Arc<Stats>,
    pub counts: Arc<Counts>,
    pub clock: Clock,
    /// What control runs on.
    pub driver: Driver,
}

/// The logs at work.
pub(super) struct Keeper {
    operational: Option<Outlet>,
    access: Option<(Rc<Orders>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Orders {
    reopen: Notify,
    finish: Notify,
}

impl Keeper {
    /// Starts the task that writes the access log.
    pub(super) fn begin(logs: Logs, facts: LogContext) -> Keeper {
        let access = logs.access.map(|access| {
            let orders = Rc::new(Orders::default());
            let writer = LogWriter::new(access, facts);
            (orders.clone(), tokio::task::spawn_local(writer.write_until_finished(orders)))
        });
        Keeper { operational: logs.operational, access }
    }

    /// Opens the files anew, as after a rotation.
    pub(super) fn reopen(&self) {
        if let Some(outlet) = &self.operational {
            outlet.reopen();
        }
        if let Some((orders, _)) = &self.access {
            orders.reopen.notify_one();
        }
    }

    /// Writes what is left; to be called when no worker runs any more.
    pub(super) async fn finish(self) {
        if let Some((orders, task)) = self.access {
            orders.finish.notify_one();
            if timeout(FINISH_MAX, task).await.is_err() {
                error!("the access log did not take its last lines in time; they are lost");
            }
        }
    }
}

/// The task that writes the access log.
struct LogWriter {
    journal: Arc<Journal>,
    alarm: Alarm,
    target: Writable,
    format: Formatter,
    facts: LogContext,
    losses: Losses,
}

enum Writable {
    File(LogFile),
    Stream(Outlet),
}

impl LogWriter {
    fn new(access: Access, facts: LogContext) -> LogWriter {
        let target = match access.sink {
            LogSink::File(path, file) => Writable::File(LogFile::new(path, file, facts.driver)),
            LogSink::Stream(outlet) => Writable::Stream(outlet),
        };
        let format = Formatter::new(access.format);
        LogWriter { journal: access.journal, alarm: access.alarm, target, format, facts, losses: Losses::default() }
    }

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

    async fn write_what_is_there(&mut self) {
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return;
            }
            self.write(batch).await;
        }
    }

    /// Lines of the oldest records, to some size.
    fn batch(&mut self) -> Vec<u8> {
        let mut batch = Vec::new();
        // Moments become times of day here and nowhere else.
        let (now, wall) = (self.facts.clock.now(), SystemTime::now());
        while batch.len() < BATCH_MAX
            && let Some(record) = self.journal.pop()
        {
            self.format.write(&record, &self.facts, (now, wall), &mut batch);
        }
        batch
    }

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
                Some(error) => error!(dropped = news, %error, "lines of the access log are lost: it cannot be written"),
                None => error!(dropped = news, "lines of the access log are lost: whatever it goes to is too slow"),
            }
        }
    }

    async fn reopen(&mut self) {
        // A stream is nothing that could be opened anew.
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
