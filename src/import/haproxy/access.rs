//! `tcp-request`: which clients can connect, how often, and what they must say first.
//!
//! | rule | becomes |
//! |---|---|
//! | `accept`, `reject` by `src` | `allow`, `deny`: the first rule that fits counts there (`nets`) |
//! | `reject if !{ src A }` | `allow = A` |
//! | `reject if { src_conn_rate gt N }` | `source_rate_max`, of the table that counts |
//! | `reject if { src_conn_cur gt N }` | `source_connections_max` |
//! | `accept if { src A }` before a limit, or `!A` in it | `source_unlimited` too |
//! | `accept if TLS`, then `reject` | every way asks for TLS, and other clients are refused |
//! | `reject if SSH` | a route that refuses |
//! | `reject if { nbsrv(p) lt N }` | `up_min` of the pool |
//! | `expect-proxy layer4` | `accept_proxy`, `proxy_trusted` |
//!
//! Each level (connection, session, content) is gone through by itself, and a client must pass all three. ringway keeps
//! the order of rules on addresses alone; another rule behind an `accept` would also hold for clients that it lets in,
//! and is refused.

use std::collections::HashMap;

use super::acl::{Acls, Clause, Counter, Fact};
use super::lex::Line;
use super::section::Proxy;
use crate::import::nets::{self, AccessLists, Clients};
use crate::import::note::{Notes, Origin};
use crate::import::routes::Test;
use crate::import::{names, time};

/// So many servers of a pool must be up.
#[derive(Clone, Debug)]
pub struct NeedsUp {
    /// The pool.
    pub pool: String,
    /// So many.
    pub count: u64,
    /// And not more.
    pub is_exact: bool,
    /// The line.
    pub origin: Origin,
}

/// What the rules of a proxy come to.
#[derive(Debug, Default)]
pub struct Admission {
    /// The only clients that can connect, with the line that the list comes from.
    pub allow: Option<(Clients, Origin)>,
    /// Clients that cannot connect.
    pub deny: Option<(Clients, Origin)>,
    /// Open connections per client.
    pub open_max: Option<(u64, Origin)>,
    /// New connections per client, as ringway writes it.
    pub rate_max: Option<(String, Origin)>,
    /// Clients that those limits do not count.
    pub unlimited: Clients,
    /// Clients must say one of these first; others are refused.
    pub gate: Vec<(Test, Origin)>,
    /// Clients that say one of these first are refused.
    pub barred: Vec<(Test, Origin)>,
    /// So many servers of a pool must be up.
    pub needs_up: Vec<NeedsUp>,
    /// How long a client has to say something.
    pub inspect_delay: Option<(u64, Origin)>,
    /// Peers that send a PROXY header.
    pub header_from: Option<(Clients, Origin)>,
    /// A rule that lets TLS in and has no effect but for routes.
    pub waits_for_tls: Option<Origin>,
}

impl Admission {
    /// Clients must say one of these first.
    ///
    /// The routes of a listener are alternatives, so a second rule of which each client must say something too has no
    /// form; the same one twice does no harm.
    pub fn must_say(&mut self, says: Vec<(Test, Origin)>) -> Result<(), String> {
        let is_same = self.gate.iter().map(|one| &one.0).eq(says.iter().map(|one| &one.0));
        if says.is_empty() || is_same {
            return Ok(());
        }
        if !self.gate.is_empty() {
            let text = "an earlier rule asks what a client says, and both would have to hold; make one rule of them";
            return Err(text.to_string());
        }
        self.gate = says;
        Ok(())
    }
}

/// Rules of one level, in order. Each level is gone through by itself.
struct Level {
    /// Whether a rule lets in or refuses, and which clients.
    rules: Vec<(bool, Clients)>,
    /// The first line that says something of clients.
    origin: Option<Origin>,
    /// Every client must be one of these.
    must: Vec<(Clients, Origin)>,
    /// What is let in by what it says.
    accepted: Vec<(Test, Origin)>,
    /// No further rule is reached.
    is_over: bool,
}

impl Level {
    /// A rule that every client is asked by here: none may be let in before it.
    ///
    /// # Errors
    /// Some are.
    fn lets_none_in(&self) -> Result<(), String> {
        match self.accepted.is_empty() && !self.rules.iter().any(|rule| rule.0) {
            true => Ok(()),
            false => {
                Err("an `accept` before it lets clients in that this rule would refuse here; put this rule first, \
                          or leave the `accept` out"
                    .to_string())
            }
        }
    }
}

/// Reads the rules of a proxy. `tables` finds the `stick-table` of a proxy by name; an empty name is its own.
///
/// # Errors
/// A rule that cannot be said, with its line.
pub fn admission(
    proxy: &Proxy<'_>,
    acls: &Acls<'_>,
    tables: &dyn Fn(&str) -> Result<String, String>,
    notes: &mut Notes,
) -> Result<Admission, (Origin, String)> {
    let mut admission = Admission::default();
    let mut tracked: HashMap<u8, String> = HashMap::new();
    for kind in ["connection", "session", "content"] {
        let mut level =
            Level { rules: Vec::new(), origin: None, must: Vec::new(), accepted: Vec::new(), is_over: false };
        for line in proxy.all("tcp-request").filter(|line| line.word(1) == kind) {
            let fault = |text: String| (line.origin.clone(), text);
            if let Some(number) = line.word(2).strip_prefix("track-sc") {
                tracked.insert(number.parse().unwrap_or_default(), table_of(line).map_err(fault)?);
                continue;
            }
            let mut rule = Rule { line, tracked: &tracked, tables, admission: &mut admission };
            rule.apply(acls, &mut level, notes).map_err(fault)?;
        }
        finish(level, &mut admission)?;
    }
    if let Some(line) = proxy.last(&["tcp-request", "inspect-delay"]) {
        admission.inspect_delay = time::of_haproxy(line.word(2)).map(|us| (us, line.origin.clone()));
    }
    Ok(admission)
}

/// The table that counts the clients of a `track-sc` rule; empty is the proxy's own.
fn table_of(line: &Line) -> Result<String, String> {
    if line.word(3) != "src" {
        return Err(format!("ringway counts clients by their address, not by `{}`", line.word(3)));
    }
    if line.words.iter().any(|word| word == "if" || word == "unless") {
        return Err("ringway counts every client; a limit can have exceptions, the counting cannot".to_string());
    }
    let table = line.words.iter().position(|word| word == "table").map(|at| line.word(at + 1).to_string());
    Ok(table.unwrap_or_default())
}

/// A rule with what is known where it stands.
struct Rule<'a> {
    /// Its line.
    line: &'a Line,
    /// The tables that count the client, by the number of `track-sc`.
    tracked: &'a HashMap<u8, String>,
    /// Finds a `stick-table`.
    tables: &'a dyn Fn(&str) -> Result<String, String>,
    /// Where its meaning goes.
    admission: &'a mut Admission,
}

impl Rule<'_> {
    /// Takes in what the rule says.
    fn apply(&mut self, acls: &Acls<'_>, level: &mut Level, notes: &mut Notes) -> Result<(), String> {
        let (line, action) = (self.line, self.line.word(2));
        let at = line.words.iter().position(|word| word == "if" || word == "unless").unwrap_or(line.words.len());
        let condition = &line.words[at..];
        match action {
            _ if level.is_over => return Ok(()),
            "accept" | "reject" | "silent-drop" | "expect-proxy" => {}
            "capture" | "set-log-level" | "set-var" | "set-var-fmt" | "unset-var" | "set-bandwidth-limit" => {
                if action == "set-bandwidth-limit" {
                    return Err("ringway limits no bytes per second".to_string());
                }
                notes.note(&line.origin, "the access log has fixed fields; the server name asked for is `sni`");
                return Ok(());
            }
            _ => return Err(format!("`{}` is no rule that ringway has", line.rest(1))),
        }
        if action == "silent-drop" {
            notes.note(&line.origin, "a client that is refused gets a reset, not silence");
        }
        self.note_narrower(notes);
        for clause in acls.condition(condition)? {
            let clause: Clause = clause.into_iter().filter(|one| one.fact != Fact::Always(true)).collect();
            if clause.iter().any(|one| one.fact == Fact::Always(false)) {
                continue;
            }
            match action {
                "expect-proxy" => self.expects_header(&clause, level)?,
                "accept" => self.accept(&clause, level)?,
                _ => self.reject(&clause, level)?,
            }
        }
        Ok(())
    }

    /// A PROXY header of these peers.
    ///
    /// A rule before it is about the peer, and here it would be about the address that the header claims.
    fn expects_header(&mut self, clause: &Clause, level: &Level) -> Result<(), String> {
        let has_limits = self.admission.open_max.is_some() || self.admission.rate_max.is_some();
        if !level.rules.is_empty() || !level.must.is_empty() || !self.tracked.is_empty() || has_limits {
            let text = "rules before it are about the peer, and here they would be about the address in the header; \
                        name the peers in the condition of this rule, and put it first";
            return Err(text.to_string());
        }
        let from = match clause.as_slice() {
            [] => Clients::every(),
            [one] if !one.is_negated => match &one.fact {
                Fact::From(clients) => clients.clone(),
                _ => return Err("ringway takes a PROXY header by the peer's address alone".to_string()),
            },
            _ => return Err("ringway takes a PROXY header by the peer's address alone".to_string()),
        };
        let before = self.admission.header_from.take().map(|(clients, _)| clients).unwrap_or_default();
        self.admission.header_from = Some((before.and(from), self.line.origin.clone()));
        Ok(())
    }

    /// Lets clients in: no later rule of the level is asked.
    fn accept(&mut self, clause: &Clause, level: &mut Level) -> Result<(), String> {
        let origin = &self.line.origin;
        match clause.as_slice() {
            [] => {
                level.rules.push((true, Clients::every()));
                level.is_over = true;
            }
            [one] if !one.is_negated => match &one.fact {
                Fact::From(clients) => {
                    level.rules.push((true, clients.clone()));
                    level.origin.get_or_insert_with(|| origin.clone());
                }
                Fact::Says(test) => {
                    if *test == Test::Protocol("tls") {
                        self.admission.waits_for_tls.get_or_insert_with(|| origin.clone());
                    }
                    level.accepted.push((test.clone(), origin.clone()));
                }
                fact => return Err(unsayable(fact)),
            },
            many => return Err(first_unsayable(many, "ringway lets clients in by one condition at a time")),
        }
        Ok(())
    }

    /// Refuses clients.
    ///
    /// A clause can have several facts beside each other. One network, or what must not be one; one thing that the
    /// client says; one limit, also with networks that it does not hold for. Everything else has no form here, and a
    /// rule that is left out would let clients in, so it takes the listener with it.
    fn reject(&mut self, clause: &Clause, level: &mut Level) -> Result<(), String> {
        let origin = self.line.origin.clone();
        let (mut from, mut not_from): (Option<Clients>, Option<Clients>) = (None, None);
        let (mut says, mut says_not, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        for one in clause {
            match (&one.fact, one.is_negated) {
                (Fact::From(clients), false) if from.is_none() => from = Some(clients.clone()),
                (Fact::From(clients), true) => not_from = Some(not_from.unwrap_or_default().and(clients.clone())),
                (Fact::Says(test), false) => says.push(test.clone()),
                (Fact::Says(test), true) => says_not.push(test.clone()),
                (Fact::OpenOver(..) | Fact::RateOver(..), false) => limits.push(one.fact.clone()),
                (Fact::AtLeast(pool, count) | Fact::Exactly(pool, count), true) if clause.len() == 1 => {
                    let (pool, count, is_exact) = (pool.clone(), *count, matches!(one.fact, Fact::Exactly(..)));
                    self.admission.needs_up.push(NeedsUp { pool, count, is_exact, origin });
                    return Ok(());
                }
                (fact, _) => return Err(unsayable(fact)),
            }
        }
        match (from, not_from, says.as_slice(), says_not.as_slice(), limits.as_slice()) {
            (None, None, [], [], []) => self.reject_rest(level),
            (Some(from), None, [], [], []) => {
                level.rules.push((false, from));
                level.origin.get_or_insert(origin);
                Ok(())
            }
            (None, Some(others), [], [], []) => {
                level.lets_none_in()?;
                level.must.push((others, origin));
                Ok(())
            }
            (None, None, [test], [], []) => {
                level.lets_none_in()?;
                self.admission.barred.push((test.clone(), origin));
                Ok(())
            }
            (None, None, [], tests, []) if !tests.is_empty() => {
                level.lets_none_in()?;
                self.admission.must_say(tests.iter().map(|test| (test.clone(), origin.clone())).collect())
            }
            (None, unlimited, [], [], [limit]) => self.limit(limit, unlimited, level),
            _ => Err("ringway refuses clients by one condition at a time".to_string()),
        }
    }

    /// Refuses everybody that no earlier rule of the level has let in.
    fn reject_rest(&mut self, level: &mut Level) -> Result<(), String> {
        level.is_over = true;
        let has_sources = level.rules.iter().any(|rule| rule.0);
        if has_sources && !level.accepted.is_empty() {
            return Err("ringway cannot let clients in by their address or by what they say".to_string());
        }
        if level.accepted.is_empty() {
            level.rules.push((false, Clients::every()));
            level.origin.get_or_insert_with(|| self.line.origin.clone());
        } else {
            self.admission.must_say(std::mem::take(&mut level.accepted))?;
            self.admission.waits_for_tls = None;
        }
        Ok(())
    }

    /// A limit for each client.
    ///
    /// A rule refuses while the counter is above N, and the connection that asks is counted already: N are let in. The
    /// rate is over the period that the table stores, which is the bucket of `source_rate_max`.
    fn limit(&mut self, limit: &Fact, unlimited: Option<Clients>, level: &Level) -> Result<(), String> {
        let origin = self.line.origin.clone();
        let (count, counter) = match limit {
            Fact::OpenOver(count, counter) | Fact::RateOver(count, counter) => (*count, counter),
            _ => return Err("this is no limit".to_string()),
        };
        let name = match counter {
            Counter::Table(name) => name,
            Counter::Tracked(number) => {
                self.tracked.get(number).ok_or_else(|| format!("no `track-sc{number} src` stands before it"))?
            }
        };
        let stored = (self.tables)(name)?;
        let accepted = level.rules.iter().filter(|rule| rule.0).map(|rule| rule.1.clone());
        let exceptions = accepted.chain(unlimited).fold(Clients::default(), Clients::and);
        let is_second = self.admission.open_max.is_some() || self.admission.rate_max.is_some();
        if is_second && exceptions != self.admission.unlimited {
            let text = "limits for a client share their exceptions, and an earlier one has others; give both the same";
            return Err(text.to_string());
        }
        if matches!(limit, Fact::RateOver(..)) {
            let period = stored.split(',').find_map(|one| {
                one.trim()
                    .strip_prefix("conn_rate(")
                    .or_else(|| one.trim().strip_prefix("sess_rate("))?
                    .strip_suffix(')')
            });
            let us = period.and_then(time::of_haproxy).filter(|us| *us >= 1_000);
            let us = us.ok_or_else(|| format!("the stick-table `{name}` stores no rate of connections"))?;
            let rate = format!("{count}/{}", time::shown(us));
            if self.admission.rate_max.as_ref().is_some_and(|(before, _)| *before != rate) {
                return Err("ringway has one rate for a client, and another one is written before".to_string());
            }
            self.admission.rate_max = Some((rate, origin));
        } else {
            let before = self.admission.open_max.take().filter(|(before, _)| *before <= count);
            self.admission.open_max = Some(before.unwrap_or((count, origin)));
        }
        self.admission.unlimited = exceptions;
        Ok(())
    }

    /// Says what an end of a name without a dot means here.
    fn note_narrower(&self, notes: &mut Notes) {
        note_narrower(self.line, notes);
    }
}

/// Says it where a line compares the end of a server name.
pub fn note_narrower(line: &Line, notes: &mut Notes) {
    let at = line.words.windows(2).position(|pair| pair == ["-m", "end"]);
    let is_open = |at: usize| line.words[at + 2..].iter().any(|word| word.contains('.') && !word.starts_with('.'));
    if at.is_some_and(is_open) {
        notes.note(&line.origin, names::NARROWER);
    }
}

/// What cannot be said, of several facts; else another reason.
pub fn first_unsayable(clause: &[super::acl::Literal], otherwise: &str) -> String {
    let found = clause.iter().find_map(|one| match &one.fact {
        Fact::Unsayable(text) => Some(text.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| otherwise.to_string())
}

/// Why a fact cannot stand here.
pub fn unsayable(fact: &Fact) -> String {
    match fact {
        Fact::Unsayable(text) => text.clone(),
        Fact::AtLeast(pool, _) | Fact::Exactly(pool, _) | Fact::Fewer(pool, _) => {
            format!("how many servers of `{pool}` are up decides nothing here")
        }
        Fact::Ports(_) => "a listener of its own for each port would say this".to_string(),
        Fact::OpenOver(..) | Fact::RateOver(..) => "a limit can only refuse clients".to_string(),
        _ => "ringway cannot decide this by that".to_string(),
    }
}

/// Adds the lists of a level.
///
/// Rules of a level become lists by themselves, and then one list of each kind is left for the listener. Two lists of
/// clients of which both must hold would need what they have in common; no published file has that, so it is refused.
fn finish(level: Level, admission: &mut Admission) -> Result<(), (Origin, String)> {
    if let Some(origin) = level.origin {
        let AccessLists { allow, deny } = nets::lists(&level.rules).map_err(|why| (origin.clone(), why.to_string()))?;
        if let Some(allow) = allow {
            allow_also(allow, origin.clone(), admission)?;
        }
        if deny != Clients::default() {
            let before = admission.deny.take().map(|(clients, _)| clients).unwrap_or_default();
            admission.deny = Some((before.and(deny), origin));
        }
    }
    for (clients, origin) in level.must {
        allow_also(clients, origin, admission)?;
    }
    Ok(())
}

/// Another list of clients of which each one must be.
fn allow_also(clients: Clients, origin: Origin, admission: &mut Admission) -> Result<(), (Origin, String)> {
    match &admission.allow {
        Some((before, _)) if *before != clients => {
            Err((origin, "a client would have to be on two lists; write the one that holds as `allow`".to_string()))
        }
        _ => {
            admission.allow = Some((clients, origin));
            Ok(())
        }
    }
}
