//! What a reply says of each instance. Pure.

use serde::Deserialize;

use crate::discover::found::{Answer, Found};
use crate::discover::gather::{Gathering, host, port, scaled, shown};
use crate::discover::settings::ConsulSource;

/// Which of the two servers it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    /// Consul.
    Consul,
    /// Nomad.
    Nomad,
}

impl Dialect {
    /// Its name, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Dialect::Consul => "Consul",
            Dialect::Nomad => "Nomad",
        }
    }

    /// The header of a request that has the token.
    pub(super) fn token_header(self) -> &'static str {
        match self {
            Dialect::Consul => "x-consul-token",
            Dialect::Nomad => "x-nomad-token",
        }
    }

    /// What the headers of its replies begin with.
    pub(super) fn header_prefix(self) -> &'static str {
        match self {
            Dialect::Consul => "x-consul-",
            Dialect::Nomad => "x-nomad-",
        }
    }

    /// What the body of a reply says.
    ///
    /// # Errors
    /// It is not what this server sends, with the place.
    pub(super) fn read(self, body: &[u8], settings: &ConsulSource) -> Result<Answer, String> {
        let bad = |error: serde_json::Error| format!("its answer makes no sense: {error}");
        match self {
            Dialect::Consul => Ok(of_consul(&serde_json::from_slice::<Vec<ConsulEntry>>(body).map_err(bad)?, settings)),
            Dialect::Nomad => Ok(of_nomad(&serde_json::from_slice::<Vec<Allocated>>(body).map_err(bad)?, settings)),
        }
    }
}

/// An instance of Consul with its node and its checks. Go writes an empty list as `null`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsulEntry {
    /// The node, which has an address too.
    node: Option<ConsulNode>,
    /// The instance.
    service: ConsulService,
    /// Those of the node and those of the instance.
    checks: Option<Vec<ConsulCheck>>,
}

/// A node of Consul.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsulNode {
    /// An address or a name.
    address: Option<String>,
}

/// An instance of Consul.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsulService {
    /// Its own id.
    #[serde(rename = "ID")]
    id: Option<String>,
    /// An address or a name; empty for that of the node.
    address: Option<String>,
    /// 0 for none.
    #[serde(default)]
    port: i64,
    /// For those that weigh what they get.
    weights: Option<ConsulWeights>,
}

/// The weights of an instance; Consul has 1 for both where none are given.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsulWeights {
    /// While all of its checks pass.
    #[serde(default = "one")]
    passing: i64,
    /// While one of them warns.
    #[serde(default = "one")]
    warning: i64,
}

/// A check of an instance or a node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsulCheck {
    /// One that a person has set begins with `_service_maintenance` or `_node_maintenance`.
    #[serde(rename = "CheckID")]
    id: Option<String>,
    /// `passing`, `warning` or `critical`.
    status: Option<String>,
}

/// An instance of Nomad.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Allocated {
    /// Its own id.
    #[serde(rename = "ID")]
    id: Option<String>,
    /// An address or a name.
    address: Option<String>,
    /// 0 for none.
    #[serde(default)]
    port: i64,
    /// Of the service block.
    tags: Option<Vec<String>>,
}

/// The weight that Consul takes where none is given.
fn one() -> i64 {
    1
}

impl ConsulEntry {
    /// Whether a check of it does not pass. What is no status of Consul does not either.
    fn is_passing(&self) -> bool {
        self.checks.iter().flatten().all(|check| check.status.as_deref() == Some("passing"))
    }

    /// Whether a person has put it, or its node, into maintenance.
    fn is_in_maintenance(&self) -> bool {
        let ids = self.checks.iter().flatten().filter_map(|check| check.id.as_deref());
        ids.into_iter().any(|id| id.starts_with("_service_maintenance") || id == "_node_maintenance")
    }

    /// What it weighs now, as it stands in Consul. What does not pass weighs as what warns.
    fn weight(&self) -> u64 {
        let weights = self.service.weights.unwrap_or(ConsulWeights { passing: 1, warning: 1 });
        let weight = if self.is_passing() { weights.passing } else { weights.warning };
        u64::try_from(weight).unwrap_or(0)
    }
}

/// The instances of Consul that count.
fn of_consul(entries: &[ConsulEntry], settings: &ConsulSource) -> Answer {
    let counts = |entry: &&ConsulEntry| !settings.passing || entry.is_passing();
    let greatest = entries.iter().filter(counts).map(ConsulEntry::weight).max().unwrap_or(0);
    let mut all = Gathering::default();
    for entry in entries.iter().filter(counts) {
        let what = what(entry.service.id.as_deref());
        let of_node = entry.node.as_ref().and_then(|node| node.address.as_deref());
        let own = entry.service.address.as_deref().filter(|address| !address.is_empty());
        let address = own.or(of_node).unwrap_or("");
        let Some(host) = host(address) else {
            all.remark(format!("{what}: {} is no address of a server; it is left out", shown(address)));
            continue;
        };
        let rests = entry.is_in_maintenance().then(|| "in maintenance, says Consul".into());
        let weight = scaled(entry.weight(), greatest);
        all.add(&what, Found { weight, rests, ..Found::at(host, port(entry.service.port)) });
    }
    all.answer(None)
}

/// The instances of Nomad that count.
fn of_nomad(entries: &[Allocated], settings: &ConsulSource) -> Answer {
    let mut all = Gathering::default();
    for entry in entries {
        let has_tag = settings.tag.is_empty() || entry.tags.iter().flatten().any(|tag| *tag == settings.tag);
        if !has_tag {
            continue;
        }
        let (what, address) = (what(entry.id.as_deref()), entry.address.as_deref().unwrap_or(""));
        match host(address) {
            Some(host) => all.add(&what, Found::at(host, port(entry.port))),
            None => all.remark(format!("{what}: {} is no address of a server; it is left out", shown(address))),
        }
    }
    all.answer(None)
}

/// What a remark calls an instance.
fn what(id: Option<&str>) -> String {
    format!("instance {}", shown(id.unwrap_or("")))
}
