//! The members of a Patroni cluster, as Patroni writes them to etcd.
//!
//! ```text
//! /service/main/members/pg1 = {"conn_url": "postgres://10.0.0.1:5432/postgres", "role": "replica", "tags": {…}, …}
//! /service/main/leader      = pg1
//! ```
//!
//! Each member is a backend of its name, at the address of its `conn_url`. Which role it has is what the checks of the
//! pool find out: the leader key is written before its owner is promoted, and a Patroni that is cut off from etcd does
//! not know which member has it. So a change of that key is a hint, after which the pool is checked often for a while
//! ([`News::Hint`]), and nothing more.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::dns::Resolver;
use super::etcd::{Keyspace, WatchedKeys, crowded, follow_keys, news_of};
use super::found::{Answer, Found, FoundHost, News};
use super::gather::{Gathering, host, shown};
use super::settings::PatroniSource;
use super::written;

/// The port of PostgreSQL, where `conn_url` has none.
const PORT: u16 = 5432;
/// Why a replica rests that Patroni is told not to send clients to.
const RESTS: &str = "noloadbalance, says Patroni";

/// Tells which members a Patroni cluster has, and when another one is about to lead it, for ever.
pub async fn follow(settings: &PatroniSource, resolver: &Resolver, tell: &dyn Fn(News)) {
    let prefix = prefix_of(settings);
    let mut reader = PatroniReader::new(&prefix);
    let keys = WatchedKeys { endpoints: &settings.endpoints, prefix: prefix.as_bytes(), access: &settings.access };
    follow_keys(keys, resolver, &mut |keyspace| reader.on_keys(keyspace), tell).await;
}

/// What the keys of the cluster begin with, put together as Patroni does it.
fn prefix_of(settings: &PatroniSource) -> String {
    format!("/{}/{}/", settings.namespace.trim_matches('/'), settings.scope)
}

/// Makes news of the keys of a cluster.
#[derive(Debug)]
struct PatroniReader {
    /// What the keys begin with.
    prefix: String,
    /// What was told last.
    told: Option<Answer>,
    /// The member that had led when the keys were read last; `None` before the first time.
    led: Option<Option<String>>,
}

impl PatroniReader {
    /// Nothing is read yet.
    fn new(prefix: &str) -> PatroniReader {
        PatroniReader { prefix: prefix.to_string(), told: None, led: None }
    }

    /// The keys have changed, or are listed for the first time.
    fn on_keys(&mut self, keyspace: &Keyspace) -> Vec<News> {
        let leader = leader_of(keyspace);
        let (answer, name) = answer_of(&self.prefix, keyspace, leader.as_deref());
        let mut news = vec![news_of(answer, &mut self.told)];
        // The first time all are checked anyway.
        let has_changed = self.led.as_ref().is_some_and(|led| *led != leader);
        self.led = Some(leader);
        news.extend(name.filter(|_| has_changed).map(News::Hint));
        news
    }
}

/// The member that has the leader key, if one has it.
fn leader_of(keyspace: &Keyspace) -> Option<String> {
    let (_, value) = keyspace.iter().find(|(key, _)| *key == b"leader")?;
    String::from_utf8(value?.to_vec()).ok()
}

/// The members, and what the backend is called that has the leader key.
fn answer_of(prefix: &str, keyspace: &Keyspace, leader: Option<&str>) -> (Answer, Option<Arc<str>>) {
    let mut gathered = Gathering::default();
    if keyspace.is_crowded() {
        gathered.remark(crowded(prefix));
    }
    let (mut leads, mut has_members) = (None, false);
    for (key, value) in keyspace.iter() {
        let Some(name) = key.strip_prefix(b"members/") else { continue };
        has_members = true;
        let name = String::from_utf8_lossy(name);
        let is_leader = leader == Some(&*name);
        let member = value.ok_or_else(|| "is described by too much text".to_string());
        match member.and_then(|value| member_of(&name, value, is_leader)) {
            Ok(found) => {
                if is_leader {
                    leads = Some((found.host.clone(), found.port));
                }
                gathered.add(&name, found);
            }
            Err(why) => gathered.remark(format!("member {} {why}; it does not count", shown(&name))),
        }
    }
    if !has_members {
        gathered.remark(format!(
            "below {} there is no member of Patroni; check `namespace` and `scope`, and that Patroni is configured \
             with `etcd3:` (what it writes with `etcd:` is not seen by v3)",
            shown(&format!("{prefix}members/"))
        ));
    }
    let answer = gathered.answer(None);
    let leads = answer.found.iter().find(|found| leads.as_ref() == Some(&(found.host.clone(), found.port)));
    let leads = leads.map(Found::name);
    (answer, leads)
}

/// The backend that a member is.
fn member_of(name: &str, value: &[u8], is_leader: bool) -> Result<Found, String> {
    let text = std::str::from_utf8(value).map_err(|_| "is described by no text".to_string())?.trim();
    // Members were once nothing but their URL.
    let member = match text.starts_with("postgres") {
        true => Map::from_iter([("conn_url".to_string(), text.into())]),
        false => serde_json::from_str::<Map<String, Value>>(text)
            .map_err(|error| format!("is described by broken JSON: {}", shown(&error.to_string())))?,
    };
    let url = member.get("conn_url").and_then(Value::as_str).ok_or("has no `conn_url`")?;
    let (host, port) = at(url).map_err(|lacks| format!("has a `conn_url` that {lacks}"))?;
    let mut found = Found::at(host, port);
    found.name = Some(name.into());
    let role = member.get("role").and_then(Value::as_str).unwrap_or_default();
    let is_primary = is_leader || ["master", "primary"].contains(&role);
    let is_spared = member.get("tags").and_then(|tags| tags.get("noloadbalance")).is_some_and(is_true);
    // As Patroni itself has it: a primary serves whatever its tags say.
    found.rests = (is_spared && !is_primary).then(|| RESTS.into());
    Ok(found)
}

/// Whether Python takes a value for true, as Patroni does with its tags.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
    }
}

/// Where a URL of PostgreSQL leads: `postgres://user:password@host:port/database?…`. The error shows nothing of it: it
/// can have a password.
fn at(url: &str) -> Result<(FoundHost, u16), &'static str> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or("does not begin with postgres://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let has_port = authority.rsplit_once(':').is_some_and(|(before, _)| before.ends_with(']') || !before.contains(':'));
    match (has_port, authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))) {
        (true, _) => written::address(authority),
        (false, Some(inner)) => host(inner).map(|host| (host, PORT)).ok_or(written::NO_HOST),
        (false, None) => host(authority).map(|host| (host, PORT)).ok_or(written::NO_HOST),
    }
}

#[cfg(test)]
mod tests;
