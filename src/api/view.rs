//! What is configured and what is known, in JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;

use super::Admin;
use super::answer::{Answer, Refusal};
use crate::admit;
use crate::api::command::{self, Gone};
use crate::base::id::{BackendId, PoolId};
use crate::base::time::Moment;
use crate::config::model::{self, Config};
use crate::fleet::{BackendView, PoolView};
use crate::health;
use crate::snapshot::table::Phase;
use crate::stats::{BackendCells, Counter, Distribution, WorkerStats};

impl From<Gone> for Refusal {
    fn from(gone: Gone) -> Refusal {
        Refusal::unavailable(gone.to_string())
    }
}

/// `GET /v1/status`
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    pid: u32,
    uptime_ms: u64,
    phase: &'static str,
    /// Configurations applied since the start.
    generation: u64,
    /// Number of the table that workers are to serve by.
    table_generation: u64,
    connections: u64,
    workers: Vec<Worker>,
    limits: Limits,
}

#[derive(Serialize)]
struct Limits {
    /// 0 is none.
    connections_max: u64,
}

#[derive(Serialize)]
struct Worker {
    worker: usize,
    is_running: bool,
    /// Number of the table that it serves by.
    table_generation: u64,
    connections: u64,
    accepted_total: u64,
    busy_seconds_total: f64,
    copied_bytes_total: u64,
    spliced_bytes_total: u64,
}

/// `GET /v1/listeners`
#[derive(Serialize)]
pub(super) struct Listeners {
    listeners: Vec<Listener>,
}

#[derive(Serialize)]
struct Listener {
    name: Arc<str>,
    bind: Vec<String>,
    pool: Arc<str>,
    connections: u64,
    /// 0 is no limit.
    connections_max: u32,
    connections_total: u64,
    refused_total: u64,
    accept_proxy: bool,
    routes: Vec<Route>,
}

#[derive(Serialize)]
struct Route {
    sni: Vec<String>,
    alpn: Vec<String>,
    pool: Arc<str>,
}

/// `GET /v1/pools`
#[derive(Serialize)]
pub(super) struct Pools {
    pools: Vec<Pool>,
}

#[derive(Serialize)]
pub(super) struct Pool {
    name: Arc<str>,
    balance: Option<&'static str>,
    listeners: Vec<Arc<str>>,
    check: Option<Check>,
    /// Backends that take new sessions.
    /// Those that take new sessions.
    backends_up: usize,
    /// Those that are fit and not of the role that is wanted.
    backends_standby: usize,
    connections: u64,
    connections_total: u64,
    queue_length: u64,
    refused_total: u64,
    /// No longer configured; it only keeps the sessions it has.
    removed: bool,
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct Check {
    #[serde(rename = "type")]
    kind: &'static str,
    interval_ms: u128,
    timeout_ms: u128,
    rise: u32,
    fall: u32,
    role: Option<&'static str>,
}

/// `GET /v1/pools/{pool}/backends`
#[derive(Serialize)]
pub(super) struct Backends {
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct Backend {
    name: Arc<str>,
    address: Option<String>,
    state: &'static str,
    reason: String,
    since: String,
    since_ms: u64,
    weight: u16,
    backup: bool,
    connections: u32,
    /// 0 is no limit.
    connections_max: u32,
    connections_total: u64,
    connect_errors_total: u64,
    /// Sessions that it ended within a second without having sent a byte.
    hangups_total: u64,
    /// Sessions reset because it went down, was drained or removed.
    sessions_cut_total: u64,
    bytes_to_backend: u64,
    bytes_to_client: u64,
    checks: Checks,
    /// What was set at run time and differs from the file.
    set_by_hand: Vec<&'static str>,
    /// Until its drain resets the sessions that are left.
    drain_left_ms: Option<u64>,
    /// No longer configured, or no longer at this address.
    removed: bool,
}

#[derive(Default, Serialize)]
struct Checks {
    success_total: u64,
    failure_total: u64,
    /// Of servers that live and refuse the account of the check.
    refused_total: u64,
    /// That could not be made.
    unknown_total: u64,
    mean_ms: Option<f64>,
}

/// `GET /v1/pools/{pool}/backends/{backend}`
#[derive(Serialize)]
pub(super) struct Detail {
    pool: Arc<str>,
    #[serde(flatten)]
    backend: Backend,
    /// The states it was in, the one it is in last.
    history: Vec<Past>,
    check: Option<Check>,
    /// How the last check went; `None` if there was none.
    transcript: Option<Vec<Line>>,
}

#[derive(Serialize)]
struct Past {
    state: &'static str,
    reason: String,
    since: String,
    since_ms: u64,
}

#[derive(Serialize)]
struct Line {
    at_ms: u64,
    text: String,
}

pub(super) async fn status(State(admin): State<Admin>) -> Json<Status> {
    let phase = match admin.cell.reader().pin().phase {
        Phase::Serving => "serving",
        Phase::Leaving { .. } => "leaving",
        Phase::Draining { .. } => "draining",
        Phase::Stopping => "stopping",
    };
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        uptime_ms: ms(admin.clock.now().since_ns(crate::base::time::Clock::ORIGIN)),
        phase,
        generation: admin.stats.control.config_generation.get(),
        table_generation: admin.cell.generation(),
        connections: admin.counts.process_connections(),
        workers: admin.stats.workers.iter().enumerate().map(worker).collect(),
        limits: Limits { connections_max: admin.connections_max },
    })
}

fn worker((number, stats): (usize, &WorkerStats)) -> Worker {
    let cells = &stats.worker;
    Worker {
        worker: number,
        is_running: cells.running.get() != 0,
        table_generation: cells.generation.get(),
        connections: cells.connections.get(),
        accepted_total: cells.accepted.get(),
        busy_seconds_total: cells.busy_ns.get() as f64 / 1e9,
        copied_bytes_total: cells.copied_bytes.get(),
        spliced_bytes_total: cells.spliced_bytes.get(),
    }
}

pub(super) async fn listeners(State(admin): State<Admin>) -> Answer<Listeners> {
    let view = admin.asker.show().await?;
    let reader = admin.cell.reader();
    let table = reader.pin();
    let describe = |listener: &model::Listener| {
        let entry = table.listeners.iter().flatten().find(|entry| entry.name == listener.name);
        let cells = || {
            let id = entry.map(|entry| entry.id);
            admin.stats.workers.iter().filter_map(move |worker| worker.listeners.existing(id?.index()))
        };
        Listener {
            name: listener.name.clone(),
            bind: listener.binds.iter().map(ToString::to_string).collect(),
            pool: listener.pool.clone(),
            connections: cells().map(|cells| cells.connections.get()).sum(),
            connections_max: listener.connections_max.map_or(0, |most| most.get()),
            connections_total: cells().map(|cells| cells.connections_total.get()).sum(),
            refused_total: cells().flat_map(|cells| &cells.refused).map(Counter::get).sum(),
            accept_proxy: listener.proxy.is_some(),
            routes: listener.preread.iter().flat_map(|preread| preread.routes.iter()).map(route).collect(),
        }
    };
    Ok(Json(Listeners { listeners: view.config.listeners.iter().map(describe).collect() }))
}

fn route(route: &admit::routes::Route<Arc<str>>) -> Route {
    Route {
        sni: route.names.iter().map(ToString::to_string).collect(),
        alpn: route.protocols.clone(),
        pool: route.pool.clone(),
    }
}

pub(super) async fn pools(State(admin): State<Admin>) -> Answer<Pools> {
    let view = Viewer::look(&admin).await?;
    Ok(Json(Pools { pools: view.all.fleet.pools.iter().map(|pool| view.pool(pool)).collect() }))
}

pub(super) async fn pool(State(admin): State<Admin>, Path(name): Path<String>) -> Answer<Pool> {
    let view = Viewer::look(&admin).await?;
    Ok(Json(view.pool(view.find(&name)?)))
}

pub(super) async fn backends(State(admin): State<Admin>, Path(pool): Path<String>) -> Answer<Backends> {
    let view = Viewer::look(&admin).await?;
    let backends = view.find(&pool)?.backends.iter().map(|backend| view.backend(backend)).collect();
    Ok(Json(Backends { backends }))
}

pub(super) async fn backend(State(admin): State<Admin>, Path((pool, name)): Path<(String, String)>) -> Answer<Detail> {
    let view = Viewer::look(&admin).await?;
    let pool = view.find(&pool)?;
    // Of one that is gone and another that has its name now, the other is meant.
    let named = || pool.backends.iter().filter(|backend| *backend.name == *name);
    let found = named().find(|backend| !backend.is_gone).or_else(|| named().next());
    let backend =
        found.ok_or_else(|| Refusal::unknown(format!("there is no backend {name} in the pool {}", pool.name)))?;
    Ok(Json(view.detail(pool, backend)))
}

/// Everything an answer is made of.
struct Viewer<'a> {
    admin: &'a Admin,
    all: command::View,
    /// What a clock on the wall showed when it was made.
    wall: SystemTime,
}

impl Viewer<'_> {
    async fn look(admin: &Admin) -> Result<Viewer<'_>, Refusal> {
        let all = admin.asker.show().await?;
        Ok(Viewer { admin, wall: admin.clock.wall(all.fleet.now), all })
    }

    /// A pool of that name; of one that is gone and another that has its name now, the other.
    fn find(&self, name: &str) -> Result<&PoolView, Refusal> {
        let named = || self.all.fleet.pools.iter().filter(|pool| *pool.name == *name);
        let found = named().find(|pool| !pool.is_gone).or_else(|| named().next());
        found.ok_or_else(|| Refusal::unknown(format!("there is no pool {name}")))
    }

    fn configured(&self, pool: &PoolView) -> Option<&model::Pool> {
        self.config().pools.iter().find(|configured| configured.name == pool.name && !pool.is_gone)
    }

    fn config(&self) -> &Config {
        &self.all.config
    }

    fn pool(&self, pool: &PoolView) -> Pool {
        let configured = self.configured(pool);
        let backends: Vec<Backend> = pool.backends.iter().map(|backend| self.backend(backend)).collect();
        let listeners = self.config().listeners.iter();
        let own = listeners.filter(|listener| listener.pools().any(|name| *name == pool.name) && !pool.is_gone);
        let PoolId(slot) = pool.id;
        let cells = self.admin.stats.workers.iter().filter_map(|worker| worker.pools.existing(slot as usize));
        Pool {
            name: pool.name.clone(),
            balance: configured.map(|pool| pool.balance.name()),
            listeners: own.map(|listener| listener.name.clone()).collect(),
            check: configured.and_then(check),
            backends_up: pool.backends.iter().filter(|backend| backend.takes_sessions()).count(),
            backends_standby: pool.backends.iter().filter(|backend| backend.state == health::State::Standby).count(),
            connections: backends.iter().map(|backend| u64::from(backend.connections)).sum(),
            connections_total: backends.iter().map(|backend| backend.connections_total).sum(),
            queue_length: self.admin.counts.queue(pool.id).waiting().into(),
            refused_total: cells.map(|cells| cells.refused_total.get()).sum(),
            removed: pool.is_gone,
            backends,
        }
    }

    fn backend(&self, backend: &BackendView) -> Backend {
        let BackendId(slot) = backend.id;
        let workers = &self.admin.stats.workers;
        let cells = || workers.iter().filter_map(move |worker| worker.backends.existing(slot as usize));
        let sum = |number: fn(&BackendCells) -> &Counter| cells().map(|cells| number(cells).get()).sum();
        let errors = |cells: &BackendCells| cells.connect_errors.iter().map(Counter::get).sum::<u64>();
        let now = self.all.fleet.now;
        Backend {
            name: backend.name.clone(),
            address: backend.address.as_ref().map(ToString::to_string),
            state: backend.state.name(),
            reason: backend.reason.clone(),
            since: self.wall(backend.since),
            since_ms: ms(now.since_ns(backend.since)),
            weight: backend.weight,
            backup: backend.backup,
            connections: self.admin.counts.connections(backend.id),
            connections_max: backend.connections_max.map_or(0, std::num::NonZeroU32::get),
            connections_total: sum(|cells| &cells.connections_total),
            connect_errors_total: cells().map(errors).sum(),
            hangups_total: sum(|cells| &cells.hangups),
            sessions_cut_total: sum(|cells| &cells.sessions_cut_total),
            bytes_to_backend: sum(|cells| &cells.bytes_to_backend),
            bytes_to_client: sum(|cells| &cells.bytes_to_client),
            checks: self.checks(backend.id),
            set_by_hand: backend.set_by_hand.clone(),
            drain_left_ms: backend.drain_until.map(|until| ms(until.since_ns(now))),
            removed: backend.is_gone,
        }
    }

    fn checks(&self, BackendId(slot): BackendId) -> Checks {
        let Some(cells) = self.admin.stats.control.backends.existing(slot as usize) else {
            return Checks::default();
        };
        let mut took = Distribution::default();
        cells.check_ns.add_to(&mut took);
        let count = took.count();
        let mean_ms = (count > 0).then(|| took.sum_ns as f64 / count as f64 / 1e6);
        Checks {
            success_total: cells.success.get(),
            failure_total: cells.failure.get(),
            refused_total: cells.refused.get(),
            unknown_total: cells.unknown.get(),
            mean_ms,
        }
    }

    fn detail(&self, pool: &PoolView, backend: &BackendView) -> Detail {
        let now = self.all.fleet.now;
        let past = backend.history.iter().map(|past| Past {
            state: past.state.name(),
            reason: past.reason.clone(),
            since: self.wall(past.since),
            since_ms: ms(now.since_ns(past.since)),
        });
        let lines = backend
            .transcript
            .as_ref()
            .map(|lines| lines.iter().map(|(at_ms, text)| Line { at_ms: *at_ms, text: text.clone() }).collect());
        Detail {
            pool: pool.name.clone(),
            backend: self.backend(backend),
            history: past.collect(),
            check: self.configured(pool).and_then(check),
            transcript: lines,
        }
    }

    fn wall(&self, at: Moment) -> String {
        let ago = Duration::from_nanos(self.all.fleet.now.since_ns(at));
        humantime::format_rfc3339_millis(self.wall.checked_sub(ago).unwrap_or(self.wall)).to_string()
    }
}

fn check(pool: &model::Pool) -> Option<Check> {
    let check = pool.check.as_ref()?;
    Some(Check {
        kind: check.kind.name(),
        interval_ms: check.interval.as_millis(),
        timeout_ms: check.timeout.as_millis(),
        rise: check.rise,
        fall: check.fall,
        role: check.role.map(|role| role.name()),
    })
}

fn ms(ns: u64) -> u64 {
    ns / 1_000_000
}
