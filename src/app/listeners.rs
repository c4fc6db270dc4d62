//! Binding what the configuration names.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::base::address::Address;
use crate::config::model::{Config, Listener};
use crate::snapshot::ids::Ids;
use crate::uring::errno;
use crate::uring::socket::{self, Options};
use crate::worker::{ListenSocket, options_of};

/// After a ringway was killed, the kernel needs a moment to take its ring down, and the ring holds the listeners.
const IN_USE_RETRIES: u32 = 10;
const IN_USE_PAUSE: Duration = Duration::from_millis(50);

/// Everything that is bound.
pub(super) struct Bound {
    /// Of each worker.
    pub sockets: Vec<Vec<ListenSocket>>,
    /// Of each listener, with the ports the kernel chose.
    pub addresses: Vec<(Arc<str>, Address)>,
}

/// Binds all listeners for all workers, or none.
pub(super) fn bind(config: &Config, ids: &Ids, workers: usize) -> anyhow::Result<Bound> {
    let mut bound = Bound { sockets: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for listener in &config.listeners {
        let limits = config.pools.iter().find(|pool| pool.name == listener.pool).map(|pool| pool.limits);
        let options = limits.as_ref().map(options_of).unwrap_or_default();
        let Some(id) = ids.listener(&listener.name) else { continue };
        for address in &listener.binds {
            let at = format!("listeners.{}.bind", listener.name);
            let (first, address) =
                first_socket(listener, address, &options).map_err(|error| refusal(&at, address, &error))?;
            let first = Arc::new(first);
            for (worker, sockets) in bound.sockets.iter_mut().enumerate() {
                let fd = if worker == 0 || matches!(address, Address::Unix(_)) {
                    first.clone()
                } else {
                    let more = socket::listen(&address, listener.backlog, listener.unix_mode, &options);
                    Arc::new(more.map_err(|error| refusal(&at, &address, &error))?)
                };
                sockets.push(ListenSocket { listener: id, fd });
            }
            bound.addresses.push((listener.name.clone(), address));
        }
    }
    Ok(bound)
}

/// The socket of the first worker, and where it is bound.
fn first_socket(listener: &Listener, address: &Address, options: &Options) -> io::Result<(OwnedFd, Address)> {
    let mut attempt = 0;
    let socket = loop {
        // SO_REUSEPORT would let us share the port with another ringway of the same user without a word.
        let result = socket::ensure_unused(address)
            .and_then(|()| socket::listen(address, listener.backlog, listener.unix_mode, options));
        match result {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < IN_USE_RETRIES => {
                attempt += 1;
                std::thread::sleep(IN_USE_PAUSE);
            }
            result => break result?,
        }
    };
    let bound = match address {
        Address::Tcp(_) => socket::local_address(&socket)?,
        Address::Unix(_) => address.clone(),
    };
    Ok((socket, bound))
}

/// One line: what, why, and what to do.
pub(super) fn refusal(key: &str, address: &Address, error: &io::Error) -> anyhow::Error {
    let why = match (error.raw_os_error(), address) {
        (Some(errno::EADDRINUSE), Address::Tcp(tcp)) if is_ephemeral(tcp.port()) => format!(
            "in use; it lies in net.ipv4.ip_local_port_range, so an outgoing connection may have it: choose another \
             port or reserve this one with `sysctl net.ipv4.ip_local_reserved_ports={}`",
            tcp.port()
        ),
        (Some(errno::EADDRINUSE), Address::Tcp(tcp)) => {
            format!("in use by another program (`ss -ltnp 'sport = {}'` shows which)", tcp.port())
        }
        (None, Address::Unix(_)) if error.kind() == io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another path".to_owned()
        }
        (Some(errno::EADDRNOTAVAIL), _) => {
            "no interface of this host has that address (`ip address` shows them)".into()
        }
        (Some(errno::EACCES | errno::EPERM), Address::Tcp(_)) => {
            "not allowed: ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in systemd) or root".into()
        }
        (Some(errno::EACCES | errno::EPERM), Address::Unix(_)) => {
            "not allowed: the directory must be writable for ringway's user".into()
        }
        (Some(errno::ENOENT), Address::Unix(_)) => "its directory does not exist".into(),
        (Some(errno::EMFILE), _) => "too many open descriptors: raise the hard limit (`ulimit -Hn`)".into(),
        _ => error.to_string(),
    };
    anyhow::anyhow!("{key}: cannot listen on {address}: {why}")
}

fn is_ephemeral(port: u16) -> bool {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u16>().ok());
    bounds.next().is_some_and(|low| low <= port) && bounds.next().is_some_and(|high| port <= high)
}
