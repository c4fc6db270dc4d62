//! What a backend is told before the client's bytes: a PROXY header, and that the client wants TLS.

use super::admission::client_of;
use super::slots::Key;
use super::turn::Worker;
use crate::base::address::Address;
use crate::base::side::Side;
use crate::session::Event;
use crate::uring::token::Operation;
use crate::uring::{errno, socket};
use crate::wire::{postgresql, proxy};

/// What PostgreSQL says when it goes on with TLS.
const GO_ON: u8 = b'S';

impl Worker {
    /// The connection to the backend is there: says what must come first. `None` while its answer is awaited.
    pub(super) fn greet(&mut self, key: Key) -> Option<Event> {
        let result = self.say_first(key);
        let slot = self.slots.get(key)?;
        let awaits = slot.guest.as_ref().is_some_and(|guest| guest.asked_for_tls());
        match (result, slot.fd(Side::Backend)) {
            (Ok(()), Some(fd)) if awaits => {
                self.ring.poll_incoming(fd, key.token(Operation::Greet));
                None
            }
            (Ok(()), _) => self.connect_ended(key, 0),
            (Err(error), _) => self.connect_ended(key, -error.raw_os_error().unwrap_or(errno::EPIPE)),
        }
    }

    fn say_first(&mut self, key: Key) -> std::io::Result<()> {
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        let Some(fd) = slot.fd(Side::Backend) else { return Ok(()) };
        // This is the first send; see `count_send`.
        slot.backend_sends = 1;
        let version = self.reader.pin().pool(slot.pool).and_then(|pool| pool.dial.send_proxy);
        let asks_for_tls = slot.guest.as_ref().is_some_and(|guest| guest.asked_for_tls());
        if let Some(version) = version {
            let claimed = slot.guest.as_ref().and_then(|guest| guest.claimed());
            let own = || slot.fd(Side::Client).and_then(socket::own_address);
            let header = match (claimed, client_of(slot)) {
                (Some(both), _) => proxy::encode(version, Some(both)),
                (None, Some(Address::Tcp(client))) => match own() {
                    Some(Address::Tcp(own)) => proxy::encode(version, Some((client, own))),
                    _ => proxy::encode_unknown(version),
                },
                // A unix socket, or gone: then its session ends as soon as it is noticed.
                (None, _) => proxy::encode_unknown(version),
            };
            // What follows goes out with it; if nothing is there yet, it goes out alone, as the server may speak first.
            let more = asks_for_tls || slot.session.has_early_bytes();
            socket::send_first(fd, &header, more)?;
        }
        if asks_for_tls {
            socket::send_first(fd, &postgresql::SSL_REQUEST, false)?;
        }
        Ok(())
    }

    /// The backend has answered, or the wait was cancelled.
    pub(super) fn greeted(&mut self, key: Key, result: i32) {
        let Some(fd) = self.slots.get(key).and_then(|slot| slot.fd(Side::Backend)) else { return };
        let mut answer = [0];
        let result = match socket::take(fd, &mut answer) {
            _ if result < 0 => result,
            Ok(None) => {
                self.ring.poll_incoming(fd, key.token(Operation::Greet));
                return;
            }
            Ok(Some(1)) if answer == [GO_ON] => 0,
            // It does without TLS, and the client was told otherwise: another backend may know better.
            Ok(_) => -errno::EPROTO,
            Err(error) => -error.raw_os_error().unwrap_or(errno::EPIPE),
        };
        if let Some(event) = self.connect_ended(key, result) {
            self.tell(key, event);
        }
    }
}
