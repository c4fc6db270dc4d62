//! The meaning of `[pools.NAME.check]`.
//!
//! Part of it says what is asked (`kind`, `port`, `timeout`, `header`), part says when (the intervals), and part says
//! what follows from the results (`rise`, `fall`, `role`, `lag_max`). Pools that would ask the same server the same
//! question share one check.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::Target;
use crate::base::address::Address;
use crate::health::Role;
use crate::health::ask::{CheckKind, CheckTls, Trust};

/// How the backends of a pool are checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked of the backend.
    pub kind: CheckKind,
    /// The role that a backend must have; `None` means any. In a pool that wants the primary, at most one backend is
    /// used.
    pub role: Option<Role>,
    /// How far a replica can lag behind; zero means any lag.
    pub lag_max: Duration,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// The same while results contradict the state, so that a change is certain soon.
    pub fast_interval: Duration,
    /// The same while the backend is down.
    pub down_interval: Duration,
    /// How long one check can take.
    pub timeout: Duration,
    /// How many successes in a row bring a backend up; at least 1.
    pub rise: u32,
    /// How many failures in a row take a backend down; at least 1.
    pub fall: u32,
    /// Whether a backend counts as up before its first result.
    pub initial_up: bool,
    /// The port that is checked; `None` means the backend's own. A backend with a [`CheckAddress`] has another one.
    pub port: Option<u16>,
    /// What happens if no replica is within `lag_max`: true means that none serves, false that the least stale ones do.
    pub lag_strict: bool,
    /// The PROXY header of a check.
    pub header: CheckHeader,
    /// Whether it speaks TLS.
    pub tls: CheckTls,
    /// The port of the agent beside each backend; `None` means that there is none.
    pub agent_port: Option<u16>,
    /// More ports of the same host that must accept a connection, in the order of the file.
    pub also_ports: Vec<u16>,
}

impl Check {
    /// Whether it connects and no more, so that the server itself hears nothing of it.
    pub fn is_bare(&self) -> bool {
        self.kind == CheckKind::Tcp && !self.tls.is_required()
    }

    /// Where a backend is checked: at `own`, at the port of the check, or at its own address.
    pub fn place(&self, own: Option<&CheckAddress>, backend: &Target) -> Target {
        let port = match own {
            Some(CheckAddress::At(address)) => return Target::Address(address.clone()),
            Some(CheckAddress::Port(port)) => Some(*port),
            None => self.port,
        };
        match port {
            Some(port) => backend.with_port(port),
            None => backend.clone(),
        }
    }

    /// The files that it reads again and again, with the keys that name them.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let password = self.kind.login().and_then(|login| login.password_file.as_deref());
        let authorities = match self.tls.trust() {
            Some(Trust::File(path)) => Some(path.as_path()),
            _ => None,
        };
        let (cert, key) = match &self.tls {
            CheckTls::Require { identity: Some((cert, key)), .. } => (Some(cert.as_path()), Some(key.as_path())),
            _ => (None, None),
        };
        [("password_file", password), ("ca_file", authorities), ("cert", cert), ("key", key)]
            .into_iter()
            .filter_map(|(key, path)| Some((key, path?)))
    }
}

/// `check_address`: where one backend is checked, if not at its own address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckAddress {
    /// At this port of the backend's own address.
    Port(u16),
    /// There, whatever address the backend has.
    At(Address),
}

impl fmt::Display for CheckAddress {
    /// As the file writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckAddress::Port(port) => write!(f, ":{port}"),
            CheckAddress::At(address) => write!(f, "{address}"),
        }
    }
}

/// `check.send_proxy`: which PROXY header a check begins with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CheckHeader {
    /// The same version as the pool's: version 1 names both ends of the check's connection, version 2 says LOCAL. None
    /// at a port or an address of the check's own, and none for a check that only connects (`tcp`).
    #[default]
    Auto,
    /// No header.
    Off,
    /// A header that speaks for no client (LOCAL, or UNKNOWN in version 1).
    Local,
    /// A header that names both ends of the check's connection.
    Named,
}

impl CheckHeader {
    /// The word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            CheckHeader::Auto => "auto",
            CheckHeader::Off => "off",
            CheckHeader::Local => "local",
            CheckHeader::Named => "proxy",
        }
    }
}
