//! The sockets of `[admin]`: taken from the ringway before or from the service manager, else bound.

use std::net::{SocketAddr, TcpListener};

use super::listeners::{self, BoundListeners};
use crate::api::{self, AdminSockets};
use crate::base::address::{Address, BindAddress};
use crate::config::model::Admin;

/// Has each socket that `[admin]` asks for.
///
/// # Errors
/// The key, the address, why it cannot be used, and the remedy.
pub(super) fn bind(admin: &Admin, listeners: &mut BoundListeners) -> anyhow::Result<AdminSockets> {
    let mut tcp = |key, address: Option<_>| address.map(|address| bind_tcp(key, address, listeners)).transpose();
    let (listen, probes) = (tcp("admin.listen", admin.listen)?, tcp("admin.probes", admin.probes)?);
    Ok(AdminSockets { listen, probes, socket: bind_unix(admin, listeners)? })
}

fn bind_tcp(key: &str, address: SocketAddr, listeners: &mut BoundListeners) -> anyhow::Result<TcpListener> {
    let place = BindAddress::everywhere(Address::Tcp(address));
    match listeners.take(&place) {
        Some(fd) => Ok(fd.into()),
        None => TcpListener::bind(address).map_err(|error| listeners::refusal(key, &place, &error)),
    }
}

fn bind_unix(admin: &Admin, listeners: &mut BoundListeners) -> anyhow::Result<Option<api::Socket>> {
    let Some(path) = &admin.socket else { return Ok(None) };
    let (place, mode) = (BindAddress::everywhere(Address::Unix(path.clone())), admin.socket_mode);
    let socket = match listeners.take(&place) {
        Some(fd) => api::Socket::adopt(fd, path, mode),
        None => api::Socket::bind(path, mode),
    };
    socket.map(Some).map_err(|error| listeners::refusal("admin.socket", &place, &error))
}
