//! The admin server: HTTP with JSON in three places.
//!
//! - `admin.listen` only answers (GET and HEAD), so it needs no protection except the address it listens on.
//! - `admin.probes` answers `/live` and `/ready` alone.
//! - `admin.socket`, which the mode of its file protects, also changes things.
//!
//! Most answers are sums over counters that workers write anyway, and cost no worker anything. Only lists of sessions
//! are asked of the workers, which answer in slices ([`roster`]). Changes go to control as a [`command`]. What the
//! answers contain is in [`words`], which `ringway ctl` reads too; `docs/api.md` describes it for users.
//!
//! The server runs on control's thread. `take_over` adds its own route (`more`), because this module does not know it.

mod answer;
mod certificates;
mod change;
pub mod command;
mod history;
mod metrics;
mod page;
pub mod reading;
mod server;
mod servers;
mod sessions;
mod socket;
mod view;
pub mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};

use crate::admit::routes::NamePattern;
use crate::balance::Counts;
use crate::base::time::Clock;
use crate::kernel::driver::ChosenDriver;
use crate::roster;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Phase;
use crate::stats::Stats;
pub use answer::Refusal;
use command::Asker;

/// Content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The longest configuration in a request, in bytes.
const CONFIG_MAX: usize = 16 << 20;
/// The longest other body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

pub use servers::{AdminSockets, Servers};
pub use socket::Socket;

/// Puts a request about its sessions into the mailbox of the worker with this number.
pub type AskWorker = Arc<dyn Fn(usize, roster::RosterRequest) + Send + Sync>;

/// Everything that handlers read from or ask. Cheap to clone.
#[derive(Clone)]
pub struct ApiContext {
    /// Where the published table is.
    pub cell: Arc<Cell>,
    /// What the workers have counted.
    pub stats: Arc<Stats>,
    /// What the workers count together: open sessions, queues.
    pub counts: Arc<Counts>,
    /// The limit on open client connections; 0 means none.
    pub connections_max: u64,
    /// What the workers run on, and why.
    pub io: ChosenDriver,
    /// Asks a worker about its sessions.
    pub ask: AskWorker,
    /// Asks control for changes and for what it knows.
    pub asker: Asker,
    /// The process's clock.
    pub clock: Clock,
}

impl ApiContext {
    /// Whether clients are accepted: the process serves and every worker runs. The error is the text of `/ready` that
    /// says why not.
    fn ready(&self) -> Result<(), &'static str> {
        match self.cell.reader().pin().phase {
            Phase::Leaving { .. } => Err("leaving\n"),
            Phase::Draining { .. } => Err("draining\n"),
            Phase::Stopping => Err("stopping\n"),
            Phase::Serving if self.stats.workers.iter().all(|worker| worker.worker.running.get() != 0) => Ok(()),
            Phase::Serving => Err("starting\n"),
        }
    }
}

/// All routes. `admin.listen` gets layers in front of them that refuse changes and unknown host names.
fn router(admin: ApiContext, more: Router<ApiContext>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/v1/status", get(view::status))
        .route("/v1/listeners", get(view::listeners))
        .route("/v1/certificates", get(certificates::certificates))
        .route("/v1/pools", get(view::pools))
        .route("/v1/pools/{pool}", get(view::pool))
        .route("/v1/pools/{pool}/backends", get(view::backends).post(change::add))
        .route("/v1/pools/{pool}/backends/{backend}", get(view::backend).patch(change::set).delete(change::remove))
        .route("/v1/config", put(change::put).layer(DefaultBodyLimit::max(CONFIG_MAX)))
        .route("/v1/reload", post(change::reload))
        .route("/v1/history", get(history::history))
        .route("/v1/sessions", get(sessions::list).delete(sessions::kill_many))
        .route("/v1/sessions/{id}", delete(sessions::kill_one))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .merge(more)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(admin)
}

/// The routes of `admin.probes`: they say nothing of clients, backends or the configuration, so that the place can be
/// open to a whole network, as a kubelet needs it.
fn probes(admin: ApiContext) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .fallback(async || Refusal::unknown("admin.probes answers /live and /ready alone"))
        .method_not_allowed_fallback(wrong_method)
        .with_state(admin)
}

/// The answer for a path that does not exist.
async fn nothing_here(request: Request) -> Refusal {
    Refusal::unknown(format!(
        "there is no {}; there is /, /v1/status, /metrics, /live and /ready",
        request.uri().path()
    ))
}

/// The answer for a path that exists but does not take this method.
async fn wrong_method(request: Request) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}"))
}

/// Refuses every change before a handler sees it.
async fn only_reads(request: Request, next: Next) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => next.run(request).await,
        _ => {
            Refusal::new(StatusCode::FORBIDDEN, "admin.listen only answers; changes go to admin.socket").into_response()
        }
    }
}

/// Refuses requests whose Host is not known here, as a protection against DNS rebinding: a web page can have its own
/// name lead to this address, and then its visitors' browsers would read here on its behalf, with that name as the
/// Host. `/metrics`, `/live` and `/ready` say nothing of clients and are open for every name.
async fn only_known_hosts(State(hosts): State<Arc<[NamePattern]>>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), "/metrics" | "/live" | "/ready");
    let asked = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if is_open || asked.is_none_or(|host| is_known(host, &hosts)) {
        return next.run(request).await;
    }
    let message = "this host name is not known here: ask by the address, or add the name to admin.hosts";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

/// Whether a Host header is an address, localhost, or one of these names.
fn is_known(host: &str, names: &[NamePattern]) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host().to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || names.iter().any(|name| name.matches(&host))
}

/// `GET /live`: 200 while the process runs.
async fn live() -> &'static str {
    "live\n"
}

/// `GET /ready`: 200 while clients are accepted, else 503 with the reason.
async fn ready(State(admin): State<ApiContext>) -> Response {
    match admin.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

/// `GET /metrics`.
async fn metrics(State(admin): State<ApiContext>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, PROMETHEUS)], metrics::render(&admin))
}

#[cfg(test)]
mod tests;
