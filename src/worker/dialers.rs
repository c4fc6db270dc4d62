//! What a worker keeps for TLS to its backends: for each of them the terms, and the sessions that it lets resume.

use std::sync::Arc;

use crate::base::address::Address;
use crate::base::id::BackendId;
use crate::tls::{ClientTls, TlsDialer};

/// Those of a worker, by the slot of the backend: one for each backend that was connected to by TLS. A worker's are its
/// own: no other one waits for them, and none shows a session to a backend that does not know it.
#[derive(Debug, Default)]
pub struct Dialers(Vec<Option<KnownDialer>>);

/// TLS to one backend, and what it was made for.
#[derive(Debug)]
struct KnownDialer {
    /// What the pool said then.
    tls: Arc<ClientTls>,
    /// Where the backend was.
    address: Address,
    /// The name by which the address was found.
    host: Option<Arc<str>>,
    /// What came of it.
    dialer: Arc<TlsDialer>,
}

impl Dialers {
    /// That of a backend, which is new where the backend or what its pool says is not what it was before.
    pub fn of(
        &mut self,
        backend: BackendId,
        tls: &Arc<ClientTls>,
        address: &Address,
        host: Option<&Arc<str>>,
    ) -> Arc<TlsDialer> {
        if self.0.len() <= backend.index() {
            self.0.resize_with(backend.index() + 1, || None);
        }
        let place = &mut self.0[backend.index()];
        let is_same = |known: &&KnownDialer| {
            Arc::ptr_eq(&known.tls, tls) && known.address == *address && known.host.as_ref() == host
        };
        if let Some(known) = place.as_ref().filter(is_same) {
            return known.dialer.clone();
        }
        let dialer = Arc::new(tls.dialer(address, host.map(|host| &**host)));
        let (tls, address, host) = (tls.clone(), address.clone(), host.cloned());
        *place = Some(KnownDialer { tls, address, host, dialer: dialer.clone() });
        dialer
    }
}
