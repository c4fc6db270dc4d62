//! Conditions of HAProxy: `if a !b { src 10.0.0.0/8 } or c`, as alternatives of facts that must all hold.
//!
//! | HAProxy | fact |
//! |---|---|
//! | `src` with addresses, `-f FILE` | `From` |
//! | `req.ssl_sni` with `-m str`, `end`, `dom`, `reg`, `found` | `Says(Names)` |
//! | `req.ssl_alpn` | `Says(Alpn)` |
//! | `req.ssl_hello_type 1`, `req.ssl_ver -m found`, `req.payload(0,1) -m bin 16` | `Says(Protocol("tls"))` |
//! | `req.payload(0,7) -m bin 5353482d…` | `Says(Protocol("ssh"))` |
//! | `HTTP`, `req.proto_http` | `Says(Protocol("http"))` |
//! | `nbsrv(pool)` with a number | `AtLeast`, `Exactly` |
//! | `dst_port` | `Ports` |
//! | `src_conn_rate gt N`, `sc0_conn_rate gt N`, `sc_conn_rate(0) gt N` | `RateOver` |
//! | `src_conn_cur gt N` and the like | `OpenOver` |
//! | `TRUE`, `WAIT_END`, `req.len gt 0` | `Always`: ringway waits for what it asks |
//! | everything else | `Unsayable` |
//!
//! Definitions of one name are alternatives; conditions beside each other must all hold; `!` and `unless` turn them
//! around.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::section::Proxy;
use crate::import::nets::{Clients, Net};
use crate::import::routes::Test;
use crate::import::{Files, names};

/// More alternatives than this are not written out.
const CLAUSES_MAX: usize = 200;

/// What a condition asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// It is always so, or never.
    Always(bool),
    /// What the client says first.
    Says(Test),
    /// The client's address.
    From(Clients),
    /// So many servers of a pool are up, at least.
    AtLeast(String, u64),
    /// Fewer are. A literal has it as the opposite of `AtLeast`.
    Fewer(String, u64),
    /// Exactly so many are.
    Exactly(String, u64),
    /// The port that the client connected to: first and last of each range.
    Ports(Vec<(u16, u16)>),
    /// The client has more open connections than this; and what counts them.
    OpenOver(u64, Counter),
    /// The client connects more often than this; and what counts.
    RateOver(u64, Counter),
    /// Something that ringway cannot ask; what.
    Unsayable(String),
}

/// What counts the connections of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Counter {
    /// The table of this proxy; an empty name is the own one.
    Table(String),
    /// The table of `track-sc` with this number.
    Tracked(u8),
}

/// A fact, or its opposite.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Literal {
    /// The fact.
    pub fact: Fact,
    /// It must not hold.
    pub is_negated: bool,
}

/// Facts that must all hold.
pub type Clause = Vec<Literal>;

/// The named conditions of a proxy.
pub struct Acls<'a> {
    /// By name: the words of each definition, one of which must hold.
    named: HashMap<&'a str, Vec<&'a [String]>>,
    /// Where lists in files are found.
    files: &'a dyn Files,
    /// The folder of the configuration.
    folder: PathBuf,
}

impl<'a> Acls<'a> {
    /// Those of a proxy.
    pub fn of(proxy: &Proxy<'a>, files: &'a dyn Files) -> Acls<'a> {
        let mut named: HashMap<&str, Vec<&[String]>> = HashMap::new();
        for line in proxy.all("acl").filter(|line| line.words.len() > 2) {
            named.entry(line.words[1].as_str()).or_default().push(&line.words[2..]);
        }
        let folder = Path::new(&*proxy.origin().file).parent().unwrap_or(Path::new("")).to_path_buf();
        Acls { named, files, folder }
    }

    /// The alternatives of a condition: the words from `if` or `unless` on; none is always.
    ///
    /// # Errors
    /// The condition has no form.
    pub fn condition(&self, words: &[String]) -> Result<Vec<Clause>, String> {
        let Some(first) = words.first() else { return Ok(vec![Vec::new()]) };
        if first != "if" && first != "unless" {
            return Err(format!("`{first}` is no condition"));
        }
        let (mut clauses, mut current) = (Vec::new(), vec![Vec::new()]);
        let mut words = words[1..].iter().map(String::as_str);
        let mut is_negated = false;
        while let Some(word) = words.next() {
            if word == "||" || word.eq_ignore_ascii_case("or") {
                clauses.append(&mut current);
                current = vec![Vec::new()];
                continue;
            }
            let (is_not, word) = word.strip_prefix('!').map_or((false, word), |word| (true, word));
            is_negated ^= is_not;
            let facts = match word {
                "" => continue,
                "{" => {
                    let inner: Vec<String> =
                        words.by_ref().take_while(|word| *word != "}").map(str::to_string).collect();
                    vec![self.fact(&inner)]
                }
                name => self.facts(name),
            };
            current = product(&current, &facts, std::mem::take(&mut is_negated))?;
        }
        clauses.append(&mut current);
        if first == "unless" { opposite(&clauses) } else { Ok(clauses) }
    }

    /// The facts of a name, one of which must hold. Facts of the same kind become one.
    fn facts(&self, name: &str) -> Vec<Fact> {
        let Some(definitions) = self.named.get(name) else {
            return vec![match name {
                "TRUE" | "WAIT_END" => Fact::Always(true),
                "FALSE" => Fact::Always(false),
                "LOCALHOST" => Fact::From(local()),
                "HTTP" => Fact::Says(Test::Protocol("http")),
                "REQ_CONTENT" => Fact::Always(true),
                name => Fact::Unsayable(format!("there is no acl `{name}`")),
            }];
        };
        let mut facts: Vec<Fact> = Vec::new();
        for definition in definitions {
            let fact = self.fact(definition);
            match (facts.last_mut(), fact) {
                (Some(Fact::Says(Test::Names(all))), Fact::Says(Test::Names(more))) => all.extend(more),
                (Some(Fact::Says(Test::Alpn(all))), Fact::Says(Test::Alpn(more))) => all.extend(more),
                (Some(Fact::Ports(all)), Fact::Ports(more)) => all.extend(more),
                (Some(Fact::From(all)), Fact::From(more)) => *all = std::mem::take(all).and(more),
                (_, fact) => facts.push(fact),
            }
        }
        facts
    }

    /// One fact: what is fetched, how it is compared, and with what.
    fn fact(&self, words: &[String]) -> Fact {
        let Some((fetch, rest)) = words.split_first() else { return Fact::Unsayable("the condition is empty".into()) };
        let unsayable = || Fact::Unsayable(format!("ringway cannot ask `{}`", words.join(" ")));
        let Some(asked) = Asked::read(rest, self) else { return unsayable() };
        let (name, argument) = parts(fetch);
        let fact = match name {
            "always_true" => Some(Fact::Always(true)),
            "always_false" => Some(Fact::Always(false)),
            "wait_end" => Some(Fact::Always(true)),
            "src" => asked.clients().map(Fact::From),
            "dst_port" | "port" => asked.ports().map(Fact::Ports),
            "req.ssl_sni" | "req_ssl_sni" => asked.server_names().map(|names| Fact::Says(Test::Names(names))),
            "req.ssl_alpn" | "req_ssl_alpn" => asked.protocols().map(|all| Fact::Says(Test::Alpn(all))),
            "req.ssl_hello_type" | "req_ssl_hello_type" => (asked.patterns == ["1"]).then_some(TLS),
            "req.ssl_ver" | "req_ssl_ver" | "req.ssl_st_ext" if asked.method == "found" => Some(TLS),
            "req.proto_http" | "req_proto_http" => Some(Fact::Says(Test::Protocol("http"))),
            "req.payload" | "payload" if argument.starts_with('0') => asked.first_bytes(),
            "req.len" | "req_len" => (asked.range() == Some((1, None))).then_some(Fact::Always(true)),
            "nbsrv" => asked.range().map(|range| servers_up(argument, range)),
            _ => asked.range().and_then(|(low, high)| counted(name, argument, low, high)),
        };
        fact.unwrap_or_else(unsayable)
    }
}

/// A client that begins with TLS.
const TLS: Fact = Fact::Says(Test::Protocol("tls"));

/// Clients of this host, as HAProxy's LOCALHOST has them.
///
/// Only what it is in newer versions; older ones had no IPv6 in it.
fn local() -> Clients {
    let nets = ["127.0.0.0/8", "::1"].iter().filter_map(|text| Net::new(text)).collect();
    Clients { nets, unix: false, file: None }
}

/// The name of what is fetched and what stands in its parentheses. What changes only letters is cut off.
fn parts(fetch: &str) -> (&str, &str) {
    let fetch = fetch.strip_suffix(",lower").unwrap_or(fetch);
    match fetch.split_once('(') {
        Some((name, rest)) if rest.ends_with(')') => (name, &rest[..rest.len() - 1]),
        _ => (fetch, ""),
    }
}

/// How many servers are up.
fn servers_up(pool: &str, range: (u64, Option<u64>)) -> Fact {
    match range {
        (0, None) => Fact::Always(true),
        (low, None) => Fact::AtLeast(pool.to_string(), low),
        (low, Some(high)) if low == high && low > 0 => Fact::Exactly(pool.to_string(), low),
        (0, Some(high)) => Fact::Fewer(pool.to_string(), high.saturating_add(1)),
        _ => Fact::Unsayable(format!("ringway cannot ask for a range of servers of `{pool}`")),
    }
}

impl Fact {
    /// The literal that says the same.
    fn literal(self, is_negated: bool) -> Literal {
        match self {
            Fact::Fewer(pool, count) => Literal { fact: Fact::AtLeast(pool, count), is_negated: !is_negated },
            Fact::Always(always) => Literal { fact: Fact::Always(always != is_negated), is_negated: false },
            fact => Literal { fact, is_negated },
        }
    }
}

/// What a table counts of a client: `src_conn_rate`, `sc0_conn_rate`, `sc_conn_rate(0)`, and the same of open ones.
///
/// `gt 0` would refuse every client. Ranges with an upper end would refuse some and let more of them in, which is no
/// limit.
fn counted(name: &str, argument: &str, low: u64, high: Option<u64>) -> Option<Fact> {
    let over = low.checked_sub(1).filter(|over| high.is_none() && *over > 0)?;
    let (counter, what) = name.split_once('_')?;
    let (number, table) = argument.split_once(',').unwrap_or((argument, ""));
    let tracked = |number: &str| match (number.parse(), table) {
        (Ok(number), "") => Some(Counter::Tracked(number)),
        (Ok(_), table) => Some(Counter::Table(table.to_string())),
        (Err(_), _) => None,
    };
    let counter = match counter {
        "src" => Counter::Table(argument.to_string()),
        "sc" => tracked(number)?,
        "sc0" | "sc1" | "sc2" if argument.is_empty() => Counter::Tracked(counter.as_bytes()[2] - b'0'),
        "sc0" | "sc1" | "sc2" => Counter::Table(argument.to_string()),
        _ => return None,
    };
    match what {
        "conn_rate" | "sess_rate" => Some(Fact::RateOver(over, counter)),
        "conn_cur" => Some(Fact::OpenOver(over, counter)),
        _ => None,
    }
}

/// How something is compared, and with what.
struct Asked {
    /// `-m`; empty is the method of what is fetched.
    method: String,
    /// What it is compared with.
    patterns: Vec<String>,
    /// The file that holds exactly these.
    file: Option<String>,
}

impl Asked {
    /// Reads flags and patterns. `None`: a file cannot be read.
    fn read(words: &[String], acls: &Acls<'_>) -> Option<Asked> {
        let (mut method, mut patterns, mut list, mut file) = (String::new(), Vec::new(), Vec::new(), None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-i" | "-n" | "-u" => {}
                "-m" => method.clone_from(words.next()?),
                "-f" => {
                    let path = words.next()?;
                    let text = acls.files.text(&acls.folder.join(path)).ok()?;
                    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
                    list.extend(lines.filter(|line| !line.is_empty()).map(str::to_string));
                    file = Some(path.clone()).filter(|path| path.starts_with('/') && file.is_none());
                }
                "-M" => return None,
                "--" => patterns.extend(words.by_ref().cloned()),
                pattern => patterns.push(pattern.to_string()),
            }
        }
        if !patterns.is_empty() {
            file = None;
        }
        patterns.extend(list);
        Some(Asked { method, patterns, file })
    }

    /// Addresses and networks.
    fn clients(&self) -> Option<Clients> {
        if !["", "ip"].contains(&self.method.as_str()) || self.patterns.is_empty() {
            return None;
        }
        let nets: Option<Vec<Net>> = self.patterns.iter().map(|text| Net::new(text)).collect();
        Some(Clients { nets: nets?, unix: false, file: self.file.clone() })
    }

    /// Numbers: the only range that is asked for.
    fn range(&self) -> Option<(u64, Option<u64>)> {
        let words: Vec<&str> = self.patterns.iter().map(String::as_str).collect();
        let number = |text: &str| text.parse::<u64>().ok();
        match words.as_slice() {
            ["gt", one] => Some((number(one)?.checked_add(1)?, None)),
            ["ge", one] => Some((number(one)?, None)),
            ["lt", one] => Some((0, Some(number(one)?.checked_sub(1)?))),
            ["le", one] => Some((0, Some(number(one)?))),
            ["eq", one] | [one] => match one.split_once(':') {
                Some((low, "")) => Some((number(low)?, None)),
                Some((low, high)) => Some((number(low)?, Some(number(high)?))),
                None => Some((number(one)?, Some(number(one)?))),
            },
            _ => None,
        }
    }

    /// Ports and ranges of them.
    fn ports(&self) -> Option<Vec<(u16, u16)>> {
        let port = |text: &String| {
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let patterns = self.patterns.iter().filter(|word| *word != "eq");
        patterns.map(port).collect::<Option<Vec<_>>>().filter(|ports| !ports.is_empty())
    }

    /// Patterns of server names.
    fn server_names(&self) -> Option<Vec<String>> {
        let lower: Vec<String> = self.patterns.iter().map(|name| name.to_ascii_lowercase()).collect();
        let all = match self.method.as_str() {
            "found" => vec!["*".to_string()],
            "" | "str" => lower,
            "end" => lower.iter().flat_map(|end| names::of_end(end).0).collect(),
            "dom" => lower.iter().flat_map(|domain| names::of_domain(domain)).collect(),
            "reg" => lower.iter().map(|regex| names::of_regex(regex)).collect::<Option<Vec<_>>>()?.concat(),
            _ => return None,
        };
        (!all.is_empty()).then_some(all)
    }

    /// Protocols of ALPN: HAProxy sees the whole list as one text.
    fn protocols(&self) -> Option<Vec<String>> {
        let all: Vec<String> = match self.method.as_str() {
            "" | "str" | "sub" | "beg" => {
                self.patterns.iter().flat_map(|list| list.split(',')).map(str::to_string).collect()
            }
            _ => return None,
        };
        let mut seen = std::collections::HashSet::new();
        let all: Vec<String> = all.into_iter().filter(|one| seen.insert(one.clone())).collect();
        (!all.is_empty()).then_some(all)
    }

    /// What the client's first bytes are.
    fn first_bytes(&self) -> Option<Fact> {
        let bytes = |pattern: &String| match self.method.as_str() {
            "bin" => decode_hex(pattern),
            "" | "str" | "beg" => Some(pattern.clone().into_bytes()),
            _ => None,
        };
        let all: Vec<Vec<u8>> = self.patterns.iter().map(bytes).collect::<Option<_>>()?;
        let are = |begin: &[u8]| !all.is_empty() && all.iter().all(|bytes| bytes.starts_with(begin));
        match () {
            () if are(b"SSH-") => Some(Fact::Says(Test::Protocol("ssh"))),
            () if are(b"\x16\x03") || all == [b"\x16".to_vec()] => Some(TLS),
            () => None,
        }
    }
}

/// Bytes of hexadecimal digits.
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Clauses that also have one of these facts; or, negated, none of them.
///
/// Alternatives of a name multiply those of the others: `a b` with two definitions each are four clauses. The negation
/// of a name needs no more of them, because none of its definitions may hold.
fn product(clauses: &[Clause], facts: &[Fact], is_negated: bool) -> Result<Vec<Clause>, String> {
    let with = |clause: &Clause, facts: &[Fact]| {
        let mut clause = clause.clone();
        clause.extend(facts.iter().map(|fact| fact.clone().literal(is_negated)));
        clause
    };
    if is_negated {
        return Ok(clauses.iter().map(|clause| with(clause, facts)).collect());
    }
    if clauses.len() * facts.len() > CLAUSES_MAX {
        return Err("the condition has too many alternatives".to_string());
    }
    Ok(clauses.iter().flat_map(|clause| facts.iter().map(|fact| with(clause, std::slice::from_ref(fact)))).collect())
}

/// The opposite of alternatives, as alternatives.
///
/// `unless a b` is `if !a or !b`: one literal out of each clause, in every combination.
fn opposite(clauses: &[Clause]) -> Result<Vec<Clause>, String> {
    let mut all: Vec<Clause> = vec![Vec::new()];
    for clause in clauses {
        if all.len() * clause.len() > CLAUSES_MAX {
            return Err("the condition has too many alternatives".to_string());
        }
        let mut next = Vec::new();
        for one in &all {
            for literal in clause {
                let mut longer = one.clone();
                longer.push(literal.fact.clone().literal(!literal.is_negated));
                next.push(longer);
            }
        }
        all = next;
    }
    Ok(all)
}
