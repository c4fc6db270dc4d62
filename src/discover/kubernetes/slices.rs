//! The EndpointSlices of one service (`discovery.k8s.io/v1`), and which backends they mean. Pure.
//!
//! Only what counts is kept of a slice: addresses, ports and conditions, as numbers and short texts. So it is bounded
//! what a server can make ringway keep.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::discover::found::{Answer, Found, FoundHost};
use crate::discover::gather::{Gathering, host, port, shown};

/// How many endpoints all slices of a service can have. A backend can be in several slices for a while.
const ENDPOINTS_MAX: usize = 50_000;
/// How many slices.
const SLICES_MAX: usize = 10_000;
/// Longer names are none of Kubernetes.
const NAME_MAX: usize = 253;
/// How many ports a trouble names.
const PORTS_SHOWN: usize = 10;

/// A slice as the server sends it. Unknown fields do not count.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SentSlice {
    /// Of every object.
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    address_type: Option<String>,
    /// Go writes an empty list as `null`.
    endpoints: Option<Vec<SentEndpoint>>,
    /// Each endpoint has all of them.
    ports: Option<Vec<SentPort>>,
}

/// What every object of the API has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    /// Its name in its namespace.
    pub name: Option<String>,
    /// From here on a watch goes on. What it looks like is the server's affair.
    pub resource_version: Option<String>,
    /// Of a list: there is more, which is asked for with this.
    #[serde(rename = "continue")]
    pub continues: Option<String>,
}

/// An endpoint as the server sends it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentEndpoint {
    /// Only the first one has a meaning; kube-proxy looks at no other.
    addresses: Option<Vec<String>>,
    /// Its state.
    conditions: Option<SentConditions>,
}

/// The state of an endpoint. What is missing has a meaning of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentConditions {
    /// `None` is ready.
    ready: Option<bool>,
    /// `None` is as `ready`.
    serving: Option<bool>,
    /// `None` is not.
    terminating: Option<bool>,
}

/// A port as the server sends it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SentPort {
    /// Empty or missing where the service has only one.
    name: Option<String>,
    /// `None` is TCP.
    protocol: Option<String>,
    /// `None` is every port.
    port: Option<i64>,
}

/// What is kept of a slice.
#[derive(Clone, Debug)]
struct KeptSlice {
    /// Its endpoints.
    endpoints: Vec<SliceEndpoint>,
    /// Its ports of TCP by their names.
    ports: Vec<(Arc<str>, Option<u16>)>,
    /// What was left out, and why.
    remarks: Vec<String>,
}

/// What is kept of an endpoint.
#[derive(Clone, Debug)]
struct SliceEndpoint {
    /// Where it is.
    host: FoundHost,
    /// Whether it takes new sessions.
    state: EndpointState,
}

/// What the conditions of an endpoint mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EndpointState {
    /// It takes new sessions.
    Ready,
    /// It is about to end and answers still: it takes new sessions if there is no ready one.
    ServingLast,
    /// It is about to end and does not answer any more.
    Terminating,
    /// It does not take sessions now.
    NotReady,
}

/// The slices of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    /// By name.
    all: BTreeMap<String, KeptSlice>,
    /// Endpoints in all of them.
    endpoints_count: usize,
}

impl Slices {
    /// Takes in a slice that is new or has changed.
    ///
    /// # Errors
    /// It has no name, or there are more than ringway follows.
    pub(super) fn put(&mut self, sent: SentSlice) -> Result<(), String> {
        let name = sent.metadata.name.clone().filter(|name| (1..=NAME_MAX).contains(&name.len()));
        let name = name.ok_or("an EndpointSlice has no name")?;
        self.remove(&name);
        let slice = KeptSlice::of(&name, &sent);
        self.endpoints_count += slice.endpoints.len();
        self.all.insert(name, slice);
        match self.endpoints_count > ENDPOINTS_MAX || self.all.len() > SLICES_MAX {
            true => Err(format!("the service has more than {ENDPOINTS_MAX} endpoints or {SLICES_MAX} EndpointSlices")),
            false => Ok(()),
        }
    }

    /// Takes out a slice that is gone.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(slice) = self.all.remove(name) {
            self.endpoints_count -= slice.endpoints.len();
        }
    }

    /// The backends, by the rule of kube-proxy: the ready ones, and if there is none, those that are about to end and
    /// answer still. All others that are there keep the sessions that they have. `wanted` is a port by its name or its
    /// number; empty for the only one.
    ///
    /// # Errors
    /// No slice has the port that is wanted.
    pub(super) fn answer(&self, service: &str, wanted: &str) -> Result<Answer, String> {
        let mut all = Gathering::default();
        let (mut placed, mut without) = (Vec::new(), None);
        for (name, slice) in &self.all {
            slice.remarks.iter().for_each(|remark| all.remark(remark.clone()));
            match slice.port(wanted) {
                Some(port) => placed.extend(slice.endpoints.iter().map(|endpoint| (name, endpoint, port))),
                // One without endpoints and without ports stands for a service that has none of either.
                None if slice.endpoints.is_empty() => {}
                None => without = Some(slice),
            }
        }
        let trouble = without.map(|slice| slice.without_port(service, wanted));
        if let Some(trouble) = &trouble
            && placed.is_empty()
        {
            return Err(trouble.clone());
        }
        let has_ready = placed.iter().any(|(_, endpoint, _)| endpoint.state == EndpointState::Ready);
        for (name, endpoint, port) in placed {
            let rests = endpoint.state.rests(has_ready).map(Into::into);
            all.add(name, Found { rests, ..Found::at(endpoint.host.clone(), port) });
        }
        Ok(all.answer(trouble))
    }
}

impl KeptSlice {
    /// What counts of it.
    fn of(name: &str, sent: &SentSlice) -> KeptSlice {
        let kind = sent.address_type.as_deref().unwrap_or("");
        let (mut endpoints, mut remarks) = (Vec::new(), Vec::new());
        for sent in sent.endpoints.iter().flatten() {
            let text = sent.addresses.iter().flatten().next().map_or("", |text| text);
            match host(text).filter(|host| is_of_kind(host, kind)) {
                Some(host) => {
                    endpoints.push(SliceEndpoint { host, state: EndpointState::of(sent.conditions.as_ref()) })
                }
                // One line is enough for a slice in which nothing makes sense.
                None if remarks.is_empty() => {
                    let (text, kind) = (shown(text), shown(kind));
                    remarks.push(format!("{name}: {text} is no address of a server of type {kind}; it is left out"));
                }
                None => {}
            }
        }
        let is_tcp = |port: &&SentPort| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let ports = sent.ports.iter().flatten().filter(is_tcp).filter_map(|sent| {
            let name = sent.name.as_deref().unwrap_or("");
            let number = sent.port.map(port);
            (name.len() <= NAME_MAX && number != Some(0)).then(|| (name.into(), number))
        });
        KeptSlice { endpoints, ports: ports.collect(), remarks }
    }

    /// The port that is wanted; `None` if it has none or, where none is named, several.
    fn port(&self, wanted: &str) -> Option<u16> {
        let number = wanted.parse::<u16>().ok().filter(|number| *number > 0);
        if wanted.is_empty() {
            return if let [(_, port)] = &*self.ports { *port } else { None };
        }
        if let Some((_, port)) = self.ports.iter().find(|(name, _)| **name == *wanted) {
            return *port;
        }
        // A headless service need not name any port, and a port without a number is every one.
        let has_it = |(_, port): &(Arc<str>, Option<u16>)| port.is_none() || *port == number;
        number.filter(|_| self.ports.is_empty() || self.ports.iter().any(has_it))
    }

    /// Why it has not the port that is wanted, with those that it has.
    fn without_port(&self, service: &str, wanted: &str) -> String {
        let one = |(name, port): &(Arc<str>, Option<u16>)| match (&**name, port) {
            ("", Some(port)) => port.to_string(),
            ("", None) => "every port".to_string(),
            (name, Some(port)) => format!("{} ({port})", shown(name)),
            (name, None) => shown(name),
        };
        let mut named: Vec<String> = self.ports.iter().map(one).collect();
        named.sort();
        let more = if named.len() > PORTS_SHOWN { ", …" } else { "" };
        named.truncate(PORTS_SHOWN);
        let (service, named) = (shown(service), named.join(", "));
        match (wanted, self.ports.len()) {
            (_, 0) => format!("the service {service} has no port of TCP; write its number into `port`"),
            ("", _) => format!("the service {service} has not one port; write into `port` which one: {named}{more}"),
            _ => format!("the service {service} has no port {}; it has {named}{more}", shown(wanted)),
        }
    }
}

impl EndpointState {
    /// What the conditions mean (the API reference of EndpointConditions).
    fn of(sent: Option<&SentConditions>) -> EndpointState {
        let sent = sent.cloned().unwrap_or_default();
        let is_ready = sent.ready.unwrap_or(true);
        let is_serving = sent.serving.unwrap_or(is_ready);
        match (is_ready, sent.terminating.unwrap_or(false), is_serving) {
            (true, _, _) => EndpointState::Ready,
            (false, true, true) => EndpointState::ServingLast,
            (false, true, false) => EndpointState::Terminating,
            (false, false, _) => EndpointState::NotReady,
        }
    }

    /// Why it takes no new sessions; `None` if it takes them.
    fn rests(self, has_ready: bool) -> Option<&'static str> {
        match self {
            EndpointState::Ready => None,
            EndpointState::ServingLast if !has_ready => None,
            EndpointState::ServingLast | EndpointState::Terminating => Some("terminating, says Kubernetes"),
            EndpointState::NotReady => Some("not ready, says Kubernetes"),
        }
    }
}

/// Whether a host is of the type that its slice has.
fn is_of_kind(host: &FoundHost, kind: &str) -> bool {
    match host {
        FoundHost::Ip(ip) if ip.is_ipv4() => kind == "IPv4",
        FoundHost::Ip(_) => kind == "IPv6",
        FoundHost::Name(_) => kind == "FQDN",
    }
}

#[cfg(test)]
pub(super) mod tests;
