//! Which backend a client would get and why, answered by the code that serves: the same table, the same pick. Pure.
//!
//! The answer is that of a ringway that has just started: every backend is up and has no session. `ringway explain`
//! prints it (`cli::explain`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::build::{self, Input, Member};
use super::ids::Ids;
use super::table::{Phase, PoolEntry, Table};
use crate::admit::routes::{self, Said};
use crate::balance::{Ask, Counts, Pick};
use crate::base::address::Address;
use crate::base::hash;
use crate::base::host;
use crate::base::id::{BackendId, PoolId};
use crate::base::refused::Refused;
use crate::base::time::Moment;
use crate::config::model::{Backend, Chains, Config, HashKey, Lead, Listener, Policy, Pool, Target};
use crate::health::State;
use crate::wire::first_bytes::Protocol;

/// How many keys or sessions are used to measure shares.
pub const SAMPLE: u32 = 1 << 16;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct ExplainQuestion<'a> {
    /// The name of a listener.
    pub listener: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port, if it is given.
    pub port: Option<u16>,
    /// What it speaks; `None` is TLS if one of the two below is given, and else nothing.
    pub protocol: Option<Protocol>,
    /// The server name that its TLS asks for.
    pub sni: Option<&'a str>,
    /// A protocol that its TLS offers.
    pub alpn: Option<&'a str>,
    /// Of a split the pool that is to be explained; `None` means the first one that gets clients.
    pub pool: Option<&'a str>,
    /// The name of a backend that is imagined away.
    pub without: Option<&'a str>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The pool that serves this client.
    pub pool: Arc<str>,
    /// The pools among which such clients are divided, with their weights; empty if one pool gets all of them.
    pub split: Vec<(Arc<str>, u16)>,
    /// The pools that come before it, because each of them has too few backends and falls back to the next one.
    pub fallen: Vec<Arc<str>>,
    /// Why the client is refused nevertheless; `None` if it is not.
    pub refused: Option<Refused>,
    /// The policy of the pool.
    pub balance: Policy,
    /// The client's hash key; `None` if the policy does not look at the client's address.
    pub key: Option<u64>,
    /// The backends to which one session of the client would connect, one after another, until one accepts.
    pub order: Vec<Arc<str>>,
    /// For each backend, in the order of the file: how many of [`SAMPLE`] clients would get it.
    pub shares: Vec<(Arc<str>, u32)>,
    /// The answer without the backend that is imagined away; `None` if none is.
    pub without: Option<Without>,
}

/// What changes without a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Without {
    /// The pool that serves this client then: another one if too few backends are left.
    pub pool: Arc<str>,
    /// The same as [`Explanation::order`], without the backend.
    pub order: Vec<Arc<str>>,
    /// Out of [`SAMPLE`] clients: how many the backend had, and how many get another one than before. `None` if no
    /// client is tied to a backend.
    pub moved: Option<(u32, u32)>,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExplainError {
    /// There is no such listener.
    #[error("there is no listener `{0}`; there is {1}")]
    Listener(String, String),
    /// The pool has no such backend.
    #[error("pool `{0}` has no backend `{1}`; it has {2}")]
    Backend(Arc<str>, String, String),
    /// The key is made of address and port, and no port was given.
    #[error("pool `{0}` hashes by source_ip_port; give the port too, as in {1}:40000")]
    Port(Arc<str>, IpAddr),
}

/// The pool or the pools for this client, and whether the client is refused.
fn door(listener: &Listener, question: ExplainQuestion<'_>) -> (Lead, Option<Refused>) {
    let own = || Lead { pool: listener.pool.clone(), split: listener.split.clone() };
    let client = Address::Tcp(SocketAddr::new(question.client, question.port.unwrap_or_default()));
    if !listener.rules.admit(Some(&client)) {
        return (own(), Some(Refused::Deny));
    }
    let Some(preread) = &listener.preread else { return (own(), None) };
    let name = question.sni.and_then(host::server_name);
    let offered: Vec<Vec<u8>> = question.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let is_tls = question.sni.is_some() || question.alpn.is_some();
    let protocol = question.protocol.or(is_tls.then_some(Protocol::Tls));
    match routes::find(&preread.routes, Said { protocol, name: name.as_deref(), offers: &offered }) {
        Some((_, route)) if !route.guard.rules.admit(Some(&client)) => (route.pool.clone(), Some(Refused::Deny)),
        Some((_, route)) => (route.pool.clone(), None),
        None => (own(), preread.refuses_unmatched.then_some(Refused::Unmatched)),
    }
}

/// Answers a question about a configuration.
///
/// # Errors
/// The question names something that is not there.
pub fn explain(config: &Config, question: ExplainQuestion<'_>) -> Result<Explanation, ExplainError> {
    let names = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let listener = config.listeners.iter().find(|listener| *listener.name == *question.listener);
    let listener = listener.ok_or_else(|| {
        let known = names(config.listeners.iter().map(|listener| &*listener.name).collect());
        ExplainError::Listener(question.listener.to_string(), known)
    })?;
    let (lead, refused) = door(listener, question);
    let chain = Chains::of(config).from(question.pool.unwrap_or(&lead.pool));
    let nobody = || ExplainError::Listener(question.listener.to_string(), String::new());
    let all = Idle::new(config, &chain, None).ok_or_else(nobody)?;
    let (fallen, pool) = (&chain[..all.place], chain[all.place]);
    if let Some(without) = question.without
        && !pool.backends.iter().any(|backend| *backend.name == *without)
    {
        let known = names(pool.backends.iter().map(|backend| &*backend.name).collect());
        return Err(ExplainError::Backend(pool.name.clone(), without.to_string(), known));
    }
    let key = key_of(pool, question)?;
    let before = all.sample();
    let without = question.without.and_then(|without| {
        let left = &chain[all.place..];
        let fewer = Idle::new(config, left, Some(without))?;
        let is_tied = pool.balance.hash_key().is_some() || pool.balance.sends_all_to_one();
        let moved = is_tied.then(|| moved(&before, &fewer.sample(), all.id(without)));
        Some(Without { pool: left[fewer.place].name.clone(), order: fewer.order(key), moved })
    });
    let shares = |backend: &Backend| {
        let id = all.id(&backend.name);
        (backend.name.clone(), before.iter().filter(|picked| **picked == id).count() as u32)
    };
    let tied = pool.balance.hash_key().is_some();
    Ok(Explanation {
        pool: pool.name.clone(),
        split: lead.split.iter().map(|share| (share.pool.clone(), share.weight)).collect(),
        fallen: fallen.iter().map(|pool| pool.name.clone()).collect(),
        refused,
        balance: pool.balance,
        key: tied.then_some(key),
        order: all.order(key),
        shares: pool.backends.iter().map(shares).collect(),
        without,
    })
}

/// The hash key of the client.
fn key_of(pool: &Pool, question: ExplainQuestion<'_>) -> Result<u64, ExplainError> {
    match pool.balance.hash_key() {
        Some(HashKey::SourceIpPort) => match question.port {
            Some(port) => Ok(hash::of_ip_port(question.client, port)),
            None => Err(ExplainError::Port(pool.name.clone(), question.client)),
        },
        _ => Ok(hash::of_ip(question.client)),
    }
}

/// How many clients `gone` had, and how many have another backend now.
fn moved(before: &[Option<BackendId>], after: &[Option<BackendId>], gone: Option<BackendId>) -> (u32, u32) {
    let owned = before.iter().filter(|picked| **picked == gone).count();
    let moved = before.iter().zip(after).filter(|(before, after)| before != after).count();
    (owned as u32, moved as u32)
}

/// The pool of a ringway that has just started that serves the clients of the first one in a chain of fallbacks.
struct Idle {
    /// A table with the pools of the chain.
    table: Table,
    /// Its id in that table.
    id: PoolId,
    /// Its place in the chain.
    place: usize,
    /// The backends of all pools in the chain.
    members: Vec<Member>,
}

impl Idle {
    /// Builds the table of these pools, without the backend `without` of the first one. `None` if there is no pool.
    fn new(config: &Config, chain: &[&Pool], without: Option<&str>) -> Option<Idle> {
        let mut ids = Ids::assign(config);
        let first = ids.pool(&chain.first()?.name)?;
        let mut members = Vec::new();
        for pool in chain {
            let id = ids.pool(&pool.name)?;
            members.extend(pool.backends.iter().map(|backend| member(&mut ids, id, backend)));
        }
        members.retain(|member| member.pool != first || Some(&*member.name) != without);
        let input =
            Input { config, ids: &ids, members: &members, phase: Phase::Serving, generation: 1, previous: None };
        let table = build::build(input);
        let id = table.pool(first)?.falls_to.unwrap_or(first);
        let place = chain.iter().position(|pool| ids.pool(&pool.name) == Some(id))?;
        Some(Idle { table, id, place, members })
    }

    /// The id of a backend.
    fn id(&self, name: &str) -> Option<BackendId> {
        let mut members = self.members.iter().filter(|member| member.pool == self.id);
        members.find(|member| *member.name == *name).map(|member| member.id)
    }

    /// What the picker answers.
    fn pick(&self, key: u64, counts: &Counts, tried: &[BackendId]) -> Option<BackendId> {
        let pool: &PoolEntry = self.table.pool(self.id)?;
        let random = hash::stable(&key.to_le_bytes(), 1);
        match pool.picker.pick(self.id, counts, Ask { key, random, now: Moment(1), tried }) {
            Pick::Backend(id) => Some(id),
            Pick::Full | Pick::Nobody => None,
        }
    }

    /// The backends that one session would try, in order.
    fn order(&self, key: u64) -> Vec<Arc<str>> {
        let (counts, mut tried, mut names) = (Counts::new(), Vec::new(), Vec::new());
        while let Some(id) = self.pick(key, &counts, &tried) {
            counts.closed(id);
            tried.push(id);
            names.extend(self.members.iter().find(|member| member.id == id).map(|member| member.name.clone()));
        }
        names
    }

    /// The backend of each of many clients. If the policy looks at open sessions, all sessions stay open.
    fn sample(&self) -> Vec<Option<BackendId>> {
        let counts = Counts::new();
        let stay = self.table.pool(self.id).is_some_and(|pool| pool.hash_key.is_none());
        let one = |number: u32| {
            let picked = self.pick(hash::stable(&number.to_le_bytes(), 0), &counts, &[])?;
            if !stay {
                counts.closed(picked);
            }
            Some(picked)
        };
        (0..SAMPLE).map(one).collect()
    }
}

/// A backend that is up, or in maintenance if it is disabled.
fn member(ids: &mut Ids, pool: PoolId, backend: &Backend) -> Member {
    let address = match backend.target.place() {
        Target::Address(address) => address.clone(),
        // Only a lookup knows where a host name leads. One address is most likely.
        Target::AtClientPort { .. } => crate::base::address::Address::Tcp(([0, 0, 0, 0], 0).into()),
        Target::Host { port, .. } => crate::base::address::Address::Tcp(([0, 0, 0, 0], *port).into()),
    };
    Member {
        id: ids.number_backend(pool, &backend.name, Some(&address)),
        pool,
        name: backend.name.clone(),
        hash_name: backend.name.clone(),
        host: None,
        address: Some(address),
        port_shift: backend.target.shift(),
        origin: backend.origin.name(),
        weight: backend.weight,
        backup: backend.backup,
        connections_max: None,
        state: if backend.disabled { State::Maintenance } else { State::Up },
        ramp_from: None,
        end_sessions: false,
        yielded_at: Moment::default(),
        retired: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{consistent_hash, failover, least_conn, random, round_robin};
    use crate::config::model::SplitShare;
    use crate::snapshot::build::tests::{config, pool};

    const HASH: Policy = consistent_hash::POLICY;

    fn ask(without: Option<&str>) -> ExplainQuestion<'_> {
        ExplainQuestion {
            listener: "p",
            client: IpAddr::from([10, 1, 2, 3]),
            port: None,
            protocol: None,
            sni: None,
            alpn: None,
            pool: None,
            without,
        }
    }

    fn with(balance: Policy) -> Config {
        let mut config = config(vec![pool("p", &["a", "b", "c", "d"])]);
        config.pools[0].balance = balance;
        config
    }

    #[test]
    fn the_order_of_attempts_names_every_usable_backend_once() {
        for balance in [round_robin::POLICY, least_conn::POLICY, HASH, random::POLICY, failover::POLICY] {
            let mut config = with(balance);
            config.pools[0].backends[1].disabled = true;
            config.pools[0].backends[0].backup = 1;
            let mut order = explain(&config, ask(None)).unwrap().order;
            assert_eq!(order.pop().as_deref(), Some("a"), "{balance:?}: the backup comes last");
            order.sort_unstable();
            assert_eq!(order, ["c".into(), "d".into()] as [Arc<str>; 2]);
        }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for balance in [round_robin::POLICY, least_conn::POLICY, HASH, random::POLICY] {
            let mut config = with(balance);
            config.pools[0].backends[3].weight = 5;
            for (name, share) in explain(&config, ask(None)).unwrap().shares {
                let fair = SAMPLE / 8 * if &*name == "d" { 5 } else { 1 };
                assert!(share.abs_diff(fair) < SAMPLE / 100, "{balance:?} {name}: {share} and not {fair}");
            }
        }
    }

    #[test]
    fn without_a_backend_little_more_than_its_own_clients_move() {
        let config = with(HASH);
        let home = explain(&config, ask(None)).unwrap().order[0].clone();
        let answer = explain(&config, ask(Some(&home))).unwrap();
        let without = answer.without.unwrap();
        let (owned, moved) = without.moved.unwrap();
        assert!(owned.abs_diff(SAMPLE / 4) < SAMPLE / 50 && (owned..owned * 5 / 4).contains(&moved), "{owned} {moved}");
        assert!(answer.order[0] == home && !without.order.contains(&home));
        let without = explain(&with(failover::POLICY), ask(Some("a"))).unwrap().without.unwrap();
        assert_eq!(without.moved, Some((SAMPLE, SAMPLE)));
        let without = explain(&with(round_robin::POLICY), ask(Some("a"))).unwrap().without.unwrap();
        assert_eq!(without.moved, None);
    }

    #[test]
    fn a_pool_with_too_few_backends_is_explained_by_the_one_that_it_falls_back_to() {
        let mut pools = vec![pool("p", &["a", "b"]), pool("q", &["a"]), pool("r", &["x", "y"])];
        (pools[0].fallback, pools[0].up_min) = (Some("q".into()), 2);
        (pools[1].fallback, pools[1].up_min) = (Some("r".into()), 2);
        let mut config = config(pools);
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let answer = explain(&config, ask(Some("b"))).unwrap();
        assert_eq!((&*answer.pool, answer.fallen, answer.order), ("p", vec![], names(&["a", "b"])));
        let without = answer.without.unwrap();
        assert_eq!((&*without.pool, without.order, without.moved), ("r", names(&["x", "y"]), None));
        config.pools[0].backends[0].weight = 0;
        let answer = explain(&config, ask(None)).unwrap();
        assert_eq!((&*answer.pool, answer.fallen), ("r", names(&["p", "q"])));
        assert_eq!(answer.shares.iter().map(|(_, share)| share).sum::<u32>(), SAMPLE);
        config.pools[1].fallback = None;
        let answer = explain(&config, ask(None)).unwrap();
        assert_eq!((&*answer.pool, answer.order), ("q", vec![]), "the last one has too few, too");
    }

    #[test]
    fn of_a_split_each_pool_can_be_explained() {
        let mut config = config(vec![pool("p", &["a"]), pool("q", &["x"])]);
        let share = |(pool, weight): (&str, u16)| SplitShare { pool: pool.into(), weight };
        config.listeners[0].split = [("q", 10), ("p", 90)].into_iter().map(share).collect();
        let of = |pool: Option<&'static str>| explain(&config, ExplainQuestion { pool, ..ask(None) }).unwrap();
        assert_eq!(of(None).split, [("q".into(), 10), ("p".into(), 90)] as [(Arc<str>, u16); 2]);
        assert_eq!((&*of(Some("q")).pool, &*of(Some("q")).order[0], &*of(Some("p")).pool), ("q", "x", "p"));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let config = with(consistent_hash::POLICY.hashing(HashKey::SourceIpPort, None));
        let error = |question| explain(&config, question).unwrap_err().to_string();
        assert_eq!(error(ExplainQuestion { listener: "x", ..ask(None) }), "there is no listener `x`; there is `p`");
        assert_eq!(error(ask(Some("x"))), "pool `p` has no backend `x`; it has `a`, `b`, `c`, `d`");
        assert!(error(ask(None)).contains("10.1.2.3:40000"));
        assert!(explain(&config, ExplainQuestion { port: Some(1), ..ask(None) }).is_ok());
    }

    #[test]
    fn rules_and_routes_come_before_backends() {
        let text = "[listeners.p]\nbind = \"127.0.0.1:1\"\npool = \"p\"\ndeny = [\"10.1.0.0/16\"]\n\
                    unmatched = \"refuse\"\nroutes = [{ sni = [\"*.example\"], pool = \"q\" }, \
                    { alpn = [\"h2\"], pool = \"q\" }]\n\
                    [pools]\np.backends = [{ address = \"10.0.0.1:1\" }]\n\
                    q.backends = [{ address = \"10.0.0.2:1\" }]\n";
        let config = crate::config::load(text, "t", &|_: &str| None).unwrap();
        let to = |client: [u8; 4], sni| {
            let question = ExplainQuestion { client: IpAddr::from(client), sni, ..ask(None) };
            let answer = explain(&config, question).unwrap();
            (answer.pool.to_string(), answer.refused)
        };
        assert_eq!(to([10, 1, 2, 3], Some("a.example")), ("p".to_string(), Some(Refused::Deny)));
        assert_eq!(to([10, 2, 2, 3], Some("A.Example")), ("q".to_string(), None));
        assert_eq!(to([10, 2, 2, 3], Some("A.Example.")), ("q".to_string(), None), "as the worker reads it");
        for no_name in [None, Some("-a.example"), Some("a b.example")] {
            assert_eq!(to([10, 2, 2, 3], no_name), ("p".to_string(), Some(Refused::Unmatched)));
        }
        let offers = ExplainQuestion { client: IpAddr::from([10, 2, 2, 3]), alpn: Some("h2"), ..ask(None) };
        assert_eq!(explain(&config, offers).unwrap().refused, None);
    }
}
