//! What others ask of control while it runs: set a backend, reload, show everything.
//!
//! Whoever asks ([`Asker`]) may be on any thread and waits for an answer; control answers a change when every worker
//! serves by it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::config;
use crate::config::model::Config;
use crate::fleet::FleetView;
use crate::fleet::order::{BackendName, Change, SetError};
use crate::stats::history::History;

/// One thing to do, and who waits for it.
pub enum ControlCommand {
    /// Change a backend at run time.
    Set {
        /// Which one.
        target: BackendName,
        /// What of it.
        change: Change,
        /// Who asks, for the log and for `why`; as in `uid 0`.
        by: Arc<str>,
        /// Where the answer goes: a line each for what was changed; none if everything was so already.
        reply: oneshot::Sender<Result<Vec<String>, SetError>>,
    },
    /// Read the configuration again and apply it.
    Reload {
        /// Where the answer goes: a line each for what was changed.
        reply: oneshot::Sender<Result<Vec<String>, Vec<ReloadFault>>>,
    },
    /// Hand out every listening socket, for another ringway to take over.
    Lend {
        /// Where they go; else why not, a line.
        reply: oneshot::Sender<Result<Loan, String>>,
    },
    /// It has taken over: accept no more, and drain.
    Relieved {
        /// Who.
        by: Successor,
        /// Told when nothing new is begun here.
        reply: oneshot::Sender<()>,
    },
    /// Say what is configured and what is known.
    Show {
        /// Where the answer goes.
        reply: oneshot::Sender<View>,
    },
    /// Have the last minutes looked at.
    History {
        /// Takes what it wants of them. Control waits meanwhile.
        look: HistoryLook,
    },
}

/// Is shown the last minutes, once.
pub type HistoryLook = Box<dyn FnOnce(&History) + Send>;

/// What another ringway needs to take over.
#[derive(Debug)]
pub struct Loan {
    /// Every listening socket, the admin server's with them.
    pub sockets: Vec<Arc<OwnedFd>>,
    /// While it is held, the configuration stays as it is, and nobody else takes over.
    pub lock: Arc<()>,
}

/// A ringway that has taken over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Successor {
    /// Its process, if it is known.
    pub pid: Option<u32>,
}

/// Why a reload was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReloadFault {
    /// What is wrong, and what to do.
    pub message: String,
    /// Where, if it stands in a file: its name, line and column.
    pub place: Option<(Arc<str>, usize, usize)>,
}

impl ReloadFault {
    /// One that stands nowhere.
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

/// What is configured and what is known, as it is at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The configuration that is in use.
    pub config: Arc<Config>,
    /// How often one was applied.
    pub generation: u64,
    /// Its pools and backends, and what is known of them.
    pub fleet: FleetView,
}

/// Asks control. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::UnboundedSender<ControlCommand>);

/// Control has gone, as the process is ending.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ringway is ending")]
pub struct Gone;

/// An asker and the end that control listens at.
pub fn channel() -> (Asker, mpsc::UnboundedReceiver<ControlCommand>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Asker(sender), receiver)
}

impl Asker {
    /// See [`ControlCommand::Set`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn set(
        &self,
        target: BackendName,
        change: Change,
        by: Arc<str>,
    ) -> Result<Result<Vec<String>, SetError>, Gone> {
        self.ask(|reply| ControlCommand::Set { target, change, by, reply }).await
    }

    /// See [`ControlCommand::Reload`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn reload(&self) -> Result<Result<Vec<String>, Vec<ReloadFault>>, Gone> {
        self.ask(|reply| ControlCommand::Reload { reply }).await
    }

    /// See [`ControlCommand::Lend`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn lend(&self) -> Result<Result<Loan, String>, Gone> {
        self.ask(|reply| ControlCommand::Lend { reply }).await
    }

    /// See [`ControlCommand::Relieved`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn relieved(&self, by: Successor) -> Result<(), Gone> {
        self.ask(|reply| ControlCommand::Relieved { by, reply }).await
    }

    /// See [`ControlCommand::Show`].
    ///
    /// # Errors
    /// Control has gone.
    pub async fn show(&self) -> Result<View, Gone> {
        self.ask(|reply| ControlCommand::Show { reply }).await
    }

    /// See [`ControlCommand::History`]: what `look` makes of them.
    ///
    /// # Errors
    /// Control has gone.
    pub async fn history<T: Send + 'static>(
        &self,
        look: impl FnOnce(&History) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        // Who asked may have gone meanwhile, and then nobody hears the answer.
        let answer = |reply: oneshot::Sender<T>| Box::new(move |history: &History| drop(reply.send(look(history))));
        self.ask(|reply| ControlCommand::History { look: answer(reply) }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> ControlCommand) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
