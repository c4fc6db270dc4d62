//! What is kept of a client's TLS for others: the name that it asked for and what a PROXY header says of it, until its
//! session has a backend, and its certificate for the log.

use super::Worker;
use super::slots::SlotKey;
use crate::kernel::Kernel;
use crate::tls::facts;
use crate::tls::handshake::Agreed;
use crate::wire::proxy::{ClientTlsFacts, Version, encode_tls};

impl<K: Kernel> Worker<K> {
    /// Keeps the name that a client asked for, if its pool asks backends for the same one.
    pub(super) fn keep_asked_name(&mut self, key: SlotKey, name: Option<Box<str>>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let tls = self.known.reader.table().pool(slot.pool).and_then(|pool| pool.tls.as_ref());
        if name.is_some() && tls.is_some_and(|tls| tls.wants_name_of_client()) {
            slot.detour_mut().asked_name = name;
        }
    }

    /// Keeps what was agreed on with a client, as far as the log or its backend is to hear of it.
    pub(super) fn keep_for_backend(&mut self, key: SlotKey, agreed: Agreed) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let certificate = agreed.certificate.as_deref();
        if let (Some(draft), Some(der)) = (&mut slot.draft, certificate)
            && let Some(subject) = facts::subject(der)
        {
            draft.has_certificate(subject.into());
        }
        let table = self.known.reader.table();
        let pool = table.pool(slot.pool);
        let fallback = pool.and_then(|pool| table.pool(pool.falls_to?));
        let says_more = |pool: &crate::snapshot::table::PoolEntry| pool.dial.send_proxy == Some(Version::V2);
        if pool.is_some_and(says_more) || fallback.is_some_and(says_more) {
            let common_name = certificate.and_then(facts::common_name);
            slot.detour_mut().tls_values = Some(
                encode_tls(&ClientTlsFacts {
                    server_name: agreed.server_name.as_deref(),
                    protocol: agreed.protocol.as_deref(),
                    version: agreed.version,
                    cipher: agreed.cipher,
                    has_certificate: certificate.is_some(),
                    common_name: common_name.as_deref(),
                    is_resumed: agreed.is_resumed,
                })
                .into(),
            );
        }
        self.keep_asked_name(key, agreed.server_name.map(Into::into));
    }
}
