//! The table: everything a worker must know to serve, as it is at one moment.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::admit::routes::Route;
use crate::admit::{Rules, sources};
use crate::balance::Picker;
use crate::base::address::Address;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId};
use crate::base::time::Moment;
pub use crate::config::model::{AcceptProxy, Dial, HashKey, Limits, LocalAddress, Queue};
use crate::health::State;
use crate::session;

/// What workers may know. Immutable; a change is a new table with a greater generation.
#[derive(Clone, Debug)]
pub struct Table {
    /// Number of this table; each published one has a greater one than those before.
    pub generation: u64,
    /// What the process as a whole is doing.
    pub phase: Phase,
    /// By [`ListenerId`]; `None` is a slot nobody has.
    pub listeners: Vec<Option<ListenerEntry>>,
    /// By [`RouteId`]: every way that sessions go or went, from which listener to which pool.
    pub routes: Vec<(ListenerId, PoolId)>,
    /// By [`PoolId`].
    pub pools: Vec<Option<PoolEntry>>,
    /// By [`BackendId`].
    pub backends: Vec<Option<BackendEntry>>,
}

/// What the process as a whole is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Accepting.
    Serving,
    /// Accepting still, and saying that it will not for long: whoever sends clients here is to send them elsewhere.
    Leaving {
        /// Until then.
        until: Moment,
    },
    /// Accepting no more; open sessions may live on.
    Draining {
        /// Until then.
        until: Moment,
    },
    /// Resetting what is left, now.
    Stopping,
}

impl Phase {
    /// Whether new connections are served.
    pub fn accepts(self) -> bool {
        matches!(self, Phase::Serving | Phase::Leaving { .. })
    }
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerEntry {
    /// Its slot.
    pub id: ListenerId,
    /// `[listeners.NAME]`
    pub name: Arc<str>,
    /// Who serves its clients, if no route leads them elsewhere.
    pub pool: PoolId,
    /// The way there.
    pub route: RouteId,
    /// Client connections at once.
    pub connections_max: Option<NonZeroU32>,
    /// Connections that may wait to be accepted, of each address and worker.
    pub backlog: u32,
    /// Addresses that it binds.
    pub addresses: u32,
    /// What is asked of a client before it is served; `None`: nothing.
    pub admission: Option<Arc<Admission>>,
    /// No longer configured: it accepts nobody, and has the clients that it accepted before.
    pub retired: bool,
}

/// What a listener asks of a client before it is served.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who may connect.
    pub rules: Rules,
    /// What each source may have.
    pub source_limits: Option<sources::Quota>,
    /// A PROXY header must come first.
    pub proxy: Option<AcceptProxy>,
    /// What its TLS says leads it to a pool.
    pub preread: Option<PrereadEntry>,
}

/// How clients are led to pools by their TLS.
#[derive(Clone, Debug)]
pub struct PrereadEntry {
    /// In the order of the file.
    pub routes: Vec<Route<(PoolId, RouteId)>>,
    /// For the ClientHello to come; 0: without end.
    pub timeout_ns: u64,
    /// Who fits no route is refused.
    pub refuses_unmatched: bool,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct PoolEntry {
    /// Its slot.
    pub id: PoolId,
    /// `[pools.NAME]`
    pub name: Arc<str>,
    /// Chooses among the backends that are usable now.
    pub picker: Picker,
    /// The backend that `failover` sends everybody to, for as long as it is usable.
    pub chosen: Option<BackendId>,
    /// What of the client the picker's key is made of; `None` if it needs no key.
    pub hash_key: Option<HashKey>,
    /// What a session captures when it is admitted.
    pub session: Arc<session::SessionLimits>,
    /// What its sockets are set to is among these.
    pub limits: Limits,
    /// How its backends are connected to.
    pub dial: Dial,
    /// Who may wait, and how long.
    pub queue: Queue,
    /// While no backend is usable, clients wait until it is known which one is the primary.
    pub waits_for_primary: bool,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct BackendEntry {
    /// Its slot.
    pub id: BackendId,
    /// Its pool.
    pub pool: PoolId,
    /// Unique in its pool.
    pub name: Arc<str>,
    /// Where to connect; `None` while its name has no address.
    pub address: Option<Address>,
    /// 0 to 256.
    pub weight: u16,
    /// Used only where no other is.
    pub backup: bool,
    /// Sessions it takes at once.
    pub connections_max: Option<NonZeroU32>,
    /// What it may be used for.
    pub state: State,
    /// Its sessions are to be reset now.
    pub end_sessions: bool,
    /// No longer configured, or at another address now: it only keeps the sessions it has, and another entry may have
    /// its name.
    pub retired: bool,
}

impl Table {
    /// The listener in that slot.
    #[inline]
    pub fn listener(&self, id: ListenerId) -> Option<&ListenerEntry> {
        self.listeners.get(id.index())?.as_ref()
    }

    /// The pool in that slot.
    #[inline]
    pub fn pool(&self, id: PoolId) -> Option<&PoolEntry> {
        self.pools.get(id.index())?.as_ref()
    }

    /// The backend in that slot.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<&BackendEntry> {
        self.backends.get(id.index())?.as_ref()
    }
}
