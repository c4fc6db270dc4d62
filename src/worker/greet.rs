//! What a backend is told before the client's bytes: a PROXY header (`send_proxy`), and PostgreSQL's request for TLS if
//! the client's was answered already (`admission`) or ringway itself goes on with TLS (`tls_dial`).
//!
//! It is said after the connect and before the session hears that it is connected, so the first byte of the client can
//! never overtake it. Only the request for TLS has an answer, one byte, which is awaited with a poll
//! (`Operation::Greet`).

use super::Worker;
use super::admission::client_of;
use super::slots::{Slot, SlotKey};
use super::tls_side::TlsSide;
use crate::base::address::Address;
use crate::base::side::Side;
use crate::kernel::token::Operation;
use crate::kernel::{Interest, Kernel, Sockets, errno};
use crate::session::Event;
use crate::tls::handshake::HandshakeFailure;
use crate::wire::{postgresql, proxy};

/// The answer with which PostgreSQL goes on to TLS (protocol 3.0, "SSL Session Encryption").
const GO_ON: u8 = b'S';
/// The answer with which it does not.
const NOT_HERE: u8 = b'N';

/// The client has left, and its address, which the backend must be told, can no longer be read.
struct ClientGone;

impl<K: Kernel> Worker<K> {
    /// Says what must come first on a connection that was just made. `None` while the backend's answer is awaited, else
    /// what the session must be told.
    pub(super) fn greet(&mut self, key: SlotKey) -> Option<Event> {
        let Ok(header) = self.header(key) else { return Some(Event::ClientGone) };
        let dials = self.will_dial(key);
        let values = self.slots.get(key).and_then(|slot| slot.detour().tls_values.as_deref());
        let longer = header.as_ref().zip(values).and_then(|(header, values)| proxy::append(header, values));
        let result = self.say_first(key, longer.as_deref().or(header.as_deref()));
        let slot = self.slots.get(key)?;
        let awaits = slot.asks_backend_for_tls();
        match (result, slot.fd(Side::Backend)) {
            (Ok(()), Some(fd)) if awaits => {
                self.kernel.poll(fd, Interest::Incoming, key.token(Operation::Greet));
                None
            }
            (Ok(()), _) if dials => self.go_on_dialing(key),
            (Ok(()), _) => self.connect_ended(key, 0),
            (Err(error), _) => self.connect_ended(key, -error.raw_os_error().unwrap_or(errno::EPIPE)),
        }
    }

    /// The PROXY header for the backend, or `None` if the pool sends none. A header in the client's own PROXY header is
    /// passed on.
    ///
    /// # Errors
    /// The client has left. Its bytes must not reach the backend behind a header that says "unknown", because the
    /// backend would take them for ringway's own.
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

    /// Sends the header and the request for TLS, as far as each is wanted, with plain sends: a new connection has room
    /// for them.
    fn say_first(&mut self, key: SlotKey, header: Option<&[u8]>) -> std::io::Result<()> {
        let Some(slot) = self.slots.get_mut(key) else { return Ok(()) };
        let Some(fd) = slot.fd(Side::Backend) else { return Ok(()) };
        // The Nagle algorithm is turned off here and not before the second send (`count_send`), because turning it off
        // pushes out a header that is to go out together with the client's first bytes.
        self.kernel.sockets().no_delay(fd);
        slot.backend_sends = 2;
        let asks_for_tls = slot.asks_backend_for_tls();
        if let Some(header) = header {
            // If the client's bytes are there already, they follow in the same segment. If not, the header goes out
            // alone, because the server may speak first.
            let dials = slot.tls[Side::Backend.index()].is_some();
            let more = asks_for_tls || dials || slot.session.has_early_bytes();
            self.kernel.sockets().send_first(fd, header, more)?;
        }
        if asks_for_tls {
            self.kernel.sockets().send_first(fd, &postgresql::SSL_REQUEST, false)?;
        }
        Ok(())
    }

    /// Handles what has come of a backend that was greeted, or the end of the wait for it. `result` is what the poll
    /// said, or a negative errno.
    pub(super) fn greeted(&mut self, key: SlotKey, result: i32) {
        let is_shaking = |slot: &Slot| matches!(slot.tls[Side::Backend.index()].as_deref(), Some(TlsSide::Shaking(_)));
        let event = match self.slots.get(key).is_some_and(is_shaking) {
            true if result < 0 => self.connect_ended(key, result),
            true => self.go_on_dialing(key),
            false => self.hear_answer(key, result),
        };
        if let Some(event) = event {
            self.tell(key, event);
        }
    }

    /// Handles the backend's answer to the request for TLS: what the session must be told, if anything.
    fn hear_answer(&mut self, key: SlotKey, result: i32) -> Option<Event> {
        let slot = self.slots.get(key)?;
        let (fd, dials) = (slot.fd(Side::Backend)?, slot.tls[Side::Backend.index()].is_some());
        let mut answer = [0];
        let is_awaited = self.slots.get(key).is_some_and(|slot| slot.session.is_connecting());
        let in_vain = !is_awaited || self.connects_in_vain(key);
        let result = match self.kernel.sockets().take(fd, &mut answer) {
            _ if result < 0 => result,
            // The wait was given up at this moment. Polled again, it would last as long as a connect can, or without
            // end.
            Ok(None) if in_vain => -errno::ECANCELED,
            Ok(None) => {
                self.kernel.poll(fd, Interest::Incoming, key.token(Operation::Greet));
                return None;
            }
            Ok(Some(1)) if answer == [GO_ON] && dials => return self.go_on_dialing(key),
            Ok(Some(1)) if answer == [GO_ON] => 0,
            // This backend does without TLS, but the client was told that TLS follows. Another backend may offer it.
            Ok(Some(1)) if dials => {
                let cause = match answer {
                    [NOT_HERE] => "the backend offers no TLS: it answered N to PostgreSQL's request for it",
                    _ => "the backend did not answer PostgreSQL's request for TLS",
                };
                return self.dial_failed(key, HandshakeFailure::new(cause));
            }
            Ok(_) => -errno::EPROTO,
            Err(error) => -error.raw_os_error().unwrap_or(errno::EPIPE),
        };
        self.connect_ended(key, result)
    }
}
