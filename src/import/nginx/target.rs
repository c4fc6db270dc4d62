//! Where `proxy_pass` leads: an upstream, an address, or a variable that `map` or `split_clients` makes of what the
//! client says.
//!
//! | variable | tests |
//! |---|---|
//! | `map $ssl_preread_server_name` | `sni` |
//! | `map $ssl_preread_alpn_protocols` | `alpn` |
//! | `map $ssl_preread_protocol` | `protocol = "tls"`, if all versions lead to one place |
//! | `map $server_port` | decided for each listener |
//! | `split_clients` | `split`, by weight |
//! | `set` of the server, or of `stream` | its text |
//! | `geo`, a map of the client's address | refused |
//! | a name of the client as the target | refused: an open relay |
//!
//! nginx looks at exact keys first, then at the longest with a star, then at expressions in order, wherever they stand;
//! a route counts by its place, so the routes are sorted like that. A value can be another variable, whose tests are
//! added. Without `default` the value is empty, and nginx closes the connection: the client is refused.

use std::collections::HashMap;

use super::tree::Directive;
use crate::import::note::{Notes, Origin, Refusal};
use crate::import::routes::Test;
use crate::import::{names, variable};

/// A map can name another one; more than so many in each other are an error.
const DEPTH_MAX: usize = 6;

/// What a variable, or a text, comes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// The name of an upstream, or an address; empty is nowhere.
    Named(String),
    /// Several of those, by weight.
    Split(Vec<(String, u64)>),
}

/// A target for clients that pass the tests.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Aim {
    /// All of them must fit.
    pub tests: Vec<Test>,
    /// Where they lead.
    pub target: Target,
    /// The line.
    pub origin: Origin,
}

/// Where a text is worked out.
#[derive(Clone, Copy)]
pub struct Here<'s> {
    /// The server, with what it sets itself.
    pub server: &'s Directive,
    /// The port that clients connect to.
    pub port: Option<u16>,
}

impl<'s> Here<'s> {
    /// What the server sets a variable to: of several lines the last one counts.
    fn set(self, variable: &str) -> Option<&'s str> {
        let lines = self.server.inner();
        let line = lines.iter().rfind(|one| one.name == "set" && one.arg(0) == variable)?;
        Some(line.arg(1))
    }
}

/// The variables of a `stream` block.
pub struct Variables<'a> {
    /// `map`, by the variable that it makes.
    maps: HashMap<&'a str, &'a Directive>,
    /// `split_clients`, by its variable.
    splits: HashMap<&'a str, &'a Directive>,
    /// `set` of `stream`.
    sets: HashMap<&'a str, &'a str>,
    /// `geo`, by its variable.
    geos: HashMap<&'a str, &'a Directive>,
}

impl<'a> Variables<'a> {
    /// Those of a `stream` block.
    pub fn of(stream: &'a [Directive]) -> Variables<'a> {
        let by = |name: &str, at: usize| {
            let all = stream.iter().filter(|one| one.name == name && !one.args.is_empty());
            all.map(|one| (one.arg(at.min(one.args.len() - 1)), one)).collect::<HashMap<_, _>>()
        };
        let sets = stream.iter().filter(|one| one.name == "set");
        Variables {
            maps: by("map", 1),
            splits: by("split_clients", 1),
            sets: sets.map(|one| (one.arg(0), one.arg(1))).collect(),
            geos: by("geo", 1),
        }
    }

    /// What a text of `proxy_pass` comes to, in that server and at that port.
    pub fn aims(&self, text: &str, here: Here<'_>, origin: &Origin, notes: &mut Notes) -> Result<Vec<Aim>, Refusal> {
        self.resolve(text, here, origin, notes, 0)
    }

    /// The same, in maps that name each other.
    fn resolve(
        &self,
        text: &str,
        here: Here<'_>,
        origin: &Origin,
        notes: &mut Notes,
        depth: usize,
    ) -> Result<Vec<Aim>, Refusal> {
        let named =
            |target: String| vec![Aim { tests: Vec::new(), target: Target::Named(target), origin: origin.clone() }];
        let fault = |text: String| Err((origin.clone(), text));
        let Some(name) = text.strip_prefix('$').filter(|name| !name.starts_with('{')).or(braced(text)) else {
            return if is_plain(text) {
                Ok(named(text.to_string()))
            } else {
                fault(format!("`{text}` is put together from what the client says: ringway would be an open relay"))
            };
        };
        let variable = format!("${name}");
        if depth > DEPTH_MAX {
            return fault(format!("`{text}`: maps that name each other"));
        }
        if let Some(value) = here.set(&variable).or(self.sets.get(variable.as_str()).copied()) {
            return self.resolve(value, here, origin, notes, depth + 1);
        }
        if let Some(map) = self.maps.get(variable.as_str()) {
            return self.map(map, here, notes, depth);
        }
        if let Some(split) = self.splits.get(variable.as_str()) {
            return split_clients(split, notes);
        }
        if self.geos.contains_key(variable.as_str()) {
            return fault("ringway cannot choose a pool by the client's address".to_string());
        }
        match text.starts_with("${") && variable::is_name(name) && name == name.to_uppercase() {
            true => Ok(named(variable::mark(name))),
            false => fault(format!("`{text}` is nothing that ringway can lead a client by")),
        }
    }

    /// What a map comes to: exact keys first, then names with a star, then expressions, then the default.
    fn map(&self, map: &Directive, here: Here<'_>, notes: &mut Notes, depth: usize) -> Result<Vec<Aim>, Refusal> {
        let mut entries = Vec::new();
        let mut has_names = false;
        for entry in map.inner() {
            match entry.name.as_str() {
                "hostnames" if entry.args.is_empty() => has_names = true,
                "volatile" if entry.args.is_empty() => {}
                _ => entries.push(entry.clone()),
            }
        }
        let source = map.arg(0);
        let default = entries.iter().rposition(|entry| entry.name == "default").map(|at| entries.remove(at));
        let by = match source {
            "$ssl_preread_server_name" => By::Name { has_names },
            "$ssl_preread_alpn_protocols" => By::Alpn,
            "$ssl_preread_protocol" => return self.by_version(map, entries, default, here, notes, depth),
            "$server_port" => return self.by_port(map, entries, default, here, notes, depth),
            "$remote_addr" | "$binary_remote_addr" | "$realip_remote_addr" => {
                return Err((map.origin.clone(), "ringway cannot choose a pool by the client's address".to_string()));
            }
            other => return Err((map.origin.clone(), format!("ringway cannot lead a client by `{other}`"))),
        };
        let mut keyed = Vec::new();
        for entry in entries {
            let (rank, test) = by.test(&entry.name).map_err(|text| (entry.origin.clone(), text))?;
            keyed.push((rank, test, entry));
        }
        keyed.sort_by_key(|one| one.0);
        let mut aims: Vec<Aim> = Vec::new();
        for (_, test, entry) in keyed {
            for aim in self.resolve(entry.arg(0), here, &entry.origin, notes, depth + 1)? {
                let tests = test.clone().into_iter().chain(aim.tests).collect();
                aims.push(Aim { tests, target: aim.target, origin: entry.origin.clone() });
            }
        }
        if matches!(by, By::Alpn) {
            notes.note(
                &map.origin,
                "nginx compares the whole list that a client offers; here one protocol of it is enough",
            );
        }
        let aims = self.with_default(merged(aims), map, default, here, notes, depth)?;
        Ok(aims)
    }

    /// Adds the default; without one the value is empty, and the client is refused.
    fn with_default(
        &self,
        mut aims: Vec<Aim>,
        map: &Directive,
        default: Option<Directive>,
        here: Here<'_>,
        notes: &mut Notes,
        depth: usize,
    ) -> Result<Vec<Aim>, Refusal> {
        match default {
            Some(entry) => aims.extend(self.resolve(entry.arg(0), here, &entry.origin, notes, depth + 1)?),
            None => {
                let target = Target::Named(String::new());
                aims.push(Aim { tests: Vec::new(), target, origin: map.origin.clone() });
            }
        }
        Ok(aims)
    }

    /// A map of the version of TLS: with it one knows that it is TLS.
    fn by_version(
        &self,
        map: &Directive,
        entries: Vec<Directive>,
        default: Option<Directive>,
        here: Here<'_>,
        notes: &mut Notes,
        depth: usize,
    ) -> Result<Vec<Aim>, Refusal> {
        let (mut plain, mut tls): (Option<Directive>, Option<Directive>) = (None, None);
        for entry in entries {
            if entry.name.is_empty() {
                plain = Some(entry);
            } else if tls.as_ref().is_some_and(|before| before.arg(0) != entry.arg(0)) {
                return Err((entry.origin.clone(), "ringway does not choose by the version of TLS".to_string()));
            } else {
                tls = Some(entry);
            }
        }
        if let (Some(tls), Some(default), None) = (&tls, &default, &plain)
            && tls.arg(0) != default.arg(0)
        {
            notes.note(&map.origin, "every version of TLS goes there, not only those that are named");
        }
        let tls = tls.or(default.clone());
        let mut aims = Vec::new();
        if let Some(entry) = &tls {
            for aim in self.resolve(entry.arg(0), here, &entry.origin, notes, depth + 1)? {
                let tests = std::iter::once(Test::Protocol("tls")).chain(aim.tests).collect();
                aims.push(Aim { tests, target: aim.target, origin: entry.origin.clone() });
            }
        }
        self.with_default(aims, map, plain.or(default), here, notes, depth)
    }

    /// A map of the port: decided for each listener.
    fn by_port(
        &self,
        map: &Directive,
        entries: Vec<Directive>,
        default: Option<Directive>,
        here: Here<'_>,
        notes: &mut Notes,
        depth: usize,
    ) -> Result<Vec<Aim>, Refusal> {
        let Some(port) = here.port else {
            return Err((map.origin.clone(), "`$server_port` decides, and this is not one port".to_string()));
        };
        let found = entries.into_iter().find(|entry| entry.name == port.to_string());
        self.with_default(Vec::new(), map, found.or(default), here, notes, depth)
    }
}

/// The name in `${NAME}`.
fn braced(text: &str) -> Option<&str> {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|name| !name.contains(['$', '{', '}']))
}

/// Whether a text has no variable of nginx in it. `${NAME}` in capitals is one of the environment.
///
/// Anything with a variable of nginx in it is worked out for each client.
fn is_plain(text: &str) -> bool {
    !variable::expand(text).contains('$')
        && variable::names(&variable::expand(text)).iter().all(|name| **name == name.to_uppercase())
}

/// Which key or name is looked at first: exact ones, then the longest with a star, then expressions.
pub type Rank = (u8, usize);

/// What the keys of a map are compared with.
pub enum By {
    /// The server name; and whether a key can have a star.
    Name {
        /// `hostnames` is written.
        has_names: bool,
    },
    /// The protocols of ALPN.
    Alpn,
}

impl By {
    /// The test of a key, and its rank: which one is looked at first.
    pub fn test(&self, written: &str) -> Result<(Rank, Option<Test>), String> {
        let key = written.trim_start_matches('\\').to_ascii_lowercase();
        if let By::Alpn = self {
            let all: Vec<String> = key.split(',').filter(|one| !one.is_empty()).map(str::to_string).collect();
            let regex = written.strip_prefix('~').map(|regex| regex.replace("\\b", "").replace(['^', '$', '*'], ""));
            return match regex {
                None if !all.is_empty() => Ok(((0, 0), Some(Test::Alpn(all)))),
                Some(plain)
                    if !plain.is_empty() && plain.chars().all(|c| c.is_ascii_alphanumeric() || "/.-".contains(c)) =>
                {
                    Ok(((2, 0), Some(Test::Alpn(vec![plain]))))
                }
                _ => Err(format!("ringway's routes cannot say `{written}`")),
            };
        }
        let has_names = matches!(self, By::Name { has_names: true });
        let name = |all: Vec<String>| Some(Test::Names(all));
        if let Some(regex) = written.strip_prefix("~*").or(written.strip_prefix('~')) {
            let all = names::of_regex(&regex.to_ascii_lowercase());
            return Ok(((3, 0), name(all.ok_or_else(|| format!("ringway's routes cannot say `{written}`"))?)));
        }
        match key.strip_prefix('.') {
            _ if key.is_empty() => {
                Err("ringway has no route for clients that say no name; let the default be theirs".to_string())
            }
            // Longer ones are looked at first.
            Some(domain) if has_names => Ok(((1, usize::MAX - key.len()), name(names::of_domain(domain)))),
            _ if !has_names && key.starts_with(['*', '.']) => {
                Err(format!("without `hostnames` no name is `{key}`; add it, or leave the key out"))
            }
            _ if has_names && key.starts_with("*.") => Ok(((1, usize::MAX - key.len()), name(vec![key]))),
            _ if has_names && key.ends_with(".*") => Err(format!("ringway's routes cannot say `{key}`")),
            _ => Ok(((0, 0), name(vec![key]))),
        }
    }
}

/// Neighbours that lead to the same place become one.
///
/// Keys that lead to one upstream become one route with several names, as a person would write it. Others may not move
/// past each other.
fn merged(aims: Vec<Aim>) -> Vec<Aim> {
    let mut all: Vec<Aim> = Vec::new();
    for aim in aims {
        if let Some(last) = all.last_mut().filter(|last| last.target == aim.target) {
            match (last.tests.as_mut_slice(), aim.tests.as_slice()) {
                ([Test::Names(names)], [Test::Names(more)]) => {
                    names.extend(more.iter().cloned());
                    continue;
                }
                ([Test::Alpn(all)], [Test::Alpn(more)]) => {
                    let new: Vec<String> = more.iter().filter(|one| !all.contains(one)).cloned().collect();
                    all.extend(new);
                    continue;
                }
                _ => {}
            }
        }
        all.push(aim);
    }
    all
}

/// What `split_clients` comes to.
///
/// nginx hashes a text of the client, so that it stays with its part as long as the parts do not change; ringway goes
/// by turns. The weights are the smallest numbers with the same ratio.
fn split_clients(split: &Directive, notes: &mut Notes) -> Result<Vec<Aim>, Refusal> {
    let (mut parts, mut rest): (Vec<(String, u64)>, Option<String>) = (Vec::new(), None);
    let mut left = 10_000u64;
    for entry in split.inner() {
        let fault = |text: &str| Err((entry.origin.clone(), text.to_string()));
        if entry.name == "*" {
            rest = Some(entry.arg(0).to_string());
            continue;
        }
        // Hundredths of a per cent, as nginx reads them.
        let number = entry.name.strip_suffix('%').and_then(|text| text.parse::<f64>().ok());
        let Some(part) =
            number.filter(|number| (0.0..=100.0).contains(number)).map(|number| (number * 100.0).round() as u64)
        else {
            return fault("that is no part in per cent");
        };
        let Some(less) = left.checked_sub(part) else { return fault("the parts are more than 100 %") };
        left = less;
        parts.push((entry.arg(0).to_string(), part));
    }
    parts.extend(rest.map(|target| (target, left)));
    let fault = |text: &str| Err((split.origin.clone(), text.to_string()));
    let common = parts.iter().fold(0, |common, (_, part)| divisor(common, *part)).max(1);
    if parts.iter().any(|(_, part)| part / common > 256) {
        return fault("weights go up to 256; write the parts in whole per cent");
    }
    if parts.iter().any(|(target, _)| target.is_empty() || target.contains('$')) || parts.is_empty() {
        return fault("each part leads to an upstream or an address");
    }
    if parts.iter().map(|(_, part)| part).sum::<u64>() < 9_990 {
        return fault("the parts are not everything, and the others would lead nowhere");
    }
    notes.note(&split.origin, "ringway splits exactly, session by session: a client does not stay with its part");
    let target = Target::Split(parts.into_iter().map(|(target, part)| (target, part / common)).collect());
    Ok(vec![Aim { tests: Vec::new(), target, origin: split.origin.clone() }])
}

/// The greatest number that both are multiples of.
///
/// Euclid's algorithm, on a few numbers below 10,000.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}
