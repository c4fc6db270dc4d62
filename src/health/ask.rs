//! What a health check asks, and how it connects: plain data, made from a configuration (`config::check`), kept by a
//! watch (`fleet::watches`), carried out by `probe`.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::address::Address;
use crate::wire::proxy::Version;

/// What to check.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Where to connect.
    pub target: Address,
    /// What to ask there.
    pub kind: CheckKind,
    /// What the connection begins with, and where it comes from.
    pub opening: Opening,
    /// Whether it speaks TLS.
    pub tls: CheckTls,
    /// More ports of the same host that must accept a connection; none where the target is a unix socket.
    pub also_ports: Vec<u16>,
    /// For the whole check; zero is none but the kernel's.
    pub timeout: Duration,
    /// Whether the role of a database is wanted.
    pub role: bool,
    /// Whether the lag of a replica is wanted.
    pub lag: bool,
}

/// How a check connects.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Opening {
    /// A PROXY header goes first.
    pub header: Option<OpeningHeader>,
    /// From there; `None` is the kernel's choice.
    pub source: Option<IpAddr>,
}

/// The PROXY header of a check.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct OpeningHeader {
    /// Which form.
    pub version: Version,
    /// Whether it names the two ends of the check's own connection; if not, it speaks for no client.
    pub is_named: bool,
}

/// Whether a check speaks TLS, and how the server proves its name.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum CheckTls {
    /// In the clear.
    #[default]
    Off,
    /// Where the server offers it, and without a proof: against those that only read along.
    Prefer,
    /// A server without it is not fit.
    Require {
        /// What vouches for the server.
        trust: Trust,
        /// The name that is asked for (SNI, RFC 6066) and that the certificate must have: a host name or an IP
        /// address, which is not sent. In a configuration, empty stands for the host of the address that is checked.
        server_name: String,
        /// The files of a certificate of our own and of its key (PEM), for servers that ask for one.
        identity: Option<(PathBuf, PathBuf)>,
    },
}

/// Which authorities a check believes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Trust {
    /// Any certificate will do.
    Unverified,
    /// Those that this host knows.
    System,
    /// Those in this file (PEM).
    File(PathBuf),
}

impl CheckTls {
    /// The word for it in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            CheckTls::Off => "off",
            CheckTls::Prefer => "prefer",
            CheckTls::Require { .. } => "require",
        }
    }

    /// What vouches for the server; `None` unless TLS is required.
    pub fn trust(&self) -> Option<&Trust> {
        match self {
            CheckTls::Require { trust, .. } => Some(trust),
            CheckTls::Off | CheckTls::Prefer => None,
        }
    }

    /// Whether a server without TLS is not fit.
    pub fn is_required(&self) -> bool {
        matches!(self, CheckTls::Require { .. })
    }
}

/// `type` with what belongs to it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CheckKind {
    /// Connects.
    Tcp,
    /// Sends something, and expects an answer.
    SendExpect {
        /// One after another; at least one.
        steps: Vec<Step>,
    },
    /// Asks for a page.
    Http(HttpAsk),
    /// Logs in and asks for the role; without a login, only whether it speaks PostgreSQL.
    Postgresql {
        /// Whose account.
        login: Option<Login>,
        /// Which database.
        database: String,
    },
    /// Logs in and asks for the role; without a login, only whether it speaks MySQL.
    Mysql {
        /// Whose account.
        login: Option<Login>,
        /// What it must be in its Galera cluster; `None` asks nothing about that.
        galera: Option<Galera>,
    },
    /// Hears what an agent beside the server advises: a port of the check (`agent_port`), and no `type`.
    Agent,
    /// PING, and ROLE where the role counts.
    Redis {
        /// Whose account; the user may be empty.
        login: Option<Login>,
    },
}

/// In which states a node of a Galera cluster is fit (`wsrep_local_state`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Galera {
    /// Synced (4) alone.
    Synced,
    /// Also while it brings another node up to date (Donor/Desynced, 2).
    SyncedOrDonor,
}

/// What an `http` check asks for, and what the answer means.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HttpAsk {
    /// A method as RFC 9110 (section 9) writes it, such as `GET`.
    pub method: String,
    /// Begins with `/`.
    pub path: String,
    /// The Host header; empty means the address that is checked.
    pub host: String,
    /// More headers: name and value of each. They win over those that ringway sends by itself.
    pub headers: Vec<(String, String)>,
    /// First and last code of each range that is a success.
    pub status: Vec<(u16, u16)>,
    /// First and last code of each range that means: no new sessions, and those that are open live on.
    pub drain_status: Vec<(u16, u16)>,
    /// What the first 64 KiB of the body must hold; `None` leaves the body unread.
    pub expect: Option<Pattern>,
}

impl Default for HttpAsk {
    /// `GET /`, with 200 as the answer.
    fn default() -> HttpAsk {
        HttpAsk {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: String::new(),
            headers: Vec::new(),
            status: vec![(200, 200)],
            drain_status: Vec::new(),
            expect: None,
        }
    }
}

/// A question and its answer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Step {
    /// With the escapes decoded; empty in a first step that awaits a greeting.
    pub send: Vec<u8>,
    /// What the answer must hold; `None` asks for no answer.
    pub expect: Option<Pattern>,
}

impl CheckKind {
    /// The word for it in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            CheckKind::Tcp => "tcp",
            CheckKind::SendExpect { .. } => "send_expect",
            CheckKind::Http(_) => "http",
            CheckKind::Postgresql { .. } => "postgresql",
            CheckKind::Mysql { .. } => "mysql",
            CheckKind::Redis { .. } => "redis",
            CheckKind::Agent => "agent",
        }
    }

    /// The account that it logs in with.
    pub fn login(&self) -> Option<&Login> {
        match self {
            CheckKind::Tcp | CheckKind::SendExpect { .. } | CheckKind::Http(_) | CheckKind::Agent => None,
            CheckKind::Postgresql { login, .. } | CheckKind::Mysql { login, .. } | CheckKind::Redis { login } => {
                login.as_ref()
            }
        }
    }
}

/// A regular expression over bytes.
#[derive(Clone, Debug)]
pub struct Pattern(regex::bytes::Regex);

impl Pattern {
    /// # Errors
    /// Why it is none, on one line.
    pub fn new(text: &str) -> Result<Pattern, String> {
        regex::bytes::Regex::new(text).map(Pattern).map_err(|error| match error {
            // The last line says what; those before it draw where.
            regex::Error::Syntax(text) => {
                let last = text.lines().last().unwrap_or_default();
                last.trim_start_matches("error: ").to_string()
            }
            other => other.to_string().replace('\n', " "),
        })
    }

    /// Whether it is found in these bytes.
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// An account for checks.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// A file that holds its password; read anew for each check, so that it can be changed. `None` is no password.
    pub password_file: Option<PathBuf>,
}
