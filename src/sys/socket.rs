//! Sockets: making them, setting them up, and the calls that must not go through the ring.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::stream;
use crate::base::address::Address;
use crate::base::session::PathQuality;
use crate::kernel::{Fd, Options};

/// Time between keepalive probes, and how many may be lost.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer after which the kernel gives a connection up (TCP_KEEPCNT).
const KEEPALIVE_PROBES: u32 = 6;

/// The address a socket is bound to, with the port the kernel chose.
pub fn local_address(socket: &OwnedFd) -> io::Result<Address> {
    address_of(&SockRef::from(socket).local_addr()?)
}

/// The address of ours that a connection was made to.
pub fn own_address(fd: Fd) -> Option<Address> {
    address_of(&SockRef::from(&borrow(fd)).local_addr().ok()?).ok().map(canonical)
}

/// Address of the peer; `None` when it is gone or has no name.
pub fn peer_address(fd: Fd) -> Option<Address> {
    address_of(&SockRef::from(&borrow(fd)).peer_addr().ok()?).ok().map(canonical)
}

/// A socket to connect from; [`no_delay`] is left to its user.
pub fn open(to: &Address, options: &Options) -> io::Result<Fd> {
    let domain = match to {
        Address::Tcp(tcp) if tcp.is_ipv6() => Domain::IPV6,
        Address::Tcp(_) => Domain::IPV4,
        Address::Unix(_) => Domain::UNIX,
    };
    let socket = Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), None)?;
    if domain != Domain::UNIX {
        set_tcp_options(&socket, options)?;
    }
    Ok(Fd(socket.into_raw_fd()))
}

/// Connects a socket that does not block: a unix socket immediately or not at all. TCP takes time: EINPROGRESS.
pub fn connect(fd: Fd, to: &Address) -> io::Result<()> {
    SockRef::from(&borrow(fd)).connect(&sockaddr(to)?)
}

/// Accepts a connection, without waiting; fails with EAGAIN if there is none.
pub fn accept(listener: Fd) -> io::Result<Fd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel is asked for no address, so it writes nothing.
    let fd = unsafe { libc::accept4(listener.0, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Fd(fd)) }
}

/// Sends all of `bytes` with one call on a connection whose buffer is empty, or fails. With `more`, the kernel waits
/// for what follows to send both in one segment.
pub fn send_first(fd: Fd, bytes: &[u8], more: bool) -> io::Result<()> {
    match stream::send(fd, bytes, if more { libc::MSG_MORE } else { 0 }) {
        Err(error) => Err(io::Error::from_raw_os_error(error)),
        Ok(sent) if sent as usize == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}

/// Copies what has come to `into` and leaves it there: how many bytes, 0 after a FIN without any, `None` if there is
/// nothing yet.
pub fn peek(fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>> {
    recv(fd, into, libc::MSG_PEEK)
}

/// Takes what has come: how many bytes, 0 after a FIN, `None` if there is nothing yet.
pub fn take(fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>> {
    recv(fd, into, 0)
}

/// recv(2) without waiting: how many bytes, 0 after a FIN, `None` if nothing has come.
fn recv(fd: Fd, into: &mut [u8], flags: libc::c_int) -> io::Result<Option<usize>> {
    match stream::recv(fd, into, flags) {
        Ok(received) => Ok(Some(received)),
        Err(libc::EAGAIN) => Ok(None),
        Err(error) => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Has the kernel call the socket readable only when so many bytes are there (SO_RCVLOWAT). Unix sockets do not care.
pub fn set_low_water(fd: Fd, bytes: usize) {
    // A socket that refuses is looked at now and then instead.
    let _ = set_int(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, i32::try_from(bytes).unwrap_or(i32::MAX));
}

/// Has a socket that is not connected yet connect from that address; the kernel chooses the port when it connects
/// (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), so each backend has all ports to itself. With `transparent` the address need
/// not be this host's (IP_TRANSPARENT, which takes CAP_NET_RAW).
pub fn bind_source(fd: Fd, source: IpAddr, transparent: bool) -> io::Result<()> {
    let socket = borrow(fd);
    let socket = SockRef::from(&socket);
    set_int(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    if transparent {
        let (level, name) = match source {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
        };
        set_int(fd, level, name, 1)?;
    }
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))
}

/// Whether [`bind_source`] would succeed.
pub fn try_source(source: IpAddr, transparent: bool) -> io::Result<()> {
    let domain = if source.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::STREAM.cloexec(), None)?;
    bind_source(Fd(socket.as_raw_fd()), source, transparent)
}

/// setsockopt(2) with a number.
fn set_int(fd: Fd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int during the call.
    let result = unsafe {
        libc::setsockopt(fd.0, level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a FIN after everything that was sent before.
pub fn shutdown_write(fd: Fd) {
    // SAFETY: a plain call; a connection that is gone answers ENOTCONN, which says nothing new.
    unsafe { libc::shutdown(fd.0, libc::SHUT_WR) };
}

/// Has what was received so far be all there is: a receive that waits ends after it.
pub fn stop_reading(fd: Fd) {
    // SAFETY: a plain call; a connection that is gone answers ENOTCONN, and its receive has ended.
    unsafe { libc::shutdown(fd.0, libc::SHUT_RD) };
}

/// Makes the close that follows a reset. Whatever was not delivered yet is thrown away. Connections that waited on a
/// listener before it was ours did not inherit that.
pub fn reset_on_close(fd: Fd) {
    let _ = end_in_reset(&SockRef::from(&borrow(fd)));
}

/// Makes the close that follows a proper one: everything is delivered, with a FIN at its end.
pub fn finish_on_close(fd: Fd) {
    let _ = SockRef::from(&borrow(fd)).set_linger(None);
}

/// A process that is killed closes nothing properly; the kernel closes what it had. Without this, what it has sent of a
/// stream so far would look like all there is.
pub(super) fn end_in_reset(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))
}

/// Has the kernel hold back the acknowledgement that ends the handshake of a connection that is not open yet: what is
/// sent next takes its place.
pub fn withhold_ack(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(&socket.as_fd()).set_tcp_quickack(false)
}

/// Whether a TCP connection is no more. Before our FIN was sent, only a reset or a time-out makes it so.
pub fn is_closed(fd: Fd) -> bool {
    // The first byte of `struct tcp_info`; the kernel copies as much as there is room for.
    let (mut state, mut len) = (0u8, 1 as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes to `state`, and the length.
    let result =
        unsafe { libc::getsockopt(fd.0, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &raw mut len) };
    /// The state of a connection that is over (tcp_states.h).
    const TCP_CLOSE: u8 = 7;
    result == 0 && state == TCP_CLOSE
}

/// How well a TCP connection went so far; `None` if nothing was measured: a unix socket, or no segment that was
/// acknowledged.
pub fn quality(fd: Fd) -> Option<PathQuality> {
    // `struct tcp_info` is only ever added to (linux/tcp.h); the kernel copies as much as there is room for.
    const RTT: usize = 68;
    const TOTAL_RETRANS: usize = 100;
    let mut info = [0u8; TOTAL_RETRANS + 4];
    let mut len = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`, and the length.
    let result =
        unsafe { libc::getsockopt(fd.0, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len) };
    let number = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let quality = PathQuality { rtt_us: number(RTT), retransmits: number(TOTAL_RETRANS) };
    (result == 0 && len as usize == info.len() && quality.rtt_us > 0).then_some(quality)
}

/// Whether the peer will send no more, whatever is there still to be read.
pub fn has_ended(fd: Fd) -> bool {
    stream::poll(fd, libc::POLLRDHUP.into()) != 0
}

/// Bytes that have come and were not read (SIOCINQ), a FIN not counted. 0 if it cannot be known.
pub fn available(fd: Fd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(fd.0, libc::FIONREAD, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Bytes that the peer's kernel has not acknowledged (SIOCOUTQ), the FIN not counted. 0 if it cannot be known, or will
/// never be acknowledged: of a connection that was reset the kernel goes on to count them.
pub fn unsent(fd: Fd) -> u32 {
    if is_closed(fd) {
        return 0;
    }
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    let result = unsafe { libc::ioctl(fd.0, libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { bytes.max(0) as u32 } else { 0 }
}

/// Closes a descriptor with a plain call, for places that have no ring.
pub fn close(fd: Fd) {
    // SAFETY: the descriptor is the caller's, and used no more.
    drop(unsafe { OwnedFd::from_raw_fd(fd.0) });
}

/// Sets what holds for TCP alone. It is inherited by what a listener accepts.
pub(super) fn set_tcp_options(socket: &Socket, options: &Options) -> io::Result<()> {
    end_in_reset(socket)?;
    socket.set_out_of_band_inline(true)?;
    if !options.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    }
    if (options.receive_buffer, options.unsent_max) != (0, 0) {
        set_buffers(socket, options)?;
    }
    Ok(())
}

/// For later connections: windows are agreed upon when one begins. A listener keeps the buffer that it was given, by us
/// or by the program that made it.
pub(super) fn set_buffers(socket: &Socket, options: &Options) -> io::Result<()> {
    let fd = Fd(socket.as_raw_fd());
    if options.receive_buffer > 0 {
        socket.set_recv_buffer_size(options.receive_buffer as usize)?;
    }
    // 0 is the kernel's own (`net.ipv4.tcp_notsent_lowat`).
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, options.unsent_max.min(i32::MAX as u32) as i32)
}

/// Turns the Nagle algorithm off. A unix socket refuses, and has none.
pub fn no_delay(fd: Fd) {
    let _ = SockRef::from(&borrow(fd)).set_tcp_nodelay(true);
}

/// Has the kernel probe an idle connection. A unix socket refuses, and needs none.
pub fn keep_alive(fd: Fd, options: &Options) {
    if !options.keepalive.is_zero() {
        let keepalive = TcpKeepalive::new()
            .with_time(options.keepalive)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        let _ = SockRef::from(&borrow(fd)).set_tcp_keepalive(&keepalive);
    }
}

/// An address as the kernel wants it. Fails for a path that is too long for a unix socket.
pub fn sockaddr(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Tcp(tcp) => Ok(SockAddr::from(*tcp)),
        Address::Unix(path) => SockAddr::unix(path),
    }
}

/// An IPv4 client of an IPv6 socket has an IPv4 address, in logs, rules, headers and where it is connected from.
fn canonical(address: Address) -> Address {
    match address {
        Address::Tcp(tcp) => Address::Tcp(SocketAddr::new(tcp.ip().to_canonical(), tcp.port())),
        other => other,
    }
}

/// An address of the kernel as ours. A unix socket without a name, as the one of a client, has an empty path.
fn address_of(found: &SockAddr) -> io::Result<Address> {
    if let Some(tcp) = found.as_socket() {
        return Ok(Address::Tcp(tcp));
    }
    Ok(Address::Unix(found.as_pathname().map(Path::to_path_buf).unwrap_or_default()))
}

/// Takes the error of a socket (SO_ERROR): 0 if there is none, or a positive errno.
pub fn take_error(fd: Fd) -> i32 {
    match SockRef::from(&borrow(fd)).take_error() {
        Ok(error) => error.and_then(|error| error.raw_os_error()).unwrap_or(0),
        Err(error) => error.raw_os_error().unwrap_or(libc::EINVAL),
    }
}

/// A descriptor as the libraries want it, for one call.
pub fn borrow(fd: Fd) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: the descriptor is open for as long as its slot, which outlives this use.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.0) }
}

/// The number of an owned descriptor.
pub fn number(fd: &OwnedFd) -> Fd {
    Fd(fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn a_reset_is_told_from_a_fin_when_its_error_is_gone() {
        let (mut ours, theirs) = pair();
        let fd = Fd(ours.as_raw_fd());
        assert!(!is_closed(fd));
        SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        drop(theirs);
        assert!(ours.write_all(b"x").is_err() || ours.write_all(b"x").is_err());
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the kernel reports a reset once");
        assert!(is_closed(fd));

        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        assert!(!is_closed(Fd(ours.as_raw_fd())));
    }

    /// systemd's `ListenStream=PORT` makes such a socket.
    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_an_ipv4_address() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let Ok(client) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (accepted, raw) = listener.accept().unwrap();
        assert!(raw.is_ipv6());
        let fd = Fd(accepted.as_raw_fd());
        assert_eq!(peer_address(fd), Some(Address::Tcp(client.local_addr().unwrap())));
        assert_eq!(own_address(fd), Some(Address::Tcp(client.peer_addr().unwrap())));
    }
}
