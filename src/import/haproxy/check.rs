//! How the servers of a pool are checked.
//!
//! | HAProxy | `type` |
//! |---|---|
//! | no `check` on any server | `off` |
//! | `check` alone, `tcp-check` without rules | `tcp` |
//! | `tcp-check` with rules | `redis` or `postgresql` if they are one (`conversation`), else `send_expect` |
//! | `httpchk` | `http` (`http_check`) |
//! | `pgsql-check`, `mysql-check`, `redis-check` | `postgresql`, `mysql`, `redis` |
//! | `smtpchk`, `ldap-check` | `send_expect` |
//! | `ssl-hello-chk` | `tcp`, over TLS and without verification: a handshake |
//! | `external-check` | refused |
//!
//! Of several options the last one counts, also over those of `defaults`. `fastinter` and `downinter` are `inter` where
//! they are missing, and so is `timeout check`. A server that tracks another one is checked as that one, where that one
//! is.

use super::Job;
use super::conversation;
use super::http_check;
use super::lex::Line;
use super::section::Proxy;
use super::server::{Server, Words};
use crate::import::address::ServerPort;
use crate::import::note::Refusal;
use crate::import::sheet::{CheckStep, KeyTable, Written};
use crate::import::time;

/// The options that say what a check does. The last of them counts.
const KINDS: [&str; 9] = [
    "httpchk",
    "tcp-check",
    "pgsql-check",
    "mysql-check",
    "redis-check",
    "smtpchk",
    "ldap-check",
    "ssl-hello-chk",
    "external-check",
];
/// HAProxy's own `inter`, in microseconds.
const INTER_US: u64 = 2_000_000;
/// LDAPv3, an anonymous bind, as HAProxy sends it.
const LDAP_BIND: &str = r"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
/// The answer to it: success.
const LDAP_BOUND: &str = r"(?s-u)^\x30.{2,6}\x02\x01\x01\x61.{1,5}\x0a\x01\x00";

/// A server with what its check follows: its own words, or those of the server that it tracks.
struct Checked<'s, 'a> {
    /// The server.
    server: &'s Server<'a>,
    /// The words of its check.
    words: Words,
    /// Where it is checked, if another server decides that.
    tracked_at: Option<String>,
}

/// Sets the keys of a pool's check. Returns where each server is checked, if not at its own address.
///
/// # Errors
/// The line that cannot be said.
pub fn check(
    job: &mut Job<'_>,
    proxy: &Proxy<'_>,
    servers: &[Server<'_>],
    keys: &mut KeyTable,
) -> Result<Vec<Option<String>>, Refusal> {
    let nowhere = || vec![None; servers.len()];
    let (asker, checked) = followed(job, proxy, servers)?;
    let asker = asker.unwrap_or(proxy);
    let Some(first) = checked.first() else {
        agent(servers, keys)?;
        if keys.entries.is_empty() {
            keys.set("type", "off", proxy.origin());
        }
        return Ok(nowhere());
    };
    kind(job, asker, &checked, keys)?;
    tls(job, asker, &checked, keys)?;
    pace(job, asker, &checked, keys);
    if let Some(one) = servers.iter().find(|server| !server.words.is_checked && server.words.track.is_none()) {
        if keys.text("type") != Some("tcp") {
            let text = "servers of a pool are all checked or none is; this one has no `check`";
            return Err((one.origin.clone(), text.to_string()));
        }
        job.notes.note(one.origin, "it has no `check`, and is checked here all the same: that it accepts connections");
    }
    if let Some(one) = checked.iter().find(|one| one.words.check_send_proxy) {
        let has_own_port = checked.iter().any(|one| one.words.check_port.is_some() || one.words.check_addr.is_some());
        if has_own_port || one.words.send_proxy.is_none() {
            keys.set("send_proxy", "local", one.server.origin);
        }
    }
    agent(servers, keys)?;
    places(servers, &checked, keys, first)
}

/// The servers that are checked, and the proxy whose checks they follow if they track others.
///
/// `track` needs no check of its own: HAProxy copies the state. Here the check is written twice, and ringway makes a
/// check that several pools share only once, so the servers hear no more of it than before.
fn followed<'s, 'a, 'j>(
    job: &Job<'j>,
    proxy: &Proxy<'_>,
    servers: &'s [Server<'a>],
) -> Result<(Option<&'j Proxy<'j>>, Vec<Checked<'s, 'a>>), Refusal> {
    let (mut asker, mut checked) = (None, Vec::new());
    for server in servers {
        let Some(track) = &server.words.track else {
            if server.words.is_checked {
                checked.push(Checked { server, words: server.words.clone(), tracked_at: None });
            }
            continue;
        };
        let fault = |text: String| (server.origin.clone(), text);
        let (pool, name) = track.split_once('/').unwrap_or((proxy.name(), track));
        let other = job.backs.get(pool).copied().ok_or_else(|| fault(format!("there is no `{pool}` to track")))?;
        if asker.is_some_and(|before: &Proxy<'_>| !std::ptr::eq(before, other)) {
            return Err(fault("servers of one pool follow the checks of one other pool".to_string()));
        }
        asker = Some(other);
        let mut quiet = crate::import::note::Notes::default();
        let all = super::server::servers(other, &mut quiet).0;
        let found = all.into_iter().find(|one| one.name == name && one.words.is_checked);
        let found = found.ok_or_else(|| fault(format!("`{track}` is no server that is checked")))?;
        let tracked_at = (found.place != server.place).then(|| found.place.address());
        checked.push(Checked { server, words: found.words, tracked_at });
    }
    if asker.is_some() && servers.iter().any(|server| server.words.track.is_none() && server.words.is_checked) {
        return Err((servers[0].origin.clone(), "servers of one pool are checked, or all track others".to_string()));
    }
    Ok((asker, checked))
}

/// Sets `type` and what belongs to it.
///
/// Which option is the last one is found out among the lines of `defaults` and the proxy together: a proxy's `option
/// httpchk` takes the place of `option tcp-check` in `defaults`.
fn kind(job: &mut Job<'_>, proxy: &Proxy<'_>, checked: &[Checked<'_, '_>], keys: &mut KeyTable) -> Result<(), Refusal> {
    let here = checked[0].server.origin;
    let all: Vec<&Line> = KINDS.iter().filter_map(|name| proxy.option(name)).collect();
    let Some(line) =
        all.iter().max_by_key(|line| proxy.lines.iter().position(|one| std::ptr::eq(*one, **line))).copied()
    else {
        keys.set("type", "tcp", here);
        return Ok(());
    };
    for other in all.iter().filter(|other| !std::ptr::eq(**other, line)) {
        job.notes.note(&other.origin, format!("of several checks the last one counts: {}", line.rest(1)));
    }
    let origin = &line.origin;
    match line.word(1) {
        "tcp-check" => return conversation::check(job, proxy, line, keys),
        "httpchk" => return http_check::check(job, proxy, line, keys),
        "pgsql-check" => {
            keys.set("type", "postgresql", origin);
            job.notes.note(origin, "as there, it asks without an account whether PostgreSQL answers; `role` needs one");
        }
        "mysql-check" => {
            keys.set("type", "mysql", origin);
            let user = line.words.iter().position(|word| word == "user").map(|at| line.word(at + 1).to_string());
            if let Some(user) = user.filter(|user| !user.is_empty()) {
                keys.set("user", user, origin);
            }
        }
        "redis-check" => keys.set("type", "redis", origin),
        "smtpchk" => {
            let hello = if line.word(2).is_empty() { "HELO" } else { line.word(2) };
            let domain = if line.word(3).is_empty() { "localhost" } else { line.word(3) };
            let step = |send: String, expect: &str| CheckStep { send, expect: expect.to_string() };
            let steps = vec![
                step(String::new(), "^2[0-9]{2}[ -]"),
                step(format!("{hello} {domain}\\r\\n"), "^2[0-9]{2}[ -]"),
                step("QUIT\\r\\n".to_string(), "^2"),
            ];
            keys.set("type", "send_expect", origin);
            keys.set("steps", Written::Steps(steps), origin);
        }
        "ldap-check" => {
            keys.set("type", "send_expect", origin);
            keys.set("send", LDAP_BIND, origin);
            keys.set("expect", LDAP_BOUND, origin);
        }
        "ssl-hello-chk" => {
            keys.set("type", "tcp", origin);
            keys.set("tls", "require", origin);
            keys.set("verify", false, origin);
        }
        _ => {
            let text = "ringway starts no program; let the server answer at a page (`type = \"http\"`), or see the \
                        checks of databases";
            return Err((origin.clone(), text.to_string()));
        }
    }
    Ok(())
}

/// Checks over TLS.
///
/// HAProxy verifies the chain, and the name only with `verifyhost` (or `check-sni`, in newer versions). ringway
/// verifies the name whenever it verifies, so a certificate that does not name its host needs `server_name`.
fn tls(job: &mut Job<'_>, proxy: &Proxy<'_>, checked: &[Checked<'_, '_>], keys: &mut KeyTable) -> Result<(), Refusal> {
    let over = |one: &&Checked<'_, '_>| one.words.checks_tls;
    let first = checked.iter().find(over);
    let connect = proxy
        .all("http-check")
        .chain(proxy.all("tcp-check"))
        .find(|line| line.word(1) == "connect" && line.words.iter().any(|word| word == "ssl"));
    let (origin, words) = match (first, connect) {
        (Some(one), _) => (one.server.origin, &one.words),
        (None, Some(line)) => (&line.origin, &checked[0].words),
        (None, None) => return Ok(()),
    };
    if let Some(other) = checked.iter().find(|one| first.is_some() && !over(one)) {
        return Err((other.server.origin.clone(), "servers of a pool are all checked over TLS or none is".to_string()));
    }
    let of = |words: &Words| (words.verify.clone(), words.ca_file.clone(), words.check_sni.clone());
    if let Some(other) = checked.iter().find(|one| of(&one.words) != of(words)) {
        let text = "the servers of a pool are checked with one `verify`, `ca-file` and `check-sni`".to_string();
        return Err((other.server.origin.clone(), text));
    }
    keys.set("tls", "require", origin);
    let is_lax = job.globals.iter().any(|line| line.is(&["ssl-server-verify", "none"]));
    match (words.verify.as_deref(), &words.ca_file) {
        (Some("none"), _) => keys.set("verify", false, origin),
        (None, None) if is_lax => keys.set("verify", false, origin),
        (_, Some(file)) => {
            keys.set("ca_file", job.certificate(file), origin);
            if words.verifyhost.is_none() && words.check_sni.is_none() {
                job.notes.note(origin, "ringway also verifies the name: server_name, or the host of the address");
            }
        }
        (_, None) => {}
    }
    if let Some(name) = words.verifyhost.as_ref().or(words.check_sni.as_ref()) {
        keys.set("server_name", name.clone(), origin);
    }
    Ok(())
}

/// How often, how long, how many times. Where servers differ, the strictest counts.
///
/// The strictest is the shortest interval, the most successes before a server is up, and the fewest failures before it
/// is down: no server is used longer than before.
fn pace(job: &mut Job<'_>, proxy: &Proxy<'_>, checked: &[Checked<'_, '_>], keys: &mut KeyTable) {
    let origin = checked[0].server.origin;
    let inter = |one: &Checked<'_, '_>| one.words.inter.unwrap_or(INTER_US);
    let min = |of: &dyn Fn(&Checked<'_, '_>) -> u64| checked.iter().map(of).min().unwrap_or(INTER_US);
    let pace = |us: u64| time::shown(us.clamp(1_000, 86_400_000_000));
    let interval = min(&inter);
    keys.set("interval", pace(interval), origin);
    keys.set("fast_interval", pace(min(&|one| one.words.fastinter.unwrap_or(inter(one)))), origin);
    keys.set("down_interval", pace(min(&|one| one.words.downinter.unwrap_or(inter(one)))), origin);
    let timeout = proxy.timeout("check").filter(|(us, _)| *us > 0);
    let (us, at) = timeout.unwrap_or((interval, origin));
    keys.set("timeout", pace(us), at);
    let rise = checked.iter().map(|one| one.words.rise.unwrap_or(2)).max().unwrap_or(2);
    let fall = checked.iter().map(|one| one.words.fall.unwrap_or(3)).min().unwrap_or(3);
    keys.set("rise", rise.clamp(1, 1000), origin);
    keys.set("fall", fall.clamp(1, 1000), origin);
    let of = |one: &Checked<'_, '_>| {
        let words = &one.words;
        (words.inter, words.fastinter, words.downinter, words.rise, words.fall)
    };
    if let Some(other) = checked.iter().find(|one| of(one) != of(&checked[0])) {
        let text = "checks differ from server to server there; here the strictest holds for the pool";
        job.notes.note(other.server.origin, text);
    }
}

/// An agent that says how a server is.
///
/// The answer of an agent has the same words in both (`up`, `drain`, `50%`). HAProxy can send it something first, and
/// ask it somewhere else; ringway connects to the backend's host and reads.
fn agent(servers: &[Server<'_>], keys: &mut KeyTable) -> Result<(), Refusal> {
    let Some(first) = servers.iter().find(|server| server.words.has_agent) else { return Ok(()) };
    for server in servers {
        let words = &server.words;
        let fault = |text: &str| Err((server.origin.clone(), text.to_string()));
        if !words.has_agent || words.agent_port != first.words.agent_port {
            return fault("the servers of a pool have one `agent-port`, or no agent");
        }
        let host = server.place.host().unwrap_or_default().trim_matches(['[', ']']);
        if words.agent_addr.as_deref().is_some_and(|addr| addr != host) {
            return fault("ringway asks the agent at the server's own address");
        }
    }
    let Some(port) = first.words.agent_port.filter(|port| (1..=65_535).contains(port)) else {
        return Err((first.origin.clone(), "`agent-check` has no `agent-port`".to_string()));
    };
    if keys.get("type").is_none() {
        keys.set("type", "tcp", first.origin);
    }
    keys.set("agent_port", port, first.origin);
    Ok(())
}

/// Where each server is checked: one port for all, or an address for each.
///
/// A port that all servers have becomes `port` of the check, as it is written most often. Otherwise each server gets a
/// `check_address`, which can be a port alone.
fn places(
    servers: &[Server<'_>],
    checked: &[Checked<'_, '_>],
    keys: &mut KeyTable,
    first: &Checked<'_, '_>,
) -> Result<Vec<Option<String>>, Refusal> {
    let of =
        |one: &Checked<'_, '_>| (one.words.check_port.clone(), one.words.check_addr.clone(), one.tracked_at.clone());
    if checked.iter().all(|one| of(one) == of(first)) && first.words.check_addr.is_none() && first.tracked_at.is_none()
    {
        if let Some(port) = first.words.check_port.as_ref().filter(|port| *port != "0") {
            let number: u64 =
                port.parse().map_err(|_| (first.server.origin.clone(), format!("`{port}` is no port")))?;
            keys.set("port", number, first.server.origin);
        }
        return Ok(vec![None; servers.len()]);
    }
    let mut all = Vec::new();
    for server in servers {
        let Some(one) = checked.iter().find(|one| std::ptr::eq(one.server, server)) else {
            all.push(None);
            continue;
        };
        let own_port = match &server.place {
            crate::import::address::ServerPlace::Host(_, ServerPort::Given(port)) => Some(port.clone()),
            _ => None,
        };
        let port = one.words.check_port.clone().filter(|port| port != "0");
        all.push(match (&one.words.check_addr, port, &one.tracked_at) {
            (None, None, None) => None,
            (None, Some(port), None) => Some(format!(":{port}")),
            (None, None, Some(at)) => Some(at.clone()),
            (None, Some(port), Some(at)) => {
                let host = at.rsplit_once(':').map_or(at.as_str(), |(host, _)| host);
                Some(format!("{host}:{port}"))
            }
            (Some(addr), port, _) => {
                let addr = addr.rsplit('@').next().unwrap_or_default();
                let host = if addr.contains(':') { format!("[{addr}]") } else { addr.to_string() };
                let port =
                    port.or(own_port).ok_or_else(|| (server.origin.clone(), "`addr` needs a port".to_string()))?;
                Some(format!("{host}:{port}"))
            }
        });
    }
    Ok(all)
}
