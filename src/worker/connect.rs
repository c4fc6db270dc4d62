//! Connecting to a backend: from which source address, and what happens if an attempt cannot even begin.
//!
//! A TCP connect is an operation of the ring, answered in `dispatch::connected`; a unix socket connects immediately.
//! Three things can be in the way without any fault of the backend, and then the session keeps the backend it picked:
//!
//! - No port is left at a source address, or this host no longer has the address: the next address of `source` is tried
//!   immediately (`takes_another`).
//! - There is no memory, or a unix socket's backlog is full: the session waits a little (`ConnectLater`).
//! - There is no descriptor: a client that was not admitted yet is reset, or the session waits (`wanting`).

use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};

use super::Worker;
use super::admission::client_of;
use super::slots::{Slot, SlotKey};
use crate::base::address::Address;
use crate::base::side::Side;
use crate::kernel::token::Operation;
use crate::kernel::{Fd, Kernel, Op, Pipes, Sockets, errno};
use crate::session::Event;
use crate::snapshot::table::{BackendEntry, LocalAddress, shifted};

impl<K: Kernel> Worker<K> {
    /// Begins to connect a session to the backend that was picked. `None` while the connect is in flight, else what the
    /// session must be told.
    pub(super) fn connect(&mut self, key: SlotKey) -> Option<Event> {
        let slot = self.slots.get_mut(key)?;
        if slot.take_hindrance() == 0 {
            slot.connecting_at = self.turn.now;
        }
        slot.forget_sources();
        self.try_to_connect(key)
    }

    /// Ends an attempt because its time is over: cancels the connect in flight, or reports what kept it from beginning.
    pub(super) fn give_up_connect(&mut self, key: SlotKey) -> Option<Event> {
        let hindrance = self.slots.get_mut(key)?.take_hindrance();
        self.may_leave_wanting(key);
        match hindrance {
            0 => self.cancel_connect(key),
            // The backend's backlog was full for as long as the session could wait.
            errno::EAGAIN => self.connect_ended(key, -errno::ETIMEDOUT),
            errno => self.connect_ended(key, -errno),
        }
    }

    /// Ends an attempt that waits for its next try, because the backend is to have no sessions any more.
    pub(super) fn stop_trying(&mut self, key: SlotKey) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.take_hindrance();
        }
        self.may_leave_wanting(key);
        if let Some(event) = self.connect_ended(key, -errno::EPROTO) {
            self.tell(key, event);
        }
    }

    /// Closes the socket, on which nothing is in flight, and has the session try again later. `errno` is what was in
    /// the way.
    fn connect_later(&mut self, key: SlotKey, errno: i32) -> Option<Event> {
        let slot = self.slots.get_mut(key)?;
        slot.detour_mut().hindered_by = errno;
        if let Some(fd) = slot.take_fd(Side::Backend) {
            self.kernel.close_now(fd);
        }
        Some(Event::ConnectLater)
    }

    /// A connect ended because the kernel had no memory: tries again later if the session still wants to connect. True
    /// if so, and then the caller has nothing more to do.
    pub(super) fn connect_again(&mut self, key: SlotKey, result: i32) -> bool {
        let is_wanted = self.slots.get(key).is_some_and(|slot| slot.session.is_connecting());
        if !is_wanted || !matches!(-result, errno::ENOMEM | errno::ENOBUFS) {
            return false;
        }
        if let Some(event) = self.connect_later(key, -result) {
            self.tell(key, event);
        }
        true
    }

    /// Tries source addresses until a connect is in flight or no other address is left.
    fn try_to_connect(&mut self, key: SlotKey) -> Option<Event> {
        loop {
            if let ControlFlow::Break(event) = self.try_once(key) {
                self.may_leave_wanting(key);
                return event;
            }
        }
    }

    /// Tries to connect from one source address. `Continue` means that another address is to be tried.
    fn try_once(&mut self, key: SlotKey) -> ControlFlow<Option<Event>> {
        let Some(slot) = self.slots.get_mut(key) else { return Break(None) };
        let table = self.known.reader.table();
        let backend = slot.backend.and_then(|backend| table.backend(backend));
        let to = backend.and_then(|backend| target_of(slot, backend, self.kernel.sockets()));
        let (Some(to), Some(pool)) = (to, table.pool(slot.pool)) else {
            return Break(self.connect_ended(key, -errno::EINVAL));
        };
        let (options, sends_proxy) = (super::options_of(&pool.limits), pool.dial.send_proxy.is_some());
        let source = source_of(&pool.dial.source, &to, slot, self.kernel.sockets(), key);
        if matches!(source, ConnectSource::Gone) {
            return Break(Some(Event::ClientGone));
        }
        slot.greets = sends_proxy || slot.asks_for_tls() || pool.tls.is_some();
        let greets = slot.greets;
        let fd = match self.kernel.sockets().open(&to, &options) {
            Ok(fd) => fd,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(errno::EMFILE | errno::ENFILE) => {
                        self.kernel.pipes().shrink();
                        // A client that was not admitted yet gives up its descriptor.
                        match self.give_up_youngest() {
                            true => Continue(()),
                            false => {
                                let event = self.connect_later(key, error.raw_os_error().unwrap_or(errno::EMFILE));
                                self.wants_descriptor(key);
                                Break(event)
                            }
                        }
                    }
                    // This kernel does not speak the backend's family.
                    Some(errno::EAFNOSUPPORT) => Break(self.connect_ended(key, -errno::ENETUNREACH)),
                    Some(code @ (errno::ENOMEM | errno::ENOBUFS)) => Break(self.connect_later(key, code)),
                    code => Break(self.connect_ended(key, -code.unwrap_or(errno::EINVAL))),
                };
            }
        };
        slot.set_backend_fd(fd);
        self.has_descriptor(key);
        if let Err(error) = bind(self.kernel.sockets(), fd, &to, source) {
            let errno = error.raw_os_error().unwrap_or(errno::EINVAL);
            // This host does not have the address now; the list may have another one.
            let has_another = errno == errno::EADDRNOTAVAIL && self.takes_another(key);
            return if has_another { Continue(()) } else { Break(self.connect_ended(key, -errno)) };
        }
        if let Address::Tcp(_) = to {
            self.kernel.push(key.token(Operation::Connect), Op::Connect { fd, to: &to });
            return Break(None);
        }
        Break(match self.kernel.sockets().connect_unix(fd, &to) {
            Ok(()) if greets => self.greet(key),
            Ok(()) => self.connect_ended(key, 0),
            Err(error) => match error.raw_os_error().unwrap_or(errno::EINVAL) {
                // Its backlog is full. The kernel does not wait for room, as it does for TCP.
                code @ (errno::EAGAIN | errno::ENOMEM | errno::ENOBUFS) => self.connect_later(key, code),
                code => self.connect_ended(key, -code),
            },
        })
    }

    /// Whether a connect has reached its own socket: no server listens on a port of this host that lies in the range
    /// for clients, and the kernel chose the same port as the source (simultaneous open, RFC 9293, section 3.5). The
    /// source address is noted for the access log.
    pub(super) fn met_itself(&mut self, key: SlotKey) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let table = self.known.reader.table();
        let backend = slot.backend.and_then(|backend| table.backend(backend));
        let to = backend.and_then(|backend| target_of(slot, backend, self.kernel.sockets()));
        let (Some(Address::Tcp(to)), Some(fd)) = (to, slot.fd(Side::Backend)) else { return false };
        // Below 1024 there are no ports for clients.
        if to.port() < 1024 && slot.draft.is_none() {
            return false;
        }
        let Some(Address::Tcp(own)) = self.kernel.sockets().own_address(fd) else { return false };
        if let Some(draft) = &mut slot.draft {
            draft.came_from(own);
        }
        own == to
    }

    /// Cancels the connect in flight, or the wait for the backend's answer to its greeting. Nothing is in flight while
    /// a handshake waits for its turn; then this is what the session must be told.
    pub(super) fn cancel_connect(&mut self, key: SlotKey) -> Option<Event> {
        let slot = self.slots.get(key)?;
        let fd = slot.fd(Side::Backend)?;
        let greets = slot.greets;
        if let Some(event) = self.give_up_queued_dial(key) {
            return Some(event);
        }
        self.kernel.cancel(fd, key.token(Operation::Connect));
        if greets {
            self.kernel.cancel(fd, key.token(Operation::Greet));
        }
        None
    }

    /// Whether a connect failed because this host has no address of the backend's family. The kernel reports this with
    /// the same errno as "no port is left".
    pub(super) fn lacks_family(&self, key: SlotKey) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        let table = self.known.reader.table();
        let to = slot.backend.and_then(|backend| table.backend(backend)?.address.as_ref());
        let is_any = table.pool(slot.pool).is_some_and(|pool| pool.dial.source == LocalAddress::Any);
        to.is_some_and(|to| is_any && !self.kernel.sockets().has_source_for(to))
    }

    /// Tries another source address after one had no port left to this backend. True if another one is tried.
    pub(super) fn connect_from_another(&mut self, key: SlotKey) -> bool {
        if !self.slots.get(key).is_some_and(|slot| slot.session.is_connecting()) || !self.takes_another(key) {
            return false;
        }
        if let Some(event) = self.try_to_connect(key) {
            self.tell(key, event);
        }
        true
    }

    /// Drops the attempt from one source address, if the list has another one that was not tried. True if so.
    fn takes_another(&mut self, key: SlotKey) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let table = self.known.reader.table();
        let to = slot.backend.and_then(|backend| table.backend(backend)?.address.as_ref());
        let sources = match (to, table.pool(slot.pool).map(|pool| &pool.dial.source)) {
            (Some(to), Some(LocalAddress::Addresses(all))) => fitting(all, to).count(),
            _ => return false,
        };
        let tried = &mut slot.detour_mut().sources_tried;
        *tried = tried.saturating_add(1);
        if usize::from(*tried) >= sources || *tried == u16::MAX {
            return false;
        }
        if let Some(fd) = slot.take_fd(Side::Backend) {
            // Nothing is in flight on it. It is closed immediately, because hundreds may follow before the kernel is
            // entered.
            self.kernel.close_now(fd);
        }
        true
    }
}

/// Where a session connects to a backend; the port may be that of the client. `None` if the backend has no address, or
/// if there is no such port.
fn target_of(slot: &Slot, backend: &BackendEntry, sockets: &impl Sockets) -> Option<Address> {
    let mut address = backend.address.clone()?;
    if let (Some(shift), Address::Tcp(to)) = (backend.port_shift, &mut address) {
        let own = slot.fd(Side::Client).and_then(|fd| sockets.own_address(fd))?;
        let Address::Tcp(own) = own else { return None };
        to.set_port(shifted(own.port(), shift)?);
    }
    Some(address)
}

/// The source address of a connection to a backend.
#[derive(Clone, Copy)]
enum ConnectSource {
    /// The kernel chooses.
    Any,
    /// One of the addresses in `source`.
    Own(IpAddr),
    /// The client's (`source = "client"`).
    Client(IpAddr),
    /// The client's, but the client came through a unix socket and has none.
    Missing,
    /// The client's, but the client has left and its address is not known any more.
    Gone,
}

/// Whether this is a TCP address of IPv6.
fn is_ipv6(address: &Address) -> bool {
    matches!(address, Address::Tcp(tcp) if tcp.is_ipv6())
}

/// The source addresses of the backend's family.
fn fitting(all: &[IpAddr], to: &Address) -> impl Iterator<Item = IpAddr> {
    all.iter().copied().filter(|address| address.is_ipv6() == is_ipv6(to))
}

/// Chooses the source address. Each session begins at another place of the list, and moves on by one after each address
/// that had no port left.
fn source_of(source: &LocalAddress, to: &Address, slot: &Slot, sockets: &impl Sockets, key: SlotKey) -> ConnectSource {
    match source {
        LocalAddress::Any => ConnectSource::Any,
        LocalAddress::Addresses(all) => {
            let turn = key.index.wrapping_add(key.generation) as usize + usize::from(slot.detour().sources_tried);
            let place = turn % fitting(all, to).count().max(1);
            fitting(all, to).nth(place).map_or(ConnectSource::Any, ConnectSource::Own)
        }
        LocalAddress::Client => match client_of(slot, sockets) {
            Some(Address::Tcp(client)) => ConnectSource::Client(client.ip()),
            Some(Address::Unix(_)) => ConnectSource::Missing,
            None => ConnectSource::Gone,
        },
    }
}

/// Binds a socket to its source address. A unix socket has none. The client's address can be used only for a backend of
/// the same family.
fn bind(sockets: &impl Sockets, fd: Fd, to: &Address, source: ConnectSource) -> std::io::Result<()> {
    match source {
        ConnectSource::Any => Ok(()),
        _ if matches!(to, Address::Unix(_)) => Ok(()),
        ConnectSource::Own(address) => sockets.bind_source(fd, address, false),
        ConnectSource::Client(address) if address.is_ipv6() == is_ipv6(to) => sockets.bind_source(fd, address, true),
        // The backend is not at fault.
        ConnectSource::Client(_) | ConnectSource::Missing | ConnectSource::Gone => {
            Err(std::io::Error::from_raw_os_error(errno::EAFNOSUPPORT))
        }
    }
}
