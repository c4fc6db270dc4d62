//! The admin server. On `admin.listen` it only answers, so it needs no protection beyond where it listens; on
//! `admin.socket`, which the mode of its file protects, it also does what it is told.
//!
//! Most answers are sums of cells that workers write, and cost no worker anything. Lists of sessions are asked for, and
//! workers answer between other things ([`roster`]).

mod answer;
mod change;
pub mod command;
mod history;
mod metrics;
mod page;
mod server;
mod sessions;
mod socket;
mod view;
pub mod words;

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

use crate::admit::routes::NamePattern;
use crate::balance::Counts;
use crate::base::time::Clock;
use crate::kernel::driver::ChosenDriver;
use crate::roster;
use crate::snapshot::cell::Cell;
use crate::snapshot::table::Phase;
use crate::stats::Stats;
use crate::sys::watched_file::WatchedFile;
pub use answer::Refusal;
use command::Asker;
use server::Asking;

/// Content type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of the body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

pub use socket::Socket;

/// Asks the worker of that number about its sessions.
pub type AskWorker = Arc<dyn Fn(usize, roster::RosterRequest) + Send + Sync>;

/// What the server answers from.
#[derive(Clone)]
pub struct ApiContext {
    /// The tables.
    pub cell: Arc<Cell>,
    /// What workers count.
    pub stats: Arc<Stats>,
    /// What workers share.
    pub counts: Arc<Counts>,
    /// Limit on open client connections; 0 is none.
    pub connections_max: u64,
    /// What the workers run on.
    pub io: ChosenDriver,
    /// Asks a worker.
    pub ask: AskWorker,
    /// Asks control.
    pub asker: Asker,
    /// The process's clock.
    pub clock: Clock,
}

impl ApiContext {
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
pub struct Servers {
    listen: Option<tokio::net::TcpListener>,
    /// Names that it may be asked by.
    hosts: Arc<[NamePattern]>,
    socket: Option<tokio::net::UnixListener>,
    /// Of `socket`, and its mode.
    file: Option<(WatchedFile, u32)>,
    /// `listen` and `socket`, for another ringway.
    lent: [Option<Arc<OwnedFd>>; 2],
    closed: watch::Sender<bool>,
    /// What is served beside the API.
    more: Router<ApiContext>,
    /// Who serve `listen` and `socket`.
    tasks: [Option<JoinHandle<()>>; 2],
}

impl Servers {
    /// Nothing is served yet. `more` are routes beside those of the API. Fails only if a socket cannot be used.
    pub fn new(
        listen: Option<TcpListener>,
        hosts: &[NamePattern],
        socket: Option<Socket>,
        more: Router<ApiContext>,
    ) -> std::io::Result<Servers> {
        let mut servers = Servers {
            listen: None,
            hosts: hosts.into(),
            socket: None,
            file: None,
            lent: [None, None],
            closed: watch::Sender::new(false),
            more,
            tasks: [None, None],
        };
        if let Some(listen) = listen {
            listen.set_nonblocking(true)?;
            servers.lent[0] = Some(Arc::new(listen.try_clone()?.into()));
            servers.listen = Some(tokio::net::TcpListener::from_std(listen)?);
        }
        if let Some(Socket { listener, file, mode }) = socket {
            servers.file = Some((WatchedFile::new(file), mode));
            servers.use_socket(listener)?;
        }
        Ok(servers)
    }

    fn use_socket(&mut self, socket: std::os::unix::net::UnixListener) -> std::io::Result<()> {
        socket.set_nonblocking(true)?;
        self.lent[1] = Some(Arc::new(socket.try_clone()?.into()));
        self.socket = Some(tokio::net::UnixListener::from_std(socket)?);
        Ok(())
    }

    /// Serves, for as long as the runtime lives or until it is closed: reads on `admin.listen`, everything on
    /// `admin.socket`.
    pub fn begin(&mut self, admin: ApiContext) {
        if let Some(listener) = self.listen.take() {
            let hosts = middleware::from_fn_with_state(self.hosts.clone(), only_known_hosts);
            let router = router(admin.clone(), self.more.clone()).layer(middleware::from_fn(only_reads)).layer(hosts);
            let who = |_: &_| Asking("admin.listen".into());
            self.tasks[0] = Some(tokio::spawn(server::serve(listener, router, who, self.closed.subscribe())));
        }
        self.serve_socket(admin);
        let Some((file, mode)) = &self.file else { return };
        file.file().claim();
        if let Err(error) = socket::set_mode(file.file().path(), *mode) {
            tracing::warn!(%error, "cannot change the permissions of admin.socket: the old ones stay");
        }
    }

    fn serve_socket(&mut self, admin: ApiContext) {
        if let Some(listener) = self.socket.take() {
            let serving =
                tokio::spawn(server::serve(listener, router(admin, self.more.clone()), user, self.closed.subscribe()));
            if let Some(before) = self.tasks[1].replace(serving) {
                before.abort(); // its connections go on
            }
        }
    }

    /// Binds `admin.socket` anew if its file was removed.
    pub fn mend(&mut self, admin: &ApiContext) {
        let Some((file, mode)) = &mut self.file else { return };
        let path = file.file().path().to_path_buf();
        // The new file is `file`'s to keep.
        let bound = file.mend(|| socket::bind(&path, *mode));
        match bound.map(|socket| self.use_socket(socket)) {
            None => {}
            Some(Ok(())) => self.serve_socket(admin.clone()),
            Some(Err(error)) => tracing::error!(%error, "admin.socket cannot be used"),
        }
    }

    /// The sockets themselves.
    pub fn lend(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.lent.iter().flatten()
    }

    /// Serves no more, because another ringway does.
    pub async fn close(&mut self) {
        self.closed.send_replace(true);
        self.lent = [None, None];
        for task in self.tasks.iter_mut().filter_map(Option::take) {
            let _ = task.await; // it only ends
        }
        if let Some((file, _)) = self.file.take() {
            file.file().share();
        }
    }
}

/// The user of the process at the other end.
fn user(peer: &tokio::net::UnixStream) -> Asking {
    let uid = peer.peer_cred().map(|peer| peer.uid());
    Asking(uid.map_or_else(|_| "admin.socket".into(), |uid| format!("uid {uid}").into()))
}

fn router(admin: ApiContext, more: Router<ApiContext>) -> Router {
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
        .route("/v1/history", get(history::history))
        .route("/v1/sessions", get(sessions::list).delete(sessions::kill_many))
        .route("/v1/sessions/{id}", delete(sessions::kill_one))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .merge(more)
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

async fn ready(State(admin): State<ApiContext>) -> Response {
    match admin.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(admin): State<ApiContext>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, PROMETHEUS)], metrics::render(&admin))
}

#[cfg(test)]
mod tests;
