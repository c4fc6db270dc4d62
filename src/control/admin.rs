//! The admin server. On `admin.listen` it only answers, so it needs no protection beyond where it listens; on
//! `admin.socket`, which the mode of its file protects, it also does what it is told.
//!
//! Most answers are sums of cells that workers write, and cost no worker anything. Lists of sessions are asked for, and
//! workers answer between other things ([`roster`]).

mod answer;
mod change;
mod metrics;
mod page;
mod server;
mod sessions;
mod socket;
mod view;

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use super::command::Asker;
use crate::balance::Counts;
use crate::base::time::Clock;
use crate::roster;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Phase;
use crate::stats::Stats;
use answer::Refusal;
use server::Who;

/// Content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of the body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

pub use socket::Socket;

/// Asks the worker of that number about its sessions.
pub type AskWorker = Arc<dyn Fn(usize, roster::Request) + Send + Sync>;

/// What the server answers from.
#[derive(Clone)]
pub struct Admin {
    /// The tables.
    pub cell: Arc<Cell>,
    /// What workers count.
    pub stats: Arc<Stats>,
    /// What workers share.
    pub counts: Arc<Counts>,
    /// Limit on open client connections; 0 is none.
    pub connections_max: u64,
    /// Asks a worker.
    pub ask: AskWorker,
    /// Asks control.
    pub asker: Asker,
    /// The process's clock.
    pub clock: Clock,
}

impl Admin {
    /// Whether clients are accepted: the phase says so and every worker runs; else why not.
    fn ready(&self) -> Result<(), &'static str> {
        match self.cell.reader().pin().phase {
            Phase::Draining { .. } => Err("draining\n"),
            Phase::Stopping => Err("stopping\n"),
            Phase::Serving if self.stats.workers.iter().all(|worker| worker.worker.running.get() != 0) => Ok(()),
            Phase::Serving => Err("starting\n"),
        }
    }
}

/// Serves reads on `listener` for as long as the runtime lives. Fails only if the socket cannot be used.
pub(super) async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(admin).layer(middleware::from_fn(only_reads));
    tokio::spawn(server::serve(listener, router, |_| Who("admin.listen".into())));
    Ok(())
}

/// Serves everything on `socket`, likewise. Its file goes with what is returned.
pub(super) fn serve_all(socket: Socket, admin: Admin) -> std::io::Result<socket::File> {
    let (listener, file) = socket.split();
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    tokio::spawn(server::serve(listener, router(admin), user));
    Ok(file)
}

/// The user of the process at the other end.
fn user(peer: &tokio::net::UnixStream) -> Who {
    let uid = peer.peer_cred().map(|peer| peer.uid());
    Who(uid.map_or_else(|_| "admin.socket".into(), |uid| format!("uid {uid}").into()))
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/v1/status", get(view::status))
        .route("/v1/listeners", get(view::listeners))
        .route("/v1/pools", get(view::pools))
        .route("/v1/pools/{pool}", get(view::pool))
        .route("/v1/pools/{pool}/backends", get(view::backends))
        .route("/v1/pools/{pool}/backends/{backend}", get(view::backend).patch(change::set))
        .route("/v1/reload", post(change::reload))
        .route("/v1/sessions", get(sessions::list).delete(sessions::kill_many))
        .route("/v1/sessions/{id}", delete(sessions::kill_one))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(admin)
}

async fn nothing_here(request: Request) -> Refusal {
    Refusal::unknown(format!(
        "there is no {}; there is /, /v1/status, /metrics, /live and /ready",
        request.uri().path()
    ))
}

async fn not_so(request: Request) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}"))
}

/// Writes are refused before anything looks at the path.
async fn only_reads(request: Request, next: Next) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => next.run(request).await,
        _ => {
            Refusal::new(StatusCode::FORBIDDEN, "admin.listen only answers; changes go to admin.socket").into_response()
        }
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, PROMETHEUS)], metrics::render(&admin))
}

#[cfg(test)]
mod tests;
