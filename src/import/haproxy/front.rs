//! From a `frontend` or `listen` to listeners: where clients connect, which of them can, and how they are led to pools.
//!
//! What a front comes to, in the order in which HAProxy asks:
//!
//! 1. `bind`: one listener for each set of options (`bind`).
//! 2. `tcp-request connection`, `session`, `content`: lists and limits of the listener, and what clients must say first
//!    (`access`).
//! 3. `use_backend` in order, then `default_backend`, or the servers of a `listen`: routes (`leads`).
//!
//! `dst_port` in a condition makes a listener for each port, in which it is decided.

use std::collections::HashMap;

use super::Job;
use super::access::{self, Admission, NeedsUp};
use super::acl::{Acls, Fact, Literal};
use super::bind::{self, BindGroup};
use super::leads::{self, Fallback, Rule};
use super::section::Proxy;
use crate::import::nets::Clients;
use crate::import::note::{Origin, Refusal};
use crate::import::routes::{self, Choice, Test, Way};
use crate::import::sheet::ListenerSheet;
use crate::import::time;

/// What became of a front.
#[derive(Debug, Default)]
pub struct Front {
    /// Its listeners.
    pub listeners: Vec<ListenerSheet>,
    /// Pools that fall back to others.
    pub fallbacks: Vec<Fallback>,
    /// Pools of which so many servers must be up.
    pub needs_up: Vec<NeedsUp>,
    /// TCP_USER_TIMEOUT of its clients, in microseconds.
    pub user_timeout: u64,
}

/// Translates a front.
///
/// # Errors
/// The line that cannot be said.
pub fn front(job: &mut Job<'_>, proxy: &Proxy<'_>) -> Result<Front, Refusal> {
    let groups = bind::groups(proxy, &mut job.notes)?;
    if groups.is_empty() {
        return Err((proxy.origin().clone(), "it has no `bind`, so no client can connect".to_string()));
    }
    let acls = Acls::of(proxy, job.files);
    let rules = rules(job, proxy, &acls)?;
    let own = super::tables(job.proxies, proxy);
    let mut admission = access::admission(proxy, &acls, &own, &mut job.notes)?;
    lift(job, proxy, &rules, &mut admission)?;
    let mut front = Front { needs_up: std::mem::take(&mut admission.needs_up), ..Front::default() };
    let by_port = rules.iter().any(|rule| rule.literals().any(|one| matches!(one.fact, Fact::Ports(_))));
    let groups = if by_port { one_per_port(groups)? } else { groups };
    whole(proxy, &groups, &rules, &admission, &front.needs_up)?;
    let mut stand_ins: HashMap<String, Option<(String, u64)>> = HashMap::new();
    for (number, group) in groups.iter().enumerate() {
        let wanted = if number == 0 { proxy.name().to_string() } else { format!("{}-{}", proxy.name(), number + 1) };
        let mut listener = ListenerSheet::new(&wanted, proxy.origin());
        keys(&mut listener, proxy, group, &admission);
        let port = by_port.then(|| group.places[0].ports().map(|ports| ports.0)).flatten();
        let (choices, fallbacks) = leads::choices(rules.clone(), port)?;
        for choice in &choices {
            let Way::Pool(pool) = &choice.way else { continue };
            let found = fallbacks.iter().find(|fallback| fallback.pool == *pool);
            let stand_in = found.map(|fallback| (fallback.to.clone(), fallback.up_min));
            if *stand_ins.entry(pool.clone()).or_insert_with(|| stand_in.clone()) != stand_in {
                return Err((choice.origin.clone(), leads::FOR_SOME.to_string()));
            }
        }
        for fallback in fallbacks {
            if !front.fallbacks.contains(&fallback) {
                front.fallbacks.push(fallback);
            }
        }
        let choices = gated(choices, &admission)?;
        let is_routed = choices.iter().any(|choice| !choice.tests.is_empty());
        let waits = admission.waits_for_tls.as_ref().filter(|_| !is_routed);
        if let Some(origin) = waits {
            job.notes
                .note(origin, "without routes it lets everything in, so it is left out; clients no longer wait for it");
        }
        let delay = admission.inspect_delay.as_ref().filter(|(us, _)| *us > 0);
        if is_routed && delay.is_none() {
            job.notes.note(
                proxy.origin(),
                "without inspect-delay HAProxy does not wait for what the client says; ringway does",
            );
        }
        let delay = delay.map(|(us, origin)| (time::shown(*us), origin.clone()));
        routes::write(&mut listener, choices, delay.as_ref())?;
        front.listeners.push(listener);
        front.user_timeout = front.user_timeout.max(group.options.user_timeout);
    }
    Ok(front)
}

/// What holds for a whole section there must not fall into parts here: limits, and how many servers are up.
fn whole(
    proxy: &Proxy<'_>,
    groups: &[BindGroup],
    rules: &[Rule],
    admission: &Admission,
    needs_up: &[NeedsUp],
) -> Result<(), Refusal> {
    let maxconn = proxy.last(&["maxconn"]).filter(|line| line.word(1) != "0").map(|line| &line.origin);
    let of_clients = [admission.open_max.as_ref().map(|it| &it.1), admission.rate_max.as_ref().map(|it| &it.1)];
    let limit = of_clients.into_iter().flatten().next().or(maxconn);
    if let Some(origin) = limit.filter(|_| groups.len() > 1) {
        let text = format!(
            "`{}` becomes several listeners, and each would let so many in; give its `bind` lines the same options, or \
             make a section of each with its own limit",
            proxy.name()
        );
        return Err((origin.clone(), text));
    }
    for needs in needs_up {
        if rules.iter().any(|rule| rule.pool() != Some(needs.pool.as_str())) {
            let text = format!(
                "ringway counts servers of the pool that a client gets; make a listener that leads to `{}` alone",
                needs.pool
            );
            return Err((needs.origin.clone(), text));
        }
    }
    Ok(())
}

/// A listener for each port, where the port decides.
///
/// Only single ports can be told apart: a range would need one listener for each of its ports.
fn one_per_port(groups: Vec<BindGroup>) -> Result<Vec<BindGroup>, Refusal> {
    let mut all = Vec::new();
    for group in groups {
        for place in &group.places {
            match place.ports() {
                Some((first, last)) if first == last => {}
                _ => return Err((group.origin, "`dst_port` decides, and this is not one port".to_string())),
            }
            all.push(BindGroup { places: vec![place.clone()], ..group.clone() });
        }
    }
    Ok(all)
}

/// The keys of a listener apart from where it leads.
///
/// Of two limits on connections (of a `bind` and of the section) the smaller one counts: ringway has one per listener.
/// Each `bind` of HAProxy counts by itself, so for several of them the sum of what they let in can be less than before.
fn keys(listener: &mut ListenerSheet, proxy: &Proxy<'_>, group: &BindGroup, admission: &Admission) {
    let (keys, options, origin) = (&mut listener.keys, &group.options, &group.origin);
    match group.places.as_slice() {
        [one] => keys.set("bind", one.address.clone(), origin),
        many => keys.set("bind", many.iter().map(|place| place.address.clone()).collect::<Vec<_>>(), origin),
    }
    if let Some(mode) = options.mode.as_ref().filter(|_| group.places.iter().any(|place| place.is_unix())) {
        keys.set("unix_mode", mode.clone(), origin);
    }
    let has_tcp = group.places.iter().any(|place| !place.is_unix());
    if options.is_free && has_tcp {
        keys.set("freebind", true, origin);
    }
    if let Some(interface) = options.interface.as_ref().filter(|_| has_tcp) {
        keys.set("interface", interface.clone(), origin);
    }
    let backlog = proxy.last(&["backlog"]).and_then(|line| Some((line.word(1).parse::<u64>().ok()?, &line.origin)));
    if let Some((backlog, origin)) = options.backlog.map(|number| (number, origin)).or(backlog) {
        keys.set("backlog", backlog.clamp(1, 65_535), origin);
    }
    let maxconn = proxy.last(&["maxconn"]).and_then(|line| Some((line.word(1).parse::<u64>().ok()?, &line.origin)));
    let all = [options.maxconn.map(|number| (number, origin)), maxconn];
    if let Some((number, origin)) = all.into_iter().flatten().filter(|(number, _)| *number > 0).min() {
        keys.set("connections_max", number, origin);
    }
    limits(listener, admission);
    if options.accepts_proxy {
        accept_header(listener, &Clients::every(), origin);
    }
    if let Some((from, origin)) = &admission.header_from {
        accept_header(listener, from, origin);
    }
}

/// Which clients can connect, and how often.
///
/// IPv6 clients are counted by their whole address there. ringway would count them by the network that a site has (64
/// bits), so the key is written out.
fn limits(listener: &mut ListenerSheet, admission: &Admission) {
    let keys = &mut listener.keys;
    if let Some((count, origin)) = &admission.open_max {
        keys.set("source_connections_max", *count, origin);
    }
    if let Some((rate, origin)) = &admission.rate_max {
        keys.set("source_rate_max", rate.clone(), origin);
    }
    let rate_at = admission.rate_max.as_ref().map(|(_, origin)| origin);
    if let Some(origin) = rate_at.or(admission.open_max.as_ref().map(|(_, origin)| origin)) {
        // HAProxy counts whole addresses.
        keys.set("source_prefix_v6", 128, origin);
        if admission.unlimited != Clients::default() {
            keys.set("source_unlimited", admission.unlimited.shown(), origin);
        }
    }
    for (list, file, clients) in [("allow", "allow_file", &admission.allow), ("deny", "deny_file", &admission.deny)] {
        if let Some((clients, origin)) = clients {
            match &clients.file {
                Some(path) => keys.set(file, path.clone(), origin),
                None => keys.set(list, clients.shown(), origin),
            }
        }
    }
}

/// A PROXY header comes first, from these peers.
fn accept_header(listener: &mut ListenerSheet, from: &Clients, origin: &Origin) {
    listener.keys.set("accept_proxy", "required", origin);
    listener.keys.set("proxy_trusted", from.shown(), origin);
}

/// Where clients go, in order: `use_backend`, then `default_backend` or the servers of a `listen`.
///
/// `use_backend` without a condition takes every client, so what follows it is never reached. A `listen` leads to its
/// own servers unless it names another pool.
fn rules(job: &mut Job<'_>, proxy: &Proxy<'_>, acls: &Acls<'_>) -> Result<Vec<Rule>, Refusal> {
    let mut rules = Vec::new();
    for line in proxy.own("use_backend") {
        let fault = |text: String| (line.origin.clone(), text);
        let at = line.words.iter().position(|word| word == "if" || word == "unless").unwrap_or(line.words.len());
        if line.word(1).starts_with('%') {
            rules.extend(leads::by_map(line, job.files).map_err(fault)?);
            continue;
        }
        if let Some(acl) =
            proxy.all("acl").find(|acl| line.words[at..].contains(&acl.words.get(1).cloned().unwrap_or_default()))
        {
            access::note_narrower(acl, &mut job.notes);
        }
        access::note_narrower(line, &mut job.notes);
        for clause in acls.condition(&line.words[at..]).map_err(fault)? {
            rules.push(Rule { clause, way: Way::Pool(line.word(1).to_string()), origin: line.origin.clone() });
        }
    }
    if let Some(line) = proxy.last(&["default_backend"]) {
        let way = Way::Pool(line.word(1).to_string());
        rules.push(Rule { clause: Vec::new(), way, origin: line.origin.clone() });
    } else if proxy.is_back() && has_servers(proxy) {
        let way = Way::Pool(proxy.name().to_string());
        rules.push(Rule { clause: Vec::new(), way, origin: proxy.origin().clone() });
    }
    Ok(rules)
}

/// Whether a proxy has servers of its own.
pub fn has_servers(proxy: &Proxy<'_>) -> bool {
    ["server", "server-template", "dispatch"].iter().any(|word| proxy.own(word).next().is_some())
}

/// Takes the rules of the pools into the listener, where it leads to one pool alone: else they would hold for others.
///
/// A rule in a `backend` holds for the clients that come to it by whatever way. If a listener leads to this pool alone,
/// its clients are the same ones, and the rule can stand there. If it also leads elsewhere, it would shut out clients
/// of the other pools.
fn lift(job: &mut Job<'_>, proxy: &Proxy<'_>, rules: &[Rule], admission: &mut Admission) -> Result<(), Refusal> {
    let mut pools: Vec<&str> = rules.iter().filter_map(Rule::pool).collect();
    pools.sort_unstable();
    pools.dedup();
    for name in &pools {
        let back = job.backs.get(*name).copied().filter(|back| !std::ptr::eq(*back, proxy));
        let Some((back, line)) = back.and_then(|back| Some((back, back.all("tcp-request").next()?))) else { continue };
        if pools.len() > 1 {
            let text = "the listener that leads here also leads to other pools, for which this must not hold; write it \
                        into its routes";
            return Err((line.origin.clone(), text.to_string()));
        }
        let acls = Acls::of(back, job.files);
        let tables = super::tables(job.proxies, back);
        let more = access::admission(back, &acls, &tables, &mut job.notes)?;
        let limit = more.open_max.as_ref().map(|it| &it.1).or(more.rate_max.as_ref().map(|it| &it.1));
        let fronts = job.proxies.iter().filter(|front| front.is_front() && leads_to(front, name)).count();
        if let Some(origin) = limit.filter(|_| fronts > 1) {
            let text = "several listeners lead here, and each would let so many in; write a limit into each of them";
            return Err((origin.clone(), text.to_string()));
        }
        job.notes.note(
            &line.origin,
            format!("it stands in the listener `{}`, which leads to this pool alone", proxy.name()),
        );
        merge(admission, more)?;
    }
    Ok(())
}

/// Whether a front can lead to a pool.
fn leads_to(front: &Proxy<'_>, pool: &str) -> bool {
    let mut lines = front.all("default_backend").chain(front.all("use_backend"));
    lines.any(|line| line.word(1) == pool || line.word(1).contains('%'))
}

/// Adds the rules of a pool to those of its listener.
fn merge(admission: &mut Admission, more: Admission) -> Result<(), Refusal> {
    if let Some((clients, origin)) = more.allow {
        match &admission.allow {
            Some((before, _)) if *before != clients => {
                return Err((
                    origin,
                    "a client would have to be on two lists; write the one that holds as `allow`".into(),
                ));
            }
            _ => admission.allow = Some((clients, origin)),
        }
    }
    if let Some((clients, origin)) = more.deny {
        let before = admission.deny.take().map(|(clients, _)| clients).unwrap_or_default();
        admission.deny = Some((before.and(clients), origin));
    }
    let limits = [more.open_max.as_ref().map(|it| &it.1), more.rate_max.as_ref().map(|it| &it.1)];
    if let Some(origin) = limits.into_iter().flatten().next() {
        if admission.open_max.is_some() || admission.rate_max.is_some() {
            return Err((origin.clone(), "the listener has limits for a client already".to_string()));
        }
        admission.unlimited = more.unlimited;
    }
    admission.open_max = admission.open_max.take().or(more.open_max);
    admission.rate_max = admission.rate_max.take().or(more.rate_max);
    let gate_at = more.gate.first().map(|(_, origin)| origin.clone());
    if let Some(origin) = gate_at {
        admission.must_say(more.gate).map_err(|text| (origin, text))?;
    }
    if let Some((_, origin)) = more.header_from {
        return Err((origin, "a PROXY header is read where clients connect; write this rule there".to_string()));
    }
    admission.barred.extend(more.barred);
    admission.needs_up.extend(more.needs_up);
    Ok(())
}

/// Applies what clients must say first, and must not, to where they go.
///
/// The gate is what `tcp-request content accept if X`, `reject` leaves: clients that say X. A way without a condition
/// becomes one for each X, and nothing is left for other clients. A way for clients that the gate lets not in can only
/// be a mistake, and is refused so that it is seen.
fn gated(choices: Vec<Choice>, admission: &Admission) -> Result<Vec<Choice>, Refusal> {
    let barred = admission.barred.iter().map(|(test, origin)| Choice {
        tests: vec![test.clone()],
        way: Way::Refused,
        origin: origin.clone(),
    });
    let choices: Vec<Choice> = barred.chain(choices).collect();
    if admission.gate.is_empty() {
        return Ok(choices);
    }
    let is_tls = |test: &Test| !matches!(test, Test::Protocol(protocol) if *protocol != "tls");
    let lets_tls = admission.gate.iter().any(|(test, _)| *test == Test::Protocol("tls"));
    let mut all = Vec::new();
    for choice in choices {
        if choice.tests.is_empty() {
            for (test, _) in &admission.gate {
                all.push(Choice { tests: vec![test.clone()], ..choice.clone() });
            }
            break;
        }
        let is_let_in = choice.tests.iter().any(|test| admission.gate.iter().any(|(gate, _)| gate == test))
            || (lets_tls && choice.tests.iter().all(is_tls))
            || choice.way == Way::Refused;
        match is_let_in {
            true => all.push(choice),
            false => return Err((choice.origin, "its clients are refused by what `tcp-request` lets in".to_string())),
        }
    }
    Ok(all)
}

impl Rule {
    /// The facts of its condition.
    fn literals(&self) -> impl Iterator<Item = &Literal> {
        self.clause.iter()
    }

    /// The pool that it leads to.
    fn pool(&self) -> Option<&str> {
        match &self.way {
            Way::Pool(pool) => Some(pool),
            _ => None,
        }
    }
}
