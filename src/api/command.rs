//! What other threads can ask of control while ringway runs: change, add or remove a backend, reload, apply a text,
//! show everything, lend the listening sockets.
//!
//! An [`Asker`] can be used on any thread and waits for the answer. Commands arrive in one queue, and control carries
//! them out one after another, so two changes never mix. Control answers a change when every worker serves by it (or
//! after a time-out, which it reports).
//!
//! The API, signals and take-over use this; control's side is in `control::run`.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::config::model::Config;
use crate::config::{self, CertificateFault};
use crate::fleet::order::{SetError, Wish};
use crate::fleet::{FleetView, Leaver};
use crate::stats::history::History;

/// One thing to do, with the way back for its answer.
pub enum ControlCommand {
    /// Change, add or remove a backend at run time.
    Wish {
        /// What is to be done.
        wish: Wish,
        /// The user that asks, such as `uid 0`; it appears in the log and in `ringway ctl why`.
        by: Arc<str>,
        /// Takes the answer: one line per change, none if nothing had to be changed.
        reply: oneshot::Sender<Result<Vec<String>, SetError>>,
    },
    /// Read the configuration again and apply it.
    Reload {
        /// Takes the answer: one line per change, or every error of the configuration.
        reply: oneshot::Sender<Result<Vec<String>, Vec<ReloadFault>>>,
    },
    /// Put a configuration in the place of the file, until the next reload.
    Put {
        /// The whole text.
        text: String,
        /// Only say what would follow.
        is_dry_run: bool,
        /// The user that asks.
        by: Arc<str>,
        /// Takes the answer: what has changed or would, or every error.
        reply: oneshot::Sender<Result<Applied, Vec<ReloadFault>>>,
    },
    /// Hand out every listening socket, so that another ringway can take over.
    Lend {
        /// Takes the sockets, or one line that says why there are none.
        reply: oneshot::Sender<Result<Loan, String>>,
    },
    /// Another ringway has taken over: accept no more, and drain.
    Relieved {
        /// The ringway that has taken over.
        by: Successor,
        /// Told when this process accepts nothing new any more.
        reply: oneshot::Sender<()>,
    },
    /// Show the configuration in use and what is known of each backend.
    Show {
        /// Takes the answer.
        reply: oneshot::Sender<View>,
    },
    /// Show which files of certificates cannot be used.
    CertificateFaults {
        /// Takes the answer.
        reply: oneshot::Sender<Vec<CertificateFault>>,
    },
    /// Show the last minutes.
    History {
        /// Reads from them what it needs. Control waits until it returns, so it must be quick.
        look: HistoryLook,
    },
}

/// Reads from the last minutes, once, on control's thread.
pub type HistoryLook = Box<dyn FnOnce(&History) + Send>;

/// What another configuration has changed, or would change.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// One line per change.
    pub changes: Vec<String>,
    /// Addresses that are listened on from then on, a line each.
    pub opened: Vec<String>,
    /// Addresses that are not listened on any more, a line each.
    pub closed: Vec<String>,
    /// Backends that drain, with the sessions that each one had at that moment.
    pub drained: Vec<(Leaver, u32)>,
}

/// What another ringway needs to take over.
#[derive(Debug)]
pub struct Loan {
    /// Every listening socket, the admin server's with them.
    pub sockets: Vec<Arc<OwnedFd>>,
    /// While this is held, the configuration does not change and no other ringway can take over.
    pub lock: Arc<()>,
}

/// A ringway that has taken over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Successor {
    /// The number of its process, if it is known.
    pub pid: Option<u32>,
}

/// Why a reload was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReloadFault {
    /// What is wrong, and what to do.
    pub message: String,
    /// The file, line and column, counted from 1; `None` if the fault is not in a file.
    pub place: Option<(Arc<str>, usize, usize)>,
}

impl ReloadFault {
    /// A fault that is not in a file.
    pub fn of(message: impl Into<String>) -> ReloadFault {
        ReloadFault { message: message.into(), place: None }
    }
}

impl From<config::Error> for ReloadFault {
    fn from(error: config::Error) -> ReloadFault {
        let message = error.message();
        match error.place {
            config::Place::File { name, line, column } => ReloadFault { message, place: Some((name, line, column)) },
            config::Place::Argument(_) => ReloadFault { message: error.to_string(), place: None },
        }
    }
}

impl fmt::Display for ReloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, line, column)) = &self.place {
            write!(f, "{name}:{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// The configuration in use and what is known of each backend, as of one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The configuration that is in use.
    pub config: Arc<Config>,
    /// How many configurations have been applied.
    pub generation: u64,
    /// Its pools and backends, with their states.
    pub fleet: FleetView,
}

/// The end of the queue at which other threads ask. Clones ask the same control.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::UnboundedSender<ControlCommand>);

/// Control has gone, as the process is ending.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ringway is ending")]
pub struct Gone;

/// A new queue: the end that asks, and the end at which control listens.
pub fn channel() -> (Asker, mpsc::UnboundedReceiver<ControlCommand>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Asker(sender), receiver)
}

impl Asker {
    /// Changes, adds or removes a backend: [`ControlCommand::Wish`]. The inner error says why that cannot be done.
    ///
    /// # Errors
    /// Control has gone.
    pub async fn wish(&self, wish: Wish, by: Arc<str>) -> Result<Result<Vec<String>, SetError>, Gone> {
        self.ask(|reply| ControlCommand::Wish { wish, by, reply }).await
    }

    /// Puts a configuration in the place of the file: [`ControlCommand::Put`]. The inner error lists every fault.
    ///
    /// # Errors
    /// Control has gone.
    pub async fn put(
        &self,
        text: String,
        is_dry_run: bool,
        by: Arc<str>,
    ) -> Result<Result<Applied, Vec<ReloadFault>>, Gone> {
        self.ask(|reply| ControlCommand::Put { text, is_dry_run, by, reply }).await
    }

    /// Reads and applies the configuration: [`ControlCommand::Reload`]. The inner error lists every fault.
    ///
    /// # Errors
    /// Control has gone.
    pub async fn reload(&self) -> Result<Result<Vec<String>, Vec<ReloadFault>>, Gone> {
        self.ask(|reply| ControlCommand::Reload { reply }).await
    }

    /// Gets all listening sockets: [`ControlCommand::Lend`]. The inner error says why there are none.
    ///
    /// # Errors
    /// Control has gone.
    pub async fn lend(&self) -> Result<Result<Loan, String>, Gone> {
        self.ask(|reply| ControlCommand::Lend { reply }).await
    }

    /// Says that another ringway has taken over, and waits until this one accepts nothing new:
    /// [`ControlCommand::Relieved`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn relieved(&self, by: Successor) -> Result<(), Gone> {
        self.ask(|reply| ControlCommand::Relieved { by, reply }).await
    }

    /// The configuration and the state of everything: [`ControlCommand::Show`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn show(&self) -> Result<View, Gone> {
        self.ask(|reply| ControlCommand::Show { reply }).await
    }

    /// The files of certificates that cannot be used: [`ControlCommand::CertificateFaults`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn certificate_faults(&self) -> Result<Vec<CertificateFault>, Gone> {
        self.ask(|reply| ControlCommand::CertificateFaults { reply }).await
    }

    /// Runs `look` on the last minutes, on control's thread, and returns its result: [`ControlCommand::History`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn history<T: Send + 'static>(
        &self,
        look: impl FnOnce(&History) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        // The client that asked may have gone meanwhile, and then nothing reads the answer.
        let answer = |reply: oneshot::Sender<T>| Box::new(move |history: &History| drop(reply.send(look(history))));
        self.ask(|reply| ControlCommand::History { look: answer(reply) }).await
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> ControlCommand) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
