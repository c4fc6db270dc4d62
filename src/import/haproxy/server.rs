//! `server` with its words, and those of `default-server` before it.
//!
//! Words of `default-server` hold for the servers that follow in the section, and those of `defaults` for all. What
//! HAProxy has per server and ringway per pool is compared in `pool` and `check`: here each server only says what it
//! says.

use super::lex::Line;
use super::section::Proxy;
use crate::import::address::{self, ServerPlace};
use crate::import::note::{Notes, Origin, Refusal};
use crate::import::time;

/// A server, as the file has it.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    /// Its line.
    pub origin: &'a Origin,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: ServerPlace,
    /// What was said of it.
    pub words: Words,
}

/// What the words of a server say. Times are in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// Its share; `None` is 1.
    pub weight: Option<u64>,
    /// It serves only while no main server is up.
    pub is_backup: bool,
    /// It is out until the operator enables it.
    pub is_disabled: bool,
    /// Open sessions; 0 is no limit.
    pub maxconn: u64,
    /// The limit at low load, which ringway does not have.
    pub minconn: u64,
    /// Clients that wait for this server; 0 is no limit.
    pub maxqueue: u64,
    /// It is checked.
    pub is_checked: bool,
    /// Between checks.
    pub inter: Option<u64>,
    /// Between checks while the state changes.
    pub fastinter: Option<u64>,
    /// Between checks while it is down.
    pub downinter: Option<u64>,
    /// Successes that bring it up.
    pub rise: Option<u64>,
    /// Failures that take it down.
    pub fall: Option<u64>,
    /// The port that is checked.
    pub check_port: Option<String>,
    /// The address that is checked.
    pub check_addr: Option<String>,
    /// Checks speak TLS.
    pub checks_tls: bool,
    /// Sessions speak TLS.
    pub speaks_tls: bool,
    /// `none` or `required`.
    pub verify: Option<String>,
    /// Certificates that its own must come from.
    pub ca_file: Option<String>,
    /// The server name that checks ask for.
    pub check_sni: Option<String>,
    /// The name that must stand in the certificate.
    pub verifyhost: Option<String>,
    /// The version of the PROXY header that goes first.
    pub send_proxy: Option<&'static str>,
    /// Checks send one, too.
    pub check_send_proxy: bool,
    /// Its sessions end when it goes down.
    pub closes_when_down: bool,
    /// Sessions on backups end when it comes up.
    pub closes_backups: bool,
    /// Failed connects of sessions count as failed checks.
    pub observes: bool,
    /// How many of them take it down.
    pub error_limit: Option<u64>,
    /// How long its share grows; 0 is not at all.
    pub slowstart: u64,
    /// The server whose checks it follows: `POOL/SERVER`, or one of the same pool.
    pub track: Option<String>,
    /// Where connections to it come from, with `usesrc`.
    pub source: Option<String>,
    /// The section that says how its name is looked up.
    pub resolvers: Option<String>,
    /// The family of addresses that is taken first.
    pub prefers: Option<&'static str>,
    /// An agent says how it is.
    pub has_agent: bool,
    /// Where the agent listens.
    pub agent_port: Option<u64>,
    /// The host of the agent, if it is another one.
    pub agent_addr: Option<String>,
    /// TCP_USER_TIMEOUT of its connections; 0 is off.
    pub user_timeout: u64,
}

/// All servers of a proxy, in order. Each fault is one that leaves the pool out.
///
/// A `default-server` counts from its line on, so a server before it does not have its words. Those of `defaults` come
/// first of all.
pub fn servers<'a>(proxy: &Proxy<'a>, notes: &mut Notes) -> (Vec<Server<'a>>, Vec<Refusal>) {
    let (mut defaults, mut servers, mut faults) = (Words::default(), Vec::new(), Vec::new());
    for line in &proxy.lines {
        match line.word(0) {
            "default-server" => {
                if let Err(text) = defaults.read(&line.words[1..], &line.origin, notes) {
                    faults.push((line.origin.clone(), text));
                }
            }
            "server" => match server(line, line.word(1), line.word(2), 3, &defaults, notes) {
                Ok(server) => servers.push(server),
                Err(text) => faults.push((line.origin.clone(), text)),
            },
            "server-template" => match template(line, &defaults, notes) {
                Ok(server) => servers.push(server),
                Err(text) => faults.push((line.origin.clone(), text)),
            },
            "dispatch" => match server(line, "dispatch", line.word(1), 2, &Words::default(), notes) {
                Ok(server) => servers.push(server),
                Err(text) => faults.push((line.origin.clone(), text)),
            },
            _ => {}
        }
    }
    (servers, faults)
}

/// One server: its name, its address, and its words from there on.
fn server<'a>(
    line: &'a Line,
    name: &str,
    at: &str,
    from: usize,
    defaults: &Words,
    notes: &mut Notes,
) -> Result<Server<'a>, String> {
    if name.is_empty() || at.is_empty() {
        return Err("a server has a name and an address".to_string());
    }
    let place = address::haproxy_server(at)?;
    let mut words = defaults.clone();
    words.read(line.words.get(from..).unwrap_or_default(), &line.origin, notes)?;
    Ok(Server { origin: &line.origin, name: name.to_string(), place, words })
}

/// A template: ringway makes a backend of each address that the name has, so one is enough.
///
/// HAProxy makes so many servers and fills them with what DNS answers, one after another; more addresses than servers
/// are not used. ringway uses all of them.
fn template<'a>(line: &'a Line, defaults: &Words, notes: &mut Notes) -> Result<Server<'a>, String> {
    if line.word(3).starts_with('_') {
        return Err("SRV records are found with [pools.NAME.discover], which the importer does not write".to_string());
    }
    let text = "one backend for each address of the name, however many there are";
    notes.note(&line.origin, text);
    server(line, line.word(1), line.word(3), 4, defaults, notes)
}

impl Words {
    /// Reads words, over those that were read before.
    fn read(&mut self, words: &[String], origin: &Origin, notes: &mut Notes) -> Result<(), String> {
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            if self.flag(word) {
                continue;
            }
            if let Some(count) = without_meaning(word) {
                let rest: Vec<&str> = (0..count).filter_map(|_| words.next()).collect();
                if !word.starts_with("no-") {
                    let all = [&[word], rest.as_slice()].concat().join(" ");
                    notes.note(origin, format!("`{all}` needs nothing here"));
                }
                continue;
            }
            let mut argument = || words.next().ok_or_else(|| format!("`{word}` has no value"));
            match word {
                "source" => {
                    let mut all = vec![argument()?];
                    while let Some(more) = words.next_if(|next| ["usesrc", "interface"].contains(next)) {
                        all.extend([Some(more), words.next()].into_iter().flatten());
                    }
                    self.source = Some(all.join(" "));
                }
                "observe" => {
                    let what = argument()?;
                    if what != "layer4" {
                        return Err(format!("`observe {what}`: ringway does not look into the stream"));
                    }
                    self.observes = true;
                }
                "on-error" => _ = argument()?,
                _ if self.number(word, &mut argument)? || self.time(word, &mut argument)? => {}
                _ => self.text(word, &mut argument)?,
            }
        }
        Ok(())
    }

    /// Takes a word that stands alone.
    fn flag(&mut self, word: &str) -> bool {
        match word {
            "check" => self.is_checked = true,
            "no-check" => self.is_checked = false,
            "backup" => self.is_backup = true,
            "no-backup" => self.is_backup = false,
            "disabled" => self.is_disabled = true,
            "enabled" => self.is_disabled = false,
            "check-ssl" => self.checks_tls = true,
            "no-check-ssl" => self.checks_tls = false,
            "ssl" => self.speaks_tls = true,
            "no-ssl" => self.speaks_tls = false,
            "send-proxy" => self.send_proxy = Some("v1"),
            "send-proxy-v2" => self.send_proxy = Some("v2"),
            "no-send-proxy" | "no-send-proxy-v2" => self.send_proxy = None,
            "check-send-proxy" => self.check_send_proxy = true,
            "no-check-send-proxy" => self.check_send_proxy = false,
            "agent-check" => self.has_agent = true,
            "no-agent-check" => self.has_agent = false,
            _ => return false,
        }
        true
    }

    /// Takes a word with a number.
    fn number<'w>(
        &mut self,
        word: &str,
        argument: &mut dyn FnMut() -> Result<&'w str, String>,
    ) -> Result<bool, String> {
        let place: &mut dyn FnMut(u64) = match word {
            "weight" => &mut |number| self.weight = Some(number),
            "maxconn" => &mut |number| self.maxconn = number,
            "minconn" => &mut |number| self.minconn = number,
            "maxqueue" => &mut |number| self.maxqueue = number,
            "rise" => &mut |number| self.rise = Some(number),
            "fall" => &mut |number| self.fall = Some(number),
            "error-limit" => &mut |number| self.error_limit = Some(number),
            "agent-port" => &mut |number| self.agent_port = Some(number),
            _ => return Ok(false),
        };
        let text = argument()?;
        place(text.parse().map_err(|_| format!("`{word} {text}`: that is no number"))?);
        Ok(true)
    }

    /// Takes a word with a time.
    fn time<'w>(&mut self, word: &str, argument: &mut dyn FnMut() -> Result<&'w str, String>) -> Result<bool, String> {
        let place: &mut dyn FnMut(u64) = match word {
            "inter" => &mut |us| self.inter = Some(us),
            "fastinter" => &mut |us| self.fastinter = Some(us),
            "downinter" => &mut |us| self.downinter = Some(us),
            "slowstart" => &mut |us| self.slowstart = us,
            "tcp-ut" => &mut |us| self.user_timeout = us,
            _ => return Ok(false),
        };
        let text = argument()?;
        place(time::of_haproxy(text).ok_or_else(|| format!("`{word} {text}`: that is no time"))?);
        Ok(true)
    }

    /// Takes a word with a text, or refuses it.
    fn text<'w>(&mut self, word: &str, argument: &mut dyn FnMut() -> Result<&'w str, String>) -> Result<(), String> {
        match word {
            "port" => self.check_port = Some(argument()?.to_string()),
            "addr" => self.check_addr = Some(argument()?.to_string()),
            "verify" => self.verify = Some(argument()?.to_string()),
            "ca-file" => self.ca_file = Some(argument()?.to_string()),
            "check-sni" => self.check_sni = Some(argument()?.to_string()),
            "verifyhost" => self.verifyhost = Some(argument()?.to_string()),
            "track" => self.track = Some(argument()?.to_string()),
            "agent-addr" => self.agent_addr = Some(argument()?.to_string()),
            "resolvers" => self.resolvers = Some(argument()?.to_string()),
            "resolve-prefer" => {
                self.prefers = match argument()? {
                    "ipv4" => Some("ipv4"),
                    "ipv6" => Some("ipv6"),
                    other => return Err(format!("`resolve-prefer {other}`: it is ipv4 or ipv6")),
                }
            }
            "on-marked-down" => self.closes_when_down = argument()? == "shutdown-sessions",
            "on-marked-up" => self.closes_backups = argument()? == "shutdown-backup-sessions",
            "proxy-v2-options" => match argument()? {
                "crc32c" => {}
                other => return Err(format!("`proxy-v2-options {other}`: ringway sends no such TLVs here")),
            },
            "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                return Err(format!("`{word}`: ringway ends no TLS here, so it has nothing to say of it"));
            }
            "agent-send" => return Err("`agent-send`: ringway asks an agent without words".to_string()),
            "socks4" | "check-via-socks4" => return Err(format!("`{word}`: ringway uses no proxy of its own")),
            "namespace" => return Err("`namespace`: ringway stays in its own network namespace".to_string()),
            "crt" | "crl-file" | "alpn" | "check-alpn" | "check-proto" => {
                return Err(format!("`{word}`: the importer writes no such TLS to servers yet"));
            }
            "redir" | "cookie" => _ = argument()?,
            _ => return Err(format!("`{word}` is no word of a server that this importer knows")),
        }
        Ok(())
    }
}

/// Words with a value that change nothing here: how a name is looked up at the start, numbers, what is for HTTP, and
/// details of TLS, which mean nothing without `ssl`.
const IDLE_WITH_VALUE: &str = "init-addr id agent-inter resolve-opts resolve-net pool-low-conn pool-max-conn \
     pool-purge-delay proto log-proto shard ws guid log-bufsize ssl-min-ver ssl-max-ver ciphers ciphersuites npn \
     max-reuse hash-key";
/// Words without a value that change nothing here.
const IDLE: &str = "tfo stick non-stick no-sslv3 no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 force-sslv3 force-tlsv10 \
     force-tlsv11 force-tlsv12 force-tlsv13 no-ssl-reuse ssl-reuse no-tls-tickets tls-tickets no-tfo no-verifyhost \
     no-check-via-socks4";

/// Of words that change nothing here: how many values they have.
fn without_meaning(word: &str) -> Option<usize> {
    let is_in = |all: &str| all.split_whitespace().any(|one| one == word);
    match (is_in(IDLE_WITH_VALUE), is_in(IDLE)) {
        (true, _) => Some(1),
        (_, true) => Some(0),
        _ => None,
    }
}
