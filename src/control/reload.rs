//! Another configuration while ringway runs: it is read, compared, and applied as a whole or not at all.
//!
//! Everything that can fail comes first: reading, what only a restart can change, files out of reach, binding new
//! addresses. Then the fleet takes over the configuration, the table is published, and the workers get the new sockets;
//! that part cannot fail and does not wait.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info};

use super::disk::Disk;
use super::notify;
use super::run::ControlLoop;
use super::sockets::ListeningSockets;
use crate::api::command::ReloadFault;
use crate::base::time::ns;
use crate::config::diff::{Diff, diff};
use crate::config::load_certificates;
use crate::config::model::{Config, Source};
use crate::snapshot::table::Phase;
use crate::stats::history::HistoryEvent;

/// How often, and how long apart, an address that is in use is tried again: a reload just before may have given it up,
/// and its worker closes it in a moment.
const IN_USE_RETRIES: u32 = 10;
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

impl ControlLoop {
    /// Reads the configuration again and applies it. Returns one line per change.
    ///
    /// # Errors
    /// Everything that is wrong; then the configuration in use stays in use.
    pub(super) async fn reload(&mut self) -> Result<Vec<String>, Vec<ReloadFault>> {
        notify::reloading();
        let result = self.try_reload().await;
        let cells = &self.control.stats.control;
        match &result {
            Ok(changes) => {
                cells.reloads_success.add(1);
                self.count_configuration();
                changes.iter().for_each(|change| info!("configuration: {change}"));
                info!(changes = changes.len(), generation = cells.config_generation.get(), "configuration reloaded");
            }
            Err(faults) => {
                cells.reloads_failure.add(1);
                faults.iter().for_each(|fault| error!("{fault}"));
                error!(errors = faults.len(), "configuration not reloaded: ringway goes on with the one it has");
            }
        }
        notify::ready();
        result
    }

    /// Counts that another configuration is in use.
    pub(super) fn count_configuration(&self) {
        let generation = &self.control.stats.control.config_generation;
        generation.set(generation.get() + 1);
        let applied = HistoryEvent::Configured(generation.get());
        self.control.history.borrow_mut().on_event(applied, self.control.clock.now());
    }

    /// Refuses another configuration where none can come into use.
    fn may_change(&self) -> Result<(), Vec<ReloadFault>> {
        if self.lifecycle.phase() != Phase::Serving {
            return Err(vec![ReloadFault::of("ringway is shutting down; start it with the new configuration")]);
        }
        self.succession.forbids_change().map_or(Ok(()), |why| Err(vec![ReloadFault::of(why)]))
    }

    /// Reads a configuration from a text.
    pub(super) async fn read_text(&self, text: String) -> Result<Config, Vec<ReloadFault>> {
        self.may_change()?;
        let in_use = self.control.fleet.borrow().config();
        read_by(move || parse(&text, "the configuration", &in_use)).await
    }

    /// Prepares everything that another configuration needs of the process.
    pub(super) async fn prepare(&mut self, config: &Config) -> Result<(), Vec<ReloadFault>> {
        let out_of_reach = (self.out_of_reach)(config);
        if !out_of_reach.is_empty() {
            return Err(out_of_reach.into_iter().map(ReloadFault::of).collect());
        }
        prepare(self.sockets.as_mut(), config).await.map_err(|fault| vec![fault])
    }

    /// The same without counting and logging.
    async fn try_reload(&mut self) -> Result<Vec<String>, Vec<ReloadFault>> {
        self.may_change()?;
        let in_use = self.control.fleet.borrow().config();
        let config = read(&self.source, in_use).await?;
        let changes = self.changes_to(&config)?;
        self.prepare(&config).await?;
        // From here on nothing fails and nothing waits, so all others see it as one step.
        self.apply(config);
        self.put_config = None;
        if let Err(why) = self.keep(None).await {
            error!(
                "{why}, but the configuration was reloaded: after a restart what was changed at run time may be back"
            );
        }
        Ok(changes)
    }

    /// What another configuration changes, a line each.
    ///
    /// # Errors
    /// What a running process cannot change.
    pub(super) fn changes_to(&self, config: &Config) -> Result<Vec<String>, Vec<ReloadFault>> {
        let Diff { changes, needs_restart } = diff(&self.config, config);
        if needs_restart.is_empty() {
            return Ok(changes);
        }
        let remedy = self.needs_another_process();
        Err(needs_restart.iter().map(|line| ReloadFault::of(format!("{line}; {remedy}"))).collect())
    }

    /// What to do about a change that a running process cannot make.
    fn needs_another_process(&self) -> String {
        let (Source::File(file), Some(socket)) = (&self.source, &self.config.admin.socket) else {
            return "a running ringway cannot change this: undo it, or restart it; with `admin.socket` set, \
                    `ringway run -c FILE --take-over SOCKET` would relieve it and lose no connection"
                .to_string();
        };
        format!(
            "a running ringway cannot change this: undo it, or relieve it, which loses no connection as a restart \
             would: `ringway run -c {} --take-over {}`",
            file.display(),
            socket.display()
        )
    }

    /// Makes the new configuration the one in use.
    pub(super) fn apply(&mut self, config: Config) {
        let now = self.control.clock.now();
        self.control.forget_old_troubles();
        let changes = self.control.fleet.borrow_mut().apply(&config, now);
        self.control.apply(changes);
        // New listeners must be in the table before they accept.
        self.publisher.publish(&self.control, self.lifecycle.phase());
        self.sockets.commit(&|name| self.control.fleet.borrow().listener(name));
        self.mend_socket_files();
        self.control.follow();
        self.control.look_up_again();
        self.lifecycle.set_spans(ns(config.process.shutdown_delay), ns(config.process.shutdown_grace));
        if let Some(set_level) = &self.set_level {
            set_level(config.log.level);
        }
        self.config = config.into();
    }
}

/// Binds what is new, and waits a little for addresses that are in use.
async fn prepare(sockets: &mut dyn ListeningSockets, config: &Config) -> Result<(), ReloadFault> {
    for _ in 0..IN_USE_RETRIES {
        match sockets.prepare(config) {
            Err(refused) if refused.may_pass => sleep(IN_USE_PAUSE).await,
            other => return other.map_err(|refused| ReloadFault::of(refused.message)),
        }
    }
    sockets.prepare(config).map_err(|refused| ReloadFault::of(refused.message))
}

/// Reads the configuration again.
async fn read(source: &Source, in_use: Arc<Config>) -> Result<Config, Vec<ReloadFault>> {
    let Source::File(path) = source else {
        let why = "ringway was started without a file (--listen, --backend), so there is nothing to read again; \
                   start it with `ringway run -c FILE`";
        return Err(vec![ReloadFault::of(why)]);
    };
    let path = path.clone();
    read_by(move || read_file(&path, &in_use)).await
}

/// Reads the configuration with this, on a thread of its own: its files may be on a disk that does not answer, and
/// checks must go on meanwhile.
async fn read_by(
    read: impl FnOnce() -> Result<Config, Vec<ReloadFault>> + Send + 'static,
) -> Result<Config, Vec<ReloadFault>> {
    let read = tokio::task::spawn_blocking(read).await;
    read.unwrap_or_else(|_| Err(vec![ReloadFault::of("reading the configuration panicked; this is a bug of ringway")]))
}

/// Reads and resolves the configuration. Blocks.
fn read_file(path: &Path, in_use: &Config) -> Result<Config, Vec<ReloadFault>> {
    let remedy = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; a running ringway reads only below the folders that it was started with: start a new process \
             (`ringway run --take-over`)"
        }
        _ => "",
    };
    let bytes = std::fs::read(path)
        .map_err(|error| vec![ReloadFault::of(format!("cannot read {}: {error}{}", path.display(), remedy(&error)))])?;
    let text = crate::config::text_of(bytes)
        .map_err(|why| vec![ReloadFault::of(format!("cannot read {}: {why}", path.display()))])?;
    parse(&text, &path.display().to_string(), in_use)
}

/// Resolves a configuration, and reads the certificates that it names. Blocks.
fn parse(text: &str, name: &str, in_use: &Config) -> Result<Config, Vec<ReloadFault>> {
    let mut config = crate::config::load(text, name, &Disk)
        .map_err(|errors| errors.into_iter().map(ReloadFault::from).collect::<Vec<_>>())?;
    load_certificates(&mut config, Some(in_use), &Disk)
        .map_err(|faults| faults.iter().map(|fault| ReloadFault::of(fault.to_string())).collect::<Vec<_>>())?;
    Ok(config)
}
