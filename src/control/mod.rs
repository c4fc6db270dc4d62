//! The one thread that is not a worker: health checks, tables, the admin server, signals.
//!
//! It hosts them on a tokio-uring runtime, whose sockets and timers are tokio's own. Whatever decides something is a
//! pure value ([`Fleet`], [`lifecycle::Lifecycle`]); [`run`] tells it what happened, publishes what follows and
//! wakes the workers, which never hear from control in any other way.
#![forbid(unsafe_code)]

mod checks;
mod history;
pub mod lifecycle;
mod notify;
mod relief;
mod reload;
mod run;
mod runtime;
pub mod sockets;
mod stop;
mod tasks;

use std::net::TcpListener;
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

/// What control works on, and how it reaches the rest of the process.
pub struct ControlSpec {
    /// What is configured.
    pub config: Arc<Config>,
    /// Where it was read, and is read again.
    pub source: Source,
    /// Where tables are published; holds [`first_table`] of the same configuration.
    pub cell: Arc<Cell>,
    /// What workers count.
    pub stats: Arc<Stats>,
    /// What workers share.
    pub counts: Arc<Counts>,
    /// The clock that workers read too: deadlines in tables are its moments.
    pub clock: Clock,
    /// The listening sockets.
    pub sockets: Box<dyn sockets::ListeningSockets>,
    /// Rung by workers when they have counted a connect that failed.
    pub alarm: Alarm,
    /// Bound to `admin.listen`; `None` is no admin server there.
    pub admin: Option<TcpListener>,
    /// Bound to `admin.socket`; likewise.
    pub admin_socket: Option<api::Socket>,
    /// The ringway to relieve once every listener accepts; the listening sockets are prepared and not committed exactly
    /// if there is one.
    pub predecessor: Option<take_over::Predecessor>,
    /// What control has the process do.
    pub hooks: Hooks,
    /// Asks for shutdown as a signal does.
    pub stop: Stop,
    /// Limit on open client connections, for the metric; 0 is none.
    pub connections_max: u64,
    /// What the workers run on; control itself uses io_uring only where they do.
    pub io: ChosenDriver,
    /// What is logged, and where to.
    pub logs: log::Logs,
}

/// What control has the process around it do. It knows neither workers nor what the process may open.
pub struct Hooks {
    /// Wakes every worker; called after each publication of a table.
    pub wake: Box<dyn Fn() + Send>,
    /// Asks the worker of that number about its sessions.
    pub ask: api::AskWorker,
    /// Says what of a configuration this process may not open, a line each: then the configuration is not applied.
    pub out_of_reach: OutOfReach,
    /// Reads one of [`NAME_FILES`](crate::discover::dns::NAME_FILES); `None`: this process may open them itself.
    pub read_file: Option<ReadFile>,
    /// Called once, as soon as every worker's `running` gauge is 1 and checks and the API are under way.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// See [`Hooks::out_of_reach`].
pub type OutOfReach = Box<dyn Fn(&Config) -> Vec<String> + Send>;

/// Why control could not go on. Its sockets and timers need no more than a few descriptors and a small ring.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The runtime could not be made.
    #[error("cannot start the control thread: {0}; see `ringway doctor`")]
    Runtime(#[source] std::io::Error),
    /// A signal handler could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The admin socket could not be used.
    #[error("cannot serve admin.listen or admin.socket: {0}")]
    Admin(#[source] std::io::Error),
    /// Workers did not end although told to.
    #[error("{0} worker(s) did not stop within {1} s of being told to reset what is left; this is a bug of ringway")]
    Stuck(usize, u64),
}

/// The table to start workers with, before anything was checked.
pub fn first_table(config: &Arc<Config>) -> Table {
    let now = crate::base::time::Moment::default();
    let mut fleet = Fleet::new(config.clone(), now);
    fleet.tell_own_by(crate::sys::route::is_own, now);
    fleet.table(None, lifecycle::Lifecycle::SERVING)
}
