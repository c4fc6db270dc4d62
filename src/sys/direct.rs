//! The calls of [`socket`], for a worker.

use std::io;
use std::net::IpAddr;

use super::{route, socket, stream};
use crate::base::address::Address;
use crate::base::session::PathQuality;
use crate::kernel::{Fd, Options, Sockets};

/// The calls on sockets that a worker makes itself, without its ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Sockets for Direct {
    fn open(&self, to: &Address, options: &Options) -> io::Result<Fd> {
        socket::open(to, options)
    }

    fn bind_source(&self, fd: Fd, source: IpAddr, transparent: bool) -> io::Result<()> {
        socket::bind_source(fd, source, transparent)
    }

    fn connect_unix(&self, fd: Fd, to: &Address) -> io::Result<()> {
        socket::connect(fd, to)
    }

    fn has_source_for(&self, to: &Address) -> bool {
        route::has_source_for(to)
    }

    fn accept(&self, listener: Fd) -> io::Result<Fd> {
        socket::accept(listener)
    }

    fn peer_address(&self, fd: Fd) -> Option<Address> {
        socket::peer_address(fd)
    }

    fn quality(&self, fd: Fd) -> Option<PathQuality> {
        socket::quality(fd)
    }

    fn own_address(&self, fd: Fd) -> Option<Address> {
        socket::own_address(fd)
    }

    fn available(&self, fd: Fd) -> usize {
        socket::available(fd)
    }

    fn peek(&self, fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>> {
        socket::peek(fd, into)
    }

    fn take(&self, fd: Fd, into: &mut [u8]) -> io::Result<Option<usize>> {
        socket::take(fd, into)
    }

    fn send_first(&self, fd: Fd, bytes: &[u8], more: bool) -> io::Result<()> {
        socket::send_first(fd, bytes, more)
    }

    fn send_pieces(&self, fd: Fd, pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<usize, i32> {
        stream::send_pieces(fd, pieces)
    }

    fn set_low_water(&self, fd: Fd, bytes: usize) {
        socket::set_low_water(fd, bytes);
    }

    fn no_delay(&self, fd: Fd) {
        socket::no_delay(fd);
    }

    fn keep_alive(&self, fd: Fd, options: &Options) {
        socket::keep_alive(fd, options);
    }

    fn shutdown_write(&self, fd: Fd) {
        socket::shutdown_write(fd);
    }

    fn stop_reading(&self, fd: Fd) {
        socket::stop_reading(fd);
    }

    fn end_on_close(&self, fd: Fd, reset: bool) {
        if reset {
            socket::reset_on_close(fd);
        } else {
            socket::finish_on_close(fd);
        }
    }

    #[inline]
    fn is_closed(&self, fd: Fd) -> bool {
        socket::is_closed(fd)
    }

    fn has_ended(&self, fd: Fd) -> bool {
        socket::has_ended(fd)
    }

    fn unsent(&self, fd: Fd) -> u32 {
        socket::unsent(fd)
    }
}
