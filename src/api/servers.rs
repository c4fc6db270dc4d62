//! The places of `[admin]`: what each one serves, from the start until another ringway serves instead.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::server::{self, Asking};
use super::socket::{self, Socket};
use super::{ApiContext, only_known_hosts, only_reads, probes, router};
use crate::admit::routes::NamePattern;
use crate::sys::watched_file::WatchedFile;

/// The sockets of `[admin]`. Each one is `None` if it is not configured.
#[derive(Default)]
pub struct AdminSockets {
    /// `admin.listen`.
    pub listen: Option<TcpListener>,
    /// `admin.probes`.
    pub probes: Option<TcpListener>,
    /// `admin.socket`.
    pub socket: Option<Socket>,
}

/// A TCP place: `admin.listen` or `admin.probes`.
#[derive(Default)]
struct Place {
    /// The socket, until it is served.
    listener: Option<tokio::net::TcpListener>,
    /// A duplicate of the socket, to lend to another ringway.
    lent: Option<Arc<OwnedFd>>,
    /// The task that serves it.
    task: Option<JoinHandle<()>>,
}

impl Place {
    fn new(socket: Option<TcpListener>) -> std::io::Result<Place> {
        let Some(socket) = socket else { return Ok(Place::default()) };
        socket.set_nonblocking(true)?;
        let lent = Some(Arc::new(socket.try_clone()?.into()));
        Ok(Place { listener: Some(tokio::net::TcpListener::from_std(socket)?), lent, task: None })
    }

    /// Starts the task, if there is a socket that is not served yet.
    fn begin(&mut self, router: impl FnOnce() -> Router, asking: AskingOver, closed: &watch::Sender<bool>) {
        if let Some(listener) = self.listener.take() {
            self.task = Some(tokio::spawn(server::serve(listener, router(), asking, closed.subscribe())));
        }
    }
}

/// Names the user of a connection over TCP, by the place.
type AskingOver = fn(&tokio::net::TcpStream) -> Asking;

/// The servers in all places.
pub struct Servers {
    /// `admin.listen`.
    listen: Place,
    /// Names by which `admin.listen` can be asked, besides addresses and localhost.
    hosts: Arc<[NamePattern]>,
    /// `admin.probes`.
    probes: Place,
    /// `admin.socket`, until it is served.
    socket: Option<tokio::net::UnixListener>,
    /// The file of `socket` and the mode that it must have.
    file: Option<(WatchedFile, u32)>,
    /// A duplicate of `socket`, to lend to another ringway.
    lent_socket: Option<Arc<OwnedFd>>,
    /// The task that serves `socket`.
    socket_task: Option<JoinHandle<()>>,
    /// Becomes true when another ringway serves.
    closed: watch::Sender<bool>,
    /// Routes that are served beside those of the API.
    more: Router<ApiContext>,
}

impl Servers {
    /// Prepares all places; nothing is served before [`Servers::begin`]. `more` are routes beside those of the API.
    ///
    /// # Errors
    /// A socket cannot be used with this runtime.
    pub fn new(sockets: AdminSockets, hosts: &[NamePattern], more: Router<ApiContext>) -> std::io::Result<Servers> {
        let mut servers = Servers {
            listen: Place::new(sockets.listen)?,
            hosts: hosts.into(),
            probes: Place::new(sockets.probes)?,
            socket: None,
            file: None,
            lent_socket: None,
            socket_task: None,
            closed: watch::Sender::new(false),
            more,
        };
        if let Some(Socket { listener, file, mode }) = sockets.socket {
            servers.file = Some((WatchedFile::new(file), mode));
            servers.use_socket(listener)?;
        }
        Ok(servers)
    }

    /// Serves from this unix socket from now on, and lends it.
    fn use_socket(&mut self, socket: std::os::unix::net::UnixListener) -> std::io::Result<()> {
        socket.set_nonblocking(true)?;
        self.lent_socket = Some(Arc::new(socket.try_clone()?.into()));
        self.socket = Some(tokio::net::UnixListener::from_std(socket)?);
        Ok(())
    }

    /// Starts to serve: reads on `admin.listen`, the two probes on `admin.probes`, everything on `admin.socket`. It
    /// goes on until [`Servers::close`] or the end of the runtime.
    pub fn begin(&mut self, admin: ApiContext) {
        let hosts = middleware::from_fn_with_state(self.hosts.clone(), only_known_hosts);
        let reads = || router(admin.clone(), self.more.clone()).layer(middleware::from_fn(only_reads)).layer(hosts);
        self.listen.begin(reads, |_| Asking("admin.listen".into()), &self.closed);
        self.probes.begin(|| probes(admin.clone()), |_| Asking("admin.probes".into()), &self.closed);
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
            if let Some(before) = self.socket_task.replace(serving) {
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

    /// The sockets of all places, for another ringway.
    pub fn lend(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        [&self.listen.lent, &self.probes.lent, &self.lent_socket].into_iter().flatten()
    }

    /// Stops serving, because another ringway does from now on.
    pub async fn close(&mut self) {
        self.closed.send_replace(true);
        for lent in [&mut self.listen.lent, &mut self.probes.lent, &mut self.lent_socket] {
            *lent = None;
        }
        for task in [&mut self.listen.task, &mut self.probes.task, &mut self.socket_task] {
            if let Some(task) = task.take() {
                let _ = task.await; // it only ends
            }
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
