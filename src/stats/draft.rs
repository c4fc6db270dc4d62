//! What is known of a session for its record in the access log and is kept nowhere else, gathered while the session
//! lives. Without an access log nothing is gathered.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU64};

use super::ConnectError;
use super::record::{Attempt, Client, EndReason, Record};
use super::tls::{TlsEndReason, TlsFacts};
use crate::base::id::{BackendId, ListenerId, PoolId};
use crate::base::session::{PathQuality, SessionId};
use crate::base::side::Side;
use crate::base::termination::{Termination, When, Who};
use crate::base::time::Moment;

/// What is known so far of a session, for its record.
#[derive(Debug)]
pub struct Draft {
    /// From which client it comes.
    client: Client,
    /// The backend of the last attempt to connect.
    backend: Option<BackendId>,
    /// The address from which it connected.
    backend_local: Option<Own>,
    /// How long it waited in the queue.
    queue_ns: u64,
    /// Its position when it began to wait; 0 if it did not.
    queue_position: u32,
    /// How long all attempts together took.
    connecting_ns: u64,
    /// How long the attempt that succeeded took; `None` before.
    last_attempt_ns: Option<NonZeroU64>,
    /// What ended it, if not the session itself.
    reason: Option<EndReason>,
    /// What most sessions do not have before their end.
    more: Option<Box<More>>,
}

/// What is known late, or of few sessions.
#[derive(Debug, Default)]
struct More {
    /// The attempts that failed.
    failed: Vec<Attempt>,
    /// The server that the client's TLS asked for.
    server_name: Option<Box<str>>,
    /// How well the connections went, by side.
    quality: [Option<PathQuality>; 2],
    /// What its TLS has agreed on.
    tls: Option<TlsFacts>,
    /// Why its TLS failed.
    tls_error: Option<TlsEndReason>,
    /// The subject of the certificate that the client has shown.
    client_certificate: Option<Box<str>>,
    /// Why TLS with the backend fails, of the attempt that is about to end.
    attempt_error: Option<Box<str>>,
}

/// An address of this host in little memory: an IPv4 address is mapped into IPv6, and the scope of a link-local one is
/// left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Own {
    /// The address; IPv4 is mapped.
    ip: Ipv6Addr,
    /// The port.
    port: NonZeroU16,
}

impl Own {
    /// This address; `None` if its port is 0.
    fn new(address: SocketAddr) -> Option<Own> {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Some(Own { ip, port: NonZeroU16::new(address.port())? })
    }

    /// The address in its usual form.
    fn address(self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.ip).to_canonical(), self.port.get())
    }
}

/// What is known of a session that is over, apart from its draft.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its id.
    pub session: SessionId,
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The pool that served it.
    pub pool: PoolId,
    /// The backend it had at its end.
    pub backend: Option<BackendId>,
    /// When it was accepted.
    pub accepted_at: Moment,
    /// When it was over.
    pub ended_at: Moment,
    /// Bytes delivered to the backend.
    pub bytes_to_backend: u64,
    /// Bytes delivered to the client.
    pub bytes_to_client: u64,
    /// How it ended.
    pub termination: Termination,
    /// The worker that served it.
    pub worker: u32,
}

impl Draft {
    /// The draft of a session that was just accepted.
    pub fn new(client: Client) -> Draft {
        Draft {
            client,
            backend: None,
            backend_local: None,
            queue_ns: 0,
            queue_position: 0,
            connecting_ns: 0,
            last_attempt_ns: None,
            reason: None,
            more: None,
        }
    }

    fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The backends to which it could not connect.
    pub fn failed_backends(&self) -> impl Iterator<Item = BackendId> {
        self.more.iter().flat_map(|more| &more.failed).map(|attempt| attempt.backend)
    }

    /// An attempt to connect is over. `failed` says why it failed, and which resource was missing if one was.
    pub fn attempt_ended(&mut self, backend: BackendId, took_ns: u64, failed: Option<(ConnectError, EndReason)>) {
        self.backend = Some(backend);
        self.connecting_ns += took_ns;
        match failed {
            None => self.last_attempt_ns = NonZeroU64::new(took_ns.max(1)),
            Some((error, resource)) => {
                self.backend_local = None;
                let more = self.more_mut();
                let tls_error = more.attempt_error.take();
                more.failed.push(Attempt { backend, error, took_ns, tls_error });
                self.reason = (error == ConnectError::Resource).then_some(resource);
            }
        }
    }

    /// An attempt has connected from this address.
    pub fn came_from(&mut self, own: SocketAddr) {
        self.backend_local = Own::new(own);
    }

    /// The client, as a PROXY header names it.
    pub fn is_of(&mut self, client: Client) {
        self.client = client;
    }

    /// Its TLS asks for that server.
    pub fn asks_for(&mut self, server_name: &str) {
        self.more_mut().server_name = Some(server_name.into());
    }

    /// Its TLS has agreed on this.
    pub fn speaks_tls(&mut self, facts: TlsFacts) {
        self.more_mut().tls = Some(facts);
    }

    /// The client has shown a certificate with this subject, which was verified.
    pub fn has_certificate(&mut self, subject: Box<str>) {
        self.more_mut().client_certificate = Some(subject);
    }

    /// Its TLS failed for this reason; the first one counts.
    pub fn tls_failed(&mut self, reason: TlsEndReason) {
        self.more_mut().tls_error.get_or_insert(reason);
    }

    /// Its attempt is about to end, because there is no TLS with the backend for this reason.
    pub fn attempt_fails_for(&mut self, cause: Box<str>) {
        self.more_mut().attempt_error = Some(cause);
    }

    /// The connection on that side is about to be closed, and went so well.
    pub fn went(&mut self, side: Side, quality: Option<PathQuality>) {
        if quality.is_some() {
            self.more_mut().quality[side.index()] = quality;
        }
    }

    /// Notes what ends the session.
    pub fn ends_for(&mut self, reason: EndReason) {
        self.reason = Some(reason);
    }

    /// It begins to wait, as the client at this position.
    pub fn waits(&mut self, position: u32) {
        self.queue_position = position;
    }

    /// It has waited for this time.
    pub fn waited(&mut self, queue_ns: u64) {
        self.queue_ns += queue_ns;
    }

    /// The record of the session.
    pub fn finish(mut self, ended: Ended) -> Record {
        let More { failed, server_name, quality, tls, tls_error, client_certificate, .. } =
            self.more.take().map(|more| *more).unwrap_or_default();
        Record {
            session: ended.session,
            listener: ended.listener,
            pool: ended.pool,
            // If it has no backend now, the last one that was tried.
            backend: ended.backend.or(self.backend),
            client: self.client,
            backend_local: self.backend_local.map(Own::address),
            accepted_at: ended.accepted_at,
            ended_at: ended.ended_at,
            queue_ns: self.queue_ns,
            queue_position: self.queue_position,
            connect_ns: self.last_attempt_ns.map(|_| self.connecting_ns),
            reason: self.reason(ended.termination),
            server_name,
            quality,
            tls,
            tls_error,
            client_certificate,
            failed,
            last_attempt_ns: self.last_attempt_ns.map_or(0, NonZeroU64::get),
            bytes_to_backend: ended.bytes_to_backend,
            bytes_to_client: ended.bytes_to_client,
            termination: ended.termination,
            worker: ended.worker,
        }
    }

    /// The reason for the record: which rule or resource, if the code needs one.
    fn reason(&self, termination: Termination) -> Option<EndReason> {
        match termination {
            Termination(Who::Resource, When::Queue) => Some(EndReason::QueueFull),
            // A descriptor that does not come ends no attempt: there was none.
            Termination(Who::Resource, _) => Some(self.reason.unwrap_or(EndReason::Descriptors)),
            Termination(Who::Down | Who::Up | Who::Killed | Who::Rule | Who::Internal, _) => self.reason,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Option<(ConnectError, EndReason)> = Some((ConnectError::Refused, EndReason::Ports));

    fn ended(termination: Termination) -> Ended {
        Ended {
            session: SessionId::new(0, 0, 0),
            listener: ListenerId(0),
            pool: PoolId(0),
            backend: None,
            accepted_at: Moment(1),
            ended_at: Moment(2),
            bytes_to_backend: 0,
            bytes_to_client: 0,
            termination,
            worker: 0,
        }
    }

    #[test]
    fn attempts_add_up_and_the_last_one_is_whose_session_it_is() {
        let mut draft = Draft::new(Client::Gone);
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        draft.came_from(one);
        draft.attempt_ended(BackendId(3), 30, REFUSED);
        assert_eq!(draft.backend_local, None, "that connection is gone");
        draft.came_from(other);
        draft.attempt_ended(BackendId(4), 50, None);
        draft.waited(7);
        draft.waited(8);
        let record = draft.finish(ended(Termination::NORMAL));
        assert_eq!(record.backend_local, Some(other));
        draft = Draft::new(Client::Gone);
        draft.came_from("[2001:db8::7]:9".parse().unwrap());
        assert_eq!(draft.backend_local.unwrap().address(), "[2001:db8::7]:9".parse().unwrap());
        assert_eq!((record.connect_ns, record.last_attempt_ns, record.backend), (Some(80), 50, Some(BackendId(4))));
        let failed: Vec<_> = record.failed.iter().map(|attempt| (attempt.backend, attempt.took_ns)).collect();
        assert_eq!((failed, record.queue_ns), (vec![(BackendId(3), 30)], 15));
        let mut draft = Draft::new(Client::Gone);
        draft.attempt_ended(BackendId(3), 30, REFUSED);
        let record = draft.finish(Ended { backend: Some(BackendId(9)), ..ended(Termination::NORMAL) });
        assert_eq!((record.connect_ns, record.backend), (None, Some(BackendId(9))), "an attempt that has not ended");
    }

    #[test]
    fn the_reason_is_that_of_the_end_and_only_where_the_code_asks_for_it() {
        let mut draft = Draft::new(Client::Gone);
        let out = Termination(Who::Resource, When::Connect);
        assert_eq!(draft.reason(out), Some(EndReason::Descriptors));
        draft.attempt_ended(BackendId(0), 1, Some((ConnectError::Resource, EndReason::Ports)));
        assert_eq!(draft.reason(out), Some(EndReason::Ports));
        assert_eq!(draft.reason(Termination(Who::Resource, When::Queue)), Some(EndReason::QueueFull));
        assert_eq!(draft.reason(Termination::NORMAL), None);
        draft.attempt_ended(BackendId(1), 1, REFUSED);
        assert_eq!(draft.reason, None, "what one attempt lacked is no reason of the next one's");
    }
}
