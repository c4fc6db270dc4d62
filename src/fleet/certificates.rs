//! Certificates that change while ringway runs: what listeners show, and what pools believe and show to their backends.
//!
//! The configuration stays the same, because it only names the files. What the files say is carried in it, so that the
//! next table has it, and a reload finds what was in use.

use std::sync::Arc;

use super::Fleet;
use crate::tls::{ClientTls, ServerTls};

impl Fleet {
    /// Has a listener show other certificates from the next table on; false if they are what it shows already.
    pub fn renew_certificates(&mut self, listener: &str, server: &Arc<ServerTls>) -> bool {
        let shown = self.config.listeners.iter().position(|one| *one.name == *listener);
        let Some(place) = shown else { return false };
        let tls = self.config.listeners[place].tls.as_ref();
        let is_same = tls.is_none_or(|tls| tls.loaded.get().is_some_and(|known| known.says_the_same(server)));
        if !is_same {
            for config in [&mut self.config, &mut self.file] {
                let known = Arc::make_mut(config).listeners.iter_mut().find(|one| *one.name == *listener);
                if let Some(tls) = known.and_then(|listener| listener.tls.as_mut()) {
                    tls.loaded.set(server.clone());
                }
            }
        }
        !is_same
    }

    /// Has connections to the backends of a pool begin by other certificates from the next table on; false if they are
    /// those in use already.
    pub fn renew_backend_tls(&mut self, pool: &str, client: &Arc<ClientTls>) -> bool {
        let Some(place) = self.config.pools.iter().position(|one| *one.name == *pool) else { return false };
        let tls = self.config.pools[place].tls.as_ref();
        let is_same = tls.is_none_or(|tls| tls.loaded.get().is_some_and(|known| known.says_the_same(client)));
        if !is_same {
            for config in [&mut self.config, &mut self.file] {
                let known = Arc::make_mut(config).pools.iter_mut().find(|one| *one.name == *pool);
                if let Some(tls) = known.and_then(|pool| pool.tls.as_mut()) {
                    tls.loaded.set(client.clone());
                }
            }
        }
        !is_same
    }
}
