//! Changes at run time: of single backends, and of the whole configuration by a text. What was changed is kept in
//! `process.state_file` before it takes effect.

use std::sync::Arc;

use tracing::{info, warn};

use super::run::ControlLoop;
use super::state_file::{self, time_of_day};
use crate::api::command::{Applied, ReloadFault};
use crate::base::time::unix_s;
use crate::config::diff::consequences;
use crate::config::model::Config;
use crate::fleet::order::{SetError, Wish};
use crate::fleet::{Kept, KeptConfig, Plan};

impl ControlLoop {
    /// Changes, adds or removes a backend. Returns one line per thing that was changed.
    ///
    /// # Errors
    /// It cannot be done, or not be kept; then nothing is changed.
    pub(super) async fn grant(&mut self, wish: &Wish, by: &Arc<str>) -> Result<Vec<String>, SetError> {
        let is_set = matches!(wish, Wish::Set(..));
        if let Some(why) = self.succession.forbids_change().filter(|_| !is_set) {
            return Err(SetError::Invalid(why.to_owned()));
        }
        let now = self.control.clock.now();
        let mut plan = self.control.fleet.borrow().plan(wish, by, now)?;
        if let Wish::Remove { .. } = wish {
            let (pool, name) = plan.names();
            let slots = self.control.fleet.borrow().slots_of(pool, name);
            let sessions: u32 = slots.iter().map(|id| self.control.counts.connections(*id)).sum();
            plan.add_to_line(&self.what_becomes_of(sessions, plan.deadline_ns(now)));
        }
        self.keep(Some(&plan)).await.map_err(SetError::NotKept)?;
        let mut changes = self.control.fleet.borrow_mut().carry_out(plan, self.control.clock.now());
        let lines = std::mem::take(&mut changes.lines);
        lines.iter().for_each(|line| info!(%by, "{line}"));
        self.control.apply(changes);
        self.control.follow_watches();
        self.control.follow_hosts();
        Ok(lines)
    }

    /// What becomes of the sessions of a backend that is removed, in words. Without a deadline they are never cut.
    fn what_becomes_of(&self, sessions: u32, deadline_ns: Option<u64>) -> String {
        let count = if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") };
        match (sessions, deadline_ns) {
            (0, _) => "it has no session".to_owned(),
            (_, Some(ns)) => {
                format!("{count} will be cut within {} s, if not ended before", ns.div_ceil(1_000_000_000))
            }
            (_, None) => format!("{count} can go on until they end"),
        }
    }

    /// Puts a configuration in the place of the file, until the next reload; or only says what would follow.
    ///
    /// # Errors
    /// Everything that is wrong; then the configuration in use stays in use.
    pub(super) async fn put(
        &mut self,
        text: String,
        is_dry_run: bool,
        by: &Arc<str>,
    ) -> Result<Applied, Vec<ReloadFault>> {
        let config = self.read_text(text.clone()).await?;
        let applied = self.foresee(&config)?;
        if is_dry_run {
            return Ok(applied);
        }
        self.prepare(&config).await?;
        let at_s = unix_s(self.control.clock.wall(self.control.clock.now()));
        let before = self.put_config.replace(KeptConfig { text, by: by.to_string(), at_s });
        if let Err(why) = self.keep(None).await {
            self.put_config = before;
            return Err(vec![ReloadFault::of(why)]);
        }
        self.apply(config);
        self.count_configuration();
        applied.changes.iter().for_each(|change| info!(%by, "configuration: {change}"));
        let changes = applied.changes.len();
        warn!(%by, changes, "a configuration was put in the place of the file; it is in use until the next reload");
        Ok(applied)
    }

    /// What another configuration would change.
    ///
    /// # Errors
    /// What a running ringway cannot change.
    fn foresee(&self, config: &Config) -> Result<Applied, Vec<ReloadFault>> {
        let changes = self.changes_to(config)?;
        let followed = consequences(&self.config, config);
        let leavers = self.control.fleet.borrow().foresee(config);
        let drained = leavers.into_iter().map(|leaver| {
            let sessions = self.control.counts.connections(leaver.id);
            (leaver, sessions)
        });
        Ok(Applied { changes, opened: followed.opened, closed: followed.closed, drained: drained.collect() })
    }

    /// Writes what is to be kept, with `plan` if one is given; nothing without a file for it.
    ///
    /// # Errors
    /// It could not be written, in words.
    pub(super) async fn keep(&self, plan: Option<&Plan>) -> Result<(), String> {
        let Some(path) = self.config.process.state_file.clone() else { return Ok(()) };
        let time = time_of_day(self.control.clock);
        let kept = Kept { config: self.put_config.clone(), ..self.control.fleet.borrow().kept(plan, time) };
        // The file may be on a disk that does not answer, and checks must go on meanwhile.
        let shown = path.display().to_string();
        let written = tokio::task::spawn_blocking(move || state_file::write(&path, &kept)).await;
        let fault = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => format!("writing panicked, which is a bug of ringway: {error}"),
        };
        Err(format!("cannot write state_file {shown}: {fault}; nothing was changed"))
    }
}
