//! `tcp-check` rules: as a check of a database where they are one, else as steps.
//!
//! `expect` looks at everything that has come since the last `send`, so several of them in a row ask the same answer.
//! Up to two become one expression, in either order. Rules that a check of ringway has no word for are refused: a
//! second connection, an answer that must not come, a variable.
//!
//! A conversation is recognized by its bytes:
//!
//! | sent | check |
//! |---|---|
//! | `PING`, `info replication`, `AUTH`, `QUIT` | `redis`, with `role` by the answer, and `password_file` for AUTH |
//! | a startup message of PostgreSQL, then `pg_is_in_recovery()` | `postgresql`, with `user`, `database`, `role` |

use super::Job;
use super::acl::decode_hex;
use super::lex::Line;
use super::section::Proxy;
use crate::import::note::{Origin, Refusal};
use crate::import::sheet::{CheckStep, KeyTable, Written};
use crate::import::variable;

/// Something that is sent, and what the answer must hold.
#[derive(Debug, Default)]
struct Exchange {
    /// With ringway's escapes.
    send: String,
    /// The bytes, for recognizing a protocol; variables are left out.
    bytes: Vec<u8>,
    /// Regular expressions that must all match.
    expects: Vec<String>,
    /// The bytes of those that are no expressions.
    plain: Vec<Vec<u8>>,
}

/// Sets the keys of a check by rules. `option` is the line that turns it on.
///
/// Several `connect` without anything sent ask whether all of these ports are open: `also_ports`. With a conversation
/// there is one connection, to the port that `connect` names.
///
/// # Errors
/// A rule that cannot be said.
pub fn check(job: &mut Job<'_>, proxy: &Proxy<'_>, option: &Line, keys: &mut KeyTable) -> Result<(), Refusal> {
    let own = proxy.own("tcp-check").next().is_some();
    let rules: Vec<&Line> = if own { proxy.own("tcp-check").collect() } else { proxy.all("tcp-check").collect() };
    let (mut exchanges, mut ports): (Vec<Exchange>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut connects = 0;
    for rule in &rules {
        let fault = |text: String| (rule.origin.clone(), text);
        match rule.word(1) {
            "connect" => {
                if !exchanges.is_empty() {
                    return Err(fault("a check of ringway holds one connection".to_string()));
                }
                connects += 1;
                ports.extend(connect(rule).map_err(fault)?);
            }
            "comment" => {}
            "send" | "send-binary" => send(rule, &mut exchanges).map_err(fault)?,
            "expect" => expect(rule, &mut exchanges).map_err(fault)?,
            other => return Err(fault(format!("a check of ringway has no `{other}`"))),
        }
    }
    let origin = rules.first().map_or(&option.origin, |rule| &rule.origin);
    if exchanges.is_empty() {
        keys.set("type", "tcp", &option.origin);
        if let Some((first, others)) = ports.split_first() {
            keys.set("port", *first, origin);
            let others: Vec<u16> = others.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
            if !others.is_empty() {
                keys.set("also_ports", Written::Ports(others), origin);
            }
        }
        return Ok(());
    }
    if connects > 1 {
        return Err((origin.clone(), "a check of ringway holds one connection".to_string()));
    }
    if let Some(port) = ports.first() {
        keys.set("port", *port, origin);
    }
    if redis(job, proxy, &exchanges, origin, keys) || postgresql(job, &exchanges, origin, keys) {
        return Ok(());
    }
    keys.set("type", "send_expect", origin);
    let steps = steps(exchanges).map_err(|text| (origin.clone(), text))?;
    match steps.as_slice() {
        [one] => {
            for (key, text) in
                [("send", &one.send), ("expect", &one.expect)].into_iter().filter(|(_, text)| !text.is_empty())
            {
                keys.set(key, text.clone(), origin);
            }
        }
        _ => keys.set("steps", Written::Steps(steps), origin),
    }
    Ok(())
}

/// The port of a `connect`.
fn connect(rule: &Line) -> Result<Option<u64>, String> {
    let mut port = None;
    let mut words = rule.words[2..].iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "ssl" | "default" | "linger" | "send-proxy" => {}
            "comment" | "sni" | "alpn" | "proto" => _ = words.next(),
            "port" => {
                let text = words.next().unwrap_or_default();
                port = Some(text.parse().map_err(|_| format!("`port {text}`: that is no port"))?);
            }
            other => return Err(format!("a check of ringway has no `connect {other}`")),
        }
    }
    Ok(port)
}

/// Adds what is sent. Texts that follow each other are one.
///
/// `send-binary` in several lines is how long messages are written down, with a comment for each field.
fn send(rule: &Line, exchanges: &mut Vec<Exchange>) -> Result<(), String> {
    let text = rule.word(2);
    let (escaped, bytes) = match rule.word(1) {
        "send-binary" => {
            let bytes = decode_hex(text).ok_or_else(|| format!("`{text}` is no text of hexadecimal digits"))?;
            (escape_bytes(&bytes), bytes)
        }
        _ => (escape(text), text.bytes().collect()),
    };
    match exchanges.last_mut().filter(|last| last.expects.is_empty() && last.plain.is_empty()) {
        Some(last) => {
            last.send += &escaped;
            last.bytes.extend(bytes);
        }
        None => exchanges.push(Exchange { send: escaped, bytes, ..Exchange::default() }),
    }
    Ok(())
}

/// Adds what is expected.
fn expect(rule: &Line, exchanges: &mut Vec<Exchange>) -> Result<(), String> {
    let mut words = rule.words[2..].iter().map(String::as_str);
    let mut word = words.next().unwrap_or_default();
    while ["comment", "min-recv", "ok-status", "error-status", "tout-status", "on-error", "on-success"].contains(&word)
    {
        words.next();
        word = words.next().unwrap_or_default();
    }
    if word.starts_with('!') {
        return Err("a check of ringway cannot expect that something does not come".to_string());
    }
    let pattern = words.next().unwrap_or_default();
    let (expression, plain) = match word {
        "string" => (literal(pattern.as_bytes()), Some(pattern.as_bytes().to_vec())),
        "rstring" => (pattern.to_string(), None),
        "binary" => {
            let bytes = decode_hex(pattern).ok_or_else(|| format!("`{pattern}` is no text of hexadecimal digits"))?;
            (literal(&bytes), Some(bytes))
        }
        other => return Err(format!("a check of ringway cannot expect `{other}`")),
    };
    if exchanges.is_empty() {
        exchanges.push(Exchange::default());
    }
    if let Some(last) = exchanges.last_mut() {
        last.expects.push(expression);
        last.plain.extend(plain);
    }
    Ok(())
}

/// The steps of a check. Several things that one answer must hold become one expression, in whatever order they come.
///
/// A step sends and then expects. What is expected before anything is sent is a greeting, which only the first step can
/// await.
fn steps(exchanges: Vec<Exchange>) -> Result<Vec<CheckStep>, String> {
    let step = |exchange: Exchange| {
        let expect = match exchange.expects.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [one, two] if one.contains(two.as_str()) => one.clone(),
            [one, two] if two.contains(one.as_str()) => two.clone(),
            [one, two] => format!("(?s)(?:{one}).*(?:{two})|(?:{two}).*(?:{one})"),
            _ => return Err("one answer is compared with too many texts for one expression".to_string()),
        };
        Ok(CheckStep { send: exchange.send, expect })
    };
    exchanges.into_iter().map(step).collect()
}

/// Whether this is the conversation with Redis that ringway's own check has.
///
/// The answer to each question must be the usual one: a check that expects something else of `PING` is none of
/// these, and stays a conversation.
fn redis(job: &mut Job<'_>, proxy: &Proxy<'_>, exchanges: &[Exchange], origin: &Origin, keys: &mut KeyTable) -> bool {
    let (mut role, mut has_password, mut asks) = (None, false, false);
    for exchange in exchanges {
        let sent = String::from_utf8_lossy(&exchange.bytes).to_ascii_lowercase();
        // Whatever else is expected would be lost.
        let answers = |text: &str| {
            let is_usual = |plain: &Vec<u8>| plain.starts_with(text.as_bytes());
            exchange.plain.len() == exchange.expects.len() && exchange.plain.iter().all(is_usual)
        };
        match sent.trim_end() {
            "ping" if answers("+PONG") => asks = true,
            "quit" if answers("+OK") => {}
            auth if auth.starts_with("auth ") && answers("+OK") => has_password = true,
            "info replication" if answers("role:master") => role = Some("primary"),
            "info replication" if answers("role:slave") => role = Some("replica"),
            _ => return false,
        }
    }
    if !asks && role.is_none() {
        return false;
    }
    keys.set("type", "redis", origin);
    if let Some(role) = role {
        keys.set("role", role, origin);
    }
    if has_password {
        let file = format!("/etc/ringway/{}.password", proxy.name());
        job.notes
            .note(origin, format!("the password of AUTH goes into the file {file}, which only ringway should read"));
        keys.set("password_file", file, origin);
    }
    true
}

/// Whether this is a login to PostgreSQL that asks for the role.
///
/// The role is the last thing that is expected: one byte, `f` or `t`, in the row of the answer.
fn postgresql(job: &mut Job<'_>, exchanges: &[Exchange], origin: &Origin, keys: &mut KeyTable) -> bool {
    let sent: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.bytes.clone()).collect();
    let has = |text: &[u8]| sent.windows(text.len()).any(|part| part == text);
    // The startup message: its length, version 3.0, then names and values.
    if sent.get(4..8) != Some(&[0, 3, 0, 0]) || !has(b"pg_is_in_recovery()") {
        return false;
    }
    let mut fields = sent[8..].split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned());
    let (mut user, mut database) = (None, None);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match name.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            _ => break,
        }
    }
    let last = exchanges.iter().flat_map(|exchange| &exchange.plain).rfind(|plain| plain.len() == 1);
    let (Some(user), Some(role)) = (
        user,
        last.and_then(|plain| match plain.as_slice() {
            b"f" => Some("primary"),
            b"t" => Some("replica"),
            _ => None,
        }),
    ) else {
        return false;
    };
    keys.set("type", "postgresql", origin);
    keys.set("user", user, origin);
    if let Some(database) = database.filter(|database| !database.is_empty()) {
        keys.set("database", database, origin);
    }
    keys.set("role", role, origin);
    job.notes.note(origin, "these bytes log in to PostgreSQL and ask for its role, which ringway's own check does");
    true
}

/// A text as `send` has it.
///
/// Control characters, and what is no ASCII, are written as `\xHH`; a text of UTF-8 beyond Latin stays as it is.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x100 && !(' '..='~').contains(&c) => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Bytes as `send` has them.
fn escape_bytes(bytes: &[u8]) -> String {
    escape(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>())
}

/// A regular expression that matches these bytes alone.
///
/// Texts stay readable. Bytes that are no text are matched as bytes: the expressions of a check are not bound to UTF-8.
pub fn literal(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return literal_bytes(bytes) };
    if text.chars().any(|c| c.is_control() && !['\r', '\n', '\t'].contains(&c)) {
        return literal_bytes(bytes);
    }
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_punctuation() && !"-_ \"',/:;<=>@!%&~`".contains(c) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// The same for bytes that are no text.
fn literal_bytes(bytes: &[u8]) -> String {
    let all: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("(?-u:{all})")
}

/// Whether a text holds something that only a program fills in.
pub fn is_filled_in(text: &str) -> bool {
    text.contains("%[") || variable::shown(text).contains("%{")
}
