//! Reads `nginx.conf`: its `stream`, and what around it is about the process.
//!
//! ```text
//! tree::read ─> main_block::main              [process], [log]
//!          └──> server::servers ─> listen      where, with which options
//!                             ├──> access      which clients
//!                             ├──> target      where to: upstream, address, map, split_clients
//!                             └──> upstream    a pool, once per set of settings
//! ```
//!
//! A setting of `stream` holds in each server that does not have it; one of a server is its own. A file without
//! `stream` is taken for one that is included into it, if servers or upstreams stand in it.

mod access;
mod listen;
mod main_block;
mod server;
mod target;
mod tree;
mod upstream;
mod words;

use std::collections::HashMap;

use super::note::{Fate, Notes, Origin};
use super::sheet::{NameStock, Sheet};
use super::{Files, Unreadable, unreadable};
use target::Variables;
use tree::Directive;

/// The work on one file.
pub struct Job<'a> {
    /// The directives of `stream`.
    stream: &'a [Directive],
    /// Those of them that hold in each server: settings, and what has a name.
    inherited: Vec<&'a Directive>,
    /// By name.
    upstreams: HashMap<&'a str, &'a Directive>,
    /// Its variables.
    variables: Variables<'a>,
    /// What is written.
    sheet: Sheet,
    /// What is said.
    notes: Notes,
    /// Names of listeners, and of pools.
    names: (NameStock, NameStock),
    /// By the line and the target that a pool is made of: the places of its pools.
    made: HashMap<(Origin, String), Vec<usize>>,
    /// Addresses at which nginx itself closes each connection.
    closed: Vec<String>,
    /// By the zone of `limit_conn`: how many listeners count in it.
    zone_uses: HashMap<String, usize>,
}

/// Translates a file.
///
/// Several `stream` blocks are one, as nginx allows only one and files that it includes may bring their own servers.
///
/// # Errors
/// It cannot be read.
pub fn translate(text: &str, name: &str, files: &dyn Files) -> Result<(Sheet, Notes), Unreadable> {
    let mut notes = Notes::default();
    let all = tree::read(text, name, files, &mut notes)?;
    let blocks: Vec<&Directive> = all.iter().filter(|one| one.name == "stream").collect();
    let is_part = blocks.is_empty() && all.iter().any(|one| ["server", "upstream"].contains(&one.name.as_str()));
    let is_whole = all.iter().any(|one| ["stream", "http", "events"].contains(&one.name.as_str()));
    if !is_part && !is_whole {
        let start = Origin { file: name.into(), line: 1 };
        return Err(unreadable(&start, "no `stream`, `http` or `events` is in it; is this a file of nginx?"));
    }
    let stream: Vec<Directive> = match is_part {
        // A file that is included into `stream`.
        true => all.clone(),
        false => blocks.iter().flat_map(|block| block.inner().to_vec()).collect(),
    };
    let upstreams = stream.iter().filter(|one| one.name == "upstream").map(|one| (one.arg(0), one)).collect();
    let variables = Variables::of(&stream);
    let mut job = Job {
        stream: &stream,
        inherited: stream.iter().filter(|one| one.block.is_none()).collect(),
        upstreams,
        variables,
        sheet: Sheet::default(),
        notes,
        names: Default::default(),
        made: HashMap::new(),
        closed: Vec::new(),
        zone_uses: HashMap::new(),
    };
    if !is_part {
        main_block::main(&mut job, &all);
    }
    if is_part || !blocks.is_empty() {
        job.idle_words();
        job.dns();
        server::servers(&mut job);
    }
    Ok((job.sheet, job.notes))
}

impl<'a> Job<'a> {
    /// Names the lines that need nothing.
    fn idle_words(&mut self) {
        let servers = self.stream.iter().filter(|one| one.name == "server").flat_map(|server| server.inner());
        for one in self.stream.iter().chain(servers) {
            if let Fate::Idle(why) = words::in_stream(&one.name) {
                self.notes.note(&one.origin, format!("`{}` is left out: {why}", one.shown()));
            }
        }
    }

    /// A setting of a server: its own, or that of `stream`.
    fn setting(&self, server: &'a Directive, name: &str) -> Option<&'a Directive> {
        let own = server.inner().iter().rfind(|one| one.name == name);
        own.or_else(|| self.inherited.iter().copied().rfind(|one| one.name == name))
    }

    /// The settings of that name: those of the server if it has any, else those of `stream`.
    fn settings(&self, server: &'a Directive, name: &str) -> Vec<&'a Directive> {
        let own: Vec<&Directive> = server.inner().iter().filter(|one| one.name == name).collect();
        let all = || self.inherited.iter().copied().filter(|one| one.name == name).collect();
        if own.is_empty() { all() } else { own }
    }

    /// `[dns]`.
    fn dns(&mut self) {
        let servers = self.stream.iter().filter(|one| one.name == "server").flat_map(|server| server.inner());
        let all: Vec<&Directive> = self.stream.iter().chain(servers).filter(|one| one.name == "resolver").collect();
        let Some(line) = all.first() else { return };
        for other in all.iter().filter(|other| other.args != line.args) {
            self.notes.note(&other.origin, "name servers are those of the whole process; these are left out");
        }
        let mut servers = Vec::new();
        for arg in line.args.iter().filter(|arg| !arg.contains('=')) {
            let at = match arg.parse::<std::net::IpAddr>() {
                Ok(ip) => std::net::SocketAddr::new(ip, 53).to_string(),
                Err(_) => arg.clone(),
            };
            match at.parse::<std::net::SocketAddr>() {
                Ok(at) => servers.push(at.to_string()),
                Err(_) => {
                    self.notes.note(&line.origin, format!("`{arg}` is no address; ringway asks name servers by theirs"))
                }
            }
        }
        if line.args.iter().any(|arg| arg.starts_with("valid=")) {
            self.notes.note(&line.origin, "`valid=` is left out: an answer holds as long as its TTL says");
        }
        if !servers.is_empty() {
            self.sheet.dns.set("servers", servers, &line.origin);
        }
        let timeout = self.stream.iter().rfind(|one| one.name == "resolver_timeout");
        if let Some((us, line)) = timeout.and_then(|line| Some((super::time::of_nginx(line.arg(0))?, line))) {
            self.sheet.dns.set("timeout", super::time::shown(us.clamp(100_000, 30_000_000)), &line.origin);
        }
    }
}
