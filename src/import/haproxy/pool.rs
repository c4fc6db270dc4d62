//! From a `backend` or `listen` to a pool.
//!
//! | HAProxy | ringway | where it does not say it |
//! |---|---|---|
//! | `timeout connect` | `connect_timeout` | `0s`, which is no limit |
//! | `timeout client`, `server`, or `tunnel` | `idle_timeout` | `0s`; `tunnel` wins, else the smaller one |
//! | `timeout client-fin`, `server-fin` | `half_close_timeout` | the smaller one of `client` and `server` |
//! | `timeout queue` | `queue_timeout` | that of `connect` |
//! | `retries` | `connect_attempts`, one more | 3 retries |
//! | `maxqueue` | `queue_max`, their sum | no limit, as long as a server has `maxconn` |
//! | `on-marked-down` | `on_backend_down` | `keep` |
//! | `observe layer4` | `ejection.failures` | 0: no server is taken out because of failed connects |
//!
//! Backups serve one at a time and in order there, unless `allbackups` is written:
//!
//! | main servers | backups | becomes |
//! |---|---|---|
//! | one | several | `failover`, with `backup = true`: exact |
//! | several | several | levels: `backup = 1`, `backup = 2`… |
//! | any | one, or `allbackups` | `backup = true` |
//! | none | any | `failover` among them |
//! | `balance first` | | `failover`, as long as no server has `maxconn` |

use super::Job;
use super::check;
use super::section::Proxy;
use super::server::{self, Server};
use crate::import::note::{Origin, Refusal};
use crate::import::sheet::{BackendSheet, KeyTable, PoolSheet};
use crate::import::time;

/// Clients of a queue without a limit. HAProxy has none; ringway wants a number.
const QUEUE: u64 = 1_000_000;
/// HAProxy's own number of retries.
const RETRIES: u64 = 3;
/// Longest persistence, where the table has no `expire`.
const FOR_EVER: &str = "8760h";

/// Translates a pool. `fronts` are the proxies whose clients it gets.
///
/// # Errors
/// The lines that cannot be said.
pub fn pool(
    job: &mut Job<'_>,
    proxy: &Proxy<'_>,
    fronts: &[&Proxy<'_>],
    user_timeout: u64,
) -> Result<PoolSheet, Vec<Refusal>> {
    let (servers, faults) = server::servers(proxy, &mut job.notes);
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut pool = PoolSheet::new(proxy.name(), proxy.origin());
    let one = |result: Result<(), Refusal>| result.map_err(|fault| vec![fault]);
    if let Some(server) = servers.iter().find(|server| server.words.speaks_tls) {
        return Err(vec![(server.origin.clone(), super::tls::SERVER.to_string())]);
    }
    let order = one_order(job, proxy, &servers, &mut pool).map_err(|fault| vec![fault])?;
    timeouts(&mut pool.keys, proxy, fronts);
    attempts(job, proxy, &mut pool.keys);
    one(of_servers(job, &servers, &mut pool.keys))?;
    one(source(proxy, &servers, &mut pool.keys))?;
    one(sticky(job, proxy, &mut pool.keys))?;
    names(job, proxy, &servers, &mut pool.keys);
    let longest = servers.iter().map(|server| server.words.user_timeout).chain([user_timeout]).max().unwrap_or(0);
    if longest > 0 {
        pool.keys.set("user_timeout", time::shown(longest), proxy.origin());
    }
    buffers(job, &mut pool.keys);
    ejection(job, proxy, &servers, &mut pool);
    let addresses = one_check(job, proxy, &servers, &mut pool)?;
    for (at, backup) in order {
        pool.backends.push(backend(&servers[at], backup, addresses.get(at).cloned().flatten()));
    }
    Ok(pool)
}

/// The check of the pool, and where each server is checked if not at its own address.
fn one_check(
    job: &mut Job<'_>,
    proxy: &Proxy<'_>,
    servers: &[Server<'_>],
    pool: &mut PoolSheet,
) -> Result<Vec<Option<String>>, Vec<Refusal>> {
    check::check(job, proxy, servers, &mut pool.check).map_err(|fault| vec![fault])
}

/// A server as a backend. `backup`: the level, 0 for none.
fn backend(server: &Server<'_>, backup: u64, check_address: Option<String>) -> BackendSheet {
    let (mut keys, origin, words) = (KeyTable::default(), server.origin, &server.words);
    keys.set("name", server.name.clone(), origin);
    keys.set("address", server.place.address(), origin);
    if let Some(weight) = words.weight.filter(|weight| *weight != 1) {
        keys.set("weight", weight, origin);
    }
    match backup {
        0 => {}
        1 => keys.set("backup", true, origin),
        level => keys.set("backup", level, origin),
    }
    if words.maxconn > 0 {
        keys.set("connections_max", words.maxconn, origin);
    }
    if words.is_disabled {
        keys.set("disabled", true, origin);
    }
    if let Some(address) = check_address {
        keys.set("check_address", address, origin);
    }
    BackendSheet { origin: origin.clone(), keys }
}

/// Sets `balance`, and says in which order the servers stand and which level of backup each has.
///
/// In the order of the file where that decides nothing: ringway's `failover` and its levels of backups go by the order.
/// HAProxy goes back to a better server as soon as it is up; so does `failover` here, because the others are backups of
/// the first one, and not its equals.
fn one_order(
    job: &mut Job<'_>,
    proxy: &Proxy<'_>,
    servers: &[Server<'_>],
    pool: &mut PoolSheet,
) -> Result<Vec<(usize, u64)>, Refusal> {
    let line = proxy.last(&["balance"]);
    let origin = line.map_or(proxy.origin(), |line| &line.origin).clone();
    let word = line.map_or("roundrobin", |line| line.word(1));
    let is_first = word == "first";
    let balance = balance(job, proxy, word, &origin, servers)?;
    let is_backup = |at: &usize| servers[*at].words.is_backup;
    let (backups, mains): (Vec<usize>, Vec<usize>) = (0..servers.len()).partition(is_backup);
    let shares = proxy.option("allbackups").is_some();
    let in_turn = |all: &[usize], level: u64| all.iter().map(|at| (*at, level)).collect::<Vec<_>>();
    if is_first || (mains.len() == 1 && backups.len() > 1 && !shares) || (mains.is_empty() && !shares) {
        // The first one that is up, and back to the first when it is up again.
        pool.keys.set("balance", "failover", &origin);
        let all = [mains, backups].concat();
        let (first, others) = all.split_at(1.min(all.len()));
        return Ok([in_turn(first, 0), in_turn(others, 1)].concat());
    }
    pool.keys.set("balance", balance, &origin);
    if balance == "consistent_hash" {
        hash(job, proxy, pool, &origin);
    }
    if mains.is_empty() {
        return Ok(in_turn(&backups, 0));
    }
    let levels = |(number, at): (usize, &usize)| (*at, if shares { 1 } else { number as u64 + 1 });
    let mut order = in_turn(&mains, 0);
    order.extend(backups.iter().enumerate().map(levels));
    order.sort_by_key(|(at, _)| *at);
    Ok(order)
}

/// ringway's word for a policy.
fn balance(
    job: &mut Job<'_>,
    proxy: &Proxy<'_>,
    word: &str,
    origin: &Origin,
    servers: &[Server<'_>],
) -> Result<&'static str, Refusal> {
    let fault = |text: String| Err((origin.clone(), text));
    match word {
        "roundrobin" | "static-rr" => Ok("round_robin"),
        "leastconn" => Ok("least_conn"),
        "source" => Ok("consistent_hash"),
        "hash" if proxy.last(&["balance"]).is_some_and(|line| line.word(2) == "src") => Ok("consistent_hash"),
        "first" if servers.iter().any(|server| server.words.maxconn > 0) => fault(
            "`balance first` fills one server after another up to its maxconn; ringway has nothing like it".into(),
        ),
        "first" => {
            job.notes.note(origin, "without maxconn this is the first server that is up: failover");
            Ok("failover")
        }
        "random" | "random(2)" => Ok("random"),
        random if random.starts_with("random(") => {
            job.notes.note(origin, "ringway takes the better of two random ones");
            Ok("random")
        }
        _ => fault(format!("ringway cannot balance by `{word}`, which needs a look into the stream")),
    }
}

/// What belongs to a hash.
fn hash(job: &mut Job<'_>, proxy: &Proxy<'_>, pool: &mut PoolSheet, origin: &Origin) {
    if proxy.last(&["hash-type", "consistent"]).is_none() {
        job.notes.once(
            origin,
            "ringway's hash is consistent: clients get other servers than before, and few move when one goes",
        );
    }
    let line = proxy.last(&["hash-balance-factor"]);
    let factor =
        line.and_then(|line| Some((line.word(1).parse::<u64>().ok().filter(|factor| *factor > 0)?, &line.origin)));
    if let Some((factor, origin)) = factor {
        pool.keys.set("hash_balance_factor", factor, origin);
    }
}

/// All times of a pool. What HAProxy has no limit for has none here.
///
/// HAProxy has a time-out for each side, and each side of a session belongs to another section. One silence ends a
/// session of both, so the smaller one counts; the same pool can be reached by several frontends, and then the
/// smallest.
fn timeouts(keys: &mut KeyTable, proxy: &Proxy<'_>, fronts: &[&Proxy<'_>]) {
    let here = proxy.origin().clone();
    let min = |all: Vec<Option<(u64, Origin)>>| all.into_iter().flatten().filter(|(us, _)| *us > 0).min();
    let of = |proxy: &Proxy<'_>, name: &str| proxy.timeout(name).map(|(us, origin)| (us, origin.clone()));
    let of_fronts = |name: &str| fronts.iter().map(|front| of(front, name)).collect::<Vec<_>>();
    let mut set = |key: &'static str, time: &Option<(u64, Origin)>| {
        let (us, origin) = time.clone().unwrap_or((0, here.clone()));
        keys.set(key, time::shown(us), &origin);
    };
    let connect = min(vec![of(proxy, "connect")]);
    set("connect_timeout", &connect);
    let silence = min([of_fronts("client"), vec![of(proxy, "server")]].concat());
    let tunnel = min([of_fronts("tunnel"), vec![of(proxy, "tunnel")]].concat());
    set("idle_timeout", &tunnel.or(silence.clone()));
    let fin = min([of_fronts("client-fin"), vec![of(proxy, "server-fin")]].concat());
    set("half_close_timeout", &fin.or(silence));
    set("queue_timeout", &min(vec![of(proxy, "queue")]).or(connect));
}

/// How often another server is tried.
///
/// Without `redispatch` HAProxy stays with one server, a second between attempts, so a client waits for a server that
/// is gone. ringway has no such mode. That is said once per file, as it is true of most of them.
fn attempts(job: &mut Job<'_>, proxy: &Proxy<'_>, keys: &mut KeyTable) {
    let line = proxy.last(&["retries"]);
    let retries: u64 = line.and_then(|line| line.word(1).parse().ok()).unwrap_or(RETRIES);
    let origin = line.map_or(proxy.origin(), |line| &line.origin);
    keys.set("connect_attempts", retries.saturating_add(1).clamp(1, 100), origin);
    if proxy.option("redispatch").is_none() && proxy.last(&["redispatch"]).is_none() {
        let text = "without `option redispatch` HAProxy tries the same server again after 1 s; ringway goes to another \
                    one immediately";
        job.notes.once(origin, text);
    }
}

/// What stands on servers there and on the pool here.
///
/// What is refused here would make two kinds of server in one pool (a PROXY header for some of them). What is only
/// noted is stricter for some servers than it was, never weaker.
fn of_servers(job: &mut Job<'_>, servers: &[Server<'_>], keys: &mut KeyTable) -> Result<(), Refusal> {
    let Some(first) = servers.first() else { return Ok(()) };
    let is_closing = |server: &&Server<'_>| server.words.closes_when_down;
    let closing = servers.iter().find(is_closing);
    keys.set(
        "on_backend_down",
        if closing.is_some() { "close" } else { "keep" },
        closing.map_or(first.origin, |one| one.origin),
    );
    if let Some(one) = closing.filter(|_| !servers.iter().all(|server| is_closing(&server))) {
        job.notes.note(one.origin, "on-marked-down holds for the whole pool here, not for some of its servers");
    }
    // Without backups there is nothing that it could close.
    let has_backups = servers.iter().any(|server| server.words.is_backup);
    if let Some(one) = servers.iter().find(|server| server.words.closes_backups && has_backups) {
        keys.set("on_main_up", "close", one.origin);
    }
    if let Some(other) = servers.iter().find(|server| server.words.send_proxy != first.words.send_proxy) {
        let text = "a PROXY header goes to all servers of a pool or to none; make two pools of them";
        return Err((other.origin.clone(), text.to_string()));
    }
    if let Some(version) = first.words.send_proxy {
        keys.set("send_proxy", version, first.origin);
    }
    let is_failover = keys.text("balance") == Some("failover");
    match servers.iter().max_by_key(|server| server.words.slowstart).filter(|server| server.words.slowstart > 0) {
        Some(one) if is_failover => job.notes.note(one.origin, "`slowstart` is left out: one server gets all clients"),
        Some(one) => keys.set("slow_start", time::shown(one.words.slowstart), one.origin),
        None => {}
    }
    if let Some(one) = servers.iter().find(|server| server.words.minconn > 0) {
        job.notes.note(one.origin, "`minconn` is left out: the limit is maxconn, at any load");
    }
    let limited: Vec<&Server<'_>> = servers.iter().filter(|server| server.words.maxconn > 0).collect();
    if let Some(one) = limited.first() {
        let all = limited.iter().map(|server| server.words.maxqueue).fold(0, u64::saturating_add);
        let is_bounded = limited.iter().all(|server| server.words.maxqueue > 0);
        keys.set("queue_max", if is_bounded { all } else { QUEUE }, one.origin);
    }
    Ok(())
}

/// Where connections to servers come from.
///
/// `usesrc clientip` is TPROXY, as `source = "client"` is. A port range, an interface, or an address out of a header
/// have no word here.
fn source(proxy: &Proxy<'_>, servers: &[Server<'_>], keys: &mut KeyTable) -> Result<(), Refusal> {
    let line = proxy.last(&["source"]);
    let of_proxy = line.map(|line| (line.words[1..].join(" "), &line.origin));
    let mut all = servers.iter().map(|server| match &server.words.source {
        Some(source) => Some((source.clone(), server.origin)),
        None => of_proxy.clone(),
    });
    let Some(first) = all.next() else { return Ok(()) };
    if let Some(other) = all.find(|other| other.as_ref().map(|it| &it.0) != first.as_ref().map(|it| &it.0)) {
        let origin = other.as_ref().or(first.as_ref()).map_or(proxy.origin(), |it| it.1);
        return Err((origin.clone(), "all servers of a pool have one `source`; make two pools of them".to_string()));
    }
    let Some((text, origin)) = first else { return Ok(()) };
    let words: Vec<&str> = text.split(' ').collect();
    let address = words.first().map_or("", |word| word.trim_end_matches(":0"));
    match words.get(1..).unwrap_or_default() {
        [] => keys.set("source", address, origin),
        ["usesrc", "client" | "clientip"] => keys.set("source", "client", origin),
        _ => return Err((origin.clone(), format!("ringway cannot connect from `{text}`"))),
    }
    Ok(())
}

/// Clients that stay with their server.
///
/// `stick on src` is `stick match src` and `stick store-request src` together; each of these alone is taken for both,
/// as one without the other is a mistake. Other keys need a look into the stream.
fn sticky(job: &mut Job<'_>, proxy: &Proxy<'_>, keys: &mut KeyTable) -> Result<(), Refusal> {
    for line in proxy.all("stick") {
        let is_src = match line.word(1) {
            "on" | "match" | "store-request" => line.word(2) == "src" && !line.words.iter().any(|word| word == "if"),
            _ => false,
        };
        if !is_src {
            let text = format!("ringway keeps a client by its address, not by `{}`", line.rest(1));
            return Err((line.origin.clone(), text));
        }
        let table = line.words.iter().position(|word| word == "table").map_or("", |at| line.word(at + 1));
        let of_table = |proxy: &Proxy<'_>| {
            let line = proxy.last(&["stick-table"])?;
            let at = line.words.iter().position(|word| word == "expire")?;
            time::of_haproxy(line.word(at + 1)).map(time::shown)
        };
        let expire = match table {
            "" => of_table(proxy),
            table => job.proxies.iter().find(|proxy| proxy.name() == table).and_then(of_table),
        };
        keys.set("sticky", expire.unwrap_or_else(|| FOR_EVER.to_string()), &line.origin);
    }
    if let Some(line) = proxy.last(&["stick-table"]) {
        let words = ["peers", "size", "store"].iter().filter(|word| line.words.iter().any(|one| one == *word));
        for word in words.filter(|word| **word == "peers") {
            let text =
                format!("`{word}`: other machines are told nothing; `balance = \"consistent_hash\"` needs no telling");
            job.notes.note(&line.origin, text);
        }
    }
    Ok(())
}

/// How names are looked up.
///
/// `resolve-prefer` takes the other family where the wished one is missing; ringway has no such second choice, which
/// matters only where a name has addresses of one family.
fn names(job: &mut Job<'_>, proxy: &Proxy<'_>, servers: &[Server<'_>], keys: &mut KeyTable) {
    if let Some(one) = servers.iter().find(|server| server.words.prefers.is_some() && server.place.is_name()) {
        keys.set("address_family", one.words.prefers.unwrap_or_default(), one.origin);
        job.notes.once(one.origin, "`resolve-prefer` is the only family here, not the first choice");
    }
    let with = servers.iter().find_map(|server| Some((server.words.resolvers.as_ref()?, server.origin)));
    if let Some((name, origin)) = with {
        job.resolvers.push((name.clone(), origin.clone()));
        if let Some(section) = job.sections.iter().find(|section| section.kind == "resolvers" && section.name == **name)
        {
            for (word, key) in [("obsolete", "obsolete_hold"), ("nx", "denied_hold")] {
                let line = section.lines.iter().find(|line| line.is(&["hold", word]));
                if let Some((us, line)) = line.and_then(|line| Some((time::of_haproxy(line.word(2))?, line))) {
                    keys.set(key, time::shown(us), &line.origin);
                }
            }
        }
    }
    if proxy.option("tcpka").is_some()
        || proxy.last(&["srvtcpka-idle"]).is_some()
        || proxy.last(&["clitcpka-idle"]).is_some()
    {
        let line = proxy.last(&["srvtcpka-idle"]).or(proxy.last(&["clitcpka-idle"]));
        if let Some((us, line)) = line.and_then(|line| Some((time::of_haproxy(line.word(1))?, line))) {
            keys.set("keepalive", format!("{}s", (us / 1_000_000).clamp(1, 32_767)), &line.origin);
        }
    }
}

/// Sizes of socket buffers, which `global` has there.
fn buffers(job: &Job<'_>, keys: &mut KeyTable) {
    let words = [("tune.rcvbuf", "receive_buffer"), ("tune.notsent-lowat", "unsent_max")];
    for line in &job.globals {
        let Some((_, key)) = words.iter().find(|(word, _)| line.word(0).starts_with(word)) else { continue };
        if let Some(size) = line.word(1).parse::<u64>().ok().and_then(super::global::size) {
            keys.set(key, size, &line.origin);
        }
    }
}

/// HAProxy takes no server out because of failed connects, unless it is told to observe them.
///
/// `observe` counts each failed connect as a failed check, one after another and without a window; ringway's ejection
/// has one, and ends by itself.
fn ejection(job: &mut Job<'_>, proxy: &Proxy<'_>, servers: &[Server<'_>], pool: &mut PoolSheet) {
    let observing = servers.iter().find(|server| server.words.observes);
    let origin = observing.map_or(proxy.origin(), |server| server.origin);
    let failures = observing.map_or(0, |server| server.words.error_limit.unwrap_or(10));
    pool.ejection.set("failures", failures.min(10_000), origin);
    pool.ejection.set("hangups", 0, origin);
    if observing.is_some() {
        job.notes.note(
            origin,
            "so many failures within 10 s count, for the whole pool, and the server is out for 10 s or more",
        );
    }
}
