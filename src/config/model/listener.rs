//! The meaning of `[listeners.NAME]`, and of what a listener asks of its clients.
//!
//! Defaults are filled in, and every name of a pool is one that exists. The workers do not read this: they read the
//! [`ListenerEntry`](crate::snapshot::table::ListenerEntry) that is made of it.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::tls::ListenerTls;
use crate::admit::networks::Network;
use crate::admit::routes::Route;
use crate::admit::{Networks, Rules, sources};
use crate::base::address::{Address, BindAddress};

/// Where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Its addresses, with port ranges written out; at least one. No address appears twice in a configuration with the
    /// same interface.
    pub binds: Vec<Address>,
    /// The pool for clients that no route sends elsewhere; of a split its first one that gets any.
    pub pool: Arc<str>,
    /// Whether there are such clients; if not, they are refused, and `pool` is that of the first route.
    pub has_pool: bool,
    /// The pools among which those clients are divided; empty if `pool` gets all of them.
    pub split: Arc<[SplitShare]>,
    /// The permission bits of its unix sockets.
    pub unix_mode: u32,
    /// Whether its addresses need not be this host's.
    pub freebind: bool,
    /// The only network interface on which its TCP addresses accept; `None` means every one.
    pub interface: Option<Arc<str>>,
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
    /// How TLS ends here; `None` means that it is passed on, as every other byte.
    pub tls: Option<ListenerTls>,
}

impl Listener {
    /// Where its sockets are: each address with the interface that it is limited to.
    pub fn places(&self) -> impl Iterator<Item = BindAddress> {
        self.binds.iter().map(|address| BindAddress::new(address, self.interface.as_ref()))
    }

    /// Every pool that its clients can get without a fallback, its own first.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<str>> {
        pools_of(&self.pool, &self.split).chain(self.route_pools())
    }

    /// Every entry of every split, those without a share too.
    pub fn shares(&self) -> impl Iterator<Item = &SplitShare> {
        let routes = self.preread.iter().flat_map(|preread| preread.routes.iter());
        self.split.iter().chain(routes.flat_map(|route| route.pool.split.iter()))
    }

    /// The pools of its routes.
    pub fn route_pools(&self) -> impl Iterator<Item = &Arc<str>> {
        let routes = self.preread.iter().flat_map(|preread| preread.routes.iter());
        routes.flat_map(|route| pools_of(&route.pool.pool, &route.pool.split))
    }
}

/// The pools of a split that get sessions; without a split the only pool.
fn pools_of<'l>(pool: &'l Arc<str>, split: &'l [SplitShare]) -> impl Iterator<Item = &'l Arc<str>> {
    let used = split.iter().filter(|share| share.weight > 0).map(|share| &share.pool);
    std::iter::once(pool).filter(|_| split.is_empty()).chain(used)
}

/// One entry of `split`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SplitShare {
    /// The pool.
    pub pool: Arc<str>,
    /// Its share, 0 to 256; with 0 it gets no session.
    pub weight: u16,
}

impl fmt::Display for SplitShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pool, self.weight)
    }
}

/// Where the clients of a route go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lead {
    /// The pool; of a split its first one that gets any.
    pub pool: Arc<str>,
    /// The pools among which they are divided; empty if `pool` gets all of them.
    pub split: Arc<[SplitShare]>,
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
    pub routes: Arc<[Route<Lead>]>,
    /// How long the ClientHello can take; zero means without end.
    pub timeout: Duration,
    /// Whether a client that matches no route is refused; if not, the listener's own pool serves it.
    pub refuses_unmatched: bool,
}
