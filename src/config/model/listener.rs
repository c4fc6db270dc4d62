//! The meaning of `[listeners.NAME]`, and of what a listener asks of its clients.
//!
//! Defaults are filled in, and every name of a pool is one that exists. The workers do not read this: they read the
//! [`ListenerEntry`](crate::snapshot::table::ListenerEntry) that is made of it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::routes::Route;
use crate::admit::{Networks, Rules, sources};
use crate::base::address::Address;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its addresses, with port ranges written out; at least one. No address appears twice in a configuration.
    pub binds: Vec<Address>,
    /// The pool for clients that no route sends elsewhere.
    pub pool: Arc<str>,
    /// The permission bits of its unix sockets.
    pub unix_mode: u32,
    /// The length of the accept queue, per socket.
    pub backlog: u32,
    /// How many client connections can be open; `None` means any number.
    pub connections_max: Option<NonZeroU32>,
    /// Which client addresses can connect.
    pub rules: Rules,
    /// The limits per client address.
    pub source_limits: sources::Quota,
    /// Whether clients must send a PROXY header; `None` means `"off"`.
    pub proxy: Option<AcceptProxy>,
    /// Whether the client's TLS decides about the pool; `None` without routes.
    pub preread: Option<Preread>,
}

impl Listener {
    /// Every pool that its clients can get, its own first.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<str>> {
        let routes = self.preread.iter().flat_map(|preread| preread.routes.iter());
        std::iter::once(&self.pool).chain(routes.map(|route| &route.pool))
    }
}

/// `accept_proxy = "required"` and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptProxy {
    /// The addresses that can send a header; not empty.
    pub trusted: Networks,
    /// How long the whole header can take; zero means without end.
    pub timeout: Duration,
}

/// `[[listeners.NAME.routes]]` and what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Preread {
    /// The routes in the order of the file, with names of pools; at least one.
    pub routes: Arc<[Route<Arc<str>>]>,
    /// How long the ClientHello can take; zero means without end.
    pub timeout: Duration,
    /// Whether a client that matches no route is refused; if not, the listener's own pool serves it.
    pub refuses_unmatched: bool,
}
