//! What a backend is told before the client's bytes: a PROXY header, and that the client wants TLS.

use super::Worker;
use super::admission::client_of;
use super::slots::SlotKey;
use crate::base::address::Address;
use crate::base::side::Side;
use crate::kernel::token::Operation;
use crate::kernel::{Interest, Kernel, Sockets, errno};
use crate::session::Event;
use crate::wire::{postgresql, proxy};

/// What PostgreSQL says when it goes on with TLS.
const GO_ON: u8 = b'S';

/// Nobody can say any more who the client is.
struct ClientGone;

impl<K: Kernel> Worker<K> {
    /// The connection to the backend is there: says what must come first. `None` while its answer is awaited.
    pub(super) fn greet(&mut self, key: SlotKey) -> Option<Event> {
        let Ok(header) = self.header(key) else { return Some(Event::ClientGone) };
        let result = self.say_first(key, header.as_deref());
        let slot = self.slots.get(key)?;
        let awaits = slot.asks_for_tls();
        match (result, slot.fd(Side::Backend)) {
            (Ok(()), Some(fd)) if awaits => {
                self.kernel.poll(fd, Interest::Incoming, key.token(Operation::Greet));
                None
            }
            (Ok(()), _) => self.connect_ended(key, 0),
            (Err(error), _) => self.connect_ended(key, -error.raw_os_error().unwrap_or(errno::EPIPE)),
        }
    }

    /// What tells the backend who the client is, if it wants to know. A client that has gone is asked no more, and what
    /// it has sent must not pass for ringway's own, as it would behind a header that says "unknown".
    fn header(&self, key: SlotKey) -> Result<Option<proxy::Encoded>, ClientGone> {
        let Some(slot) = self.slots.get(key) else { return Ok(None) };
        let version = self.known.reader.table().pool(slot.pool).and_then(|pool| pool.dial.send_proxy);
        let Some(version) = version else { return Ok(None) };
        if let Some(claimed) = slot.guest.as_ref().and_then(|guest| guest.claimed()) {
            return Ok(Some(proxy::encode(version, Some(claimed))));
        }
        match (
            client_of(slot, self.kernel.sockets()),
            slot.fd(Side::Client).and_then(|fd| self.kernel.sockets().own_address(fd)),
        ) {
            (Some(Address::Tcp(client)), Some(Address::Tcp(own))) => {
                Ok(Some(proxy::encode(version, Some((client, own)))))
            }
            (Some(Address::Unix(_)), _) => Ok(Some(proxy::encode_unknown(version))),
            _ => Err(ClientGone),
        }
    }

    fn say_first(&mut self, key: SlotKey, header: Option<&[u8]>) -> std::io::Result<()> {
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        let Some(fd) = slot.fd(Side::Backend) else { return Ok(()) };
        // Here and not before the second send (`count_send`), because it pushes out what waits for company: a header
        // that is to go out with the client's first bytes would go out alone.
        self.kernel.sockets().no_delay(fd);
        slot.backend_sends = 2;
        let asks_for_tls = slot.asks_for_tls();
        if let Some(header) = header {
            // What follows goes out with it; if nothing is there yet, it goes out alone, as the server may speak first.
            let more = asks_for_tls || slot.session.has_early_bytes();
            self.kernel.sockets().send_first(fd, header, more)?;
        }
        if asks_for_tls {
            self.kernel.sockets().send_first(fd, &postgresql::SSL_REQUEST, false)?;
        }
        Ok(())
    }

    /// The backend has answered, or the wait was cancelled.
    pub(super) fn greeted(&mut self, key: SlotKey, result: i32) {
        let Some(fd) = self.slots.get(key).and_then(|slot| slot.fd(Side::Backend)) else { return };
        let mut answer = [0];
        let is_awaited = self.slots.get(key).is_some_and(|slot| slot.session.is_connecting());
        let in_vain = !is_awaited || self.connects_in_vain(key);
        let result = match self.kernel.sockets().take(fd, &mut answer) {
            _ if result < 0 => result,
            // Given up at the same moment, it would be waited for without end, or for as long as a connect may take.
            Ok(None) if in_vain => -errno::ECANCELED,
            Ok(None) => {
                self.kernel.poll(fd, Interest::Incoming, key.token(Operation::Greet));
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
