//! What a configuration says of a source: `[pools.NAME.discover]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Where Kubernetes puts the service account of a pod: `token`, `ca.crt` and `namespace`.
pub const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// `[pools.NAME.discover]`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Discover {
    /// Where backends are found.
    pub source: Source,
    /// `empty = "drop"`: an answer without any backend takes away those that were found before. If not, it changes
    /// nothing.
    pub drops_empty: bool,
}

/// Where backends are found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// SRV records in DNS.
    Srv(SrvSource),
    /// Files in the format of Prometheus' `file_sd`.
    File(FileSource),
    /// Keys of etcd.
    Etcd(EtcdSource),
    /// The members of a Patroni cluster, by etcd.
    Patroni(PatroniSource),
    /// A service of Consul.
    Consul(ConsulSource),
    /// A service of Nomad.
    Nomad(ConsulSource),
    /// A service of Kubernetes.
    Kubernetes(KubernetesSource),
}

impl Source {
    /// The word for its `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Source::Srv(_) => "srv",
            Source::File(_) => "file",
            Source::Etcd(_) => "etcd",
            Source::Patroni(_) => "patroni",
            Source::Consul(_) => "consul",
            Source::Nomad(_) => "nomad",
            Source::Kubernetes(_) => "kubernetes",
        }
    }

    /// Every file that is read for it, as far as the configuration says. Of a pattern it is the pattern.
    pub fn paths(&self) -> Vec<PathBuf> {
        let access = match self {
            Source::Srv(_) => return Vec::new(),
            Source::File(file) => return vec![file.path.clone()],
            Source::Kubernetes(kubernetes) => {
                return vec![
                    kubernetes.kubeconfig.clone().unwrap_or_else(|| PathBuf::from(ACCOUNT_FOLDER).join("token")),
                ];
            }
            Source::Etcd(etcd) => &etcd.access,
            Source::Patroni(patroni) => &patroni.access,
            Source::Consul(consul) | Source::Nomad(consul) => &consul.access,
        };
        access.paths().map(|(_, path)| path.clone()).collect()
    }
}

impl fmt::Display for Source {
    /// What is asked, and where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |endpoints: &[Endpoint]| endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Source::Srv(srv) => write!(f, "{}", srv.name),
            Source::File(file) => write!(f, "{}", file.path.display()),
            Source::Etcd(etcd) => write!(f, "{} at {}", etcd.prefix, all(&etcd.endpoints)),
            Source::Patroni(patroni) => {
                let namespace = patroni.namespace.trim_end_matches('/');
                write!(f, "{namespace}/{} at {}", patroni.scope, all(&patroni.endpoints))
            }
            Source::Consul(consul) | Source::Nomad(consul) => write!(f, "{} at {}", consul.service, consul.endpoint),
            Source::Kubernetes(kubernetes) if kubernetes.namespace.is_empty() => f.write_str(&kubernetes.service),
            Source::Kubernetes(kubernetes) => write!(f, "{}/{}", kubernetes.namespace, kubernetes.service),
        }
    }
}

/// `type = "srv"` (RFC 2782)
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SrvSource {
    /// The name of the records: `_postgresql._tcp.db.example`.
    pub name: Arc<str>,
    /// How long a target that is missing from the answers stays.
    pub obsolete_hold: Duration,
    /// How long all of them stay when the name is denied.
    pub denied_hold: Duration,
}

/// `type = "file"`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileSource {
    /// The files. The last part of the path can have `*` in it, which stands for any characters.
    pub path: PathBuf,
}

/// `type = "etcd"`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EtcdSource {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// What the keys of the backends begin with.
    pub prefix: String,
    /// How it is spoken to.
    pub access: Access,
}

/// `type = "patroni"`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PatroniSource {
    /// Those of etcd, at least one.
    pub endpoints: Vec<Endpoint>,
    /// The `namespace` of Patroni's configuration: `/service`.
    pub namespace: String,
    /// Its `scope`: the name of the cluster.
    pub scope: String,
    /// How etcd is spoken to.
    pub access: Access,
}

/// `type = "consul"`, and `type = "nomad"`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsulSource {
    /// Where the agent is.
    pub endpoint: Endpoint,
    /// The name of the service.
    pub service: String,
    /// Only instances with this tag; "" is all of them.
    pub tag: String,
    /// Only instances whose checks pass. Nomad does not say that, and there it has no effect.
    pub passing: bool,
    /// How it is spoken to.
    pub access: Access,
}

/// `type = "kubernetes"`
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KubernetesSource {
    /// The name of the service.
    pub service: String,
    /// Its namespace; "" is that of ringway's own pod, or of the kubeconfig.
    pub namespace: String,
    /// The port by its name, or by its number in text; "" is the only one.
    pub port: String,
    /// A kubeconfig; `None` is the service account of ringway's own pod.
    pub kubeconfig: Option<PathBuf>,
}

/// What is needed to speak to a source, as far as it is given. Files are read again for each attempt, because they can
/// be replaced while ringway runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// The authorities of its certificate, as PEM; `None` is the system's.
    pub ca_file: Option<PathBuf>,
    /// A client certificate, as PEM, and
    pub cert: Option<PathBuf>,
    /// its key.
    pub key: Option<PathBuf>,
    /// The user to log in as, and
    pub user: Option<String>,
    /// the file with the password, whose final line break does not count.
    pub password_file: Option<PathBuf>,
    /// The file with a token, whose final line break does not count.
    pub token_file: Option<PathBuf>,
}

impl Access {
    /// Every file that is read for it, with the keys that name them.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [
            ("ca_file", &self.ca_file),
            ("cert", &self.cert),
            ("key", &self.key),
            ("password_file", &self.password_file),
            ("token_file", &self.token_file),
        ];
        all.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)))
    }
}

/// Where a server is that speaks HTTP: `http://127.0.0.1:2379`, `https://etcd.example:2379`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Endpoint {
    /// `https`: with TLS, and the server proves its name.
    pub is_tls: bool,
    /// A name or an address, an IPv6 one without its brackets.
    pub host: Arc<str>,
    /// The port; written, or that of the scheme.
    pub port: u16,
}

impl Endpoint {
    /// The host and the port as they stand in a `Host` header: `[::1]:2379`.
    pub fn authority(&self) -> String {
        let host = &self.host;
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    /// Reads `http://HOST[:PORT]` or `https://HOST[:PORT]`, with or without a final slash.
    fn from_str(text: &str) -> Result<Endpoint, &'static str> {
        const HINT: &str = "write http://HOST:PORT or https://HOST:PORT";
        let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(HINT),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => (host, port),
            Some(_) => return Err(HINT),
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match (port.strip_prefix(':'), port.is_empty()) {
            (_, true) => Some(if is_tls { 443 } else { 80 }),
            (Some(port), _) => port.parse().ok().filter(|port| *port > 0),
            (None, false) => None,
        };
        let is_host = host.contains(':') || crate::base::host::is_name(host.as_bytes());
        let port = port.filter(|_| is_host).ok_or(HINT)?;
        Ok(Endpoint { is_tls, host: host.into(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://etcd.example", "https://etcd.example:443"),
            ("http://consul/", "http://consul:80"),
            ("https://[::1]:6443", "https://[::1]:6443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()).as_deref(), Ok(shown));
        }
        for text in [
            "127.0.0.1:2379",
            "ftp://a:1",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a/b",
            "http://[::1:1",
            "http://u@a:1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
