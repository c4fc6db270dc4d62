//! How the values of some keys are shown: those that need more than one expression, and those that may hold a secret.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::OF_SYSTEM;
use crate::admit::sources::RateLimit;
use crate::config::model;
use crate::config::model::{CheckKind, CheckTls, Galera, HttpAsk, NetworkFile, Output, Step, Trust, Version};
use crate::config::shown::{Measure, Shown, joined, of_time, or, secret, text};
use crate::discover::settings::{Access, ConsulSource, Discover, KubernetesSource, Source};
use crate::tls::client::ServerNameSource;

/// The path of a file or a folder, if there is one.
pub(super) fn path_or_off(path: Option<&PathBuf>) -> Option<Shown> {
    or(path.map(|path| path.display()), "off")
}

/// A place for lines, as the file writes it.
pub(super) fn output(output: &Output) -> String {
    match output {
        Output::Stderr => "stderr".to_string(),
        Output::Stdout => "stdout".to_string(),
        Output::File(path) => path.display().to_string(),
        Output::Syslog(server) => server.to_string(),
    }
}

/// A limit; `None` is shown as 0.
pub(super) fn count(most: Option<NonZeroU32>) -> Option<Shown> {
    text(most.map_or(0, NonZeroU32::get))
}

/// The level of a backup, as the file writes it.
pub(super) fn level(level: u16) -> String {
    match level {
        0 => "false".to_string(),
        1 => "true".to_string(),
        level => level.to_string(),
    }
}

/// A rate, as the file writes it.
pub(in crate::config) fn rate(RateLimit { count, unit_ns }: RateLimit) -> String {
    let time = of_time((unit_ns / 1_000).into());
    // "20/s" and not "20/1s".
    let time =
        time.strip_prefix('1').filter(|unit| unit.starts_with(|c: char| c.is_ascii_alphabetic())).unwrap_or(&time);
    format!("{count}/{time}")
}

/// A list in a file: its path, and how many networks it has. What they are is compared.
pub(super) fn network_file(file: Option<&NetworkFile>) -> Option<Shown> {
    let Some(NetworkFile { path, networks }) = file else { return text("off") };
    let of_each: Vec<String> = networks.iter().map(ToString::to_string).collect();
    let part = format!("{} with {} networks", path.display(), networks.len());
    secret(format!("{} {}", path.display(), of_each.join(" ")), Measure::Part(part))
}

/// A version of the PROXY protocol, as the file writes it.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    }
}

/// The only step of a check, which `send` and `expect` write; `None` if there are several, which `steps` writes. Both
/// forms have a value here, because a change between them must show.
pub(super) fn one(kind: &CheckKind) -> Option<&Step> {
    match kind {
        CheckKind::SendExpect { steps } if steps.len() == 1 => steps.first(),
        _ => None,
    }
}

/// What the step sends. It may hold a password, so only its length is shown.
pub(super) fn send(kind: &CheckKind) -> Option<Shown> {
    let sent = one(kind).map_or(&[][..], |step| &step.send);
    secret(sent.escape_ascii().to_string(), Measure::Bytes(sent.len()))
}

/// What the step expects. It may hold a secret, so only its length is shown.
pub(super) fn expect(kind: &CheckKind) -> Option<Shown> {
    let of_body = |http: &HttpAsk| http.expect.as_ref().map_or(String::new(), |it| it.as_str().to_owned());
    let expected = match http(kind) {
        Some(http) => of_body(http),
        None => one(kind).map(expected).unwrap_or_default().to_owned(),
    };
    let length = Measure::Bytes(expected.len());
    secret(expected, length)
}

/// The text of a step's pattern.
pub(super) fn expected(step: &Step) -> &str {
    step.expect.as_ref().map_or("", |pattern| pattern.as_str())
}

/// All steps. They may hold a password, so only their number and length are shown.
pub(super) fn steps(kind: &CheckKind) -> Option<Shown> {
    let all = match kind {
        CheckKind::SendExpect { steps } if steps.len() != 1 => &steps[..],
        _ => &[],
    };
    let whole = |step: &Step| format!("{} / {}", step.send.escape_ascii(), expected(step));
    let bytes: usize = all.iter().map(|step| step.send.len() + expected(step).len()).sum();
    let measure = Measure::Part(format!("{} steps of {bytes} bytes", all.len()));
    secret(all.iter().map(whole).collect::<Vec<_>>().join(", "), measure)
}

/// What an `http` check asks for.
pub(super) fn http(kind: &CheckKind) -> Option<&HttpAsk> {
    match kind {
        CheckKind::Http(http) => Some(http),
        _ => None,
    }
}

/// The headers of an `http` check. A value may be a token, so only the names and the length are shown.
pub(super) fn headers(kind: &CheckKind) -> Option<Shown> {
    let all = &http(kind)?.headers;
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let bytes: usize = all.iter().map(|(_, value)| value.len()).sum();
    let part = if all.is_empty() { "none".to_owned() } else { format!("{} of {bytes} bytes", names.join(", ")) };
    secret(format!("{all:?}"), Measure::Part(part))
}

/// The path of an `http` check. What follows `?` may be a token, so only its length is shown.
pub(super) fn path(kind: &CheckKind) -> Option<Shown> {
    let path = &http(kind)?.path;
    match path.split_once('?') {
        Some((alone, query)) => {
            let measure = format!("{alone} with a query of {} bytes", query.len());
            secret(path.clone(), Measure::Part(measure))
        }
        None => text(path),
    }
}

/// The status codes of a healthy backend.
pub(super) fn status(kind: &CheckKind) -> Option<Shown> {
    text(format_args!("{:?}", http(kind)?.status))
}

/// The status codes of a backend that drains.
pub(super) fn drain_status(kind: &CheckKind) -> Option<Shown> {
    text(format_args!("{:?}", http(kind)?.drain_status))
}

/// The path of the password, which is no secret.
pub(super) fn password_file(kind: &CheckKind) -> Option<Shown> {
    let file = kind.login().and_then(|login| login.password_file.as_ref());
    or(file.map(|file| file.display()), "")
}

/// Whose word a check that verifies takes for a server.
pub(super) fn ca_file(check: Option<&model::Check>) -> Option<Shown> {
    trusted(check?.tls.trust()?)
}

/// Whose word is taken.
pub(super) fn trusted(trust: &Trust) -> Option<Shown> {
    match trust {
        Trust::Unverified => None,
        Trust::System => text(OF_SYSTEM),
        Trust::File(path) => text(path.display()),
    }
}

/// The name that backends must prove.
pub(super) fn shown_name(name: &ServerNameSource) -> &str {
    match name {
        ServerNameSource::Host => "the host",
        ServerNameSource::Client => "client",
        ServerNameSource::Given(name) => name,
    }
}

/// The name that the server must prove.
pub(super) fn server_name(check: Option<&model::Check>) -> Option<Shown> {
    match &check?.tls {
        CheckTls::Require { server_name, .. } => or(Some(server_name).filter(|name| !name.is_empty()), "the host"),
        CheckTls::Off | CheckTls::Prefer => None,
    }
}

/// Which nodes of a Galera cluster are fit.
pub(super) fn galera(kind: &CheckKind) -> Option<Shown> {
    let CheckKind::Mysql { galera, .. } = kind else { return None };
    text(match galera {
        None => "false",
        Some(Galera::Synced) => "true",
        Some(Galera::SyncedOrDonor) => "donor",
    })
}

/// The database to which a check connects.
pub(super) fn database(kind: &CheckKind) -> Option<Shown> {
    let CheckKind::Postgresql { database, .. } = kind else { return None };
    text(database)
}

/// How a source is spoken to; `None` if nothing is to be said for that.
pub(super) fn access_of(discover: Option<&Discover>) -> Option<&Access> {
    match &discover?.source {
        Source::Etcd(etcd) => Some(&etcd.access),
        Source::Patroni(patroni) => Some(&patroni.access),
        Source::Consul(consul) | Source::Nomad(consul) => Some(&consul.access),
        Source::Srv(_) | Source::File(_) | Source::Kubernetes(_) => None,
    }
}

/// Where etcd is.
pub(super) fn endpoints(discover: Option<&Discover>) -> Option<Shown> {
    match &discover?.source {
        Source::Etcd(etcd) => text(joined(&etcd.endpoints)),
        Source::Patroni(patroni) => text(joined(&patroni.endpoints)),
        _ => None,
    }
}

/// Consul or Nomad.
pub(super) fn consul(discover: Option<&Discover>) -> Option<&ConsulSource> {
    match &discover?.source {
        Source::Consul(consul) | Source::Nomad(consul) => Some(consul),
        _ => None,
    }
}

/// Kubernetes.
pub(super) fn kubernetes(discover: Option<&Discover>) -> Option<&KubernetesSource> {
    match &discover?.source {
        Source::Kubernetes(kubernetes) => Some(kubernetes),
        _ => None,
    }
}

/// The name of a service.
pub(super) fn service(discover: Option<&Discover>) -> Option<Shown> {
    let of_kubernetes = kubernetes(discover).map(|kubernetes| &kubernetes.service);
    text(consul(discover).map(|consul| &consul.service).or(of_kubernetes)?)
}

/// The namespace of Patroni or of Kubernetes.
pub(super) fn namespace(discover: Option<&Discover>) -> Option<Shown> {
    match &discover?.source {
        Source::Patroni(patroni) => text(&patroni.namespace),
        Source::Kubernetes(kubernetes) => {
            or(Some(&kubernetes.namespace).filter(|namespace| !namespace.is_empty()), "its own")
        }
        _ => None,
    }
}

/// The name of SRV records.
pub(super) fn srv_name(discover: Option<&Discover>) -> Option<Shown> {
    match &discover?.source {
        Source::Srv(srv) => text(&srv.name),
        _ => None,
    }
}

/// The files of targets.
pub(super) fn file_path(discover: Option<&Discover>) -> Option<Shown> {
    match &discover?.source {
        Source::File(file) => text(file.path.display()),
        _ => None,
    }
}

/// What the keys of etcd begin with.
pub(super) fn prefix(discover: Option<&Discover>) -> Option<Shown> {
    match &discover?.source {
        Source::Etcd(etcd) => text(&etcd.prefix),
        _ => None,
    }
}

/// The cluster of Patroni.
pub(super) fn scope(discover: Option<&Discover>) -> Option<Shown> {
    match &discover?.source {
        Source::Patroni(patroni) => text(&patroni.scope),
        _ => None,
    }
}
