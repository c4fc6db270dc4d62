//! The one thread that is not a worker: health checks, tables, the admin server, signals, logs.
//!
//! It runs them on a tokio-uring runtime, whose sockets and timers are tokio's own. What decides something is a pure
//! value ([`Fleet`], [`lifecycle::Lifecycle`]); this module tells it what happened, publishes the table that follows
//! and wakes the workers. Workers hear from control in no other way, except for listening sockets ([`sockets`]).
//!
//! ```text
//! tasks    one task per checked target, for deadlines, for failed connects, for samples
//! names    one per host name     discovery  one per source of backends
//! run      the loop: commands of the API, signals, publishing tables     lifecycle  which phase follows from what
//! reload   another configuration     relief  taking over and being taken over     notify  what systemd is told
//! ```
//!
//! `app` makes the [`ControlSpec`] and calls [`run()`]. Nothing here knows a worker or binds a socket: for that there
//! are [`Hooks`] and [`sockets::ListeningSockets`].
#![forbid(unsafe_code)]

mod certificates;
mod discovery;
pub mod disk;
mod expiry;
pub mod lifecycle;
mod names;
mod notify;
mod relief;
mod reload;
mod run;
pub mod sockets;
mod stop;
mod tasks;

use std::sync::Arc;

use crate::balance::Counts;
use crate::base::time::Clock;
use crate::config::model::{Config, Source};
use crate::discover::dns::ReadFile;
use crate::fleet::Fleet;
use crate::kernel::driver::ChosenDriver;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Table;
use crate::stats::Stats;
use crate::stats::alarm::Alarm;
use crate::{api, log, take_over};

pub use run::run;
pub use stop::{Stop, Stopper, stop_channel};

/// What control works with, and how it reaches the rest of the process.
pub struct ControlSpec {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where the configuration came from, and where a reload reads it.
    pub source: Source,
    /// Where tables are published. It holds [`first_table`] of this configuration.
    pub cell: Arc<Cell>,
    /// What workers have counted.
    pub stats: Arc<Stats>,
    /// What workers count together.
    pub counts: Arc<Counts>,
    /// The clock of the process. Workers read the same one, because deadlines in tables are its moments.
    pub clock: Clock,
    /// The listening sockets.
    pub sockets: Box<dyn sockets::ListeningSockets>,
    /// Rung by a worker that has counted a failed connect or a hang-up.
    pub alarm: Alarm,
    /// The sockets of `[admin]`.
    pub admin: api::AdminSockets,
    /// The ringway to relieve once every listener accepts. Exactly if there is one, the listening sockets are prepared
    /// but not committed.
    pub predecessor: Option<take_over::Predecessor>,
    /// What control has the process around it do.
    pub hooks: Hooks,
    /// The end at which the process asks for a shutdown, as a signal does.
    pub stop: Stop,
    /// The limit on open client connections, for the metric; 0 means none.
    pub connections_max: u64,
    /// What the workers run on. Control itself uses io_uring only where they do.
    pub io: ChosenDriver,
    /// The logs.
    pub logs: log::Logs,
}

/// What control has the process around it do, because control knows neither workers nor what the process can open.
pub struct Hooks {
    /// Wakes every worker. Called after each publication of a table.
    pub wake: Box<dyn Fn() + Send>,
    /// Puts a request about sessions into a worker's mailbox.
    pub ask: api::AskWorker,
    /// Says what this process cannot open of a configuration, one line each. A configuration with such lines is
    /// refused.
    pub out_of_reach: OutOfReach,
    /// Reads one of [`NAME_FILES`](crate::discover::dns::NAME_FILES). `None` means that this process can open them
    /// itself.
    pub read_file: Option<ReadFile>,
    /// Called once, when every worker runs and checks and the API are under way.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// Says what of a configuration is out of reach; see [`Hooks::out_of_reach`].
pub type OutOfReach = Box<dyn Fn(&Config) -> Vec<String> + Send>;

/// Why control ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The runtime could not be made.
    #[error("cannot start the control thread: {0}; see `ringway doctor`")]
    Runtime(#[source] std::io::Error),
    /// Signal handlers could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
    /// A socket of the API could not be used.
    #[error("cannot serve what [admin] asks for: {0}")]
    Admin(#[source] std::io::Error),
    /// This many workers did not end within this many seconds.
    #[error("{0} worker(s) did not stop within {1} s of being told to reset what is left; this is a bug of ringway")]
    Stuck(usize, u64),
}

/// The table with which workers start, before anything was checked.
pub fn first_table(config: &Arc<Config>) -> Table {
    let now = crate::base::time::Moment::default();
    let mut fleet = Fleet::new(config.clone(), now);
    fleet.tell_own_by(crate::sys::route::is_own, now);
    fleet.table(None, lifecycle::Lifecycle::SERVING)
}
