//! The commands of `ringway ctl` that change something: `set`, `drain`, `ready`, `kill`, `reload`.
//!
//! A command with `--wait` returns only when the change has its effect, so it looks at the API again and again. Each
//! loop ends with an error if another user changes the backend meanwhile.

use std::thread::sleep;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::table::count;
use super::{BackendArg, ChangeArgs, Ctl, ModeArg, Victims, escaped};
use crate::api::words::{self, BackendChange, Changed, Killed};
use crate::cli::failure::Failure;
use crate::fleet::order;

/// How often a command with `--wait` looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often workers are looked at before the wait is given up; they take a table over within milliseconds.
const LOOKS_MAX: u32 = 200;

impl Ctl<'_> {
    /// `set`: changes weight, state or limit of a backend.
    pub(super) fn set(&self, backend: &BackendArg, change: &ChangeArgs) -> Result<(), Failure> {
        let state = change.state.map(|state| match state {
            ModeArg::Ready => order::Mode::Ready,
            ModeArg::Drain => order::Mode::Drain,
            ModeArg::Maintenance => order::Mode::Maintenance,
        });
        let &ChangeArgs { weight, connections_max, .. } = change;
        let wanted = BackendChange { weight, state, connections_max, deadline_ms: None };
        self.patch(backend, &wanted)
    }

    /// Asks for a change of a backend.
    fn patch(&self, backend: &BackendArg, wanted: &BackendChange) -> Result<(), Failure> {
        self.change(Method::PATCH, &backend.path(), Some(json!(wanted)))
    }

    /// `reload`: has the configuration read again.
    pub(super) fn reload(&self, wait: bool) -> Result<(), Failure> {
        self.change(Method::POST, "/v1/reload", None)?;
        if wait {
            self.wait_for_workers()?;
        }
        Ok(())
    }

    /// Asks for a change and prints what has changed, one line per change.
    pub(super) fn change(&self, method: Method, path: &str, body: Option<Value>) -> Result<(), Failure> {
        let reply = self.client.ask(method, path, body.as_ref())?;
        if self.json {
            // Programs must be able to read what is wrong, too, so the answer is printed in both cases.
            self.print_json(&reply.body)?;
            return reply.accept().map(|_| ());
        }
        let Changed { changes } = reply.read()?;
        match changes.as_slice() {
            [] => crate::cli::print(b"nothing changed: it was so already\n"),
            lines => crate::cli::print((lines.join("\n") + "\n").as_bytes()),
        }
    }

    /// Waits until every worker uses the newest table.
    fn wait_for_workers(&self) -> Result<(), Failure> {
        for _ in 0..LOOKS_MAX {
            let status: words::Status = self.client.get("/v1/status")?;
            let mut running = status.workers.iter().filter(|worker| worker.is_running);
            if running.all(|worker| worker.table_generation >= status.table_generation) {
                return Ok(());
            }
            sleep(LOOK_EVERY);
        }
        Err(anyhow::anyhow!("a worker has not taken the change over; look at the log of ringway").into())
    }

    /// `ready`: ends a drain or a maintenance. With `wait` it returns when a check has succeeded since.
    pub(super) fn ready(&self, backend: &BackendArg, wait: bool) -> Result<(), Failure> {
        self.patch(backend, &BackendChange { state: Some(order::Mode::Ready), ..BackendChange::default() })?;
        let before = if wait { Some(self.client.get::<words::BackendDetail>(&backend.path())?) } else { None };
        while let Some(before) = &before {
            let now: words::BackendDetail = self.client.get(&backend.path())?;
            // Results from before may be old: the server may have been restarted since.
            let is_proven =
                now.check.is_none() || now.backend.checks.success_total > before.backend.checks.success_total;
            match &*now.backend.state {
                // Standby: healthy, but not of the role that the pool wants. It will not become more ready than this.
                "up" | "standby" if is_proven => break,
                "draining" | "maintenance" => {
                    let BackendArg { pool, name } = backend;
                    let state = &now.backend.state;
                    return Err(
                        anyhow::anyhow!("{pool}/{name} is not ready: another user has set it to {state}").into()
                    );
                }
                _ => sleep(LOOK_EVERY),
            }
        }
        Ok(())
    }

    /// Prints how a drain is undone, and whether the pool has a backend left.
    fn say_what_follows(&self, backend: &BackendArg) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let BackendArg { pool, name } = backend;
        let rest: words::PoolStatus = self.client.get(&format!("/v1/pools/{}", escaped(pool)))?;
        let mut lines = format!("`ringway ctl ready {pool}/{name}` takes it back\n");
        if rest.backends_up == 0 {
            lines +=
                &format!("no backend of {pool} takes new sessions now: its clients are turned away until one does\n");
        }
        crate::cli::print(lines.as_bytes())
    }

    /// `kill`: resets sessions.
    pub(super) fn kill(&self, victims: &Victims) -> Result<(), Failure> {
        let path = match victims {
            Victims { session: Some(id), .. } => format!("/v1/sessions/{}", escaped(id)),
            Victims { backend: Some(backend), .. } => format!("/v1/sessions?{}", backend.query()),
            Victims { client: Some(client), .. } => format!("/v1/sessions?client={client}"),
            // The parser requires one of them.
            _ => return Err(Failure::Usage("say which sessions: --session, --backend or --client".to_string())),
        };
        let reply = self.client.ask(Method::DELETE, &path, None)?;
        if self.json {
            self.print_json(&reply.body)?;
            return reply.accept().map(|_| ());
        }
        let Killed { killed } = reply.read()?;
        crate::cli::print(format!("{} reset\n", count(killed, "session")).as_bytes())
    }

    /// `drain`: gives a backend no new sessions. With `wait` it returns when no session is left.
    pub(super) fn drain(&self, backend: &BackendArg, deadline: Option<Duration>, wait: bool) -> Result<(), Failure> {
        let before: words::BackendDetail = self.client.get(&backend.path())?;
        let deadline_ms = deadline.map(|deadline| u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        let wanted = BackendChange { state: Some(order::Mode::Drain), deadline_ms, ..BackendChange::default() };
        if !wait {
            self.patch(backend, &wanted)?;
            return self.say_what_follows(backend);
        }
        self.client.ask(Method::PATCH, &backend.path(), Some(&json!(wanted)))?.accept()?;
        // A worker that does not know of the drain yet could still give it a session.
        self.wait_for_workers()?;
        let last = loop {
            let now: words::BackendDetail = self.client.get(&backend.path())?;
            if now.backend.connections == 0 {
                break now;
            }
            if now.backend.state != "draining" {
                let name = format!("{}/{}", backend.pool, backend.name);
                let state = &now.backend.state;
                return Err(anyhow::anyhow!("{name} no longer drains: another user has set it to {state}").into());
            }
            sleep(LOOK_EVERY);
        };
        let cut = last.backend.sessions_cut_total.saturating_sub(before.backend.sessions_cut_total);
        let left = u64::from(before.backend.connections);
        if self.json {
            let drained = json!({ "drained": true, "sessions_before": left, "sessions_cut": cut });
            return self.print_json(drained.to_string().as_bytes());
        }
        let how = match cut {
            0 => "all of its sessions ended by themselves".to_string(),
            cut => format!("the deadline reset {}", count(cut, "session")),
        };
        crate::cli::print(format!("{}/{} has drained: {how}\n", backend.pool, backend.name).as_bytes())?;
        self.say_what_follows(backend)
    }
}
