//! What control does in a schedule: a configuration at random, tables, questions, errands, and the end.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::hash::RandomState;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringway::admit::Sources;
use ringway::balance::Counts;
use ringway::base::address::Address;
use ringway::base::id::{BackendId, ListenerId, PoolId};
use ringway::base::time::{Clock, Moment};
use ringway::config::Config;
use ringway::health::State;
use ringway::kernel::{Bell, Fd};
use ringway::roster::{Filter, RosterRequest, What};
use ringway::snapshot::build::{Input, Member, build};
use ringway::snapshot::cell::Cell;
use ringway::snapshot::ids::Ids;
use ringway::snapshot::table::{Phase, Table};
use ringway::stats::Stats;
use ringway::stats::record::Journal;
use ringway::worker::{Errand, ListenSocket, Parts, Shared};

use crate::corner::Corner;
use crate::dice::Dice;
use crate::faults::Profile;
use crate::host::{Door, Host, Mood, Site, Thing};
use crate::kernel::SimBell;
use crate::leave::Leaving;
use crate::limits::Spans;

pub struct Control {
    pub shared: Arc<Shared>,
    pub config: Config,
    pub ids: Ids,
    pub members: Vec<Member>,
    pub phase: Phase,
    pub generation: u64,
    pub table: Table,
    /// Backends whose sessions were to end at some time.
    pub cut: BTreeSet<u32>,
    /// Backends that drained at some time.
    pub drained: BTreeSet<u32>,
    pub kills: bool,
    /// Workers that could not go on.
    pub given_up: Arc<AtomicU64>,
    pub listed: Arc<AtomicU64>,
    pub asked: u64,
    /// Slots of backends that are gone, and those that are free again.
    pub leaving: Vec<Leaving>,
    pub freed: HashSet<BackendId>,
    /// By address: whose connections come from it.
    owners: Vec<ListenerId>,
    /// Since then some belong to another listener than before.
    pub has_assigned: bool,
    /// By listener: the longest limits of its sessions.
    spans: Vec<Spans>,
    /// Since when clients wait for a pool whose backends have nothing to do.
    pub queue_stuck_since: Option<Moment>,
}

/// Says when no worker has a listening socket any more.
struct Owner(Arc<AtomicBool>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn or_zero(dice: &mut Dice, spans: &[&'static str]) -> &'static str {
    dice.pick(spans)
}

fn listener_text(dice: &mut Dice, out: &mut String, number: usize, pools: usize) -> std::fmt::Result {
    let pool = dice.below(pools as u64);
    let bind = if dice.one_in(5) { format!("unix:/sim/l{number}") } else { format!("127.0.0.1:{}", 7000 + number) };
    let split = "split = [{ pool = \"p0\", weight = 2 }, { pool = \"p1\" }]";
    let divides = |dice: &mut Dice| pools > 1 && dice.one_in(3);
    let lead = if divides(dice) { split.to_string() } else { format!("pool = \"p{pool}\"") };
    writeln!(out, "[listeners.l{number}]\nbind = \"{bind}\"\n{lead}")?;
    writeln!(out, "backlog = {}", dice.pick(&[1, 2, 4, 16]))?;
    writeln!(out, "connections_max = {}", dice.pick(&[0, 0, 0, 1, 2, 5]))?;
    if dice.one_in(6) {
        writeln!(out, "source_connections_max = {}", dice.between(1, 3))?;
    }
    if dice.one_in(10) {
        writeln!(out, "source_rate_max = \"{}\"", dice.pick(&["1/s", "3/s", "60/m"]))?;
    }
    if dice.one_in(4) {
        let timeout = or_zero(dice, &["0s", "20ms", "3s", "3s"]);
        writeln!(out, "accept_proxy = \"required\"\nproxy_trusted = [\"0.0.0.0/0\", \"unix:\"]")?;
        writeln!(out, "proxy_timeout = \"{timeout}\"")?;
    }
    if dice.one_in(3) {
        let timeout = or_zero(dice, &["0s", "20ms", "3s", "3s"]);
        writeln!(out, "preread_timeout = \"{timeout}\"\nunmatched = \"{}\"", dice.pick(&["default", "refuse"]))?;
        let pool = dice.below(pools as u64);
        let lead = if divides(dice) { split.to_string() } else { format!("pool = \"p{pool}\"") };
        writeln!(out, "[[listeners.l{number}.routes]]\nsni = [\"a.example\"]\n{lead}")?;
    }
    Ok(())
}

fn pool_text(dice: &mut Dice, out: &mut String, number: usize, pools: usize) -> std::fmt::Result {
    writeln!(out, "[pools.p{number}]\nbalance = \"{}\"", {
        dice.pick(&["round_robin", "least_conn", "random", "failover", "consistent_hash"])
    })?;
    writeln!(out, "connect_timeout = \"{}\"", dice.pick(&["0s", "20ms", "3s", "3s"]))?;
    writeln!(out, "connect_attempts = {}", dice.pick(&[1, 2, 3, 3]))?;
    writeln!(out, "queue_max = {}", dice.pick(&[0, 1, 1024, 1024]))?;
    writeln!(out, "queue_timeout = \"{}\"", dice.pick(&["0s", "10ms", "5s", "5s"]))?;
    writeln!(out, "idle_timeout = \"{}\"", dice.pick(&["0s", "300ms", "5s", "60s", "60s"]))?;
    writeln!(out, "half_close_timeout = \"{}\"", dice.pick(&["0s", "100ms", "2s", "20s"]))?;
    writeln!(out, "lifetime_max = \"{}\"", dice.pick(&["0s", "0s", "0s", "0s", "0s", "50ms", "2s"]))?;
    writeln!(out, "drain_idle = \"{}\"", dice.pick(&["0s", "0s", "20ms", "1s"]))?;
    writeln!(out, "send_proxy = \"{}\"", dice.pick(&["off", "off", "off", "v1", "v2"]))?;
    // A table of clients is large, and slow to be made here.
    writeln!(out, "sticky = \"{}\"", if dice.one_in(16) { "1s" } else { "0s" })?;
    writeln!(out, "connect_on = \"{}\"", dice.pick(&["accept", "accept", "accept", "first_byte"]))?;
    let has_sources = dice.one_in(5);
    if has_sources {
        writeln!(out, "source = [\"127.0.0.2\", \"127.0.0.3\"]")?;
    }
    if number + 1 < pools && dice.one_in(2) {
        writeln!(out, "fallback = \"p{}\"", number + 1)?;
    }
    if dice.one_in(6) {
        writeln!(out, "[pools.p{number}.check]\ntype = \"postgresql\"\nuser = \"u\"\nrole = \"primary\"")?;
    }
    for backend in 0..dice.between(1, 3) {
        let place = number as u64 * 10 + backend;
        let unix = dice.one_in(6) && !has_sources;
        let address = if unix { format!("unix:/sim/b{place}") } else { format!("127.0.0.1:{}", 9000 + place) };
        writeln!(out, "[[pools.p{number}.backends]]\nname = \"b{backend}\"\naddress = \"{address}\"")?;
        writeln!(out, "connections_max = {}", dice.pick(&[0, 0, 1, 2]))?;
        let level = if backend > 0 && dice.one_in(5) { dice.pick(&["true", "2", "3"]) } else { "false" };
        writeln!(out, "weight = {}\nbackup = {level}", dice.pick(&[1, 1, 3]))?;
    }
    Ok(())
}

fn throw_config(dice: &mut Dice) -> Config {
    let (listeners, pools) = (dice.pick(&[1, 1, 2]), dice.pick(&[1, 1, 2]));
    let mut text = String::new();
    (0..listeners).try_for_each(|number| listener_text(dice, &mut text, number, pools)).expect("text is written");
    (0..pools).try_for_each(|number| pool_text(dice, &mut text, number, pools)).expect("text is written");
    let loaded = ringway::config::load(&text, "sim", &|_: &str| None);
    let mut config = loaded.unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    if dice.one_in(2) {
        config.pools.iter_mut().for_each(|pool| pool.limits.drain_idle = std::time::Duration::ZERO);
    }
    config
}

/// Nothing keeps a crowd from being served together.
fn let_all_in(config: &mut Config) {
    for listener in &mut config.listeners {
        (listener.connections_max, listener.proxy, listener.preread) = (None, None, None);
        (listener.source_limits.connections_max, listener.source_limits.rate.count) = (0, 0);
    }
    for pool in &mut config.pools {
        pool.backends.iter_mut().for_each(|backend| backend.connections_max = None);
    }
}

fn members_of(config: &Config, ids: &mut Ids) -> Vec<Member> {
    let mut members = Vec::new();
    for pool in &config.pools {
        let id = ids.pool(&pool.name).expect("pools are numbered");
        for backend in &pool.backends {
            let address = backend.target.address();
            members.push(Member {
                host: None,
                id: ids.number_backend(id, &backend.name, address),
                pool: id,
                name: backend.name.clone(),
                hash_name: backend.name.clone(),
                address: address.cloned(),
                port_shift: backend.target.shift(),
                origin: backend.origin.name(),
                weight: backend.weight,
                backup: backend.backup,
                connections_max: backend.connections_max,
                state: State::Up,
                ramp_from: None,
                end_sessions: false,
                yielded_at: Moment::default(),
                retired: false,
            });
        }
    }
    members
}

impl Control {
    pub fn new(host: &mut Host) -> Control {
        let mut config = throw_config(&mut host.dice);
        if host.profile.is_crowd() {
            let_all_in(&mut config);
        }
        let mut ids = Ids::assign(&config);
        let mut members = members_of(&config, &mut ids);
        for pool in config.pools.iter().filter(|pool| pool.wants_primary()) {
            // Of a pool that wants its primary, one backend at most is used.
            let id = ids.pool(&pool.name);
            let has = |member: &&mut Member| Some(member.pool) == id;
            members.iter_mut().filter(has).skip(1).for_each(|member| member.state = State::Down);
        }
        host.say(format_args!("{:#?}\n{:#?}", config.listeners, config.pools));
        for member in &members {
            let address = member.address.clone().expect("every backend has an address");
            let mood = host.dice.pick(&[Mood::Fine, Mood::Fine, Mood::Fine, Mood::Fine, Mood::Refuses, Mood::Silent]);
            host.sites.push(Site { address, mood, knows_tls: host.dice.one_in(2) });
        }
        let spans = config.listeners.iter().map(|listener| Spans::longest(&config, listener)).collect();
        let owners = (0..config.listeners.len() as u32).map(ListenerId).collect();
        let phase = Phase::Serving;
        let input = Input { config: &config, ids: &ids, members: &members, phase, generation: 1, previous: None };
        let table = build(input);
        let given_up = Arc::new(AtomicU64::new(0));
        let shared = Arc::new(share(host, table.clone(), given_up.clone()));
        Control {
            shared,
            config,
            ids,
            members,
            phase,
            generation: 1,
            table,
            cut: BTreeSet::new(),
            drained: BTreeSet::new(),
            kills: false,
            given_up,
            listed: Arc::default(),
            asked: 0,
            leaving: Vec::new(),
            freed: HashSet::new(),
            owners,
            has_assigned: false,
            spans,
            queue_stuck_since: None,
        }
    }

    /// The listening sockets that each worker begins with; those of unix are shared.
    pub fn sockets(&self, host: &mut Host) -> Vec<Vec<ListenSocket>> {
        let mut sockets: Vec<Vec<ListenSocket>> = (0..host.profile.workers).map(|_| Vec::new()).collect();
        for (address, listener) in (0u32..).zip(&self.config.listeners) {
            let listener = self.ids.listener(&listener.name).expect("listeners are numbered");
            for (worker, socket) in self.open(host, listener, address) {
                sockets[worker].push(socket);
            }
        }
        sockets
    }

    fn open(&self, host: &mut Host, listener: ListenerId, address: u32) -> Vec<(usize, ListenSocket)> {
        let entry = &self.config.listeners[listener.index()];
        let bind = self.config.listeners[address as usize].binds[0].clone();
        let is_shared = matches!(bind, Address::Unix(_));
        let mut sockets: Vec<(usize, ListenSocket)> = Vec::new();
        for worker in 0..host.profile.workers {
            if let Some((_, first)) = sockets.first().filter(|_| is_shared) {
                let (fd, owner) = (first.fd, first.owner.clone());
                sockets.push((worker, ListenSocket { listener, address, fd, owner }));
                continue;
            }
            let door = host.doors.len();
            let fd = host.new_fd(Thing::Door(door));
            let let_go = Arc::new(AtomicBool::new(false));
            host.doors.push(Door {
                fd,
                address,
                listener,
                bind: bind.clone(),
                backlog: Default::default(),
                backlog_max: entry.backlog as usize,
                let_go: let_go.clone(),
                closed: false,
                in_flight: 0,
                stuck_since: None,
            });
            sockets.push((worker, ListenSocket { listener, address, fd: Fd(fd), owner: Arc::new(Owner(let_go)) }));
        }
        sockets
    }

    pub fn publish(&mut self) {
        self.generation += 1;
        for member in self.members.iter().filter(|member| member.end_sessions) {
            self.cut.insert(member.id.0);
        }
        for member in self.members.iter().filter(|member| member.retired || member.state == State::Draining) {
            self.drained.insert(member.id.0);
        }
        let table = build(Input {
            config: &self.config,
            ids: &self.ids,
            members: &self.members,
            phase: self.phase,
            generation: self.generation,
            previous: Some(&self.table),
        });
        self.table = table.clone();
        self.shared.cell.publish(table);
        self.shared.wake();
    }

    /// Something that control may do at any time.
    pub fn act(&mut self, host: &mut Host) {
        match host.dice.below(20) {
            0..6 => self.change_backend(host),
            16..18 => self.replace_backend(host),
            18 => self.assign(host),
            6 => {
                let listener = host.dice.below(self.config.listeners.len() as u64) as usize;
                self.config.listeners[listener].connections_max = NonZeroU32::new(host.dice.below(4) as u32);
                self.publish();
            }
            7 => self.shared.wake(),
            8..11 => {
                let site = host.dice.below(host.sites.len() as u64) as usize;
                host.sites[site].mood = host.dice.pick(&[Mood::Fine, Mood::Fine, Mood::Refuses, Mood::Silent]);
            }
            11 | 12 => self.ask(host),
            13 => self.close_listener(host),
            _ => self.publish(),
        }
    }

    fn change_backend(&mut self, host: &mut Host) {
        let at = host.dice.below(self.members.len() as u64) as usize;
        let pool = self.members[at].pool;
        let is_of_primary = self.config.pools[pool.index()].wants_primary();
        let is_up = self.members[at].state == State::Up;
        let states = [State::Down, State::Ejected, State::Draining, State::Maintenance];
        let (state, end) = match is_up {
            true => (host.dice.pick(&states), host.dice.one_in(2)),
            false => (State::Up, false),
        };
        if is_of_primary && state == State::Up {
            let of_pool = |member: &&mut Member| member.pool == pool;
            self.members.iter_mut().filter(of_pool).for_each(|member| member.state = State::Down);
        }
        let member = &mut self.members[at];
        (member.state, member.end_sessions) = (state, end);
        member.weight = host.dice.pick(&[1, 2, 5]);
        if host.dice.one_in(4) {
            member.connections_max = NonZeroU32::new(host.dice.below(3) as u32);
        }
        host.say(format_args!("control: {:?} is {state:?}, its sessions end: {end}", member.id));
        if state == State::Up && host.dice.one_in(2) {
            let is_backup = |member: &&mut Member| member.pool == pool && member.backup > 0;
            for backup in self.members.iter_mut().filter(is_backup) {
                backup.yielded_at = host.now;
                self.cut.insert(backup.id.0);
            }
        }
        self.publish();
    }

    fn ask(&mut self, host: &mut Host) {
        let is_kill = host.dice.one_in(2);
        self.kills |= is_kill;
        let backends = host.dice.one_in(2).then(|| vec![BackendId(host.dice.below(self.members.len() as u64) as u32)]);
        let client = host.dice.one_in(3).then(|| "192.0.2.0/30".parse().expect("a network"));
        for worker in 0..self.shared.workers() {
            let listed = self.listed.clone();
            let filter = Filter { backends: backends.clone(), client, id: None };
            let what = if is_kill { What::Kill } else { What::List { limit: 2 } };
            let count = move |_| {
                listed.fetch_add(1, Ordering::Relaxed);
            };
            self.asked += 1;
            self.shared.ask(worker, RosterRequest { filter, what, reply: Box::new(count) });
        }
        host.corners.reach(if is_kill { Corner::Killed } else { Corner::Listed });
    }

    /// The sockets of one address are closed, and others bind it.
    fn close_listener(&mut self, host: &mut Host) {
        let address = host.dice.below(self.config.listeners.len() as u64) as u32;
        host.corners.reach(Corner::ListenerClosed);
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Errand::Close { address });
        }
        for (worker, socket) in self.open(host, self.owners[address as usize], address) {
            self.shared.send(worker, Errand::Open(socket));
        }
    }

    /// Connections that come to one address are another listener's from now on.
    fn assign(&mut self, host: &mut Host) {
        let address = host.dice.below(self.owners.len() as u64) as u32;
        let listener = ListenerId(host.dice.below(self.owners.len() as u64) as u32);
        if self.owners[address as usize] == listener {
            return self.publish();
        }
        host.corners.reach(Corner::Assigned);
        host.say(format_args!("control: address {address} is {listener:?}'s"));
        self.owners[address as usize] = listener;
        self.publish();
        host.doors.iter_mut().filter(|door| door.address == address).for_each(|door| door.listener = listener);
        for worker in 0..self.shared.workers() {
            self.shared.send(worker, Errand::Assign { address, listener });
        }
        // A client that has come to it before may be of either one.
        let longest = self.spans.iter().copied().fold(Spans::default(), Spans::or);
        self.spans.fill(longest);
        self.has_assigned = true;
    }

    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.publish();
    }

    /// The longest limits of the clients of a listener.
    pub fn spans(&self, listener: usize) -> Spans {
        self.spans[listener]
    }

    /// The pool of a session.
    pub fn pool(&self, pool: PoolId) -> &ringway::config::model::Pool {
        &self.config.pools[pool.index()]
    }

    /// Pools that clients wait for although all of their backends could have them.
    pub fn leave_clients_waiting(&self) -> impl Iterator<Item = &ringway::config::model::Pool> {
        self.config.pools.iter().filter(|pool| {
            let id = self.ids.pool(&pool.name).expect("pools are numbered");
            let waiting = self.shared.counts.queue(id).waiting();
            let is_usable = |member: &Member| member.state == State::Up && member.weight > 0 && !member.retired;
            let usable = |member: &&Member| member.pool == id && is_usable(member);
            let mut usable = self.members.iter().filter(usable).peekable();
            let is_served = waiting == 0 || usable.peek().is_none();
            !is_served && usable.all(|member| self.shared.counts.connections(member.id) == 0)
        })
    }
}

fn share(host: &mut Host, table: Table, given_up: Arc<AtomicU64>) -> Shared {
    let count = move |_: usize, _: &std::io::Error| {
        given_up.fetch_add(1, Ordering::Relaxed);
    };
    let Profile { workers, connections_max, early_max, busy_poll_ns, .. } = host.profile;
    let parts = Parts {
        cell: Arc::new(Cell::new(table)),
        stats: Arc::new(Stats::new(workers)),
        counts: Arc::new(Counts::new()),
        sources: Sources::new(RandomState::new()),
        clock: Clock::new(),
        connections_max,
        early_max,
        backlog_max: 4096,
        busy_poll_ns,
        give_up: Box::new(count),
        on_trouble: Box::new(|| {}),
        journal: Some(Arc::new(Journal::new(workers, Box::new(|| {})))),
    };
    let bell = |ring: &crate::ring::Ring| -> Box<dyn Bell> {
        Box::new(SimBell { count: ring.bell.clone(), fd: ring.bell_fd })
    };
    Shared::new(parts, host.rings.iter().map(bell).collect())
}
