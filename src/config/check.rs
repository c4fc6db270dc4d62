//! `[pools.NAME.check]`: which keys belong together, and what they mean.

use super::error::Problem;
use super::keys::Section;
use super::model::{Check, CheckKind, Login, Pattern, Role};
use super::raw::Table;
use super::resolve::{disagree, duration, number, word};
use super::value::{At, Value, quoted};

/// Keys that belong to some kinds of check, with these kinds.
const OF_KINDS: [(&str, &[&str]); 9] = [
    ("send", &["send_expect"]),
    ("expect", &["send_expect"]),
    ("path", &["http"]),
    ("status", &["http"]),
    ("user", &["postgresql", "mysql", "redis"]),
    ("password_file", &["postgresql", "mysql", "redis"]),
    ("database", &["postgresql"]),
    ("role", &["postgresql", "mysql", "redis"]),
    ("lag_max", &["postgresql", "mysql", "redis"]),
];
/// Keys that these kinds can use only when they log in.
const OF_LOGIN: [(&str, &[&str]); 4] = [
    ("password_file", &["postgresql", "mysql"]),
    ("database", &["postgresql"]),
    ("role", &["postgresql", "mysql"]),
    ("lag_max", &["postgresql", "mysql"]),
];

/// The check that a table describes; `None` is `type = "off"`, which switches off whatever else stands there.
pub(super) fn check(table: &Table, faults: &mut Vec<At<Problem>>) -> Option<Check> {
    let kind = word(table, "type");
    if kind == "off" {
        return None;
    }
    let mut reader = Reader { table, kind, faults };
    reader.between_keys();
    let role = match word(table, "role") {
        "primary" => Some(Role::Primary),
        "replica" => Some(Role::Replica),
        _ => None,
    };
    Some(Check {
        kind: reader.kind(),
        role,
        lag_max: duration(table, "lag_max"),
        interval: duration(table, "interval"),
        fast_interval: duration(table, "fast_interval"),
        down_interval: duration(table, "down_interval"),
        timeout: duration(table, "timeout"),
        rise: number(table, "rise"),
        fall: number(table, "fall"),
        // Nobody is the primary before it has proved so.
        initial_up: word(table, "initial") == "up" && role != Some(Role::Primary),
        port: Some(number(table, "port")).filter(|port| *port > 0),
    })
}

struct Reader<'a> {
    table: &'a Table,
    kind: &'static str,
    faults: &'a mut Vec<At<Problem>>,
}

impl<'a> Reader<'a> {
    /// A key that would have no effect is refused. One that says its default asks for nothing: it may stand anywhere.
    fn between_keys(&mut self) {
        for (key, kinds) in OF_KINDS {
            if self.is_set(key) && !kinds.contains(&self.kind) {
                let of = kinds.iter().map(|kind| format!("\"{kind}\"")).collect::<Vec<_>>().join(", ");
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
        if self.is_set("lag_max") && word(self.table, "role") != "replica" {
            self.needs("lag_max", "`role = \"replica\"`".to_string(), "only a replica lags behind".to_string());
        }
        if self.kind == "send_expect" && !self.is_set("send") && !self.is_set("expect") {
            let hint = "with neither, write `type = \"tcp\"`".to_string();
            self.needs("type", "`send`, `expect` or both".to_string(), hint);
        }
    }

    fn kind(&mut self) -> CheckKind {
        match self.kind {
            "send_expect" => CheckKind::SendExpect { send: self.send(), expect: self.expect() },
            "http" => CheckKind::Http { path: self.path(), status: self.status() },
            "postgresql" => CheckKind::Postgresql { login: self.login(), database: self.name("database") },
            "mysql" => CheckKind::Mysql { login: self.login() },
            "redis" => CheckKind::Redis { login: self.login() },
            _ => CheckKind::Tcp,
        }
    }

    fn send(&mut self) -> Vec<u8> {
        let text = self.text("send");
        unescape(text).unwrap_or_else(|hint| {
            self.bad("send", quoted(text), hint);
            Vec::new()
        })
    }

    fn expect(&mut self) -> Option<Pattern> {
        let text = Some(self.text("expect")).filter(|text| !text.is_empty())?;
        match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.bad("expect", quoted(text), format!("it is no regular expression: {why}"));
                None
            }
        }
    }

    fn path(&mut self) -> String {
        let path = self.text("path");
        let may_stand = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
        if !path.starts_with('/') {
            self.bad("path", quoted(path), "it begins with `/`, as in \"/health\"".to_string());
        } else if !path.bytes().all(may_stand) {
            let hint = "write blanks and other special characters as %HH, as in \"/a%20b\"";
            self.bad("path", quoted(path), hint.to_string());
        }
        path.to_string()
    }

    fn status(&mut self) -> Vec<(u16, u16)> {
        match self.table.get("status") {
            Some(Value::Statuses(ranges)) => {
                if ranges.is_empty() {
                    self.bad("status", "[]".to_string(), "write at least one code, as in [200]".to_string());
                }
                ranges.clone()
            }
            other => disagree("status", other),
        }
    }

    fn login(&mut self) -> Option<Login> {
        let login = Login {
            user: self.name("user"),
            password_file: Some(self.name("password_file")).filter(|path| !path.is_empty()).map(Into::into),
        };
        // Redis has a default user, whom nobody calls by name.
        let is_login = !login.user.is_empty() || (self.kind == "redis" && login.password_file.is_some());
        is_login.then_some(login)
    }

    /// A text that a protocol or the kernel ends at a zero byte.
    fn name(&mut self, key: &'static str) -> String {
        let text = self.text(key);
        if text.chars().any(char::is_control) {
            self.bad(key, quoted(text), "it holds no control characters".to_string());
        }
        text.to_string()
    }

    fn text(&self, key: &str) -> &'a str {
        match self.table.get(key) {
            Some(Value::Text(text)) => text,
            other => disagree(key, other),
        }
    }

    fn is_set(&self, key: &str) -> bool {
        !self.table.is_default(Section::Check, key)
    }

    fn needs(&mut self, key: &'static str, what: String, hint: String) {
        self.faults.push((self.table.span_of(key), Problem::Needs { key, what, hint }));
    }

    fn bad(&mut self, key: &'static str, found: String, hint: String) {
        self.faults.push((self.table.span_of(key), Problem::BadValue { key: key.to_string(), found, hint }));
    }
}

/// Decodes `\r` `\n` `\t` `\\` `\xHH`; the error says what to write.
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
