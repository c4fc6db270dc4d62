//! The commands of `ringway ctl` that add and remove backends, and that apply a whole configuration.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::json;

use super::act::LOOK_EVERY;
use super::client::escaped;
use super::table::count;
use super::{BackendArg, Ctl};
use crate::api::words::{AppliedConfig, DrainedBackend};
use crate::cli::failure::Failure;
use crate::config;

/// What `add` says of a backend: the keys of `[[pools.NAME.backends]]`.
#[derive(Args, Debug)]
pub(super) struct NewBackend {
    /// Where it is: ip:port, host:port or unix:/path.
    #[arg(long, value_name = "ADDRESS")]
    address: String,
    /// Its share, 0 to 256 [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=256))]
    weight: Option<u16>,
    /// Its level as a backup: it serves only while no backend of a lower level does.
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u16).range(1..=1000))]
    backup: Option<u16>,
    /// The limit on its sessions.
    #[arg(long, value_name = "N")]
    connections_max: Option<u32>,
    /// Where it is checked, if not at its address: ip:port or :port.
    #[arg(long, value_name = "ADDRESS")]
    check_address: Option<String>,
    /// It begins in maintenance.
    #[arg(long)]
    disabled: bool,
}

impl Ctl<'_> {
    /// `add`: adds a backend.
    pub(super) fn add(&self, backend: &BackendArg, new: &NewBackend) -> Result<(), Failure> {
        let NewBackend { address, weight, backup, connections_max, check_address, disabled } = new;
        let body = json!({
            "name": backend.name, "address": address, "weight": weight, "backup": backup,
            "connections_max": connections_max, "check_address": check_address,
            "disabled": disabled.then_some(true),
        });
        self.change(Method::POST, &format!("/v1/pools/{}/backends", escaped(&backend.pool)), Some(body))
    }

    /// `remove`: drains a backend, and then it is gone. With `wait` it returns when it is.
    pub(super) fn remove(&self, backend: &BackendArg, deadline: Option<Duration>, wait: bool) -> Result<(), Failure> {
        let query = deadline.map(|deadline| format!("?deadline_ms={}", deadline.as_millis())).unwrap_or_default();
        self.change(Method::DELETE, &format!("{}{query}", backend.path()), None)?;
        while wait && self.is_there(backend)? {
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Whether a backend that was removed still has sessions.
    fn is_there(&self, backend: &BackendArg) -> Result<bool, Failure> {
        let pool: crate::api::words::PoolStatus = self.client.get(&format!("/v1/pools/{}", escaped(&backend.pool)))?;
        // A name with several addresses has one each: `db`, `db#2`.
        let is_it = |name: &str| name == backend.name || name.starts_with(&format!("{}#", backend.name));
        Ok(pool.backends.iter().any(|known| is_it(&known.name) && known.removed))
    }

    /// `apply`: puts a whole configuration in the place of the file.
    pub(super) fn apply(&self, file: &Path, is_dry_run: bool) -> Result<(), Failure> {
        let unread = |why: String| Failure::Usage(format!("cannot read {}: {why}", file.display()));
        let bytes = std::fs::read(file).map_err(|error| unread(error.to_string()))?;
        let text = config::text_of(bytes).map_err(|why| unread(why.to_string()))?;
        let path = if is_dry_run { "/v1/config?dry_run=1" } else { "/v1/config" };
        let reply = self.client.send(Method::PUT, path, text)?;
        if self.json {
            self.print_json(&reply.body)?;
            return reply.accept().map(|_| ());
        }
        let AppliedConfig { changes, consequences } = reply.read()?;
        let drained = consequences.drained.iter().map(drained);
        let lines: Vec<String> =
            changes.into_iter().chain(consequences.opened).chain(consequences.closed).chain(drained).collect();
        if lines.is_empty() {
            return crate::cli::print(b"nothing changed: it was so already\n");
        }
        let last = match (is_dry_run, consequences.sessions_cut) {
            (false, _) => String::new(),
            (true, 0) => "no session would be cut; nothing was changed\n".to_owned(),
            (true, cut) => {
                format!("{} would be cut, if not ended before; nothing was changed\n", count(cut, "session"))
            }
        };
        crate::cli::print((lines.join("\n") + "\n" + &last).as_bytes())
    }
}

/// What becomes of a backend that is not in a configuration.
fn drained(one: &DrainedBackend) -> String {
    let DrainedBackend { pool, backend, address, sessions, deadline_ms } = one;
    let what = match (sessions, deadline_ms) {
        (0, _) => "it has no session".to_owned(),
        (sessions, Some(ms)) => {
            format!("{} cut within {}", count(u64::from(*sessions), "session"), super::table::span(*ms))
        }
        (sessions, None) => format!("{} can go on", count(u64::from(*sessions), "session")),
    };
    format!("drains {backend} ({address}) of pool {pool}: {what}")
}

/// The options of `apply`.
#[derive(Args, Debug)]
pub(super) struct ApplyOptions {
    /// The configuration.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Only say what would change, and how many sessions would be cut.
    #[arg(long)]
    pub(super) dry_run: bool,
}
