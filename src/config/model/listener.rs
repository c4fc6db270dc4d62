//! Listeners, and what they ask of clients.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::routes::Route;
use crate::admit::{Networks, Rules, sources};
use crate::base::address::Address;

/// `[listeners.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// NAME.
    pub name: Arc<str>,
    /// Each address, port ranges written out; at least one, no two the same in a configuration.
    pub binds: Vec<Address>,
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Permission bits of unix sockets.
    pub unix_mode: u32,
    /// Accept queue of each socket.
    pub backlog: u32,
    /// Client connections at once; `None`: however many there are.
    pub connections_max: Option<NonZeroU32>,
    /// Who may connect.
    pub rules: Rules,
    /// What each client address may have.
    pub source_limits: sources::Quota,
    /// A PROXY header comes first; `None` is `"off"`.
    pub proxy: Option<AcceptProxy>,
    /// Clients go to a pool by what their TLS says; `None` without routes.
    pub preread: Option<Preread>,
}

impl Listener {
    /// Every pool that its clients may get, its own first.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<str>> {
        let routes = self.preread.iter().flat_map(|preread| preread.routes.iter());
        std::iter::once(&self.pool).chain(routes.map(|route| &route.pool))
    }
}

/// `accept_proxy = "required"` with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptProxy {
    /// Who may send a header; not empty.
    pub trusted: Networks,
    /// For the whole header to come; zero: without end.
    pub timeout: Duration,
}

/// `[[listeners.NAME.routes]]` with what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Preread {
    /// In the order of the file, with names of pools; at least one.
    pub routes: Arc<[Route<Arc<str>>]>,
    /// For the ClientHello to come; zero: without end.
    pub timeout: Duration,
    /// Who fits no route is refused rather than served by the listener's own pool.
    pub refuses_unmatched: bool,
}
