//! From `use_backend` with its conditions to choices: `nbsrv` becomes a pool to fall back to, `dst_port` is decided per
//! listener, and one condition that must not hold becomes the listener's own pool.
//!
//! ```text
//! use_backend a if { nbsrv(a) gt 0 }          pools.a.fallback = "b"
//! default_backend b                           pool = "a"
//!
//! use_backend a if !{ req.ssl_sni -i x }      routes = [{ sni = ["x"], pool = "b" }]
//! default_backend b                           pool = "a"
//!
//! use_backend a if { dst_port 80 }            [listeners.f]    bind = ":80"   pool = "a"
//! default_backend b                           [listeners.f-2]  bind = ":443"  pool = "b"
//! ```
//!
//! A fallback belongs to a pool, and not to the way there: that every way there has it is looked at when pools are
//! written.

use std::path::Path;

use super::access::unsayable;
use super::acl::{Clause, Fact};
use super::lex::Line;
use crate::import::note::Origin;
use crate::import::routes::{Choice, Test, Way};
use crate::import::{Files, names};

/// Why a fallback is refused that not every way to its pool has.
pub const FOR_SOME: &str = "the pool falls back for some of its clients only; make two pools of it";

/// A way for clients for which the facts hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// All of them must hold.
    pub clause: Clause,
    /// Where such a client goes.
    pub way: Way,
    /// The line.
    pub origin: Origin,
}

/// A pool that another one stands in for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fallback {
    /// The pool.
    pub pool: String,
    /// The one that stands in.
    pub to: String,
    /// As long as fewer servers are up.
    pub up_min: u64,
    /// The line.
    pub origin: Origin,
}

/// A rule, taken apart.
#[derive(Clone, Debug)]
struct Lead {
    /// What the client must say.
    tests: Vec<Test>,
    /// What it must not.
    not: Vec<Test>,
    /// So many servers of a pool are up, or are not.
    up: Option<(String, u64, bool)>,
    /// Where it goes.
    way: Way,
    /// The line.
    origin: Origin,
}

/// The choices of a listener at that port, and what falls back to what.
///
/// The port is decided first, then counts of servers, then what must not hold: each step leaves rules of a simpler
/// form.
///
/// # Errors
/// The line that cannot be said.
pub fn choices(rules: Vec<Rule>, port: Option<u16>) -> Result<(Vec<Choice>, Vec<Fallback>), (Origin, String)> {
    let mut leads = Vec::new();
    for rule in rules {
        leads.extend(lead(rule, port)?);
    }
    let (leads, fallbacks) = without_counts(leads)?;
    Ok((without_negations(leads)?, fallbacks))
}

/// Takes a rule apart; `None`: it never holds here.
///
/// A fact that is always so says nothing and goes; one that is never so takes its rule with it.
fn lead(rule: Rule, port: Option<u16>) -> Result<Option<Lead>, (Origin, String)> {
    let Rule { clause, way, origin } = rule;
    let mut lead = Lead { tests: Vec::new(), not: Vec::new(), up: None, way, origin };
    for one in clause {
        match (one.fact, one.is_negated) {
            (Fact::Always(true), _) => {}
            (Fact::Always(false), _) => return Ok(None),
            (Fact::Says(test), false) => lead.tests.push(test),
            (Fact::Says(test), true) => lead.not.push(test),
            (Fact::AtLeast(pool, count), is_negated) if lead.up.is_none() => lead.up = Some((pool, count, !is_negated)),
            (Fact::AtLeast(..), _) => {
                return Err((lead.origin, "ringway asks for the servers of one pool at a time".to_string()));
            }
            (Fact::Ports(ranges), is_negated) if port.is_some() => {
                let holds = port.is_some_and(|port| ranges.iter().any(|(low, high)| (*low..=*high).contains(&port)));
                if holds == is_negated {
                    return Ok(None);
                }
            }
            (Fact::From(_), _) => {
                return Err((lead.origin, "ringway cannot choose a pool by the client's address".to_string()));
            }
            (fact, _) => return Err((lead.origin, unsayable(&fact))),
        }
    }
    Ok(Some(lead))
}

/// Makes pools that fall back of conditions on how many servers are up.
///
/// The next way for the same clients is where they go when the condition does not hold. It need not have the same
/// tests: one with fewer tests takes them, too.
///
/// A condition that names another pool than the way leads to is no fallback: `use_backend a if { nbsrv(b) gt 0 }` would
/// depend on servers that the client never gets to. Every way to a pool must have its fallback.
fn without_counts(leads: Vec<Lead>) -> Result<(Vec<Lead>, Vec<Fallback>), (Origin, String)> {
    let mut fallbacks: Vec<Fallback> = Vec::new();
    // Of each way, what stands in for its pool.
    let mut stand_ins: Vec<Option<(String, u64)>> = vec![None; leads.len()];
    for (at, lead) in leads.iter().enumerate() {
        let Some((pool, up_min, is_at_least)) = lead.up.clone() else { continue };
        let fault = |text: &str| Err((lead.origin.clone(), text.to_string()));
        // The next one that gets the same clients when this one does not.
        let is_in = |some: &[Test], all: &[Test]| some.iter().all(|test| all.contains(test));
        let takes_all = |next: &Lead| is_in(&next.not, &lead.not) && is_in(&next.tests, &lead.tests);
        let next = (at + 1..leads.len()).find(|place| takes_all(&leads[*place]));
        let pool_of = |lead: &Lead| match &lead.way {
            Way::Pool(pool) => Some(pool.clone()),
            _ => None,
        };
        let (Some(here), Some(place)) = (pool_of(lead), next) else {
            return fault("no other pool gets these clients then");
        };
        let Some(other) = pool_of(&leads[place]) else { return fault("no other pool gets these clients then") };
        if is_at_least {
            if here != pool {
                return fault("a pool falls back by its own servers, not by those of another one");
            }
            if leads[place].up.as_ref().is_some_and(|up| !up.2) {
                return fault("the way behind it depends on servers too; make a pool of it that falls back");
            }
            stand_ins[at] = Some((other.clone(), up_min));
            fallbacks.push(Fallback { pool, to: other, up_min, origin: lead.origin.clone() });
        } else {
            if other != pool {
                return fault("a pool falls back by its own servers, not by those of another one");
            }
            // Else other clients get to this pool by that way too, and do not fall back.
            if is_in(&lead.tests, &leads[place].tests) && is_in(&lead.not, &leads[place].not) {
                stand_ins[place] = Some((here.clone(), up_min));
            }
            fallbacks.push(Fallback { pool, to: here, up_min, origin: lead.origin.clone() });
        }
    }
    for (lead, stand_in) in leads.iter().zip(&stand_ins) {
        let Way::Pool(pool) = &lead.way else { continue };
        let differs = |fallback: &&Fallback| stand_in.as_ref() != Some(&(fallback.to.clone(), fallback.up_min));
        if fallbacks.iter().filter(|fallback| fallback.pool == *pool).any(|fallback| differs(&fallback)) {
            return Err((lead.origin.clone(), FOR_SOME.to_string()));
        }
    }
    let stays = leads.into_iter().filter(|lead| lead.up.as_ref().is_none_or(|up| up.2));
    Ok((stays.map(|lead| Lead { up: None, ..lead }).collect(), fallbacks))
}

/// Makes the listener's own pool of a condition that must not hold: all later rules are for clients for which it does.
///
/// For clients that do not say X a way `if !X` comes first; so the listener's own pool is that one, and each later way
/// asks for X beside its own tests. With a second condition that must not hold there would be two own pools.
fn without_negations(leads: Vec<Lead>) -> Result<Vec<Choice>, (Origin, String)> {
    let choice = |lead: &Lead, more: Option<&Test>| {
        let mut tests = lead.tests.clone();
        tests.extend(more.filter(|test| !lead.tests.contains(test)).cloned());
        Choice { tests, way: lead.way.clone(), origin: lead.origin.clone() }
    };
    let Some(at) = leads.iter().position(|lead| !lead.not.is_empty()) else {
        return Ok(leads.iter().map(|lead| choice(lead, None)).collect());
    };
    let negated = &leads[at];
    let ([test], []) = (negated.not.as_slice(), negated.tests.as_slice()) else {
        let text = "ringway takes one condition that must not hold, and that alone";
        return Err((negated.origin.clone(), text.to_string()));
    };
    let mut choices: Vec<Choice> = leads[..at].iter().map(|lead| choice(lead, None)).collect();
    let mut has_rest = false;
    for lead in &leads[at + 1..] {
        if !lead.not.is_empty() {
            let text = "ringway takes one condition that must not hold, and that alone";
            return Err((lead.origin.clone(), text.to_string()));
        }
        choices.push(choice(lead, Some(test)));
        has_rest = lead.tests.is_empty();
        if has_rest {
            break;
        }
    }
    if !has_rest {
        // No pool is left for them.
        let origin = negated.origin.clone();
        choices.push(Choice { tests: vec![test.clone()], way: Way::Refused, origin });
    }
    choices.push(Choice { tests: Vec::new(), way: negated.way.clone(), origin: negated.origin.clone() });
    Ok(choices)
}

/// `use_backend %[req.ssl_sni,lower,map(FILE,DEFAULT)]`: a route for each name of the file.
///
/// The names are those of the file at this moment. HAProxy can change a map at run time, and so can ringway's routes,
/// by a reload.
///
/// # Errors
/// It is another expression, or the file cannot be read.
pub fn by_map(line: &Line, files: &dyn Files) -> Result<Vec<Rule>, String> {
    let other = || format!("ringway cannot work out the pool by `{}`", line.rest(1));
    if line.words.len() > 2 {
        return Err(other());
    }
    let inner = line.word(1).strip_prefix("%[").and_then(|rest| rest.strip_suffix(']')).ok_or_else(other)?;
    let inner = inner.strip_prefix("req.ssl_sni,").or_else(|| inner.strip_prefix("req_ssl_sni,")).ok_or_else(other)?;
    let inner = inner.strip_prefix("lower,").unwrap_or(inner);
    let (kind, argument) = inner.split_once('(').ok_or_else(other)?;
    let argument = argument.strip_suffix(')').ok_or_else(other)?;
    let (file, default) = argument.split_once(',').map_or((argument, None), |(file, default)| (file, Some(default)));
    let path = Path::new(&*line.origin.file).parent().unwrap_or(Path::new("")).join(file);
    let text = files.text(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let mut rules = Vec::new();
    for entry in text.lines().map(str::trim).filter(|entry| !entry.is_empty() && !entry.starts_with('#')) {
        let (key, pool) =
            entry.split_once(char::is_whitespace).ok_or_else(|| format!("{file}: `{entry}` has no pool"))?;
        let key = key.to_ascii_lowercase();
        let names = match kind {
            "map" | "map_str" => vec![key],
            "map_dom" => names::of_domain(&key),
            "map_end" => names::of_end(&key).0,
            "map_reg" => names::of_regex(&key).ok_or_else(|| format!("{file}: ringway's routes cannot say `{key}`"))?,
            _ => return Err(other()),
        };
        let fact = super::acl::Literal { fact: Fact::Says(Test::Names(names)), is_negated: false };
        let way = Way::Pool(pool.trim().to_string());
        rules.push(Rule { clause: vec![fact], way, origin: line.origin.clone() });
    }
    if let Some(default) = default {
        rules.push(Rule { clause: Vec::new(), way: Way::Pool(default.to_string()), origin: line.origin.clone() });
    }
    Ok(rules)
}
