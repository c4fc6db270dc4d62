//! The places of `[admin]`: what each one serves, from the start until another ringway serves instead.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::serve::Listener;
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

/// One of the places.
struct Place<L> {
    /// The socket, until it is served.
    listener: Option<L>,
    /// A duplicate of the socket, to lend to another ringway.
    lent: Option<Arc<OwnedFd>>,
    /// The task that serves it.
    task: Option<JoinHandle<()>>,
}

impl<L: Listener + AsFd> Place<L> {
    /// With this socket, if there is one.
    fn new(listener: Option<L>) -> io::Result<Place<L>> {
        let mut place = Place { listener: None, lent: None, task: None };
        listener.map_or(Ok(()), |listener| place.use_socket(listener))?;
        Ok(place)
    }

    /// Serves from this socket from the next [`Place::begin`] on, and lends it.
    fn use_socket(&mut self, listener: L) -> io::Result<()> {
        self.lent = Some(Arc::new(listener.as_fd().try_clone_to_owned()?));
        self.listener = Some(listener);
        Ok(())
    }

    /// Starts the task, if there is a socket that is not served yet. The task before it ends.
    fn begin(&mut self, router: impl FnOnce() -> Router, asking: fn(&L::Io) -> Asking, closed: &watch::Sender<bool>) {
        if let Some(listener) = self.listener.take() {
            let serving = tokio::spawn(server::serve(listener, router(), asking, closed.subscribe()));
            if let Some(before) = self.task.replace(serving) {
                before.abort(); // its connections go on
            }
        }
    }

    /// Waits for the end of the task, which was told to end.
    async fn end(&mut self) {
        self.lent = None;
        if let Some(task) = self.task.take() {
            let _ = task.await; // it only ends
        }
    }
}

/// A TCP socket as this runtime uses it.
fn tcp(socket: TcpListener) -> io::Result<tokio::net::TcpListener> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}

/// A unix socket as this runtime uses it.
fn unix(socket: std::os::unix::net::UnixListener) -> io::Result<tokio::net::UnixListener> {
    socket.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(socket)
}

/// The servers in all places.
pub struct Servers {
    /// `admin.listen`.
    listen: Place<tokio::net::TcpListener>,
    /// Names by which `admin.listen` can be asked, besides addresses and localhost.
    hosts: Arc<[NamePattern]>,
    /// `admin.probes`.
    probes: Place<tokio::net::TcpListener>,
    /// `admin.socket`.
    socket: Place<tokio::net::UnixListener>,
    /// The file of `socket` and the mode that it must have.
    file: Option<(WatchedFile, u32)>,
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
    pub fn new(sockets: AdminSockets, hosts: &[NamePattern], more: Router<ApiContext>) -> io::Result<Servers> {
        let (socket, file) = match sockets.socket {
            Some(Socket { listener, file, mode }) => (Some(listener), Some((WatchedFile::new(file), mode))),
            None => (None, None),
        };
        Ok(Servers {
            listen: Place::new(sockets.listen.map(tcp).transpose()?)?,
            hosts: hosts.into(),
            probes: Place::new(sockets.probes.map(tcp).transpose()?)?,
            socket: Place::new(socket.map(unix).transpose()?)?,
            file,
            closed: watch::Sender::new(false),
            more,
        })
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

    /// Starts the task of `admin.socket`.
    fn serve_socket(&mut self, admin: ApiContext) {
        self.socket.begin(|| router(admin, self.more.clone()), user, &self.closed);
    }

    /// Binds `admin.socket` again if its file was removed. Called now and then by control.
    pub fn mend(&mut self, admin: &ApiContext) {
        let Some((file, mode)) = &mut self.file else { return };
        let path = file.file().path().to_path_buf();
        // The new file belongs to `file`, which removes it at the end.
        let bound = file.mend(|| socket::bind(&path, *mode));
        match bound.map(|socket| self.socket.use_socket(unix(socket)?)) {
            None => {}
            Some(Ok(())) => self.serve_socket(admin.clone()),
            Some(Err(error)) => {
                tracing::error!(%error, "admin.socket lost its file and cannot be bound again: `ringway ctl` fails")
            }
        }
    }

    /// The sockets of all places, for another ringway.
    pub fn lend(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        [&self.listen.lent, &self.probes.lent, &self.socket.lent].into_iter().flatten()
    }

    /// Stops serving, because another ringway does from now on.
    pub async fn close(&mut self) {
        self.closed.send_replace(true);
        self.listen.end().await;
        self.probes.end().await;
        self.socket.end().await;
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
