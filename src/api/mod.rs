//! The admin server: HTTP with JSON in two places.
//!
//! - `admin.listen` only answers (GET and HEAD), so it needs no protection except the address it listens on.
//! - `admin.socket`, which the mode of its file protects, also changes things.
//!
//! Most answers are sums over counters that workers write anyway, and cost no worker anything. Only lists of sessions
//! are asked of the workers, which answer in slices ([`roster`]). Changes go to control as a [`command`]. What the
//! answers contain is in [`words`], which `ringway ctl` reads too; `docs/api.md` describes it for users.
//!
//! The server runs on control's thread. `take_over` adds its own route (`more`), because this module does not know it.

mod answer;
mod change;
pub mod command;
mod history;
mod metrics;
mod page;
pub mod reading;
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

/// The longest body of a request, in bytes.
const BODY_MAX: usize = 64 * 1024;

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

/// The servers in both places.
pub struct Servers {
    /// `admin.listen`, until it is served.
    listen: Option<tokio::net::TcpListener>,
    /// Names by which `admin.listen` can be asked, besides addresses and localhost.
    hosts: Arc<[NamePattern]>,
    /// `admin.socket`, until it is served.
    socket: Option<tokio::net::UnixListener>,
    /// The file of `socket` and the mode that it must have.
    file: Option<(WatchedFile, u32)>,
    /// Duplicates of `listen` and `socket`, to lend to another ringway.
    lent: [Option<Arc<OwnedFd>>; 2],
    /// Becomes true when another ringway serves.
    closed: watch::Sender<bool>,
    /// Routes that are served beside those of the API.
    more: Router<ApiContext>,
    /// The tasks that serve `listen` and `socket`.
    tasks: [Option<JoinHandle<()>>; 2],
}

impl Servers {
    /// Prepares both places; nothing is served before [`Servers::begin`]. `more` are routes beside those of the API.
    ///
    /// # Errors
    /// A socket cannot be used with this runtime.
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

    /// Serves from this socket from now on, and lends it.
    fn use_socket(&mut self, socket: std::os::unix::net::UnixListener) -> std::io::Result<()> {
        socket.set_nonblocking(true)?;
        self.lent[1] = Some(Arc::new(socket.try_clone()?.into()));
        self.socket = Some(tokio::net::UnixListener::from_std(socket)?);
        Ok(())
    }

    /// Starts to serve: reads on `admin.listen`, everything on `admin.socket`. It goes on until [`Servers::close`] or
    /// the end of the runtime.
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

    /// Starts the task of `admin.socket`. The task before it ends, but its connections go on.
    fn serve_socket(&mut self, admin: ApiContext) {
        if let Some(listener) = self.socket.take() {
            let serving =
                tokio::spawn(server::serve(listener, router(admin, self.more.clone()), user, self.closed.subscribe()));
            if let Some(before) = self.tasks[1].replace(serving) {
                before.abort(); // its connections go on
            }
        }
    }

    /// Binds `admin.socket` again if its file was removed. Called now and then by control.
    pub fn mend(&mut self, admin: &ApiContext) {
        let Some((file, mode)) = &mut self.file else { return };
        let path = file.file().path().to_path_buf();
        // The new file belongs to `file`, which removes it at the end.
        let bound = file.mend(|| socket::bind(&path, *mode));
        match bound.map(|socket| self.use_socket(socket)) {
            None => {}
            Some(Ok(())) => self.serve_socket(admin.clone()),
            Some(Err(error)) => {
                tracing::error!(%error, "admin.socket lost its file and cannot be bound again: `ringway ctl` fails")
            }
        }
    }

    /// The sockets of both places, for another ringway.
    pub fn lend(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.lent.iter().flatten()
    }

    /// Stops serving, because another ringway does from now on.
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

/// The user that asks: that of the process at the other end of the unix socket.
fn user(peer: &tokio::net::UnixStream) -> Asking {
    let uid = peer.peer_cred().map(|peer| peer.uid());
    Asking(uid.map_or_else(|_| "admin.socket".into(), |uid| format!("uid {uid}").into()))
}

/// All routes. `admin.listen` gets layers in front of them that refuse changes and unknown host names.
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

/// The answer for a path that does not exist.
async fn nothing_here(request: Request) -> Refusal {
    Refusal::unknown(format!(
        "there is no {}; there is /, /v1/status, /metrics, /live and /ready",
        request.uri().path()
    ))
}

/// The answer for a path that exists but does not take this method.
async fn not_so(request: Request) -> Refusal {
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
