//! Reads `[pools.NAME.check]`: which kind of check is meant, which keys belong to it, and what they mean.
//!
//! A key of one kind of check says by itself which kind is meant (`path` means `http`), so `type` can be left out. A
//! key that would have no effect with the kind is refused, with the kinds that take it. The list of keys has a column
//! for that (`Key::kinds`).

mod http;
mod tls;

use std::ops::Range;

use super::error::Problem;
use super::keys::{self, Key, Section};
use super::model::{Check, CheckHeader, CheckKind, Galera, Login, Pattern, PoolTls, Role, Step};
use super::raw::Table;
use super::value::{At, WrittenStep, quoted};

/// Keys that have an effect only when the check logs in, by kind of check.
const OF_LOGIN: [(&str, &[&str]); 6] = [
    ("galera", &["mysql"]),
    ("password_file", &["postgresql", "mysql"]),
    ("database", &["postgresql"]),
    ("role", &["postgresql", "mysql"]),
    ("lag_max", &["postgresql", "mysql"]),
    ("lag_strict", &["postgresql", "mysql"]),
];

/// The check that a table describes. `None` means `type = "off"`, which turns off everything else in the table. What it
/// does not say of TLS, the pool does.
pub(super) fn check(table: &Table, pool_tls: Option<&PoolTls>, faults: &mut Vec<At<Problem>>) -> Option<Check> {
    let mut reader = Reader { table, pool_tls, kind: table.word("type"), faults };
    reader.imply_kind();
    if reader.kind == "off" {
        return None;
    }
    reader.between_keys();
    let role = match table.word("role") {
        "primary" => Some(Role::Primary),
        "replica" => Some(Role::Replica),
        _ => None,
    };
    Some(Check {
        kind: reader.kind(),
        tls: reader.tls(),
        agent_port: Some(table.number("agent_port")).filter(|port| *port > 0),
        also_ports: table.ports("also_ports").to_vec(),
        role,
        lag_max: table.duration("lag_max"),
        interval: table.duration("interval"),
        fast_interval: table.duration("fast_interval"),
        down_interval: table.duration("down_interval"),
        timeout: table.duration("timeout"),
        rise: table.number("rise"),
        fall: table.number("fall"),
        // A backend is not the primary before a check has shown it.
        initial_up: table.word("initial") == "up" && role != Some(Role::Primary),
        port: Some(table.number("port")).filter(|port| *port > 0),
        lag_strict: table.flag("lag_strict"),
        header: match table.word("send_proxy") {
            "off" => CheckHeader::Off,
            "local" => CheckHeader::Local,
            "proxy" => CheckHeader::Named,
            _ => CheckHeader::Auto,
        },
    })
}

/// The table that is read, the kind of check it is for, and what was found wrong.
struct Reader<'a> {
    /// The table that is read.
    table: &'a Table,
    /// How sessions of the pool speak TLS.
    pool_tls: Option<&'a PoolTls>,
    /// The kind of check: what `type` says, or what the keys imply.
    kind: &'static str,
    /// What was found wrong.
    faults: &'a mut Vec<At<Problem>>,
}

impl<'a> Reader<'a> {
    /// Finds the kind of check from its keys if `type` is not written. Without this, `path = "/health"` alone would be
    /// a check that only connects.
    fn imply_kind(&mut self) {
        if self.table.is_written("type") {
            return;
        }
        let written = || of_kinds().filter(|key| self.is_set(key.name));
        let Some(first) = written().next() else { return };
        let fits = |kind: &&str| written().all(|key| key.kinds.contains(kind));
        let mut common: Vec<&str> = first.kinds.iter().copied().filter(fits).collect();
        // `expect` alone awaits a greeting: for a body a page is asked for, by another key.
        if written().all(|key| key.name == "expect") {
            common.retain(|kind| *kind == "send_expect");
        }
        if let [kind] = common.as_slice() {
            self.kind = kind;
            return;
        }
        let (what, hint) = match common.is_empty() {
            true => ("one `type` of check", "its keys belong to several; leave some of them out".to_string()),
            false => ("`type`", format!("write type = {}", or(&common))),
        };
        self.needs(first.name, what.to_string(), hint);
        // The kind is not known, so nothing else can be said for certain.
        self.kind = "off";
    }

    /// Refuses keys that would have no effect. A key with a value that asks for nothing (`0`, `""`) can stand anywhere.
    fn between_keys(&mut self) {
        for &Key { name: key, kinds, .. } in of_kinds() {
            if self.is_set(key) && !kinds.contains(&self.kind) {
                let of = or(kinds);
                let what = format!("a check of another kind than \"{}\"", self.kind);
                self.needs(key, what, format!("set `type` to {of}, or leave `{key}` out"));
            }
        }
        for (key, kinds) in OF_LOGIN {
            if self.is_set(key) && kinds.contains(&self.kind) && !self.is_set("user") {
                let hint = format!("without it a {} check does not log in", self.kind);
                self.needs(key, "`user`".to_string(), hint);
            }
        }
        if self.is_set("lag_max") && self.table.word("role") != "replica" {
            self.needs("lag_max", "`role = \"replica\"`".to_string(), "only a replica lags behind".to_string());
        }
        if self.is_set("lag_strict") && !self.is_set("lag_max") && self.table.word("role") != "replica" {
            self.needs("lag_strict", "`role = \"replica\"`".to_string(), "only a replica lags behind".to_string());
        }
        let (has_one, has_steps) = (self.is_set("send") || self.is_set("expect"), self.is_set("steps"));
        if self.kind == "send_expect" && !has_one && !has_steps {
            let hint = "with neither, write `type = \"tcp\"`".to_string();
            self.needs("type", "`send`, `expect` or both".to_string(), hint);
        }
        if has_one && has_steps {
            let hint = "write `send` and `expect` as the first of the steps".to_string();
            self.bad("steps", "there beside `send` or `expect`".to_string(), hint);
        }
    }

    /// What the check asks, with the values of its keys.
    fn kind(&mut self) -> CheckKind {
        match self.kind {
            "send_expect" => CheckKind::SendExpect { steps: self.steps() },
            "http" => CheckKind::Http(self.http()),
            "postgresql" => CheckKind::Postgresql { login: self.login(), database: self.name("database") },
            "mysql" => CheckKind::Mysql { login: self.login(), galera: self.galera() },
            "redis" => CheckKind::Redis { login: self.login() },
            _ => CheckKind::Tcp,
        }
    }

    /// The steps of a `send_expect` check. `send` and `expect` alone are one step.
    fn steps(&mut self) -> Vec<Step> {
        let written = self.table.steps("steps");
        if written.is_empty() {
            let (send, expect) = (self.table.text("send"), self.table.text("expect"));
            let (at_send, at_expect) = (self.table.span_of("send"), self.table.span_of("expect"));
            return vec![Step { send: self.send(send, at_send), expect: self.expect(expect, at_expect) }];
        }
        let mut steps = Vec::new();
        for (number, WrittenStep { span, send, expect }) in written.iter().enumerate() {
            let (send, expect) = (send.as_deref().unwrap_or_default(), expect.as_deref().unwrap_or_default());
            if send.is_empty() && (number > 0 || expect.is_empty()) {
                let hint = "each step sends something, but for a first one that awaits a greeting with `expect`";
                self.bad_at(span.clone(), "steps", "a step without `send`".to_string(), hint.to_string());
            }
            steps.push(Step { send: self.send(send, span.clone()), expect: self.expect(expect, span.clone()) });
        }
        steps
    }

    /// The bytes that a step sends.
    fn send(&mut self, text: &str, span: Range<usize>) -> Vec<u8> {
        unescape(text).unwrap_or_else(|hint| {
            self.bad_at(span, "send", "this text".to_string(), hint); // not shown: it may hold a secret
            Vec::new()
        })
    }

    /// The pattern that the answer to a step must match; `None` if any answer is good.
    fn expect(&mut self, text: &str, span: Range<usize>) -> Option<Pattern> {
        if text.is_empty() {
            return None;
        }
        match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.bad_at(span, "expect", "this pattern".to_string(), format!("it is no regular expression: {why}"));
                None
            }
        }
    }

    /// The account of the check; `None` if it does not log in.
    fn login(&mut self) -> Option<Login> {
        let login = Login {
            user: self.name("user"),
            password_file: Some(self.name("password_file")).filter(|path| !path.is_empty()).map(Into::into),
        };
        // Redis has a default user, which has no name here.
        let is_login = !login.user.is_empty() || (self.kind == "redis" && login.password_file.is_some());
        is_login.then_some(login)
    }

    /// Which nodes of a Galera cluster are fit.
    fn galera(&self) -> Option<Galera> {
        match self.table.flag_or_word("galera") {
            Ok(false) => None,
            Ok(true) => Some(Galera::Synced),
            // The only word.
            Err(_) => Some(Galera::SyncedOrDonor),
        }
    }

    /// A text without control characters: protocols and the kernel end it at a zero byte.
    fn name(&mut self, key: &'static str) -> String {
        let text = self.table.text(key);
        if text.chars().any(char::is_control) {
            self.bad(key, quoted(text), "it holds no control characters".to_string());
        }
        text.to_string()
    }

    /// Whether the key is written and asks for something.
    fn is_set(&self, key: &str) -> bool {
        self.table.is_asked_for(Section::Check, key)
    }

    /// Reports a key that has no effect without `what`.
    fn needs(&mut self, key: &'static str, what: String, hint: String) {
        self.faults.push((self.table.span_of(key), Problem::Needs { key, what, hint }));
    }

    /// Reports a value that this check cannot take.
    fn bad(&mut self, key: &'static str, found: String, hint: String) {
        self.bad_at(self.table.span_of(key), key, found, hint);
    }

    /// The same, at a place inside the value.
    fn bad_at(&mut self, span: Range<usize>, key: &'static str, found: String, hint: String) {
        self.faults.push((span, Problem::BadValue { key: key.to_string(), found, hint }));
    }
}

/// The keys that belong only to some kinds of check.
fn of_kinds() -> impl Iterator<Item = &'static Key> {
    keys::of(Section::Check).filter(|key| !key.kinds.is_empty())
}

/// Words in a sentence: `"a", "b" or "c"`.
pub(super) fn or(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// Decodes `\r` `\n` `\t` `\\` `\xHH`.
///
/// # Errors
/// Which escape is wrong, and what to write.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        out.extend(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let hex = || escape.get(1..3).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let (byte, length) = match escape.bytes().next() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => {
                let byte = hex().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                (byte.ok_or("write two hexadecimal digits after `\\x`, as in `\\x0a`")?, 3)
            }
            _ => return Err("it knows `\\r` `\\n` `\\t` `\\\\` and `\\xHH`; write a backslash as `\\\\`".to_string()),
        };
        out.push(byte);
        rest = &escape[length..];
    }
    out.extend(rest.as_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests;
