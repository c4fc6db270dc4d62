//! Listening sockets: making them, changing them, and where they are.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::socket::{end_in_reset, local_address, set_buffers, set_tcp_options, sockaddr};
use crate::base::address::{Address, BindAddress};
use crate::kernel::Options;

/// A listening socket. Every worker has its own (SO_REUSEPORT), but for unix sockets, which it shares.
///
/// What is set on it, its connections inherit: no delay, urgent data in line, user timeout, buffers, and that they end
/// in a reset ([`end_in_reset`]).
pub fn listen(
    place: &BindAddress,
    backlog: u32,
    unix_mode: u32,
    freebind: bool,
    options: &Options,
) -> io::Result<OwnedFd> {
    let socket = Socket::from(bind(place, unix_mode, freebind, options)?);
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// A socket that is bound and does not listen yet ([`adjust`] makes it). With `freebind` the address need not be this
/// host's.
pub fn bind(place: &BindAddress, unix_mode: u32, freebind: bool, options: &Options) -> io::Result<OwnedFd> {
    let to = sockaddr(&place.address)?;
    let socket = Socket::new(to.domain(), Type::STREAM.nonblocking().cloexec(), None)?;
    match &place.address {
        Address::Tcp(tcp) => {
            limit_to_interface(&socket, place)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if tcp.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_tcp_nodelay(true)?;
            set_tcp_options(&socket, options)?;
            if freebind {
                bind_freely(&socket, tcp)?;
            }
            socket.bind(&to)?;
        }
        Address::Unix(path) => bind_unix(&socket, &to, path, unix_mode)?,
    }
    Ok(socket.into())
}

/// Has a socket listen, and changes what can be changed of one that does, or was made by another program.
pub fn adjust(fd: &OwnedFd, backlog: u32, options: &Options) -> io::Result<()> {
    let socket = SockRef::from(fd);
    if socket.domain()? != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
        socket.set_out_of_band_inline(true)?;
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
        end_in_reset(&socket)?;
        set_buffers(&socket, options)?;
    }
    socket.set_nonblocking(true)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

/// Whether it is a socket that listens for connections.
pub fn is_listener(fd: &OwnedFd) -> bool {
    SockRef::from(fd).is_listener().unwrap_or(false)
}

/// Has the next bind of this socket succeed also for an address that no interface has (IP_FREEBIND; IPV6_FREEBIND since
/// Linux 4.15). Unlike IP_TRANSPARENT it takes no capability.
fn bind_freely(socket: &Socket, address: &SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) }
}

/// Has the socket see only what comes by one interface, or one of a VRF (SO_BINDTODEVICE). Before Linux 5.7 it takes
/// CAP_NET_RAW.
fn limit_to_interface(socket: &Socket, place: &BindAddress) -> io::Result<()> {
    match &place.interface {
        Some(interface) => socket.bind_device(Some(interface.as_bytes())),
        None => Ok(()),
    }
}

/// Fails with EADDRINUSE if a program listens on this port already, also if it would share the port. Port 0 and unix
/// sockets always pass.
pub fn ensure_unused(place: &BindAddress, freebind: bool) -> io::Result<()> {
    let Address::Tcp(tcp) = &place.address else { return Ok(()) };
    if tcp.port() == 0 {
        return Ok(());
    }
    let to = sockaddr(&place.address)?;
    let probe = Socket::new(to.domain(), Type::STREAM.cloexec(), None)?;
    limit_to_interface(&probe, place)?;
    probe.set_reuse_address(true)?;
    if to.is_ipv6() {
        probe.set_only_v6(true)?;
    }
    if freebind {
        bind_freely(&probe, tcp)?;
    }
    probe.bind(&to)
}

/// Whether a program listens on a unix socket. What cannot be known counts as yes.
pub fn is_served(path: &Path) -> bool {
    let probe =
        || Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?.connect(&SockAddr::unix(path)?);
    !matches!(probe(), Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound))
}

/// A stale socket file that no program listens on is replaced; a live one is an error.
fn bind_unix(socket: &Socket, to: &SockAddr, path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if is_served(path) {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        std::fs::remove_file(path)?;
    }
    // What is bound to has the mode of the socket, less the umask. So no path is needed, which could be another file's
    // by then.
    // SAFETY: a plain call on a descriptor of our own.
    if unsafe { libc::fchmod(socket.as_raw_fd(), mode) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a plain call. Other files that are made meanwhile have a mode of their own.
    let before = unsafe { libc::umask(0) };
    let bound = socket.bind(to);
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    bound
}

/// Where a listening socket is.
pub fn place_of(socket: &OwnedFd) -> io::Result<BindAddress> {
    let address = local_address(socket)?;
    // A unix socket has no such option.
    let device = match &address {
        Address::Tcp(_) => SockRef::from(socket).device()?,
        Address::Unix(_) => None,
    };
    Ok(BindAddress { address, interface: device.map(|name| String::from_utf8_lossy(&name).into()) })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sys::socket::{accept, close, finish_on_close, number};

    /// Also where another program made the listener.
    #[test]
    fn connections_end_in_a_reset_unless_they_are_closed_properly() {
        let any = BindAddress::everywhere(Address::Tcp("127.0.0.1:0".parse().unwrap()));
        let ours = listen(&any, 10, 0, false, &Options::default()).unwrap();
        let others: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        adjust(&others, 10, &Options::default()).unwrap();
        for listener in [ours, others] {
            let Address::Tcp(address) = local_address(&listener).unwrap() else { panic!("not TCP") };
            let end = |properly| {
                let mut client = TcpStream::connect(address).unwrap();
                let fd = loop {
                    if let Ok(fd) = accept(number(&listener)) {
                        break fd;
                    }
                };
                if properly {
                    finish_on_close(fd);
                }
                close(fd);
                client.read(&mut [0]).map_err(|error| error.kind())
            };
            assert_eq!(end(false), Err(io::ErrorKind::ConnectionReset));
            assert_eq!(end(true), Ok(0));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = BindAddress::everywhere(Address::Unix(folder.path().join("s")));
        adjust(&listen(&path, 10, 0o600, false, &Options::default()).unwrap(), 10, &Options::default()).unwrap();
    }
}
