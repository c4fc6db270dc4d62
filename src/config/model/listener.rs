//! The meaning of `[listeners.NAME]`, and of what a listener asks of its clients.
//!
//! Defaults are filled in, and every name of a pool is one that exists. The workers do not read this: they read the
//! [`ListenerEntry`](crate::snapshot::table::ListenerEntry) that is made of it.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admit::networks::Network;
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
    /// Whether its addresses need not be this host's.
    pub freebind: bool,
    /// The length of the accept queue, per socket.
    pub backlog: u32,
    /// How many client connections can be open; `None` means any number.
    pub connections_max: Option<NonZeroU32>,
    /// Which client addresses can connect: what the four keys below come to.
    pub rules: Rules,
    /// Clients that can connect, as the file has them.
    pub allow: Networks,
    /// Clients that cannot connect, as the file has them.
    pub deny: Networks,
    /// More of `allow`.
    pub allow_file: Option<NetworkFile>,
    /// More of `deny`.
    pub deny_file: Option<NetworkFile>,
    /// The limits per client address.
    pub source_limits: sources::Quota,
    /// Clients that those limits do not count.
    pub source_unlimited: Networks,
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

/// A list of networks in a file of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkFile {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it when the configuration was read.
    pub networks: Vec<Network>,
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
