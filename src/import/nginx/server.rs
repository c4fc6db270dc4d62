//! From the `server` blocks of `stream` to listeners. Those that listen at the same address are one listener, whose
//! routes go by `server_name`.
//!
//! A server has no name. Its listener is called as the upstream that it leads to, if it leads to that alone, else by
//! its port. Servers that share all of their addresses are told apart by `server_name`; those that share some are
//! refused.

use std::collections::HashSet;

use super::Job;
use super::access;
use super::listen::{self, Listen};
use super::target::{Aim, By, Here, Rank, Target};
use super::tree::Directive;
use super::upstream;
use super::words;
use crate::import::note::{Fate, Origin, Refusal};
use crate::import::routes::{self, Choice, Test, Way};
use crate::import::sheet::ListenerSheet;
use crate::import::{address, time};

/// Servers at the same addresses.
struct Shared<'a> {
    /// Where they listen.
    listens: Vec<Listen>,
    /// The servers; the first one gets clients that no name fits.
    servers: Vec<&'a Directive>,
}

/// Translates all servers.
pub fn servers(job: &mut Job<'_>) {
    let mut all: Vec<Shared<'_>> = Vec::new();
    let stream = job.stream;
    for server in stream.iter().filter(|one| one.name == "server") {
        if is_refused(job, server) || only_answers(job, server) {
            continue;
        }
        match listen::listens(server, &mut job.notes) {
            Err((origin, text)) => job.notes.refuse(&origin, text),
            Ok(listens) if listens.is_empty() => {
                if !server.all("listen").any(|line| line.args.iter().any(|arg| arg == "udp")) {
                    job.notes.refuse(&server.origin, "it has no `listen`, so no client can connect");
                }
            }
            Ok(listens) => share(job, &mut all, server, listens),
        }
    }
    let groups: Vec<Shared<'_>> = all.iter().flat_map(groups).collect();
    for group in &groups {
        let lines = group.servers.iter().flat_map(|server| job.settings(server, "limit_conn"));
        let zones: HashSet<String> = lines.map(|line| line.arg(0).to_string()).collect();
        for zone in zones {
            *job.zone_uses.entry(zone).or_default() += 1;
        }
    }
    for group in &groups {
        if let Err((origin, text)) = listener(job, group) {
            job.notes.refuse(&origin, text);
        }
    }
}

/// Adds a server to those that listen at the same addresses.
///
/// The one with `default_server` comes first, else the first in the file: it gets clients whose name no server has.
fn share<'a>(job: &mut Job<'_>, all: &mut Vec<Shared<'a>>, server: &'a Directive, listens: Vec<Listen>) {
    let addresses = |listens: &[Listen]| listens.iter().map(|listen| listen.place.address.clone()).collect::<Vec<_>>();
    let here = addresses(&listens);
    let meets = |other: &&mut Shared<'_>| addresses(&other.listens).iter().any(|address| here.contains(address));
    match all.iter_mut().find(meets) {
        None => all.push(Shared { listens, servers: vec![server] }),
        Some(other) if addresses(&other.listens) == here => {
            let at = if listens.iter().any(|listen| listen.is_default) { 0 } else { other.servers.len() };
            other.servers.insert(at, server);
        }
        Some(_) => {
            job.notes
                .refuse(&server.origin, "servers that share an address must share all of theirs to be one listener");
        }
    }
}

/// Addresses whose options differ are listeners of their own.
///
/// `proxy_protocol` at one address and not at another one would be one listener in nginx; here the key belongs to the
/// listener.
fn groups<'a>(shared: &Shared<'a>) -> Vec<Shared<'a>> {
    let mut all: Vec<Shared<'a>> = Vec::new();
    let options = |listen: &Listen| {
        (listen.accepts_proxy, listen.backlog, listen.keepalive.clone(), listen.receive_buffer.clone())
    };
    for listen in &shared.listens {
        match all.iter_mut().find(|group| options(&group.listens[0]) == options(listen)) {
            Some(group) => group.listens.push(listen.clone()),
            None => all.push(Shared { listens: vec![listen.clone()], servers: shared.servers.clone() }),
        }
    }
    all
}

/// Says which lines of a server cannot be carried over.
fn is_refused<'a>(job: &mut Job<'a>, server: &'a Directive) -> bool {
    let mut is_refused = false;
    for one in job.inherited.iter().copied().chain(server.inner()) {
        if let Fate::Refused(why) = words::in_stream(&one.name) {
            job.notes.refuse(&one.origin, format!("`{}`: {why}", one.shown()));
            is_refused = true;
        }
    }
    for name in ["proxy_ssl", "proxy_upload_rate", "proxy_download_rate"] {
        let line = job.setting(server, name).filter(|line| !["off", "0"].contains(&line.arg(0)));
        if let Some((line, why)) = line.and_then(|line| Some((line, words::switched_on(name)?))) {
            job.notes.refuse(&line.origin, format!("`{}`: {why}", line.shown()));
            is_refused = true;
        }
    }
    is_refused
}

/// A server that only says something and closes: what leads to it is refused here.
///
/// `map … { default 127.0.0.1:9; }` with a server at that port that returns nothing is how nginx refuses clients: `map`
/// alone cannot. A server that answers with a text is one for clients, and refused.
fn only_answers<'a>(job: &mut Job<'a>, server: &'a Directive) -> bool {
    let Some(line) = server.all("return").next() else { return false };
    let is_silent = line.arg(0).is_empty();
    let is_inner = |at: &str| at.starts_with("unix:") || at.starts_with("127.") || at.starts_with("[::1]");
    let places = server.all("listen").filter_map(|line| address::nginx_bind(line.arg(0)).ok());
    let all: Vec<String> = places.map(|place| place.address).collect();
    match is_silent && !all.is_empty() && all.iter().all(|at| is_inner(at)) {
        true => job.notes.note(&line.origin, "left out: what leads here is refused with a reset"),
        false => job.notes.refuse(&line.origin, "ringway answers no client by itself"),
    }
    job.closed.extend(all.into_iter().filter(|_| is_silent));
    true
}

/// Makes a listener of servers at the same addresses.
fn listener<'a>(job: &mut Job<'a>, shared: &Shared<'a>) -> Result<(), Refusal> {
    let first = shared.servers[0];
    let ports: Vec<(u16, u16)> = shared.listens.iter().filter_map(|listen| listen.place.ports()).collect();
    let port =
        ports.first().filter(|first| first.0 == first.1 && ports.iter().all(|other| other == *first)).map(|it| it.0);
    let wanted = match (port, shared.listens[0].place.is_unix()) {
        (Some(port), _) => format!("port-{port}"),
        (None, true) => "socket".to_string(),
        (None, false) => ports.first().map_or("listener".to_string(), |(low, high)| format!("port-{low}-{high}")),
    };
    let mut listener = ListenerSheet::new(&wanted, &first.origin);
    for listen in shared.listens.iter().filter(|listen| listen.accepts_proxy) {
        job.notes.once(&listen.origin, "the client of the header is the client from then on; nginx passes on the peer");
    }
    keys(job, shared, &mut listener)?;
    let choices = choices(job, shared, port, &wanted)?;
    if let [Choice { tests, way: Way::Pool(pool), .. }] = choices.as_slice()
        && tests.is_empty()
        && job.upstreams.contains_key(pool.as_str())
    {
        listener.name.clone_from(pool);
    }
    let timeout = job.setting(first, "preread_timeout");
    let us = timeout.and_then(|line| time::of_nginx(line.arg(0))).unwrap_or(30_000_000);
    let timeout = (time::shown(us), timeout.map_or(&first.origin, |line| &line.origin).clone());
    routes::write(&mut listener, choices, Some(&timeout))?;
    listener.name = job.names.0.take(&listener.name);
    job.sheet.listeners.push(listener);
    access_log(job, first);
    Ok(())
}

/// The keys of a listener apart from where it leads.
///
/// nginx takes the client of a header only with `set_real_ip_from`; without it the header is read, and the peer stays
/// the client. ringway always takes it, so lists and limits that are about the peer are refused there.
fn keys<'a>(job: &mut Job<'a>, shared: &Shared<'a>, listener: &mut ListenerSheet) -> Result<(), Refusal> {
    let (listens, first) = (&shared.listens, shared.servers[0]);
    match listens.as_slice() {
        [one] => listener.keys.set("bind", one.place.address.clone(), &one.origin),
        many => {
            let all: Vec<String> = many.iter().map(|listen| listen.place.address.clone()).collect();
            listener.keys.set("bind", all, &many[0].origin);
        }
    }
    if let Some(backlog) = listens[0].backlog {
        listener.keys.set("backlog", backlog, &listens[0].origin);
    }
    access::access(job, first, &mut listener.keys)?;
    for other in &shared.servers[1..] {
        let mut keys = crate::import::sheet::KeyTable::default();
        access::access(job, other, &mut keys)?;
        let same = keys.entries.iter().all(|entry| listener.keys.get(entry.key) == Some(&entry.value));
        if !same {
            return Err((other.origin.clone(), "servers at one address have one list of clients here".to_string()));
        }
    }
    if listens[0].accepts_proxy {
        let lines = job.settings(first, "set_real_ip_from");
        let origin = lines.first().map_or(&listens[0].origin, |line| &line.origin).clone();
        let from = lines.iter().map(|line| line.arg(0));
        let mut trusted: Vec<String> = from
            .filter_map(|text| match text {
                "unix:" => Some(text.to_string()),
                text => crate::import::nets::Net::new(text).map(crate::import::nets::Net::shown),
            })
            .collect();
        if trusted.is_empty() {
            let of_peer = |key: &str| ["allow", "deny", "source_connections_max"].contains(&key);
            if let Some(entry) = listener.keys.entries.iter().find(|entry| of_peer(entry.key)) {
                let text = "without `set_real_ip_from` this is about the peer, and here about the address that the \
                            header claims; name the peers there";
                return Err((entry.origin.clone(), text.to_string()));
            }
            job.notes
                .note(&origin, "no peer is named, so every one can claim any address; name those that send the header");
            trusted = crate::import::nets::Clients::every().shown();
        }
        listener.keys.set("accept_proxy", "required", &listens[0].origin);
        listener.keys.set("proxy_trusted", trusted, &origin);
        let timeout = job.setting(first, "proxy_protocol_timeout");
        let us = timeout.and_then(|line| time::of_nginx(line.arg(0))).unwrap_or(30_000_000);
        listener.keys.set("proxy_timeout", time::shown(us), timeout.map_or(&listens[0].origin, |line| &line.origin));
    }
    Ok(())
}

/// Where clients go: those whose name a server has, then those of the first one.
///
/// nginx takes the server with the exact name, then the one with the longest star, wherever they stand; so the routes
/// are sorted like that. The names of the first server are routes only where a star of another one could take them.
/// Within a server the order is that of its map.
fn choices<'a>(
    job: &mut Job<'a>,
    shared: &Shared<'a>,
    port: Option<u16>,
    wanted: &str,
) -> Result<Vec<Choice>, Refusal> {
    let mut all = Vec::new();
    let mut named: Vec<(Rank, Vec<String>, usize)> = Vec::new();
    for (place, server) in shared.servers.iter().enumerate().skip(1) {
        let names = ranked(server).map_err(|text| (server.origin.clone(), text))?;
        if names.is_empty() {
            return Err((server.origin.clone(), "another server listens at this address".to_string()));
        }
        named.extend(names.into_iter().map(|(rank, names)| (rank, names, place)));
    }
    if let Some(last) = named.iter().map(|one| one.0).max().filter(|rank| rank.0 > 0) {
        let server = shared.servers[0];
        let names = ranked(server).map_err(|text| (server.origin.clone(), text))?;
        // The first server stands first, so of the same name it is taken.
        let of_first = names.into_iter().filter(|(rank, _)| *rank <= last).map(|(rank, names)| (rank, names, 0));
        named = of_first.chain(named).collect();
    }
    named.sort_by_key(|one| one.0);
    let mut ways = Vec::new();
    for server in &shared.servers {
        ways.push(ways_of(job, shared, server, port, wanted)?);
    }
    for (_, names, place) in named {
        for way in &ways[place] {
            let mut choice = way.clone();
            choice.tests.insert(0, Test::Names(names.clone()));
            all.push(choice);
        }
    }
    all.extend(ways.swap_remove(0));
    Ok(all)
}

/// The names of a server, those of one rank together. `_` is how files write that a server has no name.
fn ranked(server: &Directive) -> Result<Vec<(Rank, Vec<String>)>, String> {
    let mut all: Vec<(Rank, Vec<String>)> = Vec::new();
    for written in server.all("server_name").flat_map(|line| &line.args).filter(|name| *name != "_") {
        let (rank, test) = (By::Name { has_names: true }).test(written)?;
        let Some(Test::Names(names)) = test.filter(|_| rank.0 < 3) else {
            return Err(format!("ringway's routes cannot say `{written}`"));
        };
        match all.iter_mut().find(|one| one.0 == rank) {
            Some((_, before)) => before.extend(names),
            None => all.push((rank, names)),
        }
    }
    Ok(all)
}

/// Where the clients of a server go.
fn ways_of<'a>(
    job: &mut Job<'a>,
    shared: &Shared<'a>,
    server: &'a Directive,
    port: Option<u16>,
    wanted: &str,
) -> Result<Vec<Choice>, Refusal> {
    let keepalive = shared.listens.iter().find_map(|listen| Some((listen.keepalive.clone()?, listen.origin.clone())));
    let Some(line) = server.all("proxy_pass").next_back() else {
        return Err((server.origin.clone(), "it has no `proxy_pass`, so it leads nowhere".to_string()));
    };
    let mut aims = job.variables.aims(line.arg(0), Here { server, port }, &line.origin, &mut job.notes)?;
    let asks = aims.iter().any(|aim| !aim.tests.is_empty());
    if asks && job.setting(server, "ssl_preread").is_none_or(|line| line.arg(0) != "on") {
        job.notes.note(&line.origin, "without `ssl_preread on` no client says anything: all get the default");
        aims.retain(|aim| aim.tests.is_empty());
    }
    let is_alone = aims.len() == 1 && shared.servers.len() == 1;
    let mut all = Vec::new();
    for aim in aims {
        all.push(choice(job, server, aim, Some(wanted).filter(|_| is_alone), keepalive.as_ref())?);
    }
    Ok(all)
}

/// A way to a pool, which is made if it is not there.
fn choice<'a>(
    job: &mut Job<'a>,
    server: &'a Directive,
    aim: Aim,
    wanted: Option<&str>,
    keepalive: Option<&(String, Origin)>,
) -> Result<Choice, Refusal> {
    let Aim { tests, target, origin } = aim;
    let way = match target {
        Target::Named(target) if target.is_empty() || is_closed(job, &target) => Way::Refused,
        Target::Named(target) => {
            // A pool of an address is called as the listener that leads to it alone, else as the address.
            let wanted = wanted.unwrap_or(&target);
            Way::Pool(upstream::pool(job, server, &target, wanted, &origin, keepalive)?)
        }
        Target::Split(parts) => {
            let mut all = Vec::new();
            for (target, weight) in parts {
                all.push((upstream::pool(job, server, &target, &target, &origin, keepalive)?, weight));
            }
            Way::Split(all)
        }
    };
    Ok(Choice { tests, way, origin })
}

/// Whether nginx itself closes what is led to this address.
fn is_closed(job: &Job<'_>, target: &str) -> bool {
    address::nginx_server(target).is_ok_and(|place| job.closed.contains(&place.address()))
}

/// The access log of the first server that has one.
///
/// The path is kept, although two programs must not write to one file: while both run, one of them has to be changed,
/// and only the user knows which.
fn access_log<'a>(job: &mut Job<'a>, server: &'a Directive) {
    let Some(line) = job.setting(server, "access_log").filter(|line| line.arg(0) != "off") else { return };
    let output = match line.arg(0) {
        "/dev/stdout" => "stdout".to_string(),
        "/dev/stderr" => "stderr".to_string(),
        path if path.starts_with('/') => path.to_string(),
        syslog if syslog.starts_with("syslog:") => {
            let server = syslog.split(['=', ',']).nth(1).unwrap_or_default();
            match server.strip_prefix("unix:") {
                Some(path) => format!("syslog:{path}"),
                None if server.contains(':') => format!("syslog:udp:{server}"),
                None => format!("syslog:udp:{server}:514"),
            }
        }
        other => {
            job.notes.note(&line.origin, format!("`{other}` is left out: the path of a log begins with /"));
            return;
        }
    };
    match job.sheet.access_log.text("output") {
        Some(before) if *before != output => {
            job.notes.note(&line.origin, "ringway has one access log for all listeners; this one is left out");
        }
        Some(_) => {}
        None => {
            job.sheet.access_log.set("output", output, &line.origin);
            job.notes.note(
                &line.origin,
                "the fields of the access log are fixed; have nginx and ringway write to different files",
            );
        }
    }
}
