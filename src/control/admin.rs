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
mod take_over;
mod view;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::command::Asker;
use crate::admit::routes::NamePattern;
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
            Phase::Leaving { .. } => Err("leaving\n"),
            Phase::Draining { .. } => Err("draining\n"),
            Phase::Stopping => Err("stopping\n"),
            Phase::Serving if self.stats.workers.iter().all(|worker| worker.worker.running.get() != 0) => Ok(()),
            Phase::Serving => Err("starting\n"),
        }
    }
}

/// Both places where it is served.
pub(super) struct Servers {
    listen: Option<tokio::net::TcpListener>,
    /// Names that it may be asked by.
    hosts: Arc<[NamePattern]>,
    socket: Option<tokio::net::UnixListener>,
    /// Removed on the way out.
    file: Option<socket::File>,
    /// Of both, for another ringway.
    lent: Vec<Arc<OwnedFd>>,
    closed: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Nothing is served yet. Fails only if a socket cannot be used.
    pub(super) fn new(
        listen: Option<TcpListener>,
        hosts: &[NamePattern],
        socket: Option<Socket>,
    ) -> std::io::Result<Servers> {
        let (socket, file) = socket.map(Socket::split).unzip();
        let mut lent: Vec<Arc<OwnedFd>> = Vec::new();
        if let Some(listen) = &listen {
            listen.set_nonblocking(true)?;
            lent.push(Arc::new(listen.try_clone()?.into()));
        }
        if let Some(socket) = &socket {
            socket.set_nonblocking(true)?;
            lent.push(Arc::new(socket.try_clone()?.into()));
        }
        let listen = listen.map(tokio::net::TcpListener::from_std).transpose()?;
        let socket = socket.map(tokio::net::UnixListener::from_std).transpose()?;
        Ok(Servers {
            listen,
            hosts: hosts.into(),
            socket,
            file,
            lent,
            closed: watch::Sender::new(false),
            tasks: Vec::new(),
        })
    }

    /// Serves, for as long as the runtime lives or until it is closed: reads on `admin.listen`, everything on
    /// `admin.socket`.
    pub(super) fn begin(&mut self, admin: Admin) {
        if let Some(listener) = self.listen.take() {
            let hosts = middleware::from_fn_with_state(self.hosts.clone(), only_known_hosts);
            let router = router(admin.clone()).layer(middleware::from_fn(only_reads)).layer(hosts);
            let who = |_: &_| Who("admin.listen".into());
            self.tasks.push(tokio::spawn(server::serve(listener, router, who, self.closed.subscribe())));
        }
        if let Some(listener) = self.socket.take() {
            self.tasks.push(tokio::spawn(server::serve(listener, router(admin), user, self.closed.subscribe())));
        }
        if let Some(Err(error)) = self.file.as_ref().map(socket::File::set_mode) {
            tracing::warn!(%error, "admin.socket keeps its permissions");
        }
    }

    /// The sockets themselves.
    pub(super) fn lend(&self) -> &[Arc<OwnedFd>] {
        &self.lent
    }

    /// Serves no more, because another ringway does.
    pub(super) async fn close(&mut self) {
        self.closed.send_replace(true);
        self.lent.clear();
        for task in self.tasks.drain(..) {
            let _ = task.await; // it only ends
        }
        if let Some(file) = self.file.take() {
            file.leave();
        }
    }
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
        .route(super::take_over::PATH, post(take_over::take_over))
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

/// A web page can have its own name lead to this address, and then its visitors' browsers read here on its behalf (DNS
/// rebinding). They say that name. What scrapes and probes need says nothing of clients, and is for everybody.
async fn only_known_hosts(State(hosts): State<Arc<[NamePattern]>>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), "/metrics" | "/live" | "/ready");
    let asked = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if is_open || asked.is_none_or(|host| is_known(host, &hosts)) {
        return next.run(request).await;
    }
    let message = "this host name is not known here: ask by the address, or add the name to admin.hosts";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

/// Whether a Host header has an address, localhost, or one of these names.
fn is_known(host: &str, names: &[NamePattern]) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let host = authority.host().to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || names.iter().any(|name| name.matches(&host))
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
