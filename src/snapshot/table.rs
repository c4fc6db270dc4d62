//! The table: everything that a worker must know to serve, as of one moment.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::admit::routes::Route;
use crate::admit::sources::SourceScope;
use crate::admit::{Networks, Rules, sources};
use crate::balance::split::SplitOrder;
use crate::balance::{Counts, Picker};
use crate::base::address::Address;
use crate::base::id::{BackendId, ListenerId, PoolId, RouteId, SplitId};
use crate::base::time::Moment;
use crate::config::model::Lead;
pub use crate::config::model::{AcceptProxy, Dial, HashKey, Limits, LocalAddress, Queue, shifted};
use crate::health::State;
use crate::session;
use crate::tls::{ClientTls, ServerTls};

/// What workers know. It never changes; a change is a new table with a greater generation.
#[derive(Clone, Debug)]
pub struct Table {
    /// The number of this table. Each published table has a greater one than those before.
    pub generation: u64,
    /// The phase of the process.
    pub phase: Phase,
    /// By [`ListenerId`]; `None` for a slot that no listener has.
    pub listeners: Vec<Option<ListenerEntry>>,
    /// By [`RouteId`]: every way that sessions take or took, from a listener to a pool.
    pub routes: Vec<(ListenerId, PoolId)>,
    /// By [`PoolId`]; `None` for a slot that no pool has.
    pub pools: Vec<Option<PoolEntry>>,
    /// By [`BackendId`]; `None` for a slot that no backend has.
    pub backends: Vec<Option<BackendEntry>>,
}

/// The phase of the process, from serving to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// It accepts and serves.
    Serving,
    /// It still accepts, and says that it soon will not: load balancers in front should send clients elsewhere.
    Leaving {
        /// When it begins to drain.
        until: Moment,
    },
    /// It accepts no more; open sessions go on.
    Draining {
        /// When it begins to stop.
        until: Moment,
    },
    /// It resets all sessions that are left.
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
    /// The pool of its clients, unless a route leads them elsewhere.
    pub pool: PoolId,
    /// The way there.
    pub route: RouteId,
    /// The pools among which these clients are divided; `None` if that pool gets all of them.
    pub split: Option<Arc<SplitEntry>>,
    /// The ways to pools that its clients come to only by a fallback.
    pub fallbacks: Box<[(PoolId, RouteId)]>,
    /// The limit on open client connections.
    pub connections_max: Option<NonZeroU32>,
    /// How many connections can wait to be accepted, per address and worker.
    pub backlog: u32,
    /// How many addresses it has.
    pub addresses: u32,
    /// What is asked of a client before it is served; `None` means nothing.
    pub admission: Option<Arc<Admission>>,
    /// It is no longer configured: it accepts no client, and keeps those it has.
    pub retired: bool,
}

impl ListenerEntry {
    /// The way to a pool that another one falls back to; `None` if no fallback leads there.
    pub fn way_to_fallback(&self, pool: PoolId) -> Option<RouteId> {
        self.fallbacks.iter().find(|(id, _)| *id == pool).map(|(_, route)| *route)
    }
}

/// What a listener asks of a client before it is served.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Which clients can connect.
    pub rules: Rules,
    /// The limits per source address; `None` means none.
    pub source_limits: Option<sources::Quota>,
    /// Clients that those limits do not count.
    pub source_unlimited: Networks,
    /// Whether a PROXY header must come first; `None` means no.
    pub proxy: Option<AcceptProxy>,
    /// Whether the client's TLS decides about the pool; `None` means no.
    pub preread: Option<PrereadEntry>,
    /// TLS that ends here; `None` means that it is passed on.
    pub tls: Option<Arc<ServerTls>>,
}

/// How the client's TLS decides about the pool.
#[derive(Clone, Debug)]
pub struct PrereadEntry {
    /// The routes, in the order of the file.
    pub routes: Arc<[Route<RouteWay>]>,
    /// The configured ones that they were made of: while it has the same, the next table takes over `routes`.
    pub configured: Arc<[Route<Lead>]>,
    /// Whether a route asks a client of PostgreSQL for what its ClientHello says, so that its request for TLS is
    /// answered to see it.
    pub wants_hello: bool,
    /// Whether a route asks what the client speaks, so that enough bytes are awaited to tell.
    pub wants_protocol: bool,
    /// How long the ClientHello can take; 0 means without end.
    pub timeout_ns: u64,
    /// Whether a client that matches no route is refused.
    pub refuses_unmatched: bool,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub struct RouteWay {
    /// To which pools.
    pub way: Way,
    /// For its limits per source address.
    pub scope: SourceScope,
}

/// Where the clients of a route go.
#[derive(Clone, Debug)]
pub struct Way {
    /// The pool.
    pub pool: PoolId,
    /// The way there.
    pub route: RouteId,
    /// The pools among which they are divided; `None` if that pool gets all of them.
    pub split: Option<Arc<SplitEntry>>,
}

/// How new sessions are divided among pools.
#[derive(Clone, Debug)]
pub struct SplitEntry {
    /// Its slot.
    pub id: SplitId,
    /// Whose turn comes when.
    pub order: SplitOrder,
    /// The pools, with the ways to them.
    pub ways: Box<[(PoolId, RouteId)]>,
}

impl SplitEntry {
    /// The pool whose turn it is, and the way there. It takes the turn.
    pub fn next(&self, counts: &Counts) -> Option<(PoolId, RouteId)> {
        self.ways.get(self.order.at(counts.split_turn(self.id))).copied()
    }
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
    /// The backend to which `failover` sends all sessions while it is usable.
    pub chosen: Option<BackendId>,
    /// Fewer backends take new sessions than its `up_min`: it serves no new session.
    pub is_short: bool,
    /// The pool that serves its new sessions meanwhile: the first one that it falls back to that is not short itself,
    /// or else the last one. `None` if it serves them itself, or has no fallback.
    pub falls_to: Option<PoolId>,
    /// How long clients keep their backend after their last session; 0 means that they do not.
    pub sticky_ns: u64,
    /// Whether they also keep a backup while another backend is usable.
    pub sticks_to_backups: bool,
    /// What the picker's key is made of; `None` if the policy needs no key.
    pub hash_key: Option<HashKey>,
    /// The limits that a session takes with it when it is admitted.
    pub session: Arc<session::SessionLimits>,
    /// The same limits as they are configured; the options of sockets are among them.
    pub limits: Limits,
    /// How connections to its backends begin.
    pub dial: Dial,
    /// TLS to its backends; `None` means that bytes go to them as they are.
    pub tls: Option<Arc<ClientTls>>,
    /// Whether a backend is chosen only when the client has sent something, or has sent its FIN.
    pub awaits_first_byte: bool,
    /// How many clients can wait for a backend, and how long.
    pub queue: Queue,
    /// Whether clients wait while no backend is usable, until it is known which one is the primary.
    pub waits_for_primary: bool,
    /// Whether a source finds backends for it.
    pub is_discovered: bool,
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
    /// The host name by which the address was found; `None` if it stands in the file.
    pub host: Option<Arc<str>>,
    /// Its port is the one that the client connected to, with so much added. That of `address` is 0 then.
    pub port_shift: Option<i32>,
    /// Where it comes from, in a word: `config`, `api`, or the `type` of a source.
    pub origin: &'static str,
    /// 0 to 256.
    pub weight: u16,
    /// 0 if it is no backup. Else its level: it is used only if no backend of a lower level is.
    pub backup: u16,
    /// How many open sessions it can have.
    pub connections_max: Option<NonZeroU32>,
    /// Its state.
    pub state: State,
    /// Its sessions must be reset now.
    pub end_sessions: bool,
    /// Sessions that it got until then must be reset: they are to go to a backend that is no backup.
    pub yielded_at: Moment,
    /// It is no longer configured, or has another address now. It only keeps its last sessions, and another entry may
    /// have its name.
    pub retired: bool,
}

impl Table {
    /// The listener in this slot.
    #[inline]
    pub fn listener(&self, id: ListenerId) -> Option<&ListenerEntry> {
        self.listeners.get(id.index())?.as_ref()
    }

    /// The pool in this slot.
    #[inline]
    pub fn pool(&self, id: PoolId) -> Option<&PoolEntry> {
        self.pools.get(id.index())?.as_ref()
    }

    /// The backend in this slot.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<&BackendEntry> {
        self.backends.get(id.index())?.as_ref()
    }
}
