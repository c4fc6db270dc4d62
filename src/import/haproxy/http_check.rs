//! `option httpchk` and the rules of `http-check`.
//!
//! | HAProxy | ringway |
//! |---|---|
//! | `option httpchk` | `OPTIONS /` |
//! | `option httpchk /x` | `OPTIONS /x`: one word is the path |
//! | `option httpchk GET` | HAProxy asks `OPTIONS GET`, which is no request; the method was meant |
//! | `option httpchk GET /x HTTP/1.1\r\nHost:\ www` | `path`, `host`; further headers too |
//! | `http-check send meth M uri U hdr N V` | `method`, `path`, `headers` |
//! | `http-check expect status`, `rstatus`, also with `!` | `status`: the codes for which it holds, as ranges |
//! | `http-check expect string`, `rstring` | `expect`; the status does not count then |
//! | none | 200-399 |
//! | `http-check disable-on-404` | `drain_status = [404]`, and 404 is no success |

use super::Job;
use super::conversation::{is_filled_in, literal};
use super::lex::Line;
use super::section::Proxy;
use crate::health::ask::Pattern;
use crate::import::note::{Origin, Refusal};
use crate::import::sheet::{KeyTable, Written};

/// The codes that a status can have.
const CODES: std::ops::RangeInclusive<u16> = 100..=599;
/// Methods that are mistaken for a path.
const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];

/// What is asked for.
struct AskedPage {
    /// The method.
    method: String,
    /// The path.
    path: String,
    /// The Host header.
    host: String,
    /// Other headers.
    headers: Vec<(String, String)>,
}

/// Sets the keys of an HTTP check.
///
/// # Errors
/// A rule that cannot be said.
pub fn check(job: &mut Job<'_>, proxy: &Proxy<'_>, option: &Line, keys: &mut KeyTable) -> Result<(), Refusal> {
    let mut asked = of_option(job, option).map_err(|text| (option.origin.clone(), text))?;
    keys.set("type", "http", &option.origin);
    let own = proxy.own("http-check").next().is_some();
    let rules: Vec<&Line> = if own { proxy.own("http-check").collect() } else { proxy.all("http-check").collect() };
    let (mut status, mut body, mut drains) = (None, None, None);
    let mut words: Vec<&str> = Vec::new();
    for rule in rules {
        let fault = |text: String| (rule.origin.clone(), text);
        // Later ones would ask something else, over a connection of their own.
        let is_second = match rule.word(1) {
            "connect" => words.iter().any(|word| ["connect", "send", "expect"].contains(word)),
            "send" => words.contains(&"send"),
            _ => false,
        };
        if is_second {
            return Err(fault("a check of ringway asks once, over one connection; keep one of them".to_string()));
        }
        words.push(rule.word(1));
        match rule.word(1) {
            "send" => send(rule, &mut asked).map_err(fault)?,
            "expect" => expect(rule, &mut status, &mut body).map_err(fault)?,
            "disable-on-404" => drains = Some(&rule.origin),
            "comment" => {}
            "connect" => connect(rule, keys).map_err(fault)?,
            "send-state" => job.notes.note(&rule.origin, "no header tells the server what state it has"),
            other => return Err(fault(format!("a check of ringway has no `{other}`"))),
        }
    }
    let origin = &option.origin;
    if asked.method != "GET" {
        keys.set("method", asked.method, origin);
    }
    keys.set("path", asked.path, origin);
    if !asked.host.is_empty() {
        keys.set("host", asked.host, origin);
    }
    if !asked.headers.is_empty() {
        keys.set("headers", Written::Headers(asked.headers), origin);
    }
    // A rule for the body alone takes the place of the one for the status.
    let (mut codes, at) = match (status, &body) {
        (Some((codes, at)), _) => (codes, at),
        (None, Some((_, at))) => (ranges(|_| true), *at),
        (None, None) => (vec![(200, 399)], origin),
    };
    if let Some(drains) = drains {
        codes = ranges(|code| code != 404 && codes.iter().any(|(low, high)| (*low..=*high).contains(&code)));
        keys.set("drain_status", Written::Statuses(vec![(404, 404)]), drains);
    }
    keys.set("status", Written::Statuses(codes), at);
    if let Some((expect, at)) = body {
        keys.set("expect", expect, at);
    }
    Ok(())
}

/// The request of the option: `httpchk [METHOD] [URI] [VERSION]`. One word alone is the URI.
///
/// The version is left out: ringway asks over HTTP/1.1. In old files it carries headers, behind escaped line ends.
fn of_option(job: &mut Job<'_>, option: &Line) -> Result<AskedPage, String> {
    let mut asked = AskedPage { method: "OPTIONS".into(), path: "/".into(), host: String::new(), headers: Vec::new() };
    match option.words.get(2..).unwrap_or_default() {
        [] => {}
        [word] if METHODS.contains(&word.as_str()) => {
            asked.method.clone_from(word);
            let text = format!("HAProxy takes `{word}` for a path, and asks `OPTIONS {word}`; it becomes {word} /");
            job.notes.note(&option.origin, text);
        }
        [path] => asked.path.clone_from(path),
        [method, path, rest @ ..] => {
            asked.method.clone_from(method);
            asked.path.clone_from(path);
            // The version could carry headers: `HTTP/1.1\r\nHost:\ www`.
            for header in rest.join(" ").split("\r\n").skip(1).filter(|header| !header.is_empty()) {
                let (name, value) = header.split_once(':').ok_or_else(|| format!("`{header}` is no header"))?;
                asked.header(name.trim(), value.trim());
            }
        }
    }
    if is_filled_in(&asked.path) {
        return Err("ringway fills nothing into what it asks for".to_string());
    }
    Ok(asked)
}

impl AskedPage {
    /// Adds a header. `Connection` is ringway's own.
    fn header(&mut self, name: &str, value: &str) {
        match name.to_ascii_lowercase().as_str() {
            "host" => self.host = value.to_string(),
            "connection" | "content-length" => {}
            _ => self.headers.push((name.to_string(), value.to_string())),
        }
    }
}

/// `http-check send meth M uri U ver V hdr NAME VALUE …`.
fn send(rule: &Line, asked: &mut AskedPage) -> Result<(), String> {
    let mut words = rule.words[2..].iter().map(String::as_str);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` has no value"))?;
        match word {
            "meth" => asked.method = value.to_string(),
            "uri" => asked.path = value.to_string(),
            "ver" | "comment" => {}
            "hdr" => {
                let text = words.next().unwrap_or_default();
                if is_filled_in(text) {
                    return Err("ringway fills nothing into a header of a check".to_string());
                }
                asked.header(value, text);
            }
            _ => return Err(format!("a check of ringway sends no `{word}`")),
        }
    }
    Ok(())
}

/// `http-check connect`: another port; TLS is looked at elsewhere.
fn connect(rule: &Line, keys: &mut KeyTable) -> Result<(), String> {
    let mut words = rule.words[2..].iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "ssl" | "default" | "linger" => {}
            "comment" | "alpn" | "proto" => _ = words.next(),
            "sni" => keys.set("server_name", words.next().unwrap_or_default(), &rule.origin),
            "port" => {
                let text = words.next().unwrap_or_default();
                let port: u64 = text.parse().map_err(|_| format!("`port {text}`: that is no port"))?;
                keys.set("port", port, &rule.origin);
            }
            other => return Err(format!("a check of ringway has no `connect {other}`")),
        }
    }
    Ok(())
}

/// What is expected of a status, with its line.
type Status<'l> = Option<(Vec<(u16, u16)>, &'l Origin)>;
/// What is expected of a body, with its line.
type Body<'l> = Option<(String, &'l Origin)>;

/// `http-check expect [!] status|rstatus|string|rstring PATTERN`.
///
/// HAProxy goes through the rules in order, and all of them must hold; ringway has one list of statuses and one
/// expression, so the lists are cut with each other, and a second expression is refused.
fn expect<'l>(rule: &'l Line, status: &mut Status<'l>, body: &mut Body<'l>) -> Result<(), String> {
    let mut words = rule.words[2..].iter().map(String::as_str).peekable();
    let options =
        ["comment", "min-recv", "ok-status", "error-status", "tout-status", "on-error", "on-success", "status-code"];
    while words.peek().is_some_and(|word| options.contains(word)) {
        words.nth(1);
    }
    let mut word = words.next().unwrap_or_default();
    let is_negated = word.starts_with('!');
    if word == "!" {
        word = words.next().unwrap_or_default();
    }
    let pattern = words.next().unwrap_or_default();
    let codes = match word.trim_start_matches('!') {
        "status" => {
            let range = |text: &str| {
                let (low, high) = text.split_once('-').unwrap_or((text, text));
                Some((low.parse::<u16>().ok()?, high.parse::<u16>().ok()?))
            };
            let all: Option<Vec<_>> = pattern.split(',').map(range).collect();
            let all = all.ok_or_else(|| format!("`{pattern}` is no status"))?;
            ranges(|code| all.iter().any(|(low, high)| (*low..=*high).contains(&code)) != is_negated)
        }
        "rstatus" => {
            let regex = Pattern::new(pattern).map_err(|why| format!("`{pattern}`: {why}"))?;
            ranges(|code| regex.is_match(code.to_string().as_bytes()) != is_negated)
        }
        "string" | "rstring" if is_negated => {
            return Err("a check of ringway cannot expect that something does not come".to_string());
        }
        kind @ ("string" | "rstring") => {
            if body.is_some() {
                return Err("a check of ringway compares the body with one expression".to_string());
            }
            let text = if kind == "string" { literal(pattern.as_bytes()) } else { pattern.to_string() };
            *body = Some((text, &rule.origin));
            return Ok(());
        }
        other => return Err(format!("a check of ringway cannot expect `{other}`")),
    };
    if codes.is_empty() {
        return Err(format!("no status is `{pattern}`"));
    }
    // Several rules hold together.
    let codes = match status.take() {
        None => codes,
        Some((before, _)) => {
            let is_in = |all: &[(u16, u16)], code: u16| all.iter().any(|(low, high)| (*low..=*high).contains(&code));
            ranges(|code| is_in(&before, code) && is_in(&codes, code))
        }
    };
    *status = Some((codes, &rule.origin));
    Ok(())
}

/// The codes that are meant, as ranges.
///
/// All codes are gone through, which is simpler than to cut and join ranges, and 500 of them are few.
fn ranges(is_meant: impl Fn(u16) -> bool) -> Vec<(u16, u16)> {
    let mut all: Vec<(u16, u16)> = Vec::new();
    for code in CODES.filter(|code| is_meant(*code)) {
        match all.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => all.push((code, code)),
        }
    }
    all
}
