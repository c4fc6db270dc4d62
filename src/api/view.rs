//! The handlers that show something: the process, its listeners, pools and backends, as JSON.
//!
//! An answer is put together from three sources: the configuration in use and the state of each backend, which control
//! hands out ([`command::View`]); the counters of all workers, which are added up here; and the published table, for
//! ids. The shapes of the answers are in [`words`](super::words).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, State};

use super::ApiContext;
use super::answer::{ApiResult, Refusal};
use super::words::{
    BackendDetail, BackendStatus, Backends, CheckCounts, CheckLine, CheckSettings, DiscoveryStatus, ListenerShare,
    ListenerStatus, Listeners, PastState, PoolStatus, Pools, ProcessLimits, RouteStatus, ShareStatus, Status,
    WorkerStatus,
};
use crate::admit;
use crate::api::command::{self, Gone};
use crate::base::id::{BackendId, PoolId};
use crate::base::time::{Moment, ns};
use crate::config::model::{self, Config};
use crate::fleet::{BackendView, PoolView, SourceView};
use crate::health;
use crate::snapshot::table::Phase;
use crate::stats::{BackendCells, Counter, Distribution, WorkerStats};

impl From<Gone> for Refusal {
    fn from(gone: Gone) -> Refusal {
        Refusal::unavailable(gone.to_string())
    }
}

/// `GET /v1/status`: the process and its workers. It reads counters only, so it answers even while control is busy.
pub(super) async fn status(State(admin): State<ApiContext>) -> Json<Status> {
    let phase = match admin.cell.reader().pin().phase {
        Phase::Serving => "serving",
        Phase::Leaving { .. } => "leaving",
        Phase::Draining { .. } => "draining",
        Phase::Stopping => "stopping",
    };
    Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        io: admin.io.driver.name().into(),
        io_reason: admin.io.reason.clone(),
        pid: std::process::id(),
        uptime_ms: ms(admin.clock.now().since_ns(crate::base::time::Clock::ORIGIN)),
        phase: phase.into(),
        generation: admin.stats.control.config_generation.get(),
        table_generation: admin.cell.generation(),
        connections: admin.counts.process_connections(),
        workers: admin.stats.workers.iter().enumerate().map(worker).collect(),
        limits: ProcessLimits { connections_max: admin.connections_max },
    })
}

/// What is said of one worker.
fn worker((number, stats): (usize, &WorkerStats)) -> WorkerStatus {
    let cells = &stats.worker;
    WorkerStatus {
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

/// `GET /v1/listeners`: the configured listeners with their counters.
pub(super) async fn listeners(State(admin): State<ApiContext>) -> ApiResult<Listeners> {
    let view = admin.asker.show().await?;
    let reader = admin.cell.reader();
    let table = reader.pin();
    let describe = |listener: &model::Listener| {
        let entry = table.listeners.iter().flatten().find(|entry| entry.name == listener.name);
        let cells = || entry.into_iter().flat_map(|entry| admin.stats.of_listener(entry.id));
        ListenerStatus {
            name: listener.name.clone(),
            bind: listener.binds.iter().map(ToString::to_string).collect(),
            interface: listener.interface.clone().unwrap_or_default(),
            pool: if listener.has_pool { listener.pool.clone() } else { Arc::default() },
            split: split(&listener.split),
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

/// What is said of one route, by server name and protocol.
fn route(route: &admit::routes::Route<model::Lead>) -> RouteStatus {
    RouteStatus {
        sni: route.names.iter().map(ToString::to_string).collect(),
        alpn: route.protocols.clone(),
        pool: route.pool.pool.clone(),
        split: split(&route.pool.split),
    }
}

/// The share of a pool in the clients of a listener; `None` if that does not divide them, or not with this pool.
fn share(listener: &model::Listener, pool: &str) -> Option<ListenerShare> {
    let weight = listener.split.iter().find(|share| *share.pool == *pool)?.weight;
    let of = listener.split.iter().map(|share| u32::from(share.weight)).sum();
    Some(ListenerShare { listener: listener.name.clone(), weight, of })
}

/// The shares of a split.
fn split(shares: &[model::SplitShare]) -> Vec<ShareStatus> {
    shares.iter().map(|share| ShareStatus { pool: share.pool.clone(), weight: share.weight }).collect()
}

/// `GET /v1/pools`: all pools with their backends.
pub(super) async fn pools(State(admin): State<ApiContext>) -> ApiResult<Pools> {
    let view = Viewer::look(&admin).await?;
    Ok(Json(Pools { pools: view.all.fleet.pools.iter().map(|pool| view.pool(pool)).collect() }))
}

/// `GET /v1/pools/{pool}`: one pool.
pub(super) async fn pool(State(admin): State<ApiContext>, Path(name): Path<String>) -> ApiResult<PoolStatus> {
    let view = Viewer::look(&admin).await?;
    Ok(Json(view.pool(view.find(&name)?)))
}

/// `GET /v1/pools/{pool}/backends`: the backends of one pool.
pub(super) async fn backends(State(admin): State<ApiContext>, Path(pool): Path<String>) -> ApiResult<Backends> {
    let view = Viewer::look(&admin).await?;
    let backends = view.find(&pool)?.backends.iter().map(|backend| view.backend(backend)).collect();
    Ok(Json(Backends { backends }))
}

/// `GET /v1/pools/{pool}/backends/{backend}`: one backend, with its past and its last check.
pub(super) async fn backend(
    State(admin): State<ApiContext>,
    Path((pool, name)): Path<(String, String)>,
) -> ApiResult<BackendDetail> {
    let view = Viewer::look(&admin).await?;
    let pool = view.find(&pool)?;
    // If a new backend has the name of a removed one, the new one is meant.
    let named = || pool.backends.iter().filter(|backend| *backend.name == *name);
    let found = named().find(|backend| !backend.is_gone).or_else(|| named().next());
    let backend = found.ok_or_else(|| {
        Refusal::unknown(format!("there is no backend `{name}` in pool `{}`; see `ringway ctl backends`", pool.name))
    })?;
    Ok(Json(view.detail(pool, backend)))
}

/// What the answers about pools are made of, as of one moment.
struct Viewer<'a> {
    /// What handlers read from.
    admin: &'a ApiContext,
    /// What control said.
    all: command::View,
    /// The time of day at that moment, for texts.
    wall: SystemTime,
    /// By pool: the one that serves its new sessions in its place.
    fallen: HashMap<PoolId, Arc<str>>,
}

impl Viewer<'_> {
    /// Asks control for everything.
    async fn look(admin: &ApiContext) -> Result<Viewer<'_>, Refusal> {
        let all = admin.asker.show().await?;
        let (reader, mut fallen) = (admin.cell.reader(), HashMap::new());
        let table = reader.pin();
        for pool in table.pools.iter().flatten() {
            let fallback = pool.falls_to.and_then(|fallback| table.pool(fallback));
            fallen.extend(fallback.map(|fallback| (pool.id, fallback.name.clone())));
        }
        Ok(Viewer { admin, wall: admin.clock.wall(all.fleet.now), all, fallen })
    }

    /// Finds a pool by name. If a new pool has the name of a removed one, the new one is meant.
    fn find(&self, name: &str) -> Result<&PoolView, Refusal> {
        let named = || self.all.fleet.pools.iter().filter(|pool| *pool.name == *name);
        let found = named().find(|pool| !pool.is_gone).or_else(|| named().next());
        found.ok_or_else(|| Refusal::unknown(format!("there is no pool `{name}`; see `ringway ctl pools`")))
    }

    /// The configuration of a pool; `None` if the pool was removed.
    fn configured(&self, pool: &PoolView) -> Option<&model::Pool> {
        self.config().pools.iter().find(|configured| configured.name == pool.name && !pool.is_gone)
    }

    /// The configuration in use.
    fn config(&self) -> &Config {
        &self.all.config
    }

    /// What is said of one pool.
    fn pool(&self, pool: &PoolView) -> PoolStatus {
        let configured = self.configured(pool);
        let backends: Vec<BackendStatus> = pool.backends.iter().map(|backend| self.backend(backend)).collect();
        let listeners = self.config().listeners.iter();
        let serving = pool.backends.iter().filter(|backend| backend.takes_sessions());
        let own = listeners.filter(|listener| listener.pools().any(|name| *name == pool.name) && !pool.is_gone);
        PoolStatus {
            name: pool.name.clone(),
            balance: configured.map(|pool| pool.balance.name().into()),
            listeners: own.map(|listener| listener.name.clone()).collect(),
            shares: self.config().listeners.iter().filter_map(|listener| share(listener, &pool.name)).collect(),
            check: configured.and_then(check),
            backends_up: pool.backends.iter().filter(|backend| backend.takes_sessions()).count(),
            backends_standby: pool.backends.iter().filter(|backend| backend.state == health::State::Standby).count(),
            connections: backends.iter().map(|backend| u64::from(backend.connections)).sum(),
            connections_total: backends.iter().map(|backend| backend.connections_total).sum(),
            queue_length: self.admin.counts.queue(pool.id).waiting().into(),
            refused_total: self.admin.stats.of_pool(pool.id).map(|cells| cells.refused_total.get()).sum(),
            backup_level: serving.map(|backend| backend.backup).min().unwrap_or(0),
            fallback: configured.and_then(|pool| pool.fallback.clone()),
            up_min: configured.map_or(1, |pool| pool.up_min),
            sticky_ms: configured.map_or(0, |pool| ms(ns(pool.sticky))),
            sticky_evictions_total: self
                .admin
                .stats
                .of_pool(pool.id)
                .map(|cells| cells.sticky_evictions_total.get())
                .sum(),
            falls_back_to: self.fallen.get(&pool.id).cloned(),
            discovery: pool.source.as_ref().map(|source| self.discovery(source)),
            removed: pool.is_gone,
            backends,
        }
    }

    /// What is said of the source of a pool.
    fn discovery(&self, source: &SourceView) -> DiscoveryStatus {
        DiscoveryStatus {
            kind: source.kind.into(),
            place: source.place.clone(),
            up: source.trouble.is_none() && source.confirmed.is_some(),
            trouble: source.trouble.clone(),
            confirmed: source.confirmed.map(|at| self.wall(at)),
            confirmed_ms: source.confirmed.map(|at| ms(self.all.fleet.now.since_ns(at))),
            backends: source.found,
            keeps_empty: source.keeps_empty,
        }
    }

    /// What is said of one backend in a list.
    fn backend(&self, backend: &BackendView) -> BackendStatus {
        let cells = || self.admin.stats.of_backend(backend.id);
        let sum = |number: fn(&BackendCells) -> &Counter| cells().map(|cells| number(cells).get()).sum();
        let now = self.all.fleet.now;
        BackendStatus {
            name: backend.name.clone(),
            address: backend.address.as_ref().map(|address| match backend.port_shift {
                Some(shift) => model::at_client_port(address, shift),
                None => address.to_string(),
            }),
            origin: backend.origin.into(),
            confirmed_ms: backend.confirmed.map(|at| ms(now.since_ns(at))),
            state: backend.state.name().into(),
            reason: backend.reason.clone(),
            since: self.wall(backend.since),
            since_ms: ms(now.since_ns(backend.since)),
            weight: backend.weight,
            backup: backend.backup > 0,
            backup_level: backend.backup,
            connections: self.admin.counts.connections(backend.id),
            connections_max: backend.connections_max.map_or(0, std::num::NonZeroU32::get),
            connections_total: sum(|cells| &cells.connections_total),
            connect_errors_total: cells().map(BackendCells::connects_failed).sum(),
            hangups_total: sum(|cells| &cells.hangups),
            sessions_cut_total: sum(|cells| &cells.sessions_cut_total),
            bytes_to_backend: sum(|cells| &cells.bytes_to_backend),
            bytes_to_client: sum(|cells| &cells.bytes_to_client),
            checks: self.checks(backend.id),
            set_by_hand: backend.set_by_hand.iter().map(|key| (*key).into()).collect(),
            drain_left_ms: backend.drain_until.map(|until| ms(until.since_ns(now))),
            removed: backend.is_gone,
        }
    }

    /// How often it was checked, and with which results.
    fn checks(&self, id: BackendId) -> CheckCounts {
        let Some(cells) = self.admin.stats.control.backends.existing(id.index()) else {
            return CheckCounts::default();
        };
        let mut took = Distribution::default();
        cells.check_ns.add_to(&mut took);
        let count = took.count();
        let mean_ms = (count > 0).then(|| took.sum_ns as f64 / count as f64 / 1e6);
        CheckCounts {
            success_total: cells.success.get(),
            failure_total: cells.failure.get(),
            refused_total: cells.refused.get(),
            unknown_total: cells.unknown.get(),
            mean_ms,
        }
    }

    /// What is said of one backend alone: also its past and the steps of its last check.
    fn detail(&self, pool: &PoolView, backend: &BackendView) -> BackendDetail {
        let now = self.all.fleet.now;
        let past = backend.history.iter().map(|past| PastState {
            state: past.state.name().into(),
            reason: past.reason.clone(),
            since: self.wall(past.since),
            since_ms: ms(now.since_ns(past.since)),
        });
        let lines = backend
            .transcript
            .as_ref()
            .map(|lines| lines.iter().map(|(at_ms, text)| CheckLine { at_ms: *at_ms, text: text.clone() }).collect());
        BackendDetail {
            pool: pool.name.clone(),
            backend: self.backend(backend),
            history: past.collect(),
            check: self.configured(pool).and_then(check),
            transcript: lines,
        }
    }

    /// A moment as UTC, such as `2026-11-28T17:55:35.980Z`.
    fn wall(&self, at: Moment) -> String {
        let ago = Duration::from_nanos(self.all.fleet.now.since_ns(at));
        humantime::format_rfc3339_millis(self.wall.checked_sub(ago).unwrap_or(self.wall)).to_string()
    }
}

/// How a pool is checked; `None` with `type = "off"`.
fn check(pool: &model::Pool) -> Option<CheckSettings> {
    let check = pool.check.as_ref()?;
    Some(CheckSettings {
        kind: check.kind.name().into(),
        interval_ms: ms(ns(check.interval)),
        timeout_ms: ms(ns(check.timeout)),
        rise: check.rise,
        fall: check.fall,
        role: check.role.map(|role| role.name().into()),
    })
}

/// Whole milliseconds.
fn ms(ns: u64) -> u64 {
    ns / 1_000_000
}
